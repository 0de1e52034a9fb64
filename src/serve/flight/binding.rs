//! Values for the parameters of prepared statements.
//!
//! The answer to `DoPut` is a handle that contains the values. Clients that know this need nothing from the server. Others go on
//! with the handle that they had, so the server keeps the newest values of some statements, too.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow_flight::FlightData;
use futures::{Stream, TryStreamExt};
use tonic::Status;

use super::ticket::Id;
use crate::query::request::Frame;

/// Values for one execution of a statement. They travel in handles and tickets, so clients must take them back.
const VALUES_BYTES_MAX: usize = 1 << 20;
/// Statements whose values are kept.
const STATEMENTS_MAX: usize = 256;
/// The values of all of them.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// The newest values of statements whose clients may not send them.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    /// The oldest first.
    kept: Mutex<VecDeque<(Id, Vec<Frame>)>>,
}

impl Bindings {
    /// Keeps the values of a statement.
    pub(super) fn keep(&self, id: Id, values: Vec<Frame>) {
        let mut kept = self.lock();
        kept.retain(|(other, _)| *other != id);
        kept.push_back((id, values));
        while kept.len() > STATEMENTS_MAX
            || kept.iter().map(|(_, values)| bytes(values)).sum::<usize>() > KEPT_BYTES_MAX
        {
            kept.pop_front();
        }
    }

    /// The newest values of a statement.
    pub(super) fn of(&self, id: Id) -> Option<Vec<Frame>> {
        self.lock().iter().find(|(other, _)| *other == id).map(|(_, values)| values.clone())
    }

    /// Forgets the values of a statement.
    pub(super) fn forget(&self, id: Id) {
        self.lock().retain(|(other, _)| *other != id);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Id, Vec<Frame>)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes(values: &[Frame]) -> usize {
    values.iter().map(|Frame { header, body }| header.len() + body.len()).sum()
}

/// The values that a client sends: the first message, and those that follow it.
///
/// # Errors
/// When they are too large, or the client has gone.
pub(super) async fn receive(
    first: FlightData,
    mut more: impl Stream<Item = Result<FlightData, Status>> + Unpin,
) -> Result<Vec<Frame>, Status> {
    let mut values = Vec::new();
    let mut taken = 0;
    let mut next = Some(first);
    while let Some(FlightData { data_header: header, data_body: body, .. }) = next {
        taken += header.len() + body.len();
        if taken > VALUES_BYTES_MAX {
            return Err(Status::resource_exhausted(format!(
                "the values of the parameters take more than {} MiB: bind them in several parts",
                VALUES_BYTES_MAX >> 20
            )));
        }
        if !header.is_empty() {
            values.push(Frame { header, body });
        }
        next = more.try_next().await?;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn values_are_bounded_and_the_newest_are_kept() {
        let all = Bindings::default();
        let of = |byte: u8, size: usize| vec![Frame { header: vec![byte].into(), body: vec![0; size].into() }];
        for number in 0..6 {
            all.keep([number; 16], of(number, 900 << 10));
        }
        assert!(all.of([1; 16]).is_none());
        assert_eq!(all.of([5; 16]), Some(of(5, 900 << 10)));
        all.keep([5; 16], of(9, 1));
        assert_eq!(all.of([5; 16]), Some(of(9, 1)));
        all.forget([5; 16]);
        assert!(all.of([5; 16]).is_none());

        let message = |bytes: usize| FlightData {
            data_header: vec![1].into(),
            data_body: vec![0; bytes].into(),
            ..FlightData::default()
        };
        let more = futures::stream::iter([Ok(message(10)), Ok(FlightData::default())]);
        assert_eq!(receive(message(0), more).await.unwrap().len(), 2);
        let more = futures::stream::iter([Ok(message(VALUES_BYTES_MAX))]);
        assert_eq!(receive(message(0), more).await.unwrap_err().code(), tonic::Code::ResourceExhausted);
    }
}
