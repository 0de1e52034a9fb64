//! `lag(value) OVER (PARTITION BY labels ORDER BY time)` over rows that are in the order of time: the value of the row before in
//! the same series, found in one pass without a sort.
//!
//! Each thread reads a stretch of time, one after the other. The first rows of a stretch need values from the stretch before, so
//! they are held back until it has been read.

use std::fmt::{self, Formatter};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat, filter_record_batch, take, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::oneshot;

use super::groups::{Groups, Part};

/// There is no row before.
const NONE: u32 = u32::MAX;

/// Adds the values of the rows before.
#[derive(Clone, Debug)]
pub(super) struct StepsExec {
    /// Its partitions are stretches of time that follow each other, each in the order of time.
    input: Arc<dyn ExecutionPlan>,
    /// Columns of the input. Rows with equal labels are a series.
    labels: Vec<usize>,
    time: usize,
    /// What is wanted of the row before.
    values: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    /// From each stretch to the next.
    ends: Arc<Vec<End>>,
    metrics: ExecutionPlanMetricsSet,
}

/// Tells the end of a stretch to the next one.
#[derive(Debug)]
struct End {
    /// Each is taken once.
    teller: Mutex<Option<oneshot::Sender<Newest>>>,
    told: Mutex<Option<oneshot::Receiver<Newest>>>,
}

impl End {
    fn new() -> End {
        let (teller, told) = oneshot::channel();
        End { teller: Mutex::new(Some(teller)), told: Mutex::new(Some(told)) }
    }

