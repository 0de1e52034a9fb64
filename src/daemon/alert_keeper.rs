//! Keeping the alerts that are on, and the notifications that wait, in the data folder: on a thread of its own, as the disk
//! may be slow or refuse.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::alert::notification::Notification;
use crate::alert::notify::Outbox;
use crate::alert::saved::{SAVED_BYTES_MAX, Saved, SavedAlert, SavedNotification, decode, encode};
use crate::store::Store;

/// The file in the data folder.
const FILE: &str = "alerts";
/// The last line comes on top of the rest.
const FILE_BYTES_MAX: u64 = SAVED_BYTES_MAX as u64 + 4_096;
/// The least time between two writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How long after a failed write the next one is tried.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// How often it is checked whether a notification that waits in the file was delivered.
const DELIVERY_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// A notification that waits, after the name of its notifier.
type Waiting = (String, Arc<Notification>);

/// Takes alerts from the drain thread and writes the newest ones.
#[derive(Debug)]
pub(super) struct AlertKeeper {
    outbox: Outbox,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The alerts that are on.
    newest: Vec<SavedAlert>,
    /// Whether the file has others.
    changed: bool,
    /// The notifications that wait in the file.
    waiting: Vec<Waiting>,
    stop: bool,
}

impl AlertKeeper {
    /// Goes on with what the file has: `outbox` has its notifications again, and those that come are kept, too.
    pub(super) fn new(saved: &Saved, outbox: Outbox) -> AlertKeeper {
        // Notifications that wait in the file must not stay there once they are delivered.
        let state = State { newest: saved.alerts.clone(), changed: !saved.waiting.is_empty(), ..State::default() };
        AlertKeeper { outbox, state: Mutex::new(state), wake: Condvar::new() }
    }

    /// Hands over all alerts that are on. They replace those that were handed over before.
    pub(super) fn put(&self, alerts: Vec<SavedAlert>) {
        let mut state = self.lock();
        (state.newest, state.changed) = (alerts, true);
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
            let idle = |state: &mut State| !state.changed && !state.stop;
            let state = match self.lock() {
                state if state.waiting.is_empty() => {
                    self.wake.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner)
                }
                state => {
                    let waited = self.wake.wait_timeout_while(state, DELIVERY_CHECK_INTERVAL, idle);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            let stop = state.stop;
            drop(state);
            let written = self.write(store);
            if stop {
                return;
            }
            let pause = if written { WRITE_INTERVAL } else { RETRY_INTERVAL };
            drop(self.wake.wait_timeout_while(self.lock(), pause, |state| !state.stop));
        }
    }

