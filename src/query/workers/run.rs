//! A statement's course: it is handed to a worker, which is given rows and tells the result, and then the worker is free or ended.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::FlightData;
use prost::bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};

use super::client::Client;
use super::process::{Ending, Worker};
use super::{Asked, Inner, fault};
use crate::query::error::QueryError;
use crate::query::history::{self, Cost};
use crate::query::ipc::rows_of;
use crate::query::request::Moment;
use crate::query::room::Reservation;
use crate::query::slab::Lent;
use crate::query::worker::message::{Failure, InSlab, Reply, Statement, order, reply};
use crate::store::View;

/// A worker that does not end a statement within this time after it was asked to is killed.
const POLITE: Duration = Duration::from_millis(100);
/// A statement is handed to so many workers, if they die before they have it.
const TRIES_MAX: u32 = 8;
/// A message of a worker up to this size is taken before there is room for it: few are a part of a result.
const SMALL_MESSAGE_BYTES: usize = 4 << 10;
/// So much of a statement is in the log.
const LOGGED_BYTES_MAX: usize = 1 << 10;
/// So much of a result needs no room.
const FREE_BYTES: usize = 4 << 10;

/// A statement that runs, as its client sees it.
struct Course {
    deadline: Instant,
    time_max: Duration,
    /// The rows that it sees, if they were chosen before.
    moment: Option<Arc<Moment>>,
    client: Client,
}

/// Why a statement is not run to its end.
enum Stop {
    /// The client has gone.
    Left,
    /// It has failed, and its worker is to be asked to end it.
    Failed(QueryError),
    /// Its worker is gone, or what it says cannot be understood.
    Lost,
    /// Its worker is gone, and has not read what was sent last.
    Unread,
}

impl Stop {
    /// Why a worker could not be heard.
    fn of(error: &io::Error) -> Stop {
        // So the kernel says if a socket was closed before all in it was read (unix(7) does not mention it).
        if error.kind() == io::ErrorKind::ConnectionReset { Stop::Unread } else { Stop::Lost }
    }
}

impl Course {
    /// Waits for `work` until the deadline, or until the client has gone.
    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            () = self.client.gone() => Err(Stop::Left),
            () = sleep_until(self.deadline) => Err(Stop::Failed(QueryError::Time(self.time_max))),
            done = work => Ok(done),
        }
    }
}

/// Whether a statement reads rows, as far as its text says: one without FROM mostly asks for none.
fn names_rows(statement: &Statement) -> bool {
    !statement.prepare && statement.sql.as_bytes().windows(4).any(|word| word.eq_ignore_ascii_case(b"FROM"))
}

impl Inner {
    /// Runs a statement on a worker, tells its result, and notes how it ended.
    pub(super) async fn run(
        self: Arc<Inner>,
        permit: OwnedSemaphorePermit,
        asked: Asked,
        statement: Statement,
        moment: Option<Arc<Moment>>,
        client: Client,
    ) {
        let time_max = statement.options().time_max(self.settings.time_max);
        let course = Course { deadline: Instant::now() + time_max, time_max, moment, client };
        let mut cost = Cost::default();
        let ended = self.run_on_workers(permit, &statement, &course, &mut cost).await;
        let is_tail = statement.tail.is_some();
        let ended = ended.map(|ended| ended.map_err(|error| if is_tail { error.of_tail() } else { error }));
        let (outcome, error) = match &ended {
            None => (history::CANCELLED, String::new()),
            Some(Ok(())) => (history::OK, String::new()),
            Some(Err(error)) => (history::outcome_of(error), error.to_string()),
        };
        self.note_ended(asked, outcome, error, cost);
        course.client.reader.ended();
        if let Some(ended) = ended {
            course.client.end(ended).await;
        }
    }

    /// Runs a statement on one worker after the other until one has read it. `None` if the client has gone.
    async fn run_on_workers(
        &self,
        permit: OwnedSemaphorePermit,
        statement: &Statement,
        course: &Course,
        cost: &mut Cost,
    ) -> Option<Result<(), QueryError>> {
        let (mut permit, mut tries) = (Some(permit), 1);
        loop {
            let mut worker = match course.within(self.hand_over(permit, statement, &mut tries)).await {
                Ok(Ok(worker)) => worker,
                Ok(Err(error)) => return Some(Err(QueryError::Start(error.to_string()))),
                Err(Stop::Failed(error)) => return Some(Err(error)),
                Err(Stop::Left | Stop::Lost | Stop::Unread) => return None,
            };
            let _running = self.allowance.begin();
            let heard = self.hear(&mut worker, statement, course, cost).await;
            cost.peak_bytes = worker.peak_bytes();
            match heard {
                Err(Stop::Unread) if tries < TRIES_MAX => {
                    self.note_died("it ended before it had read its statement");
                    permit = worker.replace();
                    tries += 1;
                }
                heard => return self.conclude(worker, heard, &statement.sql).await,
            }
        }
    }

