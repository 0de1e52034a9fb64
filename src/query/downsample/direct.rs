//! The rows of a window that is asked for without a statement: what tells series apart, `time`, `end`, the values of each column, `ticks`,
//! `tier` and `host`, in the order of series and time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::common::{Result, plan_err};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;

use super::window::Window;
use crate::query::asked::{Asked, VALUES};
use crate::record::Column;

/// Where the columns of such rows come from.
#[derive(Debug)]
pub(super) struct Layout {
    /// The columns of the window that are read: first those that are told as they are, then how many values each column has.
    pub(super) read: Vec<usize>,
    plain: usize,
    /// The position of the ticks among what is told.
    ticks: usize,
    pub(super) schema: SchemaRef,
    /// Those that rows are ordered by.
    order: Vec<usize>,
}

impl Layout {
    pub(super) fn of(window: &Window, asked: &Asked) -> Result<Layout> {
        if let Some(other) = asked.values.iter().find(|value| !VALUES.contains(&value.as_str())) {
            return plan_err!("a window has no value {other}");
        }
        let own = window.schema();
        let (mut read, mut fields) = (Vec::new(), Vec::new());
        let mut tell = |from: &str, to: &str| -> Result<()> {
            let at = own.index_of(from)?;
            fields.push(Field::new(to, own.field(at).data_type().clone(), true));
            read.push(at);
            Ok(())
        };
        for key in window.keys() {
            tell(key.name, key.name)?;
        }
        let keys = window.keys().count();
        tell(Column::TIME.name, Column::TIME.name)?;
        tell("end_time", "end")?;
        let (is_one, mut ticks) = (window.columns.len() == 1, keys + 2);
        let name =
            |column: &Column, what: &str| if is_one { what.to_owned() } else { format!("{}_{what}", column.name) };
        for column in &window.columns {
            for what in VALUES.iter().filter(|what| asked.values.iter().any(|value| value == *what)) {
                tell(&name(column, what), &format!("{}_{what}", column.name))?;
                ticks += 1;
            }
        }
        tell("tier", "tier")?;
        tell(Column::HOST.name, Column::HOST.name)?;
        let (host, plain) = (read.len() - 1, read.len());
        for column in &window.columns {
            read.push(own.index_of(&name(column, "count"))?);
        }
        fields.insert(ticks, Field::new("ticks", DataType::Int64, true));
        let order = (0..keys).chain([host, keys]).collect();
        Ok(Layout { read, plain, ticks, schema: Arc::new(Schema::new(fields)), order })
    }

    /// The rows in their order.
    pub(super) fn sorted(&self, plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        let schema = plan.schema();
        let by = |at: &usize| {
            let column = Arc::new(PhysicalColumn::new(schema.field(*at).name(), *at));
            let mut by = PhysicalSortExpr::new_default(column);
            by.options.nulls_first = false;
            by
        };
        match LexOrdering::new(self.order.iter().map(by)) {
            Some(order) => Arc::new(SortExec::new(order, plan)),
            None => plan,
        }
    }

    /// The rows as they are told, from those that were read.
    pub(super) fn told(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let (plain, counts) = rows.columns().split_at(self.plain.min(rows.num_columns()));
        let counts: Vec<&Int64Array> = counts.iter().filter_map(|of| of.as_primitive_opt::<Int64Type>()).collect();
        let mut columns: Vec<ArrayRef> = plain.to_vec();
        // A column may lack values in some rows of a bucket.
        let most = |row| counts.iter().filter(|of| of.is_valid(row)).map(|of| of.value(row)).max();
        columns.insert(self.ticks, Arc::new((0..rows.num_rows()).map(most).collect::<Int64Array>()));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}
