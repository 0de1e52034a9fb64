//! How long queries may use every CPU. Afterwards they leave some to collectors, until they have been quiet.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The allowance after a quiet time.
const MAX: Duration = Duration::from_millis(200);
/// It grows by its time over this while no query runs.
const QUIET_FOR_ONE: u32 = 10;
/// Once used up, it holds again from this on.
const RENEWED: Duration = Duration::from_millis(100);

/// The allowance of all queries together.
pub(super) struct Allowance {
    state: Mutex<State>,
    /// A query began or ended.
    changed: Notify,
}

struct State {
    left: Duration,
    running: usize,
    used_up: bool,
    /// When `left` was computed.
    since: Instant,
}

impl State {
    /// Computes it for `now`, and returns when `used_up` changes next if no query begins or ends.
    fn advance(&mut self, now: Instant) -> Option<Instant> {
        let passed = now.saturating_duration_since(self.since);
        self.since = now;
        if self.running > 0 {
            self.left = self.left.saturating_sub(passed);
        } else {
            self.left = (self.left + passed / QUIET_FOR_ONE).min(MAX);
        }
        self.used_up = if self.used_up { self.left < RENEWED } else { self.left.is_zero() };
        match (self.used_up, self.running > 0) {
            (false, true) => Some(now + self.left),
            (true, false) => Some(now + RENEWED.saturating_sub(self.left) * QUIET_FOR_ONE),
            _ => None,
        }
    }
}

/// A query that runs, until this is dropped.
pub(super) struct Running<'a>(&'a Allowance);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.running -= 1);
    }
}

impl Allowance {
    pub(super) fn new() -> Allowance {
        let state = State { left: MAX, running: 0, used_up: false, since: Instant::now() };
        Allowance { state: Mutex::new(state), changed: Notify::new() }
    }

    /// A query begins.
    pub(super) fn begin(&self) -> Running<'_> {
        self.change(|state| state.running += 1);
        Running(self)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        state.advance(Instant::now());
        change(&mut state);
        drop(state);
        self.changed.notify_one();
    }

    /// Calls `tell` whenever it is used up or holds again. Never returns.
    pub(super) async fn watch(&self, tell: impl Fn(bool)) {
        let mut told = false;
        loop {
            let (used_up, next) = {
                let mut state = self.lock();
                let next = state.advance(Instant::now());
                (state.used_up, next)
            };
            if used_up != told {
                tell(used_up);
                told = used_up;
            }
            match next {
                Some(next) => tokio::select! {
                    () = sleep_until(next) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state, and the time that has passed for it.
    struct Course {
        state: State,
        now: Instant,
    }

    impl Course {
        fn new() -> Course {
            let now = Instant::now();
            Course { state: State { left: MAX, running: 0, used_up: false, since: now }, now }
        }

        /// Lets so many milliseconds pass with so many queries. Returns whether it is used up at their end.
        fn pass(&mut self, milliseconds: u64, running: usize) -> bool {
            self.state.advance(self.now);
            self.state.running = running;
            let end = self.now + Duration::from_millis(milliseconds);
            // As `Allowance::watch` does.
            while let Some(next) = self.state.advance(self.now).filter(|next| *next <= end) {
                assert!(next > self.now, "it would wake for nothing");
                self.now = next;
            }
            self.now = end;
            self.state.advance(end);
            self.state.used_up
        }
    }

    #[test]
    fn short_queries_with_pauses_never_use_it_up() {
        let mut course = Course::new();
        for _ in 0..100 {
            assert!(!course.pass(20, 1));
            assert!(!course.pass(200, 0));
        }
    }

    #[test]
    fn long_queries_use_it_up_until_it_was_quiet() {
        let mut course = Course::new();
        assert!(!course.pass(190, 2));
        assert!(course.pass(20, 1));
        assert!(course.pass(60_000, 1));
        assert!(course.pass(900, 0));
        // A pause ends the quiet time, and does not begin it anew.
        assert!(course.pass(0, 1));
        assert!(!course.pass(200, 0));
        assert!(!course.pass(90, 1));
        assert!(course.pass(30, 1));
    }

    #[tokio::test]
    async fn whoever_watches_is_told() {
        let (allowance, (told, mut tells)) = (Allowance::new(), tokio::sync::mpsc::unbounded_channel());
        allowance.change(|state| state.left = Duration::from_millis(5));
        let running = allowance.begin();
        let watching = allowance.watch(|used_up| told.send(used_up).unwrap());
        tokio::select! {
            () = watching => unreachable!(),
            first = tells.recv() => assert_eq!(first, Some(true)),
        }
        drop(running);
        allowance.change(|state| state.left = RENEWED.mul_f64(0.99));
        tokio::select! {
            () = allowance.watch(|used_up| told.send(used_up).unwrap()) => unreachable!(),
            () = async { while tells.recv().await != Some(false) {} } => {}
        }
    }
}
