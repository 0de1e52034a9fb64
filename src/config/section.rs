//! The sections that are one table each.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::export::{MetricsSettings, TracingSettings, check_endpoint, check_filter};
use crate::query::QuerySettings;
use crate::reading::context::{PINS_MAX, Pin, ProcessChoice, TOP_MAX};
use crate::reading::roots::Roots;
use crate::serve::ServeSettings;
use crate::store::StoreSettings;

use super::read::{self, Section};
use super::tree::{Node, Value};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MIB: u64 = 1 << 20;
const RETENTION_DAYS_MAX: u64 = 36_500;
const HOST_LENGTH_MAX: usize = 253;
/// No kernel gives a greater id (`proc_sys_kernel(5)`, `pid_max`).
const PID_MAX: i32 = 1 << 22;

/// `[host]`.
pub(super) fn host(root: &mut Section<'_>) -> Option<Roots> {
    let mut section = root.required_section("host")?;
    let procfs = section.required("procfs", folder);
    let sysfs = section.required("sysfs", folder);
    section.finish();
    Some(Roots { procfs: procfs?, sysfs: sysfs? })
}

/// `[process]`.
pub(super) fn process(root: &mut Section<'_>) -> Option<ProcessChoice> {
    let mut section = root.required_section("process")?;
    let top_by_cpu = section.required("top_by_cpu", read::integer(0..=TOP_MAX as u64));
    let top_by_memory = section.required("top_by_memory", read::integer(0..=TOP_MAX as u64));
    let pinned = section.required("pinned", pins);
    section.finish();
    Some(ProcessChoice {
        top_by_cpu: usize::try_from(top_by_cpu?).ok()?,
        top_by_memory: usize::try_from(top_by_memory?).ok()?,
        pinned: pinned?,
    })
}

fn pins(node: &Node) -> Result<Vec<Pin>, String> {
    let Value::List(nodes) = &node.value else {
        return Err(format!("expected a list of names and ids, found {}", node.value.kind()));
    };
    if nodes.len() > PINS_MAX {
        return Err(format!("expected at most {PINS_MAX} names and ids, found {}", nodes.len()));
    }
    nodes.iter().map(pin).collect()
}

fn pin(node: &Node) -> Result<Pin, String> {
    match &node.value {
        Value::Text(name) if !name.is_empty() => Ok(Pin::Name(name.clone())),
        Value::Integer(pid) => {
            let pid = i32::try_from(*pid).ok().filter(|pid| (1..=PID_MAX).contains(pid));
            pid.map(Pin::Pid).ok_or_else(|| format!("expected process ids from 1 to {PID_MAX}"))
        }
        _ => Err("expected names and process ids, such as [\"sshd\", 4711]".to_owned()),
    }
}

/// An absolute path, as sampling must not depend on the directory that kymo is started in.
fn folder(node: &Node) -> Result<PathBuf, String> {
    let path = PathBuf::from(read::some_text(node)?);
    if path.is_absolute() { Ok(path) } else { Err(format!("expected an absolute path, found {}", path.display())) }
}

/// `[storage]`: the store's settings, and the intervals of the drain and flush threads.
pub(super) struct Storage {
    pub(super) store: StoreSettings,
    pub(super) flush_interval: Duration,
    pub(super) drain_interval: Duration,
}

/// A segment of the journal may have this size.
const JOURNAL_BYTES_MIN: u64 = 64 * MIB;

/// `[storage]`.
pub(super) fn storage(root: &mut Section<'_>) -> Option<Storage> {
    let mut section = root.required_section("storage")?;
    let path = section.required("path", read::some_text);
    let host = section.required("host", host_name);
    let flush_interval = section.required("flush_interval", read::duration(SECOND..=DAY));
    let drain_interval = section.required("drain_interval", read::duration(Duration::from_millis(1)..=SECOND));
    let hot_bytes_max = section.required("hot_bytes_max", read::bytes(MIB..=u64::MAX));
    let journal_sync_interval =
        section.required("journal_sync_interval", read::duration(Duration::from_millis(10)..=SECOND * 3600));
    let journal_bytes_max = section.required("journal_bytes_max", read::bytes(JOURNAL_BYTES_MIN..=u64::MAX));
    let compaction_interval = section.required("compaction_interval", or_none(MINUTE..=DAY));
    let retention_days = section.required("retention_days", read::integer(0..=RETENTION_DAYS_MAX));
    let retention_bytes = section.required("retention_bytes", read::bytes(0..=u64::MAX));
    section.finish();
    Some(Storage {
        store: StoreSettings {
            path: PathBuf::from(path?),
            host: host?,
            hot_bytes_max: hot_bytes_max?,
            journal_sync_interval: journal_sync_interval?,
            journal_bytes_max: journal_bytes_max?,
            compaction_interval: compaction_interval?,
            retention_age_max: Some(DAY.saturating_mul(u32::try_from(retention_days?).ok()?))
                .filter(|age| !age.is_zero()),
            retention_bytes_max: Some(retention_bytes?).filter(|bytes| *bytes > 0),
        },
        flush_interval: flush_interval?,
        drain_interval: drain_interval?,
    })
}

