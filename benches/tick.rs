//! What a tick of cpu, memory, disk and network costs through heim, beside bare `pread`s of the same files.
//!
//! Prints `tick: <family> ÷ pread` as the ratio of CPU times of the thread, kernel included, from the medians of
//! interleaved rounds: each family alone, and all four in one snapshot as a collector samples them. The tick's side
//! does all that a collector thread does between two sleeps but its own counts; draining the rings is not timed.
//!
//! `tick: all ÷ published` is the same beside heim with the runtime that it was published with, which reads each file
//! anew on a pool of threads: `benches/published`, a program of its own that is built here and run in turn with ours.
//!
//! Lines that are what they were a tick before are not parsed again, and devices in use may be read by themselves, so
//! the ratios of disk and network depend on the host: they are lowest where it is idle and most devices are at rest.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot measure ends")]

use std::env;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use kymo::batch::Source;
use kymo::family::{find, in_snapshot};
use kymo::record::label::Labels;
use kymo::sampler::{Sampler, Tick, monotonic_ns, wall_us};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::time::{ClockId, clock_gettime};

/// Families with the files they read.
const FAMILIES: [(&str, &str); 4] =
    [("cpu", "/proc/stat"), ("memory", "/proc/meminfo"), ("disk", "/proc/diskstats"), ("network", "/proc/net/dev")];
/// Room for the ticks between two drains on a host with hundreds of CPUs, disks and interfaces.
const RING_CAPACITY: usize = 1 << 16;
const BUFFER_BYTES: usize = 1 << 20;
const ROUNDS: usize = 501;
const TICKS_A_ROUND: u32 = 20;

/// The samplers of a collector, and the other ends of their rings.
struct Collector {
    samplers: Vec<Box<dyn Sampler>>,
    sources: Vec<Box<dyn Source>>,
}

impl Collector {
    fn new(families: &[(&str, &str)]) -> Collector {
        let (samplers, sources) = families
            .iter()
            .filter_map(|(name, _)| find(name)?.1.sampling())
            .map(|sampling| (sampling.open)(&Arc::new(Labels::default()), RING_CAPACITY))
            .unzip();
        Collector { samplers, sources }
    }

    fn tick(&mut self) -> u64 {
        let tick = Tick { time: wall_us(), monotonic_ns: monotonic_ns() };
        let mut pushed = 0;
        in_snapshot(&mut || {
            for sampler in &mut self.samplers {
                let (sampled, outcome) = sampler.sample(&tick);
                assert!(outcome.is_ok() && sampled.dropped == 0, "{outcome:?}");
                pushed += sampled.pushed;
            }
        });
        pushed
    }

    /// The CPU time of so many ticks.
    fn ticks(&mut self, count: u64) -> Duration {
        let mut taken = Duration::ZERO;
        let mut left = count;
        while left > 0 {
            let ticks = left.min(TICKS_A_ROUND.into());
            taken += cpu_time(|| {
                for _ in 0..ticks {
                    black_box(self.tick());
                }
            });
            left -= ticks;
            for source in &mut self.sources {
                black_box(source.drain());
            }
        }
        taken
    }
}

/// The same files on descriptors that stay open, and the `pread`s it takes to get all of each.
struct Bare {
    files: Vec<(OwnedFd, usize)>,
    buffer: Vec<u8>,
}

impl Bare {
    fn new(families: &[(&str, &str)]) -> Bare {
        let mut bare = Bare { files: Vec::new(), buffer: vec![0; BUFFER_BYTES] };
        for (_, path) in families {
            let file = open(*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("a kernel with this file");
            let reads = bare.read(&file, usize::MAX);
            bare.files.push((file, reads));
        }
        bare
    }

    /// Reads until the end or so many times; the number of reads that gave something.
    fn read(&mut self, file: &OwnedFd, reads_max: usize) -> usize {
        let (mut reads, mut offset) = (0, 0);
        while reads < reads_max {
            let len = rustix::io::pread(file, &mut self.buffer[..], offset).expect("a file that can be read");
            if len == 0 {
                break;
            }
            offset += len as u64;
            reads += 1;
        }
        reads
    }

    fn ticks(&mut self, count: u64) -> Duration {
        let files = std::mem::take(&mut self.files);
        let taken = cpu_time(|| {
            for _ in 0..count {
                for (file, reads) in &files {
                    black_box(self.read(file, *reads));
                }
            }
        });
        self.files = files;
        taken
    }
}

/// CPU time that this thread spent in `work`, in the kernel and outside.
fn cpu_time(work: impl FnOnce()) -> Duration {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
    let begun = now();
    work();
    now().saturating_sub(begun)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2] / TICKS_A_ROUND
}

fn beside_pread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tick");
    let names = FAMILIES.iter().enumerate().map(|(at, (name, _))| (*name, &FAMILIES[at..=at]));
    for (name, families) in names.chain([("all", &FAMILIES[..])]) {
        let (mut collector, mut bare) = (Collector::new(families), Bare::new(families));
        assert_eq!(collector.samplers.len(), families.len());
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(collector.ticks(TICKS_A_ROUND.into()));
            theirs.push(bare.ticks(TICKS_A_ROUND.into()));
        }
        let (ours, theirs) = (median(ours), median(theirs));
        println!(
            "tick: {name} ÷ pread = {:.2} ({:.1} µs, {:.1} µs)",
            ours.as_secs_f64() / theirs.as_secs_f64(),
            ours.as_secs_f64() * 1e6,
            theirs.as_secs_f64() * 1e6,
        );
        group.bench_function(name, |bencher| bencher.iter_custom(|ticks| collector.ticks(ticks)));
        group.bench_function(format!("{name}-pread"), |bencher| bencher.iter_custom(|ticks| bare.ticks(ticks)));
    }
    group.finish();
}

/// heim with its published runtime, in a process of its own.
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

    /// The CPU time of so many ticks.
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
    let (mut collector, mut published) = (Collector::new(&FAMILIES), Published::new());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS / 5 {
        ours.push(collector.ticks(TICKS_A_ROUND.into()));
        theirs.push(published.ticks(TICKS_A_ROUND));
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!(
        "tick: all ÷ published = {:.3} ({:.1} µs, {:.1} µs)",
        ours.as_secs_f64() / theirs.as_secs_f64(),
        ours.as_secs_f64() * 1e6,
        theirs.as_secs_f64() * 1e6,
    );
    criterion.bench_function("tick/published", |bencher| {
        bencher.iter_custom(|ticks| published.ticks(u32::try_from(ticks).unwrap_or(u32::MAX)));
    });
}

criterion_group!(benches, beside_pread, beside_published);
criterion_main!(benches);
