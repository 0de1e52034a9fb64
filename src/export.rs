//! Telemetry: kymo's log, and its metrics and traces over OTLP.
//!
//! [`init_logging`] sets up the log on stderr and, when an endpoint is set, the export of kymo's own spans.
//! [`Telemetry::start_metrics`] exports the newest rows of every table under OpenTelemetry's names ([`instrument`]).
//! Both are off without an endpoint. [`prometheus`] writes the same rows as text.
//!
//! Exports run on threads of their own. One that cannot be delivered within [`EXPORT_TIMEOUT`] is given up and counted
//! ([`LostExports`]). The log has one line when an outage begins and one when it ends.

pub mod instrument;
pub mod losses;
pub mod prometheus;

mod error;
mod link;
mod newest;
mod otlp;
#[cfg(test)]
mod receiver;
mod trace;

use std::ffi::OsStr;
use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer};

use crate::latest::LatestRows;
use link::Link;
use losses::LostExports;

pub use error::ExportError;
pub use link::{EXPORT_TIMEOUT, check_endpoint};
pub use trace::TracingSettings;

/// What kymo logs to stderr.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// What is shown, such as `info` or `warn,kymo::store=debug` (see [`EnvFilter`]). It does not affect the exported spans.
    pub filter: String,
    /// How it is written.
    pub format: LogFormat,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object of JSON, with `timestamp`, `level`, `target`, `message` and the fields of the event and its spans.
    Json,
}

/// Where metrics go, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsSettings {
    /// The OTLP gRPC endpoint, such as `http://127.0.0.1:4317`; without one nothing is exported.
    pub endpoint: Option<String>,
    /// The time between two exports.
    pub export_interval: Duration,
}

/// Running telemetry. Dropping it ends the exports. [`shutdown`](Self::shutdown) first sends what is waiting.
#[derive(Debug)]
pub struct Telemetry {
    resource: Resource,
    losses: LostExports,
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    /// Declared after the exporters that use it: fields are dropped in this order.
    link: Option<Link>,
}

/// Sets up the process's log, and the export of kymo's spans if `settings` has an endpoint.
///
/// `host` is the name under which this host is recorded.
///
/// # Errors
/// When the filter or the endpoint is not understood, when the process has a log already, or when the export thread
/// cannot be started.
pub fn init_logging(logged: &LogSettings, settings: &TracingSettings, host: &str) -> Result<Telemetry, ExportError> {
    let shown = parse_filter(&logged.filter)?;
    let mut telemetry = Telemetry::new(&settings.service_name, host);
    let traces = telemetry.start_traces(settings)?;
    tracing_subscriber::registry()
        .with(log(shown, logged.format))
        .with(traces.as_ref().map(trace::layer))
        .try_init()?;
    telemetry.traces = traces;
    Ok(telemetry)
}

/// Shows errors on stderr, for commands that have no log of their own. A process's log stays as it is.
pub fn show_errors() {
    let _: Result<(), TryInitError> =
        tracing_subscriber::registry().with(log(LevelFilter::ERROR, LogFormat::Text)).try_init();
}

/// The log on stderr.
fn log<S, F>(filter: F, format: LogFormat) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    F: Filter<S> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => {
            let is_coloured = stderr().is_terminal() && shows_color(std::env::var_os("NO_COLOR").as_deref());
            lines.compact().with_ansi(is_coloured).boxed()
        }
    };
    lines.with_filter(filter)
}

/// Whether a terminal gets colors, by what `NO_COLOR` is (no-color.org).
fn shows_color(no_color: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty)
}

/// Whether `filter` is a log filter.
///
/// # Errors
/// When it is not understood.
pub fn check_filter(filter: &str) -> Result<(), ExportError> {
    parse_filter(filter).map(drop)
}

/// Parses a log filter. A bare word must be a level: [`EnvFilter`] takes any other as the name of a module, and would
/// silence the log for a mistyped level.
fn parse_filter(filter: &str) -> Result<EnvFilter, ExportError> {
    let wrong = |reason: String| {
        let expected =
            "expected a level (off, error, warn, info, debug, trace) or a list such as warn,kymo::store=debug";
        let reason = format!("{reason}; {expected}");
        ExportError::Setting { setting: "log filter", text: filter.into(), reason }
    };
    let is_bare = |word: &&str| !word.is_empty() && !word.contains(['=', '[', ']', '{', '}']);
    let mut bare = filter.split(',').map(str::trim).filter(is_bare);
    match bare.find(|word| word.parse::<LevelFilter>().is_err()) {
        Some(word) => Err(wrong(format!("{word:?} is not a level"))),
        None => EnvFilter::builder().parse(filter).map_err(|error| wrong(error.to_string())),
    }
}

