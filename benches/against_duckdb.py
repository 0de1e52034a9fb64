"""SQL through Flight, compared with DuckDB on the same files, and with a pyarrow Flight server that has its rows in memory.

    python3 benches/against_duckdb.py [--only name,…] [--turns n] [--keep folder] [name=program …]

Needs numpy, pyarrow and duckdb, and a release build: target/release/kymo, or the one in KYMO_BIN; several programs take turns,
too. `--keep` keeps the recording for the next run.

The recording is made here, with the tables, columns, encodings, row groups and pages of kymo's own files: two hours of four
interfaces and two disks at 1 kHz, 43.2 million rows, as compaction leaves them. The counters grow as those of a host with some
busy and some idle devices. The daemon runs without fast collectors, so it has no CPU to keep for them. DuckDB runs in this
process with as many threads as there are CPUs, and gives its result as Arrow tables, as Flight does. kymo is asked over its
Unix socket, as a client on the same host may, and over TCP. All answer in turns, and times are medians. The first answers of each are compared with each other.
"""

import argparse
import contextlib
import datetime
import json
import math
import os
import pathlib
import statistics
import sys
import tempfile
import threading
import time

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "clients"))
from check_hostile import statement  # noqa: E402
from harness import KYMO, Daemon, command  # noqa: E402

HOURS = 2
TICKS_AN_HOUR = 3_600_000
ROW_GROUP_ROWS = 262_144
PAGE_ROWS = 16_384
INTERFACES = ("docker0", "eth0", "eth1", "lo")
DEVICES = (("nvme0n1", "disk", ""), ("nvme0n1p1", "partition", "nvme0n1"))
STREAM_ROWS = 20_000_000
STREAM_BATCH_ROWS = 16_384
# A daemon that records next to nothing: one table, once a second. DuckDB takes as much memory as it wants.
CONFIG = """
[query]
memory_bytes_max = "2GiB"
[collector.slow]
interval = "1s"
metrics = ["host"]
[storage]
retention_days = 365
[server]
socket = "{socket}"
"""
# gRPC in C++ would send the socket's path as the name of the host, which HTTP/2 servers in Rust refuse.
LOCAL = [("grpc.default_authority", "localhost")]
# What stands behind a program's name when it is asked over TCP.
TCP = ", TCP"

# --- the recording ---------------------------------------------------------------------------------------------------


def increments(random, ticks, busy):
    """What a counter gains at each tick: nothing at most ticks of an idle device, and bursts of about equal size else."""
    active = random.random(ticks) < busy
    return np.where(active, random.integers(1, 9, ticks), 0)


