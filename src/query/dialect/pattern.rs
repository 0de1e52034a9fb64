//! Patterns of texts: SIMILAR TO, LIKE with another escape character, LIKE ANY and LIKE ALL.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Array, BinaryOperator, Expr, Value, ValueWithSpan};

use super::super::refusal::{GuardError, refuse};
use super::build;
use super::call::{arguments, name};

/// Rewrites an expression that compares with a pattern.
pub(super) fn rewrite(expr: &mut Expr) -> ControlFlow<GuardError> {
    match expr {
        Expr::SimilarTo { negated, expr: text, pattern, escape_char } => {
            let Some(pattern) = literal(pattern) else {
                return refuse("SIMILAR TO with a pattern that is no text", "use ~ with a regular expression");
            };
            let escape = match escape_char.as_ref().map(character) {
                None => Some('\\'),
                Some(Ok(escape)) => escape,
                Some(Err(())) => return refuse("this ESCAPE", "an escape character is one character"),
            };
            let Some(regex) = regex(&pattern, escape) else {
                return refuse("this pattern of SIMILAR TO", "nothing stands behind its escape character");
            };
            let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
            *expr = Expr::Nested(Box::new(build::binary((**text).clone(), op, build::text(regex))));
        }
        Expr::Like { any: true, pattern, .. } | Expr::ILike { any: true, pattern, .. } => {
            let patterns = (**pattern).clone();
            return each(expr, &patterns, BinaryOperator::Or);
        }
        Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
            if let Some(patterns) = all_of(pattern) {
                return each(expr, &patterns, BinaryOperator::And);
            }
            return escape(pattern, escape_char);
        }
        _ => {}
    }
    ControlFlow::Continue(())
}

/// Writes a pattern with another escape character than the backslash with a backslash.
fn escape(pattern: &mut Expr, escape_char: &mut Option<ValueWithSpan>) -> ControlFlow<GuardError> {
    let Some(given) = escape_char else { return ControlFlow::Continue(()) };
    let Ok(escape) = character(given) else { return refuse("this ESCAPE", "an escape character is one character") };
    if escape == Some('\\') {
        return ControlFlow::Continue(());
    }
    let Some(text) = literal(pattern) else {
        return refuse("ESCAPE with a pattern that is no text", "escape with a backslash, which needs no ESCAPE");
    };
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(one) = rest.next() {
        if Some(one) == escape {
            let Some(next) = rest.next() else {
                return refuse("this pattern of LIKE", "nothing stands behind its escape character");
            };
            escaped.extend(['\\', next]);
        } else if one == '\\' {
            escaped.push_str("\\\\");
        } else {
            escaped.push(one);
        }
    }
    *pattern = build::text(escaped);
    *escape_char = None;
    ControlFlow::Continue(())
}

/// `x LIKE ANY (a, b)` is `x LIKE a OR x LIKE b`, and `x NOT LIKE ALL (a, b)` is `x NOT LIKE a AND x NOT LIKE b`.
fn each(expr: &mut Expr, patterns: &Expr, joined: BinaryOperator) -> ControlFlow<GuardError> {
    let one = |given: Expr| {
        let mut one = expr.clone();
        if let Expr::Like { any, pattern, .. } | Expr::ILike { any, pattern, .. } = &mut one {
            *any = false;
            **pattern = given;
        }
        one
    };
    let patterns: Vec<Expr> = match unnested(patterns) {
        Expr::Tuple(patterns) | Expr::Array(Array { elem: patterns, .. }) => patterns.clone(),
        pattern @ Expr::Value(_) => array_in_text(pattern).unwrap_or_else(|| vec![pattern.clone()]),
        _ => return refuse("LIKE ANY or ALL with a pattern that is no list", "write x LIKE ANY ('a%', 'b%')"),
    };
    let Some(all) = patterns.into_iter().map(one).reduce(|one, other| build::binary(one, joined.clone(), other)) else {
        return refuse("LIKE ANY or ALL of no pattern", "write x LIKE ANY ('a%', 'b%')");
    };
    *expr = Expr::Nested(Box::new(all));
    ControlFlow::Continue(())
}

