//! The journal's reader on damaged segments: it ends, it does not panic, and every row that it gives was appended.
//!
//! A segment whose checksums somebody made right again may give other rows; the reader ends and does not panic there
//! either.

use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::DataType;
use fastrand::Rng;
use kymo::store::HotBatch;
use kymo::store::disk::LocalDisk;
use kymo::store::journal::frame::{self, Frame, Kind, MAGIC};
use kymo::store::journal::replay::{self, Replayed};

use super::rows::{Running, TABLES, settings};

const ITERATIONS: u64 = 2_000;
const KINDS: [Kind; 4] = [Kind::Segment, Kind::Table, Kind::Labels, Kind::Rows];

/// A segment as a store writes it, and the rows that were appended to it, by table. The first has the sequence number 0.
fn segment() -> (Vec<u8>, [RecordBatch; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::open(Arc::new(LocalDisk), settings(folder.path()));
    for first in [0, 10, 11, 50] {
        running.append([first, first], 10);
    }
    let path = fs::read_dir(folder.path().join("journal")).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(path).unwrap();
    let view = running.store.view();
    let appended = TABLES.map(|(family, _)| {
        let hot: Vec<RecordBatch> = view.tables[family].hot.iter().map(|hot| plain(hot)).collect();
        concat_batches(&hot[0].schema(), &hot).unwrap()
    });
    running.close();
    (bytes, appended)
}

/// The rows with texts in the place of their keys.
fn plain(hot: &HotBatch) -> RecordBatch {
    let plain = |column: &ArrayRef| match column.data_type() {
        DataType::Dictionary(..) => cast(column, &DataType::Utf8).unwrap(),
        _ => Arc::clone(column),
    };
    let schema = hot.batch.schema();
    let names = schema.fields().iter().map(|field| field.name().clone());
    RecordBatch::try_from_iter(names.zip(hot.batch.columns().iter().map(plain))).unwrap()
}

/// Compares each row that was read with the one that was appended under its sequence number. Returns how many there are.
fn compare(replayed: &Replayed, appended: &[RecordBatch; 2]) -> usize {
    let mut rows = 0;
    for ((family, _), appended) in TABLES.into_iter().zip(appended) {
        for hot in &replayed.batches[family] {
            let (first, count) = (usize::try_from(hot.first_seq).unwrap(), hot.batch.num_rows());
            assert!(first + count <= appended.num_rows(), "{} has rows {first} to {}", family.name(), first + count);
            assert_eq!(plain(hot), appended.slice(first, count), "{}: {count} rows from {first} on", family.name());
            rows += count;
        }
    }
    assert_eq!(rows, replayed.batches.values().flatten().map(|hot| hot.batch.num_rows()).sum::<usize>());
    rows
}

/// Flips, zeroes, cuts off, removes, repeats or overwrites some bytes, up to four times.
fn damage(bytes: &mut Vec<u8>, random: &mut Rng) {
    for _ in 0..=random.usize(..4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.usize(..bytes.len());
        let until = at + random.usize(1..=(bytes.len() - at).min(64));
        match random.usize(..6) {
            0 => bytes[at] ^= 1 << random.usize(..8),
            1 => bytes[at..until].fill(0),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..until)),
            4 => {
                let part = bytes[at..until].to_vec();
                bytes.splice(at..at, part);
            }
            _ => random.fill(&mut bytes[at..until]),
        }
    }
}

/// Removes a frame, repeats one, or swaps two that follow each other. Each stays whole.
fn rearrange(bytes: &[u8], random: &mut Rng) -> Vec<u8> {
    let (mut frames, mut rest) = (Vec::new(), &bytes[MAGIC.len()..]);
    while let Ok(Some(frame)) = frame::next(rest) {
        frames.push(&rest[..rest.len() - frame.rest.len()]);
        rest = frame.rest;
    }
    let at = random.usize(1..frames.len());
    match random.usize(..3) {
        0 => drop(frames.remove(at)),
        1 => frames.insert(at, frames[at]),
        _ => frames.swap(at, at - 1),
    }
    [&MAGIC[..]].into_iter().chain(frames).collect::<Vec<_>>().concat()
}

/// Changes frames and makes their checksums right again.
fn forge(bytes: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut forged = MAGIC.to_vec();
    let mut rest = &bytes[MAGIC.len()..];
    while let Ok(Some(Frame { header, body, rest: after })) = frame::next(rest) {
        rest = after;
        let (mut header, mut body) = (header, body.to_vec());
        match random.usize(..12) {
            0 => damage(&mut body, random),
            1 => header.count = random.u32(..70),
            2 => header.sequence = random.u64(..),
            3 => header.table = random.u16(..30),
            4 => header.kind = KINDS[random.usize(..KINDS.len())],
            5 => continue,
            _ => {}
        }
        frame::append(&mut forged, header, |out| out.extend_from_slice(&body));
    }
    forged
}

fn read(bytes: &[u8], from: u64) -> Replayed {
    let replayed = replay::read(bytes, &|_, _| from);
    assert!(replayed.bytes <= bytes.len() as u64);
    assert!(replayed.broken.is_some() || replayed.bytes == bytes.len() as u64);
    let batches: Vec<&RecordBatch> = replayed.batches.values().flatten().map(|hot| &hot.batch).collect();
    batches.iter().for_each(|batch| assert!(batch.num_rows() > 0 && batch.column(0).null_count() == 0));
    replayed
}

#[test]
fn a_damaged_segment_gives_only_rows_that_were_appended() {
    let limit = env::var("KYMO_FUZZ_SECONDS").ok().map(|text| Duration::from_secs(text.parse().expect("seconds")));
    let first: u64 = match env::var("KYMO_FUZZ_SEED") {
        Ok(text) => text.parse().expect("KYMO_FUZZ_SEED: expected a number"),
        Err(_) if limit.is_some() => fastrand::u32(..).into(),
        Err(_) => 0,
    };
    println!("KYMO_FUZZ_SEED={first}");
    let (whole, appended) = segment();
    assert_eq!(compare(&read(&whole, 0), &appended), 80);
    let begun = Instant::now();
    let (mut seed, mut rows) = (first, 0);
    while limit.map_or(seed - first < ITERATIONS, |limit| begun.elapsed() < limit) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let random = &mut Rng::with_seed(seed);
            let mut damaged = whole.clone();
            damage(&mut damaged, random);
            rows += compare(&read(&damaged, random.u64(..40)), &appended);
            rows += compare(&read(&rearrange(&whole, random), 0), &appended);
            let _ = read(&damaged, 0).is_torn(&damaged);
            read(&forge(&whole, random), random.u64(..100));
        }));
        assert!(outcome.is_ok(), "again by KYMO_FUZZ_SEED={seed}");
        seed += 1;
    }
    println!("journal: {} iterations, {rows} rows compared", seed - first);
}
