//! All that is kept, from the oldest row to now, on one row: the older, the closer together.

use std::fmt::Write as _;

use arrow::array::RecordBatch;

use super::catalog::Catalog;
use super::page::Page;
use super::statement::{Host, time};
use super::window::{DAY_US, HOUR_US, MINUTE_US, SECOND_US};
use crate::cli::rows::{Rows, text, whole};

/// Ages at which stretches end; each has the same number of columns, and the last one, of what is older still, has few.
const AGES_US: [i64; 9] =
    [0, MINUTE_US, 10 * MINUTE_US, HOUR_US, 6 * HOUR_US, DAY_US, 7 * DAY_US, 30 * DAY_US, OLDEST_US];
const NAMES: [&str; 7] = ["1 min", "10 min", "1 h", "6 h", "1 d", "7 d", "30 d"];
/// Nothing is shown that is older.
const OLDEST_US: i64 = 730 * DAY_US;
/// Columns of what is older than the last but one age.
const OLDEST_COLUMNS: usize = 4;
/// Missed ticks are shown if no more than one of so many columns has some.
const MISSED_SHARE: usize = 3;
/// Where the row begins.
pub(super) const HISTORY_X: u16 = 12;

/// What is kept, by columns, of which the last is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    /// `=` rows, `-` seconds, `.` minutes, a space for nothing.
    kept: Vec<char>,
    /// `!` an alert fired, `x` ticks were missed.
    marks: Vec<char>,
}

impl History {
    pub(super) fn columns(&self) -> usize {
        self.kept.len()
    }

    /// The statement for so many columns. Where something was recorded, rows are kept from the oldest one on, and seconds too.
    pub(super) fn statement(now_us: i64, columns: usize, host: &Host, catalog: &Catalog) -> String {
        let age = format!("({} - date_part('epoch', time))", now_us as f64 / 1e6);
        let mut cases = String::new();
        for (at, pair) in AGES_US.windows(2).enumerate() {
            let (from, to) = (edge(at, columns), edge(at + 1, columns));
            let [from_s, to_s] = [pair[0], pair[1]].map(|us| us / SECOND_US);
            let _ = write!(
                cases,
                "WHEN {age} < {to_s} THEN {from} + CAST(floor(({age} - {from_s}) * {} / {}) AS BIGINT) ",
                to - from,
                to_s - from_s
            );
        }
        let back = format!("CASE {cases}END AS back");
        let part = |(sign, table, and): (&str, &str, String)| {
            format!(
                "SELECT DISTINCT '{sign}' AS sign, {back} FROM {table} WHERE {} AND time >= {}{and}",
                host.condition(),
                time(now_us - OLDEST_US)
            )
        };
        let oldest = |(sign, table): (&str, &str)| {
            format!("(SELECT '{sign}' AS sign, {back} FROM {table} WHERE {} ORDER BY time LIMIT 1)", host.condition())
        };
        // A table of one row a second tells when this host recorded.
        let recent = format!(" AND time >= {}", time(now_us - AGES_US[2]));
        let parts = [
            (".", "kymo", recent),
            (".", "kymo_1m", String::new()),
            ("x", "gap", String::new()),
            ("!", "alert", " AND state = 'firing'".to_owned()),
        ];
        let is_known = |(_, table, _): &(&str, &str, String)| catalog.has_table(table.trim_end_matches("_1m"));
        let parts = parts.into_iter().filter(is_known).map(part);
        parts.chain([("=", "kymo"), ("-", "cpu_1s")].map(oldest)).collect::<Vec<_>>().join(" UNION ALL ")
    }

    /// Reads the answer.
    pub(super) fn read(batches: &[RecordBatch], columns: usize) -> anyhow::Result<History> {
        let mut history = History { kept: vec![' '; columns], marks: vec![' '; columns] };
        let mut finer = Vec::new();
        for batch in batches {
            let rows = Rows::of(batch);
            let (signs, backs) = (rows.texts("sign")?, rows.wholes("back")?);
            for row in 0..rows.count() {
                let back = whole(&backs, row).map_or(columns, |back| usize::try_from(back).unwrap_or(0));
                let at = columns.saturating_sub(back + 1);
                match text(&signs, row) {
                    "=" => finer.push((at, '=')),
                    "-" => finer.push((at, '-')),
                    _ if back >= columns => {}
                    sign => history.set(at, sign.chars().next().unwrap_or(' ')),
                }
            }
        }
        for (oldest, sign) in finer {
            for at in (oldest..columns).filter(|at| history.kept[*at] != ' ').collect::<Vec<_>>() {
                history.set(at, sign);
            }
        }
        Ok(history)
    }

