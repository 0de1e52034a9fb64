//! The server as clients see it: real sockets and queries, a fake daemon.

mod flight_sql;

use std::collections::BTreeMap;
use std::sync::Mutex;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    Any, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, CommandStatementQuery,
    ProstMessageExt, SqlInfo, TicketStatementQuery, XdbcDataType,
};
use arrow_flight::{Action, FlightDescriptor, FlightInfo, IpcMessage, Ticket};
use futures::TryStreamExt;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServiceResponse};
use tonic_types::StatusExt;

use super::proto::alert_service_client::AlertServiceClient;
use super::proto::control_collector_request::Action as Change;
use super::proto::metrics_service_client::MetricsServiceClient;
use super::proto::number::Value;
use super::*;
use crate::alert::status::{FiringSeries, RuleStatus};
use crate::batch::to_batch;
use crate::collector::{CollectorStatus, RetuneCollector, StartCollector};
use crate::family::FamilyId;
use crate::family::tables::TableId;
use crate::query::statements::InProcess;
use crate::query::{Engine, QuerySettings};
use crate::record::Record;
use crate::record::label::Labels;
use crate::sampler::report::Gap;
use crate::store::{Flushed, HotBatch, TableView, View};

const STEP_US: i64 = 1_000_000;
const ROWS: i64 = 20;

/// Rows `i` = 0…19 of `gap`, one a second; collector `even` or `odd`, `lost` = i, absent at 19, `to_us` = 2⁵³ + i.
fn gaps() -> RecordBatch {
    let labels = Labels::default();
    let (even, odd, late) = (labels.intern("even"), labels.intern("odd"), labels.intern("late"));
    let rows: Vec<Gap> = (0..ROWS)
        .map(|i| {
            let lost = if i == 19 { crate::record::ABSENT } else { i };
            let collector = if i % 2 == 0 { even } else { odd };
            Gap { collector, reason: late, lost, to_us: (1 << 53) + i, ..Gap::absent(i * STEP_US) }
        })
        .collect();
    to_batch(&[&rows], &labels, &Gap::TABLE.schema())
}

fn engine(settings: QuerySettings) -> Arc<InProcess> {
    let family = FamilyId::of::<Gap>();
    let mut view = View::empty();
    let hot = HotBatch { first_seq: 0, host: "alpha".into(), batch: gaps(), time_range: (0, (ROWS - 1) * STEP_US) };
    let table = TableView { hot: vec![Arc::new(hot)], ..TableView::clone(&view.tables[family]) };
    view.tables[family] = Arc::new(table);
    let view = Arc::new(view);
    let engine = Engine::new(Arc::new(move || Arc::clone(&view)), settings).expect("an engine");
    Arc::new(InProcess { engine, batch_bytes_max: any_port().batch_bytes_max })
}

/// A daemon that remembers what it was told.
#[derive(Debug, Default)]
struct Fake {
    collectors: Mutex<BTreeMap<String, CollectorStatus>>,
}

impl Operator for Fake {
    async fn start_collector(&self, start: StartCollector) -> Result<CollectorStatus, OperatorError> {
        let mut collectors = self.collectors.lock().unwrap();
        let others: Vec<_> = collectors.values().map(|one| one.settings.clone()).collect();
        let status = CollectorStatus { settings: start.check(&others)?, ..Default::default() };
        collectors.insert(status.settings.name.clone(), status.clone());
        Ok(status)
    }

    async fn stop_collector(&self, name: &str) -> Result<CollectorStatus, OperatorError> {
        self.collectors.lock().unwrap().remove(name).ok_or_else(|| unknown(name))
    }

    async fn retune_collector(&self, retune: RetuneCollector) -> Result<CollectorStatus, OperatorError> {
        let mut collectors = self.collectors.lock().unwrap();
        let collector = collectors.get_mut(&retune.name).ok_or_else(|| unknown(&retune.name))?;
        collector.settings = retune.check(&collector.settings, &[])?;
        Ok(collector.clone())
    }

