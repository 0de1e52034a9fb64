"""Statements that are made to hurt, against a running daemon: none stops, slows or starves the recorder.

    python3 tests/clients/check_hostile.py [time_max [share]]      needs pyarrow; uses target/release/kymo, or KYMO_BIN

Each statement runs under the default memory limit and a time limit of five seconds, or of as many as are given. It must give a
result, or an error that says what is wrong: a limit with its setting, or why the statement is refused. Meanwhile the memory of
the recorder and of all its processes is watched. One statement in `share`, of all by default, also runs as an ordinary user,
if this is root, and as on a kernel without Landlock.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import sys
import tempfile
import threading
import time

import pyarrow.flight as flight

from harness import KYMO, Checks, Daemon, command

ARGUMENTS = sys.argv[1:] if __name__ == "__main__" else []
TIME_MAX_S = float(ARGUMENTS[0]) if ARGUMENTS else 5.0
SHARE = int(ARGUMENTS[1]) if len(ARGUMENTS) > 1 else 1
# Politely ended queries end at once, others are killed after 100 ms; the rest is for a busy machine.
TIME_SLACK_S = 1.0
MEMORY_MAX = 256 << 20
# What a worker may use beyond its limit, as config.toml says, and what it has when it is idle.
WORKER_MORE = 320 << 20
CONCURRENT_MAX = 4
RECORDER_RSS_MAX = 150_000_000
BACK_WITHIN_S = 5
NOBODY = 65534
AT_ONCE = 50
CONFIG = f"""
[query]
time_max = "{TIME_MAX_S}s"
concurrent_max = {CONCURRENT_MAX}
"""

# An error is good if it names a limit, or the fault of the statement.
SAID = re.compile(
    r"setting `|unknown table|nests|operators; at most|tables, counting each use|is refused|not valid|the query failed: |refused for"
    r"|the statement is empty|is not a Flight SQL command|cannot be read|handle|ticket",
    re.IGNORECASE,
)
LARGE = "(SELECT a.time FROM network a CROSS JOIN network b CROSS JOIN network c)"


def grown(text, times):
    """SQL that doubles a text so often."""
    layers = f"SELECT '{text}' AS t0"
    for at in range(times):
        layers = f"SELECT t{at} || t{at} AS t{at + 1} FROM ({layers})"
    return f"SELECT t{times} AS t FROM ({layers})"


def statements():
    """Named statements, about 300."""
    yield "chain of +", "SELECT " + "+".join(["1"] * 100_000)
    yield "chain of ||", "SELECT " + "||".join(["'a'"] * 100_000)
    yield "chain of OR", "SELECT 1 WHERE " + " OR ".join(["1=2"] * 50_000)
    yield "chain of AND NOT", "SELECT 1 WHERE " + " AND NOT ".join(["true"] * 50_000)
    yield "chain of UNION", " UNION ALL ".join(["SELECT 1"] * 20_000)
    yield "chain of joins", "SELECT 1 FROM cpu " + " ".join(f"CROSS JOIN cpu a{n}" for n in range(10_000))
    yield "unary minus", "SELECT " + "- " * 100_000 + "1"
    yield "NOT", "SELECT " + "NOT " * 100_000 + "true"
    yield "casts", "SELECT 1" + "::bigint" * 20_000
    yield "fields", "SELECT a" + ".a" * 50_000
    yield "subscripts", "SELECT make_array(1)" + "[1]" * 20_000
    yield "100 MB literal", "SELECT '" + "x" * 100_000_000 + "'"
    yield "literal of the whole limit", "SELECT '" + "x" * 200_000 + "'"
    yield "empty", ""
    yield "blanks", " " * 200_000
    yield "comments", "/*" * 50_000
    yield "semicolons", ";" * 100_000
    yield "quotes", "'" * 99_999
    for kind, opening, closing in [("parentheses", "(", ")"), ("brackets", "[", "]"), ("CASE", "CASE WHEN true THEN ", " END")]:
        for depth in (40, 60, 1_000, 30_000):
            yield f"{depth} {kind}", "SELECT " + opening * depth + "1" + closing * depth
    for depth in (10, 30, 45, 49, 60, 1_000):
        yield f"{depth} inner queries", "SELECT * FROM (" * depth + "SELECT 1 AS a" + ")" * depth
        yield f"{depth} functions", "SELECT " + "abs(" * depth + "1" + ")" * depth
        yield f"{depth} EXISTS", "SELECT 1 WHERE " + "EXISTS (SELECT 1 WHERE " * depth + "true" + ")" * depth
        yield f"{depth} WITH", "WITH " + ", ".join(
            f"a{n} AS (SELECT * FROM {f'a{n - 1} x CROSS JOIN a{n - 1} y' if n else 'cpu'})" for n in range(depth)
        ) + f" SELECT count(*) FROM a{depth - 1}"
    for count in (1_000, 10_000, 30_000):
        numbers = ",".join(map(str, range(count)))
        yield f"IN of {count}", f"SELECT count(*) FROM network WHERE rx_bytes IN ({numbers})"
        yield f"NOT IN of {count}", f"SELECT count(*) FROM network WHERE rx_bytes NOT IN ({numbers})"
        yield f"VALUES of {count}", "VALUES " + ",".join(f"({n})" for n in range(count))
        yield f"array of {count}", f"SELECT make_array({numbers})"
        yield f"{count} columns", "SELECT " + ",".join(f"time AS c{n}" for n in range(count)) + " FROM cpu"
        yield f"{count} sums", "SELECT " + ",".join(f"sum(rx_bytes + {n})" for n in range(count)) + " FROM network"
    for tables in (2, 3, 4, 6, 10, 50, 100, 101):
        names = ", ".join(f"network a{n}" for n in range(tables))
        yield f"cross join of {tables}", f"SELECT count(*) FROM {names}"
        yield f"rows of a cross join of {tables}", f"SELECT a0.* FROM {names}"
        yield f"sorted cross join of {tables}", f"SELECT a0.time FROM {names} ORDER BY a1.rx_bytes * random()"
        yield f"groups of a cross join of {tables}", f"SELECT a0.time, a1.time, count(*) FROM {names} GROUP BY 1, 2"
        yield f"unequal join of {tables}", f"SELECT count(*) FROM {names} WHERE " + " AND ".join(
            f"a{n}.rx_bytes < a{n + 1}.rx_bytes + random()" for n in range(tables - 1))
    for times in (10, 20, 25, 30, 40):
        yield f"doubled {times} times", grown("x", times)
        yield f"length of one doubled {times} times", f"SELECT length(t) FROM ({grown('x', times)})"
        yield f"replace {times} times", "SELECT length(" + "replace(" * times + "'a'" + ", 'a', 'aaaa')" * times + ")"
        yield f"concat {times} times", f"SELECT length(concat({', '.join([f'({grown(chr(97), times)})'] * 8)}))"
    for size in (10_000_000, 1_000_000_000, 2_147_483_647, 9_000_000_000):
        yield f"repeat {size}", f"SELECT length(repeat('x', {size}))"
        yield f"lpad {size}", f"SELECT length(lpad('x', {size}, 'y'))"
        yield f"rpad {size}", f"SELECT rpad('x', {size}, 'yz')"
        yield f"repeated for each row {size}", f"SELECT count(DISTINCT repeat(interface, {size})) FROM network"
        yield f"range {size}", f"SELECT array_length(range(0, {size}))"
        yield f"series {size}", f"SELECT count(*) FROM (SELECT unnest(generate_series(1, {size})))"
        yield f"array_repeat {size}", f"SELECT array_length(array_repeat(1, {size}))"
        yield f"array_resize {size}", f"SELECT array_length(array_resize(make_array(1), {size}, 2))"
        yield f"space of {size}", f"SELECT length(translate(repeat('x', {size}), 'x', 'yy'))"
    for aggregate in ("string_agg(interface, 'xxxxxxxxxxxxxxxxxxxx')", "array_agg(interface)", "array_agg(time ORDER BY rx_bytes)",
                      "median(rx_bytes)", "percentile_cont(0.5) WITHIN GROUP (ORDER BY rx_bytes)", "count(DISTINCT time)",
                      "approx_distinct(time)", "array_agg(DISTINCT a.time)", "approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY rx_bytes)"):
        aggregate = aggregate.replace("interface", "a.interface").replace("rx_bytes", "a.rx_bytes").replace("(time", "(a.time")
        aggregate = aggregate.replace("DISTINCT time", "DISTINCT a.time")
        yield f"{aggregate} of a cross join", f"SELECT {aggregate} FROM network a CROSS JOIN network b"
    for step in ("n + 1", "n * 2", "n"):
        yield f"recursion {step}", f"WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT {step} FROM t) SELECT count(*) FROM t"
    yield "recursion that doubles", (
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT a.n + b.n FROM t a CROSS JOIN t b) SELECT count(*) FROM t")
    yield "recursion of texts", (
        "WITH RECURSIVE t AS (SELECT 'x' AS s UNION ALL SELECT s || s FROM t) SELECT max(length(s)) FROM t")
    yield "recursion over a table", (
        "WITH RECURSIVE t AS (SELECT rx_bytes AS n FROM network UNION ALL SELECT t.n + 1 FROM t CROSS JOIN cpu) SELECT sum(n) FROM t")
    for pattern in ("(a+)+$", "(a|a)*b", "(.*){200}", "(x{1000}){1000}", "a{1,1000}{1,1000}", "[" * 500, "(" * 500 + ")" * 500,
                    "\\\\w{500}" * 50):
        for function in ("regexp_like", "regexp_match", "regexp_replace", "regexp_count"):
            more = ", 'b'" if function == "regexp_replace" else ""
            yield f"{function} {pattern[:20]}", f"SELECT {function}('{'a' * 50_000}', '{pattern}'{more})"
        yield f"~ {pattern[:20]}", f"SELECT count(*) FROM network WHERE interface ~ '{pattern}'"
    yield "LIKE", f"SELECT '{'a' * 50_000}' LIKE '{'%a' * 10_000}b'"
    yield "levenshtein", f"SELECT levenshtein('{'a' * 100_000}', '{'b' * 100_000}')"
    yield "levenshtein of doubled", f"SELECT levenshtein(a.t, b.t || 'x') FROM ({grown('a', 18)}) a CROSS JOIN ({grown('b', 18)}) b"
    yield "levenshtein of rows", "SELECT sum(levenshtein(a.interface, b.interface)) FROM network a CROSS JOIN network b CROSS JOIN network c"
    yield "digests", f"SELECT count(sha512(arrow_cast(a.time, 'Utf8'))) FROM {LARGE} a"
    for frame in ("ROWS BETWEEN 18446744073709551615 PRECEDING AND 18446744073709551615 FOLLOWING",
                  "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING", "ROWS BETWEEN 4000000000 PRECEDING AND 4000000000 FOLLOWING",
                  "GROUPS BETWEEN 1000000 PRECEDING AND 1000000 FOLLOWING"):
        yield frame, f"SELECT max(s) FROM (SELECT array_agg(rx_bytes) OVER (ORDER BY time {frame}) AS s FROM network)"
        yield f"sum {frame}", f"SELECT sum(rx_bytes) OVER (ORDER BY rx_bytes {frame}) FROM network a CROSS JOIN (VALUES (1),(2),(3)) b"
    for sql in ("SELECT 1/0", "SELECT 9223372036854775807 + 1", "SELECT CAST('x' AS bigint)", "SELECT CAST(1e300 AS bigint)",
                "SELECT -9223372036854775808 / -1", "SELECT 1 % 0", "SELECT factorial(1000000)", "SELECT power(10, 400)",
                "SELECT to_timestamp(9223372036854775807)", "SELECT date_bin(interval '0 seconds', now())",
                "SELECT interval '99999999999 years'", "SELECT now() + interval '9999999 years'", "SELECT chr(1114112)",
                "SELECT make_date(999999, 1, 1)", "SELECT substr('abc', 9223372036854775807, 9223372036854775807)",
                "SELECT arrow_cast(1, 'Decimal256(76, 76)')", "SELECT encode(repeat('x', 1000000), 'hex')",
                "SELECT * FROM '/etc/passwd'", "SELECT * FROM read_csv('/etc/passwd')", "COPY cpu TO '/tmp/x'", "DROP TABLE cpu",
                "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "INSERT INTO cpu VALUES (1)", "SET x = 1",
                "SHOW FUNCTIONS LIKE 'x''; SELECT 1; --'", "SHOW \"datafusion.runtime.x'; SELECT 1; --\"",
                "EXPLAIN ANALYZE SELECT count(*) FROM network a, network b, network c", "EXPLAIN " * 1000 + "SELECT 1",
                "SELECT * FROM cpu TABLESAMPLE BERNOULLI (10)", "FROM cpu", "SELECT * FROM information_schema.columns, network a, network b",
                "SELECT unnest(range(0, 1000000)) FROM network", "SELECT arrow_typeof(make_array(make_array(make_array(1))))",
                "SELECT struct(" + ",".join(["time"] * 5_000) + ") FROM network", "SELECT * FROM network ORDER BY random(), random()",
                "SELECT DISTINCT time, rx_bytes, random() FROM network a CROSS JOIN cpu b"):
        yield sql[:60], sql
    chaos = random.Random(7)
    for number in range(40):
        depth, width = chaos.randint(2, 12), chaos.randint(2, 40)
        names = ", ".join(f"network t{n}" for n in range(chaos.randint(1, 4)))
        terms = " || ".join(f"arrow_cast(t0.rx_bytes + {chaos.randint(0, 9)}, 'Utf8')" for _ in range(width))
        sql = f"SELECT {terms} AS s, random() AS r FROM {names}"
        for _ in range(depth):
            sql = chaos.choice([
                f"SELECT s || s AS s, r FROM ({sql})", f"SELECT s, r + 1 AS r FROM ({sql}) ORDER BY r",
                f"SELECT max(s) AS s, r FROM ({sql}) GROUP BY r", f"SELECT DISTINCT s, r FROM ({sql})",
                f"SELECT s, sum(r) OVER (ORDER BY r) AS r FROM ({sql})"])
        yield f"random {number}", sql


class Watch:
    """The greatest resident memory of the recorder, and of all its processes together."""

    def __init__(self, recorder):
        self.recorder, self.recorder_most, self.all_most, self.stop = recorder, 0, 0, threading.Event()

    def workers(self):
        with contextlib.suppress(OSError):
            return [int(pid) for task in pathlib.Path(f"/proc/{self.recorder}/task").iterdir()
                    for pid in (task / "children").read_text().split()]
        return []

    def sample(self):
        own, more = rss(self.recorder), sum(rss(pid) for pid in self.workers())
        self.recorder_most, self.all_most = max(self.recorder_most, own), max(self.all_most, own + more)
        return own, more

    def __enter__(self):
        def watch():
            while not self.stop.wait(0.02):
                self.sample()
        self.thread = threading.Thread(target=watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def rss(pid):
    with contextlib.suppress(OSError, IndexError):
        return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def ask(daemon, sql):
    """Reads the result to its end. Returns what went wrong, in the server's words, and how long it took."""
    began = time.monotonic()
    said = None
    with flight.FlightClient(f"grpc://{daemon.address}") as client:
        try:
            command = statement(sql)
            info = client.get_flight_info(flight.FlightDescriptor.for_command(command))
            for _ in client.do_get(info.endpoints[0].ticket):
                pass
        except flight.FlightError as error:
            said = str(error)
        except OSError as error:
            said = str(error)
        except Exception as error:
            said = str(error)
    return said, time.monotonic() - began


