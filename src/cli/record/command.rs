//! The command: started, given its signals, and waited for.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, exit};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::emulate_default_handler;
use signal_hook::low_level::siginfo::Cause;

/// What is passed on to the command.
const PASSED_ON: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];
/// What `ru_inblock` and `ru_oublock` count (getrusage(2)).
const BLOCK_BYTES: u64 = 512;
/// Shells add this to the number of the signal that ended a command.
const SIGNALLED: i32 = 128;
/// What runs a script that does not say what runs it.
const SHELL: &str = "/bin/sh";

/// So much of a script is looked at.
const LOOKED_AT_BYTES: u64 = 256;

/// How this process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With this exit code.
    Code(u8),
    /// Of this signal.
    Signal(i32),
}

impl End {
    /// Ends this process if it is to die of a signal: a shell then knows that Ctrl-C ended its command, and ends a loop around it. There
    /// is no second core dump. Otherwise, and where the kernel does not let it die so, gives its exit code.
    pub(super) fn code(self) -> u8 {
        match self {
            End::Code(code) => code,
            End::Signal(signal) => {
                let limit = getrlimit(Resource::Core);
                let has_no_core = setrlimit(Resource::Core, Rlimit { current: Some(0), ..limit }).is_ok();
                // The first process of a container has no default actions.
                if has_no_core && !getpid().is_init() {
                    // Signals that end nothing by themselves, and unknown ones, are left to the exit code.
                    let _ = emulate_default_handler(signal);
                }
                u8::try_from(SIGNALLED + signal).unwrap_or(u8::MAX)
            }
        }
    }
}

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
    pub(super) fn end(&self) -> End {
        match self {
            NotRun::Refused { source, .. } if source.kind() == io::ErrorKind::NotFound => End::Code(127),
            NotRun::Refused { .. } => End::Code(126),
            NotRun::Stopped(signal) => End::Signal(*signal),
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
    /// As the command did.
    pub(super) fn end(&self) -> End {
        let code = || self.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX);
        self.status.signal().map_or_else(|| End::Code(code()), End::Signal)
    }
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
        let mut child = start(&name, arguments).map_err(refused)?;
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
                exit(End::Signal(signal).code().into());
            }
        };
        // Without it, only SIGKILL ends a process whose disk hangs.
        let _ = thread::Builder::new().name("kymo-signals".into()).spawn(watch);
    }
}

/// Starts a command as execvp(3) does: what the kernel does not know how to run is a script of the shell.
fn start(name: &OsStr, arguments: &[OsString]) -> io::Result<Child> {
    let started = Command::new(name).args(arguments).spawn();
    match started {
        Err(error) if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) && is_text(&found(name)) => {
            Command::new(SHELL).arg(found(name)).args(arguments).spawn()
        }
        started => started,
    }
}

/// The file that a command is: with a `/` in its name that one, else the first of its name in `PATH` that may be run.
fn found(name: &OsStr) -> PathBuf {
    let may_run =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    let in_path = || env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(may_run);
    let is_path = name.as_encoded_bytes().contains(&b'/');
    if is_path { None } else { in_path() }.unwrap_or_else(|| name.into())
}

/// Whether a file may be a script: its beginning has no zero byte, as shells look at it.
fn is_text(path: &Path) -> bool {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(LOOKED_AT_BYTES).read_to_end(&mut bytes));
    read.is_ok() && !bytes.contains(&0)
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
    fn kymo_ends_as_shells_say_that_commands_do() {
        let refused = |kind: io::ErrorKind| NotRun::Refused { command: "x".into(), source: kind.into() };
        assert_eq!(refused(io::ErrorKind::NotFound).end(), End::Code(127));
        assert_eq!(refused(io::ErrorKind::PermissionDenied).end(), End::Code(126));
        assert_eq!(NotRun::Stopped(SIGTERM).end(), End::Signal(SIGTERM));
        let ended = |status| Ended {
            pid: 1,
            status: ExitStatus::from_raw(status),
            user: Duration::ZERO,
            system: Duration::ZERO,
            largest_bytes: 0,
            read_bytes: 0,
            written_bytes: 0,
        };
        let ends = [ended(0), ended(3 << 8), ended(9)].map(|ended| ended.end());
        assert_eq!(ends, [End::Code(0), End::Code(3), End::Signal(9)]);
        // A signal that ends nothing.
        assert_eq!(End::Signal(SIGCHLD).code(), 145);
    }
}
