//! `string_agg(x, ',')` over an inner query that ends with ORDER BY: the rows come in that order, and the aggregate keeps it. The
//! engine reads the rows of an inner query in any order, so the aggregate is told.

use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Expr, FunctionArgumentClause, FunctionArguments, OrderByExpr, OrderByKind, Query, Select,
    SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins, Value,
};

use super::build;
use super::call::name;
use super::names::{folded, item_name};
use super::visit;

/// Aggregates whose results depend on the order of their rows.
const ORDERED: &[&str] = &["array_agg", "first_value", "group_concat", "last_value", "list", "string_agg"];

/// Gives the aggregates of a SELECT the order of the only inner query that it reads.
pub(super) fn rewrite(select: &mut Select) {
    let [TableWithJoins { relation: TableFactor::Derived { subquery, alias, .. }, joins }] = select.from.as_slice()
    else {
        return;
    };
    let Some(order) = order_of(subquery, alias.as_ref()).filter(|_| joins.is_empty()) else { return };
    for item in &mut select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { continue };
        visit::change(expr, |expr| {
            let Expr::Function(function) = expr else { return };
            if function.over.is_some() || !function.within_group.is_empty() || !ORDERED.contains(&&*name(function)) {
                return;
            }
            if let FunctionArguments::List(list) = &mut function.args
                && list.duplicate_treatment != Some(DuplicateTreatment::Distinct)
                && !list.clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)))
            {
                list.clauses.push(FunctionArgumentClause::OrderBy(order.clone()));
            }
        });
    }
}

/// By what a query orders its rows, if these are columns of its result.
fn order_of(query: &Query, alias: Option<&TableAlias>) -> Option<Vec<OrderByExpr>> {
    let OrderByKind::Expressions(orders) = &query.order_by.as_ref()?.kind else { return None };
    let SetExpr::Select(select) = &*query.body else { return None };
    let renamed = alias.map_or(&[][..], |alias| alias.columns.as_slice());
    let column = |order: &OrderByExpr| {
        let find = |is: &dyn Fn(usize, &SelectItem) -> bool| {
            select.projection.iter().enumerate().position(|(position, item)| is(position, item))
        };
        let position = find(&|position, item| match &order.expr {
            Expr::Value(value) => value.value == Value::Number((position + 1).to_string(), false),
            Expr::Identifier(column) => item_name(item) == Some(folded(column)),
            _ => false,
        });
        let position = position.or_else(|| {
            find(&|_, item| match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => order.expr == *expr,
                _ => false,
            })
        });
        let name = match (position, &order.expr) {
            (Some(position), _) => match renamed.get(position) {
                Some(column) => folded(&column.name),
                None => item_name(select.projection.get(position)?)?,
            },
            // One of those that a wildcard stands for.
            (None, Expr::Identifier(column)) if renamed.is_empty() && has_wildcard(select) => folded(column),
            _ => return None,
        };
        Some(OrderByExpr { expr: build::column(&[], &build::name(name)), ..order.clone() })
    };
    orders.iter().map(column).collect()
}

fn has_wildcard(select: &Select) -> bool {
    select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_)))
}
