"""Flight SQL as other people's clients speak it: all give the same values, take parameters, and share what they set.

ADBC, pyarrow, flightsql-dbapi, polars, pandas and the JDBC driver share no code with kymo, and little with each other.
"""

import datetime
import decimal
import os
import sys
import threading
import time

import adbc_driver_flightsql.dbapi as adbc
import flightsql
import jpype
import pandas
import polars
import pyarrow
import pyarrow.flight

import jdbc
from harness import Checks, Daemon, folder, wait_for

SQL_COMMAND = b"type.googleapis.com/arrow.flight.protocol.sql."
EPOCH = datetime.datetime(1970, 1, 1)
# One column of each type that results have: its SQL, and its value as every client gives it.
TYPES = {
    "big": ("CAST(9007199254740993 AS BIGINT)", 9007199254740993),
    "small": ("CAST(-3 AS SMALLINT)", -3),
    "double": ("CAST(0.1 AS DOUBLE)", 0.1),
    "real": ("CAST(1.5 AS REAL)", 1.5),
    "exact": ("CAST(1.25 AS DECIMAL(10, 2))", decimal.Decimal("1.25")),
    "text": ("'ß, \"quoted\"'", 'ß, "quoted"'),
    "bytes": ("X'00ff'", b"\x00\xff"),
    "yes": ("true", True),
    "moment": ("TIMESTAMP '2026-11-26T14:43:05.123456Z'", 1795704185123456),
    "naive": ("arrow_cast('2026-11-26T14:43:05.123456', 'Timestamp(Microsecond, None)')", 1795704185123456),
    "day": ("DATE '2026-11-26'", "2026-11-26"),
}
# Two rows, the values and nulls.
ROWS = "SELECT i, {columns} FROM (VALUES (1), (2)) AS t(i) {where} ORDER BY i"
SLOW = "SELECT count(*) FROM generate_series(1, 2000000) AS a, generate_series(1, 2000000) AS b"


def statement(where=""):
    columns = ", ".join(f"CASE WHEN i = 1 THEN {sql} END AS {name}" for name, (sql, _) in TYPES.items())
    return ROWS.format(columns=columns, where=where)


EXPECTED = [
    {"i": 1, **{name: value for name, (_, value) in TYPES.items()}},
    {"i": 2, **{name: None for name in TYPES}},
]


def plain(value):
    """A value as it is compared: moments in µs since the epoch, dates as text, no numpy and no NaN for null."""
    if value is None or value is pandas.NaT or value is pandas.NA or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        return (value - EPOCH) // datetime.timedelta(microseconds=1)
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value


def plain_rows(rows):
    """Rows as they are compared. A client that knows no dates gives them as moments."""
    found = [{name: plain(value) for name, value in row.items()} for row in rows]
    for row in found:
        if isinstance(row.get("day"), int):
            row["day"] = (EPOCH + datetime.timedelta(microseconds=row["day"])).date().isoformat()
    return found


def field(number, payload):
    """A length-delimited protobuf field."""
    length, size = len(payload), b""
    while True:
        byte, length = length & 0x7F, length >> 7
        size += bytes([byte | (0x80 if length else 0)])
        if not length:
            return bytes([number << 3 | 2]) + size + payload


def command(name, *fields):
    """The descriptor of a Flight SQL command, by hand: pyarrow's client knows none."""
    body = b"".join(field(number, value) for number, value in fields)
    return pyarrow.flight.FlightDescriptor.for_command(field(1, SQL_COMMAND + name) + field(2, body))


def fetched(client, descriptor, options=None):
    info = client.get_flight_info(descriptor, options)
    assert len(info.endpoints) == 1, info.endpoints
    return client.do_get(info.endpoints[0].ticket, options).read_all()


def connected(daemon, **options):
    return adbc.connect(f"grpc://{daemon.address}", **options)


def raw(daemon):
    return pyarrow.flight.FlightClient(f"grpc://{daemon.address}")


def dbapi(daemon):
    host, port = daemon.address.split(":")
    return flightsql.connect(flightsql.FlightSQLClient(host=host, port=int(port), insecure=True))


def dbapi_rows(cursor):
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row)) for row in cursor.fetchall()]


