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
    /// Deleting its segments.
    JournalDelete,
    /// Publishing files.
    Flush,
    /// Deleting files that are not needed any more.
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
pub struct Trouble {
    /// Since when, µs since the epoch.
    pub since_us: i64,
    /// What is wrong, for people.
    pub reason: String,
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
    pub(super) fn troubles(&self) -> Vec<Trouble> {
        self.lock().values().cloned().collect()
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
        let reasons = || health.troubles().into_iter().map(|trouble| trouble.reason).collect::<Vec<_>>();
        assert_eq!(reasons(), [""; 0]);
        assert!(health.bad(Part::Flush, "one"));
        let since = health.troubles()[0].since_us;
        assert!(health.bad(Part::Journal, "two"));
        assert!(!health.bad(Part::Flush, "three"));
        assert_eq!(reasons(), ["two", "three"]);
        assert_eq!(health.troubles()[1].since_us, since);
        assert!(health.good(Part::Flush));
        assert_eq!(reasons(), ["two"]);
        assert!(health.good(Part::Journal));
        assert!(!health.good(Part::Sync));
        assert_eq!(reasons(), [""; 0]);
    }
}
