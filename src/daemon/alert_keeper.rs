//! Keeping the alerts that are on in the data folder, on a thread of its own: the disk may be slow or refuse.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::alert::saved::{SAVED_BYTES_MAX, SavedAlert, decode, encode};
use crate::store::Store;

/// The file in the data folder.
const FILE: &str = "alerts";
/// The last line comes on top of the alerts.
const FILE_BYTES_MAX: u64 = SAVED_BYTES_MAX as u64 + 4_096;
/// How long after a failed write the next one is tried.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// Takes alerts from the drain thread and writes the newest ones.
#[derive(Debug, Default)]
pub(super) struct AlertKeeper {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What is not written yet.
    newest: Option<Vec<SavedAlert>>,
    stop: bool,
}

impl AlertKeeper {
    /// Hands over all alerts that are on. They replace those that were handed over before.
    pub(super) fn put(&self, alerts: Vec<SavedAlert>) {
        self.lock().newest = Some(alerts);
        self.wake.notify_one();
    }

    /// Ends the thread after it has tried to write the newest alerts.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_one();
    }

    /// Writes what is handed over, until stopped.
    pub(super) fn run(&self, store: &Store) {
        loop {
            let (alerts, stop) = {
                let idle = |state: &mut State| state.newest.is_none() && !state.stop;
                let mut state = self.wake.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
                (state.newest.take(), state.stop)
            };
            if let Some(alerts) = alerts
                && !write(store, &alerts)
                && !stop
            {
                let mut state = self.lock();
                // Newer ones may have come meanwhile.
                state.newest.get_or_insert(alerts);
                drop(self.wake.wait_timeout_while(state, RETRY_INTERVAL, |state| !state.stop));
                continue;
            }
            if stop {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the alerts. Returns whether that succeeded. The store logs a failure once an outage.
fn write(store: &Store, alerts: &[SavedAlert]) -> bool {
    let (bytes, left_out) = encode(alerts);
    if left_out > 0 {
        tracing::warn!(left_out, "the file of alerts is full: these are told again after a restart");
    }
    store.keep(FILE, &bytes).is_ok()
}

/// The alerts that were on when the last daemon ended. What is wrong with the file is said in `found`.
pub(super) fn read(store: &Store, found: &mut Vec<String>) -> Vec<SavedAlert> {
    let decoded = match store.read_kept(FILE, FILE_BYTES_MAX) {
        Ok(None) => return Vec::new(),
        Ok(Some(bytes)) => decode(&bytes),
        Err(error) => Err(error.to_string()),
    };
    let problem = match decoded {
        Ok(alerts) => {
            if !alerts.is_empty() {
                tracing::info!(alerts = alerts.len(), "alerts from before the start go on");
            }
            return alerts;
        }
        Err(problem) => problem,
    };
    let path = store.settings().path.join(FILE);
    let aside = match store.set_aside(FILE) {
        Ok(aside) => format!("it is kept as {}", aside.display()),
        Err(error) => error.to_string(),
    };
    let text = format!("{} is damaged: {problem}; {aside}; alerts that go on are told again", path.display());
    tracing::warn!("{text}");
    found.push(text);
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::alert::Transition;
    use crate::store::StoreSettings;

    fn alert(rule: &str) -> SavedAlert {
        SavedAlert {
            rule: rule.into(),
            table: "host".into(),
            state: Transition::Firing,
            since_us: 1,
            peak: None,
            labels: BTreeMap::new(),
            notify: Vec::new(),
        }
    }

    #[test]
    fn the_newest_alerts_are_written_before_the_end_even_after_a_refusal() {
        let folder = tempfile::tempdir().unwrap();
        let (store, ..) = Store::open(StoreSettings::unlimited(folder.path(), "here")).unwrap();
        let obstacle = folder.path().join(format!(".{FILE}.tmp"));
        std::fs::create_dir(&obstacle).unwrap();
        let keeper = Arc::new(AlertKeeper::default());
        keeper.put(vec![alert("old")]);
        let (running, writes) = (Arc::clone(&keeper), Arc::clone(&store));
        let thread = thread::spawn(move || running.run(&writes));
        while store.degraded().is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        keeper.put(vec![alert("new")]);
        std::fs::remove_dir(&obstacle).unwrap();
        keeper.stop();
        thread.join().unwrap();
        let mut found = Vec::new();
        assert_eq!((read(&store, &mut found), found), (vec![alert("new")], Vec::new()));
    }

    #[test]
    fn a_damaged_file_is_told_and_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (store, ..) = Store::open(StoreSettings::unlimited(folder.path(), "here")).unwrap();
        let mut found = Vec::new();
        for damage in ["", "kymo alerts 1\n", "\u{0}\u{1}"] {
            std::fs::write(folder.path().join(FILE), damage).unwrap();
            assert_eq!(read(&store, &mut found), []);
            let told = found.pop().unwrap();
            assert!(told.contains("alerts is damaged: ") && told.contains("it is kept as "), "{told}");
            assert_eq!(std::fs::read_to_string(folder.path().join("alerts.aside")).unwrap(), damage);
        }
        assert_eq!((read(&store, &mut found), found), (Vec::new(), Vec::new()));
    }
}