fn unnested(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

/// The patterns in `LIKE ALL (…)`, which the parser takes for a call of a function.
fn all_of(pattern: &Expr) -> Option<Expr> {
    match pattern {
        Expr::Function(function) if name(function) == "all" => match arguments(function)?.as_slice() {
            [one] => Some((*one).clone()),
            several => Some(Expr::Tuple(several.iter().map(|&one| one.clone()).collect())),
        },
        _ => None,
    }
}

/// The elements of an expression that is an array written as text.
pub(super) fn array_in_text(expr: &Expr) -> Option<Vec<Expr>> {
    Some(elements(&literal(expr)?)?.into_iter().map(build::text).collect())
}

/// The elements of an array that is written as text, as in `'{a,"b c"}'`; `None` for other texts.
fn elements(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.chars();
    let mut elements = vec![String::new()];
    let mut is_quoted = false;
    while let Some(one) = rest.next() {
        match one {
            '"' => is_quoted = !is_quoted,
            '\\' => elements.last_mut()?.push(rest.next()?),
            ',' if !is_quoted => elements.push(String::new()),
            one => elements.last_mut()?.push(one),
        }
    }
    (!is_quoted).then_some(elements)
}

fn literal(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Nested(inner) => literal(inner),
        Expr::Value(value) => text(value),
        _ => None,
    }
}

fn text(value: &ValueWithSpan) -> Option<String> {
    match &value.value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text.clone()),
        Value::DollarQuotedString(text) => Some(text.value.clone()),
        _ => None,
    }
}

/// An escape character; `None` for the empty text, which switches escaping off.
fn character(value: &ValueWithSpan) -> Result<Option<char>, ()> {
    let text = text(value).ok_or(())?;
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (first, None) => Ok(first),
        _ => Err(()),
    }
}

/// The regular expression of a SIMILAR TO pattern, which fits a whole text: `%` is any text, `_` any character, and
/// `| * + ? ( ) [ ] { }` are as in regular expressions. `None` if the pattern ends with its escape character.
fn regex(pattern: &str, escape: Option<char>) -> Option<String> {
    let mut regex = String::from("(?s)^(?:");
    let mut rest = pattern.chars();
    let mut in_class = false;
    while let Some(one) = rest.next() {
        match one {
            one if Some(one) == escape => push_literal(&mut regex, rest.next()?),
            '%' if !in_class => regex.push_str(".*"),
            '_' if !in_class => regex.push('.'),
            '[' if !in_class => {
                in_class = true;
                regex.push('[');
            }
            ']' if in_class => {
                in_class = false;
                regex.push(']');
            }
            '^' if in_class => regex.push('^'),
            '|' | '*' | '+' | '?' | '(' | ')' | '{' | '}' if !in_class => regex.push(one),
            '-' if in_class => regex.push('-'),
            // A class inside a class, such as [[:alpha:]].
            '[' | ':' if in_class => regex.push(one),
            one => push_literal(&mut regex, one),
        }
    }
    regex.push_str(")$");
    Some(regex)
}

fn push_literal(regex: &mut String, one: char) {
    if r"\.+*?()|[]{}^$#&-~".contains(one) {
        regex.push('\\');
    }
    regex.push(one);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_of_similar_to_is_a_whole_regular_expression() {
        for (pattern, expected) in [
            ("if%", "(?s)^(?:if.*)$"),
            ("a_c", "(?s)^(?:a.c)$"),
            ("(eth|en)[0-9]+", "(?s)^(?:(eth|en)[0-9]+)$"),
            ("a.b$", "(?s)^(?:a\\.b\\$)$"),
            ("100\\%", "(?s)^(?:100%)$"),
            ("[^a%_]", "(?s)^(?:[^a%_])$"),
            ("x{2,3}", "(?s)^(?:x{2,3})$"),
        ] {
            assert_eq!(regex(pattern, Some('\\')).as_deref(), Some(expected), "{pattern}");
        }
        assert_eq!(elements(r#"{a%,"b c",d\,e}"#).unwrap(), ["a%", "b c", "d,e"]);
        assert_eq!(elements("a%"), None);
        assert_eq!(regex("a\\", Some('\\')), None);
        assert_eq!(regex("a\\", None).as_deref(), Some("(?s)^(?:a\\\\)$"));
    }
}
