//! `kymo flush`: what the daemon has in memory goes to files now.

use std::io::{self, Write};

use clap::Args;

use super::connect::{Target, block_on, request, spinner};
use crate::serve::proto::FlushRequest;
use crate::serve::proto::metrics_service_client::MetricsServiceClient;

/// `kymo flush`.
#[derive(Args, Clone, Debug)]
pub struct Flush {
    /// Which daemon to ask.
    #[command(flatten)]
    pub target: Target,
}

/// Flushes, and says what was written when it is published.
///
/// # Errors
/// When the daemon does not answer or could not write.
pub fn run(flush: &Flush) -> anyhow::Result<()> {
    let done = block_on(async {
        let mut client = MetricsServiceClient::new(flush.target.connect().await?);
        let spinner = spinner("flushing", true);
        let answer = client.flush(request(FlushRequest {})).await.map_err(|status| flush.target.failed(&status));
        spinner.finish_and_clear();
        Ok(answer?.into_inner())
    })?;
    writeln!(io::stdout(), "{} rows in {} files", done.rows, done.files)?;
    Ok(())
}
