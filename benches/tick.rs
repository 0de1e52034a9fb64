//! What a tick of cpu, memory, disk and network costs through heim, beside bare `pread`s of the same files.
//!
//! Prints `tick: <family> ÷ pread`, each family alone, and all four in one snapshot as a collector samples them;
//! `common` says how it is measured.
//!
//! Lines that are what they were a tick before are not parsed again, and devices in use may be read by themselves, so
//! the ratios of disk and network depend on the host: they are lowest where it is idle and most devices are at rest.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot measure ends")]

mod common;

use common::{Bare, Collector, Medians, Reads};
use criterion::{Criterion, criterion_group, criterion_main};

/// Families with the files they read.
const FAMILIES: [Reads<'_>; 4] = [
    ("cpu", &["/proc/stat"]),
    ("memory", &["/proc/meminfo"]),
    ("disk", &["/proc/diskstats"]),
    ("network", &["/proc/net/dev"]),
];

fn beside_pread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tick");
    let names = FAMILIES.iter().enumerate().map(|(at, (name, _))| (*name, &FAMILIES[at..=at]));
    for (name, families) in names.chain([("all", &FAMILIES[..])]) {
        let mut collector = Collector::new(families).expect("a kernel with these files");
        let mut bare = Bare::new(families);
        println!("tick: {name} ÷ pread = {}", Medians::measure(&mut collector, &mut bare));
        group.bench_function(name, |bencher| bencher.iter_custom(|ticks| collector.ticks(ticks)));
        group.bench_function(format!("{name}-pread"), |bencher| bencher.iter_custom(|ticks| bare.ticks(ticks)));
    }
    group.finish();
}

criterion_group!(benches, beside_pread);
criterion_main!(benches);
