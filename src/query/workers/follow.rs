//! A tail as its client reads it: the first rows, and then what waits for its reader.

use std::sync::Arc;

use arrow_flight::FlightData;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use prost::bytes::Bytes;

use super::tails::reader::{Entry, Reader};
use super::tails::{Group, end_seq};
use super::{Asked, Workers};
use crate::family::FamilyId;
use crate::query::error::QueryError;
use crate::query::history::{self, Cost};
use crate::query::ipc::{Encoded, rows_of};
use crate::query::request::Request;
use crate::query::room::Close;
use crate::query::statements::{Frames, Statements};
use crate::query::tail::TailRequest;
use crate::query::worker::message::Statement;
use crate::store::HotBatch;

impl Workers {
    /// Takes in rows that queries see from now on, for tails. It never waits.
    pub fn feed(&self) -> impl Fn(&[(FamilyId, Arc<HotBatch>)]) + Send + Sync + use<> {
        let tails = Arc::clone(&self.inner.tails);
        move |rows| tails.push(rows)
    }

    /// Follows a table.
    pub(super) async fn follow(
        &self,
        request: &TailRequest,
        close: Option<Close>,
    ) -> Result<BoxStream<'static, Result<FlightData, QueryError>>, QueryError> {
        let tail = request.check()?;
        let live = request.of(tail.sql.clone());
        let (asked, first_sql) = (Asked::of(&live, false), tail.first.clone());
        // In a worker of its own, so that planning it delays no other tail.
        let schema = self.prepare(&request.plan()?).await?.schema;
        let reader = Arc::new(Reader::new(close.clone()));
        let family = tail.table.family;
        let (group, is_first) = self.inner.tails.join(tail, Statement::of(&live, false), Arc::clone(&reader))?;
        if is_first {
            tokio::spawn(Arc::clone(&self.inner).look_after_tails());
        }
        let schema = FlightData { data_header: Encoded::schema(&schema).header, ..FlightData::default() };
        let asked = Some(asked);
        let mut following = Following {
            of: self.clone(),
            group,
            reader,
            schema: Some(schema),
            first: None,
            asked,
            cost: Cost::default(),
            ended: None,
        };
        // After joining: rows that are shown later are told to the reader.
        let moment = self.moment().await?;
        following.reader.begin_at(end_seq(&moment, family));
        if let Some(sql) = first_sql {
            let mut frames = self.execute(&Request { moment: Some(Arc::new(moment)), ..request.of(sql) }).await?;
            if let Some(close) = close {
                frames.close_by(close);
            }
            // Its schema is that of the tail.
            frames.try_next().await?;
            following.first = Some(frames);
        }
        Ok(stream::unfold(Some(following), |following| async move {
            let mut following = following?;
            let next = following.next().await?;
            let rest = next.is_ok().then_some(following);
            Some((next, rest))
        })
        .boxed())
    }
}

/// A tail as its client reads it.
struct Following {
    of: Workers,
    group: Arc<Group>,
    reader: Arc<Reader>,
    schema: Option<FlightData>,
    first: Option<Frames>,
    /// For the table `statement`.
    asked: Option<Asked>,
    cost: Cost,
    /// How it ended, if not by its client.
    ended: Option<(&'static str, String)>,
}

impl Following {
    async fn next(&mut self) -> Option<Result<FlightData, QueryError>> {
        if let Some(schema) = self.schema.take() {
            return Some(Ok(schema));
        }
        let next = self.next_rows().await;
        match &next {
            Some(Ok(frame)) => {
                self.cost.rows += rows_of(&frame.data_header);
                self.cost.bytes += (frame.data_header.len() + frame.data_body.len()) as u64;
            }
            Some(Err(error)) => self.ended = Some((history::outcome_of(error), error.to_string())),
            None => {}
        }
        next
    }

    async fn next_rows(&mut self) -> Option<Result<FlightData, QueryError>> {
        if let Some(first) = &mut self.first {
            match first.next().await {
                Some(next) => return Some(next),
                None => self.first = None,
            }
        }
        loop {
            match self.reader.next().await? {
                Ok(Entry::Rows(_, frame)) => return Some(Ok(frame)),
                Ok(Entry::Missed(_, rows)) => {
                    // Rows can only be missed after a worker knew the tail, or before it knew any row to tell.
                    let Some(empty) = self.group.empty.get() else { continue };
                    let app_metadata = Bytes::from(format!("{{\"missed_rows\":{rows}}}"));
                    return Some(Ok(FlightData { app_metadata, ..empty.clone() }));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.of.inner.tails.leave(&self.group, &self.reader);
        if let Some(asked) = self.asked.take() {
            let (outcome, error) = self.ended.take().unwrap_or((history::CANCELLED, String::new()));
            self.of.inner.note_ended(asked, outcome, error, self.cost);
        }
    }
}