    fn set(&mut self, at: usize, sign: char) {
        const FINER: &str = " .-=";
        const STRONGER: &str = " x!";
        let (row, order) = if FINER.contains(sign) { (&mut self.kept, FINER) } else { (&mut self.marks, STRONGER) };
        if let Some(place) = row.get_mut(at).filter(|place| order.find(**place) < order.find(sign)) {
            *place = sign;
        }
    }

    /// One of signs.
    #[cfg(test)]
    pub(super) fn of(kept: &str, marks: &str) -> History {
        History { kept: kept.chars().collect(), marks: marks.chars().collect() }
    }
}

/// How many columns back from now an age is at which a stretch ends.
fn edge(at: usize, columns: usize) -> usize {
    let last = AGES_US.len() - 1;
    if at == last { columns } else { columns.saturating_sub(OLDEST_COLUMNS) * at / (last - 1) }
}

/// The column of an age.
fn column_of(age_us: i64, columns: usize) -> usize {
    let at = AGES_US.iter().skip(1).position(|end| age_us < *end).unwrap_or(AGES_US.len() - 2);
    let share = (age_us - AGES_US[at]).max(0) as f64 / (AGES_US[at + 1] - AGES_US[at]) as f64;
    let (from, to) = (edge(at, columns), edge(at + 1, columns));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a number of columns")]
    let back = from + (share * (to - from) as f64) as usize;
    columns.saturating_sub(back + 1)
}

/// The age of the middle of a column.
pub(super) fn age_of(column: usize, columns: usize) -> i64 {
    let back = columns.saturating_sub(column + 1);
    let at = (1..AGES_US.len()).find(|at| back < edge(*at, columns)).map_or(0, |at| at - 1);
    let (from, to) = (edge(at, columns), edge(at + 1, columns));
    let share = ((back - from) as f64 + 0.5) / (to - from).max(1) as f64;
    #[expect(clippy::cast_possible_truncation, reason = "less than the oldest age")]
    let age_us = (share * (AGES_US[at + 1] - AGES_US[at]) as f64) as i64;
    AGES_US[at] + age_us
}

/// So many columns fit.
pub(super) fn columns_of(width: u16) -> usize {
    usize::from(width.saturating_sub(HISTORY_X + 1))
}

/// The row of what is kept, with the cursor at an age.
pub(super) fn draw(page: &mut Page, history: &History, age_us: i64, y: u16) {
    let (quiet, heading, alert) = (page.palette.quiet, page.palette.heading, page.palette.alert);
    page.put(1, y, "history", quiet);
    let columns = history.columns();
    let x = |at: usize| HISTORY_X + u16::try_from(at).unwrap_or(u16::MAX);
    for (at, sign) in history.kept.iter().enumerate() {
        page.put(x(at), y, sign.encode_utf8(&mut [0; 4]), quiet);
    }
    let mut has_text = vec![false; columns + 1];
    for (at, name) in NAMES.iter().enumerate() {
        let column = columns.saturating_sub(edge(at + 1, columns));
        let text = format!("|{name}");
        has_text.iter_mut().skip(column).take(text.len()).for_each(|place| *place = true);
        page.put_within(x(column), y, &text, u16::try_from(edge(1, columns)).unwrap_or(0), quiet);
    }
    // Where most columns have missed ticks, these tell nothing.
    let has_many = history.marks.iter().filter(|sign| **sign == 'x').count() * MISSED_SHARE > columns;
    let is_told = |sign: &char| *sign == '!' || *sign == 'x' && !has_many;
    for (at, sign) in history.marks.iter().enumerate().filter(|(_, sign)| is_told(sign)) {
        // An age is read as a whole: what was then stands after it.
        let at = (at..columns).find(|at| !has_text[*at]).unwrap_or(at);
        page.put(x(at), y, sign.encode_utf8(&mut [0; 4]), if *sign == '!' { alert } else { heading });
    }
    if columns > 0 {
        page.put_over(x(column_of(age_us, columns)), y, "▾", heading);
        page.hits.history = Some((y, columns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_columns_and_columns_ages() {
        for columns in [27, 107, 187] {
            assert_eq!((column_of(0, columns), column_of(OLDEST_US * 2, columns)), (columns - 1, 0));
            for column in 0..columns {
                assert_eq!(column_of(age_of(column, columns), columns), column, "{columns}");
            }
        }
    }

    #[test]
    fn the_finest_that_is_kept_is_shown_and_alerts_before_missed_ticks() {
        let mut history = History::of("  ", "  ");
        for (at, sign) in [(0, '.'), (0, '='), (0, '-'), (1, 'x'), (1, '!'), (1, 'x'), (7, '=')] {
            history.set(at, sign);
        }
        assert_eq!(history, History::of("= ", " !"));
    }
}
