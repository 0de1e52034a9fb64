//! What can be queried at one moment.

use std::sync::Arc;

use super::hot::HotBatch;
use super::lake::DataFile;
use crate::family::{FAMILIES, Family};

/// Everything that can be queried at one moment, one entry a family, in the order of [`FAMILIES`].
#[derive(Clone, Debug)]
pub struct View {
    /// By position in [`FAMILIES`].
    pub tables: Vec<Arc<TableView>>,
}

/// One table at one moment.
#[derive(Clone, Debug)]
pub struct TableView {
    /// What table it is.
    pub family: &'static Family,
    /// Rows that are in no file, in the order they came.
    pub hot: Vec<Arc<HotBatch>>,
    /// Rows on disk, in the order of their sequence numbers.
    pub files: Arc<Vec<Arc<DataFile>>>,
    /// The newest drained rows: they stay here when a flush takes them out of `hot`.
    pub latest: Option<Arc<HotBatch>>,
}

impl View {
    /// A view without any row.
    #[must_use]
    pub fn empty() -> View {
        let table = |family| TableView { family, hot: Vec::new(), files: Arc::default(), latest: None };
        View { tables: FAMILIES.iter().map(|family| Arc::new(table(family))).collect() }
    }
}
