//! Parameters, transactions, cancelling and sessions.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    Any, CommandPreparedStatementQuery, CommandPreparedStatementUpdate, DoPutUpdateResult, ProstMessageExt,
};
use arrow_flight::utils::batches_to_flight_data;
use arrow_flight::{Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor};
use futures::stream;
use prost::Message;
use tonic::{Code, Status};

use super::{STEP_US, TestServer, fetch, rows, status};

fn values(columns: Vec<ArrayRef>) -> RecordBatch {
    let fields: Vec<Field> = columns.iter().map(|column| Field::new("", column.data_type().clone(), true)).collect();
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &RecordBatchOptions::new()).unwrap()
}

fn texts(texts: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

/// The first column of a prepared statement's result with these values.
async fn bound(server: &TestServer, sql: &str, columns: Vec<ArrayRef>) -> Result<Vec<i64>, Status> {
    let mut client = server.sql().await;
    let mut prepared = client.prepare(sql.to_owned(), None).await.map_err(status)?;
    prepared.set_parameters(values(columns)).unwrap();
    let info = prepared.execute().await.map_err(status)?;
    Ok(fetch(&mut client, info).await.column(0).as_primitive::<Int64Type>().values().to_vec())
}

#[tokio::test]
async fn parameters_take_what_clients_send() {
    let server = TestServer::start();
    let counted = |condition: &str| format!("SELECT count(*) FROM gap WHERE {condition}");
    let int = |value: i32| Arc::new(Int32Array::from(vec![value])) as ArrayRef;
    let float = |value: f64| Arc::new(Float64Array::from(vec![value])) as ArrayRef;
    let ms = |value: i64| Arc::new(TimestampMillisecondArray::from(vec![value])) as ArrayRef;
    for (condition, columns, expected) in [
        ("collector = ?", vec![texts(&[Some("even")])], 10),
        ("collector = $1", vec![texts(&[None])], 0),
        ("collector = ? AND lost >= ?", vec![texts(&[Some("even")]), int(4)], 8),
        ("lost < $2 AND lost > $1", vec![int(3), int(7)], 3),
        ("lost > ?", vec![float(16.5)], 2),
        ("lost IN (?, ?, ?)", vec![int(1), float(2.0), texts(&[Some("3")])], 3),
        ("lost BETWEEN ? AND ?", vec![int(1), int(5)], 5),
        ("time >= ?", vec![ms(15_000)], 5),
        ("time >= ?", vec![texts(&[Some("1970-01-01T00:00:15Z")])], 5),
        ("collector LIKE ?", vec![texts(&[Some("ev%")])], 10),
        ("collector = ?", vec![texts(&[Some("even' OR '1' = '1")])], 0),
    ] {
        assert_eq!(bound(&server, &counted(condition), columns).await.unwrap(), [expected], "{condition}");
    }
    let limited = "SELECT lost FROM gap WHERE lost IS NOT NULL ORDER BY lost LIMIT ? OFFSET ?";
    assert_eq!(bound(&server, limited, vec![int(2), int(3)]).await.unwrap(), [3, 4]);
    let rows = bound(&server, "SELECT lost FROM gap WHERE lost = ?", vec![Arc::new(Int32Array::from(vec![7, 99, 5]))]);
    assert_eq!(rows.await.unwrap(), [7, 5], "one row of values after the other");
    let none = bound(&server, "SELECT lost FROM gap WHERE lost = ?", vec![Arc::new(Int32Array::from(vec![0; 0]))]);
    assert_eq!(none.await.unwrap(), [0; 0]);
}

#[tokio::test]
async fn parameters_are_told_with_the_types_that_the_plan_expects() {
    let server = TestServer::start();
    let mut client = server.sql().await;
    let sql = "SELECT collector, lost + $3 FROM gap WHERE time > $1 AND collector = $2 AND length($4) > 0 LIMIT $5";
    let prepared = client.prepare(sql.to_owned(), None).await.unwrap();
    let parameters = prepared.parameter_schema().unwrap();
    let types: Vec<_> = parameters.fields().iter().map(|field| field.data_type().clone()).collect();
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    // An argument of a function could be anything, and is told as text.
    assert_eq!(types, [time, DataType::Utf8, DataType::Int64, DataType::Utf8, DataType::Int64]);
    let result = prepared.dataset_schema().unwrap();
    assert_eq!(*result.field(1).data_type(), DataType::Int64);
}

#[tokio::test]
async fn values_that_do_not_fit_are_named() {
    let server = TestServer::start();
    let int = |value: i32| Arc::new(Int32Array::from(vec![value])) as ArrayRef;
    for (sql, columns, text) in [
        ("SELECT lost FROM gap WHERE time > $1", vec![int(5)], "$1 is bound to Int32"),
        ("SELECT lost FROM gap WHERE lost = $1 AND lost < $2", vec![int(5)], "2 parameters ($1 to $2), and 1 values"),
        ("SELECT lost FROM gap", vec![int(5)], "no parameters"),
    ] {
        let error = bound(&server, sql, columns).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{sql}: {error}");
        assert!(error.message().contains(text), "{sql}: {error}");
    }
    let mut client = server.sql().await;
    let error = client.execute("SELECT $1".to_owned(), None).await.map_err(status).unwrap_err();
    assert!(error.message().contains("bind a value"), "{error}");
    let error =
        client.prepare("SELECT $1".to_owned(), None).await.unwrap().execute().await.map_err(status).unwrap_err();
    assert!(error.message().contains("bind a value"), "{error}");
}

/// Some clients drop the handle that `DoPut` gives them, and use the first one again.
#[tokio::test]
async fn values_are_found_by_the_first_handle_too() {
    let server = TestServer::start();
    let mut flight = FlightServiceClient::new(server.channel().await);
    let request = arrow_flight::sql::ActionCreatePreparedStatementRequest {
        query: "SELECT lost FROM gap WHERE lost < ?".to_owned(),
        transaction_id: None,
    };
    let action = Action::new("CreatePreparedStatement", request.as_any().encode_to_vec());
    let created = flight.do_action(action).await.unwrap().into_inner().message().await.unwrap().unwrap();
    let created = Any::decode(&*created.body).unwrap();
    let created: arrow_flight::sql::ActionCreatePreparedStatementResult = created.unpack().unwrap().unwrap();
    let handle = created.prepared_statement_handle;

    let put = |command: Vec<u8>| {
        let batch = values(vec![Arc::new(Int32Array::from(vec![3, 2]))]);
        let mut messages = batches_to_flight_data(&batch.schema(), vec![batch]).unwrap();
        messages[0].flight_descriptor = Some(FlightDescriptor::new_cmd(command));
        stream::iter(messages)
    };
    let query = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() }.as_any().encode_to_vec();
    flight.do_put(put(query.clone())).await.unwrap().into_inner().message().await.unwrap().unwrap();
    let info = flight.get_flight_info(FlightDescriptor::new_cmd(query)).await.unwrap().into_inner();
    let batch = fetch(&mut server.sql().await, info).await;
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[0, 1, 2, 0, 1]);

    // `executemany` runs a statement without reading its rows.
    let update = CommandPreparedStatementUpdate { prepared_statement_handle: handle }.as_any().encode_to_vec();
    let result = flight.do_put(put(update)).await.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(DoPutUpdateResult::decode(result.app_metadata).unwrap().record_count, 5);
}

