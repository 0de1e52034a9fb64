//! A statement's course: it is handed to a worker, which is given rows and tells the result, and then the worker is free or ended.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::FlightData;
use prost::bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::process::{Ending, Worker};
use super::{Inner, fault};
use crate::query::error::{ErrorKind, QueryError};
use crate::query::request::Moment;
use crate::query::room::Reservation;
use crate::query::statements::Part;
use crate::query::worker::message::{Failure, Reply, Statement, order, reply};
use crate::store::View;

/// A worker that does not end a statement within this time after it was asked to is killed.
const POLITE: Duration = Duration::from_millis(100);
/// A statement is handed to so many workers, if they die before they have it.
const TRIES_MAX: u32 = 3;
/// A message up to this size needs no room.
const SMALL_MESSAGE_BYTES: usize = 4 << 10;

/// A statement that runs, as its client sees it.
struct Course {
    sql: String,
    deadline: Instant,
    time_max: Duration,
    /// The rows that it sees, if they were chosen before.
    moment: Option<Arc<Moment>>,
    told: mpsc::Sender<Part>,
}

/// Why a statement is not run to its end.
enum Stop {
    /// The client has gone.
    Left,
    /// It has failed, and its worker is to be asked to end it.
    Failed(QueryError),
    /// Its worker is gone, or what it says cannot be understood.
    Lost,
}

impl Course {
    /// Waits for `work` until the deadline, or until the client has gone.
    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            () = self.told.closed() => Err(Stop::Left),
            () = sleep_until(self.deadline) => Err(Stop::Failed(QueryError::Time(self.time_max))),
            done = work => Ok(done),
        }
    }
}

impl Inner {
    /// Runs a statement on a worker and tells its result.
    pub(super) async fn run(
        self: Arc<Inner>,
        permit: OwnedSemaphorePermit,
        statement: Statement,
        moment: Option<Arc<Moment>>,
        told: mpsc::Sender<Part>,
    ) {
        let time_max = statement.options().time_max(self.settings.time_max);
        let course = Course { sql: statement.sql.clone(), deadline: Instant::now() + time_max, time_max, moment, told };
        let outcome = match course.within(self.hand_over(permit, statement)).await {
            Ok(Ok(worker)) => {
                let _running = self.allowance.begin();
                self.converse(worker, &course).await
            }
            Ok(Err(error)) => Err(QueryError::Start(error.to_string())),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Left | Stop::Lost) => return,
        };
        // This fails if the client has gone.
        let _ = course.told.send(outcome.map(|()| None)).await;
    }

    /// Gives a statement to a worker. A worker that dies before it has the statement costs none.
    async fn hand_over(&self, permit: OwnedSemaphorePermit, statement: Statement) -> io::Result<Worker> {
        let mut tries = 1;
        loop {
            let handed = async {
                let mut worker = self.take().await?;
                worker.send(order::Kind::Statement(statement.clone())).await?;
                io::Result::Ok(worker)
            };
            match handed.await {
                Err(error) if tries < TRIES_MAX => {
                    self.note_died(&error.to_string());
                    tries += 1;
                }
                handed => return handed.map(|worker| worker.hold(permit)),
            }
        }
    }

    /// Runs the statement that the worker has.
    async fn converse(&self, mut worker: Worker, course: &Course) -> Result<(), QueryError> {
        match self.hear(&mut worker, course).await {
            Ok(failure) => self.ended(worker, failure, &course.sql),
            Err(Stop::Left) => {
                self.end(worker, None).await;
                Ok(())
            }
            Err(Stop::Failed(error)) => {
                self.end(worker, Some(&course.sql)).await;
                Err(error)
            }
            Err(Stop::Lost) => Err(self.lost(worker, &course.sql).await),
        }
    }

    /// Hears a worker until it has ended its statement: gives it rows, and tells the client the result.
    async fn hear(&self, worker: &mut Worker, course: &Course) -> Result<Failure, Stop> {
        // Taken when the plan first asks for rows, and held to the end: its files are not deleted before.
        let mut view: Option<Arc<View>> = course.moment.as_ref().map(|moment| Arc::clone(&moment.view));
        loop {
            let (kind, data_body, reservation) = self.reply(worker, course).await?;
            let frame = match kind {
                reply::Kind::Ready(_) => continue,
                reply::Kind::Wanted(wanted) => {
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
                reply::Kind::Schema(data_header) => FlightData { data_header, ..FlightData::default() },
                reply::Kind::Frame(data_header) => FlightData { data_header, data_body, ..FlightData::default() },
                reply::Kind::Ended(failure) => return Ok(failure),
            };
            // This fails if the client has gone, which the next round sees.
            let _ = course.within(course.told.send(Ok(Some((frame, reservation))))).await?;
        }
    }

    /// The next reply, once there is room for it.
    async fn reply(
        &self,
        worker: &mut Worker,
        course: &Course,
    ) -> Result<(reply::Kind, Bytes, Option<Reservation>), Stop> {
        let bytes = course.within(worker.channel.next_bytes()).await?.map_err(|_| Stop::Lost)?;
        let reservation = if bytes > SMALL_MESSAGE_BYTES {
            match course.within(self.room.take(bytes)).await {
                Ok(taken) => Some(taken.map_err(Stop::Failed)?),
                Err(Stop::Failed(_)) => return Err(Stop::Failed(self.room.full())),
                Err(stop) => return Err(stop),
            }
        } else {
            None
        };
        match course.within(worker.channel.receive::<Reply>()).await? {
            Ok(Some((Reply { kind: Some(kind) }, attached))) => Ok((kind, attached, reservation)),
            _ => Err(Stop::Lost),
        }
    }

    /// The outcome of a statement that its worker has ended.
    fn ended(&self, worker: Worker, Failure { kind, text, computes }: Failure, sql: &str) -> Result<(), QueryError> {
        let outcome = QueryError::told(kind, text);
        match &outcome {
            // What is left of the statement ends with its process.
            _ if computes => self.note_died("a statement that had ended still computed in it"),
            // Its state may be broken.
            Err(error) if error.kind() == ErrorKind::Internal => {
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
        } else {
            self.note_died("it did not end a statement when asked to");
            if let Some(sql) = late {
                self.strikes.strike(sql);
            }
        }
    }

    /// Why a worker is gone in the middle of a statement.
    async fn lost(&self, worker: Worker, sql: &str) -> QueryError {
        let Ending { status, said, killed } = worker.wait().await;
        let error = if killed {
            QueryError::Killed("by kymo, which did not understand its answer".into())
        } else {
            fault::error(status, &said, self.settings.memory_bytes_max)
        };
        self.note_died(&error.to_string());
        tracing::warn!(signal = status.and_then(|status| status.signal()), %error, "a query worker died");
        self.strikes.strike(sql);
        error
    }
}
