//! The tails that a worker looks after: which of the new rows are theirs.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::error::ArrowError;

use super::message::TailFrame;
use crate::query::Engine;
use crate::query::error::QueryError;
use crate::query::ipc::{Encoded, Encoder};
use crate::query::named::Named;
use crate::query::request::Request;
use crate::query::rows::Found;
use crate::query::statements::parts;
use crate::query::tail::plan::{self, Plan};

/// Rows are told in parts of about this size, so that a reader that misses some misses few.
const PART_BYTES_MAX: usize = 128 << 10;

/// All tails, by their numbers.
#[derive(Default)]
pub(super) struct Tails(BTreeMap<u64, (Plan, Encoder)>);

impl Tails {
    /// Plans a tail. Gives a message without rows.
    pub(super) async fn open(&mut self, engine: &Engine, number: u64, request: Request) -> Result<Encoded, QueryError> {
        let plan = engine.tail(request).await?;
        let mut encoder = Encoder::new(&plan.schema).map_err(not_encoded)?;
        let empty = encoder.encode(&RecordBatch::new_empty(plan.schema.clone())).map_err(not_encoded)?;
        self.0.insert(number, (plan, encoder));
        empty.into_iter().next_back().ok_or_else(|| QueryError::Failed("encode no rows: there is no message".into()))
    }

    pub(super) fn close(&mut self, number: u64) {
        self.0.remove(&number);
    }

    /// The rows of a tail among new rows of its table.
    pub(super) fn look_at(
        &mut self,
        number: u64,
        rows: &[RecordBatch],
    ) -> Result<Vec<(TailFrame, Vec<Buffer>)>, QueryError> {
        let (plan, encoder) =
            self.0.get_mut(&number).ok_or_else(|| QueryError::Failed("its process does not know the tail".into()))?;
        // What a panic leaves behind is not used again: the recorder ends the tail.
        let found = catch_unwind(AssertUnwindSafe(|| {
            let mut found = Vec::new();
            for batch in rows {
                for part in parts(&plan.apply(batch)?, PART_BYTES_MAX) {
                    let rows = part.num_rows() as u64;
                    let messages = encoder.encode(&part).map_err(not_encoded)?;
                    // Values on the wire are plain, so the rows are the only message.
                    let frame = |Encoded { header, body }| (TailFrame { header, rows }, body);
                    found.extend(messages.into_iter().map(frame));
                }
            }
            Ok(found)
        }));
        found.unwrap_or_else(|_| Err(QueryError::Panicked("the condition of a tail".into())))
    }
}

/// Rows in memory with the columns that their table has in SQL.
pub(super) fn in_sql(table: &str, found: &Found) -> Result<Vec<RecordBatch>, ArrowError> {
    let named =
        Named::find(table).ok_or_else(|| ArrowError::InvalidArgumentError(format!("an unknown table {table}")))?;
    found.hot.iter().map(|rows| plan::in_sql(named.table, rows)).collect()
}

fn not_encoded(error: ArrowError) -> QueryError {
    QueryError::Failed(format!("encode the rows of a tail: {error}"))
}
