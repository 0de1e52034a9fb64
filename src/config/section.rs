//! The sections that are one table each: a function for each, of the section's name.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::export::{LogFormat, LogSettings, MetricsSettings, TracingSettings, check_endpoint, check_filter};
use crate::query::QuerySettings;
use crate::reading::context::{PINS_MAX, Pin, ProcessChoice, TOP_MAX};
use crate::reading::filter::{Filter, Filters, PATTERNS_MAX};
use crate::reading::roots::Roots;
use crate::serve::http::{HttpSettings, REQUEST_TIME_MAX};
use crate::serve::security::{OPENING, SecuritySettings};
use crate::serve::tls::TlsSettings;
use crate::serve::{PATH_BYTES_MAX, ServeSettings, SocketSettings};
use crate::store::StoreSettings;
use crate::store::partition::is_short;

use super::read::{self, Read, Section};
use super::tree::{Node, Value};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MIB: u64 = 1 << 20;
const RETENTION_DAYS_MAX: u32 = 36_500;
/// No kernel gives a greater id (`proc_sys_kernel(5)`, `pid_max`).
const PID_MAX: i32 = 1 << 22;

pub(super) fn host(root: &mut Section<'_>) -> Option<Roots> {
    root.required_section("host", |host| Roots {
        procfs: host.value("procfs", folder),
        sysfs: host.value("sysfs", folder),
        rootfs: host.value("rootfs", folder),
    })
}

/// The sections of the tables that have a filter.
pub(super) fn filters(root: &mut Section<'_>) -> Option<Filters> {
    let mut filter = |table| root.required_section(table, filter);
    let (disk, network) = (filter("disk"), filter("network"));
    let (filesystem, cgroup, sensor) = (filter("filesystem"), filter("cgroup"), filter("sensor"));
    Some(Filters { disk: disk?, network: network?, filesystem: filesystem?, cgroup: cgroup?, sensor: sensor? })
}

fn filter(section: &mut Section<'_>) -> Filter {
    let include = section.value("include", patterns);
    let exclude = section.value("exclude", patterns);
    let filter = Filter::new(&include, &exclude);
    filter.inspect_err(|error| section.wrong(error.list, Some(error.index), error.to_string())).unwrap_or_default()
}

fn patterns(node: &Node) -> Read<Vec<String>> {
    let Value::List(nodes) = &node.value else {
        return Err(format!("expected a list of patterns, such as [\"veth*\", \"lo\"], found {}", node.value.kind()));
    };
    if nodes.len() > PATTERNS_MAX {
        return Err(format!("expected at most {PATTERNS_MAX} patterns, found {}", nodes.len()));
    }
    nodes.iter().map(read::text).collect()
}

pub(super) fn process(root: &mut Section<'_>) -> Option<ProcessChoice> {
    root.required_section("process", |process| ProcessChoice {
        top_by_cpu: process.value("top_by_cpu", read::integer(0..=TOP_MAX)),
        top_by_memory: process.value("top_by_memory", read::integer(0..=TOP_MAX)),
        pinned: process.value("pinned", pins),
    })
}

fn pins(node: &Node) -> Read<Vec<Pin>> {
    let Value::List(nodes) = &node.value else {
        return Err(format!("expected a list of names and ids, found {}", node.value.kind()));
    };
    if nodes.len() > PINS_MAX {
        return Err(format!("expected at most {PINS_MAX} names and ids, found {}", nodes.len()));
    }
    nodes.iter().map(pin).collect()
}

