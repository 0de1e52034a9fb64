//! Who asked for a statement, as the statement's course sees it: what it is told waits here until it reads.

use std::sync::Arc;

use arrow_flight::FlightData;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::query::error::QueryError;
use crate::query::room::{Reader, Reservation, units};
use crate::query::slab::{AHEAD_BYTES_MAX, Lent};
use crate::query::statements::{Message, Part};

/// The client of a statement.
pub(super) struct Client {
    told: mpsc::Sender<Part>,
    ahead: Arc<Semaphore>,
    pub(super) reader: Arc<Reader>,
}

/// It has gone.
pub(super) struct Gone;

impl Client {
    /// A client, and what it is told.
    pub(super) fn new(reader: Arc<Reader>) -> (Client, mpsc::Receiver<Part>) {
        let units = units(AHEAD_BYTES_MAX) as usize;
        // Each message takes a unit at least. The end has a place, too.
        let (told, parts) = mpsc::channel(units + 1);
        (Client { told, ahead: Arc::new(Semaphore::new(units)), reader }, parts)
    }

    /// Tells it a message of the result, once it may wait.
    pub(super) async fn tell(
        &self,
        frame: FlightData,
        slab: Option<Lent>,
        reservation: Option<Reservation>,
    ) -> Result<(), Gone> {
        let in_slab = slab.as_ref().map_or(0, Lent::len);
        let bytes = (frame.data_header.len() + frame.data_body.len() + in_slab).clamp(1, AHEAD_BYTES_MAX);
        let ahead: Option<OwnedSemaphorePermit> = Arc::clone(&self.ahead).acquire_many_owned(units(bytes)).await.ok();
        self.told.send(Ok(Some(Message { frame, slab, reservation, _ahead: ahead }))).await.map_err(|_| Gone)
    }

    /// Tells it how the statement ended. If it has gone, nobody is told.
    pub(super) async fn end(&self, ended: Result<(), QueryError>) {
        let _ = self.told.send(ended.map(|()| None)).await;
    }

    /// Waits until it has gone.
    pub(super) async fn gone(&self) {
        self.told.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prost::bytes::Bytes;
    use tokio::time::timeout;

    use super::*;
    use crate::query::room::Room;

    #[tokio::test]
    async fn so_many_bytes_wait_and_a_longer_message_waits_alone() {
        let room = Room::new(1);
        let (client, mut parts) = Client::new(room.reader());
        let tell = async |bytes: usize| {
            let frame = FlightData { data_body: Bytes::from(vec![0; bytes]), ..FlightData::default() };
            matches!(timeout(Duration::from_millis(20), client.tell(frame, None, None)).await, Ok(Ok(())))
        };
        for _ in 0..1024 {
            assert!(tell(1).await);
        }
        assert!(!tell(1).await);
        client.end(Ok(())).await;
        for _ in 0..1024 {
            assert!(matches!(parts.recv().await, Some(Ok(Some(_)))));
        }
        assert!(matches!(parts.recv().await, Some(Ok(None))));
        assert!(tell(3 << 20).await);
        assert!(!tell(1).await);
        assert!(matches!(parts.recv().await, Some(Ok(Some(_)))));
        assert!(tell(1 << 19).await && tell(1 << 19).await && !tell(1).await);
    }
}
