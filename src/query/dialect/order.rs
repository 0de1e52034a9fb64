//! ORDER BY: a name alone is a column of the result, and in an expression it is one of the tables that are read.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, Value, ValueWithSpan,
};

use super::super::refusal::GuardError;
use super::build;
use super::call::is_aggregate_item;
use super::names::{folded, item_name};
use super::scope::{Named, factors};
use super::visit;

/// Names what is ordered by if a column of the result is computed in the same way: the planner would not find it under the column's
/// name if all rows are distinct, or if a column that is read has that name.
pub(super) fn by_output(query: &mut Query) {
    let SetExpr::Select(select) = &*query.body else { return };
    let Some(OrderByKind::Expressions(orders)) = query.order_by.as_mut().map(|order_by| &mut order_by.kind) else {
        return;
    };
    for order in orders.iter_mut().filter(|order| !is_output(&order.expr)) {
        let column = select.projection.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } if *expr == order.expr => Some(alias.clone()),
            _ => None,
        });
        if let Some(column) = column {
            order.expr = build::column(&[], &column);
        }
    }
}

/// `ORDER BY (1)` orders by the first column, and `ORDER BY ALL` by each.
pub(super) fn by_position(query: &mut Query) {
    if let Some(OrderByKind::Expressions(orders)) = query.order_by.as_mut().map(|order_by| &mut order_by.kind) {
        orders.iter_mut().for_each(|order| plain_position(&mut order.expr));
    }
    let SetExpr::Select(select) = &*query.body else { return };
    let is_named = |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
    let Some(OrderByKind::Expressions(orders)) = query.order_by.as_mut().map(|order_by| &mut order_by.kind) else {
        return;
    };
    if let [order] = orders.as_slice()
        && matches!(&order.expr, Expr::Identifier(all) if all.quote_style.is_none() && folded(all) == "all")
        && select.projection.iter().all(is_named)
    {
        let by = |number| OrderByExpr { expr: build::number(number), ..order.clone() };
        *orders = (1..=select.projection.len()).map(by).collect();
    }
}

/// Lets a column in an expression of ORDER BY be that of the table which is read, also where a column of the result has its name:
/// what is ordered by becomes a column of an inner query, in which the columns have other names.
pub(super) fn by_input(query: &mut Query, named: &Named) -> ControlFlow<GuardError> {
    let SetExpr::Select(select) = &mut *query.body else { return ControlFlow::Continue(()) };
    // Beside groups a column that is read is no value.
    let is_grouped = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(keys, _) => !keys.is_empty() || select.projection.iter().any(is_aggregate_item),
    };
    let Some(OrderByKind::Expressions(orders)) = query.order_by.as_mut().map(|order_by| &mut order_by.kind) else {
        return ControlFlow::Continue(());
    };
    let hidden: Vec<String> = select.projection.iter().filter_map(|item| hiding(item, select, named)).collect();
    let is_hidden = |order: &OrderByExpr| !is_output(&order.expr) && mentions(&order.expr, &hidden);
    if is_grouped || !orders.iter().any(is_hidden) {
        return ControlFlow::Continue(());
    }
    let names: Option<Vec<String>> = select.projection.iter().map(item_name).collect();
    let Some(names) = names.filter(|_| select.distinct.is_none()) else {
        return ControlFlow::Break(GuardError::Refused {
            what: format!("ORDER BY an expression of {}", hidden.join(", ")),
            instead: "this is a column that is read and one of the result; give the latter another name".into(),
        });
    };
    let mut outputs = Vec::new();
    for (number, (item, name)) in (1..).zip(select.projection.iter_mut().zip(names)) {
        let inner = build::name(format!("column_{number}"));
        outputs.push(build::item(build::column(&[], &inner), build::name(name)));
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            *item = build::item(expr.clone(), inner);
        }
    }
    for (number, order) in (1..).zip(orders.iter_mut()) {
        let is_of_result = match &order.expr {
            Expr::Identifier(column) => outputs.iter().any(|item| item_name(item) == Some(folded(column))),
            other => is_output(other),
        };
        if !is_of_result {
            let inner = build::name(format!("order_{number}"));
            let by = std::mem::replace(&mut order.expr, build::column(&[], &inner));
            select.projection.push(build::item(by, inner));
        }
    }
    let inner = std::mem::replace(&mut **select, build::select(outputs, Vec::new()));
    select.from = vec![build::derived(build::query(SetExpr::Select(Box::new(inner))), "ordered", Vec::new())];
    ControlFlow::Continue(())
}

/// Puts what a column of the result is computed from in the place of its name, for where the order is needed before the result is
/// there: the name alone might be that of a column which is read.
pub(super) fn by_computation(orders: &mut [OrderByExpr], items: &[SelectItem]) {
    for order in orders {
        let Expr::Identifier(name) = &order.expr else { continue };
        let computed = items.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } if folded(alias) == folded(name) => Some(expr.clone()),
            _ => None,
        });
        if let Some(computed) = computed {
            order.expr = Expr::Nested(Box::new(computed));
        }
    }
}

/// The name of a column of the result, if one that is read has it, too, and is another.
fn hiding(item: &SelectItem, select: &Select, named: &Named) -> Option<String> {
    let SelectItem::ExprWithAlias { expr, alias } = item else { return None };
    let name = folded(alias);
    let is_itself = match expr {
        Expr::Identifier(column) => folded(column) == name,
        Expr::CompoundIdentifier(parts) => parts.last().map(folded).as_ref() == Some(&name),
        _ => false,
    };
    let is_read = factors(&select.from).any(|factor| named.of_factor(factor).is_some_and(|of| of.contains(&name)));
    (!is_itself && is_read).then_some(name)
}

/// Whether what is ordered by is a column of the result, by its name or position.
fn is_output(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_) | Expr::Value(_))
}

/// Whether an expression has one of these names outside of inner queries.
fn mentions(expr: &Expr, names: &[String]) -> bool {
    visit::has(expr, |expr| matches!(expr, Expr::Identifier(name) if names.contains(&folded(name))))
}

/// `ORDER BY (1)` is `ORDER BY 1`. The planner takes a number in parentheses for a value.
pub(super) fn plain_position(key: &mut Expr) {
    let mut inner = &*key;
    while let Expr::Nested(nested) = inner {
        inner = nested;
    }
    if matches!(inner, Expr::Value(ValueWithSpan { value: Value::Number(..), .. })) {
        *key = inner.clone();
    }
}
