//! Transactions: several statements that see the rows of one moment.
//!
//! All of them only read. A transaction takes its moment when its first statement runs, so one that waits for work holds
//! nothing, and later sees what is new. Its files are not deleted, and its rows in memory stay, until it ends: at the latest ten
//! minutes later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prost::bytes::Bytes;
use tonic::Status;

use super::ticket::{Id, new_id};
use crate::query::request::Moment;
use crate::serve::listener::PeerId;

/// Transactions that are remembered, those included that hold nothing.
const OPEN_MAX: usize = 1_024;
/// Transactions that hold rows.
const HOLDING_MAX: usize = 16;
/// Rows in memory that all of them hold together. One alone may hold more: `storage.hot_bytes_max` bounds it.
const HOT_BYTES_MAX: u64 = 64 << 20;
/// A transaction holds its rows for so long.
pub(super) const TIME_MAX: Duration = Duration::from_secs(600);
/// One that was not used for this long gives way to others.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// What to do about a transaction that has ended.
const AGAIN: &str =
    "commit or roll back, and begin another; a connection with autocommit needs none, and sees the newest rows";

/// The transactions that are open.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    open: Mutex<HashMap<Id, Transaction>>,
}

#[derive(Debug)]
struct Transaction {
    begun: Instant,
    used: Instant,
    state: State,
    /// The connection that began it.
    peer: Option<PeerId>,
}

#[derive(Debug)]
enum State {
    /// No statement has run.
    Fresh,
    /// It sees this.
    Holding(Arc<Moment>),
    /// Its rows were let go.
    Ended(&'static str),
}

impl Transaction {
    fn moment(&self) -> Option<&Arc<Moment>> {
        match &self.state {
            State::Holding(moment) => Some(moment),
            _ => None,
        }
    }

    /// Whether others may have its room: its client has gone, or has not used it for long.
    fn gives_way(&self, now: Instant) -> bool {
        let is_left = self.peer.as_ref().is_some_and(|peer| !peer.is_open());
        self.moment().is_some() && (is_left || now.duration_since(self.used) >= IDLE_MAX)
    }
}

impl Transactions {
    /// Begins one, for the client at this connection.
    pub(super) fn begin(&self, peer: Option<PeerId>) -> Result<Id, Status> {
        let id = new_id()?;
        let now = Instant::now();
        let mut open = self.lock();
        if open.len() >= OPEN_MAX {
            // The clients of those have gone, or will be told that theirs has ended.
            let longest = open.iter().filter(|(_, one)| one.moment().is_none()).min_by_key(|(_, one)| one.used);
            if let Some(longest) = longest.map(|(id, _)| *id) {
                open.remove(&longest);
            }
        }
        open.insert(id, Transaction { begun: now, used: now, state: State::Fresh, peer });
        Ok(id)
    }

    /// Ends one. Nothing was written, so committing and rolling back are the same, also for one that has ended before.
    pub(super) fn end(&self, id: &[u8]) -> Result<(), Status> {
        let id = known(id)?;
        self.lock().remove(&id);
        Ok(())
    }

    /// The transaction in which a statement runs now that was prepared in `id`. Clients go on with their prepared statements
    /// after a transaction has ended: then it is the one that they have begun since, or none.
    pub(super) fn present(&self, id: Bytes, peer: Option<&PeerId>) -> Bytes {
        let open = self.lock();
        if id.is_empty() || known(&id).is_ok_and(|id| open.contains_key(&id)) {
            return id;
        }
        let since = open.iter().filter(|(_, one)| peer.is_some() && one.peer.as_ref() == peer);
        since.max_by_key(|(_, one)| one.begun).map_or_else(Bytes::new, |(id, _)| id.to_vec().into())
    }

    /// Whether statements can run in a transaction.
    pub(super) fn check(&self, id: &[u8]) -> Result<(), Status> {
        self.used(&known(id)?).map(drop)
    }

    /// What a transaction sees: what it already holds, or what `newest` gives.
    pub(super) async fn moment(
        self: &Arc<Self>,
        id: &[u8],
        newest: impl Future<Output = Result<Moment, Status>>,
    ) -> Result<Arc<Moment>, Status> {
        let id = known(id)?;
        if let Some(moment) = self.used(&id)? {
            return Ok(moment);
        }
        let moment = Arc::new(newest.await?);
        let held = self.hold(id, &moment, Instant::now())?;
        if Arc::ptr_eq(&held, &moment) {
            let transactions = Arc::downgrade(self);
            tokio::spawn(async move {
                tokio::time::sleep(TIME_MAX).await;
                if let Some(transactions) = transactions.upgrade() {
                    transactions.let_go(&id, &moment);
                }
            });
        }
        Ok(held)
    }

    /// Notes that a transaction is used; what it sees, if it has run a statement.
    fn used(&self, id: &Id) -> Result<Option<Arc<Moment>>, Status> {
        let mut open = self.lock();
        let one = open.get_mut(id).ok_or_else(|| ended("it is not known: it was ended, or not used for long"))?;
        if let State::Ended(why) = one.state {
            return Err(ended(why));
        }
        one.used = Instant::now();
        Ok(one.moment().cloned())
    }

