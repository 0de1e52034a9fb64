"""Recordings are complete and true: all ticks, the same figures for all readers, the kernel's own figures, across restarts.

    python3 check_record.py [seconds]     how long to record before ticks are counted (default 60)
"""

import os
import pathlib
import socket
import sys
import threading
import time

import adbc_driver_flightsql.dbapi as flightsql
import duckdb

from harness import Checks, Daemon, burning, command, folder, rows, wait_for

FAMILIES = {"network": "interface", "disk": "device", "cpu": "cpu", "memory": None, "host": None, "filesystem": "mountpoint"}


def ticks_are_complete(daemon):
    """Rows = ticks × labels for every family, and scheduled = taken + missed = what the clock says."""
    shown = []
    status = {row["collector"]: row for row in daemon.query(
        "SELECT collector, max(scheduled_ticks) AS scheduled, max(ticks) AS ticks, max(missed_ticks) AS missed,"
        " max(failed_reads) AS failed, max(dropped_records) AS dropped FROM collector GROUP BY collector")}
    for row in status.values():
        assert row["scheduled"] == row["ticks"] + row["missed"], row
        assert row["failed"] == 0 and row["dropped"] == 0, row
    owner = {"network": "burst", "disk": "burst", "cpu": "system", "memory": "kernel", "host": "slow", "filesystem": "mounts"}
    for table, label in FAMILIES.items():
        labels = f"count(DISTINCT {label})" if label else "1"
        (row,) = daemon.query(
            f"WITH newest AS (SELECT ticks, time FROM collector WHERE collector = '{owner[table]}' ORDER BY time DESC LIMIT 1)"
            f" SELECT count(*) AS found, {labels} AS labels, count(DISTINCT {table}.time) AS times, max(newest.ticks) AS ticks"
            f" FROM {table} JOIN newest ON {table}.time <= newest.time")
        assert row["found"] == row["ticks"] * row["labels"], (table, row)
        assert row["times"] == row["ticks"], (table, row)
        shown.append(f"{table} {row['ticks']}×{row['labels']}")
    intervals = {"burst": 1_000, "system": 10_000, "kernel": 100_000, "slow": 1_000_000, "mounts": 1_000_000}
    for collector, interval_us in intervals.items():
        (row,) = daemon.query(
            "SELECT max(scheduled_ticks) - min(scheduled_ticks) AS scheduled,"
            " (arrow_cast(max(time), 'Int64') - arrow_cast(min(time), 'Int64')) AS us"
            f" FROM collector WHERE collector = '{collector}'")
        # The ticks at both ends may be late.
        assert abs(row["scheduled"] - row["us"] / interval_us) <= max(1.5, 20_000 / interval_us), (collector, row)
    missed = sum(row["missed"] for row in status.values())
    lost = daemon.value("SELECT coalesce(sum(lost), 0) AS lost FROM gap")
    assert lost >= missed, (lost, missed)
    return f"{', '.join(shown)}; missed {missed}"


def readers_agree(daemon):
    """count and sum are the same through Flight, `kymo query --data` and DuckDB on the files."""
    command("flush", "--address", daemon.url)
    shown = []
    with flightsql.connect(f"grpc://{daemon.address}", autocommit=True) as connection:
        for table, column in {"network": "rx_bytes", "disk": "write_bytes", "cpu": "user_us", "memory": "free_bytes"}.items():
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT arrow_cast(max(time), 'Int64') AS t FROM {table}")
                until = cursor.fetchone()[0] - 1_000_000
            command("flush", "--address", daemon.url)
            sql = f"SELECT count(*) AS n, sum({column}) AS s FROM {table} WHERE time <= to_timestamp_micros({until})"
            with connection.cursor() as cursor:
                cursor.execute(sql)
                flight = cursor.fetchone()
            (offline,) = rows(command("query", sql, "--data", str(daemon.data), "--format", "json"))
            duck = duckdb.sql(
                f"SELECT count(*), sum({column})::BIGINT FROM read_parquet('{daemon.data}/lake/{table}/**/*.parquet')"
                f" WHERE time <= make_timestamptz({until})").fetchall()[0]
            assert tuple(flight) == (offline["n"], offline["s"]) == duck and flight[0] > 0, (table, flight, offline, duck)
            shown.append(f"{table} {flight[0]}")
    return ", ".join(shown)


