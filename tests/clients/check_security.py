"""Attacks on a kymo that other hosts may reach: with TLS and tokens, on both ports. Takes about half a minute.

Nobody without a token learns anything or changes anything, nobody with a token that may only read changes anything, the daemon
lives, and calls of others take no more than twice as long meanwhile. Clients of all kinds get in with a token.
"""

import base64
import concurrent.futures
import contextlib
import http.client
import json
import pathlib
import re
import socket
import ssl
import struct
import subprocess
import time

import adbc_driver_flightsql.dbapi as adbc
import grpc
import jpype
import pyarrow.flight

import jdbc
from harness import Checks, Daemon, command, folder, wait_for

GRPC = re.compile(r"grpc\+tls://127\.0\.0\.1:(\d+)")
HTTP = re.compile(r"HTTP on https://127\.0\.0\.1:(\d+)")
CONFIG = "[collector.slow]\ninterval = '1s'\nmetrics = ['memory']\n"
SERVICE = "/kymo.v1.MetricsService/"
FLIGHT = "/arrow.flight.protocol.FlightService/"
# ControlCollectorRequest { name: "slow", stop: {} }
STOP = b"\x0a\x04slow\x1a\x00"
READ = (SERVICE + "GetStatus", SERVICE + "ListCollectors", "/kymo.v1.AlertService/ListAlerts", FLIGHT + "ListActions")
CHANGE = ((SERVICE + "ControlCollector", STOP), (SERVICE + "Flush", b""))
PATHS = ("/", "/metrics", "/api/v1/status", "/api/v1/sql?q=SELECT+1")
UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED


def openssl(*arguments, sent=b""):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, input=sent, timeout=30)
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


class Authority:
    """An authority, and what it signs."""

    def __init__(self, path, name):
        self.path, self.name = path, name
        self.certificate, self.key = path / f"{name}.pem", path / f"{name}.key"
        made = openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2, "-subj", f"/CN={name}",
                       "-keyout", self.key, "-out", self.certificate)
        assert made[0] == 0, made

    def sign(self, name):
        key, request, certificate = (self.path / f"{name}.{kind}" for kind in ("key", "csr", "crt"))
        names = self.path / "names.txt"
        names.write_text("subjectAltName = DNS:localhost, IP:127.0.0.1\nbasicConstraints = critical, CA:FALSE\n")
        made = openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", key,
                       "-out", request)
        assert made[0] == 0, made
        made = openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-days", 2, "-out", certificate,
                       "-extfile", names)
        assert made[0] == 0, made
        key.chmod(0o600)
        return certificate, key


class Target:
    """A daemon with TLS and tokens."""

    def __init__(self, path, authority, client_ca=""):
        self.path, self.authority = path, authority
        self.file = path / "tokens.toml"
        self.tokens = {"ended": self.make("ended", "admin", "--expires", "1s"), "revoked": self.make("revoked", "admin")}
        self.tokens |= {"reader": self.make("reader", "read"), "admin": self.make("admin", "admin")}
        command("token", "revoke", "revoked", "--file", str(self.file))
        certificate, key = authority.sign("server")
        config = f"{CONFIG}[server]\ntokens = '{self.file}'\nconnections_max = 64\n"
        config += f"[server.tls]\ncertificate = '{certificate}'\nkey = '{key}'\n"
        config += f"client_ca = '{client_ca}'\n" if client_ca else ""
        self.daemon = Daemon(path / "data", config)
        self.daemon.start()
        self.port = self.logged(GRPC)
        self.http = self.logged(HTTP)
        self.trust = ssl.create_default_context(cafile=str(authority.certificate))
        time.sleep(1.1)

    def make(self, name, role, *more):
        return command("token", "create", name, "--role", role, *more, "--file", str(self.file)).strip()

    def logged(self, pattern):
        return int(wait_for(lambda: pattern.search("".join(self.daemon.log)), 30, pattern.pattern)[1])

    def channel(self):
        credentials = grpc.ssl_channel_credentials(self.authority.certificate.read_bytes())
        return grpc.secure_channel(f"127.0.0.1:{self.port}", credentials)

    def get(self, path, headers=None, method="GET", body=None, source=None):
        connection = http.client.HTTPSConnection("127.0.0.1", self.http, context=self.trust, timeout=20, source_address=source)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def connect(self, port):
        return socket.create_connection(("127.0.0.1", port), timeout=20)

    def has_collector(self):
        return b"slow" in self.get("/api/v1/status", bearer(self.tokens["admin"]))[2]


