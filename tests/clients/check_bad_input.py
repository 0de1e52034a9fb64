"""Bad input from clients gets a clear error that names the wrong thing, and changes nothing."""

import pathlib
import socket
import time

import adbc_driver_flightsql.dbapi as flightsql
import grpc
import pyarrow.flight

from check_clients import generate, statement
from harness import Checks, Daemon, command, folder, rows


def configurations_are_refused(path):
    """The exit code is 78, the error names the place and the thing, and no data folder is made."""
    cases = {
        "unknown key": ("[storage]\npaht = 'x'\n", "paht"),
        "syntax": ("[storage\n", "1:"),
        "wrong type": ("[query]\nconcurrent_max = 'many'\n", "concurrent_max"),
        "family twice": ("[collector.a]\ninterval='10ms'\nmetrics=['cpu']\n[collector.b]\ninterval='10ms'\nmetrics=['cpu']\n", "cpu"),
        "zero interval": ("[collector.a]\ninterval='0s'\nmetrics=['cpu']\n", "interval"),
        "too fast": ("[collector.a]\ninterval='1ms'\nmetrics=['cpu']\n", "force"),
        "unknown family": ("[collector.a]\ninterval='1s'\nmetrics=['gpu']\n", "gpu"),
        "bad rule": ("[[alert]]\nname='x'\ntable='cpu'\nwhen='utilisation > 1'\nmessage='m'\n", "utilisation"),
        "bad template": ("[[alert]]\nname='x'\ncondition='load_above'\nthreshold=1\nmessage='{nothing}'\n", "nothing"),
        "unknown condition": ("[[alert]]\nname='x'\ncondition='cpu_above'\nthreshold=1\nmessage='m'\n", "cpu_above"),
        "bad address": ("[server]\naddress='localhost'\n", "address"),
        "open address": ("[server]\naddress='0.0.0.0:50051'\n", "TLS"),
        "ratio": ("[tracing]\nsampling_ratio=2.0\n", "sampling_ratio"),
    }
    for name, (text, expected) in cases.items():
        file = path / "bad.toml"
        file.write_text(text)
        data = path / "untouched"
        error = command("run", "-c", str(file), "--data", str(data), expect=78)
        assert expected in error and not data.exists(), (name, error)
        assert "bad.toml" in error and "panicked" not in error, (name, error)
    error = command("check", "-c", str(path / "missing.toml"), expect=78)
    assert "missing.toml" in error, error
    error = command("check", expect=78, environment={"KYMO_STORAGE__FLUSH_INTERVAL": "soon"})
    assert "KYMO_STORAGE__FLUSH_INTERVAL" in error, error
    return f"{len(cases) + 2} configurations"


def statements_are_refused(daemon):
    before = daemon.query("SELECT table_name FROM information_schema.tables ORDER BY table_name")
    cases = {
        "INSERT INTO cpu SELECT * FROM cpu": "", "DROP TABLE cpu": "", "CREATE TABLE x AS SELECT 1": "",
        "COPY cpu TO '/tmp/kymo-copied.parquet'": "", "SET datafusion.execution.batch_size = 1": "",
        "SELECT 1; SELECT 2": "one", "SELECT * FROM '/etc/passwd'": "", "SELECT * FROM read_csv('/etc/passwd')": "read_csv",
        "SELECT * FROM nowhere": "nowhere", "SELECT nothing FROM cpu": "nothing", "SELEC 1": "", "": "",
        "SELECT " + "(" * 100_000 + "1" + ")" * 100_000: "", "SELECT 1 WHERE " + " OR ".join(["1 = 1"] * 20_000): ""}
    with flightsql.connect(f"grpc://{daemon.address}", autocommit=True) as connection:
        for sql, expected in cases.items():
            try:
                with connection.cursor() as cursor:
                    cursor.execute(sql)
                    cursor.fetchall()
            except Exception as error:
                text = str(error)
                assert expected in text and len(text) > 20 and "panicked" not in text, (sql[:60], text)
            else:
                raise AssertionError(f"{sql[:60]} was accepted")
    assert not pathlib.Path("/tmp/kymo-copied.parquet").exists()
    assert daemon.query("SELECT table_name FROM information_schema.tables ORDER BY table_name") == before
    return f"{len(cases)} statements"


def tickets_are_refused(daemon):
    with pyarrow.flight.FlightClient(f"grpc://{daemon.address}") as client:
        for ticket in (b"", b"garbage", b"\xff" * 100, statement("SELECT 1")[:-3], b"SELECT 1"):
            try:
                client.do_get(pyarrow.flight.Ticket(ticket)).read_all()
            except (pyarrow.ArrowException, NotImplementedError, OSError) as error:
                assert len(str(error)) > 20, error
            else:
                raise AssertionError(f"the ticket {ticket!r} was accepted")
    return "5 tickets"


