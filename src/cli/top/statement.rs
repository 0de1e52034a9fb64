//! What the view asks, as SQL. Each statement answers for everything that is shown together, so a round trip is enough.

use super::catalog::Catalog;
use super::metric::Metric;
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

    pub(super) fn condition(&self) -> String {
        format!("host = '{}'", self.0.replace('\'', "''"))
    }
}

/// The hosts, when their newest rows are, and the time of whoever answers.
pub(super) const HOSTS: &str = "SELECT host, max(time) AS newest, now() AS clock FROM (
    SELECT host, time FROM kymo_last UNION ALL SELECT host, time FROM cpu_last UNION ALL
    SELECT host, time FROM network_last UNION ALL SELECT host, time FROM memory_last
) GROUP BY host ORDER BY newest DESC";

/// From when to when something was recorded: `first` and `newest`, from a table of one row a second and its minutes, which are kept longest.
pub(super) fn span(host: &Host) -> String {
    let part = |table: &str| format!("SELECT time FROM {table} WHERE {}", host.condition());
    format!("SELECT min(time) AS first, max(time) AS newest FROM ({} UNION ALL {})", part("kymo"), part("kymo_1m"))
}

/// The cells of all charts: `part`, `label`, `time`, two values `a` and `b` with their least, greatest and mean, and the `tier`.
///
/// Of processors, all are read only if they are shown. What the daemon lacks is null.
pub(super) fn charts(window: &Window, host: &Host, has_cores: bool, catalog: &Catalog) -> String {
    let part = |(part, label, and, columns): &(&str, &str, &str, [&str; 2])| {
        let read: Vec<&str> = columns.iter().copied().filter(|column| catalog.has(part, column)).collect();
        let values = ["a", "b"].iter().zip(columns).map(|(name, column)| {
            let value = |what: &str| match read.as_slice() {
                columns if !columns.contains(column) => format!("CAST(NULL AS DOUBLE) AS {name}_{what}"),
                [_] => format!("{what} AS {name}_{what}"),
                _ => format!("{column}_{what} AS {name}_{what}"),
            };
            ["min", "max", "mean"].map(value).join(", ")
        });
        let total = if *part == "cpu" && !has_cores { " AND cpu = 'total'" } else { "" };
        format!(
            "SELECT '{part}' AS part, {label} AS label, time, {}, tier FROM {} WHERE {}{and}{total}",
            values.collect::<Vec<_>>().join(", "),
            downsample(part, &read.join(", "), window.from_us, window.to_us(), window.cells),
            host.condition(),
        )
    };
    let is_known =
        |(part, .., columns): &&(&str, &str, &str, [&str; 2])| columns.iter().any(|column| catalog.has(part, column));
    CHARTS.iter().filter(is_known).map(part).collect::<Vec<_>>().join("\nUNION ALL ")
}

/// The columns of which charts show cells, by table: the label that tells its series apart, other conditions, and two columns.
const CHARTS: &[(&str, &str, &str, [&str; 2])] = &[
    ("cpu", "cpu", "", ["utilization", "iowait_us"]),
    ("memory", "''", "", ["used_bytes", "total_bytes"]),
    ("network", "interface", "", ["rx_bytes", "tx_bytes"]),
    ("disk", "device", " AND parent = ''", ["read_bytes", "write_bytes"]),
    ("pressure", "resource", " AND kind = 'some'", ["total_us", "avg10_ratio"]),
];