def bearer(token):
    return {"authorization": f"Bearer {token}"}


def basic(user, password):
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def call(channel, path, body=b"", headers=None):
    """The status of a call."""
    method = channel.unary_stream(path, request_serializer=None, response_deserializer=None)
    try:
        list(method(body, metadata=list((headers or {}).items()), timeout=20))
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def strangers(target):
    """What those show who have no valid token."""
    reader = target.tokens["reader"]
    yield "nothing", {}
    yield "an expired token", bearer(target.tokens["ended"])
    yield "a revoked token", bearer(target.tokens["revoked"])
    yield "another token", bearer("kymo_" + "A" * 43)
    yield "a part of a token", bearer(reader[:-1])
    yield "a token and more", bearer(reader + "A")
    yield "a token in capitals", bearer(reader.upper())
    yield "no token", bearer("")
    yield "a token without a scheme", {"authorization": reader}
    yield "another scheme", {"authorization": f"Digest {reader}"}
    yield "a wrong password", basic("reader", "secret")
    yield "the token as the user", basic(reader, "")
    yield "Basic that is none", {"authorization": "Basic %%%"}
    yield "a token elsewhere", {"x-token": reader, "cookie": f"authorization=Bearer {reader}"}
    yield "the digest of a token", bearer(re.search(r'sha256 = "(\w+)"', target.file.read_text())[1])
    yield "a very long token", bearer("kymo_" + "A" * 4_000)


def strangers_learn_nothing(target):
    """On both ports. Cases run at the same time, as answers to those who guess wait."""
    with target.channel() as channel:

        def over_grpc(name, headers, path, body):
            code, told = call(channel, path, body, headers)
            is_right = code == UNAUTHENTICATED and not any(token in told for token in target.tokens.values())
            return None if is_right else (name, path, code, told)

        def over_http(name, headers, path):
            status, found, body = target.get(path, headers)
            asks = found.get("www-authenticate", "").startswith("Basic ") and "content-security-policy" in found
            return None if status == 401 and asks and set(json.loads(body)) == {"error"} else (name, path, status, found, body)

        with concurrent.futures.ThreadPoolExecutor(32) as threads:
            cases = [
                threads.submit(*case)
                for name, headers in strangers(target)
                for case in [
                    *((over_grpc, name, headers, path, body) for path, body in [*((path, b"") for path in READ), *CHANGE]),
                    *((over_http, name, headers, path) for path in PATHS),
                ]
            ]
            wrong = [found for case in cases if (found := case.result())]
    assert not wrong, wrong
    assert target.has_collector()
    return f"{len(cases)} cases"


def tokens_let_in(target):
    """On both ports, as Bearer and as a password; health needs none."""
    with target.channel() as channel:
        assert call(channel, "/grpc.health.v1.Health/Check")[0] == grpc.StatusCode.OK
        for name in ("reader", "admin"):
            for headers in (bearer(target.tokens[name]), basic("somebody", target.tokens[name])):
                for path in READ:
                    assert call(channel, path, b"", headers)[0] == grpc.StatusCode.OK, (name, path)
                for path in PATHS:
                    status, found, _ = target.get(path, headers)
                    assert status == 200, (name, path, status, found)
        for path, body in CHANGE:
            code, told = call(channel, path, body, bearer(target.tokens["reader"]))
            assert code == DENIED and "admin" in told, (path, code, told)
        assert target.has_collector()
        assert call(channel, SERVICE + "Flush", b"", bearer(target.tokens["admin"]))[0] == grpc.StatusCode.OK
    log = "".join(target.daemon.log)
    assert "token reader from 127.0.0.1:" in log and "token admin from 127.0.0.1:" in log, log
    assert not any(token in log for token in target.tokens.values())


