//! How the kernel schedules the calling thread, by `sched_setattr(2)`.

use std::io;
use std::time::Duration;

use thread_priority::{NormalThreadSchedulePolicy, ThreadSchedulePolicy, thread_schedule_policy};

/// The shortest turn that the kernel gives (Linux, `Documentation/scheduler/sched-eevdf.rst`).
const SHORT_TURN: Duration = Duration::from_micros(100);

const CALLING_THREAD: libc::pid_t = 0;
const NO_FLAGS: libc::c_uint = 0;

/// Asks for short turns, for a thread with the ordinary policy, and keeps its niceness. Such a thread runs sooner after it wakes,
/// as it does not wait for the end of longer turns of others. Its share of the CPU stays the same. Linux before 6.12 changes
/// nothing.
///
/// # Errors
/// When the kernel refuses.
pub fn take_short_turns() -> io::Result<()> {
    let policy = thread_schedule_policy();
    if !matches!(policy, Ok(ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other))) {
        // Somebody has chosen another.
        return Ok(());
    }
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0),
        sched_policy: libc::SCHED_OTHER.cast_unsigned(),
        sched_flags: 0,
        sched_nice: niceness(),
        sched_priority: 0,
        sched_runtime: u64::try_from(SHORT_TURN.as_nanos()).unwrap_or(u64::MAX),
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads as many bytes of `attributes` as its `size` says, which is that of the type, and keeps no pointer.
    let refused = unsafe { libc::syscall(libc::SYS_sched_setattr, CALLING_THREAD, &raw const attributes, NO_FLAGS) };
    if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn niceness() -> i32 {
    // On Linux this is about the calling thread only (setpriority(2), "C library/kernel differences").
    rustix::process::getpriority_process(None).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use thread_priority::{ThreadPriority, set_thread_priority_and_policy, thread_native_id};

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
        let after = on_a_thread(|| {
            let batch = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
            set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, batch).unwrap();
            let before = own();
            take_short_turns().unwrap();
            (before, own())
        });
        assert_eq!(after.0, after.1);
        assert_eq!(after.0.1, libc::SCHED_BATCH);
    }
}
