//! The command line: what can be asked, and how it ends.
//!
//! All commands but `run` are thin clients: `check` and `tables` need nothing but this program, `query` reads a data
//! folder or asks a daemon over Flight SQL, the rest ask the daemon over gRPC.

pub mod alert;
pub mod check;
pub mod collector;
pub mod connect;
pub mod flush;
pub mod output;
pub mod query;
mod show;
pub mod status;
pub mod table;
pub mod tables;
pub mod verify;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{ConfigError, Flag, Sources};
use connect::ConnectError;

/// Something failed.
pub const EXIT_FAILURE: u8 = 1;
/// No daemon answers (`EX_UNAVAILABLE` of sysexits.h).
pub const EXIT_UNAVAILABLE: u8 = 69;
/// The configuration is wrong (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;

const EXAMPLES: &str = "\
Examples:
  kymo run                                       record into ./data with the default configuration
  kymo query \"SELECT * FROM network ORDER BY time DESC LIMIT 5\"
  kymo query --data data -o cpu.parquet \"SELECT * FROM cpu WHERE time > now() - interval '1 hour'\"
  kymo collector set burst --interval 2ms        change how often a running daemon samples
  kymo tables network                            what the columns of a table mean

Exit codes: 0 all is well, 1 it failed, 2 wrong usage, 69 no daemon answers, 78 the configuration is wrong.";

/// A flight recorder for Linux hosts.
///
/// Samples the host up to a thousand times a second, keeps every sample in Parquet, raises alerts while the samples
/// pass by, and answers SQL over Arrow Flight.
#[derive(Debug, Parser)]
#[command(name = "kymo", version, after_help = EXAMPLES, max_term_width = 120)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Record this host, until SIGTERM or Ctrl-C
    Run(Run),
    /// Say whether a configuration is right and what comes out of it
    Check(Check),
    /// Ask in SQL: a running daemon, or a data folder
    Query(query::Query),
    /// Show what a running daemon does and what it has lost
    Status(status::Status),
    /// List the tables, or the columns of one with their units and meaning
    Tables(tables::Tables),
    /// List, start, stop or retune the collectors of a running daemon
    Collector(collector::Collector),
    /// Show the alert rules of a running daemon and how they stand
    Alert(alert::Alert),
    /// Write what a running daemon has in memory to Parquet files
    Flush(flush::Flush),
    /// Read a whole data folder and say what is wrong with it
    Verify(verify::Verify),
}

/// Where the configuration comes from.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Without a file the default configuration counts. Every key can also be set in the environment:
KYMO_STORAGE__PATH=/var/lib/kymo. config.toml in the sources documents all keys.")]
pub struct Configured {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", env = "KYMO_CONFIG")]
    pub config: Option<PathBuf>,
    /// The data folder; the key storage.path
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Where to serve, such as 127.0.0.1:50051; the key server.address
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<String>,
}

/// `kymo run`.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub configured: Configured,
}

/// `kymo check`.
#[derive(Args, Clone, Debug)]
pub struct Check {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub configured: Configured,
}

/// How answers for people are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Aligned, for people
    #[default]
    Table,
    /// One JSON document
    Json,
}

impl Run {
    /// The configuration's sources.
    #[must_use]
    pub fn sources(&self) -> Sources {
        self.configured.sources()
    }
}

impl Configured {
    /// The file, this process's environment, and the flags.
    #[must_use]
    pub fn sources(&self) -> Sources {
        let flags = [("--data", "storage.path", &self.data), ("--address", "server.address", &self.address)];
        let flag = |(name, key, value): (_, _, &Option<String>)| Some(Flag { name, key, value: value.clone()? });
        Sources {
            file: self.config.clone(),
            variables: std::env::vars_os().collect(),
            flags: flags.into_iter().filter_map(flag).collect(),
        }
    }
}

/// Tells how a command ended, on stderr and by the exit code.
///
/// A reader that went away, as `head` does, is no failure.
#[must_use]
pub fn exit(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if error.chain().any(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    if let Some(ConfigError::Wrong(problems)) = error.downcast_ref() {
        problems.iter().for_each(|problem| eprintln!("kymo: {problem}"));
    } else {
        eprintln!("kymo: {}", in_one_line(&error));
    }
    ExitCode::from(exit_code(&error))
}

/// The error and its causes, without those whose text an outer one already has.
fn in_one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        _ if told.contains(&cause) => told,
        _ => format!("{told}: {cause}"),
    })
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() {
        EXIT_CONFIG
    } else if error.is::<ConnectError>() {
        EXIT_UNAVAILABLE
    } else {
        EXIT_FAILURE
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn causes_are_told_once() {
        let read = ConfigError::Read { path: "k".into(), source: io::Error::other("no luck") };
        assert_eq!(in_one_line(&anyhow!(read)), "read configuration k: no luck");
        assert_eq!(in_one_line(&anyhow!("why").context("what")), "what: why");
    }

    #[test]
    fn errors_have_their_exit_codes() {
        let read = ConfigError::Read { path: "k".into(), source: io::Error::other("no luck") };
        assert_eq!(exit_code(&anyhow!(read)), EXIT_CONFIG);
        assert_eq!(exit_code(&anyhow!("any")), EXIT_FAILURE);
        assert!(anyhow!(io::Error::from(io::ErrorKind::BrokenPipe)).context("write").chain().any(is_broken_pipe));
    }
}
