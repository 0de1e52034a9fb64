//! Worker processes that wait for statements.

use std::io;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::folders::{folder_id, make_spill_folder};
use super::process::Worker;
use super::{Inner, lock, reply_bytes_max};
use crate::query::worker::message::{self, Limits, Reply, order, reply};

/// A worker that does not start within this time is killed.
const START_MAX: Duration = Duration::from_secs(10);
/// A worker without a statement for this long is ended, except the last.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// The memory of a worker for rows and results is freed after so long without a statement.
const MEMORY_IDLE_MAX: Duration = Duration::from_secs(2);
/// Allocators of workers give freed memory back after two seconds (`.cargo/config.toml`), on threads of their own.
const RESTED_AFTER: Duration = Duration::from_millis(2_500);

impl Inner {
    /// A worker that takes a statement.
    pub(super) async fn take(&self) -> io::Result<Worker> {
        loop {
            let idle = self.idle().pop();
            self.taken.notify_one();
            let Some(mut worker) = idle else { return self.start().await };
            if !worker.reads(folder_id(&self.folders.data)) {
                // The kernel lets it read the former folder.
                continue;
            }
            if worker.is_stopped() {
                self.note_died("it was stopped by a signal while it was idle, so it was ended");
            } else if worker.is_alive() {
                return Ok(worker);
            } else {
                self.note_died("it ended while it was idle");
            }
        }
    }

    pub(super) async fn start(&self) -> io::Result<Worker> {
        let spill = self.folders.spill.as_ref().filter(|_| self.settings.spill_bytes_max > 0);
        if let Some(folder) = spill {
            // It is missing if the data folder was made anew. A query that spills tells a refusal.
            let _ = make_spill_folder(folder);
        }
        let limits = Limits {
            memory_bytes_max: self.settings.memory_bytes_max as u64,
            time_us_max: u64::try_from(self.settings.time_max.as_micros()).unwrap_or(u64::MAX),
            rows_max: self.settings.rows_max,
            sql_bytes_max: self.settings.sql_bytes_max as u64,
            batch_bytes_max: self.batch_bytes_max as u64,
            message_bytes_max: self.settings.message_bytes_max as u64,
            folder: message::path_bytes(&self.folders.data),
            spill_folder: spill.map(|folder| message::path_bytes(folder)).unwrap_or_default(),
            spill_bytes_max: spill.map_or(0, |_| self.settings.spill_bytes_max),
            views: self.sql_views.iter().map(Into::into).collect(),
            // Not what the worker may use now: it may have to leave some CPUs, and is too confined to see a quota.
            cpus: available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        };
        let (processes, folder) = (self.processes.clone(), self.folders.data.clone());
        let reply_bytes_max = reply_bytes_max(&self.settings);
        // It waits for a thread of low priority.
        let spawned = spawn_blocking(move || Worker::spawn(&processes, reply_bytes_max, &folder));
        let mut worker = spawned.await.map_err(io::Error::other)??;
        self.counts.started.fetch_add(1, Ordering::Relaxed);
        let begin = async {
            worker.send(order::Kind::Limits(limits)).await?;
            worker.channel.receive::<Reply>().await
        };
        match timeout(START_MAX, begin).await {
            Ok(Ok(Some((Reply { kind: Some(reply::Kind::Ready(in_force)) }, _)))) => {
                let kept = self.processes.kept_cpus();
                let kept = kept.map(|(kept, all)| format!(", off {kept} of {all} CPUs while busy"));
                *lock(&self.in_force) = in_force + &kept.unwrap_or_default();
                worker.ready();
                Ok(worker)
            }
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) => {
                Err(io::Error::other(format!("a query worker ended at its start: {}", worker.wait().await.said)))
            }
            Err(_) => Err(io::Error::other(format!("a query worker did not start within {START_MAX:?}"))),
        }
    }

    pub(super) fn give_back(&self, mut worker: Worker) {
        if worker.rest() {
            self.idle().push(worker);
        } else {
            self.taken.notify_one();
        }
    }

    /// Ends workers that were idle for long, except the one that was used last, and those that keep much memory, and lets go of those
    /// that have died.
    pub(super) fn end_idle(&self) {
        let mut idle = self.idle();
        let dead: Vec<Worker> = idle.extract_if(.., |worker| !worker.is_alive()).collect();
        let spare = idle.len().saturating_sub(1);
        let gone: Vec<Worker> = idle.extract_if(..spare, |worker| worker.idle_since.elapsed() > IDLE_MAX).collect();
        let last = idle.len().saturating_sub(1);
        let mut at = 0;
        let heavy = idle.extract_if(.., |worker| {
            let (is_last, looks) = (at == last, !worker.has_rested && worker.idle_since.elapsed() > RESTED_AFTER);
            at += 1;
            worker.has_rested |= looks;
            looks && !worker.gave_back(is_last)
        });
        let heavy: Vec<Worker> = heavy.collect();
        let resting =
            idle.extract_if(.., |worker| worker.keeps_memory() && worker.idle_since.elapsed() > MEMORY_IDLE_MAX);
        let resting: Vec<Worker> = resting.collect();
        drop(idle);
        for mut worker in resting {
            // This takes a while, and others wait for the lock.
            worker.free_memory();
            let mut idle = self.idle();
            let at = idle.partition_point(|other| other.idle_since <= worker.idle_since);
            idle.insert(at, worker);
        }
        drop((gone, heavy));
        for _ in dead {
            self.note_died("it ended while it was idle");
        }
    }

    pub(super) fn idle(&self) -> MutexGuard<'_, Vec<Worker>> {
        lock(&self.idle)
    }
}