def every_client_gives_the_same_values(daemon):
    """All types, nulls, and a result without rows."""
    for where, expected in (("", EXPECTED), ("WHERE i > 2", [])):
        sql = statement(where)
        found = {}
        with connected(daemon, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            table = cursor.fetch_arrow_table()
            found["adbc"] = table.to_pylist()
            found["polars"] = polars.read_database(sql, connection).to_dicts()
            found["pandas"] = pandas.read_sql(sql, connection, dtype_backend="pyarrow").to_dict("records")
        with raw(daemon) as client:
            table_of_flight = fetched(client, command(b"CommandStatementQuery", (1, sql.encode())))
            found["pyarrow"] = table_of_flight.to_pylist()
        assert table.schema == table_of_flight.schema, (table.schema, table_of_flight.schema)
        with dbapi(daemon) as connection, connection.cursor() as cursor:
            found["flightsql-dbapi"] = dbapi_rows(cursor.execute(sql))
        connection = jdbc.connect(daemon.address)
        found["jdbc"] = jdbc.rows(connection.createStatement().executeQuery(sql))
        connection.close()
        for client, rows in found.items():
            assert plain_rows(rows) == expected, (client, rows)
    return f"{len(TYPES)} types, {len(found)} clients"


def adbc_binds_parameters(daemon):
    until = datetime.datetime.now(datetime.timezone.utc)
    counted = "SELECT count(*) FROM cpu WHERE cpu = 'total' AND time <= ?"
    expected = daemon.value(f"SELECT count(*) AS n FROM cpu WHERE cpu = 'total' AND time <= '{until.isoformat()}'")
    with connected(daemon, autocommit=True) as connection, connection.cursor() as cursor:
        for values in ([until], [until.replace(tzinfo=None)], [until.isoformat()]):
            cursor.execute(counted, values)
            assert cursor.fetchone() == (expected,) and expected > 0, values
        cursor.execute(counted.replace("'total' AND time <= ?", "$2 AND time <= $1"), [until, "total"])
        assert cursor.fetchone() == (expected,)
        for value in (1, 2.5, "text", b"\x00", True, None, until, datetime.date(2026, 11, 26), decimal.Decimal("1.25")):
            cursor.execute("SELECT ? AS v", [value])
            assert plain(cursor.fetchone()[0]) == plain(value), value
        # Rows of values: the results follow each other.
        cursor.execute("SELECT $1 * 2 AS v, $2 AS t", pyarrow.table({"a": [1, 2, None], "b": ["x", None, "z"]}))
        assert cursor.fetchall() == [(2, "x"), (4, None), (None, "z")]
        cursor.executemany("SELECT * FROM (VALUES (1), (2), (3)) AS t(i) WHERE i <= ?", [[2], [3]])
        assert cursor.rowcount == 5, cursor.rowcount
        for sql, values, text in (
            ("SELECT count(*) FROM cpu WHERE time > ?", [5], "$1 is bound to Int64"),
            ("SELECT ?, ?", [1], "2 parameters"),
            ("SELECT ?", None, "bind a value"),
            ("SELECT $name", [1], "write parameters as $1"),
            ("SELECT * FROM generate_series(1, ?)", [2], "a parameter of generate_series"),
        ):
            refused(adbc.Error, text, cursor.execute, sql, values)
    return f"{expected} rows before {until.time()}"


def refused(kind, text, call, *arguments):
    try:
        call(*arguments)
    except kind as error:
        assert text in str(error), (text, error)
    else:
        raise AssertionError(f"{arguments} was taken, and should be refused with {text!r}")


def dbapi_and_jdbc_bind_parameters(daemon):
    with dbapi(daemon) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT ? AS a, ? AS b, count(*) > 0 AS c FROM cpu WHERE cpu = ?", [1, "x", "total"])
        assert cursor.fetchall() == [[1, "x", True]]
        cursor.execute("SELECT * FROM (VALUES (1), (2), (3)) AS t(i) WHERE i >= ? ORDER BY i", [2])
        assert cursor.fetchall() == [[2], [3]]
    connection = jdbc.connect(daemon.address)
    prepared = connection.prepareStatement(
        "SELECT count(*) AS n FROM cpu WHERE cpu = ? AND time <= ? AND utilization <= ? LIMIT ?")
    parameters = prepared.getParameterMetaData()
    assert parameters.getParameterCount() == 4
    now = jpype.java.sql.Timestamp(int(time.time() * 1000) + 86_400_000)
    for name, is_there in (("total", True), ("none", False), ("total", True)):
        prepared.setString(1, name)
        prepared.setTimestamp(2, now)
        prepared.setDouble(3, 1.5)
        prepared.setLong(4, 1)
        (row,) = jdbc.rows(prepared.executeQuery())
        assert (row["n"] > 0) == is_there, (name, row)
    prepared.setNull(1, jpype.java.sql.Types.VARCHAR)
    assert jdbc.rows(prepared.executeQuery()) == [{"n": 0}]
    prepared.close()
    connection.close()


def transactions_see_one_moment(daemon):
    """ADBC turns autocommit off by default, so its transactions begin by themselves."""
    counted = "SELECT count(*) AS n, max(time) AS t FROM network"
    with connected(daemon) as connection, connection.cursor() as cursor:
        def seen():
            cursor.execute(counted)
            return cursor.fetchone()

        for end in (connection.commit, connection.rollback):
            first = seen()
            newest = "SELECT max(time) > to_timestamp_micros({}) AS newer FROM network"
            wait_for(lambda: daemon.value(newest.format(plain(first[1]))), 10, "newer rows")
            cursor.execute("SELECT count(*) AS n, max(time) AS t FROM network WHERE time <= now()")
            assert seen() == first, "another moment"
            end()
            assert seen()[0] > first[0], "the newest rows are not seen after the transaction"
            end()
        connection.adbc_connection.set_autocommit(True)
        before = seen()
        wait_for(lambda: seen()[0] > before[0], 10, "newer rows without a transaction")
    held = []
    try:
        for _ in range(17):
            connection = connected(daemon)
            held.append(connection)
            read = lambda: polars.read_database(counted, connection)
            if len(held) < 17:
                read()
            else:
                refused(Exception, "16 transactions hold rows", read)
    finally:
        for connection in held:
            connection.close()
    return "16 at a time"


def queries_are_cancelled(daemon):
    """By the statement's own cancel, by the action, and by leaving. The worker is free each time."""
    with connected(daemon, autocommit=True) as connection, connection.cursor() as cursor:
        def cancelled(call):
            threading.Timer(0.5, cursor.adbc_cancel).start()
            began = time.monotonic()
            refused(adbc.Error, "ancel", call)
            assert time.monotonic() - began < 5, "cancelling took long"

        cancelled(lambda: (cursor.execute(SLOW), cursor.fetchall()))
    connection = jdbc.connect(daemon.address)
    running = connection.createStatement()
    threading.Timer(0.5, lambda: running.cancel()).start()
    began = time.monotonic()
    refused(Exception, "ancel", lambda: jdbc.rows(running.executeQuery(SLOW)))
    assert time.monotonic() - began < 5, "cancelling took long"
    connection.close()
    with raw(daemon) as client:
        info = client.get_flight_info(command(b"CommandStatementQuery", (1, SLOW.encode())))
        request = field(1, info.serialize())

        def cancel():
            results = list(client.do_action(pyarrow.flight.Action("CancelFlightInfo", request)))
            assert results[0].body.to_pybytes() == b"\x08\x01", results[0].body.to_pybytes()

        threading.Timer(0.5, cancel).start()
        # The second one was cancelled before it began.
        for _ in range(2):
            refused(pyarrow.flight.FlightCancelledError, "cancelled", lambda: list(client.do_get(info.endpoints[0].ticket)))
        assert fetched(client, command(b"CommandStatementQuery", (1, b"SELECT 1 AS a"))).to_pylist() == [{"a": 1}]


def sessions_keep_options(daemon):
    cookies = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}
    with connected(daemon, autocommit=True, db_kwargs=cookies) as connection:
        assert (connection.adbc_current_catalog, connection.adbc_current_db_schema) == ("kymo", "public")
        connection.adbc_current_catalog = "kymo"
        connection.adbc_current_db_schema = "information_schema"
        assert connection.adbc_current_db_schema == "information_schema"
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) > 0 AS a FROM tables WHERE table_name = 'cpu'")
            assert cursor.fetchone() == (True,)
        refused(adbc.Error, "invalid value", setattr, connection, "adbc_current_catalog", "other")
        option = "adbc.flight.sql.session.option."
        connection.adbc_connection.set_options(**{option + "time_max": "200ms", option + "timestamps": "ns"})
        with connection.cursor() as cursor:
            cursor.execute("SELECT time FROM public.cpu LIMIT 1")
            assert cursor.fetch_arrow_table().schema.field(0).type == pyarrow.timestamp("ns", "UTC")
            refused(adbc.Error, "longer than 0.2 s", lambda: (cursor.execute(SLOW), cursor.fetchall()))
        refused(adbc.Error, "invalid value", lambda: connection.adbc_connection.set_options(**{option + "time_max": "1h"}))
    connection = jdbc.connect(daemon.address, catalog="kymo")
    assert jdbc.rows(connection.createStatement().executeQuery("SELECT 1 AS a")) == [{"a": 1}]
    # Driver 18.3 closes its session a second time, when its own channel is shut down.
    refused(Exception, "Channel shutdown", connection.close)
    with raw(daemon) as client:
        # As a dashboard does that reads every time in ns.
        options = pyarrow.flight.FlightCallOptions(headers=[(b"kymo-timestamps", b"ns")])
        sql = b"SELECT time FROM cpu ORDER BY time DESC LIMIT 1"
        table = fetched(client, command(b"CommandStatementQuery", (1, sql)), options)
        assert abs(table.column(0).cast("int64")[0].as_py() / 1e9 - time.time()) < 60, table
        listed = fetched(client, command(b"CommandGetTables", (4, b"BASE TABLE"), (4, b"table")))
        assert listed.num_rows == len(daemon.declared_with_more()), listed


