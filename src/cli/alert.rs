//! `kymo alert`: the alert rules of a running daemon and their states.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connect::{Target, request};
use super::show::Form;
use super::{show, table};
use crate::serve::proto::alert_service_client::AlertServiceClient;
use crate::serve::proto::{AlertRule, AlertSeries, AlertState, ListAlertsRequest};

/// `kymo alert`.
#[derive(Args, Clone, Debug)]
pub struct Alert {
    #[command(subcommand)]
    action: AlertAction,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Debug, Subcommand)]
enum AlertAction {
    /// List all rules and their states
    List {
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: Form,
    },
}

/// Asks the daemon and prints its answer.
///
/// # Errors
/// When the daemon does not answer.
pub fn run(alert: &Alert) -> anyhow::Result<()> {
    let AlertAction::List { format } = alert.action;
    let answer = alert
        .target
        .call(async |channel| AlertServiceClient::new(channel).list_alerts(request(ListAlertsRequest {})).await)?;
    let mut out = io::stdout().lock();
    match format {
        Form::Table => {
            table::write(&rows(&answer.rules), &mut out)?;
            let conditions = answer.rules.iter().map(|rule| (&rule.name, &rule.condition));
            table::write_notes(["alert", "condition"], conditions, &mut out)?;
            let firing =
                answer.rules.iter().flat_map(|rule| rule.firing_series.iter().map(|one| (&rule.name, described(one))));
            table::write_notes(["firing", "series"], firing, &mut out)?;
        }
        Form::Json => writeln!(out, "{:#}", answer.rules.iter().map(as_json).collect::<Value>())?,
    }
    Ok(())
}

fn rows(rules: &[AlertRule]) -> comfy_table::Table {
    let headers = ["alert", "state", "pending", "firing", "fired", "resolved", "for", "table"];
    let mut rows = table::with_headers(headers);
    for rule in rules {
        rows.add_row([
            rule.name.clone(),
            state(rule.state()).to_owned(),
            rule.pending.to_string(),
            rule.firing.to_string(),
            rule.fired.to_string(),
            rule.resolved.to_string(),
            rule.for_duration.as_ref().map(show::duration_of).unwrap_or_default(),
            rule.table.clone(),
        ]);
    }
    table::align_right(&mut rows, [2, 3, 4, 5, 6]);
    rows
}

/// The labels of one series.
fn series(series: &AlertSeries) -> String {
    series.labels.iter().map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(" ")
}

/// A series with what is known of its alert.
fn described(one: &AlertSeries) -> String {
    let since = one.since.as_ref().map(|since| format!("since {}", show::time(since)));
    let peak = one.peak.map(|peak| format!("peak {peak}"));
    let no_data = one.no_data.then(|| "no data".to_owned());
    let labels = Some(series(one)).filter(|labels| !labels.is_empty());
    [labels, no_data, since, peak].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn series_as_json(series: &AlertSeries) -> Value {
    json!({
        "labels": series.labels,
        "no_data": series.no_data,
        "since": series.since.as_ref().map(show::time),
        "peak": series.peak,
    })
}

fn as_json(rule: &AlertRule) -> Value {
    json!({
        "name": rule.name,
        "table": rule.table,
        "condition": rule.condition,
        "for_us": rule.for_duration.as_ref().map(show::micros),
        "state": state(rule.state()),
        "pending": rule.pending,
        "firing": rule.firing,
        "firing_series": rule.firing_series.iter().map(|series| json!(series.labels)).collect::<Vec<_>>(),
        "firing_alerts": rule.firing_series.iter().map(series_as_json).collect::<Value>(),
        "absent": rule.absent,
        "fired": rule.fired,
        "resolved": rule.resolved,
        "notify": rule.notify,
    })
}

fn state(state: AlertState) -> &'static str {
    match state {
        AlertState::Unspecified => "unknown",
        AlertState::Ok => "ok",
        AlertState::Pending => "pending",
        AlertState::Firing => "firing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firing_series_is_described() {
        let labels = [("device".to_owned(), "sda".to_owned())].into();
        let one = AlertSeries { labels, no_data: true, since: None, peak: Some(0.5) };
        assert_eq!(described(&one), "device=sda, no data, peak 0.5");
        let since = Some(prost_types::Timestamp { seconds: 0, nanos: 0 });
        assert_eq!(described(&AlertSeries { since, ..AlertSeries::default() }), "since 1970-01-01T00:00:00Z");
    }
}
