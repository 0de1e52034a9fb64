//! `kymo tail`: the new rows of a table, as they are drained.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::Ticket;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use clap::{Args, ValueEnum};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::connect::{Target, UsageError, block_on, request, unless_interrupted};
use super::output::{Destination, Format, Output};
use super::{show, table};
use crate::collector::sampled;
use crate::serve::proto::metrics_service_client::MetricsServiceClient;
use crate::serve::proto::{Collector, ListCollectorsRequest};
use crate::words::parse_duration;

/// The largest message of a tail: a row with very long texts.
const MESSAGE_BYTES_MAX: usize = 160 << 20;
/// A table for people has its head again after so many rows.
const ROWS_A_HEAD: usize = 40;

/// `kymo tail`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kymo tail network --where \"interface = 'eth0'\" --columns time,rx_bytes
  kymo tail alert --since 1h
  kymo tail process --where \"cpu_ratio > 0.5\" --format json

A reader that is too slow misses rows, and is told how many on stderr. Recording never
waits for it. If nothing records the table, stderr says why, and the tail waits.")]
pub struct Tail {
    /// Table to follow
    table: String,
    /// Only rows that meet this condition, in SQL
    #[arg(long = "where", value_name = "CONDITION", default_value = "", hide_default_value = true)]
    filter: String,
    /// Only these columns, separated by commas
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    columns: Vec<String>,
    /// Begin with the last N rows [default: 10]
    #[arg(long, value_name = "N", conflicts_with = "since")]
    last: Option<u64>,
    /// Begin with all rows since this time, which has passed, or as long ago as this (`2026-11-25 14:43:00+00`, `10s`)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End after N rows
    #[arg(long, value_name = "N")]
    rows: Option<u64>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Form::Table)]
    format: Form,
    #[command(flatten)]
    target: Target,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people: aligned columns and rounded numbers
    Table,
    /// Comma-separated values with a header line
    Csv,
    /// One JSON object per line
    Json,
}

/// Writes rows as they come, until Ctrl-C.
///
/// # Errors
/// When the daemon does not answer, refuses the tail or ends it, or stdout cannot be written.
pub fn run(tail: &Tail) -> anyhow::Result<()> {
    let ticket = Ticket::new(tail.ticket()?);
    block_on(unless_interrupted(async { tail.follow(ticket).await }))
}

impl Tail {
    fn ticket(&self) -> anyhow::Result<String> {
        let mut ticket = Map::new();
        ticket.insert("tail".into(), self.table.clone().into());
        ticket.insert("where".into(), self.filter.clone().into());
        ticket.insert("columns".into(), json!(self.columns));
        match &self.since {
            Some(since) => ticket.insert("since".into(), since_time(since)?.into()),
            None => ticket.insert("last".into(), self.last.unwrap_or(10).into()),
        };
        Ok(Value::Object(ticket).to_string())
    }

    async fn follow(&self, ticket: Ticket) -> anyhow::Result<()> {
        let failed = |error: FlightError| match error {
            FlightError::Tonic(status) => self.target.failed(&status),
            other => anyhow::Error::from(other),
        };
        let channel = self.target.connect().await?;
        let mut client = FlightServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let frames = client.do_get(ticket).await.map_err(|status| self.target.failed(&status))?;
        // What does not answer this still has rows.
        if let Ok(listed) = MetricsServiceClient::new(channel).list_collectors(request(ListCollectorsRequest {})).await
            && let Some(reason) = why_no_rows(&self.table, &listed.into_inner().collectors)
        {
            eprintln!("kymo: {reason}");
        }
        let frames = frames.into_inner().map_err(|status| FlightError::Tonic(Box::new(status)));
        let mut frames = FlightDataDecoder::new(frames);
        let mut sink: Option<Sink> = None;
        let mut left = self.rows;
        while let Some(frame) = frames.next().await {
            let frame = frame.map_err(failed)?;
            match frame.payload {
                DecodedPayload::None => {}
                DecodedPayload::Schema(schema) => sink = Some(Sink::new(self.format, &schema)?),
                DecodedPayload::RecordBatch(batch) => {
                    let sink = sink.as_mut().context("the daemon sent rows before their schema")?;
                    let rows = left.map_or(batch.num_rows(), |left| usize::try_from(left).unwrap_or(usize::MAX));
                    let batch = batch.slice(0, rows.min(batch.num_rows()));
                    sink.write(&batch)?;
                    left = left.map(|left| left - batch.num_rows() as u64);
                }
            }
            if let Some(missed) = missed_rows(&frame.inner.app_metadata) {
                eprintln!("kymo: missed {}: this reader is too slow", show::counted(missed, "row"));
            }
            if left == Some(0) {
                break;
            }
        }
        sink.map_or(Ok(()), Sink::finish)
    }
}

