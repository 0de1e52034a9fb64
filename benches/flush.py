"""What it costs to flush a minute of rows of the default configuration: CPU of the flush thread, and lateness of `burst`,
compared with a kymo that does not flush.

    python3 benches/flush.py [--minutes 3] [--turns 3]      uses target/release/kymo, or KYMO_BIN

Two kymos take turns: one flushes every minute, the other only when it ends. CPU is the run time of the flush thread from
/proc/<pid>/task/<tid>/schedstat, divided by the number of flushes. What tiers add to it is told by the daemon, which logs the
thread's CPU time for tiers and for rows at level debug. Lateness is defined in `benches/lateness.py` and covers all
ticks of a turn. A flush takes about 0.2 % of the time, so p99.9 shows it.
"""

import argparse
import pathlib
import re
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "clients"))
from harness import Daemon, folder  # noqa: E402
from lateness import WARM_UP_SECONDS, figures, folder_of, shown, turn_of  # noqa: E402

FLUSH_SECONDS = 60
CPU_MS_MAX = 150
# The CPU of a flush with tiers, by that of its rows alone.
TIERS_RATIO_MAX = 1.25
LOGGED = {"KYMO_LOG__FILTER": "info,kymo::daemon::flusher=debug"}
PARTS = re.compile(r"flushed.* tiers_cpu_us=(\d+) rows_cpu_us=(\d+)")
RATIO_MAX = 1.2
# The store also flushes when its memory is half full.
NEVER = {"KYMO_STORAGE__FLUSH_INTERVAL": "24h", "KYMO_STORAGE__HOT_BYTES_MAX": "4GiB"}


def flush_thread_ms(pid):
    """The CPU time of the flush thread so far."""
    (task,) = [task for task in pathlib.Path(f"/proc/{pid}/task").iterdir() if (task / "comm").read_text().strip() == "kymo-flush"]
    return int((task / "schedstat").read_text().split()[0]) / 1e6


def turn(path, minutes, environment):
    """Lateness, ms of CPU in all, flushes, and of each the µs of CPU for tiers and for rows."""
    with folder_of(path) as data:
        with Daemon(data, environment=environment | LOGGED) as daemon:
            time.sleep(minutes * FLUSH_SECONDS + WARM_UP_SECONDS + 5)
            used, flushes = flush_thread_ms(daemon.process.pid), daemon.value("SELECT max(flushes) AS n FROM kymo")
            parts = [tuple(map(int, found.groups())) for line in daemon.log if (found := PARTS.search(line))]
        return figures(turn_of(data, False).wakes), used, flushes, parts


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--minutes", type=int, default=3, help="length of a turn")
    arguments.add_argument("--turns", type=int, default=3)
    asked = arguments.parse_args()
    costs, flushing, quiet, parts = [], [], [], []
    with folder() as path:
        for number in range(1, asked.turns + 1):
            late, used, flushes, told = turn(path, asked.minutes, {})
            assert len(told) >= flushes >= asked.minutes, (told, flushes, asked.minutes)
            parts += told
            flushing.append(late)
            costs.append(used / flushes)
            print(f"turn {number}, flushing: {shown(late)}; {flushes} flushes, {costs[-1]:.0f} ms of CPU each", flush=True)
            late, used, flushes, _ = turn(path, asked.minutes, NEVER)
            assert flushes == 0, flushes
            quiet.append(late)
            print(f"turn {number}, not: {shown(late)}; {used:.0f} ms of CPU of the flush thread in all", flush=True)
    cost = statistics.median(costs)
    print(f"flush: {cost:.0f} ms of CPU, limit {CPU_MS_MAX} {'kept' if cost <= CPU_MS_MAX else 'exceeded'}")
    tiers, rows = (sum(one[at] for one in parts) / 1000 for at in (0, 1))
    ratio = (tiers + rows) / rows
    print(f"flush: CPU with tiers ÷ of rows alone = {ratio:.2f} ({tiers:.0f}, {rows:.0f} ms in {len(parts)} flushes),"
          f" limit {TIERS_RATIO_MAX} {'kept' if ratio <= TIERS_RATIO_MAX else 'exceeded'}")
    median = [statistics.median(one["p99.9"] for one in turns) for turns in (flushing, quiet)]
    ratio = median[0] / median[1]
    print(f"flush: lateness p99.9 flushing ÷ not = {ratio:.2f} ({median[0]:.0f}, {median[1]:.0f} µs),"
          f" limit {RATIO_MAX} {'kept' if ratio <= RATIO_MAX else 'exceeded'}")


if __name__ == "__main__":
    main()
