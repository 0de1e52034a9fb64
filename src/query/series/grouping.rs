//! The first stage of a grouping by labels and times.
//!
//! DataFusion groups in two stages. In the first one, each thread groups the rows that it reads; in the second one, the groups of
//! all threads are put together. This takes the place of the first one where the keys are labels, with at most one time. Labels stay
//! dictionaries, so a row's group is found without looking at a text (`groups.rs`).

use std::collections::VecDeque;
use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{EquivalenceProperties, GroupsAccumulatorAdapter, PhysicalExpr};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{StreamExt, stream};

use super::groups::{Groups, Part};

/// With so much memory, the groups of a thread go to the second stage. Those on their way are in nobody's account, so they may not
/// be many.
const GROUPS_BYTES_MAX: usize = 32 << 20;

/// A key, as it is computed from the rows.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) expr: Arc<dyn PhysicalExpr>,
    pub(super) part: Part,
}

/// The first stage of a grouping.
#[derive(Clone, Debug)]
pub(super) struct GroupExec {
    input: Arc<dyn ExecutionPlan>,
    keys: Vec<Key>,
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
    /// For each aggregate, which rows it takes.
    filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl GroupExec {
    /// In the place of `aggregate`, a first stage, over `input`, which has the same columns, some of them as dictionaries.
    pub(super) fn new(aggregate: &AggregateExec, keys: Vec<Key>, input: Arc<dyn ExecutionPlan>) -> GroupExec {
        GroupExec {
            properties: properties(aggregate.schema(), &input),
            input,
            keys,
            aggregates: aggregate.aggr_expr().to_vec(),
            filters: aggregate.filter_expr().to_vec(),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The same over another input, with other aggregates of the same types.
    pub(super) fn with(&self, aggregates: Vec<Arc<AggregateFunctionExpr>>, input: Arc<dyn ExecutionPlan>) -> GroupExec {
        GroupExec { properties: properties(self.schema(), &input), aggregates, input, ..self.clone() }
    }

    pub(super) fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    pub(super) fn aggregates(&self) -> &[Arc<AggregateFunctionExpr>] {
        &self.aggregates
    }
}

fn properties(schema: SchemaRef, input: &Arc<dyn ExecutionPlan>) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new(schema),
        Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
        EmissionType::Final,
        Boundedness::Bounded,
    ))
}

impl DisplayAs for GroupExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(|key| key.expr.to_string()).collect();
        let aggregates: Vec<&str> = self.aggregates.iter().map(|aggregate| aggregate.name()).collect();
        write!(f, "GroupExec: keys=[{}], aggregates=[{}]", keys.join(", "), aggregates.join(", "))
    }
}

impl ExecutionPlan for GroupExec {
    fn name(&self) -> &'static str {
        "GroupExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        apply: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let arguments: Vec<_> = self.aggregates.iter().flat_map(|aggregate| aggregate.expressions()).collect();
        let keys = self.keys.iter().map(|key| &key.expr);
        for expr in keys.chain(&arguments).chain(self.filters.iter().flatten()) {
            if apply(expr)? == TreeNodeRecursion::Stop {
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
        Ok(Arc::new(GroupExec { properties: properties(self.schema(), &input), input, ..(*self).clone() }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let stage = Stage {
            input,
            groups: Groups::new(&self.keys.iter().map(|key| key.part).collect::<Vec<_>>()),
            numbers: Vec::new(),
            accumulators: self.aggregates.iter().map(accumulator).collect::<Result<_>>()?,
            exec: self.clone(),
            reservation: MemoryConsumer::new(format!("GroupExec[{partition}]")).register(context.memory_pool()),
            rows_max: context.session_config().batch_size(),
            ready: VecDeque::new(),
            has_ended: false,
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let batches =
            stream::try_unfold(stage, |mut stage| async move { Ok(stage.next().await?.map(|batch| (batch, stage))) });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

fn accumulator(aggregate: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    if aggregate.groups_accumulator_supported() {
        return aggregate.create_groups_accumulator();
    }
    let aggregate = Arc::clone(aggregate);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || aggregate.create_accumulator())))
}

/// The stage on one thread.
struct Stage {
    exec: GroupExec,
    input: SendableRecordBatchStream,
    groups: Groups,
    /// The numbers of the groups of a batch's rows, while they are computed.
    numbers: Vec<usize>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    reservation: MemoryReservation,
    /// Rows of a batch of the result.
    rows_max: usize,
    ready: VecDeque<RecordBatch>,
    has_ended: bool,
    metrics: BaselineMetrics,
}

impl Stage {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch.record_output(&self.metrics)));
            }
            if self.has_ended {
                return Ok(None);
            }
            match self.input.next().await {
                Some(batch) => {
                    let batch = batch?;
                    let time = self.metrics.elapsed_compute().clone();
                    let _timer = time.timer();
                    self.add(&batch)?;
                    let bytes: usize = self.accumulators.iter().map(|accumulator| accumulator.size()).sum();
                    let bytes = bytes + self.groups.size();
                    // The second stage takes a group in several parts, too.
                    if bytes > GROUPS_BYTES_MAX || self.reservation.try_resize(bytes).is_err() {
                        self.emit()?;
                    }
                }
                None => {
                    self.has_ended = true;
                    self.emit()?;
                }
            }
        }
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let array = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(batch.num_rows());
        let keys = self.exec.keys.iter().map(|key| array(&key.expr)).collect::<Result<Vec<_>>>()?;
        self.groups.number(&keys, &mut self.numbers)?;
        let aggregates = self.exec.aggregates.iter().zip(&self.exec.filters);
        for (accumulator, (aggregate, filter)) in self.accumulators.iter_mut().zip(aggregates) {
            let arguments = aggregate.expressions().iter().map(array).collect::<Result<Vec<ArrayRef>>>()?;
            let filter: Option<ArrayRef> = filter.as_ref().map(array).transpose()?;
            let filter: Option<&BooleanArray> = filter.as_ref().map(AsArray::as_boolean);
            accumulator.update_batch(&arguments, &self.numbers, filter, self.groups.len())?;
        }
        Ok(())
    }

    /// Makes all groups ready, and begins anew.
    fn emit(&mut self) -> Result<()> {
        let groups = self.groups.len();
        if groups > 0 {
            let schema = self.exec.schema();
            let types: Vec<DataType> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
            let mut columns = self.groups.take(&types)?;
            for accumulator in &mut self.accumulators {
                columns.extend(accumulator.state(EmitTo::All)?);
            }
            let all = RecordBatch::try_new(schema, columns)?;
            let starts = (0..groups).step_by(self.rows_max.max(1));
            self.ready.extend(starts.map(|start| all.slice(start, self.rows_max.min(groups - start))));
        }
        self.reservation.free();
        Ok(())
    }
}
