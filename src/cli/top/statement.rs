//! What the view asks, as SQL. Each statement answers for everything that is shown together, so a round trip is enough.

use super::window::{HOUR_US, SECOND_US, Window};
use crate::family::tables::TableId;
use crate::record::{Kind, Table};

/// Beyond this length, losses are counted from the minutes that kymo keeps and not from rows.
const ROWS_MAX_US: i64 = 2 * HOUR_US;
/// How far back the newest rows of processes reach.
pub(super) const RECENT_US: i64 = 4 * SECOND_US;
/// Alerts that are listed.
const EVENTS_MAX: usize = 200;

/// Which rows are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host(String);

impl Host {
    pub(super) fn new(name: &str) -> Host {
        Host(name.to_owned())
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    fn condition(&self) -> String {
        format!("host = '{}'", self.0.replace('\'', "''"))
    }
}

/// The hosts, when their newest rows are, and the time of whoever answers.
pub(super) const HOSTS: &str = "SELECT host, max(time) AS newest, now() AS clock FROM (
    SELECT host, time FROM kymo_last UNION ALL SELECT host, time FROM cpu_last UNION ALL
    SELECT host, time FROM network_last UNION ALL SELECT host, time FROM memory_last
) GROUP BY host ORDER BY newest DESC";

/// The cells of all charts: `part`, `label`, `time`, two values `a` and `b` with their least, greatest and mean, and the `tier`.
///
/// Of processors, all are read only if they are shown.
pub(super) fn charts(window: &Window, host: &Host, has_cores: bool) -> String {
    let part = |(part, label, and, columns): &(&str, &str, &str, [&str; 2])| {
        let values = ["a", "b"].iter().zip(columns).map(|(name, column)| {
            ["min", "max", "mean"].map(|what| format!("{column}_{what} AS {name}_{what}")).join(", ")
        });
        let total = if *part == "cpu" && !has_cores { " AND cpu = 'total'" } else { "" };
        format!(
            "SELECT '{part}' AS part, {label} AS label, time, {}, tier FROM {} WHERE {}{and}{total}",
            values.collect::<Vec<_>>().join(", "),
            downsample(part, &columns.join(", "), window.from_us, window.to_us(), window.cells),
            host.condition(),
        )
    };
    CHARTS.iter().map(part).collect::<Vec<_>>().join("\nUNION ALL ")
}

/// The columns of which charts show cells, by table: the label that tells its series apart, other conditions, and two columns.
const CHARTS: &[(&str, &str, &str, [&str; 2])] = &[
    ("cpu", "cpu", "", ["utilization", "iowait_us"]),
    ("memory", "''", "", ["used_bytes", "total_bytes"]),
    ("network", "interface", "", ["rx_bytes", "tx_bytes"]),
    ("disk", "device", " AND parent = ''", ["read_bytes", "write_bytes"]),
    ("pressure", "resource", " AND kind = 'some'", ["total_us", "avg10_ratio"]),
];

/// A value of a series in a stretch of time, whose greatest is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seek {
    pub(super) part: &'static str,
    pub(super) label: String,
    pub(super) which: usize,
    pub(super) from_us: i64,
    pub(super) to_us: i64,
}

/// When the value was greatest: the `time` of a bucket, or of the row if there is one a bucket.
pub(super) fn peak(seek: &Seek, host: &Host) -> Option<String> {
    let (part, label, and, columns) = CHARTS.iter().find(|(part, ..)| *part == seek.part)?;
    Some(format!(
        "SELECT time FROM {} WHERE {label} = '{}' AND {}{and} AND time >= {} ORDER BY max DESC, time LIMIT 1",
        downsample(part, columns.get(seek.which)?, seek.from_us, seek.to_us, SEEK_BUCKETS),
        seek.label.replace('\'', "''"),
        host.condition(),
        time(seek.from_us),
    ))
}

/// Buckets in which a peak is looked for at a time.
pub(super) const SEEK_BUCKETS: usize = 1_000;

