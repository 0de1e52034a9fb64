//! Power losses: what the store reported as synced is there afterwards, whatever else the device forgot or tore.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use kymo::store::disk::{Disk, DiskFile, LocalDisk};

use super::rows::{Running, WINDOW, in_tiers, numbers, of_rows, settings, time};

/// Seeds that are simulated where their number is not given.
const SEEDS: u64 = 30;
/// Seeds that failed once. Every run begins with these. Whoever finds another adds it here, with what was wrong: a seed
/// means the same as long as `live_and_die` and `lose_power` draw the same numbers in the same order.
const FAILED: [u64; 0] = [];

/// A disk that knows what has reached the device: the names in a folder once the folder is synced, and the bytes of a file
/// once the file is. Of names that are not synced, the first few may be there after a power loss.
#[derive(Debug, Default)]
struct Volatile(Mutex<Model>);

#[derive(Debug, Default)]
struct Model {
    files: Vec<Content>,
    /// By folder: how its names changed since it was synced.
    pending: BTreeMap<PathBuf, Vec<Change>>,
    /// Names on the device.
    names: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
    /// Names as they are seen now.
    now: BTreeMap<PathBuf, usize>,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: usize,
}

#[derive(Clone, Debug)]
enum Change {
    Set(PathBuf, usize),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, usize),
    Folder(PathBuf),
    RemoveFolder(PathBuf),
}

#[derive(Debug)]
struct VolatileFile {
    disk: Arc<Volatile>,
    number: usize,
    real: Arc<dyn DiskFile>,
}

/// The disk as the store has it.
#[derive(Debug)]
struct Handle(Arc<Volatile>);

impl Volatile {
    fn change(&self, path: &Path, change: Change) {
        let folder = path.parent().unwrap().to_owned();
        self.0.lock().unwrap().pending.entry(folder).or_default().push(change);
    }
}

impl DiskFile for VolatileFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.real.append(bytes)?;
        self.disk.0.lock().unwrap().files[self.number].bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut model = self.disk.0.lock().unwrap();
        let content = &mut model.files[self.number];
        content.synced = content.bytes.len();
        Ok(())
    }
}

impl Disk for Handle {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let real = LocalDisk.create(path)?;
        let mut model = self.0.0.lock().unwrap();
        model.files.push(Content::default());
        let number = model.files.len() - 1;
        model.now.insert(path.into(), number);
        drop(model);
        self.0.change(path, Change::Set(path.into(), number));
        Ok(Arc::new(VolatileFile { disk: Arc::clone(&self.0), number, real }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to)?;
        let mut model = self.0.0.lock().unwrap();
        let number = model.now.remove(from).unwrap();
        model.now.insert(to.into(), number);
        drop(model);
        assert_eq!(from.parent(), to.parent(), "a rename between folders needs both synced");
        self.0.change(to, Change::Rename(from.into(), to.into(), number));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove(path)?;
        self.0.0.lock().unwrap().now.remove(path);
        self.0.change(path, Change::Remove(path.into()));
        Ok(())
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = fs::File::options().write(true).open(path)?;
        file.set_len(len)?;
        let mut model = self.0.0.lock().unwrap();
        let number = model.now[path];
        let content = &mut model.files[number];
        content.bytes.truncate(usize::try_from(len).unwrap());
        content.synced = content.bytes.len();
        Ok(())
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        LocalDisk.create_folder(path)?;
        self.0.change(path, Change::Folder(path.into()));
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove_folder(path)?;
        self.0.change(path, Change::RemoveFolder(path.into()));
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut model = self.0.0.lock().unwrap();
        for change in model.pending.remove(path).unwrap_or_default() {
            model.apply(change);
        }
        Ok(())
    }
}

