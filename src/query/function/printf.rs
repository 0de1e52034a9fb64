//! `printf('%.1f %%', x)` and `format`, which takes PostgreSQL's `%s` and DuckDB's `{:.2f}`.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{DataFusionError, Result, exec_err, plan_datafusion_err};
use datafusion::logical_expr::ColumnarValue;

use super::scalar::{Call, Scalar, Types};

/// C's and DuckDB's function.
pub(super) const PRINTF: Scalar = Scalar {
    name: "printf",
    aliases: &[],
    usage: "printf('%s: %.1f', text, x)",
    doc: "A text with values in the place of %s, %d, %.1f and the like.",
    types: any,
    body: |call| formatted(call, parse_percent),
    grows_with: None,
};

/// PostgreSQL's function with `%s`, and DuckDB's with `{}`.
pub(super) const FORMAT: Scalar = Scalar {
    name: "format",
    aliases: &[],
    usage: "format('{}: {:.1f}', text, x) or format('%s: %s', text, x)",
    doc: "A text with values in the place of {}, {:.1f} and the like, or of %s.",
    types: any,
    body: |call| formatted(call, |text| if text.contains('{') { parse_braces(text) } else { parse_percent(text) }),
    grows_with: None,
};

/// Longest text that a width fills with blanks.
const WIDTH_MAX: usize = 1_000;

fn any(types: &[DataType]) -> Option<Types> {
    let (pattern, values) = types.split_first()?;
    let value = |ty: &DataType| match ty {
        integer if integer.is_integer() => DataType::Int64,
        number if number.is_numeric() => DataType::Float64,
        _ => DataType::Utf8,
    };
    let taken = std::iter::once(DataType::Utf8).chain(values.iter().map(value)).collect();
    (pattern.is_string() || pattern.is_null()).then_some((taken, DataType::Utf8))
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Value(Spec),
}

/// How a value is written.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "the flags of printf")]
struct Spec {
    left: bool,
    plus: bool,
    zeros: bool,
    thousands: bool,
    width: usize,
    digits: Option<usize>,
    /// `d`, `f`, `e`, `g`, `x`, `X`, `o`, `b`, `s`; none is what suits the value.
    kind: Option<char>,
}

fn wrong(text: &str) -> DataFusionError {
    plan_datafusion_err!("the pattern '{text}' is none of printf: write one such as '%s: %5.1f %%' or '{{}}: {{:.1f}}'")
}

fn parse_percent(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('%') {
        pieces.push(Piece::Text(before.into()));
        if let Some(behind) = behind.strip_prefix('%') {
            pieces.push(Piece::Text("%".into()));
            rest = behind;
            continue;
        }
        let end = behind.find(|c: char| c.is_ascii_alphabetic() && c != 'l').ok_or_else(|| wrong(text))?;
        let spec = spec(&behind[..end].replace('l', "")).ok_or_else(|| wrong(text))?;
        let kind = match behind[end..].chars().next() {
            Some('i' | 'd' | 'u') => 'd',
            Some(kind) if "feEgGxXosc".contains(kind) => kind,
            _ => return Err(wrong(text)),
        };
        pieces.push(Piece::Value(Spec { kind: Some(kind), ..spec }));
        rest = &behind[end + 1..];
    }
    pieces.push(Piece::Text(rest.into()));
    Ok(pieces)
}

fn parse_braces(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(position) = rest.find(['{', '}']) {
        let (before, behind) = rest.split_at(position);
        pieces.push(Piece::Text(before.into()));
        if let Some(after) = behind.strip_prefix("{{").or_else(|| behind.strip_prefix("}}")) {
            pieces.push(Piece::Text(behind[..1].into()));
            rest = after;
            continue;
        }
        let (inside, after) =
            behind.strip_prefix('{').and_then(|inside| inside.split_once('}')).ok_or_else(|| wrong(text))?;
        let written = match inside.strip_prefix(':') {
            Some(written) => written,
            None if inside.is_empty() => "",
            None => return Err(wrong(text)),
        };
        let kind = written.chars().last().filter(char::is_ascii_alphabetic);
        let flags = written.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        if kind.is_some_and(|kind| !"dfeEgGxXobs".contains(kind)) {
            return Err(wrong(text));
        }
        let spec = spec(flags).ok_or_else(|| wrong(text))?;
        pieces.push(Piece::Value(Spec { kind, ..spec }));
        rest = after;
    }
    pieces.push(Piece::Text(rest.into()));
    Ok(pieces)
}

