//! Random statements, each with the rows that it should give, found by looking at every row.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::data::{Data, HOST, Row, Table};

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    /// A time is the number of its µs.
    Int(i64),
    Float(f64),
    Text(String),
}

pub struct Question {
    pub sql: String,
    pub rows: Vec<Vec<Value>>,
    /// The rows have this order.
    pub is_ordered: bool,
}

pub fn question(random: &mut Rng, data: &Data) -> Question {
    let table = &data.tables[random.usize(..2)];
    match random.u8(..8) {
        0..3 => grouped(random, table),
        3 => listed(random, table),
        4 => stepped(random, table),
        5 => joined(random, data),
        6 => existing(random, table),
        _ => windowed(random, table),
    }
}

fn int(value: Option<i64>) -> Value {
    value.map_or(Value::Null, Value::Int)
}

fn count(number: usize) -> Value {
    Value::Int(i64::try_from(number).unwrap())
}

fn text(value: &str) -> Value {
    Value::Text(value.into())
}

fn at_us(time: i64) -> String {
    format!("arrow_cast({time}, 'Timestamp(Microsecond, Some(\"UTC\"))')")
}

// --- Conditions ------------------------------------------------------------------------------------------------------

/// A condition in SQL, and what it says of a row: true, false or unknown.
struct Condition(String, Holds);

type Holds = Box<dyn Fn(&Row) -> Option<bool>>;

impl Condition {
    fn holds(&self, row: &Row) -> bool {
        (self.1)(row) == Some(true)
    }
}

/// `prefix` stands before each column.
fn condition(random: &mut Rng, table: &Table, prefix: &str, depth: u32) -> Condition {
    if depth > 0 && random.u8(..3) == 0 {
        let (one, other) = (condition(random, table, prefix, depth - 1), condition(random, table, prefix, depth - 1));
        return match random.u8(..3) {
            0 => Condition(
                format!("({} AND {})", one.0, other.0),
                Box::new(move |row| match ((one.1)(row), (other.1)(row)) {
                    (Some(false), _) | (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                }),
            ),
            1 => Condition(
                format!("({} OR {})", one.0, other.0),
                Box::new(move |row| match ((one.1)(row), (other.1)(row)) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                }),
            ),
            _ => Condition(format!("NOT ({})", one.0), Box::new(move |row| Some(!(one.1)(row)?))),
        };
    }
    let some = table.rows.get(random.usize(..table.rows.len().max(1)));
    let Some(some) = some.cloned() else { return Condition("1 = 1".into(), Box::new(|_| Some(true))) };
    let (label, value) = (random.usize(..table.labels.len()), random.usize(..table.values.len()));
    let name = format!("{prefix}{}", table.labels[label]);
    let quoted = some.labels[label].replace('\'', "''");
    match random.u8(..7) {
        0 | 1 => {
            let is = random.bool();
            let sql = format!("{name} {} '{quoted}'", if is { "=" } else { "<>" });
            Condition(sql, Box::new(move |row| Some((row.labels[label] == some.labels[label]) == is)))
        }
        2 => {
            let sql = format!("{name} IN ('{quoted}', 'nobody', 'lo', 'sdb', 'x')");
            let named = [some.labels[label].clone(), "lo".into(), "sdb".into()];
            Condition(sql, Box::new(move |row| Some(named.contains(&row.labels[label]))))
        }
        3 => {
            let start: String = some.labels[label].chars().take(1).collect();
            let sql = format!("{name} LIKE '{start}%'");
            Condition(sql, Box::new(move |row| Some(row.labels[label].starts_with(&start))))
        }
        4 => {
            let is = random.bool();
            let sql = format!("{prefix}{} IS {}NULL", table.values[value], if is { "" } else { "NOT " });
            Condition(sql, Box::new(move |row| Some(row.values[value].is_none() == is)))
        }
        5 => {
            let (from, to) = (some.time, some.time + random.i64(0..100_000));
            let sql = format!("{prefix}time BETWEEN {} AND {}", at_us(from), at_us(to));
            Condition(sql, Box::new(move |row| Some((from..=to).contains(&row.time))))
        }
        _ => {
            let bound = some.values[value].unwrap_or(3);
            let sql = format!("{prefix}{} > {bound}", table.values[value]);
            Condition(sql, Box::new(move |row| row.values[value].map(|value| value > bound)))
        }
    }
}

/// A condition, or none: what follows FROM, and the rows that pass.
fn filtered<'a>(random: &mut Rng, table: &'a Table) -> (String, Vec<&'a Row>) {
    if random.u8(..3) == 0 {
        return (String::new(), table.rows.iter().collect());
    }
    let condition = condition(random, table, "", 2);
    (format!(" WHERE {}", condition.0), table.rows.iter().filter(|row| condition.holds(row)).collect())
}

