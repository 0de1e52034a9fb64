//! Metrics over OTLP: one observable instrument for each of [`INSTRUMENTS`], read and sent at every interval.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::InstrumentationScope;
use opentelemetry::metrics::{AsyncInstrument, Meter, MeterProvider};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Stream, Temporality};
use rustix::time::{ClockId, clock_gettime};
use tonic::transport::Channel;

use super::instrument::{INSTRUMENTS, Instrument, Shape, Since};
use super::losses::{Outage, reason};
use crate::latest::LatestRows;
use crate::sampler::wall_us;

/// The most series of an instrument. Further ones are not exported and count as lost.
const SERIES_MAX: usize = 8_192;

/// Starts the export of the newest rows. It ends when the provider is shut down.
pub(super) fn start(
    interval: Duration,
    channel: Channel,
    resource: Resource,
    outage: &Arc<Outage>,
    latest: &Arc<LatestRows>,
) -> SdkMeterProvider {
    let exporter =
        Exporter { client: MetricsServiceClient::new(channel), outage: Arc::clone(outage), starts: starts() };
    let provider = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_reader(PeriodicReader::builder(exporter).with_interval(interval).build())
        .with_view(|_| Stream::builder().with_cardinality_limit(SERIES_MAX).build().ok())
        .build();
    let scope = InstrumentationScope::builder("kymo").with_version(env!("CARGO_PKG_VERSION")).build();
    let meter = provider.meter_with_scope(scope);
    for instrument in INSTRUMENTS.iter() {
        register(&meter, instrument, Arc::clone(latest), Arc::clone(outage));
    }
    provider
}

fn register(meter: &Meter, instrument: &'static Instrument, latest: Arc<LatestRows>, outage: Arc<Outage>) {
    let Instrument { name, doc, unit, .. } = *instrument;
    let observe = move |observer: &dyn AsyncInstrument<f64>| {
        let mut series: u64 = 0;
        instrument.observe(&latest, wall_us(), |value, attributes| {
            series += 1;
            if series <= SERIES_MAX as u64 {
                observer.observe(value, attributes);
            }
        });
        outage.lost(series.saturating_sub(SERIES_MAX as u64), &format_args!("{name} has {series} series"));
    };
    // The instruments live as long as the provider. `build` returns only a handle.
    macro_rules! build {
        ($builder:expr) => {{
            $builder.with_description(doc).with_unit(unit).with_callback(observe).build();
        }};
    }
    match instrument.shape {
        Shape::Counter => build!(meter.f64_observable_counter(name)),
        Shape::UpDownCounter => build!(meter.f64_observable_up_down_counter(name)),
        Shape::Gauge => build!(meter.f64_observable_gauge(name)),
    }
}

/// Sends metrics and counts what does not arrive.
///
/// It replaces the exporter of opentelemetry-otlp because the SDK sets the start of every counter to the creation of its
/// instrument. The kernel's counters started at boot. A reader that takes them as zero at their start would see the host's
/// whole past in one moment.
///
/// Nothing is tried again: the next export has the same values and newer ones.
struct Exporter {
    client: MetricsServiceClient<Channel>,
    outage: Arc<Outage>,
    /// When the counters of this name were zero, ns since the epoch.
    starts: HashMap<&'static str, u64>,
}

impl PushMetricExporter for Exporter {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let mut request = ExportMetricsServiceRequest::from(metrics);
        set_starts(&mut request, &self.starts);
        let answer = self.client.clone().export(request).await;
        let reason = match answer.map(|answer| answer.into_inner().partial_success) {
            Ok(Some(partial)) if partial.rejected_data_points > 0 => {
                format!("{} values refused: {}", partial.rejected_data_points, partial.error_message)
            }
            Ok(_) => {
                self.outage.delivered();
                return Ok(());
            }
            Err(status) => reason(&status),
        };
        self.outage.lost(1, &reason);
        Err(OTelSdkError::InternalFailure(reason))
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

fn set_starts(request: &mut ExportMetricsServiceRequest, starts: &HashMap<&'static str, u64>) {
    let scopes = request.resource_metrics.iter_mut().flat_map(|resource| &mut resource.scope_metrics);
    for metric in scopes.flat_map(|scope| &mut scope.metrics) {
        let Some(start) = starts.get(metric.name.as_str()) else { continue };
        if let Some(Data::Sum(sum)) = &mut metric.data {
            sum.data_points.iter_mut().for_each(|point| point.start_time_unix_nano = *start);
        }
    }
}

/// When each instrument's values were zero.
fn starts() -> HashMap<&'static str, u64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let uptime = Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default();
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let (boot, process) = (nanos(now.saturating_sub(uptime)), nanos(now));
    let start = |instrument: &Instrument| match instrument.since {
        Since::Boot => (instrument.name, boot),
        Since::Process => (instrument.name, process),
    };
    INSTRUMENTS.iter().map(start).collect()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum};

    use super::super::receiver::points as points_of;
    use super::*;

    #[test]
    fn the_kernels_counters_start_at_boot_and_kymos_own_with_the_process() {
        let kernel = std::fs::read_to_string("/proc/stat").unwrap();
        let boot_s: u64 = kernel.lines().find_map(|line| line.strip_prefix("btime ")).unwrap().parse().unwrap();
        let starts = starts();
        let second = 1_000_000_000;
        let process = starts["kymo.collector.ticks"];
        for instrument in INSTRUMENTS.iter() {
            let start = starts[instrument.name];
            match instrument.since {
                Since::Boot => assert!((start / second).abs_diff(boot_s) <= 2, "{}: {start}", instrument.name),
                Since::Process => assert_eq!(start, process, "{}", instrument.name),
            }
        }
        assert!(process / second > boot_s);
    }

    #[test]
    fn only_sums_that_are_known_get_another_start() {
        let points = || vec![NumberDataPoint { start_time_unix_nano: 1, ..NumberDataPoint::default() }; 2];
        let sum = |name: &str| Metric {
            name: name.into(),
            data: Some(Data::Sum(Sum { data_points: points(), ..Sum::default() })),
            ..Metric::default()
        };
        let gauge =
            Metric { name: "g".into(), data: Some(Data::Gauge(Gauge { data_points: points() })), ..Metric::default() };
        let scope = ScopeMetrics { metrics: vec![sum("a"), sum("b"), gauge], ..ScopeMetrics::default() };
        let resource = ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() };
        let mut request = ExportMetricsServiceRequest { resource_metrics: vec![resource] };
        set_starts(&mut request, &HashMap::from([("a", 7), ("g", 8)]));
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        let starts = |metric| points_of(metric).iter().map(|point| point.start_time_unix_nano).collect::<Vec<_>>();
        assert_eq!(metrics.iter().map(starts).collect::<Vec<_>>(), [[7, 7], [1, 1], [1, 1]]);
    }
}
