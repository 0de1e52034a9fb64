//! The plans of views, for one statement.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::datasource::ViewTable;

use crate::query::about::rows::Described;
use crate::query::guard::Size;

/// The views of one statement, as far as they are planned.
#[derive(Debug, Default)]
pub(in crate::query) struct Planned(Mutex<Views>);

#[derive(Debug, Default)]
struct Views {
    plans: BTreeMap<String, (Arc<ViewTable>, Size)>,
    /// For statements that ask which tables there are.
    described: Vec<Described>,
}

impl Planned {
    pub(in crate::query) fn table(&self, name: &str) -> Option<Arc<ViewTable>> {
        self.lock().plans.get(name).map(|(table, _)| Arc::clone(table))
    }

    /// The views with their columns.
    pub(in crate::query) fn described(&self) -> Vec<Described> {
        self.lock().described.clone()
    }

    pub(in crate::query) fn size(&self, name: &str) -> Option<Size> {
        self.lock().plans.get(name).map(|(_, size)| *size)
    }

    /// Adds a view's plan.
    pub(in crate::query) fn add(&self, name: &str, table: ViewTable, size: Size) {
        self.lock().plans.insert(name.to_owned(), (Arc::new(table), size));
    }

    /// Notes the columns of all views.
    pub(in crate::query) fn set_described(&self, described: Vec<Described>) {
        self.lock().described = described;
    }

    fn lock(&self) -> MutexGuard<'_, Views> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
