//! `kymo flush`: writes the rows in the daemon's memory to files now.

use std::io::{self, Write};

use clap::Args;

use super::connect::{Target, block_on, request, spin, spinner};
use super::show;
use crate::serve::proto::FlushRequest;
use crate::serve::proto::metrics_service_client::MetricsServiceClient;

/// `kymo flush`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The daemon does this by itself every storage.flush_interval (60 s by default).")]
pub struct Flush {
    /// Which daemon to ask.
    #[command(flatten)]
    pub target: Target,
}

/// Flushes, and says what was written once the files are published.
///
/// # Errors
/// When the daemon does not answer or could not write.
pub fn run(flush: &Flush) -> anyhow::Result<()> {
    let done = block_on(async {
        let mut client = MetricsServiceClient::new(flush.target.connect().await?);
        let answer = spin(&spinner("flushing"), client.flush(request(FlushRequest {}))).await;
        Ok(answer.map_err(|status| flush.target.failed(&status))?.into_inner())
    })?;
    let (rows, files) = (show::counted(done.rows, "row"), show::counted(done.files, "file"));
    writeln!(io::stdout(), "wrote {rows} to {files}")?;
    Ok(())
}
