//! The newest values in the text formats that Prometheus reads: 0.0.4, and OpenMetrics 1.0.
//!
//! Every column that is exported over OTLP is a metric of its own: `rx_bytes` of the table `network` is
//! `kymo_network_receive_bytes_total`. Its labels are the table's. Names have base units, as the conventions ask: seconds,
//! bytes, joules, and ratios from 0 to 1 (<https://prometheus.io/docs/practices/naming/>,
//! <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>).

use std::fmt::{self, Write};
use std::sync::LazyLock;

use arrow::array::{ArrayRef, RecordBatch};

use super::newest::{self, INTEGER_ATTRIBUTE};
use crate::family::FamilyId;
use crate::latest::LatestRows;
use crate::record::{Column, Kind, Table, Unit};
use crate::words::one_line;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, version 0.0.4.
    Text,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The one that a client accepts, by its `Accept` header: OpenMetrics if it names that.
    #[must_use]
    pub fn accepted(accept: &str) -> Format {
        let names_it = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"));
            is_named && parts.all(|parameter| !matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        };
        if accept.split(',').any(names_it) { Format::OpenMetrics } else { Format::Text }
    }

    /// Its media type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Every metric, in the order of the families and their columns.
static METRICS: LazyLock<Vec<Metric>> = LazyLock::new(|| metrics(FamilyId::all().map(|family| (family, family.table))));

/// One column of a table, as Prometheus knows it.
#[derive(Debug)]
struct Metric {
    family: FamilyId,
    table: &'static Table,
    column: usize,
    /// Without the `_total` of counters.
    name: String,
    /// The last word of the name, if it is a unit.
    unit: Option<&'static str>,
    doc: &'static str,
    is_counter: bool,
    /// How many of the column's unit are one of the metric's. Division gives the nearest float.
    divisor: f64,
}

fn metrics(tables: impl Iterator<Item = (FamilyId, &'static Table)>) -> Vec<Metric> {
    let of_table = |(family, table): (FamilyId, &'static Table)| {
        let exported = table.values().filter(|(_, column)| column.otel.is_some());
        exported.map(move |(position, column)| {
            let (name, unit) = name(table, column);
            let divisor = column.unit.ucum().1.recip();
            let is_counter = column.kind == Kind::Counter;
            Metric { family, table, column: position, name, unit, doc: column.doc, is_counter, divisor }
        })
    };
    tables.flat_map(of_table).collect()
}

/// A column's name in base units, without the `_total` of counters, and the unit at its end.
fn name(table: &Table, column: &Column) -> (String, Option<&'static str>) {
    let (own, base) = match column.unit {
        Unit::Bytes => ("_bytes", Some("bytes")),
        Unit::Micros => ("_us", Some("seconds")),
        Unit::Ratio => ("_ratio", Some("ratio")),
        Unit::Celsius => ("_celsius", Some("celsius")),
        Unit::Microjoules => ("_uj", Some("joules")),
        Unit::None | Unit::Number | Unit::Count(_) | Unit::PerSecond(_) => ("", None),
    };
    let bare = column.name.strip_suffix(own).unwrap_or(column.name);
    // A counter ends in `_total` anyway.
    let is_said = |word: &&str| column.kind != Kind::Counter || *word != "total";
    let spelled = bare.split('_').filter(is_said).map(|word| match word {
        "rx" => "receive",
        "tx" => "transmit",
        word => word,
    });
    // `kymo_cpu_seconds` would look like the host's.
    let table = if table.name == "kymo" { "recorder" } else { table.name };
    let words: Vec<&str> = ["kymo", table].into_iter().chain(spelled).chain(base).collect();
    (words.join("_"), base)
}

/// All metrics in `format`. `now` is µs since the epoch. Absent values and series without a row for five minutes are left out,
/// and so are rows that sum up others, such as the `total` of all CPUs.
#[must_use]
pub fn write(latest: &LatestRows, now: i64, format: Format) -> String {
    let mut page = Page { format, text: String::new() };
    let version = env!("CARGO_PKG_VERSION");
    page.heading("kymo_build_info", None, "kymo's version, as a label; the value is always 1.", false);
    page.sample("kymo_build_info", false, &[("version", version)], 1.0);
    for of_family in METRICS.chunk_by(|left, right| left.family == right.family) {
        let Some(batch) = of_family.first().and_then(|metric| latest.merged(metric.family)) else { continue };
        of_family.iter().for_each(|metric| metric.write(&batch, now, &mut page));
    }
    page.end()
}

impl Metric {
    fn write(&self, batch: &RecordBatch, now: i64, page: &mut Page) {
        let values = batch.column(self.column);
        let mut has_heading = false;
        for row in newest::rows(self.table, batch, now).into_iter().rev() {
            let Some(value) = newest::number(values, row) else { continue };
            let Some(labels) = self.labels(batch, row) else { continue };
            if !has_heading {
                page.heading(&self.name, self.unit, self.doc, self.is_counter);
                has_heading = true;
            }
            page.sample(&self.name, self.is_counter, &labels, value / self.divisor);
        }
    }

    /// The labels of a row; `None` for one that sums up others.
    fn labels<'a>(&self, batch: &'a RecordBatch, row: usize) -> Option<Vec<(&'static str, &'a str)>> {
        let mut labels = Vec::new();
        for (position, column) in self.table.labels() {
            let column_of_batch: &ArrayRef = batch.column(position);
            let text = newest::text(column_of_batch, row).unwrap_or_default();
            if column.attribute == Some(INTEGER_ATTRIBUTE) && text.parse::<u32>().is_err() {
                return None;
            }
            labels.push((column.name, text));
        }
        Some(labels)
    }
}