def calls_are_refused(daemon):
    from google.protobuf.duration_pb2 import Duration
    from kymo.v1 import metrics_service_pb2 as api, metrics_service_pb2_grpc

    def start(name="x", families=("host",), interval=None, **more):
        collector = api.StartCollector(families=families, interval=interval or Duration(seconds=1), **more)
        return api.ControlCollectorRequest(name=name, start=collector)

    with grpc.insecure_channel(daemon.address) as channel:
        service = metrics_service_pb2_grpc.MetricsServiceStub(channel)
        listed = [one.name for one in service.ListCollectors(api.ListCollectorsRequest()).collectors]
        range_backwards = api.AggregateMetricsRequest(table="cpu")
        range_backwards.start_time.FromSeconds(2_000_000_000)
        cases = [
            (service.GetMetrics, api.GetMetricsRequest(collector="nobody"), "nobody"),
            (service.GetMetrics, api.GetMetricsRequest(), "collector"),
            (service.ControlCollector, api.ControlCollectorRequest(name="burst"), "action"),
            (service.ControlCollector, start(name=""), "name"),
            (service.ControlCollector, start(name="../x"), "name"),
            (service.ControlCollector, start(name="burst"), "burst"),
            (service.ControlCollector, start(interval=Duration()), "interval"),
            (service.ControlCollector, start(interval=Duration(seconds=-1)), "interval"),
            (service.ControlCollector, start(families=["gpu"]), "gpu"),
            (service.ControlCollector, start(families=["network"]), "network"),
            (service.ControlCollector, start(families=[]), "famil"),
            (service.ControlCollector, api.ControlCollectorRequest(name="nobody", stop=api.StopCollector()), "nobody"),
            (service.AggregateMetrics, api.AggregateMetricsRequest(table="nowhere"), "nowhere"),
            (service.AggregateMetrics, api.AggregateMetricsRequest(table="cpu"), "start_time"),
            (service.AggregateMetrics, range_backwards, "range"),
        ]
        for call, request, expected in cases:
            try:
                call(request, timeout=10)
            except grpc.RpcError as error:
                assert expected in error.details() and error.code() not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), error
            else:
                raise AssertionError(f"{request} was accepted")
        assert [one.name for one in service.ListCollectors(api.ListCollectorsRequest()).collectors] == listed
    return f"{len(cases)} calls"


def the_second_daemon_says_who_holds_the_folder(daemon):
    error = command("run", "--data", str(daemon.data), "--address", "127.0.0.1:0", expect=1)
    assert str(daemon.process.pid) in error and str(daemon.data) in error, error


def the_daemon_still_runs(daemon):
    assert daemon.process.poll() is None, daemon.log[-5:]
    assert daemon.value("SELECT count(*) AS n FROM cpu") > 0


def a_taken_port_is_named(path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = command("run", "--data", str(path / "port"), "--address", f"127.0.0.1:{port}", expect=1)
    assert str(port) in error, error
    assert not (path / "port").exists()


def unwritable_folders_are_named():
    # Nobody can make a folder in /proc.
    error = command("run", "--data", "/proc/kymo", "--address", "127.0.0.1:0", expect=1)
    assert "/proc/kymo" in error, error


def foreign_files_are_left_alone(path):
    data = path / "foreign"
    with Daemon(data) as daemon:
        time.sleep(2)
    cpu = next((data / "lake" / "cpu").rglob("date=*"))
    strangers = {cpu / "notes.parquet": b"x", cpu / "20260101T000000.000000Z_900-901.parquet": b"PAR1 no", data / "lake" / "README": b"y"}
    for file, content in strangers.items():
        file.write_bytes(content)
    before = rows(command("query", "SELECT count(*) AS n FROM cpu", "--data", str(data), "--format", "json"))
    with Daemon(data) as daemon:
        warned = "".join(daemon.log)
        for file in strangers:
            assert file.name in warned, (file, warned)
        assert daemon.value("SELECT count(*) AS n FROM cpu") >= before[0]["n"]
    for file, content in strangers.items():
        assert file.read_bytes() == content
    return f"{len(strangers)} files"


def the_command_line_explains(path):
    assert "kymo run" in command("query", "SELECT 1", "--address", "http://127.0.0.1:1", expect=69)
    command("query", "SELECT 1", "--data", str(path / "nowhere"), expect=1)
    command("query", "SELECT 1", "--format", "xml", expect=2)
    command("collector", "set", "nobody", expect=2)


def main():
    checks = Checks()
    with folder() as path:
        classes = path / "classes"
        classes.mkdir()
        generate(classes)
        checks.run(configurations_are_refused, path)
        with Daemon(path / "data") as daemon:
            time.sleep(1)
            for check in (statements_are_refused, tickets_are_refused, calls_are_refused, the_second_daemon_says_who_holds_the_folder):
                checks.run(check, daemon)
            checks.run(the_daemon_still_runs, daemon)
        checks.run(a_taken_port_is_named, path)
        checks.run(unwritable_folders_are_named)
        checks.run(foreign_files_are_left_alone, path)
        checks.run(the_command_line_explains, path)
    checks.finish()


if __name__ == "__main__":
    main()
