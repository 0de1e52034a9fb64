//! What parses as SQL and has no effect: the planner drops it without a word, and the answer is wrong. The guard refuses it.
//!
//! Each part was found by reading the planner (datafusion-sql 55.2). Parts that change no answer, such as the hint
//! `/*+ … */`, pass.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CharacterLength, Cte, DataType, DescribeAlias, DuplicateTreatment, ExactNumberInfo, Expr, ExprWithAliasAndOrderBy,
    Function, FunctionArgumentClause, FunctionArgumentList, FunctionArguments, GroupByExpr, Interval, Join,
    JoinConstraint, JoinOperator, NamedWindowExpr, PipeOperator, Query, Select, SelectItem, SetExpr, SetOperator,
    SetQuantifier, Statement, TableAlias, TableFactor, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowSpec,
    WindowType, visit_expressions,
};

use super::refusal::{GuardError, refuse};

type Checked = ControlFlow<GuardError>;

const LEAVE_OUT: &str = "it has no effect here; leave it out";

/// The most rows or groups of a window frame's bound. The planner adds a bound to a row's number, which must not overflow.
const FRAME_MAX: u64 = u32::MAX as u64;
/// The greatest bound of a RANGE, which is added to values of a column.
const FRAME_VALUE_MAX: u64 = 1 << 62;
/// A cast to a text of this length or more is taken: tools write them, and few texts are longer.
const TEXT_LENGTH_TAKEN: u64 = 255;

/// Aggregates that take every row even if they are told DISTINCT.
const NO_DISTINCT: &[&str] = &[
    "approx_percentile_cont",
    "approx_percentile_cont_with_weight",
    "corr",
    "covar",
    "covar_pop",
    "covar_samp",
    "cume_dist",
    "dense_rank",
    "lag",
    "lead",
    "nth_value",
    "ntile",
    "percent_rank",
    "rank",
    "row_number",
];
/// Aggregates that take an ORDER BY among their arguments for the argument.
const WITHIN_GROUP: &[&str] =
    &["approx_percentile_cont", "approx_percentile_cont_with_weight", "percentile_cont", "quantile_cont"];

/// Refuses what has no effect in a statement that is no query, and texts that the planner pastes into another statement.
pub(super) fn in_statement(statement: &Statement) -> Checked {
    match statement {
        Statement::ExplainTable { hive_format: Some(_), .. } => {
            refuse("EXTENDED or FORMATTED behind DESCRIBE", LEAVE_OUT)
        }
        Statement::Explain { describe_alias, analyze, verbose, query_plan, estimate, format, .. }
            if *describe_alias != DescribeAlias::Explain
                && (*analyze || *verbose || *query_plan || *estimate || format.is_some()) =>
        {
            refuse("a word between DESCRIBE and the query", "use EXPLAIN")
        }
        Statement::ShowVariable { variable } => {
            let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte));
            match variable.iter().find(|part| !is_name(&part.value)) {
                Some(part) => refuse(&format!("SHOW {part}"), "a setting's name has letters, digits, _ and . only"),
                None => ControlFlow::Continue(()),
            }
        }
        _ => ControlFlow::Continue(()),
    }
}

/// Refuses what has no effect in a query, apart from its inner queries, tables and expressions.
pub(super) fn in_query(query: &Query) -> Checked {
    if !query.locks.is_empty() {
        refuse("a lock such as FOR UPDATE", "kymo's tables are read-only; leave it out")?;
    }
    if query.for_clause.is_some() {
        refuse("FOR JSON, XML or BROWSE", LEAVE_OUT)?;
    }
    if query.settings.is_some() {
        refuse("SETTINGS", LEAVE_OUT)?;
    }
    if query.format_clause.is_some() {
        refuse("FORMAT", "the client formats the result; leave it out")?;
    }
    if let Some(with) = &query.with {
        for named in &with.cte_tables {
            in_alias(Some(&named.alias))?;
            if named.from.is_some() {
                refuse(&format!("FROM behind the query named {}", named.alias.name), LEAVE_OUT)?;
            }
            if with.recursive {
                in_recursion(named)?;
            }
        }
    }
    query.pipe_operators.iter().try_for_each(in_pipe)
}

