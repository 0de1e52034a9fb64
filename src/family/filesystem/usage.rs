//! How much space file systems have, asked for on threads that may hang.
//!
//! statvfs(3) on a network file system whose server is gone, or on a FUSE file system whose program hangs, returns when
//! the server is back, if ever, and nothing calls it back. So it is called on a worker thread and not on the
//! collector's: what does not return costs a bounded wait once, and one thread for as long as it hangs.

use std::ffi::CStr;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::family::source::{failed, text};
use crate::sampler::SampleError;

/// How long an answer is waited for; in one tick also how long all that do not come are waited for together.
const STATVFS_PATIENCE: Duration = Duration::from_millis(200);
/// Calls that hang at the same time. Then nothing more is asked until one returns.
const STUCK_MAX: usize = 8;
/// Of an error.
const WHAT: &str = "mounts";

/// Bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Space {
    pub(super) total: u64,
    pub(super) used: u64,
    /// What users other than root can have.
    pub(super) free: u64,
}

impl Space {
    /// NaN for a file system without any space.
    pub(super) fn used_ratio(self) -> f64 {
        self.used as f64 / self.used.saturating_add(self.free) as f64
    }
}

/// What the kernel says of the file system at a path; `None` where it refuses, or claims more free than there is.
pub(super) fn statvfs(path: &CStr) -> Option<Space> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let used = stat.f_blocks.checked_sub(stat.f_bfree)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Some(Space { total: bytes(stat.f_blocks), used: bytes(used), free: bytes(stat.f_bavail) })
}

/// What a worker calls for each path; it may hang.
type Ask = Arc<dyn Fn(&CStr) -> Option<Space> + Send + Sync>;

/// Asks for the space of file systems.
pub(super) struct Usage {
    ask: Ask,
    /// The worker that waits for requests; made when there is something to ask.
    worker: Option<Worker>,
    stuck: Vec<Stuck>,
    spaces: Vec<Option<Space>>,
    /// [`STATVFS_PATIENCE`] but in tests.
    patience: Duration,
}

impl Usage {
    /// Asks by `ask`, which is [`statvfs`] but in tests.
    pub(super) fn new(ask: impl Fn(&CStr) -> Option<Space> + Send + Sync + 'static) -> Usage {
        Usage { ask: Arc::new(ask), worker: None, stuck: Vec::new(), spaces: Vec::new(), patience: STATVFS_PATIENCE }
    }

    /// The spaces that [`ask`](Self::ask) found, in the order of its paths.
    pub(super) fn spaces(&self) -> &[Option<Space>] {
        &self.spaces
    }

    /// Asks for the spaces at `paths`, one after the other, but for those where an earlier call still hangs.
    ///
    /// # Errors
    /// Names those that gave no answer, in a text that is the same for as long as they do not.
    pub(super) fn ask<'a>(&mut self, paths: impl Iterator<Item = &'a Arc<CStr>> + Clone) -> Result<(), SampleError> {
        // A worker that came back has an answer to a question of an earlier tick. It ends, and its path is asked anew.
        self.stuck.retain(|stuck| matches!(stuck.worker.answers.try_recv(), Err(TryRecvError::Empty)));
        self.spaces.clear();
        let mut outcome = Ok(());
        let mut unasked = 0;
        let mut patience = self.patience;
        for (row, path) in paths.clone().enumerate() {
            let space = if self.hangs(path) {
                None
            } else if self.stuck.len() >= STUCK_MAX {
                unasked += 1;
                None
            } else {
                // Half of what is left, so that there is some for each that follows, and the rest at the end.
                self.ask_one(row, path, &mut patience).unwrap_or_else(|error| {
                    outcome = Err(failed_to_ask(path, &error));
                    None
                })
            };
            self.spaces.push(space);
        }
        self.wait_for_late(patience, &mut outcome);
        if unasked == 0 && !paths.clone().any(|path| self.hangs(path)) {
            return outcome;
        }
        Err(failed(WHAT, self.told(paths, unasked)))
    }

    /// Whether a call for `path` has not returned. Compared by bytes: the list of mounts may have been made anew.
    fn hangs(&self, path: &Arc<CStr>) -> bool {
        self.stuck.iter().any(|stuck| stuck.path == *path)
    }

    /// Takes from `patience` what was waited in vain.
    fn ask_one(&mut self, row: usize, path: &Arc<CStr>, patience: &mut Duration) -> io::Result<Option<Space>> {
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(Arc::clone(&self.ask))?,
        };
        // It waits for a request, so there is room for one.
        worker.requests.try_send(Arc::clone(path)).map_err(|_| ended())?;
        let wait = *patience / 2;
        match worker.answers.recv_timeout(wait) {
            Ok(space) => {
                self.worker = Some(worker);
                Ok(space)
            }
            Err(RecvTimeoutError::Timeout) => {
                *patience = patience.saturating_sub(wait);
                self.stuck.push(Stuck { worker, path: Arc::clone(path), row: Some(row) });
                Ok(None)
            }
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }

    /// Waits as long as `patience` for all together that have not answered at this tick.
    fn wait_for_late(&mut self, patience: Duration, outcome: &mut Result<(), SampleError>) {
        if self.stuck.iter().all(|stuck| stuck.row.is_none()) {
            return;
        }
        let deadline = Instant::now() + patience;
        let spaces = &mut self.spaces;
        self.stuck.retain_mut(|stuck| {
            let Some(row) = stuck.row.take() else { return true };
            match stuck.worker.answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(space) => {
                    if let Some(place) = spaces.get_mut(row) {
                        *place = space;
                    }
                    false
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => {
                    *outcome = Err(failed_to_ask(&stuck.path, &ended()));
                    false
                }
            }
        });
    }

    /// What is said of the `paths` that did not answer, and of `unasked` others.
    fn told<'a>(&self, paths: impl Iterator<Item = &'a Arc<CStr>>, unasked: usize) -> String {
        let silent: Vec<String> = paths.filter(|path| self.hangs(path)).map(|path| shown(path)).collect();
        let mut told = Vec::new();
        if !silent.is_empty() {
            let patience_ms = self.patience.as_millis();
            let silent = silent.join(", ");
            told.push(format!(
                "statvfs {silent}: no answer within {patience_ms} ms, and not asked again until it comes"
            ));
        }
        if unasked > 0 {
            told.push(format!("{unasked} more not asked while {STUCK_MAX} calls of statvfs do not return"));
        }
        told.join("; ")
    }
}

