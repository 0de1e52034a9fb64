//! `kymo record`: records while a command runs, ends as it does, and says what the peaks were.
//!
//! The command keeps stdin, stdout, its environment and its process group; what kymo says goes to stderr. If recording fails
//! while the command runs, the command runs on.

mod command;
mod summary;
mod text;
mod tree;

use std::ffi::OsString;
use std::fs;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use super::{new_folder, report, show};
use crate::config::{self, Flag, Settings, Sources};
use crate::daemon::recording::Recording;
use crate::reading::context::Pin;
use crate::sampler::wall_us;
use command::{End, Ended, Guard};
use summary::Summary;
use text::{Cost, text};

/// kymo failed before the command ran, as timeout(1) and env(1) have it.
const EXIT_NOT_RUN: u8 = 125;

/// What is recorded unless a configuration says otherwise. A command that uses all CPUs gets what the recorder leaves of them, so it
/// samples less often than a daemon. Nothing expires and nothing is merged, and nothing is said amid what the command says.
const DEFAULTS: &str = r#"
[collector.devices]
interval = "20ms"
metrics = ["network", "disk"]

[collector.system]
interval = "50ms"
metrics = ["cpu"]

[collector.kernel]
interval = "100ms"
metrics = ["memory", "pressure", "vm", "tcp", "ip", "softnet", "softirq"]

[collector.processes]
interval = "500ms"
metrics = ["process", "process_state"]

[collector.slow]
interval = "1s"
metrics = ["host", "interrupt", "cgroup", "sensor", "power"]

[collector.mounts]
interval = "1s"
metrics = ["filesystem"]

[storage]
compaction_interval = "0s"
retention_days = 0
retention_days_1s = 0
retention_days_1m = 0
retention_bytes = 0

[log]
filter = "off"
"#;

/// `kymo record`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kymo record -- make -j8
  kymo record -o before -- ./benchmark --seconds 30
  kymo record -c fast.toml -- ./server        with collectors of your own

The command runs as it would without kymo: with its stdin and stdout, in the same
process group. kymo writes to stderr only, before and after it. SIGINT, SIGTERM,
SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on, and kymo ends as the command
does: with its exit code, or of the signal that ended it, for which shells show 128
and its number. 127: the command was not found. 126: it cannot be run. 125: kymo
itself failed before it ran the command. If kymo itself is killed,
`kymo flush --data DIR` completes the recording.

Network and disks are sampled every 20 ms, CPUs every 50 ms, memory and pressure
every 100 ms, processes every 500 ms: up to 100 of the command's, and the ten with
most CPU and memory. [collector.…] sections of FILE replace these collectors.
Alert rules are not evaluated.

DIR is a data folder like that of `kymo run`:
  kymo query --data DIR \"SELECT * FROM process ORDER BY rss_bytes DESC LIMIT 5\"
  kymo top --data DIR")]
