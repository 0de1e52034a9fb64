//! Functions that people know from other databases, as the expressions that they stand for.

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::functions::{core, datetime, math, regex, string};
use datafusion::functions_nested::expr_fn::{array_element, string_to_array};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, ScalarUDF, cast, lit, when};

use super::arithmetic::TIMES;
use super::bucket::DATE_BIN;
use super::field;
use super::moment::{DATE_SUB, utc_type};
use super::shorthand::Shorthand;

/// A function with so many arguments.
macro_rules! short {
    ($name:literal $(or $alias:literal)*, $usage:literal, $doc:literal, $args:pat => $expr:expr) => {
        Shorthand {
            name: $name,
            aliases: &[$($alias),*],
            usage: $usage,
            doc: $doc,
            expand: |args| match args {
                $args => Some($expr),
                _ => None,
            },
        }
    };
}

/// All of them.
pub(super) const ALL: &[Shorthand] = &[
    // Numbers.
    short!(
        "mod", "mod(7, 3)", "The rest of a division, with the sign of the first number.",
        [a, b] => binary(a, Operator::Modulo, b)
    ),
    short!("div", "div(7, 2)", "The whole part of a quotient.", [a, b] => {
        let whole = binary(a, Operator::Minus, &binary(a, Operator::Modulo, b));
        binary(&whole, Operator::Divide, b)
    }),
    short!("sign", "sign(x)", "-1, 0 or 1, by the sign of a number.", [x] => math::signum().call(vec![x.clone()])),
    short!(
        "ceiling", "ceiling(x)", "The least whole number that is not below a number.",
        [x] => math::ceil().call(vec![x.clone()])
    ),
    short!(
        "xor", "xor(5, 3)", "The bits that one of two integers has and the other one lacks.",
        [a, b] => binary(a, Operator::BitwiseXor, b)
    ),
    // Fields of times.
    short!(
        "epoch", "epoch(time)", "Seconds since 1970, or of a length of time, with their fraction.",
        [time] => field_of("epoch", time)
    ),
    short!("year", "year(time)", "The year of a time.", [time] => field_of("year", time)),
    short!(
        "quarter", "quarter(time)", "The quarter of a time's year, from 1 to 4.",
        [time] => field_of("quarter", time)
    ),
    short!("month", "month(time)", "The month of a time, from 1 to 12.", [time] => field_of("month", time)),
    short!("week" or "weekofyear", "week(time)", "The week of a time by ISO 8601.", [time] => field_of("week", time)),
    short!("day" or "dayofmonth", "day(time)", "The day of a time's month.", [time] => field_of("day", time)),
    short!("dayofyear", "dayofyear(time)", "The day of a time's year.", [time] => field_of("doy", time)),
    short!(
        "dayofweek" or "weekday", "dayofweek(time)", "The day of a time's week. Sunday is 0.",
        [time] => field_of("dow", time)
    ),
    short!(
        "isodow", "isodow(time)", "The day of a time's week. Monday is 1, and Sunday 7.",
        [time] => field_of("isodow", time)
    ),
    short!("hour", "hour(time)", "The hour of a time, from 0 to 23.", [time] => field_of("hour", time)),
    short!("minute", "minute(time)", "The minute of a time's hour.", [time] => field_of("minute", time)),
    short!("second", "second(time)", "The whole second of a time's minute.", [time] => field_of("second", time)),
    short!(
        "millisecond", "millisecond(time)", "The whole milliseconds of a time's minute.",
        [time] => field_of("millisecond", time)
    ),
    short!(
        "microsecond", "microsecond(time)", "The microseconds of a time's minute.",
        [time] => field_of("microsecond", time)
    ),
    // Lengths of time.
    short!(
        "to_microseconds", "to_microseconds(5)", "A length of time of so many microseconds.",
        [n] => times(n, 0, 0, 1_000)
    ),
    short!(
        "to_milliseconds", "to_milliseconds(5)", "A length of time of so many milliseconds.",
        [n] => times(n, 0, 0, 1_000_000)
    ),
    short!("to_seconds", "to_seconds(5)", "A length of time of so many seconds.", [n] => times(n, 0, 0, SECOND_NS)),
    short!(
        "to_minutes", "to_minutes(5)", "A length of time of so many minutes.",
        [n] => times(n, 0, 0, 60 * SECOND_NS)
    ),
    short!("to_hours", "to_hours(5)", "A length of time of so many hours.", [n] => times(n, 0, 0, 3_600 * SECOND_NS)),
    short!("to_days", "to_days(5)", "A length of time of so many days.", [n] => times(n, 0, 1, 0)),
    short!("to_weeks", "to_weeks(5)", "A length of time of so many weeks.", [n] => times(n, 0, 7, 0)),
    short!("to_months", "to_months(5)", "A length of time of so many months.", [n] => times(n, 1, 0, 0)),
    short!("to_years", "to_years(5)", "A length of time of so many years.", [n] => times(n, 12, 0, 0)),
    // Times.
    short!("date", "date(time)", "The day of a time.", [time] => cast(time.clone(), DataType::Date32)),
    short!("tz", "tz(time, 'Europe/Berlin')", "The same time in another zone.", [time, zone] => in_zone(time, zone)?),
    short!(
        "timezone", "timezone('Europe/Berlin', time)", "The same time in another zone.",
        [zone, time] => in_zone(time, zone)?
    ),
    short!(
        "date_add", "date_add(time, INTERVAL '1 day')", "The time that lies a length of time later.",
        [time, span] => binary(time, Operator::Plus, span)
    ),
    Shorthand {
        name: "date_sub",
        aliases: &[],
        usage: "date_sub('second', earlier, later) or date_sub(time, INTERVAL '1 day')",
        doc: "The time that lies a length of time earlier, or how many whole units lie between two times.",
        expand: |args| match args {
            [time, span] => Some(binary(time, Operator::Minus, span)),
            [_, _, _] => Some(DATE_SUB.function().call(args.to_vec())),
            _ => None,
        },
    },
    Shorthand {
        name: "date_trunc",
        aliases: &["datetrunc"],
        usage: "date_trunc('minute', time), with a time zone as a third argument if you like",
        doc: "When the unit of time began in which a time lies.",
        expand: |args| match args {
            [unit, time] => Some(truncated(unit, time)),
            // The beginning by the clock of the zone, as a moment.
            [unit, time, zone] => Some(cast(truncated(unit, &in_zone(time, zone)?), utc_type())),
            _ => None,
        },
    },
    short!("tostartofinterval" or "time_slice", "toStartOfInterval(time, INTERVAL 10 second)", "When the bucket begins in which a time lies.", [time, width] => {
        DATE_BIN.function().call(vec![width.clone(), time.clone()])
    }),
    short!(
        "tostartofsecond", "toStartOfSecond(time)", "When the second of a time began.",
        [time] => truncated(&lit("second"), time)
    ),
    short!(
        "tostartofminute", "toStartOfMinute(time)", "When the minute of a time began.",
        [time] => truncated(&lit("minute"), time)
    ),
    short!(
        "tostartofhour", "toStartOfHour(time)", "When the hour of a time began.",
        [time] => truncated(&lit("hour"), time)
    ),
    short!(
        "tostartofday", "toStartOfDay(time)", "When the day of a time began.",
        [time] => truncated(&lit("day"), time)
    ),
    // Texts.
    short!("string_split" or "str_split" or "split", "string_split(text, ',')", "The parts of a text between separators, as a list.", [text, separator] => {
        string_to_array(text.clone(), separator.clone(), lit(ScalarValue::Utf8(None)))
    }),
    Shorthand {
        name: "regexp_matches",
        aliases: &[],
        usage: "regexp_matches(text, pattern)",
        doc: "Whether a pattern matches a part of a text.",
        expand: |args| match args {
            [_, _] | [_, _, _] => Some(regex::regexp_like().call(args.to_vec())),
            _ => None,
        },
    },
    short!("regexp_full_match", "regexp_full_match(text, pattern)", "Whether a pattern matches the whole text.", [text, pattern] => {
        let whole = string::concat().call(vec![lit("^(?:"), pattern.clone(), lit(")$")]);
        regex::regexp_like().call(vec![text.clone(), whole])
    }),
    short!(
        "unicode" or "ord", "unicode(text)", "The code of a text's first character.",
        [text] => string::ascii().call(vec![text.clone()])
    ),
    short!(
        "strlen", "strlen(text)", "How many bytes a text has.",
        [text] => string::octet_length().call(vec![text.clone()])
    ),
    short!(
        "regexp_substr", "regexp_substr(text, pattern)", "The first part of a text that a pattern matches.",
        [text, pattern] => matched(text, pattern, lit(1_i64))
    ),
    Shorthand {
        name: "regexp_extract",
        aliases: &[],
        usage: "regexp_extract(text, pattern, group)",
        doc: "The first part of a text that a pattern matches, or of a group of it; an empty text if there is none.",
        expand: |args| {
            let found = match args {
                [text, pattern] => matched(text, pattern, lit(1_i64)),
                [text, pattern, group] => matched(text, pattern, binary(group, Operator::Plus, &lit(1_i64))),
                _ => return None,
            };
            let empty = when(args.first()?.clone().is_not_null(), lit("")).end().ok()?;
            Some(core::coalesce().call(vec![found, empty]))
        },
    },
    Shorthand {
        name: "gen_random_uuid",
        aliases: &[],
        usage: "gen_random_uuid()",
        doc: "A random UUID.",
        expand: |args| args.is_empty().then(|| string::uuid().call(Vec::new())),
    },
];

