"""Starts kymo for the checks, and counts which checks pass and fail."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOT = pathlib.Path(__file__).resolve().parents[2]
KYMO = os.environ.get("KYMO_BIN", str(ROOT / "target/release/kymo"))
STARTED = re.compile(r"grpc(?:\+tls)?://(127\.0\.0\.1:\d+)")


class Checks:
    """Counts checks. After one fails, the others still run."""

    def __init__(self):
        self.passed, self.failed = 0, []

    def run(self, check, *arguments):
        began = time.monotonic()
        try:
            figures = check(*arguments)
        except Exception as error:
            self.failed.append(check.__name__)
            print(f"FAILED {check.__name__}: {error!r}", flush=True)
            traceback.print_exc()
            return
        self.passed += 1
        print(f"ok     {check.__name__} ({time.monotonic() - began:.1f} s) {figures or ''}", flush=True)

    def finish(self):
        print(f"{self.passed} passed, {len(self.failed)} failed", flush=True)
        sys.exit(1 if self.failed else 0)


def run_kymo(*arguments, environment=None, timeout=120):
    """Runs the program to its end."""
    return subprocess.run(
        [KYMO, *arguments], capture_output=True, text=True, timeout=timeout, env=clean_environment(environment)
    )


def command(*arguments, expect=0, environment=None, timeout=120):
    """Runs the program; its standard output, or standard error when a failure is expected."""
    done = run_kymo(*arguments, environment=environment, timeout=timeout)
    if done.returncode != expect:
        raise AssertionError(f"kymo {arguments} ended with {done.returncode}, not {expect}: {done.stdout}{done.stderr}")
    return done.stdout if expect == 0 else done.stderr


def clean_environment(extra=None):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KYMO_")}
    # Daemons side by side cannot have one port.
    return {**kept, "NO_COLOR": "1", "KYMO_HTTP__ADDRESS": "127.0.0.1:0", **(extra or {})}


class Daemon:
    """A daemon on a free port of loopback. It is stopped at the end. `prefix` is a command that starts it, and keeps its id."""

    def __init__(self, data, config="", environment=None, prefix=(), program=KYMO):
        self.data = pathlib.Path(data)
        self.config = config
        self.environment = environment or {}
        self.start_with = [*prefix, program]
        self.process = None
        self.address = None
        self.started_at = None
        self.log = []

    def start(self):
        arguments = [*self.start_with, "run", "--data", str(self.data), "--address", "127.0.0.1:0"]
        if self.config:
            file = self.data.with_suffix(".toml")
            file.write_text(self.config)
            arguments += ["-c", str(file)]
        self.started_at = time.time()
        self.process = subprocess.Popen(
            arguments, stderr=subprocess.PIPE, text=True, env=clean_environment(self.environment)
        )
        found = threading.Event()

        def read():
            for line in self.process.stderr:
                self.log.append(line)
                if not found.is_set() and (match := STARTED.search(line)) and "Flight SQL" in line:
                    self.address = match[1]
                    found.set()
            found.set()

        threading.Thread(target=read, daemon=True).start()
        if not found.wait(30) or self.address is None:
            raise AssertionError(f"kymo did not start: {''.join(self.log)}")
        return self

    @property
    def url(self):
        return f"http://{self.address}"

    def stop(self):
        """Sends SIGTERM. Returns the exit code."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(40)
        return self.process.returncode

    def kill(self):
        """Sends SIGKILL."""
        self.process.kill()
        self.process.wait(40)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def query(self, sql):
        """Through `kymo query`, as a list of dicts."""
        out = command("query", sql, "--address", self.url, "--format", "json")
        return rows(out)

    @staticmethod
    def declared_with_more():
        """All tables, each followed by those that are made of it: its tiers, and its newest rows."""
        return [one for table in Daemon.declared() for one in [table, *table["tiers"], table["last"]] if one]

    @staticmethod
    def declared():
        """The tables and columns that `kymo tables` lists."""
        return json.loads(command("tables", "--format", "json"))

    def value(self, sql):
        (row,) = self.query(sql)
        (value,) = row.values()
        return value

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self):
        pages = int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def rows(json_text):
    """Rows from `--format json`: an array, or one object a line."""
    text = json_text.strip()
    if text.startswith("["):
        return json.loads(text)
    return [json.loads(line) for line in text.splitlines()]


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory(prefix="kymo-check-") as path:
        yield pathlib.Path(path)


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


@contextlib.contextmanager
def webhook(port=0):
    """A web server that keeps all that is posted to it. It takes any free port, or this one."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", received
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def burning(seconds, processes):
    """Keeps this many CPUs busy, for `seconds` at most."""
    burn = f"import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
    running = [subprocess.Popen([sys.executable, "-c", burn]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()
