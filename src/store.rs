//! The store: batches in memory and in the journal, Parquet files on disk, and one atomic view over both.
//!
//! Three kinds of threads meet here. The drain thread appends rows, to the [`journal`] first ([`Appender`]). A flush writes
//! the rows in memory to a file and shows the file in their place. A query takes the current [`View`] and keeps it as long
//! as it runs. Every change makes a new view and publishes it with one pointer swap, so a reader sees each record exactly
//! once, in memory or on disk.
//!
//! At start, rows that the journal has and no file has go back into memory ([`recovery`]). While the disk refuses
//! something, recording goes on in memory, and [`Store::degraded`] says what is wrong.

mod absent;
mod appender;
mod clock;
mod compaction;
mod conform;
pub mod cut;
pub mod data_folder;
pub mod disk;
mod flush;
mod hot;
pub mod identity;
pub mod journal;
mod kept;
pub mod lake;
pub mod last;
mod lock;
pub(crate) mod partition;
mod postponed;
pub mod recovery;
mod retention;
mod settings;
mod shared;
pub mod stretch;
mod tier;
mod trash;
mod trouble;
mod upkeep;
pub mod verify;
mod view;
pub mod writer;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;

use crate::family::PerFamily;
pub use appender::{Append, Appender};
use clock::TrustedClock;
use data_folder::{CLOCK, FolderError, JOURNAL, LAKE, expect_file};
use disk::{Disk, LocalDisk};
pub use flush::Flushed;
pub use hot::HotBatch;
use identity::Identity;
use journal::Journal;
use lake::Scan;
use last::LastRows;
use lock::FolderLock;
pub use lock::is_recorded;
use recovery::{Ends, Recovery};
pub use settings::StoreSettings;
pub use shared::{Loss, Store, StoreStats};
use shared::{State, TableState};
pub use tier::Buckets;
use trash::Trash;
use trouble::Troubles;
pub use upkeep::Compacted;
pub use view::{TableView, View, hot_bytes};

/// Names the host's boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What opening a store found, apart from the files that it shows.
#[derive(Debug, Default)]
pub struct Opened {
    /// What it found in the lake.
    pub scan: Scan,
    /// What it found in the journal.
    pub recovery: Recovery,
}

impl Store {
    /// Locks the data folder, and shows the files and the rows that only the journal has. The appender is for
    /// the drain thread, the store for all threads.
    ///
    /// Nothing is journaled before [`start_journal`](Self::start_journal).
    ///
    /// # Errors
    /// When the folder cannot be used, or another process uses it.
    pub fn open(settings: StoreSettings) -> Result<(Arc<Store>, Appender, Opened), FolderError> {
        Store::open_on(Arc::new(LocalDisk), settings)
    }

