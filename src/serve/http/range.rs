//! `/api/v1/range`: values over a time, reduced to buckets. Its statement runs like any other.
//!
//! A bucket has the least and the greatest value of all ticks in it, so a peak of one tick is seen at every width. Counters are
//! rates: the step into a tick, by the time since the tick before it.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use crate::family::FamilyId;
use crate::family::tables::TableId;
use crate::query::SCHEMA;
use crate::record::tier::Tier;
use crate::record::{Column, Kind, Table, Type};
use crate::words::{list, unknown};

/// The most buckets of one answer.
const BUCKETS_MAX: i64 = 10_000;
/// The most columns of one answer.
const COLUMNS_MAX: usize = 32;
/// Buckets without `buckets`.
const BUCKETS_DEFAULT: i64 = 800;
/// The step into the first tick of a range begins at a tick before the range, which is looked for so far back.
const LOOK_BACK_US_MIN: i64 = 2_000_000;
/// Families that are sampled more seldom have no tier of seconds.
const INTERVAL_OF_SECONDS_MAX: Duration = Duration::from_millis(50);
/// What a request may name beside labels.
const PARAMETERS: [&str; 8] = ["table", "column", "from", "to", "buckets", "tier", "format", "times"];

/// What is asked for.
#[derive(Debug)]
pub(super) struct Range {
    family: FamilyId,
    columns: Vec<&'static Column>,
    from_us: i64,
    to_us: i64,
    width_us: i64,
    tier: Option<Tier>,
    /// Labels and their values.
    filters: Vec<(&'static str, String)>,
}

impl Range {
    /// Reads the parameters. `interval` is how often the family is sampled, if a collector has it.
    ///
    /// # Errors
    /// A sentence that says which parameter is wrong, and what would be right.
    pub(super) fn read(
        pairs: &[(String, String)],
        interval: impl Fn(FamilyId) -> Option<Duration>,
    ) -> Result<Range, String> {
        let of = |name: &str| pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let required = |name: &str| of(name).ok_or_else(|| format!("`{name}` is missing"));
        let name = required("table")?;
        let names: Vec<&str> = FamilyId::all().map(|family| family.name()).collect();
        let family = FamilyId::find(name).ok_or_else(|| unknown("table", name, names.iter().copied()))?;
        let columns = columns(family.table, pairs)?;
        let (from_us, to_us) = (time("from", required("from")?)?, time("to", required("to")?)?);
        let buckets = match of("buckets").map(str::parse) {
            None => BUCKETS_DEFAULT,
            Some(Ok(buckets @ 1..=BUCKETS_MAX)) => buckets,
            Some(_) => return Err(format!("`buckets` is a whole number from 1 to {BUCKETS_MAX}")),
        };
        let length_us = to_us.checked_sub(from_us).filter(|us| *us > 0).ok_or("`from` is not before `to`")?;
        let width_us = (length_us - 1) / buckets + 1;
        let tier = match of("tier").unwrap_or("auto") {
            "auto" => fitting(family, width_us, interval(family)),
            "raw" => None,
            "1s" => Some(Tier::Second),
            "1m" => Some(Tier::Minute),
            _ => return Err("`tier` is auto, raw, 1s or 1m".to_owned()),
        };
        if tier.is_some_and(|tier| TableId::of_tier(family, tier).is_none()) {
            return Err(format!("`{name}` has no tiers"));
        }
        let filters = filters(family.table, pairs)?;
        Ok(Range { family, columns, from_us, to_us, width_us, tier, filters })
    }

