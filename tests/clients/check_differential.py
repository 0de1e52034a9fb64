"""Compares every figure that kymo shares with node_exporter or psutil. All three read the same host in the same run.

The table FIGURES below says what is compared with what, and how units are converted. A counter passes if the other reader's
value lies between kymo's row from before that reader began and kymo's row from after it ended. A gauge passes if it is within
1 % of one of these two rows, or lies among kymo's samples from one to the other. Some figures jump, such as the number of
running tasks. They pass if, in most rounds, the value is among kymo's samples of the second around the reading.

A figure is a column of kymo and a reader, however many rows it has. All its rows are compared in each round. Three kinds of
column have no counterpart and are left out: `used_bytes` of `memory`, which every program defines in its own way; averages
over a time that ends with the reading (`utilization`, `cpu_ratio`, `avg10_ratio` and the like); and control groups, of which
the other readers report only the number. node_exporter comes from Debian, fetched by `apt-get download` unless installed.
"""

import bisect
import contextlib
import os
import pathlib
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import adbc_driver_flightsql.dbapi as flightsql

import debian
from harness import Daemon, command, folder, rows
from readers import Key, NodeExporter, Psutil, Reading, Values

ROUNDS = 10
FIGURES_MIN = 60
GAUGE_TOLERANCE = 0.01
# For a figure that jumps, kymo's samples of this time before and after the reading are used.
JUMPING_WINDOW_US = 1_000_000
SAMPLE_INTERVAL_US = 100_000

NODE, PSUTIL = "node_exporter", "psutil"
COUNTER, GAUGE, JUMPING = "counter", "gauge", "jumping"

# kymo's units in one of the other reader's.
ONE = 1
SECOND, MILLISECOND = 1_000_000, 1_000
KIB, PAGE = 1_024, os.sysconf("SC_PAGE_SIZE")
PERCENT = 0.01

# How far a reading may lie outside, in kymo's units. By default it may not; these are the exceptions and their reasons.
CLOCK_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
# idle and iowait may step back a little on tickless CPUs (proc(5), /proc/stat).
IDLE = 2 * CLOCK_TICK_US
# getrusage(2) counts microseconds, and /proc/PID/stat user and system time each in whole clock ticks.
TWO_TICKS = 2 * CLOCK_TICK_US
# The time of boot is known to whole seconds only.
BOOT = SECOND
# The kernel rounds load to hundredths in /proc/loadavg; psutil asks it another way and gets more digits.
LOAD_DIGITS = 0.006
# The readers are running tasks themselves: node_exporter has a thread for each CPU, and some that wait.
READERS = (os.cpu_count() or 1) + 2
# The kernel counts pages of files, anonymous and shared pages for each CPU, and adds to the sums at 32 pages or twice the
# CPUs. /proc/PID/stat, which kymo reads, has the sums; /proc/PID/statm, which psutil reads, is exact on newer kernels.
RSS = 3 * max(32, 2 * (os.cpu_count() or 1)) * (os.cpu_count() or 1) * PAGE
# psutil rounds to a tenth of a per cent.
TENTH_PERCENT = 0.0005


class Figure(NamedTuple):
    """A column of kymo, and the name that another reader has for it.

    `labels` says which rows belong together: "cpu", or "interface=device" where the other reader's label has another
    name, or "kind:some" for the rows with that value only, of which the other reader's name is enough.
    `name` is what the other reader calls it; readers.py says what such a name may be.
    """

    table: str
    labels: str
    column: str
    reader: str
    name: str
    factor: float
    how: str
    slack: float = 0


