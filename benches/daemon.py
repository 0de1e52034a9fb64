"""What the whole daemon costs in its default configuration, beside the floor: a program that only sleeps and reads.

    python3 benches/daemon.py [seconds] [--turns 3]      default 300 s; uses target/release/kymo, or KYMO_BIN

The floor is one C program with a thread for each collector. Each thread sleeps on an absolute grid at the collector's
interval and reads what the collector reads, on descriptors that stay open. It does nothing with the bytes. What it reads is
taken from a running daemon: its open files of procfs and sysfs, its mount points, and the processes that have a row. A file
that belongs to no collector ends the bench, so the floor cannot fall behind the daemon.

In a turn both programs run, and one of them is always stopped (SIGSTOP): the daemon runs for 30 seconds, then the floor for
ten, until the daemon has run for `seconds`. So a busy neighbour meets both. CPU is user and system time from /proc, in per
cent of one core, of the time that a program was not stopped. All figures are medians of the turns.
"""

import argparse
import contextlib
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "clients"))
from harness import Daemon  # noqa: E402

# Seconds after which the other program runs.
DAEMON_SLICE, FLOOR_SLICE = 30, 10
# Before it is measured, a program opens its files.
SETTLE_SECONDS = 5

# Of each file that the daemon has open: which collectors read it, and at which of their ticks. `config.toml` says at what
# intervals they tick.
INTERVALS_MS = {"burst": 1, "system": 10, "kernel": 100, "slow": 1_000, "mounts": 1_000}
FILES = [
    (r"/proc/\d+/net/dev", {"burst": 1}),
    (r"/sys/devices/.*/block/.*/stat", {"burst": 1}),
    # The whole file is read at every tick only where devices have no files of their own that are read instead.
    (r"/proc/diskstats", {"burst": 100}),
    (r"/proc/stat", {"system": 1, "slow": 1}),
    (r"/proc/(meminfo|vmstat|softirqs|pressure/\w+)", {"kernel": 1}),
    (r"/proc/\d+/net/(snmp|netstat|sockstat6?|softnet_stat)", {"kernel": 1}),
    (r"/proc/(loadavg|uptime|interrupts)", {"slow": 1}),
    (r"/sys/fs/cgroup/.*/?[a-z]+\.[\w.]+", {"slow": 1}),
    (r"/sys/devices/.*/(temp\d+_input|energy_uj)", {"slow": 1}),
    (r"/proc/\d+/mounts|/proc/filesystems", {"mounts": 1}),
]
PROCESS_FILE = re.compile(r"/proc/\d+/(stat|io)")
CGROUP_LIMITS = ("memory.max", "memory.limit_in_bytes")
# Groups are looked for so often, in ticks of `slow`.
CGROUP_WALK_TICKS = 10

FLOOR = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 20, PAGE_BYTES = 4096, CALLS_MAX = 65536, COLLECTORS_MAX = 16, PID_MAX = 1 << 22 };
enum { STOPPED_NS = 500000000 };

/* What is done at every so many ticks: 'r' reads an open file, 'o' opens, reads and closes one, 's' asks for the state of a
   path, 'v' for the space of a mount, 'l' lists a folder, 'p' lists procfs and reads the open `stat` of each process. */
struct call { char kind; unsigned every; int file; int reads; char *path; };
struct collector { char name[16]; long interval_ns; int calls; struct call call[CALLS_MAX]; pthread_t thread; };

static struct collector collectors[COLLECTORS_MAX];
static int stats[PID_MAX];

static int read_all(int file, char *buffer, int reads_max) {
    long offset = 0, length;
    int reads = 0;
    while (reads < reads_max && (length = pread(file, buffer, BUFFER_BYTES, offset)) > 0) { offset += length; reads++; }
    return reads;
}

static void processes(DIR *proc, char *buffer) {
    rewinddir(proc);
    for (struct dirent *entry; (entry = readdir(proc));) {
        int pid = atoi(entry->d_name);
        if (pid <= 0 || pid >= PID_MAX) continue;
        if (stats[pid] <= 0) {
            char path[32];
            snprintf(path, sizeof path, "%d/stat", pid);
            stats[pid] = openat(dirfd(proc), path, O_RDONLY | O_CLOEXEC);
        }
        if (stats[pid] > 0 && pread(stats[pid], buffer, BUFFER_BYTES, 0) <= 0) { close(stats[pid]); stats[pid] = 0; }
    }
}

static void do_call(struct call *call, char *buffer, DIR *proc) {
    struct stat state;
    struct statvfs space;
    DIR *folder;
    int file;
    switch (call->kind) {
    case 'r': read_all(call->file, buffer, call->reads); break;
    case 'o': if ((file = open(call->path, O_RDONLY | O_CLOEXEC)) >= 0) { read_all(file, buffer, 1); close(file); } break;
    case 's': stat(call->path, &state); break;
    case 'v': statvfs(call->path, &space); break;
    case 'l': if ((folder = opendir(call->path))) { while (readdir(folder)); closedir(folder); } break;
    case 'p': processes(proc, buffer); break;
    }
}

