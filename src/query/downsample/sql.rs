//! A window as a statement over the tables that give its parts.

use super::cover::Part;
use super::window::{Covered, Window};
use crate::query::named::Which;
use crate::query::place::{CATALOG, SCHEMA};
use crate::record::tier::ELAPSED;
use crate::record::{Column, Kind, TIME_ZONE};

/// The row before a window is looked for two steps back, but at least and at most so far, and in a tier two of its buckets.
const BEFORE_US_MIN: i64 = 10_000_000;
const BEFORE_US_MAX: i64 = 60_000_000;
/// µs of a second.
const MICROS: &str = "1e6";

/// What rows are made of, in the order of their numbers in [`number`].
const TIERS: [&str; 3] = ["raw", "1s", "1m"];

/// The number of what a table has: 0 for rows, and greater for wider buckets.
fn number(table: Which) -> usize {
    match table {
        Which::Tier(id) => id.tier().map_or(0, |tier| 1 + tier as usize),
        Which::All | Which::Last => 0,
    }
}

/// A statement with a row for each series and bucket of the window, in no order.
pub(super) fn of(window: &Window, covered: &[Covered]) -> String {
    covered.iter().map(|covered| of_hosts(window, covered)).collect::<Vec<_>>().join(" UNION ALL ")
}

fn of_hosts(window: &Window, Covered { hosts, parts }: &Covered) -> String {
    let (labels, keys) = (labels(window), keys(window));
    let Window { from_us, to_us, buckets, .. } = window;
    let is_host = hosts.iter().map(|hosts| {
        let texts: Vec<String> = hosts.iter().map(|host| format!("'{}'", host.replace('\'', "''"))).collect();
        format!(" AND {} IN ({})", quoted(Column::HOST.name), texts.join(", "))
    });
    let is_host: String = is_host.collect();
    let of_part = |(at, part): (usize, &Part)| of_part(window, part, at == 0, &is_host);
    let inner: Vec<String> = parts.iter().enumerate().map(of_part).collect();
    let names: Vec<String> = TIERS.iter().enumerate().map(|(at, name)| format!("WHEN {at} THEN '{name}'")).collect();
    let names = names.join(" ");
    // The row before the window is one row, whatever is looked at to find it.
    let or_last = |value: &str| format!("CASE WHEN bucket < 0 THEN last_value ELSE {value} END");
    // A bucket begins with the first microsecond of which rows are in it, so no other row has this time.
    format!(
        "SELECT {labels}\
             arrow_cast(CASE WHEN bucket < 0 THEN last_us WHEN tier = 0 AND values_n = 1 THEN first_us ELSE {begin} END, \
                 'Timestamp(Microsecond, Some(\"{TIME_ZONE}\"))') AS \"time\", \
             {low} AS \"min\", {high} AS \"max\", {mean} AS \"mean\", {first} AS \"first\", last_value AS \"last\", \
             CASE WHEN bucket < 0 THEN 1 ELSE values_n END AS \"count\", \
             CASE WHEN bucket >= 0 THEN missed_n END AS \"missed\", \
             CASE tier {names} END AS \"tier\", \"host\" \
         FROM (SELECT bucket, {keys}, {from_us} + (bucket * ({to_us} - {from_us}) + {buckets} - 1) / {buckets} AS edge_us, \
             min(low) AS low, max(high) AS high, sum(total) / (sum(weight) / {unit}) AS mean, \
             first_value(head ORDER BY head_us) AS first_value, min(head_us) AS first_us, \
             last_value(tail ORDER BY tail_us) AS last_value, max(tail_us) AS last_us, \
             sum(values_n) AS values_n, {missed}, max(tier) AS tier \
             FROM ({parts}) GROUP BY bucket, {keys})",
        begin = begin(parts),
        missed = MISSED,
        // Sums of whole numbers, so that their order does not matter.
        unit = if window.column.kind == Kind::Counter { MICROS } else { "1" },
        low = or_last("low"),
        high = or_last("high"),
        mean = or_last("mean"),
        first = or_last("first_value"),
        parts = inner.join(" UNION ALL "),
    )
}