def tricks_with_paths_open_nothing(target):
    tricks = ("/kymo.v1.MetricsService//Flush", "//kymo.v1.MetricsService/Flush", "/kymo.v1.MetricsService/Flush/", "/kymo.v1.metricsservice/flush",
              "/grpc.health.v1.Health/../../kymo.v1.MetricsService/Flush", "/kymo.v1.MetricsService/%46lush", "/kymo.v1.MetricsService/GetStatus/../Flush",
              "/kymo.v1.MetricsService/Flush?GetStatus", "/grpc.health.v1.Health/Check/../../../kymo.v1.MetricsService/GetStatus")
    count = 0
    with target.channel() as channel:
        for path in tricks:
            for headers in ({}, bearer(target.tokens["reader"])):
                code, _ = call(channel, path, b"", headers)
                assert code != grpc.StatusCode.OK, (path, headers)
                count += 1
    for path in ("//metrics", "/metrics/", "/%6detrics", "/./metrics", "/web/../metrics", "/grpc.health.v1.Health/Check", "/api/v1/openapi.json",
                 "/web/0/main.js", "/nothing", "/api/v1/status?authorization=Bearer%20" + target.tokens["reader"]):
        status, _, body = target.get(path)
        assert status == 401, (path, status, body)
        count += 1
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
        status, _, _ = target.get("/api/v1/sql", method=method)
        assert status == 401, (method, status)
        count += 1
    return f"{count} cases"


def pages_elsewhere_get_nothing(target):
    """A browser has the token, and a page of another origin would use it."""
    for more in ({"Origin": "https://evil.example"}, {"Origin": f"http://127.0.0.1:{target.http}"}, {"Sec-Fetch-Site": "cross-site"},
                 {"Origin": "null"}):
        status, _, body = target.get("/api/v1/sql?q=SELECT+1", {**bearer(target.tokens["admin"]), **more})
        assert status == 403, (more, status, body)
    status, _, _ = target.get("/metrics", {**bearer(target.tokens["reader"]), "Host": "ember.example", "Origin": "https://ember.example"})
    assert status == 200, status


