//! The operator that reduces the rows of a window to buckets, in one pass over each part. If the buckets do not fit into memory, it
//! tells one slice of the series after the other.
//!
//! As a statement with groupings, three columns over five minutes took 26 ms, most of it to plan; so they take 6.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, exec_err, project_schema};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions, reset_plan_states,
};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{Stream, StreamExt, stream};

use super::budget::{Budget, Part, is_of_memory};
use super::scan::Scan;
use super::share::{Share, Whole};
use super::slice::Slice;
use super::window::Window;
use super::{cover, told};
use crate::words::list;

/// The parts of hosts that have the same of a window, in the order of time.
pub(super) type OfHosts = Vec<Arc<Scan>>;

/// Gives the rows of a window. Its scans are as they have to be, so rules that change plans do not see them.
#[derive(Clone, Debug)]
pub(super) struct BucketsExec {
    window: Arc<Window>,
    hosts: Arc<Vec<OfHosts>>,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    /// Whether its scans are seen.
    shows_scans: bool,
}

/// Comes after all other rules: what `EXPLAIN` prints has the scans of windows.
#[derive(Debug)]
pub(in crate::query) struct ShowScans;

impl PhysicalOptimizerRule for ShowScans {
    fn name(&self) -> &'static str {
        "show_scans"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let changed = plan.transform_up(|plan| {
            let Some(buckets) = plan.downcast_ref::<BucketsExec>() else { return Ok(Transformed::no(plan)) };
            let buckets = BucketsExec { shows_scans: true, ..buckets.clone() };
            Ok(Transformed::yes(Arc::new(buckets) as Arc<dyn ExecutionPlan>))
        });
        Ok(changed?.data)
    }
}

impl BucketsExec {
    pub(super) fn new(window: Window, hosts: Vec<OfHosts>, projection: Option<&Vec<usize>>) -> Result<BucketsExec> {
        let schema = project_schema(&window.schema(), projection)?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let (window, hosts, projection) = (Arc::new(window), Arc::new(hosts), projection.cloned());
        let (properties, metrics) = (Arc::new(properties), ExecutionPlanMetricsSet::new());
        Ok(BucketsExec { window, hosts, projection, properties, metrics, shows_scans: false })
    }

    /// The rows of the window, a batch at a time: the buckets alone may take half of the memory.
    fn batches(self, context: Arc<TaskContext>) -> impl Stream<Item = Result<RecordBatch>> {
        let budget = Budget::new(self.name(), &context);
        let waiting = (0..self.hosts.len()).rev().map(|hosts| (hosts, Slice::ALL)).collect();
        let rows = MetricBuilder::new(&self.metrics).output_rows(0);
        let slices = MetricBuilder::new(&self.metrics).counter("slices", 0);
        let telling = Telling { exec: self, context, budget, waiting, told: None, rows, slices };
        stream::try_unfold(telling, async |mut telling| {
            let batch = telling.next().await?;
            Ok(batch.map(|batch| (batch, telling)))
        })
    }

    /// What all threads together make of a slice of hosts.
    async fn tell(&self, hosts: usize, slice: Slice, context: &Arc<TaskContext>, budget: &Arc<Budget>) -> Result<Told> {
        let scans = self.hosts.get(hosts).map_or(&[][..], Vec::as_slice);
        let (mut whole, mut memory) = self.whole(scans, slice, context, budget).await?;
        let parts = scans.iter().map(|scan| scan.part).collect();
        let (keys, order) = (told::keys(&self.window, &whole)?, whole.cells.order());
        memory.resize(whole.size() + order.capacity() * size_of::<usize>())?;
        Ok(Told { whole, parts, keys, order, at: 0, _memory: memory })
    }

    async fn whole(
        &self,
        scans: &[Arc<Scan>],
        slice: Slice,
        context: &Arc<TaskContext>,
        budget: &Arc<Budget>,
    ) -> Result<(Whole, Part)> {
        let mut memory = budget.part();
        let mut reading = Vec::new();
        for scan in scans {
            // A plan that was read is read once more from its beginning.
            let plan =
                if slice == Slice::ALL { Arc::clone(&scan.plan) } else { reset_plan_states(Arc::clone(&scan.plan))? };
            let read = |partition| {
                let (window, scan) = (Arc::clone(&self.window), Arc::clone(scan));
                let batches = plan.execute(partition, Arc::clone(context))?;
                Ok(SpawnedTask::spawn(read(window, scan, slice, batches, budget.part())))
            };
            let partitions = plan.output_partitioning().partition_count();
            reading.push((scan, (0..partitions).map(read).collect::<Result<Vec<_>>>()?));
        }
        let mut whole = Whole::new(&self.window);
        let mut failure = None;
        for (scan, shares) in reading {
            whole.begin(scan);
            for share in shares {
                let share = share.join().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
                if failure.is_some() {
                    continue;
                }
                let taken = share.and_then(|(share, of_share)| {
                    whole.take(share)?;
                    drop(of_share);
                    memory.resize(whole.size())
                });
                match taken {
                    Err(error) if is_of_memory(&error) => {
                        // All threads give back what they have, for the next try.
                        budget.end();
                        failure = Some(error);
                    }
                    taken => taken?,
                }
            }
        }
        failure.map_or(Ok((whole, memory)), Err)
    }
}