fn failed_to_ask(path: &CStr, error: &io::Error) -> SampleError {
    failed(WHAT, format_args!("statvfs {}: the thread that asks: {error}", shown(path)))
}

fn ended() -> io::Error {
    io::Error::other("it ended")
}

/// A path for people, on one line whatever is in it.
fn shown(path: &CStr) -> String {
    text(path.to_bytes()).escape_debug().to_string()
}

/// A thread that asks for one path after the other. It ends when its other end is dropped, or when the call that it
/// hangs in returns after that.
struct Worker {
    requests: SyncSender<Arc<CStr>>,
    answers: Receiver<Option<Space>>,
}

impl Worker {
    fn start(ask: Ask) -> io::Result<Worker> {
        let (requests, asked) = sync_channel::<Arc<CStr>>(1);
        let (answer, answers) = sync_channel(1);
        thread::Builder::new().name("kymo-statvfs".to_owned()).spawn(move || {
            for path in asked {
                if answer.send(ask(&path)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Worker { requests, answers })
    }
}

/// A worker whose call has not returned.
struct Stuck {
    worker: Worker,
    path: Arc<CStr>,
    /// Where its answer belongs, at the tick that asked.
    row: Option<usize>,
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::ffi::CString;
    use std::sync::{Condvar, Mutex, Weak};

    use super::*;

    /// A kernel with paths at which calls hang for as long as they are `held`, and the number of calls for each.
    #[derive(Default)]
    struct Kernel {
        state: Mutex<State>,
        changed: Condvar,
    }

    #[derive(Default)]
    struct State {
        held: Vec<Vec<u8>>,
        calls: HashMap<Vec<u8>, u32>,
    }

    const SPACE: Space = Space { total: 10, used: 4, free: 5 };
    const PATIENCE: Duration = Duration::from_secs(30);

    impl Kernel {
        fn usage(self: &Arc<Self>) -> Usage {
            let kernel = Arc::clone(self);
            Usage::new(move |path| kernel.statvfs(path.to_bytes()))
        }

        fn statvfs(&self, path: &[u8]) -> Option<Space> {
            assert_ne!(path, b"/panics");
            let mut state = self.state.lock().unwrap();
            *state.calls.entry(path.to_vec()).or_default() += 1;
            let held = |state: &mut State| state.held.iter().any(|held| held == path);
            drop(self.changed.wait_while(state, held).unwrap());
            (path != b"/refused").then_some(SPACE)
        }

        fn hold(&self, paths: &[&str]) {
            self.state.lock().unwrap().held = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
            self.changed.notify_all();
        }

        fn calls(&self, path: &str) -> u32 {
            self.state.lock().unwrap().calls.get(path.as_bytes()).copied().unwrap_or_default()
        }
    }

    /// The rows that have values, and the error's cause.
    fn ask(usage: &mut Usage, paths: &[&str]) -> (Vec<bool>, String) {
        let paths: Vec<Arc<CStr>> = paths.iter().map(|path| CString::new(*path).unwrap().into()).collect();
        let outcome = usage.ask(paths.iter());
        (
            usage.spaces().iter().map(Option::is_some).collect(),
            outcome.map_or_else(|error| error.cause, |()| String::new()),
        )
    }

    fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !met() {
            assert!(Instant::now() < deadline, "waited for {what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_call_that_hangs_costs_no_other_mount_and_is_waited_for_once() {
        let kernel = Arc::new(Kernel::default());
        kernel.hold(&["/mnt/dead"]);
        let mut usage = kernel.usage();
        let paths = ["/", "/mnt/dead", "/refused", "/home"];
        let wanted = "statvfs /mnt/dead: no answer within 200 ms, and not asked again until it comes";
        let began = Instant::now();
        assert_eq!(ask(&mut usage, &paths), (vec![true, false, false, true], wanted.to_owned()));
        assert!(began.elapsed() >= STATVFS_PATIENCE);
        for ticks in 2..20 {
            assert_eq!(ask(&mut usage, &paths), (vec![true, false, false, true], wanted.to_owned()));
            assert_eq!((kernel.calls("/mnt/dead"), kernel.calls("/home")), (1, ticks));
        }
        // A mount that is gone is no matter of the host's any more, though its call still hangs.
        assert_eq!(ask(&mut usage, &["/"]), (vec![true], String::new()));
        kernel.hold(&[]);
        wait_until("the answer", || ask(&mut usage, &paths).1.is_empty());
        assert_eq!(ask(&mut usage, &paths).0, [true, true, false, true]);
        assert!(usage.stuck.is_empty() && usage.worker.is_some());
    }

    #[test]
    fn a_slow_answer_is_waited_for() {
        let kernel = Arc::new(Kernel::default());
        kernel.hold(&["/slow", "/slower"]);
        let mut usage = kernel.usage();
        usage.patience = Duration::from_secs(2);
        let releasing = Arc::clone(&kernel);
        let release = thread::spawn(move || {
            // In the middle of the second wait, or later.
            wait_until("the second call", || releasing.calls("/slower") == 1);
            releasing.hold(&[]);
        });
        assert_eq!(ask(&mut usage, &["/slow", "/slower"]), (vec![true, true], String::new()));
        release.join().unwrap();
    }

    #[test]
    fn so_many_may_hang_and_then_nothing_is_asked() {
        let dead: Vec<String> = (0..=STUCK_MAX).map(|nth| format!("/dead/{nth}")).collect();
        let mut paths: Vec<&str> = dead.iter().map(String::as_str).collect();
        let kernel = Arc::new(Kernel::default());
        kernel.hold(&paths);
        paths.push("/home");
        let mut usage = kernel.usage();
        let wanted = format!(
            "statvfs {}: no answer within 200 ms, and not asked again until it comes; \
             2 more not asked while 8 calls of statvfs do not return",
            dead[..STUCK_MAX].join(", ")
        );
        let began = Instant::now();
        assert_eq!(ask(&mut usage, &paths), (vec![false; STUCK_MAX + 2], wanted.clone()));
        // One patience for all, and what a busy machine takes: eight would be 1.6 s.
        assert!(began.elapsed() < STATVFS_PATIENCE * 5, "{:?}", began.elapsed());
        assert_eq!(ask(&mut usage, &paths), (vec![false; STUCK_MAX + 2], wanted));
        assert_eq!((kernel.calls("/dead/8"), kernel.calls("/home")), (0, 0));
        assert_eq!(ask(&mut usage, &["/home"]).1, "1 more not asked while 8 calls of statvfs do not return");
        kernel.hold(&paths[1..=STUCK_MAX]);
        wait_until("one that comes back", || ask(&mut usage, &["/home"]) == (vec![true], String::new()));
        kernel.hold(&[]);
        wait_until("the others", || ask(&mut usage, &paths) == (vec![true; STUCK_MAX + 2], String::new()));
    }

    #[test]
    fn a_thread_that_ends_is_replaced() {
        let kernel = Arc::new(Kernel::default());
        let mut usage = kernel.usage();
        // Printing a backtrace may take long.
        usage.patience = PATIENCE;
        for _ in 0..3 {
            let (spaces, told) = ask(&mut usage, &["/", "/panics", "/home"]);
            assert_eq!(
                (&spaces[..], &told[..]),
                (&[true, false, true][..], "statvfs /panics: the thread that asks: it ended")
            );
        }
    }

    #[test]
    fn workers_end_with_their_sampler() {
        let kernel = Arc::new(Kernel::default());
        kernel.hold(&["/dead"]);
        let mut usage = kernel.usage();
        ask(&mut usage, &["/dead", "/"]);
        let calls: Weak<_> = Arc::downgrade(&usage.ask);
        assert_eq!(calls.strong_count(), 3, "the sampler, the worker, and the one that hangs");
        drop(usage);
        wait_until("the worker", || calls.strong_count() == 1);
        kernel.hold(&[]);
        wait_until("the one that hung", || calls.strong_count() == 0);
    }

    #[test]
    fn paths_are_told_on_one_line() {
        assert_eq!(shown(c"/a b\t\n\\\xff\u{e9}"), "/a b\\t\\n\\\\\u{fffd}\u{e9}");
    }

    #[test]
    fn the_ratio_is_of_what_users_can_have() {
        let space = |used, free| Space { total: 100, used, free }.used_ratio();
        assert!((space(30, 30) - 0.5).abs() < f64::EPSILON && (space(0, 5)).abs() < f64::EPSILON);
        assert!(space(0, 0).is_nan());
    }
}
