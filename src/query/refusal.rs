//! Why a statement is not planned.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::hint;

/// Depth of nested parentheses, brackets and `CASE`.
pub(super) const NESTING_MAX: usize = 50;
/// Depth of inner queries in expressions, such as EXISTS in an EXISTS. Each level doubles the planner's work: at 12, it takes 0.1 s.
pub(super) const INNER_QUERIES_MAX: usize = 12;
/// Operators in a statement: a chain of operators nests as deep as it is long.
pub(super) const OPERATORS_MAX: usize = 1_000;
/// Tables that a statement reads, counting each use, after `WITH` names are replaced.
pub(super) const TABLES_MAX: usize = 100;

/// Why a statement is not planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// The statement is too long.
    #[error(
        "the statement is {bytes} bytes long; the limit is {bytes_max} (setting `query.sql_bytes_max`): shorten the \
         statement or raise the limit"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The statement is not SQL.
    #[error("not valid SQL: {0}")]
    Syntax(String),
    /// The condition of a tail is no condition.
    #[error("the condition of the tail is not valid SQL: {0}")]
    Condition(String),
    /// The text holds no statement.
    #[error("the statement is empty; send one query, such as SELECT count(*) FROM cpu")]
    Empty,
    /// The text holds more than one statement.
    #[error("{0} statements in one query; send them one by one")]
    Several(usize),
    /// The statement nests too deep.
    #[error("the statement nests more than {NESTING_MAX} levels deep; use WITH to name its inner parts")]
    TooDeep,
    /// Inner queries nest too deep.
    #[error(
        "inner queries in expressions nest {0} levels deep; at most {INNER_QUERIES_MAX} are allowed: join, or name inner parts by WITH"
    )]
    TooManyInnerQueries(usize),
    /// The statement has too many operators.
    #[error(
        "the statement has {0} operators; at most {OPERATORS_MAX} are allowed: use IN (…) or BETWEEN for long lists"
    )]
    TooManyOperators(usize),
    /// The statement reads too many tables.
    #[error("the statement reads {0} tables, counting each use; at most {TABLES_MAX} are allowed")]
    TooManyTables(usize),
    /// The statement is not a query.
    #[error("{0} is refused: kymo only runs queries (SELECT, WITH, VALUES, EXPLAIN, SHOW, DESCRIBE){instead}", instead = hint::of_word(.0))]
    NoQuery(String),
    /// The query does more than read the tables.
    #[error("{what} is refused: {instead}")]
    Refused {
        /// The refused part.
        what: String,
        /// Why, and what to do instead.
        instead: Cow<'static, str>,
    },
}

pub(super) fn refuse(what: &str, instead: &'static str) -> ControlFlow<GuardError> {
    ControlFlow::Break(GuardError::Refused { what: what.into(), instead: instead.into() })
}
