"""What the whole daemon costs in its default configuration: CPU and memory, beside the floor of a thread that only
sleeps and wakes as often as the fastest collector, and of one that also reads the files bare.

    python3 benches/daemon.py [seconds]      default 300; uses target/release/kymo, or KYMO_BIN

The floor runs in a process of its own in turns with the daemon, on the same machine, a minute each, so that a busy
neighbour hits both. CPU is user and system time of the process from /proc, in per cent of one core.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "clients"))
from harness import Daemon  # noqa: E402

FLOOR = r"""
#include <fcntl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static char buffer[1 << 20];

int main(int argc, char **argv) {
    int reads = argc > 1;
    int network = open("/proc/net/dev", O_RDONLY), disk = open("/proc/diskstats", O_RDONLY);
    int cpu = open("/proc/stat", O_RDONLY), memory = open("/proc/meminfo", O_RDONLY);
    prctl(PR_SET_TIMERSLACK, 1);
    struct timespec due;
    clock_gettime(CLOCK_MONOTONIC, &due);
    for (unsigned tick = 0;; tick++) {
        due.tv_nsec += 1000000;
        if (due.tv_nsec >= 1000000000) { due.tv_nsec -= 1000000000; due.tv_sec++; }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, 0);
        if (reads) { pread(network, buffer, sizeof buffer, 0); pread(disk, buffer, sizeof buffer, 0); }
        if (reads && tick % 10 == 0) { pread(cpu, buffer, sizeof buffer, 0); pread(memory, buffer, sizeof buffer, 0); }
    }
}
"""


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def floor(folder, seconds, *arguments):
    process = subprocess.Popen([f"{folder}/floor", *arguments])
    try:
        time.sleep(2)
        before = cpu_seconds(process.pid)
        time.sleep(seconds)
        return (cpu_seconds(process.pid) - before) / seconds
    finally:
        process.kill()
        process.wait()


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300
    with tempfile.TemporaryDirectory(prefix="kymo-cost-") as folder:
        source = pathlib.Path(folder) / "floor.c"
        source.write_text(FLOOR)
        subprocess.run(["cc", "-O2", "-o", f"{folder}/floor", str(source)], check=True)
        floor_share = floor(folder, min(60, seconds))
        reading_share = floor(folder, min(60, seconds), "read")
        print(f"floor: a thread that wakes 1,000 times a second: {floor_share:.2%} of one core", flush=True)
        print(f"floor: and reads what burst and system read, at their intervals: {reading_share:.2%} of one core", flush=True)
        with Daemon(pathlib.Path(folder) / "data") as daemon:
            time.sleep(5)
            before, began = daemon.cpu_seconds(), time.monotonic()
            peak, minutes = 0, []
            last = before
            for second in range(int(seconds)):
                time.sleep(1)
                peak = max(peak, daemon.rss_bytes())
                if second % 60 == 59:
                    now = daemon.cpu_seconds()
                    minutes.append((now - last) / 60)
                    last = now
            share = (daemon.cpu_seconds() - before) / (time.monotonic() - began)
            print(f"daemon: {share:.2%} of one core over {seconds:.0f} s, by minute: {', '.join(f'{m:.2%}' for m in minutes)}")
            print(f"daemon: {peak / 1e6:.0f} MB of memory at most")
            for row in daemon.query(
                "SELECT collector, max(scheduled_ticks) AS scheduled, max(missed_ticks) AS missed, max(read_us) AS read_us,"
                " max(ticks) AS ticks FROM collector GROUP BY collector ORDER BY collector"):
                print(f"{row['collector']}: {row['scheduled']} ticks, {row['missed']} missed,"
                      f" {row['read_us'] / max(1, row['ticks']):.1f} µs a tick in samplers")
        print(f"daemon ÷ floor: {share / floor_share:.2f}, ÷ floor with reading: {share / reading_share:.2f}")


if __name__ == "__main__":
    main()
