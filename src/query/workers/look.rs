//! Looking at new rows for all tails, in one worker.
//!
//! The worker looks at one tail after the other, so it is known whose condition ended it or takes too long. This tail is ended, and
//! the others go on in another worker.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::FlightData;
use prost::bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::Inner;
use super::process::Worker;
use super::tails::Group;
use super::tails::feed::Fed;
use crate::query::error::{ErrorKind, QueryError};
use crate::query::rows::HotRows;
use crate::query::tail::BATCH_TIME_MAX;
use crate::query::worker::message::{Failure, Reply, TailFrame, TailOpen, TailRows, order, reply};
use crate::store::HotBatch;

/// Workers that are tried for one batch, if they die before they have it.
const TRIES_MAX: u32 = 3;
/// The pause after no worker could be started.
const PAUSE: Duration = Duration::from_secs(1);

/// The worker of the tails, with the numbers of those that it knows.
struct TailWorker {
    worker: Worker,
    known: BTreeSet<u64>,
}

/// Why a batch was not looked at to its end.
enum Trouble {
    /// The first tail of those that are left takes too long.
    Late,
    /// The worker is gone, at the first tail of those that are left.
    Lost,
    /// The worker was gone before it had what was sent last.
    Unread,
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        if error.kind() == io::ErrorKind::ConnectionReset { Trouble::Unread } else { Trouble::Lost }
    }
}

impl Inner {
    /// Looks after all tails until there is none.
    pub(super) async fn look_after_tails(self: Arc<Inner>) {
        let mut kept: Option<TailWorker> = None;
        while let Some((family, fed)) = self.tails.next().await {
            let mut left = self.tails.of(family);
            match fed {
                Fed::Lost(first_seq, rows) => left.iter().for_each(|group| group.miss(first_seq, rows)),
                Fed::Rows(rows) => self.look_at_batch(&mut kept, Some(&rows), &mut left).await,
                // What is wrong with it is told before its table has rows.
                Fed::Tail => self.look_at_batch(&mut kept, None, &mut left).await,
            }
        }
        if let Some(TailWorker { mut worker, known }) = kept {
            for number in known {
                if worker.send(order::Kind::TailClose(number)).await.is_err() {
                    return;
                }
            }
            self.give_back(worker);
        }
    }

    /// Has the worker look at a batch, if there is one, for all tails that are left. Those at which it fails are ended.
    async fn look_at_batch(
        &self,
        kept: &mut Option<TailWorker>,
        rows: Option<&HotBatch>,
        left: &mut VecDeque<Arc<Group>>,
    ) {
        let mut tries = 0;
        while !left.is_empty() {
            let is_usable = |of: &mut TailWorker| of.worker.is_alive() && !of.worker.is_stopped();
            let worker = match kept.take_if(is_usable) {
                Some(worker) => Ok(worker),
                None => {
                    if kept.take().is_some() {
                        self.note_died("it ended or was stopped while it looked after tails");
                    }
                    self.take().await.map(|worker| TailWorker { worker, known: BTreeSet::new() })
                }
            };
            let mut worker = match worker {
                Ok(worker) => worker,
                Err(error) => {
                    tracing::warn!(%error, "no process for tails can be started: their readers miss rows");
                    for (group, rows) in left.drain(..).zip(rows.into_iter().cycle()) {
                        group.miss(rows.first_seq, rows.batch.num_rows() as u64);
                    }
                    return sleep(PAUSE).await;
                }
            };
            let running = self.allowance.begin();
            let looked = self.look_at(&mut worker, rows, left).await;
            drop(running);
            let Err(trouble) = looked else {
                *kept = Some(worker);
                return;
            };
            let is_stopped = worker.worker.is_stopped();
            tries += 1;
            match trouble {
                Trouble::Unread | Trouble::Late
                    if tries < TRIES_MAX && (is_stopped || matches!(trouble, Trouble::Unread)) =>
                {
                    self.note_died("it ended before it had looked at the rows of a tail");
                }
                trouble => {
                    let Some(group) = left.pop_front() else { return };
                    let error = self.blame(worker.worker, &trouble, &group.tail.sql).await;
                    self.tails.end(&group, &error);
                }
            }
        }
    }

