//! `kymo man`: the manual pages, one for kymo and one for each of its commands. Packages hold them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, CommandFactory};

use super::Arguments;

/// `kymo man`.
#[derive(Args, Clone, Debug)]
pub struct Man {
    /// The folder, which is made if there is none
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes the pages into the folder.
///
/// # Errors
/// When the folder cannot be made or a page cannot be written.
pub fn run(man: &Man) -> anyhow::Result<()> {
    write(&man.folder)
}

fn write(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    // `help` says the same as `--help`, and has no page.
    let command = Arguments::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, folder).with_context(|| format!("write manual pages into {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_people_call_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let page = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(page("kymo.1").contains("flight recorder"));
        let commands = Arguments::command();
        for command in commands.get_subcommands() {
            let name = format!("kymo-{}.1", command.get_name());
            assert_eq!(folder.path().join(&name).exists(), !command.is_hide_set(), "{name}");
        }
        assert!(page("kymo-collector-set.1").contains("interval"));
    }
}
