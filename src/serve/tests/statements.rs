//! Statements and their tickets.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, Schema, TimeUnit};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{Any, CommandStatementQuery, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{Action, FlightDescriptor, Ticket};
use futures::TryStreamExt;
use prost::Message;
use tonic::Code;

use super::{TestServer, any_port, fetch, rows, status};
use crate::query::QuerySettings;
use crate::serve::Stopped;

#[tokio::test]
async fn statements_give_rows_in_the_schema_that_was_announced() {
    let server = TestServer::start();
    let mut client = server.sql().await;
    let all = rows(&mut client, "SELECT * FROM gap ORDER BY time").await;
    assert_eq!(all.num_rows(), 20);
    assert_eq!(*all.schema().field(0).data_type(), DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert_eq!(*all.schema().field(1).data_type(), DataType::Utf8);
    let lost = all.column_by_name("lost").unwrap().as_primitive::<Int64Type>();
    assert_eq!((lost.value(18), lost.null_count()), (18, 1));

    let none = rows(&mut client, "SELECT collector, lost FROM gap WHERE lost > 100").await;
    assert_eq!((none.num_rows(), none.num_columns()), (0, 2));
    let sum = rows(&mut client, "SELECT sum(lost) AS s, count(*) AS c FROM kymo.public.gap").await;
    assert_eq!(sum.column(0).as_primitive::<Int64Type>().value(0), (0..19).sum::<i64>());
    assert_eq!(sum.column(1).as_primitive::<Int64Type>().value(0), 20);
    assert_eq!(server.stop().await, Stopped::Drained);
}

#[tokio::test]
async fn prepared_statements_and_schemas_agree_with_the_rows() {
    let server = TestServer::start();
    let mut client = server.sql().await;
    let mut prepared = client
        .prepare("SELECT collector, max(lost) AS m FROM gap GROUP BY 1 ORDER BY 1".to_owned(), None)
        .await
        .unwrap();
    assert_eq!(*prepared.parameter_schema().unwrap(), Schema::empty());
    let announced = prepared.dataset_schema().unwrap().clone();
    for _ in 0..2 {
        let info = prepared.execute().await.unwrap();
        let batch = fetch(&mut client, info).await;
        assert_eq!(*batch.schema(), announced);
        assert_eq!(batch.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("even"), Some("odd")]);
        assert_eq!(batch.column(1).as_primitive::<Int64Type>().values(), &[18, 17]);
    }
    prepared.close().await.unwrap();

    let mut command = CommandStatementQuery { query: "SELECT lost FROM gap".to_owned(), transaction_id: None };
    let described = |command: &CommandStatementQuery| FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let mut flight = FlightServiceClient::new(server.channel().await);
    let schema = flight.get_schema(described(&command)).await.unwrap().into_inner();
    assert_eq!(Schema::try_from(schema).unwrap().field(0).name(), "lost");
    command.transaction_id = Some("t".into());
    let refused = flight.get_schema(described(&command)).await.unwrap_err();
    assert!(refused.message().contains("not given by BeginTransaction"), "{refused}");
}

#[tokio::test]
async fn wrong_statements_are_refused_before_a_ticket_is_given() {
    let server = TestServer::start();
    let mut client = server.sql().await;
    for (sql, text) in [
        ("INSERT INTO gap VALUES (1)", ""),
        ("SELECT 1; SELECT 2", "one by one"),
        ("SELECT * FROM gaps", "gap"),
        ("SELECT nope FROM gap", "nope"),
        ("", "empty"),
        ("SELEC", ""),
        ("DROP TABLE gap", ""),
        ("SELECT $name", "$1"),
    ] {
        let status = client.execute(sql.to_owned(), None).await.map_err(status).expect_err(sql);
        assert_eq!(status.code(), Code::InvalidArgument, "{sql}: {status}");
        assert!(status.message().contains(text), "{sql}: {status}");
        client.prepare(sql.to_owned(), None).await.map(|_| ()).expect_err(sql);
    }
    client.execute("SELECT 1".to_owned(), Some("t1".into())).await.expect_err("no such transaction");
    assert_eq!(rows(&mut client, "SELECT count(*) FROM gap").await.num_rows(), 1, "it still answers");
}

#[tokio::test]
async fn garbage_is_told_from_tickets() {
    let server = TestServer::start();
    let mut flight = FlightServiceClient::new(server.channel().await);
    let ticket =
        |handle: &'static [u8]| TicketStatementQuery { statement_handle: handle.into() }.as_any().encode_to_vec();
    let broken = Any { type_url: TicketStatementQuery::type_url().to_owned(), value: b"\xff\xff".as_slice().into() };
    let foreign = Any { type_url: "type.googleapis.com/nobody.Knows".to_owned(), value: b"".as_slice().into() };
    for (bytes, text) in [
        (b"".to_vec(), "empty"),
        (b"SELECT 1".to_vec(), "not a Flight SQL command"),
        (b"\xff\x00\x17".to_vec(), "not a Flight SQL command"),
        (broken.encode_to_vec(), "not a Flight SQL command"),
        (foreign.encode_to_vec(), "nobody.Knows"),
        (ticket(b""), "ask GetFlightInfo"),
        (ticket(b"SELECT 1"), "ask GetFlightInfo"),
        (ticket(b"kymo\x09qSELECT 1"), "ask GetFlightInfo"),
        (ticket(b"kymo\x01qDROP TABLE gap"), ""),
    ] {
        let status = flight.do_get(Ticket::new(bytes.clone())).await.map(|_| ()).expect_err(text);
        assert_eq!(status.code(), Code::InvalidArgument, "{bytes:?}: {status}");
        assert!(status.message().contains(text), "{bytes:?}: {status}");
    }
    let path = FlightDescriptor::new_path(vec!["gap".to_owned()]);
    let status = flight.get_flight_info(path).await.expect_err("a path");
    assert_eq!(status.code(), Code::InvalidArgument);
    let action = Action::new("CreatePreparedStatement", "garbage");
    assert_eq!(flight.do_action(action).await.map(|_| ()).unwrap_err().code(), Code::InvalidArgument);
    let status = flight.do_action(Action::new("Reboot", "")).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_query_at_its_limit_ends_with_the_status_of_the_limit() {
    let server = TestServer::with(any_port(), QuerySettings { rows_max: Some(5), ..QuerySettings::default() });
    let mut client = server.sql().await;
    let info = client.execute("SELECT * FROM gap".to_owned(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let outcome: Result<Vec<RecordBatch>, FlightError> = match client.do_get(ticket).await {
        Ok(stream) => stream.try_collect().await,
        Err(error) => panic!("the limit is met while rows are read: {error}"),
    };
    let Err(FlightError::Tonic(status)) = outcome else { panic!("the limit was not met: {outcome:?}") };
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("rows_max"), "{status}");
}

#[tokio::test]
async fn large_results_come_in_small_messages() {
    let server = TestServer::start();
    let mut client = server.sql().await;
    let sql = "SELECT a.time, a.collector, b.lost, c.to_us, d.reason FROM gap a, gap b, gap c, gap d";
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut flight = FlightServiceClient::new(server.channel().await);
    let mut messages = flight.do_get(ticket).await.unwrap().into_inner();
    let (mut count, mut largest) = (0, 0);
    while let Some(message) = messages.try_next().await.unwrap() {
        count += 1;
        largest = largest.max(message.encoded_len());
    }
    assert!(count > 4 && largest < 4 << 20, "{count} messages, the largest of {largest} bytes");
}