/// The flags, the width and the digits.
fn spec(text: &str) -> Option<Spec> {
    let mut spec = Spec::default();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match first {
            '-' | '<' => spec.left = true,
            '>' | ' ' | '#' => {}
            '+' => spec.plus = true,
            ',' | '\'' => spec.thousands = true,
            '0' => spec.zeros = true,
            _ => break,
        }
        rest = &rest[1..];
    }
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    if end > 0 {
        spec.width = rest[..end].parse().ok().filter(|width| *width <= WIDTH_MAX)?;
    }
    rest = &rest[end..];
    if let Some(behind) = rest.strip_prefix(',') {
        spec.thousands = true;
        rest = behind;
    }
    match rest.strip_prefix('.') {
        Some(digits) => spec.digits = Some(digits.parse().ok().filter(|digits| *digits <= WIDTH_MAX)?),
        None if rest.is_empty() => {}
        None => return None,
    }
    Some(spec)
}

enum Value<'a> {
    Integer(i64),
    Float(f64),
    Text(&'a str),
}

fn formatted(call: &Call<'_>, parse: fn(&str) -> Result<Vec<Piece>>) -> Result<ColumnarValue> {
    let patterns = call.array(0)?;
    let patterns = patterns.as_string::<i32>();
    let values = (1..call.args.len()).map(|position| call.array(position)).collect::<Result<Vec<_>>>()?;
    let mut texts = StringBuilder::new();
    let mut last: Option<(String, Vec<Piece>)> = None;
    for row in 0..patterns.len() {
        if patterns.is_null(row) {
            texts.append_null();
            continue;
        }
        let written = patterns.value(row);
        if last.as_ref().is_none_or(|(last, _)| last != written) {
            last = Some((written.to_owned(), parse(written)?));
        }
        let mut text = String::new();
        let mut rest = values.iter();
        let mut null = false;
        for piece in last.iter().flat_map(|(_, pieces)| pieces) {
            match piece {
                Piece::Text(part) => text.push_str(part),
                Piece::Value(spec) => {
                    let Some(value) = rest.next() else {
                        return exec_err!(
                            "the pattern '{written}' asks for more values than the {} it got",
                            values.len()
                        );
                    };
                    null |= value.is_null(row);
                    if value.is_valid(row) {
                        write_value(&mut text, spec, &value_of(value, row), written)?;
                    }
                }
            }
        }
        texts.append_option((!null).then_some(text));
    }
    call.give(Arc::new(texts.finish()))
}

fn value_of(array: &ArrayRef, row: usize) -> Value<'_> {
    match array.data_type() {
        DataType::Int64 => Value::Integer(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(row)),
        _ => Value::Text(array.as_string::<i32>().value(row)),
    }
}

fn write_value(to: &mut String, spec: &Spec, value: &Value<'_>, pattern: &str) -> Result<()> {
    let (sign, body) = match (spec.kind, value) {
        (None | Some('s' | 'c'), Value::Text(text)) => {
            ("", text.chars().take(spec.digits.unwrap_or(usize::MAX)).collect())
        }
        (None | Some('s' | 'd'), Value::Integer(number)) => {
            (sign_of(*number < 0, spec), number.unsigned_abs().to_string())
        }
        (Some('x'), Value::Integer(number)) => ("", format!("{number:x}")),
        (Some('X'), Value::Integer(number)) => ("", format!("{number:X}")),
        (Some('o'), Value::Integer(number)) => ("", format!("{number:o}")),
        (Some('b'), Value::Integer(number)) => ("", format!("{number:b}")),
        (Some('f' | 'e' | 'E' | 'g' | 'G'), Value::Integer(number)) => float(*number as f64, spec),
        (None | Some('s' | 'f' | 'e' | 'E' | 'g' | 'G'), Value::Float(number)) => float(*number, spec),
        (Some(kind), _) => {
            return exec_err!(
                "the pattern '{pattern}' asks for '{kind}' where the value is of another type: cast it, or use %s"
            );
        }
    };
    let body = if spec.thousands { with_commas(&body) } else { body };
    let blanks = spec.width.saturating_sub(sign.len() + body.chars().count());
    let fill = |to: &mut String, with: char| to.extend(std::iter::repeat_n(with, blanks));
    let number = !matches!(value, Value::Text(_));
    // Numbers stand on the right, and so do texts of printf; braces put texts on the left.
    match (spec.left || (!number && spec.kind.is_none()), spec.zeros && number) {
        (true, _) => {
            to.push_str(sign);
            to.push_str(&body);
            fill(to, ' ');
        }
        (false, true) => {
            to.push_str(sign);
            fill(to, '0');
            to.push_str(&body);
        }
        (false, false) => {
            fill(to, ' ');
            to.push_str(sign);
            to.push_str(&body);
        }
    }
    Ok(())
}