def statement(sql):
    """A Flight SQL CommandStatementQuery in an Any."""
    def field(number, value):
        return bytes([number << 3 | 2]) + varint(len(value)) + value

    def varint(number):
        out = b""
        while number > 127:
            out, number = out + bytes([number & 127 | 128]), number >> 7
        return out + bytes([number])

    url = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    return field(1, url) + field(2, field(1, sql.encode()))


def judge(name, said, seconds, slack=TIME_SLACK_S):
    problems = []
    # A message above the server's own limit is refused by gRPC.
    if said is not None and not SAID.search(said) and "message length too large" not in said:
        problems.append(f"{name}: unclear error: {said[:300]}")
    # Planning for GetFlightInfo and running for DoGet each have the time limit.
    if seconds > 2 * TIME_MAX_S + slack:
        problems.append(f"{name}: took {seconds:.1f} s")
    return problems


def as_an_ordinary_user(folder):
    """The home of root, where the program may be, is closed to others."""
    program = folder / "kymo"
    shutil.copy(KYMO, program)
    for path in (folder, program):
        os.chown(path, NOBODY, NOBODY)
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return hostile(folder, SHARE, {"Landlock", "seccomp"}, prefix=user, program=str(program))


def without_landlock(folder):
    prefix = [sys.executable, str(pathlib.Path(__file__).with_name("without_landlock.py"))]
    return hostile(folder, SHARE, {"seccomp"}, prefix=prefix)


