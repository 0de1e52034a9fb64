"""SQL as people write it: the statements of battery.tsv, run by kymo and by DuckDB over the same files of three minutes.

    python3 check_battery.py [--group GROUP[,GROUP…]] [--verbose]

A line of battery.tsv has five columns, separated by tabs; in them, \\n is a new line and \\\\ a backslash.

    group      what the statement is about
    taken      which of DuckDB (D) and PostgreSQL (P) takes the statement as it stands: D, P, DP or -
    expected   same     the values of DuckDB. `other` is the same statement in DuckDB's words, if they differ
               value    the rows in `other`, as JSON: for what depends on nothing, and only PostgreSQL takes
               like     rows that, written as JSON, match the regular expression in `other`
               refused  an error that says what to write instead: it matches the regular expression in `other`
    statement
    other

Rows are compared in their order if the statement orders them. Floats may differ by 1e-12 of their size, or by what follows
`same` as in same~1e-6, for what is an estimate, or is computed as a small difference of large numbers. Times are compared by
what a clock of their zone shows, whatever their unit. Numbers are compared by value, whatever their type. `now()` and the like are replaced by the end
of the recording, in both, for the comparison; as it stands, the statement has to run.

The check fails on a wrong value, on a statement that takes longer than the limit, on an error that hints at nothing or is a
bug's, on a statement whose rows are open, such as those of a LIMIT among equal ones, and if less than 85 % of what DuckDB or
PostgreSQL takes works.
"""

import argparse
import datetime
import decimal
import json
import math
import pathlib
import re
import sys
import time
from collections import Counter

import adbc_driver_flightsql.dbapi as flightsql
import duckdb
import pyarrow

import frozen
from harness import Daemon, command, folder

STATEMENTS = pathlib.Path(__file__).with_name("battery.tsv")
# No collector records a table of the recording. Rows of the tables that kymo writes by itself come to those of the recording.
CONFIG = """
[storage]
retention_days = 0
flush_interval = "1h"

[collector.idle]
interval = "1h"
metrics = ["softnet"]
"""
SECONDS_MAX = 5
WORKING_SHARE_MIN = 0.85
RELATIVE_DIFFERENCE = 1e-12
NOW = "TIMESTAMPTZ '2026-11-25 14:45:17.5Z'"
TODAY = "DATE '2026-11-25'"
MOMENT = re.compile(r"\bnow\(\)|\bcurrent_timestamp\b", re.IGNORECASE)
DAY = re.compile(r"\bcurrent_date\b|\btoday\(\)", re.IGNORECASE)
ORDERED = re.compile(r"\bORDER\s+BY\b(?!.*\))", re.IGNORECASE | re.DOTALL)
LIMITED = re.compile(r"\bLIMIT\s+(\d+)\s*;?\s*$", re.IGNORECASE)
# What the planner says, rather than kymo.
RAW = re.compile(
    r"Error during planning|Internal error|not implemented|type_coercion|Arrow error|ParserError|Optimizer rule|Physical plan"
    r"|caused by|Execution error|Schema error|panicked|bug in kymo|logical expression|\w+ \{ \w+: ")


class Statement:
    """A line of battery.tsv."""

    def __init__(self, line):
        fields = [unescaped(field) for field in line.rstrip("\n").split("\t")]
        self.group, self.taken, self.expected, self.sql, self.other = fields
        self.expected, _, tolerance = self.expected.partition("~")
        self.tolerance = float(tolerance or RELATIVE_DIFFERENCE)
        assert self.expected in ("same", "value", "like", "refused"), line


def unescaped(text):
    return re.sub(r"\\([n\\])", lambda match: "\n" if match[1] == "n" else "\\", text)


def statements(groups):
    with STATEMENTS.open(encoding="utf-8") as lines:
        every = [Statement(line) for line in lines if not line.startswith("#")]
    return [one for one in every if not groups or one.group in groups]


def fixed(sql):
    """The statement as if it ran at the end of the recording."""
    return DAY.sub(TODAY, MOMENT.sub(NOW, sql))


class Kymo:
    def __init__(self, address):
        self.connection = flightsql.connect(f"grpc://{address}")

    def rows(self, sql):
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetch_arrow_table()


