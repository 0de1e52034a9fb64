//! The names that SQL has here: functions and reserved words, for clients that complete or check what people type.

use std::collections::BTreeSet;

use datafusion::common::Result;
use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_COLUMN_ALIAS, RESERVED_FOR_TABLE_ALIAS};

use super::session::Sessions;

/// What a function works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Works {
    /// Numbers.
    Numbers,
    /// Texts and bytes.
    Texts,
    /// Times and durations.
    Times,
    /// Anything else.
    Others,
}

impl Works {
    /// By the section of the function's documentation.
    fn of(section: Option<&str>) -> Works {
        match section {
            Some("Math Functions") => Works::Numbers,
            Some("Time and Date Functions") => Works::Times,
            Some(
                "String Functions" | "Binary String Functions" | "Regular Expression Functions" | "Hashing Functions",
            ) => Works::Texts,
            _ => Works::Others,
        }
    }
}

/// The names of all functions of one row, other names for the same function included, in the order of the alphabet.
///
/// # Errors
/// When a session cannot be made, which is a bug in kymo.
pub fn functions() -> Result<Vec<(String, Works)>> {
    let sessions = Sessions::new(1, 1 << 20, None)?;
    let mut functions: Vec<_> = sessions
        .scalar_functions()
        .iter()
        .map(|(name, function)| {
            (name.clone(), Works::of(function.documentation().map(|about| about.doc_section.label)))
        })
        .collect();
    functions.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(functions)
}

/// Words that are no names unless they are quoted, in the order of the alphabet.
#[must_use]
pub fn reserved_words() -> Vec<String> {
    let reserved = RESERVED_FOR_TABLE_ALIAS.iter().chain(RESERVED_FOR_COLUMN_ALIAS);
    let words: BTreeSet<String> = reserved.map(|word: &Keyword| format!("{word:?}")).collect();
    words.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_those_that_statements_can_call() {
        let functions = functions().unwrap();
        let works = |name: &str| functions.iter().find(|(other, _)| other == name).map(|(_, works)| *works);
        for (name, expected) in
            [("abs", Works::Numbers), ("lower", Works::Texts), ("date_bin", Works::Times), ("coalesce", Works::Others)]
        {
            assert_eq!(works(name), Some(expected), "{name}");
        }
        assert!(works("read_csv").is_none() && functions.is_sorted_by(|one, other| one.0 < other.0));
        assert!(reserved_words().iter().any(|word| word == "SELECT"));
    }
}