def hostile(folder, share=1, confined=frozenset({"Landlock", "seccomp"}), **start):
    """Statements one by one, then many at once."""
    with Daemon(folder / "data", CONFIG, **start) as daemon:
        time.sleep(5)
        in_force = json.loads(command("status", "--address", daemon.url, "--format", "json"))["query_workers"]["in_force"]
        told = {what for what in in_force.split(", ") if what.startswith(("Landlock", "seccomp"))}
        assert told == confined, in_force
        idle = Watch(daemon.process.pid)
        idle_recorder, idle_workers = idle.sample()
        problems, count, errors = [], 0, 0
        began = time.monotonic()
        limit = RECORDER_RSS_MAX + CONCURRENT_MAX * (MEMORY_MAX + WORKER_MORE)
        with Watch(daemon.process.pid) as watch:
            everything = list(statements())[::share]
            for name, sql in everything:
                said, seconds = ask(daemon, sql)
                count, errors = count + 1, errors + (said is not None)
                problems += judge(name, said, seconds)
            alone = time.monotonic() - began
            chosen = [one for one in everything if len(one[1]) < 100_000]
            with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                for (name, _), (said, seconds) in zip(chosen, pool.map(lambda one: ask(daemon, one[1]), chosen)):
                    # A statement may wait two seconds for a place.
                    problems += judge(f"{name} at once", said, seconds, slack=TIME_SLACK_S + 8)
        time.sleep(BACK_WITHIN_S)
        recorder, workers = idle.sample()
        if watch.recorder_most > RECORDER_RSS_MAX:
            problems.append(f"the recorder took {watch.recorder_most / 1e6:.0f} MB")
        if watch.all_most > limit:
            problems.append(f"all processes took {watch.all_most / 1e6:.0f} MB")
        # As many workers may be kept for a minute as statements may run.
        if recorder + workers > idle_recorder + CONCURRENT_MAX * idle_workers + 50_000_000:
            problems.append(f"{(recorder + workers) / 1e6:.0f} MB after the end, {(idle_recorder + idle_workers) / 1e6:.0f} before")
        missed = daemon.query("SELECT max(missed_ticks) AS missed, max(scheduled_ticks) AS due FROM collector WHERE collector = 'burst'")[0]
        status = daemon.query("SELECT query_faults AS f FROM kymo ORDER BY time DESC LIMIT 1")[0]["f"]
    figures = (f"{in_force}; {count} statements, {errors} errors, {alone:.0f} s alone; recorder {watch.recorder_most / 1e6:.0f} MB at most, all"
               f" {watch.all_most / 1e6:.0f} MB; after {(recorder) / 1e6:.0f} + {workers / 1e6:.0f} MB; {status} workers ended;"
               f" burst missed {missed['missed']} of {missed['due']}")
    if problems:
        raise AssertionError(f"{figures}\n" + "\n".join(problems[:40]))
    return figures


if __name__ == "__main__":
    checks = Checks()
    for check in [hostile, without_landlock, *([as_an_ordinary_user] if os.geteuid() == 0 else [])]:
        with tempfile.TemporaryDirectory(prefix="kymo-hostile-") as folder:
            # For the check as another user.
            os.chmod(folder, 0o755)
            checks.run(check, pathlib.Path(folder))
    checks.finish()
