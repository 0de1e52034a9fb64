//! The command: started, given its signals, and waited for.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, exit};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

/// What is passed on to the command.
const PASSED_ON: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];
/// What `ru_inblock` and `ru_oublock` count (getrusage(2)).
const BLOCK_BYTES: u64 = 512;
/// Shells add this to the number of the signal that ended a command.
const SIGNALLED: i32 = 128;

/// Why the command was not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotRun {
    /// The system refused it.
    #[error("run {command}: {source}")]
    Refused {
        /// Its name.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// A signal came first.
    #[error("the command was not run, because signal {0} came first")]
    Stopped(i32),
}

impl NotRun {
    /// As shells have it: 127 if there is no such command, 126 if it cannot be run.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            NotRun::Refused { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            NotRun::Refused { .. } => 126,
            NotRun::Stopped(signal) => code_of_signal(*signal),
        }
    }
}

/// A command that has ended, and what it and its descendants took, as far as they were waited for (getrusage(2)).
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) pid: i32,
    pub(super) status: ExitStatus,
    pub(super) user: Duration,
    pub(super) system: Duration,
    /// The most memory that one of the processes had.
    pub(super) largest_bytes: u64,
    /// From and to storage.
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
}

impl Ended {
    /// The command's exit code, or 128 and the number of the signal that ended it.
    pub(super) fn exit_code(&self) -> u8 {
        let signalled = self.status.signal().map(code_of_signal);
        signalled.or_else(|| u8::try_from(self.status.code()?).ok()).unwrap_or(u8::MAX)
    }
}

fn code_of_signal(signal: i32) -> u8 {
    u8::try_from(SIGNALLED + signal).unwrap_or(u8::MAX)
}

/// Takes the signals that are the command's, from before it is started until it has ended.
pub(super) struct Guard {
    signals: SignalsInfo<WithOrigin>,
}

impl Guard {
    /// From here on these signals end nothing by themselves. What this process ignores, as below nohup(1), the command goes on to
    /// ignore.
    pub(super) fn new() -> io::Result<Guard> {
        let ignored = ignored();
        let taken = PASSED_ON.into_iter().filter(|signal| ignored & bit(*signal) == 0);
        Ok(Guard { signals: SignalsInfo::new(taken.chain([SIGCHLD]))? })
    }

    /// Runs the command to its end, and passes signals on. One that comes after that ends this process.
    pub(super) fn run(mut self, command: &[OsString]) -> Result<Ended, NotRun> {
        let came = self.signals.pending().map(|origin| origin.signal).find(|signal| *signal != SIGCHLD);
        if let Some(signal) = came {
            return Err(NotRun::Stopped(signal));
        }
        let (name, arguments) = command.split_first().map_or((None, command), |(name, rest)| (Some(name), rest));
        let name = name.cloned().unwrap_or_default();
        let refused = |source| NotRun::Refused { command: name.to_string_lossy().into_owned(), source };
        let mut child = Command::new(&name).args(arguments).spawn().map_err(refused)?;
        let status = self.wait(&mut child).map_err(refused)?;
        let ended = measure(&child, status).map_err(|error| refused(error.into()))?;
        self.end_on_signal();
        Ok(ended)
    }

    /// This thread alone waits for the child, so the id that it sends signals to is the child's.
    fn wait(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        let pid = Pid::from_child(child);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            for origin in self.signals.wait() {
                // The kernel sends what is typed at a terminal to the command, too.
                let is_sent = origin.signal != SIGCHLD && origin.cause != Cause::Kernel;
                if let Some(signal) = Signal::from_named_raw(origin.signal).filter(|_| is_sent) {
                    // It may have ended by now.
                    let _ = kill_process(pid, signal);
                }
            }
        }
    }

    /// A disk may hang while the rows are written. What is in the journal then, the next `kymo run` on the folder recovers.
    fn end_on_signal(mut self) {
        let watch = move || {
            if let Some(signal) = self.signals.forever().map(|origin| origin.signal).find(|signal| *signal != SIGCHLD) {
                exit(i32::from(code_of_signal(signal)));
            }
        };
        // Without it, only SIGKILL ends a process whose disk hangs.
        let _ = thread::Builder::new().name("kymo-signals".into()).spawn(watch);
    }
}

/// The command's figures. Until now it was the only child of this process.
fn measure(child: &Child, status: ExitStatus) -> nix::Result<Ended> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let whole = |count: i64| u64::try_from(count).unwrap_or(0);
    Ok(Ended {
        pid: child.id().cast_signed(),
        status,
        user: duration(usage.user_time()),
        system: duration(usage.system_time()),
        largest_bytes: whole(usage.max_rss()) * 1024,
        read_bytes: whole(usage.block_reads()) * BLOCK_BYTES,
        written_bytes: whole(usage.block_writes()) * BLOCK_BYTES,
    })
}

fn duration(time: TimeVal) -> Duration {
    let (seconds, micros) = (u64::try_from(time.tv_sec()).unwrap_or(0), u64::try_from(time.tv_usec()).unwrap_or(0));
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// The signals that this process ignores, each as the bit of its number less one (`SigIgn` of `proc_pid_status(5)`).
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_shells() {
        let refused = |kind: io::ErrorKind| NotRun::Refused { command: "x".into(), source: kind.into() };
        assert_eq!(refused(io::ErrorKind::NotFound).exit_code(), 127);
        assert_eq!(refused(io::ErrorKind::PermissionDenied).exit_code(), 126);
        assert_eq!(NotRun::Stopped(SIGTERM).exit_code(), 143);
        let ended = |status| Ended {
            pid: 1,
            status: ExitStatus::from_raw(status),
            user: Duration::ZERO,
            system: Duration::ZERO,
            largest_bytes: 0,
            read_bytes: 0,
            written_bytes: 0,
        };
        assert_eq!([ended(0), ended(3 << 8), ended(9)].map(|ended| ended.exit_code()), [0, 3, 137]);
    }
}
