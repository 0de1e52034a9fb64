//! The server as clients see it: real sockets and queries, a fake daemon.

mod catalog;
mod control;
mod flight_sql;
mod http;
mod listener;
mod statements;

use std::collections::BTreeMap;
use std::sync::Mutex;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow_flight::FlightInfo;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use tonic::Status;
use tonic::transport::Channel;

use super::proto::metrics_service_client::MetricsServiceClient;
use super::*;
use crate::alert::status::{FiringSeries, RuleStatus};
use crate::batch::to_batch;
use crate::collector::{CollectorStatus, RetuneCollector, StartCollector};
use crate::export::prometheus::Format;
use crate::family::FamilyId;
use crate::query::sql_view::SqlView;
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
    let lost = SqlView { name: "lost".into(), sql: "SELECT time, lost FROM gap".into(), doc: "What was lost.".into() };
    let engine =
        Engine::with_sql_views(Arc::new(move || Arc::clone(&view)), settings, [lost].into()).expect("an engine");
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

    async fn metrics(&self, format: Format) -> Result<String, OperatorError> {
        Ok(format!("{format:?}\n"))
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
        let security = Arc::new(Security::open(&settings.security).expect("its files"));
        let server = Server::bind(settings, security, Arc::new(Fake::default()), engine(limits)).expect("a free port");
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
