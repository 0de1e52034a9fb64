//! SQL as people write it, in the words that the planner knows.
//!
//! kymo takes what PostgreSQL and DuckDB take, as far as it can, with their meaning. [`parse`] reads a text with their operators
//! and precedences. [`rewrite`] then writes parts of the statement otherwise: those that the planner does not know, and those
//! that it knows with another meaning. What is left is refused, with a hint.

mod alias;
mod build;
mod call;
mod domain;
mod grammar;
mod inline;
mod join;
mod kept;
mod lateral;
mod literal;
mod names;
mod order;
mod pattern;
mod quantified;
mod scope;
mod select;
mod series;
mod set;
mod show;
mod symbol;
#[cfg(test)]
mod tests;
mod visit;
mod window;

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;

use datafusion::common::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectNamePart, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    Statement as SqlStatement, TableAlias, TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::{TokenWithSpan, Tokenizer, TokenizerError};

use super::place::{CATALOG, DOWNSAMPLE, DOWNSAMPLE_HOW, PG_CATALOG, SCHEMA, is_table_function};
use super::refusal::{GuardError, refuse};
use scope::Named;

pub(super) use names::folded;

/// The tokens of a text.
pub(super) fn tokens(sql: &str) -> Result<Vec<TokenWithSpan>, TokenizerError> {
    Tokenizer::new(&grammar::Kymo::default(), sql).tokenize_with_location()
}

/// The statements that the tokens are. The parser's recursion is limited.
pub(super) fn parse(tokens: Vec<TokenWithSpan>, recursion_max: usize) -> Result<VecDeque<Statement>, DataFusionError> {
    let tokens = grammar::prepared(tokens);
    let parse = |tokens: Vec<TokenWithSpan>, late_conditions| {
        DFParserBuilder::new(tokens)
            .with_dialect(&grammar::Kymo { late_conditions })
            .with_recursion_limit(recursion_max)
            .build()?
            .parse_statements()
    };
    match parse(tokens.clone(), false) {
        Err(error) if grammar::may_have_late_conditions(&tokens) => parse(tokens, true).or(Err(error)),
        parsed => parsed,
    }
}

/// The expression at the beginning of the tokens, and the first token behind it. The parser's recursion is limited.
pub(super) fn parse_expression(
    tokens: Vec<TokenWithSpan>,
    recursion_max: usize,
) -> Result<(Expr, TokenWithSpan), DataFusionError> {
    let dialect = grammar::Kymo::default();
    let builder = DFParserBuilder::new(grammar::prepared(tokens)).with_dialect(&dialect);
    let mut parser = builder.with_recursion_limit(recursion_max).build()?.parser;
    let expr = parser.parse_expr()?;
    Ok((expr, parser.next_token()))
}

/// The query that answers a SHOW, as text; `None` for statements that the planner answers.
pub(super) fn shown(statement: &SqlStatement) -> Option<String> {
    show::query(statement)
}

/// Puts what a column of a SELECT is computed from in the place of its name, in that SELECT, as DuckDB does where no column that is
/// read has the name. Says whether there was such a column.
pub(super) fn substitute(statement: &mut SqlStatement, name: &str) -> bool {
    alias::substitute(statement, name)
}

/// Writes a statement in the planner's words.
pub(super) fn rewrite(statement: &mut SqlStatement) -> ControlFlow<GuardError> {
    let declared = call::declared(statement);
    VisitMut::visit(statement, &mut Rewriter { declared, named: Named::default(), around: Vec::new() })
}

struct Rewriter {
    /// Names that the statement gives to columns, among those that also stand for functions.
    declared: HashSet<String>,
    named: Named,
    /// The number of names around each query that is being visited.
    around: Vec<usize>,
}

