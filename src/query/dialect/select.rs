//! Clauses of a query that the planner knows under other names.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Distinct, Expr, Fetch, GroupByExpr, Join, JoinOperator, LimitClause, OrderByKind, Query,
    RenameSelectItem, Select, SelectFlavor, SelectItem, SetExpr, TopQuantity, Value, ValueWithSpan, WindowSpec,
    WindowType,
};

use super::super::refusal::{GuardError, refuse};
use super::names::folded;
use super::order::{by_computation, plain_position};
use super::scope::{Named, factors};
use super::{build, call};

type Checked = ControlFlow<GuardError>;

/// `FETCH FIRST n ROWS ONLY` is LIMIT n. With ties, it is the rows whose rank is n at most.
pub(super) fn limit_by_fetch(query: &mut Query) -> Checked {
    let Some(Fetch { with_ties, percent, quantity }) = query.fetch.take() else { return ControlFlow::Continue(()) };
    if percent {
        return refuse("FETCH … PERCENT", "use LIMIT with a number of rows");
    }
    let quantity = quantity.unwrap_or_else(|| build::number(1));
    if with_ties {
        return limit_by_rank(query, quantity);
    }
    match &mut query.limit_clause {
        None => {
            query.limit_clause =
                Some(LimitClause::LimitOffset { limit: Some(quantity), offset: None, limit_by: Vec::new() });
        }
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(quantity),
        Some(_) => return refuse("LIMIT together with FETCH", "use one of them"),
    }
    ControlFlow::Continue(())
}

/// An inner query with OFFSET alone gets a LIMIT that no result reaches: without one, the planner sorts below the OFFSET.
pub(super) fn limit_by_offset(query: &mut Query) {
    if let Some(LimitClause::LimitOffset { limit: limit @ None, offset: Some(_), .. }) = &mut query.limit_clause {
        *limit = Some(build::number(usize::MAX >> 1));
    }
}

fn limit_by_rank(query: &mut Query, quantity: Expr) -> Checked {
    const INSTEAD: &str = "use rank() OVER (ORDER BY …) in an inner query, and WHERE on its result";

    let mut order_by = match query.order_by.as_ref().map(|order_by| &order_by.kind) {
        Some(OrderByKind::Expressions(order_by)) => order_by.clone(),
        _ => return refuse("FETCH … WITH TIES without ORDER BY", "say by what the rows are ordered"),
    };
    let by_position = order_by.iter().any(|order| matches!(order.expr, Expr::Value(_)));
    match &mut *query.body {
        SetExpr::Select(select)
            if select.distinct.is_none()
                && select.qualify.is_none()
                && !by_position
                && query.limit_clause.is_none() =>
        {
            by_computation(&mut order_by, &select.projection);
            let mut rank = build::function_of("rank", Vec::new());
            let window = WindowSpec { window_name: None, partition_by: Vec::new(), order_by, window_frame: None };
            rank.over = Some(WindowType::WindowSpec(window));
            select.qualify = Some(build::binary(Expr::Function(rank), BinaryOperator::LtEq, quantity));
            ControlFlow::Continue(())
        }
        _ => refuse("FETCH … WITH TIES here", INSTEAD),
    }
}

/// `FROM host` is `SELECT * FROM host`, and `GROUP BY ()` makes one group, as no GROUP BY does beside aggregates.
pub(super) fn complete(select: &mut Select) -> Checked {
    if select.flavor == SelectFlavor::FromFirstNoSelect && select.projection.is_empty() {
        select.projection.push(build::wildcard());
        select.flavor = SelectFlavor::Standard;
    }
    if let Some(top) = &select.top {
        let rows = match &top.quantity {
            Some(TopQuantity::Constant(rows)) => rows.to_string(),
            Some(TopQuantity::Expr(rows)) => rows.to_string(),
            None => "1".into(),
        };
        return ControlFlow::Break(GuardError::Refused {
            what: format!("TOP {rows}"),
            instead: format!("write LIMIT {rows} at the end").into(),
        });
    }
    if let GroupByExpr::Expressions(keys, _) = &mut select.group_by
        && keys.iter().all(|key| matches!(key, Expr::Tuple(parts) if parts.is_empty()))
        && !keys.is_empty()
    {
        if !select.projection.iter().all(call::is_aggregate_item) {
            return refuse("GROUP BY () without aggregates", "leave it out");
        }
        keys.clear();
    }
    by_position(select)
}

