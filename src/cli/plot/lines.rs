//! Lines of the rows of a query: by the first column of times, a line for each column of numbers and each text.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use arrow::array::{Array, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit};

use super::axis::Measure;
use crate::words::list;

/// Lines that are drawn.
pub(super) const LINES_MAX: usize = 7;
/// More lines than this are an error.
const FOUND_MAX: usize = 1_000;
/// Rows of a query.
const ROWS_MAX: usize = 2_000_000;
/// Two points that are so many times as far apart as most have a gap between them.
const GAP_STEPS: i64 = 3;
/// Columns beside the least, greatest and mean value of a stretch of time that are not drawn.
const BESIDE: [&str; 4] = ["count", "first", "last", "missed"];
/// A text column that says what rows were made of, and not what they are of.
const TIER: &str = "tier";

/// A point of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) us: i64,
    /// NaN where there is no value, which is a gap.
    pub(super) value: f64,
    /// The least and greatest value of its stretch of time.
    pub(super) band: Option<(f64, f64)>,
}

/// A line, in the order of time.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<Point>,
}

/// All lines, and what they are.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) drawn: Vec<Line>,
    /// Those that are left out, as there are too many.
    pub(super) left_out: usize,
    pub(super) measure: Measure,
}

/// A column of numbers, or several that belong together.
#[derive(Clone, Debug, PartialEq)]
struct Figure {
    name: String,
    value: Option<usize>,
    band: Option<(usize, usize)>,
}

/// The rows of a query, as they come.
#[derive(Debug)]
pub(super) struct Reading {
    time: usize,
    texts: Vec<usize>,
    figures: Vec<Figure>,
    measure: Measure,
    /// By the texts and the number of the figure.
    found: BTreeMap<(Vec<String>, usize), Vec<Point>>,
    rows: usize,
}

impl Reading {
    /// Chooses among the columns of a query.
    ///
    /// # Errors
    /// When it has no times or no numbers.
    pub(super) fn new(schema: &Schema) -> anyhow::Result<Reading> {
        let columns = || schema.fields().iter().map(|field| field.name().as_str());
        let find = |is: fn(&DataType) -> bool| schema.fields().iter().position(|field| is(field.data_type()));
        let Some(time) = find(|ty| matches!(ty, DataType::Timestamp(..))) else {
            bail!(
                "the query has no column of times to draw along, only {}: begin with SELECT time, …",
                list(columns())
            );
        };
        let is_text =
            |field: &Field| matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8) && field.name() != TIER;
        let texts = (0..).zip(schema.fields()).filter(|(_, field)| is_text(field)).map(|(at, _)| at).collect();
        let figures = figures(schema);
        if figures.is_empty() {
            bail!("the query has no column of numbers to draw, only {}: SELECT one beside the time", list(columns()));
        }
        let mut measures = figures.iter().map(|figure| measure(schema, figure));
        let first = measures.next().unwrap_or_default();
        let measure = if measures.all(|measure| measure == first) { first } else { Measure::Number };
        Ok(Reading { time, texts, figures, measure, found: BTreeMap::new(), rows: 0 })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// When there are too many rows or lines.
    pub(super) fn take(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        self.rows += batch.num_rows();
        if self.rows > ROWS_MAX {
            bail!(
                "the query has more than {ROWS_MAX} rows; reduce them in FROM: downsample('network', 'rx_bytes', from, to, 1000)"
            );
        }
        let micros = cast(batch.column(self.time), &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        let times: Int64Array = cast(&micros, &DataType::Int64)?.as_primitive::<Int64Type>().clone();
        let text = |at: &usize| -> anyhow::Result<StringArray> {
            Ok(cast(batch.column(*at), &DataType::Utf8)?.as_string::<i32>().clone())
        };
        let texts: Vec<StringArray> = self.texts.iter().map(text).collect::<anyhow::Result<_>>()?;
        let column = |at: usize| -> anyhow::Result<Float64Array> {
            Ok(cast(batch.column(at), &DataType::Float64)?.as_primitive::<Float64Type>().clone())
        };
        let float = |column: &Float64Array, row: usize| if column.is_valid(row) { column.value(row) } else { f64::NAN };
        for (number, figure) in self.figures.iter().enumerate() {
            let value = figure.value.map(column).transpose()?;
            let band = figure.band.map(|(low, high)| anyhow::Ok((column(low)?, column(high)?))).transpose()?;
            for row in (0..batch.num_rows()).filter(|row| times.is_valid(*row)) {
                let key = texts
                    .iter()
                    .map(|text| if text.is_valid(row) { text.value(row).to_owned() } else { String::new() });
                let key = (key.collect::<Vec<String>>(), number);
                if self.found.len() == FOUND_MAX && !self.found.contains_key(&key) {
                    bail!(
                        "the query has more than {FOUND_MAX} lines: choose some with WHERE, or GROUP BY fewer columns"
                    );
                }
                let band = band.as_ref().map(|(low, high)| (float(low, row), float(high, row)));
                let value = match (&value, band) {
                    (Some(value), _) => float(value, row),
                    (None, Some((low, high))) => f64::midpoint(low, high),
                    (None, None) => f64::NAN,
                };
                let band = band.filter(|(low, high)| low.is_finite() && high.is_finite());
                self.found.entry(key).or_default().push(Point { us: times.value(row), value, band });
            }
        }
        Ok(())
    }

    /// The lines: those with the greatest values, if there are more than can be told apart.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn finish(self) -> anyhow::Result<Lines> {
        let has_value = |points: &Vec<Point>| points.iter().any(|point| point.value.is_finite());
        let found: Vec<_> = self.found.into_iter().filter(|(_, points)| has_value(points)).collect();
        if found.is_empty() {
            bail!("the query has no rows with a time and a number: nothing can be drawn");
        }
        let values = |at: usize| found.iter().map(|((texts, _), _)| &texts[at]).collect::<BTreeSet<_>>().len();
        let telling: Vec<usize> = (0..self.texts.len()).filter(|at| values(*at) > 1).collect();
        let has_figures = found.iter().map(|((_, number), _)| number).collect::<BTreeSet<_>>().len() > 1;
        let mut lines: Vec<Line> = found
            .into_iter()
            .map(|((texts, number), mut points)| {
                let texts = telling.iter().map(|at| texts[*at].as_str());
                let figure = (has_figures || telling.is_empty()).then_some(self.figures[number].name.as_str());
                points.sort_by_key(|point| point.us);
                Line { name: texts.chain(figure).collect::<Vec<_>>().join(" "), points: with_gaps(points) }
            })
            .collect();
        if let Some(line) = lines.iter().find(|line| is_of_several(&line.points)) {
            bail!(
                "{} has several values at most of its times, as of several things: select the column that tells them apart, such as \
                 interface, or group by the time",
                line.name
            );
        }
        let left_out = lines.len().saturating_sub(LINES_MAX);
        if left_out > 0 {
            lines.sort_by(|one, other| greatest(other).total_cmp(&greatest(one)));
            lines.truncate(LINES_MAX);
            lines.sort_by(|one, other| one.name.cmp(&other.name));
        }
        Ok(Lines { drawn: lines, left_out, measure: self.measure })
    }
}

