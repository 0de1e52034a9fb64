//! `kymo query`: SQL over a running daemon, or over a data folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use clap::Args;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;

use super::connect::{Target, block_on, spin, spinner, unless_interrupted};
use super::offline::{Offline, Unwritten, spill_folder};
use super::output::{Destination, Format, Output};
use super::show;
use super::views::Views;
use crate::export::show_errors;
use crate::query::QueryError;
use crate::query::request::Request;
use crate::query::sql_view::SqlViews;
use crate::query::statements::{Statements, query_error};
use crate::query::workers::Workers;
use crate::store::lake::Scan;

/// The largest message of a result: beyond what `query.message_bytes_max` allows.
const MESSAGE_BYTES_MAX: usize = 160 << 20;
/// A running daemon may merge files that were just listed. The query then lists them again, this many times at most.
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

`kymo tables` lists the tables and their columns. --data works with or without a
running daemon, and sees only rows that are in Parquet files. It has 1 GiB of
memory. Sorts and joins that need more use up to 10 GiB of disk in $TMPDIR, by
default /var/tmp, and leave a twentieth of the disk free.")]
pub struct Query {
    /// One SQL query
    sql: String,
    #[command(flatten)]
    source: Source,
    /// Output format [default: from FILE's extension, else table]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What is queried.
#[derive(Args, Clone, Debug)]
pub(super) struct Source {
    #[command(flatten)]
    pub(super) target: Target,
    /// Read the files of this data folder instead of asking a daemon
    #[arg(long, value_name = "DIR", conflicts_with = "address")]
    pub(super) data: Option<PathBuf>,
    #[command(flatten)]
    views: Views,
}

/// Runs the query and writes its result.
///
/// # Errors
/// When the query is refused or fails, the daemon does not answer, the folder holds no recordings, or the result cannot
/// be written. An existing output file then stays as it was.
pub fn run(query: &Query) -> anyhow::Result<()> {
    let destination = Destination::new(query.format, query.output.as_deref())?;
    query.source.run(&query.sql, &destination).map(drop)
}

impl Source {
    /// The views of the configuration, as far as it is known.
    pub(super) fn views(&self) -> Views {
        self.views.clone()
    }

    /// Runs one statement and writes its result. Ctrl-C ends it, on the daemon, too. Returns the number of rows.
    ///
    /// # Errors
    /// As [`run`], and when it was interrupted.
    pub(super) fn run(&self, sql: &str, destination: &Destination) -> anyhow::Result<u64> {
        let mut written = Written { destination, output: None };
        self.read(sql, &mut written, destination.is_live())
    }

    /// Runs one statement and hands its rows to `taker`. Returns their number. `is_live` says that they appear on the terminal
    /// meanwhile, so nothing else may.
    ///
    /// # Errors
    /// When the query is refused or fails, was interrupted, or `taker` fails.
    pub(super) fn read(&self, sql: &str, taker: &mut impl Taker, is_live: bool) -> anyhow::Result<u64> {
        let spinner = spinner("waiting for rows");
        let work = unless_interrupted(async {
            match &self.data {
                Some(folder) => offline(sql, folder, self.views.load()?, taker, &spinner).await,
                None => online(sql, &self.target, taker, &spinner).await,
            }
        });
        block_on(async { if is_live { work.await } else { spin(&spinner, work).await } })
    }
}

/// Takes the rows of a statement.
pub(super) trait Taker {
    /// Begins with the columns.
    fn begin(&mut self, schema: &SchemaRef) -> anyhow::Result<()>;

    /// Takes some rows.
    fn take(&mut self, batch: &RecordBatch) -> anyhow::Result<()>;

    /// Ends after the last row.
    fn end(&mut self) -> anyhow::Result<()>;
}

/// Writes rows.
struct Written<'a> {
    destination: &'a Destination,
    output: Option<Output>,
}

