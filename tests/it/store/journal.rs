//! Whatever bytes a segment has, reading it ends, panics nowhere, and gives no row that was not appended, unless somebody
//! took care to make the checksums right.

use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use kymo::store::disk::LocalDisk;
use kymo::store::journal::frame::{self, Frame, Kind, MAGIC};
use kymo::store::journal::replay::{self, Replayed};

use super::random::Random;
use super::rows::{Running, settings};

const ITERATIONS: u64 = 2_000;
const KINDS: [Kind; 4] = [Kind::Segment, Kind::Table, Kind::Labels, Kind::Rows];

/// A segment as a store writes it, of 60 rows of each of two tables.
fn segment() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::open(Arc::new(LocalDisk), settings(folder.path()));
    for first in [0, 10, 11, 50] {
        running.append([first, first], 10);
    }
    let path = fs::read_dir(folder.path().join("journal")).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(path).unwrap();
    running.close();
    bytes
}

fn rows(replayed: &Replayed) -> usize {
    replayed.batches.values().flatten().map(|hot| hot.batch.num_rows()).sum()
}

/// Changes some bytes, cuts or repeats some.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        let until = at + random.below((bytes.len() - at).min(64)) + 1;
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at..until].fill(0),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..until)),
            4 => {
                let part = bytes[at..until].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes[at..until].iter_mut().for_each(|byte| *byte = u8::try_from(random.below(256)).unwrap()),
        }
    }
}

/// Changes frames and makes their checksums right again.
fn forge(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut forged = MAGIC.to_vec();
    let mut rest = &bytes[MAGIC.len()..];
    while let Ok(Some(Frame { header, body, rest: after })) = frame::next(rest) {
        rest = after;
        let (mut header, mut body) = (header, body.to_vec());
        match random.below(12) {
            0 => damage(&mut body, random),
            1 => header.count = u32::try_from(random.below(70)).unwrap(),
            2 => header.sequence = random.below(usize::MAX) as u64,
            3 => header.table = u16::try_from(random.below(30)).unwrap(),
            4 => header.kind = KINDS[random.below(KINDS.len())],
            5 => continue,
            _ => {}
        }
        frame::append(&mut forged, header, |out| out.extend_from_slice(&body));
    }
    forged
}

fn look(bytes: &[u8], from: u64) -> Replayed {
    let replayed = replay::read(bytes, &|_| from);
    assert!(replayed.bytes <= bytes.len() as u64);
    assert!(replayed.broken.is_some() || replayed.bytes == bytes.len() as u64);
    let batches: Vec<&RecordBatch> = replayed.batches.values().flatten().map(|hot| &hot.batch).collect();
    batches.iter().for_each(|batch| assert!(batch.num_rows() > 0 && batch.column(0).null_count() == 0));
    replayed
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let limit = env::var("KYMO_FUZZ_SECONDS").ok().map(|text| Duration::from_secs(text.parse().expect("seconds")));
    let first: u64 = match env::var("KYMO_FUZZ_SEED") {
        Ok(text) => text.parse().expect("KYMO_FUZZ_SEED: expected a number"),
        Err(_) if limit.is_some() => {
            u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() & u128::from(u32::MAX))
                .unwrap()
        }
        Err(_) => 0,
    };
    let whole = segment();
    let all = rows(&look(&whole, 0));
    assert_eq!(all, 80);
    let begun = Instant::now();
    let mut seed = first;
    while limit.map_or(seed - first < ITERATIONS, |limit| begun.elapsed() < limit) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let random = &mut Random(seed);
            let mut damaged = whole.clone();
            damage(&mut damaged, random);
            // A frame may be there twice, whole.
            assert!(rows(&look(&damaged, 0)) <= 2 * all);
            let _ = replay::next_whole(&damaged, random.below(damaged.len() + 1));
            let forged = forge(&whole, random);
            look(&forged, random.below(100) as u64);
        }));
        assert!(outcome.is_ok(), "again by KYMO_FUZZ_SEED={seed}");
        seed += 1;
    }
    println!("journal: {} iterations", seed - first);
}
