//! `sum` and `avg` that are exact or an error.
//!
//! DataFusion's sums of integers and decimals wrap around, and its means of durations and decimals are cut off. As a window moves, it
//! subtracts doubles that have left, which leaves their rounding in the sum, and NaN for an infinity. Everything else that `sum` and
//! `avg` take is DataFusion's own.

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

use super::moving::Moving;

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
    mean: bool,
    aliases: Vec<String>,
}

/// What is made of a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Integer,
    /// The sum of decimals, which has so many digits, of which so many stand behind the point.
    Decimal(u8, i8),
    /// The mean of durations.
    Length,
    /// The mean of decimals of so many digits behind the point.
    Mean(i8),
}

impl Exact {
    /// What is computed here of values of this type.
    fn output(&self, value: Option<&FieldRef>) -> Option<Output> {
        match (self.mean, value?.data_type()) {
            (false, DataType::Int64) => Some(Output::Integer),
            (false, DataType::Decimal128(digits, scale)) => {
                Some(Output::Decimal(digits.saturating_add(10).min(38), *scale))
            }
            (true, ty) if ty == &US => Some(Output::Length),
            (true, DataType::Decimal128(_, scale)) => Some(Output::Mean(*scale)),
            _ => None,
        }
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
        match types {
            // As in DuckDB.
            [DataType::Decimal128(..)] if self.mean => Ok(DataType::Float64),
            types => self.inner.return_type(types),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match self.output(args.expr_fields.first()) {
            Some(output) => Ok(Box::new(Total::new(output, args.is_distinct))),
            None => self.inner.accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return self.inner.create_sliding_accumulator(args);
        }
        match (self.output(args.expr_fields.first()), args.expr_fields.first()) {
            (Some(_), _) => self.accumulator(args),
            (None, Some(value)) if value.data_type() == &DataType::Float64 => Ok(Box::new(Moving::new(self.mean))),
            _ => self.inner.create_sliding_accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if self.output(args.input_fields.first()).is_none() {
            return self.inner.state_fields(args);
        }
        let field = |name, ty| Arc::new(Field::new(format_state_name(args.name, name), ty, true));
        if args.is_distinct {
            return Ok(vec![field("values", DataType::new_list(STATE, true))]);
        }
        Ok(vec![field("sum", STATE), field("count", DataType::UInt64)])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        match self.output(args.expr_fields.first()) {
            Some(_) => !args.is_distinct && !self.mean,
            None => self.inner.groups_accumulator_supported(args),
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        match self.output(args.expr_fields.first()) {
            Some(output) => Ok(Box::new(Totals { output, sums: Vec::new(), counts: Vec::new() })),
            None => self.inner.create_groups_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

impl Output {
    fn value(self, sum: i128, count: u64) -> Result<ScalarValue> {
        let some = count > 0;
        Ok(match self {
            Output::Integer => ScalarValue::Int64(some.then(|| integer(sum)).transpose()?),
            Output::Decimal(digits, scale) => {
                ScalarValue::Decimal128(some.then(|| decimal(sum, digits, scale)).transpose()?, digits, scale)
            }
            // The nearest µs. The mean lies between the values, so it fits.
            Output::Length => ScalarValue::DurationMicrosecond(
                some.then(|| integer((2 * sum + i128::from(count)).div_euclid(2 * i128::from(count)))).transpose()?,
            ),
            Output::Mean(scale) => {
                ScalarValue::Float64(some.then(|| sum as f64 / (count as f64 * 10_f64.powi(scale.into()))))
            }
        })
    }
}

fn integer(sum: i128) -> Result<i64> {
    sum.try_into().map_err(|_| beyond(sum))
}

fn decimal(sum: i128, digits: u8, scale: i8) -> Result<i128> {
    match 10_u128.checked_pow(digits.into()) {
        Some(limit) if sum.unsigned_abs() < limit => Ok(sum),
        _ => Err(too_many_digits(scale)),
    }
}

fn beyond(sum: i128) -> DataFusionError {
    exec_datafusion_err!(
        "the sum {sum} is beyond what a 64-bit integer holds: write sum(x::DECIMAL(38, 0)) or sum(x::DOUBLE)"
    )
}

fn too_many_digits(scale: i8) -> DataFusionError {
    exec_datafusion_err!("a sum is beyond what a DECIMAL(38, {scale}) holds: cast to DOUBLE, as in sum(x::DOUBLE)")
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

/// The values of a column.
enum Numbers {
    /// Integers or durations.
    Whole(Int64Array),
    Decimals(Decimal128Array),
}

impl Numbers {
    fn of(columns: &[ArrayRef]) -> Result<Numbers> {
        let [array] = columns else { return exec_err!("a sum of {} columns", columns.len()) };
        Ok(match array.data_type() {
            DataType::Int64 => Numbers::Whole(array.as_primitive::<Int64Type>().clone()),
            DataType::Decimal128(..) => Numbers::Decimals(array.as_primitive::<Decimal128Type>().clone()),
            _ => Numbers::Whole(array.as_primitive::<DurationMicrosecondType>().reinterpret_cast::<Int64Type>()),
        })
    }

    fn count(&self) -> u64 {
        let (rows, nulls) = match self {
            Numbers::Whole(numbers) => (numbers.len(), numbers.null_count()),
            Numbers::Decimals(numbers) => (numbers.len(), numbers.null_count()),
        };
        (rows - nulls) as u64
    }

    fn iter(&self) -> Box<dyn Iterator<Item = Option<i128>> + '_> {
        match self {
            Numbers::Whole(numbers) => Box::new(numbers.iter().map(|number| number.map(i128::from))),
            Numbers::Decimals(numbers) => Box::new(numbers.iter()),
        }
    }

    /// The sum, or `None` if it is beyond what is counted in.
    fn sum(&self) -> Option<i128> {
        match self {
            Numbers::Whole(numbers) if numbers.null_count() == 0 => Some(sum_of(numbers.values())),
            Numbers::Whole(numbers) => Some(numbers.iter().flatten().map(i128::from).sum()),
            Numbers::Decimals(numbers) => numbers.iter().flatten().try_fold(0_i128, i128::checked_add),
        }
    }
}

fn plus(sum: i128, more: Option<i128>) -> Result<i128> {
    more.and_then(|more| sum.checked_add(more)).ok_or_else(|| too_many_digits(0))
}

/// One sum.
#[derive(Debug)]
struct Total {
    output: Output,
    sum: i128,
    count: u64,
    /// The values so far, if each counts once.
    distinct: Option<HashSet<i128>>,
}

impl Total {
    fn new(output: Output, is_distinct: bool) -> Total {
        Total { output, sum: 0, count: 0, distinct: is_distinct.then(HashSet::new) }
    }
}

impl Accumulator for Total {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let numbers = Numbers::of(columns)?;
        if let Some(distinct) = &mut self.distinct {
            distinct.extend(numbers.iter().flatten());
            return Ok(());
        }
        self.sum = plus(self.sum, numbers.sum())?;
        self.count += numbers.count();
        Ok(())
    }

    fn retract_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let numbers = Numbers::of(columns)?;
        self.sum = plus(self.sum, numbers.sum().and_then(i128::checked_neg))?;
        self.count -= numbers.count();
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        self.distinct.is_none()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let Some(values) = &self.distinct else { return self.output.value(self.sum, self.count) };
        let sum = values.iter().try_fold(0, |sum, value| plus(sum, Some(*value)))?;
        self.output.value(sum, values.len() as u64)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.distinct.as_ref().map_or(0, |values| 2 * size_of::<i128>() * values.capacity())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let decimal = |value: i128| ScalarValue::Decimal128(Some(value), 38, 0);
        if let Some(values) = &self.distinct {
            let values: Vec<ScalarValue> = values.iter().copied().map(decimal).collect();
            return Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &STATE))]);
        }
        Ok(vec![decimal(self.sum), ScalarValue::UInt64(Some(self.count))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        if let Some(distinct) = &mut self.distinct {
            for values in states.iter().flat_map(|lists| lists.as_list::<i32>().iter()).flatten() {
                distinct.extend(values.as_primitive::<Decimal128Type>().iter().flatten());
            }
            return Ok(());
        }
        let [sums, counts] = states else { return exec_err!("a sum and a count, not {} columns", states.len()) };
        for sum in sums.as_primitive::<Decimal128Type>().iter().flatten() {
            self.sum = plus(self.sum, Some(sum))?;
        }
        self.count += counts.as_primitive::<UInt64Type>().iter().flatten().sum::<u64>();
        Ok(())
    }
}

/// A sum for each group.
#[derive(Debug)]
struct Totals {
    output: Output,
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
        let numbers = Numbers::of(columns)?;
        self.grow(group_count);
        if let Numbers::Whole(numbers) = &numbers
            && numbers.null_count() == 0
            && chosen.is_none()
        {
            for (group, value) in groups.iter().zip(numbers.values()) {
                self.sums[*group] += i128::from(*value);
                self.counts[*group] += 1;
            }
            return Ok(());
        }
        for (row, (group, value)) in groups.iter().zip(numbers.iter()).enumerate() {
            let taken = chosen.is_none_or(|chosen| chosen.is_valid(row) && chosen.value(row));
            if taken && value.is_some() {
                self.sums[*group] = plus(self.sums[*group], value)?;
                self.counts[*group] += 1;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (sums, counts) = self.take(emit);
        let sums = sums.into_iter().zip(counts).map(|(sum, count)| (count > 0).then_some(sum));
        if let Output::Decimal(digits, scale) = self.output {
            let sums = sums.map(|sum| sum.map(|sum| decimal(sum, digits, scale)).transpose());
            let sums = sums.collect::<Result<Decimal128Array>>()?;
            return Ok(Arc::new(sums.with_precision_and_scale(digits, scale)?));
        }
        Ok(Arc::new(sums.map(|sum| sum.map(integer).transpose()).collect::<Result<Int64Array>>()?))
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
            self.sums[*group] = plus(self.sums[*group], sum.or(Some(0)))?;
            self.counts[*group] += count.unwrap_or_default();
        }
        Ok(())
    }

    fn convert_to_state(&self, columns: &[ArrayRef], chosen: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let numbers = Numbers::of(columns)?;
        let taken = |row: usize| chosen.is_none_or(|chosen| chosen.is_valid(row) && chosen.value(row));
        let values = numbers.iter().enumerate().map(|(row, value)| value.filter(|_| taken(row)));
        let (sums, counts): (Vec<i128>, Vec<u64>) =
            values.map(|value| (value.unwrap_or_default(), u64::from(value.is_some()))).unzip();
        let sums = Decimal128Array::from(sums).with_precision_and_scale(38, 0)?;
        Ok(vec![Arc::new(sums), Arc::new(UInt64Array::from(counts))])
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

    proptest! {
        #[test]
        fn sums_are_exact_in_any_parts(values in prop::collection::vec(prop::option::weighted(0.9, any::<i64>()), 0..50)) {
            let expected: i128 = values.iter().flatten().copied().map(i128::from).sum();
            let array: ArrayRef = Arc::new(Int64Array::from(values.clone()));
            let mut whole = Total::new(Output::Integer, false);
            let half = values.len() / 2;
            for (start, end) in [(0, half), (half, values.len())] {
                let mut part = Total::new(Output::Integer, false);
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
        let mut totals = Totals { output: Output::Integer, sums: Vec::new(), counts: Vec::new() };
        totals.update_batch(&[Arc::clone(&values)], &[0, 1, 2, 0], None, 4).unwrap();
        let chosen = BooleanArray::from(vec![Some(false), Some(true), Some(true), None]);
        totals.update_batch(&[Arc::clone(&values)], &[0, 1, 2, 0], Some(&chosen), 4).unwrap();
        let mut merged = Totals { output: Output::Integer, sums: Vec::new(), counts: Vec::new() };
        let state = totals.state(EmitTo::All).unwrap();
        merged.merge_batch(&state, &[0, 1, 2, 3], 4).unwrap();
        let direct = merged.convert_to_state(&[values], Some(&chosen)).unwrap();
        merged.merge_batch(&direct, &[3, 3, 3, 3], 4).unwrap();
        let sums = merged.evaluate(EmitTo::All).unwrap();
        let sums: Vec<_> = sums.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(sums, [Some(i64::MAX - 1), None, Some(2), Some(1)]);
        let mut totals = Totals { output: Output::Integer, sums: Vec::new(), counts: Vec::new() };
        let most: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, 1]));
        totals.update_batch(&[most], &[0, 0], None, 1).unwrap();
        assert!(totals.evaluate(EmitTo::All).is_err());
    }

    #[test]
    fn means_of_durations_are_rounded_and_windows_move() {
        let spans: ArrayRef = Arc::new(DurationMicrosecondArray::from(vec![Some(1), Some(2), None]));
        let mut mean = Total::new(Output::Length, false);
        mean.update_batch(&[Arc::clone(&spans)]).unwrap();
        assert_eq!(mean.evaluate().unwrap(), ScalarValue::DurationMicrosecond(Some(2)));
        mean.retract_batch(&[spans.slice(1, 1)]).unwrap();
        assert_eq!(mean.evaluate().unwrap(), ScalarValue::DurationMicrosecond(Some(1)));
        assert!(Total::new(Output::Length, false).evaluate().unwrap().is_null());
        let mut distinct = Total::new(Output::Integer, true);
        distinct.update_batch(&[Arc::new(Int64Array::from(vec![5, 5, 7]))]).unwrap();
        let states: Vec<ArrayRef> = distinct.state().unwrap().iter().map(|value| value.to_array().unwrap()).collect();
        distinct.merge_batch(&states).unwrap();
        assert_eq!(distinct.evaluate().unwrap(), ScalarValue::from(12_i64));
    }

    #[test]
    fn decimals_are_exact_or_an_error() {
        let decimals = |values: &[i128], digits| -> ArrayRef {
            let values = Decimal128Array::from(values.to_vec());
            Arc::new(values.with_precision_and_scale(digits, 2).unwrap())
        };
        let values = decimals(&[100, 200, 200], 10);
        let mut mean = Total::new(Output::Mean(2), false);
        mean.update_batch(&[Arc::clone(&values)]).unwrap();
        assert_eq!(mean.evaluate().unwrap(), ScalarValue::from(5.0 / 3.0));
        mean.retract_batch(&[values.slice(0, 1)]).unwrap();
        assert_eq!(mean.evaluate().unwrap(), ScalarValue::from(2.0));
        let mut once = Total::new(Output::Mean(2), true);
        once.update_batch(&[Arc::clone(&values)]).unwrap();
        assert_eq!(once.evaluate().unwrap(), ScalarValue::from(1.5));
        let mut totals = Totals { output: Output::Decimal(20, 2), sums: Vec::new(), counts: Vec::new() };
        totals.update_batch(&[values], &[0, 1, 1], None, 3).unwrap();
        let sums = totals.evaluate(EmitTo::All).unwrap();
        assert_eq!(sums.as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>(), [Some(100), Some(400), None]);
        // Two of them have 39 digits, and four are beyond 128 bits.
        let most = decimals(&[99_999_999_999_999_999_999_999_999_999_999_999_999; 4], 38);
        for rows in [2, 4] {
            let mut total = Total::new(Output::Decimal(38, 2), false);
            let told = total.update_batch(&[most.slice(0, rows)]).and_then(|()| total.evaluate());
            assert!(told.unwrap_err().to_string().contains("DECIMAL(38"), "{rows}");
        }
    }
}
