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

    #[test]
    fn a_thread_with_short_turns_keeps_its_niceness() {
        let (nice, policy) = own();
        let shorter = on_a_thread(|| take_short_turns().map(|()| own()));
        assert_eq!(shorter.unwrap(), (nice, policy));
    }
}
