//! A sampler over a recorded or handmade tree, for the families' tests.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use tempfile::TempDir;

use super::context::{Context, ProcessChoice};
use super::filter::Filters;
use super::roots::Roots;
use super::sample::{Sample, open};
use super::snapshot::in_snapshot;
use crate::batch::Source;
use crate::record::label::{LABELS_MAX, Labels};
use crate::sampler::{SampleError, Sampler, Tick};

/// More rows than any test makes in a tick.
const RING_CAPACITY: usize = 1_024;

/// A sampler as a collector has it, with the tree that it reads.
pub(crate) struct Probe {
    sampler: Box<dyn Sampler>,
    source: Box<dyn Source>,
    folder: TempDir,
    labels: Arc<Labels>,
    /// How many values the last tick left out because they cannot be true.
    pub(crate) impossible: u64,
}

impl Probe {
    /// The sampler over an empty tree, which is both procfs and sysfs.
    pub(crate) fn empty<S: Sample>() -> Probe {
        Probe::choosing::<S>(ProcessChoice::default())
    }

    /// The same, with these filters.
    pub(crate) fn filtering<S: Sample>(filters: Filters) -> Probe {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_path_buf();
        let roots = Roots { procfs: root.clone(), sysfs: root, ..Roots::default() };
        Probe::new::<S>(folder, &Context { roots, filters, ..Context::default() })
    }

    /// The same, with these processes.
    pub(crate) fn choosing<S: Sample>(processes: ProcessChoice) -> Probe {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_path_buf();
        let roots = Roots { procfs: root.clone(), sysfs: root, ..Roots::default() };
        Probe::new::<S>(folder, &Context { roots, processes, ..Context::default() })
    }

    /// The sampler over `tests/fixtures/<name>`.
    pub(crate) fn fixture<S: Sample>(name: &str) -> Probe {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        let roots = Roots { procfs: tree.join("proc"), sysfs: tree.join("sys"), ..Roots::default() };
        Probe::of::<S>(&Context { roots, ..Context::default() })
    }

    /// The host of `tests/fixtures/<name>` has what the family reads, and gives these rows and this error at each tick.
    pub(crate) fn assert_fixture<S: Sample>(name: &str, rows: &str, error: Option<&str>) {
        let mut probe = Probe::fixture::<S>(name);
        assert_eq!(probe.check(), Ok(()));
        for ms in 0..3 {
            let (found, outcome) = probe.tick(ms);
            assert_eq!((found.as_str(), outcome.err().map(|error| error.to_string()).as_deref()), (rows, error));
        }
    }

    /// The sampler in this context.
    pub(crate) fn of<S: Sample>(context: &Context) -> Probe {
        Probe::new::<S>(tempfile::tempdir().unwrap(), context)
    }

    fn new<S: Sample>(folder: TempDir, context: &Context) -> Probe {
        let labels = Arc::new(Labels::default());
        let (sampler, source) = open::<S>(context, &labels, RING_CAPACITY);
        heim_runtime::linux::set_roots(&context.roots.procfs, &context.roots.sysfs);
        Probe { sampler, source, folder, labels, impossible: 0 }
    }

    /// A path in the tree of [`Probe::empty`].
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a file into the tree of [`Probe::empty`].
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Removes a file or a folder from the tree of [`Probe::empty`].
    pub(crate) fn remove(&self, name: &str) {
        let path = self.path(name);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    /// Whether the tree has what the family reads.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        let mut outcome = None;
        in_snapshot(&mut || outcome = Some(self.sampler.check()));
        outcome.expect("one check")
    }

    /// What the last tick could not give of the family.
    pub(crate) fn lacking(&self) -> String {
        let mut told = String::new();
        self.sampler.tell_lacking(&mut told);
        told
    }

    /// Goes on with a new sampler, as a retuned collector does. For a sampler over [`Probe::empty`].
    pub(crate) fn retune<S: Sample>(&mut self) {
        let root = self.folder.path().to_path_buf();
        let context =
            Context { roots: Roots { procfs: root.clone(), sysfs: root, ..Roots::default() }, ..Context::default() };
        let (mut sampler, source) = open::<S>(&context, &self.labels, RING_CAPACITY);
        std::mem::swap(&mut self.sampler, &mut sampler);
        self.sampler.take_over(sampler);
        self.source = source;
    }

    /// Gives the place of each label to another text.
    pub(crate) fn turn_labels_over(&self) {
        let labels = &self.labels;
        // The first two stay.
        let keys = |range: Range<usize>| range.map(|key| i32::try_from(key).unwrap()).collect();
        let known = labels.dictionary().values.len();
        (known..LABELS_MAX).for_each(|nth| _ = labels.intern(&format!("unused {nth}")));
        labels.give_way(&keys(2..known));
        (2..known).for_each(|nth| _ = labels.intern(&format!("other {nth}")));
        labels.give_way(&keys(known..LABELS_MAX));
    }

    /// The rows of a tick at `ms`, as CSV without the time and with absent values empty, and its error.
    pub(crate) fn tick(&mut self, ms: i64) -> (String, Result<(), SampleError>) {
        let tick = Tick { time: ms * 1_000, monotonic_ns: ms * 1_000_000 };
        let mut taken = None;
        in_snapshot(&mut || taken = Some(self.sampler.sample(&tick)));
        let (sampled, outcome) = taken.expect("one tick");
        let batch = self.source.drain();
        let rows = batch.as_ref().map_or(0, RecordBatch::num_rows);
        assert_eq!((sampled.pushed, sampled.dropped), (rows as u64, 0));
        self.impossible = sampled.impossible;
        (batch.map_or_else(String::new, |batch| csv(&batch, tick.time)), outcome)
    }

    /// The rows of a tick that must succeed.
    pub(crate) fn rows(&mut self, ms: i64) -> String {
        let (rows, outcome) = self.tick(ms);
        outcome.expect("a tick without error");
        rows
    }

    /// The same after [`Probe::write`].
    pub(crate) fn rows_with(&mut self, ms: i64, name: &str, bytes: impl AsRef<[u8]>) -> String {
        self.write(name, bytes);
        self.rows(ms)
    }

    /// The values of the last column at a tick that must succeed, row by row.
    pub(crate) fn last_column(&mut self, ms: i64) -> Vec<String> {
        self.rows(ms).lines().map(|row| row.rsplit(',').next().unwrap().to_owned()).collect()
    }
}

fn csv(batch: &RecordBatch, time: i64) -> String {
    let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
    assert!(times.values().iter().all(|found| *found == time));
    let mut text = Vec::new();
    let columns: Vec<usize> = (1..batch.num_columns()).collect();
    arrow::csv::WriterBuilder::new()
        .with_header(false)
        .build(&mut text)
        .write(&batch.project(&columns).unwrap())
        .unwrap();
    String::from_utf8(text).unwrap()
}
