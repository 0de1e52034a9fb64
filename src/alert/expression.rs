//! Conditions: SQL → checked terms that can be shared between rules.
//!
//! A condition is a conjunction of terms. A term that compares a numeric expression with a constant is kept as such
//! ([`Term::Compare`]), so that rules which differ in their constants share one evaluation of the expression. Any other
//! term is a [`Node`]: "and", "or" and "not" over such comparisons, over comparisons of a label with a text, and over any
//! other SQL. DataFusion's physical expressions compute the numbers and the other SQL.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef, DataFusionError, SchemaError, exec_err};
use datafusion::execution::context::SessionState;
use datafusion::functions::expr_fn::nullif;
use datafusion::logical_expr::expr::{Between, BinaryExpr, ScalarFunction};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, ScalarUDF, Volatility, create_udf, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::scalar::ScalarValue;

use super::stated::{self, Stated};
use crate::family::FamilyId;
use crate::record::{Kind, Table};
use crate::words;

const RATE: &str = "rate";

/// Integers up to this are exact as floats, so a comparison as floats gives the same answer.
const EXACT_MAX: i64 = 1 << f64::MANTISSA_DIGITS;

/// What a condition may refer to: a table's columns and the rates of its counters.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) family: FamilyId,
    pub(super) table: &'static Table,
    schema: DFSchemaRef,
}

impl Scope {
    pub(super) fn new(family: FamilyId, table: &'static Table) -> Self {
        let schema = extended(table);
        let schema = match DFSchema::try_from_qualified_schema(table.name, &schema) {
            Ok(schema) => Arc::new(schema),
            Err(error) => unreachable!("a table's columns have names of their own: {error}"),
        };
        Scope { family, table, schema }
    }
}

/// The schema of the batches that conditions are evaluated on: the table's columns, then its counters' rates.
pub(super) fn extended(table: &'static Table) -> Schema {
    let schema = table.schema();
    let rates = counters(table).map(|(_, name)| Arc::new(Field::new(rate_name(name), DataType::Float64, true)));
    Schema::new(schema.fields().iter().cloned().chain(rates).collect::<Vec<_>>())
}

/// The table's counters with their positions, in the order of their rates in [`extended`].
pub(super) fn counters(table: &'static Table) -> impl Iterator<Item = (usize, &'static str)> {
    let counters = table.columns.iter().enumerate().filter(|(_, column)| column.kind == Kind::Counter);
    counters.map(|(position, column)| (position, column.name))
}

/// The table's columns of these kinds, for people.
pub(super) fn columns(table: &'static Table, kinds: &[Kind]) -> String {
    words::list(table.columns.iter().filter(|column| kinds.contains(&column.kind)).map(|column| column.name))
}

fn rate_name(counter: &str) -> String {
    format!("{RATE}({counter})")
}

/// `rate(counter)` for SQL. Compiling replaces each call by the rate's column.
pub(super) fn rate_function() -> ScalarUDF {
    let evaluated = |_: &[_]| exec_err!("rate is computed before conditions are evaluated");
    create_udf(RATE, vec![DataType::Int64], DataType::Float64, Volatility::Immutable, Arc::new(evaluated))
}

/// An expression, with the key by which equal ones are found.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    pub(super) key: Expr,
    pub(super) physical: Arc<dyn PhysicalExpr>,
}

/// How a value is compared with a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
    Equal,
    NotEqual,
}

/// One of the terms that must all be true.
#[derive(Clone, Debug)]
pub(super) enum Term {
    Compare {
        left: Expression,
        comparison: Comparison,
        right: f64,
    },
    /// Anything else, with the key by which equal ones are found.
    Boolean {
        key: Expr,
        node: Node,
        /// It depends on labels only, so it chooses series and not moments.
        names_labels_only: bool,
    },
}

/// A boolean expression, split as far as that makes it cheaper to evaluate.
#[derive(Clone, Debug)]
pub(super) enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Compare {
        left: Expression,
        comparison: Comparison,
        right: f64,
    },
    /// The label at this position of the table is this text.
    Label {
        position: usize,
        text: String,
    },
    Sql(Expression),
}

