"""Other programs that read the kernel's figures: Debian's node_exporter, and psutil. Each figure has a name there.

For node_exporter it is the name of a metric, such as `node_cpu_seconds_total`. A label in braces chooses samples; over the
labels that are not asked for, samples are summed up. A star at the end stands for all metrics that begin so, and names may be
added and subtracted. For psutil it is the group of a function and a field: `memory.free`.
"""

import http.client
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

import debian
from harness import wait_for

NODE_ARGUMENTS = [
    "--collector.stat.softirq", "--collector.interrupts", "--collector.diskstats.device-exclude=^$",
    "--collector.netdev.device-exclude=^$", "--collector.netstat.fields=^(Tcp|TcpExt)_",
    "--collector.vmstat.fields=^(oom_kill|pg|pswp|workingset_refault|allocstall|compact_stall)",
    "--collector.filesystem.mount-points-exclude=^/(proc|run|sys|var/lib)/", "--no-collector.systemd", "--no-collector.textfile",
]
# File systems without a device of which kymo has rows, unless they belong to a single program.
WITH_FILES = {"9p", "ceph", "cifs", "fuse", "nfs", "nfs4", "smb3", "tmpfs", "virtiofs", "zfs"}
# File systems on a device that are always full.
IMAGES = ["cramfs", "erofs", "iso9660", "romfs", "squashfs"]
# The kernel's name of a softirq that has another name in node_exporter.
SOFTIRQ_NAMES = {"block_iopoll": "IRQ_POLL"}

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
TERM = re.compile(r'([+-]?)\s*(\w+\*?)(?:\{(\w+)="(\w+)"\})?')

Key = tuple[str, ...]
Values = dict[Key, float]
Metrics = dict[str, list[tuple[dict[str, str], float]]]


@dataclass
class Reading:
    """A reader's answer, and the times at which it was asked and had answered, µs since the epoch."""

    begun_us: int
    ended_us: int
    # The values of a name, by the values of the labels asked for; `None` if the reader does not have it.
    values: Callable[[str, list[str]], Values | None]


class NodeExporter:
    """Debian's node_exporter on a free port of loopback."""

    def __init__(self, path: pathlib.Path):
        program = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
        self.program = program or debian.fetch("prometheus-node-exporter", path).program("prometheus-node-exporter")
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.connection = http.client.HTTPConnection(address, timeout=30)
        self.log = open(path / "node_exporter.log", "w+", encoding="utf-8")
        arguments = [*NODE_ARGUMENTS, f"--web.listen-address={address}", without_device()]
        self.process = subprocess.Popen([self.program, *arguments], stderr=self.log)

    def __enter__(self) -> "NodeExporter":
        wait_for(self.answers, 30, "node_exporter answers")
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def answers(self) -> bool:
        if self.process.poll() is not None:
            self.log.seek(0)
            raise AssertionError(f"node_exporter ended: {self.log.read()[-500:]}")
        try:
            return bool(self.scrape())
        except OSError:
            self.connection.close()
            return False

    def scrape(self) -> str:
        # Always over the same connection: a new one each time would change the figures that are compared.
        self.connection.request("GET", "/metrics")
        return self.connection.getresponse().read().decode()

    def read(self) -> Reading:
        begun_us = now_us()
        text = self.scrape()
        ended_us = now_us()
        metrics: Metrics = defaultdict(list)
        for line in text.splitlines():
            if not line.startswith("#") and (match := SAMPLE.match(line)):
                metrics[match[1]].append((dict(LABEL.findall(match[2] or "")), float(match[3])))
        return Reading(begun_us, ended_us, lambda name, labels: sums(name, labels, metrics))


def without_device() -> str:
    """Excludes the file systems that hold no files of their own, of which kymo has no rows."""
    lines = pathlib.Path("/proc/filesystems").read_text(encoding="ascii").splitlines()
    names = [re.escape(line.split()[1]) for line in lines if line.startswith("nodev") and line.split()[1] not in WITH_FILES]
    return f"--collector.filesystem.fs-types-exclude=^({'|'.join(names + IMAGES)})$"


