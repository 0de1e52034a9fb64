//! `increase` and `rate` over a window whose first row moves: each step is counted once and taken back once.

use std::collections::VecDeque;
use std::fmt::Debug;

use arrow::array::{ArrayRef, ArrowNativeTypeOp};
use arrow::datatypes::ArrowPrimitiveType;
use datafusion::common::{Result, ScalarValue, not_impl_err};
use datafusion::logical_expr::Accumulator;

use super::growth::{Counter, Growth, Point, clash, order, step};
use super::measure::{Output, rows, several_counters};

/// The rows in the window, in the order in which they came.
#[derive(Debug)]
pub(super) struct Sliding<C: ArrowPrimitiveType<Native: Counter>> {
    output: Output,
    labels: Vec<String>,
    points: VecDeque<Point<C::Native>>,
    /// By how much the steps at resets exceed the differences of their values. Without resets, the increase is the difference
    /// of the last value and the first.
    resets: C::Native,
    /// Neighbours that are not in the order of time.
    disorders: usize,
    /// Neighbours of one time and two values.
    clashes: usize,
    host: Option<String>,
}

impl<C: ArrowPrimitiveType<Native: Counter>> Sliding<C> {
    pub(super) fn new(output: Output, labels: Vec<String>) -> Sliding<C> {
        let (points, resets) = (VecDeque::new(), C::default_value());
        Sliding { output, labels, points, resets, disorders: 0, clashes: 0, host: None }
    }

    fn push(&mut self, point: Point<C::Native>) {
        // NaN alone does not compare with itself.
        if point.1.partial_cmp(&point.1).is_none() {
            return;
        }
        if let Some(before) = self.points.back().copied() {
            self.resets = self.resets.add_wrapping(beyond::<C>(before, point));
            self.disorders += usize::from(order(point, before).is_lt());
            self.clashes += usize::from(clash(before, point).is_some());
        }
        self.points.push_back(point);
    }

    fn pop(&mut self, point: Point<C::Native>) {
        if point.1.partial_cmp(&point.1).is_none() {
            return;
        }
        let Some(first) = self.points.pop_front() else { return };
        match self.points.front().copied() {
            Some(next) => {
                self.resets = self.resets.sub_wrapping(beyond::<C>(first, next));
                self.disorders -= usize::from(order(next, first).is_lt());
                self.clashes -= usize::from(clash(first, next).is_some());
            }
            // What rounding has left of floats is gone.
            None => self.resets = C::default_value(),
        }
    }

    fn growth(&self) -> Option<Growth<C::Native>> {
        let (first, last) = (*self.points.front()?, *self.points.back()?);
        if self.disorders > 0 || self.clashes > 0 {
            let mut points: Vec<_> = self.points.iter().copied().collect();
            points.sort_by(|a, b| order(*a, *b));
            return Growth::of(&points);
        }
        let increase = last.1.sub_wrapping(first.1).add_wrapping(self.resets);
        Some(Growth { first, last, increase, count: self.points.len() as u64, clash: None })
    }
}

/// By how much a step exceeds the difference of its values: nothing, except at a reset.
fn beyond<C: ArrowPrimitiveType<Native: Counter>>(before: Point<C::Native>, after: Point<C::Native>) -> C::Native {
    if after.1 >= before.1 {
        return C::default_value();
    }
    step(before.1, after.1).sub_wrapping(after.1.sub_wrapping(before.1))
}

impl<C: ArrowPrimitiveType<Native: Counter> + Debug> Accumulator for Sliding<C> {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let mut host = self.host.take();
        let added = rows::<C>(columns, &mut host, |time, value| self.push((time, value)));
        self.host = host;
        added
    }

    fn retract_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let mut host = self.host.take();
        let taken = rows::<C>(columns, &mut host, |time, value| self.pop((time, value)));
        self.host = host;
        taken
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let growth = self.growth();
        if let Some(time) = growth.and_then(|growth| growth.clash) {
            return Err(several_counters(time, &self.labels));
        }
        let steps = growth.filter(|growth| growth.count > 1);
        self.output.result::<C>(steps.map(|growth| (growth.increase, growth.last.0 - growth.first.0)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.points.capacity() * size_of::<Point<C::Native>>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        not_impl_err!("a window is computed by one thread")
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        not_impl_err!("a window is computed by one thread")
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Float64Type, Int64Type};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_moving_window_gives_what_its_rows_give(
            points in prop::collection::vec((0..60_i64, -3..40_i64), 0..40),
            width in 1..12_usize,
            sorted in prop::bool::ANY,
        ) {
            let mut points = points;
            if sorted {
                points.sort_unstable();
            }
            let (mut whole, mut floats) =
                (Sliding::<Int64Type>::new(Output::Increase, vec![]), Sliding::<Float64Type>::new(Output::Increase, vec![]));
            for end in 0..points.len() {
                whole.push(points[end]);
                floats.push((points[end].0, points[end].1 as f64));
                let start = (end + 1).saturating_sub(width);
                if start > 0 {
                    whole.pop(points[start - 1]);
                    floats.pop((points[start - 1].0, points[start - 1].1 as f64));
                }
                let mut inside = points[start..=end].to_vec();
                inside.sort_unstable();
                let expected = Growth::of(&inside).unwrap();
                let told = whole.growth().unwrap();
                prop_assert_eq!(told.clash.is_some(), expected.clash.is_some());
                prop_assert_eq!(
                    (told.first, told.last, told.increase, told.count),
                    (expected.first, expected.last, expected.increase, expected.count)
                );
                let difference = floats.growth().unwrap().increase - expected.increase as f64;
                prop_assert!(difference.abs() < 1e-9, "{difference}");
            }
        }
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let mut window = Sliding::<Float64Type>::new(Output::Increase, vec![]);
        for point in [(1, 5.0), (2, f64::NAN), (3, 7.5)] {
            window.push(point);
        }
        let growth = window.growth().unwrap();
        assert_eq!((growth.increase, growth.count), (2.5, 2));
        window.pop((1, 5.0));
        window.pop((2, f64::NAN));
        assert_eq!(window.growth().unwrap().count, 1);
    }
}
