//! `date_bin` over times that mostly follow each other: the bin of a row is mostly that of the row before.

use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, FieldRef, Schema, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::{CastExpr, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

const DAY_NS: i64 = 86_400_000_000_000;
const NAME: &str = "date_bin";
const NS_PER_US: i64 = 1_000;
/// 1684 to 2255, for which whole ns fit. Outside, `date_bin` may overflow, which is its own to tell.
const TIMES_US: std::ops::Range<i64> = -9_000_000_000_000_000..9_000_000_000_000_000;

/// The beginning of the bin that a time lies in. All bins have the same width, and one begins at 0.
#[derive(Clone, Debug)]
pub(super) struct Bin {
    /// What it does, for times that are not usual.
    whole: Arc<dyn PhysicalExpr>,
    /// In µs.
    time: Arc<dyn PhysicalExpr>,
    width_us: i64,
    /// What it gives.
    unit: TimeUnit,
}

impl Bin {
    /// The same as `expr`, if it is a call of `date_bin` with a constant width in whole µs, no origin, and times in µs.
    pub(super) fn of(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Bin> {
        let call = expr.downcast_ref::<ScalarFunctionExpr>().filter(|call| call.name() == NAME)?;
        let [width, time] = call.args() else { return None };
        let DataType::Timestamp(unit, zone) = call.return_type() else { return None };
        // The planner casts times to ns.
        let time = time.downcast_ref::<CastExpr>().map_or(time, CastExpr::expr);
        let is_known = matches!(unit, TimeUnit::Microsecond | TimeUnit::Nanosecond);
        if !is_known || time.data_type(schema).ok()? != DataType::Timestamp(TimeUnit::Microsecond, zone.clone()) {
            return None;
        }
        let ScalarValue::IntervalMonthDayNano(Some(width)) = width.downcast_ref::<Literal>()?.value() else {
            return None;
        };
        let width_ns = i64::from(width.days).checked_mul(DAY_NS)?.checked_add(width.nanoseconds)?;
        let is_whole = width.months == 0 && width_ns > 0 && width_ns % NS_PER_US == 0;
        let width_us = width_ns / NS_PER_US;
        is_whole.then(|| Bin { whole: Arc::clone(expr), time: Arc::clone(time), width_us, unit: *unit })
    }
}

impl PartialEq for Bin {
    fn eq(&self, other: &Bin) -> bool {
        *self.whole == *other.whole
    }
}

impl Eq for Bin {}

impl Hash for Bin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.whole.hash(state);
    }
}

impl Display for Bin {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.whole.fmt(f)
    }
}

impl PhysicalExpr for Bin {
    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.whole.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let times = self.time.evaluate(batch)?.into_array(batch.num_rows())?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let (mut start, mut end) = (0, 0);
        let mut is_usual = true;
        let factor = if self.unit == TimeUnit::Nanosecond { NS_PER_US } else { 1 };
        let bins = times.values().iter().map(|time| {
            if *time < start || *time >= end {
                is_usual &= TIMES_US.contains(time);
                start = time.wrapping_sub(time.rem_euclid(self.width_us));
                end = start.wrapping_add(self.width_us);
            }
            start.wrapping_mul(factor)
        });
        let bins: Vec<i64> = bins.collect();
        if !is_usual {
            return self.whole.evaluate(batch);
        }
        let (bins, nulls) = (bins.into(), times.nulls().cloned());
        let bins: ArrayRef = if self.unit == TimeUnit::Nanosecond {
            Arc::new(TimestampNanosecondArray::new(bins, nulls).with_timezone_opt(times.timezone()))
        } else {
            Arc::new(TimestampMicrosecondArray::new(bins, nulls).with_timezone_opt(times.timezone()))
        };
        Ok(ColumnarValue::Array(bins))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.whole, &self.time]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let mut children = children.into_iter();
        let mut next = |own: &Arc<dyn PhysicalExpr>| children.next().unwrap_or_else(|| Arc::clone(own));
        Ok(Arc::new(Bin { whole: next(&self.whole), time: next(&self.time), width_us: self.width_us, unit: self.unit }))
    }

    fn fmt_sql(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.whole.fmt_sql(f)
    }
}
