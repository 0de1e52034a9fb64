//! Joins by common columns. A key of `RIGHT JOIN … USING` and `FULL JOIN … USING` is that of the side which has the row, and the
//! planner takes that of the left side. So such joins become joins ON their keys, and each name of a key the key of both sides.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, ExcludeSelectItem, Expr, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, ObjectName,
    OrderByKind, Query, ReplaceSelectElement, ReplaceSelectItem, Select, SelectItem, SelectItemQualifiedWildcardKind,
    SetExpr, TableAlias, TableFactor, TableWithJoins, Visit, Visitor, WildcardAdditionalOptions,
};

use super::super::refusal::{GuardError, refuse};
use super::build;
use super::names::{folded, item_name};
use super::scope::{Named, qualifier};
use super::visit;

type Checked = ControlFlow<GuardError>;

const NAME_THE_KEY: &str = "write ON a.key = b.key, and coalesce(a.key, b.key) for the key of both";

/// One side of a join: a table or an inner query.
struct Side {
    qualifier: Vec<Ident>,
    columns: Option<Vec<String>>,
}

impl Side {
    fn has(&self, column: &str) -> Option<bool> {
        self.columns.as_ref().map(|columns| columns.iter().any(|other| other == column))
    }
}

/// Rewrites the joins of a query whose body is one SELECT.
pub(super) fn rewrite(query: &mut Query, named: &Named) -> Checked {
    let SetExpr::Select(select) = &mut *query.body else { return ControlFlow::Continue(()) };
    if select.from.iter().any(|table| !table.joins.is_empty()) {
        // The columns of two inner queries without names would be the same ones.
        name_derived(&mut select.from);
    }
    for table in &mut select.from {
        name_common_columns(table, named)?;
    }
    lift_subqueries(select);
    let mut keys = BTreeMap::new();
    if !select.from.iter().any(needs_both_keys) {
        select.from.iter().for_each(|table| add_repeated_keys(table, named, &mut keys));
        if !keys.is_empty() {
            let outputs = outputs(select);
            name_keys(query, &keys, &outputs);
        }
        return ControlFlow::Continue(());
    }
    let mut sides = Vec::new();
    for table in &mut select.from {
        sides.extend(join_on_keys(table, named, &mut keys)?);
    }
    let outputs = outputs(select);
    expand_wildcards(select, &sides, &keys)?;
    name_keys(query, &keys, &outputs);
    ControlFlow::Continue(())
}

fn outputs(select: &Select) -> Vec<String> {
    select.projection.iter().filter_map(item_name).collect()
}

/// Puts keys in the place of their names. `outputs` are the names of columns of the result.
fn name_keys(query: &mut Query, keys: &BTreeMap<String, Expr>, outputs: &[String]) {
    let SetExpr::Select(select) = &mut *query.body else { return };
    // The key of both sides in the place of its name.
    let mut replace = |expr: &mut Expr| {
        if let Expr::Identifier(name) = &*expr
            && let Some(both) = keys.get(&folded(name))
        {
            *expr = both.clone();
        }
    };
    for item in &mut select.projection {
        match item {
            SelectItem::UnnamedExpr(Expr::Identifier(name)) if keys.contains_key(&folded(name)) => {
                let alias = name.clone();
                let expr = keys.get(&folded(name)).cloned().unwrap_or_else(build::null);
                *item = SelectItem::ExprWithAlias { expr, alias };
            }
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                visit::change(expr, &mut replace);
            }
            _ => {}
        }
    }
    visit::change(&mut select.selection, &mut replace);
    visit::change(&mut select.having, &mut replace);
    visit::change(&mut select.qualify, &mut replace);
    visit::change(&mut select.named_window, &mut replace);
    if let GroupByExpr::Expressions(groups, _) = &mut select.group_by {
        visit::change(groups, &mut replace);
    }
    if let Some(order_by) = &mut query.order_by
        && let OrderByKind::Expressions(orders) = &mut order_by.kind
    {
        for order in orders {
            // The name of a column of the result is that column.
            let is_output = matches!(&order.expr, Expr::Identifier(name)
                if outputs.contains(&folded(name)) || outputs.is_empty());
            if !is_output {
                visit::change(&mut order.expr, &mut replace);
            }
        }
    }
}