    /// Gives a statement to a worker. A worker that dies before it has the statement costs none.
    async fn hand_over(
        &self,
        permit: Option<OwnedSemaphorePermit>,
        statement: &Statement,
        tries: &mut u32,
    ) -> io::Result<Worker> {
        loop {
            let handed = async {
                let mut worker = self.take().await?;
                worker.forget_peak();
                let slabs = worker.slabs.offer();
                worker.send(order::Kind::Statement(Statement { slabs, ..statement.clone() })).await?;
                io::Result::Ok(worker)
            };
            match handed.await {
                Err(error) if *tries < TRIES_MAX => {
                    self.note_died(&error.to_string());
                    *tries += 1;
                }
                handed => return handed.map(|worker| worker.hold(permit)),
            }
        }
    }

    /// The outcome of a statement whose worker was heard to its end. `None` if the client has gone.
    async fn conclude(
        &self,
        worker: Worker,
        heard: Result<Failure, Stop>,
        sql: &str,
    ) -> Option<Result<(), QueryError>> {
        Some(match heard {
            Ok(failure) => self.ended(worker, failure, sql),
            Err(Stop::Left) => {
                self.end(worker, None).await;
                return None;
            }
            Err(Stop::Failed(error)) => {
                self.end(worker, Some(sql)).await;
                Err(error)
            }
            Err(Stop::Lost) => Err(self.lost(worker, Some(sql)).await),
            Err(Stop::Unread) => Err(self.lost(worker, None).await),
        })
    }

    /// Hears a worker until it has ended its statement: gives it rows, and tells the client the result, which it counts.
    async fn hear(
        &self,
        worker: &mut Worker,
        statement: &Statement,
        course: &Course,
        cost: &mut Cost,
    ) -> Result<Failure, Stop> {
        // Held from when the plan first asks for rows to the end: its files are not deleted before.
        let mut view: Option<Arc<View>> = course.moment.as_ref().map(|moment| Arc::clone(&moment.view));
        // Draining takes about as long as planning, so they go on side by side.
        let views = Arc::clone(&self.views);
        let mut early = (view.is_none() && names_rows(statement)).then(|| spawn_blocking(move || views()));
        let (mut has_begun, mut free_bytes) = (false, FREE_BYTES);
        loop {
            let (kind, data_body, mut reservation) = match self.reply(worker, course).await {
                // It has read the statement, and not the rows that it asked for.
                Err(Stop::Unread) if has_begun => return Err(Stop::Lost),
                reply => reply?,
            };
            has_begun = true;
            let (frame, slab) = match kind {
                reply::Kind::Ready(_) => continue,
                reply::Kind::Wanted(wanted) => {
                    if let Some(early) = early.take() {
                        view = course.within(early).await?.ok();
                    }
                    let bytes_max = self.settings.memory_bytes_max;
                    let give = worker.give(Arc::clone(&self.views), view.take(), wanted, bytes_max);
                    let given = match course.within(give).await {
                        Ok(given) => given,
                        Err(stop) => {
                            // Half an order may have been sent, so the worker cannot be asked for anything.
                            worker.kill();
                            return Err(stop);
                        }
                    };
                    match given {
                        Ok(of) => view = Some(of),
                        Err(_) if worker.has_ended().await => return Err(Stop::Lost),
                        Err(error) => {
                            worker.kill();
                            return Err(Stop::Failed(error));
                        }
                    }
                    continue;
                }
                reply::Kind::Schema(data_header) => (FlightData { data_header, ..FlightData::default() }, None),
                reply::Kind::Frame(data_header) => {
                    (FlightData { data_header, data_body, ..FlightData::default() }, None)
                }
                reply::Kind::InSlab(InSlab { header: data_header, slab, bytes }) => {
                    let Ok(body) = worker.slabs.body(slab, bytes) else { return Err(Stop::Lost) };
                    // It was for the header alone.
                    reservation = None;
                    (FlightData { data_header, ..FlightData::default() }, Some(body))
                }
                reply::Kind::Ended(failure) => return Ok(failure),
                // It is no answer to a statement.
                reply::Kind::TailEmpty(_) | reply::Kind::TailFrame(_) => return Err(Stop::Lost),
            };
            let bytes = frame.data_header.len() + frame.data_body.len() + slab.as_ref().map_or(0, Lent::len);
            cost.rows += rows_of(&frame.data_header);
            cost.bytes += bytes as u64;
            if reservation.is_none() {
                match free_bytes.checked_sub(bytes) {
                    Some(left) => free_bytes = left,
                    None => reservation = Some(self.take_room(bytes, course).await?),
                }
            }
            // This fails if the client has gone, which the next round sees.
            let _ = course.within(course.client.tell(frame, slab, reservation)).await?;
        }
    }

