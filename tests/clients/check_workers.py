"""Query workers that are killed at random, and statements that would run for ever.

    python3 tests/clients/check_workers.py [kills]      needs pyarrow; uses target/release/kymo, or KYMO_BIN

500 kills by default, and as many more as it takes until files were merged, while statements and flushes run. Only the statements
of killed workers may fail, and every count stays exact. Nothing is left behind: no process, no memory file, no spilled file.
"""

import contextlib
import itertools
import os
import pathlib
import random
import re
import signal
import sys
import threading
import time

import pyarrow
import pyarrow.flight as flight

from check_hostile import RECORDER_RSS_MAX, rss, statement
from check_record import ticks_are_complete
from harness import Checks, Daemon, command, folder, wait_for

CONFIG = """
[storage]
flush_interval = "1s"
compaction_interval = "1m"
[query]
time_max = "{time_max}"
concurrent_max = 4
memory_bytes_max = "64MiB"
"""
TIME_MAX_S = 2.0
TIME_SLACK_S = 0.2
ENDS_WITHIN_S = 1.0
# A period of files that are merged ends each minute. Its files are merged at most 12 s after that, and then within the run.
MERGED_WITHIN_S = 180
STALLED_CLIENTS = 12
STALLED_S = 5.0
MERGED = re.compile(r"compacted.*\bfiles=(\d+)")
ENDLESS = {
    "cross join": "SELECT count(*) FROM network a, network b, network c, network d WHERE a.rx_bytes + b.rx_bytes < random()",
    "rows that match nothing": "SELECT a.time FROM network a, network b, network c WHERE a.rx_bytes::double * b.rx_bytes < -random()",
    "recursion": "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n FROM t) SELECT count(*) FROM t",
    "distances": "SELECT max(levenshtein(repeat('ab', 100000), concat(repeat('ba', 100000), rx_bytes))) FROM network",
    "patterns": "SELECT count(*) FROM network WHERE regexp_like(repeat(concat('a', rx_bytes), 50000), '(a|b|ab)*c{1,50}d')",
    "a sort that spills": "SELECT value FROM generate_series(1, 10000000000) ORDER BY random()",
    # EXPLAIN runs nothing: the planner works out what a constant is.
    "planning": "EXPLAIN SELECT levenshtein(repeat('ab', 100000), repeat('ba', 100000))",
    "a client that reads all": "SELECT a.* FROM network a, network b, network c",
}


def children(pid):
    """The processes that it started and that have not ended."""
    found = set()
    with contextlib.suppress(OSError):
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            found.update(map(int, (task / "children").read_text().split()))
    return {child for child in found if runs(child)}


