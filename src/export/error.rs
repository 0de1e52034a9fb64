//! Why telemetry could not be set up.

use tracing_subscriber::util::TryInitError;

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A setting is not understood.
    #[error("{setting} {text:?}: {reason}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// As it was given.
        text: String,
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
