"""Tails through Arrow Flight: 100 readers of which 50 stall, what they miss, and what that costs the recorder.

Usage: check_tail.py [SECONDS]
"""

import json
import statistics
import sys
import threading
import time

import adbc_driver_flightsql.dbapi as flightsql
import grpc
import pyarrow
import pyarrow.flight as flight

from check_clients import field, statement
from harness import Checks, Daemon, folder, wait_for

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 5
READERS, STALLED = 100, 50
CONFIG = '[collector.burst]\ninterval = "1ms"\nmetrics = ["network"]\n'
DRAIN_INTERVAL = 0.2
LATE = 0.005
# The newest rows of all series, and one collector's newest values.
LAST_MS_MAX, METRICS_MS_MAX = 4, 1
# A client of gRPC reads ahead, up to megabytes.
SMALL_WINDOW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16)]


def ticket(**tail):
    return flight.Ticket(json.dumps(tail))


class Reader(threading.Thread):
    """Reads a tail to its end. One that stalls reads one message, and then none before `go_on`."""

    def __init__(self, daemon, number, go_on=None):
        super().__init__(daemon=True)
        options = SMALL_WINDOW if go_on else []
        self.client = flight.connect(f"grpc://{daemon.address}", generic_options=options)
        # Each its own, so that no two are looked at as one.
        self.where = f"rx_bytes >= -{number}"
        self.go_on = go_on
        # Rows before the newest tick, of which only a part may have come.
        self.rows, self.missed, self.first, self.last, self.of_last = 0, 0, None, None, 0
        self.reader = self.client.do_get(ticket(tail="network", where=self.where))
        self.begun = threading.Event()

    def run(self):
        try:
            for chunk in self.reader:
                if chunk.app_metadata:
                    self.missed += json.loads(chunk.app_metadata.to_pybytes())["missed_rows"]
                if chunk.data.num_rows:
                    self.count(chunk.data.column("time").cast("int64").to_pylist())
                if self.go_on and not self.begun.is_set():
                    self.begun.set()
                    self.go_on.wait()
                self.begun.set()
        except flight.FlightCancelledError:
            pass
        except flight.FlightError as error:
            if "ancel" not in str(error):
                raise

    def count(self, times):
        self.first = self.first or times[0]
        of_last = times.count(times[-1])
        self.rows += len(times) - of_last
        if self.last == times[-1]:
            self.of_last += of_last
        else:
            self.rows += self.of_last
            self.last, self.of_last = times[-1], of_last

    def end(self):
        self.reader.cancel()
        self.join(20)
        self.client.close()


def missed_ticks(daemon):
    return daemon.value("SELECT max(missed_ticks) FROM collector WHERE collector = 'burst'")


def missed_within(daemon, seconds):
    before = missed_ticks(daemon)
    time.sleep(seconds)
    return missed_ticks(daemon) - before


def many_readers(daemon):
    without = missed_within(daemon, SECONDS)
    before = daemon.rss_bytes()
    go_on = threading.Event()
    readers = [Reader(daemon, number, go_on if number < STALLED else None) for number in range(READERS)]
    for reader in readers:
        reader.start()
    for reader in readers:
        assert reader.begun.wait(30), "a reader got no rows"
    cpu = daemon.cpu_seconds()
    with_them = missed_within(daemon, SECONDS)
    cpu = (daemon.cpu_seconds() - cpu) / SECONDS
    grown = daemon.rss_bytes() - before
    # 512 KiB for each that stalls, and what HTTP/2 holds of each connection.
    assert grown < READERS * (1 << 20), f"the recorder grew by {grown >> 20} MiB"
    go_on.set()
    # Enough to go through what waited, and on to new rows.
    now_us = time.time() * 1e6
    wait_for(lambda: all(reader.last and reader.last > now_us for reader in readers), 30, "all readers have new rows")
    for reader in readers:
        reader.end()
    for number, reader in enumerate(readers):
        expected = daemon.value(
            f"SELECT count(*) FROM network WHERE time >= to_timestamp_micros({reader.first}) "
            f"AND time < to_timestamp_micros({reader.last})"
        )
        assert reader.rows + reader.missed == expected, (number, reader.rows, reader.missed, expected)
        assert number < STALLED or reader.missed == 0, f"reader {number} missed {reader.missed} rows"
    ticks = SECONDS * 1000
    # As many as without, and two per cent for the noise of a machine that runs all clients, too.
    assert with_them <= without + 0.02 * ticks, f"{with_them} of {ticks} ticks missed, {without} without readers"
    missed = sum(reader.missed for reader in readers)
    assert missed > 0, "no reader was slow enough to show what it misses"
    return {"missed ticks": [without, with_them], "cores": round(cpu, 3), "MiB": grown >> 20, "missed rows": missed}


