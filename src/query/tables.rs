//! The tables of a query, for its planner.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::execution::session_state::SessionState;

use super::named::Named;
use super::place::{CATALOG, SCHEMA};
use super::rows::RowSource;
use super::sql_view::planned::Planned;
use super::table::SqlTable;

/// All tables, of one moment, and the views that are planned.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) rows: Arc<dyn RowSource>,
    pub(super) views: Arc<Planned>,
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        Named::all().map(|named| named.table.name.to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(match Named::find(name) {
            Some(named) => Some(Arc::new(SqlTable::new(named, Arc::clone(&self.rows)))),
            None => self.views.table(name).map(|known| known as Arc<dyn TableProvider>),
        })
    }

    fn table_exist(&self, name: &str) -> bool {
        Named::find(name).is_some() || self.views.table(name).is_some()
    }
}

/// The rows of the query whose planner this is.
pub(super) fn rows_of(state: &SessionState) -> Option<Arc<dyn RowSource>> {
    let schema = state.catalog_list().catalog(CATALOG)?.schema(SCHEMA)?;
    schema.downcast_ref::<Tables>().map(|tables| Arc::clone(&tables.rows))
}