impl VisitorMut for Rewriter {
    type Break = GuardError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<GuardError> {
        self.around.push(self.named.len());
        self.named.add(query);
        select::limit_by_fetch(query)?;
        if self.around.len() > 1 {
            select::limit_by_offset(query);
        }
        inline::rewrite(query, &self.named);
        if let SetExpr::Select(select) = &mut *query.body {
            select::complete(select)?;
            names::name_columns(select);
            select::rename_columns(select, &self.named)?;
            lateral::rewrite(select);
            conditions_as_values(select);
            domain::rewrite(select);
            kept::rewrite(select);
        }
        order::by_position(query);
        order::by_output(query);
        order::by_input(query, &self.named)?;
        join::rewrite(query, &self.named)
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<GuardError> {
        set::rewrite(&mut query.body, &self.named)?;
        self.named.forget(self.around.pop().unwrap_or_default());
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<GuardError> {
        // One that is no query of its own, such as a side of a UNION.
        select::complete(select)?;
        names::name_columns(select);
        for table in &mut select.from {
            table.joins.iter_mut().try_for_each(select::join_by_name)?;
        }
        conditions_as_values(select);
        [&mut select.selection, &mut select.having].into_iter().flatten().for_each(quantified::rows_in);
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(table), _) = item {
                self.shorten_table(&mut table.0);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<GuardError> {
        if let TableFactor::Table { name, alias, args, .. } = factor {
            if let [ObjectNamePart::Identifier(function)] = name.0.as_mut_slice() {
                self.call(function, args.is_some())?;
            }
            self.place(&mut name.0, alias);
        }
        series::rewrite(factor);
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
            table_with_joins.joins.iter_mut().try_for_each(select::join_by_name)?;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<GuardError> {
        quantified::refuse_rows(expr)?;
        quantified::in_values(expr);
        quantified::exists(expr);
        if let Expr::Subquery(query) = expr {
            quantified::first_row(query);
        }
        quantified::in_first_row(expr)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<GuardError> {
        quantified::bare(expr);
        if let Expr::CompoundIdentifier(parts) = expr {
            self.shorten_column(parts);
        }
        symbol::rewrite(expr);
        literal::rewrite(expr);
        call::rewrite(expr, &self.declared);
        window::rewrite(expr);
        pattern::rewrite(expr)
    }
}

impl Rewriter {
    /// Names a function in FROM as the planner knows it: in small letters.
    fn call(&self, function: &mut Ident, has_arguments: bool) -> ControlFlow<GuardError> {
        let name = function.value.to_lowercase();
        if has_arguments && is_table_function(&name) {
            *function = Ident::new(name);
        } else if name == DOWNSAMPLE && !self.named.has(&names::folded(function)) {
            return refuse(&format!("{DOWNSAMPLE} without arguments"), DOWNSAMPLE_HOW);
        }
        ControlFlow::Continue(())
    }

    /// Names the place of a table in full, and the table by its own name, by which its columns are called. The schema of the tables
    /// is `main` in DuckDB.
    fn place(&self, parts: &mut Vec<ObjectNamePart>, alias: &mut Option<TableAlias>) {
        let names: Vec<String> = parts.iter().filter_map(|part| part.as_ident().map(names::folded)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let prefix = prefix(&names);
        if prefix > 0
            && names.last().is_some_and(|table| !self.named.has(table))
            && let Some(ObjectNamePart::Identifier(table)) = parts.last().cloned()
        {
            let place = [CATALOG, SCHEMA].map(|name| ObjectNamePart::Identifier(Ident::new(name)));
            parts.splice(..prefix, place);
            alias.get_or_insert(TableAlias { explicit: true, name: table, columns: Vec::new(), at: None });
        }
        // PostgreSQL looks for tables there, too.
        if let [table] = names.as_slice()
            && table.starts_with("pg_")
            && !self.named.has(table)
        {
            parts.insert(0, ObjectNamePart::Identifier(Ident::new(PG_CATALOG)));
        }
    }

    /// Leaves out the place of the table in `table.*`.
    fn shorten_table(&self, parts: &mut Vec<ObjectNamePart>) {
        let names: Vec<String> = parts.iter().filter_map(|part| part.as_ident().map(names::folded)).collect();
        parts.drain(..self.place_before(&names));
    }

    /// Leaves out the place of the table in `table.column`.
    fn shorten_column(&self, parts: &mut Vec<Ident>) {
        let names: Vec<String> = parts.iter().map(names::folded).collect();
        let [table @ .., _] = names.as_slice() else { return };
        parts.drain(..self.place_before(table));
    }

    /// How many names in front of a table's say where it is.
    fn place_before(&self, names: &[String]) -> usize {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if names.last().is_some_and(|table| !self.named.has(table)) { prefix(&names) } else { 0 }
    }
}

/// How many names in front of a table's say where all tables are.
fn prefix(names: &[&str]) -> usize {
    match names {
        [SCHEMA | "main", _] => 1,
        [CATALOG, SCHEMA | "main", _] => 2,
        _ => 0,
    }
}

/// Rewrites conditions that are values: columns of a result.
fn conditions_as_values(select: &mut Select) {
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            visit::change(expr, |expr| {
                quantified::exists(expr);
                quantified::exists_as_value(expr);
            });
        }
    }
}