FIGURES = [
    Figure("cpu", "cpu", "user_us", NODE, 'node_cpu_seconds_total{mode="user"}', SECOND, COUNTER),
    Figure("cpu", "cpu", "nice_us", NODE, 'node_cpu_seconds_total{mode="nice"}', SECOND, COUNTER),
    Figure("cpu", "cpu", "system_us", NODE, 'node_cpu_seconds_total{mode="system"}', SECOND, COUNTER),
    Figure("cpu", "cpu", "idle_us", NODE, 'node_cpu_seconds_total{mode="idle"}', SECOND, COUNTER, IDLE),
    Figure("cpu", "cpu", "iowait_us", NODE, 'node_cpu_seconds_total{mode="iowait"}', SECOND, COUNTER, IDLE),
    Figure("cpu", "cpu", "irq_us", NODE, 'node_cpu_seconds_total{mode="irq"}', SECOND, COUNTER),
    Figure("cpu", "cpu", "softirq_us", NODE, 'node_cpu_seconds_total{mode="softirq"}', SECOND, COUNTER),
    Figure("cpu", "cpu", "steal_us", NODE, 'node_cpu_seconds_total{mode="steal"}', SECOND, COUNTER),
    Figure("cpu", "cpu", "guest_us", NODE, 'node_cpu_guest_seconds_total{mode="user"}', SECOND, COUNTER),
    Figure("cpu", "cpu", "guest_nice_us", NODE, 'node_cpu_guest_seconds_total{mode="nice"}', SECOND, COUNTER),
    Figure("cpu", "cpu", "user_us", PSUTIL, "cpu.user", SECOND, COUNTER),
    Figure("cpu", "cpu", "nice_us", PSUTIL, "cpu.nice", SECOND, COUNTER),
    Figure("cpu", "cpu", "system_us", PSUTIL, "cpu.system", SECOND, COUNTER),
    Figure("cpu", "cpu", "idle_us", PSUTIL, "cpu.idle", SECOND, COUNTER, IDLE),
    Figure("cpu", "cpu", "iowait_us", PSUTIL, "cpu.iowait", SECOND, COUNTER, IDLE),
    Figure("cpu", "cpu", "irq_us", PSUTIL, "cpu.irq", SECOND, COUNTER),
    Figure("cpu", "cpu", "softirq_us", PSUTIL, "cpu.softirq", SECOND, COUNTER),
    Figure("cpu", "cpu", "steal_us", PSUTIL, "cpu.steal", SECOND, COUNTER),
    Figure("cpu", "cpu", "guest_us", PSUTIL, "cpu.guest", SECOND, COUNTER),
    Figure("cpu", "cpu", "guest_nice_us", PSUTIL, "cpu.guest_nice", SECOND, COUNTER),

    Figure("memory", "", "total_bytes", NODE, "node_memory_MemTotal_bytes", ONE, GAUGE),
    Figure("memory", "", "free_bytes", NODE, "node_memory_MemFree_bytes", ONE, JUMPING),
    Figure("memory", "", "available_bytes", NODE, "node_memory_MemAvailable_bytes", ONE, JUMPING),
    Figure("memory", "", "buffers_bytes", NODE, "node_memory_Buffers_bytes", ONE, GAUGE),
    Figure("memory", "", "cached_bytes", NODE, "node_memory_Cached_bytes", ONE, GAUGE),
    Figure("memory", "", "active_bytes", NODE, "node_memory_Active_bytes", ONE, GAUGE),
    Figure("memory", "", "inactive_bytes", NODE, "node_memory_Inactive_bytes", ONE, GAUGE),
    Figure("memory", "", "shared_bytes", NODE, "node_memory_Shmem_bytes", ONE, GAUGE),
    Figure("memory", "", "swap_total_bytes", NODE, "node_memory_SwapTotal_bytes", ONE, GAUGE),
    Figure("memory", "", "swap_free_bytes", NODE, "node_memory_SwapFree_bytes", ONE, GAUGE),
    Figure("memory", "", "total_bytes", PSUTIL, "memory.total", ONE, GAUGE),
    Figure("memory", "", "free_bytes", PSUTIL, "memory.free", ONE, JUMPING),
    Figure("memory", "", "available_bytes", PSUTIL, "memory.available", ONE, JUMPING),
    Figure("memory", "", "buffers_bytes", PSUTIL, "memory.buffers", ONE, GAUGE),
    Figure("memory", "", "active_bytes", PSUTIL, "memory.active", ONE, GAUGE),
    Figure("memory", "", "inactive_bytes", PSUTIL, "memory.inactive", ONE, GAUGE),
    Figure("memory", "", "shared_bytes", PSUTIL, "memory.shared", ONE, GAUGE),
    Figure("memory", "", "swap_total_bytes", PSUTIL, "swap.total", ONE, GAUGE),
    Figure("memory", "", "swap_free_bytes", PSUTIL, "swap.free", ONE, GAUGE),

    Figure("disk", "device", "read_ops", NODE, "node_disk_reads_completed_total", ONE, COUNTER),
    Figure("disk", "device", "write_ops", NODE, "node_disk_writes_completed_total", ONE, COUNTER),
    Figure("disk", "device", "read_bytes", NODE, "node_disk_read_bytes_total", ONE, COUNTER),
    Figure("disk", "device", "write_bytes", NODE, "node_disk_written_bytes_total", ONE, COUNTER),
    Figure("disk", "device", "read_merged", NODE, "node_disk_reads_merged_total", ONE, COUNTER),
    Figure("disk", "device", "write_merged", NODE, "node_disk_writes_merged_total", ONE, COUNTER),
    Figure("disk", "device", "busy_us", NODE, "node_disk_io_time_seconds_total", SECOND, COUNTER),
    Figure("disk", "device", "read_us", NODE, "node_disk_read_time_seconds_total", SECOND, COUNTER),
    Figure("disk", "device", "write_us", NODE, "node_disk_write_time_seconds_total", SECOND, COUNTER),
    Figure("disk", "device", "in_flight", NODE, "node_disk_io_now", ONE, JUMPING),
    Figure("disk", "device", "read_ops", PSUTIL, "disk.read_count", ONE, COUNTER),
    Figure("disk", "device", "write_ops", PSUTIL, "disk.write_count", ONE, COUNTER),
    Figure("disk", "device", "read_bytes", PSUTIL, "disk.read_bytes", ONE, COUNTER),
    Figure("disk", "device", "write_bytes", PSUTIL, "disk.write_bytes", ONE, COUNTER),
    Figure("disk", "device", "read_merged", PSUTIL, "disk.read_merged_count", ONE, COUNTER),
    Figure("disk", "device", "write_merged", PSUTIL, "disk.write_merged_count", ONE, COUNTER),
    Figure("disk", "device", "busy_us", PSUTIL, "disk.busy_time", MILLISECOND, COUNTER),
    Figure("disk", "device", "read_us", PSUTIL, "disk.read_time", MILLISECOND, COUNTER),
    Figure("disk", "device", "write_us", PSUTIL, "disk.write_time", MILLISECOND, COUNTER),

    Figure("network", "interface=device", "rx_bytes", NODE, "node_network_receive_bytes_total", ONE, COUNTER),
    Figure("network", "interface=device", "tx_bytes", NODE, "node_network_transmit_bytes_total", ONE, COUNTER),
    Figure("network", "interface=device", "rx_packets", NODE, "node_network_receive_packets_total", ONE, COUNTER),
    Figure("network", "interface=device", "tx_packets", NODE, "node_network_transmit_packets_total", ONE, COUNTER),
    Figure("network", "interface=device", "rx_errors", NODE, "node_network_receive_errs_total", ONE, COUNTER),
    Figure("network", "interface=device", "tx_errors", NODE, "node_network_transmit_errs_total", ONE, COUNTER),
    Figure("network", "interface=device", "rx_dropped", NODE, "node_network_receive_drop_total", ONE, COUNTER),
    Figure("network", "interface=device", "tx_dropped", NODE, "node_network_transmit_drop_total", ONE, COUNTER),
    Figure("network", "interface", "rx_bytes", PSUTIL, "network.bytes_recv", ONE, COUNTER),
    Figure("network", "interface", "tx_bytes", PSUTIL, "network.bytes_sent", ONE, COUNTER),
    Figure("network", "interface", "rx_packets", PSUTIL, "network.packets_recv", ONE, COUNTER),
    Figure("network", "interface", "tx_packets", PSUTIL, "network.packets_sent", ONE, COUNTER),
    Figure("network", "interface", "rx_errors", PSUTIL, "network.errin", ONE, COUNTER),
    Figure("network", "interface", "tx_errors", PSUTIL, "network.errout", ONE, COUNTER),
    Figure("network", "interface", "rx_dropped", PSUTIL, "network.dropin", ONE, COUNTER),
    Figure("network", "interface", "tx_dropped", PSUTIL, "network.dropout", ONE, COUNTER),

    Figure("filesystem", "mountpoint device type=fstype", "total_bytes", NODE, "node_filesystem_size_bytes", ONE, GAUGE),
    Figure("filesystem", "mountpoint device type=fstype", "used_bytes", NODE, "node_filesystem_size_bytes - node_filesystem_free_bytes", ONE, GAUGE),
    Figure("filesystem", "mountpoint device type=fstype", "free_bytes", NODE, "node_filesystem_avail_bytes", ONE, GAUGE),
    Figure("filesystem", "mountpoint", "total_bytes", PSUTIL, "filesystem.total", ONE, GAUGE),
    Figure("filesystem", "mountpoint", "used_bytes", PSUTIL, "filesystem.used", ONE, GAUGE),
    Figure("filesystem", "mountpoint", "free_bytes", PSUTIL, "filesystem.free", ONE, GAUGE),
    Figure("filesystem", "mountpoint", "used_ratio", PSUTIL, "filesystem.percent", PERCENT, GAUGE, TENTH_PERCENT),

    Figure("host", "", "load1", NODE, "node_load1", ONE, GAUGE),
    Figure("host", "", "load5", NODE, "node_load5", ONE, GAUGE),
    Figure("host", "", "load15", NODE, "node_load15", ONE, GAUGE),
    Figure("host", "", "running", NODE, "node_procs_running", ONE, JUMPING, READERS),
    Figure("host", "", "blocked", NODE, "node_procs_blocked", ONE, JUMPING),
    Figure("host", "", "context_switches", NODE, "node_context_switches_total", ONE, COUNTER),
    Figure("host", "", "interrupts", NODE, "node_intr_total", ONE, COUNTER),
    Figure("host", "", "forks", NODE, "node_forks_total", ONE, COUNTER),
    Figure("host", "", "uptime_us", NODE, "node_time_seconds - node_boot_time_seconds", SECOND, COUNTER, BOOT),
    Figure("host", "", "load1", PSUTIL, "load.one", ONE, GAUGE, LOAD_DIGITS),
    Figure("host", "", "load5", PSUTIL, "load.five", ONE, GAUGE, LOAD_DIGITS),
    Figure("host", "", "load15", PSUTIL, "load.fifteen", ONE, GAUGE, LOAD_DIGITS),
    Figure("host", "", "context_switches", PSUTIL, "stats.ctx_switches", ONE, COUNTER),
    Figure("host", "", "interrupts", PSUTIL, "stats.interrupts", ONE, COUNTER),
    Figure("host", "", "uptime_us", PSUTIL, "clock.uptime", SECOND, COUNTER, BOOT),

    Figure("pressure", "resource:cpu kind:some", "total_us", NODE, "node_pressure_cpu_waiting_seconds_total", SECOND, COUNTER),
    Figure("pressure", "resource:io kind:some", "total_us", NODE, "node_pressure_io_waiting_seconds_total", SECOND, COUNTER),
    Figure("pressure", "resource:io kind:full", "total_us", NODE, "node_pressure_io_stalled_seconds_total", SECOND, COUNTER),
    Figure("pressure", "resource:memory kind:some", "total_us", NODE, "node_pressure_memory_waiting_seconds_total", SECOND, COUNTER),
    Figure("pressure", "resource:memory kind:full", "total_us", NODE, "node_pressure_memory_stalled_seconds_total", SECOND, COUNTER),

    Figure("vm", "", "page_faults", NODE, "node_vmstat_pgfault", ONE, COUNTER),
    Figure("vm", "", "major_page_faults", NODE, "node_vmstat_pgmajfault", ONE, COUNTER),
    Figure("vm", "", "paged_in_bytes", NODE, "node_vmstat_pgpgin", KIB, COUNTER),
    Figure("vm", "", "paged_out_bytes", NODE, "node_vmstat_pgpgout", KIB, COUNTER),
    Figure("vm", "", "swapped_in_bytes", NODE, "node_vmstat_pswpin", PAGE, COUNTER),
    Figure("vm", "", "swapped_out_bytes", NODE, "node_vmstat_pswpout", PAGE, COUNTER),
    Figure("vm", "", "kswapd_scanned_bytes", NODE, "node_vmstat_pgscan_kswapd", PAGE, COUNTER),
    Figure("vm", "", "kswapd_reclaimed_bytes", NODE, "node_vmstat_pgsteal_kswapd", PAGE, COUNTER),
    Figure("vm", "", "direct_scanned_bytes", NODE, "node_vmstat_pgscan_direct", PAGE, COUNTER),
    Figure("vm", "", "direct_reclaimed_bytes", NODE, "node_vmstat_pgsteal_direct", PAGE, COUNTER),
    Figure("vm", "", "refaulted_bytes", NODE, "node_vmstat_workingset_refault_anon + node_vmstat_workingset_refault_file", PAGE, COUNTER),
    Figure("vm", "", "allocation_stalls", NODE, "node_vmstat_allocstall_*", ONE, COUNTER),
    Figure("vm", "", "compaction_stalls", NODE, "node_vmstat_compact_stall", ONE, COUNTER),
    Figure("vm", "", "oom_kills", NODE, "node_vmstat_oom_kill", ONE, COUNTER),
    Figure("vm", "", "dirty_bytes", NODE, "node_memory_Dirty_bytes", ONE, JUMPING),
    Figure("vm", "", "writeback_bytes", NODE, "node_memory_Writeback_bytes", ONE, JUMPING),
    Figure("vm", "", "anonymous_bytes", NODE, "node_memory_AnonPages_bytes", ONE, JUMPING),
    Figure("vm", "", "mapped_bytes", NODE, "node_memory_Mapped_bytes", ONE, JUMPING),
    Figure("vm", "", "page_tables_bytes", NODE, "node_memory_PageTables_bytes", ONE, JUMPING),
    Figure("vm", "", "slab_reclaimable_bytes", NODE, "node_memory_SReclaimable_bytes", ONE, GAUGE),
    Figure("vm", "", "slab_unreclaimable_bytes", NODE, "node_memory_SUnreclaim_bytes", ONE, GAUGE),
    Figure("vm", "", "swapped_in_bytes", PSUTIL, "swap.sin", ONE, COUNTER),
    Figure("vm", "", "swapped_out_bytes", PSUTIL, "swap.sout", ONE, COUNTER),

    Figure("tcp", "", "established", NODE, "node_netstat_Tcp_CurrEstab", ONE, JUMPING),
    Figure("tcp", "", "time_wait", NODE, "node_sockstat_TCP_tw", ONE, JUMPING),
    Figure("tcp", "", "orphaned", NODE, "node_sockstat_TCP_orphan", ONE, JUMPING),
    Figure("tcp", "", "ipv4_sockets", NODE, "node_sockstat_TCP_inuse", ONE, JUMPING),
    Figure("tcp", "", "ipv6_sockets", NODE, "node_sockstat_TCP6_inuse", ONE, JUMPING),
    Figure("tcp", "", "allocated_sockets", NODE, "node_sockstat_TCP_alloc", ONE, JUMPING),
    Figure("tcp", "", "memory_bytes", NODE, "node_sockstat_TCP_mem_bytes", ONE, JUMPING),
    Figure("tcp", "", "active_opens", NODE, "node_netstat_Tcp_ActiveOpens", ONE, COUNTER),
    Figure("tcp", "", "passive_opens", NODE, "node_netstat_Tcp_PassiveOpens", ONE, COUNTER),
    Figure("tcp", "", "failed_attempts", NODE, "node_netstat_Tcp_AttemptFails", ONE, COUNTER),
    Figure("tcp", "", "established_resets", NODE, "node_netstat_Tcp_EstabResets", ONE, COUNTER),
    Figure("tcp", "", "rx_segments", NODE, "node_netstat_Tcp_InSegs", ONE, COUNTER),
    Figure("tcp", "", "tx_segments", NODE, "node_netstat_Tcp_OutSegs", ONE, COUNTER),
    Figure("tcp", "", "retransmitted_segments", NODE, "node_netstat_Tcp_RetransSegs", ONE, COUNTER),
    Figure("tcp", "", "rx_errors", NODE, "node_netstat_Tcp_InErrs", ONE, COUNTER),
    Figure("tcp", "", "tx_resets", NODE, "node_netstat_Tcp_OutRsts", ONE, COUNTER),
    Figure("tcp", "", "listen_overflows", NODE, "node_netstat_TcpExt_ListenOverflows", ONE, COUNTER),
    Figure("tcp", "", "listen_drops", NODE, "node_netstat_TcpExt_ListenDrops", ONE, COUNTER),
    Figure("tcp", "", "tx_syn_cookies", NODE, "node_netstat_TcpExt_SyncookiesSent", ONE, COUNTER),
    Figure("tcp", "", "timeouts", NODE, "node_netstat_TcpExt_TCPTimeouts", ONE, COUNTER),
    Figure("tcp", "", "retransmitted_syns", NODE, "node_netstat_TcpExt_TCPSynRetrans", ONE, COUNTER),
    Figure("tcp", "", "lost_retransmits", NODE, "node_netstat_TcpExt_TCPLostRetransmit", ONE, COUNTER),
    Figure("tcp", "", "backlog_drops", NODE, "node_netstat_TcpExt_TCPBacklogDrop", ONE, COUNTER),
    Figure("tcp", "", "timeout_aborts", NODE, "node_netstat_TcpExt_TCPAbortOnTimeout", ONE, COUNTER),
    Figure("tcp", "", "memory_aborts", NODE, "node_netstat_TcpExt_TCPAbortOnMemory", ONE, COUNTER),
    Figure("tcp", "", "established", PSUTIL, "tcp.established", ONE, JUMPING),
    Figure("tcp", "", "time_wait", PSUTIL, "tcp.time_wait", ONE, JUMPING),

    Figure("softnet", "cpu", "processed", NODE, "node_softnet_processed_total", ONE, COUNTER),
    Figure("softnet", "cpu", "dropped", NODE, "node_softnet_dropped_total", ONE, COUNTER),
    Figure("softnet", "cpu", "time_squeezed", NODE, "node_softnet_times_squeezed_total", ONE, COUNTER),
    Figure("interrupt", "interrupt=type", "interrupts", NODE, "node_interrupts_total", ONE, COUNTER),
    Figure("softirq", "type=vector", "softirqs", NODE, "node_softirqs_total", ONE, COUNTER),

    Figure("process", "pid", "start_us", PSUTIL, "process.start", SECOND, GAUGE),
    Figure("process", "pid", "cpu_user_us", PSUTIL, "process.user", SECOND, COUNTER),
    Figure("process", "pid", "cpu_system_us", PSUTIL, "process.system", SECOND, COUNTER),
    Figure("process", "pid", "rss_bytes", PSUTIL, "process.rss", ONE, JUMPING, RSS),
    Figure("process", "pid", "threads", PSUTIL, "process.threads", ONE, GAUGE),
    Figure("process", "pid", "open_files", PSUTIL, "process.files", ONE, JUMPING),
    Figure("process", "pid", "read_bytes", PSUTIL, "process.read_bytes", ONE, COUNTER),
    Figure("process", "pid", "write_bytes", PSUTIL, "process.write_bytes", ONE, COUNTER),

    Figure("kymo", "", "cpu_us", PSUTIL, "kymo.cpu", SECOND, COUNTER, TWO_TICKS),
    Figure("kymo", "", "rss_bytes", PSUTIL, "kymo.rss", ONE, JUMPING),
]