    /// Has a transaction hold `moment`, unless another of its statements was faster. Returns what it holds.
    fn hold(&self, id: Id, moment: &Arc<Moment>, now: Instant) -> Result<Arc<Moment>, Status> {
        let mut open = self.lock();
        match open.get(&id).map(|one| &one.state) {
            Some(State::Holding(moment)) => return Ok(Arc::clone(moment)),
            Some(State::Fresh) => {}
            Some(State::Ended(why)) => return Err(ended(why)),
            None => return Err(ended("it was ended meanwhile")),
        }
        while let Some(what) = crowded(&open, moment) {
            let idle = open.values_mut().filter(|one| one.gives_way(now));
            let Some(longest) = idle.min_by_key(|one| one.used) else {
                return Err(Status::resource_exhausted(format!(
                    "{what}, which is the limit: commit or roll back some of them; a connection with autocommit holds no rows"
                )));
            };
            longest.state =
                State::Ended("others needed its room, and it was not used for a minute or its connection was closed");
        }
        if let Some(one) = open.get_mut(&id) {
            one.state = State::Holding(Arc::clone(moment));
        }
        Ok(Arc::clone(moment))
    }

    /// Lets go of what a transaction holds, if that is still `moment`.
    fn let_go(&self, id: &Id, moment: &Arc<Moment>) {
        if let Some(one) =
            self.lock().get_mut(id).filter(|one| one.moment().is_some_and(|held| Arc::ptr_eq(held, moment)))
        {
            one.state = State::Ended("it held its rows for ten minutes");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Transaction>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which limit `moment` would go beyond, in words.
fn crowded(open: &HashMap<Id, Transaction>, moment: &Arc<Moment>) -> Option<String> {
    let held: Vec<&Arc<Moment>> = open.values().filter_map(Transaction::moment).collect();
    if held.len() >= HOLDING_MAX {
        return Some(format!("{HOLDING_MAX} transactions hold rows"));
    }
    let together = Moment::hot_bytes(held.iter().copied().chain([moment]));
    (!held.is_empty() && together > HOT_BYTES_MAX)
        .then(|| format!("transactions hold {} MiB of rows in memory", HOT_BYTES_MAX >> 20))
}

fn known(id: &[u8]) -> Result<Id, Status> {
    id.try_into().map_err(|_| Status::invalid_argument("the transaction_id was not given by BeginTransaction"))
}

fn ended(why: &str) -> Status {
    Status::failed_precondition(format!("the transaction has ended, as {why}: {AGAIN}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> Arc<Moment> {
        Arc::new(Moment::empty())
    }

    #[test]
    fn a_transaction_keeps_its_first_moment_until_it_ends() {
        let all = Transactions::default();
        let id = all.begin(None).unwrap();
        assert!(all.used(&id).unwrap().is_none());
        let (first, second) = (moment(), moment());
        let now = Instant::now();
        assert!(Arc::ptr_eq(&all.hold(id, &first, now).unwrap(), &first));
        assert!(Arc::ptr_eq(&all.hold(id, &second, now).unwrap(), &first));
        all.let_go(&id, &second);
        assert!(all.used(&id).unwrap().is_some());
        all.let_go(&id, &first);
        assert_eq!(Arc::strong_count(&first), 1);
        let error = all.check(&id).unwrap_err();
        assert!(error.message().contains("ten minutes"), "{error}");
        all.end(&id).unwrap();
        all.end(&id).unwrap();
        assert!(all.check(&id).unwrap_err().message().contains("not known"));
        assert_eq!(all.end(b"x").unwrap_err().code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn prepared_statements_go_on_in_the_next_transaction_of_their_client() {
        let socket = |_| Arc::new(std::os::fd::OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        let sockets: Vec<_> = (0..2).map(socket).collect();
        let peer = |at: usize| Some(PeerId::of(&sockets[at]));
        let all = Transactions::default();
        let first = all.begin(peer(0)).unwrap();
        let bytes = |id: Id| Bytes::from(id.to_vec());
        assert_eq!(all.present(bytes(first), peer(0).as_ref()), bytes(first));
        all.end(&first).unwrap();
        assert_eq!(all.present(bytes(first), peer(0).as_ref()), Bytes::new());
        let next = all.begin(peer(0)).unwrap();
        all.begin(peer(1)).unwrap();
        assert_eq!(all.present(bytes(first), peer(0).as_ref()), bytes(next));
        assert_eq!(all.present(bytes(first), None), Bytes::new());
        assert_eq!(all.present(Bytes::new(), peer(0).as_ref()), Bytes::new(), "it was prepared without one");
    }

    #[test]
    fn idle_ones_give_way_and_busy_ones_do_not() {
        let all = Transactions::default();
        let now = Instant::now();
        let ids: Vec<Id> = (0..HOLDING_MAX).map(|_| all.begin(None).unwrap()).collect();
        for id in &ids {
            all.hold(*id, &moment(), now).unwrap();
        }
        let next = all.begin(None).unwrap();
        let error = all.hold(next, &moment(), now).unwrap_err();
        assert_eq!(error.code(), tonic::Code::ResourceExhausted);
        assert!(error.message().contains("16 transactions hold rows"), "{error}");
        all.hold(next, &moment(), now + IDLE_MAX + Duration::from_secs(1)).unwrap();
        let gone = ids.iter().filter(|id| all.check(*id).is_err()).count();
        assert_eq!(gone, 1);
    }

    #[test]
    fn so_many_are_remembered() {
        let all = Transactions::default();
        let first = all.begin(None).unwrap();
        for _ in 0..OPEN_MAX {
            all.begin(None).unwrap();
        }
        assert_eq!(all.lock().len(), OPEN_MAX);
        all.check(&first).unwrap_err();
    }
}
