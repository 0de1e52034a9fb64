//! `/api/v1/range`: columns of a table over a time, reduced to buckets. It runs as a statement with SQL's `downsample` does, but is not
//! planned. The statement is what the table `statement` shows.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::family::FamilyId;
use crate::query::DOWNSAMPLE;
use crate::query::asked::{Asked, LabelIs, VALUES};
use crate::query::request::Request;
use crate::record::tier::Tier;
use crate::record::{Column, Role, Table};
use crate::words::{list, shortened, unknown};

/// The most buckets of one answer.
const BUCKETS_MAX: i64 = 10_000;
/// The most columns of one answer.
const COLUMNS_MAX: usize = 32;
/// Buckets without `buckets`.
const BUCKETS_DEFAULT: i64 = 800;
/// Buckets from this length on are made of tiers, which have the same least and greatest values.
const RAW_US_MAX: i64 = Tier::Second.width_us();
/// What a request may name beside labels.
const PARAMETERS: [&str; 9] = ["table", "column", "values", "from", "to", "buckets", "tier", "format", "times"];

/// What is asked for.
#[derive(Debug)]
pub(super) struct Range {
    family: FamilyId,
    columns: Vec<&'static Column>,
    /// What is told of each of them.
    values: Vec<&'static str>,
    from_us: i64,
    to_us: i64,
    buckets: i64,
    /// Buckets that only tiers have are left out.
    is_raw: bool,
    /// Labels and their values.
    filters: Vec<(&'static str, String)>,
}

impl Range {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A sentence that says which parameter is wrong, and what would be right.
    pub(super) fn read(pairs: &[(String, String)]) -> Result<Range, String> {
        let of = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let required = |name: &str| of(name).ok_or_else(|| format!("`{name}` is missing"));
        let name = required("table")?;
        let names: Vec<&str> = FamilyId::all().map(|family| family.name()).collect();
        let family = FamilyId::find(name).ok_or_else(|| unknown("table", name, names.iter().copied()))?;
        let columns = columns(family.table, pairs)?;
        let values = values(of("values"))?;
        let (from_us, to_us) = (time("from", required("from")?)?, time("to", required("to")?)?);
        let buckets = match of("buckets").map(str::parse) {
            None => BUCKETS_DEFAULT,
            Some(Ok(buckets @ 1..=BUCKETS_MAX)) => buckets,
            Some(_) => return Err(format!("`buckets` is a whole number from 1 to {BUCKETS_MAX}")),
        };
        let length_us = to_us.checked_sub(from_us).filter(|us| *us > 0).ok_or("`from` is not before `to`")?;
        // Their product is computed with 64 bits.
        if length_us > i64::MAX / (buckets + 1) {
            return Err("`from` and `to` are too far apart for so many buckets".to_owned());
        }
        let is_raw = match of("tier").unwrap_or("auto") {
            "auto" => false,
            "raw" if length_us / buckets < RAW_US_MAX => true,
            "raw" => {
                return Err(
                    "`tier` is raw only for buckets of less than a second: ask for more buckets, or a shorter time"
                        .to_owned(),
                );
            }
            _ => return Err("`tier` is auto or raw".to_owned()),
        };
        let filters = filters(family.table, pairs)?;
        Ok(Range { family, columns, values, from_us, to_us, buckets, is_raw, filters })
    }

    /// What is asked for.
    pub(super) fn request(&self) -> Request {
        let Range { family, from_us, to_us, buckets, is_raw, .. } = *self;
        let label = |(label, value): &(&str, String)| LabelIs { label: (*label).to_owned(), value: value.clone() };
        let window = Asked {
            table: family.name().to_owned(),
            columns: self.columns.iter().map(|column| column.name.to_owned()).collect(),
            from_us,
            to_us,
            buckets,
            values: self.values.iter().map(|value| (*value).to_owned()).collect(),
            labels: self.filters.iter().map(label).collect(),
            is_raw,
        };
        Request { window: Some(window), ..Request::new(self.sql()) }
    }