/// Where a bucket begins whose edge is `edge_us`: in a part from a tier, with the first row of the tier from there on. It is the same for
/// all series.
fn begin(parts: &[Part]) -> String {
    let mut stretches: Vec<(i64, i64)> = Vec::new();
    for part in parts {
        match stretches.last_mut() {
            Some((width_us, to_us)) if *width_us == part.source.width_us => *to_us = part.to_us,
            _ => stretches.push((part.source.width_us, part.to_us)),
        }
    }
    let up = |width_us: i64| match width_us {
        1 => "edge_us".to_owned(),
        width_us => format!("edge_us + ({width_us} - edge_us % {width_us}) % {width_us}"),
    };
    let last = stretches.pop().map_or_else(|| up(1), |(width_us, _)| up(width_us));
    let cases = stretches.iter().map(|(width_us, to_us)| format!("WHEN edge_us < {to_us} THEN {} ", up(*width_us)));
    let cases: String = cases.collect();
    if cases.is_empty() { last } else { format!("CASE {cases}ELSE {last} END") }
}

/// How many ticks a bucket misses, if all that it is made of knows: rows do not say which collector they are of, so only tiers do.
const MISSED: &str = "CASE WHEN count(missed_n) = count(*) THEN sum(missed_n) END AS missed_n";

/// The columns by which series are told apart.
fn keys(window: &Window) -> String {
    format!("{}{}", labels(window), quoted(Column::HOST.name))
}

