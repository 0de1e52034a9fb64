"""Statements that are made to hurt, against a running daemon: none stops, slows or starves the recorder.

    python3 tests/clients/check_hostile.py [time_max [share]]      needs pyarrow; uses target/release/kymo, or KYMO_BIN

Each statement runs under the default memory limit and a time limit of five seconds, or of as many as are given. A valid one must
give a result, which is compared where it is known, or an error that names a limit; any other one an error that says what is wrong
with it. Meanwhile the memory of the recorder and of all its processes is watched. One statement in `share`, of all by default, also runs as an ordinary user,
if this is root, and as on a kernel without Landlock.
"""

import collections
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
from typing import NamedTuple

import pyarrow
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

# An error names a limit, or what is wrong with the statement.
LIMIT = re.compile(
    r"\(setting `query\.\w+`\)|operators; at most \d+ are allowed|nests? ((more than )?\d+ levels )?deep|tables, counting each use; at most \d+"
    r"|it is refused for \d+ s|message length too large: found \d+ bytes, the limit is")
FAULT = re.compile(r"unknown table `|is refused: |in the pattern of SHOW \w+ is refused|not valid( SQL)?: |the query failed: |the statement is empty")
# Answers to a statement: a valid one has a result or reaches a limit, and one that is beyond what a function or a regular
# expression takes may also be at fault. One that is wrong has no result, but may reach a limit before. An endless one has none.
VALID, BEYOND, WRONG, ENDLESS = {"result", "limit"}, {"result", "limit", "fault"}, {"limit", "fault"}, {"limit"}
COMPARED_MIN = 50
LARGE = "(SELECT a.time FROM network a CROSS JOIN network b CROSS JOIN network c)"


def grown(text, times):
    """SQL that doubles a text so often."""
    layers = f"SELECT '{text}' AS t0"
    for at in range(times):
        layers = f"SELECT t{at} || t{at} AS t{at + 1} FROM ({layers})"
    return f"SELECT t{times} AS t FROM ({layers})"


class Hostile(NamedTuple):
    """A statement, which answers it may have, and its right result: rows, or what holds for the table."""

    name: str
    sql: str
    answers: set = frozenset(VALID)
    right: object = None


def one(value):
    """The result with one row and one column."""
    return [(value,)]


def is_power(exponent):
    """One number that is a power of a whole number."""
    def holds(table):
        number = table.column(0)[0].as_py()
        base = round(number ** (1 / exponent))
        return table.num_rows == 1 and any(near**exponent == number for near in (base - 1, base, base + 1))
    return holds


def equal_columns(table):
    return all(column.equals(table.column(0)) for column in table.columns)


def equal_rows(table):
    return table.num_rows > 0 and len(table.column(0).unique()) == 1


def even_steps(table):
    """One row whose columns grow evenly, as sums of a + 0, a + 1, a + 2 do."""
    (row,) = table.to_pylist()
    sums = list(row.values())
    return {after - before for before, after in zip(sums, sums[1:])} == {sums[1] - sums[0]} and sums[1] > sums[0]


def interfaces():
    return [line.split(":")[0].strip() for line in pathlib.Path("/proc/net/dev").read_text().splitlines()[2:]]


def texts(table):
    return table.column(0).to_pylist()


