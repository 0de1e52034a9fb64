"""How many bytes a sample takes in Parquet. A sample is one value of one column; times and labels are not counted as
samples. The bytes are those of whole files.

    python3 benches/size.py [--minutes 11]           records the default configuration under mixed load, and measures it
    python3 benches/size.py --data DIR               measures an existing data folder
    python3 benches/size.py --data DIR --prometheus  also puts the same samples into Prometheus' blocks

Uses target/release/kymo, or KYMO_BIN. Needs pyarrow, and Debian's package for Prometheus. Where that is not installed,
it is fetched by `apt-get download` and unpacked into a temporary folder.

While it records, kymo compacts every five minutes instead of every hour. Only files of whole windows count. The load is
traffic over loopback, synced writes and busy CPUs with pauses between them. A fixed seed draws the pauses, so the load is
always the same.

Prometheus gets the rows of each table as OpenMetrics, with a series for each column and combination of labels.
`promtool tsdb create-blocks-from openmetrics` makes blocks of them. All bytes of these blocks count.
"""

import argparse
import collections
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pyarrow
import pyarrow.parquet as parquet

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "clients"))
import debian  # noqa: E402
from harness import Daemon  # noqa: E402

WINDOW_SECONDS = 300
CONFIG = f'[storage]\ncompaction_interval = "{WINDOW_SECONDS}s"\n'
# A window has become one file at most so long after its end.
SETTLED_SECONDS = 120
# Groups of tables, each with the limit of bytes a sample.
LIMITS = {("network", "disk"): 0.15, ("cpu",): 0.35, (): 0.25}
PROMETHEUS_RATIO_MAX = 0.6
# What tiers add. Footers do not count: files of tiers become one a day.
TIERS_RATIO_MAX = 1.1
TIERS = ("_1s", "_1m")