// --- Groupings -------------------------------------------------------------------------------------------------------

type Key = Box<dyn Fn(&Row) -> Value>;
type Function = Box<dyn Fn(&[&Row]) -> Value>;

fn grouped(random: &mut Rng, table: &Table) -> Question {
    let (filter, rows) = filtered(random, table);
    let mut keys: Vec<(String, Key)> = Vec::new();
    for (at, label) in table.labels.iter().enumerate() {
        if random.u8(..5) > 1 {
            keys.push(((*label).into(), Box::new(move |row| text(&row.labels[at]))));
        }
    }
    let has_series = keys.len() == table.labels.len();
    let has_bins = random.u8(..3) == 0;
    if has_bins {
        let width = [1_000, 7_000, 50_000, 60_000_000][random.usize(..4)];
        let sql = format!("date_bin(interval '{width} microseconds', time)");
        keys.push((sql, Box::new(move |row| Value::Int(row.time - row.time.rem_euclid(width)))));
    }
    if random.u8(..6) == 0 {
        keys.push(("host".into(), Box::new(|_| text(HOST))));
    }
    random.shuffle(&mut keys);
    let functions: Vec<(String, Function)> =
        (0..random.usize(1..4)).map(|_| function(random, table, has_series && !has_bins)).collect();
    let at_least = (random.u8(..6) == 0).then(|| random.usize(..20));
    let names: Vec<&str> = keys.iter().map(|(sql, _)| sql.as_str()).collect();
    let group = if names.is_empty() { String::new() } else { format!(" GROUP BY {}", names.join(", ")) };
    let having = at_least.map_or(String::new(), |least| format!(" HAVING count(*) >= {least}"));
    let told: Vec<&str> = names.iter().copied().chain(functions.iter().map(|(sql, _)| sql.as_str())).collect();
    let told: Vec<String> = told.iter().enumerate().map(|(at, sql)| format!("{sql} AS c{at}")).collect();
    let sql = format!("SELECT {} FROM {}{filter}{group}{having}", told.join(", "), table.name);
    let mut groups: BTreeMap<String, (Vec<Value>, Vec<&Row>)> = BTreeMap::new();
    for row in rows {
        let key: Vec<Value> = keys.iter().map(|(_, of)| of(row)).collect();
        groups.entry(format!("{key:?}")).or_insert_with(|| (key, Vec::new())).1.push(row);
    }
    if keys.is_empty() && groups.is_empty() {
        groups.insert(String::new(), (Vec::new(), Vec::new()));
    }
    let kept = groups.into_values().filter(|(_, rows)| at_least.is_none_or(|least| rows.len() >= least));
    let rows = kept.map(|(mut row, rows)| {
        row.extend(functions.iter().map(|(_, of)| of(&rows)));
        row
    });
    Question { sql, rows: rows.collect(), is_ordered: false }
}

fn function(random: &mut Rng, table: &Table, of_series: bool) -> (String, Function) {
    let at = random.usize(..table.values.len());
    let name = table.values[at];
    let numbers = move |rows: &[&Row]| rows.iter().filter_map(|row| row.values[at]).collect::<Vec<i64>>();
    let sum = |numbers: &[i64]| numbers.iter().copied().reduce(|one, other| one + other);
    match random.u8(..if of_series { 11 } else { 8 }) {
        0 => ("count(*)".into(), Box::new(|rows| count(rows.len()))),
        1 => (format!("count({name})"), Box::new(move |rows| count(numbers(rows).len()))),
        2 => (format!("sum({name})"), Box::new(move |rows| int(sum(&numbers(rows))))),
        3 => (format!("min({name})"), Box::new(move |rows| int(numbers(rows).into_iter().min()))),
        4 => (format!("max({name})"), Box::new(move |rows| int(numbers(rows).into_iter().max()))),
        5 => {
            let average = move |rows: &[&Row]| {
                let numbers = numbers(rows);
                sum(&numbers).map_or(Value::Null, |sum| Value::Float(sum as f64 / numbers.len() as f64))
            };
            (format!("avg({name})"), Box::new(average))
        }
        6 => {
            let distinct = move |rows: &[&Row]| count(numbers(rows).into_iter().collect::<BTreeSet<_>>().len());
            (format!("count(DISTINCT {name})"), Box::new(distinct))
        }
        7 => {
            let Condition(sql, holds) = condition(random, table, "", 1);
            let most = move |rows: &[&Row]| {
                int(rows.iter().filter(|row| holds(row) == Some(true)).filter_map(|row| row.values[at]).max())
            };
            (format!("max({name}) FILTER (WHERE {sql})"), Box::new(most))
        }
        8 | 9 => (
            format!("increase({}, time)", table.values[at % 2]),
            Box::new(move |rows| int(increase(rows, at % 2).map(|(more, _)| more))),
        ),
        _ => {
            let rate = move |rows: &[&Row]| match increase(rows, at % 2) {
                Some((more, span)) if span > 0 => Value::Float(more as f64 / (span as f64 / 1e6)),
                _ => Value::Null,
            };
            (format!("rate({}, time)", table.values[at % 2]), Box::new(rate))
        }
    }
}