fn sign_of(negative: bool, spec: &Spec) -> &'static str {
    match (negative, spec.plus) {
        (true, _) => "-",
        (false, true) => "+",
        (false, false) => "",
    }
}

fn float(number: f64, spec: &Spec) -> (&'static str, String) {
    let sign = sign_of(number.is_sign_negative() && !number.is_nan(), spec);
    let number = number.abs();
    if !number.is_finite() {
        return (sign, if number.is_nan() { "nan" } else { "inf" }.into());
    }
    let digits = spec.digits.unwrap_or(6);
    let body = match spec.kind {
        Some('f') => format!("{number:.digits$}"),
        Some('e') => scientific(number, digits),
        Some('E') => scientific(number, digits).to_uppercase(),
        Some('g') => shortest(number, digits),
        Some('G') => shortest(number, digits).to_uppercase(),
        _ => match spec.digits {
            Some(digits) => shortest(number, digits),
            None => format!("{number}"),
        },
    };
    (sign, body)
}

/// `1.5e+09`, as C writes it.
fn scientific(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{mantissa}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

/// So many digits in all, without zeros at the end.
fn shortest(number: f64, digits: usize) -> String {
    let digits = digits.max(1);
    let long = scientific(number, digits - 1);
    let exponent: i32 = long.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or_default();
    let trim = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }.to_owned()
    };
    if exponent < -4 || exponent >= i32::try_from(digits).unwrap_or(i32::MAX) {
        return match long.split_once('e') {
            Some((mantissa, exponent)) => format!("{}e{exponent}", trim(mantissa)),
            None => long,
        };
    }
    let behind =
        usize::try_from(i64::try_from(digits).unwrap_or(i64::MAX) - 1 - i64::from(exponent)).unwrap_or_default();
    trim(&format!("{number:.behind$}"))
}

