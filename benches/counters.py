"""Memory and time of statements over counters: a hundred million rows of eight series.

    python3 benches/counters.py [--hours n] [--keep folder] [name=program …]

Needs numpy and pyarrow (and duckdb, which the recording's program imports), and a release build: target/release/kymo, or the one in KYMO_BIN. The
recording is the one of `against_duckdb.py`, with eight interfaces at 1 kHz. Peaks are those of the table `statement`, without what
a query process takes before its first statement. With files that overlap, as after a clock was set back, only what overlaps is kept.
"""

import argparse
import contextlib
import datetime
import pathlib
import shutil
import tempfile
import time

import against_duckdb
from harness import KYMO, Daemon, wait_for

MIB = 1 << 20
INTERFACES = tuple(f"eth{number}" for number in range(8))
STATEMENTS = {
    "no rows": "SELECT rate(rx_bytes, time) FROM network WHERE false",
    "rate": "SELECT interface, rate(rx_bytes, time) FROM network GROUP BY interface",
    "rate per minute": "SELECT interface, date_bin(interval '1 minute', time) AS minute, rate(rx_bytes, time) FROM network GROUP BY 1, 2",
    "rate and sums": "SELECT interface, rate(rx_bytes, time), increase(tx_bytes, time), sum(rx_packets) FROM network GROUP BY interface",
    "peak rate of a minute": "SELECT interface, peak_rate(rx_bytes, time, interval '10 ms') FROM network WHERE time < (SELECT min(time) FROM network) + interval '1 minute' GROUP BY interface",
}


def overlapping(data):
    """Adds a file with rows of an hour's file, 59 minutes earlier and between the rows of then: the clock was set back."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    last = sorted((data / "lake/network").rglob("*.parquet"))[-1]
    rows = pq.ParquetFile(last).read_row_group(0)
    moved = pc.subtract(rows["time"], pa.scalar(datetime.timedelta(minutes=59, microseconds=500)))
    rows = rows.set_column(0, rows.schema.field("time"), moved)
    start = moved[0].as_py()
    name = f"{start:%Y%m%dT%H%M%S.%fZ}_{1 << 40}-{(1 << 40) + rows.num_rows - 1}.parquet"
    pq.write_table(rows, last.with_name(name), store_schema=False, compression="zstd")


def measured(program, data):
    with Daemon(data, against_duckdb.CONFIG, program=program) as daemon:
        for name, sql in STATEMENTS.items():
            began = time.monotonic()
            try:
                count = len(daemon.query(sql))
            except AssertionError as error:
                print(f"{name:24} {str(error).splitlines()[0][-100:]}", flush=True)
                continue
            seconds = time.monotonic() - began
            found = f"SELECT peak_bytes FROM statement WHERE text = '{sql.replace(chr(39), chr(39) * 2)}' ORDER BY time DESC LIMIT 1"
            wait_for(lambda: daemon.query(found), 10, "a row of the statement")
            peak = daemon.value(found)
            print(f"{name:24} {count:6} rows {seconds:7.2f} s {peak / MIB:8.1f} MiB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=int, default=4)
    parser.add_argument("--keep", type=pathlib.Path)
    parser.add_argument("programs", nargs="*", metavar="name=program")
    arguments = parser.parse_args()
    against_duckdb.HOURS, against_duckdb.INTERFACES = arguments.hours, INTERFACES
    programs = dict(program.split("=", 1) for program in arguments.programs) or {"kymo": KYMO}
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = folder / "data"
        if not (data / "lake").exists():
            end = datetime.datetime.now(datetime.UTC).replace(minute=0, second=0, microsecond=0)
            print(f"{against_duckdb.record(data, end):,} rows", flush=True)
        for name, program in programs.items():
            print(name)
            measured(program, data)
        overlap = folder / "overlap"
        if not overlap.exists():
            shutil.copytree(data / "lake/network", overlap / "lake/network")
            overlapping(overlap)
        print("with files that overlap for a minute")
        measured(list(programs.values())[-1], overlap)


if __name__ == "__main__":
    main()
