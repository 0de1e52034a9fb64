//! `kymo man`: the manual pages, one for kymo and one for each of its commands. Packages hold them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Command};

/// `kymo man`.
#[derive(Args, Clone, Debug)]
pub struct Man {
    /// The folder, which is made if there is none
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes the pages of this command line into the folder.
///
/// # Errors
/// When the folder cannot be made or a page cannot be written.
pub fn run(man: &Man, all: Command) -> anyhow::Result<()> {
    write(&man.folder, all)
}

pub(super) fn write(folder: &Path, all: Command) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    // `help` says the same as `--help`, and has no page.
    clap_mangen::generate_to(all.disable_help_subcommand(true), folder)
        .with_context(|| format!("write manual pages into {}", folder.display()))
}
