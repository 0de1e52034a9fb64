//! Aggregates that need all values in order: `percentile_disc`, `mode`, and percentiles of times and lengths of time.
//!
//! `median` of numbers is DataFusion's own.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, new_empty_array};
use arrow::compute::{SortOptions, concat, filter, is_not_null, sort};
use arrow::datatypes::{
    DataType, DurationMicrosecondType, Field, FieldRef, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::functions_aggregate::median;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};
use datafusion::physical_expr::expressions::Literal;

use super::percentile::{Numbers, place};

/// The aggregates, to be registered with a session.
pub(super) fn aggregates() -> [AggregateUDF; 4] {
    let declared = |name, aliases: &[&str], usage, choice| {
        let aliases = aliases.iter().map(|&alias| alias.to_owned()).collect();
        Ordered { name, aliases, usage, choice, signature: Signature::user_defined(Volatility::Immutable) }
    };
    [
        declared(
            "percentile_cont",
            &["quantile_cont"],
            "percentile_cont(0.99) WITHIN GROUP (ORDER BY x) or quantile_cont(x, 0.99)",
            Choice::Between,
        ),
        declared(
            "percentile_disc",
            &["quantile_disc", "quantile"],
            "percentile_disc(0.99) WITHIN GROUP (ORDER BY x) or quantile_disc(x, 0.99)",
            Choice::At,
        ),
        declared("median", &[], "median(x)", Choice::Middle(median::median_udaf())),
        declared("mode", &[], "mode(x) or mode() WITHIN GROUP (ORDER BY x)", Choice::Frequent),
    ]
    .map(AggregateUDF::new_from_impl)
}

/// Which value is chosen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Choice {
    /// At a share of the way, between two values if need be.
    Between,
    /// In the middle. Numbers are left to the inner function.
    Middle(Arc<AggregateUDF>),
    /// The first one that so large a share of the values does not exceed.
    At,
    /// The one that comes most often, and the first of several.
    Frequent,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ordered {
    name: &'static str,
    aliases: Vec<String>,
    usage: &'static str,
    choice: Choice,
    signature: Signature,
}

/// Values between which another one can lie.
fn in_us(ty: &DataType) -> Option<DataType> {
    match ty {
        DataType::Duration(_) => Some(DataType::Duration(TimeUnit::Microsecond)),
        DataType::Timestamp(_, zone) => Some(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
        _ => None,
    }
}

impl Ordered {
    /// The function that computes this for values of a type, if it is DataFusion's.
    fn inner(&self, value: &DataType) -> Option<&Arc<AggregateUDF>> {
        match &self.choice {
            Choice::Middle(inner) => Some(inner).filter(|_| in_us(value).is_none()),
            Choice::Between | Choice::At | Choice::Frequent => None,
        }
    }

    fn inner_of(&self, args: &AccumulatorArgs<'_>) -> Option<&Arc<AggregateUDF>> {
        args.expr_fields.first().and_then(|field| self.inner(field.data_type()))
    }

    fn takes_share(&self) -> bool {
        matches!(self.choice, Choice::Between | Choice::At)
    }
}

impl AggregateUDFImpl for Ordered {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let (value, rest) = match types {
            [value] if !self.takes_share() => (value, vec![]),
            [value, share] if self.takes_share() && (share.is_numeric() || share.is_null()) => {
                (value, vec![DataType::Float64])
            }
            _ => return plan_err!("{} takes other arguments: write {}", self.name, self.usage),
        };
        let value = match (&self.choice, value) {
            (_, time) if in_us(time).is_some() => in_us(time).unwrap_or(DataType::Null),
            (Choice::Middle(_), number) if number.is_integer() => DataType::Float64,
            (Choice::Middle(_), number) if number.is_numeric() || number.is_null() => number.clone(),
            (Choice::Between, number) if number.is_numeric() || number.is_null() => DataType::Float64,
            (Choice::Between | Choice::Middle(_), other) => {
                return plan_err!(
                    "{} lies between numbers or times, not between {other}: use percentile_disc",
                    self.name
                );
            }
            (_, DataType::Dictionary(_, value)) => value.as_ref().clone(),
            (_, other) => other.clone(),
        };
        Ok(std::iter::once(value).chain(rest).collect())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types.first() {
            Some(value) => match self.inner(value) {
                Some(inner) => inner.return_type(types),
                None => Ok(value.clone()),
            },
            None => plan_err!("{} takes other arguments: write {}", self.name, self.usage),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if let Some(inner) = self.inner_of(&args) {
            return inner.accumulator(args);
        }
        let descending = args.order_bys.first().is_some_and(|order| order.options.descending);
        if matches!(self.choice, Choice::Between) && *args.return_field.data_type() == DataType::Float64 {
            return Ok(Box::new(Numbers::new(share(&args, self.usage)?, descending, args.is_distinct)));
        }
        if args.is_distinct {
            return plan_err!("{}(DISTINCT …) is refused: use SELECT DISTINCT in an inner query", self.name);
        }
        let choice = match &self.choice {
            Choice::Middle(_) => Chosen::Between(0.5),
            Choice::Frequent => Chosen::Frequent,
            Choice::Between => Chosen::Between(share(&args, self.usage)?),
            Choice::At => Chosen::At(share(&args, self.usage)?),
        };
        let value = args.return_field.data_type().clone();
        Ok(Box::new(Values { choice, descending, value, parts: Vec::new() }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let value = args.input_fields.first().map_or(&DataType::Null, |field| field.data_type());
        if let Some(inner) = self.inner(value) {
            return inner.state_fields(args);
        }
        let list = DataType::new_list(value.clone(), true);
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "values"), list, true))])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.inner_of(&args).is_some_and(|inner| inner.groups_accumulator_supported(args))
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        match self.inner_of(&args) {
            Some(inner) => inner.create_groups_accumulator(args),
            None => exec_err!("{} keeps the values of each group", self.name),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match self.inner_of(&args) {
            Some(inner) => inner.create_sliding_accumulator(args),
            None => self.accumulator(args),
        }
    }

    fn supports_within_group_clause(&self) -> bool {
        !matches!(self.choice, Choice::Middle(_))
    }
}

