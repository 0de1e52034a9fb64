//! Which CPUs fast collectors and queries run on while queries compute for long.
//!
//! A thread that is in the kernel is often not interrupted there (`PREEMPT_NONE` and `PREEMPT_LAZY`, as kernels of servers have
//! it). A collector that wakes on its CPU waits for it, whatever the priorities are. So while queries compute for long, they leave
//! some CPUs, and fast collectors stay on those.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::Pid;
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

/// One CPU is kept for fast collectors out of each so many, and at least one.
const CPUS_FOR_ONE_KEPT: usize = 8;

/// The CPUs of this process, and who uses which.
#[derive(Debug)]
pub struct Cpus {
    /// None if there is nothing to divide.
    division: Option<Division>,
    apart: AtomicBool,
    /// Fast collectors that run. Without any, there is nobody to keep a CPU for.
    fast: AtomicUsize,
    /// The threads of this process that serve queries.
    servers: Mutex<HashSet<Pid>>,
}

/// A fast collector that runs.
#[derive(Debug)]
#[must_use]
pub struct Fast<'a>(&'a Cpus);

impl Drop for Fast<'_> {
    fn drop(&mut self) {
        self.0.fast.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Division {
    all: CpuSet,
    /// For fast collectors, while apart.
    kept: CpuSet,
    /// For queries, while apart.
    others: CpuSet,
}

impl Cpus {
    /// Those that this process may use now.
    #[must_use]
    pub fn of_process() -> Cpus {
        Cpus { division: sched_getaffinity(None).ok().and_then(Division::of), ..Cpus::undivided() }
    }

    /// CPUs that are never divided.
    #[must_use]
    pub fn undivided() -> Cpus {
        Cpus { division: None, apart: AtomicBool::new(false), fast: AtomicUsize::new(0), servers: Mutex::default() }
    }

    /// A fast collector runs until what this returns is dropped.
    pub fn run_fast(&self) -> Fast<'_> {
        self.fast.fetch_add(1, Ordering::Relaxed);
        Fast(self)
    }

    /// Whether fast collectors run.
    #[must_use]
    pub fn has_fast(&self) -> bool {
        self.fast.load(Ordering::Relaxed) > 0
    }

    /// Whether queries leave CPUs to fast collectors.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        self.apart.load(Ordering::Relaxed)
    }

    /// Has the threads that serve queries leave the kept ones, and fast collectors stay there from their next tick on, or ends
    /// that. Processes that run queries have left them before.
    pub fn set_apart(&self, apart: bool) {
        let Some(division) = &self.division else { return };
        let servers = self.servers();
        for server in &*servers {
            // A refusal leaves it where it is.
            let _ = sched_setaffinity(Some(*server), division.of_queries(apart));
        }
        self.apart.store(apart, Ordering::Relaxed);
    }

    /// The calling thread serves queries from now on.
    pub fn begin_to_serve(&self) {
        let mut servers = self.servers();
        servers.insert(gettid());
        // It may have begun on the CPUs of the thread that started it. A refusal leaves it where it is.
        let _ = self.place_query(self.is_apart());
    }

    /// The calling thread ends.
    pub fn end_serving(&self) {
        self.servers().remove(&gettid());
    }

    fn servers(&self) -> MutexGuard<'_, HashSet<Pid>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the calling thread, a collector that begins, all CPUs: the thread that started it may have served queries.
    pub fn begin_to_collect(&self) {
        let Some(division) = &self.division else { return };
        if sched_getaffinity(None).is_ok_and(|now| now == division.others) {
            // A refusal leaves it where it is.
            let _ = sched_setaffinity(None, &division.all);
        }
    }

    /// Puts the calling thread, a fast collector, where it belongs while `apart`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn place_collector(&self, apart: bool) -> io::Result<()> {
        let Some(Division { all, kept, .. }) = &self.division else { return Ok(()) };
        let (from, to) = if apart { (all, kept) } else { (kept, all) };
        // Somebody has chosen other CPUs.
        if sched_getaffinity(None)? != *from {
            return Ok(());
        }
        Ok(sched_setaffinity(None, to)?)
    }

    /// Puts the calling thread, and what it starts, where queries belong while `apart`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn place_query(&self, apart: bool) -> io::Result<()> {
        let Some(division) = &self.division else { return Ok(()) };
        Ok(sched_setaffinity(None, division.of_queries(apart))?)
    }

    /// Puts all threads of a process that runs queries where they belong while `apart`, with what they start later.
    ///
    /// # Errors
    /// When the process has ended, or the kernel refuses.
    pub fn place_queries(&self, process: u32, apart: bool) -> io::Result<()> {
        let Some(division) = &self.division else { return Ok(()) };
        for task in fs::read_dir(format!("/proc/{process}/task"))? {
            let id = task?.file_name().to_str().and_then(|id| id.parse().ok()).and_then(Pid::from_raw);
            // A thread that has ended meanwhile needs no place.
            let _ = sched_setaffinity(Some(id.ok_or(io::ErrorKind::InvalidData)?), division.of_queries(apart));
        }
        Ok(())
    }

    /// How many are kept for fast collectors, of how many.
    #[must_use]
    pub fn kept(&self) -> Option<(u32, u32)> {
        self.division.as_ref().map(|Division { all, kept, .. }| (kept.count(), all.count()))
    }
}

