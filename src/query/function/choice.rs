//! Aggregates that stand for others: `arg_max(v, t)` for `first_value(v ORDER BY t DESC)`, `count_if(x)` for a filtered count.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::functions_aggregate::{array_agg, count, first_last, string_agg};
use datafusion::functions_nested::make_array;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::planner::{PlannerResult, RawAggregateExpr};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, SortExpr, Volatility, lit,
};

/// What an aggregate stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Meaning {
    /// The first argument where the second is greatest.
    AtGreatest,
    /// The first argument where the second is least.
    AtLeast,
    /// With one argument, the first of the rows; with two, as [`Meaning::AtLeast`].
    First,
    /// With one argument, the last of the rows; with two, as [`Meaning::AtGreatest`].
    Last,
    /// The number of rows where the argument holds.
    CountIf,
    /// All values, as a list.
    List,
    /// All texts, with commas between them.
    Joined,
}

/// All of them: name, other names, how it is called, and meaning.
const ALL: &[(&str, &[&str], &str, Meaning)] = &[
    ("arg_max", &["argmax", "max_by"], "arg_max(value, time)", Meaning::AtGreatest),
    ("arg_min", &["argmin", "min_by"], "arg_min(value, time)", Meaning::AtLeast),
    ("first", &[], "first(value, time)", Meaning::First),
    ("last", &[], "last(value, time)", Meaning::Last),
    ("count_if", &["countif"], "count_if(condition)", Meaning::CountIf),
    ("list", &[], "list(value)", Meaning::List),
    ("group_concat", &["listagg"], "group_concat(text, ', ' ORDER BY text)", Meaning::Joined),
];

/// The aggregates, to be registered with a session.
pub(super) fn aggregates() -> Vec<AggregateUDF> {
    let declared = |(name, aliases, usage, meaning): &(&'static str, &[&str], &'static str, Meaning)| {
        AggregateUDF::new_from_impl(StandIn {
            name,
            usage,
            meaning: *meaning,
            aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
            signature: Signature::user_defined(Volatility::Immutable),
        })
    };
    ALL.iter().map(declared).collect()
}

#[derive(Debug)]
struct StandIn {
    name: &'static str,
    usage: &'static str,
    meaning: Meaning,
    aliases: Vec<String>,
    signature: Signature,
}

impl PartialEq for StandIn {
    fn eq(&self, other: &StandIn) -> bool {
        self.name == other.name
    }
}

impl Eq for StandIn {}

impl Hash for StandIn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl StandIn {
    fn misused<T>(&self) -> Result<T> {
        plan_err!("{} is an aggregate without OVER: write {}", self.name, self.usage)
    }
}

impl AggregateUDFImpl for StandIn {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, _: &[DataType]) -> Result<Vec<DataType>> {
        // Only a window reaches this: other calls were replaced.
        self.misused()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        self.misused()
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        internal_err!("{} was not replaced by the aggregate that it stands for", self.name)
    }

    fn supports_null_handling_clause(&self) -> bool {
        matches!(self.meaning, Meaning::First | Meaning::Last)
    }
}

/// What a call stands for, or the call itself.
pub(super) fn planned(mut raw: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
    if let Some(several) = several_percentiles(&raw)? {
        return Ok(PlannerResult::Planned(several));
    }
    let function = Arc::clone(&raw.func);
    let Some(stand_in) = function.inner().downcast_ref::<StandIn>() else { return Ok(PlannerResult::Original(raw)) };
    let meaning = match (stand_in.meaning, raw.args.len()) {
        (Meaning::First, 2) => Meaning::AtLeast,
        (Meaning::Last, 2) => Meaning::AtGreatest,
        (meaning, _) => meaning,
    };
    match (meaning, raw.args.len()) {
        (Meaning::AtGreatest | Meaning::AtLeast, 2) if raw.order_by.is_empty() => {
            let (Some(by), Some(value)) = (raw.args.pop(), raw.args.pop()) else { return stand_in.misused() };
            // As in DuckDB, rows count that have both.
            let both = value.clone().is_not_null().and(by.clone().is_not_null());
            raw.filter = Some(Box::new(match raw.filter.take() {
                Some(filter) => filter.and(both),
                None => both,
            }));
            raw.order_by = vec![SortExpr::new(by, meaning == Meaning::AtLeast, false)];
            raw.args = vec![value];
            raw.func = first_last::first_value_udaf();
        }
        (Meaning::First, 1) => raw.func = first_last::first_value_udaf(),
        (Meaning::Last, 1) => raw.func = first_last::last_value_udaf(),
        (Meaning::CountIf, 1) => {
            let Some(condition) = raw.args.pop() else { return stand_in.misused() };
            raw.filter = Some(Box::new(match raw.filter.take() {
                Some(filter) => filter.and(condition),
                None => condition,
            }));
            raw.args = vec![lit(1_i64)];
            raw.func = count::count_udaf();
        }
        (Meaning::List, 1) => raw.func = array_agg::array_agg_udaf(),
        (Meaning::Joined, 1 | 2) => {
            if raw.args.len() == 1 {
                raw.args.push(lit(","));
            }
            raw.func = string_agg::string_agg_udaf();
        }
        _ => return plan_err!("{} takes other arguments: write {}", stand_in.name, stand_in.usage),
    }
    Ok(PlannerResult::Planned(call(raw)))
}

fn call(raw: RawAggregateExpr) -> Expr {
    let RawAggregateExpr { func, args, distinct, filter, order_by, null_treatment } = raw;
    Expr::AggregateFunction(AggregateFunction::new_udf(func, args, distinct, filter, order_by, null_treatment))
}

/// `percentile_cont(ARRAY[0.5, 0.99])`: a list of percentiles.
fn several_percentiles(raw: &RawAggregateExpr) -> Result<Option<Expr>> {
    let named = ["percentile_cont", "percentile_disc"].contains(&raw.func.name());
    let [value, Expr::ScalarFunction(list)] = raw.args.as_slice() else { return Ok(None) };
    if !named || list.func.name() != "make_array" {
        return Ok(None);
    }
    if list.args.is_empty() {
        return plan_err!("{} of no percentile: write ARRAY[0.5, 0.99]", raw.func.name());
    }
    let one = |percentile: &Expr| {
        let mut raw = raw.clone();
        raw.args = vec![value.clone(), percentile.clone()];
        call(raw)
    };
    Ok(Some(make_array::make_array(list.args.iter().map(one).collect())))
}
