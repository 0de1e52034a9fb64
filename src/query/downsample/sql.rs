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
    // A bucket begins with the first microsecond of which rows are in it, so no other row has this time.
    format!(
        "SELECT {labels}{time} AS \"time\", {end} AS \"end_time\", {told}, \
             CASE WHEN bucket >= 0 THEN missed_n END AS \"missed\", CASE tier {names} END AS \"tier\", \"host\" \
         FROM (SELECT bucket, {keys}, {from_us} + (bucket * ({to_us} - {from_us}) + {buckets} - 1) / {buckets} AS edge_us, \
             {merged}, min(first_us) AS first_us, max(last_us) AS last_us, max(end_us) AS end_us, sum(rows_n) AS rows_n, \
             {MISSED}, max(tier) AS tier \
             FROM ({parts}) GROUP BY bucket, {keys})",
        time = timestamp(&format!(
            "CASE WHEN bucket < 0 THEN last_us WHEN tier = 0 AND rows_n = 1 THEN first_us ELSE {} END",
            begin(parts)
        )),
        end = timestamp("end_us"),
        told = told(window),
        names = names.join(" "),
        merged = merged(window),
        parts = inner.join(" UNION ALL "),
    )
}

fn timestamp(us: &str) -> String {
    format!("arrow_cast({us}, 'Timestamp(Microsecond, Some(\"{TIME_ZONE}\"))')")
}

/// The values of a bucket, by the names that they have for users.
fn told(window: &Window) -> String {
    if let [_] = window.columns[..] {
        // The row before the window is one row, whatever is looked at to find it.
        let or_last = |value: &str| format!("CASE WHEN bucket < 0 THEN tail0 ELSE {value} END");
        return format!(
            "{} AS \"min\", {} AS \"max\", {} AS \"mean\", {} AS \"first\", tail0 AS \"last\", \
             CASE WHEN bucket < 0 THEN 1 ELSE n0 END AS \"count\"",
            or_last("low0"),
            or_last("high0"),
            or_last("mean0"),
            or_last("head0"),
        );
    }
    of_each(window, |at, Column { name, .. }| {
        format!(
            "low{at} AS \"{name}_min\", high{at} AS \"{name}_max\", mean{at} AS \"{name}_mean\", n{at} AS \"{name}_count\""
        )
    })
}

/// The figures of a bucket, made of those of its parts.
fn merged(window: &Window) -> String {
    let all = of_each(window, |at, column| {
        // Sums of whole numbers, so that their order does not matter.
        let unit = if column.kind == Kind::Counter { MICROS } else { "1" };
        format!(
            "min(low{at}) AS low{at}, max(high{at}) AS high{at}, sum(total{at}) / (sum(weight{at}) / {unit}) AS mean{at}, \
             sum(n{at}) AS n{at}"
        )
    });
    with_ends(window, all, "first_us", "last_us")
}

/// The figures of a bucket in one part, made of its rows.
fn reduced(window: &Window) -> String {
    let all = of_each(window, |at, _| {
        format!(
            "min(low{at}) AS low{at}, max(high{at}) AS high{at}, sum(amount{at}) AS total{at}, sum(weight{at}) AS weight{at}, \
             sum(n{at}) AS n{at}"
        )
    });
    with_ends(window, all, "us", "us")
}

/// Adds the first and the last value, which only a window of one column has.
fn with_ends(window: &Window, all: String, head_us: &str, tail_us: &str) -> String {
    if window.columns.len() > 1 {
        return all;
    }
    format!("{all}, first_value(head0 ORDER BY {head_us}) AS head0, last_value(tail0 ORDER BY {tail_us}) AS tail0")
}