    /// The statement.
    ///
    /// `interval` is how often the family is sampled, and `now_us` ends the buckets of tiers that are complete.
    pub(super) fn sql(&self, interval: Option<Duration>, now_us: i64) -> String {
        let rows = match self.tier {
            None => self.raw(interval),
            Some(tier) => self.of_tier(tier, now_us),
        };
        let labels = self.listed_labels();
        let (from, width) = (self.from_us, self.width_us);
        let mut outer = String::from("SELECT ");
        let _ = write!(
            outer,
            "{labels}to_timestamp_micros({from} + b * {width}) AS time, to_timestamp_micros(max(t)) AS \"end\""
        );
        for (at, column) in self.columns.iter().enumerate() {
            let name = column.name;
            let mean = match (column.kind, self.tier) {
                (Kind::Counter, None) => {
                    format!("CAST(sum(s{at}) AS DOUBLE) * 1e6 / sum(CASE WHEN s{at} IS NOT NULL THEN dt END)")
                }
                (Kind::Counter, Some(tier)) => {
                    format!("CAST(sum(s{at}) AS DOUBLE) * 1e6 / (count(s{at}) * {})", tier.width_us())
                }
                (_, _) => format!("CAST(sum(s{at}) AS DOUBLE) / sum(n{at})"),
            };
            let _ = write!(
                outer,
                ", min(l{at}) AS \"{name}_min\", max(h{at}) AS \"{name}_max\", {mean} AS \"{name}_mean\""
            );
        }
        let told = self.tier.map_or("raw", |tier| tier.suffix().trim_start_matches('_'));
        let _ = write!(outer, ", CAST(sum(ticks) AS BIGINT) AS ticks, '{told}' AS tier, host FROM ({rows})");
        let _ = write!(outer, " GROUP BY {labels}host, b ORDER BY {labels}host, b");
        outer
    }

    /// Rows with their bucket `b`, end `t`, and for each column its lowest, highest, sum and count.
    fn raw(&self, interval: Option<Duration>) -> String {
        let (from, width) = (self.from_us, self.width_us);
        let labels = self.listed_labels();
        let is_counter = |column: &Column| column.kind == Kind::Counter;
        let (mut values, mut steps, mut figures) = (String::new(), String::new(), String::new());
        for (at, column) in self.columns.iter().enumerate() {
            let _ = write!(values, ", \"{}\" AS c{at}", column.name);
            if is_counter(column) {
                // A counter that is less than before began anew. Rates are computed as tiers compute them, equal to the bit.
                let before = format!("lag(c{at}) OVER w");
                let _ = write!(steps, ", CASE WHEN c{at} < {before} THEN c{at} ELSE c{at} - {before} END AS s{at}");
                let _ = write!(
                    figures,
                    ", s{at}, CAST(s{at} AS DOUBLE) / (dt / 1e6) AS l{at}, CAST(s{at} AS DOUBLE) / (dt / 1e6) AS h{at}"
                );
            } else {
                let _ = write!(steps, ", c{at}");
                let _ = write!(
                    figures,
                    ", c{at} AS s{at}, c{at} AS l{at}, c{at} AS h{at}, CASE WHEN c{at} IS NOT NULL THEN 1 END AS n{at}"
                );
            }
        }
        let back = interval.map_or(0, |interval| i64::try_from(interval.as_micros()).unwrap_or(0) * 2);
        let back = if self.columns.iter().any(|column| is_counter(column)) { back.max(LOOK_BACK_US_MIN) } else { 0 };
        let condition = self.condition(from.saturating_sub(back), self.to_us);
        let (steps, window) = if self.columns.iter().any(|column| is_counter(column)) {
            (
                format!(", t - lag(t) OVER w AS dt{steps}"),
                format!(" WINDOW w AS (PARTITION BY {labels}host ORDER BY time)"),
            )
        } else {
            (steps, String::new())
        };
        let dt = if window.is_empty() { "" } else { ", dt" };
        format!(
            "SELECT {labels}host, t, (t - {from}) / {width} AS b, 1 AS ticks{dt}{figures} FROM (SELECT {labels}host, t{steps} FROM \
             (SELECT {labels}host, time, CAST(time AS BIGINT) AS t{values} FROM {SCHEMA}.{} WHERE {condition}){window}) WHERE t >= \
             {from}",
            self.family.name()
        )
    }

    fn of_tier(&self, tier: Tier, now_us: i64) -> String {
        let (from, width) = (self.from_us, self.width_us);
        let labels = self.listed_labels();
        let mut figures = String::new();
        for (at, Column { name, kind, .. }) in self.columns.iter().enumerate() {
            let _ = match kind {
                Kind::Counter => write!(
                    figures,
                    ", \"{name}_increase\" AS s{at}, \"{name}_min_rate\" AS l{at}, \"{name}_max_rate\" AS h{at}"
                ),
                _ => write!(
                    figures,
                    ", \"{name}_sum\" AS s{at}, \"{name}_min\" AS l{at}, \"{name}_max\" AS h{at}, \"{name}_count\" AS n{at}"
                ),
            };
        }
        let tier_us = tier.width_us();
        // A bucket of the tier that has not ended would have too small a mean.
        let condition =
            self.condition(from.saturating_sub(tier_us - 1), self.to_us.min(now_us.saturating_sub(tier_us)));
        format!(
            "SELECT {labels}host, CAST(time AS BIGINT) + {tier_us} AS t, greatest((CAST(time AS BIGINT) - {from}) / {width}, 0) AS \
             b, ticks{figures} FROM {SCHEMA}.{}{} WHERE {condition}",
            self.family.name(),
            tier.suffix(),
        )
    }