def catalogs_agree(daemon):
    declared = {table["name"]: [column["name"] for column in table["columns"]] for table in daemon.declared_with_more()}
    with connected(daemon, autocommit=True) as connection:
        objects = connection.adbc_get_objects(depth="all", table_name_filter="net%").read_all().to_pylist()
        tables = [table for schema in objects[0]["catalog_db_schemas"] for table in schema["db_schema_tables"]]
        assert [table["table_name"] for table in tables] == [name for name in sorted(declared) if name.startswith("net")]
        schema = connection.adbc_get_table_schema("network")
        assert schema.names == declared["network"]
        assert schema.field("rx_bytes").metadata[b"kymo.unit"] == b"bytes", schema.field("rx_bytes").metadata
        with connection.cursor() as cursor:
            # The columns that a statement keeps have the metadata of the table's.
            cursor.execute("SELECT n.received, n.received * 2 AS twice FROM (SELECT rx_bytes AS received FROM network) AS n LIMIT 1")
            kept, computed = cursor.fetch_arrow_table().schema
            assert kept.metadata[b"kymo.kind"] == b"counter" and not computed.metadata, (kept.metadata, computed.metadata)
            assert cursor.adbc_execute_schema("SELECT * FROM network").names == declared["network"]
    connection = jdbc.connect(daemon.address)
    meta = connection.getMetaData()
    tables = jdbc.rows(meta.getTables("kymo", "public", "%", jpype.JArray(jpype.JString)(["table"])))
    assert [row["TABLE_NAME"] for row in tables] == sorted(declared)
    assert jdbc.rows(meta.getTables("", None, "%", None)) == []
    columns = jdbc.rows(meta.getColumns(None, None, "network", "%"))
    assert [row["COLUMN_NAME"] for row in columns] == declared["network"] and all(row["REMARKS"] for row in columns)
    for keys in (meta.getPrimaryKeys, meta.getImportedKeys, meta.getExportedKeys):
        assert jdbc.rows(keys(None, None, "network")) == []
    assert meta.supportsTransactions() and meta.isReadOnly() and not meta.supportsSavepoints()
    assert "date_bin" in meta.getTimeDateFunctions().split(", ") and "abs" in meta.getNumericFunctions().split(", ")
    connection.close()
    with raw(daemon) as client:
        types = fetched(client, command(b"CommandGetXdbcTypeInfo")).column("type_name").to_pylist()
        assert {"BIGINT", "TIMESTAMP", "VARCHAR"} <= set(types), types
        descriptor = command(b"CommandStatementQuery", (1, b"SELECT * FROM cpu"))
        assert client.get_schema(descriptor).schema == client.get_flight_info(descriptor).schema
    with dbapi(daemon) as connection:
        assert connection.flightsql_get_table_names() == sorted(declared)
        assert [column["name"] for column in connection.flightsql_get_columns("network")] == declared["network"]
        assert connection.flightsql_get_primary_keys("network") == []
    return f"{len(declared)} tables"