    /// Writes the alerts and the notifications that wait, if the file has others. Returns `false` if that failed. The store
    /// logs a failure once an outage.
    pub(super) fn write(&self, store: &Store) -> bool {
        // Asked first: a notification that is delivered from now on makes another write.
        let waiting = self.outbox.waiting();
        let alerts = {
            let mut state = self.lock();
            let is_same = |(old, new): (&Waiting, &Waiting)| old.0 == new.0 && Arc::ptr_eq(&old.1, &new.1);
            let known = &state.waiting;
            if !state.changed && known.len() == waiting.len() && known.iter().zip(&waiting).all(is_same) {
                return true;
            }
            state.changed = false;
            state.newest.clone()
        };
        let saved = |(notifier, notification): &Waiting| SavedNotification {
            notifier: notifier.clone(),
            notification: (**notification).clone(),
        };
        let (bytes, left_out) = encode(Saved { alerts, waiting: waiting.iter().map(saved).collect() });
        if left_out > 0 {
            tracing::warn!(left_out, "the file of alerts is full: notifications and alerts are left out");
        }
        let written = store.keep(FILE, &bytes).is_ok();
        let mut state = self.lock();
        state.changed |= !written;
        state.waiting = waiting;
        written
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The alerts that were on when the last daemon ended, and what was not delivered. What is wrong with the file is said in
/// `found`.
pub(super) fn read(store: &Store, found: &mut Vec<String>) -> Saved {
    let decoded = match store.read_kept(FILE, FILE_BYTES_MAX) {
        Ok(None) => return Saved::default(),
        Ok(Some(bytes)) => decode(&bytes),
        Err(error) => Err(error.to_string()),
    };
    let problem = match decoded {
        Ok(saved) => {
            let (alerts, notifications) = (saved.alerts.len(), saved.waiting.len());
            if alerts + notifications > 0 {
                tracing::info!(alerts, notifications, "alerts from before the start go on");
            }
            return saved;
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
    Saved::default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::thread;

    use super::*;
    use crate::alert::Transition;
    use crate::alert::notify::{Deliverer, LOG};
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
        let (outbox, _deliverer) = Deliverer::new(Vec::new(), "here").unwrap();
        let keeper = Arc::new(AlertKeeper::new(&Saved::default(), outbox.clone()));
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
        let saved = Saved { alerts: vec![alert("new")], waiting: Vec::new() };
        assert_eq!((read(&store, &mut found), found), (saved, Vec::new()));
    }

    #[tokio::test]
    async fn notifications_wait_in_the_file_until_they_are_delivered() {
        let folder = tempfile::tempdir().unwrap();
        let (store, ..) = Store::open(StoreSettings::unlimited(folder.path(), "here")).unwrap();
        let (outbox, deliverer) = Deliverer::new(Vec::new(), "here").unwrap();
        let keeper = AlertKeeper::new(&Saved::default(), outbox.clone());
        let one = Notification {
            rule: "one".into(),
            state: Transition::Firing,
            table: "host".into(),
            time_us: 1,
            since_us: 1,
            value: None,
            peak: None,
            threshold: None,
            labels: BTreeMap::new(),
            message: String::new(),
        };
        outbox.send(LOG, &Arc::new(one.clone()));
        keeper.put(vec![alert("one")]);
        assert!(keeper.write(&store));
        let saved = read(&store, &mut Vec::new());
        let waiting = vec![SavedNotification { notifier: LOG.into(), notification: one }];
        assert_eq!((saved.alerts.len(), &saved.waiting), (1, &waiting));
        // What another notifier is told, or not, makes no write.
        outbox.send("nobody", &Arc::new(saved.waiting[0].notification.clone()));
        let file = folder.path().join(FILE);
        std::fs::remove_file(&file).unwrap();
        assert!(keeper.write(&store) && !file.exists());
        keeper.put(vec![alert("one")]);
        assert!(keeper.write(&store) && file.exists());
        // Another start finds and delivers it, and nothing else happens.
        let again = AlertKeeper::new(&saved, outbox);
        assert!(again.write(&store));
        assert_eq!(read(&store, &mut Vec::new()).waiting.len(), 1);
        deliverer.run(async {}, Duration::from_mins(1)).await;
        assert!(again.write(&store));
        let saved = read(&store, &mut Vec::new());
        assert_eq!((saved.alerts.len(), saved.waiting.len()), (1, 0));
    }

    #[test]
    fn a_damaged_file_is_told_and_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (store, ..) = Store::open(StoreSettings::unlimited(folder.path(), "here")).unwrap();
        let mut found = Vec::new();
        for damage in ["", "kymo alerts 1\n", "\u{0}\u{1}"] {
            std::fs::write(folder.path().join(FILE), damage).unwrap();
            assert_eq!(read(&store, &mut found), Saved::default());
            let told = found.pop().unwrap();
            assert!(told.contains("alerts is damaged: ") && told.contains("it is kept as "), "{told}");
            assert_eq!(std::fs::read_to_string(folder.path().join("alerts.aside")).unwrap(), damage);
        }
        assert_eq!((read(&store, &mut found), found.len()), (Saved::default(), 0));
        // Nothing ever writes to it.
        let fifo = folder.path().join(FILE);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert_eq!(read(&store, &mut found), Saved::default());
        assert!(found.pop().unwrap().contains("alerts is damaged: it is no regular file; it is kept as "));
        assert!(!fifo.exists());
    }
}