def counts_never_go_down(daemon, loops=500):
    """Under constant flushing no count goes down, no tick is there twice, and none is missing in between."""
    stop = threading.Event()
    flushes = 0

    def flush():
        nonlocal flushes
        while not stop.is_set():
            command("flush", "--address", daemon.url)
            flushes += 1
            # This makes some hundred files a table, which is enough to read.
            stop.wait(0.25)

    flusher = threading.Thread(target=flush)
    flusher.start()
    since = daemon.value("SELECT arrow_cast(max(time), 'Int64') AS t FROM network") - 500_000
    sql = (
        "SELECT count(*) AS n, count(DISTINCT time) AS times, count(DISTINCT interface) AS interfaces,"
        " (SELECT count(*) FROM cpu) AS cpu_rows"
        f" FROM network WHERE time > to_timestamp_micros({since})")
    before = (0, 0)
    try:
        with flightsql.connect(f"grpc://{daemon.address}", autocommit=True) as connection, connection.cursor() as cursor:
            for loop in range(loops):
                cursor.execute(sql)
                found, times, interfaces, cpu_rows = cursor.fetchone()
                assert found == times * interfaces, f"loop {loop}: {found} rows of {times} ticks × {interfaces}"
                assert found >= before[0] and cpu_rows >= before[1], f"loop {loop}: {before} then {(found, cpu_rows)}"
                before = (found, cpu_rows)
    finally:
        stop.set()
        flusher.join()
    assert flushes >= 5, flushes
    return f"{loops} counts up to {before[0]} rows, {flushes} flushes meanwhile"


def read_network():
    table = {}
    for line in pathlib.Path("/proc/net/dev").read_text().splitlines()[2:]:
        name, figures = line.split(":", 1)
        figures = [int(figure) for figure in figures.split()]
        table[name.strip()] = {"rx_bytes": figures[0], "rx_packets": figures[1], "tx_bytes": figures[8], "tx_packets": figures[9]}
    return table


def read_disk():
    table = {}
    for line in pathlib.Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        table[fields[2]] = {
            "write_ops": int(fields[7]), "write_bytes": int(fields[9]) * 512, "busy_us": int(fields[12]) * 1000,
            "write_us": int(fields[10]) * 1000, "read_ops": int(fields[3]), "read_bytes": int(fields[5]) * 512}
    return table


def read_cpu():
    table = {}
    tick_us = 1_000_000 // os.sysconf("SC_CLK_TCK")
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        if line.startswith("cpu"):
            name, *figures = line.split()
            names = ["user_us", "nice_us", "system_us", "idle_us", "iowait_us"]
            table["total" if name == "cpu" else name[3:]] = {
                column: int(figure) * tick_us for column, figure in zip(names, figures)}
    return table


def kernel_agrees(daemon):
    """Under load, our own reading of /proc lies between the ticks before and after it, at the start and at the end."""
    readers = {"network": (read_network, "interface"), "disk": (read_disk, "device"), "cpu": (read_cpu, "cpu")}

    def read():
        readings = {}
        for table, (reader, _) in readers.items():
            before = time.time_ns() // 1000
            figures = reader()
            readings[table] = (before, time.time_ns() // 1000, figures)
        return readings

    first = read()
    load(seconds=3, file=daemon.data / "load")
    last = read()
    time.sleep(0.5)
    compared, moved = 0, 0
    for table, (_, label) in readers.items():
        interval = 10_000 if table == "cpu" else 1_000
        for readings in (first, last):
            begun, ended, figures = readings[table]
            columns = next(iter(figures.values())).keys()
            wanted = ", ".join(
                f"last_value({column} ORDER BY time) FILTER (WHERE time <= to_timestamp_micros({begun - interval})) AS low_{column},"
                f" first_value({column} ORDER BY time) FILTER (WHERE time >= to_timestamp_micros({ended})) AS high_{column}"
                for column in columns)
            found = {row[label]: row for row in daemon.query(
                f"SELECT {label}, {wanted} FROM {table} WHERE time > to_timestamp_micros({begun - 200_000})"
                f" AND time < to_timestamp_micros({ended + 400_000}) GROUP BY {label}")}
            for name, row in found.items():
                for column in columns:
                    low, high, truth = row[f"low_{column}"], row[f"high_{column}"], figures[name][column]
                    # idle and iowait may step back a little on tickless CPUs (proc(5), /proc/stat).
                    slack = 20_000 if column in ("idle_us", "iowait_us") else 0
                    assert low - slack <= truth <= high + slack, (table, name, column, low, truth, high)
                    compared += 1
        for name in first[table][2].keys() & last[table][2].keys() & found.keys():
            moved += sum(last[table][2][name][column] > first[table][2][name][column] for column in columns)
    assert moved >= 12, f"only {moved} figures moved: the load was none"
    memory = pathlib.Path("/proc/meminfo").read_text()
    total = next(int(line.split()[1]) * 1024 for line in memory.splitlines() if line.startswith("MemTotal:"))
    assert daemon.value("SELECT max(total_bytes) AS t FROM memory") == total
    swap = next(int(line.split()[1]) * 1024 for line in memory.splitlines() if line.startswith("SwapTotal:"))
    assert daemon.value("SELECT max(swap_total_bytes) AS t FROM memory") == swap
    return f"{compared} figures bracketed, {moved} of them moved; memory total {total}"


def memory_agrees(daemon):
    """Our own reading of /proc/meminfo, × 1024, is among the samples around it."""
    names = {"MemFree": "free_bytes", "MemAvailable": "available_bytes", "Buffers": "buffers_bytes", "Cached": "cached_bytes",
             "Active": "active_bytes", "Inactive": "inactive_bytes", "Shmem": "shared_bytes", "SwapFree": "swap_free_bytes"}
    begun = time.time_ns() // 1000
    meminfo = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in pathlib.Path("/proc/meminfo").read_text().splitlines()}
    ended = time.time_ns() // 1000
    time.sleep(0.3)
    wanted = ", ".join(f"min({column}) AS low_{column}, max({column}) AS high_{column}" for column in names.values())
    (row,) = daemon.query(
        f"SELECT {wanted} FROM memory WHERE time BETWEEN to_timestamp_micros({begun - 200_000}) AND to_timestamp_micros({ended + 200_000})")
    for name, column in names.items():
        low, high, truth = row[f"low_{column}"], row[f"high_{column}"], meminfo[name]
        # Free memory changes between two ticks, and the kernel sums up per-CPU counts only once a second.
        slack = 0.002 * meminfo["MemTotal"]
        assert low - slack <= truth <= high + slack, (name, low, truth, high)
        assert truth % 1024 == 0 and low % 1024 == 0
    return f"{len(names)} figures"