const SECOND_NS: i64 = 1_000_000_000;

fn binary(left: &Expr, op: Operator, right: &Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left.clone()), op, Box::new(right.clone())))
}

fn field_of(name: &str, time: &Expr) -> Expr {
    field::function().call(vec![lit(name), time.clone()])
}

fn times(number: &Expr, months: i32, days: i32, ns: i64) -> Expr {
    let unit = ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(months, days, ns)));
    TIMES.function().call(vec![lit(unit), number.clone()])
}

fn text_in(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

/// The time by the clock of a zone.
fn in_zone(time: &Expr, zone: &Expr) -> Option<Expr> {
    let zone = text_in(zone)?;
    Some(cast(time.clone(), DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into()))))
}

/// DataFusion's function, which knows no plurals.
fn truncated(unit: &Expr, time: &Expr) -> Expr {
    let unit = match text_in(unit) {
        Some(name) => {
            let name = name.trim().to_lowercase();
            let one = match name.as_str() {
                "ms" | "msec" | "msecs" => "millisecond",
                "us" | "usec" | "usecs" => "microsecond",
                "s" | "sec" | "secs" => "second",
                "min" | "mins" | "m" => "minute",
                "h" | "hr" | "hrs" => "hour",
                "d" => "day",
                "w" => "week",
                "mon" | "mons" => "month",
                "y" | "yr" | "yrs" => "year",
                other => other.strip_suffix('s').unwrap_or(other),
            };
            lit(one)
        }
        None => unit.clone(),
    };
    datetime::date_trunc().call(vec![unit, time.clone()])
}

/// The part of a text that a pattern matches, and behind it the groups in the pattern.
fn matched(text: &Expr, pattern: &Expr, position: Expr) -> Expr {
    let whole = string::concat().call(vec![lit("("), pattern.clone(), lit(")")]);
    array_element(regex::regexp_match().call(vec![text.clone(), whole]), position)
}

/// The functions, to be registered.
pub(super) fn functions() -> impl Iterator<Item = ScalarUDF> {
    ALL.iter().map(|shorthand| shorthand.function())
}