    async fn list_collectors(&self) -> Result<Vec<CollectorStatus>, OperatorError> {
        Ok(self.collectors.lock().unwrap().values().cloned().collect())
    }

    async fn latest(&self, collector: &str) -> Result<Vec<(FamilyId, RecordBatch)>, OperatorError> {
        if collector == "reports" {
            return Ok(vec![(FamilyId::of::<Gap>(), gaps())]);
        }
        Err(unknown(collector))
    }

    async fn status(&self) -> Result<DaemonStatus, OperatorError> {
        Ok(DaemonStatus { host: "ember".to_owned(), degraded: vec!["disk full".to_owned()], ..Default::default() })
    }

    async fn flush(&self) -> Result<Flushed, OperatorError> {
        Ok(Flushed { rows: 7, files: vec!["a".into(), "b".into()], ..Default::default() })
    }

    async fn alerts(&self) -> Result<Vec<RuleStatus>, OperatorError> {
        Ok(vec![RuleStatus {
            name: "busy".to_owned(),
            table: "cpu",
            condition: "utilization > 0.9".to_owned(),
            firing: 1,
            firing_series: vec![FiringSeries {
                labels: BTreeMap::from([("cpu", "total".to_owned())]),
                since_us: 1_700_000_000_000_000,
                peak: Some(99.5),
                ..FiringSeries::default()
            }],
            ..Default::default()
        }])
    }
}

fn unknown(name: &str) -> OperatorError {
    OperatorError::NotFound(format!("no collector {name} runs"))
}

/// A server that runs until it is stopped or dropped.
struct TestServer {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<Stopped, ServeError>>,
}

impl TestServer {
    fn start() -> TestServer {
        Self::with(any_port(), QuerySettings::default())
    }

    fn with(settings: ServeSettings, limits: QuerySettings) -> TestServer {
        let server = Server::bind(settings, Arc::new(Fake::default()), engine(limits)).expect("a free port");
        let address = server.local_addr();
        let (stop, stopping) = oneshot::channel();
        let ended = tokio::spawn(server.run(async {
            let _ = stopping.await;
        }));
        TestServer { address, stop, ended }
    }

    async fn channel(&self) -> Channel {
        let url = format!("http://{}", self.address);
        Channel::from_shared(url).unwrap().connect().await.expect("the server listens")
    }

    async fn sql(&self) -> FlightSqlServiceClient<Channel> {
        FlightSqlServiceClient::new(self.channel().await)
    }

    async fn metrics(&self) -> MetricsServiceClient<Channel> {
        MetricsServiceClient::new(self.channel().await)
    }

    async fn stop(self) -> Stopped {
        self.stop.send(()).expect("it runs");
        self.ended.await.unwrap().unwrap()
    }
}

fn any_port() -> ServeSettings {
    ServeSettings::at(SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// All batches of the one endpoint, whose schema must be the one announced.
async fn fetch(client: &mut FlightSqlServiceClient<Channel>, info: FlightInfo) -> RecordBatch {
    let announced = info.clone().try_decode_schema().unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let stream = client.do_get(ticket).await.unwrap();
    let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
    for batch in &batches {
        assert_eq!(*batch.schema(), announced);
    }
    concat_batches(&SchemaRef::new(announced), &batches).unwrap()
}

async fn rows(client: &mut FlightSqlServiceClient<Channel>, sql: &str) -> RecordBatch {
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    fetch(client, info).await
}

/// What the server said.
fn status(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => panic!("not from the server: {other}"),
    }
}

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
async fn the_catalog_lists_every_family_with_its_columns() {
    let server = TestServer::start();
    let mut client = server.sql().await;
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(fetch(&mut client, info).await.column(0).as_string::<i32>().value(0), "kymo");
    let info = client.get_db_schemas(CommandGetDbSchemas::default()).await.unwrap();
    assert_eq!(fetch(&mut client, info).await.column(1).as_string::<i32>().value(0), "public");
    let info = client.get_table_types().await.unwrap();
    assert_eq!(fetch(&mut client, info).await.column(0).as_string::<i32>().value(0), "TABLE");

    let info = client.get_tables(CommandGetTables::default()).await.unwrap();
    let tables = fetch(&mut client, info).await;
    let mut expected: Vec<_> = TableId::all().map(TableId::name).collect();
    expected.sort_unstable();
    assert_eq!(tables.column(2).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), expected);

    let filter = CommandGetTables {
        table_name_filter_pattern: Some("ga_".to_owned()),
        include_schema: true,
        ..CommandGetTables::default()
    };
    let info = client.get_tables(filter).await.unwrap();
    let tables = fetch(&mut client, info).await;
    assert_eq!(tables.column(2).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["gap"]);
    let schema = IpcMessage(tables.column(4).as_binary::<i32>().value(0).to_vec().into());
    let schema = Schema::try_from(schema).unwrap();
    let selected = rows(&mut client, "SELECT * FROM gap").await.schema();
    let types = |schema: &Schema| {
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect::<Vec<_>>()
    };
    assert_eq!(types(&schema), types(&selected));
    assert!(schema.field(1).metadata()["ARROW:FLIGHT:SQL:REMARKS"].contains("collector"));
}

