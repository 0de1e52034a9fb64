//! The SQL aggregates that know counters: `increase(counter, time)` and `rate(counter, time)`.
//!
//! A counter only grows, but for resets: when its value goes down, it started again at zero, and the value after
//! the reset is what it counted since. `increase` is the sum of all steps in the order of time, `rate` is that per
//! second between the first and the last row. Unlike Prometheus' functions of these names they do not extrapolate
//! beyond the rows they see.
//!
//! - Rows may come in any order and from any number of threads; rows of equal time are taken in the order of values.
//! - Rows whose counter or time is null, or whose counter is NaN, are skipped.
//! - With fewer than two rows the result is null; so is a rate over no time.
//! - `increase` of integers is an integer, of floats a float; `rate` is a float.
//!
//! Each row takes 16 bytes until its group is done, because a row that comes later may lie between any two.

use std::cmp::Ordering;
use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, ListArray, PrimitiveArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_err, not_impl_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use crate::record::TIME_ZONE;

/// The aggregates, to be registered with a session.
pub(super) fn aggregates() -> [AggregateUDF; 2] {
    [
        AggregateUDF::new_from_impl(CounterAggregate::new(Output::Increase)),
        AggregateUDF::new_from_impl(CounterAggregate::new(Output::Rate)),
    ]
}

/// What an aggregate tells of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Output {
    /// How much it grew.
    Increase,
    /// How much it grew a second.
    Rate,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CounterAggregate {
    output: Output,
    signature: Signature,
}

impl CounterAggregate {
    fn new(output: Output) -> CounterAggregate {
        CounterAggregate { output, signature: Signature::user_defined(Volatility::Immutable) }
    }
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
        let [counter, time] = types else {
            return plan_err!("{name} takes two arguments, {name}(counter, time), not {}", types.len());
        };
        let counter = match counter {
            integer if integer.is_integer() => DataType::Int64,
            DataType::Null => DataType::Int64,
            number if number.is_numeric() => DataType::Float64,
            other => return plan_err!("{name}(counter, time) takes a number as its counter, not {other}"),
        };
        match time {
            DataType::Timestamp(..) => {}
            other => return plan_err!("{name}(counter, time) takes a timestamp as its time, not {other}"),
        }
        Ok(vec![counter, DataType::Timestamp(TimeUnit::Microsecond, Some(TIME_ZONE.into()))])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(match (self.output, types.first()) {
            (Output::Increase, Some(DataType::Int64)) => DataType::Int64,
            _ => DataType::Float64,
        })
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return not_impl_err!("{}(DISTINCT …): equal values are part of a counter's course", self.name());
        }
        match args.expr_fields.first().map(|field| field.data_type()) {
            Some(DataType::Int64) => Ok(Box::new(Course::<Int64Type>::new(self.output))),
            Some(DataType::Float64) => Ok(Box::new(Course::<Float64Type>::new(self.output))),
            other => exec_err!("{} over {other:?}", self.name()),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let counter = args.input_fields.first().map_or(DataType::Float64, |field| field.data_type().clone());
        let list = |part, ty| Arc::new(Field::new(format_state_name(args.name, part), list_of(ty), true));
        Ok(vec![list("times", DataType::Int64), list("values", counter)])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

/// A type of counters.
trait Counter: ArrowPrimitiveType + Debug {
    /// Whether it is a value at all.
    fn is_value(value: Self::Native) -> bool;
    fn order(a: Self::Native, b: Self::Native) -> Ordering;
    /// How much a counter grew from `before` to `after`.
    fn step(before: Self::Native, after: Self::Native) -> Self::Native;
    fn sum(steps: impl Iterator<Item = Self::Native>) -> Self::Native;
    fn scalar(value: Option<Self::Native>) -> ScalarValue;
    fn float(value: Self::Native) -> f64;
}

impl Counter for Int64Type {
    fn is_value(_: i64) -> bool {
        true
    }

    fn order(a: i64, b: i64) -> Ordering {
        a.cmp(&b)
    }

    fn step(before: i64, after: i64) -> i64 {
        // Saturation is for values that are no counters: a real one never covers half of the integers in a step.
        if after >= before { after.saturating_sub(before) } else { after.max(0) }
    }

    fn sum(steps: impl Iterator<Item = i64>) -> i64 {
        steps.fold(0, i64::saturating_add)
    }

    fn scalar(value: Option<i64>) -> ScalarValue {
        ScalarValue::Int64(value)
    }

    fn float(value: i64) -> f64 {
        value as f64
    }
}

impl Counter for Float64Type {
    fn is_value(value: f64) -> bool {
        !value.is_nan()
    }

    fn order(a: f64, b: f64) -> Ordering {
        a.total_cmp(&b)
    }

    fn step(before: f64, after: f64) -> f64 {
        if after >= before { after - before } else { after.max(0.0) }
    }

    fn sum(steps: impl Iterator<Item = f64>) -> f64 {
        steps.sum()
    }

    fn scalar(value: Option<f64>) -> ScalarValue {
        ScalarValue::Float64(value)
    }

    fn float(value: f64) -> f64 {
        value
    }
}

/// The rows of one counter seen so far.
#[derive(Debug)]
struct Course<C: Counter> {
    output: Output,
    /// Times (µs) and values, in the order they came.
    points: Vec<(i64, C::Native)>,
}

impl<C: Counter> Course<C> {
    fn new(output: Output) -> Course<C> {
        Course { output, points: Vec::new() }
    }

    fn extend(&mut self, times: &[i64], values: &PrimitiveArray<C>, times_present: Option<&arrow::buffer::NullBuffer>) {
        let present = |row: usize| {
            times_present.is_none_or(|nulls| nulls.is_valid(row))
                && values.is_valid(row)
                && C::is_value(values.value(row))
        };
        if times_present.is_none_or(|nulls| nulls.null_count() == 0) && values.null_count() == 0 {
            let points = times.iter().copied().zip(values.values().iter().copied());
            self.points.extend(points.filter(|(_, value)| C::is_value(*value)));
        } else {
            let rows = (0..times.len()).filter(|row| present(*row));
            self.points.extend(rows.map(|row| (times[row], values.value(row))));
        }
    }

    /// Brings the points into order; the sort is fast where they are so already, as a whole or in runs.
    fn sort(&mut self) {
        self.points.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| C::order(a.1, b.1)));
    }

    fn increase(&self) -> C::Native {
        C::sum(self.points.windows(2).map(|pair| C::step(pair[0].1, pair[1].1)))
    }
}