    /// The next reply, once there is room for it.
    async fn reply(
        &self,
        worker: &mut Worker,
        course: &Course,
    ) -> Result<(reply::Kind, Bytes, Option<Reservation>), Stop> {
        let bytes = course.within(worker.next_bytes()).await?.map_err(|error| Stop::of(&error))?;
        let needs_room = bytes > SMALL_MESSAGE_BYTES;
        let reservation = if needs_room { Some(self.take_room(bytes, course).await?) } else { None };
        match course.within(worker.channel.receive::<Reply>()).await? {
            Ok(Some((Reply { kind: Some(kind) }, attached))) => Ok((kind, attached, reservation)),
            _ => Err(Stop::Lost),
        }
    }

    async fn take_room(&self, bytes: usize, course: &Course) -> Result<Reservation, Stop> {
        match course.within(self.room.take(bytes, &course.client.reader)).await {
            Ok(taken) => taken.map_err(Stop::Failed),
            Err(Stop::Failed(_)) => Err(Stop::Failed(self.room.full())),
            Err(stop) => Err(stop),
        }
    }

    /// The outcome of a statement that its worker has ended.
    fn ended(&self, worker: Worker, failure: Failure, sql: &str) -> Result<(), QueryError> {
        let Failure { kind, text, computes, bug, panicked } = failure;
        let outcome = QueryError::told(kind, text);
        if !bug.is_empty() {
            let statement = &sql[..sql.floor_char_boundary(LOGGED_BYTES_MAX)];
            tracing::error!(statement, bug, "a statement hit a bug in kymo");
        }
        match &outcome {
            // What is left of the statement ends with its process.
            _ if computes => self.note_died("a statement that had ended still computed in it"),
            // Its state may be broken.
            Err(_) if panicked => {
                self.note_died("a statement panicked in it");
                self.strikes.strike(sql);
            }
            _ => self.give_back(worker),
        }
        outcome
    }

    /// Ends the statement of a worker: politely, and then with force. `late` is the statement, if it is at fault for that.
    async fn end(&self, mut worker: Worker, late: Option<&str>) {
        if worker.is_killed() {
            return self.taken.notify_one();
        }
        // No fault of its statement.
        let is_stopped = worker.is_stopped();
        let polite = async {
            worker.send(order::Kind::Cancel(true)).await?;
            loop {
                match worker.channel.receive::<Reply>().await? {
                    Some((Reply { kind: Some(reply::Kind::Ended(Failure { computes, .. })) }, _)) => {
                        return Ok(!computes);
                    }
                    Some(_) => {}
                    None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                }
            }
        };
        if matches!(timeout(POLITE, polite).await, Ok(Ok(true))) {
            self.give_back(worker);
        } else if is_stopped {
            self.note_died("it was stopped by a signal");
        } else {
            self.note_died("it did not end a statement when asked to");
            if let Some(sql) = late {
                self.strikes.strike(sql);
            }
        }
    }

    /// Why a worker is gone in the middle of a statement. `sql` is the statement, if it may be at fault for that.
    pub(super) async fn lost(&self, worker: Worker, sql: Option<&str>) -> QueryError {
        let Ending { status, said, killed } = worker.wait().await;
        let error = if killed {
            QueryError::Killed("by kymo, which did not understand its answer".into())
        } else {
            fault::error(status, &said, self.settings.memory_bytes_max)
        };
        self.note_died(&error.to_string());
        tracing::warn!(signal = status.and_then(|status| status.signal()), %error, "a query worker died");
        if let Some(sql) = sql {
            self.strikes.strike(sql);
        }
        error
    }
}