def columns_of(random, declared, series, ticks, totals):
    """The values of a table for so many ticks, with rows of all series in turns. `totals` has where the counters stand."""
    values = {}
    # Each series has one course of events, of which its columns count different things.
    events = [increments(random, ticks, busy) for busy in np.linspace(0.02, 0.6, len(series))]
    for position, column in enumerate(declared):
        factor = 1_500 if column.endswith("bytes") else 37 if column.endswith("us") else 1
        rows = np.empty((ticks, len(series)), dtype=np.int64)
        for at, gained in enumerate(events):
            rare = "error" in column or "dropped" in column or "merged" in column
            grown = np.cumsum(np.where(gained > 7, gained // 8, 0) if rare else gained * (factor + position))
            rows[:, at] = grown + totals[position, at]
            totals[position, at] += grown[-1]
        if column == "in_flight":
            rows = np.diff(rows, axis=0, prepend=rows[:1])
        values[column] = rows.reshape(-1)
    return values


def record(data, end):
    """Two hours of rows that end at `end`, as the files of a lake. Returns the number of rows."""
    random = np.random.default_rng(1)
    tables = {table["name"]: table for table in json.loads(command("tables", "--format", "json"))}
    rows = 0
    for name, labels, series in (("network", ("interface",), [(one,) for one in INTERFACES]), ("disk", ("device", "kind", "parent"), DEVICES)):
        declared = [column["name"] for column in tables[name]["columns"]]
        numbers = [column for column in declared if column not in ("time", "host", *labels)]
        totals = np.zeros((len(numbers), len(series)), dtype=np.int64)
        first = 0
        for hour in range(HOURS):
            start = end - datetime.timedelta(hours=HOURS - hour)
            count = TICKS_AN_HOUR * len(series)
            path = data / "lake" / name / "host=bench" / f"date={start:%Y-%m-%d}" / f"{start:%Y%m%dT%H%M%S.%fZ}_{first}-{first + count - 1}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            first += count
            # Wakeups are some microseconds late.
            times = int(start.timestamp() * 1e6) + 1_000 * np.arange(TICKS_AN_HOUR) + random.integers(40, 90, TICKS_AN_HOUR)
            made = {"time": pa.array(np.repeat(times, len(series)), pa.timestamp("us", "UTC"))}
            for at, label in enumerate(labels):
                keys = np.tile(np.arange(len(series), dtype=np.int32), TICKS_AN_HOUR)
                made[label] = pa.DictionaryArray.from_arrays(keys, [one[at] for one in series]).cast(pa.string())
            made |= {column: pa.array(values) for column, values in columns_of(random, numbers, series, TICKS_AN_HOUR, totals).items()}
            # Times and labels are never absent.
            fields = [pa.field(column, made[column].type, nullable=column in numbers) for column in declared if column != "host"]
            table = pa.table([made[field.name] for field in fields], pa.schema(fields))
            pq.write_table(
                table,
                path,
                row_group_size=ROW_GROUP_ROWS,
                max_rows_per_page=PAGE_ROWS,
                compression="zstd",
                compression_level=3,
                use_dictionary=list(labels),
                column_encoding={"time": "DELTA_BINARY_PACKED"} | dict.fromkeys(numbers, "PLAIN"),
                write_page_index=True,
                store_schema=False,
                sorting_columns=[pq.SortingColumn(0)],
            )
            rows += count
    return rows


# --- the statements --------------------------------------------------------------------------------------------------


def statements(end):
    """Name: kymo's statement, DuckDB's, and how often each runs."""
    at = lambda **before: f"TIMESTAMPTZ '{end - datetime.timedelta(**before):%Y-%m-%d %H:%M:%S}+00'"
    kymo_at = lambda **before: f"'{end - datetime.timedelta(**before):%Y-%m-%dT%H:%M:%SZ}'"
    both = lambda sql: (sql, sql)
    within = lambda form: f"time >= {form(minutes=50)} AND time < {form(minutes=45)}"
    hour = lambda form: f"time >= {form(hours=1)}"
    steps = """
        SELECT time, interface, rx_bytes, lag(rx_bytes) OVER (PARTITION BY interface ORDER BY time) AS before FROM network
        """
    # What rate() does, in other words. A bucket has the step into it, and the time of that step.
    def rate(where="", bucket=None):
        passed = "epoch_us(max(time)) - epoch_us(min(time))"
        rows = f"{steps} {where}"
        if bucket:
            passed = "sum(epoch_us(time) - epoch_us(time_before))"
            rows = rows.replace(" AS before", " AS before, lag(time) OVER (PARTITION BY interface ORDER BY time) AS time_before")
        rows = f"SELECT *, CASE WHEN before IS NULL THEN 0 WHEN rx_bytes >= before THEN rx_bytes - before ELSE rx_bytes END AS step FROM ({rows})"
        group = f", {bucket}" if bucket else ""
        return f"SELECT interface{group}, sum(step) / ({passed}) * 1e6 FROM ({rows}) GROUP BY interface{group}"

    def bins(form, width):
        rows = lambda table, column: (
            f"SELECT {width} AS bin, max({column}) AS most FROM {table} WHERE {hour(form)} GROUP BY 1"
        )
        return f"""
            SELECT count(*), sum(n.most - d.most) FROM ({rows('network', 'rx_bytes')}) n
            JOIN ({rows('disk', 'write_bytes')}) d ON n.bin = d.bin"""

    kymo_bin = lambda width: f"date_bin(interval '{width}', time)"
    duck_bin = lambda width: f"time_bucket(interval '{width}', time)"
    grouped = "SELECT interface, count(*), avg(rx_bytes), max(tx_bytes) FROM network GROUP BY interface"
    sums = "SELECT sum(rx_bytes), sum(tx_bytes), sum(rx_packets), sum(tx_packets) FROM network"
    minutes = lambda width: f"SELECT {width} AS minute, min(rx_packets), max(rx_packets) FROM network WHERE interface = 'eth1' GROUP BY 1"
    devices = """
        SELECT device, kind, parent, max(write_bytes) - min(write_bytes) AS written FROM disk
        GROUP BY device, kind, parent ORDER BY written DESC LIMIT 5"""
    step = lambda form: f"""
        SELECT interface, max(step) FROM (SELECT interface, rx_bytes - lag(rx_bytes) OVER (PARTITION BY interface ORDER BY time) AS step
        FROM network WHERE {hour(form)}) GROUP BY interface"""
    newest = "SELECT * FROM network ORDER BY time DESC LIMIT 1000"
    columns = "time, interface, rx_bytes, tx_bytes, rx_packets, tx_packets, rx_errors, tx_errors, rx_dropped, tx_dropped, host"
    some = lambda form, seconds: f"SELECT {columns} FROM network WHERE time >= {form(hours=1)} AND time < {form(seconds=3_600 - seconds)}"
    return {
        "count": (*both("SELECT count(*) FROM network"), 21),
        "sums over all": (*both(sums), 7),
        "group by a label": (*both(grouped), 7),
        "rate over all": ("SELECT interface, rate(rx_bytes, time) FROM network GROUP BY interface", rate(), 3),
        "rate over 5 minutes": (
            f"SELECT interface, rate(rx_bytes, time) FROM network WHERE {within(kymo_at)} GROUP BY interface",
            rate(f"WHERE {within(at)}"),
            15,
        ),
        "rate per second": (
            f"SELECT interface, {kymo_bin('1 second')} AS second, rate(rx_bytes, time) FROM network WHERE {hour(kymo_at)} GROUP BY 1, 2",
            rate(f"WHERE {hour(at)}", duck_bin("1 second")),
            3,
        ),
        "min and max per minute": (minutes(kymo_bin("1 minute")), minutes(duck_bin("1 minute")), 7),
        "p99": (
            "SELECT approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY rx_bytes) FROM network",
            "SELECT approx_quantile(rx_bytes, 0.99) FROM network",
            5,
        ),
        "top devices": (*both(devices), 7),
        "join per 10 ms": (bins(kymo_at, kymo_bin("10 milliseconds")), bins(at, duck_bin("10 milliseconds")), 5),
        "greatest step": (step(kymo_at), step(at), 5),
        "newest rows": (newest, newest.replace("*", columns), 15),
        "SELECT * of 0.2 M": (some(kymo_at, 50), some(at, 50), 15),
        "SELECT * of 3 M": (some(kymo_at, 750), some(at, 750), 5),
    }


# --- the measurements ------------------------------------------------------------------------------------------------


def read(client, sql):
    """The batches of a statement, as its client gets them."""
    info = client.get_flight_info(flight.FlightDescriptor.for_command(statement(sql)))
    return [chunk.data for chunk in client.do_get(info.endpoints[0].ticket)]


def took(work):
    began = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - began)


def same(ours, theirs, name):
    """Both have the same rows, and, where there are few of them, the same values."""
    assert ours.num_rows == theirs.num_rows, f"{name}: {ours.num_rows} rows, not {theirs.num_rows}"
    if ours.num_rows > 100_000 or name == "newest rows":
        return
    plain = lambda value: round(1e6 * value.timestamp()) if isinstance(value, datetime.datetime) else value
    key = lambda row: [str(value) for value in row if not isinstance(value, float)]
    rows = lambda table: sorted(([plain(value) for value in row.values()] for row in table.rename_columns([str(at) for at in range(table.num_columns)]).to_pylist()), key=key)
    tolerance = 0.01 if name == "p99" else 1e-9
    for one, other in zip(rows(ours), rows(theirs)):
        for a, b in zip(one, other):
            close = a == b if isinstance(a, str) or a is None or b is None else math.isclose(a, b, rel_tol=tolerance)
            assert close, f"{name}: {one}, not {other}"


def compare(programs, data, end, only, turns):
    """Prints a line for each statement, and the geometric means."""
    duck = duckdb.connect()
    duck.execute(f"SET threads = {os.cpu_count()}; SET TimeZone = 'UTC'")
    for table in ("network", "disk"):
        duck.execute(f"CREATE VIEW {table} AS SELECT * EXCLUDE (date) FROM read_parquet('{data}/lake/{table}/**/*.parquet', hive_partitioning = true)")
    ratios = {name: [] for name in programs}
    print(f"{'ms':24}{'DuckDB':>10}" + "".join(f"{name:>18}" for name in programs))
    for what, (ours, theirs, count) in statements(end).items():
        if only and what not in only:
            continue
        fetch = lambda: duck.sql(theirs).to_arrow_table()
        for name, client in programs.items():
            same(pa.Table.from_batches(read(client, ours)), fetch(), what)
        times = {name: [] for name in ("DuckDB", *programs)}
        for _ in range(min(count, turns or count)):
            times["DuckDB"].append(took(fetch))
            for name, client in programs.items():
                times[name].append(took(lambda: read(client, ours)))
        medians = {name: statistics.median(some) for name, some in times.items()}
        for name in programs:
            ratios[name].append(medians[name] / medians["DuckDB"])
        cells = [f"{medians[name]:10.1f} {ratios[name][-1]:7.2f}" for name in programs]
        print(f"{what:24}{medians['DuckDB']:10.1f}" + "".join(cells), flush=True)
    for name, all_of_it in ratios.items():
        if all_of_it:
            print(f"{name}: geometric mean {statistics.geometric_mean(all_of_it):.2f}, highest {max(all_of_it):.2f}", flush=True)


class InMemory(flight.FlightServerBase):
    """A Flight server that streams a table from memory."""

    def __init__(self, table, location):
        super().__init__(location)
        self.table = table

    def do_get(self, _context, _ticket):
        return flight.RecordBatchStream(self.table)


def drain(reader):
    return sum(chunk.data.num_rows for chunk in reader)


def stream(programs, turns, folder):
    """Prints how many rows a second come from kymo, and from a server that has the same table in memory."""
    sql = f"SELECT * FROM network LIMIT {STREAM_ROWS}"
    client = next(iter(programs.values()))
    table = pa.Table.from_batches(read(client, sql)).combine_chunks()
    table = pa.Table.from_batches(table.to_batches(max_chunksize=STREAM_BATCH_ROWS))
    # Each way is compared with pyarrow's server over the same way.
    for way, location in (("", f"grpc+unix://{folder}/memory.sock"), (TCP, "grpc://127.0.0.1:0")):
        asked = {name: client for name, client in programs.items() if name.endswith(TCP) == bool(way)}
        rates = {name: [] for name in ("pyarrow" + way, *asked)}
        with InMemory(table, location) as server:
            threading.Thread(target=server.serve, daemon=True).start()
            with flight.FlightClient(f"grpc://127.0.0.1:{server.port}" if way else location) as memory:
                for _ in range(turns or 5):
                    began = time.perf_counter()
                    rows = drain(memory.do_get(flight.Ticket(b"")))
                    rates["pyarrow" + way].append(rows / (time.perf_counter() - began))
                    for name, client in asked.items():
                        began = time.perf_counter()
                        info = client.get_flight_info(flight.FlightDescriptor.for_command(statement(sql)))
                        rows = drain(client.do_get(info.endpoints[0].ticket))
                        assert rows == STREAM_ROWS, f"{rows} rows"
                        rates[name].append(rows / (time.perf_counter() - began))
            server.shutdown()
        medians = {name: statistics.median(some) for name, some in rates.items()}
        cells = [f"{name} {rate / 1e6:.2f} ({rate / medians['pyarrow' + way]:.2f})" for name, rate in medians.items()]
        print(f"{STREAM_ROWS / 1e6:.0f} M rows, M rows/s: {'   '.join(cells)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*", metavar="name=program")
    parser.add_argument("--only", help="statements, with commas between; `stream` is the comparison with pyarrow")
    parser.add_argument("--turns", type=int, help="at most so many turns of each statement")
    parser.add_argument("--keep", type=pathlib.Path, help="the folder of the recording, made if it is not there")
    arguments = parser.parse_args()
    names = dict(program.split("=", 1) for program in arguments.programs) or {"kymo": KYMO}
    only = [one.strip() for one in arguments.only.split(",")] if arguments.only else []
    with contextlib.ExitStack() as stack:
        data = arguments.keep or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kymo-bench-")))
        whole_hour = datetime.datetime.now(datetime.timezone.utc).replace(minute=0, second=0, microsecond=0)
        made = data / "end"
        if not made.exists():
            data.mkdir(parents=True, exist_ok=True)
            rows = record(data / "recording", whole_hour)
            made.write_text(json.dumps([whole_hour.isoformat(), rows]))
        end, rows = json.loads(made.read_text())
        end, recording = datetime.datetime.fromisoformat(end), data / "recording"
        print(f"{rows / 1e6:.1f} M rows, {os.cpu_count()} CPUs, DuckDB {duckdb.__version__}", flush=True)
        programs = {}
        # A socket's path is short.
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kymo-sockets-")))
        for name, program in names.items():
            # Each daemon has a folder of its own, with the same files.
            own = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kymo-bench-", dir=data)))
            for file in recording.rglob("*.parquet"):
                link = own / "data" / file.relative_to(recording)
                link.parent.mkdir(parents=True, exist_ok=True)
                os.link(file, link)
            socket = folder / f"{name}.sock"
            daemon = stack.enter_context(Daemon(own / "data", CONFIG.format(socket=socket), program=program))
            client = flight.FlightClient(f"grpc+unix://{socket}", generic_options=LOCAL)
            programs[name] = stack.enter_context(client)
            programs[name + TCP] = stack.enter_context(flight.FlightClient(f"grpc://{daemon.address}"))
        if not only or only != ["stream"]:
            compare(programs, recording, end, only, arguments.turns)
        if not only or "stream" in only:
            stream(programs, arguments.turns, folder)


if __name__ == "__main__":
    main()
