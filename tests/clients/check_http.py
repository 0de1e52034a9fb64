"""Attacks on kymo's HTTP: what a page elsewhere, a careless script or a spiteful program may send. Takes about fifteen seconds.

Each attack has an outcome that is right. Whatever it is, the answer says nothing that its sender may not know, no answer
but the page itself is HTML, every answer has the headers that keep browsers from giving it to others, and the daemon
answers the next client and goes on recording.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import re
import socket
import time
import urllib.parse

from harness import Checks, Daemon, folder, wait_for

HTTP = re.compile(r"HTTP on http://127\.0\.0\.1:(\d+)")
# What nobody from elsewhere may read: the result of a statement.
SECRET = "read-by-a-stranger"
SECRET_SQL = "SELECT replace('read by a stranger', ' ', '-') AS secret"
SCRIPT = "<script>alert(1)</script>"
PATIENCE = 60
HEADERS = {
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
POLICY = ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'")


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict
    body: bytes


@dataclasses.dataclass
class Attack:
    name: str
    request: bytes
    # The statuses that are right. 0: the connection ends without an answer.
    right: set
    # What the body has to contain.
    says: str = ""


def query(sql, **more):
    return "/api/v1/sql?" + urllib.parse.urlencode({"q": sql, **more})


SECRET_PATH = query(SECRET_SQL)


def request(path="/api/v1/status", method="GET", host="127.0.0.1", body=b"", version="HTTP/1.1", **headers):
    head = [f"{method} {path} {version}", *([f"Host: {host}"] if host is not None else [])]
    head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "Connection: close", "", ""]).encode() + body


def raw(text):
    return text.replace("\n", "\r\n").encode("latin-1")


def rebinding():
    """A name of somebody else that resolves to this host."""
    for host in ("evil.example", "evil.example:9464", "localhost.evil.example", "127.0.0.1.nip.io", "user@localhost", "0.0.0.0",
                 "10.0.0.1", "[::ffff:10.0.0.1]", "169.254.169.254"):
        yield Attack(f"Host: {host}", request(SECRET_PATH, host=host), {421})
    yield Attack("no Host", request(SECRET_PATH, host=None), {400})
    yield Attack("two Hosts", request(SECRET_PATH, host="127.0.0.1\r\nHost: evil.example"), {400})
    yield Attack("an empty Host", request(SECRET_PATH, host=""), {400, 421})
    yield Attack("as a proxy", request("http://evil.example" + SECRET_PATH), {421})
    yield Attack("as a tunnel", request("evil.example:80", method="CONNECT"), {400, 404, 405, 421})


def cross_origin():
    """A page of another origin that is open in a browser on this host."""
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1", "http://localhost"):
        yield Attack(f"Origin: {origin}", request(SECRET_PATH, Origin=origin), {403})
    for site in ("cross-site", "same-site"):
        yield Attack(f"fetched, {site}", request(SECRET_PATH, Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors"), {403})
        yield Attack(f"a link to a result, {site}", request(SECRET_PATH, Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate",
                                                            Sec_Fetch_Dest="document"), {403})
        yield Attack(f"in a frame, {site}", request("/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe"), {403})
    form = dict(method="POST", body=SECRET_SQL.encode(), Content_Type="text/plain", Origin="http://evil.example")
    yield Attack("a form", request("/api/v1/sql", **form), {403})
    yield Attack("a preflight", request("/api/v1/sql", method="OPTIONS", Origin="http://evil.example",
                                        Access_Control_Request_Method="POST"), {403})
    yield Attack("a preflight without an origin", request("/api/v1/sql", method="OPTIONS"), {405})


def paths():
    """Files that are none of the page's."""
    for path in ("/web/../../../../etc/passwd", "/web/..%2f..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd",
                 "/web/0/..\\..\\etc\\passwd", "/web/%00/main.js", "/web/0123456789abcdef/main.js", "/web/", "/api/v1/sql/../status",
                 "/api/v1/sql%00", "/.git/config", "/api/v1/", "/api/v2/status"):
        yield Attack(path, request(path), {400, 404})
    yield Attack("a path of 15,000 characters", request("/" + "a" * 15_000), {404, 414, 431})
    yield Attack("a path of 100,000 characters", request("/" + "a" * 100_000), {400, 414, 431})
    yield Attack("a bad escape", request("/api/v1/sql?q=%zz"), {400})
    yield Attack("bytes that are no UTF-8", request("/api/v1/sql?q=%ff%fe"), {400})


