//! Changes of collectors that wait for a read that hangs.

use std::time::Duration;

use crate::sampler::Ended;
use crate::sampler::thread::CollectorThread;
use crate::serve::OperatorError;

/// What a collector does once its thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It goes off the list.
    Leave,
    /// It goes on with its settings, which have changed.
    GoOn,
}

/// A collector's thread that was asked to stop while a read hung in it. It ends once that returns.
pub(super) struct Delayed {
    thread: CollectorThread,
    then: Then,
}

impl Delayed {
    /// Stops a thread and waits for it up to `patience`. What is left to do comes with the error to tell.
    pub(super) fn stop(
        thread: CollectorThread,
        patience: Duration,
        then: Then,
        collector: &str,
    ) -> Result<Ended, (Delayed, OperatorError)> {
        thread.stop(patience).map_err(|thread| {
            let hang = thread.health().hang.map_or_else(|| "a read hangs".to_owned(), |hang| hang.to_string());
            let does = match then {
                Then::Leave => "stops",
                Then::GoOn => "goes on with its new settings",
            };
            let text = format!("collector {collector} could not be stopped: {hang}; it {does} once that returns");
            (Delayed { thread, then }, OperatorError::Hanging(text))
        })
    }

    pub(super) fn thread(&self) -> &CollectorThread {
        &self.thread
    }

    /// The thread, for a change that replaces this one.
    pub(super) fn into_thread(self) -> CollectorThread {
        self.thread
    }

    /// What the collector is to do, and what its thread left, if that has ended.
    pub(super) fn ended(self) -> Result<(Then, Ended), Delayed> {
        if !self.thread.has_ended() {
            return Err(self);
        }
        match self.thread.stop(Duration::ZERO) {
            Ok(ended) => Ok((self.then, ended)),
            Err(thread) => Err(Delayed { thread, ..self }),
        }
    }
}
