"""Clients that share no code with kymo: ADBC, pyarrow's Flight client, polars, and gRPC stubs generated from proto/."""

import pathlib
import subprocess
import sys
import time

import adbc_driver_flightsql.dbapi as flightsql
import grpc
import polars
import pyarrow.flight
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from harness import Checks, Daemon, ROOT, folder, wait_for

SQL = "SELECT interface, count(*) AS n, sum(rx_bytes) AS s, max(time) AS t FROM network WHERE time <= {until} GROUP BY interface ORDER BY interface"


def generate(into):
    """Generates Python classes for kymo's API from proto/ with grpcio-tools."""
    protos = [str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto")]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", f"--python_out={into}", f"--grpc_python_out={into}", *protos],
        check=True)
    sys.path.insert(0, str(into))


def field(number, payload):
    """A length-delimited protobuf field. pyarrow's client knows no Flight SQL, so commands are encoded by hand."""
    length, size = len(payload), b""
    while True:
        byte, length = length & 0x7F, length >> 7
        size += bytes([byte | (0x80 if length else 0)])
        if not length:
            return bytes([number << 3 | 2]) + size + payload


def statement(sql):
    command = field(1, sql.encode())
    return field(1, b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery") + field(2, command)


def pyarrow_rows(daemon, sql):
    with pyarrow.flight.FlightClient(f"grpc://{daemon.address}") as client:
        info = client.get_flight_info(pyarrow.flight.FlightDescriptor.for_command(statement(sql)))
        table = client.do_get(info.endpoints[0].ticket).read_all()
        assert table.schema == info.schema, (table.schema, info.schema)
        return table


def same_numbers_everywhere(daemon):
    until = daemon.value("SELECT arrow_cast(max(time), 'Int64') AS t FROM network")
    sql = SQL.format(until=f"to_timestamp_micros({until})")
    with flightsql.connect(f"grpc://{daemon.address}", autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            adbc = cursor.fetch_arrow_table()
        frame = polars.read_database(sql, connection)
    flight = pyarrow_rows(daemon, sql)
    assert adbc.to_pylist() == flight.to_pylist() == frame.to_arrow().to_pylist(), (adbc, flight, frame)
    assert adbc.num_rows >= 1 and sum(adbc["n"].to_pylist()) > 0
    cli = daemon.query(sql)
    assert [(row["interface"], row["n"], row["s"]) for row in cli] == [
        (row["interface"], row["n"], row["s"]) for row in adbc.to_pylist()]
    return f"{adbc.num_rows} interfaces, {sum(adbc['n'].to_pylist())} rows"


def adbc_sees_the_catalog(daemon):
    with flightsql.connect(f"grpc://{daemon.address}", autocommit=True) as connection:
        info = connection.adbc_get_info()
        assert "kymo" in str(info.get("vendor_name", "")).lower(), info
        objects = connection.adbc_get_objects(depth="all").read_all().to_pylist()
        tables = {
            table["table_name"]: [column["column_name"] for column in table["table_columns"]]
            for catalog in objects
            for schema in catalog["catalog_db_schemas"] or []
            for table in schema["db_schema_tables"] or []}
        declared = {table["name"]: [column["name"] for column in table["columns"]] for table in daemon.declared_with_more()}
        assert tables == declared, (tables, declared)
        assert connection.adbc_get_table_types() != []
        schema = connection.adbc_get_table_schema("cpu")
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM cpu LIMIT 3")
            assert cursor.fetch_arrow_table().schema.names == schema.names
    return f"{len(tables)} tables"


def prepared_statements_run_again(daemon):
    with flightsql.connect(f"grpc://{daemon.address}", autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_prepare("SELECT count(*) AS n FROM cpu")
        counts = []
        for _ in range(3):
            cursor.execute("SELECT count(*) AS n FROM cpu")
            counts.append(cursor.fetchone()[0])
            time.sleep(0.1)
        assert counts == sorted(counts) and counts[0] < counts[-1], counts
    return counts


def grpc_reads_and_controls(daemon):
    from google.protobuf.duration_pb2 import Duration
    from kymo.v1 import alert_service_pb2, alert_service_pb2_grpc, metrics_service_pb2 as api, metrics_service_pb2_grpc

    with grpc.insecure_channel(daemon.address) as channel:
        metrics = metrics_service_pb2_grpc.MetricsServiceStub(channel)
        families = {}
        for collector, expected in {"system": {"cpu"}, "kernel": {"memory", "vm"}}.items():
            current = metrics.GetMetrics(api.GetMetricsRequest(collector=collector), timeout=10)
            families[collector] = {family.family: family.rows for family in current.families}
            assert set(families[collector]) >= expected, current
        assert set(families["system"]) == {"cpu"} and not set(families["kernel"]) & {"cpu", "host"}, families
        values = {value.name: value for value in families["kernel"]["memory"][-1].values}
        assert values["total_bytes"].value.int_value == daemon.value("SELECT max(total_bytes) AS t FROM memory")
        assert values["total_bytes"].unit == "bytes"
        assert {row.labels["cpu"] for row in families["system"]["cpu"]} >= {"total", "0"}

        until = daemon.value("SELECT arrow_cast(max(time), 'Int64') AS t FROM network")
        request = api.AggregateMetricsRequest(table="network", columns=["rx_bytes"], labels={"interface": "lo"})
        request.start_time.FromMicroseconds(until - 5_000_000)
        request.end_time.FromMicroseconds(until)
        (row,) = metrics.AggregateMetrics(request, timeout=10).rows
        expected = daemon.query(
            "SELECT min(rx_bytes) AS low, max(rx_bytes) AS high, avg(rx_bytes) AS mean, count(*) AS n FROM network"
            f" WHERE interface = 'lo' AND time >= to_timestamp_micros({until - 5_000_000}) AND time < to_timestamp_micros({until})")[0]
        (found,) = row.aggregates
        assert (found.min.int_value, found.max.int_value, found.count) == (expected["low"], expected["high"], expected["n"]), (row, expected)
        assert abs(found.avg - expected["mean"]) <= 1e-9 * max(1, abs(expected["mean"]))

        listed = {one.name: one for one in metrics.ListCollectors(api.ListCollectorsRequest(), timeout=10).collectors}
        assert set(listed) == {"burst", "system", "kernel", "slow", "mounts"}, listed
        stopped = metrics.ControlCollector(api.ControlCollectorRequest(name="slow", stop=api.StopCollector()), timeout=10)
        assert stopped.collector.name == "slow"
        quiet = daemon.value("SELECT count(*) AS n FROM host")
        start = api.StartCollector(interval=Duration(nanos=100_000_000), families=["host"])
        metrics.ControlCollector(api.ControlCollectorRequest(name="slow", start=start), timeout=10)
        wait_for(lambda: daemon.value("SELECT count(*) AS n FROM host") >= quiet + 10, 5, "the collector that was started again")
        retune = api.RetuneCollector(interval=Duration(seconds=1), families=["host"])
        tuned = metrics.ControlCollector(api.ControlCollectorRequest(name="slow", retune=retune), timeout=10).collector
        assert tuned.interval.seconds == 1 and list(tuned.families) == ["host"], tuned
        flushed = metrics.Flush(api.FlushRequest(), timeout=30)
        status = metrics.GetStatus(api.GetStatusRequest(), timeout=10)
        assert flushed.rows > 0 and status.store.files >= flushed.files and not status.degraded, (flushed, status)
        rules = alert_service_pb2_grpc.AlertServiceStub(channel).ListAlerts(alert_service_pb2.ListAlertsRequest(), timeout=10)
        assert len(rules.rules) >= 1
    return f"flushed {flushed.rows} rows into {flushed.files} files, {len(rules.rules)} rules"


def health_and_reflection(daemon):
    with grpc.insecure_channel(daemon.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "kymo.v1.MetricsService", "kymo.v1.AlertService", "arrow.flight.protocol.FlightService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING, service
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert {"kymo.v1.MetricsService", "kymo.v1.AlertService"} <= set(services), services
    return f"{len(services)} services"


def main():
    checks = Checks()
    with folder() as path, Daemon(path / "data") as daemon:
        classes = path / "classes"
        classes.mkdir()
        generate(classes)
        # Some checks look at the last five seconds.
        enough = "SELECT max(time) - min(time) > interval '6 seconds' AS enough FROM network"
        wait_for(lambda: daemon.value(enough), 60, "six seconds of rows")
        for check in (same_numbers_everywhere, adbc_sees_the_catalog, prepared_statements_run_again, grpc_reads_and_controls, health_and_reflection):
            checks.run(check, daemon)
    checks.finish()


if __name__ == "__main__":
    main()
