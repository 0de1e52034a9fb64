//! Where tables are: the names in front of theirs, and functions that give some.

/// The only catalog.
pub const CATALOG: &str = "kymo";
/// The only schema in it, which holds the tables.
pub const SCHEMA: &str = "public";
/// The schema that describes the tables as the SQL standard does.
pub const INFORMATION_SCHEMA: &str = "information_schema";
/// The schema that describes the tables as PostgreSQL does.
pub const PG_CATALOG: &str = "pg_catalog";
/// The function in FROM that gives a window of a column in buckets.
pub const DOWNSAMPLE: &str = "downsample";
/// How to write it.
pub const DOWNSAMPLE_HOW: &str = "write downsample('network', 'rx_bytes', now() - interval '1 hour', now(), 1000)";

/// A function that FROM takes.
#[derive(Clone, Copy, Debug)]
pub struct TableFunction {
    /// Its name.
    pub name: &'static str,
    /// How it is called.
    pub syntax: &'static str,
    /// What it gives, for people.
    pub doc: &'static str,
}

/// All functions that FROM takes.
pub const TABLE_FUNCTIONS: [TableFunction; 3] = [
    TableFunction {
        name: DOWNSAMPLE,
        syntax: "downsample('network', 'rx_bytes', now() - interval '1 hour', now(), 1000)",
        doc: "A column of a table in a window of time, for each series in so many buckets: min, max, mean, first, last, count, missed \
              and the tier that has them.",
    },
    TableFunction {
        name: "generate_series",
        syntax: "generate_series(1, 10, 2)",
        doc: "The numbers or times from one to another, that one included, with a step if you like.",
    },
    TableFunction {
        name: "range",
        syntax: "range(1, 10, 2)",
        doc: "The numbers or times from one to another, that one left out, with a step if you like.",
    },
];

/// Whether it is a function that FROM takes.
pub fn is_table_function(name: &str) -> bool {
    TABLE_FUNCTIONS.iter().any(|known| name.eq_ignore_ascii_case(known.name))
}
