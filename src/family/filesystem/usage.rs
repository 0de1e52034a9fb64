//! The space of file systems, asked for on worker threads that may hang.
//!
//! statvfs(3) on a mount whose server or device is gone may never return, and cannot be cancelled. So a worker thread
//! makes the call. The collector waits for at most its [`Patience`]; then it abandons the worker, and a new one asks
//! for the next mounts. A mount is not asked for again until its worker returns, so each hung mount holds one thread. A
//! sampler has at most [`STUCK_WORKERS_MAX`] of them, and all samplers, replaced ones included, [`WORKERS_MAX`]
//! workers.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
    thread_schedule_policy,
};

/// How long a collector waits; its other families wait meanwhile.
const PATIENCE: Patience = Patience { mount: Duration::from_millis(200), tick: Duration::from_millis(400) };
/// With this many hung workers, no mount is asked for until one of them returns.
const STUCK_WORKERS_MAX: usize = 8;
/// The most workers of the process. A stopped collector abandons its workers, which stay hung.
const WORKERS_MAX: usize = 32;
/// The nice value 0, in the scale of the crate thread-priority.
const NICE_0: u8 = 47;

/// Bytes and inodes of a file system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Space {
    /// Its size.
    pub(super) total: u64,
    /// Used space.
    pub(super) used: u64,
    /// Space that users other than root can still use.
    pub(super) free: u64,
    /// `None` if the file system makes inodes as it needs them.
    pub(super) inodes: Option<Inodes>,
}

/// Inodes of a file system, one for each file and folder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Inodes {
    pub(super) total: u64,
    /// Those that users other than root can still use.
    pub(super) free: u64,
}

impl Space {
    /// Used ÷ (used + free); NaN for a file system without space.
    pub(super) fn used_ratio(self) -> f64 {
        self.used as f64 / self.used.saturating_add(self.free) as f64
    }

    /// The space of the file system at `path`; `None` if the call fails or reports nothing.
    pub(super) fn at(path: &[u8]) -> Option<Space> {
        let stat = rustix::fs::statvfs(OsStr::from_bytes(path)).ok()?;
        // FUSE reports zeros to users without access. More free than total blocks is an error of the file system.
        if stat.f_blocks == 0 || stat.f_bfree > stat.f_blocks {
            return None;
        }
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Some(Space {
            total: bytes(stat.f_blocks),
            used: bytes(stat.f_blocks - stat.f_bfree),
            free: bytes(stat.f_bavail),
            inodes: (stat.f_files > 0 && stat.f_favail <= stat.f_files)
                .then_some(Inodes { total: stat.f_files, free: stat.f_favail }),
        })
    }
}

/// How long to wait for answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For one mount.
    pub(super) mount: Duration,
    /// For all mounts of a tick.
    pub(super) tick: Duration,
}

/// The call that a worker makes for a path.
pub(super) type Ask = Arc<dyn Fn(&[u8]) -> Option<Space> + Send + Sync>;

/// Asks for the space of mounts with bounded waits.
pub(super) struct Usages {
    ask: Ask,
    /// The number of live worker threads of all samplers.
    live: Arc<AtomicUsize>,
    /// Started when first needed, and again after one was abandoned.
    worker: Option<Worker>,
    /// Abandoned workers, each with the path that it was asked for.
    stuck: Vec<(Worker, Vec<u8>)>,
    patience: Patience,
    /// How much of `patience.tick` is left.
    left: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Silence {
    #[error("no answer within {} ms", .0.as_millis())]
    Hangs(Duration),
    #[error("an earlier call has not returned yet")]
    Waiting,
    #[error("not asked: {} other mounts do not answer", STUCK_WORKERS_MAX)]
    Crowded,
    #[error("not asked: the mounts before it took too long")]
    Late,
    #[error("the call panicked")]
    Died,
    #[error("start a thread for it: {0}")]
    NoThread(io::Error),
}

impl Default for Usages {
    fn default() -> Usages {
        static LIVE: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);
        Usages::new(Arc::new(Space::at), PATIENCE, Arc::clone(&LIVE))
    }
}

impl Usages {
    /// Workers call `ask`; `live` counts them.
    pub(super) fn new(ask: Ask, patience: Patience, live: Arc<AtomicUsize>) -> Usages {
        Usages { ask, live, worker: None, stuck: Vec::new(), patience, left: patience.tick }
    }

    /// Begins a tick: takes back abandoned workers that returned, and drops their late answers.
    pub(super) fn begin(&mut self) {
        self.left = self.patience.tick;
        for (worker, _) in self.stuck.extract_if(.., |(worker, _)| worker.has_returned()) {
            if worker.buffer.is_some() {
                self.worker.get_or_insert(worker);
            }
        }
    }

