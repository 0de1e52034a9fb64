//! The one catalog of a statement: its tables, and what kymo tells of them in SQL, which are the schema `information_schema` of the
//! standard, and the parts of PostgreSQL's `pg_catalog` by which tools find tables.
//!
//! Nothing is made before a statement names it, as each statement has a catalog of its own.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemTable, SchemaProvider, TableProvider};
use datafusion::common::Result;

use super::about::rows::{self, Describing};
use super::about::{postgres, routines, standard};
use super::place::{CATALOG, INFORMATION_SCHEMA, PG_CATALOG, SCHEMA};
use super::sql_view::planned::Planned;

/// All catalogs of a statement: one, or none where no statement runs.
#[derive(Debug)]
pub(super) struct Catalogs(pub(super) Option<Arc<Catalog>>);

impl CatalogProviderList for Catalogs {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        // Statements that would make one are refused.
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        self.0.iter().map(|_| CATALOG.to_owned()).collect()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let catalog = self.0.as_ref().filter(|_| name == CATALOG)?;
        Some(Arc::clone(catalog) as Arc<dyn CatalogProvider>)
    }
}

/// The catalog of a statement.
#[derive(Debug)]
pub(super) struct Catalog {
    /// What it may read.
    pub(super) tables: Arc<dyn SchemaProvider>,
    /// The views among them.
    pub(super) views: Arc<Planned>,
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        [SCHEMA, INFORMATION_SCHEMA, PG_CATALOG].map(str::to_owned).into()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let describing = |tables, has_more| Description { tables, views: Arc::clone(&self.views), has_more };
        match name {
            SCHEMA => Some(Arc::clone(&self.tables)),
            INFORMATION_SCHEMA => Some(Arc::new(describing(standard::TABLES, true))),
            PG_CATALOG => Some(Arc::new(describing(postgres::TABLES, false))),
            _ => None,
        }
    }
}

/// A schema of tables that describe the others.
#[derive(Debug)]
struct Description {
    tables: &'static [Describing],
    views: Arc<Planned>,
    /// It has the planner's tables about functions and settings, too.
    has_more: bool,
}

impl Description {
    /// The planner's tables.
    fn more(&self) -> Option<InformationSchemaProvider> {
        // Of tables the planner would tell otherwise than the standard, so it knows none.
        self.has_more.then(|| InformationSchemaProvider::new(Arc::new(Catalogs(None))))
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
        if let Some((_, rows)) = self.describing(name) {
            let described: Vec<_> = rows::tables().chain(self.views.described()).collect();
            let rows = rows(&described)?;
            return Ok(Some(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?)));
        }
        match self.more() {
            Some(_) if name == routines::NAME => Ok(Some(Arc::new(routines::table()?))),
            Some(more) => more.table(name).await,
            None => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.describing(name).is_some() || self.more().is_some_and(|more| more.table_exist(name))
    }
}