def sums(name: str, labels: list[str], metrics: Metrics) -> Values | None:
    """The terms of a name, summed up by the labels asked for. `None` if a term is missing."""
    found: Values = defaultdict(float)
    for sign, metric, label, value in TERM.findall(name):
        samples = [one for match in matching(metric, metrics) for one in metrics[match]]
        chosen = [one for one in samples if not label or one[0][label] == value]
        if not chosen:
            return None
        for have, number in chosen:
            key = tuple(renamed(metric, have[label]) for label in labels)
            found[key] += -number if sign == "-" else number
    return dict(found)


def matching(name: str, metrics: Metrics) -> list[str]:
    """The name itself, or all metrics that begin with it if it ends in a star."""
    if name.endswith("*"):
        return [metric for metric in metrics if metric.startswith(name[:-1])]
    return [name] if name in metrics else []


def renamed(metric: str, label: str) -> str:
    return SOFTIRQ_NAMES.get(label, label.upper()) if metric == "node_softirqs_total" else label


class Psutil:
    """psutil. Each of its functions is asked separately."""

    def __init__(self, kymo: int, others: list[int]):
        self.kymo = psutil.Process(kymo)
        self.processes = [self.kymo, *map(psutil.Process, others)]
        self.groups: dict[str, Callable[[], dict[Key, dict[str, float]]]] = {
            "cpu": cpu_times,
            "memory": lambda: {(): psutil.virtual_memory()._asdict()},
            "swap": lambda: {(): psutil.swap_memory()._asdict()},
            "disk": lambda: keyed(psutil.disk_io_counters(perdisk=True, nowrap=False)),
            "network": lambda: keyed(psutil.net_io_counters(pernic=True, nowrap=False)),
            "filesystem": lambda: keyed({one.mountpoint: psutil.disk_usage(one.mountpoint) for one in psutil.disk_partitions()}),
            "stats": lambda: {(): psutil.cpu_stats()._asdict()},
            "load": lambda: {(): dict(zip(("one", "five", "fifteen"), psutil.getloadavg(), strict=True))},
            "clock": lambda: {(): {"uptime": time.time() - psutil.boot_time()}},
            "tcp": connections,
            "process": lambda: {(str(process.pid),): figures_of(process) for process in self.processes},
            "kymo": lambda: {(): own_figures(self.kymo)},
        }

    def read(self, group: str) -> Reading:
        begun_us = now_us()
        found = self.groups[group]()
        ended_us = now_us()

        def values(name: str, _: list[str]) -> Values | None:
            field = name.split(".")[1]
            return {key: one[field] for key, one in found.items() if field in one} or None

        return Reading(begun_us, ended_us, values)


def keyed(answer: dict[str, Any]) -> dict[Key, dict[str, float]]:
    return {(name,): one._asdict() for name, one in answer.items()}


def cpu_times() -> dict[Key, dict[str, float]]:
    each = keyed({str(number): times for number, times in enumerate(psutil.cpu_times(percpu=True))})
    return {("total",): psutil.cpu_times()._asdict(), **each}


def connections() -> dict[Key, dict[str, float]]:
    states = [one.status for one in psutil.net_connections("tcp")]
    # The kernel counts connections that wait for their process to close as established, too.
    established = states.count(psutil.CONN_ESTABLISHED) + states.count(psutil.CONN_CLOSE_WAIT)
    return {(): {"established": established, "time_wait": states.count(psutil.CONN_TIME_WAIT)}}


def figures_of(process: psutil.Process) -> dict[str, float]:
    # To count its own open files, a process opens a folder, which is then one of them.
    counting = 1 if process.pid == os.getpid() else 0
    with process.oneshot():
        cpu, io = process.cpu_times(), process.io_counters()
        return {
            "start": process.create_time() - psutil.boot_time(), "user": cpu.user, "system": cpu.system,
            "rss": process.memory_info().rss, "threads": process.num_threads(), "files": process.num_fds() - counting,
            "read_bytes": io.read_bytes, "write_bytes": io.write_bytes}


def own_figures(process: psutil.Process) -> dict[str, float]:
    cpu = process.cpu_times()
    return {"cpu": cpu.user + cpu.system, "rss": process.memory_info().rss}


def now_us() -> int:
    return time.time_ns() // 1_000