impl<C: Counter> Accumulator for Course<C> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [counter, time] = values else { return exec_err!("a counter and its time, not {} columns", values.len()) };
        let times = time.as_primitive::<TimestampMicrosecondType>();
        self.extend(times.values(), counter.as_primitive::<C>(), times.nulls());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.sort();
        let (Some((from, _)), Some((to, _)), true) = (self.points.first(), self.points.last(), self.points.len() > 1)
        else {
            return Ok(match self.output {
                Output::Increase => C::scalar(None),
                Output::Rate => ScalarValue::Float64(None),
            });
        };
        let increase = self.increase();
        Ok(match self.output {
            Output::Increase => C::scalar(Some(increase)),
            Output::Rate => {
                let seconds = (to - from) as f64 / 1e6;
                ScalarValue::Float64((seconds > 0.0).then(|| C::float(increase) / seconds))
            }
        })
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.points.capacity() * size_of::<(i64, C::Native)>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let points = std::mem::take(&mut self.points);
        let times: PrimitiveArray<Int64Type> = points.iter().map(|(time, _)| *time).collect();
        let values = PrimitiveArray::<C>::from_iter_values(points.iter().map(|(_, value)| *value));
        Ok(vec![list(Arc::new(times)), list(Arc::new(values))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [times, values] = states else { return exec_err!("times and values, not {} states", states.len()) };
        let rows = times.as_list::<i32>().iter().zip(values.as_list::<i32>().iter());
        for (times, values) in rows {
            if let (Some(times), Some(values)) = (times, values) {
                self.extend(times.as_primitive::<Int64Type>().values(), values.as_primitive::<C>(), None);
            }
        }
        Ok(())
    }
}

/// One list of all `items`.
fn list(items: ArrayRef) -> ScalarValue {
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths([items.len()]);
    ScalarValue::List(Arc::new(ListArray::new(field, offsets, items, None)))
}