/// Those but for the host, each with a comma behind it.
fn labels(window: &Window) -> String {
    window.keys().map(|column| quoted(column.name) + ", ").collect()
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

fn table(part: &Part) -> String {
    [CATALOG, SCHEMA, part.source.table.table.name].map(quoted).join(".")
}

/// A row for each series and bucket of a part. The first part of a window has the bucket −1, with what is before it.
fn of_part(window: &Window, part: &Part, is_first: bool, is_host: &str) -> String {
    let Window { from_us, to_us, buckets, column, .. } = window;
    let keys = keys(window);
    let step_us = (to_us - from_us) / buckets;
    let before_us = step_us.saturating_mul(2).clamp(BEFORE_US_MIN, BEFORE_US_MAX).max(2 * part.source.width_us);
    let begin_us = if is_first { part.from_us.saturating_sub(before_us) } else { part.from_us };
    let between = |from_us: i64| times(from_us, part.to_us) + is_host;
    let values = match (part.source.table.rows, column.kind) {
        (Which::Tier(_), Kind::Counter) => tier_of_counter(window, part, &between(begin_us)),
        (Which::Tier(_), _) => tier_of_gauge(window, part, &between(begin_us)),
        (_, Kind::Counter) => {
            // The step into the first row is from the row before it.
            let from_us = part.from_us.saturating_sub(before_us + BEFORE_US_MIN);
            rates(window, part, &between(from_us), begin_us)
        }
        (..) => rows(window, part, &between(begin_us)),
    };
    // Whole numbers: each row is in the last bucket that begins before it or with it.
    let bucket =
        format!("CASE WHEN us < {from_us} THEN -1 ELSE (us - {from_us}) * {buckets} / ({to_us} - {from_us}) END");
    let tier = number(part.source.table.rows);
    format!(
        "SELECT bucket, {keys}, min(low) AS low, max(high) AS high, sum(amount) AS total, sum(weight) AS weight, \
             first_value(head ORDER BY us) AS head, min(us) AS head_us, last_value(tail ORDER BY us) AS tail, max(us) AS tail_us, \
             sum(values_n) AS values_n, {MISSED}, {tier} AS tier \
         FROM (SELECT {bucket} AS bucket, * FROM ({values})) GROUP BY bucket, {keys}"
    )
}

/// A counter's rates, from each row to the next.
fn rates(window: &Window, part: &Part, between: &str, begin_us: i64) -> String {
    let (keys, name, table) = (keys(window), quoted(window.column.name), table(part));
    let over = format!("OVER (PARTITION BY {keys} ORDER BY \"time\")");
    let steps = format!(
        "SELECT arrow_cast(\"time\", 'Int64') AS us, {keys}, {name} AS v, lag({name}) {over} AS v_before, \
             arrow_cast(lag(\"time\") {over}, 'Int64') AS us_before \
         FROM {table} WHERE {between} AND {name} IS NOT NULL"
    );
    // As tiers have it: below the value before it, the counter began anew at zero.
    let grown = format!(
        "SELECT us, {keys}, CAST(CASE WHEN v >= v_before THEN v - v_before WHEN v > 0 THEN v ELSE 0 END AS DOUBLE) AS amount, \
             CAST(us - us_before AS DOUBLE) AS weight \
         FROM ({steps}) WHERE us >= {begin_us} AND us > us_before"
    );
    let rate = format!("amount / (weight / {MICROS})");
    format!(
        "SELECT us, {keys}, {rate} AS low, {rate} AS high, {rate} AS head, {rate} AS tail, amount, weight, 1 AS values_n, CAST(NULL AS BIGINT) AS missed_n FROM ({grown})"
    )
}

/// A gauge's values.
fn rows(window: &Window, part: &Part, between: &str) -> String {
    let (keys, table) = (keys(window), table(part));
    let value = format!("CAST({} AS DOUBLE)", quoted(window.column.name));
    format!(
        "SELECT arrow_cast(\"time\", 'Int64') AS us, {keys}, {value} AS low, {value} AS high, {value} AS head, {value} AS tail, \
             {value} AS amount, CAST(1 AS DOUBLE) AS weight, 1 AS values_n, CAST(NULL AS BIGINT) AS missed_n \
         FROM {table} WHERE {between} AND {value} IS NOT NULL"
    )
}

/// A counter's rates over the buckets of a tier, with the least and the greatest in them. A bucket counts for the time of which it has
/// steps: for less than its width if it has only begun, and for more after rows that are missing.
fn tier_of_counter(window: &Window, part: &Part, between: &str) -> String {
    let (keys, table) = (keys(window), table(part));
    let of = |what: &str| format!("CAST({} AS DOUBLE)", quoted(&format!("{}_{what}", window.column.name)));
    let (low, high, increase) = (of("min_rate"), of("max_rate"), of("increase"));
    let elapsed = quoted(ELAPSED);
    let rate = format!("{increase} / ({elapsed} / {MICROS})");
    format!(
        "SELECT arrow_cast(\"time\", 'Int64') AS us, {keys}, {low} AS low, {high} AS high, {rate} AS head, {rate} AS tail, \
             {increase} AS amount, CAST({elapsed} AS DOUBLE) AS weight, \
             \"ticks\" AS values_n, \"missed\" AS missed_n \
         FROM {table} WHERE {between} AND {increase} IS NOT NULL AND {elapsed} > 0"
    )
}

/// A gauge's values in the buckets of a tier.
fn tier_of_gauge(window: &Window, part: &Part, between: &str) -> String {
    let (keys, table) = (keys(window), table(part));
    let of = |what: &str| format!("CAST({} AS DOUBLE)", quoted(&format!("{}_{what}", window.column.name)));
    let [low, high, head, tail, sum, count] = ["min", "max", "first", "last", "sum", "count"].map(of);
    let count_n = quoted(&format!("{}_count", window.column.name));
    format!(
        "SELECT arrow_cast(\"time\", 'Int64') AS us, {keys}, {low} AS low, {high} AS high, {head} AS head, {tail} AS tail, \
             {sum} AS amount, {count} AS weight, {count_n} AS values_n, \"missed\" AS missed_n \
         FROM {table} WHERE {between} AND {head} IS NOT NULL AND {elapsed} IS NOT NULL",
        // Rows of an older layout have none.
        elapsed = quoted(ELAPSED),
    )
}

/// Rows from one time on and before another.
fn times(from_us: i64, to_us: i64) -> String {
    let time = quoted(Column::TIME.name);
    let at = |us: i64| format!("arrow_cast({us}, 'Timestamp(Microsecond, Some(\"{TIME_ZONE}\"))')");
    format!("{time} >= {} AND {time} < {}", at(from_us), at(to_us))
}

#[cfg(test)]
mod tests {
    use crate::query::named::Named;

    #[test]
    fn no_key_has_a_name_of_a_column_of_ours() {
        let ours = [
            "time",
            "min",
            "max",
            "mean",
            "first",
            "last",
            "count",
            "missed",
            "tier",
            "host",
            "bucket",
            "edge_us",
            "us",
            "us_before",
            "v",
            "v_before",
            "low",
            "high",
            "head",
            "head_us",
            "tail",
            "tail_us",
            "amount",
            "total",
            "weight",
            "values_n",
            "missed_n",
            "first_us",
            "last_us",
            "first_value",
            "last_value",
        ];
        for named in Named::all() {
            let mut keys = named.table.labels().chain(named.table.identities());
            let taken = keys.find(|(_, key)| ours.contains(&key.name));
            assert_eq!(taken.map(|(_, key)| key.name), None, "{}", named.table.name);
        }
    }
}
