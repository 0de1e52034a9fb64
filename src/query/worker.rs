//! A query worker: a process that plans and runs statements for a recorder, one at a time.
//!
//! Whatever a statement does to the memory and the time of this process, the recorder goes on. The kernel is the guard
//! (`worker/confine.rs`). The worker ends when the recorder ends.

pub(super) mod channel;
mod confine;
pub(super) mod message;
mod tails;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::mem::take;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::datatypes::Schema;
use arrow::ipc::reader::StreamDecoder;
use async_trait::async_trait;
use datafusion::common::{DataFusionError, Result};
use futures::TryStreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use super::error::QueryError;
use super::file::read;
use super::ipc::Encoded;
use super::request::{Moment, Request};
use super::rows::{Found, HotRows, RowSource, Wanted};
use super::slab::Writer;
use super::spill::SpillSettings;
use super::statements::{FRAMES_AHEAD_MAX, frames};
use super::{Engine, Prepared, QuerySettings};
use crate::store::View;
use channel::Channel;
use message::{Failure, InSlab, Limits, Order, Reply, Rows, Statement, TailOpen, TailRows, order, reply};
use tails::Tails;

/// A statement that was cancelled or has failed, and still computes after this time, ends with its process.
const COMPUTES_MAX: Duration = Duration::from_millis(50);
/// How often it is looked whether a statement still computes, after [`SPINS`] looks without a pause.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
const SPINS: u32 = 50;

/// Serves the recorder that started this process: orders come on its standard input, its standard output is the file with rows in
/// memory, and its standard error the file with slabs for results.
///
/// # Errors
/// When the process was started by something else, or the recorder is gone in the middle of a statement.
pub fn run() -> anyhow::Result<()> {
    const STARTED: &str = "this command is for kymo itself: `kymo run` starts it";
    let orders = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().context(STARTED)?);
    let memory = File::from(io::stdout().as_fd().try_clone_to_owned().context(STARTED)?);
    let slabs = File::from(io::stderr().as_fd().try_clone_to_owned().context(STARTED)?);
    orders.peer_addr().context(STARTED)?;
    // For ps and top. A refusal changes nothing else.
    let _ = rustix::thread::set_name(c"kymo-query");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime
        .block_on(async { serve(Channel::new(orders, message::ORDER_BYTES_MAX)?, memory, Writer::new(&slabs)?).await })
}

async fn serve(mut channel: Channel, memory: File, slabs: Writer) -> anyhow::Result<()> {
    let Some((Order { kind: Some(order::Kind::Limits(limits)) }, _)) = channel.receive().await? else {
        anyhow::bail!("the recorder sent no limits");
    };
    let settings = QuerySettings {
        memory_bytes_max: usize::try_from(limits.memory_bytes_max)?,
        // The recorder counts from the moment that it hands the statement over, so its limit comes first.
        time_max: Duration::from_micros(limits.time_us_max),
        rows_max: limits.rows_max,
        concurrent_max: 1,
        sql_bytes_max: usize::try_from(limits.sql_bytes_max)?,
        message_bytes_max: usize::try_from(limits.message_bytes_max)?,
        spill_bytes_max: limits.spill_bytes_max,
    };
    let folder = (!limits.spill_folder.is_empty()).then(|| message::path_of(&limits.spill_folder));
    let spill = folder.map(|folder| SpillSettings { folder, bytes_max: limits.spill_bytes_max });
    // Before the query threads start: they inherit what confines this one.
    let in_force = confine::confine(&limits)?;
    let threads = usize::try_from(limits.cpus)?;
    let views = limits.views.iter().map(Into::into).collect();
    let engine = Engine::whole(Arc::new(|| Arc::new(View::empty())), settings, spill, threads, views)?;
    channel.send(&Reply { kind: Some(reply::Kind::Ready(in_force)) }).await?;
    let mut worker = Worker { channel, memory, slabs, engine, limits, tails: Tails::default() };
    while let Some((order, _)) = worker.channel.receive::<Order>().await? {
        // Anything else is about a statement that has just ended.
        let ended = match order.kind {
            Some(order::Kind::Statement(statement)) => {
                let mut ended = worker.statement(statement).await?;
                ended.computes = timeout(COMPUTES_MAX, worker.engine.idle()).await.is_err();
                ended
            }
            Some(order::Kind::TailOpen(tail)) => worker.open_tail(tail).await?,
            Some(order::Kind::TailRows(rows)) => {
                worker.look_at(rows).await?;
                continue;
            }
            Some(order::Kind::TailClose(number)) => {
                worker.tails.close(number);
                continue;
            }
            _ => continue,
        };
        worker.channel.send(&Reply { kind: Some(reply::Kind::Ended(ended)) }).await?;
    }
    Ok(())
}