/// The share of a percentile.
fn share(args: &AccumulatorArgs<'_>, usage: &str) -> Result<f64> {
    let literal = args.exprs.get(1).and_then(|expr| expr.downcast_ref::<Literal>());
    match literal.map(Literal::value) {
        Some(ScalarValue::Float64(Some(share))) if (0.0..=1.0).contains(share) => Ok(*share),
        _ => plan_err!("the share of a percentile is a constant from 0 to 1: write {usage}"),
    }
}

#[derive(Clone, Copy, Debug)]
enum Chosen {
    Between(f64),
    At(f64),
    Frequent,
}

/// All values that are not null.
#[derive(Debug)]
struct Values {
    choice: Chosen,
    descending: bool,
    value: DataType,
    parts: Vec<ArrayRef>,
}

impl Values {
    fn all(&self) -> Result<ArrayRef> {
        let parts: Vec<&dyn Array> = self.parts.iter().map(AsRef::as_ref).collect();
        Ok(if parts.is_empty() { new_empty_array(&self.value) } else { concat(&parts)? })
    }

    fn add(&mut self, array: &ArrayRef) -> Result<()> {
        let valid = if array.null_count() == 0 { Arc::clone(array) } else { filter(array, &is_not_null(array)?)? };
        if !valid.is_empty() {
            self.parts.push(valid);
        }
        Ok(())
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        columns.first().map_or(Ok(()), |values| self.add(values))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let options = SortOptions { descending: self.descending, nulls_first: false };
        let sorted = sort(&self.all()?, Some(options))?;
        let count = sorted.len();
        if count == 0 {
            return ScalarValue::try_from(&self.value);
        }
        let position = match self.choice {
            Chosen::Between(share) => return between(&sorted, share, &self.value),
            Chosen::At(share) => place((share * count as f64).ceil() - 1.0).min(count - 1),
            Chosen::Frequent => most_frequent(&sorted)?,
        };
        ScalarValue::try_from_array(&sorted, position)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.parts.iter().map(Array::get_array_memory_size).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = arrow::array::ListArray::new(
            Arc::new(Field::new_list_field(self.value.clone(), true)),
            arrow::buffer::OffsetBuffer::from_lengths([self.parts.iter().map(Array::len).sum()]),
            self.all()?,
            None,
        );
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for values in states.iter().flat_map(|lists| lists.as_list::<i32>().iter()).flatten() {
            self.add(&values)?;
        }
        Ok(())
    }
}

