//! `kymo flush`: writes the rows in the daemon's memory to files now.

use std::io::{self, Write};

use clap::Args;

use super::connect::{Target, request, spin, spinner};
use super::show;
use crate::serve::proto::FlushRequest;
use crate::serve::proto::metrics_service_client::MetricsServiceClient;

/// `kymo flush`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The daemon does this by itself every storage.flush_interval (60 s by default).")]
pub struct Flush {
    #[command(flatten)]
    target: Target,
}

/// Flushes, and says what was written once the files are published.
///
/// # Errors
/// When the daemon does not answer or could not write.
pub fn run(flush: &Flush) -> anyhow::Result<()> {
    let done = flush.target.call(async |channel| {
        spin(&spinner("flushing"), MetricsServiceClient::new(channel).flush(request(FlushRequest {}))).await
    })?;
    let (rows, files) = (show::counted(done.rows, "row"), show::counted(done.files, "file"));
    writeln!(io::stdout(), "wrote {rows} to {files}")?;
    Ok(())
}
