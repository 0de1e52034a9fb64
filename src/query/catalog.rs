//! What kymo tells of its tables in SQL: the schema `information_schema` of the standard, and the parts of PostgreSQL's
//! `pg_catalog` by which tools find tables.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{MemTable, MemoryCatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::Result;

use super::about::rows::{self, Describing};
use super::about::{postgres, standard};
use super::sql_view::planned::Planned;

/// A schema of tables that describe the others.
#[derive(Debug)]
pub(super) struct Description {
    tables: &'static [Describing],
    views: Arc<Planned>,
    /// Has tables about functions and settings.
    planner: Option<InformationSchemaProvider>,
}

impl Description {
    /// `information_schema`.
    pub(super) fn standard(views: Arc<Planned>) -> Description {
        // Of tables the planner would tell otherwise than the standard, so it knows none.
        let planner = InformationSchemaProvider::new(Arc::new(MemoryCatalogProviderList::new()));
        Description { tables: standard::TABLES, views, planner: Some(planner) }
    }

    /// `pg_catalog`.
    pub(super) fn postgres(views: Arc<Planned>) -> Description {
        Description { tables: postgres::TABLES, views, planner: None }
    }

    fn describing(&self, name: &str) -> Option<&Describing> {
        self.tables.iter().find(|(own, _)| *own == name)
    }
}

#[async_trait]
impl SchemaProvider for Description {
    fn table_names(&self) -> Vec<String> {
        self.tables.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match (self.describing(name), &self.planner) {
            (Some((_, rows)), _) => {
                let described: Vec<_> = rows::tables().chain(self.views.described()).collect();
                let rows = rows(&described)?;
                Ok(Some(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?)))
            }
            (None, Some(planner)) => planner.table(name).await,
            (None, None) => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.describing(name).is_some() || self.planner.as_ref().is_some_and(|planner| planner.table_exist(name))
    }
}
