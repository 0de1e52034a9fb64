"""How long `downsample` takes through Flight SQL over 30 days of one interface at 1 kHz, in 1,000 buckets, how long `/api/v1/range` takes
for the columns that the page draws, and whether a burst of one millisecond is the greatest rate of every window that contains it.

    python3 benches/range.py        uses target/release/kymo, or KYMO_BIN; needs pyarrow, numpy and ADBC's driver for Flight SQL

The lake is what retention leaves, written by this script: rows of the last hour, seconds and minutes of 30 days. Those of the last hour are
made of its rows, older ones are drawn. Files are of an hour, and of a day, as after compaction. All columns of the page are the same, and
others are null, and are not read.
"""

import json
import pathlib
import statistics
import sys
import time
import urllib.request

import adbc_driver_flightsql.dbapi as flightsql
import numpy
import own_file
import pyarrow

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "clients"))
from harness import Daemon, folder  # noqa: E402

HTTP_PORT = "HTTP on http://"
# Those that the page draws of an interface.
COLUMNS = ["rx_bytes", "tx_bytes", "rx_packets", "tx_packets", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped"]
CONFIG = '[http]\naddress = "127.0.0.1:0"\n\n[collector.slow]\ninterval = "1s"\nmetrics = ["host"]\n'
SECOND = 1_000_000
HOUR, DAY = 3600 * SECOND, 86_400 * SECOND
DAYS = 30
BUCKETS = 1000
REPEATS = 15
MS_MAX = 100
BURST_BYTES = 12_345_678
WINDOWS = {"30 d": DAYS * DAY, "1 d": DAY, "1 h": HOUR, "1 s": SECOND, "10 ms": 10_000}
TYPES = {"timestamp": pyarrow.timestamp("us", "UTC"), "text": pyarrow.string(), "int64": pyarrow.int64(), "float64": pyarrow.float64()}


def write(lake, table, width, columns, next_seq=1):
    """Files of a table, each of so many µs."""
    of = columns["time"] // width
    for at in numpy.unique(of):
        chosen = of == at
        count = int(chosen.sum())
        arrays, fields = [], []
        for column in table["columns"]:
            name, ty = column["name"], TYPES[column["type"].lower()]
            if name == "host":
                continue
            if name == "interface":
                array = pyarrow.array(["eth0"] * count, ty)
            elif (first := like_first(name)) in columns:
                array = pyarrow.array(columns[first][chosen], pyarrow.int64() if name == "time" else ty).cast(ty)
            else:
                array = pyarrow.nulls(count, ty)
            arrays.append(array)
            fields.append(pyarrow.field(name, ty))
        place = lake / table["name"] / "host=bench"
        next_seq = own_file.write(place, int(columns["time"][chosen][0]), next_seq, arrays, fields)


def like_first(name):
    """The column of the first of COLUMNS that has the values of this one."""
    column = next((column for column in COLUMNS if name == column or name.startswith(f"{column}_")), None)
    return name if column is None else COLUMNS[0] + name.removeprefix(column)


def buckets(times, values, width):
    """A tier of the rows, which all have a row before them but the first."""
    steps = numpy.diff(values, prepend=values[:1])
    rates = steps / (numpy.diff(times, prepend=times[0] - 1000) / 1e6)
    starts = times // width
    firsts = numpy.flatnonzero(numpy.diff(starts, prepend=-1))
    lasts = numpy.append(firsts[1:], len(times)) - 1
    return {
        "time": starts[firsts] * width,
        "rx_bytes_first": values[firsts],
        "rx_bytes_last": values[lasts],
        "rx_bytes_increase": numpy.add.reduceat(steps, firsts),
        "rx_bytes_min_rate": numpy.minimum.reduceat(rates, firsts),
        "rx_bytes_max_rate": numpy.maximum.reduceat(rates, firsts),
        "ticks": lasts - firsts + 1,
        "elapsed_us": numpy.diff(times[lasts], prepend=times[0]),
    }


def drawn(random, begin, end, width):
    """A tier of rows that have expired."""
    times = numpy.arange(begin, end, width)
    increase = random.integers(900_000, 1_100_000, len(times)) * (width // SECOND)
    last = numpy.cumsum(increase)
    return {
        "time": times,
        "rx_bytes_first": last - increase,
        "rx_bytes_last": last,
        "rx_bytes_increase": increase,
        "rx_bytes_min_rate": random.uniform(0, 1e5, len(times)),
        "rx_bytes_max_rate": random.uniform(1e6, 2e6, len(times)),
        "ticks": numpy.full(len(times), width // 1000),
        "elapsed_us": numpy.full(len(times), width),
    }


def make(lake):
    """The end of the lake, when the burst is, and its rate."""
    random = numpy.random.default_rng(7)
    end = (int(time.time()) // 60 - 2) * 60 * SECOND
    begin = end - HOUR
    times = numpy.arange(begin, end, 1000)
    steps = random.integers(0, 2000, len(times))
    at = len(times) // 2 + 321
    steps[at] = BURST_BYTES
    values = (1 << 40) + numpy.cumsum(steps)
    network = next(table for table in Daemon.declared() if table["name"] == "network")
    write(lake, network, HOUR, {"time": times, "rx_bytes": values})
    for tier, width in zip(network["tiers"], [SECOND, 60 * SECOND], strict=True):
        old, new = drawn(random, end - DAYS * DAY, begin, width), buckets(times, values, width)
        write(lake, tier, DAY, {name: numpy.concatenate([old[name], new[name]]) for name in old})
    return end, int(times[at]), float(BURST_BYTES) / (1000.0 / 1e6)


def measured(ask):
    """The last result, and the ms that each took."""
    took = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        result = ask()
        took.append((time.perf_counter() - begun) * 1000)
    return result, took


def report(what, took, rows, tiers, greatest, rate):
    """Whether it is as it has to be."""
    ms = statistics.median(took)
    is_good = greatest == rate and ms <= MS_MAX
    print(
        f"range: {what}: median {ms:.1f} ms, at most {max(took):.1f}, {rows} rows of {', '.join(tiers)}; burst "
        f"{'is the max' if greatest == rate else f'is not the max: {greatest} instead of {rate}'}{'' if is_good else '  FAILED'}",
        flush=True,
    )
    return is_good


def main():
    is_good = True
    with folder() as data:
        end, at, rate = make(data / "data" / "lake")
        size = sum(file.stat().st_size for file in data.rglob("*.parquet"))
        print(f"range: {DAYS} days in {size >> 20} MiB")
        with Daemon(data / "data", CONFIG) as daemon, flightsql.connect(f"grpc://{daemon.address}", autocommit=True) as connection:
            line = next(line for line in daemon.log if HTTP_PORT in line)
            page = "http://" + line.split(HTTP_PORT)[1].split(":/")[0].split(": ")[0].strip()
            for name, span in WINDOWS.items():
                to = min(at + span // 2, end)
                sql = (
                    f"SELECT time, min, max, tier FROM downsample('network', 'rx_bytes', to_timestamp_micros({to - span}), "
                    f"to_timestamp_micros({to}), {BUCKETS}) WHERE interface = 'eth0' ORDER BY time"
                )

                def ask(sql=sql):
                    with connection.cursor() as cursor:
                        cursor.execute(sql)
                        return cursor.fetch_arrow_table()

                rows, took = measured(ask)
                greatest = max(value.as_py() for value in rows["max"])
                is_good &= report(name, took, rows.num_rows, sorted(set(rows["tier"].to_pylist())), greatest, rate)
                url = (
                    f"{page}/api/v1/range?table=network&column={','.join(COLUMNS)}&interface=eth0&from={to - span}&to={to}"
                    f"&buckets={BUCKETS}&times=us"
                )

                def ask(url=url):
                    with urllib.request.urlopen(url) as answer:
                        return answer.read()

                answer, took = measured(ask)
                answer = json.loads(answer)
                place = {column["name"]: index for index, column in enumerate(answer["columns"])}
                rows = answer["rows"]
                greatest = max(row[place[f"{COLUMNS[-1]}_max"]] or 0 for row in rows)
                tiers = sorted({row[place["tier"]] for row in rows})
                is_good &= report(f"{name}, {len(COLUMNS)} columns over HTTP", took, len(rows), tiers, greatest, rate)
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