impl Telemetry {
    fn new(service_name: &str, host: &str) -> Telemetry {
        let resource = resource(service_name, host);
        Telemetry { resource, losses: LostExports::default(), traces: None, metrics: None, link: None }
    }

    fn start_traces(&mut self, settings: &TracingSettings) -> Result<Option<SdkTracerProvider>, ExportError> {
        let Some(endpoint) = &settings.endpoint else { return Ok(None) };
        let channel = self.link()?.connect(endpoint)?;
        let outage = self.losses.signal("traces", endpoint);
        trace::start(settings, channel, self.resource.clone(), outage).map(Some)
    }

    /// Starts to export the newest rows at every interval, if `settings` has an endpoint.
    ///
    /// # Errors
    /// When the endpoint is not understood or the export thread cannot be started.
    pub fn start_metrics(&mut self, settings: &MetricsSettings, latest: &Arc<LatestRows>) -> Result<(), ExportError> {
        let Some(endpoint) = &settings.endpoint else { return Ok(()) };
        let channel = self.link()?.connect(endpoint)?;
        let outage = self.losses.signal("metrics", endpoint);
        self.metrics = Some(otlp::start(settings.export_interval, channel, self.resource.clone(), &outage, latest));
        Ok(())
    }

    fn link(&mut self) -> Result<&Link, ExportError> {
        match &mut self.link {
            Some(link) => Ok(link),
            link => Ok(link.insert(Link::start()?)),
        }
    }

    /// The counter of losses, which any thread can keep and read.
    #[must_use]
    pub fn losses(&self) -> LostExports {
        self.losses.clone()
    }

    /// Exports the newest values and the waiting spans, then ends the exports. Returns after `within` at the latest; what
    /// was not delivered by then is lost.
    pub fn shutdown(mut self, within: Duration) {
        let (running, ended) = mpsc::channel();
        // Each on a thread of its own: a dead endpoint of one must not use up the time of the other.
        if let Some(metrics) = self.metrics.take() {
            end(move || drop(metrics.shutdown_with_timeout(within)), running.clone());
        }
        if let Some(traces) = self.traces.take() {
            end(move || drop(traces.shutdown_with_timeout(within)), running.clone());
        }
        drop(running);
        // The channel ends with the last of the threads.
        if ended.recv_timeout(within) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("telemetry was not delivered within {within:?} and is given up");
        }
    }
}

/// Runs `work` on a thread of its own, which keeps `running` until then. If there is no thread, the work is not done.
fn end(work: impl FnOnce() + Send + 'static, running: mpsc::Sender<()>) {
    let run = move || {
        work();
        drop(running);
    };
    if let Err(error) = thread::Builder::new().name("kymo-export-end".into()).spawn(run) {
        tracing::warn!("end telemetry: start a thread: {error}");
    }
}

