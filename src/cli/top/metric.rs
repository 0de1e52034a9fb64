//! What a chart can be of: a column of a table, of all series together or of those with some labels.

use super::units::{bits_per_second, bytes, bytes_per_second, count, duration, percent};
use crate::family::FamilyId;
use crate::record::{Column, Kind, Table, Type, Unit};

/// A column, and which series of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Metric {
    pub(super) table: &'static str,
    pub(super) column: &'static str,
    /// Labels with their values. Series with other values are left out; those that are left are shown together.
    pub(super) labels: Vec<(&'static str, String)>,
}

/// Rates of bytes are at least scaled to this.
const BYTES_TOP_MIN: f64 = 1e6;
/// Shares without a natural end are at least scaled to this.
const SHARE_TOP_MIN: f64 = 0.1;
/// Columns of other tables that count the time of processors.
const CPU_TIMES: &[&str] = &["usage_us", "user_us", "system_us", "cpu_us", "cpu_user_us", "cpu_system_us"];
/// Shares that reach one.
const WHOLES: &[(&str, &str)] = &[("cpu", "utilization"), ("filesystem", "used_ratio")];

impl Metric {
    pub(super) fn new(table: &'static str, column: &'static str, labels: &[(&'static str, &str)]) -> Metric {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Metric { table, column, labels }
    }

    /// The series that a table is about as a whole: the sum of all processors, whole disks, and waiting of some tasks.
    pub(super) fn whole(table: &'static str, column: &'static str) -> Metric {
        let labels: &[(&str, &str)] = match table {
            "cpu" => &[("cpu", "total")],
            "disk" => &[("kind", "disk")],
            "pressure" => &[("kind", "some")],
            _ => &[],
        };
        Metric::new(table, column, labels)
    }

    /// The table as it is declared.
    pub(super) fn family(&self) -> Option<&'static Table> {
        Some(FamilyId::find(self.table)?.table)
    }

    /// The column as it is declared.
    pub(super) fn declared(&self) -> Option<&'static Column> {
        Some(self.family()?.column(self.column)?.1)
    }

    fn unit(&self) -> (Unit, Kind) {
        self.declared().map_or((Unit::None, Kind::Gauge), |column| (column.unit, column.kind))
    }

    /// Whether its values are rates of the stretch before them.
    pub(super) fn is_rate(&self) -> bool {
        self.unit().1 == Kind::Counter
    }

    /// What its values can be compared with on one scale.
    pub(super) fn scale(&self) -> (&'static str, bool) {
        let (unit, kind) = self.unit();
        (unit.symbol(), kind == Kind::Counter)
    }

    /// A value as people read it.
    pub(super) fn told(&self, value: f64, has_bits: bool) -> String {
        match self.unit() {
            (Unit::Micros, Kind::Counter) if self.is_cpu_time() => format!("{:.2} CPUs", value / 1e6),
            (Unit::Bytes, Kind::Counter) if has_bits && self.table == "network" => bits_per_second(value),
            (Unit::Bytes, Kind::Counter) => bytes_per_second(value),
            (Unit::Bytes, _) => bytes(value),
            // So many microseconds in a second: a share, unless several things took time at once.
            (Unit::Micros, Kind::Counter) if value < 1.005e6 => percent(value / 1e6),
            (Unit::Micros, Kind::Counter) => format!("{} s/s", count(value / 1e6)),
            (Unit::Micros, _) => duration(value),
            (Unit::Ratio, _) => percent(value),
            (Unit::Celsius, _) => format!("{value:.1} C"),
            (Unit::Microjoules, Kind::Counter) => format!("{} W", count(value / 1e6)),
            (_, Kind::Counter) => format!("{}/s", count(value)),
            _ => count(value),
        }
    }

    /// Whether it counts the time of processors.
    fn is_cpu_time(&self) -> bool {
        self.table == "cpu" || CPU_TIMES.contains(&self.column)
    }

    /// The value at the top of a chart whose greatest value is `peak`.
    pub(super) fn top(&self, peak: f64) -> f64 {
        match self.unit() {
            _ if WHOLES.contains(&(self.table, self.column)) => 1.0,
            (Unit::Bytes, Kind::Counter) => peak.max(BYTES_TOP_MIN),
            (Unit::Micros, Kind::Counter) => peak.max(SHARE_TOP_MIN * 1e6),
            (Unit::Ratio, _) => peak.max(SHARE_TOP_MIN),
            _ => peak,
        }
    }

    /// A name that tells it apart from all others, such as `network.rx_bytes eth0`.
    pub(super) fn name(&self) -> String {
        let labels: Vec<&str> = self.labels.iter().map(|(_, value)| value.as_str()).collect();
        format!("{}.{} {}", self.table, self.column, labels.join(" ")).trim_end().to_owned()
    }

    /// A short name, of at most so many characters: what is last in it tells most.
    pub(super) fn short(&self, length: usize) -> String {
        let column = self.column.trim_end_matches("_bytes").trim_end_matches("_us").trim_end_matches("_ratio");
        let of = self.labels.iter().map(|(_, value)| value.as_str()).find(|value| *value != "disk" && *value != "some");
        let whole = format!("{} {}", column.replace('_', " "), of.unwrap_or(self.table));
        whole.trim_end().chars().take(length).collect()
    }

    /// What is shown in a view of everything: no names of things and no numbers that stand for them.
    pub(super) fn is_shown(column: &Column) -> bool {
        column.nullable() && column.ty != Type::Text && column.role == crate::record::Role::Figure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_by_their_unit() {
        let told = |table, column, value| Metric::new(table, column, &[]).told(value, false);
        assert_eq!(told("network", "rx_bytes", 8e6), "8.00 MB/s");
        assert_eq!(Metric::new("network", "rx_bytes", &[]).told(8e6, true), "64.0 Mbit/s");
        assert_eq!(Metric::new("disk", "read_bytes", &[]).told(8e6, true), "8.00 MB/s");
        assert_eq!(told("memory", "used_bytes", 1_073_741_824.0), "1.00 GiB");
        assert_eq!(told("disk", "busy_us", 250_000.0), "25 %");
        assert_eq!(
            [("disk", "read_us"), ("cpu", "user_us")].map(|(table, column)| told(table, column, 6.4e6)),
            ["6.40 s/s", "6.40 CPUs"]
        );
        assert_eq!(told("collector", "lateness_p99_us", 310.0), "310 us");
        assert_eq!(told("cpu", "utilization", 0.5), "50 %");
        assert_eq!(told("host", "forks", 11.0), "11.0/s");
        assert_eq!(told("power", "energy_uj", 83e6), "83.0 W");
        assert_eq!(told("sensor", "temperature_celsius", 61.0), "61.0 C");
    }

    #[test]
    fn names_tell_metrics_apart() {
        let metric = Metric::new("network", "rx_bytes", &[("interface", "eth0")]);
        assert_eq!((metric.name().as_str(), metric.short(11).as_str()), ("network.rx_bytes eth0", "rx eth0"));
        assert_eq!(Metric::whole("disk", "busy_us").short(11), "busy disk");
        assert_eq!(Metric::whole("tcp", "established").short(11), "established");
        assert!(metric.is_rate() && !Metric::whole("memory", "used_bytes").is_rate());
    }
}
