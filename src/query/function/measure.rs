//! What the aggregates over counters share: their results, their rows, and their errors.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{ArrowPrimitiveType, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, exec_err};

use super::growth::Counter;
use super::instant;

/// What an aggregate computes from a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Output {
    /// Its total growth.
    Increase,
    /// Its growth per second.
    Rate,
    /// Its host and its course, for [`linked`](super::linked). Without `points`, only the two ends of it.
    Course { points: bool },
}

impl Output {
    /// The result for an increase over so many µs; `None` is null.
    pub(super) fn result<C: ArrowPrimitiveType<Native: Counter>>(
        self,
        increase: Option<(C::Native, i64)>,
    ) -> Result<ScalarValue> {
        Ok(match self {
            Output::Rate => ScalarValue::Float64(increase.and_then(|(increase, elapsed_us)| {
                let seconds = elapsed_us as f64 / 1e6;
                (seconds > 0.0).then(|| increase.float() / seconds)
            })),
            _ => ScalarValue::new_primitive::<C>(increase.map(|(increase, _)| increase), &C::DATA_TYPE)?,
        })
    }
}

/// The error for two values of a counter at one time.
pub(super) fn several_counters(time_us: i64, labels: &[String]) -> DataFusionError {
    let (time, way) = (moment(time_us), way(labels));
    exec_datafusion_err!("rows of several counters are not one counter: there are two values at {time}; {way}")
}

/// The error for two rows at one time where rows are of one series.
pub(super) fn several_series(time_us: i64, labels: &[String]) -> DataFusionError {
    let (time, way) = (moment(time_us), way(labels));
    exec_datafusion_err!("rows of several series are not one series: there are two rows at {time}; {way}")
}

fn moment(time_us: i64) -> String {
    instant::calendar(time_us).map_or_else(|| format!("{time_us} µs"), |time| time.to_string())
}

/// How to tell several series apart.
fn way(labels: &[String]) -> String {
    if labels.is_empty() {
        return "write GROUP BY with all columns that tell them apart".into();
    }
    format!("write GROUP BY {} (or PARTITION BY, in a window), or choose one with WHERE", labels.join(", "))
}

/// The error for rows that are not in the order that the plan expected.
pub(super) fn disorder() -> DataFusionError {
    exec_datafusion_err!("a file has rows that are not in the order of time; kymo verify says which")
}

/// Checks that rows are of the same host as those before.
pub(super) fn one_host(known: &mut Option<String>, host: &str) -> Result<()> {
    let known = known.get_or_insert_with(|| host.into());
    if known == host {
        return Ok(());
    }
    let [known, host] = [known.as_str(), host].map(literal);
    exec_err!(
        "a counter of host {known} and one of host {host} are not one counter; write GROUP BY host, for which subqueries have to \
         keep the column host, or WHERE host = {known} beside the table"
    )
}

/// A text as SQL writes it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Hands each row that has a counter and a time to `take`, and checks the hosts.
pub(super) fn rows<C: ArrowPrimitiveType<Native: Counter>>(
    columns: &[ArrayRef],
    host: &mut Option<String>,
    mut take: impl FnMut(i64, C::Native),
) -> Result<()> {
    let [values, times, hosts @ ..] = columns else {
        return exec_err!("a counter and its time, not {} columns", columns.len());
    };
    for hosts in hosts {
        hosts.as_string::<i32>().iter().flatten().try_for_each(|name| one_host(host, name))?;
    }
    let (values, times) = (values.as_primitive::<C>(), times.as_primitive::<TimestampMicrosecondType>());
    if values.null_count() == 0 && times.null_count() == 0 {
        for (time, value) in times.values().iter().zip(values.values()) {
            take(*time, *value);
        }
    } else {
        for (time, value) in times.iter().zip(values) {
            if let (Some(time), Some(value)) = (time, value) {
                take(time, value);
            }
        }
    }
    Ok(())
}

/// A host and a course in one value.
pub(super) fn told(host: Option<&str>, course: &[u8]) -> Vec<u8> {
    let host = host.unwrap_or_default().as_bytes();
    let length = u32::try_from(host.len()).unwrap_or_default();
    [&length.to_le_bytes(), &host[..length as usize], course].concat()
}

/// The host and the course of such a value; `None` if it is none.
pub(super) fn understood(told: &[u8]) -> Option<(Option<&str>, &[u8])> {
    let (length, rest) = told.split_first_chunk::<4>()?;
    let (host, course) = rest.split_at_checked(u32::from_le_bytes(*length).try_into().ok()?)?;
    let host = std::str::from_utf8(host).ok()?;
    Some((Some(host).filter(|host| !host.is_empty()), course))
}
