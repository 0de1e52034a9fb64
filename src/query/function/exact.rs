//! `sum` of integers and `avg` of lengths of time, which are exact or an error.
//!
//! DataFusion's sum of integers wraps around, and its mean of durations is cut off. Everything else that `sum` and `avg` take is
//! DataFusion's own.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array, UInt64Array};
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMicrosecondType, Field, FieldRef, Int64Type, TimeUnit, UInt64Type,
};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::functions_aggregate::{average, sum};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
};

/// Of a sum in the state of an aggregate: 38 digits hold 2^63 values of 2^63.
const STATE: DataType = DataType::Decimal128(38, 0);
const US: DataType = DataType::Duration(TimeUnit::Microsecond);

/// The aggregates, to be registered with a session.
pub(super) fn aggregates() -> [AggregateUDF; 2] {
    [
        Exact { inner: sum::sum_udaf(), mean: false, aliases: Vec::new() },
        Exact { inner: average::avg_udaf(), mean: true, aliases: vec!["mean".into()] },
    ]
    .map(AggregateUDF::new_from_impl)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Exact {
    inner: Arc<AggregateUDF>,
    /// A mean of durations, or else a sum of integers.
    mean: bool,
    aliases: Vec<String>,
}

impl Exact {
    /// Whether a result of this type is computed here.
    fn computes(&self, returns: &DataType) -> bool {
        if self.mean { returns == &US } else { returns == &DataType::Int64 }
    }
}

impl AggregateUDFImpl for Exact {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
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
        if !self.computes(args.return_field.data_type()) {
            return self.inner.accumulator(args);
        }
        let distinct = args.is_distinct.then(HashSet::new);
        Ok(Box::new(Total { mean: self.mean, sum: 0, count: 0, distinct }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if self.computes(args.return_field.data_type()) && !args.is_distinct {
            return self.accumulator(args);
        }
        self.inner.create_sliding_accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if !self.computes(args.return_field.data_type()) {
            return self.inner.state_fields(args);
        }
        let field = |name, ty| Arc::new(Field::new(format_state_name(args.name, name), ty, true));
        if args.is_distinct {
            return Ok(vec![field("values", DataType::new_list(DataType::Int64, true))]);
        }
        Ok(vec![field("sum", STATE), field("count", DataType::UInt64)])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        if self.computes(args.return_field.data_type()) {
            return !args.is_distinct && !self.mean;
        }
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        if self.computes(args.return_field.data_type()) {
            return Ok(Box::new(Totals::default()));
        }
        self.inner.create_groups_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

fn integer(sum: i128) -> Result<i64> {
    sum.try_into().map_err(|_| beyond(sum))
}

fn beyond(sum: i128) -> DataFusionError {
    exec_datafusion_err!(
        "the sum {sum} is beyond what a 64-bit integer holds: write sum(x::DECIMAL(38, 0)) or sum(x::DOUBLE)"
    )
}

/// The sum of a column. Halves of the numbers are added apart, which needs no carry and so takes many at once.
fn sum_of(values: &[i64]) -> i128 {
    const BIAS: u64 = 1 << 63;
    let mut total = 0_i128;
    // The sum of so many halves fits.
    for part in values.chunks(1 << 16) {
        let (mut low, mut high) = (0_u64, 0_u64);
        for value in part {
            let biased = value.cast_unsigned() ^ BIAS;
            low += biased & 0xffff_ffff;
            high += biased >> 32;
        }
        total += i128::from(low) + (i128::from(high) << 32) - i128::from(BIAS) * part.len() as i128;
    }
    total
}

/// The values of a column of integers or durations.
fn numbers(array: &ArrayRef) -> Int64Array {
    match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().clone(),
        _ => array.as_primitive::<DurationMicrosecondType>().reinterpret_cast::<Int64Type>(),
    }
}

fn sum_of_valid(numbers: &Int64Array) -> i128 {
    match numbers.null_count() {
        0 => sum_of(numbers.values()),
        _ => numbers.iter().flatten().map(i128::from).sum(),
    }
}

/// One sum.
#[derive(Debug)]
struct Total {
    mean: bool,
    sum: i128,
    count: u64,
    /// The values so far, if each counts once.
    distinct: Option<HashSet<i64>>,
}

impl Accumulator for Total {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let [values] = columns else { return exec_err!("a sum of {} columns", columns.len()) };
        let numbers = numbers(values);
        if let Some(distinct) = &mut self.distinct {
            distinct.extend(numbers.iter().flatten());
            return Ok(());
        }
        self.sum += sum_of_valid(&numbers);
        self.count += (numbers.len() - numbers.null_count()) as u64;
        Ok(())
    }

    fn retract_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let [values] = columns else { return exec_err!("a sum of {} columns", columns.len()) };
        let numbers = numbers(values);
        self.sum -= sum_of_valid(&numbers);
        self.count -= (numbers.len() - numbers.null_count()) as u64;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        self.distinct.is_none()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let (sum, count) = match &self.distinct {
            Some(values) => (values.iter().copied().map(i128::from).sum(), values.len() as u64),
            None => (self.sum, self.count),
        };
        if !self.mean {
            return Ok(ScalarValue::Int64(if count == 0 { None } else { Some(integer(sum)?) }));
        }
        // The nearest µs. The mean lies between the values, so it fits.
        let mean = (count > 0).then(|| {
            let count = i128::from(count);
            (2 * sum + count).div_euclid(2 * count)
        });
        Ok(ScalarValue::DurationMicrosecond(mean.map(integer).transpose()?))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.distinct.as_ref().map_or(0, |values| 2 * size_of::<i64>() * values.capacity())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        if let Some(values) = &self.distinct {
            let values: Vec<ScalarValue> = values.iter().map(|value| ScalarValue::from(*value)).collect();
            return Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &DataType::Int64))]);
        }
        Ok(vec![ScalarValue::Decimal128(Some(self.sum), 38, 0), ScalarValue::UInt64(Some(self.count))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        if let Some(distinct) = &mut self.distinct {
            for values in states.iter().flat_map(|lists| lists.as_list::<i32>().iter()).flatten() {
                distinct.extend(values.as_primitive::<Int64Type>().iter().flatten());
            }
            return Ok(());
        }
        let [sums, counts] = states else { return exec_err!("a sum and a count, not {} columns", states.len()) };
        self.sum += sums.as_primitive::<Decimal128Type>().iter().flatten().sum::<i128>();
        self.count += counts.as_primitive::<UInt64Type>().iter().flatten().sum::<u64>();
        Ok(())
    }
}