    /// The space of the file system at `path`; `None` if the call fails or reports nothing.
    pub(super) fn of(&mut self, path: &[u8]) -> Result<Option<Space>, Silence> {
        if self.stuck.iter().any(|(_, asked)| asked == path) {
            return Err(Silence::Waiting);
        }
        if self.stuck.len() >= STUCK_WORKERS_MAX {
            return Err(Silence::Crowded);
        }
        // A shorter limit would report slow mounts as hung.
        if self.left < self.patience.mount {
            return Err(Silence::Late);
        }
        let mut worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(Arc::clone(&self.ask), &self.live).map_err(Silence::NoThread)?,
        };
        let since = Instant::now();
        let answer = worker.ask(path, self.patience.mount);
        self.left = self.left.saturating_sub(since.elapsed());
        match answer {
            Ok(space) => {
                self.worker = Some(worker);
                Ok(space)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.stuck.push((worker, path.to_vec()));
                Err(Silence::Hangs(self.patience.mount))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Silence::Died),
        }
    }
}

/// A thread that makes one call at a time. It ends when this is dropped, or if it hangs then, when its call returns.
struct Worker {
    paths: SyncSender<Vec<u8>>,
    answers: Receiver<(Vec<u8>, Option<Space>)>,
    /// Carries a path to the thread and returns with the answer; `None` meanwhile.
    buffer: Option<Vec<u8>>,
}

impl Worker {
    fn start(ask: Ask, live: &Arc<AtomicUsize>) -> io::Result<Worker> {
        let counted = Counted::new(live)?;
        // Bounded channels allocate their slots at the start, so sending a buffer allocates nothing.
        let (paths, asked) = sync_channel::<Vec<u8>>(1);
        let (answer, answers) = sync_channel(1);
        thread::Builder::new().name("kymo-statvfs".into()).spawn(move || {
            let _counted = counted;
            leave_real_time();
            for path in asked {
                let space = ask(&path);
                if answer.send((path, space)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Worker { paths, answers, buffer: Some(Vec::new()) })
    }

    fn ask(&mut self, path: &[u8], patience: Duration) -> Result<Option<Space>, RecvTimeoutError> {
        let mut buffer = self.buffer.take().unwrap_or_default();
        path.clone_into(&mut buffer);
        self.paths.send(buffer).map_err(|_| RecvTimeoutError::Disconnected)?;
        let (buffer, space) = self.answers.recv_timeout(patience)?;
        self.buffer = Some(buffer);
        Ok(space)
    }

    /// Whether the abandoned call has ended. If it panicked, there is no buffer then.
    fn has_returned(&mut self) -> bool {
        match self.answers.try_recv() {
            Ok((buffer, _)) => {
                self.buffer = Some(buffer);
                true
            }
            Err(error) => error == TryRecvError::Disconnected,
        }
    }
}

/// Threads inherit their scheduling, and a call into a file system must not run before all ordinary threads.
fn leave_real_time() {
    if let (Ok(ThreadSchedulePolicy::Realtime(_)), Ok(priority)) = (thread_schedule_policy(), NICE_0.try_into()) {
        let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
        // The kernel does not refuse to drop a privilege.
        let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(priority), policy);
    }
}

/// A thread that is counted for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(live: &Arc<AtomicUsize>) -> io::Result<Counted> {
        // Relaxed: the number orders nothing but itself.
        let before = live.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(live));
        if before < WORKERS_MAX {
            return Ok(counted);
        }
        Err(io::Error::other(format!("{WORKERS_MAX} threads already wait for mounts")))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Relaxed: see `new`.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    const SPACE: Space = Space { total: 3, used: 2, free: 1, inodes: None };
    /// For calls that return, even on a busy machine.
    const LONG: Patience = Patience { mount: Duration::from_secs(20), tick: Duration::from_secs(60) };
    /// For calls that hang.
    const SHORT: Patience = Patience { mount: Duration::from_millis(10), tick: Duration::from_millis(25) };

    /// Blocks calls for some paths.
    #[derive(Default)]
    struct Gate {
        shut: Mutex<Vec<Vec<u8>>>,
        opened: Condvar,
        passed: Mutex<Vec<Vec<u8>>>,
    }

    impl Gate {
        fn shut(paths: &[&str]) -> (Arc<Gate>, Usages) {
            let gate = Arc::new(Gate::default());
            *gate.shut.lock().unwrap() = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
            let ours = Arc::clone(&gate);
            let ask = move |path: &[u8]| {
                ours.pass(path);
                Some(SPACE)
            };
            (gate, Usages::new(Arc::new(ask), LONG, Arc::default()))
        }

        fn pass(&self, path: &[u8]) {
            if path == b"/panic" {
                std::panic::resume_unwind(Box::new("as asked for"));
            }
            let shut = self.shut.lock().unwrap();
            drop(self.opened.wait_while(shut, |shut| shut.iter().any(|held| held == path)).unwrap());
            self.passed.lock().unwrap().push(path.to_vec());
        }

        fn open(&self, path: &str) {
            self.shut.lock().unwrap().retain(|held| held != path.as_bytes());
            self.opened.notify_all();
        }
    }

    fn told(usages: &mut Usages, path: &str) -> String {
        match usages.of(path.as_bytes()) {
            Ok(space) => format!("{:?}", space.map(|space| space.total)),
            Err(silence) => silence.to_string(),
        }
    }