def runs(pid):
    """Whether it is there and no zombie."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def memory_files(pid):
    found = 0
    for file in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found += "memfd:kymo-" in os.readlink(file)
    return found


def merges(daemon):
    """How many files the daemon has merged."""
    return sum(int(match[1]) for line in daemon.log if (match := MERGED.search(line)))


def fetch(client, sql):
    """The rows of a statement, as a list of dicts."""
    info = client.get_flight_info(flight.FlightDescriptor.for_command(statement(sql)))
    return client.do_get(info.endpoints[0].ticket).read_all().to_pylist()


def killed_workers_cost_their_own_statements_only(data, kills):
    stop = threading.Event()
    problems, answered, failed = [], itertools.count(), itertools.count()
    with Daemon(data, CONFIG.format(time_max="20s")) as daemon:
        time.sleep(3)
        pid = daemon.process.pid
        (window,) = daemon.query("SELECT arrow_cast(max(time), 'Int64') AS until FROM network")
        until = window["until"] - 500_000
        past = f"SELECT count(*) AS n, sum(rx_bytes) AS s FROM network WHERE time <= to_timestamp_micros({until})"
        (known,) = daemon.query(past)
        newest = ("WITH newest AS (SELECT ticks, time FROM collector WHERE collector = 'burst' ORDER BY time DESC LIMIT 1)"
                  " SELECT count(*) AS found, count(DISTINCT interface) * max(newest.ticks) AS due"
                  " FROM network JOIN newest ON network.time <= newest.time")
        sort = "SELECT time, rx_bytes FROM network ORDER BY rx_bytes, time DESC"
        number = itertools.count()

        def ask():
            with flight.FlightClient(f"grpc://{daemon.address}") as client:
                while not stop.is_set():
                    sql = random.choice([past, newest, sort])
                    try:
                        # Three kills of one statement would have it refused.
                        rows = fetch(client, f"{sql} -- {next(number)}")
                    except (flight.FlightError, pyarrow.ArrowException, OSError) as error:
                        next(failed)
                        if "SIGKILL" not in str(error):
                            problems.append(f"{sql[:40]}: {str(error)[:300]}")
                        continue
                    next(answered)
                    if sql is past and rows != [known]:
                        problems.append(f"{rows} instead of {known}")
                    if sql is newest and rows[0]["found"] != rows[0]["due"]:
                        problems.append(f"{rows}")

        def flush():
            while not stop.wait(0.7):
                command("flush", "--address", daemon.url)

        threads = [threading.Thread(target=work) for work in (ask, ask, ask, flush)]
        for thread in threads:
            thread.start()
        done, began = 0, time.monotonic()
        while (done < kills or not merges(daemon)) and not problems:
            assert merges(daemon) or time.monotonic() < began + max(MERGED_WITHIN_S, kills), "no files were merged"
            time.sleep(random.uniform(0.0, 0.25))
            if there := sorted(children(pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(random.choice(there), signal.SIGKILL)
                    done += 1
        stop.set()
        for thread in threads:
            thread.join()
        assert not problems, problems[:5]
        took, merged = time.monotonic() - began, merges(daemon)
        complete = ticks_are_complete(daemon)
        (counts,) = daemon.query("SELECT query_faults AS faults FROM kymo ORDER BY time DESC LIMIT 1")
        # One that is killed while it ends anyway counts once at most.
        assert 0.8 * done <= counts["faults"] <= done, counts
        # One for rows and one for results.
        wait_for(lambda: memory_files(pid) == 2 * len(children(pid)) <= 8, 5, "each memory file has its process")
        left = list((data / "spill").iterdir())
        assert not left, left
        workers = children(pid)
        assert workers
        daemon.process.kill()
        daemon.process.wait()
        began = time.monotonic()
        wait_for(lambda: not any(map(runs, workers)), ENDS_WITHIN_S, "workers end with the recorder")
        ended = time.monotonic() - began
    return (f"{done} kills in {took:.0f} s: {next(answered)} statements answered, {next(failed)} failed, {counts['faults']} faults counted;"
            f" {merged} files merged; {complete}; workers ended {ended:.2f} s after the recorder")


def time_limits_hold(data):
    took, timed_out = {}, 0
    with Daemon(data, CONFIG.format(time_max=f"{TIME_MAX_S}s").replace("64MiB", "512MiB")) as daemon:
        time.sleep(6)
        with flight.FlightClient(f"grpc://{daemon.address}") as client:
            for name, sql in ENDLESS.items():
                descriptor = flight.FlightDescriptor.for_command(statement(sql))
                began = time.monotonic()
                try:
                    ticket = client.get_flight_info(descriptor).endpoints[0].ticket
                    began = time.monotonic()
                    for _ in client.do_get(ticket):
                        pass
                    said = "it ended by itself"
                except (flight.FlightError, pyarrow.ArrowException, OSError) as error:
                    said = str(error)
                took[name] = time.monotonic() - began
                # Some may reach a limit of memory or of spilled files before.
                assert "(setting `query." in said, (name, said[:300], took)
                timed_out += "`query.time_max`" in said
        late = {name: seconds for name, seconds in took.items() if seconds > TIME_MAX_S + TIME_SLACK_S}
        assert not late, late
        assert timed_out >= len(took) / 2, timed_out
    return f"{timed_out} of {len(took)} statements reached the limit of time, all ended after {min(took.values()):.2f} to {max(took.values()):.2f} s of {TIME_MAX_S} s"


def a_client_that_stalls_is_told(data):
    """A result that ends early must never look complete."""
    with Daemon(data, CONFIG.format(time_max=f"{TIME_MAX_S}s")) as daemon:
        with flight.FlightClient(f"grpc://{daemon.address}") as client:
            sql = "SELECT repeat(concat('x', value), 200) FROM generate_series(1, 2000000)"
            info = client.get_flight_info(flight.FlightDescriptor.for_command(statement(sql)))
            reader, rows = client.do_get(info.endpoints[0].ticket), 0
            rows += reader.read_chunk().data.num_rows
            time.sleep(TIME_MAX_S + 1)
            try:
                for chunk in reader:
                    rows += chunk.data.num_rows
                raise AssertionError(f"{rows} rows, and no error")
            except flight.FlightError as error:
                assert "`query.time_max`" in str(error), error
    return f"{rows} of 2000000 rows, and an error"


def closed(daemon):
    """How many clients lost their connection."""
    return sum("closing the connection of a client" in line for line in daemon.log)


def clients_that_do_not_read_cannot_fill_the_recorder(data):
    long = "SELECT repeat('x', 14000000) FROM generate_series(1, 5)"
    with Daemon(data, CONFIG.format(time_max=f"{TIME_MAX_S}s").replace("64MiB", "256MiB")) as daemon:
        time.sleep(2)
        most, refused, readers = 0, 0, []
        with contextlib.ExitStack() as clients:
            for _ in range(STALLED_CLIENTS):
                client = clients.enter_context(flight.FlightClient(f"grpc://{daemon.address}"))
                try:
                    ticket = client.get_flight_info(flight.FlightDescriptor.for_command(statement(long))).endpoints[0].ticket
                    readers.append(client.do_get(ticket))
                except flight.FlightError as error:
                    assert "do not read" in str(error) or "`query.concurrent_max`" in str(error), error
                    refused += 1
                most = max(most, rss(daemon.process.pid))
            until = time.monotonic() + TIME_MAX_S + 1
            while time.monotonic() < until:
                most = max(most, rss(daemon.process.pid))
                time.sleep(0.02)
            assert daemon.query("SELECT 1 AS one") == [{"one": 1}], "small results have room of their own"
            with flight.FlightClient(f"grpc://{daemon.address}") as client:
                try:
                    rows = len(fetch(client, long))
                    assert rows == 5 and closed(daemon), f"{rows} rows, though all room is taken"
                except (flight.FlightError, pyarrow.ArrowException) as error:
                    assert "do not read" in str(error), error
            # Those that have not read for five seconds give way.
            time.sleep(STALLED_S - TIME_MAX_S - 1)
            with flight.FlightClient(f"grpc://{daemon.address}") as client:
                assert len(fetch(client, long)) == 5
            assert 0 < closed(daemon) < STALLED_CLIENTS, "".join(daemon.log)
            closings = closed(daemon)
            del readers
        assert most <= RECORDER_RSS_MAX, f"{most >> 20} MiB"
        with flight.FlightClient(f"grpc://{daemon.address}") as client:
            wait_for(lambda: len(fetch(client, long)) == 5, 10, "there is room once the clients have gone")
    return f"{STALLED_CLIENTS} clients, {refused} of them refused, {closings} closed: recorder at most {most >> 20} MiB"


if __name__ == "__main__":
    checks = Checks()
    with folder() as path:
        checks.run(a_client_that_stalls_is_told, path / "stall")
        checks.run(clients_that_do_not_read_cannot_fill_the_recorder, path / "unread")
        checks.run(time_limits_hold, path / "limits")
        checks.run(killed_workers_cost_their_own_statements_only, path / "kills", int(sys.argv[1]) if len(sys.argv) > 1 else 500)
    checks.finish()
