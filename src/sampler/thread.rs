//! A running collector thread, as the daemon holds it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::health::{CollectorHealth, SharedHealth};
use super::ticking::Ticking;
use super::{Setup, Totals};

/// A running collector thread.
pub struct CollectorThread {
    stop: Arc<AtomicBool>,
    health: SharedHealth,
    thread: JoinHandle<Totals>,
}

impl CollectorThread {
    /// Starts the thread `kymo-<name>`.
    ///
    /// # Errors
    /// When the system refuses to start a thread.
    pub fn start(setup: Setup) -> io::Result<CollectorThread> {
        let stop = Arc::new(AtomicBool::new(false));
        let health = SharedHealth::default();
        let (stopped, shared) = (Arc::clone(&stop), health.clone());
        let thread = thread::Builder::new()
            .name(format!("kymo-{}", setup.name))
            .spawn(move || Ticking::new(setup, shared).run(&stopped))?;
        Ok(CollectorThread { stop, health, thread })
    }

    /// Asks the thread to stop after its current tick; returns at once.
    pub fn request_stop(&self) {
        // Relaxed: the flag carries nothing but itself; joining the thread orders what it wrote.
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops the thread and waits until it ends: at most 100 ms and a tick. Its last counts are in the ring then.
    #[must_use]
    pub fn stop(self) -> Totals {
        self.request_stop();
        self.thread.join().unwrap_or_default()
    }

    /// Its health now.
    #[must_use]
    pub fn health(&self) -> CollectorHealth {
        self.health.get()
    }
}
