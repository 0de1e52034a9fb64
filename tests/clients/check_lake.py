"""Other programs read the data folder of a running daemon: DuckDB, polars, pandas and chdb, and Spark where it is
asked for (its package has 400 MB, which is too much for each run of the gate). The snippets of data/README.md run as they stand there.

    python3 check_lake.py [--spark]
"""

import itertools
import re
import subprocess
import sys
import time

import adbc_driver_flightsql.dbapi as flightsql
import chdb
import duckdb
import pandas
import polars

from harness import KYMO, ROOT, Checks, Daemon, command, folder, rows, wait_for

# Compaction often, so that this check meets files before and after it.
CONFIG = """
[storage]
flush_interval = "2s"
compaction_interval = "1m"
"""
# Tables, each with a column to sum up. All are integers, so all readers must get exactly the same.
TABLES = {
    "network": "rx_bytes", "disk": "write_bytes", "cpu": "user_us", "memory": "free_bytes", "vm": "page_faults",
    "softirq": "softirqs", "host": "context_switches", "process": "rss_bytes", "collector": "ticks", "kymo": "rss_bytes"}


# Names that are escaped in a folder's name.
HOSTS = ["a b/#1", "b=2"]


def of_flight(daemon, table, column, until):
    sql = f"SELECT count(*), sum({column}) FROM {table} WHERE time <= to_timestamp_micros({until})"
    with flightsql.connect(f"grpc://{daemon.address}", autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return tuple(cursor.fetchone())


def of_duckdb(daemon, table, column, until):
    return duckdb.sql(
        f"SELECT count(*), sum({column})::BIGINT FROM read_parquet('{daemon.data}/lake/{table}/**/*.parquet')"
        f" WHERE time <= make_timestamptz({until})").fetchall()[0]


def of_polars(daemon, table, column, until):
    found = polars.scan_parquet(f"{daemon.data}/lake/{table}/**/*.parquet").filter(
        polars.col("time").dt.epoch("us") <= until)
    return found.select(polars.len().cast(polars.Int64), polars.col(column).sum()).collect().row(0)


def of_pandas(daemon, table, column, until):
    found = pandas.read_parquet(daemon.data / "lake" / table)
    found = found[found["time"] <= pandas.Timestamp(until, unit="us", tz="UTC")]
    return len(found), int(found[column].sum())


def of_chdb(daemon, table, column, until):
    answer = chdb.query(
        f"SELECT count(), sum({column}) FROM file('{daemon.data}/lake/{table}/**/*.parquet', Parquet)"
        f" WHERE time <= fromUnixTimestamp64Micro({until})", "CSV")
    return tuple(int(number) for number in str(answer).strip().split(","))


def of_spark(daemon, table, column, until):
    count, total = spark_sums(daemon, table, ["*", column], until)
    return count, total


def spark_sums(daemon, table, columns, until):
    """The sums of columns; of `*` the number of rows."""
    from pyspark.sql import SparkSession, functions

    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    found = spark.read.parquet(f"{daemon.data}/lake/{table}")
    # Spark finds host= and date= by itself.
    assert {"host", "date"} <= set(found.columns), found.columns
    found = found.where(functions.unix_micros("time") <= until)
    return tuple(found.agg(*(functions.count("*") if one == "*" else functions.sum(one) for one in columns)).first())


def listed(daemon, table="*"):
    return set((daemon.data / "lake").glob(f"{table}/**/*.parquet"))


def is_settled(files):
    """Whether no row is in two of the files. It is while compaction has not yet deleted what it merged."""
    ranges = {}
    for file in files:
        first, last = file.stem.split("_")[1].split("-")
        ranges.setdefault(file.parent, []).append((int(first), int(last)))
    return all(one[1] < next[0] for own in map(sorted, ranges.values()) for one, next in itertools.pairwise(own))


def between_compactions(daemon, table, read):
    """The result of `read` from a time when no compaction replaced files of the table. While it does, others miss files or
    see rows twice."""
    deadline = time.monotonic() + 180
    while True:
        before, found, error = listed(daemon, table), None, None
        if not is_settled(before) and time.monotonic() < deadline:
            time.sleep(0.2)
            continue
        try:
            found = read()
        except Exception as caught:
            error = caught
        after = listed(daemon, table)
        if before <= after and is_settled(before | after):
            if error:
                raise error
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"compaction of {table} does not end") from error