/// The values of one stretch of time: `part`, `label`, and means and greatest values in the order of [`FACTS`].
pub(super) fn facts(from_us: i64, to_us: i64, host: &Host) -> String {
    let part = |(part, label, columns): &(&str, &str, &[&str])| {
        let value = |at: usize, what: &str, name: &str| match columns.get(at) {
            Some(column) => format!("{column}_{what} AS {name}{at}"),
            None => format!("CAST(NULL AS DOUBLE) AS {name}{at}"),
        };
        let mut values: Vec<String> = (0..FACTS_MAX).map(|at| value(at, "mean", "mean")).collect();
        values.extend((0..2).map(|at| value(at, "max", "max")));
        format!(
            "SELECT '{part}' AS part, {label} AS label, {} FROM {} WHERE {}",
            values.join(", "),
            downsample(part, &columns.join(", "), from_us, to_us, 1),
            host.condition(),
        )
    };
    FACTS.iter().map(part).collect::<Vec<_>>().join("\nUNION ALL ")
}

/// The values of [`facts`] from rows, which is quicker where there are some: of a stretch of time, or of the last second.
///
/// Of the last second, the text is the same each time, so the daemon knows the columns of its answer already.
pub(super) fn facts_of_rows(stretch: Option<(i64, i64)>, host: &Host) -> String {
    let part = |(part, label, columns): &(&str, &str, &[&str])| {
        let declared = TableId::find(part).map(TableId::table);
        let is_counter = |column: &str| {
            let found = declared.and_then(|table| table.column(column));
            found.is_some_and(|(_, column)| column.kind == Kind::Counter)
        };
        // Of what has one row a second, a rate needs the row before, and the newest value is wanted.
        let is_slow = SLOW.contains(part);
        let value = |at: usize, is_max: bool| {
            let name = format!("{}{at}", if is_max { "max" } else { "mean" });
            match columns.get(at) {
                None => format!("CAST(NULL AS DOUBLE) AS {name}"),
                Some(column) if is_counter(column) && is_max && !is_slow => {
                    format!("peak_rate({column}, time, interval '1 millisecond') AS {name}")
                }
                Some(column) if is_counter(column) => format!("rate({column}, time) AS {name}"),
                Some(column) if is_max || is_slow => format!("CAST(max({column}) AS DOUBLE) AS {name}"),
                Some(column) => format!("CAST(avg({column}) AS DOUBLE) AS {name}"),
            }
        };
        let values: Vec<String> =
            (0..FACTS_MAX).map(|at| value(at, false)).chain((0..2).map(|at| value(at, true))).collect();
        let before_us = if is_slow { SECOND_US } else { 0 };
        let times = match stretch {
            Some((from_us, to_us)) => between(from_us - before_us, to_us),
            None => format!("time >= now() - interval '{} milliseconds'", (1_020_000 + before_us) / 1_000),
        };
        let labels: Vec<&str> = declared.into_iter().flat_map(Table::labels).map(|(_, column)| column.name).collect();
        let groups = if labels.is_empty() { String::new() } else { format!(" GROUP BY {}", labels.join(", ")) };
        format!(
            "SELECT '{part}' AS part, {label} AS label, {} FROM {part} WHERE {times} AND {}{groups}",
            values.join(", "),
            host.condition(),
        )
    };
    FACTS.iter().map(part).collect::<Vec<_>>().join("\nUNION ALL ")
}

/// Tables of one row a second.
const SLOW: &[&str] = &["host", "kymo", "collector"];
/// The most values of a part.
pub(super) const FACTS_MAX: usize = 6;
/// Tables, labels and columns of [`facts`].
pub(super) const FACTS: &[(&str, &str, &[&str])] = &[
    ("cpu", "cpu", &["utilization", "user_us", "system_us", "softirq_us", "iowait_us", "steal_us"]),
    ("memory", "''", &["used_bytes", "available_bytes", "total_bytes", "free_bytes"]),
    ("network", "interface", &["rx_bytes", "tx_bytes", "rx_dropped", "tx_dropped", "rx_errors", "tx_errors"]),
    ("disk", "device", &["read_bytes", "write_bytes", "busy_us", "in_flight", "read_ops", "write_ops"]),
    ("pressure", "resource || ' ' || kind", &["total_us", "avg10_ratio"]),
    ("host", "''", &["load1", "load5", "load15", "running", "blocked", "uptime_us"]),
    ("kymo", "''", &["cpu_us", "rss_bytes", "lake_bytes", "journal_bytes", "hot_bytes", "query_rss_bytes"]),
    ("collector", "collector", &["lateness_p50_us", "lateness_max_us", "lateness_p99_us", "read_us", "missed_ticks"]),
];