def padded(size):
    """What rpad makes of x with yz."""
    return ("x" + "yz" * (size // 2))[:size]


def matches(pattern):
    """One count, which is 0 if the pattern finds none of the interfaces."""
    found = any(re.search(pattern, interface) for interface in interfaces())
    return lambda table: table.num_rows == 1 and (table.column(0)[0].as_py() > 0) == found


def statements():
    """Named statements, about 300."""
    yield Hostile("chain of +", "SELECT " + "+".join(["1"] * 100_000), VALID, one(100_000))
    yield Hostile("chain of ||", "SELECT " + "||".join(["'a'"] * 100_000), VALID, one("a" * 100_000))
    yield Hostile("chain of OR", "SELECT 1 WHERE " + " OR ".join(["1=2"] * 50_000), VALID, [])
    yield Hostile("chain of AND NOT", "SELECT 1 WHERE " + " AND NOT ".join(["true"] * 50_000), VALID, [])
    yield Hostile("chain of UNION", " UNION ALL ".join(["SELECT 1"] * 20_000), VALID, one(1) * 20_000)
    yield Hostile("chain of joins", "SELECT 1 FROM cpu " + " ".join(f"CROSS JOIN cpu a{n}" for n in range(10_000)))
    yield Hostile("unary minus", "SELECT " + "- " * 100_000 + "1", VALID, one(1))
    yield Hostile("NOT", "SELECT " + "NOT " * 100_000 + "true", VALID, one(True))
    yield Hostile("casts", "SELECT 1" + "::bigint" * 20_000, VALID, one(1))
    yield Hostile("fields", "SELECT a" + ".a" * 50_000, WRONG)
    yield Hostile("subscripts", "SELECT make_array(1)" + "[1]" * 20_000, WRONG)
    yield Hostile("100 MB literal", "SELECT '" + "x" * 100_000_000 + "'", VALID, one("x" * 100_000_000))
    yield Hostile("literal of the whole limit", "SELECT '" + "x" * 200_000 + "'", VALID, one("x" * 200_000))
    yield Hostile("empty", "", WRONG)
    yield Hostile("blanks", " " * 200_000, WRONG)
    yield Hostile("comments", "/*" * 50_000, WRONG)
    yield Hostile("semicolons", ";" * 100_000, WRONG)
    yield Hostile("quotes", "'" * 99_999, WRONG)
    for kind, opening, closing in [("parentheses", "(", ")"), ("brackets", "[", "]"), ("CASE", "CASE WHEN true THEN ", " END")]:
        for depth in (40, 60, 1_000, 30_000):
            nested = 1
            for _ in range(depth if kind == "brackets" else 0):
                nested = [nested]
            yield Hostile(f"{depth} {kind}", "SELECT " + opening * depth + "1" + closing * depth, VALID, one(nested))
    for depth in (10, 30, 45, 49, 60, 1_000):
        yield Hostile(f"{depth} inner queries", "SELECT * FROM (" * depth + "SELECT 1 AS a" + ")" * depth, VALID, one(1))
        yield Hostile(f"{depth} functions", "SELECT " + "abs(" * depth + "1" + ")" * depth, VALID, one(1))
        yield Hostile(f"{depth} EXISTS", "SELECT 1 WHERE " + "EXISTS (SELECT 1 WHERE " * depth + "true" + ")" * depth, VALID, one(1))
        yield Hostile(f"{depth} WITH", "WITH " + ", ".join(
            f"a{n} AS (SELECT * FROM {f'a{n - 1} x CROSS JOIN a{n - 1} y' if n else 'cpu'})" for n in range(depth)
        ) + f" SELECT count(*) FROM a{depth - 1}")
    for count in (1_000, 10_000, 30_000):
        numbers = ",".join(map(str, range(count)))
        yield Hostile(f"IN of {count}", f"SELECT count(*) FROM network WHERE rx_bytes IN ({numbers})")
        yield Hostile(f"NOT IN of {count}", f"SELECT count(*) FROM network WHERE rx_bytes NOT IN ({numbers})")
        yield Hostile(f"VALUES of {count}", "VALUES " + ",".join(f"({n})" for n in range(count)), VALID, [(n,) for n in range(count)])
        yield Hostile(f"array of {count}", f"SELECT make_array({numbers})", VALID, one(list(range(count))))
        yield Hostile(f"{count} columns", "SELECT " + ",".join(f"time AS c{n}" for n in range(count)) + " FROM cpu", VALID, equal_columns)
        yield Hostile(f"{count} sums", "SELECT " + ",".join(f"sum(rx_bytes + {n})" for n in range(count)) + " FROM network", VALID, even_steps)
    for tables in (2, 3, 4, 6, 10, 50, 100, 101):
        names = ", ".join(f"network a{n}" for n in range(tables))
        yield Hostile(f"cross join of {tables}", f"SELECT count(*) FROM {names}", VALID, is_power(tables))
        yield Hostile(f"rows of a cross join of {tables}", f"SELECT a0.* FROM {names}")
        yield Hostile(f"sorted cross join of {tables}", f"SELECT a0.time FROM {names} ORDER BY a1.rx_bytes * random()")
        yield Hostile(f"groups of a cross join of {tables}", f"SELECT a0.time, a1.time, count(*) FROM {names} GROUP BY 1, 2")
        yield Hostile(f"unequal join of {tables}", f"SELECT count(*) FROM {names} WHERE " + " AND ".join(
            f"a{n}.rx_bytes < a{n + 1}.rx_bytes + random()" for n in range(tables - 1)))
    for times in (10, 20, 25, 30, 40):
        yield Hostile(f"doubled {times} times", grown("x", times), VALID, lambda table, length=2**times: texts(table) == ["x" * length])
        yield Hostile(f"length of one doubled {times} times", f"SELECT length(t) FROM ({grown('x', times)})", VALID, one(2**times))
        yield Hostile(f"replace {times} times", "SELECT length(" + "replace(" * times + "'a'" + ", 'a', 'aaaa')" * times + ")", VALID, one(4**times))
        yield Hostile(f"concat {times} times", f"SELECT length(concat({', '.join([f'({grown(chr(97), times)})'] * 8)}))", VALID, one(8 * 2**times))
    for size in (10_000_000, 1_000_000_000, 2_147_483_647, 9_000_000_000):
        yield Hostile(f"repeat {size}", f"SELECT length(repeat('x', {size}))", BEYOND, one(size))
        yield Hostile(f"lpad {size}", f"SELECT length(lpad('x', {size}, 'y'))", BEYOND, one(size))
        yield Hostile(f"rpad {size}", f"SELECT rpad('x', {size}, 'yz')", BEYOND, lambda table, size=size: texts(table) == [padded(size)])
        yield Hostile(f"repeated for each row {size}", f"SELECT count(DISTINCT repeat(interface, {size})) FROM network", BEYOND, one(len(interfaces())))
        yield Hostile(f"range {size}", f"SELECT array_length(range(0, {size}))", VALID, one(size))
        yield Hostile(f"series {size}", f"SELECT count(*) FROM (SELECT unnest(generate_series(1, {size})))", VALID, one(size))
        yield Hostile(f"array_repeat {size}", f"SELECT array_length(array_repeat(1, {size}))", BEYOND, one(size))
        yield Hostile(f"array_resize {size}", f"SELECT array_length(array_resize(make_array(1), {size}, 2))", BEYOND, one(size))
        yield Hostile(f"space of {size}", f"SELECT length(translate(repeat('x', {size}), 'x', 'yy'))", BEYOND, one(size))
    for aggregate in ("string_agg(interface, 'xxxxxxxxxxxxxxxxxxxx')", "array_agg(interface)", "array_agg(time ORDER BY rx_bytes)",
                      "median(rx_bytes)", "percentile_cont(0.5) WITHIN GROUP (ORDER BY rx_bytes)", "count(DISTINCT time)",
                      "approx_distinct(time)", "array_agg(DISTINCT a.time)", "approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY rx_bytes)"):
        aggregate = aggregate.replace("interface", "a.interface").replace("rx_bytes", "a.rx_bytes").replace("(time", "(a.time")
        aggregate = aggregate.replace("DISTINCT time", "DISTINCT a.time")
        yield Hostile(f"{aggregate} of a cross join", f"SELECT {aggregate} FROM network a CROSS JOIN network b")
    for step in ("n + 1", "n * 2", "n"):
        yield Hostile(f"recursion {step}", f"WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT {step} FROM t) SELECT count(*) FROM t",
            WRONG if step == "n * 2" else ENDLESS)
    yield Hostile("recursion that doubles",
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT a.n + b.n FROM t a CROSS JOIN t b) SELECT count(*) FROM t", WRONG)
    yield Hostile("recursion of texts",
        "WITH RECURSIVE t AS (SELECT 'x' AS s UNION ALL SELECT s || s FROM t) SELECT max(length(s)) FROM t", ENDLESS)
    yield Hostile("recursion over a table",
        "WITH RECURSIVE t AS (SELECT rx_bytes AS n FROM network UNION ALL SELECT t.n + 1 FROM t CROSS JOIN cpu) SELECT sum(n) FROM t", ENDLESS)
    text = "a" * 50_000
    # A pattern, and what it finds first in the text, in all and in its groups; `None` if it finds nothing.
    for pattern, answers, found in (
            ("(a+)+$", VALID, (text, text)), ("(a|a)*b", VALID, None), ("(.*){200}", VALID, (text, "")),
            ("(x{1000}){1000}", BEYOND, None), ("a{1,1000}{1,1000}", BEYOND, (text, text)), ("[" * 500, WRONG, None),
            ("(" * 500 + ")" * 500, BEYOND, ("",) * 501), ("\\\\w{500}" * 50, VALID, None)):
        for function, more, right in (
                ("regexp_like", "", found is not None), ("regexp_match", "", found and list(found[1:])),
                ("regexp_replace", ", 'b'", text.replace(found[0], "b", 1) if found else text)):
            yield Hostile(f"{function} {pattern[:20]}", f"SELECT {function}('{text}', '{pattern}'{more})", answers, one(right))
        if found is None or found[0]:
            count = one(0 if found is None else 1)
            yield Hostile(f"regexp_count {pattern[:20]}", f"SELECT regexp_count('{text}', '{pattern}')", answers, count)
        right = matches(pattern) if answers is VALID else None
        yield Hostile(f"~ {pattern[:20]}", f"SELECT count(*) FROM network WHERE interface ~ '{pattern}'", answers, right)
    yield Hostile("LIKE", f"SELECT '{'a' * 50_000}' LIKE '{'%a' * 10_000}b'", VALID, one(False))
    yield Hostile("levenshtein", f"SELECT levenshtein('{'a' * 100_000}', '{'b' * 100_000}')", VALID, one(100_000))
    yield Hostile("levenshtein of doubled",
        f"SELECT levenshtein(a.t, b.t || 'x') FROM ({grown('a', 18)}) a CROSS JOIN ({grown('b', 18)}) b", VALID, one(2**18 + 1))
    yield Hostile("levenshtein of rows",
        "SELECT sum(levenshtein(a.interface, b.interface)) FROM network a CROSS JOIN network b CROSS JOIN network c")
    yield Hostile("texts of a large join", f"SELECT count(DISTINCT reverse(arrow_cast(a.time, 'Utf8'))) FROM {LARGE} a")
    for frame in ("ROWS BETWEEN 18446744073709551615 PRECEDING AND 18446744073709551615 FOLLOWING",
                  "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING", "ROWS BETWEEN 4000000000 PRECEDING AND 4000000000 FOLLOWING",
                  "GROUPS BETWEEN 1000000 PRECEDING AND 1000000 FOLLOWING"):
        # The last one is wider than the table, too, so all sums are the same.
        answers = WRONG if "18446744073709551615" in frame else VALID
        yield Hostile(frame, f"SELECT max(s) FROM (SELECT array_agg(rx_bytes) OVER (ORDER BY time {frame}) AS s FROM network)", answers)
        yield Hostile(f"sum {frame}",
            f"SELECT sum(rx_bytes) OVER (ORDER BY rx_bytes {frame}) FROM network a CROSS JOIN (VALUES (1),(2),(3)) b", answers, equal_rows)
    for sql in ("SELECT 9223372036854775807 + 1", "SELECT CAST('x' AS bigint)", "SELECT CAST(1e300 AS bigint)", "SELECT factorial(1000000)",
                "SELECT -9223372036854775808 / -1", "SELECT to_timestamp(9223372036854775807)", "SELECT date_bin(interval '0 seconds', now())",
                "SELECT interval '99999999999 years'", "SELECT now() + interval '9999999 years'", "SELECT chr(1114112)",
                "SELECT make_date(999999, 1, 1)", "SELECT arrow_cast(1, 'Decimal256(76, 76)')",
                "SELECT * FROM '/etc/passwd'", "SELECT * FROM read_csv('/etc/passwd')", "COPY cpu TO '/tmp/x'", "DROP TABLE cpu",
                "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "INSERT INTO cpu VALUES (1)", "SET x = 1",
                "SHOW \"datafusion.runtime.x'; SELECT 1; --\"",
                "EXPLAIN " * 1000 + "SELECT 1", "SELECT * FROM cpu TABLESAMPLE BERNOULLI (10)", "SELECT sha999(time) FROM cpu",
                "SELECT DISTINCT time, rx_bytes, random() FROM network a CROSS JOIN cpu b"):
        yield Hostile(sql[:60], sql, WRONG)
    for sql, right in (
            ("SHOW FUNCTIONS LIKE 'x''; SELECT 1; --'", lambda table: table.num_rows == 0),
            ("SELECT 1/0", one(None)), ("SELECT 1 % 0", one(None)), ("FROM cpu", None),
            ("SELECT power(10, 400)", one(float("inf"))), ("SELECT encode(repeat('x', 1000000), 'hex')", one("78" * 1_000_000)),
            ("SELECT substr('abc', 9223372036854775807, 9223372036854775807)", one("")),
            ("SELECT arrow_typeof(make_array(make_array(make_array(1))))", one("List(List(List(Int64)))")),
            ("EXPLAIN ANALYZE SELECT count(*) FROM network a, network b, network c", lambda table: table.column_names == ["plan_type", "plan"]),
            ("SELECT * FROM information_schema.columns, network a, network b", None), ("SELECT unnest(range(0, 1000000)) FROM network", None),
            ("SELECT struct(" + ",".join(["time"] * 5_000) + ") FROM network", None),
            ("SELECT * FROM network ORDER BY random(), random()", None)):
        yield Hostile(sql[:60], sql, VALID, right)
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
        yield Hostile(f"random {number}", sql)


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

    def own(self):
        """The resident memory of all processes that is their own: pages of the program are shared, and no memory that is kept."""
        return anonymous(self.recorder), sum(map(anonymous, self.workers()))

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


def anonymous(pid):
    """Resident memory that belongs to no file."""
    with contextlib.suppress(OSError, IndexError):
        _, resident, shared = map(int, pathlib.Path(f"/proc/{pid}/statm").read_text().split()[:3])
        return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
    return 0


def ask(daemon, sql, keep=False):
    """Reads the result to its end. Returns what went wrong, in the server's words, how long it took, and the table, to `keep`."""
    began = time.monotonic()
    said, batches = None, []
    with flight.FlightClient(f"grpc://{daemon.address}") as client:
        try:
            command = statement(sql)
            info = client.get_flight_info(flight.FlightDescriptor.for_command(command))
            reader = client.do_get(info.endpoints[0].ticket)
            for chunk in reader:
                if keep:
                    batches.append(chunk.data)
        except flight.FlightError as error:
            said = str(error)
        except OSError as error:
            said = str(error)
        except Exception as error:
            said = str(error)
    took = time.monotonic() - began
    return said, took, pyarrow.Table.from_batches(batches, reader.schema) if keep and said is None else None


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


def answer(said):
    """What kind of answer it is; `None` if it is an error that does not say what is wrong."""
    if said is None:
        return "result"
    return "limit" if LIMIT.search(said) else "fault" if FAULT.search(said) else None


def is_right(table, right):
    if callable(right):
        return right(table)
    if table.num_rows != len(right) or table.num_columns != 1:
        return False
    return table.column(0).to_pylist() == [value for (value,) in right]


def judge(hostile, said, seconds, table, slack=TIME_SLACK_S):
    """What is wrong with the answer to a statement."""
    problems, name = [], hostile.name
    if answer(said) is None:
        problems.append(f"{name}: unclear error: {said[:300]}")
    elif answer(said) not in hostile.answers:
        problems.append(f"{name}: {answer(said)} instead of {' or '.join(sorted(hostile.answers))}: {(said or '')[:300]}")
    elif table is not None and not is_right(table, hostile.right):
        problems.append(f"{name}: a wrong result of {table.num_rows} rows: {str(table.slice(0, 3).to_pylist())[:300]}")
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
        idle_recorder, idle_workers = idle.own()
        problems, kinds = [], collections.Counter()
        began = time.monotonic()
        limit = RECORDER_RSS_MAX + CONCURRENT_MAX * (MEMORY_MAX + WORKER_MORE)
        with Watch(daemon.process.pid) as watch:
            everything = list(statements())[::share]
            for hostile in everything:
                said, seconds, table = ask(daemon, hostile.sql, hostile.right is not None)
                kinds.update([answer(said), *(["compared"] if table is not None else [])])
                problems += judge(hostile, said, seconds, table)
            alone = time.monotonic() - began
            chosen = [hostile for hostile in everything if len(hostile.sql) < 100_000]
            with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                answers = pool.map(lambda hostile: ask(daemon, hostile.sql, hostile.right is not None), chosen)
                for hostile, (said, seconds, table) in zip(chosen, answers):
                    # A statement may wait two seconds for a place.
                    problems += [f"at once, {problem}" for problem in judge(hostile, said, seconds, table, slack=TIME_SLACK_S + 8)]
        if kinds["compared"] < COMPARED_MIN / share:
            problems.append(f"only {kinds['compared']} results were compared")
        time.sleep(BACK_WITHIN_S)
        recorder, workers = idle.own()
        if watch.recorder_most > RECORDER_RSS_MAX:
            problems.append(f"the recorder took {watch.recorder_most / 1e6:.0f} MB")
        if watch.all_most > limit:
            problems.append(f"all processes took {watch.all_most / 1e6:.0f} MB")
        # As many workers may be kept for a minute as statements may run.
        if recorder + workers > idle_recorder + CONCURRENT_MAX * idle_workers + 50_000_000:
            problems.append(f"{(recorder + workers) / 1e6:.0f} MB of own memory after the end, {(idle_recorder + idle_workers) / 1e6:.0f} before")
        missed = daemon.query("SELECT max(missed_ticks) AS missed, max(scheduled_ticks) AS due FROM collector WHERE collector = 'burst'")[0]
        status = daemon.query("SELECT query_faults AS f FROM kymo ORDER BY time DESC LIMIT 1")[0]["f"]
    told = f"{kinds['result']} results, {kinds['compared']} of them compared, {kinds['limit']} limits, {kinds['fault']} faults"
    figures = (f"{in_force}; {len(everything)} statements in {alone:.0f} s: {told}; recorder {watch.recorder_most / 1e6:.0f} MB at most, all"
               f" {watch.all_most / 1e6:.0f} MB; own memory {idle_recorder / 1e6:.0f} + {idle_workers / 1e6:.0f} MB before, {recorder / 1e6:.0f} + {workers / 1e6:.0f} MB after; {status} workers ended;"
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