impl Engine {
    /// Waits until no query computes any more, not even one whose reader has gone.
    async fn idle(&self) {
        let mut looks = 0;
        while self.tasks() > 0 {
            looks += 1;
            if looks < SPINS { yield_now().await } else { sleep(LOOK_INTERVAL).await }
        }
    }
}

struct Worker {
    channel: Channel,
    memory: File,
    slabs: Writer,
    engine: Engine,
    limits: Limits,
    tails: Tails,
}

/// A part of a result, and the pieces of the body that is attached to it.
type Told = (reply::Kind, Vec<Buffer>);

/// Asks for rows, and the place for the answer.
type Ask = (Wanted, oneshot::Sender<Result<Found>>);

impl Worker {
    /// Runs a statement until it has ended or is cancelled.
    async fn statement(&mut self, mut statement: Statement) -> io::Result<Failure> {
        self.slabs.begin(take(&mut statement.slabs));
        let (asks, mut asked) = mpsc::channel::<Ask>(1);
        let (told, mut tells) = mpsc::channel::<Told>(FRAMES_AHEAD_MAX);
        let mut work = JoinSet::new();
        let is_tail = statement.tail.is_some();
        let batch_bytes_max = usize::try_from(self.limits.batch_bytes_max).unwrap_or(usize::MAX);
        work.spawn(answer(self.engine.clone(), statement, Arc::new(Remote(asks)), batch_bytes_max, told));
        let mut waiting = HashMap::new();
        let mut number = 0;
        // A part of the result that waits for its client.
        let mut late: Option<Told> = None;
        loop {
            tokio::select! {
                biased;
                order = self.channel.receive::<Order>() => match order?.map(|(order, _)| order.kind) {
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Some(Some(order::Kind::Cancel(_))) => return Ok(Failure::default()),
                    Some(Some(order::Kind::Rows(rows))) => {
                        if let Some(answer) = waiting.remove(&rows.number) {
                            let answer: oneshot::Sender<Result<Found>> = answer;
                            // This fails if the statement has failed meanwhile.
                            let _ = answer.send(self.take(rows));
                        }
                    }
                    Some(Some(order::Kind::Free(slab))) => {
                        self.slabs.take_back(slab);
                        if let Some((kind, body)) = late.take_if(|(_, body)| !self.slabs.is_waited_for(body)) {
                            self.tell(kind, &body).await?;
                        }
                    }
                    Some(_) => {}
                },
                Some((wanted, answer)) = asked.recv() => {
                    number += 1;
                    waiting.insert(number, answer);
                    self.channel.send(&Reply { kind: Some(reply::Kind::Wanted(told_of(number, &wanted))) }).await?;
                }
                told = tells.recv(), if late.is_none() => match told {
                    Some((kind, body)) if self.slabs.is_waited_for(&body) => late = Some((kind, body)),
                    Some((kind, body)) => self.tell(kind, &body).await?,
                    None => {
                        let ended = work.join_next().await;
                        let outcome = match ended {
                            Some(Ok(outcome)) => outcome,
                            Some(Err(error)) => Err(QueryError::Panicked(error.to_string())),
                            None => Ok(()),
                        };
                        let outcome = outcome.map_err(|error| if is_tail { error.of_tail() } else { error });
                        return Ok(outcome.err().map_or_else(Failure::default, |error| Failure::from(&error)));
                    }
                },
            }
        }
    }

    /// Tells a part of a result.
    async fn tell(&mut self, mut kind: reply::Kind, mut body: &[Buffer]) -> io::Result<()> {
        if let reply::Kind::Frame(header) = &mut kind
            && let Some((slab, bytes)) = self.slabs.write(body)?
        {
            (kind, body) = (reply::Kind::InSlab(InSlab { header: take(header), slab, bytes }), &[]);
        }
        self.channel.send_with(&Reply { kind: Some(kind) }, body).await
    }

    /// Plans a tail, and tells a message without rows.
    async fn open_tail(&mut self, TailOpen { number, statement }: TailOpen) -> io::Result<Failure> {
        let request = request(statement.unwrap_or_default());
        match self.tails.open(&self.engine, number, request).await {
            Ok(empty) => {
                let kind = Some(reply::Kind::TailEmpty(empty.header));
                self.channel.send_with(&Reply { kind }, &empty.body).await?;
                Ok(Failure::default())
            }
            Err(error) => Ok(Failure::from(&error.of_tail())),
        }
    }