/// What is written so far.
struct Page {
    format: Format,
    text: String,
}

impl Page {
    fn heading(&mut self, name: &str, unit: Option<&str>, doc: &str, is_counter: bool) {
        let kind = if is_counter { "counter" } else { "gauge" };
        let (total, is_open) = match self.format {
            Format::Text => (suffix(is_counter), false),
            // Here a name is a family's, and only samples end in `_total`.
            Format::OpenMetrics => ("", true),
        };
        let doc = Escaped { text: &one_line(doc), quotes: is_open };
        self.line(format_args!("# HELP {name}{total} {doc}"));
        self.line(format_args!("# TYPE {name}{total} {kind}"));
        if let Some(unit) = unit.filter(|_| is_open) {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
    }

    fn sample(&mut self, name: &str, is_counter: bool, labels: &[(&str, &str)], value: f64) {
        // An empty label is the same as none.
        let given = labels.iter().filter(|(_, text)| !text.is_empty());
        let given: Vec<String> =
            given.map(|(label, text)| format!("{label}=\"{}\"", Escaped { text, quotes: true })).collect();
        let (total, value) = (suffix(is_counter), Number(value));
        match given.as_slice() {
            [] => self.line(format_args!("{name}{total} {value}")),
            given => self.line(format_args!("{name}{total}{{{}}} {value}", given.join(","))),
        }
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

fn suffix(is_counter: bool) -> &'static str {
    if is_counter { "_total" } else { "" }
}

/// A text with what the formats escape.
struct Escaped<'a> {
    text: &'a str,
    /// Whether quotes are escaped, too.
    quotes: bool,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.chars().try_for_each(|char| match char {
            '\\' => formatter.write_str("\\\\"),
            '\n' => formatter.write_str("\\n"),
            '"' if self.quotes => formatter.write_str("\\\""),
            char => formatter.write_char(char),
        })
    }
}