READERS = {"DuckDB": of_duckdb, "polars": of_polars, "pandas": of_pandas, "chdb": of_chdb}


def readers_agree(daemon):
    """The same counts and sums as Flight's, table by table, while the daemon records."""
    command("flush", "--address", daemon.url)
    total = 0
    for table, column in TABLES.items():
        until = daemon.value(f"SELECT arrow_cast(max(time), 'Int64') AS t FROM {table}") - 500_000
        command("flush", "--address", daemon.url)
        expected = of_flight(daemon, table, column, until)
        assert expected[0] > 0, (table, expected)
        for name, reader in READERS.items():
            found = between_compactions(daemon, table, lambda: tuple(reader(daemon, table, column, until)))
            assert found == expected, f"{name} of {table}: {found}, Flight: {expected}"
        total += expected[0]
    return f"{', '.join(READERS)}: {len(TABLES)} tables, {total} rows"


def tiers_agree(daemon):
    """The increases and ticks of a tier's buckets, as DuckDB, polars and Spark add them up, are those of the rows in kymo."""
    told = []
    for table, width in {"network_1s": 1_000_000, "network_1m": 60_000_000}.items():
        wait_for(lambda: command("flush", "--address", daemon.url) and listed(daemon, table), 130, f"a file of {table}")
        files = f"{daemon.data}/lake/{table}/**/*.parquet"

        def read():
            until = duckdb.sql(f"SELECT epoch_us(max(time)) FROM '{files}'").fetchall()[0][0]
            ours = duckdb.sql(f"SELECT sum(rx_bytes_increase)::BIGINT, sum(ticks)::BIGINT, {until} FROM '{files}'").fetchall()[0]
            theirs = polars.scan_parquet(files).filter(polars.col("time").dt.epoch("us") <= until)
            theirs = theirs.select(polars.col("rx_bytes_increase").sum(), polars.col("ticks").sum()).collect().row(0)
            assert theirs == ours[:2], (table, theirs, ours)
            if "Spark" in READERS:
                spark = spark_sums(daemon, table, ["rx_bytes_increase", "ticks"], until)
                assert spark == ours[:2], (table, spark, ours)
            return ours

        increase, ticks, until = between_compactions(daemon, table, read)
        rows_sql = ("SELECT sum(i), sum(n) FROM (SELECT increase(rx_bytes, time) AS i, count(*) AS n FROM network"
                    f" WHERE time < to_timestamp_micros({until + width}) GROUP BY interface)")
        tier_sql = ("SELECT sum(rx_bytes_increase), sum(ticks)"
                    f" FROM {table} WHERE time <= to_timestamp_micros({until})")
        with flightsql.connect(f"grpc://{daemon.address}", autocommit=True) as connection, connection.cursor() as cursor:
            for sql in (rows_sql, tier_sql):
                cursor.execute(sql)
                assert tuple(cursor.fetchone()) == (increase, ticks), (table, sql, increase, ticks)
        told.append(f"{table}: {ticks} ticks")
    return ", ".join(told)


def the_readme_holds(daemon):
    """Runs each snippet of data/README.md as it stands there, in the folder above the data folder."""
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```(sql|python|sh)\n(.*?)```", text, re.DOTALL)
    assert [language for language, _ in snippets] == ["sql", "sql", "python", "python", "python", "python", "sh"], snippets
    shown = []
    for language, code in snippets:
        if "pyspark" in code and of_spark not in READERS.values():
            continue
        above = daemon.data.parent
        run = {
            "sql": [sys.executable, "-c", f"import duckdb\nprint(duckdb.sql({code!r}))"],
            "python": [sys.executable, "-c", "\n".join(printing(code.splitlines()))],
            "sh": ["sh", "-ec", code.replace("kymo ", f"{KYMO} ")],
        }[language]
        done = between_compactions(daemon, "*", lambda: printed(run, above))
        shown.append(f"{language}: {len(done.stdout.splitlines())} lines")
    return ", ".join(shown)


def printed(run, folder):
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.strip(), (run, done.stdout, done.stderr)
    return done


def printing(lines):
    """Prints the value of the last line, which is an expression."""
    return [*lines[:-1], f"print({lines[-1]})"]