class DuckDB:
    """DuckDB over the files of `data`, with the rows of each table in their order or in the opposite one."""

    def __init__(self, data, order="ASC"):
        self.connection = duckdb.connect()
        self.connection.execute(
            "SET TimeZone = 'UTC'; ATTACH ':memory:' AS kymo; CREATE SCHEMA kymo.public; USE kymo.public")
        for table in sorted((data / "lake").iterdir()):
            if table.name in frozen.LABELS:
                self.connection.execute(
                    f"CREATE TABLE {table.name} AS SELECT * EXCLUDE (host, date, place), host"
                    f" FROM (SELECT *, row_number() OVER () AS place"
                    f" FROM read_parquet('{table}/*/*/*.parquet', hive_partitioning = true)) ORDER BY place {order}")

    def rows(self, sql):
        result = self.connection.execute(sql)
        return result.to_arrow_table()


def plain(value):
    """A value of which equal ones are equal, whatever reader it comes from."""
    if isinstance(value, bool) or value is None or isinstance(value, str | bytes):
        return value
    if isinstance(value, datetime.datetime):
        # A time of another zone is compared by what its clock shows, as a time without zone is.
        aware = value.replace(tzinfo=datetime.UTC)
        nanoseconds = getattr(value, "nanosecond", 0)
        since = aware - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        return ("time", (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000 + nanoseconds)
    if isinstance(value, datetime.date):
        return ("time", (value - datetime.date(1970, 1, 1)).days * 86_400 * 10**9)
    if isinstance(value, datetime.time):
        return ("clock", ((value.hour * 60 + value.minute) * 60 + value.second) * 10**6 + value.microsecond)
    if isinstance(value, datetime.timedelta):
        return ("span", 0, (value.days * 86_400 + value.seconds) * 10**9 + value.microseconds * 1_000)
    if isinstance(value, pyarrow.MonthDayNano):
        return ("span", value.months, value.days * 86_400 * 10**9 + value.nanoseconds)
    if isinstance(value, dict):
        return ("struct", *(plain(item) for item in value.values()))
    if isinstance(value, list):
        return ("list", *(plain(item) for item in value))
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def plain_rows(table):
    columns = [[plain(value) for value in column.to_pylist()] for column in table.columns]
    return list(zip(*columns, strict=True)) if columns else [()] * table.num_rows


def sortable(value):
    """A key by which values of any types sort. Floats that differ by less than the tolerance nearly always sort alike."""
    if isinstance(value, tuple):
        return ("tuple", str([sortable(item) for item in value]))
    if isinstance(value, int) and not isinstance(value, bool):
        return ("integer", f"{value:+050d}")
    if isinstance(value, float | decimal.Decimal):
        return ("number", f"{float(value):+.9e}")
    return (type(value).__name__, str(value))


def equal(one, other, tolerance):
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(equal, one, other, [tolerance] * len(one)))
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    numbers = (int, float, decimal.Decimal)
    if isinstance(one, numbers) and isinstance(other, numbers):
        if isinstance(one, float) or isinstance(other, float) or tolerance > RELATIVE_DIFFERENCE:
            one, other = float(one), float(other)
            return math.isnan(one) and math.isnan(other) or math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance / 1e3)
        return one == other
    return type(one) is type(other) and one == other


def differ(found, wanted, ordered, tolerance):
    """The first difference between rows, or nothing."""
    if len(found) != len(wanted):
        return f"{len(found)} rows, not {len(wanted)}; {found[:1]}, {wanted[:1]}"
    if not ordered:
        found, wanted = (sorted(rows, key=lambda row: [sortable(value) for value in row]) for rows in (found, wanted))
    for number, (row, expected) in enumerate(zip(found, wanted, strict=True)):
        if not equal(row, expected, tolerance):
            return f"row {number}: {row}, not {expected}"
    return None


def strangers(found, wanted, count, tolerance):
    """Why rows are not `count` of those wanted, or nothing."""
    if len(found) != count:
        return f"{len(found)} rows, not {count}"
    for row in found:
        if not any(equal(row, other, tolerance) for other in wanted):
            return f"{row} is none of {len(wanted)} rows"
    return None


def from_json(value):
    """Values as JSON has them: a text that is a time is compared as one."""
    if isinstance(value, list):
        return ("list", *map(from_json, value))
    if isinstance(value, dict):
        return ("struct", *map(from_json, value.values()))
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d( |T|$)", value):
        return plain(datetime.datetime.fromisoformat(value))
    return plain(value)