/// A value as both formats write it.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_nan() => formatter.write_str("NaN"),
            value if value.is_infinite() => formatter.write_str(if value > 0.0 { "+Inf" } else { "-Inf" }),
            value => write!(formatter, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::newest::AGE_MAX_US;
    use super::*;
    use crate::batch::to_batch;
    use crate::family::cpu::Cpu;
    use crate::family::kymo::Kymo;
    use crate::family::network::Network;
    use crate::record::Record;
    use crate::record::label::Labels;

    fn latest() -> LatestRows {
        let (latest, labels) = (LatestRows::default(), Labels::default());
        let source = latest.new_source();
        let (odd, gone) = (labels.intern("a\"b\\c\nd"), labels.intern("gone"));
        let network = [
            Network { interface: odd, rx_bytes: 1, ..Network::absent(0) },
            Network { interface: gone, rx_bytes: 5, ..Network::absent(-AGE_MAX_US - 1) },
            Network { interface: odd, rx_bytes: 9_007_199_254_740_991, ..Network::absent(1) },
        ];
        latest.put(source, FamilyId::of::<Network>(), to_batch(&[&network], &labels, &Network::TABLE.schema()));
        let cpu = [
            Cpu { cpu: labels.intern("total"), user_us: 3_500_000, ..Cpu::absent(0) },
            Cpu { cpu: labels.intern("0"), user_us: 1_500_000, utilization: 0.25, ..Cpu::absent(0) },
        ];
        latest.put(source, FamilyId::of::<Cpu>(), to_batch(&[&cpu], &labels, &Cpu::TABLE.schema()));
        let kymo = [Kymo { rss_bytes: 1 << 20, ..Kymo::absent(0) }];
        latest.put(source, FamilyId::of::<Kymo>(), to_batch(&[&kymo], &labels, &Kymo::TABLE.schema()));
        latest
    }

    #[test]
    fn the_newest_values_are_written_in_base_units() {
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            r#"# HELP kymo_build_info kymo's version, as a label; the value is always 1.
# TYPE kymo_build_info gauge
kymo_build_info{{version="{version}"}} 1
# HELP kymo_cpu_user_seconds_total {user}
# TYPE kymo_cpu_user_seconds_total counter
kymo_cpu_user_seconds_total{{cpu="0"}} 1.5
# HELP kymo_cpu_utilization_ratio {share}
# TYPE kymo_cpu_utilization_ratio gauge
kymo_cpu_utilization_ratio{{cpu="0"}} 0.25
# HELP kymo_network_receive_bytes_total Bytes received.
# TYPE kymo_network_receive_bytes_total counter
kymo_network_receive_bytes_total{{interface="a\"b\\c\nd"}} 9007199254740991
# HELP kymo_recorder_rss_bytes {rss}
# TYPE kymo_recorder_rss_bytes gauge
kymo_recorder_rss_bytes 1048576
"#,
            user = doc(Cpu::TABLE, "user_us"),
            share = doc(Cpu::TABLE, "utilization"),
            rss = doc(Kymo::TABLE, "rss_bytes"),
        );
        assert_eq!(write(&latest(), 1, Format::Text), expected);
    }

    fn doc(table: &Table, column: &str) -> String {
        let doc = table.columns.iter().find(|one| one.name == column).unwrap().doc;
        doc.replace("\n", "")
    }

    #[test]
    fn openmetrics_names_the_family_and_its_unit_and_has_an_end() {
        let text = write(&latest(), 1, Format::OpenMetrics);
        let network = "# HELP kymo_network_receive_bytes Bytes received.\n# TYPE kymo_network_receive_bytes counter\n\
                       # UNIT kymo_network_receive_bytes bytes\nkymo_network_receive_bytes_total{interface=";
        assert!(text.contains(network), "{text}");
        assert!(text.ends_with("\nkymo_recorder_rss_bytes 1048576\n# EOF\n"), "{text}");
    }

    #[test]
    fn every_metric_has_a_name_of_its_own_that_ends_in_its_unit() {
        let mut names = BTreeSet::new();
        for metric in METRICS.iter() {
            let place = format!("{}.{}", metric.table.name, metric.table.columns[metric.column].name);
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(metric.name.chars().all(allowed) && metric.name.starts_with("kymo_"), "{place}: {}", metric.name);
            assert!(!metric.name.contains("__") && !metric.name.ends_with("_total"), "{place}: {}", metric.name);
            assert!(metric.unit.is_none_or(|unit| metric.name.ends_with(unit)), "{place}: {}", metric.name);
            assert!(!metric.name.ends_with("_us") && !metric.name.ends_with("_uj"), "{place}: {}", metric.name);
            assert!(names.insert(metric.name.as_str()), "{place}: {} is taken", metric.name);
        }
        assert!(names.len() > 100, "{names:?}");
    }

    #[test]
    fn openmetrics_is_written_for_those_who_ask_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        for other in ["", "*/*", "text/plain;version=0.0.4", "application/openmetrics-text;q=0, */*"] {
            assert_eq!(Format::accepted(other), Format::Text, "{other}");
        }
    }
}