def protocol():
    """Requests that are none, or two at once."""
    sql = SECRET_SQL.encode()
    for method in ("TRACE", "PUT", "DELETE", "PATCH", "BREW"):
        yield Attack(method, request("/api/v1/sql", method=method), {405})
    yield Attack("a header of 20 kB", request(X_Long="a" * 20_000), {400, 431})
    yield Attack("5,000 headers", request(**{f"X_{number}": "a" for number in range(5_000)}), {400, 431})
    yield Attack("two lengths", raw("POST /api/v1/sql HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 5\nContent-Length: 8\n\nSELECT 1"), {400})
    yield Attack("a length that is no number", raw("POST /api/v1/sql HTTP/1.1\nHost: 127.0.0.1\nContent-Length: -1\n\n"), {400})
    yield Attack("a length and chunks", raw("POST /api/v1/sql HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 4\n"
                                            "Transfer-Encoding: chunked\n\n0\n\nGET /api/v1/status HTTP/1.1\nHost: evil.example\n\n"), {400})
    yield Attack("a chunk that is none", raw("POST /api/v1/sql HTTP/1.1\nHost: 127.0.0.1\nTransfer-Encoding: chunked\n\nzz\n"), {400, 413})
    yield Attack("a header of two lines", raw(f"GET {SECRET_PATH} HTTP/1.1\nHost: 127.0.0.1\nX-A: b\n Origin: c\n\n"), {400})
    yield Attack("an answer split by a parameter", request("/api/v1/sql?q=SELECT%201&format=json%0d%0aSet-Cookie:%20a=b"), {400})
    yield Attack("HTTP/0.9", b"GET /api/v1/status\r\n\r\n", {0, 400})
    yield Attack("HTTP/9.9", request(version="HTTP/9.9"), {0, 400, 505})
    yield Attack("HTTP/2 without asking", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64), {0, 400, 505})
    yield Attack("TLS", bytes.fromhex("16030100c8010000c40303") + bytes(200), {0, 400})
    yield Attack("zeros", bytes(4_000), {0, 400})
    huge = f"POST /api/v1/sql HTTP/1.1\nHost: 127.0.0.1\nContent-Length: {1 << 30}\n\n"
    yield Attack("a body of 1 GiB", raw(huge) + b"a" * (2 << 20), {413})
    yield Attack("a body of 2 MiB in chunks", raw("POST /api/v1/sql HTTP/1.1\nHost: 127.0.0.1\nTransfer-Encoding: chunked\n\n")
                 + b"100000\r\n" + b"a" * (1 << 20) + b"\r\n100000\r\n" + b"a" * (1 << 20) + b"\r\n0\r\n\r\n", {413})
    yield Attack("a packed body", request("/api/v1/sql", method="POST", body=b"\x1f\x8b\x08\x00" + bytes(60), Content_Encoding="gzip"), {400})
    yield Attack("two statements, one in the body", request(query("SELECT 1"), method="POST", body=sql), {400})


def parameters():
    """Values that no column, number or format has."""
    def between(**more):
        ordinary = {"table": "cpu", "column": "user_us", "from": "2026-01-01T00:00:00Z", "to": "2026-01-01T01:00:00Z", "buckets": "10"}
        return "/api/v1/range?" + urllib.parse.urlencode({name: value for name, value in {**ordinary, **more}.items() if value is not None})

    for buckets in ("-1", "0", "1e9", "NaN", "99999999999999999999", "ten", ""):
        yield Attack(f"buckets={buckets}", request(between(buckets=buckets)), {400}, "buckets")
    yield Attack("an end before the beginning", request(between(to="2025-01-01T00:00:00Z")), {400})
    yield Attack("no time", request(between(**{"from": "yesterday"})), {400}, "from")
    yield Attack("SQL in a table's name", request(between(table="cpu; DROP TABLE cpu")), {400, 404})
    yield Attack("SQL in a column's name", request(between(column="user_us) FROM cpu --")), {400})
    yield Attack("SQL in a label", request(between(**{"label.cpu": "' OR true --"})), {200, 400})
    yield Attack("no such parameter", request("/api/v1/sql?q=SELECT%201&callback=alert"), {400}, "callback")
    yield Attack("a parameter twice", request("/api/v1/sql?q=SELECT%201&q=" + urllib.parse.quote(SECRET_SQL)), {400}, "twice")
    yield Attack("no such format", request(query("SELECT 1", format="html")), {400, 406}, "html")
    for sql in ("DROP TABLE cpu", "CREATE EXTERNAL TABLE a STORED AS CSV LOCATION '/etc/passwd'", "COPY cpu TO '/tmp/a.csv'",
                "INSERT INTO cpu SELECT * FROM cpu", "SELECT * FROM '/etc/passwd'", "SELECT 1; SELECT 2", "SET datafusion.execution.batch_size = 1",
                "SELECT * FROM read_csv('/etc/passwd')", "EXPLAIN ANALYZE COPY cpu TO '/tmp/a.csv'"):
        yield Attack(sql, request(query(sql)), {400})


