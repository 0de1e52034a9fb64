//! Telemetry: kymo's log, and its metrics and traces over OTLP.
//!
//! [`init_logging`] sets up the log on stderr and, when an endpoint is set, the export of kymo's own spans.
//! [`Telemetry::start_metrics`] exports the newest rows of every table under OpenTelemetry's names ([`instrument`]).
//! Both are off without an endpoint.
//!
//! Exports run on threads of their own and wait for nobody: what cannot be delivered within [`EXPORT_TIMEOUT`] is
//! given up and counted ([`Losses`]). An outage is told once in the log when it begins and once when it ends.

pub mod instrument;
pub mod losses;

mod link;
mod otlp;
mod trace;

use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer};

use crate::store::View;
use link::Link;
use losses::Losses;

pub use link::{CONNECT_TIMEOUT, EXPORT_TIMEOUT, check_endpoint};
pub use trace::SPANS_WAITING_MAX;

/// Gives the store's current view. Called on the export thread; must not block.
pub type ViewSource = Arc<dyn Fn() -> Arc<View> + Send + Sync>;

/// What is told about kymo's own operations, and to whom.
#[derive(Clone, Debug, PartialEq)]
pub struct TracingSettings {
    /// `service.name` of traces and metrics.
    pub service_name: String,
    /// The OTLP gRPC endpoint, such as `http://127.0.0.1:4317`; without one no span is made.
    pub endpoint: Option<String>,
    /// The share of traces that is kept, 0…1.
    pub sampling_ratio: f64,
    /// Further events of a span are dropped.
    pub events_per_span_max: u32,
    /// Further attributes of a span, or of one of its events, are dropped.
    pub attributes_per_span_max: u32,
}

/// Where metrics go, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsSettings {
    /// The OTLP gRPC endpoint, such as `http://127.0.0.1:4317`; without one nothing is exported.
    pub endpoint: Option<String>,
    /// The time between two exports.
    pub export_interval: Duration,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Not an address that OTLP can be sent to.
    #[error("OTLP endpoint {endpoint:?}: {reason}")]
    Endpoint {
        /// As it was given.
        endpoint: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The log filter is not understood.
    #[error("log filter {filter:?}")]
    Filter {
        /// As it was given.
        filter: String,
        /// Where it is wrong.
        source: ParseError,
    },
    /// The process has a log already.
    #[error("install the log")]
    Log(#[from] TryInitError),
    /// The export thread could not be started.
    #[error("start the export thread")]
    Thread(#[source] std::io::Error),
    /// The span exporter could not be built.
    #[error("build the span exporter")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
}

/// Telemetry that runs. Dropping it ends the exports; [`shutdown`](Self::shutdown) sends first what is waiting.
#[derive(Debug)]
pub struct Telemetry {
    resource: Resource,
    losses: Losses,
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    /// Declared after the exporters that send over it: fields are dropped in this order.
    link: Option<Link>,
}

/// Sets up the process's log, and the export of kymo's spans if `settings` has an endpoint.
///
/// `filter` says what the log on stderr shows, such as `info` or `warn,kymo::store=debug` (see [`EnvFilter`]). It does
/// not concern the exported spans.
///
/// # Errors
/// When the filter or the endpoint is not understood, when the process has a log already, or when the export thread
/// cannot be started.
pub fn init_logging(filter: &str, settings: &TracingSettings) -> Result<Telemetry, ExportError> {
    let shown =
        EnvFilter::builder().parse(filter).map_err(|source| ExportError::Filter { filter: filter.into(), source })?;
    let mut telemetry = Telemetry::new(&settings.service_name);
    let traces = telemetry.start_traces(settings)?;
    let log = tracing_subscriber::fmt::layer()
        .compact()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_filter(shown);
    tracing_subscriber::registry().with(log).with(traces.as_ref().map(trace::layer)).try_init()?;
    telemetry.traces = traces;
    Ok(telemetry)
}

impl Telemetry {
    fn new(service_name: &str) -> Telemetry {
        let resource = resource(service_name);
        Telemetry { resource, losses: Losses::default(), traces: None, metrics: None, link: None }
    }

    fn start_traces(&mut self, settings: &TracingSettings) -> Result<Option<SdkTracerProvider>, ExportError> {
        let Some(endpoint) = &settings.endpoint else { return Ok(None) };
        let channel = self.link()?.connect(endpoint)?;
        let outage = self.losses.signal("traces", endpoint);
        trace::start(settings, channel, self.resource.clone(), outage).map(Some)
    }

    /// Starts to export the newest rows that `view` shows, if `settings` has an endpoint.
    ///
    /// # Errors
    /// When the endpoint is not understood or the export thread cannot be started.
    pub fn start_metrics(&mut self, settings: &MetricsSettings, view: ViewSource) -> Result<(), ExportError> {
        let Some(endpoint) = &settings.endpoint else { return Ok(()) };
        let channel = self.link()?.connect(endpoint)?;
        let outage = self.losses.signal("metrics", endpoint);
        self.metrics = Some(otlp::start(settings.export_interval, channel, self.resource.clone(), outage, &view));
        Ok(())
    }

    fn link(&mut self) -> Result<&Link, ExportError> {
        match &mut self.link {
            Some(link) => Ok(link),
            link => Ok(link.insert(Link::start()?)),
        }
    }

    /// What was lost so far, as a counter that can be kept and read on any thread.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.losses.clone()
    }

    /// How many metric exports and spans did not reach their endpoint.
    #[must_use]
    pub fn exports_lost(&self) -> u64 {
        self.losses.count()
    }

    /// Exports the newest values and the spans that are waiting, then ends the exports. Returns after `within` at the
    /// latest; what was not delivered by then is lost.
    pub fn shutdown(mut self, within: Duration) {
        let deadline = Instant::now() + within;
        let (done, waiting) = mpsc::channel();
        // Each on a thread of its own: a dead endpoint of the one must not cost the other its time.
        if let Some(metrics) = self.metrics.take() {
            end(move || drop(metrics.shutdown_with_timeout(within)), done.clone());
        }
        if let Some(traces) = self.traces.take() {
            end(move || drop(traces.shutdown_with_timeout(within)), done.clone());
        }
        drop(done);
        loop {
            match waiting.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    tracing::warn!("telemetry was not delivered within {within:?} and is given up");
                    break;
                }
            }
        }
    }
}

/// Runs `work` on a thread of its own and tells `done`. Without a thread the work is left to the end of the process.
fn end(work: impl FnOnce() + Send + 'static, done: mpsc::Sender<()>) {
    let run = move || {
        work();
        // The receiver has gone when the time was up.
        let _ = done.send(());
    };
    if let Err(error) = thread::Builder::new().name("kymo-export-end".into()).spawn(run) {
        tracing::warn!("end telemetry: start a thread: {error}");
    }
}

/// What all of this process's telemetry is stamped with.
fn resource(service_name: &str) -> Resource {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Resource::builder()
        .with_service_name(service_name.to_owned())
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            // One kymo runs on a host. Backends that tell sources apart by service and instance need it.
            KeyValue::new("service.instance.id", host.clone()),
            KeyValue::new("host.name", host),
            KeyValue::new("os.type", "linux"),
        ])
        .build()
}
