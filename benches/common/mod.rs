//! What the benches of ticks share: a collector's samplers, bare `pread`s of the same files, and the CPU time of both.
//!
//! A ratio divides the CPU time of a family's ticks by that of bare `pread`s. CPU time is that of the thread, including
//! the kernel. Both are medians of rounds that take turns, so that whatever else the host does meets both alike. A tick
//! does all that a collector thread does between two sleeps, except for its own counts. Draining the rings is not
//! timed.

#![allow(dead_code, reason = "each bench is a program of its own and uses its part of this module")]

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use kymo::batch::Source;
use kymo::family::FamilyId;
use kymo::reading::context::Context;
use kymo::reading::snapshot::in_snapshot;
use kymo::sampler::{Sampler, Tick, monotonic_ns, wall_us};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, SeekFrom, open, seek, statat};
use rustix::time::{ClockId, clock_gettime};

/// Room for the ticks between two drains on a host with hundreds of CPUs, disks and interfaces.
const RING_CAPACITY: usize = 1 << 16;
const BUFFER_BYTES: usize = 1 << 20;
const PAGE_BYTES: usize = 4 << 10;
const LISTING_BYTES: usize = 32 << 10;
const ROUNDS: usize = 501;
const TICKS_A_ROUND: u32 = 20;
/// Ticks before each round that are not timed. They fill the caches.
const TICKS_BEFORE_ROUND: u32 = 2;

/// The samplers of a collector, and the other ends of their rings.
pub struct Collector {
    samplers: Vec<Box<dyn Sampler>>,
    sources: Vec<Box<dyn Source>>,
    /// The last tick where clocks are left out, and the distance of ticks, µs.
    counted: Option<(Tick, i64)>,
}

impl Collector {
    /// Fails, with the reason, if the host lacks what a family reads.
    pub fn new(families: &[&str], context: &Context) -> Result<Collector, String> {
        let (samplers, sources): (Vec<_>, Vec<_>) = families
            .iter()
            .filter_map(|name| Some((FamilyId::find(name)?.sampling()?.open)(context, &Arc::default(), RING_CAPACITY)))
            .unzip();
        assert_eq!(samplers.len(), families.len());
        let mut collector = Collector { samplers, sources, counted: None };
        let mut checked = Ok(());
        in_snapshot(&mut || checked = collector.samplers.iter_mut().try_for_each(|sampler| sampler.check()));
        checked.map(|()| collector)
    }

    /// From now on, ticks are numbered `interval` apart instead of read from two clocks, which is not the parser's cost.
    pub fn without_clocks(mut self, interval: Duration) -> Collector {
        let now = Tick { time: wall_us(), monotonic_ns: monotonic_ns() };
        self.counted = Some((now, i64::try_from(interval.as_micros()).unwrap_or(i64::MAX)));
        self
    }

    /// The rows of one more tick.
    pub fn drained(&mut self) -> Vec<RecordBatch> {
        self.tick();
        self.sources.iter_mut().filter_map(|source| source.drain()).collect()
    }

