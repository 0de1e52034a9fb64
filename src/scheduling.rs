//! How the kernel schedules the calling thread, by `sched_setattr(2)`. What a thread starts begins with the same scheduling.

pub mod cpus;

use std::io;
use std::time::Duration;

use thread_priority::{NormalThreadSchedulePolicy, ThreadSchedulePolicy, thread_schedule_policy};

/// The shortest turn that the kernel gives (Linux, `Documentation/scheduler/sched-eevdf.rst`).
const SHORT_TURN: Duration = Duration::from_micros(100);

const NICE_MAX: i32 = 19;
/// The lowest real-time priority is above all ordinary threads, and below other real-time threads.
const REALTIME_PRIORITY: u32 = 1;
const CALLING_THREAD: libc::pid_t = 0;
const NO_FLAGS: libc::c_uint = 0;
/// What the thread starts does not inherit its policy (sched(7)).
const RESET_ON_FORK: u64 = libc::SCHED_FLAG_RESET_ON_FORK.cast_unsigned() as u64;

/// Asks for short turns, for a thread with the ordinary policy, and keeps its niceness. Such a thread runs sooner after it wakes,
/// as it does not wait for the end of longer turns of others. Its share of the CPU stays the same. Linux before 6.12 changes
/// nothing.
///
/// # Errors
/// When the kernel refuses.
pub fn take_short_turns() -> io::Result<()> {
    match thread_schedule_policy() {
        Ok(ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other)) => be_ordinary(),
        // Somebody has chosen another.
        _ => Ok(()),
    }
}

/// Runs the calling thread before all ordinary threads (`SCHED_FIFO`). What it starts is ordinary. Needs `CAP_SYS_NICE` or
/// `RLIMIT_RTPRIO`.
///
/// # Errors
/// When the kernel refuses.
pub fn run_first() -> io::Result<()> {
    set(libc::SCHED_FIFO, 0, Duration::ZERO)
}

/// Takes [`run_first`] back: the calling thread is an ordinary one, with short turns.
///
/// # Errors
/// When the kernel refuses.
pub fn be_ordinary() -> io::Result<()> {
    set(libc::SCHED_OTHER, niceness(), SHORT_TURN)
}

/// Lowers the calling thread by `nice`, and does not let it run before others when it wakes (`SCHED_BATCH`).
///
/// # Errors
/// When the kernel refuses.
pub fn be_background(nice: i32) -> io::Result<()> {
    set(libc::SCHED_BATCH, (niceness() + nice).min(NICE_MAX), Duration::ZERO)
}

fn niceness() -> i32 {
    // On Linux this is about the calling thread only (setpriority(2), "C library/kernel differences").
    rustix::process::getpriority_process(None).unwrap_or(0)
}

/// A turn of no time is the kernel's default.
fn set(policy: libc::c_int, nice: i32, turn: Duration) -> io::Result<()> {
    let is_realtime = policy == libc::SCHED_FIFO;
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0),
        sched_policy: policy.cast_unsigned(),
        sched_flags: if is_realtime { RESET_ON_FORK } else { 0 },
        sched_nice: nice,
        sched_priority: if is_realtime { REALTIME_PRIORITY } else { 0 },
        sched_runtime: u64::try_from(turn.as_nanos()).unwrap_or(u64::MAX),
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads as many bytes of `attributes` as its `size` says, which is that of the type, and keeps no pointer.
    let refused = unsafe { libc::syscall(libc::SYS_sched_setattr, CALLING_THREAD, &raw const attributes, NO_FLAGS) };
    if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The niceness and the policy of the calling thread (proc(5), `/proc/pid/stat`).
    fn own() -> (i32, i32) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let policy = stat.rsplit(") ").next().unwrap().split(' ').nth(38).unwrap();
        (niceness(), policy.parse().unwrap())
    }

    fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(work).join().unwrap()
    }

    /// The length of a turn, where the kernel shows it (`CONFIG_SCHED_DEBUG`).
    fn turn() -> Option<Duration> {
        let shown = std::fs::read_to_string("/proc/thread-self/sched").ok()?;
        let turn = shown.lines().find(|line| line.starts_with("se.slice"))?.rsplit(':').next()?;
        turn.trim().parse().ok().map(Duration::from_nanos)
    }

    #[test]
    fn a_thread_with_short_turns_keeps_its_niceness() {
        let (nice, policy) = own();
        let (outcome, after, turn) = on_a_thread(|| (take_short_turns(), own(), turn()));
        outcome.unwrap();
        assert_eq!(after, (nice, policy));
        // Older kernels show other fields, or ignore the request.
        println!("turns of {turn:?}");
        assert!(turn.is_none_or(|turn| turn == SHORT_TURN || !has_short_turns()), "{turn:?}");
    }

    /// Linux 6.12 or newer.
    fn has_short_turns() -> bool {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
        (numbers.next(), numbers.next()) >= (Some(6), Some(12))
    }

    #[test]
    fn another_policy_stays() {
        let (nice, _) = own();
        let batch = on_a_thread(|| be_background(0).and_then(|()| take_short_turns()).map(|()| own()));
        assert_eq!(batch.unwrap(), (nice, libc::SCHED_BATCH));
    }

    /// The test may run with the privilege or without.
    #[test]
    fn a_thread_that_runs_first_starts_ordinary_ones() {
        let (nice, policy) = own();
        let (outcome, first, started, after) =
            on_a_thread(|| (run_first(), own(), on_a_thread(own), be_ordinary().map(|()| own()).unwrap()));
        match outcome {
            Ok(()) => assert_eq!(first.1, libc::SCHED_FIFO),
            Err(error) => assert_eq!((error.kind(), first.1), (io::ErrorKind::PermissionDenied, policy)),
        }
        assert_eq!((started, after), ((nice, libc::SCHED_OTHER), (nice, libc::SCHED_OTHER)));
    }

    #[test]
    fn what_a_background_thread_starts_is_in_the_background() {
        let (nice, _) = own();
        let inherited = on_a_thread(|| be_background(3).map(|()| on_a_thread(own)));
        assert_eq!(inherited.unwrap(), ((nice + 3).min(19), libc::SCHED_BATCH));
    }
}
