//! `kymo flush`: writes the rows in the daemon's memory to files now, or those that a killed recorder left in its journal.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::connect::{Target, request, spin, spinner};
use super::show;
use crate::export::show_errors;
use crate::serve::proto::FlushRequest;
use crate::serve::proto::metrics_service_client::MetricsServiceClient;
use crate::store::data_folder::{FolderError, LAKE};
use crate::store::{Store, StoreSettings};

/// `kymo flush`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The daemon does this by itself every storage.flush_interval (60 s by default).

After `kymo run` or `kymo record` was killed, --data writes what only the journal of its
folder has. The next `kymo run` in that folder does the same.")]
pub struct Flush {
    #[command(flatten)]
    target: Target,
    /// Write the rows in the journal of this data folder, into which nobody records
    #[arg(long, value_name = "DIR", conflicts_with = "address")]
    data: Option<PathBuf>,
}

/// Flushes, and says what was written once the files are published.
///
/// # Errors
/// When the daemon does not answer or could not write; or when the folder is in use.
pub fn run(flush: &Flush) -> anyhow::Result<()> {
    if let Some(folder) = &flush.data {
        return recover(folder);
    }
    let done = flush.target.call(async |channel| {
        spin(&spinner("flushing"), MetricsServiceClient::new(channel).flush(request(FlushRequest {}))).await
    })?;
    tell(done.rows, done.files)
}

fn tell(rows: u64, files: u64) -> anyhow::Result<()> {
    let (rows, files) = (show::counted(rows, "row"), show::counted(files, "file"));
    writeln!(io::stdout(), "wrote {rows} to {files}")?;
    Ok(())
}

/// Opens the folder as a recorder does, which takes the rows from its journal, and writes them.
fn recover(folder: &Path) -> anyhow::Result<()> {
    show_errors();
    // A recorder would make the folder.
    if !folder.join(LAKE).is_dir() {
        return Err(FolderError::NoLake(folder.to_owned()).into());
    }
    let settings = StoreSettings::unlimited(folder, "");
    let (store, _appender, opened) = Store::open(settings)?;
    let rows = opened.recovery.rows;
    let flushed = store.flush().with_context(|| format!("write the rows in the journal of {}", folder.display()))?;
    store.close();
    tell(rows, flushed.files.len() as u64)
}
