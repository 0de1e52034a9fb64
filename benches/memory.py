"""What queries that reach their memory limit leave behind: the daemon's resident memory before ten of them, and after.

    python3 benches/memory.py [seconds] [--waits 5 10 30]      default: records for 60 s; uses target/release/kymo, or KYMO_BIN

The daemon runs with its default configuration. Each query sorts, groups, joins or collects more than `query.memory_bytes_max`
allows, so each fails at that limit; a query that does not is an error. The daemon goes on recording meanwhile, so the memory
of new rows is shown beside the total.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "clients"))
from harness import KYMO, Daemon, clean_environment  # noqa: E402

# Many rows: each of `network` two thousand times.
MANY = "network AS a CROSS JOIN (SELECT arrow_cast(time, 'Int64') AS value FROM network LIMIT 2000) AS b"
QUERIES = [
    f"SELECT array_agg(a.rx_bytes + b.value) FROM {MANY}",
    f"SELECT array_agg(a.time) FROM {MANY}",
    f"SELECT string_agg(CAST(a.rx_bytes + b.value AS TEXT), ',') FROM {MANY}",
    f"SELECT count(*) FROM (SELECT a.time, b.value, count(*) FROM {MANY} GROUP BY a.time, b.value)",
    f"SELECT count(*) FROM (SELECT DISTINCT a.time, a.interface, b.value FROM {MANY})",
    f"SELECT count(DISTINCT arrow_cast(a.time, 'Int64') * 1000 + b.value) FROM {MANY}",
    f"SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY b.value, a.time) AS n FROM {MANY})",
    f"SELECT count(list) FROM (SELECT a.time, array_agg(b.value) AS list FROM {MANY} GROUP BY a.time)",
    f"SELECT count(*) FROM (SELECT a.time, b.value FROM {MANY}) AS x JOIN (SELECT a.time, b.value FROM {MANY}) AS y"
    " USING (time, value)",
    f"SELECT median(a.rx_bytes + b.value) FROM {MANY}",
]


def resident(daemon):
    """Resident memory and the memory of rows, in MB."""
    return daemon.rss_bytes() / 1e6, daemon.value("SELECT hot_bytes FROM kymo ORDER BY time DESC LIMIT 1") / 1e6


def failure(daemon, sql):
    """What the query failed with, and the most resident memory meanwhile in MB."""
    command = [KYMO, "query", sql, "--address", daemon.url]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               env=clean_environment())
    most = 0
    while process.poll() is None:
        most = max(most, daemon.rss_bytes() / 1e6)
        time.sleep(0.02)
    return process.stderr.read().strip(), most


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=float, default=60)
    parser.add_argument("--waits", nargs="*", type=float, default=[5, 10, 30], help="seconds after the last query")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kymo-memory-") as folder, Daemon(pathlib.Path(folder) / "data") as daemon:
        time.sleep(arguments.seconds)
        before, rows = resident(daemon)
        print(f"before: RSS {before:.0f} MB, of which rows {rows:.0f} MB", flush=True)
        for sql in QUERIES:
            error, most = failure(daemon, sql)
            if "memory" not in error:
                sys.exit(f"did not reach its memory limit: {sql}\n{error}")
            print(f"  up to {most:.0f} MB: {sql}", flush=True)
        ended = time.monotonic()
        for wait in arguments.waits:
            time.sleep(max(0.0, ended + wait - time.monotonic()))
            after, rows = resident(daemon)
            print(f"{wait:.0f} s after: RSS {after:.0f} MB ({after - before:+.0f}), of which rows {rows:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