fn pin(node: &Node) -> Read<Pin> {
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
fn folder(node: &Node) -> Read<PathBuf> {
    let path = PathBuf::from(read::some_text(node)?);
    if path.is_absolute() { Ok(path) } else { Err(format!("expected an absolute path, found {}", path.display())) }
}

/// A segment of the journal may have this size.
const JOURNAL_BYTES_MIN: u64 = 64 * MIB;

/// `[storage]`: the store's settings, and the intervals of the flush and drain threads.
pub(super) fn storage(root: &mut Section<'_>) -> Option<(StoreSettings, Duration, Duration)> {
    root.required_section("storage", |storage| {
        let path = storage.value("path", read::some_text);
        let host = storage.value("host", host_name);
        let flush_interval = storage.value("flush_interval", read::duration(SECOND..=DAY));
        let drain_interval = storage.value("drain_interval", read::duration(Duration::from_millis(1)..=SECOND));
        let settings = StoreSettings {
            path: PathBuf::from(path),
            host,
            hot_bytes_max: storage.value("hot_bytes_max", read::bytes(MIB..=u64::MAX)),
            journal_sync_interval: storage
                .value("journal_sync_interval", read::duration(Duration::from_millis(10)..=SECOND * 3600)),
            journal_bytes_max: storage.value("journal_bytes_max", read::bytes(JOURNAL_BYTES_MIN..=u64::MAX)),
            compaction_interval: storage.value("compaction_interval", or_none(MINUTE..=DAY)),
            retention_age_max: days(storage, "retention_days"),
            retention_tier_ages_max: [days(storage, "retention_days_1s"), days(storage, "retention_days_1m")],
            retention_bytes_max: Some(storage.value("retention_bytes", read::bytes(0..=u64::MAX)))
                .filter(|bytes| *bytes > 0),
        };
        (settings, flush_interval, drain_interval)
    })
}

/// A number of days; 0 reads as none.
fn days(storage: &mut Section<'_>, key: &'static str) -> Option<Duration> {
    Some(DAY * storage.value(key, read::integer(0..=RETENTION_DAYS_MAX))).filter(|age| !age.is_zero())
}

/// A duration within `range`; "0s" reads as none.
fn or_none(range: RangeInclusive<Duration>) -> impl FnOnce(&Node) -> Read<Option<Duration>> {
    move |node| {
        let any = read::duration(Duration::ZERO..=*range.end())(node)?;
        if any.is_zero() { Ok(None) } else { read::duration(range)(node).map(Some) }
    }
}

fn host_name(node: &Node) -> Read<String> {
    let host = read::text(node)?;
    let right = (host.is_empty() || !host.trim().is_empty()) && is_short(&host) && !host.chars().any(char::is_control);
    let wanted = "a name of 1 to 250 bytes without control characters, where each byte that is no letter, digit, '_', '-' or \
                  '.' of ASCII counts three times, or \"\" for the host's first one";
    if right { Ok(host) } else { Err(format!("expected {wanted}, found {host:?}")) }
}

pub(super) fn query(root: &mut Section<'_>) -> Option<QuerySettings> {
    root.required_section("query", |query| QuerySettings {
        memory_bytes_max: query.value("memory_bytes_max", read::bytes(MIB..=MIB * MIB)),
        time_max: query.value("time_max", read::duration(Duration::from_millis(1)..=DAY)),
        rows_max: Some(query.value("rows_max", read::integer(0..=u64::MAX))).filter(|rows| *rows > 0),
        concurrent_max: query.value("concurrent_max", read::integer(1..=1024)),
        sql_bytes_max: query.value("sql_bytes_max", read::bytes(1..=16 * MIB)),
        spill_bytes_max: query.value("spill_bytes_max", read::bytes(0..=1 << 40)),
        message_bytes_max: query.value("message_bytes_max", read::bytes(4 * MIB..=128 * MIB)),
    })
}

pub(super) fn server(root: &mut Section<'_>) -> Option<ServeSettings> {
    root.required_section("server", |server| {
        let tokens = server.value("tokens", optional_path);
        let tls = server.required_section("tls", tls).flatten();
        let security = SecuritySettings { tokens, tls };
        let address = server.required("address", address(&security));
        let path = server.value("socket", socket);
        let mode = server.value("socket_mode", permissions);
        let connections_max = server.value("connections_max", read::integer(1..=65_536));
        let socket = path.map(|path| SocketSettings { path, mode });
        address.map(|address| ServeSettings { security, socket, connections_max, ..ServeSettings::at(address) })
    })?
}

/// The longest time for shutting down.
pub(super) fn service(root: &mut Section<'_>) -> Option<Duration> {
    root.required_section("service", |service| service.value("shutdown_timeout", read::duration(SECOND..=10 * MINUTE)))
}

/// `[http]`, whose security is that of `[server]`.
pub(super) fn http(root: &mut Section<'_>, security: &SecuritySettings) -> Option<HttpSettings> {
    root.required_section("http", |http| HttpSettings {
        address: http.value("address", optional_address(security)),
        connections_max: http.value("connections_max", read::integer(1..=65_536)),
        request_time_max: REQUEST_TIME_MAX,
    })
}

/// The path of a Unix socket; empty text reads as none.
fn socket(node: &Node) -> Read<Option<PathBuf>> {
    let path = read::text(node)?;
    if path.len() > PATH_BYTES_MAX {
        return Err(format!(
            "expected a path of at most {PATH_BYTES_MAX} bytes, which the kernel limits, found {path:?}"
        ));
    }
    Ok(Some(PathBuf::from(path)).filter(|path| !path.as_os_str().is_empty()))
}

/// Permissions of a file in octal.
fn permissions(node: &Node) -> Read<u32> {
    let text = read::text(node)?;
    let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o777 && text.starts_with('0'));
    mode.ok_or_else(|| format!("expected permissions in octal, such as \"0660\", found {text:?}"))
}

