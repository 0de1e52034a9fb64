//! The tables for those that draw them: in groups that a person would choose, with the columns as they are declared.

use serde_json::{Value, json};

use crate::collector::CollectorStatus;
use crate::family::FamilyId;
use crate::query::named::Named;
use crate::record::{Column, Kind, Type};
use crate::words::one_line;

/// Groups in the order of the page, with their tables. A family that none of them names is in the last one.
const GROUPS: [(&str, &[&str]); 7] = [
    ("Compute", &["cpu", "pressure", "host", "softirq", "interrupt"]),
    ("Memory", &["memory", "vm"]),
    ("Network", &["network", "tcp", "ip", "softnet"]),
    ("Storage", &["disk", "filesystem"]),
    ("Workloads", &["process", "process_state", "cgroup"]),
    ("Hardware", &["sensor", "power"]),
    ("kymo", &["kymo", "collector", "gap", "alert", "statement"]),
];

/// How a table is recorded.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// The collector that samples it.
    pub collector: Option<String>,
    /// How often it does, µs.
    pub interval_us: Option<i64>,
    /// Why there are no rows.
    pub unavailable: Option<String>,
}

/// Groups of tables. `collectors` tell how often each is sampled, and which of them this host lacks.
pub(super) fn told(collectors: &[CollectorStatus]) -> Value {
    groups(|family| {
        let own = collectors.iter().find(|collector| collector.settings.families.contains(&family));
        let lacking = collectors.iter().flat_map(|collector| &collector.health.unavailable);
        let lacking = lacking.into_iter().find(|one| one.family == family.name());
        let micros = |collector: &CollectorStatus| i64::try_from(collector.settings.interval.as_micros()).ok();
        Recorded {
            collector: own.map(|collector| collector.settings.name.clone()),
            interval_us: own.and_then(micros),
            unavailable: lacking.map(|one| one.reason.clone()),
        }
    })
}

/// Groups of tables, which are recorded as `of` says.
#[must_use]
pub fn groups(of: impl Fn(FamilyId) -> Recorded) -> Value {
    let named = |family: FamilyId| GROUPS.iter().any(|(_, names)| names.contains(&family.name()));
    let group = |(name, names): &(&str, &[&str])| {
        let listed = names.iter().filter_map(|name| FamilyId::find(name));
        let others = FamilyId::all().filter(|family| *name == "kymo" && !named(*family));
        let tables: Vec<Value> = listed.chain(others).map(|family| table(family, of(family))).collect();
        json!({ "name": name, "tables": tables })
    };
    json!({ "groups": GROUPS.iter().map(group).collect::<Vec<_>>() })
}

fn table(family: FamilyId, Recorded { collector, interval_us, unavailable }: Recorded) -> Value {
    json!({
        "name": family.name(),
        "doc": one_line(family.table.doc),
        "collector": collector,
        "interval_us": interval_us,
        "unavailable": unavailable,
        "tiers": Named::tiers(family).map(|tier| tier.table.name).collect::<Vec<_>>(),
        "columns": family.table.sql_columns().map(column).collect::<Vec<_>>(),
    })
}

fn column(column: &Column) -> Value {
    let kind = match column.kind {
        Kind::Time => "time",
        Kind::Label => "label",
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    let ty = match column.ty {
        Type::Timestamp => "timestamp",
        Type::Text => "text",
        Type::Int64 => "int64",
        Type::Float64 => "float64",
    };
    json!({ "name": column.name, "kind": kind, "type": ty, "unit": column.unit.symbol(), "doc": one_line(column.doc) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_in_one_group() {
        let told = told(&[]);
        let groups = told["groups"].as_array().unwrap();
        let mut names: Vec<&str> = groups
            .iter()
            .flat_map(|group| group["tables"].as_array().unwrap())
            .map(|table| table["name"].as_str().unwrap())
            .collect();
        assert_eq!(names.len(), FamilyId::all().len());
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FamilyId::all().len());
    }
}