static void *run(void *argument) {
    struct collector *collector = argument;
    char *buffer = aligned_alloc(PAGE_BYTES, BUFFER_BYTES);
    DIR *proc = opendir("/proc");
    struct timespec due, now;
    prctl(PR_SET_NAME, collector->name);
    prctl(PR_SET_TIMERSLACK, 1);
    for (int at = 0; at < collector->calls; at++) {
        struct call *call = &collector->call[at];
        if (call->kind != 'r') continue;
        call->file = open(call->path, O_RDONLY | O_CLOEXEC);
        /* A process may have ended. A floor without any other file would be too low. */
        if (call->file < 0 && strncmp(call->path, "/proc/", 6)) { perror(call->path); exit(1); }
        call->reads = read_all(call->file, buffer, 1 << 30);
    }
    clock_gettime(CLOCK_MONOTONIC, &due);
    for (unsigned tick = 1;; tick++) {
        due.tv_nsec += collector->interval_ns;
        while (due.tv_nsec >= 1000000000) { due.tv_nsec -= 1000000000; due.tv_sec++; }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, 0);
        clock_gettime(CLOCK_MONOTONIC, &now);
        long late_ns = (now.tv_sec - due.tv_sec) * 1000000000L + now.tv_nsec - due.tv_nsec;
        if (late_ns > STOPPED_NS) {
            /* It was stopped. It goes on with the next point of its grid. */
            long missed_ns = late_ns / collector->interval_ns * collector->interval_ns;
            due.tv_sec += missed_ns / 1000000000;
            due.tv_nsec += missed_ns % 1000000000;
            tick--;
            continue;
        }
        for (int at = 0; at < collector->calls; at++)
            if (tick % collector->call[at].every == 0) do_call(&collector->call[at], buffer, proc);
    }
}

/* A line of its input is: collector, interval in ms, kind, every so many ticks, path. */
int main(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    char name[16], kind, path[4096];
    unsigned every;
    long interval_ms;
    int count = 0;
    while (scanf("%15s %ld %c %u %4095[^\n]", name, &interval_ms, &kind, &every, path) == 5) {
        int at = 0;
        while (at < count && strcmp(collectors[at].name, name)) at++;
        if (at == COLLECTORS_MAX || collectors[at].calls == CALLS_MAX) return 1;
        if (at == count) { count++; strcpy(collectors[at].name, name); collectors[at].interval_ns = interval_ms * 1000000; }
        struct call call = {kind, every, -1, 0, strdup(path)};
        collectors[at].call[collectors[at].calls++] = call;
    }
    for (int at = 0; at < count; at++) pthread_create(&collectors[at].thread, 0, run, &collectors[at]);
    pause();
}
"""


def calls(daemon):
    """What the floor does: lines of collector, interval, kind of call, ticks between two calls, and path."""
    found = []

    def add(collector, kind, every, path):
        found.append(f"{collector} {INTERVALS_MS[collector]} {kind} {every} {path}")

    own = f"/proc/{daemon.process.pid}/"
    links = [os.readlink(link) for link in pathlib.Path(f"{own}fd").iterdir() if link.is_symlink()]
    files = sorted({link for link in links if re.match(r"/(proc|sys)/", link) and not os.path.isdir(link)})
    has_own_stats = any("/block/" in file for file in files)
    for file in files:
        if PROCESS_FILE.fullmatch(file):
            continue
        readers = next((readers for pattern, readers in FILES if re.fullmatch(pattern, file)), None)
        if readers is None:
            sys.exit(f"the daemon reads {file}, which the floor does not know")
        for collector, every in readers.items():
            every = 1 if file == "/proc/diskstats" and not has_own_stats else every
            add(collector, "r", every, file.replace(own, "/proc/self/"))
    groups = sorted({os.path.dirname(file) for file in files if file.startswith("/sys/fs/cgroup/")})
    for group in groups:
        add("slow", "s", 1, group)
        add("slow", "l", CGROUP_WALK_TICKS, group)
        for limit in CGROUP_LIMITS:
            if os.path.exists(f"{group}/{limit}"):
                add("slow", "o", 1, f"{group}/{limit}")
    add("slow", "p", 1, "/proc")
    for row in daemon.query("SELECT DISTINCT pid FROM process WHERE time = (SELECT max(time) FROM process)"):
        add("slow", "r", 1, f"/proc/{row['pid']}/io")
        add("slow", "s", 1, f"/proc/{row['pid']}/fd")
    for row in daemon.query("SELECT DISTINCT mountpoint FROM filesystem WHERE total_bytes IS NOT NULL"):
        add("mounts", "v", 1, row["mountpoint"])
    return found


def cpu_seconds(pid):
    """Of the whole process, and of each of its threads by name; threads of one name are summed up."""
    def seconds(file):
        name, fields = re.fullmatch(r"\d+ \((.*)\) (.*)", file.read_text().strip(), re.DOTALL).groups()
        fields = fields.split()
        return name, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    threads = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            name, used = seconds(task / "stat")
        except OSError:
            # It has ended meanwhile.
            continue
        threads[name] = threads.get(name, 0) + used
    return seconds(pathlib.Path(f"/proc/{pid}/stat"))[1], threads


class Meter:
    """The CPU that a process uses while it is not stopped. It is stopped at first."""

    def __init__(self, pid):
        self.pid, self.took = pid, 0
        os.kill(pid, signal.SIGSTOP)
        self.before = cpu_seconds(pid)

    def let_run(self, seconds):
        os.kill(self.pid, signal.SIGCONT)
        began = time.monotonic()
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGSTOP)
        self.took += time.monotonic() - began

    def shares(self):
        """Shares of a core, of the process and by thread."""
        (before, threads_before), (after, threads_after) = self.before, cpu_seconds(self.pid)
        threads = {name: (used - threads_before.get(name, 0)) / self.took for name, used in threads_after.items()}
        return (after - before) / self.took, threads


@contextlib.contextmanager
def running_floor(folder, spec):
    process = subprocess.Popen([f"{folder}/floor"], stdin=subprocess.PIPE, text=True)
    try:
        process.stdin.write("\n".join(spec) + "\n")
        process.stdin.close()
        time.sleep(SETTLE_SECONDS)
        if process.poll() is not None:
            sys.exit(f"the floor ended with {process.returncode}")
        yield process
    finally:
        process.kill()
        process.wait()


def turn(folder, spec, data, seconds):
    """Shares of both programs, the daemon's most memory in bytes, and rows about its collectors."""
    with Daemon(data) as daemon, running_floor(folder, spec) as process:
        try:
            measured, floor = Meter(daemon.process.pid), Meter(process.pid)
            while measured.took < seconds:
                measured.let_run(DAEMON_SLICE)
                floor.let_run(FLOOR_SLICE)
            of_floor, of_daemon = floor.shares(), measured.shares()
            if process.poll() is not None:
                sys.exit(f"the floor ended with {process.returncode}")
            status = pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()
            rss = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)
        rows = daemon.query(
            "SELECT collector, max(read_us) AS read_us, max(ticks) AS ticks FROM collector"
            " GROUP BY collector ORDER BY collector")
        return of_floor, of_daemon, rss, rows


