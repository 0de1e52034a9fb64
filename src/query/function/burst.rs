//! The SQL aggregates that find bursts and stalls: `peak_rate`, `time_above` and `longest_run`, and when those were.
//!
//! - `peak_rate(counter, time, interval)`: the greatest rate per second over any window of that length that lies between the
//!   first and the last row ([`peak`](super::peak)). `peak_rate_at` is when that window begins. Null if the rows span less.
//! - `time_above(condition, time)`: for how many seconds the condition held ([`held`](super::held)). `longest_run` is how many
//!   seconds its longest run lasted, and `longest_run_at` when that began. An interval as a third argument is how long a row says
//!   something at most: what is longer without a row is a gap, in which the condition is not taken to hold.
//!
//! As with `rate`, rows may come in any order and from any number of threads; rows without a time or counter are skipped; rows of
//! one group are of one host and one series, and two series are an error that names the labels to group by. A condition that is
//! null does not hold. Unlike stretches of `rate`, a group knows its own rows only, and nothing between it and the next group.
//!
//! A group keeps all its rows to the end, in a few bytes each.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Float64Type, Int64Type, IntervalUnit, TimeUnit};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err, not_impl_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::aggregate_doc_sections::DOC_SECTION_GENERAL;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, Signature, Volatility,
};
use datafusion::physical_expr::expressions::Literal;

use crate::record::TIME_ZONE;

use super::course::Course;
use super::growth::Counter;
use super::held::held;
use super::measure::{disorder, one_host, rows, several_counters, several_series};
use super::peak::{Unclear, peak};
use super::span::{SECOND_US, Span};

/// What an aggregate computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Burst {
    PeakRate,
    PeakRateAt,
    TimeAbove,
    LongestRun,
    LongestRunAt,
}

impl Burst {
    const ALL: [Burst; 5] =
        [Burst::PeakRate, Burst::PeakRateAt, Burst::TimeAbove, Burst::LongestRun, Burst::LongestRunAt];

    fn name(self) -> &'static str {
        match self {
            Burst::PeakRate => "peak_rate",
            Burst::PeakRateAt => "peak_rate_at",
            Burst::TimeAbove => "time_above",
            Burst::LongestRun => "longest_run",
            Burst::LongestRunAt => "longest_run_at",
        }
    }

    /// Whether it is of a counter, and not of a condition.
    pub(super) fn is_of_counter(self) -> bool {
        matches!(self, Burst::PeakRate | Burst::PeakRateAt)
    }

    fn usage(self) -> String {
        let name = self.name();
        if self.is_of_counter() {
            format!("{name}(counter, time, interval '100 ms')")
        } else {
            format!("{name}(condition, time), with the longest time between two rows as a third argument if you like")
        }
    }

    fn description(self) -> &'static str {
        match self {
            Burst::PeakRate => {
                "The greatest rate of a counter per second over any window of this length between the first and the last row. \
                 Between two rows it is taken to grow evenly."
            }
            Burst::PeakRateAt => "When the window of peak_rate begins, and the first one of several.",
            Burst::TimeAbove => "For how many seconds a condition held. Each row counts until the next one.",
            Burst::LongestRun => "For how many seconds a condition held without a break, at most.",
            Burst::LongestRunAt => {
                "When the longest run began in which a condition held, and the first one of several."
            }
        }
    }

    fn returns(self) -> DataType {
        match self {
            Burst::PeakRateAt | Burst::LongestRunAt => moment_type(),
            Burst::PeakRate | Burst::TimeAbove | Burst::LongestRun => DataType::Float64,
        }
    }
}

fn moment_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(TIME_ZONE.into()))
}

/// The aggregates, to be registered with a session.
pub(super) fn aggregates() -> [AggregateUDF; 5] {
    Burst::ALL.map(|burst| with_labels(burst, Vec::new()))
}

/// The names of the aggregates.
pub(in crate::query) fn names() -> [&'static str; 5] {
    Burst::ALL.map(Burst::name)
}