/// Of a query in a WITH RECURSIVE that is a union, only the two sides are planned.
fn in_recursion(named: &Cte) -> Checked {
    use SetQuantifier::{AllByName, ByName, DistinctByName};

    let query = &named.query;
    let SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, .. } = &*query.body else {
        return ControlFlow::Continue(());
    };
    if matches!(set_quantifier, ByName | AllByName | DistinctByName) {
        refuse("BY NAME in WITH RECURSIVE", "columns are matched by position there; order them")?;
    }
    let more = [
        query.with.is_some(),
        query.order_by.is_some(),
        query.limit_clause.is_some(),
        query.fetch.is_some(),
        !query.pipe_operators.is_empty(),
    ];
    if more.contains(&true) {
        refuse(
            "WITH, ORDER BY, LIMIT or |> around a UNION in WITH RECURSIVE",
            "they have no effect there; write them in the query that reads the result",
        )?;
    }
    ControlFlow::Continue(())
}

fn in_pipe(operator: &PipeOperator) -> Checked {
    match operator {
        PipeOperator::Select { exprs } | PipeOperator::Extend { exprs } => exprs.iter().try_for_each(in_item),
        PipeOperator::Join(join) => in_join(join),
        PipeOperator::Aggregate { full_table_exprs, group_by_expr } => {
            let ordered = |one: &ExprWithAliasAndOrderBy| one.order_by.asc.is_some();
            if full_table_exprs.iter().chain(group_by_expr).any(ordered) {
                refuse("ASC or DESC in |> AGGREGATE", "use |> ORDER BY")?;
            }
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Continue(()),
    }
}

/// Refuses what has no effect in a SELECT. Adds the places at which a named window has one to `windows`.
pub(super) fn in_select(select: &Select, windows: &mut HashSet<*const Expr>) -> Checked {
    if select.projection.is_empty() {
        refuse("a query without columns", "write SELECT * FROM …")?;
    }
    select.projection.iter().try_for_each(in_item)?;
    if select.prewhere.is_some() {
        refuse("PREWHERE", "use WHERE")?;
    }
    if !select.connect_by.is_empty() {
        refuse("CONNECT BY", "use WITH RECURSIVE")?;
    }
    let (GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers)) = &select.group_by;
    if !modifiers.is_empty() {
        refuse(
            "a word behind the GROUP BY list, such as WITH ROLLUP",
            "write GROUP BY ROLLUP (…), CUBE (…) or GROUPING SETS (…)",
        )?;
    }
    for from in &select.from {
        from.joins.iter().try_for_each(in_join)?;
    }
    for definition in &select.named_window {
        if let NamedWindowExpr::WindowSpec(window) = &definition.1 {
            in_window(window)?;
        }
    }
    let _ = visit_expressions(&select.projection, |expr: &Expr| {
        windows.insert(&raw const *expr);
        ControlFlow::<()>::Continue(())
    });
    ControlFlow::Continue(())
}

fn in_item(item: &SelectItem) -> Checked {
    let (SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options)) = item else {
        return ControlFlow::Continue(());
    };
    if options.opt_ilike.is_some() { refuse("ILIKE behind *", "name the columns") } else { ControlFlow::Continue(()) }
}

fn in_join(join: &Join) -> Checked {
    use JoinOperator::{FullOuter, Left, LeftAnti, LeftOuter, LeftSemi, Right, RightAnti, RightOuter, RightSemi};
    match &join.join_operator {
        Left(on) | LeftOuter(on) | Right(on) | RightOuter(on) | FullOuter(on) | LeftSemi(on) | RightSemi(on)
        | LeftAnti(on) | RightAnti(on)
            if matches!(on, JoinConstraint::Natural) =>
        {
            // Without a common column it becomes a cross join.
            refuse("NATURAL with an outer, SEMI or ANTI join", "name the common columns: USING (…)")
        }
        _ => ControlFlow::Continue(()),
    }
}

/// Refuses what has no effect at a table.
pub(super) fn in_table(factor: &TableFactor) -> Checked {
    match factor {
        TableFactor::Table { alias, sample, with_ordinality, partitions, with_hints, .. } => {
            if sample.is_some() {
                refuse("TABLESAMPLE", "use WHERE random() < 0.1, for example")?;
            }
            if *with_ordinality {
                refuse("WITH ORDINALITY", "use row_number() OVER ()")?;
            }
            if !partitions.is_empty() {
                refuse("PARTITION behind a table", "use WHERE")?;
            }
            if !with_hints.is_empty() {
                refuse("WITH (…) behind a table", LEAVE_OUT)?;
            }
            in_alias(alias.as_ref())
        }
        TableFactor::Derived { alias, sample, .. } => {
            if sample.is_some() {
                refuse("TABLESAMPLE", "use WHERE random() < 0.1, for example")?;
            }
            in_alias(alias.as_ref())
        }
        TableFactor::NestedJoin { table_with_joins, alias } => {
            table_with_joins.joins.iter().try_for_each(in_join)?;
            in_alias(alias.as_ref())
        }
        _ => ControlFlow::Continue(()),
    }
}