/// A compiled condition.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    /// At least one.
    pub(super) terms: Vec<Term>,
    /// The value compared, for messages: the left side of the first numeric comparison among the terms.
    pub(super) value: Option<Expression>,
    /// What it is compared with, if that is a constant.
    pub(super) threshold: Option<f64>,
    /// Whether lower values are worse: it is compared by "below" or "at most".
    pub(super) falls: bool,
    /// The texts that the condition states for labels.
    pub(super) stated: Stated,
    /// Which counters' rates are needed, as positions in [`counters`].
    pub(super) rates: Vec<usize>,
}

/// Compiles `sql` over `scope`. An error is the problem in words.
pub(super) fn compile(session: &SessionState, scope: &Scope, sql: &str) -> Result<Condition, String> {
    let table = scope.table;
    let words = |error: DataFusionError| in_words(table, &error);
    let written = session.create_logical_expr(sql, &scope.schema).map_err(words)?;
    check(&written)?;
    let resolved = written.transform_up(|expr| resolve(table, expr)).data().map_err(words)?;
    let context = SimplifyContext::builder()
        .with_schema(Arc::clone(&scope.schema))
        .with_config_options(Arc::clone(session.config_options()))
        .build();
    // Sides stay as they are written, so that messages show the left one.
    let simplifier = ExprSimplifier::new(context).with_canonicalize(false);
    let coerced = simplifier.coerce(resolved, &scope.schema).map_err(words)?;
    let data_type = coerced.get_type(scope.schema.as_ref()).map_err(words)?;
    if data_type != DataType::Boolean {
        return Err(format!("is {data_type}, not true or false; compare it with something, as in `{sql} > 0`"));
    }

    let rates = rates_used(table, &coerced);
    let mut builder = Builder { session, scope, terms: Vec::new(), stated: Stated::default(), value: None };
    for conjunct in split_conjunction_owned(coerced) {
        for part in split_between(conjunct) {
            let simple = simplifier.simplify(part).map_err(words)?;
            for term in split_conjunction_owned(simple) {
                builder.add(term)?;
            }
        }
    }
    if builder.terms.is_empty() {
        return Err("is always true; compare a column with something".into());
    }
    let Builder { terms, stated, value, .. } = builder;
    let (value, comparison, threshold) = match value {
        Some((value, comparison, threshold)) => (Some(value), Some(comparison), threshold),
        None => (None, None, None),
    };
    let falls = matches!(comparison, Some(Comparison::Below | Comparison::AtMost));
    Ok(Condition { terms, value, threshold, falls, stated, rates })
}

struct Builder<'a> {
    session: &'a SessionState,
    scope: &'a Scope,
    terms: Vec<Term>,
    stated: Stated,
    value: Option<(Expression, Comparison, Option<f64>)>,
}

impl Builder<'_> {
    fn add(&mut self, term: Expr) -> Result<(), String> {
        match &term {
            Expr::Literal(ScalarValue::Boolean(Some(true)), _) => return Ok(()),
            Expr::Literal(..) => return Err("is never true; compare a column with something".into()),
            _ => {}
        }
        let Some((left, comparison, right)) = numeric_comparison(&term, &self.scope.schema) else {
            let node = self.node(&term)?;
            self.stated.add(self.scope.table, &term);
            let names_labels_only = is_of_labels(self.scope.table, &term);
            self.terms.push(Term::Boolean { key: term, node, names_labels_only });
            return Ok(());
        };
        let left = self.expression(left)?;
        if self.value.is_none() {
            self.value = Some((left.clone(), comparison, constant(&right)));
        }
        self.terms.push(match exact(&right) {
            Some(right) => Term::Compare { left, comparison, right },
            None => Term::Boolean { node: self.node(&term)?, key: term, names_labels_only: false },
        });
        Ok(())
    }

    fn node(&self, expr: &Expr) -> Result<Node, String> {
        let nodes = |exprs: [&Expr; 2]| exprs.into_iter().map(|expr| self.node(expr)).collect::<Result<Vec<_>, _>>();
        if let Some((left, comparison, right)) = numeric_comparison(expr, &self.scope.schema)
            && let Some(right) = exact(&right)
        {
            return Ok(Node::Compare { left: self.expression(left)?, comparison, right });
        }
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => Node::All(nodes([left, right])?),
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => Node::Any(nodes([left, right])?),
            Expr::Not(inner) => Node::Not(Box::new(self.node(inner)?)),
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Eq | Operator::NotEq), right }) => {
                match label_text(self.scope.table, left, right).or_else(|| label_text(self.scope.table, right, left)) {
                    Some(label) if *op == Operator::Eq => label,
                    Some(label) => Node::Not(Box::new(label)),
                    None => Node::Sql(self.expression(expr.clone())?),
                }
            }
            other => Node::Sql(self.expression(other.clone())?),
        })
    }

    fn expression(&self, key: Expr) -> Result<Expression, String> {
        let physical = self.session.create_physical_expr(key.clone(), &self.scope.schema);
        Ok(Expression { key, physical: physical.map_err(|error| in_words(self.scope.table, &error))? })
    }
}

