"""A data folder of three minutes of 2026-11-25 that is the same at every run: for checks that compare readers of one folder.

Every column of every table is filled by a rule that depends on its kind and its name: counters grow, and some begin anew once;
gauges wander, and some values are absent; the labels are those of a small host. Each table has two files with several row
groups. The layout is that of kymo's own files.
"""

import datetime
import pathlib
import zlib

import numpy
import pyarrow
import pyarrow.parquet as parquet

HOST = "frozen"
START = datetime.datetime(2026, 11, 25, 14, 42, 20, 179922, tzinfo=datetime.UTC)
START_US = 1_795_617_740_179_922
SECONDS = 178
ROW_GROUP_ROWS = 7_000
# What the table was read at, in µs, and its series.
LABELS = {
    "network": (10_000, [{"interface": name} for name in ("lo", "eth0", "ifb0", "ifb1")]),
    "cpu": (20_000, [{"cpu": name} for name in ("0", "1", "total")]),
    "disk": (100_000, [
        {"device": "sda", "kind": "disk", "parent": ""}, {"device": "sda1", "kind": "partition", "parent": "sda"},
        {"device": "dm-0", "kind": "stacked", "parent": "sda1"}]),
    "memory": (100_000, [{}]),
    "vm": (100_000, [{}]),
    "tcp": (100_000, [{}]),
    "pressure": (100_000, [{"resource": resource, "kind": kind} for resource, kind in (
        ("cpu", "some"), ("io", "some"), ("io", "full"), ("memory", "some"), ("memory", "full"))]),
    "softirq": (500_000, [{"type": name} for name in ("NET_RX", "NET_TX", "TIMER")]),
    "host": (1_000_000, [{}]),
    "filesystem": (1_000_000, [
        {"mountpoint": "/", "device": "/dev/sda1", "type": "ext4"}, {"mountpoint": "/home", "device": "/dev/dm-0", "type": "ext4"},
        {"mountpoint": "/dev/shm", "device": "tmpfs", "type": "tmpfs"}]),
    "process": (1_000_000, [
        {"command": command, "slot": str(slot), "cgroup": "/system.slice/" + command}
        for slot, command in enumerate((
            "bash", "kworker/0:0", "kworker/1:2", "ksoftirqd/0", "kymo", "python3", "rustc", "rustc", "sshd", "systemd",
            "systemd-journald"[:15], "process_api"))]),
    "gap": (9_000_000, [{"collector": "burst", "reason": "late"}, {"collector": "system", "reason": "late"}]),
}
TYPES = {
    "timestamp": pyarrow.timestamp("us", tz="UTC"), "text": pyarrow.string(), "int64": pyarrow.int64(),
    "float64": pyarrow.float64()}


def write(data: pathlib.Path, declared):
    """Writes the lake of `data`. `declared` is what `kymo tables --format json` prints."""
    for table in declared:
        if table["name"] in LABELS:
            write_table(data / "lake" / table["name"], table["name"], table["columns"])


def write_table(folder, name, columns):
    interval_us, series = LABELS[name]
    nominal = numpy.arange(interval_us, SECONDS * 1_000_000, interval_us)
    ticks = len(nominal)
    # Tables that are read at the same tick have the same times, as in one collector.
    times = START_US + nominal - numpy.where(nominal % 1_000_000 == 0, 0, (nominal // 10_000 * 7_919) % 400)
    values = {"time": numpy.repeat(times, len(series))}
    for column in columns:
        column_name, kind = column["name"], column["kind"]
        if kind == "time" or column_name == "host":
            continue
        if kind == "label":
            values[column_name] = [labels[column_name] for labels in series] * ticks
            continue
        by_series = [
            filled(name, column_name, kind, column["type"], number, nominal) for number in range(len(series))]
        values[column_name] = [value for row in zip(*by_series, strict=True) for value in row]
    fields = [pyarrow.field(column["name"], TYPES[column["type"]]) for column in columns if column["name"] != "host"]
    rows = pyarrow.table(
        [pyarrow.array(values[field.name], field.type) for field in fields], schema=pyarrow.schema(fields))
    half = rows.num_rows // 2 // len(series) * len(series)
    for first, part in ((0, rows.slice(0, half)), (half, rows.slice(half))):
        write_file(folder, first, part)


def write_file(folder, first, rows):
    start = rows["time"][0].as_py()
    day = folder / f"host={HOST}" / f"date={start:%Y-%m-%d}"
    day.mkdir(parents=True, exist_ok=True)
    path = day / f"{start:%Y%m%dT%H%M%S.%fZ}_{first}-{first + rows.num_rows - 1}.parquet"
    parquet.write_table(
        rows, path, row_group_size=ROW_GROUP_ROWS, compression="zstd", store_schema=False, write_page_index=True,
        sorting_columns=[parquet.SortingColumn(0)])


def filled(table, column, kind, type_name, number, nominal):
    """The values of a column for one series."""
    seed = zlib.crc32(f"{table}.{column}.{number}".encode())
    random = numpy.random.Generator(numpy.random.PCG64(seed))
    ticks = len(nominal)
    if column == "pid":
        return [1_000 + 37 * number] * ticks
    if column == "start_us":
        return [START_US - 3_600_000_000 - number * 1_000_000] * ticks
    if column in ("total_bytes", "swap_total_bytes", "max_open_files", "total_inodes"):
        return [(2 + number) << 33] * ticks
    if column == "uptime_us":
        return [int(us) + 5_058_230_000 for us in nominal]
    if column in ("from_us", "until_us", "to_us"):
        return [START_US + int(us) - (1_234_567 if column == "from_us" else 0) for us in nominal]
    if column in ("rx_errors", "tx_errors", "read_only", "blocked"):
        return [0] * ticks
    if kind == "counter":
        if number == 3:
            # An interface that is down.
            return [0] * ticks
        steps = random.integers(0, 3_000, ticks) * (random.random(ticks) < 0.6)
        grown = numpy.cumsum(steps) + int(random.integers(1, 2_000_000_000))
        if number == 2:
            # It begins anew in the middle.
            grown[ticks // 2:] -= grown[ticks // 2] - 17
        return [int(value) for value in grown]
    if type_name == "float64":
        if "ratio" in column or column == "utilization":
            drawn = numpy.round(random.beta(4, 1.2, ticks), 4)
        else:
            drawn = numpy.round(2.4 + numpy.cumsum(random.normal(0, 0.05, ticks)), 2)
        absent = random.random(ticks) < 0.02
        # The first value of what is measured between two ticks is absent.
        absent[0] = column in ("utilization", "cpu_ratio")
        never = column not in ("utilization", "cpu_ratio", "avg10_ratio")
        return [None if gone and not never else float(value) for value, gone in zip(drawn, absent, strict=True)]
    if column == "running":
        return [int(value) for value in random.integers(1, 9, ticks)]
    if column == "threads":
        return [1 + number] * ticks
    if column == "open_files" and number % 2 == 1:
        return [None] * ticks
    if column == "rss_bytes":
        return [int(value) << 12 for value in numpy.maximum(1, random.integers(900, 1_100, ticks)) * (number * 200 + 1)]
    return [int(value) << 10 for value in 1_000_000 + numpy.cumsum(random.integers(-900, 1_000, ticks))]
