"""What queries cost: their time through Flight SQL, and what the daemon takes when it is idle.

    python3 benches/queries.py [name=program …] [--warm 60] [--files] [--pause 0]

Without programs it measures target/release/kymo, or KYMO_BIN. With several, say of two versions, all run side by side, record
the same host and answer in turns, so a busy neighbour meets them alike. Times are medians in ms, and ratios to the first
program. `--files` flushes often, so that a scan reads files; otherwise it reads memory. `--pause` waits after each answer:
queries that follow each other without a pause have one CPU less after a while (ARCHITECTURE.md, "Query workers").
"""

import argparse
import contextlib
import os
import pathlib
import signal
import statistics
import sys
import tempfile
import time

import pyarrow.flight as flight

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "clients"))
from check_hostile import rss, statement  # noqa: E402
from check_workers import children  # noqa: E402
from harness import KYMO, Daemon  # noqa: E402

NETWORK = "SELECT interface, avg(rx_bytes), max(tx_bytes), count(*) FROM network"
# A statement, and how often it runs.
STATEMENTS = {
    "SELECT 1": ("SELECT 1", 200),
    "last 10 s": (f"{NETWORK} WHERE time > now() - interval '10 seconds' GROUP BY interface", 60),
    "scan": (f"{NETWORK} GROUP BY interface", 30),
    "SELECT *": ("SELECT * FROM network", 10),
}
COLD_TURNS = 20
FILES = '[storage]\nflush_interval = "5s"\n'
IDLE_S = 20


def answer(client, sql):
    """The time to the last row, ms."""
    began = time.perf_counter()
    info = client.get_flight_info(flight.FlightDescriptor.for_command(statement(sql)))
    for _ in client.do_get(info.endpoints[0].ticket):
        pass
    return 1e3 * (time.perf_counter() - began)


def cold(daemon, client):
    """The time of `SELECT 1` when no worker is warm, ms; `None` if the program has no workers."""
    there = children(daemon.process.pid)
    for worker in there:
        os.kill(worker, signal.SIGKILL)
    while children(daemon.process.pid) & there:
        time.sleep(0.001)
    # Its other threads end after its first one.
    time.sleep(0.05)
    took = answer(client, "SELECT 1") if there else None
    time.sleep(0.3)
    return took


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(what, figures, digits=2):
    first = next(iter(figures.values()))
    cells = [f"{name} {figure:.{digits}f}" + (f" ({figure / first:.2f})" if len(figures) > 1 else "") for name, figure in figures.items()]
    print(f"{what:24} {'   '.join(cells)}", flush=True)


def idle(daemons):
    """CPU and resident memory of each daemon, with its workers."""
    processes = {name: [daemon.process.pid, *children(daemon.process.pid)] for name, daemon in daemons.items()}
    before = {name: sum(map(cpu_seconds, pids)) for name, pids in processes.items()}
    time.sleep(IDLE_S)
    show("idle, % of a core", {name: 100 * (sum(map(cpu_seconds, pids)) - before[name]) / IDLE_S for name, pids in processes.items()})
    show("recorder, MB resident", {name: rss(pids[0]) / 1e6 for name, pids in processes.items()}, 0)
    show("with workers", {name: sum(map(rss, pids)) / 1e6 for name, pids in processes.items()}, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*", metavar="name=program")
    parser.add_argument("--warm", type=float, default=60, help="seconds to record before")
    parser.add_argument("--files", action="store_true")
    parser.add_argument("--pause", type=float, default=0, help="seconds after each answer")
    arguments = parser.parse_args()
    programs = dict(program.split("=", 1) for program in arguments.programs) or {"kymo": KYMO}
    with contextlib.ExitStack() as stack:
        daemons, clients = {}, {}
        for name, program in programs.items():
            data = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kymo-bench-"))) / "data"
            daemons[name] = stack.enter_context(Daemon(data, FILES if arguments.files else "", program=program))
            clients[name] = stack.enter_context(flight.FlightClient(f"grpc://{daemons[name].address}"))
        time.sleep(arguments.warm)
        idle(daemons)
        for what, (sql, turns) in STATEMENTS.items():
            took = {name: [] for name in programs}
            for turn in range(turns):
                for name in list(programs)[:: 1 if turn % 2 else -1]:
                    took[name].append(answer(clients[name], sql))
                    time.sleep(arguments.pause)
            # The first ones start threads and fill caches.
            show(f"{what}, ms", {name: statistics.median(times[2:]) for name, times in took.items()})
        for name, daemon in daemons.items():
            times = [took for _ in range(COLD_TURNS) if (took := cold(daemon, clients[name])) is not None]
            if times:
                show("cold worker, ms", {name: statistics.median(times)})


main()
