"""Whether queries disturb sampling: the ticks that `burst` misses while the host is idle, and beside hostile statements.

    python3 benches/interference.py [seconds] [--turns 3] [--cpu 0]      default 30 s; uses target/release/kymo, or KYMO_BIN

In each turn the daemon is left alone, then four clients ask statements of tests/clients/check_hostile.py one after the other,
and then, as a control, busy loops take the place of queries: as many as there are CPUs that queries leave nobody else, each on
its CPU and at the priority of queries. What the control misses more than the idle host is not of kymo's making: on a virtual
machine the host gives a busy guest less, which shows as stolen time (`steal` of proc_stat(5)). The clients run on the CPU `--cpu` and only where nothing else wants to, as most are
on other hosts.
"""

import argparse
import contextlib
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "clients"))
from check_hostile import ask, statements  # noqa: E402
from harness import Daemon  # noqa: E402

CONFIG = '[query]\ntime_max = "1s"\n'
CLIENTS = 4
LONGEST = 100_000
BUSY = "import os\nos.nice(10)\nos.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))\nwhile True: pass"


def scheduled(daemon):
    (row,) = daemon.query("SELECT missed_ticks, scheduled_ticks FROM collector WHERE collector = 'burst' ORDER BY time DESC LIMIT 1")
    return row["missed_ticks"], row["scheduled_ticks"]


def stolen():
    """Time that the hypervisor gave to others while a CPU of this host had work, seconds over all CPUs."""
    with open("/proc/stat", encoding="ascii") as stat:
        return int(stat.readline().split()[8]) / os.sysconf("SC_CLK_TCK")


def lateness(daemon, seconds):
    """The p99 and the maximum of each second's lateness, µs: their medians."""
    past = f"FROM collector WHERE collector = 'burst' AND time > now() - interval '{int(seconds)} seconds'"
    rows = daemon.query(f"SELECT lateness_p99_us AS p99, lateness_max_us AS most {past}")
    return [statistics.median(row[name] for row in rows) for name in ("p99", "most")]


def hostile(daemon, seconds, seed):
    everything = [statement.sql for statement in statements() if len(statement.sql) < LONGEST]
    until = time.monotonic() + seconds

    def client(number):
        order = random.Random(seed * CLIENTS + number)
        while time.monotonic() < until:
            ask(daemon, order.choice(everything))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def busy(daemon, seconds):
    """One loop on each CPU but the last ones, one of eight, that queries leave to collectors."""
    cpus = sorted(os.sched_getaffinity(daemon.process.pid))
    loops = [subprocess.Popen([sys.executable, "-c", BUSY], preexec_fn=lambda cpu=cpu: os.sched_setaffinity(0, {cpu}))
             for cpu in cpus[: len(cpus) - -(-len(cpus) // 8)]]
    burst = next(int(task.name) for task in pathlib.Path(f"/proc/{daemon.process.pid}/task").iterdir()
                 if (task / "comm").read_text().strip() == "kymo-burst")
    os.sched_setaffinity(burst, set(cpus[len(loops):]))
    time.sleep(seconds)
    os.sched_setaffinity(burst, set(cpus))
    for loop in loops:
        loop.kill()
        loop.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=float, default=30)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--cpu", type=int, default=0)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        data = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kymo-bench-"))) / "data"
        daemon = stack.enter_context(Daemon(data, CONFIG))
        time.sleep(5)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        os.sched_setaffinity(0, {arguments.cpu})
        phases = {"idle": lambda _: time.sleep(arguments.seconds), "hostile": lambda turn: hostile(daemon, arguments.seconds, turn),
                  "control": lambda _: busy(daemon, arguments.seconds)}
        rates = {name: [] for name in phases}
        for turn in range(arguments.turns):
            for name, phase in phases.items():
                missed, due = scheduled(daemon)
                began, stolen_before = time.monotonic(), stolen()
                phase(turn)
                took, lost = time.monotonic() - began, stolen() - stolen_before
                # The last second is reported at its end.
                time.sleep(1.1)
                late = lateness(daemon, took)
                more_missed, more_due = scheduled(daemon)
                rates[name].append(100 * (more_missed - missed) / (more_due - due))
                print(f"{name:8} missed {more_missed - missed:5} of {more_due - due} ticks, {rates[name][-1]:.2f} %; late by"
                      f" {late[0]:.0f} µs (p99), {late[1]:.0f} µs (most); stolen {1000 * lost / took:.1f} ms a second", flush=True)
        print("medians: " + ", ".join(f"{name} {statistics.median(rate):.2f} %" for name, rate in rates.items()))


main()