/// A duration within `range`; "0s" reads as none.
fn or_none(range: std::ops::RangeInclusive<Duration>) -> impl FnOnce(&Node) -> Result<Option<Duration>, String> {
    move |node| {
        let any = read::duration(Duration::ZERO..=*range.end())(node)?;
        if any.is_zero() { Ok(None) } else { read::duration(range)(node).map(Some) }
    }
}

fn host_name(node: &Node) -> Result<String, String> {
    let host = read::text(node)?;
    let host = if host.is_empty() { rustix::system::uname().nodename().to_string_lossy().into_owned() } else { host };
    let right = !host.trim().is_empty() && host.len() <= HOST_LENGTH_MAX && !host.chars().any(char::is_control);
    let wanted =
        format!("a name of 1 to {HOST_LENGTH_MAX} bytes without control characters, or \"\" for the host's own");
    if right { Ok(host) } else { Err(format!("expected {wanted}, found {host:?}")) }
}

/// `[query]`.
pub(super) fn query(root: &mut Section<'_>) -> Option<QuerySettings> {
    let mut section = root.required_section("query")?;
    let memory_bytes_max = section.required("memory_bytes_max", read::bytes(MIB..=MIB * MIB));
    let time_max = section.required("time_max", read::duration(Duration::from_millis(1)..=DAY));
    let rows_max = section.required("rows_max", read::integer(0..=u64::MAX));
    let concurrent_max = section.required("concurrent_max", read::integer(1..=1024));
    let sql_bytes_max = section.required("sql_bytes_max", read::bytes(1..=16 * MIB));
    section.finish();
    Some(QuerySettings {
        memory_bytes_max: usize::try_from(memory_bytes_max?).ok()?,
        time_max: time_max?,
        rows_max: Some(rows_max?).filter(|rows| *rows > 0),
        concurrent_max: usize::try_from(concurrent_max?).ok()?,
        sql_bytes_max: usize::try_from(sql_bytes_max?).ok()?,
    })
}

/// `[server]`.
pub(super) fn server(root: &mut Section<'_>) -> Option<ServeSettings> {
    let mut section = root.required_section("server")?;
    let address = section.required("address", loopback);
    let connections_max = section.required("connections_max", read::integer(1..=65_536));
    section.finish();
    Some(ServeSettings { connections_max: usize::try_from(connections_max?).ok()?, ..ServeSettings::at(address?) })
}

/// An address that only this host can reach.
fn loopback(node: &Node) -> Result<SocketAddr, String> {
    let address = read::address(node)?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    let port = address.port();
    Err(format!(
        "{address} can be reached from other hosts, and kymo has no TLS and tokens yet; write \"127.0.0.1:{port}\" or \
         \"[::1]:{port}\""
    ))
}

/// `[tracing]`.
pub(super) fn tracing(root: &mut Section<'_>) -> Option<TracingSettings> {
    let mut section = root.required_section("tracing")?;
    let service_name = section.required("service_name", read::some_text);
    let endpoint = section.required("endpoint", endpoint);
    let sampling_ratio = section.required("sampling_ratio", read::ratio);
    let events = section.required("events_per_span_max", read::integer(0..=10_000));
    let attributes = section.required("attributes_per_span_max", read::integer(0..=10_000));
    section.finish();
    Some(TracingSettings {
        service_name: service_name?,
        endpoint: endpoint?,
        sampling_ratio: sampling_ratio?,
        events_per_span_max: u32::try_from(events?).ok()?,
        attributes_per_span_max: u32::try_from(attributes?).ok()?,
    })
}

/// `[metrics]`.
pub(super) fn metrics(root: &mut Section<'_>) -> Option<MetricsSettings> {
    let mut section = root.required_section("metrics")?;
    let endpoint = section.required("endpoint", endpoint);
    let export_interval = section.required("export_interval", read::duration(SECOND..=DAY));
    section.finish();
    Some(MetricsSettings { endpoint: endpoint?, export_interval: export_interval? })
}

/// An OTLP endpoint; empty text reads as none.
fn endpoint(node: &Node) -> Result<Option<String>, String> {
    let endpoint = read::text(node)?;
    if endpoint.is_empty() {
        return Ok(None);
    }
    check_endpoint(&endpoint).map_err(|error| error.to_string())?;
    Ok(Some(endpoint))
}

/// `[log]`.
pub(super) fn log(root: &mut Section<'_>) -> Option<String> {
    let mut section = root.required_section("log")?;
    let filter = section.required("filter", |node| {
        let filter = read::text(node)?;
        check_filter(&filter).map_err(|error| error.to_string())?;
        Ok(filter)
    });
    section.finish();
    filter
}
