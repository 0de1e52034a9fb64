"""How late kymo's `burst` collector wakes at 1 kHz, beside cyclictest(8) with the same interval and scheduling policy.

    python3 benches/lateness.py [--seconds 60] [--turns 3] [--fifo] [--default-slack]
    python3 benches/lateness.py --burst-minutes 10 [--fifo]      only kymo, under load, and its counts of ticks

Uses target/release/kymo, or KYMO_BIN. Runs on an idle host, and under `stress-ng --cpu 2 --io 1`. kymo and cyclictest take
turns and never run at once, so that whatever else the machine does meets both alike. Prints the medians of the turns.

cyclictest and stress-ng come from Debian's packages rt-tests and stress-ng. Where they are not installed, they are
fetched by `apt-get download` and unpacked into a temporary folder, with the libraries they lack. If that fails, run
`apt-get install rt-tests stress-ng` as root. `--fifo` needs root, or CAP_SYS_NICE and RLIMIT_RTPRIO, for both.

What is measured: cyclictest reports how long after its deadline each wake came. After a wake that was late by several
intervals, it goes on with the next deadline in the future, as kymo does. So kymo's figure for a tick is the time from
the first deadline that had passed, missed ones included, to the tick. A stricter figure is printed beside it: there
each missed deadline counts separately, up to the tick that followed it.

Both figures come from the times of the `network` rows. The grid is one of CLOCK_MONOTONIC, but a row has the wall
clock, so the grid's place between two milliseconds is unknown. It is found for each second: it is where the median
lateness equals the `lateness_p50_us` that the collector reported for that second. The difference between the maxima
reported and found is printed.

cyclictest differs by default in two things. The kernel may delay the timer of an ordinary thread by 50 µs; kymo
switches this off, and so cyclictest is started with it switched off, too, unless --default-slack is given. cyclictest
keeps CPUs from deep sleep by /dev/cpu_dma_latency, and kymo does not; this is left as it is, in favour of cyclictest.
"""

import argparse
import bisect
import collections
import contextlib
import math
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "clients"))
import debian  # noqa: E402
from harness import Daemon, command, folder, rows  # noqa: E402

INTERVAL_US = 1_000
RATIO_MAX = 1.5
# cyclictest's histogram only counts latencies beyond this many µs, but still reports their maximum.
HISTOGRAM_US = 200_000
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
# Ticks and the median are rounded to µs, which may put a tick this far before its deadline. It would then seem to be almost a
# whole interval late.
EARLY_US = 2
# The first guess of the grid's place may be wrong by this much.
GUESS_US = 20
# The start is not measured.
WARM_UP_SECONDS = 3

Figures = dict[str, float]


@dataclass
class Programs:
    """The other programs, with the environment in which they find their libraries."""

    cyclictest: list[str]
    cyclictest_environment: dict[str, str]
    stress: str
    stress_environment: dict[str, str]


def find(program: str, package: str, path: pathlib.Path) -> tuple[str, dict[str, str]]:
    if installed := shutil.which(program):
        return installed, dict(os.environ)
    fetched = debian.fetch(package, path)
    return fetched.program(program), fetched.environment


def quantile(counts: collections.Counter[int], share: float) -> float:
    """The value that this share of the counts does not exceed, by the nearest rank."""
    rank, seen = math.ceil(share * counts.total()), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= rank:
            return value
    raise ValueError("nothing was measured")


def figures(counts: collections.Counter[int]) -> Figures:
    return {name: quantile(counts, share) for name, share in QUANTILES.items()}


# --- cyclictest ------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def no_timer_slack() -> Iterator[None]:
    """Programs started meanwhile have a timer slack of 1 ns, the smallest possible, instead of 50 µs.

    This process itself must have it. A child's default is its parent's slack at fork(2), and cyclictest falls back to that
    default, because it switches to SCHED_FIFO and back to find out whether it may.
    """
    slack = pathlib.Path("/proc/self/timerslack_ns")
    slack.write_text("1")
    try:
        yield
    finally:
        slack.write_text("0")


