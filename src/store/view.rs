//! What can be queried at one moment.

use std::sync::Arc;

use super::hot::HotBatch;
use super::lake::DataFile;
use crate::family::{FamilyId, PerFamily};

/// Everything that can be queried at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// One table a family.
    pub tables: PerFamily<Arc<TableView>>,
}

/// One table at one moment.
#[derive(Clone, Debug)]
pub struct TableView {
    /// Whose rows they are.
    pub family: FamilyId,
    /// Rows that no file has, in the order of their sequence numbers.
    pub hot: Vec<Arc<HotBatch>>,
    /// Rows on disk, in the order of their sequence numbers.
    pub files: Arc<Vec<Arc<DataFile>>>,
}

impl View {
    /// A view without rows.
    #[must_use]
    pub fn empty() -> View {
        let table = |family| TableView { family, hot: Vec::new(), files: Arc::default() };
        View { tables: PerFamily::from_fn(|family| Arc::new(table(family))) }
    }
}
