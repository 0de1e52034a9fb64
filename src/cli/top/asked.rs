//! What the view asks of single metrics, as SQL.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::Catalog;
use super::metric::Metric;
use super::statement::{Host, between, downsample, time};
use super::window::Window;

/// The cells of metrics of one table that are told apart by the same labels.
pub(super) struct Asked {
    pub(super) table: &'static str,
    pub(super) labels: Vec<&'static str>,
    pub(super) columns: Vec<&'static str>,
    /// Which rows are of one of them.
    pub(super) condition: String,
    pub(super) sql: String,
}

/// A table, and the labels that tell series apart.
type Group = (&'static str, Vec<&'static str>);
/// Columns, and conditions of which one holds.
type Wants = (BTreeSet<&'static str>, BTreeSet<String>);

/// The statements for the cells of metrics. An answer has the labels, the time `cell` of each cell, and `min0`, `max0` and
/// `mean0` of the first column, and so on.
pub(super) fn metrics(wanted: &[Metric], window: &Window, host: &Host, catalog: &Catalog) -> Vec<Asked> {
    let mut groups: BTreeMap<Group, Wants> = BTreeMap::new();
    for metric in wanted.iter().filter(|metric| catalog.has(metric.table, metric.column)) {
        let labels: Vec<&'static str> = metric.labels.iter().map(|(name, _)| *name).collect();
        let (columns, conditions) = groups.entry((metric.table, labels)).or_default();
        columns.insert(metric.column);
        conditions.insert(condition(metric));
    }
    let asked = |((table, labels), (columns, conditions)): (Group, Wants)| {
        let columns: Vec<&'static str> = columns.into_iter().collect();
        let value = |(at, column): (usize, &&str)| {
            let before = if columns.len() == 1 { String::new() } else { format!("{column}_") };
            format!("min({before}min) AS min{at}, max({before}max) AS max{at}, avg({before}mean) AS mean{at}")
        };
        let names = labels.iter().flat_map(|label| [*label, ", "]).collect::<String>();
        let condition = conditions.into_iter().collect::<Vec<_>>().join(" OR ");
        let places: Vec<String> = (1..=labels.len() + 1).map(|at| at.to_string()).collect();
        let sql = format!(
            "SELECT {names}date_bin(interval '{} microseconds', time, {begin}) AS cell, {}
                FROM {} WHERE {} AND time >= {begin} AND ({}) GROUP BY {}",
            window.width_us,
            columns.iter().enumerate().map(value).collect::<Vec<_>>().join(", "),
            downsample(table, &columns.join(", "), window.from_us, window.to_us(), window.cells),
            host.condition(),
            condition,
            places.join(", "),
            begin = time(window.from_us),
        );
        Asked { table, labels, columns, condition, sql }
    };
    groups.into_iter().map(asked).collect()
}

/// Which rows are of a metric.
fn condition(metric: &Metric) -> String {
    if metric.labels.is_empty() {
        return "true".to_owned();
    }
    let is = |(name, value): &(&str, String)| format!("{name} = '{}'", value.replace('\'', "''"));
    format!("({})", metric.labels.iter().map(is).collect::<Vec<_>>().join(" AND "))
}

/// The series of a metric over a window: their labels, those with the greatest values first.
pub(super) fn series(metric: &Metric, labels: &[&str], window: &Window, host: &Host) -> String {
    let names = labels.join(", ");
    format!(
        "SELECT {names} FROM {} WHERE {} AND {} AND {} GROUP BY {names} ORDER BY max(max) DESC NULLS LAST LIMIT {SERIES_MAX}",
        downsample(metric.table, metric.column, window.from_us, window.to_us(), 1),
        host.condition(),
        between(window.from_us, window.to_us()),
        condition(metric),
    )
}

/// The most series of a metric that are listed.
const SERIES_MAX: usize = 100;

/// A value of a series in a stretch of time, whose greatest is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seek {
    pub(super) metric: Metric,
    pub(super) from_us: i64,
    pub(super) to_us: i64,
}

/// When the value was greatest: the `time` of a bucket, or of the row if there is one a bucket.
pub(super) fn peak(seek: &Seek, host: &Host) -> String {
    format!(
        "SELECT time FROM {} WHERE {} AND {} AND time >= {} ORDER BY max DESC, time LIMIT 1",
        downsample(seek.metric.table, seek.metric.column, seek.from_us, seek.to_us, SEEK_BUCKETS),
        condition(&seek.metric),
        host.condition(),
        time(seek.from_us),
    )
}

/// Buckets in which a peak is looked for at a time.
pub(super) const SEEK_BUCKETS: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::window::MINUTE_US;

    #[test]
    fn a_column_that_an_older_daemon_lacks_is_not_asked_for() {
        let (window, host) = (Window::ending_at(MINUTE_US, MINUTE_US, 36), Host::new("h"));
        let older = Catalog::without(&[("network", "tx_bytes")], &[]);
        let wanted = [Metric::whole("network", "tx_bytes"), Metric::whole("network", "rx_bytes")];
        let asked = metrics(&wanted, &window, &host, &older);
        assert_eq!((asked.len(), asked[0].columns.as_slice()), (1, &["rx_bytes"][..]));
    }

    #[test]
    fn metrics_of_a_table_with_the_same_labels_are_one_statement() {
        let (window, host) = (Window::ending_at(MINUTE_US, MINUTE_US, 36), Host::new("h"));
        let core = |number: &str, column| Metric::new("cpu", column, &[("cpu", number)]);
        let wanted = [core("0", "utilization"), core("1", "user_us"), Metric::whole("vm", "page_faults")];
        let asked = metrics(&wanted, &window, &host, &Catalog::default());
        assert_eq!(asked.iter().map(|asked| asked.table).collect::<Vec<_>>(), ["cpu", "vm"]);
        assert!(asked[0].sql.contains("(cpu = '0') OR (cpu = '1')") && asked[0].sql.ends_with("GROUP BY 1, 2"));
        assert!(asked[1].sql.contains("min(min) AS min0") && asked[1].sql.ends_with("GROUP BY 1"));
    }
}
