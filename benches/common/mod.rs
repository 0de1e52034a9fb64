//! What the benches of ticks share: a collector's samplers, bare `pread`s of the same files, and the CPU time of both.
//!
//! A ratio is the CPU time of the thread, kernel included, of a family's ticks over that of bare `pread`s, from the
//! medians of rounds that take turns, so that whatever else the host does meets both alike. The tick's side does all
//! that a collector thread does between two sleeps but its own counts; draining the rings is not timed.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use kymo::batch::Source;
use kymo::family::{find, in_snapshot};
use kymo::record::label::Labels;
use kymo::sampler::{Sampler, Tick, monotonic_ns, wall_us};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::time::{ClockId, clock_gettime};

/// Room for the ticks between two drains on a host with hundreds of CPUs, disks and interfaces.
const RING_CAPACITY: usize = 1 << 16;
const BUFFER_BYTES: usize = 1 << 20;
const ROUNDS: usize = 501;
const TICKS_A_ROUND: u32 = 20;

/// A family's name and the files it reads.
pub type Reads<'a> = (&'a str, &'a [&'a str]);

/// The samplers of a collector, and the other ends of their rings.
pub struct Collector {
    samplers: Vec<Box<dyn Sampler>>,
    sources: Vec<Box<dyn Source>>,
    /// The last tick where clocks are left out.
    counted: Option<Tick>,
}

/// The distance of ticks without clocks.
const INTERVAL_US: i64 = 1_000;

impl Collector {
    /// Says why where the host lacks what a family reads.
    pub fn new(families: &[Reads<'_>]) -> Result<Collector, String> {
        let (samplers, sources): (Vec<_>, Vec<_>) = families
            .iter()
            .filter_map(|(name, _)| find(name)?.1.sampling())
            .map(|sampling| (sampling.open)(&Arc::new(Labels::default()), RING_CAPACITY))
            .unzip();
        assert_eq!(samplers.len(), families.len());
        let mut collector = Collector { samplers, sources, counted: None };
        let mut checked = Ok(());
        in_snapshot(&mut || checked = collector.samplers.iter_mut().try_for_each(|sampler| sampler.check()));
        checked.map(|()| collector)
    }

    /// Ticks are counted from now on, instead of reading two clocks, which is no parser's cost.
    #[allow(dead_code, reason = "each bench is a program of its own and uses its part of this module")]
    pub fn without_clocks(mut self) -> Collector {
        self.counted = Some(Tick { time: wall_us(), monotonic_ns: monotonic_ns() });
        self
    }

    fn next(&mut self) -> Tick {
        let Some(last) = &mut self.counted else { return Tick { time: wall_us(), monotonic_ns: monotonic_ns() } };
        last.time += INTERVAL_US;
        last.monotonic_ns += INTERVAL_US * 1_000;
        *last
    }

    fn tick(&mut self) -> u64 {
        let tick = self.next();
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
    pub fn ticks(&mut self, count: u64) -> Duration {
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
pub struct Bare {
    files: Vec<(OwnedFd, usize)>,
    buffer: Vec<u8>,
}

impl Bare {
    /// Files that the host lacks are left out, as families do.
    pub fn new(families: &[Reads<'_>]) -> Bare {
        let mut bare = Bare { files: Vec::new(), buffer: vec![0; BUFFER_BYTES] };
        for path in families.iter().flat_map(|(_, paths)| *paths) {
            let Ok(file) = open(*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else { continue };
            let reads = bare.read(&file, usize::MAX);
            bare.files.push((file, reads));
        }
        assert!(!bare.files.is_empty(), "none of the files of {families:?}");
        bare
    }

    /// Reads until the end or so many times; the number of reads that gave something.
    fn read(&mut self, file: &OwnedFd, reads_max: usize) -> usize {
        let (mut reads, mut offset) = (0, 0);
        while reads < reads_max {
            // A process may have ended.
            let len = rustix::io::pread(file, &mut self.buffer[..], offset).unwrap_or(0);
            if len == 0 {
                break;
            }
            offset += len as u64;
            reads += 1;
        }
        reads
    }

    /// The CPU time of reading all files so many times.
    pub fn ticks(&mut self, count: u64) -> Duration {
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

/// The median CPU time of a tick and of what stands beside it.
pub struct Medians {
    pub tick: Duration,
    pub beside: Duration,
}

impl Medians {
    /// Of rounds that take turns. `beside` gives the CPU time that so many ticks' worth of it takes.
    pub fn measure(collector: &mut Collector, mut beside: impl FnMut(u32) -> Duration) -> Medians {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(collector.ticks(TICKS_A_ROUND.into()));
            theirs.push(beside(TICKS_A_ROUND));
        }
        Medians { tick: median(ours), beside: median(theirs) }
    }

    pub fn ratio(&self) -> f64 {
        self.tick.as_secs_f64() / self.beside.as_secs_f64()
    }
}

impl std::fmt::Display for Medians {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        write!(f, "{:.2} ({:.1} µs, {:.1} µs)", self.ratio(), us(self.tick), us(self.beside))
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2] / TICKS_A_ROUND
}
