//! `kymo query`: SQL over a running daemon, or over a data folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use clap::Args;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::connect::{Target, block_on, spinner};
use super::output::{Destination, Format};
use crate::query::{Engine, QueryError, QuerySettings};
use crate::store::lake::Scan;
use crate::store::{self, View};

/// Reading a folder, whoever asks is the only one to wait; a day is a bound all the same.
const OFFLINE_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Memory for sorting and grouping when a folder is read.
const OFFLINE_MEMORY_BYTES_MAX: usize = 1 << 30;
/// A running daemon may replace files that were just found; then they are looked for again, so often at most.
const TRIES_MAX: u32 = 5;
/// Foreign files that are named one by one.
const FOREIGN_NAMED_MAX: usize = 5;

/// `kymo query`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kymo query \"SELECT count(*) FROM network\"
  kymo query \"SELECT interface, rate(rx_bytes, time) FROM network
              WHERE time > now() - interval '5 minutes' GROUP BY interface\"
  kymo query --data /var/lib/kymo -o cpu.parquet \"SELECT * FROM cpu\"
  kymo query --format csv \"SELECT * FROM memory\" | head

`kymo tables` says what there is. With --data no daemon is needed, and one may be
running; only what was flushed to files is seen then.")]
pub struct Query {
    /// One SELECT
    pub sql: String,
    /// Which daemon to ask.
    #[command(flatten)]
    pub target: Target,
    /// Read this data folder, and ask no daemon
    #[arg(long, value_name = "DIR", conflicts_with = "addr")]
    pub data: Option<PathBuf>,
    /// How the result is written [default: as FILE's name ends, else table]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Write into this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Runs the query and writes its result.
///
/// # Errors
/// When the query is refused or fails, the daemon does not answer, the folder holds no recordings, or the result cannot
/// be written; an output file is then left as it was.
pub fn run(query: &Query) -> anyhow::Result<()> {
    let destination = Destination::new(query.format, query.output.as_deref())?;
    block_on(async {
        match &query.data {
            Some(folder) => offline(&query.sql, folder, &destination).await,
            None => online(&query.sql, &query.target, &destination).await,
        }
    })
}

async fn offline(sql: &str, folder: &Path, destination: &Destination) -> anyhow::Result<()> {
    let settings = QuerySettings {
        memory_bytes_max: OFFLINE_MEMORY_BYTES_MAX,
        time_max: OFFLINE_TIME_MAX,
        rows_max: None,
        ..QuerySettings::default()
    };
    let mut tries = 1;
    loop {
        let (view, scan) = store::open_read_only(folder)?;
        let view = Arc::new(view);
        let shown = Arc::clone(&view);
        let engine = Engine::new(Arc::new(move || Arc::clone(&shown)), settings)?;
        // As long as nothing was written, it can begin anew.
        match begin(&engine, sql).await {
            Err(_) if tries < TRIES_MAX && has_lost_files(&view) => tries += 1,
            begun => {
                let (schema, rows) = begun?;
                warn_of(&scan);
                return write(&schema, rows.map(|batch| Ok(batch?)), destination).await;
            }
        }
    }
}

/// Runs the query up to its first rows.
async fn begin(
    engine: &Engine,
    sql: &str,
) -> Result<(SchemaRef, impl Stream<Item = Result<RecordBatch, QueryError>> + use<>), QueryError> {
    let mut rows = engine.execute(sql).await?;
    let schema = rows.schema();
    let first = rows.try_next().await?;
    Ok((schema, stream::iter(first.map(Ok)).chain(rows)))
}

fn has_lost_files(view: &View) -> bool {
    view.tables.values().flat_map(|table| table.files.iter()).any(|file| file.path.symlink_metadata().is_err())
}

fn warn_of(scan: &Scan) {
    for (path, reason) in scan.foreign.iter().take(FOREIGN_NAMED_MAX) {
        eprintln!("kymo: left out {}: {reason}", path.display());
    }
    if scan.foreign.len() > FOREIGN_NAMED_MAX {
        eprintln!("kymo: left out {} more files", scan.foreign.len() - FOREIGN_NAMED_MAX);
    }
}

async fn online(sql: &str, target: &Target, destination: &Destination) -> anyhow::Result<()> {
    let failed = |error: FlightError| match error {
        FlightError::Tonic(status) => target.failed(&status),
        other => anyhow::Error::from(other),
    };
    let mut client = FlightSqlServiceClient::new(target.connect().await?);
    let info = client.execute(sql.to_owned(), None).await.map_err(failed)?;
    let endpoint = info.endpoint.first().and_then(|endpoint| endpoint.ticket.clone());
    let ticket = endpoint.context("the daemon's answer names no place to get the rows from")?;
    let schema = Arc::new(info.try_decode_schema().context("read the result's schema")?);
    let rows = client.do_get(ticket).await.map_err(failed)?;
    write(&schema, rows.map(|batch| batch.map_err(failed)), destination).await
}

/// Writes rows as they come, and counts them on the terminal meanwhile.
async fn write(
    schema: &SchemaRef,
    rows: impl Stream<Item = anyhow::Result<RecordBatch>>,
    destination: &Destination,
) -> anyhow::Result<()> {
    let mut output = destination.open(schema)?;
    let spinner = spinner("waiting for rows", !destination.is_live());
    let mut rows = std::pin::pin!(rows);
    while let Some(batch) = rows.next().await {
        spinner.suspend(|| output.write(&batch?))?;
        spinner.set_message(format!("{} rows", output.rows()));
    }
    spinner.finish_and_clear();
    output.finish()
}