# The rows of a table that has only a choice of what there is: others may be missing.
CHOSEN = {"process"}


@dataclass
class Rows:
    """kymo's rows of a table by tick."""

    times: list[int]
    ticks: dict[int, list[dict[str, Any]]]

    def bracket(self, reading: Reading) -> tuple[int, int]:
        """The newest tick that was over when the reading began, and the first one that began when it had ended.

        A row's time is when its tick began, so a tick is known to be over only when the next one has begun.
        """
        low = bisect.bisect_right(self.times, reading.begun_us) - 2
        high = bisect.bisect_left(self.times, reading.ended_us)
        if low < 0 or high >= len(self.times):
            raise AssertionError("kymo has no ticks around a reading")
        return low, high

    def around(self, reading: Reading, window_us: int) -> tuple[int, int]:
        low, high = self.bracket(reading)
        first = min(low, bisect.bisect_left(self.times, reading.begun_us - window_us))
        last = max(high, bisect.bisect_right(self.times, reading.ended_us + window_us) - 1)
        return first, last


@dataclass
class Verdict:
    """What came of a column and a reader."""

    compared: int = 0
    outside: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    example: tuple[float, str] = (-1.0, "")
    first: dict[Key, float] = field(default_factory=dict)
    moved: set[Key] = field(default_factory=set)