#[tokio::test]
async fn clients_learn_what_the_server_can_do() {
    let server = TestServer::start();
    let mut client = server.sql().await;
    let info = client.get_sql_info(vec![SqlInfo::FlightSqlServerName]).await.unwrap();
    assert_eq!(fetch(&mut client, info).await.num_rows(), 1);
    let info = client.get_sql_info(vec![]).await.unwrap();
    assert!(fetch(&mut client, info).await.num_rows() > 20);
    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).await.unwrap();
    assert_eq!(fetch(&mut client, info).await.num_rows(), 14);
    let timestamps = CommandGetXdbcTypeInfo { data_type: Some(XdbcDataType::XdbcTimestamp as i32) };
    let info = client.get_xdbc_type_info(timestamps).await.unwrap();
    let types = fetch(&mut client, info).await;
    assert_eq!(types.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("TIMESTAMP")]);
    let keys = CommandGetPrimaryKeys { table: "gap".to_owned(), ..CommandGetPrimaryKeys::default() };
    let info = client.get_primary_keys(keys).await.unwrap();
    assert_eq!(fetch(&mut client, info).await.num_rows(), 0);
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

#[tokio::test]
async fn collectors_are_started_retuned_listed_and_stopped() {
    let server = TestServer::start();
    let mut client = server.metrics().await;
    let interval = |millis| wire::duration(Duration::from_millis(millis));
    let families = vec!["cpu".to_owned()];
    let start = proto::StartCollector { interval: Some(interval(10)), families, ..Default::default() };
    let request = |action| proto::ControlCollectorRequest { name: "fast".to_owned(), action: Some(action) };

    let short = proto::StartCollector { interval: Some(wire::duration(Duration::from_micros(5))), ..start.clone() };
    let short = client.control_collector(request(Change::Start(short))).await.unwrap_err();
    assert_eq!(short.code(), Code::InvalidArgument);
    assert!(short.message().starts_with("start.interval: the interval must be from 1ms to 24h"), "{short}");
    let details = short.get_details_bad_request().expect("details survive the wire");
    assert_eq!(details.field_violations[0].field, "start.interval");

    let started = client.control_collector(request(Change::Start(start.clone()))).await.unwrap().into_inner();
    assert_eq!(started.collector.unwrap().families, ["cpu"]);
    let again = client.control_collector(request(Change::Start(start))).await.unwrap_err();
    assert_eq!((again.code(), again.message()), (Code::AlreadyExists, "there is a collector `fast` already"));

    let retune = proto::RetuneCollector { interval: Some(interval(20)), ..Default::default() };
    let retuned = client.control_collector(request(Change::Retune(retune))).await.unwrap().into_inner();
    assert_eq!(retuned.collector.unwrap().interval, Some(interval(20)));
    let listed = client.list_collectors(proto::ListCollectorsRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.collectors.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["fast"]);

    let stop = Change::Stop(proto::StopCollector {});
    client.control_collector(request(stop)).await.unwrap();
    let gone = client.control_collector(request(Change::Stop(proto::StopCollector {}))).await.unwrap_err();
    assert_eq!((gone.code(), gone.message()), (Code::NotFound, "no collector fast runs"));
    let nothing = client.control_collector(proto::ControlCollectorRequest::default()).await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn metrics_status_flush_and_alerts_arrive() {
    let server = TestServer::start();
    let mut client = server.metrics().await;
    let get = |collector: &str| proto::GetMetricsRequest { collector: collector.to_owned() };
    let metrics = client.get_metrics(get("reports")).await.unwrap().into_inner();
    assert_eq!(metrics.families[0].rows.len(), 1, "the newest tick has one row");
    assert_eq!(metrics.families[0].rows[0].labels["collector"], "odd");
    assert_eq!(client.get_metrics(get("nobody")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.get_metrics(get("")).await.unwrap_err().code(), Code::InvalidArgument);

    let status = client.get_status(proto::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.host.as_str(), status.version.as_str()), ("ember", env!("CARGO_PKG_VERSION")));
    assert_eq!((status.degraded, status.degraded_reasons.as_slice()), (true, ["disk full".to_owned()].as_slice()));
    let flushed = client.flush(proto::FlushRequest {}).await.unwrap().into_inner();
    assert_eq!((flushed.files, flushed.rows), (2, 7));

    let mut alerts = AlertServiceClient::new(server.channel().await);
    let rules = alerts.list_alerts(proto::ListAlertsRequest {}).await.unwrap().into_inner().rules;
    assert_eq!((rules[0].name.as_str(), rules[0].state()), ("busy", proto::AlertState::Firing));
    let series = &rules[0].firing_series[0];
    assert_eq!((series.labels["cpu"].as_str(), series.no_data, series.peak), ("total", false, Some(99.5)));
    assert_eq!(series.since.as_ref().map(|since| since.seconds), Some(1_700_000_000));
    assert_eq!(rules[0].absent, "resolve");
}

fn aggregate(columns: &[&str], bucket_s: Option<i64>) -> proto::AggregateMetricsRequest {
    proto::AggregateMetricsRequest {
        table: "gap".to_owned(),
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        start_time: Some(wire::timestamp(0)),
        end_time: Some(wire::timestamp(ROWS * STEP_US)),
        bucket: bucket_s.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        group_by: Some(proto::LabelNames::default()),
        ..Default::default()
    }
}

fn int(number: Option<proto::Number>) -> Option<i64> {
    number.map(|number| match number.value {
        Some(Value::IntValue(value)) => value,
        other => panic!("not an integer: {other:?}"),
    })
}

#[tokio::test]
async fn aggregates_are_those_of_the_rows_in_each_bucket_and_series() {
    let server = TestServer::start();
    let mut client = server.metrics().await;

    // One bucket, no labels: 0…18, and an absent value at 19. Integers above 2⁵³ keep every digit.
    let rows = client.aggregate_metrics(aggregate(&["lost", "to_us"], None)).await.unwrap().into_inner().rows;
    assert_eq!(rows.len(), 1);
    let [lost, to] = rows[0].aggregates.as_slice() else { panic!("two columns") };
    assert_eq!((lost.count, int(lost.min), int(lost.max), int(lost.last)), (19, Some(0), Some(18), Some(18)));
    assert_eq!((lost.avg, lost.unit.as_str()), (Some(9.0), "tick"));
    assert_eq!((to.count, int(to.last)), (20, Some((1 << 53) + 19)));

    // Buckets of 10 s by collector: 0, 2 … 8 are even in the first.
    let by_collector = proto::AggregateMetricsRequest {
        group_by: Some(proto::LabelNames { names: vec!["collector".to_owned()] }),
        ..aggregate(&["lost"], Some(10))
    };
    let rows = client.aggregate_metrics(by_collector.clone()).await.unwrap().into_inner().rows;
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.time.unwrap().seconds, row.labels["collector"].as_str(), int(row.aggregates[0].last)))
        .collect();
    assert_eq!(
        told,
        [(0, "even", Some(8)), (0, "odd", Some(9)), (10, "even", Some(18)), (10, "odd", Some(17))],
        "in the order of time, then labels"
    );

    let odd = proto::AggregateMetricsRequest {
        labels: [("collector".to_owned(), "odd".to_owned())].into(),
        start_time: Some(wire::timestamp(19 * STEP_US)),
        ..by_collector
    };
    let rows = client.aggregate_metrics(odd.clone()).await.unwrap().into_inner().rows;
    assert_eq!(rows.len(), 1);
    let only = &rows[0].aggregates[0];
    assert_eq!((only.count, only.min, only.max, only.avg, only.last), (0, None, None, None, None));

    let nobody = proto::AggregateMetricsRequest {
        labels: [("collector".to_owned(), "' OR '1' = '1".to_owned())].into(),
        group_by: Some(proto::LabelNames::default()),
        bucket: None,
        ..odd
    };
    assert_eq!(client.aggregate_metrics(nobody).await.unwrap().into_inner().rows, []);
    let wrong = proto::AggregateMetricsRequest { table: "gaps".to_owned(), ..aggregate(&[], None) };
    assert_eq!(client.aggregate_metrics(wrong).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn health_and_reflection_know_the_services() {
    let server = TestServer::start();
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "kymo.v1.MetricsService", "kymo.v1.AlertService", "arrow.flight.protocol.FlightService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1, "{service} serves");
    }
    let nobody = HealthCheckRequest { service: "nobody".to_owned() };
    assert_eq!(health.check(nobody).await.unwrap_err().code(), Code::NotFound);

    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection.server_reflection_info(futures::stream::iter([list])).await.unwrap().into_inner();
    let answers: Vec<_> = answers.try_collect().await.unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answers[0].message_response.clone() else {
        panic!("{answers:?}");
    };
    let names: Vec<_> = list.service.iter().map(|ServiceResponse { name }| name.as_str()).collect();
    assert!(names.contains(&"kymo.v1.MetricsService") && names.contains(&"kymo.v1.AlertService"), "{names:?}");
}