def message(error):
    """kymo's text, without what the client writes around it."""
    text = re.sub(r"^[A-Z_]+: ", "", str(error))
    text = re.sub(r"^\[FlightSQL\] ", "", text)
    return re.sub(r" \([A-Z]\w+; \w+\).*$", "", text, flags=re.DOTALL)


def verdict(statement, kymo, other, backward=None):
    """What came of a statement: (verdict, details). `backward` is a DuckDB with the rows of each table in the opposite order."""
    began = time.monotonic()
    try:
        table = kymo.rows(statement.sql)
        if fixed(statement.sql) != statement.sql and statement.expected in ("same", "value"):
            table = kymo.rows(fixed(statement.sql))
        found = plain_rows(table)
    except Exception as error:
        text = message(error)
        if time.monotonic() - began > SECONDS_MAX:
            return "slow", f"{time.monotonic() - began:.1f} s; {text}"
        if RAW.search(text):
            return "no hint", text
        if statement.expected != "refused":
            return "refused", text
        return ("refused as expected", text) if re.search(statement.other, text) else ("other hint", text)
    seconds = time.monotonic() - began
    if seconds > SECONDS_MAX:
        return "slow", f"{seconds:.1f} s"
    if statement.expected == "refused":
        return "wrong", f"it should be refused, and gives {len(found)} rows: {found[:1]}"
    if statement.expected == "like":
        text = json.dumps([table.column_names, table.slice(0, 20).to_pylist()], default=str, ensure_ascii=False)
        return ("right", "") if re.search(statement.other, text, re.DOTALL) else ("wrong", text[:500])
    # Which rows come is open. They have to be some of all.
    limit = None if ORDERED.search(statement.sql) else LIMITED.search(statement.other or statement.sql)
    if statement.expected == "value":
        wanted = [tuple(map(from_json, row)) for row in json.loads(statement.other)]
    else:
        try:
            text = statement.other or statement.sql
            text = fixed(text[:limit.start()] if limit else text)
            wanted = plain_rows(other.rows(text))
            again = plain_rows(backward.rows(text)) if backward else wanted
        except Exception as error:
            return "no comparison", f"DuckDB: {error}; kymo: {found[:1]}"
        # It would pass or fail by chance.
        if difference := differ(again, wanted, bool(ORDERED.search(statement.sql)), max(statement.tolerance, 1e-9)):
            return "ambiguous", f"DuckDB's rows depend on the order of those that it reads: {difference}"
    if limit and statement.expected == "same":
        difference = strangers(found, wanted, min(int(limit[1]), len(wanted)), statement.tolerance)
    else:
        difference = differ(found, wanted, bool(ORDERED.search(statement.sql)), statement.tolerance)
    return ("wrong", difference) if difference else ("right", "")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--group", default="", help="only these groups, separated by commas")
    parser.add_argument("--verbose", action="store_true", help="list what was refused as expected, too")
    arguments = parser.parse_args()
    groups = set(filter(None, arguments.group.split(",")))
    began = time.monotonic()
    counts, works, taken = Counter(), 0, 0
    with folder() as above:
        data = above / "data"
        frozen.write(data, json.loads(command("tables", "--format", "json")))
        other, backward = DuckDB(data), DuckDB(data, "DESC")
        with Daemon(data, CONFIG) as daemon:
            kymo = Kymo(daemon.address)
            for statement in statements(groups):
                found, details = verdict(statement, kymo, other, backward)
                counts[found] += 1
                if statement.taken != "-":
                    taken += 1
                    works += found == "right"
                if found not in ("right", "refused as expected") or arguments.verbose and found != "right":
                    print(f"[{found}] ({statement.group}) {statement.sql}\n    {details}", flush=True)
    print(", ".join(f"{count} {name}" for name, count in counts.most_common()))
    share = works / max(taken, 1)
    print(f"{works} of {taken} that DuckDB or PostgreSQL takes work: {share:.1%} ({time.monotonic() - began:.0f} s)")
    failed = set(counts) - {"right", "refused as expected", "refused"}
    sys.exit(1 if failed or share < WORKING_SHARE_MIN else 0)


if __name__ == "__main__":
    main()
