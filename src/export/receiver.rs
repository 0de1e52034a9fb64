//! An OTLP receiver for tests: keeps all that it receives.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::oneshot;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// No test waits longer for something to happen.
const DEADLINE: Duration = Duration::from_secs(30);

/// A receiver that listens until it is dropped.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) endpoint: String,
    received: Received,
    _stop: oneshot::Sender<()>,
}

#[derive(Clone, Debug, Default)]
struct Received {
    metrics: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
    traces: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Receiver {
    /// Listens on a free port of the loopback address.
    pub(super) fn start() -> Receiver {
        Receiver::on(free_address())
    }

    pub(super) fn on(address: SocketAddr) -> Receiver {
        let received = Received::default();
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = Server::builder()
            .add_service(MetricsServiceServer::new(received.clone()))
            .add_service(TraceServiceServer::new(received.clone()));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap());
                tokio::select! {
                    outcome = server.serve_with_incoming(incoming) => outcome.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Receiver { endpoint: format!("http://{address}"), received, _stop: stop }
    }

    /// The metrics of the newest export.
    pub(super) fn metrics(&self) -> Vec<Metric> {
        let requests = self.received.metrics.lock().unwrap();
        let Some(newest) = requests.last() else { return Vec::new() };
        newest.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| s.metrics.clone()).collect()
    }

    /// The resource attributes of the newest metrics and of the newest spans.
    pub(super) fn resources(&self) -> [Vec<(String, String)>; 2] {
        let metrics = self.received.metrics.lock().unwrap();
        let traces = self.received.traces.lock().unwrap();
        let metrics = metrics.last().and_then(|request| request.resource_metrics[0].resource.clone());
        let traces = traces.last().and_then(|request| request.resource_spans[0].resource.clone());
        [metrics, traces].map(|resource| pairs(&resource.unwrap_or_default().attributes))
    }

    /// Every span so far, in the order they came.
    pub(super) fn spans(&self) -> Vec<Span> {
        let requests = self.received.traces.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }
}

/// An address on which no program listens.
pub(super) fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// Waits until `found` gives something.
pub(super) fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen within {DEADLINE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Attributes as text, in order.
pub(super) fn pairs(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let text = |value: any_value::Value| match value {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |attribute: &KeyValue| {
        let value = attribute.value.clone().and_then(|value| value.value).map(text);
        (attribute.key.clone(), value.unwrap_or_default())
    };
    let mut pairs: Vec<_> = attributes.iter().map(pair).collect();
    pairs.sort();
    pairs
}

/// The data points of a metric, whatever its kind.
pub(super) fn points(metric: &Metric) -> &[NumberDataPoint] {
    match &metric.data {
        Some(Data::Sum(sum)) => &sum.data_points,
        Some(Data::Gauge(gauge)) => &gauge.data_points,
        other => panic!("{}: {other:?}", metric.name),
    }
}

pub(super) fn value(point: &NumberDataPoint) -> f64 {
    match point.value {
        Some(number_data_point::Value::AsDouble(value)) => value,
        other => panic!("{other:?}"),
    }
}

#[tonic::async_trait]
impl MetricsService for Received {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.traces.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
