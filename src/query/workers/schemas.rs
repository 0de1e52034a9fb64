//! The schemas of results that the recorder has seen: clients ask for the schema of each statement before they run it, and most
//! of them repeat their statements.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::query::Prepared;
use crate::query::request::{Options, Request};

/// Statements whose schemas are kept, those that were asked for last.
const STATEMENTS_MAX: usize = 64;
/// A longer statement is planned each time.
const SQL_BYTES_MAX: usize = 4 << 10;
/// A statement with more columns and parameters is planned each time, as the docs of columns take most of the memory.
const COLUMNS_MAX: usize = 128;

/// What is known of statements. A schema depends on the statement and its options only: tables and views stay the same as long as
/// the recorder runs, and rows do not matter.
#[derive(Debug, Default)]
pub(super) struct Schemas(Mutex<VecDeque<Known>>);

#[derive(Debug)]
struct Known {
    sql: String,
    options: Options,
    prepared: Prepared,
}

impl Schemas {
    /// What a statement without values of parameters answers with, if it was added.
    pub(super) fn of(&self, request: &Request) -> Option<Prepared> {
        let mut all = self.lock();
        let is_same = |known: &Known| known.sql == request.sql && known.options == request.options;
        let at = all.iter().position(|known| is_kept(request) && is_same(known))?;
        let known = all.remove(at)?;
        let prepared = known.prepared.clone();
        all.push_back(known);
        Some(prepared)
    }

    /// Keeps what a statement answers with, unless that is large.
    pub(super) fn add(&self, request: &Request, prepared: &Prepared) {
        let columns = prepared.schema.fields().len() + prepared.parameters.fields().len();
        if !is_kept(request) || request.sql.len() > SQL_BYTES_MAX || columns > COLUMNS_MAX {
            return;
        }
        let (sql, options) = (request.sql.clone(), request.options.clone());
        let mut all = self.lock();
        all.retain(|known| known.sql != sql || known.options != options);
        all.push_back(Known { sql, options, prepared: prepared.clone() });
        if all.len() > STATEMENTS_MAX {
            all.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Values of parameters may change what a statement answers with, and what a tail asks for is checked each time.
fn is_kept(request: &Request) -> bool {
    request.parameters.is_empty() && request.tail.is_none()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::query::request::Frame;

    fn prepared(columns: usize) -> Prepared {
        let fields: Vec<_> = (0..columns).map(|at| Field::new(format!("c{at}"), DataType::Int64, true)).collect();
        Prepared { schema: Arc::new(Schema::new(fields)), parameters: Arc::new(Schema::empty()) }
    }

    #[test]
    fn a_statement_is_known_with_its_options_and_without_values() {
        let schemas = Schemas::default();
        let plain = Request::new("SELECT time FROM cpu");
        schemas.add(&plain, &prepared(1));
        assert_eq!(schemas.of(&plain).map(|known| known.schema), Some(prepared(1).schema));
        let options = Options { nanoseconds: true, ..Options::default() };
        let others = [
            Request::new("SELECT time FROM disk"),
            Request { options, ..plain.clone() },
            Request { parameters: vec![Frame::default()], ..plain.clone() },
        ];
        for other in others {
            assert!(schemas.of(&other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn the_statements_asked_for_last_are_kept_within_bounds() {
        let schemas = Schemas::default();
        let numbered = |number: usize| Request::new(format!("SELECT {number}"));
        for number in 0..STATEMENTS_MAX {
            schemas.add(&numbered(number), &prepared(1));
        }
        assert!(schemas.of(&numbered(0)).is_some());
        schemas.add(&numbered(STATEMENTS_MAX), &prepared(1));
        assert!(schemas.of(&numbered(0)).is_some(), "it was asked for last");
        assert!(schemas.of(&numbered(1)).is_none());
        let long = Request::new(" ".repeat(SQL_BYTES_MAX + 1));
        for (request, columns) in [(long, 1), (Request::new("SELECT *"), COLUMNS_MAX + 1)] {
            schemas.add(&request, &prepared(columns));
            assert!(schemas.of(&request).is_none());
        }
    }
}
