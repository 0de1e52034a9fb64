//! What is compared of a table, and how small a difference is not worth a word.

use crate::family::FamilyId;
use crate::record::{Column, Kind, Role, Unit};

/// Columns that say nothing about a load: means over times before the recording, the time since the host's start, limits, and what is
/// the complement of another one.
const LEFT_OUT: &[(&str, &[&str])] = &[
    ("cpu", &["idle_us", "guest_us", "guest_nice_us"]),
    ("memory", &["free_bytes", "available_bytes", "active_bytes", "inactive_bytes", "swap_free_bytes"]),
    ("filesystem", &["free_bytes", "free_inodes", "used_ratio"]),
    ("host", &["load1", "load5", "load15", "uptime_us", "max_open_files", "max_conntrack_entries"]),
    ("pressure", &["avg10_ratio", "avg60_ratio", "avg300_ratio"]),
    ("process", &["cpu_ratio"]),
    ("process_state", &["idle"]),
];
/// Gauges of what happens at a moment. All others are stocks, which a host had before the recording.
const MOMENTARY: &[&str] = &["utilization", "in_flight", "running", "blocked", "uninterruptible", "backlog"];
/// Parts of names of what should not happen, so that few are many.
const FAULTS: &[&str] = &[
    "error", "drop", "fail", "discard", "retrans", "overflow", "oom", "abort", "stall", "reset", "timeout", "squeezed",
];

/// How a table counts among others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weight {
    /// Its place among equal changes of other tables: what is a consequence of others comes after these.
    pub(super) rank: f64,
    /// The part of a level by which two equal recordings differ, whatever the noise within each: a load is never quite the same.
    pub(super) floor: f64,
    /// A smaller part of a level is not told.
    pub(super) part_min: f64,
}

/// How a table counts.
pub(super) fn weight(family: FamilyId) -> Weight {
    let (rank, floor, part_min) = match family.name() {
        "cpu" | "disk" | "memory" | "network" | "process" => (1.0, 0.015, 0.05),
        "cgroup" | "filesystem" | "pressure" => (0.7, 0.02, 0.05),
        "interrupt" | "softirq" | "softnet" => (0.2, 0.05, 0.25),
        _ => (0.4, 0.04, 0.15),
    };
    Weight { rank, floor, part_min }
}

/// The tables that are compared: those of a host, and not those that kymo writes about itself.
pub(super) fn families() -> impl Iterator<Item = FamilyId> {
    FamilyId::all().filter(|family| family.sampling().is_some())
}

/// The columns of a table that are compared.
pub(super) fn columns(family: FamilyId) -> Vec<&'static Column> {
    let left_out = LEFT_OUT.iter().find(|(table, _)| *table == family.name()).map_or(&[][..], |(_, columns)| columns);
    let values = family.table.values().map(|(_, column)| column);
    values.filter(|column| column.role == Role::Figure && !left_out.contains(&column.name)).collect()
}

/// Whether a column is a stock: its level is that of a host before the recording, and what the load did is by how much it changed.
pub(super) fn is_stock(column: &Column) -> bool {
    column.kind == Kind::Gauge && !MOMENTARY.contains(&column.name)
}

/// A smaller difference of two levels is not told: of a counter's rate, or of a gauge.
pub(super) fn apart_min(column: &Column) -> f64 {
    let is_fault = FAULTS.iter().any(|part| column.name.contains(part));
    match (column.kind, column.unit) {
        (Kind::Counter, Unit::Bytes) => 32e3,
        // A hundredth of a CPU, or of the time.
        (Kind::Counter, Unit::Micros) => 1e4,
        (Kind::Counter, Unit::Microjoules) => 1e6,
        (Kind::Counter, _) => {
            if is_fault {
                1.0
            } else {
                20.0
            }
        }
        (_, Unit::Bytes) => 8e6,
        (_, Unit::Ratio) => 0.01,
        (_, Unit::Micros) => 1e3,
        (_, Unit::Celsius) => 3.0,
        (_, Unit::Number) => 0.5,
        _ => 2.0,
    }
}
