//! Telling people: the bounded outbox that the drain thread fills, and the deliverer that empties it.
//!
//! Each notifier has a queue of its own, so a slow webhook delays neither the drain thread nor another notifier, and
//! each notifier is told in order.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde::Serialize;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use tracing::Instrument;
use tracing::field::Empty;

use super::webhook::Webhook;
pub use super::webhook::{WebhookSettings, check};

/// How many notifications wait for one notifier; further ones are lost, and counted.
pub const WAITING_MAX: usize = 1_024;

/// The notifier that is always there and writes to kymo's own log.
pub const LOG: &str = "log";

/// What happened to a rule's series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The condition held for the rule's `for`.
    Firing,
    /// The condition failed for the rule's `resolve_after`, or the series is gone.
    Resolved,
}

impl State {
    /// `firing` or `resolved`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Firing => "firing",
            State::Resolved => "resolved",
        }
    }
}

/// Something to tell. As JSON it is one object with these fields' names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Notification {
    /// The rule's name.
    pub rule: String,
    /// What happened.
    pub state: State,
    /// The table that the rule watches.
    pub table: &'static str,
    /// The time of the row that caused it, µs since the epoch, UTC.
    pub time_us: i64,
    /// The value compared, if the condition compares one and it is present.
    pub value: Option<f64>,
    /// What it is compared with, if that is a constant.
    pub threshold: Option<f64>,
    /// The series' labels by name.
    pub labels: BTreeMap<&'static str, String>,
    /// The rule's message, filled in.
    pub message: String,
}

/// How a notifier is set up.
#[derive(Clone, Debug, PartialEq)]
pub struct NotifierSettings {
    /// The name that rules tell it by.
    pub name: String,
    /// What it does with a notification.
    pub kind: NotifierKind,
}

/// What a notifier does with a notification.
#[derive(Clone, Debug, PartialEq)]
pub enum NotifierKind {
    /// Writes it to kymo's own log: firing as a warning, resolved as information.
    Log,
    /// Posts it as JSON.
    Webhook(WebhookSettings),
}

/// What is wrong with a notifier, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("notifier {notifier:?}: {key}: {problem}")]
pub struct NotifyError {
    /// The notifier's name.
    pub notifier: String,
    /// The key that is wrong: `name`, `url`, `headers`, `timeout` or `retry_delay`.
    pub key: &'static str,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    lost: AtomicU64,
}

impl Counters {
    // Counters are only read for people; nothing is ordered by them.
    fn add_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    fn add_lost(&self, count: usize) {
        self.lost.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Where the engine puts notifications: bounded, and never waiting.
#[derive(Clone, Debug)]
pub struct Outbox {
    queues: Arc<[(String, Sender<Arc<Notification>>)]>,
    counters: Arc<Counters>,
}

impl Outbox {
    /// Queues `notification` for the notifier of this name. When its queue is full or there is no such notifier, the
    /// notification is lost, and counted.
    pub fn send(&self, notifier: &str, notification: &Arc<Notification>) {
        let queue = self.queues.iter().find(|(name, _)| name == notifier);
        let outcome = queue.map(|(_, queue)| queue.try_send(Arc::clone(notification)));
        match outcome {
            Some(Ok(())) => {}
            Some(Err(TrySendError::Full(_) | TrySendError::Closed(_))) | None => self.counters.add_lost(1),
        }
    }

    /// How many notifications were delivered, each notifier's counted by itself.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.counters.sent.load(Ordering::Relaxed)
    }

    /// How many notifications were lost: to a full queue, to a receiver that failed to the last try, or at shutdown.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.counters.lost.load(Ordering::Relaxed)
    }
}

/// Empties the outbox.
#[derive(Debug)]
pub struct Deliverer {
    workers: Vec<Worker>,
    counters: Arc<Counters>,
}

impl Deliverer {
    /// The notifiers of `settings`, and [`LOG`] if it is not among them. `host` is told in each webhook.
    ///
    /// # Errors
    /// When a name is given twice or a webhook cannot be what its settings say.
    pub fn new(settings: Vec<NotifierSettings>, host: &str) -> Result<(Outbox, Deliverer), NotifyError> {
        let mut settings = settings;
        if settings.iter().all(|notifier| notifier.name != LOG) {
            settings.push(NotifierSettings { name: LOG.into(), kind: NotifierKind::Log });
        }
        let counters = Arc::new(Counters::default());
        let mut queues: Vec<(String, Sender<Arc<Notification>>)> = Vec::new();
        let mut workers = Vec::new();
        for NotifierSettings { name, kind } in settings {
            if queues.iter().any(|(known, _)| *known == name) {
                let problem = "is taken by another notifier; give each a name of its own".into();
                return Err(NotifyError { notifier: name, key: "name", problem });
            }
            let channel_kind = match kind {
                NotifierKind::Log => Means::Log,
                NotifierKind::Webhook(settings) => Means::Webhook(Box::new(Webhook::new(&name, &settings, host)?)),
            };
            let (sender, queue) = channel(WAITING_MAX);
            queues.push((name.clone(), sender));
            workers.push(Worker {
                name,
                means: channel_kind,
                queue,
                delivering: false,
                counters: Arc::clone(&counters),
            });
        }
        Ok((Outbox { queues: queues.into(), counters: Arc::clone(&counters) }, Deliverer { workers, counters }))
    }