fn in_alias(alias: Option<&TableAlias>) -> Checked {
    let typed = alias.is_some_and(|alias| alias.columns.iter().any(|column| column.data_type.is_some()));
    if typed { refuse("a type in a list of column names", "use CAST in the query") } else { ControlFlow::Continue(()) }
}

/// Refuses what has no effect in an expression. `windows` are the places at which a named window has one.
pub(super) fn in_expression(expr: &Expr, windows: &HashSet<*const Expr>) -> Checked {
    match expr {
        Expr::Function(function) => {
            if matches!(function.over, Some(WindowType::NamedWindow(_))) && !windows.contains(&(&raw const *expr)) {
                refuse("a named window outside the list behind SELECT", "write OVER (…) out, or compute it in a WITH")?;
            }
            in_function(function)
        }
        Expr::Trim { trim_characters: Some(characters), .. } if characters.len() > 1 => {
            refuse("TRIM with a list of characters", "use btrim, ltrim or rtrim")
        }
        Expr::Cast { data_type, .. } => in_type(data_type),
        Expr::TypedString(typed) => in_type(&typed.data_type),
        _ => ControlFlow::Continue(()),
    }
}

fn in_function(function: &Function) -> Checked {
    let name = name(function);
    if !matches!(function.parameters, FunctionArguments::None) {
        refuse(&format!("{name}(…)(…)"), "give all arguments in one pair of parentheses")?;
    }
    if let Some(WindowType::WindowSpec(window)) = &function.over {
        in_window(window)?;
    }
    match &function.args {
        FunctionArguments::List(FunctionArgumentList { duplicate_treatment, clauses, .. }) => {
            let distinct = *duplicate_treatment == Some(DuplicateTreatment::Distinct);
            if distinct && (NO_DISTINCT.contains(&&*name) || name.starts_with("regr_")) {
                refuse(&format!("DISTINCT in {name}"), "use SELECT DISTINCT in an inner query")?;
            }
            let ordered = clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)));
            if ordered && WITHIN_GROUP.contains(&&*name) {
                refuse(&format!("ORDER BY among the arguments of {name}"), "use WITHIN GROUP (ORDER BY …)")?;
            }
            ControlFlow::Continue(())
        }
        FunctionArguments::Subquery(_) => {
            refuse(&format!("{name}(SELECT …)"), "put the subquery in parentheses of its own")
        }
        FunctionArguments::None => ControlFlow::Continue(()),
    }
}

fn in_window(window: &WindowSpec) -> Checked {
    if let Some(name) = &window.window_name {
        refuse(&format!("OVER ({name} …)"), "write the window out, or use OVER with the name alone")?;
    }
    let Some(WindowFrame { units, start_bound, end_bound }) = &window.window_frame else {
        return ControlFlow::Continue(());
    };
    [Some(start_bound), end_bound.as_ref()].into_iter().flatten().try_for_each(|bound| in_bound(*units, bound))
}

fn in_bound(units: WindowFrameUnits, bound: &WindowFrameBound) -> Checked {
    let (WindowFrameBound::Preceding(Some(distance)) | WindowFrameBound::Following(Some(distance))) = bound else {
        return ControlFlow::Continue(());
    };
    let text = match &**distance {
        Expr::Interval(Interval {
            leading_precision: None,
            last_field: None,
            fractional_seconds_precision: None,
            value,
            ..
        }) => value.to_string(),
        Expr::Interval(_) => return refuse("a precision or TO in a frame's interval", "write INTERVAL '1 hour'"),
        other => other.to_string(),
    };
    let number = text.trim_matches('\'').trim();
    if number.starts_with('-') || number.eq_ignore_ascii_case("nan") {
        return refuse(&format!("the frame bound {text}"), "a bound is 0 or more, with PRECEDING or FOLLOWING");
    }
    // The bound of a RANGE is a value of the column, such as a number of bytes.
    let most = if units == WindowFrameUnits::Range { FRAME_VALUE_MAX } else { FRAME_MAX };
    let is_large =
        number.bytes().all(|byte| byte.is_ascii_digit()) && number.parse::<u64>().map_or(true, |bound| bound > most);
    if is_large && !number.is_empty() {
        return refuse(&format!("the frame bound {text}"), "it is too large; use UNBOUNDED");
    }
    ControlFlow::Continue(())
}

