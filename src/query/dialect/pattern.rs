//! Patterns of texts: SIMILAR TO, LIKE with another escape character, and LIKE ANY.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Array, BinaryOperator, Expr, UnaryOperator, Value, ValueWithSpan};

use super::super::refusal::{GuardError, refuse};
use super::build;

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
        Expr::Like { any: true, .. } | Expr::ILike { any: true, .. } => return any(expr),
        Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
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

/// `x LIKE ANY (a, b)` is `x LIKE a OR x LIKE b`.
fn any(expr: &mut Expr) -> ControlFlow<GuardError> {
    let (negated, pattern) = match &*expr {
        Expr::Like { negated, pattern, .. } | Expr::ILike { negated, pattern, .. } => (*negated, pattern),
        _ => return ControlFlow::Continue(()),
    };
    let mut patterns = &**pattern;
    while let Expr::Nested(inner) = patterns {
        patterns = inner;
    }
    let one = |pattern: &Expr| {
        let mut one = expr.clone();
        if let Expr::Like { any, negated, pattern: of_one, .. } | Expr::ILike { any, negated, pattern: of_one, .. } =
            &mut one
        {
            (*any, *negated) = (false, false);
            **of_one = pattern.clone();
        }
        one
    };
    let each: Vec<Expr> = match patterns {
        Expr::Tuple(patterns) | Expr::Array(Array { elem: patterns, .. }) => patterns.iter().map(one).collect(),
        Expr::Value(_) => vec![one(patterns)],
        _ => return refuse("LIKE ANY with a pattern that is no list", "write x LIKE ANY ('a%', 'b%')"),
    };
    let either = |one, other| build::binary(one, BinaryOperator::Or, other);
    let Some(either) = each.into_iter().reduce(either) else {
        return refuse("LIKE ANY of no pattern", "write x LIKE ANY ('a%', 'b%')");
    };
    let either = Expr::Nested(Box::new(either));
    *expr = if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(either) } } else { either };
    ControlFlow::Continue(())
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
        assert_eq!(regex("a\\", Some('\\')), None);
        assert_eq!(regex("a\\", None).as_deref(), Some("(?s)^(?:a\\\\)$"));
    }
}