fn with_commas(number: &str) -> String {
    let (whole, rest) = number.find('.').map_or((number, ""), |point| number.split_at(point));
    let mut text = String::new();
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && (whole.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

/// A number of bytes as people read it, with units of 1024.
pub(super) const SIZE: Scalar = Scalar {
    name: "pg_size_pretty",
    aliases: &[],
    usage: "pg_size_pretty(bytes)",
    doc: "A number of bytes with a unit, as in PostgreSQL: 12 kB.",
    types: one_integer,
    body: |call| {
        each_integer(call, |bytes, text| {
            // As in PostgreSQL: the next unit from 10,240 of one on, rounded at each step.
            let mut number = bytes;
            let mut units = ["kB", "MB", "GB", "TB", "PB"].into_iter();
            let mut unit = "bytes";
            let mut halves = false;
            while number.unsigned_abs() >= if halves { 20_479 } else { 10_240 } {
                let Some(next) = units.next() else { break };
                // Twice the number of the unit, so that its half is known for rounding.
                number /= if halves { 1_024 } else { 512 };
                (unit, halves) = (next, true);
            }
            if halves {
                number = i64::midpoint(number, number.signum());
            }
            Ok(write!(text, "{number} {unit}")?)
        })
    },
    grows_with: None,
};

/// A number of bytes as people read it, as DuckDB writes it.
pub(super) const BYTES: Scalar = Scalar {
    name: "format_bytes",
    aliases: &["formatreadablesize"],
    usage: "format_bytes(bytes)",
    doc: "A number of bytes with a unit: 12.0 KiB.",
    types: one_integer,
    body: |call| {
        each_integer(call, |bytes, text| {
            let sign = if bytes < 0 { "-" } else { "" };
            let bytes = bytes.unsigned_abs();
            let unit = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].into_iter().zip(1_u32..);
            let unit = unit.take_while(|(_, power)| bytes >= 1 << (10 * power)).last();
            match unit {
                Some((unit, power)) => {
                    let tenths = u128::from(bytes) * 10 / (1 << (10 * power));
                    write!(text, "{sign}{}.{} {unit}", tenths / 10, tenths % 10)?;
                }
                None => write!(text, "{sign}{bytes} {}", if bytes == 1 { "byte" } else { "bytes" })?,
            }
            Ok(())
        })
    },
    grows_with: None,
};

fn one_integer(types: &[DataType]) -> Option<Types> {
    match types {
        [number] if number.is_numeric() || number.is_null() => Some((vec![DataType::Int64], DataType::Utf8)),
        _ => None,
    }
}

fn each_integer(call: &Call<'_>, mut write: impl FnMut(i64, &mut String) -> Result<()>) -> Result<ColumnarValue> {
    let array = cast(&call.array(0)?, &DataType::Int64)?;
    let mut texts = StringBuilder::new();
    for number in array.as_primitive::<Int64Type>() {
        match number {
            Some(number) => {
                let mut text = String::new();
                write(number, &mut text)?;
                texts.append_value(text);
            }
            None => texts.append_null(),
        }
    }
    call.give(Arc::new(texts.finish()))
}

#[cfg(test)]
mod tests {
    use datafusion::common::ScalarValue;

    use super::super::scalar::called;
    use super::*;

    fn text(scalar: Scalar, args: &[ScalarValue]) -> String {
        let args: Vec<ColumnarValue> = args.iter().cloned().map(ColumnarValue::Scalar).collect();
        match called(scalar, &args, &DataType::Utf8) {
            Ok(ColumnarValue::Scalar(ScalarValue::Utf8(text))) => text.unwrap_or_else(|| "null".into()),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn values_are_written_as_c_and_duckdb_write_them() {
        for (pattern, value, expected) in [
            ("%.1f%%", ScalarValue::from(99.44), "99.4%"),
            ("%5.1f|", 3.149.into(), "  3.1|"),
            ("%-6d|", 42_i64.into(), "42    |"),
            ("%06d", (-42_i64).into(), "-00042"),
            ("%+d", 5_i64.into(), "+5"),
            ("%x", 255_i64.into(), "ff"),
            ("%e", 1.5e9.into(), "1.500000e+09"),
            ("%g", 0.0001.into(), "0.0001"),
            ("%g", 1e10.into(), "1e+10"),
            ("%s", "lo".into(), "lo"),
            ("%5s", "lo".into(), "   lo"),
            ("%lld", 7_i64.into(), "7"),
            ("%d", ScalarValue::Int64(None), "null"),
        ] {
            assert_eq!(text(PRINTF, &[pattern.into(), value]), expected, "{pattern}");
        }
        for (pattern, value, expected) in [
            ("{:.2f} s", ScalarValue::from(1.005), "1.00 s"),
            ("{} left {{}}", 5_i64.into(), "5 left {}"),
            ("{:,}", 1_234_567_i64.into(), "1,234,567"),
            ("{:>8}|", 12_i64.into(), "      12|"),
            ("%s!", "lo".into(), "lo!"),
        ] {
            assert_eq!(text(FORMAT, &[pattern.into(), value]), expected, "{pattern}");
        }
        for pattern in ["%", "%q", "%s %s", "%99999d", "{", "{:.2q}"] {
            let scalar = if pattern.contains('{') { FORMAT } else { PRINTF };
            assert!(text(scalar, &[pattern.into(), "x".into()]).contains("pattern"), "{pattern}");
        }
        assert!(text(PRINTF, &["%d".into(), "x".into()]).contains("another type"));
    }

    #[test]
    fn sizes_are_written_as_postgresql_and_duckdb_write_them() {
        for (bytes, pretty, readable) in [
            (0_i64, "0 bytes", "0 bytes"),
            (1_000, "1000 bytes", "1000 bytes"),
            (10_239, "10239 bytes", "9.9 KiB"),
            (10_240, "10 kB", "10.0 KiB"),
            (1 << 30, "1024 MB", "1.0 GiB"),
            (24_109_637_398, "22 GB", "22.4 GiB"),
            (-1 << 20, "-1024 kB", "-1.0 MiB"),
        ] {
            assert_eq!(text(SIZE, &[bytes.into()]), pretty);
            assert_eq!(text(BYTES, &[bytes.into()]), readable);
        }
    }
}