    fn teller(&self) -> Option<oneshot::Sender<Newest>> {
        self.teller.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn told(&self) -> Option<oneshot::Receiver<Newest>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The newest values of each series.
#[derive(Debug)]
struct Newest {
    /// A row for each series.
    labels: Vec<ArrayRef>,
    values: Vec<ArrayRef>,
}

impl StepsExec {
    /// `schema` has the columns of the input, whose dictionaries may be plain there, and one for each of `values`.
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        labels: Vec<usize>,
        time: usize,
        values: Vec<Arc<dyn PhysicalExpr>>,
        schema: SchemaRef,
    ) -> StepsExec {
        let count = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(count),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        StepsExec {
            input,
            labels,
            time,
            values,
            schema,
            properties: Arc::new(properties),
            ends: Arc::new((0..count).map(|_| End::new()).collect()),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The same over another input, or with other types.
    pub(super) fn with(&self, input: Arc<dyn ExecutionPlan>, schema: SchemaRef) -> StepsExec {
        StepsExec::new(input, self.labels.clone(), self.time, self.values.clone(), schema)
    }

    pub(super) fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// Whether a column of the input is used as it is, or in no value.
    pub(super) fn values(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.values
    }
}

impl DisplayAs for StepsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut Formatter<'_>) -> fmt::Result {
        let values: Vec<String> = self.values.iter().map(ToString::to_string).collect();
        let schema = self.input.schema();
        let labels: Vec<&str> = self.labels.iter().map(|at| schema.field(*at).name().as_str()).collect();
        write!(f, "StepsExec: values=[{}], series=[{}]", values.join(", "), labels.join(", "))
    }
}

impl ExecutionPlan for StepsExec {
    fn name(&self) -> &'static str {
        "StepsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// Another division of its input would not follow the time.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        apply: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for value in &self.values {
            if apply(value)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(self.with(input, Arc::clone(&self.schema))))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let told = partition.checked_sub(1).and_then(|before| self.ends.get(before)).and_then(End::told);
        // The last one has nobody to tell.
        let next = self.ends.get(partition + 1).and(self.ends.get(partition));
        let stretch = Stretch::new(self.clone(), partition, context, told, next.and_then(End::teller))?;
        let batches = stream::try_unfold(stretch, |mut stretch| async move {
            Ok(stretch.next().await?.map(|batch| (batch, stretch)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// A stretch of time while it is read.
struct Stretch {
    exec: StepsExec,
    partition: usize,
    context: Arc<TaskContext>,
    input: SendableRecordBatchStream,
    series: Groups,
    numbers: Vec<usize>,
    /// For each wanted value, the newest one of each series.
    newest: Vec<ArrayRef>,
    time: i64,
    /// First rows of series, with their numbers.
    held: Vec<(RecordBatch, Vec<u32>)>,
    told: Option<oneshot::Receiver<Newest>>,
    teller: Option<oneshot::Sender<Newest>>,
    has_ended: bool,
    reservation: MemoryReservation,
    metrics: BaselineMetrics,
}

impl Stretch {
    fn new(
        exec: StepsExec,
        partition: usize,
        context: Arc<TaskContext>,
        told: Option<oneshot::Receiver<Newest>>,
        teller: Option<oneshot::Sender<Newest>>,
    ) -> Result<Stretch> {
        let input = exec.input.execute(partition, Arc::clone(&context))?;
        let schema = exec.input.schema();
        let newest = exec.values.iter().map(|value| Ok(arrow::array::new_empty_array(&value.data_type(&schema)?)));
        Ok(Stretch {
            series: Groups::new(&vec![Part::Label; exec.labels.len()]),
            numbers: Vec::new(),
            newest: newest.collect::<Result<_>>()?,
            time: i64::MIN,
            held: Vec::new(),
            told,
            teller,
            has_ended: false,
            reservation: MemoryConsumer::new(format!("StepsExec[{partition}]")).register(context.memory_pool()),
            metrics: BaselineMetrics::new(&exec.metrics, partition),
            exec,
            partition,
            context,
            input,
        })
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while !self.has_ended {
            match self.input.next().await {
                Some(batch) => {
                    let batch = batch?;
                    let time = self.metrics.elapsed_compute().clone();
                    let _timer = time.timer();
                    let batch = self.add(&batch)?;
                    self.reservation.try_resize(self.series.size())?;
                    if batch.num_rows() > 0 {
                        return Ok(Some(batch.record_output(&self.metrics)));
                    }
                }
                None => {
                    self.has_ended = true;
                    let batch = self.end().await?;
                    return Ok(batch.map(|batch| batch.record_output(&self.metrics)));
                }
            }
        }
        Ok(None)
    }

    /// The rows of a batch that can be told now.
    fn add(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        self.check_times(batch)?;
        let rows = batch.num_rows();
        let known = self.newest.first().map_or(0, Array::len);
        if self.exec.labels.is_empty() {
            self.numbers.clear();
            self.numbers.resize(rows, 0);
        } else {
            let labels: Vec<ArrayRef> = self.exec.labels.iter().map(|at| Arc::clone(batch.column(*at))).collect();
            self.series.number(&labels, &mut self.numbers)?;
        }
        // Places of values in those that are known, followed by those of the batch.
        let place = |row: usize| u32::try_from(row).map_err(|_| exec_datafusion_err!("a batch of {row} rows"));
        let mut last: Vec<u32> = (0..place(known)?).collect();
        let series = if self.exec.labels.is_empty() { usize::from(rows + known > 0) } else { self.series.len() };
        last.resize(series, NONE);
        let mut before = Vec::with_capacity(rows);
        let mut firsts = Vec::new();
        for (row, number) in self.numbers.iter().enumerate() {
            let last = &mut last[*number];
            if *last == NONE {
                firsts.push(place(row)?);
            }
            before.push((*last != NONE).then_some(*last));
            *last = place(known + row)?;
        }
        let (before, last) = (UInt32Array::from(before), UInt32Array::from(last));
        let mut columns = Vec::with_capacity(self.exec.values.len());
        for (newest, value) in self.newest.iter_mut().zip(&self.exec.values) {
            let values = value.evaluate(batch)?.into_array(rows)?;
            let all = concat(&[&**newest, &*values])?;
            columns.push(take(&all, &before, None)?);
            *newest = take(&all, &last, None)?;
        }
        if self.partition == 0 || firsts.is_empty() {
            return self.result(batch, columns);
        }
        let numbers = firsts.iter().filter_map(|row| u32::try_from(self.numbers[*row as usize]).ok()).collect();
        let mut is_told = vec![true; rows];
        firsts.iter().for_each(|row| is_told[*row as usize] = false);
        self.held.push((take_record_batch(batch, &UInt32Array::from(firsts))?, numbers));
        Ok(filter_record_batch(&self.result(batch, columns)?, &BooleanArray::from(is_told))?)
    }

    fn check_times(&mut self, batch: &RecordBatch) -> Result<()> {
        let times = batch.column(self.exec.time).as_primitive::<TimestampMicrosecondType>().values();
        let is_in_order = times.first().is_none_or(|first| *first >= self.time) && times.is_sorted();
        self.time = times.last().copied().unwrap_or(self.time);
        if is_in_order { Ok(()) } else { exec_err!("a file has rows that are not in the order of time") }
    }

    /// The columns of rows of the input, and further ones.
    fn result(&self, rows: &RecordBatch, more: Vec<ArrayRef>) -> Result<RecordBatch> {
        let columns = rows.columns().iter().cloned().chain(more).zip(self.exec.schema.fields());
        let columns = columns.map(|(column, field)| {
            Ok(if column.data_type() == field.data_type() { column } else { cast(&column, field.data_type())? })
        });
        Ok(RecordBatch::try_new(Arc::clone(&self.exec.schema), columns.collect::<Result<_>>()?)?)
    }

    /// The rows that were held back. Tells the next stretch.
    async fn end(&mut self) -> Result<Option<RecordBatch>> {
        let mut told = None;
        if self.partition > 0 && (!self.held.is_empty() || self.teller.is_some()) {
            let Newest { labels, values } = self.before().await?;
            let own = self.newest.first().map_or(0, Array::len);
            let rows = values.first().map_or(0, Array::len);
            if labels.is_empty() {
                self.numbers.clear();
                self.numbers.resize(rows, 0);
            } else {
                self.series.number(&labels, &mut self.numbers)?;
            }
            // The place of each series in the stretch before.
            let mut places: Vec<Option<u32>> = vec![None; self.series.len().max(own).max(rows)];
            for (place, number) in (0..).zip(&self.numbers) {
                places[*number] = Some(place);
            }
            told = self.tell_held(&values, &places)?;
            for (newest, values) in self.newest.iter_mut().zip(&values) {
                let all = concat(&[&**newest, &**values])?;
                let place = |(number, place): (usize, &Option<u32>)| {
                    let number = u32::try_from(number).ok().filter(|number| (*number as usize) < own);
                    number.or(place.and_then(|place| u32::try_from(own).ok()?.checked_add(place)))
                };
                *newest = take(&all, &places.iter().enumerate().filter_map(place).collect::<UInt32Array>(), None)?;
            }
        }
        if let Some(teller) = self.teller.take() {
            // This fails if nobody reads the next stretch.
            let _ = teller.send(self.newest()?);
        }
        Ok(told)
    }

    fn tell_held(&mut self, values: &[ArrayRef], places: &[Option<u32>]) -> Result<Option<RecordBatch>> {
        let mut told = Vec::with_capacity(self.held.len());
        for (rows, numbers) in std::mem::take(&mut self.held) {
            let places: UInt32Array = numbers.iter().map(|number| places.get(*number as usize).copied()?).collect();
            let columns = values.iter().map(|values| Ok(take(values, &places, None)?)).collect::<Result<_>>()?;
            told.push(self.result(&rows, columns)?);
        }
        Ok(if told.is_empty() { None } else { Some(arrow::compute::concat_batches(&self.exec.schema, &told)?) })
    }

    fn newest(&self) -> Result<Newest> {
        let labels = self.series.keys(&vec![DataType::Utf8; self.exec.labels.len()])?;
        Ok(Newest { labels, values: self.newest.clone() })
    }

    /// The newest values before this stretch.
    async fn before(&mut self) -> Result<Newest> {
        if let Some(told) = self.told.take()
            && let Ok(newest) = told.await
        {
            return Ok(newest);
        }
        // Whoever read the stretch before has stopped, as after a LIMIT. It is read once more.
        let before = Stretch::new(self.exec.clone(), self.partition - 1, Arc::clone(&self.context), None, None)?;
        before.read().await
    }

    /// Reads all of a stretch for its newest values.
    fn read(mut self) -> BoxFuture<'static, Result<Newest>> {
        async move {
            // So that it learns of series that it does not have.
            let (teller, told) = oneshot::channel();
            self.teller = Some(teller);
            while self.next().await?.is_some() {}
            told.await.map_err(|_| exec_datafusion_err!("the rows before could not be read"))
        }
        .boxed()
    }
}
