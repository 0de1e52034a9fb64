//! `kymo completions`: the script with which a shell completes this command line. Packages hold these scripts.

use std::io::{self, Write};

use clap::{Args, Command};
use clap_complete::Shell;

/// `kymo completions`.
#[derive(Args, Clone, Debug)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script of this command line.
///
/// # Errors
/// When standard output takes no more.
pub fn run(completions: &Completions, all: &Command) -> anyhow::Result<()> {
    io::stdout().write_all(&script(completions.shell, all))?;
    Ok(())
}

pub(super) fn script(shell: Shell, all: &Command) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut offered(all), "kymo", &mut script);
    script
}

/// The command line without the hidden commands, which scripts would offer too.
fn offered(all: &Command) -> Command {
    let shown = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    Command::new("kymo").version(env!("CARGO_PKG_VERSION")).args(all.get_arguments()).subcommands(shown)
}