/// How much a counter grew, and the time from its first to its last value, µs. It begins anew where it is less than before.
fn increase(rows: &[&Row], at: usize) -> Option<(i64, i64)> {
    let mut points: Vec<(i64, i64)> = rows.iter().filter_map(|row| Some((row.time, row.values[at]?))).collect();
    points.sort_unstable();
    let steps = points.windows(2).map(|pair| if pair[1].1 < pair[0].1 { pair[1].1 } else { pair[1].1 - pair[0].1 });
    let (first, last) = (points.first()?, points.last()?);
    (points.len() > 1).then(|| (steps.sum(), last.0 - first.0))
}

// --- Rows ------------------------------------------------------------------------------------------------------------

fn listed(random: &mut Rng, table: &Table) -> Question {
    let (filter, mut rows) = filtered(random, table);
    let value = random.usize(..table.values.len());
    let (labels, is_newest) = (table.labels.join(", "), random.bool());
    rows.sort_by(|one, other| one.time.cmp(&other.time).then_with(|| one.labels.cmp(&other.labels)));
    if is_newest {
        rows.sort_by_key(|row| -row.time);
    }
    let (skipped, most) = (if random.u8(..3) == 0 { random.usize(..30) } else { 0 }, random.usize(..50));
    let sql = format!(
        "SELECT time, {labels}, {}, host FROM {}{filter} ORDER BY time{}, {labels} LIMIT {most} OFFSET {skipped}",
        table.values[value],
        table.name,
        if is_newest { " DESC" } else { "" },
    );
    let shown = |row: &&Row| {
        let mut shown = vec![Value::Int(row.time)];
        shown.extend(row.labels.iter().map(|label| text(label)));
        shown.extend([int(row.values[value]), text(HOST)]);
        shown
    };
    Question { sql, rows: rows.iter().skip(skipped).take(most).map(shown).collect(), is_ordered: true }
}

/// The rows of each series in the order of time.
fn series<'a>(rows: &[&'a Row]) -> BTreeMap<Vec<String>, Vec<&'a Row>> {
    let mut series: BTreeMap<Vec<String>, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        series.entry(row.labels.clone()).or_default().push(row);
    }
    series.values_mut().for_each(|rows| rows.sort_by_key(|row| row.time));
    series
}

fn stepped(random: &mut Rng, table: &Table) -> Question {
    let (filter, rows) = filtered(random, table);
    let value = random.usize(..table.values.len());
    let (name, labels) = (table.values[value], table.labels.join(", "));
    let (back, before) = match random.u8(..5) {
        0 => (2, format!("lag({name}, 2)")),
        1 => (1, format!("lag({name}, 1)")),
        _ => (1, format!("lag({name})")),
    };
    let sql = format!(
        "SELECT {labels}, max(step), count(step), count(*) FROM (SELECT {labels}, {name} - {before} OVER (PARTITION BY {labels} \
         ORDER BY time) AS step FROM {}{filter}) GROUP BY {labels}",
        table.name
    );
    let rows = series(&rows).into_iter().map(|(labels, rows)| {
        let step = |at: usize| Some(rows[at].values[value]? - rows[at.checked_sub(back)?].values[value]?);
        let steps: Vec<i64> = (0..rows.len()).filter_map(step).collect();
        let mut row: Vec<Value> = labels.iter().map(|label| text(label)).collect();
        row.extend([int(steps.iter().copied().max()), count(steps.len()), count(rows.len())]);
        row
    });
    Question { sql, rows: rows.collect(), is_ordered: false }
}

fn windowed(random: &mut Rng, table: &Table) -> Question {
    let (filter, rows) = filtered(random, table);
    let value = random.usize(..table.values.len());
    let (name, labels) = (table.values[value], table.labels.join(", "));
    let window = format!("OVER (PARTITION BY {labels} ORDER BY time");
    let sql = format!(
        "SELECT time, {labels}, lag({name}) {window}), row_number() {window}), \
         sum({name}) {window} ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM {}{filter}",
        table.name
    );
    // With `lag` alone, it is found without a sort.
    let is_alone = random.bool();
    let sql = if is_alone {
        format!("SELECT time, {labels}, lag({name}) {window}) FROM {}{filter}", table.name)
    } else {
        sql
    };
    let mut told = Vec::new();
    for (labels, rows) in series(&rows) {
        for (at, row) in rows.iter().enumerate() {
            let mut shown = vec![Value::Int(row.time)];
            shown.extend(labels.iter().map(|label| text(label)));
            shown.push(int(at.checked_sub(1).and_then(|before| rows[before].values[value])));
            if !is_alone {
                let last = rows[at.saturating_sub(2)..=at].iter().filter_map(|row| row.values[value]);
                shown.extend([count(at + 1), int(last.reduce(|one, other| one + other))]);
            }
            told.push(shown);
        }
    }
    Question { sql, rows: told, is_ordered: false }
}