    /// The same, with all changes made through `disk`. Reading uses `std::fs`.
    ///
    /// # Errors
    /// When the folder cannot be used, or another process uses it.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        mut settings: StoreSettings,
    ) -> Result<(Arc<Store>, Appender, Opened), FolderError> {
        let lock = Arc::new(FolderLock::open(&*disk, &settings.path)?);
        settings.host = identify(&*disk, &settings)?;
        let lake = settings.path.join(LAKE);
        let mut scan = lake::recover(&*disk, &lake)?;
        let journal = settings.path.join(JOURNAL);
        let (mut recovered, recovery) = recovery::recover(&*disk, &journal, Ends::of_files(&scan.files))?;
        let end_seqs = PerFamily::from_fn(|family| recovered.next_seq(family).max(scan.end_seqs[family]));
        let mut hosts: BTreeSet<Arc<str>> =
            recovered.hot.values().flatten().map(|batch| Arc::clone(&batch.host)).collect();
        hosts.insert(settings.host.as_str().into());
        let (buckets, interrupted) = tier::recover(tier::load(&settings.path), &mut scan, &end_seqs, Some(&hosts));
        for file in &interrupted {
            tracing::info!(file = %file.path.display(), "deleting a file of an interrupted flush");
        }
        // The next flush tries again.
        let unconfirmed = tier::delete(&*disk, &interrupted);
        let mut tiers = std::mem::take(&mut scan.tiers);
        // Only views hold files: a file that is given up can then be deleted once its last reader is gone.
        let files = std::mem::take(&mut scan.files);
        let next_seqs = PerFamily::from_fn(|family| end_seqs[family].max(buckets[family].end_seq()));
        let tables = PerFamily::from_fn(|family| {
            let end_seq = next_seqs[family];
            let mut table =
                TableState { end_seq, frozen_seq: end_seq, recovered_seq: end_seq, ..TableState::default() };
            table.count(family, &recovered.hot[family]);
            table
        });
        let table = |family, files: Vec<_>| {
            let hot = std::mem::take(&mut recovered.hot[family]);
            let last = Some(Arc::new(LastRows::of(family, &files, &hot)));
            let tiers = std::mem::take(&mut tiers[family]).map(Arc::new);
            let buckets = Arc::clone(&buckets[family]);
            Arc::new(TableView { family, hot, files: Arc::new(files), last, tiers, buckets })
        };
        let view = View { tables: files.map(table) };
        let next_number = next_seqs.values().copied().fold(recovered.next_number, u64::max);
        expect_file(&settings.path.join(CLOCK))?;
        let kept = fs::read_to_string(settings.path.join(CLOCK)).ok();
        let boot_id = fs::read_to_string(BOOT_ID).unwrap_or_default().trim_end().into();
        let clock = TrustedClock::new(boot_id, kept.as_deref(), recovered.last_us());
        let troubles = Arc::new(Troubles::default());
        let (of_journal, lock_of_journal) = (Arc::clone(&troubles), Arc::clone(&lock));
        let segments = recovered.segments;
        let store = Arc::new(Store {
            journal: Journal::new(Arc::clone(&disk), lock_of_journal, &settings, of_journal, segments, next_number),
            trash: Arc::new(Trash::new(Arc::clone(&disk))),
            disk,
            lake,
            folder_lock: lock,
            folders: Mutex::default(),
            troubles,
            settings,
            clock: Mutex::new(clock),
            view: ArcSwap::from_pointee(view),
            state: Mutex::new(State { tables, unconfirmed, ..State::default() }),
            absent: Mutex::default(),
            postponed: Mutex::default(),
            listener: OnceLock::new(),
            flushing: Mutex::default(),
        });
        store.begin_tiers()?;
        let appender = Appender::new(Arc::clone(&store), next_seqs);
        Ok((store, appender, Opened { scan, recovery }))
    }
}

/// The name under which this process records. The folder keeps it.
fn identify(disk: &dyn Disk, settings: &StoreSettings) -> Result<String, FolderError> {
    let (own, kept) = (Identity::own(), Identity::of_folder(&settings.path)?);
    let chosen = Identity::choose(&settings.host, own.clone(), kept.as_ref());
    if settings.host.is_empty() && chosen.name != own.name {
        let (kept, own) = (&chosen.name, own.name);
        tracing::info!("recording goes on as host {kept:?}, though this host is now {own:?}; storage.host changes it");
    }
    if kept.as_ref() != Some(&chosen) {
        // The next start tries again.
        if let Err(error) = data_folder::replace(disk, &settings.path.join(identity::FILE), &chosen.text()) {
            tracing::warn!(%error, "the host's name is not kept for later starts");
        }
    }
    Ok(chosen.name)
}

/// The files of all tables and hosts in `data`, whether or not a daemon runs there. The scan lists what else was found.
///
/// # Errors
/// When the folder has no lake, or cannot be read.
pub fn open_read_only(data: &Path) -> Result<(View, Scan), FolderError> {
    let (scan, buckets) = tier::scan_read_only(data)?;
    let mut view = View::empty();
    for (family, table) in view.tables.iter_mut() {
        let table = Arc::make_mut(table);
        table.files = Arc::new(scan.files[family].clone());
        table.tiers = scan.tiers[family].clone().map(Arc::new);
        table.buckets = Arc::clone(&buckets[family]);
    }
    Ok((view, scan))
}

#[cfg(test)]
mod tests;
