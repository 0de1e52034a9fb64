//! `kymo collector`: the collectors of a running daemon.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::anyhow;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tonic::Status;
use tonic_types::{FieldViolation, StatusExt};

use super::connect::{Target, block_on, request};
use super::show::Form;
use super::{show, table};
use crate::serve::proto::control_collector_request::Action;
use crate::serve::proto::metrics_service_client::MetricsServiceClient;
use crate::serve::proto::{
    self, ControlCollectorRequest, ListCollectorsRequest, RetuneCollector, StartCollector, StopCollector,
};
use crate::words::parse_duration;

/// `kymo collector`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kymo collector list
  kymo collector set burst --interval 2ms
  kymo collector set burst --scheduling fifo
  kymo collector set kernel --metrics memory,vm,tcp,softnet,softirq
  kymo collector start slower --interval 1s --metrics pressure
  kymo collector stop slower

Changes last until the daemon stops. The configuration file stays as it is.")]
pub struct Collector {
    #[command(subcommand)]
    action: CollectorAction,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Debug, Subcommand)]
enum CollectorAction {
    /// List the running collectors and their counts
    List {
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: Form,
    },
    /// Start a collector
    Start {
        /// Name of the collector: a-z, 0-9, _ and -; starts with a letter
        name: String,
        /// Time between two ticks, such as 10ms
        #[arg(long, value_parser = duration)]
        interval: Duration,
        /// Tables to record, separated by commas; no other collector may record them
        #[arg(long, value_name = "TABLES", value_delimiter = ',', value_parser = table_name, required = true)]
        metrics: Vec<String>,
        /// Allow an interval below a table's minimum
        #[arg(long)]
        force: bool,
        /// Scheduling of the collector's thread
        #[arg(long, value_enum, default_value_t)]
        scheduling: Scheduling,
    },
    /// Stop a collector and keep its recorded rows
    Stop {
        /// Name of the collector
        name: String,
    },
    /// Change a running collector; tables that stay in its list have no gap
    #[command(group = ArgGroup::new("change").args(["interval", "metrics", "scheduling"]).required(true).multiple(true))]
    Set {
        /// Name of the collector
        name: String,
        /// New time between two ticks, such as 10ms
        #[arg(long, value_parser = duration)]
        interval: Option<Duration>,
        /// New list of tables to record, separated by commas
        #[arg(long, value_name = "TABLES", value_delimiter = ',', value_parser = table_name)]
        metrics: Vec<String>,
        /// Allow an interval below a table's minimum
        #[arg(long)]
        force: bool,
        /// New scheduling of the collector's thread
        #[arg(long, value_enum)]
        scheduling: Option<Scheduling>,
    },
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
#[repr(i32)]
enum Scheduling {
    /// `fifo` for intervals of 10 ms or less, where the system allows it and reading takes little time
    #[default]
    Auto = proto::Scheduling::Auto as i32,
    /// Like any other thread
    Other = proto::Scheduling::Other as i32,
    /// Before all ordinary threads; needs `CAP_SYS_NICE` or `RLIMIT_RTPRIO`
    Fifo = proto::Scheduling::Fifo as i32,
}

/// Does it and prints the collector after it.
///
/// # Errors
/// When the daemon does not answer or refuses.
pub fn run(collector: &Collector) -> anyhow::Result<()> {
    let target = &collector.target;
    let (name, done, action) = match collector.action.clone() {
        CollectorAction::List { format } => return list(target, format),
        CollectorAction::Start { name, interval, metrics, force, scheduling } => {
            let (interval, scheduling) = (Some(interval.try_into()?), scheduling as i32);
            (name, "started", Action::Start(StartCollector { interval, families: metrics, force, scheduling }))
        }
        CollectorAction::Stop { name } => (name, "stopped", Action::Stop(StopCollector {})),
        CollectorAction::Set { name, interval, metrics, force, scheduling } => {
            let interval = interval.map(TryInto::try_into).transpose()?;
            let scheduling = scheduling.map_or(proto::Scheduling::Unspecified as i32, |one| one as i32);
            (name, "changed", Action::Retune(RetuneCollector { interval, families: metrics, force, scheduling }))
        }
    };
    let message = ControlCollectorRequest { name: name.clone(), action: Some(action) };
    let answer = block_on(async {
        let mut client = MetricsServiceClient::new(target.connect().await?);
        let answer = client.control_collector(request(message)).await;
        Ok(answer.map_err(|status| in_flags(&status).unwrap_or_else(|| target.failed(&status)))?.into_inner())
    })?;
    let mut out = io::stdout().lock();
    writeln!(out, "{done} {name}")?;
    Ok(write(answer.collector.as_slice(), &mut out)?)
}

/// The daemon's error about fields of the request, in terms of the flags that set them.
fn in_flags(status: &Status) -> Option<anyhow::Error> {
    let violations = status.get_details_bad_request()?.field_violations;
    let in_flag = |violation: &FieldViolation| {
        let field = violation.field.rsplit('.').next().unwrap_or_default();
        match field {
            "force" => format!("--force {}", violation.description),
            "interval" | "scheduling" => format!("--{field}: {}", violation.description),
            "families" => format!("--metrics: {}", violation.description),
            "name" => format!("<NAME>: {}", violation.description),
            _ => violation.description.clone(),
        }
    };
    (!violations.is_empty()).then(|| anyhow!(violations.iter().map(in_flag).collect::<Vec<_>>().join("; ")))
}

fn list(target: &Target, format: Form) -> anyhow::Result<()> {
    let answer = target.call(async |channel| {
        MetricsServiceClient::new(channel).list_collectors(request(ListCollectorsRequest {})).await
    })?;
    let mut out = io::stdout().lock();
    match format {
        Form::Table => write(&answer.collectors, &mut out)?,
        Form::Json => writeln!(out, "{:#}", answer.collectors.iter().map(as_json).collect::<Value>())?,
    }
    Ok(())
}

/// Collectors for people, with their problems and the tables that they cannot record, or not whole.
pub(super) fn write(collectors: &[proto::Collector], out: &mut impl Write) -> io::Result<()> {
    table::write(&rows(collectors), out)?;
    let problems = collectors.iter().flat_map(|one| one.warnings.iter().map(|text| (&one.name, text)));
    table::write_notes(["problem", "reason"], problems, out)?;
    let errors = collectors.iter().filter(|one| !one.last_error.is_empty());
    table::write_notes(["last error", "reason"], errors.map(|one| (&one.name, &one.last_error)), out)?;
    let unavailable = collectors.iter().flat_map(|one| &one.unavailable);
    table::write_notes(["not recorded", "reason"], unavailable.map(|one| (&one.family, &one.reason)), out)?;
    let partial = collectors.iter().flat_map(|one| &one.partial);
    table::write_notes(["recorded in part", "reason"], partial.map(|one| (&one.family, &one.reason)), out)
}

fn rows(collectors: &[proto::Collector]) -> comfy_table::Table {
    let headers = ["collector", "interval", "ticks", "missed", "rows", "dropped", "failed reads", "tables"];
    let mut rows = table::with_headers(headers);
    for one in collectors {
        let count = |count: i64| show::grouped(&count.to_string());
        rows.add_row([
            one.name.clone(),
            one.interval.as_ref().map(show::duration_of).unwrap_or_default(),
            count(one.ticks),
            count(one.missed_ticks),
            count(one.pushed_records),
            count(one.dropped_records),
            count(one.failed_reads),
            one.families.join(", "),
        ]);
    }
    table::align_right(&mut rows, 1..7);
    table::wrap(&mut rows, [7]);
    rows
}

/// A collector for programs.
pub(super) fn as_json(one: &proto::Collector) -> Value {
    let unavailable = one.unavailable.iter().map(|one| json!({"family": one.family, "reason": one.reason}));
    let partial = one.partial.iter().map(|one| json!({"family": one.family, "reason": one.reason}));
    json!({
        "name": one.name,
        "interval_us": one.interval.as_ref().map(show::micros),
        "families": one.families,
        "running_since": one.running_since.as_ref().map(show::time),
        "scheduled_ticks": one.scheduled_ticks,
        "ticks": one.ticks,
        "missed_ticks": one.missed_ticks,
        "pushed_records": one.pushed_records,
        "dropped_records": one.dropped_records,
        "failed_reads": one.failed_reads,
        "last_error": one.last_error,
        "impossible_values": one.impossible_values,
        "unavailable": unavailable.collect::<Value>(),
        "partial": partial.collect::<Value>(),
        "warnings": one.warnings,
        "scheduling": match one.scheduling() {
            proto::Scheduling::Fifo => "fifo",
            proto::Scheduling::Auto | proto::Scheduling::Unspecified => "auto",
            proto::Scheduling::Other => "other",
        },
    })
}

fn table_name(text: &str) -> Result<String, &'static str> {
    let name = text.trim();
    if name.is_empty() { Err("expected names of tables, such as cpu,memory") } else { Ok(name.to_owned()) }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 1ms, 10s or \"1h 30m\"".to_owned())
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn errors_name_flags() {
        let mut details = ErrorDetails::with_bad_request_violation("retune.interval", "1ms is too short");
        details.add_bad_request_violation("retune.force", "allows a shorter interval");
        let status = Status::with_error_details(Code::InvalidArgument, "retune.interval: 1ms is too short", details);
        let told = in_flags(&status).unwrap().to_string();
        assert_eq!(told, "--interval: 1ms is too short; --force allows a shorter interval");
        let details = ErrorDetails::with_bad_request_violation("start.families", "unknown family");
        let status = Status::with_error_details(Code::InvalidArgument, "", details);
        assert_eq!(in_flags(&status).unwrap().to_string(), "--metrics: unknown family");
        assert!(in_flags(&Status::not_found("no collector")).is_none());
    }
}
