//! What a tick of each family with a parser of kymo's own costs, beside bare `pread`s of the same files.
//!
//! Prints `parser: <family> ÷ pread` with the limit that it is meant to keep: what a parser adds to reading its files
//! is at most a quarter of the reading. `common` says how it is measured, here without the two clocks of a tick. A file whose end only a read of nothing shows
//! (`/proc/interrupts`) is read once more at a tick than here; that read is part of what a tick adds.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot measure ends")]

mod common;

use common::{Bare, Collector, Medians, Reads};
use criterion::{Criterion, criterion_group, criterion_main};

/// Families with the files they read.
const FAMILIES: [Reads<'_>; 7] = [
    ("pressure", &["/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory", "/proc/pressure/irq"]),
    ("vm", &["/proc/vmstat"]),
    ("tcp", &["/proc/net/snmp", "/proc/net/netstat", "/proc/net/sockstat", "/proc/net/sockstat6"]),
    ("softnet", &["/proc/net/softnet_stat"]),
    ("interrupt", &["/proc/interrupts"]),
    ("softirq", &["/proc/softirqs"]),
    ("host", &["/proc/loadavg", "/proc/stat", "/proc/uptime"]),
];
/// What all processes that there are have in procfs for `process` to read at every tick. It also lists procfs, and reads
/// more of those that have a row.
fn process_files() -> Vec<String> {
    let names =
        std::fs::read_dir("/proc").expect("procfs").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.parse::<u32>().is_ok()).map(|pid| format!("/proc/{pid}/stat")).collect()
}

/// What a tick may cost, in bare reads.
const RATIO_MAX: f64 = 1.25;

fn beside_pread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parser");
    let files = process_files();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    for family in FAMILIES.into_iter().chain([("process", files.as_slice())]) {
        let (name, _) = family;
        let mut collector = match Collector::new(&[family]) {
            Ok(collector) => collector.without_clocks(),
            Err(reason) => {
                println!("parser: {name} is not measured: {reason}");
                continue;
            }
        };
        let mut bare = Bare::new(&[family]);
        let medians = Medians::measure(&mut collector, |ticks| bare.ticks(ticks.into()));
        let kept = if medians.ratio() <= RATIO_MAX { "kept" } else { "exceeded" };
        println!("parser: {name} ÷ pread = {medians}, limit {RATIO_MAX:.2} {kept}");
        group.bench_function(name, |bencher| bencher.iter_custom(|ticks| collector.ticks(ticks)));
        group.bench_function(format!("{name}-pread"), |bencher| bencher.iter_custom(|ticks| bare.ticks(ticks)));
    }
    group.finish();
}

criterion_group!(benches, beside_pread);
criterion_main!(benches);
