//! `kymo status`: what a running daemon does, and what it has lost.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Value, json};

use super::connect::{Target, block_on, request};
use super::{Form, collector, show};
use crate::serve::proto::metrics_service_client::MetricsServiceClient;
use crate::serve::proto::{GetStatusRequest, GetStatusResponse, Losses};

/// `kymo status`.
#[derive(Args, Clone, Debug)]
pub struct Status {
    /// Which daemon to ask.
    #[command(flatten)]
    pub target: Target,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    pub format: Form,
}

/// Asks, and shows the answer.
///
/// # Errors
/// When the daemon does not answer.
pub fn run(status: &Status) -> anyhow::Result<()> {
    let target = &status.target;
    let answer = block_on(async {
        let mut client = MetricsServiceClient::new(target.connect().await?);
        let answer = client.get_status(request(GetStatusRequest {})).await;
        Ok(answer.map_err(|status| target.failed(&status))?.into_inner())
    })?;
    let mut out = io::stdout().lock();
    match status.format {
        Form::Table => describe(&answer, &mut out)?,
        Form::Json => writeln!(out, "{:#}", as_json(&answer))?,
    }
    Ok(())
}

fn describe(status: &GetStatusResponse, out: &mut impl Write) -> io::Result<()> {
    let uptime = status.uptime.as_ref().map(show::long_duration).unwrap_or_default();
    let state = if status.degraded { "DEGRADED" } else { "well" };
    writeln!(out, "kymo {} on {}: {state}, up {uptime}", status.version, status.host)?;
    for reason in &status.degraded_reasons {
        writeln!(out, "  {reason}")?;
    }
    for listener in &status.listeners {
        writeln!(out, "serves:  {} on {}", listener.name, listener.address)?;
    }
    writeln!(out, "data:    {}", status.data_dir)?;
    for found in &status.found_at_start {
        writeln!(out, "found:   {found}")?;
    }
    if let Some(store) = &status.store {
        writeln!(out, "memory:  {} rows, {}", store.hot_rows, show::bytes(store.hot_bytes))?;
        writeln!(out, "journal: {}", show::bytes(store.journal_bytes))?;
        writeln!(out, "files:   {}, {}", store.files, show::bytes(store.file_bytes))?;
        writeln!(out, "flushes: {}, {} failed", store.flushes, store.failed_flushes)?;
    }
    writeln!(out, "lost:    {}", losses(status.losses.unwrap_or_default()))?;
    writeln!(out)?;
    collector::write(&status.collectors, out)
}

fn losses(losses: Losses) -> String {
    let named = [
        (losses.missed_ticks, "missed ticks"),
        (losses.dropped_records, "dropped records"),
        (losses.lost_rows, "rows lost in memory"),
        (losses.lost_notifications, "notifications"),
        (losses.lost_exports, "exports"),
    ];
    let lost: Vec<_> =
        named.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if lost.is_empty() { "nothing".to_owned() } else { lost.join(", ") }
}

fn as_json(status: &GetStatusResponse) -> Value {
    let store = status.store.unwrap_or_default();
    let losses = status.losses.unwrap_or_default();
    let listeners: Vec<Value> =
        status.listeners.iter().map(|one| json!({"name": one.name, "address": one.address})).collect();
    json!({
        "version": status.version,
        "host": status.host,
        "started_at": status.started_at.as_ref().map(show::time),
        "uptime_us": status.uptime.as_ref().map(show::micros),
        "data_dir": status.data_dir,
        "store": {
            "hot_rows": store.hot_rows,
            "hot_bytes": store.hot_bytes,
            "files": store.files,
            "file_bytes": store.file_bytes,
            "flushes": store.flushes,
            "failed_flushes": store.failed_flushes,
            "journal_bytes": store.journal_bytes,
        },
        "collectors": status.collectors.iter().map(collector::as_json).collect::<Vec<_>>(),
        "listeners": listeners,
        "degraded": status.degraded,
        "degraded_reasons": status.degraded_reasons,
        "found_at_start": status.found_at_start,
        "losses": {
            "missed_ticks": losses.missed_ticks,
            "dropped_records": losses.dropped_records,
            "lost_rows": losses.lost_rows,
            "lost_notifications": losses.lost_notifications,
            "lost_exports": losses.lost_exports,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_named_and_no_loss_is_said() {
        assert_eq!(losses(Losses::default()), "nothing");
        let some = Losses { missed_ticks: 3, lost_exports: 1, ..Losses::default() };
        assert_eq!(losses(some), "3 missed ticks, 1 exports");
    }
}