def run_cyclictest(programs: Programs, options: argparse.Namespace) -> Figures:
    policy = ["--policy=fifo", "-p", "1"] if options.fifo else ["--policy=other"]
    arguments = [*programs.cyclictest, *policy, "-i", str(INTERVAL_US), "-t", "1", "-q", "-h", str(HISTOGRAM_US), "-D", f"{options.seconds}s"]
    with contextlib.nullcontext() if options.default_slack else no_timer_slack():
        done = subprocess.run(
            arguments, capture_output=True, text=True, check=False, env=programs.cyclictest_environment,
            timeout=options.seconds + 60)
    if done.returncode != 0:
        raise SystemExit(f"cyclictest ended with {done.returncode}: {done.stderr or done.stdout[-500:]}")
    return parse_cyclictest(done.stdout)


def parse_cyclictest(text: str) -> Figures:
    found = re.findall(r"^(\d+)\s+(\d+)$", text, re.MULTILINE)
    counts = collections.Counter({int(latency): int(times) for latency, times in found if int(times)})
    overflowed = int(re.search(r"^# Histogram Overflows: (\d+)", text, re.MULTILINE)[1])
    latest = int(re.search(r"^# Max Latencies: (\d+)", text, re.MULTILINE)[1])
    if overflowed:
        counts[latest] += overflowed
    return {**figures(counts), "wakes": counts.total()}


# --- kymo ------------------------------------------------------------------------------------------------------------

@dataclass
class Second:
    """A report of the collector, which covers about a second, and the ticks in it."""

    ticks_us: list[int]
    p50_us: int
    max_us: int


@dataclass
class Turn:
    """A run of kymo: its own counts of the whole run, and the lateness without its first seconds."""

    scheduled: int
    taken: int
    missed: int
    wakes: collections.Counter[int]
    deadlines: collections.Counter[int]
    # For each second, the difference between the reported and the found maximum, µs.
    differences: list[float]
    # Missed ticks of the same seconds, as found in the times of rows and as reported.
    missed_found: int
    missed_reported: int
    refused: bool

    def conserved(self) -> bool:
        return self.taken + self.missed == self.scheduled


def run_kymo(path: pathlib.Path, seconds: float, fifo: bool) -> Turn:
    # The rows are read after kymo has stopped, because a query would make ticks late.
    environment = {"KYMO_COLLECTOR__BURST__SCHEDULING": "fifo"} if fifo else {}
    with folder_of(path) as data:
        daemon = Daemon(data, environment=environment)
        with daemon:
            time.sleep(seconds + WARM_UP_SECONDS)
        refused = fifo and any("was refused" in line for line in daemon.log)
        return turn_of(data, refused)


@contextlib.contextmanager
def folder_of(path: pathlib.Path) -> Iterator[pathlib.Path]:
    data = path / "data"
    try:
        yield data
    finally:
        shutil.rmtree(data, ignore_errors=True)


def asked(data: pathlib.Path, sql: str) -> list[dict[str, int]]:
    return rows(command("query", sql, "--data", str(data), "--format", "json"))


def turn_of(data: pathlib.Path, refused: bool) -> Turn:
    reports = asked(data, "SELECT arrow_cast(time, 'Int64') AS t, scheduled_ticks, ticks, missed_ticks, lateness_p50_us, lateness_max_us"
                          " FROM collector WHERE collector = 'burst' ORDER BY t")
    times = [row["t"] for row in asked(data, "SELECT DISTINCT arrow_cast(time, 'Int64') AS t FROM network ORDER BY t")]
    seconds = [
        Second(times[bisect.bisect_right(times, before["t"]):bisect.bisect_right(times, report["t"])],
               report["lateness_p50_us"], report["lateness_max_us"])
        for before, report in zip(reports[WARM_UP_SECONDS - 1:], reports[WARM_UP_SECONDS:], strict=False)]
    wakes, deadlines, differences, missed = lateness([second for second in seconds if second.ticks_us])
    last = reports[-1]
    return Turn(
        last["scheduled_ticks"], last["ticks"], last["missed_ticks"], wakes, deadlines, differences, missed,
        last["missed_ticks"] - reports[WARM_UP_SECONDS - 1]["missed_ticks"], refused)