def first_row(daemon):
    """The time from the tick of a new row until a client has it."""
    delays = []
    for _ in range(20):
        client = flight.connect(f"grpc://{daemon.address}")
        reader = client.do_get(ticket(tail="network", columns=["time"], where="interface = 'lo'"))
        chunk = reader.read_chunk()
        delays.append(time.time() - chunk.data.column("time").cast("int64")[0].as_py() / 1e6)
        reader.cancel()
        client.close()
    assert statistics.median(delays) <= DRAIN_INTERVAL + LATE, delays
    return {"ms": round(statistics.median(delays) * 1000, 1), "most": round(max(delays) * 1000, 1)}


def newest_rows(daemon):
    """How long the newest rows take, through Flight and through gRPC."""

    def median(ask):
        took = []
        for _ in range(100):
            begun = time.perf_counter()
            ask()
            took.append(time.perf_counter() - begun)
        return round(statistics.median(took) * 1000, 2)

    with flightsql.connect(f"grpc://{daemon.address}", autocommit=True) as connection, connection.cursor() as cursor:

        def rows_of(sql):
            cursor.execute(sql)
            assert cursor.fetch_arrow_table().num_rows > 0

        # What the client itself takes, with two calls to the recorder.
        figures = {"ADBC, SELECT 1": median(lambda: rows_of("SELECT 1"))}
        figures["ADBC"] = median(lambda: rows_of("SELECT * FROM network_last"))
    # On a busy machine the client alone takes longer.
    assert figures["ADBC"] <= max(LAST_MS_MAX, 2 * figures["ADBC, SELECT 1"]), figures
    with flight.connect(f"grpc://{daemon.address}") as client:
        command = statement("SELECT * FROM network_last")
        ticket = client.get_flight_info(flight.FlightDescriptor.for_command(command)).endpoints[0].ticket
        figures["DoGet"] = median(lambda: client.do_get(ticket).read_all())
    with grpc.insecure_channel(daemon.address) as channel:
        newest = channel.unary_unary("/kymo.v1.MetricsService/GetMetrics")
        figures["GetMetrics"] = median(lambda: newest(field(1, b"burst")))
    assert figures["GetMetrics"] <= max(METRICS_MS_MAX, figures["ADBC, SELECT 1"]), figures
    return figures


def refused(daemon):
    client = flight.connect(f"grpc://{daemon.address}")
    for tail, text in [
        ({"tail": "netwrk"}, "did you mean"),
        ({"tail": "network", "limit": 5}, "unknown field"),
        ({"tail": "network", "columns": ["rx"]}, "unknown column"),
        ({"tail": "network", "where": "rx_bytes = (SELECT max(rx_bytes) FROM network)"}, "looks at one row"),
        ({"tail": "network", "last": 1, "since": "2026-01-01"}, "not both"),
        ({"tail": "network", "where": "true) OR (true"}, "it ends before `)`"),
        ({"tail": "network", "since": "9999-01-01"}, "one that has passed"),
    ]:
        try:
            client.do_get(ticket(**tail)).read_chunk()
            raise AssertionError(f"{tail} is not refused")
        except (flight.FlightError, pyarrow.ArrowException) as error:
            assert text in str(error), error
    info = client.get_flight_info(flight.FlightDescriptor.for_command(json.dumps({"tail": "network", "columns": ["time"]})))
    assert info.schema.names == ["time"]
    client.close()


def main():
    checks = Checks()
    with folder() as data, Daemon(data / "data", CONFIG) as daemon:
        wait_for(lambda: daemon.value("SELECT count(*) FROM network") > 0, 20, "rows")
        for check in [refused, newest_rows, first_row, many_readers]:
            checks.run(check, daemon)
    checks.finish()


if __name__ == "__main__":
    main()
