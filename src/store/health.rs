//! Whether the store can do what it should with its disk, and since when it cannot.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sampler::wall_us;

/// What can go wrong by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Writing the journal.
    Journal,
    /// Syncing it.
    Sync,
    /// Keeping it within its bytes.
    JournalSize,
    /// Publishing files.
    Flush,
    /// Deleting what is not needed any more.
    Delete,
    /// Merging files.
    Compaction,
    /// The data folder itself.
    Folder,
}

/// What is wrong now. Recording goes on meanwhile; nothing is said twice in the log.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<BTreeMap<Part, Trouble>>);

/// What is wrong with a part, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trouble {
    since_us: i64,
    reason: String,
}

/// Why the store is degraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// Since when, µs since the epoch.
    pub since_us: i64,
    /// What is wrong, for people.
    pub reasons: Vec<String>,
}

impl Health {
    /// Something is wrong with a part. The first time this is told in the log. Whether it is new.
    pub(super) fn bad(&self, part: Part, reason: impl Display) -> bool {
        let reason = reason.to_string();
        let mut troubles = self.lock();
        if let Some(trouble) = troubles.get_mut(&part) {
            trouble.reason = reason;
            return false;
        }
        tracing::error!(reason, "the store is degraded; recording goes on in memory");
        troubles.insert(part, Trouble { since_us: wall_us(), reason });
        true
    }

    /// A part did what it should. Whether something was wrong before.
    pub(super) fn good(&self, part: Part) -> bool {
        let Some(trouble) = self.lock().remove(&part) else { return false };
        let seconds = (wall_us() - trouble.since_us) as f64 / 1e6;
        tracing::info!(seconds, "over: {}", trouble.reason);
        true
    }

    /// Something is wrong with a part, or nothing is. Whether that is new.
    pub(super) fn note(&self, part: Part, reason: Option<impl Display>) -> bool {
        match reason {
            Some(reason) => self.bad(part, reason),
            None => self.good(part),
        }
    }

    /// What is wrong; nothing if all is well.
    pub(super) fn degraded(&self) -> Option<Degraded> {
        let troubles = self.lock();
        let since_us = troubles.values().map(|trouble| trouble.since_us).min()?;
        Some(Degraded { since_us, reasons: troubles.values().map(|trouble| trouble.reason.clone()).collect() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Part, Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_degraded_until_every_part_does_what_it_should() {
        let health = Health::default();
        assert_eq!(health.degraded(), None);
        health.bad(Part::Flush, "one");
        let since = health.degraded().unwrap().since_us;
        health.bad(Part::Journal, "two");
        health.bad(Part::Flush, "three");
        let reasons = vec!["two".to_owned(), "three".to_owned()];
        assert_eq!(health.degraded(), Some(Degraded { since_us: since, reasons }));
        health.good(Part::Flush);
        assert_eq!(health.degraded().unwrap().reasons, ["two"]);
        health.good(Part::Journal);
        health.good(Part::Sync);
        assert_eq!(health.degraded(), None);
    }
}
