//! Variances, covariances and regressions in windows that move.
//!
//! DataFusion's take away what has left a window, which leaves its rounding in the result, and NaN for an infinity. Those here keep
//! sums without rounding, from which they compute the result anew. Outside of such windows, all is DataFusion's.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, not_impl_err};
use datafusion::functions_aggregate::{correlation, covariance, regr, stddev, variance};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature,
};

use super::precise::Precise;

/// The aggregates, to be registered with a session.
pub(super) fn aggregates() -> Vec<AggregateUDF> {
    [
        (Arc::new(variance::var_samp_udaf().as_ref().clone().with_aliases(["variance"])), Measure::Variance),
        (variance::var_pop_udaf(), Measure::VarianceOfAll),
        (stddev::stddev_udaf(), Measure::Deviation),
        (stddev::stddev_pop_udaf(), Measure::DeviationOfAll),
        (covariance::covar_samp_udaf(), Measure::Covariance),
        (covariance::covar_pop_udaf(), Measure::CovarianceOfAll),
        (correlation::corr_udaf(), Measure::Correlation),
        (regr::regr_slope_udaf(), Measure::Slope),
        (regr::regr_intercept_udaf(), Measure::Intercept),
        (regr::regr_r2_udaf(), Measure::Determination),
        (regr::regr_avgx_udaf(), Measure::MeanX),
        (regr::regr_avgy_udaf(), Measure::MeanY),
        (regr::regr_sxx_udaf(), Measure::SquaresX),
        (regr::regr_syy_udaf(), Measure::SquaresY),
        (regr::regr_sxy_udaf(), Measure::Products),
    ]
    .map(|(inner, measure)| AggregateUDF::new_from_impl(Moving { inner, measure }))
    .into()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Measure {
    Variance,
    VarianceOfAll,
    Deviation,
    DeviationOfAll,
    Covariance,
    CovarianceOfAll,
    Correlation,
    Slope,
    Intercept,
    Determination,
    MeanX,
    MeanY,
    SquaresX,
    SquaresY,
    Products,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Moving {
    inner: Arc<AggregateUDF>,
    measure: Measure,
}

impl AggregateUDFImpl for Moving {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.inner.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let has_doubles = args.expr_fields.iter().all(|field| field.data_type() == &DataType::Float64);
        if args.is_distinct || !has_doubles {
            return self.inner.create_sliding_accumulator(args);
        }
        Ok(Box::new(Moments { measure: self.measure, ..Moments::default() }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// Sums over the rows of a window. In a regression, the first argument is `y`. With one argument, both are that one.
#[derive(Debug)]
struct Moments {
    measure: Measure,
    count: u64,
    x: Precise,
    y: Precise,
    xx: Precise,
    xy: Precise,
    yy: Precise,
}

impl Default for Moments {
    fn default() -> Moments {
        let sum = Precise::default;
        Moments { measure: Measure::Variance, count: 0, x: sum(), y: sum(), xx: sum(), xy: sum(), yy: sum() }
    }
}

impl Moments {
    /// Changes the sums by rows without nulls, and gives their number.
    fn change(
        &mut self,
        columns: &[ArrayRef],
        change: fn(&mut Precise, f64),
        square: fn(&mut Precise, f64, f64),
    ) -> Result<u64> {
        let (ys, xs) = match columns {
            [one] => (one, one),
            [ys, xs] => (ys, xs),
            _ => return exec_err!("a variance of {} columns", columns.len()),
        };
        let rows = ys.as_primitive::<Float64Type>().iter().zip(xs.as_primitive::<Float64Type>());
        let mut count = 0;
        for (y, x) in rows.filter_map(|(y, x)| y.zip(x)) {
            count += 1;
            change(&mut self.y, y);
            square(&mut self.yy, y, y);
            if columns.len() > 1 {
                change(&mut self.x, x);
                square(&mut self.xx, x, x);
                square(&mut self.xy, x, y);
            }
        }
        Ok(count)
    }

    fn result(&mut self) -> Option<f64> {
        use Measure as M;
        let count = self.count as f64;
        if self.count == 0 {
            return None;
        }
        let (x, y) = (self.x.parts(), self.y.parts());
        let mut of_y = || spread(&mut self.yy, y, y, count);
        let mut of_x = || spread(&mut self.xx, x, x, count);
        let mut of_both = || spread(&mut self.xy, x, y, count);
        let least = match self.measure {
            M::Variance
            | M::Deviation
            | M::Covariance
            | M::Correlation
            | M::Slope
            | M::Intercept
            | M::Determination => 2,
            _ => 1,
        };
        if self.count < least {
            return None;
        }
        Some(match self.measure {
            M::Variance => of_y() / count / (count - 1.0),
            M::VarianceOfAll => of_y() / count / count,
            M::Deviation => (of_y() / count / (count - 1.0)).sqrt(),
            M::DeviationOfAll => of_y().sqrt() / count,
            M::Covariance => of_both() / count / (count - 1.0),
            M::CovarianceOfAll => of_both() / count / count,
            M::Correlation => divided(of_both(), (of_x() * of_y()).sqrt())?,
            M::Slope => divided(of_both(), of_x())?,
            M::Intercept => (self.y.value() - divided(of_both(), of_x())? * self.x.value()) / count,
            M::Determination => divided(of_both(), of_x())? * divided(of_both(), of_y())?,
            M::MeanX => self.x.value() / count,
            M::MeanY => self.y.value() / count,
            M::SquaresX => of_x() / count,
            M::SquaresY => of_y() / count,
            M::Products => of_both() / count,
        })
    }
}

/// `count` times the sum of the products of what is left of the values without their means. `products` is the sum of their products.
fn spread(products: &mut Precise, one: [f64; 3], other: [f64; 3], count: f64) -> f64 {
    let mut spread = Precise::default();
    products.parts().into_iter().for_each(|part| spread.add_product(part, count));
    for a in one {
        other.into_iter().for_each(|b| spread.add_product(-a, b));
    }
    spread.value()
}

/// Null where all values are equal.
fn divided(number: f64, divisor: f64) -> Option<f64> {
    (divisor != 0.0).then(|| number / divisor)
}

impl Accumulator for Moments {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        self.count += self.change(columns, Precise::add, Precise::add_product)?;
        Ok(())
    }

    fn retract_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        self.count -= self.change(columns, Precise::take, Precise::take_product)?;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.result()))
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

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;
    use proptest::prelude::*;

    use super::*;

    fn of(measure: Measure, rows: &[(f64, f64)]) -> Option<f64> {
        let column = |value: fn(&(f64, f64)) -> f64| -> ArrayRef {
            Arc::new(rows.iter().map(|row| Some(value(row))).collect::<Float64Array>())
        };
        let both = [column(|row| row.0), column(|row| row.1)];
        let columns = match measure {
            Measure::Variance | Measure::VarianceOfAll | Measure::Deviation | Measure::DeviationOfAll => &both[..1],
            _ => &both[..],
        };
        let mut moments = Moments { measure, ..Moments::default() };
        // What comes and goes leaves nothing.
        let passing: ArrayRef = Arc::new(Float64Array::from(vec![1e17, f64::INFINITY, f64::NAN, -3.7]));
        let passing = vec![passing; columns.len()];
        moments.update_batch(&passing).unwrap();
        moments.update_batch(columns).unwrap();
        moments.evaluate().unwrap();
        moments.retract_batch(&passing).unwrap();
        moments.result()
    }

    #[test]
    fn results_are_those_of_the_rows() {
        // y = 3 x - 1, and a row beside the line.
        let line = [(2.0, 1.0), (5.0, 2.0), (11.0, 4.0)];
        let rows = [(2.0, 1.0), (5.0, 2.0), (11.0, 4.0), (0.0, 5.0)];
        for (measure, rows, expected) in [
            (Measure::Slope, &line[..], Some(3.0)),
            (Measure::Intercept, &line, Some(-1.0)),
            (Measure::Determination, &line, Some(1.0)),
            (Measure::Correlation, &line, Some(1.0)),
            (Measure::MeanX, &rows, Some(3.0)),
            (Measure::MeanY, &rows, Some(4.5)),
            (Measure::SquaresX, &rows, Some(10.0)),
            (Measure::SquaresY, &rows, Some(69.0)),
            (Measure::Products, &rows, Some(2.0)),
            (Measure::CovarianceOfAll, &rows, Some(0.5)),
            (Measure::Covariance, &rows, Some(2.0 / 3.0)),
            (Measure::VarianceOfAll, &rows, Some(17.25)),
            (Measure::Variance, &rows, Some(23.0)),
            (Measure::DeviationOfAll, &[(1.0, 0.0), (5.0, 0.0)], Some(2.0)),
            (Measure::Deviation, &[(0.1, 0.0), (0.1, 0.0), (0.1, 0.0)], Some(0.0)),
            (Measure::Correlation, &[(1.0, 0.0), (5.0, 0.0)], None),
            (Measure::Slope, &[(1.0, 0.0), (5.0, 0.0)], None),
            (Measure::Variance, &[(1.0, 0.0)], None),
            (Measure::VarianceOfAll, &[(1.0, 0.0)], Some(0.0)),
            (Measure::MeanX, &[], None),
        ] {
            assert_eq!(of(measure, rows), expected, "{measure:?}");
        }
        assert!(of(Measure::Variance, &[(f64::INFINITY, 0.0), (1.0, 0.0)]).unwrap().is_nan());
    }

    proptest! {
        #[test]
        fn a_variance_beside_a_great_mean_is_exact(values in prop::collection::vec(0..1_000_i32, 2..40)) {
            let rows = |mean: f64| values.iter().map(|value| (mean + f64::from(*value), 0.0)).collect::<Vec<_>>();
            prop_assert_eq!(of(Measure::Variance, &rows(0.0)), of(Measure::Variance, &rows(1e12)));
        }
    }
}
