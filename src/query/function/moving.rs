//! Sums and means of doubles in windows that move.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::Float64Type;
use datafusion::common::{Result, ScalarValue, exec_err, not_impl_err};
use datafusion::logical_expr::Accumulator;

use super::precise::Precise;

#[derive(Debug)]
pub(super) struct Moving {
    mean: bool,
    sum: Precise,
    count: u64,
}

impl Moving {
    pub(super) fn new(mean: bool) -> Moving {
        Moving { mean, sum: Precise::default(), count: 0 }
    }
}

impl Accumulator for Moving {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let [values] = columns else { return exec_err!("a sum of {} columns", columns.len()) };
        values.as_primitive::<Float64Type>().iter().flatten().for_each(|value| self.sum.add(value));
        self.count += (values.len() - values.null_count()) as u64;
        Ok(())
    }

    fn retract_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let [values] = columns else { return exec_err!("a sum of {} columns", columns.len()) };
        values.as_primitive::<Float64Type>().iter().flatten().for_each(|value| self.sum.take(value));
        self.count -= (values.len() - values.null_count()) as u64;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let divisor = if self.mean { self.count as f64 } else { 1.0 };
        Ok(ScalarValue::Float64((self.count > 0).then(|| self.sum.value() / divisor)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        not_impl_err!("a window is computed by one thread")
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        not_impl_err!("a window is computed by one thread")
    }
}