/// The time of `--since` as SQL reads it.
fn since_time(text: &str) -> Result<String, UsageError> {
    if let Some(ago) = parse_duration(text) {
        let since = Timestamp::now().checked_sub(ago);
        return since.map(|time| time.to_string()).map_err(|error| UsageError(format!("--since {text}: {error}")));
    }
    Ok(text.to_owned())
}

/// Why a table gets no new rows.
fn why_no_rows(table: &str, collectors: &[Collector]) -> Option<String> {
    if sampled().all(|name| name != table) {
        // kymo itself writes it.
        return None;
    }
    if collectors.iter().all(|collector| collector.families.iter().all(|name| name != table)) {
        return Some(format!("no collector records {table}: `kymo collector set` adds it to one; waiting for that"));
    }
    let lacking = collectors.iter().flat_map(|collector| &collector.unavailable).find(|one| one.family == table)?;
    Some(format!("{table} is not recorded: {}; waiting for it to come", lacking.reason))
}

fn missed_rows(metadata: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(metadata).ok()?.get("missed_rows")?.as_u64()
}

/// Where rows go.
enum Sink {
    People { rows: usize, widths: Vec<u16> },
    Lines(Box<Output>),
}

impl Sink {
    fn new(form: Form, schema: &SchemaRef) -> anyhow::Result<Sink> {
        let format = match form {
            Form::Table => return Ok(Sink::People { rows: 0, widths: Vec::new() }),
            Form::Csv => Format::Csv,
            Form::Json => Format::Json,
        };
        let to: Option<&Path> = None;
        let mut output = Destination::new(Some(format), to)?.open(schema)?;
        output.flush()?;
        Ok(Sink::Lines(Box::new(output)))
    }

    /// Writes rows, and shows them at once.
    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        match self {
            Sink::Lines(output) => {
                output.write(batch)?;
                output.flush()
            }
            Sink::People { rows, widths } => {
                let mut out = io::stdout().lock();
                for start in (0..batch.num_rows()).step_by(ROWS_A_HEAD) {
                    let part = batch.slice(start, ROWS_A_HEAD.min(batch.num_rows() - start));
                    let has_head = *rows == 0 || *rows + part.num_rows() > ROWS_A_HEAD;
                    *rows = if has_head { part.num_rows() } else { *rows + part.num_rows() };
                    table::write_part(&part, has_head, widths, &mut out)?;
                }
                Ok(out.flush()?)
            }
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Sink::Lines(output) => output.finish(),
            Sink::People { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::proto::UnavailableFamily;

    #[test]
    fn since_is_a_time_or_how_long_ago_that_was() {
        assert_eq!(since_time("2026-11-25 14:43:00+00").unwrap(), "2026-11-25 14:43:00+00");
        let ago = since_time("90s").unwrap().parse::<Timestamp>().unwrap();
        let seconds = Timestamp::now().duration_since(ago).as_secs();
        assert!((90..95).contains(&seconds), "{seconds}");
        assert_eq!(missed_rows(br#"{"missed_rows":7}"#), Some(7));
        assert_eq!(missed_rows(b""), None);
    }

    #[test]
    fn a_table_that_gets_no_rows_has_a_reason() {
        let unavailable = vec![UnavailableFamily { family: "power".into(), reason: "no such folder".into() }];
        let families = ["power", "disk"].map(String::from).to_vec();
        let collectors = [Collector { families, unavailable, ..Collector::default() }];
        let told = |table| why_no_rows(table, &collectors).unwrap_or_default();
        assert_eq!(told("power"), "power is not recorded: no such folder; waiting for it to come");
        assert!(told("network").starts_with("no collector records network"), "{}", told("network"));
        assert_eq!((told("disk"), told("alert")), (String::new(), String::new()));
    }
}
