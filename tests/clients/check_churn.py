"""A host on which everything comes and goes, recorded by kymo beside node_exporter and psutil.

    check_churn.py [SECONDS]      60 unless given; a thorough run takes 600

Under load, CPUs are taken offline and back, interfaces, loop devices and control groups are made and removed, and processes
start and end. Meanwhile kymo, node_exporter and psutil read the same host. Afterwards:

- No counter of any table falls within a series.
- No two rows of a tick have the same labels. Each interface that lived long enough has a series of its own, and no row has
  the label of texts beyond the limit.
- Where kymo has a row before and after the reading of another program, that value lies between the two.
- kymo's memory ceases to grow, and no row was dropped.

Interfaces are made in a network namespace of this check's own, in which all of it runs. That takes root. What a host does not
allow is left out, and said.
"""

import contextlib
import http.client
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import adbc_driver_flightsql.dbapi as flightsql

import debian
from check_differential import (
    COUNTER, FIGURES, LOAD, NODE, Figure, Rows, kymo_key, kymo_values, other_values, reading_of)
from harness import Checks, Daemon, folder, wait_for
from readers import NodeExporter, Psutil, Reading

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
# The argument by which the check starts itself anew in namespaces of its own.
INSIDE = "--inside"

SAMPLE_INTERVAL_US = 100_000
PAIRS = 5_000
# So many pairs are there at once. Each goes after this time.
PAIRS_AT_ONCE = 40
INTERFACE_LIFE_S = 1.5
# Only the packets by which neighbours find each other go over a pair.
PAIR_BYTES_MAX = 100_000
# An interface that lived so long was there at several ticks, even if some were missed.
SEEN_AFTER_S = 1.0
CPU_OFFLINE_S, CPU_ONLINE_S = 1.0, 4.0
# Between two readings by the other programs.
READ_EVERY_S = 1.0
# Fewer would say little.
ROUNDS_MIN = 5
# Memory may grow by so much in the second half.
GROWTH_BYTES_MAX = 48 << 20
RSS_BYTES_MAX = 512 << 20
OVERFLOWED = "(too many labels)"

# Tables whose counters the other readers have, too.
COMPARED = ("cpu", "disk", "network")
# The kernel lets these step back, mostly when CPUs go offline and return; kymo holds the highest value, and the others do not.
HELD = {"idle_us", "iowait_us", "steal_us", "guest_us", "guest_nice_us"}
# kymo may add up the CPUs, of which each that is offline counts as it was at the tick before. The kernel's own sum of times
# that step back jumps by minutes when a CPU goes offline, so that is not compared.
TOTAL = ("total",)
TOTAL_SLACK_US = (os.cpu_count() or 1) * SAMPLE_INTERVAL_US
# What is a restart. What one end of a pair received is what the other sent: once that is gone, the kernel says 0.
RESTARTS = {"network": "interface LIKE 'kychurn%' AND rx_bytes = 0"}
# What identifies a series beyond its labels: a process that ended and another may share theirs.
IDENTITY = {"process": ["pid", "start_us"]}


class Churn:
    """Something that comes and goes, on a thread of its own."""

    def __init__(self, name: str, once: Callable[[], None]):
        self.name, self.once = name, once
        self.rounds, self.failure = 0, ""
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self.once()
            except (OSError, subprocess.SubprocessError) as error:
                output = getattr(error, "stderr", None) or b""
                self.failure = f"{error} {output.decode(errors='replace').strip()[-200:]}"
                return
            self.rounds += 1

    def told(self) -> str:
        ended = f", then it was refused: {self.failure}" if self.failure else ""
        return f"{self.name} {self.rounds}{ended}"


def run(*arguments: str, text: str | None = None) -> None:
    subprocess.run(arguments, check=True, capture_output=True, timeout=60, input=text.encode() if text else None)


