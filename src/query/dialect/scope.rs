//! What the text of a statement tells about the columns of its tables and inner queries.

use datafusion::sql::sqlparser::ast::{
    Cte, Ident, ObjectName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableAlias,
    TableFactor, TableWithJoins, WildcardAdditionalOptions,
};

use super::super::place::{CATALOG, SCHEMA};
use super::names::{folded, item_name};
use crate::query::named;

/// The names that a WITH gives to queries, and their columns as far as they are known. The last one of a name counts.
#[derive(Debug, Default)]
pub(super) struct Named(Vec<(String, Option<Vec<String>>)>);

impl Named {
    /// The number of names, for [`Self::forget`].
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds the names of a query's WITH.
    pub(super) fn add(&mut self, query: &Query) {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let columns = self.of_cte(cte);
            self.0.push((folded(&cte.alias.name), columns));
        }
    }

    /// Forgets all but the first names.
    pub(super) fn forget(&mut self, kept: usize) {
        self.0.truncate(kept);
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    fn of_cte(&self, cte: &Cte) -> Option<Vec<String>> {
        renamed(self.of_query(&cte.query), Some(&cte.alias))
    }

    /// The columns of a table or an inner query in a FROM.
    pub(super) fn of_factor(&self, factor: &TableFactor) -> Option<Vec<String>> {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => renamed(self.of_table(name), alias.as_ref()),
            TableFactor::Derived { subquery, alias, .. } => renamed(self.of_query(subquery), alias.as_ref()),
            _ => None,
        }
    }

    fn of_table(&self, name: &ObjectName) -> Option<Vec<String>> {
        let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident().map(folded)).collect();
        let table = match parts.as_slice() {
            [table] => match self.0.iter().rev().find(|(other, _)| other == table) {
                Some((_, columns)) => return columns.clone(),
                None => table,
            },
            [schema, table] if schema == SCHEMA => table,
            [catalog, schema, table] if catalog == CATALOG && schema == SCHEMA => table,
            _ => return None,
        };
        let named = named::Named::find(table)?;
        Some(named.table.sql_columns().map(|column| column.name.to_owned()).collect())
    }

    /// The columns of a query's result.
    pub(super) fn of_query(&self, query: &Query) -> Option<Vec<String>> {
        if !query.pipe_operators.is_empty() || query.with.is_some() {
            return None;
        }
        self.of_body(&query.body)
    }

    pub(super) fn of_body(&self, body: &SetExpr) -> Option<Vec<String>> {
        match body {
            SetExpr::Select(select) => self.of_select(select),
            SetExpr::Query(query) => self.of_query(query),
            SetExpr::SetOperation { left, .. } => self.of_body(left),
            SetExpr::Values(values) => {
                let count = values.rows.first()?.content.len();
                Some((1..=count).map(|number| format!("column{number}")).collect())
            }
            _ => None,
        }
    }

    fn of_select(&self, select: &Select) -> Option<Vec<String>> {
        let mut columns = Vec::new();
        for item in &select.projection {
            match item {
                SelectItem::Wildcard(options)
                    if *options == WildcardAdditionalOptions::default() || is_bare(options) =>
                {
                    columns.extend(self.of_from(&select.from)?);
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(table), options)
                    if is_bare(options) =>
                {
                    let wanted: Vec<String> = table.0.iter().filter_map(|part| part.as_ident().map(folded)).collect();
                    let factor = factors(&select.from)
                        .find(|factor| qualifier(factor).map(folded_all) == Some(wanted.clone()))?;
                    columns.extend(self.of_factor(factor)?);
                }
                item => columns.push(item_name(item)?),
            }
        }
        Some(columns)
    }

    /// The columns of `SELECT *`. `None` if a key of a join is one column of two.
    pub(super) fn of_from(&self, from: &[TableWithJoins]) -> Option<Vec<String>> {
        use datafusion::sql::sqlparser::ast::{JoinConstraint, JoinOperator};

        let mut columns = Vec::new();
        for table in from {
            columns.extend(self.of_factor(&table.relation)?);
            for join in &table.joins {
                let (JoinOperator::Join(on)
                | JoinOperator::Inner(on)
                | JoinOperator::Left(on)
                | JoinOperator::LeftOuter(on)
                | JoinOperator::Right(on)
                | JoinOperator::RightOuter(on)
                | JoinOperator::FullOuter(on)
                | JoinOperator::CrossJoin(on)) = &join.join_operator
                else {
                    return None;
                };
                if matches!(on, JoinConstraint::Using(_) | JoinConstraint::Natural) {
                    return None;
                }
                columns.extend(self.of_factor(&join.relation)?);
            }
        }
        Some(columns)
    }
}

/// Whether nothing stands behind the `*`.
fn is_bare(options: &WildcardAdditionalOptions) -> bool {
    let WildcardAdditionalOptions { opt_ilike, opt_exclude, opt_except, opt_replace, opt_rename, opt_alias, .. } =
        options;
    opt_ilike.is_none()
        && opt_exclude.is_none()
        && opt_except.is_none()
        && opt_replace.is_none()
        && opt_rename.is_none()
        && opt_alias.is_none()
}

/// All tables and inner queries of a FROM.
pub(super) fn factors(from: &[TableWithJoins]) -> impl Iterator<Item = &TableFactor> {
    from.iter().flat_map(|table| std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)))
}

/// What columns of a table in a FROM are qualified by.
pub(super) fn qualifier(factor: &TableFactor) -> Option<Vec<Ident>> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(vec![alias.name.clone()])
        }
        TableFactor::Table { name, .. } => name.0.iter().map(|part| part.as_ident().cloned()).collect(),
        _ => None,
    }
}

/// Whether a query names a column of a table that it does not read: one of the query around it.
pub(super) fn is_correlated(query: &Query) -> bool {
    use datafusion::sql::sqlparser::ast::{Expr, Visit, Visitor};
    use std::ops::ControlFlow;

    #[derive(Default)]
    struct Finder {
        own: Vec<String>,
        used: Vec<String>,
    }
    impl Visitor for Finder {
        type Break = ();

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            self.own.extend(qualifier(factor).and_then(|names| names.last().map(folded)));
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::CompoundIdentifier(names) = expr
                && let [.., table, _] = names.as_slice()
            {
                self.used.push(folded(table));
            }
            ControlFlow::Continue(())
        }
    }
    let mut finder = Finder::default();
    let _ = query.visit(&mut finder);
    finder.used.iter().any(|table| !finder.own.contains(table))
}

fn folded_all(names: Vec<Ident>) -> Vec<String> {
    names.iter().map(folded).collect()
}

/// The columns under the names that an alias gives to the first ones.
fn renamed(columns: Option<Vec<String>>, alias: Option<&TableAlias>) -> Option<Vec<String>> {
    let mut columns = columns?;
    let names = alias.into_iter().flat_map(|alias| &alias.columns);
    for (column, given) in columns.iter_mut().zip(names) {
        *column = folded(&given.name);
    }
    Some(columns)
}