/// Whether points are of several things: half of them have the time of another one. A few do where a clock was set back.
fn is_of_several(points: &[Point]) -> bool {
    points.windows(2).filter(|pair| pair[0].us == pair[1].us).count() * 2 >= points.len()
}

/// The columns that are drawn: the least and greatest value of stretches of time with their mean, or each number by itself.
fn figures(schema: &Schema) -> Vec<Figure> {
    let numbers: Vec<(usize, &str)> = (0..)
        .zip(schema.fields())
        .filter(|(_, field)| field.data_type().is_numeric())
        .map(|(at, field)| (at, field.name().as_str()))
        .collect();
    let find = |name: &str| numbers.iter().find(|(_, known)| *known == name).map(|(at, _)| *at);
    let banded: Vec<(&str, Figure)> = numbers
        .iter()
        .filter_map(|(low, name)| {
            let of = name.strip_suffix("min").filter(|of| of.is_empty() || of.ends_with('_'))?;
            let high = find(&format!("{of}max"))?;
            let value = find(&format!("{of}mean"))
                .or_else(|| find(&format!("{of}avg")))
                .or_else(|| find(of.trim_end_matches('_')));
            let name = if of.is_empty() { "mean" } else { of.trim_end_matches('_') };
            Some((of, Figure { name: name.to_owned(), value, band: Some((*low, high)) }))
        })
        .collect();
    let taken: BTreeSet<usize> = banded
        .iter()
        .flat_map(|(_, figure)| {
            let (low, high) = figure.band.unwrap_or_default();
            [Some(low), Some(high), figure.value].into_iter().flatten()
        })
        .collect();
    let is_beside = |name: &str| {
        banded
            .iter()
            .any(|(of, _)| name.strip_prefix(*of).is_some_and(|rest| BESIDE.contains(&rest)) || name == "missed")
    };
    let alone = numbers.iter().filter(|(at, name)| !taken.contains(at) && !is_beside(name));
    let alone = alone.map(|(at, name)| Figure { name: (*name).to_owned(), value: Some(*at), band: None });
    banded.iter().map(|(_, figure)| figure.clone()).chain(alone).collect()
}

/// What a figure is, by the unit of its column, or by its name.
fn measure(schema: &Schema, figure: &Figure) -> Measure {
    let Some(at) = figure.value.or(figure.band.map(|(low, _)| low)) else { return Measure::default() };
    let field = schema.field(at);
    field.metadata().get("kymo.unit").map_or_else(|| Measure::of_name(&figure.name), |unit| Measure::of_unit(unit))
}