/// The value of a chart, and which it is in [`charts`].
pub(super) fn metric_of(part: &str, label: &str, which: usize) -> Option<Metric> {
    let (table, .., columns) = CHARTS.iter().find(|(table, ..)| *table == part)?;
    let column = columns.get(which)?;
    let labels: &[(&'static str, &str)] = match part {
        "cpu" => &[("cpu", label)],
        "network" => &[("interface", label)],
        "disk" => &[("device", label)],
        "pressure" => &[("resource", label), ("kind", "some")],
        _ => &[],
    };
    Some(Metric::new(table, column, labels))
}

/// The values of one stretch of time: `part`, `label`, and means and greatest values in the order of [`FACTS`].
pub(super) fn facts(from_us: i64, to_us: i64, host: &Host, catalog: &Catalog) -> String {
    let part = |(part, label, columns): &(&str, &str, &[&str])| {
        let read: Vec<&str> = columns.iter().copied().filter(|column| catalog.has(part, column)).collect();
        let value = |at: usize, what: &str, name: &str| match columns.get(at).filter(|column| read.contains(column)) {
            // It grows: the newest is wanted.
            Some(&"uptime_us") => format!("uptime_us_max AS {name}{at}"),
            Some(_) if read.len() == 1 => format!("{what} AS {name}{at}"),
            Some(column) => format!("{column}_{what} AS {name}{at}"),
            None => format!("CAST(NULL AS DOUBLE) AS {name}{at}"),
        };
        let mut values: Vec<String> = (0..FACTS_MAX).map(|at| value(at, "mean", "mean")).collect();
        values.extend((0..2).map(|at| value(at, "max", "max")));
        format!(
            "SELECT '{part}' AS part, {label} AS label, {} FROM {} WHERE {}",
            values.join(", "),
            downsample(part, &read.join(", "), from_us, to_us, 1),
            host.condition(),
        )
    };
    known_facts(catalog).map(part).collect::<Vec<_>>().join("\nUNION ALL ")
}

/// The values of [`facts`] from rows, which is quicker where there are some: of a stretch of time, or of the last second.
///
/// Of the last second, the text is the same each time, so the daemon knows the columns of its answer already.
pub(super) fn facts_of_rows(stretch: Option<(i64, i64)>, host: &Host, catalog: &Catalog) -> String {
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
            match columns.get(at).filter(|column| catalog.has(part, column)) {
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
    known_facts(catalog).map(part).collect::<Vec<_>>().join("\nUNION ALL ")
}

/// The parts of [`FACTS`] of which the daemon has a column.
fn known_facts(
    catalog: &Catalog,
) -> impl Iterator<Item = &'static (&'static str, &'static str, &'static [&'static str])> {
    FACTS.iter().filter(|(part, _, columns)| columns.iter().any(|column| catalog.has(part, column)))
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
pub(super) fn processes(stretch: Option<(i64, i64)>, host: &Host, catalog: &Catalog) -> String {
    const COLUMNS: &[&str] = &[
        "pid",
        "start_us",
        "cpu_ratio",
        "cpu_user_us",
        "cpu_system_us",
        "rss_bytes",
        "threads",
        "open_files",
        "major_faults",
        "read_bytes",
        "write_bytes",
    ];
    let times = match stretch {
        Some((from_us, to_us)) => between(from_us, to_us),
        None => format!("time >= now() - interval '{} seconds'", RECENT_US / SECOND_US),
    };
    format!(
        "SELECT time, command, {} FROM process WHERE {times} AND {} ORDER BY time",
        selected("process", COLUMNS, catalog),
        host.condition()
    )
}

/// Rows of control groups: those of the first tick at or after a time, and those of the tick before it.
pub(super) fn cgroups(at_us: i64, host: &Host, catalog: &Catalog) -> String {
    const COLUMNS: &[&str] = &[
        "usage_us",
        "periods",
        "throttled_periods",
        "memory_bytes",
        "memory_max_bytes",
        "cpu_some_us",
        "memory_some_us",
        "io_some_us",
        "read_bytes",
        "write_bytes",
        "tasks",
    ];
    format!(
        "SELECT time, cgroup, {} FROM cgroup WHERE {} AND {} ORDER BY time",
        selected("cgroup", COLUMNS, catalog),
        between(at_us - 3 * SECOND_US, at_us + 2 * SECOND_US),
        host.condition()
    )
}

/// Columns, of which those that the daemon lacks are null.
fn selected(table: &str, columns: &[&str], catalog: &Catalog) -> String {
    let column = |column: &&str| {
        if catalog.has(table, column) { (*column).to_owned() } else { format!("CAST(NULL AS BIGINT) AS {column}") }
    };
    columns.iter().map(column).collect::<Vec<_>>().join(", ")
}

/// What happened up to the end of a window: the newest alerts, and what was missed in each cell. Stretches in which nothing was
/// recorded at all count where they reach into the window.
pub(super) fn events(window: &Window, host: &Host, catalog: &Catalog) -> String {
    let (from, to) = (time(window.from_us), time(window.to_us()));
    let mut parts = Vec::new();
    if catalog.has_table("alert") {
        parts.push(format!(
            "(SELECT 'alert' AS part, time, rule AS name, labels, state, value, since_us FROM alert
            WHERE time < {to} AND {} ORDER BY time DESC LIMIT {EVENTS_MAX})",
            host.condition(),
        ));
    }
    if catalog.has_table("gap") {
        parts.push(format!(
            "SELECT 'gap' AS part, min(time) AS time, collector AS name, CAST(max(to_us) AS VARCHAR) AS labels, reason AS state,
                CAST(sum(lost) AS DOUBLE) AS value, min(from_us) AS since_us FROM gap
            WHERE time >= {from} AND (time < {to} OR reason IN ('suspended', 'killed') AND from_us < {}) AND {}
            GROUP BY collector, reason, date_bin(interval '{} microseconds', time, {from})",
            window.to_us(),
            host.condition(),
            window.width_us,
        ));
    }
    parts.push(losses(window, host));
    parts.join("\n UNION ALL ")
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
        "SELECT 'loss' AS part, max(time) AS time, collector AS name, CAST({dropped} AS VARCHAR) AS labels, '' AS state,
                CAST({missed} AS DOUBLE) AS value, CAST({due} AS BIGINT) AS since_us
            FROM {table} WHERE {} AND {} GROUP BY collector",
        between(window.from_us.min(window.to_us() - 5 * SECOND_US), window.to_us()),
        host.condition()
    )
}

pub(super) fn downsample(table: &str, columns: &str, from_us: i64, to_us: i64, buckets: usize) -> String {
    format!("downsample('{table}', '{columns}', '{}', '{}', {buckets})", text(from_us), text(to_us))
}

pub(super) fn between(from_us: i64, to_us: i64) -> String {
    format!("time >= {} AND time < {}", time(from_us), time(to_us))
}

pub(super) fn time(us: i64) -> String {
    format!("TIMESTAMPTZ '{}'", text(us))
}

fn text(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::window::MINUTE_US;

    #[test]
    fn what_an_older_daemon_lacks_is_not_asked_for() {
        let older = Catalog::without(&[("network", "tx_bytes"), ("process", "open_files")], &["pressure", "cgroup"]);
        let (window, host) = (Window::ending_at(MINUTE_US, MINUTE_US, 36), Host::new("h"));
        let text = charts(&window, &host, false, &older);
        assert!(text.contains("max AS a_max, mean AS a_mean, CAST(NULL AS DOUBLE) AS b_min"), "{text}");
        assert!(!text.contains("tx_bytes") && !text.contains("'pressure'"), "{text}");
        for text in [facts(0, 1, &host, &older), facts_of_rows(None, &host, &older)] {
            assert!(!text.contains("tx_bytes") && !text.contains("pressure") && text.contains("rx_bytes"), "{text}");
        }
        assert!(processes(None, &host, &older).contains("CAST(NULL AS BIGINT) AS open_files"));
    }
}