    fn condition(&self, from_us: i64, to_us: i64) -> String {
        let mut condition = format!("time >= to_timestamp_micros({from_us}) AND time < to_timestamp_micros({to_us})");
        for (label, value) in &self.filters {
            let _ = write!(condition, " AND \"{label}\" = '{}'", value.replace('\'', "''"));
        }
        condition
    }

    /// The labels as SQL lists them, each with a comma behind it.
    fn listed_labels(&self) -> String {
        self.family.table.labels().fold(String::new(), |mut listed, (_, label)| {
            let _ = write!(listed, "\"{}\", ", label.name);
            listed
        })
    }

    pub(super) fn family(&self) -> FamilyId {
        self.family
    }
}

/// The widest tier that is no coarser than the buckets, as its rows are those of fewer ticks.
fn fitting(family: FamilyId, width_us: i64, interval: Option<Duration>) -> Option<Tier> {
    if !family.has_tiers {
        return None;
    }
    let is_there = |tier: &Tier| *tier == Tier::Minute || interval.is_some_and(|one| one <= INTERVAL_OF_SECONDS_MAX);
    [Tier::Minute, Tier::Second].into_iter().filter(is_there).find(|tier| tier.width_us() <= width_us)
}

fn columns(table: &'static Table, pairs: &[(String, String)]) -> Result<Vec<&'static Column>, String> {
    let asked = pairs.iter().filter(|(key, _)| key == "column").flat_map(|(_, value)| value.split(','));
    let numbers: Vec<&'static Column> =
        table.values().map(|(_, column)| column).filter(|column| column.ty != Type::Text).collect();
    let find = |name: &str| {
        let found = numbers.iter().copied().find(|column| column.name == name);
        let unknown = || unknown("column", name, numbers.iter().map(|one| one.name));
        found.ok_or_else(|| format!("`{}`: {}", table.name, unknown()))
    };
    let columns = asked.map(|name| find(name.trim())).collect::<Result<Vec<_>, _>>()?;
    match columns.len() {
        0 => Err("`column` is missing".to_owned()),
        1..=COLUMNS_MAX => Ok(columns),
        _ => Err(format!("at most {COLUMNS_MAX} columns")),
    }
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
        Range::read(&pairs, |_| Some(Duration::from_millis(1)))
    }

    #[test]
    fn no_label_has_the_name_of_a_parameter() {
        for family in FamilyId::all() {
            assert!(family.table.labels().all(|(_, label)| !PARAMETERS.contains(&label.name)), "{}", family.name());
        }
    }

    #[test]
    fn the_tier_is_the_widest_that_is_no_coarser_than_a_bucket() {
        let tier = |to: i64| read(&format!("table=network&column=rx_bytes&from=0&to={to}&buckets=100")).unwrap().tier;
        assert_eq!(tier(99_000_000), None);
        assert_eq!(tier(100_000_000), Some(Tier::Second));
        assert_eq!(tier(6_000_000_000), Some(Tier::Minute));
        let slow = fitting(FamilyId::find("memory").unwrap(), 2_000_000, Some(Duration::from_millis(100)));
        assert_eq!(slow, None, "the tier of seconds has no rows of it");
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
            ("table=network&column=rx_bytes&from=0&to=1&buckets=0", "`buckets`"),
            ("table=network&column=rx_bytes&from=0&to=1&tier=2s", "`tier`"),
            ("table=network&column=rx_bytes&from=0&to=1&device=sda", "interface"),
            ("table=gap&column=lost&from=0&to=1&tier=1m", "no tiers"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_value_of_a_label_cannot_leave_its_quotes() {
        let range = read("table=network&column=rx_bytes&from=0&to=9&interface=a' OR '1").unwrap();
        assert!(range.sql(None, 0).contains(r#""interface" = 'a'' OR ''1'"#), "{}", range.sql(None, 0));
    }
}
