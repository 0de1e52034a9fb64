//! The SQL aggregates that know counters: `increase(counter, time)` and `rate(counter, time)`.
//!
//! A counter only grows, except at a reset. If a value is below the one before it, the counter was reset to zero in
//! between, and the new value is its growth since then. `increase` is the sum of all steps in the order of time. `rate`
//! is that sum per second between the first and the last row. Unlike Prometheus' functions of these names, they do not
//! extrapolate beyond the rows.
//!
//! - Rows may come in any order and from any number of threads.
//! - Rows are skipped if the counter or the time is null, or if the counter is NaN.
//! - Rows of one group are of one host, if they come with one: counters of different hosts are different counters
//!   (`query/hosts.rs`).
//! - Rows of one group are of one counter: two values at one time are an error, which names the labels to group by.
//! - The result is null for fewer than two rows. A rate is also null if all rows have the same time.
//! - `increase` of integers is an integer, and of floats a float. `rate` is a float.
//! - Where groups are stretches of time, each has the step into it, from the last row of the one before
//!   ([`linked`](super::linked)). So the increases of all stretches add up to the whole.
//!
//! A group keeps little where the plan knows that its rows come in the order of time, as in files that do not overlap: the ends
//! and the increase of each run of rows ([`course`](super::course)). Elsewhere, a late row may lie between any two others, so it
//! keeps all of them, in a few bytes each.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Float64Type, Int64Type, TimeUnit};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err, not_impl_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use crate::record::TIME_ZONE;

use super::course::Course;
use super::growth::Counter;
use super::measure::{Output, disorder, one_host, rows, several_counters, told};
use super::sections::Sections;
use super::sliding::Sliding;

/// The aggregates, to be registered with a session.
pub(super) fn aggregates() -> [AggregateUDF; 2] {
    [Output::Increase, Output::Rate].map(|output| CounterAggregate::of(output, Vec::new()).into())
}

/// Whether a function is one of these.
pub(in crate::query) fn knows_counters(function: &AggregateUDF) -> bool {
    function.inner().is::<CounterAggregate>()
}

/// What a function computes, if it is one of these.
pub(super) fn output_of(function: &AggregateUDF) -> Option<Output> {
    function.inner().downcast_ref::<CounterAggregate>().map(|aggregate| aggregate.output)
}

/// A function that computes this, and whose errors name the labels.
pub(super) fn with_labels(output: Output, labels: Vec<String>) -> AggregateUDF {
    CounterAggregate::of(output, labels).into()
}

/// The same function over rows that come in order in these sections of time, if that lets it keep less.
pub(in crate::query) fn in_sections(function: &AggregateUDF, sections: Arc<Sections>) -> Option<AggregateUDF> {
    let aggregate = function.inner().downcast_ref::<CounterAggregate>()?;
    (aggregate.output != Output::Course { points: true }).then(|| {
        let (output, labels) = (aggregate.output, aggregate.labels.clone());
        CounterAggregate { sections: Some(sections), ..CounterAggregate::of(output, labels) }.into()
    })
}