/// `[server.tls]`: none if no file is named.
fn tls(tls: &mut Section<'_>) -> Option<TlsSettings> {
    let certificate = tls.value("certificate", optional_path);
    let key = tls.value("key", optional_path);
    let client_ca = tls.value("client_ca", optional_path);
    match (certificate, key) {
        (Some(certificate), Some(key)) => return Some(TlsSettings { certificate, key, client_ca }),
        (Some(_), None) => tls.wrong("certificate", None, "needs `key`, the private key of this certificate"),
        (None, Some(_)) => tls.wrong("key", None, "needs `certificate`, the certificate of this key"),
        (None, None) if client_ca.is_some() => {
            tls.wrong("client_ca", None, "needs `certificate` and `key`: without TLS, clients show no certificates");
        }
        (None, None) => {}
    }
    None
}

/// The path of a file; empty text reads as none.
fn optional_path(node: &Node) -> Read<Option<PathBuf>> {
    Ok(Some(PathBuf::from(read::text(node)?)).filter(|path| !path.as_os_str().is_empty()))
}

/// As [`address`]; empty text reads as none.
fn optional_address(security: &SecuritySettings) -> impl FnOnce(&Node) -> Read<Option<SocketAddr>> {
    let address = address(security);
    move |node| {
        if matches!(&node.value, Value::Text(text) if text.is_empty()) { Ok(None) } else { address(node).map(Some) }
    }
}

/// An address that only this host can reach, or any with TLS and tokens.
fn address(security: &SecuritySettings) -> impl FnOnce(&Node) -> Read<SocketAddr> {
    let is_open_to_others = security.is_open_to_others();
    move |node| {
        let address = read::address(node)?;
        if address.ip().is_loopback() || is_open_to_others {
            return Ok(address);
        }
        let port = address.port();
        Err(format!("{address}: {OPENING}; or write \"127.0.0.1:{port}\" or \"[::1]:{port}\""))
    }
}

pub(super) fn tracing(root: &mut Section<'_>) -> Option<TracingSettings> {
    root.required_section("tracing", |tracing| TracingSettings {
        service_name: tracing.value("service_name", read::some_text),
        endpoint: tracing.value("endpoint", endpoint),
        sampling_ratio: tracing.value("sampling_ratio", read::ratio),
        events_per_span_max: tracing.value("events_per_span_max", read::integer(0..=10_000)),
        attributes_per_span_max: tracing.value("attributes_per_span_max", read::integer(0..=10_000)),
    })
}

pub(super) fn metrics(root: &mut Section<'_>) -> Option<MetricsSettings> {
    root.required_section("metrics", |metrics| MetricsSettings {
        endpoint: metrics.value("endpoint", endpoint),
        export_interval: metrics.value("export_interval", read::duration(SECOND..=DAY)),
    })
}

/// An OTLP endpoint; empty text reads as none.
fn endpoint(node: &Node) -> Read<Option<String>> {
    let endpoint = read::text(node)?;
    if endpoint.is_empty() {
        return Ok(None);
    }
    check_endpoint(&endpoint).map_err(|error| error.to_string())?;
    Ok(Some(endpoint))
}

pub(super) fn log(root: &mut Section<'_>) -> Option<LogSettings> {
    root.required_section("log", |log| LogSettings {
        filter: log.value("filter", log_filter),
        format: log.value("format", log_format),
    })
}

fn log_format(node: &Node) -> Read<LogFormat> {
    match &*read::text(node)? {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("there is no format {other:?}; expected \"text\" or \"json\"")),
    }
}

fn log_filter(node: &Node) -> Read<String> {
    let filter = read::text(node)?;
    check_filter(&filter).map_err(|error| error.to_string())?;
    Ok(filter)
}