    /// Begins a tick with this patience.
    fn begin(usages: &mut Usages, patience: Patience) {
        usages.patience = patience;
        usages.begin();
    }

    /// Begins ticks until a worker has come back.
    fn await_return(usages: &mut Usages) {
        let (stuck, deadline) = (usages.stuck.len(), Instant::now() + LONG.mount);
        while usages.stuck.len() == stuck {
            assert!(Instant::now() < deadline, "no worker returned");
            thread::yield_now();
            begin(usages, LONG);
        }
    }

    #[test]
    fn the_worker_answers_as_the_kernel_does() {
        let mut usages = Usages::default();
        begin(&mut usages, LONG);
        let stat = rustix::fs::statvfs("/").unwrap();
        assert_eq!(usages.of(b"/").unwrap().unwrap().total, stat.f_blocks * stat.f_frsize);
        assert_eq!(usages.of(b"/nowhere").unwrap(), None);
        assert_eq!(usages.of(b"/a\0b").unwrap(), None);
        assert_eq!(usages.of(b"/nowhere\xff").unwrap(), None);
    }

    /// A collector that is started again has new usages, while the abandoned workers stay.
    #[test]
    fn workers_of_all_samplers_are_bounded() {
        let (gate, mut usages) = Gate::shut(&["/dead"]);
        begin(&mut usages, SHORT);
        for _ in 0..WORKERS_MAX {
            assert_eq!(told(&mut usages, "/dead"), "no answer within 10 ms");
            usages = Usages::new(Arc::clone(&usages.ask), SHORT, Arc::clone(&usages.live));
        }
        assert_eq!(told(&mut usages, "/dead"), "start a thread for it: 32 threads already wait for mounts");
        gate.open("/dead");
        let deadline = Instant::now() + LONG.mount;
        while usages.live.load(Ordering::Relaxed) > 0 {
            assert!(Instant::now() < deadline, "the threads do not end");
            thread::yield_now();
        }
        begin(&mut usages, LONG);
        assert_eq!(told(&mut usages, "/dead"), "Some(3)");
    }

    #[test]
    fn who_hangs_is_left_alone_until_it_returns() {
        let (gate, mut usages) = Gate::shut(&["/dead"]);
        begin(&mut usages, LONG);
        assert_eq!(told(&mut usages, "/a"), "Some(3)");
        begin(&mut usages, SHORT);
        assert_eq!(told(&mut usages, "/dead"), "no answer within 10 ms");
        begin(&mut usages, LONG);
        assert_eq!(told(&mut usages, "/b"), "Some(3)");
        let begun = Instant::now();
        assert_eq!(told(&mut usages, "/dead"), "an earlier call has not returned yet");
        assert_eq!(told(&mut usages, "/c"), "Some(3)");
        assert!(begun.elapsed() < LONG.mount, "it was asked for again");
        assert_eq!(gate.passed.lock().unwrap().len(), 3);

        gate.open("/dead");
        await_return(&mut usages);
        assert_eq!(told(&mut usages, "/dead"), "Some(3)");
        assert_eq!(gate.passed.lock().unwrap().iter().filter(|path| *path == b"/dead").count(), 2);
    }

    #[test]
    fn a_tick_and_the_threads_have_their_bounds() {
        let names: Vec<String> = (0..=STUCK_WORKERS_MAX).map(|at| format!("/dead{at}")).collect();
        let (gate, mut usages) = Gate::shut(&names.iter().map(String::as_str).collect::<Vec<_>>());
        begin(&mut usages, SHORT);
        let first: Vec<String> = names.iter().map(|name| told(&mut usages, name)).collect();
        assert_eq!(first[0], "no answer within 10 ms");
        assert!(usages.stuck.len() <= 2);
        assert_eq!(first[2], "not asked: the mounts before it took too long");
        while usages.stuck.len() < STUCK_WORKERS_MAX {
            begin(&mut usages, SHORT);
            for name in &names {
                told(&mut usages, name);
            }
        }
        begin(&mut usages, LONG);
        assert_eq!(told(&mut usages, &names[STUCK_WORKERS_MAX]), "not asked: 8 other mounts do not answer");
        assert_eq!(told(&mut usages, "/good"), "not asked: 8 other mounts do not answer");
        gate.open(&names[3]);
        await_return(&mut usages);
        assert_eq!(told(&mut usages, "/good"), "Some(3)");
        assert_eq!(told(&mut usages, &names[3]), "Some(3)");
        names.iter().for_each(|name| gate.open(name));
    }

    #[test]
    fn a_call_that_panics_costs_its_own_answer() {
        let (_gate, mut usages) = Gate::shut(&[]);
        assert_eq!(told(&mut usages, "/panic"), "the call panicked");
        assert_eq!(told(&mut usages, "/a"), "Some(3)");
    }

    #[test]
    fn the_ratio_is_of_what_users_can_have() {
        let space = |used, free| Space { total: 100, used, free, inodes: None }.used_ratio();
        assert!((space(30, 30) - 0.5).abs() < f64::EPSILON && (space(0, 5)).abs() < f64::EPSILON);
        assert!(space(0, 0).is_nan());
    }
}
