//! The shape of a distribution: `skewness`, `kurtosis` and `kurtosis_pop`, as in DuckDB.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

/// The aggregates, to be registered with a session.
pub(super) fn aggregates() -> [AggregateUDF; 3] {
    [Figure::Skewness, Figure::Kurtosis, Figure::KurtosisPop].map(|figure| {
        let signature = Signature::exact(vec![DataType::Float64], Volatility::Immutable);
        AggregateUDF::new_from_impl(Shape { figure, signature })
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Figure {
    Skewness,
    Kurtosis,
    KurtosisPop,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Shape {
    figure: Figure,
    signature: Signature,
}

impl AggregateUDFImpl for Shape {
    fn name(&self) -> &'static str {
        match self.figure {
            Figure::Skewness => "skewness",
            Figure::Kurtosis => "kurtosis",
            Figure::KurtosisPop => "kurtosis_pop",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return plan_err!("{0}(DISTINCT …) is refused: use SELECT DISTINCT in an inner query", self.name());
        }
        Ok(Box::new(Moments { figure: self.figure, sums: Sums::default() }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let field = |name| Arc::new(Field::new(format_state_name(args.name, name), DataType::Float64, true));
        Ok(["count", "mean", "second", "third", "fourth"].map(field).to_vec())
    }
}

/// Sums of powers of the differences from the mean, which stay exact where values are large and differ little.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    count: f64,
    mean: f64,
    second: f64,
    third: f64,
    fourth: f64,
}

impl Sums {
    /// Those of two sets of values together (Pébay, 2008).
    fn with(self, other: Sums) -> Sums {
        let count = self.count + other.count;
        if count == 0.0 {
            return self;
        }
        let (one, two) = (self.count, other.count);
        let step = other.mean - self.mean;
        let part = step / count;
        Sums {
            count,
            mean: self.mean + two * part,
            second: self.second + other.second + step * part * one * two,
            third: self.third
                + other.third
                + step * part * part * one * two * (one - two)
                + 3.0 * part * (one * other.second - two * self.second),
            fourth: self.fourth
                + other.fourth
                + step * part.powi(3) * one * two * (one * one - one * two + two * two)
                + 6.0 * part * part * (one * one * other.second + two * two * self.second)
                + 4.0 * part * (one * other.third - two * self.third),
        }
    }

    fn figure(self, figure: Figure) -> Option<f64> {
        let Sums { count, second, third, fourth, .. } = self;
        let least = match figure {
            Figure::Skewness => 3.0,
            Figure::Kurtosis => 4.0,
            Figure::KurtosisPop => 2.0,
        };
        if count < least || second <= 0.0 {
            return None;
        }
        let variance = second / count;
        let peak = fourth / count / (variance * variance);
        Some(match figure {
            Figure::Skewness => (count * (count - 1.0)).sqrt() / (count - 2.0) * (third / count) / variance.powf(1.5),
            Figure::Kurtosis => {
                (count - 1.0) * ((count + 1.0) * peak - 3.0 * (count - 1.0)) / ((count - 2.0) * (count - 3.0))
            }
            Figure::KurtosisPop => peak - 3.0,
        })
    }
}

#[derive(Debug)]
struct Moments {
    figure: Figure,
    sums: Sums,
}

impl Accumulator for Moments {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        for value in columns.iter().flat_map(|values| values.as_primitive::<Float64Type>()).flatten() {
            self.sums = self.sums.with(Sums { count: 1.0, mean: value, ..Sums::default() });
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.sums.figure(self.figure)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let Sums { count, mean, second, third, fourth } = self.sums;
        Ok([count, mean, second, third, fourth].map(ScalarValue::from).to_vec())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [count, mean, second, third, fourth] = states else {
            return Err(exec_datafusion_err!("the sums of {:?} are {} columns, not 5", self.figure, states.len()));
        };
        let columns = [count, mean, second, third, fourth].map(|column| column.as_primitive::<Float64Type>());
        for row in 0..count.len() {
            let [count, mean, second, third, fourth] = columns.map(|column| column.value(row));
            self.sums = self.sums.with(Sums { count, mean, second, third, fourth });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(values: &[f64]) -> Sums {
        let one = |value: &f64| Sums { count: 1.0, mean: *value, ..Sums::default() };
        values.iter().map(one).fold(Sums::default(), Sums::with)
    }

    #[test]
    fn figures_are_those_of_duckdb() {
        let whole = sums(&[1.0, 2.0, 2.0, 9.0]);
        let parts = sums(&[1.0, 2.0]).with(sums(&[])).with(sums(&[2.0, 9.0]));
        for (figure, expected) in [
            (Figure::Skewness, 1.900_103_815_494_296_2),
            (Figure::Kurtosis, 3.708_506_841_165_973_6),
            (Figure::KurtosisPop, -0.705_532_421_177_870_2),
        ] {
            for sums in [whole, parts] {
                let found = sums.figure(figure).unwrap();
                assert!((found - expected).abs() < 1e-12, "{figure:?}: {found}");
            }
        }
        // Values that are large and differ little.
        let far = sums(&[1e9 + 1.0, 1e9 + 2.0, 1e9 + 2.0, 1e9 + 9.0]).figure(Figure::Skewness).unwrap();
        assert!((far - 1.900_103_815_494_296_2).abs() < 1e-6, "{far}");
        assert_eq!(sums(&[1.0, 2.0]).figure(Figure::Skewness), None);
        assert_eq!(sums(&[1.0; 9]).figure(Figure::Kurtosis), None);
    }
}