impl Taker for Written<'_> {
    fn begin(&mut self, schema: &SchemaRef) -> anyhow::Result<()> {
        self.output = Some(self.destination.open(schema)?);
        Ok(())
    }

    fn take(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        self.output.as_mut().map_or(Ok(()), |output| output.write(batch))
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.output.take().map_or(Ok(()), Output::finish)
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.data {
            Some(folder) => write!(f, "the files of {}", folder.display()),
            None => write!(f, "{}", self.target),
        }
    }
}

async fn offline(
    sql: &str,
    folder: &Path,
    views: SqlViews,
    taker: &mut impl Taker,
    spinner: &ProgressBar,
) -> anyhow::Result<u64> {
    // Of a bug, the daemon's log has the details. Here is no other log.
    show_errors();
    let unwritten = Unwritten::read(folder);
    let spill = spill_folder();
    let mut tries = 1;
    loop {
        let offline = Offline::open(folder, Arc::clone(&views), spill.as_ref())?;
        // Before the first row is written, the query can start again.
        match begin(&offline.workers, sql).await {
            Err(_) if tries < TRIES_MAX && offline.has_lost_files() => tries += 1,
            begun => {
                let (schema, rows) = begun?;
                warn_of(&offline.scan);
                if let Some(warning) = unwritten.warning(folder, &offline.view) {
                    eprintln!("kymo: {warning}");
                }
                return hand(&schema, rows.map(|batch| Ok(batch?)), taker, spinner).await;
            }
        }
    }
}

/// Runs the query up to its first rows.
async fn begin(
    workers: &Workers,
    sql: &str,
) -> Result<(SchemaRef, impl Stream<Item = Result<RecordBatch, QueryError>> + use<>), QueryError> {
    let mut rows = workers.execute(&Request::new(sql)).await?.decode();
    let first = rows.try_next().await.map_err(query_error)?;
    let schema = rows.schema().map_or_else(|| Arc::new(Schema::empty()), Arc::clone);
    Ok((schema, stream::iter(first.map(Ok)).chain(rows.map_err(query_error))))
}

fn warn_of(scan: &Scan) {
    for (path, reason) in scan.foreign.iter().take(FOREIGN_NAMED_MAX) {
        eprintln!("kymo: left out {}: {reason}", path.display());
    }
    if scan.foreign.len() > FOREIGN_NAMED_MAX {
        eprintln!("kymo: left out {} more files", scan.foreign.len() - FOREIGN_NAMED_MAX);
    }
}

async fn online(sql: &str, target: &Target, taker: &mut impl Taker, spinner: &ProgressBar) -> anyhow::Result<u64> {
    let failed = |error: FlightError| match error {
        FlightError::Tonic(status) => target.failed(&status),
        other => anyhow::Error::from(other),
    };
    let client = FlightServiceClient::new(target.connect().await?).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut client = FlightSqlServiceClient::new_from_inner(client);
    let info = client.execute(sql.to_owned(), None).await.map_err(failed)?;
    let endpoint = info.endpoint.first().and_then(|endpoint| endpoint.ticket.clone());
    let ticket = endpoint.context("the daemon's answer has no ticket for the rows")?;
    let schema = Arc::new(info.try_decode_schema().context("read the result's schema")?);
    let rows = client.do_get(ticket).await.map_err(failed)?;
    hand(&schema, rows.map(|batch| batch.map_err(failed)), taker, spinner).await
}

/// Hands on rows as they come, and gives their number. The spinner counts them and the memory that they take.
async fn hand(
    schema: &SchemaRef,
    rows: impl Stream<Item = anyhow::Result<RecordBatch>>,
    taker: &mut impl Taker,
    spinner: &ProgressBar,
) -> anyhow::Result<u64> {
    taker.begin(schema)?;
    let mut rows = std::pin::pin!(rows);
    let (mut count, mut bytes) = (0, 0);
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        spinner.suspend(|| taker.take(&batch))?;
        count += batch.num_rows() as u64;
        bytes += batch.get_array_memory_size() as u64;
        spinner.set_message(format!("{}, {}", show::counted(count, "row"), show::bytes(bytes)));
    }
    spinner.suspend(|| taker.end())?;
    Ok(count)
}