/// The value at a share of the way through times.
fn between(sorted: &ArrayRef, share: f64, ty: &DataType) -> Result<ScalarValue> {
    let us = match ty {
        DataType::Duration(_) => sorted.as_primitive::<DurationMicrosecondType>().reinterpret_cast::<Int64Type>(),
        _ => sorted.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>(),
    };
    let position = share * (us.len() - 1) as f64;
    let (low, high) = (us.value(place(position.floor())), us.value(place(position.ceil())));
    let more = (i128::from(high) - i128::from(low)) as f64 * position.fract();
    let value = low.saturating_add(super::span::whole(more).unwrap_or_default());
    Ok(match ty {
        DataType::Duration(_) => ScalarValue::DurationMicrosecond(Some(value)),
        DataType::Timestamp(_, zone) => ScalarValue::TimestampMicrosecond(Some(value), zone.clone()),
        other => return exec_err!("a percentile of {other}"),
    })
}

/// The position of the value that comes most often.
fn most_frequent(sorted: &ArrayRef) -> Result<usize> {
    let parts = arrow::compute::partition(std::slice::from_ref(sorted))?;
    let mut best = 0..0;
    for range in parts.ranges() {
        if range.len() > best.len() {
            best = range;
        }
    }
    Ok(best.start)
}

#[cfg(test)]
mod tests {
    use arrow::array::{DurationMicrosecondArray, Int64Array, StringArray};

    use super::*;

    fn chosen(choice: Chosen, descending: bool, array: ArrayRef) -> ScalarValue {
        let mut whole = Values { choice, descending, value: array.data_type().clone(), parts: Vec::new() };
        let half = array.len() / 2;
        for (start, end) in [(0, half), (half, array.len())] {
            let mut part = Values { choice, descending, value: array.data_type().clone(), parts: Vec::new() };
            part.update_batch(&[array.slice(start, end - start)]).unwrap();
            let states: Vec<ArrayRef> = part.state().unwrap().iter().map(|state| state.to_array().unwrap()).collect();
            whole.merge_batch(&states).unwrap();
        }
        whole.evaluate().unwrap()
    }

    #[test]
    fn percentiles_are_those_of_postgresql() {
        let numbers = || -> ArrayRef { Arc::new(Int64Array::from(vec![Some(40), Some(10), None, Some(30), Some(20)])) };
        for (share, expected) in [(0.0, 10), (0.25, 10), (0.26, 20), (0.5, 20), (0.99, 40), (1.0, 40)] {
            assert_eq!(chosen(Chosen::At(share), false, numbers()), ScalarValue::from(i64::from(expected)), "{share}");
        }
        assert_eq!(chosen(Chosen::At(0.25), true, numbers()), ScalarValue::from(40_i64));
        let spans: ArrayRef = Arc::new(DurationMicrosecondArray::from(vec![10, 20, 40]));
        for (share, expected) in [(0.0, 10), (0.5, 20), (0.75, 30), (1.0, 40)] {
            let expected = ScalarValue::DurationMicrosecond(Some(expected));
            assert_eq!(chosen(Chosen::Between(share), false, Arc::clone(&spans)), expected, "{share}");
        }
        assert!(chosen(Chosen::At(0.5), false, Arc::new(Int64Array::from(vec![None]))).is_null());
        assert!(chosen(Chosen::Between(0.5), false, spans.slice(0, 0)).is_null());
    }

    #[test]
    fn the_most_frequent_value_is_the_first_of_several() {
        let texts = StringArray::from(vec![Some("b"), Some("a"), None, Some("c"), Some("b"), Some("a")]);
        assert_eq!(chosen(Chosen::Frequent, false, Arc::new(texts)), ScalarValue::from("a"));
        assert!(chosen(Chosen::Frequent, false, Arc::new(StringArray::from(vec![None::<&str>]))).is_null());
    }
}