def kymo_key(figure: Figure) -> tuple[list[str], dict[str, str]]:
    """The columns that tell rows apart, and the values that others must have."""
    parts = figure.labels.split()
    columns = [part.split("=")[0] for part in parts if ":" not in part]
    return columns, dict(part.split(":") for part in parts if ":" in part)


def kymo_values(figure: Figure, tick: list[dict[str, Any]]) -> Values:
    columns, wanted = kymo_key(figure)
    found: Values = {}
    for row in tick:
        if any(row[column] != value for column, value in wanted.items()):
            continue
        key = tuple(str(row[column]) for column in columns)
        if key in found:
            raise AssertionError(f"{figure.table} has two rows of {key} at one tick")
        if row[figure.column] is not None:
            found[key] = row[figure.column]
    return found


# --- the run ---------------------------------------------------------------------------------------------------------

# Traffic on loopback, writes that reach the disk, processes that come and go, memory that does, for a bounded time.
LOAD = r"""
import os, socket, sys, time
end = time.monotonic() + 120
listener = socket.create_server(("127.0.0.1", 0))
listener.settimeout(5)
with open(sys.argv[1], "wb") as file:
    while time.monotonic() < end:
        with socket.create_connection(listener.getsockname()) as sender, listener.accept()[0] as receiver:
            for _ in range(20):
                sender.sendall(b"x" * 65_536)
                left = 65_536
                while left:
                    left -= len(receiver.recv(left))
        file.seek(0)
        file.write(os.urandom(1 << 18))
        file.flush()
        os.fsync(file.fileno())
        touched = bytearray(1 << 22)
        if (child := os.fork()) == 0:
            os._exit(0)
        os.waitpid(child, 0)
        time.sleep(0.01)
"""


