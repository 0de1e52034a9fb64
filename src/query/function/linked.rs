//! The step into a stretch of time: from the last row of the stretch before to the first row of this one.
//!
//! A group sees its own rows only. Where groups are stretches of time, such as those of `date_bin`, the steps between them
//! would belong to none, and the increases would not add up to the whole. So each group gives its [`Course`], and this window
//! function sees those of all stretches of a series. There are as many as groups, so it costs little. A stretch need not be in
//! one piece (`extract(minute FROM time)`): then all points are merged, and a step belongs to the stretch of its later point.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{LimitEffect, PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};
use datafusion::physical_plan::PhysicalExpr;

use super::course::Course;
use super::growth::{Counter, Growth, Point, add, clash, order, step};
use super::measure::{Output, disorder, one_host, several_counters, understood};
use super::run::Disorder;

/// The window function that makes this of a column of courses. `float` if the counter is of floats.
pub(super) fn function(output: Output, float: bool, labels: Vec<String>) -> WindowUDF {
    let signature = Signature::exact(vec![DataType::Binary], Volatility::Immutable);
    WindowUDF::new_from_impl(Linked { output, float, labels, signature })
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Linked {
    output: Output,
    float: bool,
    labels: Vec<String>,
    signature: Signature,
}

impl WindowUDFImpl for Linked {
    fn name(&self) -> &'static str {
        match self.output {
            Output::Rate => "linked_rate",
            _ => "linked_increase",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs<'_>) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(self.clone()))
    }

    fn field(&self, args: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        let float = self.float || self.output == Output::Rate;
        let data_type = if float { DataType::Float64 } else { DataType::Int64 };
        Ok(Arc::new(Field::new(args.name(), data_type, true)))
    }

    fn limit_effect(&self, _: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
}

impl PartitionEvaluator for Linked {
    fn evaluate_all(&mut self, values: &[ArrayRef], _: usize) -> Result<ArrayRef> {
        let [told] = values else { return exec_err!("one column of courses, not {}", values.len()) };
        if self.float { self.link::<Float64Type>(told) } else { self.link::<Int64Type>(told) }
    }
}

impl Linked {
    fn link<C: ArrowPrimitiveType<Native: Counter>>(&self, told: &ArrayRef) -> Result<ArrayRef> {
        let mut host = None;
        let mut courses: Vec<Option<Course<C::Native>>> = Vec::with_capacity(told.len());
        for told in told.as_binary::<i32>() {
            let Some(told) = told else {
                courses.push(None);
                continue;
            };
            let broken = || exec_datafusion_err!("the course of a counter is broken");
            let (name, bytes) = understood(told).ok_or_else(broken)?;
            name.iter().try_for_each(|name| one_host(&mut host, name))?;
            let mut course = Course::default();
            course.read(bytes).map_err(|error| DataFusionError::External(error.into()))?;
            courses.push(Some(course));
        }
        let steps = link(&mut courses).map_err(|error| match error {
            Unlinked::Clash(time) => several_counters(time, &self.labels),
            Unlinked::Disorder => disorder(),
        })?;
        ScalarValue::iter_to_array(
            steps.into_iter().map(|step| self.output.result::<C>(step)).collect::<Result<Vec<_>>>()?,
        )
    }
}

/// How much a course grew and over how many µs, if it has a step.
type Step<C> = Option<(C, i64)>;

/// Why courses cannot be linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unlinked {
    /// There are two values at this time.
    Clash(i64),
    Disorder,
}

impl From<Disorder> for Unlinked {
    fn from(_: Disorder) -> Unlinked {
        Unlinked::Disorder
    }
}

/// What each course grew, with the step into it, and over how many µs; `None` for one without a step.
fn link<C: Counter>(courses: &mut [Option<Course<C>>]) -> Result<Vec<Step<C>>, Unlinked> {
    let mut grown: Vec<(usize, Growth<C>)> = Vec::with_capacity(courses.len());
    for (row, course) in courses.iter_mut().enumerate() {
        if let Some(course) = course {
            grown.extend(course.growth()?.map(|growth| (row, growth)));
        }
    }
    grown.sort_by(|(_, a), (_, b)| a.by_time(b));
    if grown.windows(2).any(|pair| pair[0].1.overlaps(&pair[1].1)) {
        return merge(courses);
    }
    let mut steps = vec![None; courses.len()];
    let mut before: Option<Growth<C>> = None;
    for (row, growth) in grown {
        if let Some(time) = growth.clash {
            return Err(Unlinked::Clash(time));
        }
        let from = before.map_or(growth.first, |before| before.last);
        if let Some(time) = before.and_then(|before| clash(before.last, growth.first)) {
            return Err(Unlinked::Clash(time));
        }
        if before.is_some() || growth.count > 1 {
            steps[row] = Some((add(step(from.1, growth.first.1), growth.increase), growth.last.0 - from.0));
        }
        before = Some(growth);
    }
    Ok(steps)
}

/// The same for courses that overlap.
fn merge<C: Counter>(courses: &mut [Option<Course<C>>]) -> Result<Vec<Step<C>>, Unlinked> {
    let mut points: Vec<(Point<C>, usize)> = Vec::new();
    for (row, course) in courses.iter_mut().enumerate() {
        for point in course.iter_mut().flat_map(|course| course.sorted().points()) {
            points.push((point?, row));
        }
    }
    points.sort_by(|(a, _), (b, _)| order(*a, *b));
    let mut steps: Vec<Step<C>> = vec![None; courses.len()];
    for pair in points.windows(2) {
        let ((before, _), (after, row)) = (pair[0], pair[1]);
        if let Some(time) = clash(before, after) {
            return Err(Unlinked::Clash(time));
        }
        let (increase, elapsed) = steps[row].unwrap_or((C::ZERO, 0));
        steps[row] = Some((add(increase, step(before.1, after.1)), elapsed + (after.0 - before.0)));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the groups, in one piece or not, and with all points or their ends only.
        #[test]
        fn the_increases_of_all_groups_add_up_to_the_whole(
            steps in prop::collection::vec((1..9_i64, 0..50_i64, prop::bool::weighted(0.1)), 1..60),
            width in 1..40_i64,
            turn in 1..5_i64,
            shuffle in prop::bool::ANY,
        ) {
            let (mut time, mut value) = (0, 0);
            let points: Vec<(i64, i64)> = steps.iter().map(|(later, more, reset)| {
                time += later;
                value = if *reset { *more } else { value + more };
                (time, value)
            }).collect();
            let group = |time: i64| usize::try_from(if shuffle { time / width % turn } else { time / width }).unwrap();
            let groups = points.iter().map(|(time, _)| group(*time) + 1).max().unwrap();
            let mut courses: Vec<Option<Course<i64>>> = (0..groups).map(|_| None).collect();
            for (time, value) in &points {
                courses[group(*time)].get_or_insert_with(Course::default).push(*time, *value);
            }
            let mut sent: Vec<Option<Course<i64>>> = courses.into_iter().map(|course| course.map(|mut course| {
                let mut received = Course::default();
                let bytes = if shuffle { course.write() } else { course.write_ends().unwrap().unwrap() };
                received.read(&bytes).unwrap();
                received
            })).collect();
            let steps = link(&mut sent).unwrap();
            let whole = Growth::of(&points).unwrap();
            prop_assert_eq!(steps.iter().flatten().map(|(increase, _)| increase).sum::<i64>(), whole.increase);
            let elapsed: i64 = steps.iter().flatten().map(|(_, elapsed)| elapsed).sum();
            prop_assert_eq!(elapsed, whole.last.0 - whole.first.0);
        }
    }

    #[test]
    fn two_values_at_one_time_are_told() {
        let course = |points: &[(i64, i64)]| {
            let mut course = Course::default();
            points.iter().for_each(|(time, value)| course.push(*time, *value));
            Some(course)
        };
        assert_eq!(link(&mut [course(&[(1, 5), (2, 6)]), course(&[(2, 9)])]), Err(Unlinked::Clash(2)));
        assert_eq!(link(&mut [course(&[(1, 5), (4, 6)]), course(&[(2, 9), (4, 10)])]), Err(Unlinked::Clash(4)));
        assert_eq!(link(&mut [course(&[(1, 5)]), None, course(&[(3, 9)])]), Ok(vec![None, None, Some((4, 2))]));
        assert_eq!(link::<i64>(&mut []), Ok(vec![]));
    }
}
