//! Functions that other databases have under other names or in other forms.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::functions_aggregate::all_default_aggregate_functions;
use datafusion::logical_expr::AggregateUDF;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, Ident, OrderByExpr, OrderByOptions, Query, Select, SelectItem, Statement, TableAlias,
    TableFactor, UnaryOperator, Visit, Visitor,
};

use super::super::function;
use super::build;
use super::visit;

/// Aggregates that this module turns into others.
const REWRITTEN: &[&str] = &[
    "arg_max",
    "arg_min",
    "argmax",
    "argmin",
    "count_if",
    "countif",
    "first",
    "group_concat",
    "last",
    "list",
    "listagg",
    "max_by",
    "min_by",
];

/// Names that stand for a function without parentheses.
const BARE: &[&str] = &["current_catalog", "current_role", "current_schema", "current_user", "session_user", "user"];

/// The names of all aggregates.
static AGGREGATES: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let known = all_default_aggregate_functions();
    let own: Vec<AggregateUDF> = function::aggregates().into_iter().collect();
    let named = known.iter().map(|known| &**known).chain(&own);
    let names = named.flat_map(|known| std::iter::once(known.name()).chain(known.aliases().iter().map(String::as_str)));
    names.chain(REWRITTEN.iter().copied()).map(str::to_owned).collect()
});

/// A function's name without its schema, in small letters.
pub(super) fn name(function: &Function) -> String {
    function.name.0.last().map(|part| part.to_string().trim_matches('"').to_lowercase()).unwrap_or_default()
}

/// The arguments of a call, if all are plain expressions.
pub(super) fn arguments(function: &Function) -> Option<Vec<&Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let plain = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    plain.collect()
}

/// Whether a column is computed from whole groups: it has an aggregate outside of inner queries.
pub(super) fn is_aggregate_item(item: &SelectItem) -> bool {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => has_aggregate(expr),
        _ => false,
    }
}

fn has_aggregate(expr: &Expr) -> bool {
    visit::has(expr, |expr| match expr {
        Expr::Function(function) => function.over.is_none() && AGGREGATES.contains(&name(function)),
        _ => false,
    })
}

/// Whether a name stands for a function where no column has it.
pub(super) fn is_function(name: &Ident) -> bool {
    name.quote_style.is_none() && BARE.contains(&&*name.value.to_lowercase())
}

/// The names that a statement gives to columns, among those that stand for a function, too: there they are columns.
pub(super) fn declared(statement: &Statement) -> HashSet<String> {
    let mut finder = Declared::default();
    let _ = statement.visit(&mut finder);
    finder.0
}

#[derive(Default)]
struct Declared(HashSet<String>);

impl Declared {
    fn add(&mut self, name: &Ident) {
        let name = name.value.to_lowercase();
        if BARE.contains(&&*name) {
            self.0.insert(name);
        }
    }

    fn add_alias(&mut self, alias: &TableAlias) {
        alias.columns.iter().for_each(|column| self.add(&column.name));
    }
}

impl Visitor for Declared {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        query.with.iter().flat_map(|with| &with.cte_tables).for_each(|cte| self.add_alias(&cte.alias));
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                self.add(alias);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } = factor
        {
            self.add_alias(alias);
        }
        ControlFlow::Continue(())
    }
}

/// Rewrites a name that stands for a function, or a call of one that has another name here.
pub(super) fn rewrite(expr: &mut Expr, declared: &HashSet<String>) {
    match expr {
        Expr::Identifier(Ident { value, quote_style: None, .. }) => {
            let name = value.to_lowercase();
            if BARE.contains(&&*name) && !declared.contains(&name) {
                *expr = build::call(&name, Vec::new());
            }
        }
        Expr::Function(function)
            if matches!(function.args, FunctionArguments::None) && BARE.contains(&&*name(function)) =>
        {
            let name = name(function);
            let is_column = declared.contains(&name);
            *expr = if is_column { Expr::Identifier(Ident::new(name)) } else { build::call(&name, Vec::new()) };
        }
        Expr::Function(function) => {
            if let Some(rewritten) = rewritten(function) {
                *expr = rewritten;
            }
        }
        _ => {}
    }
}