impl Model {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Set(path, number) => _ = self.names.insert(path, number),
            Change::Remove(path) => _ = self.names.remove(&path),
            Change::Rename(from, to, number) => {
                self.names.remove(&from);
                self.names.insert(to, number);
            }
            Change::Folder(path) => _ = self.folders.insert(path),
            Change::RemoveFolder(path) => _ = self.folders.remove(&path),
        }
    }

    /// Writes to `to` what a power loss may leave of `from`.
    fn lose_power(&mut self, random: &mut Rng, from: &Path, to: &Path) {
        for (_, changes) in std::mem::take(&mut self.pending) {
            let kept = random.usize(..=changes.len());
            changes.into_iter().take(kept).for_each(|change| self.apply(change));
        }
        let place = |path: &Path| to.join(path.strip_prefix(from).unwrap());
        let is_there = |path: &Path| {
            path.parent()
                .unwrap()
                .ancestors()
                .take_while(|folder| *folder != from)
                .all(|one| self.folders.contains(one))
        };
        for folder in self.folders.iter().filter(|folder| is_there(folder)) {
            fs::create_dir_all(place(folder)).unwrap();
        }
        for (path, number) in self.names.iter().filter(|(path, _)| is_there(path)) {
            let Content { bytes, synced } = &self.files[*number];
            let kept = synced + random.usize(..=bytes.len() - synced);
            let mut left = bytes[..kept].to_vec();
            // Pages that were not synced reach the device in any order: some may be missing before others.
            if random.bool() && kept > *synced {
                let from = synced + random.usize(..kept - synced);
                let until = from + random.usize(..=kept - from);
                left[from..until].fill(0);
            }
            fs::write(place(path), left).unwrap();
        }
    }
}

/// Appends, syncs, flushes and compacts in random order, loses power, and opens the store again on what is left. Three
/// times.
fn live_and_die(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let mut folder = tempfile::tempdir().unwrap();
    let (mut next, mut durable) = ([0_u64; 2], [0_u64; 2]);
    for life in 0..3 {
        let volatile = Arc::new(Volatile::default());
        if life > 0 {
            adopt(&volatile, folder.path());
        }
        // No power loss takes the folder itself.
        let data = folder.path().join("data");
        let running = Running::open(Arc::new(Handle(Arc::clone(&volatile))), settings(&data));
        let found = numbers(&running.store.view());
        for (table, found) in found.iter().enumerate() {
            let count = found.len() as u64;
            assert!(found.iter().copied().eq(0..count), "life {life}, table {table}: {found:?}");
            assert!(count >= durable[table], "life {life}: {count} of {} in table {table}", durable[table]);
            assert!(count <= next[table], "life {life}");
            next[table] = count;
        }
        assert_eq!(in_tiers(&running.store.view()), [of_rows(next[1]); 2], "life {life}");
        for _ in 0..random.usize(..25) {
            match random.usize(..10) {
                0..5 => {
                    let rows = random.u64(1..=30);
                    running.append(next, rows);
                    next = next.map(|next| next + rows);
                }
                5..7 => {
                    assert!(running.store.sync_journal());
                    durable = next;
                }
                7..9 => {
                    running.store.flush().unwrap();
                    durable = next;
                }
                _ => {
                    let now = time(next[0].cast_signed()) + i64::try_from(WINDOW.as_micros()).unwrap();
                    running.store.compact(now, Duration::ZERO, &AtomicBool::new(false)).unwrap();
                }
            }
        }
        // Power is lost here: what the store's threads do after this is lost, too.
        let after = tempfile::tempdir().unwrap();
        volatile.0.lock().unwrap().lose_power(&mut random, folder.path(), after.path());
        running.close();
        folder = after;
    }
}

/// Takes all that is in the folder as being on the device.
fn adopt(disk: &Volatile, root: &Path) {
    let mut model = disk.0.lock().unwrap();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                model.folders.insert(path.clone());
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                model.files.push(Content { synced: bytes.len(), bytes });
                let number = model.files.len() - 1;
                model.names.insert(path.clone(), number);
                model.now.insert(path, number);
            }
        }
    }
}

#[test]
fn what_was_said_to_be_on_the_device_outlives_power_losses() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("expected a number"));
    let seeds = number("KYMO_SEEDS").unwrap_or(SEEDS);
    let first = number("KYMO_POWER_SEED").unwrap_or_else(|| fastrand::u32(..).into());
    println!("KYMO_POWER_SEED={first}");
    for seed in FAILED.into_iter().chain(first..first + seeds) {
        let outcome = catch_unwind(|| live_and_die(seed));
        assert!(outcome.is_ok(), "again by KYMO_POWER_SEED={seed} KYMO_SEEDS=1; add {seed} to FAILED");
    }
    println!("{} seeds of 3 power losses each", FAILED.len() as u64 + seeds);
}