/// The error for a call with another number of arguments than two.
pub(in crate::query) fn wrong_arguments(name: &str, count: usize) -> DataFusionError {
    plan_datafusion_err!("{name} takes two arguments: write {name}(counter, time), not {count} of them")
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CounterAggregate {
    output: Output,
    /// By which the rows of a group may still differ.
    labels: Vec<String>,
    /// Where rows come in order, if the plan knows it.
    sections: Option<Arc<Sections>>,
    signature: Signature,
}

impl CounterAggregate {
    fn of(output: Output, labels: Vec<String>) -> CounterAggregate {
        CounterAggregate { output, labels, sections: None, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn accumulator_of<C>(&self) -> Box<dyn Accumulator>
    where
        C: ArrowPrimitiveType<Native: Counter> + Debug,
    {
        let (output, labels) = (self.output, self.labels.clone());
        let course = self.sections.clone().map_or_else(Course::default, Course::in_sections);
        Box::new(CounterAccumulator::<C> { output, labels, course, host: None })
    }
}

impl AggregateUDFImpl for CounterAggregate {
    fn name(&self) -> &'static str {
        match self.output {
            Output::Increase => "increase",
            Output::Rate => "rate",
            Output::Course { .. } => "course",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        // The third one is the host, which a statement does not write.
        let ([counter, time] | [counter, time, _]) = types else { return Err(wrong_arguments(name, types.len())) };
        let counter = match counter {
            integer if integer.is_integer() => DataType::Int64,
            DataType::Null => DataType::Int64,
            number if number.is_numeric() => DataType::Float64,
            other => return plan_err!("{name}(counter, time): the counter must be a number, not {other}"),
        };
        match time {
            DataType::Timestamp(..) => {}
            other => return plan_err!("{name}(counter, time): the time must be a timestamp, not {other}"),
        }
        let coerced = [counter, DataType::Timestamp(TimeUnit::Microsecond, Some(TIME_ZONE.into())), DataType::Utf8];
        Ok(coerced.into_iter().take(types.len()).collect())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(match (self.output, types.first()) {
            (Output::Course { .. }, _) => DataType::Binary,
            (Output::Increase, Some(DataType::Int64)) => DataType::Int64,
            _ => DataType::Float64,
        })
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return not_impl_err!("{}(DISTINCT …) is refused: a counter may have equal values", self.name());
        }
        match args.expr_fields.first().map(|field| field.data_type()) {
            Some(DataType::Int64) => Ok(self.accumulator_of::<Int64Type>()),
            Some(DataType::Float64) => Ok(self.accumulator_of::<Float64Type>()),
            other => exec_err!("{} over {other:?}", self.name()),
        }
    }

    /// For windows whose first row moves.
    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return not_impl_err!("{}(DISTINCT …) is refused: a counter may have equal values", self.name());
        }
        match args.expr_fields.first().map(|field| field.data_type()) {
            Some(DataType::Int64) => Ok(Box::new(Sliding::<Int64Type>::new(self.output, self.labels.clone()))),
            Some(DataType::Float64) => Ok(Box::new(Sliding::<Float64Type>::new(self.output, self.labels.clone()))),
            other => exec_err!("{} over {other:?}", self.name()),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let field = |name, ty| Arc::new(Field::new(format_state_name(args.name, name), ty, true));
        Ok(vec![field("course", DataType::Binary), field("host", DataType::Utf8)])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The rows of one group seen so far.
#[derive(Debug)]
struct CounterAccumulator<C: ArrowPrimitiveType> {
    output: Output,
    labels: Vec<String>,
    course: Course<C::Native>,
    /// Of all rows, if they come with a host.
    host: Option<String>,
}

impl<C: ArrowPrimitiveType<Native: Counter> + Debug> Accumulator for CounterAccumulator<C> {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        rows::<C>(columns, &mut self.host, |time, value| self.course.push(time, value))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let growth = self.course.growth().map_err(|_| disorder())?;
        if let Some(time) = growth.and_then(|growth| growth.clash) {
            return Err(several_counters(time, &self.labels));
        }
        if let Output::Course { points } = self.output {
            let Some(ends) = self.course.write_ends().map_err(|_| disorder())? else {
                return Ok(ScalarValue::Binary(None));
            };
            let host = self.host.as_deref();
            return Ok(ScalarValue::Binary(Some(told(host, &if points { self.course.write() } else { ends }))));
        }
        let steps = growth.filter(|growth| growth.count > 1);
        self.output.result::<C>(steps.map(|growth| (growth.increase, growth.last.0 - growth.first.0)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.course.size() + self.host.as_ref().map_or(0, String::capacity)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.course.write())), ScalarValue::Utf8(self.host.clone())])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [courses, hosts] = states else { return exec_err!("a course and a host, not {} columns", states.len()) };
        hosts.as_string::<i32>().iter().flatten().try_for_each(|host| one_host(&mut self.host, host))?;
        for course in courses.as_binary::<i32>().iter().flatten() {
            self.course.read(course).map_err(|error| DataFusionError::External(error.into()))?;
        }
        Ok(())
    }
}