@contextlib.contextmanager
def load(path: pathlib.Path) -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", LOAD, str(path / "load")])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def tables() -> dict[str, dict[str, Any]]:
    return {table["name"]: table for table in rows(command("tables", "--format", "json"))}


def configuration(known: dict[str, dict[str, Any]]) -> str:
    """Every family that can be sampled, at 100 ms or as fast as it allows without force, in a collector of its own."""
    # By default, loop devices and the interfaces of containers have no rows.
    text = "[disk]\nexclude = []\n[network]\nexclude = []\n"
    for name, table in known.items():
        if (interval_min_us := table["interval_min_us"]) is not None:
            interval_us = max(interval_min_us, SAMPLE_INTERVAL_US)
            text += f'[collector.{name}]\ninterval = "{interval_us // 1_000}ms"\nmetrics = ["{name}"]\n'
    return text


def kymo_rows(daemon: Daemon, known: dict[str, dict[str, Any]]) -> dict[str, Rows]:
    found = {}
    with flightsql.connect(f"grpc://{daemon.address}", autocommit=True) as connection, connection.cursor() as cursor:
        for table in sorted({figure.table for figure in FIGURES} & known.keys()):
            columns = ", ".join(f'"{column["name"]}"' for column in known[table]["columns"] if column["name"] != "time")
            cursor.execute(f"SELECT arrow_cast(time, 'Int64') AS tick, {columns} FROM {table} ORDER BY tick")
            ticks = defaultdict(list)
            for row in cursor.fetch_arrow_table().to_pylist():
                ticks[row["tick"]].append(row)
            found[table] = Rows(list(ticks), dict(ticks))
    return found