    /// The statement that gives the same.
    fn sql(&self) -> String {
        let Range { family, from_us, to_us, buckets, .. } = self;
        let keys = family.table.labels().chain(family.table.identities());
        let keys = keys.fold(String::new(), |mut listed, (_, key)| {
            let _ = write!(listed, "\"{}\", ", key.name);
            listed
        });
        let is_one = self.columns.len() == 1;
        let (mut values, mut counts) = (String::new(), Vec::new());
        for Column { name, .. } in &self.columns {
            for what in &self.values {
                let from = if is_one { (*what).to_owned() } else { format!("{name}_{what}") };
                let _ = write!(values, ", \"{from}\" AS \"{name}_{what}\"");
            }
            counts.push(if is_one { "\"count\"".to_owned() } else { format!("\"{name}_count\"") });
        }
        let names: Vec<&str> = self.columns.iter().map(|column| column.name).collect();
        // The row before the window is left out: those who go on from an earlier answer have it.
        let mut sql = format!(
            "SELECT {keys}\"time\", \"end_time\" AS \"end\"{values}, greatest({counts}) AS \"ticks\", \"tier\", \"host\" FROM \
             {DOWNSAMPLE}('{table}', '{names}', to_timestamp_micros({from_us}), to_timestamp_micros({to_us}), {buckets}) \
             WHERE \"time\" >= to_timestamp_micros({from_us})",
            counts = counts.join(", "),
            table = family.name(),
            names = names.join(", "),
        );
        for (label, value) in &self.filters {
            let _ = write!(sql, " AND \"{label}\" = '{}'", value.replace('\'', "''"));
        }
        if self.is_raw {
            sql += " AND \"tier\" = 'raw'";
        }
        let _ = write!(sql, " ORDER BY {keys}\"host\", \"time\"");
        sql
    }
}

fn columns(table: &'static Table, pairs: &[(String, String)]) -> Result<Vec<&'static Column>, String> {
    let asked = pairs.iter().filter(|(key, _)| key == "column").flat_map(|(_, value)| value.split(','));
    let numbers: Vec<&'static Column> =
        table.values().map(|(_, column)| column).filter(|column| column.role == Role::Figure).collect();
    let find = |name: &str| {
        let found = numbers.iter().copied().find(|column| column.name == name);
        let unknown = || unknown("column", name, numbers.iter().map(|one| one.name));
        found.ok_or_else(|| format!("`{}`: {}", table.name, unknown()))
    };
    let mut columns: Vec<&'static Column> = Vec::new();
    for name in asked {
        let column = find(name.trim())?;
        if columns.iter().any(|other| other.name == column.name) {
            return Err(format!("`column` has {} twice", column.name));
        }
        columns.push(column);
    }
    match columns.len() {
        0 => Err("`column` is missing".to_owned()),
        1..=COLUMNS_MAX => Ok(columns),
        _ => Err(format!("at most {COLUMNS_MAX} columns")),
    }
}

/// Some of the least, the greatest and the mean value, or all.
fn values(asked: Option<&str>) -> Result<Vec<&'static str>, String> {
    let Some(asked) = asked else { return Ok(VALUES.to_vec()) };
    let asked: Vec<&str> = asked.split(',').map(str::trim).collect();
    if let Some(other) = asked.iter().find(|value| !VALUES.contains(value)) {
        return Err(format!("`values` has {:?}: it takes {}", shortened(other), list(VALUES)));
    }
    Ok(VALUES.into_iter().filter(|value| asked.contains(value)).collect())
}

fn filters(table: &'static Table, pairs: &[(String, String)]) -> Result<Vec<(&'static str, String)>, String> {
    let labels = || table.labels().map(|(_, column)| column.name).chain(["host"]);
    let others = pairs.iter().filter(|(key, _)| !PARAMETERS.contains(&key.as_str()));
    let filter = |(key, value): &(String, String)| {
        let label = labels().find(|label| label == key);
        let wrong =
            || format!("`{key}` is no parameter and no label of `{}`, which has {}", table.name, list(labels()));
        Ok((label.ok_or_else(wrong)?, value.clone()))
    };
    others.map(filter).collect()
}

/// A time in µs since the epoch, or in RFC 3339.
fn time(name: &str, text: &str) -> Result<i64, String> {
    let read = text.parse().ok().or_else(|| text.parse::<Timestamp>().ok().map(Timestamp::as_microsecond));
    // Sums with these stay far from the bounds of 64 bits.
    let near = read.filter(|us| (0..=i64::MAX / 4).contains(us));
    near.ok_or_else(|| format!("`{name}` is a time: µs since 1970, or such as 2026-11-25T14:12:07.418Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Range, String> {
        let pairs: Vec<_> =
            text.split('&').filter_map(|pair| pair.split_once('=')).map(|(a, b)| (a.into(), b.into())).collect();
        Range::read(&pairs)
    }

    #[test]
    fn no_label_has_the_name_of_a_parameter() {
        for family in FamilyId::all() {
            let mut keys = family.table.labels().chain(family.table.identities());
            assert!(keys.all(|(_, key)| !PARAMETERS.contains(&key.name)), "{}", family.name());
        }
    }

    #[test]
    fn only_short_buckets_are_of_rows_alone() {
        let raw = |to: i64| read(&format!("table=network&column=rx_bytes&from=0&to={to}&buckets=100&tier=raw"));
        assert!(raw(99_000_000).unwrap().sql().contains(r#""tier" = 'raw'"#));
        assert!(raw(100_000_000).unwrap_err().contains("more buckets"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("column=rx_bytes&from=0&to=1", "`table`"),
            ("table=netwrk&column=rx_bytes&from=0&to=1", "network"),
            ("table=network&from=0&to=1", "`column`"),
            ("table=network&column=rx_byte&from=0&to=1", "rx_bytes"),
            ("table=network&column=interface&from=0&to=1", "interface"),
            ("table=network&column=rx_bytes&from=2&to=1", "before"),
            ("table=network&column=rx_bytes&from=x&to=1", "`from` is a time"),
            ("table=network&column=rx_bytes&from=0&to=9223372036854775807", "`to` is a time"),
            ("table=network&column=rx_bytes&from=0&to=2000000000000000000", "too far apart"),
            ("table=network&column=rx_bytes&from=0&to=1&buckets=0", "`buckets`"),
            ("table=network&column=rx_bytes&from=0&to=1&tier=2s", "`tier`"),
            ("table=network&column=rx_bytes&from=0&to=1&device=sda", "interface"),
            ("table=network&column=rx_bytes&column=rx_bytes&from=0&to=1", "rx_bytes twice"),
            ("table=network&column=rx_bytes,&from=0&to=1", "rx_bytes"),
            ("table=network&column=rx_bytes&from=0&to=1&values=mean,p99", "p99"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_value_of_a_label_cannot_leave_its_quotes() {
        let range = read("table=network&column=rx_bytes&from=0&to=9&interface=a' OR '1").unwrap();
        assert!(range.sql().contains(r#""interface" = 'a'' OR ''1'"#), "{}", range.sql());
    }
}
