//! The names that SQL has here: functions and reserved words, for clients that complete or check what people type.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::ScalarUDF;
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
    let sessions = Sessions::new(1, 1 << 20, None, Arc::default())?;
    let sections: HashMap<String, &str> = SessionStateDefaults::default_scalar_functions()
        .iter()
        .filter_map(|function| Some((function.name().to_owned(), function.documentation()?.doc_section.label)))
        .collect();
    let section = |name: &str, function: &ScalarUDF| match function.documentation() {
        Some(about) => Some(about.doc_section.label),
        // One that kymo has in place of another of its name.
        None => sections.get(name).copied(),
    };
    let functions = sessions.scalar_functions().iter();
    let mut functions: Vec<_> =
        functions.map(|(name, function)| (name.clone(), Works::of(section(name, function)))).collect();
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