/// Rows of processes of a stretch of time, or the newest, in a text that is the same each time.
pub(super) fn processes(stretch: Option<(i64, i64)>, host: &Host) -> String {
    let times = match stretch {
        Some((from_us, to_us)) => between(from_us, to_us),
        None => format!("time >= now() - interval '{} seconds'", RECENT_US / SECOND_US),
    };
    format!(
        "SELECT time, command, pid, start_us, cpu_ratio, cpu_user_us, cpu_system_us, rss_bytes, threads, open_files,
            major_faults, read_bytes, write_bytes FROM process WHERE {times} AND {} ORDER BY time",
        host.condition()
    )
}

/// Rows of control groups: those of the first tick at or after a time, and those of the tick before it.
pub(super) fn cgroups(at_us: i64, host: &Host) -> String {
    format!(
        "SELECT time, cgroup, usage_us, periods, throttled_periods, memory_bytes, memory_max_bytes, cpu_some_us, memory_some_us,
            io_some_us, read_bytes, write_bytes, tasks FROM cgroup WHERE {} AND {} ORDER BY time",
        between(at_us - 3 * SECOND_US, at_us + 2 * SECOND_US),
        host.condition()
    )
}

/// What happened up to the end of a window: the newest alerts, and what was missed in each cell.
pub(super) fn events(window: &Window, host: &Host) -> String {
    let to = time(window.to_us());
    format!(
        "(SELECT 'alert' AS part, time, rule AS name, labels, state, value, since_us FROM alert
            WHERE time < {to} AND {host} ORDER BY time DESC LIMIT {EVENTS_MAX})
        UNION ALL SELECT 'gap', min(time), collector, '', reason, CAST(sum(lost) AS DOUBLE), min(from_us) FROM gap
            WHERE {} AND {host} GROUP BY collector, reason, date_bin(interval '{} microseconds', time, {})
        UNION ALL {}",
        between(window.from_us, window.to_us()),
        window.width_us,
        time(window.from_us),
        losses(window, host),
        host = host.condition(),
    )
}

/// Ticks and losses of each collector over a window, as rows of [`events`]: the value is what was missed, `since_us` how many were
/// due.
fn losses(window: &Window, host: &Host) -> String {
    let values = |suffix: &str| {
        ["missed_ticks", "scheduled_ticks", "dropped_records"].map(|column| match suffix {
            "" => format!("increase({column}, time)"),
            suffix => format!("sum({column}{suffix})"),
        })
    };
    let (table, [missed, due, dropped]) = if window.length_us() <= ROWS_MAX_US {
        ("collector", values(""))
    } else {
        ("collector_1m", values("_increase"))
    };
    format!(
        "SELECT 'loss', max(time), collector, CAST({dropped} AS VARCHAR), '', CAST({missed} AS DOUBLE), CAST({due} AS BIGINT)
            FROM {table} WHERE {} AND {} GROUP BY collector",
        between(window.from_us.min(window.to_us() - 5 * SECOND_US), window.to_us()),
        host.condition()
    )
}

fn downsample(table: &str, columns: &str, from_us: i64, to_us: i64, buckets: usize) -> String {
    format!("downsample('{table}', '{columns}', '{}', '{}', {buckets})", text(from_us), text(to_us))
}

fn between(from_us: i64, to_us: i64) -> String {
    format!("time >= {} AND time < {}", time(from_us), time(to_us))
}

fn time(us: i64) -> String {
    format!("TIMESTAMPTZ '{}'", text(us))
}

fn text(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).unwrap_or_default().to_string()
}
