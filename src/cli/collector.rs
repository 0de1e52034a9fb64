//! `kymo collector`: the collectors of a running daemon.

use std::io::{self, Write};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::connect::{Target, block_on, request};
use super::{Form, show, table};
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
  kymo collector start quick --interval 100ms --metrics memory,host
  kymo collector stop quick

What is changed here lasts until the daemon stops; the configuration file is not rewritten.")]
pub struct Collector {
    /// What to do.
    #[command(subcommand)]
    pub action: CollectorAction,
    /// Which daemon to ask.
    #[command(flatten)]
    pub target: Target,
}

/// What can be done with collectors.
#[derive(Clone, Debug, Subcommand)]
pub enum CollectorAction {
    /// Show those that run, and what they have done
    List {
        /// How it is written
        #[arg(long, value_enum, default_value_t)]
        format: Form,
    },
    /// Start one
    Start {
        /// Its name: a-z, 0-9, _ and -, a letter first
        name: String,
        /// The time between two ticks, such as 10ms
        #[arg(long, value_parser = duration)]
        interval: Duration,
        /// What it samples, separated by commas; no other collector may have it
        #[arg(long, value_delimiter = ',', required = true)]
        metrics: Vec<String>,
        /// Allow an interval below the shortest one of a family
        #[arg(long)]
        force: bool,
        /// How its thread is scheduled
        #[arg(long, value_enum, default_value_t)]
        scheduling: Scheduling,
    },
    /// Stop one; what it recorded stays
    Stop {
        /// Its name
        name: String,
    },
    /// Change a running one
    Set {
        /// Its name
        name: String,
        /// The new time between two ticks
        #[arg(long, value_parser = duration, required_unless_present_any = ["metrics", "scheduling"])]
        interval: Option<Duration>,
        /// What it samples from now on, separated by commas
        #[arg(long, value_delimiter = ',')]
        metrics: Vec<String>,
        /// Allow an interval below the shortest one of a family
        #[arg(long)]
        force: bool,
        /// How its thread is scheduled from now on
        #[arg(long, value_enum)]
        scheduling: Option<Scheduling>,
    },
}

/// How a collector's thread is scheduled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Scheduling {
    /// As any other thread
    #[default]
    Other,
    /// Before all ordinary threads; the daemon needs `CAP_SYS_NICE` or `RLIMIT_RTPRIO`
    Fifo,
}

impl From<Scheduling> for proto::Scheduling {
    fn from(scheduling: Scheduling) -> proto::Scheduling {
        match scheduling {
            Scheduling::Other => proto::Scheduling::Other,
            Scheduling::Fifo => proto::Scheduling::Fifo,
        }
    }
}

/// Does it, and shows the collectors as they are then.
///
/// # Errors
/// When the daemon does not answer or refuses.
pub fn run(collector: &Collector) -> anyhow::Result<()> {
    let target = &collector.target;
    let (name, action) = match collector.action.clone() {
        CollectorAction::List { format } => return list(target, format),
        CollectorAction::Start { name, interval, metrics, force, scheduling } => {
            let interval = Some(interval.try_into()?);
            let scheduling = proto::Scheduling::from(scheduling).into();
            (name, Action::Start(StartCollector { interval, families: metrics, force, scheduling }))
        }
        CollectorAction::Stop { name } => (name, Action::Stop(StopCollector {})),
        CollectorAction::Set { name, interval, metrics, force, scheduling } => {
            let interval = interval.map(TryInto::try_into).transpose()?;
            let scheduling = scheduling.map_or(proto::Scheduling::Unspecified, Into::into).into();
            (name, Action::Retune(RetuneCollector { interval, families: metrics, force, scheduling }))
        }
    };
    let done = match action {
        Action::Start(_) => "started",
        Action::Stop(_) => "stopped",
        Action::Retune(_) => "retuned",
    };
    let message = ControlCollectorRequest { name: name.clone(), action: Some(action) };
    let answer = block_on(async {
        let mut client = MetricsServiceClient::new(target.connect().await?);
        let answer = client.control_collector(request(message)).await.map_err(|status| target.failed(&status))?;
        Ok(answer.into_inner())
    })?;
    let mut out = io::stdout().lock();
    writeln!(out, "{done} {name}")?;
    write(answer.collector.as_slice(), &mut out)?;
    write_warnings(answer.collector.as_slice(), &mut out)?;
    Ok(())
}

fn list(target: &Target, format: Form) -> anyhow::Result<()> {
    let answer = block_on(async {
        let mut client = MetricsServiceClient::new(target.connect().await?);
        let answer = client.list_collectors(request(ListCollectorsRequest {})).await;
        Ok(answer.map_err(|status| target.failed(&status))?.into_inner())
    })?;
    let mut out = io::stdout().lock();
    match format {
        Form::Table => {
            write(&answer.collectors, &mut out)?;
            write_warnings(&answer.collectors, &mut out)?;
        }
        Form::Json => {
            let all: Vec<Value> = answer.collectors.iter().map(as_json).collect();
            writeln!(out, "{:#}", Value::Array(all))?;
        }
    }
    Ok(())
}

/// Collectors for people, and what they cannot record.
pub(super) fn write(collectors: &[proto::Collector], out: &mut impl Write) -> io::Result<()> {
    table::write(&rows(collectors), out)?;
    for one in collectors {
        for lacking in &one.unavailable {
            writeln!(out, "{}: {} is not recorded: {}", one.name, lacking.family, lacking.reason)?;
        }
    }
    Ok(())
}

/// What someone should look at; the daemon's status has it among its own reasons.
fn write_warnings(collectors: &[proto::Collector], out: &mut impl Write) -> io::Result<()> {
    for one in collectors {
        for warning in &one.warnings {
            writeln!(out, "{}: {warning}", one.name)?;
        }
    }
    Ok(())
}

fn rows(collectors: &[proto::Collector]) -> comfy_table::Table {
    let headers = [
        "collector",
        "interval",
        "metrics",
        "scheduled",
        "taken",
        "missed",
        "records",
        "dropped",
        "failed reads",
        "last error",
    ];
    let mut rows = table::with_headers(headers);
    for one in collectors {
        rows.add_row([
            one.name.clone(),
            one.interval.as_ref().map(show::duration).unwrap_or_default(),
            one.families.join(", "),
            one.scheduled_ticks.to_string(),
            one.ticks.to_string(),
            one.missed_ticks.to_string(),
            one.pushed_records.to_string(),
            one.dropped_records.to_string(),
            one.failed_reads.to_string(),
            one.last_error.clone(),
        ]);
    }
    table::align_right(&mut rows, [1, 3, 4, 5, 6, 7, 8]);
    rows
}

/// A collector for programs.
pub(super) fn as_json(one: &proto::Collector) -> Value {
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
        "unavailable": one.unavailable.iter().map(unavailable).collect::<Vec<_>>(),
        "warnings": one.warnings,
        "scheduling": match one.scheduling() {
            proto::Scheduling::Fifo => "fifo",
            proto::Scheduling::Other | proto::Scheduling::Unspecified => "other",
        },
    })
}

fn unavailable(one: &proto::UnavailableFamily) -> Value {
    json!({"family": one.family, "reason": one.reason})
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 1ms, 10s or \"1h 30m\"".to_owned())
}