def only_tls_12_and_13_are_spoken(target):
    for port in (target.port, target.http):
        for version, speaks in (("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
            trust = ("-CAfile", target.authority.certificate, "-verify_return_error")
            code, told = openssl("s_client", version, "-cipher", "DEFAULT@SECLEVEL=0", "-connect", f"127.0.0.1:{port}", *trust)
            assert (code == 0 and "Verify return code: 0" in told) == speaks, (port, version, code, told)
    for port in (target.port, target.http):
        for sent in (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(1_000), b"\x16\x03\x01\xff\xff" + bytes(70_000)):
            with target.connect(port) as connection:
                found = b""
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    connection.sendall(sent)
                    while more := connection.recv(1 << 16):
                        found += more
            # Nothing, or an alert of TLS.
            assert len(found) <= 7 and found[:1] in (b"", b"\x15"), found
    address = f"127.0.0.1:{target.port}"
    told = command("collector", "list", "--address", address, "--ca", str(target.authority.certificate), expect=2)
    assert f"write --address https://{address}" in told, told
    told = command("collector", "list", "--address", address, expect=1)
    assert f"it speaks TLS: write --address https://{address}" in told, told
    assert "--ca" in command("collector", "list", "--address", f"https://{address}", expect=1)
    told = command("collector", "list", "--address", f"https://{address}", "--ca", str(target.authority.certificate), expect=1)
    assert "asks for a token" in told, told
    environment = {"KYMO_TOKEN": target.tokens["reader"]}
    command("collector", "list", "--address", f"https://{address}", "--ca", str(target.authority.certificate), environment=environment)


def certificates_of_clients_are_checked(path):
    authority, other = Authority(path, "authority"), Authority(path, "other")
    target = Target(path, authority, client_ca=authority.certificate)
    certificate, key = authority.sign("client")
    stranger, stranger_key = other.sign("stranger")
    try:
        for port in (target.port, target.http):
            for shown, is_accepted in (((), False), (("-cert", stranger, "-key", stranger_key), False), (("-cert", certificate, "-key", key), True)):
                for version in ("-tls1_2", "-tls1_3"):
                    sent = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                    _, told = openssl("s_client", version, "-quiet", "-connect", f"127.0.0.1:{port}", *shown, sent=sent)
                    is_refused = "alert" in told
                    assert is_refused != is_accepted, (port, version, shown, told)
        flags = ["--address", f"https://127.0.0.1:{target.port}", "--ca", str(authority.certificate)]
        environment = {"KYMO_TOKEN": target.tokens["reader"]}
        told = command("collector", "list", *flags, expect=1, environment=environment)
        assert "asks for a certificate of the client" in told, told
        command("collector", "list", *flags, "--certificate", str(certificate), "--key", str(key), environment=environment)
    finally:
        target.daemon.stop()


class Others:
    """A client that goes on as before."""

    def __init__(self, target):
        self.channel = target.channel()
        self.headers = bearer(target.tokens["reader"])

    def p99(self, seconds):
        took, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            assert call(self.channel, SERVICE + "GetStatus", b"", self.headers)[0] == grpc.StatusCode.OK
            took.append(time.monotonic() - began)
            time.sleep(0.005)
        return sorted(took)[int(len(took) * 0.99)]

    def during(self, attack):
        """Both while nothing happens and while this does."""
        before = self.p99(1.5)
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            attacking = thread.submit(attack)
            meanwhile = self.p99(1.5)
            attacking.result(40)
        # The clients and the daemon share two CPUs here.
        assert meanwhile <= max(2 * before, 0.025), f"{1e3 * before:.1f} and {1e3 * meanwhile:.1f} ms"
        return f"p99 {1e3 * before:.1f} and {1e3 * meanwhile:.1f} ms"


def a_thousand_slow_connections_delay_nobody(target):
    """Each has begun to shake hands, and goes on with nothing."""
    hello = bytes.fromhex("16030100c8010000c40303")

    def attack():
        with contextlib.ExitStack() as stack:
            for number in range(1_000):
                connection = stack.enter_context(target.connect((target.port, target.http)[number % 2]))
                with contextlib.suppress(OSError):
                    connection.sendall(hello)
            time.sleep(0.5)

    figures = Others(target).during(attack)
    assert target.get("/metrics", bearer(target.tokens["reader"]))[0] == 200
    return figures


def text(value):
    """A string of HPACK, as it is."""
    return bytes([len(value)]) + value if len(value) < 127 else b"\x7f" + bytes([len(value) - 127]) + value


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def rapid_resets_delay_nobody(target):
    """Calls that are taken back at once (CVE-2023-44487), with a token and without."""
    trust = ssl.create_default_context(cafile=str(target.authority.certificate))
    trust.set_alpn_protocols(["h2"])

    def resets(headers):
        pairs = [(b":method", b"POST"), (b":scheme", b"https"), (b":path", (SERVICE + "GetStatus").encode()), (b":authority", b"localhost"),
                 (b"content-type", b"application/grpc"), (b"te", b"trailers"), *((k.encode(), v.encode()) for k, v in headers.items())]
        block = b"".join(b"\x00" + text(name) + text(value) for name, value in pairs)
        with target.connect(target.port) as plain, trust.wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
            with contextlib.suppress(OSError):
                for first in range(1, 40_000, 200):
                    streams = range(first, first + 200, 2)
                    connection.sendall(b"".join(frame(1, 4, at, block) + frame(3, 0, at, struct.pack(">I", 8)) for at in streams))

    def attack():
        for headers in ({}, bearer(target.tokens["reader"])):
            resets(headers)

    figures = Others(target).during(attack)
    assert target.has_collector()
    return figures


def messages_that_are_too_large_are_refused(target):
    admin = bearer(target.tokens["admin"])
    with target.channel() as channel:
        for path in (SERVICE + "ControlCollector", FLIGHT + "GetFlightInfo"):
            code, told = call(channel, path, b"\x0a" + b"\xff" * (8 << 20), admin)
            assert code in (grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.RESOURCE_EXHAUSTED), (code, told)
            assert call(channel, path, b"\x0a" + b"\xff" * (8 << 20))[0] in (UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE)
        assert call(channel, SERVICE + "GetStatus", b"", {**admin, "x-long": "a" * 100_000})[0] != grpc.StatusCode.OK
    for path, more, method, body in (("/api/v1/sql", {}, "POST", b" " * (2 << 20)), ("/metrics", {"X-Long": "a" * 50_000}, "GET", None)):
        # The server may close the connection before the client has sent all of it.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            status, _, _ = target.get(path, {**admin, **more}, method, body)
            assert status in (413, 431), (path, status)
    assert target.has_collector()


def guessing_gets_slower_and_delays_nobody(target):
    source = ("127.0.0.77", 0)

    def guess(number):
        began = time.monotonic()
        status, _, _ = target.get("/metrics", bearer(f"kymo_{number:043}"), source=source)
        assert status == 401, status
        return time.monotonic() - began

    def attack():
        for number in range(12):
            guess(number)

    figures = Others(target).during(attack)
    assert guess(100) > 0.09, "ten guesses are free, and each further one waits for 50 ms longer"
    began = time.monotonic()
    assert target.get("/metrics", bearer(target.tokens["reader"]), source=source)[0] == 200
    assert time.monotonic() - began < 0.5
    wait_for(lambda: "log-ins from 127.0.0.77 failed" in "".join(target.daemon.log), 10, "a line about it")
    return figures


def clients_of_all_kinds_get_in(target):
    """pyarrow, ADBC and JDBC, each with the token as a password and as it is."""
    token, location = target.tokens["reader"], f"grpc+tls://localhost:{target.port}"
    roots = target.authority.certificate.read_bytes()
    with pyarrow.flight.FlightClient(location, tls_root_certs=roots) as client:
        header = client.authenticate_basic_token("somebody", token)
        assert header == (b"authorization", f"Bearer {token}".encode()), "it is the token"
        options = pyarrow.flight.FlightCallOptions(headers=[header])
        assert len(list(client.list_actions(options))) > 5
        for wrong in (lambda: list(client.list_actions()), lambda: client.authenticate_basic_token("somebody", "wrong")):
            with contextlib.suppress(pyarrow.flight.FlightUnauthenticatedError):
                wrong()
                raise AssertionError("it was let in")
    trust = {"adbc.flight.sql.client_option.tls_root_certs": roots.decode()}
    for shown in ({"username": "somebody", "password": token}, {"adbc.flight.sql.authorization_header": f"Bearer {token}"}):
        with adbc.connect(location, db_kwargs={**trust, **shown}, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 AS a")
            assert cursor.fetchall() == [(1,)]
    secure = {"useEncryption": "true", "tlsRootCerts": str(target.authority.certificate)}
    for shown in ({"user": "somebody", "password": token}, {"token": token}):
        connection = jdbc.connect(f"localhost:{target.port}", **secure, **shown)
        assert jdbc.rows(connection.createStatement().executeQuery("SELECT 1 AS a")) == [{"a": 1}]
        connection.close()
    try:
        jdbc.connect(f"localhost:{target.port}", **secure, user="somebody", password="wrong")
    except jpype.JException as error:
        assert "does not know this token" in str(error), error
    else:
        raise AssertionError("JDBC was let in")


def main():
    checks = Checks()
    jdbc.start()
    with folder() as path, folder() as second:
        target = Target(pathlib.Path(path), Authority(path, "authority"))
        for check in (
            tokens_let_in,
            clients_of_all_kinds_get_in,
            strangers_learn_nothing,
            tricks_with_paths_open_nothing,
            pages_elsewhere_get_nothing,
            only_tls_12_and_13_are_spoken,
            messages_that_are_too_large_are_refused,
            a_thousand_slow_connections_delay_nobody,
            rapid_resets_delay_nobody,
            guessing_gets_slower_and_delays_nobody,
        ):
            checks.run(check, target)
        assert target.daemon.process.poll() is None, "the daemon ended"
        assert target.daemon.stop() == 0
        checks.run(certificates_of_clients_are_checked, second)
    checks.finish()


if __name__ == "__main__":
    main()
