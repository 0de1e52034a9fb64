//! What a tick of cpu, memory, disk and network costs through heim, beside bare `pread`s of the same files.
//!
//! Prints `tick: <family> ÷ pread` as the ratio of CPU times of the thread, kernel included, from the medians of
//! interleaved rounds: each family alone, and all four in one snapshot as a collector samples them. The tick's side
//! does all that a collector thread does between two sleeps but its own counts; draining the rings is not timed.
//!
//! Lines that are what they were a tick before are not parsed again, and devices in use may be read by themselves, so
//! the ratios of disk and network depend on the host: they are lowest where it is idle and most devices are at rest.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot measure ends")]

use std::hint::black_box;
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

criterion_group!(benches, beside_pread);
criterion_main!(benches);
