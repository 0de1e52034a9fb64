//! `kymo completions`: the script with which a shell completes this command line. Packages hold these scripts.

use std::io::{self, Write};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use super::Arguments;

/// `kymo completions`.
#[derive(Args, Clone, Debug)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When standard output takes no more.
pub fn run(completions: &Completions) -> anyhow::Result<()> {
    io::stdout().write_all(&script(completions.shell))?;
    Ok(())
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut offered(), "kymo", &mut script);
    script
}

/// The command line without the hidden commands, which scripts would offer too.
fn offered() -> Command {
    let all = Arguments::command();
    let shown = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    Command::new("kymo").version(env!("CARGO_PKG_VERSION")).args(all.get_arguments()).subcommands(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packaged_shell_completes_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell)).unwrap();
            for command in ["record", "compare", "top"] {
                assert!(script.contains(command), "{shell}: {command}");
            }
            assert!(
                !script.contains("query-worker") && !script.contains("completions"),
                "{shell} offers a hidden command"
            );
        }
    }
}