    /// Why the tail of a statement is ended at which a worker failed.
    async fn blame(&self, worker: Worker, trouble: &Trouble, sql: &str) -> QueryError {
        if let Trouble::Late = trouble {
            self.note_died("the condition of a tail took too long");
            self.strikes.strike(sql);
            let text =
                format!("the condition of the tail takes longer than {} s for one batch", BATCH_TIME_MAX.as_secs());
            return QueryError::Told { kind: ErrorKind::Time, text };
        }
        self.lost(worker, Some(sql)).await.of_tail()
    }

    /// Has the worker look at a batch. Tails that are done are taken out of `left`.
    async fn look_at(
        &self,
        TailWorker { worker, known }: &mut TailWorker,
        rows: Option<&HotBatch>,
        left: &mut VecDeque<Arc<Group>>,
    ) -> Result<(), Trouble> {
        self.introduce(worker, known, left).await?;
        let table = left.front().map(|group| group.tail.table);
        let Some((table, rows)) = table.zip(rows) else { return Ok(()) };
        let hot = HotRows { host: Arc::clone(&rows.host), batch: rows.batch.clone(), time_range: rows.time_range };
        let given = worker.give_batch(table, hot, self.settings.memory_bytes_max).await?;
        let tails = left.iter().map(|group| group.number).collect();
        let order = TailRows { table: table.table.name.into(), rows: Some(given), tails };
        worker.send(order::Kind::TailRows(order)).await?;
        // Of the first tail. It gets them once they are whole: another worker may have to look at the batch again.
        let mut frames: Vec<(u64, FlightData)> = Vec::new();
        while let Some(group) = left.front() {
            match next_reply(worker).await? {
                (reply::Kind::TailFrame(TailFrame { header, rows: count }), data_body) => {
                    frames.push((count, FlightData { data_header: header, data_body, ..FlightData::default() }));
                }
                (reply::Kind::Ended(failure), _) => {
                    for reader in group.readers() {
                        frames.iter().for_each(|(count, frame)| reader.push(rows.first_seq, *count, frame.clone()));
                    }
                    frames.clear();
                    if let Err(error) = outcome(failure) {
                        self.tails.end(group, &error);
                    }
                    left.pop_front();
                }
                _ => return Err(Trouble::Lost),
            }
        }
        Ok(())
    }

    /// Makes the tails known to the worker, and has it forget those that are gone. Those that it refuses are ended.
    async fn introduce(
        &self,
        worker: &mut Worker,
        known: &mut BTreeSet<u64>,
        left: &mut VecDeque<Arc<Group>>,
    ) -> Result<(), Trouble> {
        let gone: Vec<u64> = known.extract_if(.., |number| !self.tails.has(*number)).collect();
        for number in gone {
            worker.send(order::Kind::TailClose(number)).await?;
        }
        // The one that is looked at is always the first, and after the last the first is the first again.
        for _ in 0..left.len() {
            let Some(group) = left.front().map(Arc::clone) else { break };
            if !known.contains(&group.number) {
                let statement = Some(group.statement.clone());
                worker.send(order::Kind::TailOpen(TailOpen { number: group.number, statement })).await?;
                loop {
                    match next_reply(worker).await? {
                        (reply::Kind::TailEmpty(data_header), data_body) => {
                            group.empty.get_or_init(|| FlightData { data_header, data_body, ..FlightData::default() });
                        }
                        (reply::Kind::Ended(failure), _) => {
                            match outcome(failure) {
                                Ok(()) => _ = known.insert(group.number),
                                Err(error) => {
                                    self.tails.end(&group, &error);
                                    left.pop_front();
                                }
                            }
                            break;
                        }
                        _ => return Err(Trouble::Lost),
                    }
                }
                if !known.contains(&group.number) {
                    continue;
                }
            }
            left.rotate_left(1);
        }
        Ok(())
    }
}

fn outcome(Failure { kind, text, bug, .. }: Failure) -> Result<(), QueryError> {
    if !bug.is_empty() {
        tracing::error!(bug, "a tail hit a bug in kymo");
    }
    QueryError::told(kind, text)
}

async fn next_reply(worker: &mut Worker) -> Result<(reply::Kind, Bytes), Trouble> {
    match timeout(BATCH_TIME_MAX, worker.channel.receive::<Reply>()).await {
        Ok(Ok(Some((Reply { kind: Some(kind) }, attached)))) => Ok((kind, attached)),
        Ok(Ok(_)) => Err(Trouble::Lost),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Trouble::Late),
    }
}
