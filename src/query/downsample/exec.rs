//! The operator that reduces the rows of a window to buckets, in one pass over each part.
//!
//! As a statement with groupings, three columns over five minutes took 26 ms, most of it to plan; so they take 6.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, project_schema};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::scan::Scan;
use super::share::{Share, Whole};
use super::told;
use super::window::Window;
use crate::words::list;

/// The parts of hosts that have the same of a window, in the order of time.
pub(super) type OfHosts = Vec<Arc<Scan>>;

/// Gives the rows of a window. Its scans are as they have to be, so planners do not see them.
#[derive(Clone, Debug)]
pub(super) struct BucketsExec {
    window: Arc<Window>,
    hosts: Arc<Vec<OfHosts>>,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
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
        Ok(BucketsExec { window, hosts, projection, properties: Arc::new(properties) })
    }

    /// Whether its rows are in the order of series and time: those of hosts that have other parts follow by themselves.
    pub(super) fn is_in_order(&self) -> bool {
        self.hosts.len() <= 1
    }

    /// The rows of the window of hosts, a batch at a time: the buckets alone may take half of the memory.
    async fn rows(self, hosts: usize, context: Arc<TaskContext>) -> Result<impl Stream<Item = Result<RecordBatch>>> {
        let scans = self.hosts.get(hosts).map_or(&[][..], Vec::as_slice);
        let (mut whole, reservation) = self.whole(scans, &context).await?;
        let parts: Vec<_> = scans.iter().map(|scan| scan.part).collect();
        let (keys, schema) = (told::keys(&self.window, &whole)?, self.window.schema());
        let mut order = whole.cells.order(&told::ranks(&keys, &schema)?);
        if self.window.is_raw {
            order.retain(|at| whole.cells.get(*at).0.row.tier == 0);
        }
        let cells = order.len();
        reservation.try_resize(whole.size() + order.capacity() * size_of::<usize>())?;
        let size = context.session_config().batch_size().max(1);
        let batch = move |from: usize| {
            // Held as long as the buckets are.
            let _ = &reservation;
            let places = &order[from..order.len().min(from + size)];
            let rows = told::rows(&self.window, &parts, &whole, &keys, places, &schema)?;
            Ok(match &self.projection {
                Some(columns) => rows.project(columns)?,
                None => rows,
            })
        };
        Ok(stream::iter((0..cells).step_by(size).map(batch)))
    }

    /// What all threads together make of the parts of hosts.
    async fn whole(&self, scans: &[Arc<Scan>], context: &Arc<TaskContext>) -> Result<(Whole, MemoryReservation)> {
        let reservation = MemoryConsumer::new("BucketsExec").register(context.memory_pool());
        let mut reading = Vec::new();
        for scan in scans {
            let partitions = scan.plan.output_partitioning().partition_count();
            let read = |partition| {
                let share = read(Arc::clone(&self.window), Arc::clone(scan), partition, Arc::clone(context));
                SpawnedTask::spawn(share)
            };
            reading.push((scan, (0..partitions).map(read).collect::<Vec<_>>()));
        }
        let mut whole = Whole::new(&self.window);
        for (scan, shares) in reading {
            whole.begin(scan);
            for share in shares {
                let share = share.join().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
                let (share, of_share) = share?;
                whole.take(share)?;
                drop(of_share);
                reservation.try_resize(whole.size())?;
            }
        }
        Ok((whole, reservation))
    }
}

/// Reads one stretch of a part. Its memory counts until the whole has it.
async fn read(
    window: Arc<Window>,
    scan: Arc<Scan>,
    partition: usize,
    context: Arc<TaskContext>,
) -> Result<(Share, MemoryReservation)> {
    let reservation = MemoryConsumer::new(format!("BucketsExec[{partition}]")).register(context.memory_pool());
    let mut batches = scan.plan.execute(partition, context)?;
    let mut share = Share::new(&window, &scan);
    while let Some(batch) = batches.next().await {
        share.add(&window, &scan, &batch?)?;
        reservation.try_resize(share.size())?;
    }
    Ok((share, reservation))
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
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (exec, schema): (BucketsExec, SchemaRef) = (self.clone(), self.schema());
        let hosts = stream::iter(0..exec.hosts.len());
        let batches = hosts.then(move |at| exec.clone().rows(at, Arc::clone(&context))).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}
