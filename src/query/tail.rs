//! Tails: the newest rows of a table, batch by batch, as they are drained.

pub(super) mod plan;

use std::collections::HashSet;
use std::time::Duration;

use super::error::QueryError;
use super::named::{Named, Which};
use super::request::{Options, Request, Written};
use crate::family::{FAMILIES, Family};
use crate::record::Column;
use crate::words::unknown;

/// Tails that are read at the same time.
pub const TAILS_MAX: usize = 128;
/// A tail whose filter takes longer than this for one batch is ended.
pub(super) const BATCH_TIME_MAX: Duration = Duration::from_secs(2);

/// What a client wants to follow.
#[derive(Clone, Debug, Default)]
pub struct TailRequest {
    /// The table.
    pub table: String,
    /// Its columns, or all if none is named.
    pub columns: Vec<String>,
    /// A condition in SQL that rows must meet; empty for none.
    pub filter: String,
    /// The rows before the first new one.
    pub first: First,
    /// How times are answered.
    pub options: Options,
    /// Who asks, for the table `statement`.
    pub client: String,
}

/// Rows that a tail begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum First {
    /// None.
    #[default]
    None,
    /// The last ones, so many.
    Last(u64),
    /// All since this time, written as in SQL.
    Since(String),
}

/// A checked request.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    pub(super) table: Named,
    /// The statement whose result the new rows are.
    pub(super) sql: String,
    /// The statement that gives the first rows, if there are any.
    pub(super) first: Option<String>,
}

impl TailRequest {
    /// The statement whose result the tail's rows are.
    ///
    /// # Errors
    /// When there is no such table or column, or the table is made of others.
    pub fn sql(&self) -> Result<String, QueryError> {
        Ok(self.check()?.sql)
    }

    /// The tail's rows as a statement, to plan it.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn plan(&self) -> Result<Request, QueryError> {
        let since = if let First::Since(since) = &self.first { Some(since.clone()) } else { None };
        let tail = Some(Written { condition: self.filter.clone(), since });
        Ok(Request { tail, ..self.of(self.sql()?) })
    }

    /// A statement of the tail.
    pub(super) fn of(&self, sql: String) -> Request {
        let (options, client) = (self.options.clone(), self.client.clone());
        Request { sql, options, client, tail: Some(Written::default()), ..Request::default() }
    }

    pub(super) fn check(&self) -> Result<Tail, QueryError> {
        let table = Named::find(&self.table).ok_or_else(|| {
            QueryError::UnknownTable(unknown("table", &self.table, FAMILIES.iter().map(Family::name)))
        })?;
        if table.rows != Which::All {
            let (name, of) = (table.table.name, table.family.name());
            return Err(QueryError::Invalid(format!(
                "{name} cannot be followed, as it is made of the rows of {of}: follow {of}"
            )));
        }
        let known: Vec<&str> = table.table.sql_columns().map(|column| column.name).collect();
        if let Some(name) = self.columns.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(QueryError::Invalid(unknown("column", name, known.into_iter())));
        }
        let mut before = HashSet::new();
        if let Some(name) = self.columns.iter().find(|name| !before.insert(name.as_str())) {
            return Err(QueryError::Invalid(format!("the column {name} is named twice: name it once")));
        }
        let columns: Vec<String> = self.columns.iter().map(|name| quoted(name)).collect();
        let columns = if columns.is_empty() { "*".into() } else { columns.join(", ") };
        let (name, time) = (quoted(table.table.name), Column::TIME.name);
        // A comment in the condition ends with its line.
        let filter = if self.filter.trim().is_empty() { "true".into() } else { format!("(\n{}\n)", self.filter) };
        let sql = format!("SELECT {columns} FROM {name} WHERE {filter}");
        let first = match &self.first {
            First::None | First::Last(0) => None,
            First::Last(count) => {
                let newest = format!("SELECT * FROM {name} WHERE {filter} ORDER BY {time} DESC LIMIT {count}");
                Some(format!("SELECT {columns} FROM ({newest}) ORDER BY {time}"))
            }
            First::Since(since) => {
                let since = since.replace('\'', "''");
                Some(format!("{sql} AND {time} >= TIMESTAMPTZ '{since}' ORDER BY {time}"))
            }
        };
        Ok(Tail { table, sql, first })
    }
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(request: TailRequest) -> Result<Tail, String> {
        request.check().map_err(|error| error.to_string())
    }

    #[test]
    fn a_request_becomes_statements() {
        let request = TailRequest { table: "network".into(), ..TailRequest::default() };
        let tail = checked(request.clone()).unwrap();
        assert_eq!((tail.sql.as_str(), tail.first), ("SELECT * FROM \"network\" WHERE true", None));
        let columns = vec!["time".into(), "rx_bytes".into()];
        let filter = "interface = 'lo' -- mine".into();
        let tail = checked(TailRequest { columns, filter, first: First::Last(5), ..request.clone() }).unwrap();
        assert!(tail.sql.ends_with("WHERE (\ninterface = 'lo' -- mine\n)"), "{}", tail.sql);
        assert!(tail.first.unwrap().ends_with("ORDER BY time DESC LIMIT 5) ORDER BY time"));
        let tail = checked(TailRequest { first: First::Since("it's".into()), ..request }).unwrap();
        assert!(tail.first.unwrap().contains(">= TIMESTAMPTZ 'it''s'"));
    }

    #[test]
    fn what_cannot_be_followed_is_told() {
        let of = |table: &str, column: &str| TailRequest {
            table: table.into(),
            columns: vec![column.into()],
            ..TailRequest::default()
        };
        for (request, text) in [
            (of("netwrk", "time"), "did you mean `network`"),
            (of("network_last", "time"), "follow network"),
            (of("network", "rx_byte"), "did you mean `rx_bytes`"),
            (TailRequest { columns: vec!["time".into(); 2], ..of("network", "time") }, "named twice"),
        ] {
            let error = checked(request).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
