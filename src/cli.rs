//! The command line: commands, arguments and exit codes.
//!
//! All commands but `run` are thin clients. `check`, `token`, `tables`, `completions` and `man` need only this program.
//! `query` asks a daemon over Flight SQL or reads a data folder. `verify` reads a data folder. `record` is a recorder of its own. The others
//! ask the daemon over gRPC.

pub mod alert;
pub mod check;
pub mod collector;
pub mod compare;
pub mod completions;
pub mod connect;
pub mod export;
pub mod flush;
pub mod man;
mod new_folder;
mod offline;
pub mod output;
mod period;
pub mod plot;
pub mod query;
pub mod record;
pub mod report;
mod rows;
pub mod show;
pub mod sql;
pub mod status;
pub mod table;
pub mod tables;
pub mod tail;
pub mod token;
pub mod top;
pub mod verify;
mod views;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{ADDRESS_VARIABLE, ConfigError, Flag, Sources};
use crate::serve::DEFAULT_ADDRESS;
use connect::{ConnectError, InterruptedError, UsageError};

/// The command failed; or the daemon is degraded, or the data folder damaged.
pub const EXIT_FAILURE: u8 = 1;
/// The arguments are wrong; clap uses the same.
pub const EXIT_USAGE: u8 = 2;
/// Two recordings differ, as diff(1) has it.
const EXIT_DIFFERENT: u8 = 1;
/// Two recordings could not be compared.
const EXIT_UNCOMPARED: u8 = 2;
/// No daemon answers (`EX_UNAVAILABLE` of sysexits.h).
pub const EXIT_UNAVAILABLE: u8 = 69;
/// Ctrl-C ended the command: 128 and the number of SIGINT, as shells have it.
pub const EXIT_INTERRUPTED: u8 = 130;
/// The configuration is wrong (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;

const EXAMPLES: &str = "\
Examples:
  kymo run                           record into ./data
  kymo record -- make test           record while a command runs
  kymo query \"SELECT * FROM network ORDER BY time DESC LIMIT 5\"
  kymo query --data data -o cpu.csv \"SELECT time, utilization FROM cpu\"
  kymo compare before after          what differs between two recordings
  kymo report --last 5m -o report.html
  kymo tables network                explain the columns of a table
  kymo collector set burst --interval 2ms

Exit codes:
   0  success
   1  the command failed; `status`: the daemon is degraded;
      `verify`: the data folder is damaged; `compare`: something differs
   2  the arguments are wrong; `compare` failed
  69  no daemon answers
  78  the configuration is wrong
 125  `record` itself failed; else it ends as its command does
 130  Ctrl-C ended a query";

/// A flight recorder for Linux hosts
///
/// kymo samples the host up to a thousand times a second, stores every sample in Parquet files, evaluates alert rules
/// on every sample, and answers SQL over Arrow Flight.
#[derive(Debug, Parser)]
#[command(name = "kymo", version, after_help = EXAMPLES, max_term_width = 120)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Record this host until SIGTERM or Ctrl-C (SIGHUP is ignored; other signals may end it without a clean stop)
    Run(Configured),
    /// Record this host while a command runs, and print the peaks
    Record(record::Record),
    /// Validate a configuration and print a summary of it
    Check(Configured),
    /// Run a SQL query on a daemon or a data folder
    Query(query::Query),
    /// Draw the rows of a SQL query as lines over time, as SVG or PNG
    Plot(plot::Plot),
    /// Tell what differs between two recordings
    Compare(compare::Compare),
    /// Follow the new rows of a table
    Tail(tail::Tail),
    /// Type SQL at a prompt, with history and completion
    Sql(sql::Sql),
    /// Look at a host, live or at any time that was recorded
    Top(top::Top),
    /// Show the state of the daemon and what it has lost
    Status(status::Status),
    /// List the tables, or the columns of one table
    Tables(tables::Tables),
    /// List, start, stop or change the daemon's collectors
    Collector(collector::Collector),
    /// List the daemon's alert rules and their states
    Alert(alert::Alert),
    /// Make, list or revoke the tokens that a daemon asks for
    Token(token::TokenCommand),
    /// Write the rows in the daemon's memory to Parquet files now
    Flush(flush::Flush),
    /// Cut a stretch of recorded time out, as a data folder of its own
    Export(export::Export),
    /// Write the page with a stretch of recorded time in it, as one file
    Report(report::Report),
    /// Check all files of a data folder
    Verify(verify::Verify),
    /// Print the script with which a shell completes this command line
    #[command(hide = true)]
    Completions(completions::Completions),
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Man(man::Man),
    /// Run queries for the `kymo run` that started this process
    #[command(hide = true)]
    QueryWorker,
}