fn rewritten(function: &mut Function) -> Option<Expr> {
    let called = name(function);
    match called.as_str() {
        "iif" | "if" => {
            let called_with = arguments(function)?;
            let [condition, then, otherwise] = called_with.as_slice() else { return None };
            return Some(build::case(vec![((*condition).clone(), (*then).clone())], (*otherwise).clone()));
        }
        "count_if" | "countif" => {
            let called_with = arguments(function)?;
            let [condition] = called_with.as_slice() else { return None };
            let condition = (*condition).clone();
            filter(function, condition);
            let count = build::count();
            (function.name, function.args) = (count.name, count.args);
        }
        "group_concat" | "listagg" => return text_of_group(function),
        "list" => function.name = build::object("array_agg"),
        "arg_max" | "argmax" | "max_by" | "last" => {
            return several(function, 3, false).or_else(|| at_extreme(function, "last_value"));
        }
        "arg_min" | "argmin" | "min_by" | "first" => {
            return several(function, 3, true).or_else(|| at_extreme(function, "first_value"));
        }
        "max" => return several(function, 2, false),
        "min" => return several(function, 2, true),
        "sum" | "avg" => {
            let FunctionArguments::List(list) = &mut function.args else { return None };
            let [FunctionArg::Unnamed(FunctionArgExpr::Expr(summand))] = list.args.as_mut_slice() else { return None };
            if is_condition(summand) {
                *summand = build::cast(summand.clone(), DataType::BigInt(None));
            }
        }
        _ => {}
    }
    None
}

/// Lets an aggregate take only the rows for which a condition holds, too.
fn filter(function: &mut Function, condition: Expr) {
    let nested = Expr::Nested(Box::new(condition));
    function.filter = Some(Box::new(match function.filter.take() {
        Some(before) => build::binary(Expr::Nested(before), BinaryOperator::And, nested),
        None => nested,
    }));
}

/// `listagg(x, ', ') WITHIN GROUP (ORDER BY y)` and `group_concat(x)` are `string_agg(x, ', ' ORDER BY y)`.
fn text_of_group(function: &mut Function) -> Option<Expr> {
    function.name = build::object("string_agg");
    let order = std::mem::take(&mut function.within_group);
    let FunctionArguments::List(list) = &mut function.args else { return None };
    let separator = list.clauses.iter().find_map(|clause| match clause {
        FunctionArgumentClause::Separator(separator) => Some(Expr::Value(separator.clone())),
        _ => None,
    });
    list.clauses.retain(|clause| !matches!(clause, FunctionArgumentClause::Separator(_)));
    if list.args.len() == 1 {
        let separator = separator.unwrap_or_else(|| build::text(","));
        list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(separator)));
    }
    if !order.is_empty() {
        list.clauses.push(FunctionArgumentClause::OrderBy(order));
    }
    None
}

/// `max(x, 3)` and `arg_max(v, t, 3)`: the list of so many values. `count` is how many arguments they have.
fn several(function: &Function, count: usize, ascending: bool) -> Option<Expr> {
    let called_with = arguments(function)?;
    let (value, by, number) = match called_with.as_slice() {
        [value, number] => (*value, *value, *number),
        [value, by, number] => (*value, *by, *number),
        _ => return None,
    };
    if called_with.len() != count || function.over.is_some() {
        return None;
    }
    let mut list = build::function_of("array_agg", vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(value.clone()))]);
    if let FunctionArguments::List(list) = &mut list.args {
        list.clauses.push(FunctionArgumentClause::OrderBy(vec![ordered(by.clone(), ascending)]));
    }
    list.filter = function.filter.clone();
    filter(&mut list, build::all([known(value.clone()), known(by.clone())]));
    Some(build::call("array_slice", vec![Expr::Function(list), build::number(1), number.clone()]))
}

fn ordered(expr: Expr, ascending: bool) -> OrderByExpr {
    OrderByExpr { expr, options: OrderByOptions { asc: Some(ascending), nulls_first: Some(false) }, with_fill: None }
}

fn known(expr: Expr) -> Expr {
    Expr::IsNotNull(Box::new(Expr::Nested(Box::new(expr))))
}

/// `arg_max(v, t)`: the value of the row with the greatest `t`, among rows where neither is null.
fn at_extreme(function: &mut Function, with: &str) -> Option<Expr> {
    let called_with = arguments(function)?;
    let [value, by] = called_with.as_slice() else { return None };
    let (value, by) = ((*value).clone(), (*by).clone());
    if function.over.is_some() || !function.within_group.is_empty() {
        return None;
    }
    let FunctionArguments::List(list) = &mut function.args else { return None };
    if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) || !list.clauses.is_empty() {
        return None;
    }
    list.args.truncate(1);
    list.clauses.push(FunctionArgumentClause::OrderBy(vec![ordered(by.clone(), true)]));
    function.name = build::object(with);
    filter(function, build::all([known(value), known(by)]));
    None
}

/// Whether an expression is true or false by its form.
fn is_condition(expr: &Expr) -> bool {
    use BinaryOperator::{And, Eq, Gt, GtEq, Lt, LtEq, NotEq, Or};
    match expr {
        Expr::Nested(inner) => is_condition(inner),
        Expr::BinaryOp { op, .. } => matches!(op, And | Eq | Gt | GtEq | Lt | LtEq | NotEq | Or),
        Expr::UnaryOp { op: UnaryOperator::Not, .. }
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::Between { .. }
        | Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::Exists { .. } => true,
        _ => false,
    }
}