/// What is selected of each column, with commas between.
fn of_each(window: &Window, select: impl Fn(usize, &Column) -> String) -> String {
    let all: Vec<String> = window.columns.iter().enumerate().map(|(at, column)| select(at, column)).collect();
    all.join(", ")
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

/// A row for each series and bucket of a part. The first part of a window of one column has the bucket −1, with what is before it.
fn of_part(window: &Window, part: &Part, is_first: bool, is_host: &str) -> String {
    let Window { from_us, to_us, buckets, columns, .. } = window;
    let keys = keys(window);
    let step_us = (to_us - from_us) / buckets;
    let before_us = step_us.saturating_mul(2).clamp(BEFORE_US_MIN, BEFORE_US_MAX).max(2 * part.source.width_us);
    let begin_us = if is_first && columns.len() == 1 { part.from_us.saturating_sub(before_us) } else { part.from_us };
    let between = |from_us: i64| times(from_us, part.to_us) + is_host;
    let (values, width_us) = match part.source.table.rows {
        Which::Tier(_) => (of_tier(window, part, &between(begin_us)), part.source.width_us),
        Which::All | Which::Last if !has_rates(window) => (of_rows(window, part, &between(begin_us), begin_us), 0),
        Which::All | Which::Last => {
            // The step into the first row is from the row before it.
            let from_us = begin_us.saturating_sub(if begin_us < part.from_us { BEFORE_US_MIN } else { before_us });
            (of_rows(window, part, &between(from_us), begin_us), 0)
        }
    };
    // Whole numbers: each row is in the last bucket that begins before it or with it.
    let bucket =
        format!("CASE WHEN us < {from_us} THEN -1 ELSE (us - {from_us}) * {buckets} / ({to_us} - {from_us}) END");
    let tier = number(part.source.table.rows);
    // Rows that have none of the values make no bucket.
    let present: Vec<String> = (0..columns.len()).map(|at| format!("low{at} IS NOT NULL")).collect();
    format!(
        "SELECT bucket, {keys}, {reduced}, min(us) AS first_us, max(us) AS last_us, max(us) + {width_us} AS end_us, \
             sum(rows_n) AS rows_n, {MISSED}, {tier} AS tier \
         FROM (SELECT {bucket} AS bucket, * FROM ({values})) WHERE {present} GROUP BY bucket, {keys}",
        reduced = reduced(window),
        present = present.join(" OR "),
    )
}

fn is_counter(column: &Column) -> bool {
    column.kind == Kind::Counter
}

/// Whether it needs steps from row to row.
fn has_rates(window: &Window) -> bool {
    window.columns.iter().any(|column| is_counter(column))
}

/// Rows: of counters the rates from each row to the next, and of gauges the values.
fn of_rows(window: &Window, part: &Part, between: &str, begin_us: i64) -> String {
    let (keys, table) = (keys(window), table(part));
    let over = format!("OVER (PARTITION BY {keys} ORDER BY \"time\")");
    let values = of_each(window, |at, column| {
        let name = quoted(column.name);
        let before = if is_counter(column) { format!(", lag({name}) {over} AS v_before{at}") } else { String::new() };
        format!("{name} AS v{at}{before}")
    });
    let us_before = if has_rates(window) { format!("lag(\"time\") {over}") } else { "NULL".to_owned() };
    // A rate of one column reaches over rows that lack it.
    let present = match &window.columns[..] {
        [only] => format!(" AND {} IS NOT NULL", quoted(only.name)),
        _ => String::new(),
    };
    let steps = format!(
        "SELECT arrow_cast(\"time\", 'Int64') AS us, {keys}, {values}, arrow_cast({us_before}, 'Int64') AS us_before \
         FROM {table} WHERE {between}{present}"
    );
    let amounts = of_each(window, |at, column| {
        if !is_counter(column) {
            return format!("CAST(v{at} AS DOUBLE) AS amount{at}");
        }
        // As tiers have it: below the value before it, the counter began anew at zero.
        let step =
            format!("CASE WHEN v{at} >= v_before{at} THEN v{at} - v_before{at} WHEN v{at} > 0 THEN v{at} ELSE 0 END");
        let is_step = format!("us > us_before AND v{at} IS NOT NULL AND v_before{at} IS NOT NULL");
        format!("CASE WHEN {is_step} THEN CAST({step} AS DOUBLE) END AS amount{at}")
    });
    let grown = format!(
        "SELECT us, {keys}, {amounts}, CAST(us - us_before AS DOUBLE) AS step_us FROM ({steps}) WHERE us >= {begin_us}"
    );
    let figures = of_each(window, |at, column| {
        let amount = format!("amount{at}");
        let is_known = format!("{amount} IS NOT NULL");
        let (value, weight) = if is_counter(column) {
            (format!("{amount} / (step_us / {MICROS})"), "step_us")
        } else {
            (amount.clone(), "CAST(1 AS DOUBLE)")
        };
        let [weight, count] = [weight, "1"].map(|what| when(&is_known, what));
        figures(at, [&value; 4], &amount, &weight, &count)
    });
    format!("SELECT us, {keys}, {figures}, 1 AS rows_n, CAST(NULL AS BIGINT) AS missed_n FROM ({grown})")
}

/// Rows of a tier: of counters the rates over each, with the least and the greatest in it, and of gauges the values. A row counts in the
/// mean of rates for the time of which it has steps: for less than its width if it has only begun, and for more after rows that are
/// missing.
fn of_tier(window: &Window, part: &Part, between: &str) -> String {
    let (keys, table) = (keys(window), table(part));
    let figures = of_each(window, |at, column| {
        let name = |what: &str| quoted(&format!("{}_{what}", column.name));
        let of = |what: &str| format!("CAST({} AS DOUBLE)", name(what));
        if is_counter(column) {
            let (increase, elapsed) = (of("increase"), quoted(ELAPSED));
            let is_known = format!("{increase} IS NOT NULL AND {elapsed} > 0");
            let rate = when(&is_known, &format!("{increase} / ({elapsed} / {MICROS})"));
            let [low, high, amount, weight, count] =
                [&of("min_rate"), &of("max_rate"), &increase, &format!("CAST({elapsed} AS DOUBLE)"), "\"ticks\""]
                    .map(|what| when(&is_known, what));
            figures(at, [&low, &high, &rate, &rate], &amount, &weight, &count)
        } else {
            let [low, high, head, tail] = ["min", "max", "first", "last"].map(of);
            figures(at, [&low, &high, &head, &tail], &of("sum"), &of("count"), &name("count"))
        }
    });
    format!(
        "SELECT arrow_cast(\"time\", 'Int64') AS us, {keys}, {figures}, \"ticks\" AS rows_n, \"missed\" AS missed_n \
         FROM {table} WHERE {between}"
    )
}

/// What is null where the condition does not hold.
fn when(condition: &str, value: &str) -> String {
    format!("CASE WHEN {condition} THEN {value} END")
}

/// What a row has of one column: its least, greatest, first and last value, what is summed, what that weighs in a mean, and how many
/// values it has.
fn figures(at: usize, [low, high, head, tail]: [&String; 4], amount: &str, weight: &str, count: &str) -> String {
    format!(
        "{low} AS low{at}, {high} AS high{at}, {head} AS head{at}, {tail} AS tail{at}, {amount} AS amount{at}, \
         {weight} AS weight{at}, {count} AS n{at}"
    )
}

/// Rows from one time on and before another.
fn times(from_us: i64, to_us: i64) -> String {
    let time = quoted(Column::TIME.name);
    format!("{time} >= {} AND {time} < {}", timestamp(&from_us.to_string()), timestamp(&to_us.to_string()))
}

#[cfg(test)]
mod tests {
    use crate::query::named::Named;

    #[test]
    fn no_key_has_a_name_of_a_column_of_ours() {
        let ours = [
            "time",
            "end_time",
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
            "step_us",
            "first_us",
            "last_us",
            "end_us",
            "rows_n",
            "missed_n",
        ];
        let numbered = ["v", "v_before", "low", "high", "head", "tail", "amount", "total", "weight", "mean", "n"];
        let is_numbered = |name: &str| {
            let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
            stem != name && numbered.contains(&stem)
        };
        let is_of_value = |named: &Named, name: &str| {
            let stem = ["_min", "_max", "_mean", "_count"].iter().find_map(|end| name.strip_suffix(end));
            stem.is_some_and(|stem| named.table.values().any(|(_, column)| column.name == stem))
        };
        for named in Named::all() {
            let is_ours = |name: &str| ours.contains(&name) || is_numbered(name) || is_of_value(&named, name);
            let mut keys = named.table.labels().chain(named.table.identities());
            let taken = keys.find(|(_, key)| is_ours(key.name));
            assert_eq!(taken.map(|(_, key)| key.name), None, "{}", named.table.name);
        }
    }
}
