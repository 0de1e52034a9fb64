//! `percentile_cont` of numbers.
//!
//! DataFusion's own rounds down to a millionth how far the result lies from one value to the next.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;

/// All values that are not null, the oldest first: a sliding frame gives them back in that order.
#[derive(Debug)]
pub(super) struct Numbers {
    /// How far through the values in their order, from 0 to 1.
    pub(super) share: f64,
    pub(super) is_descending: bool,
    pub(super) is_distinct: bool,
    values: VecDeque<f64>,
}

impl Numbers {
    pub(super) fn new(share: f64, is_descending: bool, is_distinct: bool) -> Numbers {
        Numbers { share, is_descending, is_distinct, values: VecDeque::new() }
    }

    fn add(&mut self, values: &ArrayRef) {
        self.values.extend(values.as_primitive::<Float64Type>().iter().flatten());
    }
}

impl Accumulator for Numbers {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        columns.first().into_iter().for_each(|values| self.add(values));
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sign = if self.is_descending { -1.0 } else { 1.0 };
        let mut values: Vec<f64> = self.values.iter().map(|value| sign * value).collect();
        if self.is_distinct {
            values.sort_unstable_by(f64::total_cmp);
            values.dedup();
        }
        Ok(ScalarValue::Float64(percentile(values, self.share).map(|value| sign * value)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<f64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = Float64Array::from_iter_values(self.values.iter().copied());
        let field = Arc::new(Field::new_list_field(DataType::Float64, true));
        let list = ListArray::new(field, OffsetBuffer::from_lengths([values.len()]), Arc::new(values), None);
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states.iter().flat_map(|lists| lists.as_list::<i32>().iter()).flatten().for_each(|values| self.add(&values));
        Ok(())
    }

    fn retract_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let gone = columns.first().map_or(0, |values| values.len() - values.null_count());
        self.values.drain(..gone.min(self.values.len()));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }
}

/// The value at a share of the way through the values, on the line between two of them if need be.
fn percentile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    let position = share * values.len().checked_sub(1)? as f64;
    let (_, &mut low, above) = values.select_nth_unstable_by(place(position.floor()), f64::total_cmp);
    let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    let weight = position.fract();
    // Also between two infinities.
    Some(if weight > 0.0 && low < high { low + (high - low) * weight } else { low })
}

/// A position; 0 for what is below it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a position in an array, from 0 on")]
pub(super) fn place(position: f64) -> usize {
    position.max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(share: f64, is_descending: bool, is_distinct: bool, values: &[f64]) -> Option<f64> {
        let mut whole = Numbers::new(share, is_descending, is_distinct);
        for half in values.chunks(values.len().div_ceil(2).max(1)) {
            let mut part = Numbers::new(share, is_descending, is_distinct);
            let half = half.iter().map(|&value| Some(value)).chain([None]);
            part.update_batch(&[Arc::new(half.collect::<Float64Array>())]).unwrap();
            let states: Vec<ArrayRef> = part.state().unwrap().iter().map(|state| state.to_array().unwrap()).collect();
            whole.merge_batch(&states).unwrap();
        }
        match whole.evaluate().unwrap() {
            ScalarValue::Float64(value) => value,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn values_lie_on_the_line_between_two() {
        let values = [30.0, 10.0, 20.0];
        for (share, expected) in [(0.0, 10.0), (0.25, 15.0), (0.95, 29.0), (1.0, 30.0)] {
            assert_eq!(of(share, false, false, &values), Some(expected), "{share}");
            assert_eq!(of(share, true, false, &values), Some(40.0 - expected), "{share}");
        }
        assert_eq!(of(1.0 / 3.0, false, false, &[0.0, 3e9]), Some(1e9));
        assert_eq!(of(0.5, false, true, &[1.0, 1.0, 1.0, 3.0]), Some(2.0));
        assert_eq!(of(0.5, false, false, &[f64::INFINITY; 2]), Some(f64::INFINITY));
        assert_eq!(of(0.5, false, false, &[7.0]), Some(7.0));
        assert_eq!(of(0.5, false, false, &[]), None);
    }

    #[test]
    fn a_frame_forgets_its_oldest_values() {
        let mut numbers = Numbers::new(0.5, false, false);
        let column = |values: &[Option<f64>]| -> [ArrayRef; 1] { [Arc::new(Float64Array::from(values.to_vec()))] };
        numbers.update_batch(&column(&[Some(9.0), None, Some(1.0), Some(2.0)])).unwrap();
        numbers.retract_batch(&column(&[Some(9.0), None])).unwrap();
        assert_eq!(numbers.evaluate().unwrap(), ScalarValue::Float64(Some(1.5)));
    }
}
