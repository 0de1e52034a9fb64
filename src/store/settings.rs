//! What a store is opened with.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a store is, and its limits.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The data folder.
    pub path: PathBuf,
    /// The `host=` partition that this daemon writes. If it is empty, the store has the name that the data folder keeps, or else
    /// the host's own.
    pub host: String,
    /// Beyond this, rows in memory are dropped, oldest first, and counted.
    pub hot_bytes_max: u64,
    /// While the journal is larger than this, its oldest segments are deleted.
    pub journal_bytes_max: u64,
    /// The journal is synced this often: a power loss costs the rows of this time, and those that were not yet drained.
    pub journal_sync_interval: Duration,
    /// Once a period of this length is over, its files are merged into one.
    pub compaction_interval: Option<Duration>,
    /// A file is deleted when all its rows are older than this.
    pub retention_age_max: Option<Duration>,
    /// The same for the files of each tier, in the order of [`Tier::ALL`](crate::record::tier::Tier::ALL).
    pub retention_tier_ages_max: [Option<Duration>; 2],
    /// While all files together are larger than this, the oldest is deleted: one of rows as long as there is one, then one of
    /// the finest tier.
    pub retention_bytes_max: Option<u64>,
}

impl StoreSettings {
    /// A store in `path` without limits. Its files are neither merged nor deleted.
    #[must_use]
    pub fn unlimited(path: &Path, host: &str) -> StoreSettings {
        StoreSettings {
            path: path.into(),
            host: host.into(),
            hot_bytes_max: u64::MAX,
            journal_bytes_max: u64::MAX,
            journal_sync_interval: Duration::from_secs(1),
            compaction_interval: None,
            retention_age_max: None,
            retention_tier_ages_max: [None; 2],
            retention_bytes_max: None,
        }
    }
}