def lateness(seconds: list[Second]) -> tuple[collections.Counter[int], collections.Counter[int], list[float], int]:
    """The lateness of each wake and of each deadline, the differences from the reports, and the number of missed deadlines."""
    wakes: collections.Counter[int] = collections.Counter()
    deadlines: collections.Counter[int] = collections.Counter()
    differences = []
    missed_in_all = 0
    last_deadline = None
    phase = None
    for second in seconds:
        phase = phase_of(second, phase)
        largest = 0.0
        for tick in second.ticks_us:
            deadline = math.floor((tick - phase + EARLY_US) / INTERVAL_US)
            if last_deadline is not None:
                # Each deadline has one tick at most, so a second one belongs to the next deadline.
                deadline = max(deadline, last_deadline + 1)
            late = max(0.0, tick - phase - deadline * INTERVAL_US)
            missed = deadline - last_deadline - 1 if last_deadline is not None else 0
            largest = max(largest, late + missed * INTERVAL_US)
            wakes[round(late + missed * INTERVAL_US)] += 1
            deadlines.update(round(late + before * INTERVAL_US) for before in range(missed + 1))
            missed_in_all += missed
            last_deadline = deadline
        # The collector, too, measures from the first deadline that was missed.
        differences.append(abs(largest - second.max_us))
    return wakes, deadlines, differences, missed_in_all


