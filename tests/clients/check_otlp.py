"""OpenTelemetry: a receiver that shares no code with kymo gets metrics with the right names, units and values, and
traces with errors marked. With a dead endpoint kymo counts what it could not send, and all else goes on."""

import json
import pathlib
import subprocess
import sys
import time

from harness import Checks, Daemon, command, folder, wait_for

CONFIG = """
[tracing]
endpoint = "http://127.0.0.1:{port}"
[metrics]
endpoint = "http://127.0.0.1:{port}"
export_interval = "1s"
"""


class Receiver:
    def __init__(self, out):
        self.out = out

    def __enter__(self):
        script = pathlib.Path(__file__).with_name("otlp_receiver.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), "--port", "0", "--out", str(self.out), "--seconds", "60"], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)

    def lines(self, signal):
        return [line for line in map(json.loads, self.out.read_text().splitlines()) if line["signal"] == signal]


def newest(lines):
    """The last line of each series."""
    return {(line["name"], tuple(sorted(line["attributes"].items()))): line for line in lines}


def metrics_are_right(daemon, receiver):
    def told():
        return {line["name"]: (line["unit"], line["shape"]) for line in receiver.lines("metric")}

    expected = {
        "system.cpu.time": ("s", "counter"), "system.cpu.utilization": ("1", "gauge"),
        "system.memory.usage": ("By", None), "system.disk.io": ("By", "counter"), "system.disk.operations": ("{operation}", "counter"),
        "system.network.io": ("By", "counter"), "system.filesystem.usage": ("By", None)}
    wait_for(lambda: expected.keys() <= told().keys(), 30, f"metrics {sorted(expected)}")
    shapes = told()
    for name, (unit, shape) in expected.items():
        assert shapes[name][0] == unit and shape in (None, shapes[name][1]), (name, shapes[name])
    series = newest(receiver.lines("metric"))
    compared = 0
    for (name, attributes), line in series.items():
        attributes = dict(attributes)
        time_us = line["time_unix_nano"] // 1000
        if name == "system.network.io":
            column = "rx_bytes" if attributes["network.io.direction"] == "receive" else "tx_bytes"
            table, where, scale = "network", f"interface = '{attributes['network.interface.name']}'", 1
        elif name == "system.cpu.time" and attributes.get("cpu.mode") in ("user", "system", "idle"):
            column = f"{attributes['cpu.mode']}_us"
            table, where, scale = "cpu", f"cpu = '{attributes['cpu.logical_number']}'", 1e-6
        elif name == "system.disk.io":
            column = f"{attributes['disk.io.direction']}_bytes"
            table, where, scale = "disk", f"device = '{attributes['system.device']}'", 1
        else:
            continue
        (row,) = daemon.query(
            f"SELECT min({column}) AS low, max({column}) AS high FROM {table} WHERE {where}"
            f" AND time BETWEEN to_timestamp_micros({time_us - 1_000_000}) AND to_timestamp_micros({time_us + 1_000_000})")
        assert row["low"] * scale - 1e-6 <= line["value"] <= row["high"] * scale + 1e-6, (line, row)
        assert line["temporality"] == "cumulative" and line["resource"]["service.name"] == "kymo", line
        compared += 1
    assert compared >= 8, compared
    return f"{len(shapes)} metrics, {len(series)} series, {compared} values compared"


def traces_mark_errors(daemon, receiver):
    command("flush", "--address", daemon.url)
    daemon.value("SELECT count(*) AS n FROM cpu")
    command("query", "SELECT nonsense FROM cpu", "--address", daemon.url, expect=1)
    command("collector", "stop", "nobody", "--address", daemon.url, expect=1)

    def complete():
        spans = receiver.lines("span")
        names = {span["name"] for span in spans}
        failed = {span["name"] for span in spans if span["status"] == "error"}
        return spans if {"query", "control", "flush"} <= names and {"query", "control"} <= failed else None

    spans = wait_for(complete, 15, "spans of queries, control calls and flushes")
    failed = [span for span in spans if span["status"] == "error"]
    assert any("nonsense" in span["status_message"] for span in failed), failed
    good = [span for span in spans if span["name"] == "query" and span["status"] != "error"]
    assert good and all(span["end_unix_nano"] >= span["start_unix_nano"] for span in spans)
    assert all(span["resource"]["service.name"] == "kymo" for span in spans)
    return f"{len(spans)} spans, {len(failed)} with errors"


def a_dead_endpoint_is_a_counted_loss(path):
    with Daemon(path / "dead", CONFIG.format(port=1)) as daemon:
        lost = wait_for(lambda: daemon.value("SELECT max(exports_lost) AS n FROM kymo"), 20, "lost exports are counted")
        (row,) = daemon.query("SELECT max(ticks) AS ticks, max(scheduled_ticks) AS scheduled FROM collector WHERE collector = 'burst'")
        # A sampling thread that waited for the endpoint would have taken almost no ticks.
        assert row["ticks"] > 0.5 * row["scheduled"], row
        began = time.monotonic()
        assert daemon.stop() == 0
        took = time.monotonic() - began
        warned = [line for line in daemon.log if "WARN" in line]
        assert took < 15 and len(warned) <= 6, (took, warned)
    return f"{lost} lost, stopped in {took:.1f} s, {len(warned)} warnings"


def main():
    checks = Checks()
    with folder() as path:
        with Receiver(path / "otlp.jsonl") as receiver, Daemon(path / "data", CONFIG.format(port=receiver.port)) as daemon:
            checks.run(metrics_are_right, daemon, receiver)
            checks.run(traces_mark_errors, daemon, receiver)
        checks.run(a_dead_endpoint_is_a_counted_loss, path)
    checks.finish()


if __name__ == "__main__":
    main()
