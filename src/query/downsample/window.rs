//! A window of time of some columns, and the tables that have some of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::Result;

use super::cover::{Part, Source, cover};
use crate::query::named::{Named, Which};
use crate::query::rows::{RowSource, Wanted};
use crate::record::tier::Tier;
use crate::record::{Column, TIME_ZONE};
use crate::store::stretch::Stretch;

/// A table counts as one that has rows of a window if it has some so long before it.
const NEAR_US: i64 = 120_000_000;
/// Of a folder of more hosts, a table that has rows of one counts as one that has those of all.
const HOSTS_MAX: usize = 16;

/// What rows are made of, in the order of their numbers.
pub(super) const TIERS: [&str; 3] = ["raw", "1s", "1m"];

/// The number of what a table has: 0 for rows, and greater for wider buckets.
pub(super) fn number(rows: Which) -> usize {
    match rows {
        Which::Tier(id) => id.tier().map_or(0, |tier: Tier| 1 + tier as usize),
        Which::All | Which::Last => 0,
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) table: Named,
    /// At least one.
    pub(super) columns: Vec<&'static Column>,
    pub(super) from_us: i64,
    /// The first time after it.
    pub(super) to_us: i64,
    pub(super) buckets: i64,
    /// The row before a window of one column is told, to draw from.
    pub(super) has_before: bool,
    /// Buckets that only tiers have are left out.
    pub(super) is_raw: bool,
    pub(super) needs: Needs,
}

/// Which figures of a window are told. Others are not read from tiers, where each is a column of its own.
#[expect(clippy::struct_excessive_bools, reason = "each figure is told or not, whatever else is")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    pub(super) low: bool,
    pub(super) high: bool,
    /// The first and the last value.
    pub(super) ends: bool,
    pub(super) missed: bool,
}

/// The parts of a window of hosts whose tables have the same of it.
#[derive(Debug, PartialEq)]
pub(super) struct Covered {
    /// `None` stands for all.
    pub(super) hosts: Option<Vec<Arc<str>>>,
    pub(super) parts: Vec<Part>,
}

impl Window {
    /// A window of which all is told.
    pub(super) fn new(table: Named, columns: Vec<&'static Column>, times: (i64, i64), buckets: i64) -> Window {
        let has_before = columns.len() == 1;
        let needs = Needs { low: true, high: true, ends: has_before, missed: true };
        Window { table, columns, from_us: times.0, to_us: times.1, buckets, has_before, is_raw: false, needs }
    }

    /// The same window, of whose rows these columns are told.
    pub(super) fn with_columns(&self, told: &[usize]) -> Window {
        let schema = self.schema();
        let has = |what: &str| {
            let is = |name: &str| name == what || name.strip_suffix(what).is_some_and(|before| before.ends_with('_'));
            told.iter().any(|at| is(schema.field(*at).name()))
        };
        // The row before the window is told by its last value.
        let ends = self.has_before || has("first") || has("last");
        let needs = Needs { low: has("min"), high: has("max"), ends, missed: has("missed") };
        Window { needs, ..self.clone() }
    }

