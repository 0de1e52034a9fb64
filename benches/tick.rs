//! What a tick of cpu, memory, disk and network costs, beside bare `pread`s of the same files.
//!
//! Prints `tick: <family> ÷ pread` for each family alone, and for all four in one snapshot, as a collector samples them.
//! `common` says how it is measured.
//!
//! `tick: all ÷ published` compares with heim on its published runtime, which opens and reads each file anew on a
//! thread pool. That is `benches/published`, a separate program, which this bench builds and runs in turns with ours.
//!
//! Lines that have not changed since the last tick are not parsed again, and busy devices may be read from their own
//! files. So the ratios of disk and network depend on the host. They are lowest on an idle host where most devices do
//! nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot measure ends")]

mod common;

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use common::{Bare, Collector, Medians};
use criterion::{Criterion, criterion_group, criterion_main};
use kymo::reading::context::Context;

/// Families, each with the file that it reads.
const FAMILIES: [&str; 4] = ["cpu", "memory", "disk", "network"];
const FILES: [&str; 4] = ["/proc/stat", "/proc/meminfo", "/proc/diskstats", "/proc/net/dev"];

fn beside_pread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tick");
    let alone = FAMILIES.into_iter().enumerate().map(|(at, name)| (name, at..at + 1));
    for (name, range) in alone.chain([("all", 0..FAMILIES.len())]) {
        let mut collector =
            Collector::new(&FAMILIES[range.clone()], &Context::default()).expect("a kernel with these files");
        let mut bare = Bare::new(&FILES[range]);
        println!("tick: {name} ÷ pread = {}", Medians::measure(&mut collector, |ticks| bare.ticks(ticks.into())));
        group.bench_function(name, |bencher| bencher.iter_custom(|ticks| collector.ticks(ticks)));
        group.bench_function(format!("{name}-pread"), |bencher| bencher.iter_custom(|ticks| bare.ticks(ticks)));
    }
    group.finish();
}

/// heim with its published runtime, in a separate process.
struct Published {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Published {
    fn new() -> Published {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/published");
        let target = env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from)
            .join("published");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
            .arg(folder.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .status();
        assert!(built.is_ok_and(|status| status.success()), "build benches/published");
        let mut process = Command::new(target.join("release/published"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start benches/published");
        let orders = process.stdin.take().expect("a pipe");
        let answers = BufReader::new(process.stdout.take().expect("a pipe"));
        Published { process, orders, answers }
    }

    /// The CPU time of `count` ticks.
    fn ticks(&mut self, count: u32) -> Duration {
        writeln!(self.orders, "{count}").expect("give an order to benches/published");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("read the answer of benches/published");
        Duration::from_nanos(answer.trim().parse().expect("nanoseconds of benches/published"))
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn beside_published(criterion: &mut Criterion) {
    let mut collector = Collector::new(&FAMILIES, &Context::default()).expect("a kernel with these files");
    let mut published = Published::new();
    println!("tick: all ÷ published = {}", Medians::measure(&mut collector, |ticks| published.ticks(ticks)));
    criterion.bench_function("tick/published", |bencher| {
        bencher.iter_custom(|ticks| published.ticks(u32::try_from(ticks).unwrap_or(u32::MAX)));
    });
}

criterion_group!(benches, beside_pread, beside_published);
criterion_main!(benches);
