use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use super::super::hot::HotBatch;
use super::{Buckets, saved};
use crate::batch::to_batch;
use crate::family::FamilyId;
use crate::family::cpu::Cpu;
use crate::family::process::Process;
use crate::family::tables::TableId;
use crate::record::label::Labels;
use crate::record::tier::Tier;
use crate::record::{ABSENT, Record};
use crate::sampler::report::Gap;

const SECOND_US: i64 = 1_000_000;

fn hot(first_seq: u64, batch: RecordBatch) -> Arc<HotBatch> {
    Arc::new(HotBatch::new("here".into(), first_seq, batch))
}

/// A row of each of two CPUs every 100 ms, and the buckets of those.
fn buckets(ticks: i64) -> Buckets {
    let labels = Labels::default();
    let row = |tick: i64, cpu: &str| Cpu {
        cpu: labels.intern(cpu),
        user_us: if tick % 7 == 0 { ABSENT } else { tick * 3 },
        utilization: 0.1 * tick as f64,
        ..Cpu::absent(tick * SECOND_US / 10)
    };
    let rows: Vec<Cpu> = (0..ticks).flat_map(|tick| [row(tick, "0"), row(tick, "total")]).collect();
    let mut buckets = Buckets::new(FamilyId::of::<Cpu>(), 0, [5, 6]);
    buckets.set_source(&"burst".into(), true);
    buckets.take(&[hot(0, to_batch(&[&rows], &labels, &Cpu::TABLE.schema()))]);
    buckets
}

/// Some columns of a tier, ended buckets and open ones.
fn told(buckets: &Buckets, tier: Tier, names: &[&str]) -> Vec<Vec<Option<i64>>> {
    told_of(FamilyId::of::<Cpu>(), buckets, tier, names)
}

fn told_of(family: FamilyId, buckets: &Buckets, tier: Tier, names: &[&str]) -> Vec<Vec<Option<i64>>> {
    let id = TableId::of_tier(family, tier).unwrap();
    let columns: Vec<usize> = names.iter().map(|name| id.table().column(name).unwrap().0).collect();
    let parts = buckets.with(&[], &[], id, &columns).unwrap();
    let rows = parts.iter().flat_map(|(_, batch, _)| {
        (0..batch.num_rows()).map(move |row| {
            let value = |column: &arrow::array::ArrayRef| {
                let column = column.as_primitive::<Int64Type>();
                column.is_valid(row).then(|| column.value(row))
            };
            batch.columns().iter().map(value).collect()
        })
    });
    rows.collect()
}

#[test]
fn what_is_saved_goes_on_as_it_was() {
    for ticks in [0, 1, 9, 10, 95, 650] {
        let before = buckets(ticks);
        let mut bytes = saved::write([&before]).unwrap();
        let after = saved::read(&bytes).unwrap()[FamilyId::of::<Cpu>()].take().unwrap();
        assert_eq!((after.end_seq(), after.next_seqs), (2 * ticks.cast_unsigned(), [5, 6]));
        let all: Vec<&str> =
            ["user_us_first", "user_us_last", "user_us_increase", "utilization_count", "ticks", "missed", "elapsed_us"]
                .into();
        for tier in Tier::ALL {
            assert_eq!(told(&after, tier, &all), told(&before, tier, &all));
        }
        assert_eq!(saved::write([&after]).unwrap(), bytes);
        // Any damage is found.
        for at in (0..bytes.len()).step_by(7) {
            bytes[at] ^= 16;
            assert!(saved::read(&bytes).is_none(), "byte {at}");
            bytes[at] ^= 16;
            assert!(saved::read(&bytes[..at]).is_none(), "{at} bytes");
        }
    }
}

#[test]
fn the_step_into_a_bucket_belongs_to_it() {
    let seconds = told(&buckets(25), Tier::Second, &["user_us_first", "user_us_increase", "ticks"]);
    // Both CPUs have the same values. Ticks 0, 7, 14 and 21 have none.
    let expected = [[3, 24, 10], [30, 30, 10], [60, 15, 5]].map(|row| row.map(Some).to_vec());
    assert_eq!(seconds, expected.into_iter().flat_map(|row| [row.clone(), row]).collect::<Vec<_>>());
    let minutes = told(&buckets(25), Tier::Minute, &["user_us_first", "user_us_increase", "ticks"]);
    assert_eq!(minutes, [[3, 69, 25]; 2].map(|row| row.map(Some).to_vec()));
}

#[test]
fn processes_that_follow_each_other_under_the_same_labels_are_told_apart() {
    let labels = Labels::default();
    let row = |time: i64, pid: i64, parent_pid: i64, cpu_user_us: i64| Process {
        command: labels.intern("sh"),
        slot: labels.intern("1"),
        pid,
        start_us: 1_000 * pid,
        parent_pid,
        cpu_user_us,
        ..Process::absent(time * SECOND_US)
    };
    // The second one has less CPU time than the first, and is adopted.
    let rows = [row(1, 7, 2, 500), row(2, 7, 2, 900), row(3, 8, 7, 100), row(4, 8, 7, 130), row(5, 8, 1, 150)];
    let family = FamilyId::of::<Process>();
    let mut before = Buckets::new(family, 0, [0; 2]);
    before.take(&[hot(0, to_batch(&[&rows], &labels, &Process::TABLE.schema()))]);
    let saved = saved::write([&before]).unwrap();
    let after = saved::read(&saved).unwrap()[family].take().unwrap();
    for buckets in [before, after] {
        let names = ["pid", "start_us", "parent_pid", "cpu_user_us_increase", "ticks", "elapsed_us"];
        let minutes = told_of(family, &buckets, Tier::Minute, &names);
        let of = |row: [i64; 6]| row.map(Some).to_vec();
        assert_eq!(minutes, [of([7, 7_000, 2, 400, 2, SECOND_US]), of([8, 8_000, 1, 50, 3, 2 * SECOND_US])]);
    }
}

#[test]
fn missed_ticks_are_those_of_the_collector() {
    let labels = Labels::default();
    let gap = |collector: &str, reason: &str, to_us: i64, lost: i64| Gap {
        collector: labels.intern(collector),
        reason: labels.intern(reason),
        to_us,
        lost,
        ..Gap::absent(to_us)
    };
    let rows = [
        gap("burst", "late", SECOND_US, 3),
        gap("burst", "late", 2 * SECOND_US - 1, 4),
        gap("other", "late", SECOND_US, 50),
        gap("burst", "clock step", SECOND_US, 60),
    ];
    let gaps = [hot(10, to_batch(&[&rows], &labels, &Gap::TABLE.schema()))];
    let mut buckets = buckets(25);
    assert_eq!(told(&buckets, Tier::Minute, &["missed"]), [[Some(0)], [Some(0)]]);
    for _ in 0..2 {
        // The second time they are in already.
        buckets.take_gaps(&gaps);
        assert_eq!(told(&buckets, Tier::Minute, &["missed"]), [[Some(7)], [Some(7)]]);
    }
}
