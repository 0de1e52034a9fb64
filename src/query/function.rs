//! The SQL aggregates that know counters: `increase(counter, time)` and `rate(counter, time)`.
//!
//! A counter only grows, except at a reset. If a value is below the one before it, the counter was reset to zero in
//! between, and the new value is its growth since then. `increase` is the sum of all steps in the order of time. `rate`
//! is that sum per second between the first and the last row. Unlike Prometheus' functions of these names, they do not
//! extrapolate beyond the rows.
//!
//! - Rows may come in any order and from any number of threads. Rows of equal time are ordered by value.
//! - Rows are skipped if the counter or the time is null, or if the counter is NaN.
//! - Rows of one group are of one host, if they come with one: counters of different hosts are different counters
//!   (`hosts.rs`).
//! - The result is null for fewer than two rows. A rate is also null if all rows have the same time.
//! - `increase` of integers is an integer, and of floats a float. `rate` is a float.
//!
//! A group keeps all its rows to the end, in a few bytes each, because a late row may lie between any two others.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, FieldRef, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err, not_impl_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use crate::record::TIME_ZONE;

use super::course::{Counter, Course};

/// The aggregates, to be registered with a session.
pub(super) fn aggregates() -> [AggregateUDF; 2] {
    [Output::Increase, Output::Rate].map(|output| {
        let signature = Signature::user_defined(Volatility::Immutable);
        AggregateUDF::new_from_impl(CounterAggregate { output, signature })
    })
}

/// Whether a function is one of these.
pub(super) fn knows_counters(function: &AggregateUDF) -> bool {
    function.inner().is::<CounterAggregate>()
}

/// The error for a call with another number of arguments than two.
pub(super) fn wrong_arguments(name: &str, count: usize) -> DataFusionError {
    plan_datafusion_err!("{name} takes two arguments: write {name}(counter, time), not {count} of them")
}

/// A text as SQL writes it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// What an aggregate computes from a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Output {
    /// Its total growth.
    Increase,
    /// Its growth per second.
    Rate,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CounterAggregate {
    output: Output,
    signature: Signature,
}

impl AggregateUDFImpl for CounterAggregate {
    fn name(&self) -> &'static str {
        match self.output {
            Output::Increase => "increase",
            Output::Rate => "rate",
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
            (Output::Increase, Some(DataType::Int64)) => DataType::Int64,
            _ => DataType::Float64,
        })
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return not_impl_err!("{}(DISTINCT …) is refused: a counter may have equal values", self.name());
        }
        let output = self.output;
        match args.expr_fields.first().map(|field| field.data_type()) {
            Some(DataType::Int64) => {
                Ok(Box::new(CounterAccumulator::<Int64Type> { output, course: Course::default(), host: None }))
            }
            Some(DataType::Float64) => {
                Ok(Box::new(CounterAccumulator::<Float64Type> { output, course: Course::default(), host: None }))
            }
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
    course: Course<C::Native>,
    /// Of all rows, if they come with a host.
    host: Option<String>,
}

impl<C: ArrowPrimitiveType<Native: Counter>> CounterAccumulator<C> {
    /// Checks that rows are of the same host as those before.
    fn add_hosts(&mut self, hosts: &StringArray) -> Result<()> {
        for host in hosts.iter().flatten() {
            let known = self.host.get_or_insert_with(|| host.into());
            if known != host {
                let [known, host] = [known, host].map(literal);
                return exec_err!(
                    "a counter of host {known} and one of host {host} are not one counter; write GROUP BY host, for which \
                     subqueries have to keep the column host, or WHERE host = {known} beside the table"
                );
            }
        }
        Ok(())
    }
}

impl<C: ArrowPrimitiveType<Native: Counter> + Debug> Accumulator for CounterAccumulator<C> {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let [values, times, host @ ..] = columns else {
            return exec_err!("a counter and its time, not {} columns", columns.len());
        };
        host.iter().try_for_each(|hosts| self.add_hosts(hosts.as_string()))?;
        let (values, times) = (values.as_primitive::<C>(), times.as_primitive::<TimestampMicrosecondType>());
        if values.null_count() == 0 && times.null_count() == 0 {
            for (time, value) in times.values().iter().zip(values.values()) {
                self.course.push(*time, *value);
            }
        } else {
            for (time, value) in times.iter().zip(values) {
                if let (Some(time), Some(value)) = (time, value) {
                    self.course.push(time, value);
                }
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let growth = self.course.growth().filter(|_| self.course.has_steps());
        Ok(match self.output {
            Output::Increase => ScalarValue::new_primitive::<C>(growth.map(|growth| growth.increase), &C::DATA_TYPE)?,
            Output::Rate => ScalarValue::Float64(growth.and_then(|growth| {
                let seconds = (growth.last.0 - growth.first.0) as f64 / 1e6;
                (seconds > 0.0).then(|| growth.increase.float() / seconds)
            })),
        })
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.course.size() + self.host.as_ref().map_or(0, String::capacity)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.course.write())), ScalarValue::Utf8(self.host.clone())])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [courses, hosts] = states else { return exec_err!("a course and a host, not {} columns", states.len()) };
        self.add_hosts(hosts.as_string())?;
        for course in courses.as_binary::<i32>().iter().flatten() {
            if self.course.read(course).is_none() {
                return exec_err!("the state of a counter's course is broken");
            }
        }
        Ok(())
    }
}