class Interfaces:
    """Pairs of virtual interfaces, each name once."""

    def __init__(self) -> None:
        self.made = 0
        self.living: list[tuple[str, float]] = []
        # For each name: when it was there for sure.
        self.lived: dict[str, tuple[float, float]] = {}
        # All pairs, in nine tenths of the time: making and deleting them takes a part of it.
        self.turn_s = 0.9 * SECONDS / (PAIRS / PAIRS_AT_ONCE)
        self.due = time.monotonic()

    def once(self) -> None:
        now = time.monotonic()
        old = [name for name, since in self.living if now - since > INTERFACE_LIFE_S]
        self.living = [(name, since) for name, since in self.living if name not in old]
        for name in old:
            for end in "ab":
                self.lived[name + end] = (*self.lived[name + end][:1], now)
        self.batch([f"link delete {name}a" for name in old])
        room = min(PAIRS_AT_ONCE - len(self.living), PAIRS - self.made)
        # The names of the kernel have at most 15 bytes.
        names = [f"kychurn{self.made + number:05}" for number in range(room)]
        self.batch([
            command
            for name in names
            for command in (f"link add {name}a type veth peer name {name}b", f"link set {name}a up", f"link set {name}b up")
        ])
        self.made += room
        now = time.monotonic()
        for name in names:
            self.living.append((name, now))
            self.lived.update({name + end: (now, now) for end in "ab"})
        self.due = max(self.due + self.turn_s, now)
        time.sleep(max(self.due - now, 0.05))

    @staticmethod
    def batch(commands: list[str]) -> None:
        if commands:
            run("ip", "-batch", "-", text="\n".join(commands) + "\n")

    def long_lived(self) -> set[str]:
        return {name for name, (since, until) in self.lived.items() if until - since > SEEN_AFTER_S}


class Cpus:
    """The last CPU, taken offline and back by a process that ends only after it is back."""

    def __init__(self) -> None:
        numbers = [int(path.name[3:]) for path in pathlib.Path("/sys/devices/system/cpu").glob("cpu[0-9]*")]
        self.file = pathlib.Path(f"/sys/devices/system/cpu/cpu{max(numbers)}/online")
        if len(numbers) < 2 or not os.access(self.file, os.W_OK):
            raise OSError("no CPU can be taken offline")

    def once(self) -> None:
        script = f"trap 'echo 1 > {self.file}' EXIT; trap '' TERM INT HUP; echo 0 > {self.file}; sleep {CPU_OFFLINE_S}"
        subprocess.run(["sh", "-c", script], check=True, capture_output=True, start_new_session=True, timeout=60)
        time.sleep(CPU_ONLINE_S)


class Loops:
    """A loop device over a file, attached, read, written and detached."""

    def __init__(self, path: pathlib.Path):
        self.file = path / "image"
        self.file.write_bytes(bytes(4 << 20))

    def once(self) -> None:
        attached = subprocess.run(["losetup", "--find", "--show", str(self.file)], check=True, capture_output=True, timeout=60)
        device = attached.stdout.decode().strip()
        try:
            with open(device, "r+b") as opened:
                opened.read(1 << 20)
                opened.seek(0)
                opened.write(os.urandom(1 << 16))
                opened.flush()
                os.fsync(opened.fileno())
            time.sleep(0.3)
        finally:
            run("losetup", "--detach", device)
        time.sleep(0.1)


class Groups:
    """Control groups in every hierarchy, each with a process that computes."""

    def __init__(self) -> None:
        root = pathlib.Path("/sys/fs/cgroup")
        self.roots = [root] if (root / "cgroup.procs").exists() else [path.parent for path in root.glob("*/cgroup.procs")]
        # A process cannot join a group of this one without CPUs and memory of its own.
        self.roots = [path for path in self.roots if "cpuset" not in path.resolve().name]
        self.made = 0
        if not self.roots or not all(os.access(path, os.W_OK) for path in self.roots):
            raise OSError("no control group can be made")

    def once(self) -> None:
        self.made += 1
        folders = {(root / f"kymo-churn-{os.getpid()}-{self.made}").resolve() for root in self.roots}
        process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            for path in folders:
                path.mkdir()
                (path / "cgroup.procs").write_text(str(process.pid), encoding="ascii")
            time.sleep(0.4)
        finally:
            process.kill()
            process.wait()
            # The kernel lets go of a process a moment after it was waited for.
            for path in folders:
                wait_for(lambda path=path: removed(path), 10, f"{path} can be removed")