def load(seconds, file):
    """Sends over loopback, writes to a disk, and keeps a CPU busy, for so many seconds."""
    end = time.monotonic() + seconds
    listener = socket.create_server(("127.0.0.1", 0))

    def receive():
        connection, _ = listener.accept()
        while connection.recv(1 << 16):
            pass

    threading.Thread(target=receive, daemon=True).start()
    with burning(seconds, 1), socket.create_connection(listener.getsockname()) as sender, open(file, "wb") as disk:
        while time.monotonic() < end:
            sender.sendall(b"x" * 65_536)
            disk.write(b"y" * 1_048_576)
            disk.flush()
            os.fsync(disk.fileno())
            disk.seek(0)
    listener.close()
    os.unlink(file)


def restart_loses_nothing(daemon):
    """After SIGTERM and a new start, three times, all rows are still there once, and new ones follow."""
    sql = "SELECT count(*) AS n, count(DISTINCT time) AS times, count(DISTINCT interface) AS interfaces FROM network"
    totals = []
    for _ in range(3):
        until = daemon.value("SELECT arrow_cast(max(time), 'Int64') AS t FROM network")
        bounded = f"{sql} WHERE time <= to_timestamp_micros({until})"
        (before,) = daemon.query(bounded)
        # Counts begin at zero with each start, so only this run's report is used.
        began = int(daemon.started_at * 1_000_000)
        run = f"collector = 'burst' AND time > to_timestamp_micros({began})"
        ticks = wait_for(lambda: daemon.value(f"SELECT max(ticks) AS t FROM collector WHERE {run}"), 10, "a report")
        assert daemon.stop() == 0, daemon.log[-5:]
        (after,) = rows(command("query", bounded, "--data", str(daemon.data), "--format", "json"))
        assert before == after and before["n"] == before["times"] * before["interfaces"], (before, after)
        # The last report counts every tick that was taken. The files hold all of them.
        (last,) = rows(command("query", "--data", str(daemon.data), "--format", "json",
            "WITH run AS (SELECT time, ticks FROM collector WHERE collector = 'burst' ORDER BY time DESC LIMIT 1)"
            " SELECT (SELECT ticks FROM run) AS ticks, (SELECT max(time) FROM network) = (SELECT time FROM run) AS same"))
        assert last["same"] and last["ticks"] >= ticks, last
        daemon.start()
        (again,) = daemon.query(bounded)
        assert again == before, (before, again)
        totals.append(before["n"])
    return f"rows at each stop: {totals}"


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    checks = Checks()
    with folder() as path, Daemon(path / "data") as daemon:
        time.sleep(seconds)
        checks.run(ticks_are_complete, daemon)
        checks.run(kernel_agrees, daemon)
        checks.run(memory_agrees, daemon)
        checks.run(readers_agree, daemon)
        checks.run(counts_never_go_down, daemon)
        checks.run(restart_loses_nothing, daemon)
    checks.finish()


if __name__ == "__main__":
    main()
