//! The tick that is under way on a collector's thread. A thread that hangs in a read cannot report that itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use super::SECOND_NS;
use super::health::Hang;

/// A tick that takes longer hangs.
const TICK_SECONDS_MAX: i64 = 5;

/// The tick that is under way, if one is. The collector's thread writes it, others read it.
#[derive(Clone, Debug)]
pub(super) struct Underway(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// When the tick began, by `CLOCK_MONOTONIC`; 0 between ticks.
    since_ns: AtomicI64,
    /// The position in `families` of the one that is read.
    at: AtomicUsize,
    families: Vec<&'static str>,
}

impl Underway {
    /// No tick yet, of a collector of `families`.
    pub(super) fn new(families: Vec<&'static str>) -> Underway {
        Underway(Arc::new(Shared { since_ns: AtomicI64::new(0), at: AtomicUsize::new(0), families }))
    }

    // Relaxed: the values are for people, and nothing else is read by them.

    /// A tick began at `now_ns`.
    pub(super) fn begin(&self, now_ns: i64) {
        self.0.since_ns.store(now_ns, Ordering::Relaxed);
    }

    /// The family at this position is read.
    pub(super) fn reach(&self, at: usize) {
        self.0.at.store(at, Ordering::Relaxed);
    }

    /// The tick ended.
    pub(super) fn end(&self) {
        self.0.since_ns.store(0, Ordering::Relaxed);
    }

    /// The hang, if the tick that is under way at `now_ns` takes too long.
    pub(super) fn hang(&self, now_ns: i64) -> Option<Hang> {
        let since_ns = self.0.since_ns.load(Ordering::Relaxed);
        let seconds = now_ns.saturating_sub(since_ns) / SECOND_NS;
        let family = self.0.families.get(self.0.at.load(Ordering::Relaxed)).copied()?;
        (since_ns != 0 && seconds >= TICK_SECONDS_MAX).then_some(Hang { family, seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_tick_that_takes_long_hangs() {
        let underway = Underway::new(vec!["network", "disk"]);
        assert_eq!(underway.hang(100 * SECOND_NS), None);
        underway.begin(100 * SECOND_NS);
        underway.reach(1);
        assert_eq!(underway.hang(105 * SECOND_NS - 1), None);
        assert_eq!(underway.hang(107 * SECOND_NS), Some(Hang { family: "disk", seconds: 7 }));
        underway.end();
        assert_eq!(underway.hang(200 * SECOND_NS), None);
    }
}