pub struct Record {
    /// Record into this folder, which must be new or empty [default: kymo-TIME-PID]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Write the page with the recording in it to this file, as `kymo report` does
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Configuration file
    #[arg(short, long, value_name = "FILE", env = "KYMO_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Print nothing at the end
    #[arg(short, long)]
    quiet: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Records while the command runs, and ends as it did: gives its exit code, or dies of the signal that ended it.
#[must_use]
pub fn run(arguments: &Record) -> ExitCode {
    let end = record(arguments).unwrap_or_else(|error| {
        show::tell(&error);
        End::Code(EXIT_NOT_RUN)
    });
    ExitCode::from(end.code())
}

/// How the command ended. An error says why it was not run.
fn record(arguments: &Record) -> anyhow::Result<End> {
    let folder = match &arguments.output {
        Some(folder) => folder.clone(),
        None => default_folder(Timestamp::now(), std::process::id()),
    };
    let is_new = new_folder::is_absent(&folder)?;
    let settings = settings(arguments, &folder)?;
    let guard = Guard::new().context("handle signals")?;
    let recording = Recording::start(settings)?;
    recording.settle();
    let (cpu_before, begun_us, begun) = (own_cpu(), wall_us(), Instant::now());
    let run = guard.run(&arguments.command);
    let cost = Cost { cpu: own_cpu().saturating_sub(cpu_before), took: begun.elapsed(), rss_bytes: own_peak_bytes() };
    if run.is_ok() {
        recording.settle();
    }
    let stopped = recording.stop();
    let ended = match run {
        Ok(ended) => ended,
        Err(not_run) => {
            // Whoever starts it again has the folder's name free.
            if is_new {
                let _ = fs::remove_dir_all(&folder);
            }
            say(&format!("kymo: {not_run}"));
            return Ok(not_run.end());
        }
    };
    let end = ended.end();
    if let Err(error) = stopped {
        say(&format!(
            "kymo: the command has run, but {} is incomplete: {}",
            folder.display(),
            show::in_one_line(&error)
        ));
        return Ok(end);
    }
    if !arguments.quiet {
        tell_summary(&folder, &ended, begun_us, &cost);
    }
    if let Some(file) = &arguments.report {
        match report::of_folder(&folder, file) {
            Ok(told) if !arguments.quiet => say(&told),
            Ok(_) => {}
            Err(error) => say(&format!("kymo: no report: {}", show::in_one_line(&error))),
        }
    }
    Ok(end)
}

fn tell_summary(folder: &Path, ended: &Ended, begun_us: i64, cost: &Cost) {
    match Summary::read(folder, ended.pid, begun_us, cost.took) {
        Ok(summary) => say(&text(folder, &summary, ended, cost)),
        Err(error) => {
            let folder = folder.display();
            say(&format!("kymo: recorded into {folder}, but its peaks cannot be read: {}", show::in_one_line(&error)));
        }
    }
}

/// A line on stderr. Nobody may be there to read it.
fn say(text: &str) {
    let _ = writeln!(stderr().lock(), "{text}");
}

fn settings(arguments: &Record, folder: &Path) -> anyhow::Result<Settings> {
    let path = folder.to_str().with_context(|| format!("the folder {} is not valid UTF-8", folder.display()))?;
    let mut settings = config::load(&Sources {
        defaults: Some(DEFAULTS),
        file: arguments.config.clone(),
        variables: std::env::vars_os().collect(),
        flags: vec![Flag { name: "--output", key: "storage.path", value: path.to_owned() }],
    })?;
    // Processes that kymo starts: the command, and what that starts.
    settings.context.processes.pinned.insert(0, Pin::Below(std::process::id().cast_signed()));
    Ok(settings)
}

/// `kymo-20261127T164510Z-4711`: no other recording on this host has the name.
fn default_folder(now: Timestamp, pid: u32) -> PathBuf {
    format!("kymo-{}-{pid}", now.strftime("%Y%m%dT%H%M%SZ")).into()
}

/// CPU time of this process, without that of the command (`clock_gettime(2)`, `CLOCK_PROCESS_CPUTIME_ID`).
fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The most memory that this process had (`VmHWM` of `proc_pid_status(5)`).
fn own_peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_recording_has_a_folder_of_its_own() {
        let now: Timestamp = "2026-11-27T16:45:10.9Z".parse().unwrap();
        assert_eq!(default_folder(now, 4711), PathBuf::from("kymo-20261127T164510Z-4711"));
    }

    #[test]
    fn the_defaults_record_all_tables_and_let_nothing_expire() {
        let settings = config::load(&Sources { defaults: Some(DEFAULTS), ..Sources::default() }).unwrap();
        assert_eq!(settings.unrecorded(), []);
        let store = settings.store;
        assert_eq!((store.retention_age_max, store.retention_tier_ages_max), (None, [None, None]));
        assert_eq!((store.retention_bytes_max, store.compaction_interval), (None, None));
    }
}