/// Where the configuration of `kymo run` and `kymo check` comes from.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Without a file, the defaults apply. Precedence, lowest first: defaults, file, environment,
flags. An environment variable can set any key:
KYMO_STORAGE__PATH=/var/lib/kymo sets storage.path.
config.toml in the sources documents all keys.")]
pub struct Configured {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", env = "KYMO_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Data folder (storage.path) [default: data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Address to serve on (server.address)
    #[arg(
        help = format!("Address to serve on (server.address) [env: {ADDRESS_VARIABLE}] [default: {DEFAULT_ADDRESS}]"),
        long,
        alias = "addr",
        value_name = "ADDRESS"
    )]
    pub address: Option<String>,
}

impl Configured {
    /// The file, this process's environment, and the flags.
    #[must_use]
    pub fn sources(&self) -> Sources {
        let flags = [("--data", "storage.path", &self.data), ("--address", "server.address", &self.address)];
        let flag = |(name, key, value): (_, _, &Option<String>)| Some(Flag { name, key, value: value.clone()? });
        Sources {
            defaults: None,
            file: self.config.clone(),
            variables: std::env::vars_os().collect(),
            flags: flags.into_iter().filter_map(flag).collect(),
        }
    }
}

/// Reports how a command ended, on stderr and by the exit code.
///
/// A reader that goes away, as `head` does, is no failure.
#[must_use]
pub fn exit(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if error.chain().any(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    show::tell(&error);
    ExitCode::from(exit_code(&error))
}

/// The same of a comparison, which says by its exit code whether anything differs.
#[must_use]
pub fn exit_of_comparison(outcome: anyhow::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::from(EXIT_DIFFERENT),
        Err(error) if exit_code(&error) == EXIT_FAILURE && !error.chain().any(is_broken_pipe) => {
            show::tell(&error);
            ExitCode::from(EXIT_UNCOMPARED)
        }
        other => exit(other.map(drop)),
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() {
        EXIT_CONFIG
    } else if error.is::<UsageError>() {
        EXIT_USAGE
    } else if error.is::<ConnectError>() {
        EXIT_UNAVAILABLE
    } else if error.is::<InterruptedError>() {
        EXIT_INTERRUPTED
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
    use clap_complete::Shell;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    fn unread() -> anyhow::Error {
        ConfigError::Read { path: "k".into(), source: io::Error::other("no luck") }.into()
    }

    #[test]
    fn causes_are_told_once() {
        assert_eq!(show::in_one_line(&unread()), "read configuration k: no luck");
        assert_eq!(show::in_one_line(&anyhow!("why").context("what")), "what: why");
    }

    #[test]
    fn errors_have_their_exit_codes() {
        assert_eq!(exit_code(&unread()), EXIT_CONFIG);
        assert_eq!(exit_code(&anyhow!(UsageError(String::new()))), EXIT_USAGE);
        assert_eq!(exit_code(&anyhow!("any")), EXIT_FAILURE);
        assert!(anyhow!(io::Error::from(io::ErrorKind::BrokenPipe)).context("write").chain().any(is_broken_pipe));
    }

    #[test]
    fn every_packaged_shell_completes_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(completions::script(shell, &Arguments::command())).unwrap();
            for command in ["record", "compare", "top"] {
                assert!(script.contains(command), "{shell}: {command}");
            }
            for hidden in ["query-worker", "completions"] {
                assert!(!script.contains(hidden), "{shell} offers {hidden}");
            }
        }
    }

    #[test]
    fn every_command_that_people_call_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        man::write(folder.path(), Arguments::command()).unwrap();
        let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(page("kymo.1").contains("flight recorder"));
        for command in Arguments::command().get_subcommands() {
            let name = format!("kymo-{}.1", command.get_name());
            assert_eq!(folder.path().join(&name).exists(), !command.is_hide_set(), "{name}");
        }
        assert!(page("kymo-collector-set.1").contains("interval"));
    }
}
