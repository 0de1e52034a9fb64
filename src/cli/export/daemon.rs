//! Rows of a running daemon, over Flight SQL, as files of a new lake. Their numbers begin at 0, as clients do not see those of the daemon.

use std::time::Duration;

use anyhow::Context;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use indicatif::ProgressBar;

use crate::cli::connect::{Channel, Target, request};
use crate::cli::period::Period;
use crate::cli::show;
use crate::family::FamilyId;
use crate::record::Column;
use crate::serve::proto::ListCollectorsRequest;
use crate::serve::proto::metrics_service_client::MetricsServiceClient;
use crate::store::cut::NewLake;

/// The largest message of a result: beyond what `query.message_bytes_max` allows.
const MESSAGE_BYTES_MAX: usize = 160 << 20;
/// A statement asks for so much time, so that it stays within the limits of the daemon.
const STEP_US: i64 = 600_000_000;
/// Rows of a file, which are in memory until then.
const FILE_ROWS_MAX: usize = 262_144;

/// Adds the rows of `families` in the period to the lake. Gives the first and the last time of all their rows, about.
///
/// # Errors
/// When the daemon does not answer, refuses a statement, or the lake cannot be written.
pub(in crate::cli) async fn copy(
    target: &Target,
    families: &[FamilyId],
    period: &Period,
    lake: &mut NewLake,
    spinner: &ProgressBar,
) -> anyhow::Result<(i64, i64)> {
    let channel = target.connect().await?;
    let listed = MetricsServiceClient::new(channel.clone()).list_collectors(request(ListCollectorsRequest {})).await;
    let collectors = listed.map_err(|status| target.failed(&status))?.into_inner().collectors;
    let mut asking = Asking::new(target, channel);
    let now = asking.number("SELECT CAST(now() AS BIGINT)").await?.context("the daemon has no time")?;
    let times = period.times(0, now)?;
    let (mut rows, mut earliest) = (0, now);
    for family in families {
        let sampled = collectors.iter().find(|one| one.families.iter().any(|name| name == family.name()));
        let interval = sampled.and_then(|one| one.interval).and_then(|interval| Duration::try_from(interval).ok());
        let table = family.name();
        let first = asking.number(&format!("SELECT CAST(min(time) AS BIGINT) FROM \"{table}\"")).await?;
        let Some(first) = first else { continue };
        earliest = earliest.min(first);
        let mut files =
            Files { family: *family, interval, lake: &mut *lake, next_seq: 0, waiting: Vec::new(), rows: 0 };
        // Before the first row there is nothing to ask for.
        let mut from = times.start.max(first);
        while from < times.end {
            let to = times.end.min(from.saturating_add(STEP_US));
            let sql = format!(
                "SELECT * FROM \"{table}\" WHERE time >= to_timestamp_micros({from}) AND time < to_timestamp_micros({to}) ORDER BY time"
            );
            let mut batches = asking.rows(&sql).await?;
            while let Some(batch) = batches.try_next().await.map_err(|error| failed(target, error))? {
                rows += batch.num_rows() as u64;
                spinner.set_message(format!("{table}: {} so far", show::counted(rows, "row")));
                files.take(&batch)?;
            }
            from = to;
        }
        files.flush()?;
    }
    Ok((earliest, now))
}

fn failed(target: &Target, error: FlightError) -> anyhow::Error {
    match error {
        FlightError::Tonic(status) => target.failed(&status),
        other => other.into(),
    }
}

/// Asks the daemon.
struct Asking<'a> {
    target: &'a Target,
    client: FlightSqlServiceClient<Channel>,
}

impl Asking<'_> {
    fn new(target: &Target, channel: Channel) -> Asking<'_> {
        let client = FlightServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Asking { target, client: FlightSqlServiceClient::new_from_inner(client) }
    }

    async fn rows(&mut self, sql: &str) -> anyhow::Result<arrow_flight::decode::FlightRecordBatchStream> {
        let info = self.client.execute(sql.to_owned(), None).await.map_err(|error| failed(self.target, error))?;
        let endpoint = info.endpoint.first().and_then(|endpoint| endpoint.ticket.clone());
        let ticket = endpoint.context("the daemon's answer has no ticket for the rows")?;
        self.client.do_get(ticket).await.map_err(|error| failed(self.target, error))
    }

    /// The number that a statement gives, if any.
    async fn number(&mut self, sql: &str) -> anyhow::Result<Option<i64>> {
        let rows: Vec<RecordBatch> =
            self.rows(sql).await?.try_collect().await.map_err(|error| failed(self.target, error))?;
        let column = rows.iter().find(|batch| batch.num_rows() > 0).map(|batch| batch.column(0));
        let number = column.and_then(|column| column.as_primitive_opt::<Int64Type>());
        Ok(number.filter(|number| number.is_valid(0)).map(|number| number.value(0)))
    }
}

/// Rows of a table on their way into files.
struct Files<'a> {
    family: FamilyId,
    interval: Option<Duration>,
    lake: &'a mut NewLake,
    next_seq: u64,
    /// The host, and its rows that are in no file yet.
    waiting: Vec<(String, RecordBatch)>,
    rows: usize,
}

impl Files<'_> {
    fn take(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        let host = batch.column_by_name(Column::HOST.name).context("the daemon's rows have no host")?;
        let hosts = cast(host, &DataType::Utf8)?;
        let hosts = hosts.as_string::<i32>();
        let schema = self.family.table.plain_schema();
        let columns = schema.fields().iter().map(|field| {
            let lacking = || format!("the daemon's table {} has no column {}", self.family.name(), field.name());
            let column: &ArrayRef = batch.column_by_name(field.name()).with_context(lacking)?;
            Ok(cast(column, field.data_type())?)
        });
        let own = RecordBatch::try_new(schema.clone(), columns.collect::<anyhow::Result<_>>()?)?;
        let mut first = 0;
        while first < own.num_rows() {
            let host = hosts.value(first);
            let count = (first..own.num_rows()).take_while(|row| hosts.value(*row) == host).count();
            self.waiting.push((host.to_owned(), own.slice(first, count)));
            first += count;
        }
        self.rows += own.num_rows();
        if self.rows >= FILE_ROWS_MAX { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let mut waiting = std::mem::take(&mut self.waiting);
        // Rows of several hosts take turns.
        waiting.sort_by(|(one, _), (other, _)| one.cmp(other));
        for run in waiting.chunk_by(|(one, _), (other, _)| one == other) {
            let batches: Vec<RecordBatch> = run.iter().map(|(_, batch)| batch.clone()).collect();
            let Some((host, _)) = run.first() else { continue };
            self.lake.add(self.family, self.interval, host, self.next_seq, &batches)?;
            self.next_seq += batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
        }
        self.rows = 0;
        Ok(())
    }
}