def files_become_one(daemon):
    """Counts rows by a query and from the files during compaction: no count goes down, and no row is there twice."""
    before, files = 0, set()
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        offline = daemon_less("SELECT count(*) AS n, count(DISTINCT time) AS t, count(DISTINCT interface) AS i FROM network", daemon)
        assert offline["n"] == offline["t"] * offline["i"], offline
        (online,) = daemon.query("SELECT count(*) AS n, count(DISTINCT time) AS t, count(DISTINCT interface) AS i FROM network")
        assert online["n"] == online["t"] * online["i"] >= before, (online, before)
        before = online["n"]
        now = listed(daemon, "network")
        if len(files - now) > 1 and len(now) < len(files):
            return f"{len(files - now)} files went, {len(now)} are there"
        files |= now
        time.sleep(0.2)
    raise AssertionError(f"nothing became one: {len(files)} files, log {''.join(daemon.log)[-2000:]}")


def daemon_less(sql, daemon):
    (row,) = rows(command("query", sql, "--data", str(daemon.data), "--format", "json"))
    return row


def hosts_are_the_same(path):
    """A folder of two hosts: for each of them, kymo and DuckDB, which takes the host from the folders' names, find the same
    hosts, counts, sums and growth."""
    data = path / "hosts"
    for host in HOSTS:
        with Daemon(data, CONFIG + f'host = "{host}"\n') as daemon:
            own = f"SELECT count(*) AS n FROM host WHERE host = '{host}'"
            wait_for(lambda: daemon.value(own) > 2, 20, f"three rows of host {host}")
            assert daemon.stop() == 0

    def offline(sql):
        return [tuple(row.values()) for row in rows(command("query", sql, "--data", str(data), "--format", "json"))]

    def files(table):
        return f"read_parquet('{data}/lake/{table}/**/*.parquet')"

    for table, column in TABLES.items():
        sql = "SELECT host, count(*) AS n, {} AS total FROM {} GROUP BY host ORDER BY host"
        ours = offline(sql.format(f"sum({column})", table))
        theirs = duckdb.sql(sql.format(f"sum({column})::BIGINT", files(table))).fetchall()
        assert ours == theirs and [row[0] for row in ours] == sorted(HOSTS), f"{table}: {ours}, DuckDB: {theirs}"
    of_each = "SELECT host, {} AS grown FROM {} GROUP BY host ORDER BY host"
    renamed = "(SELECT host, context_switches AS c, time FROM host)"
    ours = offline(of_each.format("increase(c, time)", renamed))
    theirs = duckdb.sql(of_each.format("max(context_switches) - min(context_switches)", files("host"))).fetchall()
    assert ours == theirs and all(grown > 0 for _, grown in ours), f"{ours}, DuckDB: {theirs}"
    # The counters of one host after those of another are no counter.
    without = "SELECT increase(c, time) AS grown FROM (SELECT context_switches AS c, time FROM host)"
    told = command("query", without, "--data", str(data), expect=1)
    assert "are not one counter" in told, told
    return f"{len(TABLES)} tables of {len(HOSTS)} hosts"


def it_verifies(daemon):
    """`kymo verify` finds nothing wrong, while the daemon runs and after it has stopped."""
    running = command("verify", str(daemon.data))
    assert daemon.stop() == 0
    stopped = command("verify", str(daemon.data))
    return stopped.strip().splitlines()[0] if running else ""


def files_name_their_interval(daemon):
    """The metadata of each file of a collector's table has the collector's interval, also that of the last flush."""
    files = daemon.data / "lake/network/**/*.parquet"
    (found,) = duckdb.sql(
        "SELECT count(DISTINCT file_name), count(*) FILTER (decode(key) = 'kymo.interval_us')"
        f" FROM parquet_kv_metadata('{files}')"
    ).fetchall()
    assert found[0] == found[1] > 0, found
    return f"{found[0]} files"


def main():
    if "--spark" in sys.argv:
        READERS["Spark"] = of_spark
    checks = Checks()
    with folder() as path, Daemon(path / "data", CONFIG) as daemon:
        time.sleep(5)
        checks.run(readers_agree, daemon)
        checks.run(files_become_one, daemon)
        checks.run(readers_agree, daemon)
        checks.run(tiers_agree, daemon)
        checks.run(the_readme_holds, daemon)
        checks.run(it_verifies, daemon)
        checks.run(files_name_their_interval, daemon)
        checks.run(hosts_are_the_same, path)
    checks.finish()


if __name__ == "__main__":
    main()