/// Turns NATURAL joins into joins by the common columns, as far as these are known.
fn name_common_columns(table: &mut TableWithJoins, named: &Named) -> Checked {
    let mut left = named.of_factor(&table.relation);
    for join in &mut table.joins {
        let right = named.of_factor(&join.relation);
        let is_inner = matches!(join.join_operator, JoinOperator::Join(_) | JoinOperator::Inner(_));
        let Some(on) = constraint(&mut join.join_operator) else {
            left = None;
            continue;
        };
        if matches!(on, JoinConstraint::Natural) {
            match (&left, &right) {
                (Some(left), Some(right)) => {
                    let common = |column: &&String| left.contains(column);
                    let keys: Vec<ObjectName> = right
                        .iter()
                        .filter(common)
                        .map(|column| ObjectName::from(build::name(column.clone())))
                        .collect();
                    *on = if keys.is_empty() {
                        JoinConstraint::On(build::truth(true))
                    } else {
                        JoinConstraint::Using(keys)
                    };
                }
                _ if is_inner => {}
                // Without a common column it would become a cross join.
                _ => return refuse("NATURAL with an outer, SEMI or ANTI join", "name the common columns: USING (…)"),
            }
        }
        left = left.zip(right).map(|(mut left, right)| {
            left.extend(right);
            left
        });
    }
    ControlFlow::Continue(())
}

/// The condition of a join that has both sides in its result, or one.
fn constraint(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    use JoinOperator as J;
    match operator {
        J::Join(on)
        | J::Inner(on)
        | J::Left(on)
        | J::LeftOuter(on)
        | J::Right(on)
        | J::RightOuter(on)
        | J::FullOuter(on)
        | J::LeftSemi(on)
        | J::LeftAnti(on)
        | J::RightSemi(on)
        | J::RightAnti(on) => Some(on),
        _ => None,
    }
}

/// Whether the key of a join may be that of the right side.
fn needs_both_keys(table: &TableWithJoins) -> bool {
    use JoinOperator::{FullOuter, Right, RightOuter};
    let needs = |join: &Join| {
        matches!(
            &join.join_operator,
            Right(JoinConstraint::Using(_))
                | RightOuter(JoinConstraint::Using(_))
                | FullOuter(JoinConstraint::Using(_))
        )
    };
    table.joins.iter().any(needs)
}

/// Gives each inner query without a name one.
fn name_derived(from: &mut [TableWithJoins]) {
    let mut number = 0;
    for table in from {
        for factor in std::iter::once(&mut table.relation).chain(table.joins.iter_mut().map(|join| &mut join.relation))
        {
            if let TableFactor::Derived { alias: alias @ None, .. } = factor {
                number += 1;
                let name = build::name(format!("side_{number}"));
                *alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
            }
        }
    }
}

/// Keys by which a table is joined more than once, as its first side has them. The planner takes their names for ambiguous.
fn add_repeated_keys(table: &TableWithJoins, named: &Named, keys: &mut BTreeMap<String, Expr>) {
    let Some(first) = side(&table.relation, named).continue_value() else { return };
    let mut sides = vec![first];
    let mut owners = BTreeMap::new();
    for join in &table.joins {
        if let JoinOperator::Join(JoinConstraint::Using(names))
        | JoinOperator::Inner(JoinConstraint::Using(names))
        | JoinOperator::Left(JoinConstraint::Using(names))
        | JoinOperator::LeftOuter(JoinConstraint::Using(names)) = &join.join_operator
        {
            for name in names.iter().filter_map(|name| name.0.first()?.as_ident()) {
                let key = folded(name);
                match owners.get(&key) {
                    Some(owner) => _ = keys.insert(key, Expr::clone(owner)),
                    None => {
                        let ControlFlow::Continue(owner) = owner(&sides, &key) else { return };
                        owners.insert(key, build::column(owner, name));
                    }
                }
            }
        }
        let Some(right) = side(&join.relation, named).continue_value() else { return };
        sides.push(right);
    }
}

/// Writes the conditions of a table's joins out. `keys` has the key of both sides for each name of a key.
fn join_on_keys(
    table: &mut TableWithJoins,
    named: &Named,
    keys: &mut BTreeMap<String, Expr>,
) -> ControlFlow<GuardError, Vec<Side>> {
    let mut sides = vec![side(&table.relation, named)?];
    for join in &mut table.joins {
        let right = side(&join.relation, named)?;
        let (is_right, is_full) = (
            matches!(join.join_operator, JoinOperator::Right(_) | JoinOperator::RightOuter(_)),
            matches!(join.join_operator, JoinOperator::FullOuter(_)),
        );
        if let Some(on) = constraint(&mut join.join_operator)
            && let JoinConstraint::Using(names) = on
        {
            let mut conditions = Vec::new();
            for name in names.iter() {
                let Some(name) = name.0.first().and_then(|part| part.as_ident()) else { continue };
                let key = folded(name);
                let of_left = match keys.get(&key) {
                    Some(both) => both.clone(),
                    None => build::column(owner(&sides, &key)?, name),
                };
                let of_right = build::column(&right.qualifier, name);
                conditions.push(build::binary(of_left.clone(), BinaryOperator::Eq, of_right.clone()));
                let both = match (is_right, is_full) {
                    (true, _) => of_right,
                    (_, true) => build::call("coalesce", vec![of_left, of_right]),
                    _ => of_left,
                };
                keys.insert(key, both);
            }
            *on = JoinConstraint::On(build::all(conditions));
        }
        sides.push(right);
    }
    ControlFlow::Continue(sides)
}