    /// Tells the rows that are in some tails, one tail after the other.
    async fn look_at(&mut self, TailRows { table, rows, tails }: TailRows) -> io::Result<()> {
        let rows = self.take(rows.unwrap_or_default()).map_err(io::Error::other)?;
        let rows = tails::in_sql(&table, &rows).map_err(io::Error::other)?;
        for number in tails {
            let found = self.tails.look_at(number, &rows).map_err(QueryError::of_tail);
            let failure = found.as_ref().err().map_or_else(Failure::default, Failure::from);
            for (frame, body) in found.unwrap_or_default() {
                self.channel.send_with(&Reply { kind: Some(reply::Kind::TailFrame(frame)) }, &body).await?;
            }
            self.channel.send(&Reply { kind: Some(reply::Kind::Ended(failure)) }).await?;
        }
        Ok(())
    }

    /// The rows that the recorder sent.
    fn take(&self, rows: Rows) -> Result<Found> {
        let files = rows.files.into_iter().map(|file| Arc::new(file.into())).collect();
        let mut decoder = StreamDecoder::new();
        let mut hot = Vec::with_capacity(rows.hot.len());
        let mut start = rows.start;
        for message::Hot { end, from_us, to_us, rows, host } in rows.hot {
            let rows = usize::try_from(rows).map_err(io::Error::other)?;
            let batch = if start == end {
                let number = RecordBatchOptions::new().with_row_count(Some(rows));
                RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &number)?
            } else {
                // A buffer for each batch, as arrays keep the whole buffer that they lie in.
                let mut buffer = Buffer::from(read(&self.memory, start, end)?);
                let decoded = decoder.decode(&mut buffer)?;
                let decoded = decoded.filter(|batch| batch.num_rows() == rows && buffer.is_empty());
                decoded.ok_or_else(|| io::Error::other("the rows in memory cannot be read"))?
            };
            hot.push(HotRows { host: host.into(), batch, time_range: (from_us, to_us) });
            start = end;
        }
        let stretches = rows.stretches.into_iter().map(Into::into).collect();
        Ok(Found { files, hot, stretches })
    }
}

fn told_of(number: u64, wanted: &Wanted) -> message::Wanted {
    message::Wanted {
        number,
        table: wanted.table.table.name.into(),
        columns: wanted.columns.iter().map(|column| u32::try_from(*column).unwrap_or(u32::MAX)).collect(),
        from_us: wanted.times.0,
        to_us: wanted.times.1,
        with_stretches: wanted.with_stretches,
    }
}

fn check_size(bytes: usize, bytes_max: usize) -> Result<(), QueryError> {
    let (bytes, bytes_max) = (bytes as u64, bytes_max as u64);
    if bytes > bytes_max { Err(QueryError::TooLarge { bytes, bytes_max }) } else { Ok(()) }
}

/// The statement as the engine takes it. The rows of its moment are with the recorder.
fn request(statement: Statement) -> Request {
    let moment = statement.now_us.map(|now_us| Arc::new(Moment { view: Arc::new(View::empty()), now_us }));
    Request {
        options: statement.options(),
        sql: statement.sql,
        parameters: statement.parameters,
        moment,
        tail: statement.tail,
        window: statement.window,
        ..Request::default()
    }
}

/// Runs a statement and tells its result, part by part.
async fn answer(
    engine: Engine,
    statement: Statement,
    rows: Arc<dyn RowSource>,
    batch_bytes_max: usize,
    told: mpsc::Sender<Told>,
) -> Result<(), QueryError> {
    let message_bytes_max = engine.settings().message_bytes_max;
    // Telling fails if the statement was cancelled.
    let prepare = statement.prepare;
    let request = request(statement);
    if prepare {
        engine.check_tail(&request).await?;
        let Prepared { schema, parameters } = engine.prepare(request).await?;
        for schema in [schema, parameters] {
            let schema = Encoded::schema(&schema);
            check_size(schema.len(), message_bytes_max)?;
            let _ = told.send((reply::Kind::Schema(schema.header), Vec::new())).await;
        }
        return Ok(());
    }
    let batches = engine.execute_over(request, rows).await?;
    let mut frames = pin!(frames(batches, batch_bytes_max)?);
    while let Some(message) = frames.try_next().await? {
        check_size(message.len(), message_bytes_max)?;
        if told.send((reply::Kind::Frame(message.header), message.body)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The recorder's rows.
#[derive(Debug)]
struct Remote(mpsc::Sender<Ask>);

#[async_trait]
impl RowSource for Remote {
    async fn rows(&self, wanted: Wanted) -> Result<Found> {
        let gone = |()| DataFusionError::Execution("the recorder is gone".into());
        let (answer, answered) = oneshot::channel();
        self.0.send((wanted, answer)).await.map_err(|_| gone(()))?;
        answered.await.map_err(|_| gone(()))?
    }
}
