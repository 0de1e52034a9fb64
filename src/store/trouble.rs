//! What keeps the store from its work on the disk, and since when.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sampler::wall_us;

/// The parts of the store that can fail apart from each other.
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
    /// Replacing small files.
    Kept,
    /// The data folder itself.
    Folder,
    /// The wall clock.
    Clock,
}

/// What is wrong now. Recording goes on meanwhile. The log has each trouble once, and its end.
#[derive(Debug, Default)]
pub(super) struct Troubles(Mutex<BTreeMap<Part, Trouble>>);

/// What is wrong with a part, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Since when, µs since the epoch.
    pub since_us: i64,
    /// What is wrong, as text for users.
    pub reason: String,
}

impl Troubles {
    /// Notes that a part fails. Logs it the first time. Returns whether it is new.
    pub(super) fn bad(&self, part: Part, reason: impl Display) -> bool {
        let reason = reason.to_string();
        let mut troubles = self.lock();
        if let Some(trouble) = troubles.get_mut(&part) {
            trouble.reason = reason;
            return false;
        }
        tracing::error!(reason, "the store is degraded; recording goes on");
        troubles.insert(part, Trouble { since_us: wall_us(), reason });
        true
    }

    /// Notes that a part works. Returns whether it failed before.
    pub(super) fn good(&self, part: Part) -> bool {
        let Some(trouble) = self.lock().remove(&part) else { return false };
        let seconds = (wall_us() - trouble.since_us) as f64 / 1e6;
        tracing::info!("recovered after {seconds:.1} s: {}", trouble.reason);
        true
    }

    /// Notes that a part fails for a reason, or works. Returns whether that is new.
    pub(super) fn note(&self, part: Part, reason: Option<impl Display>) -> bool {
        match reason {
            Some(reason) => self.bad(part, reason),
            None => self.good(part),
        }
    }

    /// What is wrong now. Empty if all is well.
    pub(super) fn list(&self) -> Vec<Trouble> {
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
    fn troubles_last_until_their_part_works() {
        let troubles = Troubles::default();
        let reasons = || troubles.list().into_iter().map(|trouble| trouble.reason).collect::<Vec<_>>();
        assert_eq!(reasons(), [""; 0]);
        assert!(troubles.bad(Part::Flush, "one"));
        let since = troubles.list()[0].since_us;
        assert!(troubles.bad(Part::Journal, "two"));
        assert!(!troubles.bad(Part::Flush, "three"));
        assert_eq!(reasons(), ["two", "three"]);
        assert_eq!(troubles.list()[1].since_us, since);
        assert!(troubles.good(Part::Flush));
        assert_eq!(reasons(), ["two"]);
        assert!(troubles.good(Part::Journal));
        assert!(!troubles.good(Part::Sync));
        assert_eq!(reasons(), [""; 0]);
    }
}