#[tokio::test]
async fn a_taken_port_and_a_public_address_are_explained() {
    let server = TestServer::start();
    let bind =
        |address| Server::bind(ServeSettings::at(address), Arc::new(Fake::default()), engine(QuerySettings::default()));
    let error = bind(server.address).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(&server.address.to_string()) && error.contains("the port is taken"), "{error}");
    for address in ["0.0.0.0:0", "192.0.2.1:50051", "[::]:0"] {
        let error = bind(address.parse().unwrap()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(address) && error.contains("TLS"), "{error}");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_the_others_live() {
    let server = TestServer::with(ServeSettings { connections_max: 1, ..any_port() }, QuerySettings::default());
    let mut first = server.metrics().await;
    first.flush(proto::FlushRequest {}).await.unwrap();
    let url = format!("http://{}", server.address);
    let refused = match MetricsServiceClient::connect(url).await {
        Ok(mut second) => second.flush(proto::FlushRequest {}).await.map(|_| ()).is_err(),
        Err(_) => true,
    };
    assert!(refused);
    first.flush(proto::FlushRequest {}).await.unwrap();
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_client_that_never_ends() {
    let settings = ServeSettings { stop_timeout: Duration::from_millis(200), ..any_port() };
    let server = TestServer::with(settings, QuerySettings::default());
    let mut health = HealthClient::new(server.channel().await);
    let mut watch = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(watch.try_next().await.unwrap().unwrap().status, 1);
    assert_eq!(server.stop().await, Stopped::TimedOut);
    assert_eq!(watch.try_next().await.unwrap().unwrap().status, 2, "health said that it stops");
}