def medians(shares):
    """Of each thread over the turns, the greatest first."""
    names = {name for turn in shares for name in turn}
    found = {name: statistics.median(turn.get(name, 0) for turn in shares) for name in names}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=float, default=300)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    floors, daemons = [], []
    with tempfile.TemporaryDirectory(prefix="kymo-cost-") as folder:
        folder = pathlib.Path(folder)
        (folder / "floor.c").write_text(FLOOR)
        subprocess.run(["cc", "-O2", "-pthread", "-o", f"{folder}/floor", f"{folder}/floor.c"], check=True)
        with Daemon(folder / "asked") as daemon:
            time.sleep(SETTLE_SECONDS)
            spec = calls(daemon)
        print(f"floor: {len(spec)} calls, of {len({line.split()[0] for line in spec})} collectors", flush=True)
        for number in range(1, arguments.turns + 1):
            of_floor, of_daemon, rss, rows = turn(folder, spec, folder / f"data-{number}", arguments.seconds)
            floors.append(of_floor)
            daemons.append((*of_daemon, rss))
            print(f"turn {number}: floor {of_floor[0]:.2%}, daemon {of_daemon[0]:.2%} of one core, daemon ÷ floor"
                  f" {of_daemon[0] / of_floor[0]:.2f}, RSS {rss / 1e6:.0f} MB at most", flush=True)
            for row in rows:
                print(f"  {row['collector']}: {row['read_us'] / max(1, row['ticks']):.1f} µs a tick in samplers")
    of_floors, of_daemons = medians([turn[1] for turn in floors]), medians([turn[1] for turn in daemons])
    for name, share in of_daemons.items():
        beside = of_floors.get(name.removeprefix("kymo-"))
        ratio = f" ÷ {beside:.2%} of the floor's = {share / beside:.2f}" if beside else ""
        print(f"thread {name}: {share:.2%}{ratio}")
    floor, daemon = (statistics.median(turn[0] for turn in turns) for turns in (floors, daemons))
    rss = statistics.median(turn[2] for turn in daemons)
    print(f"medians of {arguments.turns} turns: floor {floor:.2%}, daemon {daemon:.2%} of one core, drain thread"
          f" {of_daemons.get('kymo-drain', 0):.2%}, RSS {rss / 1e6:.0f} MB at most, daemon ÷ floor {daemon / floor:.2f}")


if __name__ == "__main__":
    main()
