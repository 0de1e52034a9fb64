//! Traces over OTLP: kymo's own spans, sampled, limited, and sent in batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{RetryPolicy, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanExporter, SpanLimits,
    SpanProcessor,
};
use tonic::transport::Channel;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

use super::error::ExportError;
use super::link::EXPORT_TIMEOUT;
use super::losses::Outage;

/// Ended spans that can wait for their export. Further ones are dropped and counted.
pub(super) const SPANS_WAITING_MAX: usize = 2_048;
/// Spans sent at once.
const SPANS_PER_BATCH_MAX: usize = 512;
/// How long an ended span waits for others before they are sent.
const BATCH_DELAY: Duration = Duration::from_secs(2);
/// Links and their attributes. kymo makes none; this only bounds them.
const LINKS_MAX: u32 = 8;

/// How kymo's own operations are traced, and where traces go.
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

/// Starts the export of spans. It ends when the provider is shut down.
pub(super) fn start(
    settings: &TracingSettings,
    channel: Channel,
    resource: Resource,
    outage: Arc<Outage>,
) -> Result<SdkTracerProvider, ExportError> {
    let sender = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_channel(channel)
        .with_timeout(EXPORT_TIMEOUT)
        .with_retry_policy(RetryPolicy::disabled())
        .build()
        .map_err(ExportError::Exporter)?;
    let waiting = Arc::new(AtomicUsize::new(0));
    let exporter = Exporter { sender, waiting: Arc::clone(&waiting), outage: Arc::clone(&outage) };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(SPANS_WAITING_MAX)
        .with_max_export_batch_size(SPANS_PER_BATCH_MAX)
        .with_scheduled_delay(BATCH_DELAY)
        .build();
    let inner = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let limits = SpanLimits {
        max_events_per_span: settings.events_per_span_max,
        max_attributes_per_span: settings.attributes_per_span_max,
        max_attributes_per_event: settings.attributes_per_span_max,
        max_links_per_span: LINKS_MAX,
        max_attributes_per_link: LINKS_MAX,
    };
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sampling_ratio))))
        .with_span_limits(limits)
        .with_span_processor(Bounded { inner, waiting, outage })
        .build())
}

/// Turns kymo's own spans and their events into OpenTelemetry's. Spans of libraries are left out.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("kymo"))
        // The number of attributes is limited. These would displace more useful ones.
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target("kymo", LevelFilter::INFO))
}

/// Passes spans on as long as not too many are waiting.
///
/// The batch processor has such a limit, too, but does not publish how many it dropped. This limit is reached first.
#[derive(Debug)]
struct Bounded {
    inner: BatchSpanProcessor,
    /// Spans that were passed on and not taken by the exporter yet.
    waiting: Arc<AtomicUsize>,
    outage: Arc<Outage>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        // Relaxed: the count guards no memory. Spans travel through the processor's own channel.
        let room = |waiting| (waiting < SPANS_WAITING_MAX).then_some(waiting + 1);
        if self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok() {
            self.inner.on_end(span);
        } else {
            self.outage.lost(1, &format_args!("{SPANS_WAITING_MAX} spans are waiting"));
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Sends spans and counts those that do not arrive. They are not sent again: a receiver that only answered late would have
/// them twice.
#[derive(Debug)]
struct Exporter {
    sender: opentelemetry_otlp::SpanExporter,
    waiting: Arc<AtomicUsize>,
    outage: Arc<Outage>,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        let outcome = self.sender.export(batch).await;
        match &outcome {
            Ok(()) => self.outage.delivered(),
            Err(error) => self.outage.lost(count as u64, error),
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.sender.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.sender.set_resource(resource);
    }
}