def scripts():
    """Text that must not become HTML."""
    for name in ("json", "csv"):
        yield Attack(f"a script in {name}", request(query(f"SELECT '{SCRIPT}' AS a", format=name)), {200}, "alert(1)")
    yield Attack("a script in an error", request(query(f'SELECT "{SCRIPT}" FROM cpu')), {400}, "alert(1)")
    yield Attack("a script in a table's name", request("/api/v1/range?table=" + urllib.parse.quote(SCRIPT)), {400, 404})
    yield Attack("a script in a path", request("/" + urllib.parse.quote(SCRIPT)), {404})
    yield Attack("HTML, if it is asked for", request(query(f"SELECT '{SCRIPT}' AS a"), Accept="text/html"), {200, 406})
    yield Attack("a script in the client's name", request(User_Agent=SCRIPT), {200})


class Target:
    def __init__(self, daemon):
        self.daemon = daemon
        self.port = wait_for(lambda: next((int(match[1]) for line in list(daemon.log) if (match := HTTP.search(line))), None), PATIENCE, "HTTP")

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def ask(self, sent):
        with self.connect() as connection:
            # It may refuse before it has read all.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(sent)
            return read(connection)

    def must_answer(self, path="/api/v1/status"):
        found = self.ask(request(path))
        assert found and found.status == 200, found
        return found