/// Refuses all but scalar expressions of one row.
fn check(expr: &Expr) -> Result<(), String> {
    let mut problem = None;
    let walked = expr.apply(|expr| {
        problem = refusal(expr);
        Ok(if problem.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match (problem, walked) {
        (Some(problem), _) => Err(problem),
        (None, Err(error)) => Err(error.strip_backtrace()),
        (None, Ok(_)) => Ok(()),
    }
}

fn refusal(expr: &Expr) -> Option<String> {
    let what = match expr {
        Expr::Alias(_) => "an alias (AS)".into(),
        Expr::AggregateFunction(function) => format!("the aggregate `{}`", function.func.name()),
        Expr::WindowFunction(function) => format!("the window function `{}`", function.fun.name()),
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => "a subquery".into(),
        Expr::Placeholder(_) | Expr::ScalarVariable(..) => "a parameter".into(),
        Expr::ScalarFunction(function) if function.func.signature().volatility != Volatility::Immutable => {
            format!("`{}`, which does not depend on the row alone", function.func.name())
        }
        _ => return None,
    };
    Some(format!("contains {what}; a rule is a condition on the columns of one row and `rate(counter)`"))
}

/// Replaces `rate(counter)` by its column, and makes a division by zero give null instead of an error: one idle device
/// must not disable a rule for all other devices.
fn resolve(table: &'static Table, expr: Expr) -> Result<Transformed<Expr>, DataFusionError> {
    match expr {
        Expr::ScalarFunction(function) if function.func.name() == RATE => {
            rate_column(table, &function).map(Transformed::yes).map_err(DataFusionError::Plan)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Divide | Operator::Modulo), right }) => {
            let right = Box::new(nullif(*right, lit(0_i64)));
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn rate_column(table: &'static Table, function: &ScalarFunction) -> Result<Expr, String> {
    let counter = match function.args.as_slice() {
        [Expr::Column(column)] => counters(table).find(|(_, name)| *name == column.name),
        _ => None,
    };
    if let Some((_, name)) = counter {
        return Ok(Expr::Column(Column::new(Some(table.name), rate_name(name))));
    }
    let known = columns(table, &[Kind::Counter]);
    let known = if known.is_empty() { "it has none".into() } else { known };
    Err(format!("`rate` takes one counter of {}: {known}", table.name))
}

/// Splits `a BETWEEN b AND c` into its two comparisons. Anything else stays.
fn split_between(expr: Expr) -> Vec<Expr> {
    match expr {
        Expr::Between(Between { expr, negated: false, low, high }) => {
            vec![expr.clone().gt_eq(*low), expr.lt_eq(*high)]
        }
        other => vec![other],
    }
}

/// The term's sides if it compares two numbers. A constant goes to the right.
fn numeric_comparison(term: &Expr, schema: &DFSchema) -> Option<(Expr, Comparison, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = term else { return None };
    let numeric = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Int64 | DataType::Float64));
    if !(numeric(left) && numeric(right)) {
        return None;
    }
    if constant(left).is_some() {
        Some((right.as_ref().clone(), comparison(op.swap()?)?, left.as_ref().clone()))
    } else {
        Some((left.as_ref().clone(), comparison(*op)?, right.as_ref().clone()))
    }
}

fn comparison(op: Operator) -> Option<Comparison> {
    Some(match op {
        Operator::Gt => Comparison::Above,
        Operator::GtEq => Comparison::AtLeast,
        Operator::Lt => Comparison::Below,
        Operator::LtEq => Comparison::AtMost,
        Operator::Eq => Comparison::Equal,
        Operator::NotEq => Comparison::NotEqual,
        _ => return None,
    })
}

fn constant(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Literal(ScalarValue::Float64(Some(value)), _) => Some(*value),
        Expr::Literal(ScalarValue::Int64(Some(value)), _) => Some(*value as f64),
        _ => None,
    }
}

/// The constant as a float, if a comparison with that gives the same answer.
fn exact(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Literal(ScalarValue::Float64(Some(value)), _) if !value.is_nan() => Some(*value),
        Expr::Literal(ScalarValue::Int64(Some(value)), _) if (-EXACT_MAX..=EXACT_MAX).contains(value) => {
            Some(*value as f64)
        }
        _ => None,
    }
}