def load(seconds, file):
    """Mixed load: each kind takes turns of doing nothing and doing a lot."""
    draw = random.Random(7)
    end = time.monotonic() + seconds
    listener = socket.create_server(("127.0.0.1", 0))

    def receive():
        connection, _ = listener.accept()
        while connection.recv(1 << 16):
            pass

    def in_turns(busy_seconds, idle_seconds, step):
        while time.monotonic() < end:
            until = time.monotonic() + draw.random() * busy_seconds
            while time.monotonic() < until:
                step()
            time.sleep(draw.random() * idle_seconds)

    def send(connection):
        connection.sendall(b"x" * draw.randrange(64, 20_000))
        time.sleep(draw.choice([0.0005, 0.002, 0.01]))

    def write(target):
        target.write(b"y" * draw.randrange(4_096, 400_000))
        target.flush()
        os.fdatasync(target.fileno())
        if target.tell() > 200e6:
            target.seek(0)
        time.sleep(draw.random() * 0.02)

    threading.Thread(target=receive, daemon=True).start()
    with socket.create_connection(listener.getsockname()) as connection, open(file, "wb") as target:
        threads = [
            threading.Thread(target=in_turns, args=arguments)
            for arguments in ((2, 3, lambda: send(connection)), (2, 4, lambda: write(target)), (0.2, 0.6, lambda: None))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    file.unlink()


def record(folder, minutes):
    """Records for so many minutes. Returns the data folder."""
    with Daemon(folder / "data", CONFIG):
        load(minutes * 60, folder / "load")
        # Until the last whole window has become one file.
        time.sleep(SETTLED_SECONDS)
    return folder / "data"


class Size:
    def __init__(self):
        self.files, self.rows, self.samples, self.bytes, self.chunk_bytes = 0, 0, 0, 0, 0

    def add(self, other):
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def __str__(self):
        return (f"{self.bytes / max(self.samples, 1):.3f} bytes a sample"
                f" ({self.rows} rows, {self.samples} samples, {self.bytes} bytes, {self.files} files)")


def is_value(field):
    return field.name != "time" and not pyarrow.types.is_string(field.type)


def sizes(data, whole_only):
    """The size of each table."""
    found = collections.defaultdict(Size)
    for path in sorted((data / "lake").rglob("*.parquet")):
        size = Size()
        metadata = parquet.read_metadata(path)
        statistics = [metadata.row_group(at).column(0).statistics for at in range(metadata.num_row_groups)]
        begin, end = statistics[0].min.timestamp(), statistics[-1].max.timestamp()
        # A shorter file is from before the first whole window, or after the last.
        if whole_only and end - begin < 0.8 * WINDOW_SECONDS:
            continue
        size.files, size.rows, size.bytes = 1, metadata.num_rows, path.stat().st_size
        groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
        size.chunk_bytes = sum(group.column(at).total_compressed_size for group in groups for at in range(group.num_columns))
        size.samples = size.rows * sum(map(is_value, parquet.read_schema(path)))
        found[path.relative_to(data / "lake").parts[0]].add(size)
    return found


def prometheus_bytes(data, folder):
    """The size of Prometheus' blocks of the same samples, and the number of samples."""
    promtool = shutil.which("promtool") or debian.fetch("prometheus", folder).program("promtool")
    text, samples = folder / "samples.txt", 0
    with open(text, "w", encoding="utf-8") as out:
        for table in sorted(path.name for path in (data / "lake").iterdir() if not path.name.endswith(TIERS)):
            rows = pyarrow.concat_tables(
                [parquet.read_table(path, partitioning=None) for path in (data / "lake" / table).rglob("*.parquet")]).sort_by("time")
            labels = [field.name for field in rows.schema if pyarrow.types.is_string(field.type)]
            times = [us / 1e6 for us in rows["time"].cast(pyarrow.int64()).to_pylist()]
            named = [rows[label].to_pylist() for label in labels]
            sets = [",".join(f'{name}="{escaped(value)}"' for name, value in zip(labels, row)) for row in zip(*named)] or [""] * len(times)
            for field in filter(is_value, rows.schema):
                out.write(f"# TYPE kymo_{table}_{field.name} gauge\n")
                for at, value, labelled in zip(times, rows[field.name].to_pylist(), sets):
                    if value is not None:
                        out.write(f"kymo_{table}_{field.name}{{{labelled}}} {value} {at:.3f}\n")
                        samples += 1
        out.write("# EOF\n")
    blocks = folder / "blocks"
    subprocess.run([promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(text), str(blocks)], check=True)
    return sum(path.stat().st_size for path in blocks.rglob("*") if path.is_file()), samples


def escaped(text):
    return (text or "").replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--minutes", type=float, default=11)
    arguments.add_argument("--data", type=pathlib.Path)
    arguments.add_argument("--prometheus", action="store_true")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="kymo-size-") as path:
        folder = pathlib.Path(path)
        data = asked.data or record(folder, asked.minutes)
        every = sizes(data, whole_only=False)
        rows, tiers = (
            sum(size.chunk_bytes for table, size in every.items() if table.endswith(TIERS) == is_tier) for is_tier in (False, True))
        ratio = (rows + tiers) / rows
        kept = "kept" if ratio <= TIERS_RATIO_MAX else "exceeded"
        print(f"size: with tiers ÷ without = {ratio:.3f} ({rows}, {tiers} bytes), limit {TIERS_RATIO_MAX} {kept}")
        found = {table: size for table, size in sizes(data, whole_only=asked.data is None).items() if not table.endswith(TIERS)}
        for table, size in sorted(found.items()):
            print(f"{table}: {size}")
        total = Size()
        for tables, limit in LIMITS.items():
            total = Size()
            for table in tables or found:
                total.add(found.get(table, Size()))
            kept = "kept" if total.bytes <= limit * total.samples else "exceeded"
            print(f"size: {' + '.join(tables) or 'all'}: {total}, limit {limit} {kept}")
        if asked.prometheus:
            theirs, samples = prometheus_bytes(data, folder)
            ratio = total.bytes / theirs
            kept = "kept" if ratio <= PROMETHEUS_RATIO_MAX else "exceeded"
            print(f"size: kymo ÷ Prometheus = {ratio:.2f} ({total.bytes}, {theirs} bytes; {total.samples}, {samples} samples),"
                  f" limit {PROMETHEUS_RATIO_MAX} {kept}")


if __name__ == "__main__":
    main()