    fn next(&mut self) -> Tick {
        let Some((last, interval_us)) = &mut self.counted else {
            return Tick { time: wall_us(), monotonic_ns: monotonic_ns() };
        };
        last.time += *interval_us;
        last.monotonic_ns += *interval_us * 1_000;
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

    /// The CPU time of `count` ticks.
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

/// The same files on descriptors that stay open, each with the number of `pread`s that it takes.
pub struct Bare {
    files: Vec<(OwnedFd, usize)>,
    /// A folder to list, and files below it whose size is asked for.
    listed: Option<(OwnedFd, Vec<String>)>,
    /// Calls that are made once in a number of ticks.
    seldom: Vec<(u64, Seldom)>,
    ticks: u64,
    /// One page longer than is used: see [`on_page`].
    buffer: Vec<u8>,
    /// Names of a folder come in portions of this size.
    listing: Box<[MaybeUninit<u8>]>,
}

impl Bare {
    /// Skips files that have vanished.
    pub fn new(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Bare {
        let mut bare = Bare {
            files: Vec::new(),
            listed: None,
            seldom: Vec::new(),
            ticks: 0,
            buffer: vec![0; BUFFER_BYTES + PAGE_BYTES],
            listing: Box::new_uninit_slice(LISTING_BYTES),
        };
        for path in paths {
            let Ok(file) = open(path.as_ref(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else { continue };
            let reads = read(&file, usize::MAX, on_page(&mut bare.buffer));
            bare.files.push((file, reads));
        }
        assert!(!bare.files.is_empty(), "there is no file to read");
        bare
    }

    /// Also lists `folder` at each tick, and asks for the size of the files `sized` below it.
    pub fn list(&mut self, folder: &Path, sized: impl Iterator<Item = String>) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.listed = Some((open(folder, flags, Mode::empty()).expect("open the folder"), sized.collect()));
    }

    /// Also makes `calls` once in `every` ticks.
    pub fn seldom(&mut self, every: u64, calls: impl IntoIterator<Item = Seldom>) {
        self.seldom.extend(calls.into_iter().map(|call| (every, call)));
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// The CPU time of reading everything `count` times.
    pub fn ticks(&mut self, count: u64) -> Duration {
        let Bare { files, listed, seldom, ticks, buffer, listing } = self;
        let buffer = on_page(buffer);
        cpu_time(|| {
            for _ in 0..count {
                for (file, reads) in &*files {
                    black_box(read(file, *reads, buffer));
                }
                *ticks += 1;
                for (_, call) in seldom.iter().filter(|(every, _)| ticks.is_multiple_of(*every)) {
                    match call {
                        Seldom::Stat(path) => drop(black_box(statat(CWD, path, AtFlags::empty()))),
                        Seldom::Read(path) => {
                            let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
                            black_box(file.map_or(0, |file| read(&file, 1, buffer)));
                        }
                        Seldom::List(path) => {
                            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                            black_box(open(path, flags, Mode::empty()).map_or(0, |folder| list(&folder, listing)));
                        }
                    }
                }
                if let Some((folder, sized)) = listed {
                    black_box(list(folder, listing));
                    for path in sized {
                        // A process may have ended.
                        let _ = black_box(statat(&*folder, path.as_str(), AtFlags::empty()));
                    }
                }
            }
        })
    }
}

/// What a family does only now and then.
pub enum Seldom {
    /// `stat(2)`.
    Stat(PathBuf),
    /// Opens, reads and closes a file.
    Read(PathBuf),
    /// Opens, lists and closes a folder.
    List(PathBuf),
}

/// The part of `buffer` that begins on a page. The allocator puts a large buffer 16 bytes behind the start of a page,
/// and there the kernel's copy takes about 5 % longer.
fn on_page(buffer: &mut [u8]) -> &mut [u8] {
    let at = buffer.as_ptr().align_offset(PAGE_BYTES);
    &mut buffer[at..]
}

/// Reads until the end, at most `reads_max` times. Returns the number of reads that were not empty.
fn read(file: &OwnedFd, reads_max: usize, buffer: &mut [u8]) -> usize {
    let (mut reads, mut offset) = (0, 0);
    while reads < reads_max {
        // A process may have ended.
        let len = rustix::io::pread(file, &mut *buffer, offset).unwrap_or(0);
        if len == 0 {
            break;
        }
        offset += len as u64;
        reads += 1;
    }
    reads
}

/// Lists a folder without looking at the names. Returns their number.
fn list(folder: &OwnedFd, buffer: &mut [MaybeUninit<u8>]) -> usize {
    seek(folder, SeekFrom::Start(0)).expect("rewind the folder");
    let mut entries = RawDir::new(folder, buffer);
    let mut count = 0;
    while let Some(entry) = entries.next() {
        entry.expect("list the folder");
        count += 1;
    }
    count
}

/// The CPU time that this thread spends in `work`, including the kernel.
fn cpu_time(work: impl FnOnce()) -> Duration {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
    let begun = now();
    work();
    now().saturating_sub(begun)
}

/// The CPU time of a tick and of what it is compared with: the medians of all rounds, and the means. The means include
/// calls that are made once in a hundred ticks. They leave out the slowest hundredth of the rounds of each side: those
/// few come from the host's interrupts and would decide the mean.
pub struct Medians {
    pub tick: Duration,
    pub beside: Duration,
    pub mean_tick: Duration,
    pub mean_beside: Duration,
}

impl Medians {
    /// Measures in rounds that take turns. `beside` returns the CPU time of the given number of ticks of the other side.
    pub fn measure(collector: &mut Collector, mut beside: impl FnMut(u32) -> Duration) -> Medians {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            black_box(collector.ticks(TICKS_BEFORE_ROUND.into()));
            ours.push(collector.ticks(TICKS_A_ROUND.into()));
            black_box(beside(TICKS_BEFORE_ROUND));
            theirs.push(beside(TICKS_A_ROUND));
        }
        ours.sort_unstable();
        theirs.sort_unstable();
        Medians { mean_tick: mean(&ours), mean_beside: mean(&theirs), tick: median(&ours), beside: median(&theirs) }
    }

    pub fn ratio_of_means(&self) -> f64 {
        self.mean_tick.as_secs_f64() / self.mean_beside.as_secs_f64()
    }

    pub fn ratio(&self) -> f64 {
        self.tick.as_secs_f64() / self.beside.as_secs_f64()
    }
}

impl std::fmt::Display for Medians {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        let (tick, beside, means) = (us(self.tick), us(self.beside), self.ratio_of_means());
        write!(f, "{:.2} ({tick:.1} µs, {beside:.1} µs; of means {means:.2})", self.ratio())
    }
}

/// The mean of a tick, without the last hundredth of the sorted rounds.
fn mean(rounds: &[Duration]) -> Duration {
    let rounds = &rounds[..rounds.len() - rounds.len() / 100];
    rounds.iter().sum::<Duration>() / (TICKS_A_ROUND * u32::try_from(rounds.len()).expect("a number of rounds"))
}

/// The median of a tick, from sorted rounds.
fn median(rounds: &[Duration]) -> Duration {
    rounds[rounds.len() / 2] / TICKS_A_ROUND
}