/// What a function computes, if it is one of these.
pub(super) fn burst_of(function: &AggregateUDF) -> Option<Burst> {
    function.inner().downcast_ref::<BurstAggregate>().map(|aggregate| aggregate.burst)
}

/// A function that computes this, and whose errors name the labels.
pub(super) fn with_labels(burst: Burst, labels: Vec<String>) -> AggregateUDF {
    let documentation = Documentation::builder(DOC_SECTION_GENERAL, burst.description(), burst.usage()).build();
    BurstAggregate { burst, labels, documentation, signature: Signature::user_defined(Volatility::Immutable) }.into()
}

/// The arguments in front of the host, if a function is one of these: all three, of which a statement may leave out the last.
///
/// # Errors
/// When they are too few or too many.
pub(in crate::query) fn arguments(function: &AggregateUDF, written: &[Expr]) -> Option<Result<Vec<Expr>>> {
    let burst = burst_of(function)?;
    let mut arguments = written.to_vec();
    let expected = if burst.is_of_counter() { 3..=3 } else { 2..=3 };
    if !expected.contains(&arguments.len()) {
        return Some(Err(wrong_arguments(burst)));
    }
    if arguments.len() == 2 {
        arguments.push(Expr::Literal(ScalarValue::IntervalMonthDayNano(None), None));
    }
    Some(Ok(arguments))
}