def messages_stay_small(daemon):
    """Messages of usual results are near 2 MiB. One value of 15 MiB comes, and one of 17 MiB is an error, as clients refuse it."""
    with raw(daemon) as client:
        info = client.get_flight_info(command(b"CommandStatementQuery", (1, b"SELECT value, repeat('x', 1000) AS t FROM generate_series(1, 20000)")))
        sizes = [chunk.data.nbytes for chunk in client.do_get(info.endpoints[0].ticket)]
        assert sum(sizes) > 19 << 20 and max(sizes) <= 5 << 19, sizes
    with connected(daemon, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT repeat('x', 15 << 20) AS t")
        assert len(cursor.fetchone()[0]) == 15 << 20
        refused(adbc.Error, "query.message_bytes_max", lambda: (cursor.execute("SELECT repeat('x', 17 << 20) AS t"), cursor.fetchall()))
    return f"{max(sizes)} bytes at most"


def main():
    checks = Checks()
    jdbc.start()
    with folder() as path, Daemon(path / "data") as daemon:
        wait_for(lambda: daemon.value("SELECT count(*) > 100 AS enough FROM cpu WHERE utilization IS NOT NULL"), 30, "rows")
        for check in (
            every_client_gives_the_same_values,
            adbc_binds_parameters,
            dbapi_and_jdbc_bind_parameters,
            transactions_see_one_moment,
            queries_are_cancelled,
            sessions_keep_options,
            catalogs_agree,
            messages_stay_small,
        ):
            checks.run(check, daemon)
    try:
        checks.finish()
    except SystemExit as end:
        # An ordinary end waits for Java's threads, and a connection that a failed check left open has some for ever.
        sys.stdout.flush()
        os._exit(end.code)


if __name__ == "__main__":
    main()
