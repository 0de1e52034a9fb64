//! What functions are, for people. Those that are declared in lists have it there, and the others here.

use crate::words::one_line;

/// How a function is called, and what it gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::query) struct Entry {
    /// A call of it.
    pub(in crate::query) syntax: String,
    /// What it gives. Empty if only plans call it.
    pub(in crate::query) doc: String,
}

impl Entry {
    pub(in crate::query) fn new(syntax: &str, doc: &str) -> Entry {
        Entry { syntax: one_line(syntax), doc: one_line(doc) }
    }
}

/// Name, syntax and doc.
const ENTRIES: &[[&str; 3]] = &[
    [
        "increase",
        "increase(counter, time)",
        "How much a counter grew from the first to the last row. It may begin anew between two rows.",
    ],
    [
        "rate",
        "rate(counter, time)",
        "How much a counter grew per second from the first to the last row. It may begin anew between two rows.",
    ],
    [
        "percentile_disc",
        "percentile_disc(0.99) WITHIN GROUP (ORDER BY x)",
        "The least value that so large a share of the values does not exceed.",
    ],
    ["mode", "mode(x)", "The value that comes most often, and the least of several."],
    ["skewness", "skewness(x)", "How far the values lean to one side of their mean."],
    [
        "kurtosis",
        "kurtosis(x)",
        "How many of the values lie far from their mean, corrected for the size of the sample.",
    ],
    ["kurtosis_pop", "kurtosis_pop(x)", "How many of the values lie far from their mean."],
    ["version", "version()", "kymo's version."],
    ["current_schema", "current_schema()", "The schema in which tables without one are looked for."],
    ["pg_typeof", "pg_typeof(x)", "PostgreSQL's name of a value's type."],
    ["quote_ident", "quote_ident(text)", "A text as the name of a column, in double quotes if it needs them."],
    ["current_role", "current_role()", "kymo: there are no users."],
    ["current_user", "current_user()", "kymo: there are no users."],
    ["session_user", "session_user()", "kymo: there are no users."],
    ["user", "user()", "kymo: there are no users."],
    ["current_catalog", "current_catalog()", "The only catalog."],
    ["current_database", "current_database()", "The only catalog."],
    ["has_column_privilege", "has_column_privilege(table, column, privilege)", "True: everybody may read everything."],
    ["has_database_privilege", "has_database_privilege(name, privilege)", "True: everybody may read everything."],
    ["has_schema_privilege", "has_schema_privilege(name, privilege)", "True: everybody may read everything."],
    ["has_table_privilege", "has_table_privilege(name, privilege)", "True: everybody may read everything."],
];

/// What is said here of the function of this name.
pub(super) fn entry(name: &str) -> Option<Entry> {
    let [_, syntax, doc] = ENTRIES.iter().find(|[known, ..]| *known == name)?;
    Some(Entry::new(syntax, doc))
}
