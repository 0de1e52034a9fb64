//! Text that is no SQL here: another database's words, or another query language.

use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

/// A part of a statement in small letters, with single blanks, and what to write instead.
const PARTS: &[(&str, &str)] = &[
    (
        "asof join",
        "ASOF JOIN is not offered: join both on date_bin(interval '1 second', time), or take the latest row of the other table \
         with last_value(…) IGNORE NULLS OVER (ORDER BY time) over a UNION ALL of both",
    ),
    ("using sample", "USING SAMPLE is not offered: use WHERE random() < 0.1"),
    ("exclude current row", FRAME),
    ("exclude group", FRAME),
    ("exclude ties", FRAME),
    ("group by time(", INFLUX),
    (" fill(", INFLUX),
    ("pivot ", "PIVOT is not offered: write avg(x) FILTER (WHERE cpu = '0') AS cpu_0 for each column"),
    (
        "summarize ",
        "SUMMARIZE is not offered: select min(x), max(x), avg(x), count(x); SHOW COLUMNS FROM host lists the columns",
    ),
    ("select top", "write LIMIT 5 at the end instead of TOP 5"),
];

const FRAME: &str = "EXCLUDE in a frame is not offered: subtract the row's own value, as in sum(x) OVER (…) - x";
const INFLUX: &str = "that is InfluxQL: write GROUP BY date_bin(interval '10 seconds', time)";

/// What is wrong with a text that the parser does not take, and what to write instead.
pub(in crate::query) fn of_syntax(sql: &str, error: &DataFusionError) -> String {
    let message = match error.find_root() {
        DataFusionError::SQL(error, _) => match &**error {
            ParserError::ParserError(message) | ParserError::TokenizerError(message) => message.clone(),
            ParserError::RecursionLimitExceeded => {
                "the statement nests too deep; use WITH to name its inner parts".into()
            }
        },
        DataFusionError::Configuration(message) if message.contains("explain format") => {
            "EXPLAIN has no such format: use EXPLAIN, EXPLAIN ANALYZE or EXPLAIN FORMAT TREE".into()
        }
        other => other.strip_backtrace(),
    };
    let words = sql.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    match hint(&words) {
        Some(hint) => format!("{message}. {hint}"),
        None => message,
    }
}

fn hint(words: &str) -> Option<String> {
    if let Some((range, _)) = in_brackets(words) {
        return Some(format!(
            "[{range}] is PromQL: write rate(rx_bytes, time) … WHERE time > now() - interval '1 minute' GROUP BY interface"
        ));
    }
    if let Some((_, hint)) = PARTS.iter().find(|(part, _)| words.contains(part)) {
        return Some((*hint).into());
    }
    let duration = words.split([' ', '(', ')', ',', ';']).find(|word| is_duration(word))?;
    Some(format!("a length of time is written INTERVAL '{duration}', as in now() - INTERVAL '1 hour'"))
}

/// The length of time in brackets, as in `rx_bytes[1m]`.
fn in_brackets(words: &str) -> Option<(&str, &str)> {
    let (inner, rest) = words.split_once('[')?.1.split_once(']')?;
    is_duration(inner).then_some((inner, rest))
}

/// Whether a word is a number and a unit, such as `10s`.
fn is_duration(word: &str) -> bool {
    let unit = word.trim_start_matches(|one: char| one.is_ascii_digit());
    unit.len() < word.len() && ["ms", "s", "m", "h", "d", "w"].contains(&unit)
}

/// What to do instead of a statement that begins with this word.
pub(in crate::query) fn of_word(word: &str) -> &'static str {
    match word {
        "BEGIN" | "START" | "COMMIT" | "ROLLBACK" => {
            ". A client begins and ends transactions by calls of its driver, and not by statements"
        }
        "COPY" | "EXPORT" => ". The client saves the result, as kymo query --format json does",
        "PRAGMA" => ". SHOW TABLES lists the tables, and SHOW COLUMNS FROM cpu the columns of one",
        "SET" | "USE" => {
            ". All tables are in the schema public, and times are in UTC; a driver sets what there is to set"
        }
        "SHOW" => ". SHOW ALL lists the settings, SHOW TABLES the tables, SHOW COLUMNS FROM cpu the columns of one",
        "CALL" | "DO" | "EXECUTE" | "PREPARE" => ". A driver prepares statements and binds parameters",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_languages_are_recognized() {
        for (words, expected) in [
            ("select sum(rate(rx_bytes[1m])) by (interface) from network", "PromQL"),
            ("select mean(x) from cpu group by time(10s) fill(null)", "InfluxQL"),
            ("select * from cpu where time > now() - 1h", "INTERVAL '1h'"),
            ("select * from network using sample 10 rows", "random()"),
            ("pivot cpu on cpu using avg(utilization)", "FILTER"),
            ("select * from host h asof join cpu c on h.time >= c.time", "ASOF"),
        ] {
            let hint = hint(words).unwrap_or_default();
            assert!(hint.contains(expected), "{words}: {hint}");
        }
        assert_eq!(hint("select 1 from cpu where a[1] = 2 frm"), None);
    }
}