fn side(factor: &TableFactor, named: &Named) -> ControlFlow<GuardError, Side> {
    match qualifier(factor) {
        Some(qualifier) => ControlFlow::Continue(Side { qualifier, columns: named.of_factor(factor) }),
        None => ControlFlow::Break(GuardError::Refused {
            what: "RIGHT or FULL JOIN … USING beside joins in parentheses".into(),
            instead: NAME_THE_KEY.into(),
        }),
    }
}

/// The side that has a column.
fn owner<'a>(sides: &'a [Side], column: &str) -> ControlFlow<GuardError, &'a [Ident]> {
    let certain = sides.iter().find(|side| side.has(column) == Some(true));
    match (certain, sides) {
        (Some(side), _) | (None, [side]) => ControlFlow::Continue(&side.qualifier),
        _ => ControlFlow::Break(GuardError::Refused {
            what: format!("USING ({column}) behind several joins"),
            instead: NAME_THE_KEY.into(),
        }),
    }
}

/// Replaces `*` by the columns of each side, with each key once.
fn expand_wildcards(select: &mut Select, sides: &[Side], keys: &BTreeMap<String, Expr>) -> Checked {
    let items = std::mem::take(&mut select.projection);
    for item in items {
        let SelectItem::Wildcard(options) = &item else {
            select.projection.push(item);
            continue;
        };
        if *options
            != (WildcardAdditionalOptions { wildcard_token: options.wildcard_token.clone(), ..Default::default() })
        {
            return refuse("a word behind * beside RIGHT or FULL JOIN … USING", "name the columns");
        }
        let mut seen: Vec<&String> = Vec::new();
        for side in sides {
            let mut options = WildcardAdditionalOptions::default();
            let own: Vec<&String> = keys.keys().filter(|key| side.has(key) != Some(false)).collect();
            let (again, first): (Vec<&String>, Vec<&String>) = own.into_iter().partition(|key| seen.contains(key));
            let excluded: Vec<ObjectName> =
                again.into_iter().map(|key| ObjectName::from(build::name(key.clone()))).collect();
            if !excluded.is_empty() {
                options.opt_exclude = Some(ExcludeSelectItem::Multiple(excluded));
            }
            let replaced = first.iter().filter_map(|key| {
                let expr = keys.get(*key)?.clone();
                let column_name = build::name((*key).clone());
                Some(Box::new(ReplaceSelectElement { expr, column_name, as_keyword: true }))
            });
            let replaced: Vec<_> = replaced.collect();
            if !replaced.is_empty() {
                options.opt_replace = Some(ReplaceSelectItem { items: replaced });
            }
            seen.extend(first);
            let table = SelectItemQualifiedWildcardKind::ObjectName(ObjectName::from(side.qualifier.clone()));
            select.projection.push(SelectItem::QualifiedWildcard(table, options));
        }
    }
    ControlFlow::Continue(())
}

/// Moves the conditions of inner joins that have inner queries behind WHERE, where the planner takes them.
fn lift_subqueries(select: &mut Select) {
    let [table] = select.from.as_mut_slice() else { return };
    let is_inner = |join: &Join| {
        matches!(join.join_operator, JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_))
    };
    if !table.joins.iter().all(is_inner) {
        return;
    }
    for join in &mut table.joins {
        let (JoinOperator::Join(JoinConstraint::On(on)) | JoinOperator::Inner(JoinConstraint::On(on))) =
            &mut join.join_operator
        else {
            continue;
        };
        let mut conditions = Vec::new();
        split(std::mem::replace(on, build::truth(true)), &mut conditions);
        let (lifted, kept): (Vec<Expr>, Vec<Expr>) = conditions.into_iter().partition(has_query);
        *on = build::all(kept);
        if !lifted.is_empty() {
            let nested = |expr| Expr::Nested(Box::new(expr));
            let before = select.selection.take().map(nested);
            select.selection = Some(build::all(before.into_iter().chain(lifted.into_iter().map(nested))));
        }
    }
}

/// The parts of a condition that AND joins.
pub(super) fn split(condition: Expr, parts: &mut Vec<Expr>) {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            split(*left, parts);
            split(*right, parts);
        }
        part => parts.push(part),
    }
}

fn has_query(expr: &Expr) -> bool {
    struct Finder;
    impl Visitor for Finder {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    expr.visit(&mut Finder).is_break()
}