fn in_type(data_type: &DataType) -> Checked {
    match data_type {
        DataType::Varchar(Some(CharacterLength::IntegerLength { length, .. }))
        | DataType::Char(Some(CharacterLength::IntegerLength { length, .. }))
        | DataType::String(Some(length))
            if *length < TEXT_LENGTH_TAKEN =>
        {
            refuse(&format!("the length in {data_type}"), "use left(text, length)")
        }
        DataType::Float(ExactNumberInfo::Precision(_) | ExactNumberInfo::PrecisionAndScale(..)) => {
            refuse(&format!("the precision in {data_type}"), "use REAL or DOUBLE")
        }
        _ => ControlFlow::Continue(()),
    }
}

/// Refuses clauses that only aggregates and window functions have, at functions of single values. `is_scalar` knows these.
pub(super) fn in_scalars(statement: &Statement, is_scalar: impl Fn(&str) -> bool) -> Checked {
    visit_expressions(statement, |expr: &Expr| {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let name = name(function);
        match only_for_aggregates(function) {
            Some(clause) if is_scalar(&name) => {
                refuse(&format!("{clause} at {name}"), "only aggregates and window functions have it; leave it out")
            }
            _ => ControlFlow::Continue(()),
        }
    })
}

fn only_for_aggregates(function: &Function) -> Option<&'static str> {
    let arguments = match &function.args {
        FunctionArguments::List(list) => list
            .clauses
            .iter()
            .find_map(|clause| match clause {
                FunctionArgumentClause::OrderBy(_) => Some("ORDER BY"),
                FunctionArgumentClause::IgnoreOrRespectNulls(_) => Some("IGNORE or RESPECT NULLS"),
                _ => None,
            })
            .or((list.duplicate_treatment == Some(DuplicateTreatment::Distinct)).then_some("DISTINCT")),
        _ => None,
    };
    arguments
        .or(function.over.is_some().then_some("OVER"))
        .or(function.filter.is_some().then_some("FILTER"))
        .or((!function.within_group.is_empty()).then_some("WITHIN GROUP"))
        .or(function.null_treatment.is_some().then_some("IGNORE or RESPECT NULLS"))
}

