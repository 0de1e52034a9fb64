//! Where tables are: the names in front of theirs.

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

/// Whether it is a function that FROM takes.
pub fn is_table_function(name: &str) -> bool {
    [DOWNSAMPLE, "generate_series", "range"].iter().any(|known| name.eq_ignore_ascii_case(known))
}
