//! Where rows come from: a daemon, or the files of a folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use arrow::array::RecordBatch;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::Code;

use super::events::Firing;
use super::statement::{self, Host};
use crate::cli::connect::{Channel, Target, request};
use crate::cli::offline::{Offline, spill_folder};
use crate::cli::rows::{Rows, whole};
use crate::query::sql_view::SqlViews;
use crate::serve::proto::ListAlertsRequest;
use crate::serve::proto::alert_service_client::AlertServiceClient;
use crate::store::cut;

/// A statement without an answer after this time has failed, and so has the connection.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// The largest message of an answer.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Files that a running daemon adds to a folder are seen after this time.
const LISTED_FOR: Duration = Duration::from_secs(30);

/// Answers statements, one after the other.
pub(super) enum Source {
    /// A daemon. It is connected to anew after it has not answered.
    Daemon { target: Target, channel: Option<Channel>, is_new: bool },
    /// A folder. Its files are listed anew after some time, and when some are gone.
    Files { folder: PathBuf, views: SqlViews, spill: Option<TempDir>, opened: Option<(Box<Offline>, Instant)> },
}

impl Source {
    pub(super) fn daemon(target: Target) -> Source {
        Source::Daemon { target, channel: None, is_new: true }
    }

    pub(super) fn files(folder: PathBuf, views: SqlViews) -> Source {
        Source::Files { folder, views, spill: spill_folder(), opened: None }
    }

    /// Whether nothing new comes by itself.
    pub(super) fn is_files(&self) -> bool {
        matches!(self, Source::Files { .. })
    }

    /// Whether the one who answers may be another one than before.
    pub(super) fn is_new(&self) -> bool {
        matches!(self, Source::Daemon { is_new: true, .. })
    }

    /// The one who answers now was asked what it has.
    pub(super) fn is_known(&mut self) {
        if let Source::Daemon { is_new, .. } = self {
            *is_new = false;
        }
    }

    /// The rows of a statement.
    ///
    /// # Errors
    /// When nobody answers in time, or the statement fails.
    pub(super) async fn rows(&mut self, sql: &str) -> anyhow::Result<Vec<RecordBatch>> {
        let answer = match self {
            Source::Daemon { target, channel, is_new } => {
                *is_new |= channel.is_none();
                timeout(ANSWER_TIME_MAX, ask(target, channel, sql)).await
            }
            Source::Files { folder, views, spill, opened } => {
                if opened
                    .as_ref()
                    .is_none_or(|(offline, since)| since.elapsed() > LISTED_FOR || offline.has_lost_files())
                {
                    *opened =
                        Some((Box::new(Offline::open(folder, Arc::clone(views), spill.as_ref())?), Instant::now()));
                }
                match opened {
                    Some((offline, _)) => timeout(ANSWER_TIME_MAX, async { Ok(offline.rows(sql).await?) }).await,
                    None => return Err(anyhow!("open {}", folder.display())),
                }
            }
        };
        let rows = answer.unwrap_or_else(|_| Err(anyhow!("no answer within {} s", ANSWER_TIME_MAX.as_secs())));
        if let (Err(error), Source::Daemon { channel, .. }) = (&rows, &mut *self)
            && !error.is::<Refused>()
        {
            *channel = None;
        }
        rows
    }

    /// From when to when something was recorded.
    ///
    /// # Errors
    /// When the daemon does not answer, or the folder cannot be read.
    pub(super) async fn span(&mut self, host: &Host) -> anyhow::Result<Option<(i64, i64)>> {
        if let Source::Files { folder, .. } = self {
            return Ok(cut::bounds(folder)?);
        }
        let batches = self.rows(&statement::span(host)).await?;
        let Some(rows) = batches.first().map(Rows::of) else { return Ok(None) };
        let (first, newest) = (rows.wholes("first")?, rows.wholes("newest")?);
        Ok(if rows.count() == 0 { None } else { whole(&first, 0).zip(whole(&newest, 0)) })
    }

    /// The alerts that fire now. Files do not know it: `None`.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub(super) async fn firing(&mut self) -> anyhow::Result<Option<Vec<Firing>>> {
        let Source::Daemon { target, channel, .. } = self else { return Ok(None) };
        let channel = connected(target, channel).await?;
        let asked = timeout(ANSWER_TIME_MAX, async {
            AlertServiceClient::new(channel).list_alerts(request(ListAlertsRequest {})).await
        });
        let answer = asked.await.map_err(|_| anyhow!("no answer within {} s", ANSWER_TIME_MAX.as_secs()))?;
        let rules = answer.map_err(|status| target.failed(&status))?.into_inner().rules;
        let of_rule = rules.into_iter().flat_map(|rule| {
            rule.firing_series.into_iter().map(move |series| {
                let mut labels: Vec<_> = series.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                labels.sort_unstable();
                let since = series.since.map(|since| since.seconds * 1_000_000 + i64::from(since.nanos) / 1_000);
                let (rule, condition) = (rule.name.clone(), rule.condition.clone());
                Firing { rule, condition, labels: labels.join(" "), since_us: since, peak: series.peak }
            })
        });
        Ok(Some(of_rule.collect()))
    }
}

async fn connected(target: &Target, channel: &mut Option<Channel>) -> anyhow::Result<Channel> {
    match channel {
        Some(channel) => Ok(channel.clone()),
        None => Ok(channel.insert(target.connect().await?).clone()),
    }
}

/// The daemon answers, but not with rows.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Refused {
    /// It has too much to do, or too little memory or time for the statement.
    pub(super) is_busy: bool,
    reason: String,
}

/// The error of a call. What the daemon says itself is no loss of it.
fn failed(target: &Target, status: &tonic::Status) -> anyhow::Error {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => target.failed(status),
        code => {
            let is_busy = code == Code::ResourceExhausted;
            Refused { is_busy, reason: target.failed(status).to_string() }.into()
        }
    }
}

async fn ask(target: &Target, channel: &mut Option<Channel>, sql: &str) -> anyhow::Result<Vec<RecordBatch>> {
    let refused = |error: FlightError| match error {
        FlightError::Tonic(status) => failed(target, &status),
        other => anyhow::Error::from(other),
    };
    let channel = connected(target, channel).await?;
    let client = FlightServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut client = FlightSqlServiceClient::new_from_inner(client);
    let info = client.execute(sql.to_owned(), None).await.map_err(refused)?;
    let endpoint = info.endpoint.first().and_then(|endpoint| endpoint.ticket.clone());
    let ticket = endpoint.context("the daemon's answer has no ticket for the rows")?;
    client.do_get(ticket).await.map_err(refused)?.map_err(refused).try_collect().await
}