    /// The columns of its rows.
    pub(super) fn schema(&self) -> SchemaRef {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some(TIME_ZONE.into()));
        let field = |name: &str, ty: DataType| Field::new(name, ty, true);
        let table = self.table.table;
        let labels = table.labels().map(|(_, column)| field(column.name, DataType::Utf8));
        let identities = table.identities().map(|(_, column)| field(column.name, DataType::Int64));
        let times = [Column::TIME.name, "end_time"].map(|name| field(name, time.clone()));
        let mut fields: Vec<Field> = labels.chain(identities).chain(times).collect();
        if let [_] = self.columns[..] {
            fields.extend(["min", "max", "mean", "first", "last"].map(|name| field(name, DataType::Float64)));
            fields.push(field("count", DataType::Int64));
        } else {
            for Column { name, .. } in &self.columns {
                fields.extend(["min", "max", "mean"].map(|what| field(&format!("{name}_{what}"), DataType::Float64)));
                fields.push(field(&format!("{name}_count"), DataType::Int64));
            }
        }
        let rest = [("missed", DataType::Int64), ("tier", DataType::Utf8), (Column::HOST.name, DataType::Utf8)];
        fields.extend(rest.map(|(name, ty)| field(name, ty)));
        Arc::new(Schema::new(fields))
    }

    /// The columns by which series are told apart, but for the host.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static Column> {
        let table = self.table.table;
        table.labels().chain(table.identities()).map(|(_, column)| column)
    }

    /// The parts that it is made of. What a host has depends on no other one.
    pub(super) async fn covered(&self, rows: &dyn RowSource) -> Result<Vec<Covered>> {
        let mut sources: BTreeMap<Arc<str>, Vec<Source>> = BTreeMap::new();
        for table in Named::all().filter(|named| named.family == self.table.family) {
            let width_us = match table.rows {
                Which::All => 1,
                Which::Tier(id) => id.tier().map_or(1, Tier::width_us),
                Which::Last => continue,
            };
            let times = (self.from_us.saturating_sub(NEAR_US), self.to_us.saturating_sub(1));
            let found = rows.rows(Wanted { table, columns: Vec::new(), times, with_stretches: true }).await?;
            for Stretch { host, times: (first, last) } in found.stretches {
                let times = (first, last.saturating_add(width_us));
                sources.entry(host).or_default().push(Source { table, width_us, times });
            }
        }
        if sources.len() > HOSTS_MAX {
            return Ok(vec![Covered { hosts: None, parts: self.parts(joined(sources.into_values().flatten())) }]);
        }
        let mut covered: Vec<(Vec<Arc<str>>, Vec<Part>)> = Vec::new();
        for (host, sources) in sources {
            let parts = self.parts(sources);
            match covered.iter_mut().find(|(_, known)| *known == parts) {
                Some((hosts, _)) => hosts.push(host),
                None => covered.push((vec![host], parts)),
            }
        }
        let is_one = covered.len() == 1;
        let of_hosts =
            |(hosts, parts): (Vec<Arc<str>>, Vec<Part>)| Covered { hosts: (!is_one).then_some(hosts), parts };
        Ok(covered.into_iter().map(of_hosts).filter(|covered| !covered.parts.is_empty()).collect())
    }

    /// The parts that sources give. The first and the last reach to the ends of the window, where nothing else has rows.
    fn parts(&self, sources: Vec<Source>) -> Vec<Part> {
        let mut parts = cover(self.from_us, self.to_us, (self.to_us - self.from_us) / self.buckets, sources);
        if let Some(first) = parts.first_mut() {
            first.from_us = self.from_us;
        }
        if let Some(last) = parts.last_mut() {
            last.to_us = self.to_us;
        }
        parts
    }
}

/// The sources without those that overlap others of their table: these are one.
fn joined(sources: impl Iterator<Item = Source>) -> Vec<Source> {
    let mut sources: Vec<Source> = sources.collect();
    sources.sort_by_key(|source| (source.width_us, source.times));
    let mut joined: Vec<Source> = Vec::new();
    for source in sources {
        match joined.last_mut() {
            Some(last) if last.table == source.table && source.times.0 <= last.times.1 => {
                last.times.1 = last.times.1.max(source.times.1);
            }
            _ => joined.push(source),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Role;

    #[test]
    fn no_key_has_a_name_of_a_column_of_ours() {
        for named in Named::all().filter(|named| named.rows == Which::All) {
            let columns: Vec<&'static Column> =
                named.table.values().map(|(_, column)| column).filter(|column| column.role == Role::Figure).collect();
            for columns in [columns.get(..1).unwrap_or_default().to_vec(), columns] {
                let window = Window::new(named, columns, (0, 1), 1);
                let schema = window.schema();
                let mut names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
                names.sort_unstable();
                names.dedup();
                assert_eq!(names.len(), schema.fields().len(), "{}", named.table.name);
            }
        }
    }
}