/// The node that compares a label with a text, if these are a label and a text.
fn label_text(table: &'static Table, label: &Expr, text: &Expr) -> Option<Node> {
    Some(Node::Label { position: stated::label(table, label)?, text: stated::text(text)? })
}

/// Whether an expression refers to labels, and to nothing else of the row.
fn is_of_labels(table: &'static Table, expr: &Expr) -> bool {
    let columns = expr.column_refs();
    !columns.is_empty() && columns.iter().all(|column| table.labels().any(|(_, label)| label.name == column.name))
}

fn rates_used(table: &'static Table, condition: &Expr) -> Vec<usize> {
    let columns = condition.column_refs();
    let used = |name: &str| columns.iter().any(|column| column.name == rate_name(name));
    counters(table).enumerate().filter(|(_, (_, name))| used(name)).map(|(index, _)| index).collect()
}

/// DataFusion's error in words for the author of a rule.
fn in_words(table: &'static Table, error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::SchemaError(schema_error, _) => match schema_error.as_ref() {
            SchemaError::FieldNotFound { field, .. } => {
                let known = columns(table, &[Kind::Time, Kind::Label, Kind::Counter, Kind::Gauge]);
                let texts = "; texts stand in single quotes";
                format!("{} has no column {:?}; its columns are {known}{texts}", table.name, field.name)
            }
            other => other.to_string(),
        },
        DataFusionError::Plan(message) => message.clone(),
        other => other.strip_backtrace(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::fixture::{compiled, error, when};

    /// "value threshold" and the terms, comparisons as `=>`.
    fn shape(table: &str, sql: &str) -> (String, Vec<String>) {
        let condition = &compiled(&[when(table, sql)])[0].condition;
        let value = condition.value.as_ref().map_or("-".into(), |value| value.key.to_string());
        let threshold = condition.threshold.map_or("-".into(), |threshold| threshold.to_string());
        let term = |term: &Term| match term {
            Term::Compare { left, comparison, right } => format!("{} {comparison:?} {right}", left.key),
            Term::Boolean { node, .. } => node_shape(node),
        };
        (format!("{value} {threshold}"), condition.terms.iter().map(term).collect())
    }

    fn node_shape(node: &Node) -> String {
        let all = |nodes: &[Node], word| format!("({})", nodes.iter().map(node_shape).collect::<Vec<_>>().join(word));
        match node {
            Node::All(nodes) => all(nodes, " and "),
            Node::Any(nodes) => all(nodes, " or "),
            Node::Not(node) => format!("not {}", node_shape(node)),
            Node::Compare { left, comparison, right } => format!("{} {comparison:?} {right}", left.key),
            Node::Label { position, text } => format!("label {position} is {text}"),
            Node::Sql(expression) => format!("[{}]", expression.key),
        }
    }

    #[test]
    fn comparisons_with_constants_are_found() {
        let (value, terms) = shape("cpu", "cpu = 'total' AND utilization * 100 > 90");
        assert_eq!(value, "cpu.utilization * Float64(100) 90");
        assert_eq!(terms, ["label 1 is total", "cpu.utilization * Float64(100) Above 90"]);

        assert_eq!(shape("cpu", "0.5 >= utilization").1, ["cpu.utilization AtMost 0.5"]);
        assert_eq!(
            shape("memory", "free_bytes BETWEEN 5 AND 2 * 5").1,
            ["memory.free_bytes AtLeast 5", "memory.free_bytes AtMost 10"]
        );
        assert_eq!(
            shape("network", "rate(RX_bytes) <> 0"),
            ("network.rate(rx_bytes) 0".into(), vec!["network.rate(rx_bytes) NotEqual 0".into()])
        );
    }

    #[test]
    fn other_conditions_are_boolean_expressions() {
        assert_eq!(
            shape("network", "rx_bytes > tx_bytes"),
            ("network.rx_bytes -".into(), vec!["[network.rx_bytes > network.tx_bytes]".into()])
        );
        let (value, terms) = shape("host", "load1 > 4 OR running > 100");
        assert_eq!(value, "- -");
        assert_eq!(terms, ["(host.load1 Above 4 or host.running Above 100)"]);
        let (_, terms) = shape("network", "NOT (interface <> 'lo' AND 5 > rx_bytes) OR interface LIKE 'e%'");
        assert_eq!(terms, ["((label 1 is lo or network.rx_bytes AtLeast 5) or [network.interface LIKE Utf8(\"e%\")])"]);
        assert_eq!(shape("network", "interface <> 'lo'").1, ["not label 1 is lo"]);
        // As a float this integer would equal the next.
        let (value, terms) = shape("memory", "free_bytes > 9007199254740993");
        assert_eq!(
            (value.as_str(), terms.as_slice()),
            (
                "memory.free_bytes 9007199254740992",
                ["[memory.free_bytes > Int64(9007199254740993)]".to_owned()].as_slice()
            )
        );
        assert_eq!(shape("network", "interface LIKE 'eth%'").0, "- -");
    }

    #[test]
    fn rates_are_known_by_their_counters() {
        let rules =
            compiled(&[when("network", "rate(tx_bytes) > 1 AND interface = 'lo'"), when("network", "rx_bytes > 1")]);
        assert_eq!(
            (rules[0].condition.rates.as_slice(), rules[1].condition.rates.as_slice()),
            ([1].as_slice(), [].as_slice())
        );
    }

    #[test]
    fn what_is_no_condition_on_a_row_is_refused() {
        let cases = [
            ("", "Expected"),
            ("utilization >", "Expected"),
            ("utilization > 1; DROP TABLE cpu", "end of expression"),
            ("utilization", "is Float64, not true or false; compare it with something, as in `utilization > 0`"),
            ("NULL", "is Null, not true or false"),
            ("usage > 1", "cpu has no column \"usage\"; its columns are time, cpu, user_us, nice_us"),
            ("cpu = \"total\"", "cpu has no column \"total\""),
            ("avg(utilization) > 1", "contains the aggregate `avg`"),
            ("row_number() OVER () > 1", "contains the window function `row_number`"),
            ("utilization > (SELECT 1)", "contains a subquery"),
            ("EXISTS (SELECT 1)", "contains a subquery"),
            ("utilization > 0 AS hot", "contains an alias"),
            ("utilization > $1", "contains a parameter"),
            ("random() > 0.5", "contains `random`, which does not depend on the row alone"),
            ("time > now()", "contains `now`"),
            ("rate(utilization) > 1", "`rate` takes one counter of cpu: user_us"),
            ("rate(user_us, time) > 1", "`rate` takes one counter of cpu: user_us"),
            ("rate() > 1", "`rate` takes one counter of cpu: user_us"),
            ("nosuch(utilization) > 1", "nosuch"),
            ("1 > 0", "is always true"),
            ("utilization > 0 AND 1 > 2", "is never true"),
            ("cpu > 5 AND utilization", "cannot"),
        ];
        for (sql, problem) in cases {
            let error = error(&when("cpu", sql));
            assert_eq!(error.key, "when", "{error}");
            assert!(error.problem.to_lowercase().contains(&problem.to_lowercase()), "{sql}: {error}");
        }
    }
}