/// `DISTINCT ON (1)` and `CUBE (1, 2)` are by columns of the result, as `GROUP BY 1` is. The planner takes such a number for a value,
/// of which there is one.
fn by_position(select: &mut Select) -> Checked {
    let items = &select.projection;
    if let Some(Distinct::On(keys)) = &mut select.distinct {
        keys.iter_mut().try_for_each(|key| at_position(key, items, "DISTINCT ON"))?;
    }
    let GroupByExpr::Expressions(keys, _) = &mut select.group_by else { return ControlFlow::Continue(()) };
    for key in keys {
        plain_position(key);
        if let Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets) = key {
            sets.iter_mut().flatten().try_for_each(|key| at_position(key, items, "GROUP BY"))?;
        }
    }
    ControlFlow::Continue(())
}

/// Puts what a column of the result is computed from in the place of its number.
fn at_position(key: &mut Expr, items: &[SelectItem], clause: &str) -> Checked {
    plain_position(key);
    let Expr::Value(ValueWithSpan { value: Value::Number(position, _), .. }) = key else {
        return ControlFlow::Continue(());
    };
    let items = position.parse().ok().and_then(|position: usize| items.get(..position));
    // A star stands for any number of columns.
    let last = items.and_then(|items| items.iter().map(computed).collect::<Option<Vec<&Expr>>>()?.pop());
    let Some(column) = last else {
        return refuse(&format!("the position {position} in {clause}"), "name a column of the result, as in (cpu)");
    };
    *key = column.clone();
    ControlFlow::Continue(())
}

/// What a column of the result is computed from.
fn computed(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

/// `* RENAME (a AS b)` names each column, as far as they are known.
pub(super) fn rename_columns(select: &mut Select, named: &Named) -> Checked {
    const INSTEAD: &str = "name the columns, as in SELECT time, rx_bytes AS received";

    let is_renaming = |item: &SelectItem| match item {
        SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => options.opt_rename.is_some(),
        _ => false,
    };
    if !select.projection.iter().any(is_renaming) {
        return ControlFlow::Continue(());
    }
    let ([SelectItem::Wildcard(options)], Some(columns), 1) =
        (select.projection.as_slice(), named.of_from(&select.from), factors(&select.from).count())
    else {
        return refuse("* RENAME here", INSTEAD);
    };
    if options.opt_exclude.is_some() || options.opt_except.is_some() || options.opt_replace.is_some() {
        return refuse("* RENAME beside EXCLUDE or REPLACE", INSTEAD);
    }
    let pairs = match &options.opt_rename {
        Some(RenameSelectItem::Single(pair)) => std::slice::from_ref(pair),
        Some(RenameSelectItem::Multiple(pairs)) => pairs,
        None => &[],
    };
    let renamed = columns.into_iter().map(|column| {
        let name = build::name(column.clone());
        match pairs.iter().find(|pair| folded(&pair.ident) == column) {
            Some(pair) => build::item(Expr::Identifier(name), pair.alias.clone()),
            None => SelectItem::UnnamedExpr(Expr::Identifier(name)),
        }
    });
    select.projection = renamed.collect();
    ControlFlow::Continue(())
}

/// A join with a condition that this query's words name otherwise.
pub(super) fn join_by_name(join: &mut Join) -> Checked {
    let operator = std::mem::replace(&mut join.join_operator, JoinOperator::CrossApply);
    join.join_operator = match operator {
        JoinOperator::Semi(on) => JoinOperator::LeftSemi(on),
        JoinOperator::Anti(on) => JoinOperator::LeftAnti(on),
        JoinOperator::AsOf { .. } => {
            return refuse(
                "ASOF JOIN",
                "join both on date_bin(interval '1 second', time), or take the latest row of the other table with \
                 last_value(…) IGNORE NULLS OVER (ORDER BY time) over a UNION ALL of both",
            );
        }
        other => other,
    };
    ControlFlow::Continue(())
}