def measure(path: pathlib.Path, known: dict[str, dict[str, Any]]) -> tuple[list[dict[str, Reading]], dict[str, Rows]]:
    """All readings, as one dict a round by reader or psutil group, and kymo's rows around them."""
    rounds = []
    groups = sorted({figure.name.split(".")[0] for figure in FIGURES if figure.reader == PSUTIL})
    with load(path) as busy, NodeExporter(path) as node, Daemon(path / "data", configuration(known)) as daemon:
        reader = Psutil(daemon.process.pid, [busy, os.getpid(), node.process.pid])
        # Each table must have ticks before the first reading, those of once a second too.
        time.sleep(4)
        for _ in range(ROUNDS):
            readings = {NODE: node.read(), **{group: reader.read(group) for group in groups}}
            rounds.append(readings)
            time.sleep(0.7)
        time.sleep(3)
        return rounds, kymo_rows(daemon, known)


# --- the comparison --------------------------------------------------------------------------------------------------

def reading_of(figure: Figure, readings: dict[str, Reading]) -> Reading:
    return readings[NODE if figure.reader == NODE else figure.name.split(".")[0]]


def other_values(figure: Figure, reading: Reading) -> Values | None:
    """The other reader's values of a figure, in kymo's unit."""
    names = [part.split("=")[-1] for part in figure.labels.split() if ":" not in part]
    values = reading.values(figure.name, names)
    return values and {key: value * figure.factor for key, value in values.items()}