fn greatest(line: &Line) -> f64 {
    let values = line.points.iter().map(|point| point.band.map_or(point.value, |(_, high)| high));
    values.filter(|value| value.is_finite()).fold(f64::NEG_INFINITY, f64::max)
}

/// Puts a point without a value wherever rows are missing.
fn with_gaps(points: Vec<Point>) -> Vec<Point> {
    let mut steps: Vec<i64> = points.windows(2).map(|pair| pair[1].us - pair[0].us).collect();
    steps.sort_unstable();
    let Some(usual) = steps.get(steps.len() / 2).copied() else { return points };
    let mut with = Vec::with_capacity(points.len());
    for point in points {
        if let Some(before) = with.last().map(|before: &Point| before.us)
            && point.us - before > GAP_STEPS * usual.max(1)
        {
            with.push(Point { us: before + usual, value: f64::NAN, band: None });
        }
        with.push(point);
    }
    with
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, TimestampMicrosecondArray};

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
            .unwrap()
    }

    fn times(us: &[i64]) -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(us.to_vec()))
    }

    fn floats(values: &[f64]) -> ArrayRef {
        Arc::new(Float64Array::from(values.to_vec()))
    }

    fn read(batch: &RecordBatch) -> anyhow::Result<Lines> {
        let mut reading = Reading::new(&batch.schema())?;
        reading.take(batch)?;
        reading.finish()
    }

    fn names(lines: &Lines) -> Vec<&str> {
        lines.drawn.iter().map(|line| line.name.as_str()).collect()
    }

    #[test]
    fn texts_and_numbers_make_lines() {
        let texts = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let rows = batch(vec![
            ("time", times(&[2, 1, 1, 2])),
            ("interface", texts(&["lo", "lo", "eth0", "eth0"])),
            ("host", texts(&["a", "a", "a", "a"])),
            ("rx_bytes", floats(&[4.0, 3.0, 1.0, 2.0])),
        ]);
        let lines = read(&rows).unwrap();
        assert_eq!((names(&lines), &lines.measure), (vec!["eth0", "lo"], &Measure::Bytes));
        let values: Vec<f64> = lines.drawn[1].points.iter().map(|point| point.value).collect();
        assert_eq!(values, [3.0, 4.0], "in the order of time");
        let rows = batch(vec![("time", times(&[1])), ("a", floats(&[1.0])), ("b", floats(&[2.0]))]);
        assert_eq!(names(&read(&rows).unwrap()), ["a", "b"]);
    }

    #[test]
    fn the_least_and_greatest_value_make_a_band() {
        let columns = ["min", "max", "mean", "first", "last", "count", "missed"];
        let columns = columns.iter().zip(1..).map(|(name, value): (_, i32)| (*name, floats(&[value.into()])));
        let lines = read(&batch([("time", times(&[1]))].into_iter().chain(columns).collect())).unwrap();
        assert_eq!(names(&lines), ["mean"]);
        assert_eq!(lines.drawn[0].points, [Point { us: 1, value: 3.0, band: Some((1.0, 2.0)) }]);
        let columns = ["rx_bytes_min", "rx_bytes_max", "rx_bytes_mean", "rx_bytes_count", "other"];
        let columns = columns.iter().map(|name| (*name, floats(&[1.0])));
        let lines = read(&batch([("time", times(&[1]))].into_iter().chain(columns).collect())).unwrap();
        assert_eq!(names(&lines), ["rx_bytes", "other"]);
    }

    #[test]
    fn missing_rows_are_gaps() {
        let rows = batch(vec![("time", times(&[10, 20, 30, 90, 100])), ("value", floats(&[1.0; 5]))]);
        let lines = read(&rows).unwrap();
        let gaps: Vec<i64> =
            lines.drawn[0].points.iter().filter(|point| point.value.is_nan()).map(|point| point.us).collect();
        assert_eq!(gaps, [40]);
    }

    #[test]
    fn of_many_lines_the_greatest_are_drawn() {
        let names_of: Vec<String> = (0..10).map(|at| format!("line{at}")).collect();
        let values: Vec<f64> = (0..10).map(f64::from).collect();
        let texts: ArrayRef = Arc::new(StringArray::from(names_of));
        let lines = read(&batch(vec![("time", times(&[1; 10])), ("name", texts), ("value", floats(&values))])).unwrap();
        assert_eq!((lines.left_out, names(&lines)[0], lines.drawn.len()), (3, "line3", 7));
    }

    #[test]
    fn what_cannot_be_drawn_is_told() {
        let wrong = |columns| read(&batch(columns)).unwrap_err().to_string();
        assert!(wrong(vec![("value", floats(&[1.0]))]).starts_with("the query has no column of times"));
        assert!(wrong(vec![("time", times(&[1]))]).starts_with("the query has no column of numbers"));
        assert!(wrong(vec![("time", times(&[])), ("value", floats(&[]))]).starts_with("the query has no rows"));
    }
}
