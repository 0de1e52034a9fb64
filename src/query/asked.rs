//! A window of columns as a client asks for it without a statement. To plan a statement takes longer than to read a short window.

/// What is told of a column of each bucket.
pub const VALUES: [&str; 3] = ["min", "max", "mean"];

/// A window of some columns of a table, in buckets.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Asked {
    /// The table.
    #[prost(string, tag = "1")]
    pub table: String,
    /// Its columns.
    #[prost(string, repeated, tag = "2")]
    pub columns: Vec<String>,
    /// The first time.
    #[prost(sint64, tag = "3")]
    pub from_us: i64,
    /// The first time after it.
    #[prost(sint64, tag = "4")]
    pub to_us: i64,
    /// How many buckets.
    #[prost(sint64, tag = "5")]
    pub buckets: i64,
    /// Which of [`VALUES`]. What is left out is not read.
    #[prost(string, repeated, tag = "6")]
    pub values: Vec<String>,
    /// Only series with these labels.
    #[prost(message, repeated, tag = "7")]
    pub labels: Vec<LabelIs>,
    /// Buckets that only tiers have are left out.
    #[prost(bool, tag = "8")]
    pub is_raw: bool,
}

/// The value that a label has.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LabelIs {
    /// The label, or `host`.
    #[prost(string, tag = "1")]
    pub label: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}
