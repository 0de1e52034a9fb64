//! A running collector thread, as the daemon holds it.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::health::{CollectorHealth, SharedHealth};
use super::ticking::Ticking;
use super::underway::Underway;
use super::{Ended, Setup, monotonic_ns};

/// A running collector thread.
#[derive(Debug)]
pub struct CollectorThread {
    stop: Arc<AtomicBool>,
    health: SharedHealth,
    underway: Underway,
    /// Disconnected once the thread has done its work.
    ended: Receiver<Infallible>,
    thread: JoinHandle<Ended>,
}

impl CollectorThread {
    /// Starts the thread `kymo-<name>`.
    ///
    /// # Errors
    /// When the system refuses to start a thread.
    pub fn start(setup: Setup) -> io::Result<CollectorThread> {
        let stop = Arc::new(AtomicBool::new(false));
        let health = SharedHealth::default();
        let underway = Underway::new(setup.samplers.iter().map(|sampler| sampler.family()).collect());
        let (stopped, shared, ticking) = (Arc::clone(&stop), health.clone(), underway.clone());
        let (running, ended) = channel();
        let thread = thread::Builder::new().name(format!("kymo-{}", setup.name)).spawn(move || {
            let _running = running;
            Ticking::new(setup, shared, ticking).run(&stopped)
        })?;
        Ok(CollectorThread { stop, health, underway, ended, thread })
    }

    /// Asks the thread to stop after its current tick; returns at once.
    pub fn request_stop(&self) {
        // Relaxed: the flag carries nothing but itself; joining the thread orders what it wrote.
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops the thread and waits until it ends: usually at most 100 ms and a tick. Its last counts are in the ring then.
    ///
    /// # Errors
    /// With the thread itself, if it has not ended within `patience`, as a read hangs. It ends once that returns.
    pub fn stop(self, patience: Duration) -> Result<Ended, CollectorThread> {
        self.request_stop();
        match self.ended.recv_timeout(patience) {
            Err(RecvTimeoutError::Timeout) => Err(self),
            Err(RecvTimeoutError::Disconnected) => Ok(self.thread.join().unwrap_or_default()),
        }
    }

    /// Whether the thread has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Its health now.
    #[must_use]
    pub fn health(&self) -> CollectorHealth {
        CollectorHealth { hang: self.underway.hang(monotonic_ns()), ..self.health.get() }
    }
}
