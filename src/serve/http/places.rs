//! The places of open connections. When all are taken, the connection that has been idle longest gives its place to a new one.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;

/// So many places.
#[derive(Debug)]
pub(super) struct Places {
    places_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next_id: u64,
    open: Vec<Open>,
}

/// A connection that has a place.
#[derive(Debug)]
struct Open {
    id: u64,
    /// Since when no request runs.
    idle_since: Option<Instant>,
    given_up: Arc<Notify>,
}

impl Places {
    pub(super) fn new(places_max: usize) -> Arc<Places> {
        Arc::new(Places { places_max, taken: Mutex::default() })
    }

    /// A place: a free one, or that of the connection that has been idle longest. `None` if requests run on all.
    pub(super) fn take(self: &Arc<Places>) -> Option<Place> {
        let mut taken = self.taken();
        if taken.open.len() >= self.places_max {
            let idle = taken.open.iter().enumerate().filter_map(|(at, open)| Some((open.idle_since?, at)));
            let (_, longest) = idle.min()?;
            taken.open.swap_remove(longest).given_up.notify_one();
        }
        let (id, given_up) = (taken.next_id, Arc::new(Notify::new()));
        taken.next_id += 1;
        taken.open.push(Open { id, idle_since: Some(Instant::now()), given_up: Arc::clone(&given_up) });
        Some(Place { places: Arc::clone(self), id, given_up })
    }

    fn set_idle(&self, id: u64, since: Option<Instant>) {
        if let Some(open) = self.taken().open.iter_mut().find(|open| open.id == id) {
            open.idle_since = since;
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Each change is a single step.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection, which is free once this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    given_up: Arc<Notify>,
}

impl Place {
    /// Waits until another connection has the place.
    pub(super) async fn given_up(&self) {
        self.given_up.notified().await;
    }

    /// Says that a request runs, until this is dropped.
    pub(super) fn busy(&self) -> Busy {
        self.places.set_idle(self.id, None);
        Busy { places: Arc::clone(&self.places), id: self.id }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().open.retain(|open| open.id != self.id);
    }
}

/// A request that runs.
#[derive(Debug)]
pub(super) struct Busy {
    places: Arc<Places>,
    id: u64,
}

impl Busy {
    /// The answer, with which the request runs until its last part is taken.
    pub(super) fn until_sent(self, response: Response) -> Response {
        response.map(|body| Body::new(Sent { body, _busy: self }))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.places.set_idle(self.id, Some(Instant::now()));
    }
}

/// A body that keeps its connection busy.
struct Sent {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn the_longest_idle_connection_gives_way_and_busy_ones_do_not() {
        let places = Places::new(2);
        let (first, second) = (places.take().unwrap(), places.take().unwrap());
        let is_open = |place: &Place| place.given_up().now_or_never().is_none();
        let busy = first.busy();
        let third = places.take().unwrap();
        assert!(is_open(&first) && !is_open(&second) && is_open(&third));
        // Its place is another's by now.
        drop(second);
        let other = third.busy();
        assert!(places.take().is_none());
        drop(busy);
        let fourth = places.take().unwrap();
        assert!(!is_open(&first) && is_open(&third) && is_open(&fourth));
        drop((first, other, third, fourth));
        assert!(places.taken().open.is_empty());
    }
}