def read(connection):
    """The first answer. `None` if the connection ends without one."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while b"\r\n\r\n" not in found:
            if not (more := connection.recv(1 << 16)):
                break
            found += more
    head, separator, body = found.partition(b"\r\n\r\n")
    if not separator:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    length = int(headers["content-length"]) if "content-length" in headers else None
    with contextlib.suppress(ConnectionResetError):
        while length is None or len(body) < length:
            if not (more := connection.recv(1 << 16)):
                break
            body += more
    return Answer(int(first.split()[1]), headers, body)


def judged(attack, answer):
    """What is wrong with the answer."""
    status = answer.status if answer else 0
    if status not in attack.right:
        return f"{status}, not {attack.right}: {answer.body[:200] if answer else ''}"
    if not answer:
        return None
    body = answer.body.decode("utf-8", "replace")
    if SECRET in body or "root:x:" in body:
        return f"it was told {body[:200]!r}"
    if attack.says not in body:
        return f"{body[:200]!r} does not name {attack.says!r}"
    if any(name.startswith("access-control-") or name == "set-cookie" for name in answer.headers):
        return f"headers {answer.headers}"
    # The HTTP library itself refuses what it cannot read, without a body.
    if not answer.body:
        return None
    if "html" in answer.headers.get("content-type", ""):
        return f"it is {answer.headers['content-type']}"
    missing = [name for name, value in HEADERS.items() if answer.headers.get(name) != value]
    missing += [rule for rule in POLICY if rule not in answer.headers.get("content-security-policy", "")]
    return f"without {missing}: {answer.headers}" if missing else None


def every_attack_fails(target, kinds):
    wrong, count = [], 0
    for kind in kinds:
        for attack in kind():
            count += 1
            if reason := judged(attack, target.ask(attack.request)):
                wrong.append(f"{attack.name}: {reason}")
            target.must_answer()
    assert not wrong, "\n".join(wrong)
    return f"{count} attacks"


def the_same_request_from_here_is_answered(target):
    """Else the attacks would fail for another reason."""
    found = target.must_answer(SECRET_PATH)
    assert SECRET in found.body.decode(), found
    found = target.ask(request(SECRET_PATH, Origin=f"http://127.0.0.1:{target.port}", host=f"127.0.0.1:{target.port}"))
    assert found.status == 200 and SECRET in found.body.decode(), found
    page = target.must_answer("/")
    assert "html" in page.headers["content-type"] and all(rule in page.headers["content-security-policy"] for rule in POLICY), page.headers


def slow_clients_keep_nobody_waiting(target):
    """Heads and bodies that come a byte at a time, and connections that say nothing."""
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(target.connect()) for _ in range(30)]
        for number, connection in enumerate(slow):
            if number % 3 == 0:
                connection.sendall(b"GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
            if number % 3 == 1:
                connection.sendall(b"POST /api/v1/sql HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n")
        took = []
        for _ in range(10):
            for number, connection in enumerate(slow):
                if number % 3 < 2:
                    connection.sendall(b"a")
            began = time.monotonic()
            target.must_answer(query("SELECT 1"))
            took.append(time.monotonic() - began)
            time.sleep(0.1)
    return f"{1e3 * max(took):.0f} ms at most"


def more_connections_than_there_is_room_for(target):
    """Those that are idle longest give way, so others are answered at once, and SQL over Flight is as well."""
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(target.connect())
        target.must_answer()
        assert target.daemon.value("SELECT 1 AS a") == 1

    def answers():
        with contextlib.suppress(OSError, AssertionError):
            return target.must_answer()

    wait_for(answers, PATIENCE, "an answer after the connections have gone")


def requests_without_a_pause(target):
    """Sent without waiting for answers."""
    count = 1_000
    one = b"GET /api/v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    with target.connect() as connection:
        connection.sendall(one * count + request(host="evil.example"))
        found = b""
        while more := connection.recv(1 << 16):
            found += more
    assert found.count(b"HTTP/1.1 421") == count + 1, found[:400]


def statements_at_once(target):
    """Each has its result, or is told of a limit."""
    def one(number):
        sql = f"SELECT sum(a.value * b.value) % {number + 2} FROM generate_series(1, 3000) a, generate_series(1, 1000) b"
        return target.ask(request(query(sql))).status

    with concurrent.futures.ThreadPoolExecutor(50) as threads:
        statuses = list(threads.map(one, range(50)))
    assert set(statuses) <= {200, 429, 503, 504} and 200 in statuses, statuses
    return ", ".join(f"{statuses.count(status)} × {status}" for status in sorted(set(statuses)))


def results_that_nobody_reads(target):
    """Six clients ask for large results, and six for small ones, and read none. Others get theirs all the same."""
    with contextlib.ExitStack() as stack:
        for number in range(12):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.connect(("127.0.0.1", target.port))
            characters = 7_500_000 if number % 2 else 300_000
            connection.sendall(request(query(f"SELECT repeat('x', {characters}) AS a", format="arrow")))
        began = time.monotonic()

        def has_all():
            # Until a client that reads nothing has lost its place, there may be none.
            found = target.ask(request(query("SELECT repeat('y', 6000000) AS a", format="json")))
            assert found.status in (200, 429), found
            return b"y" * 6_000_000 in found.body

        wait_for(has_all, PATIENCE, "a large result")
        assert len(target.daemon.value("SELECT repeat('y', 6000000) AS a")) == 6_000_000
    return f"{time.monotonic() - began:.1f} s"


def recording_went_on(target, before):
    """Every tick was taken or counted, none failed, and the daemon is the same process."""
    after = ticks(target.daemon)
    assert target.daemon.process.poll() is None
    taken, missed = (after[name] - before[name] for name in ("taken", "missed"))
    assert taken > 1_000 and taken > 9 * missed and after["failed"] == before["failed"], (before, after)
    status = json.loads(target.must_answer().body)
    assert status, status
    return f"{taken} ticks, {missed} missed"


def ticks(daemon):
    (row,) = daemon.query("SELECT ticks AS taken, missed_ticks AS missed, failed_reads AS failed FROM collector_last WHERE collector = 'burst'")
    return row


def main():
    checks = Checks()
    with folder() as path, Daemon(path / "data") as daemon:
        target = Target(daemon)
        wait_for(lambda: daemon.query("SELECT * FROM collector_last WHERE collector = 'burst'"), PATIENCE, "a report")
        before = ticks(daemon)
        checks.run(the_same_request_from_here_is_answered, target)
        checks.run(every_attack_fails, target, [rebinding, cross_origin, paths, protocol, parameters, scripts])
        for check in (slow_clients_keep_nobody_waiting, more_connections_than_there_is_room_for, requests_without_a_pause,
                      statements_at_once, results_that_nobody_reads):
            checks.run(check, target)
        checks.run(recording_went_on, target, before)
    checks.finish()


if __name__ == "__main__":
    main()