// --- Several tables --------------------------------------------------------------------------------------------------

fn joined(random: &mut Rng, data: &Data) -> Question {
    let width = [1_000, 7_000, 50_000, 60_000_000][random.usize(..4)];
    let is_left = random.bool();
    let mut sides = Vec::new();
    let mut sqls = Vec::new();
    for table in &data.tables {
        let (filter, rows) = filtered(random, table);
        let value = random.usize(..table.values.len());
        let bin = format!("date_bin(interval '{width} microseconds', time)");
        sqls.push(format!(
            "(SELECT {bin} AS bin, max({}) AS most FROM {}{filter} GROUP BY 1)",
            table.values[value], table.name
        ));
        let mut most: BTreeMap<i64, Option<i64>> = BTreeMap::new();
        for row in rows {
            let bin = most.entry(row.time.div_euclid(width)).or_default();
            *bin = (*bin).max(row.values[value]);
        }
        sides.push(most);
    }
    let sql = format!(
        "SELECT count(*), count(d.bin), sum(n.most - d.most) FROM {} n {} JOIN {} d ON n.bin = d.bin",
        sqls[0],
        if is_left { "LEFT" } else { "" },
        sqls[1],
    );
    let matched: Vec<(Option<i64>, Option<i64>)> =
        sides[0].iter().filter_map(|(bin, most)| Some((*most, *sides[1].get(bin)?))).collect();
    let all = if is_left { sides[0].len() } else { matched.len() };
    let sum = matched.iter().filter_map(|(one, other)| Some((*one)? - (*other)?)).reduce(|one, other| one + other);
    Question { sql, rows: vec![vec![count(all), count(matched.len()), int(sum)]], is_ordered: false }
}

/// Whether there are other rows of the same label.
fn existing(random: &mut Rng, table: &Table) -> Question {
    let (of_rows, of_others) = (condition(random, table, "a.", 1), condition(random, table, "b.", 1));
    let label = random.usize(..table.labels.len());
    let (name, is) = (table.labels[label], random.bool());
    let not = if is { "" } else { "NOT " };
    let asks = if random.bool() {
        format!("{not}EXISTS (SELECT 1 FROM {} b WHERE b.{name} = a.{name} AND {})", table.name, of_others.0)
    } else {
        format!("a.{name} {not}IN (SELECT b.{name} FROM {} b WHERE {})", table.name, of_others.0)
    };
    let value = random.usize(..table.values.len());
    if random.u8(..3) == 0 {
        return later(random, table, label, value, is);
    }
    let sql =
        format!("SELECT count(*), sum(a.{}) FROM {} a WHERE {} AND {asks}", table.values[value], table.name, of_rows.0);
    let there: BTreeSet<&str> =
        table.rows.iter().filter(|row| of_others.holds(row)).map(|row| row.labels[label].as_str()).collect();
    let rows = table.rows.iter().filter(|row| of_rows.holds(row) && there.contains(row.labels[label].as_str()) == is);
    let rows: Vec<&Row> = rows.collect();
    let sum = rows.iter().filter_map(|row| row.values[value]).reduce(|one, other| one + other);
    Question { sql, rows: vec![vec![count(rows.len()), int(sum)]], is_ordered: false }
}

/// Whether there are rows of the same label that are later, or greater.
fn later(random: &mut Rng, table: &Table, label: usize, value: usize, is: bool) -> Question {
    let (name, column, not) = (table.labels[label], table.values[value], if is { "" } else { "NOT " });
    let by_time = random.bool();
    let compared = if by_time { "a.time < b.time".into() } else { format!("b.{column} > a.{column}") };
    let sql = format!(
        "SELECT count(*) FROM {} a WHERE {not}EXISTS (SELECT 1 FROM {} b WHERE b.{name} = a.{name} AND {compared})",
        table.name, table.name
    );
    let of = |row: &Row| if by_time { Some(row.time) } else { row.values[value] };
    let mut most: BTreeMap<&str, i64> = BTreeMap::new();
    for row in &table.rows {
        let most = most.entry(&row.labels[label]).or_insert(i64::MIN);
        *most = (*most).max(of(row).unwrap_or(i64::MIN));
    }
    let has_later = |row: &&Row| of(row).is_some_and(|own| most[row.labels[label].as_str()] > own);
    let rows = table.rows.iter().filter(|row| has_later(row) == is).count();
    Question { sql, rows: vec![vec![count(rows)]], is_ordered: false }
}