/// The rows that are yet to come.
struct Telling {
    exec: BucketsExec,
    context: Arc<TaskContext>,
    budget: Arc<Budget>,
    /// Slices of hosts, the next one last.
    waiting: Vec<(usize, Slice)>,
    told: Option<Told>,
    /// How many rows were told, and of how many slices.
    rows: Count,
    slices: Count,
}

/// What is told of a slice of hosts.
struct Told {
    whole: Whole,
    parts: Vec<cover::Part>,
    keys: Vec<ArrayRef>,
    /// The places of the cells, and how many of them were told.
    order: Vec<usize>,
    at: usize,
    _memory: Part,
}

impl Telling {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let size = self.context.session_config().batch_size().max(1);
        loop {
            if let Some(batch) = self.told.as_mut().and_then(|told| told.next(&self.exec, size)) {
                self.rows.add(batch.as_ref().map_or(0, RecordBatch::num_rows));
                return batch.map(Some);
            }
            self.told = None;
            let Some((hosts, slice)) = self.waiting.pop() else { return Ok(None) };
            match self.exec.tell(hosts, slice, &self.context, &self.budget).await {
                Ok(told) => {
                    self.slices.add(1);
                    self.told = Some(told);
                }
                Err(error) => {
                    let parts = slice.parts().filter(|_| is_of_memory(&error));
                    self.waiting.extend(parts.ok_or(error)?.map(|part| (hosts, part)));
                    self.budget.begin_again();
                }
            }
        }
    }
}

impl Told {
    fn next(&mut self, exec: &BucketsExec, size: usize) -> Option<Result<RecordBatch>> {
        let places = self.order.get(self.at..)?;
        let places = &places[..places.len().min(size)];
        if places.is_empty() {
            return None;
        }
        self.at += places.len();
        let rows = told::rows(&exec.window, &self.parts, &self.whole, &self.keys, places, &exec.window.schema());
        Some(rows.and_then(|rows| match &exec.projection {
            Some(columns) => Ok(rows.project(columns)?),
            None => Ok(rows),
        }))
    }
}

/// Reads one stretch of a part. Its memory counts until the whole has it.
async fn read(
    window: Arc<Window>,
    scan: Arc<Scan>,
    slice: Slice,
    mut batches: SendableRecordBatchStream,
    mut memory: Part,
) -> Result<(Share, Part)> {
    let mut share = Share::new(&window, &scan);
    while let Some(batch) = batches.next().await {
        share.add(&window, &scan, &slice.rows(batch?, &scan.places.keys)?)?;
        memory.resize(share.size())?;
    }
    Ok((share, memory))
}

impl DisplayAs for BucketsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut Formatter<'_>) -> fmt::Result {
        let Window { columns, buckets, .. } = &*self.window;
        let parts = self.hosts.iter().flatten().map(|scan| {
            format!("{} from {} to {}", scan.part.source.table.table.name, scan.part.from_us, scan.part.to_us)
        });
        write!(
            f,
            "BucketsExec: columns=[{}], buckets={buckets}, parts=[{}]",
            list(columns.iter().map(|column| column.name)),
            parts.collect::<Vec<_>>().join(", ")
        )
    }
}

impl ExecutionPlan for BucketsExec {
    fn name(&self) -> &'static str {
        "BucketsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        let scans = self.hosts.iter().flatten().filter(|_| self.shows_scans);
        scans.map(|scan| &scan.plan).collect()
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.len() != self.children().len() {
            return exec_err!("a window has {} scans, not {}", self.children().len(), children.len());
        }
        let mut plans = children.into_iter();
        let mut with = |scan: &Arc<Scan>| match plans.next() {
            Some(plan) => Arc::new(Scan { plan, ..Scan::clone(scan) }),
            None => Arc::clone(scan),
        };
        let hosts = self.hosts.iter().map(|scans| scans.iter().map(&mut with).collect()).collect();
        Ok(Arc::new(BucketsExec { hosts: Arc::new(hosts), ..BucketsExec::clone(&self) }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), self.clone().batches(context))))
    }
}