impl Division {
    fn of_queries(&self, apart: bool) -> &CpuSet {
        if apart { &self.others } else { &self.all }
    }

    fn of(all: CpuSet) -> Option<Division> {
        let numbers: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|number| all.is_set(*number)).collect();
        // Most interrupts come to the first ones.
        let kept = numbers.len().div_ceil(CPUS_FOR_ONE_KEPT);
        let (others, kept) = numbers.split_at(numbers.len() - kept);
        let set = |numbers: &[usize]| {
            let mut set = CpuSet::new();
            numbers.iter().for_each(|number| set.set(*number));
            set
        };
        (!others.is_empty()).then(|| Division { all, kept: set(kept), others: set(others) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(numbers: impl IntoIterator<Item = usize>) -> CpuSet {
        let mut set = CpuSet::new();
        numbers.into_iter().for_each(|number| set.set(number));
        set
    }

    #[test]
    fn some_cpus_are_kept_and_the_others_are_never_none() {
        assert!(Division::of(set([])).is_none());
        assert!(Division::of(set([3])).is_none());
        for (all, kept) in [(vec![0, 1], 1), (vec![2, 5, 9], 1), ((0..8).collect(), 1), ((0..64).collect(), 8)] {
            let division = Division::of(set(all.iter().copied())).unwrap();
            assert_eq!(division.kept, set(all[all.len() - kept..].iter().copied()));
            assert_eq!(division.others, set(all[..all.len() - kept].iter().copied()));
        }
    }

    /// On a host with one CPU there is nothing to see.
    #[test]
    fn a_collector_moves_to_the_kept_cpus_and_back() {
        std::thread::spawn(|| {
            let cpus = Cpus::of_process();
            let now = || sched_getaffinity(None).unwrap();
            let before = now();
            cpus.set_apart(true);
            assert_eq!(cpus.is_apart(), cpus.kept().is_some());
            cpus.place_collector(true).unwrap();
            assert_eq!(now().count(), cpus.kept().map_or(before.count(), |(kept, _)| kept));
            cpus.place_collector(false).unwrap();
            assert_eq!(now(), before);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_process_moves_with_all_its_threads() {
        let cpus = Cpus::of_process();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = Pid::from_child(&child);
        cpus.place_queries(child.id(), true).unwrap();
        let narrow = sched_getaffinity(Some(id)).unwrap().count();
        cpus.place_queries(child.id(), false).unwrap();
        let wide = sched_getaffinity(Some(id)).unwrap().count();
        child.kill().unwrap();
        child.wait().unwrap();
        let (kept, all) = cpus.kept().unwrap_or((0, wide));
        assert_eq!((narrow, wide), (all - kept, all));
    }

    #[test]
    fn a_thread_that_serves_leaves_the_kept_cpus_until_it_ends() {
        let cpus = &Cpus::of_process();
        let (begun, begins) = std::sync::mpsc::channel();
        let (end, ends) = std::sync::mpsc::channel();
        std::thread::scope(|threads| {
            let late = || {
                cpus.begin_to_serve();
                let count = || sched_getaffinity(None).unwrap().count();
                let collect = || {
                    cpus.begin_to_collect();
                    count()
                };
                let counts = (count(), std::thread::scope(|threads| threads.spawn(collect).join().unwrap()));
                cpus.end_serving();
                counts
            };
            threads.spawn(move || {
                cpus.begin_to_serve();
                begun.send(gettid()).unwrap();
                ends.recv().unwrap();
                cpus.end_serving();
            });
            let server = begins.recv().unwrap();
            let count = || sched_getaffinity(Some(server)).unwrap().count();
            let all = count();
            let others = cpus.kept().map_or(all, |(kept, all)| all - kept);
            cpus.set_apart(true);
            assert_eq!(count(), others);
            assert_eq!(
                threads.spawn(late).join().unwrap(),
                (others, all),
                "one that begins later, and a collector from it"
            );
            cpus.set_apart(false);
            assert_eq!(count(), all);
            end.send(()).unwrap();
        });
        assert!(cpus.servers().is_empty());
    }

    #[test]
    fn fast_collectors_are_counted_while_they_run() {
        let cpus = Cpus::undivided();
        let one = cpus.run_fast();
        drop(cpus.run_fast());
        assert!(cpus.has_fast());
        drop(one);
        assert!(!cpus.has_fast());
    }

    #[test]
    fn other_cpus_that_somebody_chose_stay() {
        std::thread::spawn(|| {
            let cpus = Cpus::of_process();
            let Some(Division { others, .. }) = &cpus.division else { return };
            sched_setaffinity(None, others).unwrap();
            cpus.place_collector(true).unwrap();
            assert!(sched_getaffinity(None).unwrap() == *others);
        })
        .join()
        .unwrap();
    }
}
