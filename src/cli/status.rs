//! `kymo status`: the state of the daemon, and what it has lost.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Value, json};

use super::connect::{Target, request};
use super::show::Form;
use super::{collector, show, table};
use crate::serve::proto::metrics_service_client::MetricsServiceClient;
use crate::serve::proto::{GetStatusRequest, GetStatusResponse, Losses, QueryWorkers};

/// `kymo status`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Exit codes: 0 all is well, 1 the daemon is degraded, 69 no daemon answers.")]
pub struct Status {
    #[command(flatten)]
    target: Target,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Form,
}

/// Asks the daemon and prints its state.
///
/// # Errors
/// When the daemon does not answer or is degraded.
pub fn run(status: &Status) -> anyhow::Result<()> {
    let answer = status
        .target
        .call(async |channel| MetricsServiceClient::new(channel).get_status(request(GetStatusRequest {})).await)?;
    let mut out = io::stdout().lock();
    match status.format {
        Form::Table => describe(&answer, &mut out)?,
        Form::Json => writeln!(out, "{:#}", as_json(&answer))?,
    }
    out.flush()?;
    anyhow::ensure!(!answer.degraded, "the daemon is degraded");
    Ok(())
}

fn describe(status: &GetStatusResponse, out: &mut impl Write) -> io::Result<()> {
    let uptime = status.uptime.as_ref().map(show::long_duration).unwrap_or_default();
    let state = if status.degraded { "DEGRADED" } else { "all is well" };
    writeln!(out, "kymo {} on {}: {state}, up {uptime}", status.version, status.host)?;
    let mut rows = table::without_headers();
    let mut add = |name: &str, text: &str| _ = rows.add_row([name, text]);
    status.degraded_reasons.iter().for_each(|reason| add("problem", reason));
    for listener in &status.listeners {
        add("address", &format!("{} ({})", listener.address, listener.name));
    }
    add("data", &status.data_dir);
    status.foreign.iter().for_each(|foreign| add("not the host", foreign));
    status.found_at_start.iter().for_each(|found| add("at start", found));
    status.silent_alerts.iter().for_each(|silent| add("silent", silent));
    if let Some(store) = &status.store {
        add("memory", &format!("{}, {}", show::counted(store.hot_rows, "row"), show::bytes(store.hot_bytes)));
        add("journal", &show::bytes(store.journal_bytes));
        add("files", &format!("{}, {}", show::grouped(&store.files.to_string()), show::bytes(store.file_bytes)));
        add("flushes", &format!("{} succeeded, {} failed", store.flushes, store.failed_flushes));
    }
    if let Some(workers) = &status.query_workers {
        add("queries", &query_workers(workers));
        if !workers.in_force.is_empty() {
            add("confined by", &workers.in_force);
        }
    }
    add("lost", &losses(status.losses.unwrap_or_default()));
    table::wrap(&mut rows, [1]);
    table::write(&rows, out)?;
    writeln!(out)?;
    collector::write(&status.collectors, out)
}

fn losses(losses: Losses) -> String {
    let named = [
        (losses.missed_ticks, "missed tick", ""),
        (losses.dropped_records, "row", " dropped before memory"),
        (losses.lost_rows, "row", " dropped from full memory"),
        (losses.lost_notifications, "notification", ""),
        (losses.lost_exports, "export", ""),
    ];
    let lost = named.iter().filter(|(count, ..)| *count > 0);
    let lost: Vec<_> = lost.map(|(count, what, how)| show::counted(*count, what) + how).collect();
    if lost.is_empty() { "nothing".to_owned() } else { lost.join(", ") }
}

fn query_workers(workers: &QueryWorkers) -> String {
    let processes = show::counted(workers.processes, "worker");
    let now = format!("{processes}, {}", show::bytes(workers.rss_bytes));
    if workers.faults == 0 {
        return now;
    }
    let at = workers.last_fault_at.as_ref().map(show::time).unwrap_or_default();
    format!("{now}; {} ended early, the last at {at}: {}", workers.faults, workers.last_fault)
}

fn as_json(status: &GetStatusResponse) -> Value {
    let store = status.store.unwrap_or_default();
    let losses = status.losses.unwrap_or_default();
    let workers = status.query_workers.clone().unwrap_or_default();
    let listeners = status.listeners.iter().map(|one| json!({"name": one.name, "address": one.address}));
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
        "collectors": status.collectors.iter().map(collector::as_json).collect::<Value>(),
        "listeners": listeners.collect::<Value>(),
        "degraded": status.degraded,
        "degraded_reasons": status.degraded_reasons,
        "found_at_start": status.found_at_start,
        "foreign": status.foreign,
        "silent_alerts": status.silent_alerts,
        "query_workers": {
            "processes": workers.processes,
            "idle": workers.idle,
            "rss_bytes": workers.rss_bytes,
            "started": workers.started,
            "faults": workers.faults,
            "last_fault": workers.last_fault,
            "last_fault_at": workers.last_fault_at.as_ref().map(show::time),
            "in_force": workers.in_force,
        },
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
        let some = Losses { missed_ticks: 3, lost_rows: 20_000, lost_exports: 1, ..Losses::default() };
        assert_eq!(losses(some), "3 missed ticks, 20,000 rows dropped from full memory, 1 export");
    }
}
