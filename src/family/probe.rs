//! What the families' tests share: a family over a recorded or handmade `/proc`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use tempfile::TempDir;

use super::{Family, in_snapshot};
use crate::batch::Source;
use crate::record::label::Labels;
use crate::sampler::{SampleError, Sampler, Tick};

/// More rows than any test makes in a tick.
const RING_CAPACITY: usize = 1_024;

/// A family as a collector has it, with the tree it reads.
pub(super) struct Probe {
    sampler: Box<dyn Sampler>,
    source: Box<dyn Source>,
    folder: TempDir,
}

impl Probe {
    /// The family over an empty tree.
    pub(super) fn empty(family: &Family) -> Probe {
        let sampling = family.sampling().expect("a family that is sampled");
        let (sampler, source) = (sampling.open)(&Arc::new(Labels::default()), RING_CAPACITY);
        let folder = tempfile::tempdir().unwrap();
        heim_runtime::linux::set_roots(folder.path(), folder.path());
        Probe { sampler, source, folder }
    }

    /// The family over `tests/fixtures/<name>`.
    pub(super) fn fixture(family: &Family, name: &str) -> Probe {
        let probe = Probe::empty(family);
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        heim_runtime::linux::set_roots(tree.join("proc"), tree.join("sys"));
        probe
    }

    /// Puts a file into the tree of [`Probe::empty`].
    pub(super) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Takes a file or a folder out of the tree of [`Probe::empty`].
    pub(super) fn remove(&self, name: &str) {
        let path = self.folder.path().join(name);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    /// Whether the tree has what the family reads.
    pub(super) fn check(&mut self) -> Result<(), String> {
        let mut outcome = None;
        in_snapshot(&mut || outcome = Some(self.sampler.check()));
        outcome.expect("one check")
    }

    /// Takes a tick at `ms` and gives its rows as CSV without the time, absent values as nothing, and its error.
    pub(super) fn tick(&mut self, ms: i64) -> (String, Result<(), SampleError>) {
        let tick = Tick { time: ms * 1_000, monotonic_ns: ms * 1_000_000 };
        let mut taken = None;
        in_snapshot(&mut || taken = Some(self.sampler.sample(&tick)));
        let (sampled, outcome) = taken.expect("one tick");
        let batch = self.source.drain();
        let rows = batch.as_ref().map_or(0, RecordBatch::num_rows);
        assert_eq!((sampled.pushed, sampled.dropped), (rows as u64, 0));
        (batch.map_or_else(String::new, |batch| csv(&batch, tick.time)), outcome)
    }

    /// Takes a tick that must succeed and gives its rows.
    pub(super) fn rows(&mut self, ms: i64) -> String {
        let (rows, outcome) = self.tick(ms);
        outcome.expect("a tick without error");
        rows
    }

    /// The values of the last column at a tick that must succeed, row by row.
    pub(super) fn last_column(&mut self, ms: i64) -> Vec<String> {
        self.rows(ms).lines().map(|row| row.rsplit(',').next().unwrap().to_owned()).collect()
    }
}

fn csv(batch: &RecordBatch, time: i64) -> String {
    use arrow::array::AsArray;
    use arrow::datatypes::TimestampMicrosecondType;

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
