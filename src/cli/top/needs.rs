//! What a screen needs to be read.

use super::metric::Metric;

/// What a screen needs to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// How wide charts are.
    pub(super) cells: usize,
    /// Whether processors have a row each, and there are file systems and sensors.
    pub(super) has_cores: bool,
    pub(super) metrics: Vec<Metric>,
    /// Columns of what is kept.
    pub(super) history: usize,
}