def inside(figure: Figure, other: float, samples: list[float]) -> bool:
    # Seconds are floats, which are not exact in the last digits.
    slack = figure.slack + abs(other) * 1e-12
    if figure.how == COUNTER:
        return samples[0] - slack <= other <= samples[-1] + slack
    near = (abs(sample - other) <= GAUGE_TOLERANCE * max(abs(sample), abs(other)) for sample in (samples[0], samples[-1]))
    return min(samples) - slack <= other <= max(samples) + slack or any(near)


def compare(figure: Figure, rounds: list[dict[str, Reading]], table: Rows, verdict: Verdict) -> None:
    """Compares all rows of all rounds."""
    missed: dict[Key, list[str]] = defaultdict(list)
    held: dict[Key, int] = defaultdict(int)
    for number, readings in enumerate(rounds):
        reading = reading_of(figure, readings)
        low, high = table.bracket(reading)
        if figure.how == JUMPING:
            low, high = table.around(reading, JUMPING_WINDOW_US)
        ticks = [kymo_values(figure, table.ticks[time_us]) for time_us in table.times[low:high + 1]]
        others = other_values(figure, reading) or {}
        verdict.missing |= {" ".join(key) for key in ticks[0].keys() - others.keys()} if figure.table not in CHOSEN else set()
        for key, other in others.items():
            samples = samples_of(figure, key, ticks)
            if not samples:
                # In some tables, what never did anything has no row.
                if other != 0 and figure.table not in CHOSEN:
                    missed[key].append(f"round {number}: kymo has nothing of {shown_key(key)} {figure.name} {other:.15g}")
                continue
            told = f"{shown_key(key)} kymo {samples[0]:.15g}…{samples[-1]:.15g}, {figure.reader} {other:.15g}"
            if inside(figure, other, samples):
                held[key] += 1
            else:
                missed[key].append(f"round {number}: {told}")
            note(verdict, (figure.labels, *key), other, told)
    for key, texts in missed.items():
        # Figures that jump must be inside in most rounds, all others in all.
        if figure.how != JUMPING or held[key] <= len(texts):
            verdict.outside += texts


