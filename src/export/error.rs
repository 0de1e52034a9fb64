//! Why telemetry could not be set up.

use tracing_subscriber::util::TryInitError;

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
    #[error("log filter {filter:?}: {reason}")]
    Filter {
        /// As it was given.
        filter: String,
        /// What is wrong, and what would be right.
        reason: String,
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