def removed(path: pathlib.Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def processes() -> None:
    """Many that end at once, and a few of one name that live for some ticks."""
    running = [subprocess.Popen(["sleep", "0.3"]) for _ in range(5)]
    for _ in range(20):
        subprocess.run(["true"], check=True)
    for process in running:
        process.wait()


@contextlib.contextmanager
def loaded(path: pathlib.Path) -> Iterator[int]:
    load = LOAD.replace("time.monotonic() + 120", f"time.monotonic() + {SECONDS + 60}")
    process = subprocess.Popen([sys.executable, "-c", load, str(path / "load")])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def churning(path: pathlib.Path) -> Iterator[tuple[list[Churn], Interfaces]]:
    interfaces = Interfaces()
    churns, left_out = [], []
    for name, make in [
        ("CPUs offline", lambda: Cpus().once),
        ("rounds of interfaces", lambda: own_network(interfaces).once),
        ("loop devices", lambda: Loops(path).once),
        ("control groups", lambda: Groups().once),
        ("rounds of processes", lambda: processes),
    ]:
        try:
            churns.append(Churn(name, make()))
        except OSError as error:
            left_out.append(f"{name}: {error}")
    for text in left_out:
        print(f"left out: {text}", flush=True)
    for churn in churns:
        churn.thread.start()
    try:
        yield churns, interfaces
    finally:
        for churn in churns:
            churn.stopping.set()
        for churn in churns:
            churn.thread.join(60)


def own_network(interfaces: Interfaces) -> Interfaces:
    if INSIDE not in sys.argv:
        raise OSError("a network namespace cannot be made")
    return interfaces


def configuration(declared: list[dict[str, Any]]) -> str:
    """Every table in a collector of its own, at 100 ms or as fast as it allows."""
    text = '[storage]\nflush_interval = "5s"\ncompaction_interval = "1m"\n[query]\ntime_max = "5m"\n'
    # By default those of containers, and loop devices, have no rows.
    text += "[network]\nexclude = []\n[disk]\nexclude = []\n"
    for table in declared:
        if (interval_min_us := table["interval_min_us"]) is not None:
            interval_ms = max(interval_min_us, SAMPLE_INTERVAL_US) // 1_000
            text += f'[collector.{table["name"]}]\ninterval = "{interval_ms}ms"\nmetrics = ["{table["name"]}"]\n'
    return text


class Recorded:
    """What was recorded and read in one run."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, Reading]] = []
        # kymo's resident memory, each second.
        self.rss_bytes: list[int] = []
        self.churns: list[Churn] = []
        self.interfaces = Interfaces()


def record(path: pathlib.Path, daemon: Daemon, node: NodeExporter, busy: int) -> Recorded:
    recorded = Recorded()
    reader = Psutil(daemon.process.pid, [busy, os.getpid(), node.process.pid])
    with churning(path) as (recorded.churns, recorded.interfaces):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            readings = {group: reader.read(group) for group in COMPARED}
            if (of_node := answer(node)) is not None:
                recorded.rounds.append({NODE: of_node, **readings})
            recorded.rss_bytes.append(daemon.rss_bytes())
            time.sleep(READ_EVERY_S)
    # Ticks after the last reading, of tables that are sampled once a second, too.
    time.sleep(3)
    return recorded


def answer(node: NodeExporter) -> Reading | None:
    """None if node_exporter takes long: some of its collectors wait for interfaces that are going."""
    try:
        return node.read()
    except (OSError, http.client.HTTPException):
        node.connection.close()
        return None


def asked(daemon: Daemon, sql: str) -> list[dict[str, Any]]:
    with flightsql.connect(f"grpc://{daemon.address}", autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table().to_pylist()


def quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def columns(table: dict[str, Any], kind: str) -> list[str]:
    return [column["name"] for column in table["columns"] if column["kind"] == kind and column["name"] != "host"]


def no_counter_falls(daemon: Daemon, declared: list[dict[str, Any]]) -> str:
    fallen, looked_at, rows = [], 0, 0
    for table in declared:
        name, counters = table["name"], columns(table, "counter")
        if not counters:
            continue
        series = columns(table, "label") + IDENTITY.get(name, [])
        partition = f"PARTITION BY {quoted(series)} " if series else ""
        before = ", ".join(f'lag("{one}") OVER ({partition}ORDER BY time) AS "{one} before"' for one in counters)
        fell = {one: f'"{one}" < "{one} before" AND NOT ({RESTARTS.get(name, "false")})' for one in counters}
        falls = ", ".join(f'count(*) FILTER (WHERE {fell[one]}) AS "{one}"' for one in counters)
        (found,) = asked(daemon, f"SELECT count(*) AS rows, {falls} FROM (SELECT *, {before} FROM {name})")
        looked_at += len(counters)
        rows += found["rows"]
        for one in (one for one in counters if found[one]):
            values = f'SELECT time, {quoted(sorted({*series, *counters}))}, {before} FROM {name}'
            (example,) = asked(daemon, f"SELECT * FROM ({values}) WHERE {fell[one]} LIMIT 1")
            shown = {key: value for key, value in example.items() if key in ("time", *series, one, f"{one} before")}
            fallen.append(f"{name}.{one} fell {found[one]} times: {shown}")
    assert not fallen, "\n    ".join(["counters fell:", *fallen])
    return f"{looked_at} counters in {rows} rows"


def no_series_is_merged(daemon: Daemon, declared: list[dict[str, Any]], interfaces: Interfaces) -> str:
    wrong, series = [], 0
    for table in declared:
        name, labels = table["name"], columns(table, "label")
        # A gap may be told twice of one moment. Of statements, a text may be anything, also what this looks for.
        if not labels or name in ("gap", "statement"):
            continue
        row = f"time, {quoted(labels)}"
        twice = asked(daemon, f"SELECT {row} FROM {name} GROUP BY {row} HAVING count(*) > 1 LIMIT 1")
        wrong += [f"{name} has two rows of {row}" for row in twice]
        overflowed = " OR ".join(f"\"{label}\" LIKE '%{OVERFLOWED}%'" for label in labels)
        (found,) = asked(daemon, f"SELECT count(*) AS rows FROM {name} WHERE {overflowed}")
        if found["rows"]:
            wrong.append(f"{name} has {found['rows']} rows whose label is {OVERFLOWED}")
        series += asked(daemon, f"SELECT count(*) AS n FROM (SELECT DISTINCT {quoted(labels)} FROM {name})")[0]["n"]
    seen = {row["interface"] for row in asked(daemon, "SELECT DISTINCT interface FROM network")}
    churned = {name for name in seen if name.startswith("kychurn")}
    if unseen := interfaces.long_lived() - seen:
        wrong.append(f"{len(unseen)} interfaces that lived long have no series, such as {min(unseen)}")
    if invented := churned - interfaces.lived.keys():
        wrong.append(f"{len(invented)} interfaces have a series and never were there, such as {min(invented)}")
    most = "SELECT interface, max(rx_bytes) AS bytes FROM network WHERE interface LIKE 'kychurn%' GROUP BY 1 ORDER BY 2 DESC LIMIT 1"
    for row in asked(daemon, most):
        if row["bytes"] > PAIR_BYTES_MAX:
            wrong.append(f"{row['interface']} received {row['bytes']} bytes, which are another one's")
    assert not wrong, "\n    ".join(["series are merged or missing:", *wrong])
    return f"{series} series, {len(churned)} of them interfaces that came and went"


def others_lie_between(daemon: Daemon, rounds: list[dict[str, Reading]]) -> str:
    outside, compared, figures = [], 0, 0
    for table in COMPARED:
        of_table = [figure for figure in FIGURES if figure.table == table and figure.how == COUNTER]
        figures += len(of_table)
        found = rows_around(daemon, table, of_table, [readings[reader] for readings in rounds for reader in (NODE, table)])
        for figure, readings in itertools.product(of_table, rounds):
            reading = reading_of(figure, readings)
            before, after = (found.ticks[found.times[at]] for at in found.bracket(reading))
            count, texts = between(figure, reading, before, after)
            compared += count
            outside += texts
    assert compared > figures * len(rounds), f"only {compared} values could be compared"
    assert not outside, "\n    ".join([f"{len(outside)} of {compared} values lie outside:", *outside[:20]])
    return f"{compared} values of {figures} figures"


def rows_around(daemon: Daemon, table: str, figures: list[Figure], readings: list[Reading]) -> Rows:
    """All ticks of a table, with kymo's rows of those from which and to which a reading lasted."""
    tick = "arrow_cast(time, 'Int64')"
    times = asked(daemon, f"SELECT DISTINCT {tick} AS tick FROM {table} ORDER BY tick")
    found = Rows([row["tick"] for row in times], {})
    wanted = {found.times[at] for reading in readings for at in found.bracket(reading)}
    names = {column for figure in figures for column in (*kymo_key(figure)[0], figure.column)}
    found.ticks = {time_us: [] for time_us in wanted}
    among = ", ".join(map(str, wanted))
    for row in asked(daemon, f"SELECT {tick} AS tick, {quoted(sorted(names))} FROM {table} WHERE {tick} IN ({among})"):
        found.ticks[row["tick"]].append(row)
    return found


def between(figure: Figure, reading: Reading, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """How many values were compared, and which lie outside. A device that was not there all the time is left out."""
    low, high = kymo_values(figure, before), kymo_values(figure, after)
    others = other_values(figure, reading) or {}
    outside, compared = [], 0
    # Where kymo's own value falls, no_counter_falls tells.
    for key in (key for key in others.keys() & low.keys() & high.keys() if low[key] <= high[key]):
        if key == TOTAL and figure.column in HELD:
            continue
        slack = figure.slack + abs(others[key]) * 1e-12 + (TOTAL_SLACK_US if key == TOTAL else 0)
        compared += 1
        is_low = others[key] < low[key] - slack and figure.column not in HELD
        if is_low or others[key] > high[key] + slack:
            of_kymo = f"kymo {low[key]:.15g}…{high[key]:.15g}"
            name = f"{figure.table}.{figure.column} {'/'.join(key)}"
            outside.append(f"{name}: {of_kymo}, {figure.reader} {others[key]:.15g}")
    return compared, outside


def memory_is_bounded(rss_bytes: list[int]) -> str:
    first, second = rss_bytes[: len(rss_bytes) // 2], rss_bytes[len(rss_bytes) // 2 :]
    grown = max(second) - max(first)
    told = f"{max(first) >> 20} MiB at most in the first half, {max(second) >> 20} MiB in the second"
    assert grown < GROWTH_BYTES_MAX and max(rss_bytes) < RSS_BYTES_MAX, told
    return told


def nothing_was_dropped(daemon: Daemon) -> str:
    (told,) = asked(daemon, "SELECT max(overflowed_labels) AS labels, max(lost_rows) AS lost_rows FROM kymo")
    each = "SELECT max(dropped_records) AS dropped, max(failed_reads) AS failed FROM collector GROUP BY collector"
    # What goes between being listed and being read is no failed read.
    told |= asked(daemon, f"SELECT sum(dropped) AS dropped_rows, sum(failed) AS failed_reads FROM ({each})")[0]
    log = [line for line in daemon.log if "WARN" in line or "ERROR" in line]
    assert not any(told.values()), f"{told}\n    " + "    ".join(log[:20])
    return ""


def everything_churned(recorded: Recorded) -> str:
    pairs, rounds = recorded.interfaces.made, len(recorded.rounds)
    told = ", ".join([*(churn.told() for churn in recorded.churns), f"{pairs} pairs of interfaces, {rounds} readings"])
    assert all(churn.rounds and not churn.failure for churn in recorded.churns), told
    assert rounds > ROUNDS_MIN, told
    return told


def check() -> None:
    checks = Checks()
    declared = Daemon.declared()
    with folder() as path, loaded(path) as busy, NodeExporter(path) as node:
        with Daemon(path / "data", configuration(declared)) as daemon:
            # Each table has ticks before the first reading.
            time.sleep(3)
            recorded = record(path, daemon, node, busy)
            checks.run(everything_churned, recorded)
            checks.run(no_counter_falls, daemon, declared)
            checks.run(no_series_is_merged, daemon, declared, recorded.interfaces)
            checks.run(others_lie_between, daemon, recorded.rounds)
            checks.run(memory_is_bounded, recorded.rss_bytes)
            checks.run(nothing_was_dropped, daemon)
    checks.finish()


# A sysfs shows the network namespace in which it was mounted. The control groups below the old one are kept.
MOUNTS = """
set -e
ip link set lo up
groups=$(mktemp -d)
mount --rbind /sys/fs/cgroup "$groups"
mount -t sysfs sysfs /sys
mount --rbind "$groups" /sys/fs/cgroup
umount -l "$groups"
rmdir "$groups"
exec "$@"
"""


def can_unshare() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    return subprocess.run(["unshare", "-n", "-m", "true"], check=False).returncode == 0


def main() -> None:
    if INSIDE not in sys.argv and can_unshare():
        own = [sys.executable, os.path.abspath(__file__), str(SECONDS), INSIDE]
        os.execvp("unshare", ["unshare", "-n", "-m", "sh", "-c", MOUNTS, "sh", *own])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        check()
    except debian.Unavailable as error:
        sys.exit(f"FAILED there is no node_exporter to compare with: {error}")


if __name__ == "__main__":
    main()