def samples_of(figure: Figure, key: Key, ticks: list[Values]) -> list[float]:
    """kymo's samples of a row, from the first of these ticks to the last. Empty if the row was not there all the time."""
    if key not in ticks[-1] or (key not in ticks[0] and (figure.table in CHOSEN or figure.how != COUNTER)):
        return []
    # Disks and interrupts get a row once they have done something. Before that, the figure was 0.
    return [ticks[0].get(key, 0), *(tick[key] for tick in ticks[1:] if key in tick)]


def note(verdict: Verdict, key: Key, other: float, told: str) -> None:
    verdict.compared += 1
    if verdict.first.setdefault(key, other) != other:
        verdict.moved.add(key)
    if other >= verdict.example[0]:
        verdict.example = (other, told)


def shown_key(key: Key) -> str:
    return "/".join(key) + ":" if key else ""


def judge(rounds: list[dict[str, Reading]], found: dict[str, Rows]) -> dict[tuple[str, str, str], Verdict]:
    verdicts: dict[tuple[str, str, str], Verdict] = defaultdict(Verdict)
    for figure in FIGURES:
        verdict = verdicts[figure.table, figure.column, figure.reader]
        has_other = any(other_values(figure, reading_of(figure, readings)) for readings in rounds)
        if figure.table not in found:
            verdict.outside.append(f"this kymo has no table {figure.table}")
        elif not has_other:
            verdict.skipped.append(f"{figure.reader} has no {figure.name} on this host")
        elif not found[figure.table].times:
            verdict.outside.append(f"kymo has no rows, {figure.reader} has {figure.name}")
        else:
            compare(figure, rounds, found[figure.table], verdict)
    return verdicts


def report(verdicts: dict[tuple[str, str, str], Verdict]) -> bool:
    compared = outside = moved = rows_compared = 0
    for (table, column, reader), verdict in verdicts.items():
        name = f"{table}.{column}"
        if verdict.compared or verdict.outside:
            compared += 1
            outside += bool(verdict.outside)
            moved += bool(verdict.moved)
            rows_compared += verdict.compared
            state = "OUTSIDE" if verdict.outside else "ok"
            print(f"{state:8}{name:32}{reader:14}{verdict.compared:5} rows, {len(verdict.moved):2} moved; {verdict.example[1]}")
            for text in verdict.outside:
                print(f"          {text}")
        for text in dict.fromkeys(verdict.skipped):
            print(f"skipped {name:32}{text}")
        if verdict.missing:
            print(f"note    {name:32}{reader} has no row of {', '.join(sorted(verdict.missing))}")
        if not (verdict.compared or verdict.outside or verdict.skipped):
            print(f"skipped {name:32}{reader}: no row that both have")
    print(f"{compared} figures compared in {rows_compared} rows, {moved} of them moved, {outside} outside")
    return compared >= FIGURES_MIN and outside == 0


def main() -> None:
    known = tables()
    try:
        with folder() as path:
            rounds, found = measure(path, known)
    except debian.Unavailable as error:
        sys.exit(f"FAILED there is no node_exporter to compare with: {error}")
    held = report(judge(rounds, found))
    print("1 passed, 0 failed" if held else f"0 passed, 1 failed: at least {FIGURES_MIN} figures must be compared, and none be outside")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