/// A sum of integers for each group.
#[derive(Debug, Default)]
struct Totals {
    sums: Vec<i128>,
    counts: Vec<u64>,
}

impl Totals {
    fn take(&mut self, emit: EmitTo) -> (Vec<i128>, Vec<u64>) {
        (emit.take_needed(&mut self.sums), emit.take_needed(&mut self.counts))
    }

    fn grow(&mut self, groups: usize) {
        self.sums.resize(groups, 0);
        self.counts.resize(groups, 0);
    }
}

impl GroupsAccumulator for Totals {
    fn update_batch(
        &mut self,
        columns: &[ArrayRef],
        groups: &[usize],
        chosen: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<()> {
        let [values] = columns else { return exec_err!("a sum of {} columns", columns.len()) };
        self.grow(group_count);
        let numbers = numbers(values);
        if numbers.null_count() == 0 && chosen.is_none() {
            for (group, value) in groups.iter().zip(numbers.values()) {
                self.sums[*group] += i128::from(*value);
                self.counts[*group] += 1;
            }
            return Ok(());
        }
        for (row, (group, value)) in groups.iter().zip(&numbers).enumerate() {
            let taken = chosen.is_none_or(|chosen| chosen.is_valid(row) && chosen.value(row));
            if let Some(value) = value.filter(|_| taken) {
                self.sums[*group] += i128::from(value);
                self.counts[*group] += 1;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (sums, counts) = self.take(emit);
        let sums = sums.into_iter().zip(counts).map(|(sum, count)| (count > 0).then(|| integer(sum)).transpose());
        Ok(Arc::new(sums.collect::<Result<Int64Array>>()?))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let (sums, counts) = self.take(emit);
        let sums = Decimal128Array::from(sums).with_precision_and_scale(38, 0)?;
        Ok(vec![Arc::new(sums), Arc::new(UInt64Array::from(counts))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], group_count: usize) -> Result<()> {
        let [sums, counts] = states else { return exec_err!("a sum and a count, not {} columns", states.len()) };
        self.grow(group_count);
        let (sums, counts) = (sums.as_primitive::<Decimal128Type>(), counts.as_primitive::<UInt64Type>());
        for (group, (sum, count)) in groups.iter().zip(sums.iter().zip(counts)) {
            self.sums[*group] += sum.unwrap_or_default();
            self.counts[*group] += count.unwrap_or_default();
        }
        Ok(())
    }

    fn convert_to_state(&self, columns: &[ArrayRef], chosen: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let [values] = columns else { return exec_err!("a sum of {} columns", columns.len()) };
        let numbers = numbers(values);
        let taken =
            |row: usize| numbers.is_valid(row) && chosen.is_none_or(|chosen| chosen.is_valid(row) && chosen.value(row));
        let sums = (0..numbers.len()).map(|row| if taken(row) { i128::from(numbers.value(row)) } else { 0 });
        let sums = Decimal128Array::from_iter_values(sums).with_precision_and_scale(38, 0)?;
        let counts = UInt64Array::from_iter_values((0..numbers.len()).map(|row| u64::from(taken(row))));
        Ok(vec![Arc::new(sums), Arc::new(counts)])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i128>() + self.counts.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::DurationMicrosecondArray;
    use proptest::prelude::*;

    use super::*;

    fn total(mean: bool, distinct: bool) -> Total {
        Total { mean, sum: 0, count: 0, distinct: distinct.then(HashSet::new) }
    }

    proptest! {
        #[test]
        fn sums_are_exact_in_any_parts(values in prop::collection::vec(prop::option::weighted(0.9, any::<i64>()), 0..50)) {
            let expected: i128 = values.iter().flatten().copied().map(i128::from).sum();
            let array: ArrayRef = Arc::new(Int64Array::from(values.clone()));
            let mut whole = total(false, false);
            let half = values.len() / 2;
            for (start, end) in [(0, half), (half, values.len())] {
                let mut part = total(false, false);
                part.update_batch(&[array.slice(start, end - start)]).unwrap();
                let state = part.state().unwrap();
                let columns: Vec<ArrayRef> = state.iter().map(|value| value.to_array().unwrap()).collect();
                whole.merge_batch(&columns).unwrap();
            }
            prop_assert_eq!(whole.sum, expected);
            let told = whole.evaluate();
            match i64::try_from(expected) {
                Ok(_) if values.iter().flatten().next().is_none() => prop_assert!(told.unwrap().is_null()),
                Ok(sum) => prop_assert_eq!(told.unwrap(), ScalarValue::from(sum)),
                Err(_) => prop_assert!(told.unwrap_err().to_string().contains("DECIMAL(38, 0)")),
            }
        }
    }

    #[test]
    fn groups_have_sums_and_those_without_values_have_none() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(1), Some(-1)]));
        let mut totals = Totals::default();
        totals.update_batch(&[Arc::clone(&values)], &[0, 1, 2, 0], None, 4).unwrap();
        let chosen = BooleanArray::from(vec![Some(false), Some(true), Some(true), None]);
        totals.update_batch(&[Arc::clone(&values)], &[0, 1, 2, 0], Some(&chosen), 4).unwrap();
        let mut merged = Totals::default();
        let state = totals.state(EmitTo::All).unwrap();
        merged.merge_batch(&state, &[0, 1, 2, 3], 4).unwrap();
        let direct = merged.convert_to_state(&[values], Some(&chosen)).unwrap();
        merged.merge_batch(&direct, &[3, 3, 3, 3], 4).unwrap();
        let sums = merged.evaluate(EmitTo::All).unwrap();
        let sums: Vec<_> = sums.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(sums, [Some(i64::MAX - 1), None, Some(2), Some(1)]);
        let mut totals = Totals::default();
        let most: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, 1]));
        totals.update_batch(&[most], &[0, 0], None, 1).unwrap();
        assert!(totals.evaluate(EmitTo::All).is_err());
    }

    #[test]
    fn means_of_durations_are_rounded_and_windows_move() {
        let spans: ArrayRef = Arc::new(DurationMicrosecondArray::from(vec![Some(1), Some(2), None]));
        let mut mean = total(true, false);
        mean.update_batch(&[Arc::clone(&spans)]).unwrap();
        assert_eq!(mean.evaluate().unwrap(), ScalarValue::DurationMicrosecond(Some(2)));
        mean.retract_batch(&[spans.slice(1, 1)]).unwrap();
        assert_eq!(mean.evaluate().unwrap(), ScalarValue::DurationMicrosecond(Some(1)));
        assert!(total(true, false).evaluate().unwrap().is_null());
        let mut distinct = total(false, true);
        distinct.update_batch(&[Arc::new(Int64Array::from(vec![5, 5, 7]))]).unwrap();
        let states: Vec<ArrayRef> = distinct.state().unwrap().iter().map(|value| value.to_array().unwrap()).collect();
        distinct.merge_batch(&states).unwrap();
        assert_eq!(distinct.evaluate().unwrap(), ScalarValue::from(12_i64));
    }
}