    /// Delivers until every [`Outbox`] is gone or `stop` is done, and then for at most `grace` what is still waiting;
    /// what remains after that is lost, and counted.
    pub async fn run(mut self, stop: impl Future<Output = ()>, grace: Duration) {
        let (stopping, stopped) = watch::channel(false);
        let work = join_all(self.workers.iter_mut().map(|worker| worker.run(stopped.clone())));
        let bound = async {
            stop.await;
            stopping.send_replace(true);
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            _ = work => {}
            () = bound => {}
        }
        let remaining = self.workers.iter().map(Worker::waiting).sum();
        if remaining > 0 {
            self.counters.add_lost(remaining);
            tracing::warn!(remaining, "notifications could not be delivered before shutdown");
        }
    }
}

#[derive(Debug)]
enum Means {
    Log,
    Webhook(Box<Webhook>),
}

/// One notifier with its queue.
#[derive(Debug)]
struct Worker {
    name: String,
    means: Means,
    queue: Receiver<Arc<Notification>>,
    /// Whether a notification left the queue and is not settled yet.
    delivering: bool,
    counters: Arc<Counters>,
}

impl Worker {
    async fn run(&mut self, mut stopped: watch::Receiver<bool>) {
        let mut closed = false;
        loop {
            let next = tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped), if !closed => {
                    // What is queued is still received; nothing comes after it.
                    self.queue.close();
                    closed = true;
                    continue;
                }
                next = self.queue.recv() => next,
            };
            let Some(notification) = next else { return };
            self.delivering = true;
            self.deliver(&notification).await;
            self.delivering = false;
        }
    }

    fn waiting(&self) -> usize {
        self.queue.len() + usize::from(self.delivering)
    }

    async fn deliver(&self, notification: &Notification) {
        let span = tracing::info_span!(
            "notify",
            rule = notification.rule,
            notifier = self.name,
            state = notification.state.as_str(),
            otel.status_code = Empty,
            otel.status_description = Empty,
        );
        match &self.means {
            Means::Log => {
                span.in_scope(|| log(notification));
                self.counters.add_sent();
            }
            Means::Webhook(webhook) => match webhook.post(notification).instrument(span.clone()).await {
                Ok(()) => self.counters.add_sent(),
                Err(error) => {
                    self.counters.add_lost(1);
                    span.record("otel.status_code", "ERROR").record("otel.status_description", error.to_string());
                    span.in_scope(|| {
                        tracing::error!(rule = notification.rule, notifier = self.name, %error, "a notification is lost");
                    });
                }
            },
        }
    }
}

fn log(notification: &Notification) {
    let Notification { rule, state, table, time_us, value, labels, message, .. } = notification;
    match state {
        State::Firing => tracing::warn!(rule, table, time_us, value, ?labels, "alert firing: {message}"),
        State::Resolved => tracing::info!(rule, table, time_us, value, ?labels, "alert resolved: {message}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::alert) fn notification(rule: &str, state: State) -> Notification {
        Notification {
            rule: rule.into(),
            state,
            table: "network",
            time_us: 1_700_000_000_000_000,
            value: Some(12.5),
            threshold: None,
            labels: BTreeMap::from([("interface", "eth0".to_owned())]),
            message: "eth0 is busy".into(),
        }
    }

    /// An outbox whose notifications for `log` the test takes out itself.
    pub(in crate::alert) fn outbox() -> (Outbox, impl FnMut() -> Option<Arc<Notification>>) {
        let (outbox, mut deliverer) = Deliverer::new(Vec::new(), "here").unwrap();
        (outbox, move || deliverer.workers[0].queue.try_recv().ok())
    }

    #[test]
    fn json_has_the_documented_fields() {
        let json = serde_json::to_value(notification("busy", State::Firing)).unwrap();
        let expected = serde_json::json!({
            "rule": "busy", "state": "firing", "table": "network", "time_us": 1_700_000_000_000_000_i64, "value": 12.5,
            "threshold": null, "labels": {"interface": "eth0"}, "message": "eth0 is busy",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn a_full_outbox_does_not_wait_and_counts() {
        let (outbox, mut next) = outbox();
        for i in 0..WAITING_MAX + 3 {
            outbox.send(LOG, &Arc::new(notification(&i.to_string(), State::Firing)));
        }
        outbox.send("nobody", &Arc::new(notification("x", State::Firing)));
        assert_eq!((outbox.sent(), outbox.lost()), (0, 4));
        // The oldest are kept, in order.
        assert_eq!(next().unwrap().rule, "0");
        assert_eq!(std::iter::from_fn(next).count(), WAITING_MAX - 1);
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        let twice = vec![NotifierSettings { name: "a".into(), kind: NotifierKind::Log }; 2];
        let error = Deliverer::new(twice, "here").unwrap_err();
        assert_eq!(
            error.to_string(),
            "notifier \"a\": name: is taken by another notifier; give each a name of its own"
        );
    }

    #[tokio::test]
    async fn what_waits_at_the_end_is_delivered() {
        let (outbox, deliverer) = Deliverer::new(Vec::new(), "here").unwrap();
        for _ in 0..5 {
            outbox.send(LOG, &Arc::new(notification("x", State::Resolved)));
        }
        // Stopped before it began, with the outbox still held: the five are delivered all the same.
        deliverer.run(async {}, Duration::from_mins(1)).await;
        assert_eq!((outbox.sent(), outbox.lost()), (5, 0));
        outbox.send(LOG, &Arc::new(notification("late", State::Firing)));
        assert_eq!((outbox.sent(), outbox.lost()), (5, 1));
    }
}