/// The attributes of all of this process's telemetry.
fn resource(service_name: &str, host: &str) -> Resource {
    let host = host.to_owned();
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

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::Metric;
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
    use tracing::subscriber::with_default;

    use super::receiver::{Receiver, free_address, pairs, points, value, wait_for};
    use super::*;
    use crate::batch::to_batch;
    use crate::family::FamilyId;
    use crate::family::kymo::Kymo;
    use crate::latest::SourceId;
    use crate::record::Record;
    use crate::record::label::Labels;
    use crate::sampler::report::Collector;
    use crate::sampler::wall_us;

    const SECOND_US: i64 = 1_000_000;
    /// Long enough that only the deadline of a broken test would notice.
    const AMPLE: Duration = Duration::from_secs(20);

    fn tracing_to(endpoint: &str) -> TracingSettings {
        TracingSettings {
            service_name: "kymo-test".into(),
            endpoint: Some(endpoint.into()),
            sampling_ratio: 1.0,
            events_per_span_max: 2,
            attributes_per_span_max: 4,
        }
    }

    fn metrics_to(endpoint: &str) -> MetricsSettings {
        MetricsSettings { endpoint: Some(endpoint.into()), export_interval: Duration::from_millis(20) }
    }

    fn put<R: Record>(latest: &LatestRows, source: SourceId, rows: &[R], labels: &Labels) {
        latest.put(source, FamilyId::of::<R>(), to_batch(&[rows], labels, &R::TABLE.schema()));
    }

    fn sample() -> Arc<LatestRows> {
        let labels = Labels::default();
        let (burst, system) = (labels.intern("burst"), labels.intern("system"));
        let now = wall_us();
        let row = |collector, ticks, lateness_p50_us, lateness_p99_us| Collector {
            collector,
            ticks,
            read_us: 2_500_000,
            lateness_p50_us,
            lateness_p99_us,
            ..Collector::absent(now)
        };
        let latest = Arc::new(LatestRows::default());
        let (one, other) = (latest.new_source(), latest.new_source());
        let stale = Kymo { lake_files: 3, ..Kymo::absent(now - newest::AGE_MAX_US - 60 * SECOND_US) };
        put(&latest, one, &[row(burst, 999, 1, 2), row(burst, 1_000, 40, 300)], &labels);
        put(&latest, other, &[row(system, 100, 60, 80)], &labels);
        put(&latest, other, &[stale], &labels);
        latest
    }

    /// Starts exporting metrics.
    fn exporting(endpoint: &str, latest: &Arc<LatestRows>) -> Telemetry {
        let mut telemetry = Telemetry::new("kymo-test", "here");
        telemetry.start_metrics(&metrics_to(endpoint), latest).unwrap();
        telemetry
    }

    /// Starts exporting spans, and makes some.
    fn record_spans(telemetry: &mut Telemetry, settings: &TracingSettings, make: impl FnOnce()) {
        let provider = telemetry.start_traces(settings).unwrap().unwrap();
        with_default(tracing_subscriber::registry().with(trace::layer(&provider)), make);
        telemetry.traces = Some(provider);
    }

    fn find_metric<'a>(metrics: &'a [Metric], name: &str) -> &'a Metric {
        metrics.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("no metric {name}"))
    }

    /// A metric's values by their attributes as text, in order.
    fn values(metric: &Metric) -> Vec<(String, f64)> {
        let text = |attributes: Vec<(String, String)>| {
            attributes.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
        };
        let mut values: Vec<_> =
            points(metric).iter().map(|point| (text(pairs(&point.attributes)), value(point))).collect();
        values.sort_by(|a, b| a.0.cmp(&b.0));
        values
    }

    #[test]
    fn metrics_arrive_under_their_names_with_units_values_and_attributes() {
        let receiver = Receiver::start();
        let telemetry = exporting(&receiver.endpoint, &sample());
        let metrics = wait_for("an export", || Some(receiver.metrics()).filter(|metrics| !metrics.is_empty()));

        let ticks = find_metric(&metrics, "kymo.collector.ticks");
        assert_eq!((ticks.unit.as_str(), ticks.description.as_str()), ("{tick}", "Ticks taken."));
        let expected = [("kymo.collector=burst".into(), 1_000.0), ("kymo.collector=system".into(), 100.0)];
        assert_eq!(values(ticks), expected);
        let Some(Data::Sum(sum)) = &ticks.data else { panic!("{ticks:?}") };
        assert!(sum.is_monotonic && sum.aggregation_temporality == 2);

        let read = find_metric(&metrics, "kymo.collector.read.time");
        assert_eq!((read.unit.as_str(), values(read)[0].1), ("s", 2.5));

        let lateness = find_metric(&metrics, "kymo.collector.lateness");
        assert!(matches!(lateness.data, Some(Data::Gauge(_))));
        let expected = [
            ("kymo.collector=burst quantile=0.5".into(), 40e-6),
            ("kymo.collector=burst quantile=0.99".into(), 300e-6),
            ("kymo.collector=system quantile=0.5".into(), 60e-6),
            ("kymo.collector=system quantile=0.99".into(), 80e-6),
        ];
        assert_eq!(values(lateness), expected);

        assert!(metrics.iter().all(|metric| metric.name != "kymo.store.lake.files"), "a stale row is exported");
        assert_eq!(telemetry.losses.count(), 0);
        let [resource, _] = receiver.resources();
        let has = |key: &str, value: &str| resource.contains(&(key.into(), value.into()));
        assert!(has("service.name", "kymo-test") && has("os.type", "linux"), "{resource:?}");
        assert!(has("service.version", env!("CARGO_PKG_VERSION")), "{resource:?}");
        assert!(has("host.name", "here") && has("service.instance.id", "here"), "{resource:?}");
        telemetry.shutdown(AMPLE);
    }

    #[test]
    fn what_no_row_says_any_more_is_not_exported() {
        let receiver = Receiver::start();
        let latest = sample();
        let telemetry = exporting(&receiver.endpoint, &latest);
        let series = |metrics: &[Metric], name| {
            metrics.iter().find(|metric| metric.name == name).map(|metric| points(metric).len())
        };
        wait_for("both collectors", || series(&receiver.metrics(), "kymo.collector.lateness").filter(|n| *n == 4));
        let labels = Labels::default();
        let row = Collector {
            collector: labels.intern("burst"),
            ticks: 7,
            lateness_p50_us: 1,
            ..Collector::absent(wall_us())
        };
        let [(one, _), (other, _)] = latest.by_source(FamilyId::of::<Collector>()).try_into().unwrap();
        put(&latest, one, &[row], &labels);
        latest.remove(other, FamilyId::of::<Collector>());
        for name in ["kymo.collector.lateness", "kymo.collector.ticks"] {
            wait_for("one series", || series(&receiver.metrics(), name).filter(|n| *n == 1));
        }
        telemetry.shutdown(AMPLE);
    }

    #[test]
    fn metrics_arrive_again_after_an_outage_which_is_counted() {
        let address = free_address();
        let telemetry = exporting(&format!("http://{address}"), &sample());
        wait_for("a loss", || Some(telemetry.losses.count()).filter(|lost| *lost >= 2));
        let receiver = Receiver::on(address);
        wait_for("an export", || receiver.metrics().first().cloned());
        telemetry.shutdown(AMPLE);
    }

    #[test]
    fn spans_arrive_with_their_errors_and_within_their_limits() {
        let receiver = Receiver::start();
        let mut telemetry = Telemetry::new("kymo-test", "here");
        record_spans(&mut telemetry, &tracing_to(&receiver.endpoint), || {
            let control = tracing::info_span!("control", method = "Flush");
            let flush = tracing::info_span!(parent: &control, "flush", otel.status_description = tracing::field::Empty);
            flush.record("otel.status_description", "no space left on device");
            drop((flush, control));
            let query = tracing::info_span!("query", a = 1, b = 2, c = 3, d = 4, e = 5);
            query.in_scope(|| (0..5).for_each(|row| tracing::info!(row, "read")));
            drop(query);
            drop(tracing::info_span!(target: "h2", "foreign"));
            drop(tracing::debug_span!("detail"));
            tracing::info_span!("notify").in_scope(|| tracing::error!("webhook refused"));
        });
        let losses = telemetry.losses();
        telemetry.shutdown(AMPLE);

        let spans = receiver.spans();
        let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["flush", "control", "query", "notify"]);
        let [flush, control, query, notify] = spans.as_slice() else { unreachable!() };
        assert_eq!((&flush.parent_span_id, &flush.trace_id), (&control.span_id, &control.trace_id));
        let status = flush.status.clone().unwrap();
        assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, "no space left on device"));
        assert!(control.status.as_ref().is_none_or(|status| status.code() == StatusCode::Unset));
        assert!(pairs(&control.attributes).contains(&("method".into(), "Flush".into())), "{:?}", control.attributes);
        assert_eq!((query.events.len(), query.dropped_events_count), (2, 3));
        assert_eq!(query.attributes.len(), 4);
        assert!(query.dropped_attributes_count > 0);
        assert_eq!(notify.status.clone().unwrap().code(), StatusCode::Error);
        let [_, resource] = receiver.resources();
        assert!(resource.contains(&("service.name".into(), "kymo-test".into())), "{resource:?}");
        assert_eq!(losses.count(), 0);
    }

    /// Ends `count` spans at once and shuts down; gives what was lost.
    fn spans_lost(endpoint: &str, sampling_ratio: f64, count: u64) -> u64 {
        let mut telemetry = Telemetry::new("kymo-test", "here");
        let settings = TracingSettings { sampling_ratio, ..tracing_to(endpoint) };
        record_spans(&mut telemetry, &settings, || (0..count).for_each(|_| drop(tracing::info_span!("query"))));
        let losses = telemetry.losses();
        telemetry.shutdown(AMPLE);
        losses.count()
    }

    #[test]
    fn every_span_is_delivered_or_counted_as_lost() {
        let count = 3 * trace::SPANS_WAITING_MAX as u64;
        let receiver = Receiver::start();
        let lost = spans_lost(&receiver.endpoint, 1.0, count);
        assert_eq!(receiver.spans().len() as u64 + lost, count);
        assert_eq!(spans_lost(&format!("http://{}", free_address()), 1.0, count), count);
    }

    #[test]
    fn spans_that_are_not_sampled_are_neither_sent_nor_lost() {
        let receiver = Receiver::start();
        assert_eq!(spans_lost(&receiver.endpoint, 0.0, 10), 0);
        assert!(receiver.spans().is_empty());
    }

    #[test]
    fn an_endpoint_that_never_answers_does_not_hold_the_shutdown() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let mut telemetry = exporting(&endpoint, &sample());
        record_spans(&mut telemetry, &tracing_to(&endpoint), || drop(tracing::info_span!("query")));
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            telemetry.shutdown(Duration::from_millis(100));
            done.send(()).unwrap();
        });
        // The export under way would be waited for this long.
        ended.recv_timeout(EXPORT_TIMEOUT).expect("shutdown returns");
    }

    #[test]
    fn without_an_endpoint_nothing_runs() {
        let mut telemetry = Telemetry::new("kymo-test", "here");
        let traces = TracingSettings { endpoint: None, ..tracing_to("") };
        assert!(telemetry.start_traces(&traces).unwrap().is_none());
        let metrics = MetricsSettings { endpoint: None, ..metrics_to("") };
        telemetry.start_metrics(&metrics, &sample()).unwrap();
        assert!(telemetry.metrics.is_none() && telemetry.link.is_none());
        telemetry.shutdown(AMPLE);
    }
}