/// A function's name without its schema, in small letters.
fn name(function: &Function) -> String {
    function.name.0.last().map(|part| part.to_string().trim_matches('"').to_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::guard::check;
    use super::GuardError;

    #[test]
    fn what_has_no_effect_is_refused() {
        for (sql, expected) in [
            ("SELECT * FROM cpu FOR UPDATE", "a lock such as FOR UPDATE"),
            ("SELECT * FROM cpu FOR JSON AUTO", "FOR JSON, XML or BROWSE"),
            ("SELECT * FROM cpu SETTINGS max_result_rows = 1", "SETTINGS"),
            ("SELECT * FROM cpu FORMAT JSON", "FORMAT"),
            (
                "WITH RECURSIVE t AS (SELECT cpu FROM cpu UNION ALL SELECT cpu FROM cpu LIMIT 1) SELECT * FROM t",
                "WITH, ORDER BY, LIMIT or |> around a UNION in WITH RECURSIVE",
            ),
            (
                "WITH RECURSIVE t AS (SELECT 1 AS a UNION ALL BY NAME SELECT a + 1 AS a FROM t) SELECT * FROM t",
                "BY NAME in WITH RECURSIVE",
            ),
            ("WITH a (SELECT * FROM cpu) FROM a SELECT count(*)", "FROM behind the query named a"),
            ("WITH t(x VARCHAR) AS (SELECT 1) SELECT * FROM t", "a type in a list of column names"),
            ("SELECT * FROM (SELECT 1) AS t(x TEXT)", "a type in a list of column names"),
            ("SELECT FROM cpu", "a query without columns"),
            ("SELECT * FROM cpu PREWHERE user_us > 1", "PREWHERE"),
            ("SELECT * FROM cpu START WITH cpu = 'a' CONNECT BY cpu = 'b'", "CONNECT BY"),
            (
                "SELECT cpu, count(*) FROM cpu GROUP BY cpu WITH ROLLUP",
                "a word behind the GROUP BY list, such as WITH ROLLUP",
            ),
            ("SELECT * ILIKE '%us%' FROM cpu", "ILIKE behind *"),
            ("SELECT * FROM cpu TABLESAMPLE (10 PERCENT)", "TABLESAMPLE"),
            ("SELECT * FROM (SELECT * FROM cpu) AS t TABLESAMPLE (10 PERCENT)", "TABLESAMPLE"),
            ("SELECT * FROM cpu WITH ORDINALITY", "WITH ORDINALITY"),
            ("SELECT * FROM cpu PARTITION (p0)", "PARTITION behind a table"),
            ("SELECT * FROM cpu WITH (NOLOCK)", "WITH (…) behind a table"),
            ("SELECT * FROM cpu NATURAL LEFT JOIN generate_series(1, 2)", "NATURAL with an outer, SEMI or ANTI join"),
            ("SELECT * FROM cpu |> AGGREGATE count(*) AS n GROUP BY cpu DESC", "ASC or DESC in |> AGGREGATE"),
            ("SELECT sum(5)(user_us) FROM cpu", "sum(…)(…)"),
            (
                "SELECT cpu FROM cpu GROUP BY cpu ORDER BY sum(user_us) OVER w",
                "a named window outside the list behind SELECT",
            ),
            ("SELECT sum(user_us) OVER (w ORDER BY time) FROM cpu WINDOW w AS (PARTITION BY cpu)", "OVER (w …)"),
            (
                "SELECT percentile_cont(user_us, 0.5 ORDER BY utilization) FROM cpu",
                "ORDER BY among the arguments of percentile_cont",
            ),
            ("SELECT corr(DISTINCT user_us, nice_us) FROM cpu", "DISTINCT in corr"),
            ("SELECT lag(DISTINCT user_us) OVER (ORDER BY time) FROM cpu", "DISTINCT in lag"),
            ("SELECT TRIM('xay', 'x', 'y')", "TRIM with a list of characters"),
            ("SELECT CAST(1 AS FLOAT(53))", "the precision in FLOAT(53)"),
            (
                "SELECT sum(user_us) OVER (ORDER BY time RANGE INTERVAL '1' HOUR TO SECOND PRECEDING) FROM cpu",
                "a precision or TO in a frame's interval",
            ),
            (
                "SELECT sum(user_us) OVER (ORDER BY time ROWS BETWEEN 18446744073709551615 PRECEDING AND \
                 18446744073709551615 FOLLOWING) FROM cpu",
                "the frame bound 18446744073709551615",
            ),
            (
                "SELECT sum(user_us) OVER (ORDER BY time GROUPS BETWEEN CURRENT ROW AND 4294967296 FOLLOWING) FROM cpu",
                "the frame bound 4294967296",
            ),
            (
                "SELECT sum(user_us) OVER (ORDER BY user_us RANGE BETWEEN '-5' PRECEDING AND CURRENT ROW) FROM cpu",
                "the frame bound '-5'",
            ),
            ("DESCRIBE EXTENDED cpu", "EXTENDED or FORMATTED behind DESCRIBE"),
            ("DESCRIBE ANALYZE SELECT 1", "a word between DESCRIBE and the query"),
            ("SHOW \"datafusion.runtime.x'; SELECT 1; --\"", "SHOW \"datafusion.runtime.x'; SELECT 1; --\""),
        ] {
            match check(sql, 1 << 20) {
                Err(GuardError::Refused { what, .. }) => assert_eq!(what, expected, "{sql}"),
                other => panic!("{sql}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_has_an_effect_passes() {
        for sql in [
            "FROM cpu",
            "FROM cpu SELECT time",
            "SELECT * EXCLUDE (cpu) FROM cpu",
            "SELECT cpu, count(*) FROM cpu GROUP BY ROLLUP (cpu)",
            "SELECT sum(user_us) OVER w FROM cpu WINDOW w AS (PARTITION BY cpu ORDER BY time ROWS 10 PRECEDING)",
            "SELECT avg(user_us) OVER (ORDER BY time RANGE INTERVAL '1 second' PRECEDING) FROM cpu",
            "SELECT sum(user_us) OVER (ORDER BY time ROWS BETWEEN UNBOUNDED PRECEDING AND 4294967295 FOLLOWING) FROM cpu",
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY user_us) FROM cpu",
            "SELECT count(DISTINCT cpu), sum(user_us) FILTER (WHERE cpu = '0') FROM cpu",
            "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT * FROM t LIMIT 2",
            "WITH t(x) AS (SELECT 1) SELECT CAST(x AS VARCHAR) FROM t",
            "SELECT TRIM(BOTH 'x' FROM cpu) FROM cpu",
            "SELECT * FROM cpu NATURAL JOIN cpu AS b",
            "SELECT * FROM cpu NATURAL LEFT JOIN memory",
            "SELECT sum(user_us) OVER (ORDER BY user_us RANGE BETWEEN 5000000000 PRECEDING AND CURRENT ROW) FROM cpu",
            "SELECT TRIM(cpu, '0') FROM cpu",
            "SELECT CAST(cpu AS VARCHAR(255)) FROM cpu",
            "SHOW FUNCTIONS LIKE 'a%'",
            "SHOW datafusion.execution.time_zone",
            "DESCRIBE cpu",
            "EXPLAIN ANALYZE SELECT 1",
        ] {
            check(sql, 1 << 20).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }
}