def phase_of(second: Second, previous: float | None) -> float:
    """The place of the grid, µs modulo the interval, at which the median lateness is the reported one.

    The first guess takes the most frequent residue for the median: this works wherever the circle of residues begins. Then the
    median is computed from the grid found so far, and the grid is moved, until the median is the reported one.
    """
    steps = collections.Counter(tick % INTERVAL_US // GUESS_US for tick in second.ticks_us)
    phase = steps.most_common(1)[0][0] * GUESS_US - second.p50_us
    for _ in range(5):
        apart = [(tick - phase + GUESS_US) % INTERVAL_US - GUESS_US for tick in second.ticks_us]
        phase += quantile(collections.Counter(apart), 0.5) - second.p50_us
    if previous is None:
        return phase
    # The same place on the circle, in the turn next to that of the second before, so that deadlines keep their numbers.
    return phase + round((previous - phase) / INTERVAL_US) * INTERVAL_US


# --- the runs --------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def stressed(programs: Programs, path: pathlib.Path, seconds: float) -> Iterator[None]:
    """Runs the load for somewhat longer than the measurement."""
    arguments = [programs.stress, "--cpu", "2", "--io", "1", "--timeout", f"{math.ceil(seconds) + 60}s", "--temp-path", str(path), "--quiet"]
    process = subprocess.Popen(arguments, cwd=path, env=programs.stress_environment)
    time.sleep(2)
    try:
        if process.poll() is not None:
            raise SystemExit(f"stress-ng ended with {process.returncode}")
        yield
    finally:
        # It stops its own workers at SIGTERM.
        process.terminate()
        process.wait(30)


def under(condition: str, programs: Programs, path: pathlib.Path, seconds: float) -> contextlib.AbstractContextManager[None]:
    return stressed(programs, path, seconds) if condition == "loaded" else contextlib.nullcontext()


def medians(turns: list[Figures]) -> Figures:
    return {name: statistics.median(turn[name] for turn in turns) for name in QUANTILES}


def shown(found: Figures) -> str:
    return ", ".join(f"{name} {found[name]:.0f} µs" for name in QUANTILES)


def tell_counts(name: str, turn: Turn) -> None:
    print(f"{name}: scheduled {turn.scheduled}, taken {turn.taken}, missed {turn.missed};"
          f" taken + missed = scheduled: {'yes' if turn.conserved() else 'NO'}", flush=True)
    print(f"{name}: of these {turn.missed_reported} missed after the first seconds, {turn.missed_found} found in the rows; maxima of a second"
          f" differ from those reported by {statistics.median(turn.differences):.0f} µs (median), {max(turn.differences):.0f} µs (most)", flush=True)
    if turn.refused:
        print(f"{name}: SCHED_FIFO was refused to kymo", flush=True)


def compare(condition: str, programs: Programs, path: pathlib.Path, options: argparse.Namespace) -> bool:
    """Runs both in turns. Returns whether kymo counted every tick in all of them."""
    kymo, strict, cyclictest, turns = [], [], [], []
    for number in range(1, options.turns + 1):
        with under(condition, programs, path, options.seconds):
            turn = run_kymo(path, options.seconds, options.fifo)
        tell_counts(f"{condition}, turn {number}, kymo", turn)
        turns.append(turn)
        kymo.append(figures(turn.wakes))
        strict.append(figures(turn.deadlines))
        print(f"{condition}, turn {number}, kymo: {shown(kymo[-1])}", flush=True)
        with under(condition, programs, path, options.seconds):
            cyclictest.append(run_cyclictest(programs, options))
        print(f"{condition}, turn {number}, cyclictest: {shown(cyclictest[-1])}; {cyclictest[-1]['wakes']} wakes", flush=True)
    ratio = medians(kymo)["p99.9"] / medians(cyclictest)["p99.9"]
    print(f"{condition}, medians of {options.turns}:")
    print(f"  kymo                         {shown(medians(kymo))}")
    print(f"  cyclictest                   {shown(medians(cyclictest))}")
    print(f"  kymo, each deadline counted  {shown(medians(strict))}")
    print(f"  kymo ÷ cyclictest at p99.9: {ratio:.2f} (limit {RATIO_MAX}: {'within' if ratio <= RATIO_MAX else 'BEYOND'})", flush=True)
    return all(turn.conserved() for turn in turns)


def burst(programs: Programs, path: pathlib.Path, options: argparse.Namespace) -> bool:
    seconds = options.burst_minutes * 60
    with stressed(programs, path, seconds):
        turn = run_kymo(path, seconds, options.fifo)
    tell_counts("burst under load", turn)
    print(f"burst under load: missed {turn.missed / turn.scheduled:.4%} of the ticks scheduled")
    print(f"burst under load: {shown(figures(turn.wakes))}")
    print(f"burst under load, each deadline counted: {shown(figures(turn.deadlines))}")
    return turn.conserved()


@contextlib.contextmanager
def clear_error() -> Iterator[None]:
    try:
        yield
    except debian.Unavailable as error:
        raise SystemExit(f"cyclictest and stress-ng are needed: {error}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="length of a turn")
    parser.add_argument("--turns", type=int, default=3, help="turns of each program in each condition")
    parser.add_argument("--fifo", action="store_true", help="SCHED_FIFO of priority 1 for both instead of SCHED_OTHER")
    parser.add_argument("--default-slack", action="store_true", help="leave cyclictest the kernel's timer slack of 50 µs")
    parser.add_argument("--burst-minutes", type=float, help="run only kymo, under load, for so long")
    options = parser.parse_args()
    with folder() as path, clear_error():
        stress, stress_environment = find("stress-ng", "stress-ng", path)
        cyclictest, cyclictest_environment = find("cyclictest", "rt-tests", path)
        programs = Programs([cyclictest], cyclictest_environment, stress, stress_environment)
        print(f"SCHED_{'FIFO' if options.fifo else 'OTHER'}, every {INTERVAL_US} µs, {os.cpu_count()} CPUs,"
              f" load {os.getloadavg()[0]:.1f} before it began", flush=True)
        if options.burst_minutes:
            conserved = burst(programs, path, options)
        else:
            conserved = all([compare(condition, programs, path, options) for condition in ("idle", "loaded")])
    sys.exit(0 if conserved else 1)


if __name__ == "__main__":
    main()