#[tokio::test]
async fn statements_of_a_transaction_share_their_moment() {
    let server = TestServer::start();
    let mut client = server.sql().await;
    let id = client.begin_transaction().await.unwrap();
    let mut times = Vec::new();
    for transaction in [Some(id.clone()), Some(id.clone()), None] {
        let info = client.execute("SELECT arrow_cast(now(), 'Int64') AS t".to_owned(), transaction).await.unwrap();
        times.push(fetch(&mut client, info).await.column(0).as_primitive::<Int64Type>().value(0));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(times[0], times[1]);
    assert!(times[2] > times[1]);
    for _ in 0..2 {
        client.end_transaction(id.clone(), arrow_flight::sql::EndTransaction::Commit).await.unwrap();
    }
    let error = client.execute("SELECT 1".to_owned(), Some(id)).await.map_err(status).unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("autocommit"), "{error}");
    // Some clients send no body.
    let mut flight = FlightServiceClient::new(server.channel().await);
    flight.do_action(Action::new("BeginTransaction", "")).await.unwrap();
}

#[tokio::test]
async fn a_query_is_cancelled_by_its_info() {
    let server = TestServer::start();
    let mut client = server.sql().await;
    let mut flight = FlightServiceClient::new(server.channel().await);
    let info = client.execute("SELECT * FROM generate_series(1, 1000000000)".to_owned(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut running = flight.do_get(ticket.clone()).await.unwrap().into_inner();
    running.message().await.unwrap().unwrap();
    let request = CancelFlightInfoRequest { info: Some(info.clone()) };
    let action = Action::new("CancelFlightInfo", request.encode_to_vec());
    let result = flight.do_action(action).await.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(CancelFlightInfoResult::decode(result.body).unwrap().status, CancelStatus::Cancelled as i32);
    let ended = loop {
        match running.message().await {
            Ok(Some(_)) => {}
            other => break other.map(|_| ()),
        }
    };
    assert_eq!(ended.unwrap_err().code(), Code::Cancelled);
    assert_eq!(flight.do_get(ticket).await.map(|_| ()).unwrap_err().code(), Code::Cancelled, "it does not run again");
}

#[tokio::test]
async fn a_header_gets_times_in_nanoseconds() {
    let server = TestServer::start();
    let mut client = server.sql().await;
    client.set_header("kymo-timestamps", "ns");
    let times = rows(&mut client, "SELECT time, lost FROM gap ORDER BY time LIMIT 2").await;
    let ns = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    assert_eq!(*times.schema().field(0).data_type(), ns);
    let time = times.column(0).as_primitive::<arrow::datatypes::TimestampNanosecondType>();
    assert_eq!(time.values(), &[0, STEP_US * 1_000]);
    assert_eq!(times.schema().field(1).metadata()["kymo.kind"], "gauge");
}
