//! Planning the views that a statement uses, before the statement itself, which then takes them for tables.

use std::borrow::Cow;
use std::collections::HashMap;

use datafusion::common::{Column, Result, TableReference};
use datafusion::datasource::ViewTable;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

use super::{Session, told};
use crate::query::about::rows::Described;
use crate::query::error::QueryError;
use crate::query::guard::{self, Size};
use crate::query::origin::origins;
use crate::query::parameters;
use crate::query::place::{CATALOG, INFORMATION_SCHEMA, PG_CATALOG, SCHEMA};
use crate::query::sql_view::SqlView;
use crate::query::wire::{unique_names, wire_schema};

impl Session {
    /// The view that a name means, where tables without a schema are looked for in `schema`.
    pub(super) fn view_of(&self, table: &TableReference, schema: &str) -> Option<&SqlView> {
        let table = table.clone().resolve(CATALOG, schema);
        let is_here = *table.catalog == *CATALOG && *table.schema == *SCHEMA;
        self.views.iter().find(|view| is_here && *view.name == *table.table)
    }

    /// Plans the views that a statement uses, which passed the guard. If it asks which tables there are, these are all.
    pub(super) async fn plan_views(&self, statement: &Statement, sql: &str) -> Result<(), QueryError> {
        if self.views.is_empty() {
            return Ok(());
        }
        self.plan_used(&self.state, statement, sql, &mut Vec::new()).await?;
        if describes(&self.state, statement)? {
            let mut described = Vec::new();
            for view in self.views.iter() {
                // One that cannot be planned fails only the statements that use it.
                described.extend(Box::pin(self.describe(view)).await.ok());
            }
            self.planned.set_described(described);
        }
        Ok(())
    }

    /// The view with the columns that a statement gets from it.
    ///
    /// # Errors
    /// When the view, one that it uses, or a statement that uses it cannot be planned.
    pub(in crate::query) async fn describe(&self, view: &SqlView) -> Result<Described, QueryError> {
        Box::pin(self.view(view, &mut Vec::new())).await?;
        let plan = self.whole_plan(guard::check(&format!("SELECT * FROM {SCHEMA}.{}", view.name), usize::MAX)?).await?;
        let optimized = self.optimize(&plan)?;
        Ok(Described::view(view, wire_schema(optimized.schema().as_arrow(), &origins(&plan), false)))
    }

    /// Plans the views that a statement uses, and tells its size with them. `path` are the views that use the statement.
    async fn plan_used(
        &self,
        state: &SessionState,
        statement: &Statement,
        sql: &str,
        path: &mut Vec<String>,
    ) -> Result<Size, QueryError> {
        let mut used = HashMap::new();
        for table in state.resolve_table_references(statement).map_err(QueryError::invalid)? {
            if let Some(view) = self.view_of(&table, &state.config_options().catalog.default_schema) {
                used.insert(view.name.clone(), Box::pin(self.view(view, path)).await?);
            }
        }
        // The guard has measured a statement that uses none.
        if used.is_empty() && path.is_empty() { Ok(Size::default()) } else { Ok(guard::size(statement, sql, &used)?) }
    }

    /// Plans a view, unless it is planned.
    async fn view(&self, view: &SqlView, path: &mut Vec<String>) -> Result<Size, QueryError> {
        if let Some(size) = self.planned.size(&view.name) {
            return Ok(size);
        }
        let blame = |problem: String| QueryError::View { name: view.name.clone(), problem };
        if path.contains(&view.name) {
            let circle: Vec<&str> = path.iter().chain([&view.name]).map(String::as_str).collect();
            return Err(blame(format!("it uses itself: {}", circle.join(" → "))));
        }
        path.push(view.name.clone());
        let planned = self.plan_view(view, path).await;
        path.pop();
        let (plan, size) = planned.map_err(|error| match error {
            QueryError::View { .. } => error,
            error => blame(error.to_string()),
        })?;
        self.planned.add(&view.name, ViewTable::new(plan, Some(view.sql.clone())), size);
        Ok(size)
    }

    async fn plan_view(&self, view: &SqlView, path: &mut Vec<String>) -> Result<(LogicalPlan, Size), QueryError> {
        let invalid = |text: &str| Err(QueryError::Invalid(text.to_owned()));
        let statement = guard::check(&view.sql, usize::MAX)?;
        if !matches!(&statement, Statement::Statement(inner) if matches!(**inner, SqlStatement::Query(_))) {
            return invalid("a view is a query: SELECT, WITH or VALUES");
        }
        // Its tables do not depend on the options of who uses it.
        let state = self.state_of_views();
        if describes(&state, &statement)? {
            return invalid("a view reads tables and other views, and neither information_schema nor pg_catalog");
        }
        let size = self.plan_used(&state, &statement, &view.sql, path).await?;
        let plan = self.checked_plan(&state, statement).await?;
        // Statements tell their whole plan, of which this is a part. Here it shows which view is wrong.
        told(plan.clone())?;
        if !parameters::types(&plan).map_err(QueryError::invalid)?.is_empty() {
            return invalid("a view has no parameters; write the value");
        }
        Ok((named(plan).map_err(QueryError::invalid)?, size))
    }

    /// The planner that looks for tables without a schema where views are.
    fn state_of_views(&self) -> Cow<'_, SessionState> {
        if self.state.config_options().catalog.default_schema == SCHEMA {
            return Cow::Borrowed(&self.state);
        }
        let mut state = self.state.clone();
        SCHEMA.clone_into(&mut state.config_mut().options_mut().catalog.default_schema);
        Cow::Owned(state)
    }
}

/// Whether a statement reads tables about tables.
fn describes(state: &SessionState, statement: &Statement) -> Result<bool, QueryError> {
    let shows =
        matches!(guard::sql_of(statement), Some(SqlStatement::ShowTables { .. } | SqlStatement::ShowColumns { .. }));
    let schema = &state.config_options().catalog.default_schema;
    let is_about = |table: TableReference| {
        let schema = table.resolve(CATALOG, schema).schema;
        matches!(&*schema, INFORMATION_SCHEMA | PG_CATALOG)
    };
    let tables = state.resolve_table_references(statement).map_err(QueryError::invalid)?;
    Ok(shows || tables.into_iter().any(is_about))
}

/// The plan with the names that columns of its result have: of several with one name, the later ones are numbered.
fn named(plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns: Vec<Column> = plan.schema().columns();
    let names = unique_names(plan.schema().as_arrow());
    if columns.iter().zip(&names).all(|(column, name)| column.name == *name) {
        return Ok(plan);
    }
    let exprs: Vec<Expr> =
        columns.into_iter().zip(names).map(|(column, name)| Expr::Column(column).alias(name)).collect();
    LogicalPlanBuilder::from(plan).project(exprs)?.build()
}