fn wrong_arguments(burst: Burst) -> DataFusionError {
    plan_datafusion_err!("{} takes other arguments: write {}", burst.name(), burst.usage())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BurstAggregate {
    burst: Burst,
    /// By which the rows of a group may still differ.
    labels: Vec<String>,
    documentation: Documentation,
    signature: Signature,
}

impl BurstAggregate {
    fn accumulator_of<C>(&self, width_us: Option<i64>) -> Box<dyn Accumulator>
    where
        C: ArrowPrimitiveType<Native: Counter> + Debug,
    {
        let (burst, labels) = (self.burst, self.labels.clone());
        Box::new(BurstAccumulator::<C> { burst, labels, width_us, course: Course::default(), host: None })
    }
}

/// The length of time that a constant is.
fn length_us(burst: Burst, constant: Option<&ScalarValue>) -> Result<Option<i64>> {
    let length = match constant {
        Some(ScalarValue::IntervalMonthDayNano(Some(interval))) => Span::of_interval(*interval).length_us(),
        Some(ScalarValue::Utf8(Some(text))) => match Span::parse(text) {
            Some(span) => span.length_us(),
            None => {
                return plan_err!("{}: '{text}' is no length of time; write interval '100 ms'", burst.name());
            }
        },
        Some(ScalarValue::IntervalMonthDayNano(None)) if !burst.is_of_counter() => return Ok(None),
        _ => return plan_err!("{}: the interval must be a constant; write {}", burst.name(), burst.usage()),
    };
    match length.filter(|length| *length > 0) {
        Some(length) => Ok(Some(length)),
        None => plan_err!("{}: the interval must be at least a microsecond long", burst.name()),
    }
}

impl AggregateUDFImpl for BurstAggregate {
    fn name(&self) -> &'static str {
        self.burst.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        let ([of, time, rest @ ..], 0..=2) = (types, types.len().saturating_sub(2)) else {
            return Err(wrong_arguments(self.burst));
        };
        let of = match of {
            boolean if !self.burst.is_of_counter() => match boolean {
                DataType::Boolean | DataType::Null => DataType::Boolean,
                other => {
                    return plan_err!(
                        "{name}(condition, time): the condition must be true or false, not {other}: write {name}(x > 5, time)"
                    );
                }
            },
            integer if integer.is_integer() || integer.is_null() => DataType::Int64,
            number if number.is_numeric() => DataType::Float64,
            other => return plan_err!("{name}: the counter must be a number, not {other}"),
        };
        if !matches!(time, DataType::Timestamp(..)) {
            return plan_err!("{name}: the time must be a timestamp, not {time}; write {}", self.burst.usage());
        }
        let mut coerced = vec![of, moment_type()];
        if let [width, hosts @ ..] = rest {
            coerced.push(match width {
                DataType::Interval(_) | DataType::Duration(_) | DataType::Null => {
                    DataType::Interval(IntervalUnit::MonthDayNano)
                }
                text if text.is_string() => DataType::Utf8,
                other => {
                    return plan_err!(
                        "{name}: the interval must be a length of time, not {other}: write interval '100 ms'"
                    );
                }
            });
            // A statement does not write it.
            coerced.extend(hosts.iter().map(|_| DataType::Utf8));
        } else if self.burst.is_of_counter() {
            return Err(wrong_arguments(self.burst));
        }
        Ok(coerced)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.burst.returns())
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return not_impl_err!("{}(DISTINCT …) is refused: rows may have equal values", self.name());
        }
        let third = args.exprs.get(2).map(|expr| expr.downcast_ref::<Literal>().map(Literal::value));
        let width_us = match third {
            None => None,
            Some(constant) => length_us(self.burst, constant)?,
        };
        match args.expr_fields.first().map(|field| field.data_type()) {
            Some(DataType::Int64 | DataType::Boolean) => Ok(self.accumulator_of::<Int64Type>(width_us)),
            Some(DataType::Float64) => Ok(self.accumulator_of::<Float64Type>(width_us)),
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

/// The rows of one group seen so far. A condition is 1 where it holds.
#[derive(Debug)]
struct BurstAccumulator<C: ArrowPrimitiveType> {
    burst: Burst,
    labels: Vec<String>,
    /// The length of windows, or how long a row says something.
    width_us: Option<i64>,
    course: Course<C::Native>,
    host: Option<String>,
}

impl<C: ArrowPrimitiveType<Native: Counter> + Debug> Accumulator for BurstAccumulator<C> {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let [of, time, rest @ ..] = columns else { return exec_err!("{} columns", columns.len()) };
        let mut used = vec![Arc::clone(of), Arc::clone(time)];
        if let Some(conditions) = of.as_boolean_opt() {
            used[0] = Arc::new(conditions.iter().map(|holds| i64::from(holds == Some(true))).collect::<Int64Array>());
        }
        used.extend(rest.iter().skip(1).map(Arc::clone));
        rows::<C>(&used, &mut self.host, |time, value| self.course.push(time, value))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let unclear = |unclear| match unclear {
            Unclear::Clash(time) if self.burst.is_of_counter() => several_counters(time, &self.labels),
            Unclear::Clash(time) => several_series(time, &self.labels),
            Unclear::Disorder => disorder(),
        };
        if self.burst.is_of_counter() {
            let width_us = self.width_us.unwrap_or(SECOND_US);
            let peak = peak(&self.course.sorted(), width_us).map_err(unclear)?;
            return Ok(match self.burst {
                Burst::PeakRateAt => moment(peak.map(|peak| peak.start_us)),
                _ => ScalarValue::Float64(peak.map(|peak| peak.growth * SECOND_US as f64 / width_us as f64)),
            });
        }
        let held = held(&self.course.sorted(), self.width_us, !self.labels.is_empty()).map_err(unclear)?;
        let seconds = |us: i64| us as f64 / SECOND_US as f64;
        Ok(match self.burst {
            Burst::LongestRunAt => moment(held.and_then(|held| Some(held.longest?.start_us))),
            Burst::LongestRun => {
                ScalarValue::Float64(held.map(|held| seconds(held.longest.map_or(0, |longest| longest.length_us))))
            }
            _ => ScalarValue::Float64(held.map(|held| seconds(held.total_us))),
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
        hosts.as_string::<i32>().iter().flatten().try_for_each(|host| one_host(&mut self.host, host))?;
        for course in courses.as_binary::<i32>().iter().flatten() {
            self.course.read(course).map_err(|error| DataFusionError::External(error.into()))?;
        }
        Ok(())
    }
}

fn moment(us: Option<i64>) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(us, Some(TIME_ZONE.into()))
}
