//! Notifying people: the drain thread fills a bounded outbox, and the deliverer empties it.
//!
//! Each notifier has a queue of its own. So a slow webhook delays neither the drain thread nor another notifier, and
//! each notifier gets its notifications in order. While a notifier fails, its newest notification waits behind the one that
//! is tried again.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use tracing::Instrument;
use tracing::field::Empty;

use super::notification::Notification;
use super::state::Transition;
use super::webhook::{self, Webhook, WebhookSettings};
use crate::sampler::wall_us;

/// How many notifications can wait for one notifier. Further ones are lost and counted.
pub const WAITING_MAX: usize = 1_024;

/// The built-in notifier, which writes to kymo's own log.
pub const LOG: &str = "log";

/// How a notifier is set up.
#[derive(Clone, Debug, PartialEq)]
pub struct NotifierSettings {
    /// The name by which rules list it.
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
    /// The key that is wrong: `name`, `url`, `headers`, `timeout`, `retry_delay` or `give_up_after`.
    pub key: &'static str,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

impl NotifierSettings {
    /// Checks the settings without making the notifier.
    ///
    /// # Errors
    /// When the name, the URL, a header or a duration is wrong.
    pub fn check(&self) -> Result<(), NotifyError> {
        if self.name.trim().is_empty() {
            return Err(NotifyError::of(&self.name, ("name", "is empty; give the notifier a name".into())));
        }
        match &self.kind {
            NotifierKind::Log => Ok(()),
            NotifierKind::Webhook(settings) => {
                webhook::check(settings).map_err(|problem| NotifyError::of(&self.name, problem))
            }
        }
    }
}

impl NotifyError {
    fn of(notifier: &str, (key, problem): webhook::Problem) -> NotifyError {
        NotifyError { notifier: notifier.into(), key, problem }
    }
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

    fn add_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// A notifier that fails now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingNotifier {
    /// Its name.
    pub name: String,
    /// Since when, µs since the epoch.
    pub since_us: i64,
    /// Why its last try failed.
    pub error: String,
    /// How many notifications wait for it, with the one that is tried again.
    pub waiting: usize,
}

/// How a notifier does.
#[derive(Debug, Default)]
struct Health {
    /// Since when it fails and why, if it does.
    failing: Mutex<Option<(i64, String)>>,
    /// What is neither delivered nor lost yet, oldest first: the one that is tried, and those in the queue.
    waiting: Mutex<VecDeque<Arc<Notification>>>,
}

impl Health {
    fn good(&self) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn bad(&self, error: String) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let since_us = failing.as_ref().map_or_else(wall_us, |(since_us, _)| *since_us);
        *failing = Some((since_us, error));
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<Notification>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failing(&self) -> Option<(i64, String)> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A notification in a queue.
#[derive(Debug)]
struct Queued {
    since: Instant,
    /// How old it was then.
    age: Duration,
    notification: Arc<Notification>,
}

/// The sender's end of a notifier's queue.
#[derive(Debug)]
struct Queue {
    name: String,
    sender: Sender<Queued>,
    health: Arc<Health>,
}

/// Where the engine puts notifications. It is bounded, and putting one in never waits.
#[derive(Clone, Debug)]
pub struct Outbox {
    queues: Arc<[Queue]>,
    counters: Arc<Counters>,
}

impl Outbox {
    /// Queues `notification` for the notifier of this name. When its queue is full or there is no such notifier, the
    /// notification is lost and counted.
    pub fn send(&self, notifier: &str, notification: &Arc<Notification>) {
        self.queue(notifier, notification, Duration::ZERO);
    }

    /// The same with a notification from before the start. It is as old as its time says, so that a notifier gives up no later
    /// because kymo was started again.
    pub fn resume(&self, notifier: &str, notification: &Arc<Notification>) {
        let age_us = u64::try_from(wall_us().saturating_sub(notification.time_us)).unwrap_or_default();
        self.queue(notifier, notification, Duration::from_micros(age_us));
    }

    fn queue(&self, notifier: &str, notification: &Arc<Notification>, age: Duration) {
        let queue = self.queues.iter().find(|queue| queue.name == notifier);
        let outcome = queue.map(|queue| {
            // Held until both are done: the worker takes it off the list afterwards.
            let mut waiting = queue.health.waiting();
            queue.sender.try_send(Queued { since: Instant::now(), age, notification: Arc::clone(notification) })?;
            waiting.push_back(Arc::clone(notification));
            Ok(())
        });
        match outcome {
            Some(Ok(())) => {}
            Some(Err(TrySendError::Full(_) | TrySendError::Closed(_))) | None => self.counters.add_lost(),
        }
    }

    /// Whether there is a notifier of this name.
    #[must_use]
    pub fn has(&self, notifier: &str) -> bool {
        self.queues.iter().any(|queue| queue.name == notifier)
    }

    /// The notifiers whose last try failed.
    #[must_use]
    pub fn failing(&self) -> Vec<FailingNotifier> {
        let failing = |queue: &Queue| {
            let (since_us, error) = queue.health.failing()?;
            let waiting = queue.health.waiting().len();
            Some(FailingNotifier { name: queue.name.clone(), since_us, error, waiting })
        };
        self.queues.iter().filter_map(failing).collect()
    }

    /// The notifications that are neither delivered nor lost yet, with the names of their notifiers.
    #[must_use]
    pub fn waiting(&self) -> Vec<(String, Arc<Notification>)> {
        let of = |queue: &Queue| -> Vec<_> {
            queue.health.waiting().iter().map(|one| (queue.name.clone(), Arc::clone(one))).collect()
        };
        self.queues.iter().flat_map(of).collect()
    }

    /// How many notifications were delivered. One that goes to two notifiers counts twice.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.counters.sent.load(Ordering::Relaxed)
    }

    /// How many notifications were lost: because a queue was full, or every try failed.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.counters.lost.load(Ordering::Relaxed)
    }
}

/// Empties the outbox.
#[derive(Debug)]
pub struct Deliverer {
    workers: Vec<Worker>,
}

impl Deliverer {
    /// The notifiers of `settings`, and [`LOG`] if it is not among them. Webhooks send `host` along.
    ///
    /// # Errors
    /// When a name is given twice or a webhook's settings are wrong.
    pub fn new(settings: Vec<NotifierSettings>, host: &str) -> Result<(Outbox, Deliverer), NotifyError> {
        let mut settings = settings;
        if settings.iter().all(|notifier| notifier.name != LOG) {
            settings.push(NotifierSettings { name: LOG.into(), kind: NotifierKind::Log });
        }
        let counters = Arc::new(Counters::default());
        let mut queues: Vec<Queue> = Vec::new();
        let mut workers = Vec::new();
        for NotifierSettings { name, kind } in settings {
            if queues.iter().any(|known| known.name == name) {
                let problem = "is taken by another notifier; give each a name of its own".into();
                return Err(NotifyError::of(&name, ("name", problem)));
            }
            let means = match kind {
                NotifierKind::Log => Means::Log,
                NotifierKind::Webhook(settings) => {
                    let webhook = Webhook::new(&settings, host).map_err(|problem| NotifyError::of(&name, problem))?;
                    Means::Webhook(Box::new(webhook))
                }
            };
            let (sender, queue) = channel(WAITING_MAX);
            let health = Arc::new(Health::default());
            queues.push(Queue { name: name.clone(), sender, health: Arc::clone(&health) });
            workers.push(Worker { name, means, queue, health, counters: Arc::clone(&counters) });
        }
        Ok((Outbox { queues: queues.into(), counters }, Deliverer { workers }))
    }

    /// Delivers until every [`Outbox`] is dropped or `stop` completes. Then delivers what is still queued, for at most
    /// `grace`; what remains is still [`waiting`](Outbox::waiting).
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
        let remaining = self.workers.iter().map(|worker| worker.health.waiting().len()).sum::<usize>();
        if remaining > 0 {
            tracing::warn!(
                remaining,
                "notifications were not delivered before the shutdown; the next start tries again"
            );
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
    queue: Receiver<Queued>,
    health: Arc<Health>,
    counters: Arc<Counters>,
}

impl Worker {
    async fn run(&mut self, mut stopped: watch::Receiver<bool>) {
        let mut closed = false;
        loop {
            let next = tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped), if !closed => {
                    // A closed queue still gives what it holds.
                    self.queue.close();
                    closed = true;
                    continue;
                }
                next = self.queue.recv() => next,
            };
            let Some(queued) = next else { return };
            self.deliver(&queued).await;
            self.health.waiting().pop_front();
        }
    }

    async fn deliver(&self, Queued { since, age, notification }: &Queued) {
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
            Means::Webhook(webhook) => {
                let failed = |error: &webhook::PostError| self.health.bad(error.to_string());
                match webhook.post(notification, *age + since.elapsed(), failed).instrument(span.clone()).await {
                    Ok(()) => {
                        self.health.good();
                        self.counters.add_sent();
                    }
                    Err(error) => {
                        self.health.bad(error.to_string());
                        self.counters.add_lost();
                        span.record("otel.status_code", "ERROR").record("otel.status_description", error.to_string());
                        span.in_scope(|| {
                            tracing::error!(rule = notification.rule, notifier = self.name, %error, "notification lost");
                        });
                    }
                }
            }
        }
    }
}

fn log(notification: &Notification) {
    let Notification { rule, state, table, time_us, value, labels, message, .. } = notification;
    match state {
        Transition::Firing => tracing::warn!(rule, table, time_us, value, ?labels, "alert firing: {message}"),
        Transition::Resolved => tracing::info!(rule, table, time_us, value, ?labels, "alert resolved: {message}"),
        Transition::Gone => tracing::info!(rule, table, time_us, ?labels, "alert gone: {message}"),
        Transition::NoData => tracing::warn!(rule, table, time_us, ?labels, "alert without data: {message}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::notification::tests::notification;
    use super::*;

    /// An outbox whose notifications for `log` the test takes out itself.
    pub(in crate::alert) fn outbox() -> (Outbox, impl FnMut() -> Option<Arc<Notification>>) {
        let (outbox, mut deliverer) = Deliverer::new(Vec::new(), "here").unwrap();
        (outbox, move || deliverer.workers[0].queue.try_recv().ok().map(|queued| queued.notification))
    }

    #[test]
    fn a_full_outbox_does_not_wait_and_counts() {
        let (outbox, mut next) = outbox();
        for i in 0..WAITING_MAX + 3 {
            outbox.send(LOG, &Arc::new(notification(&i.to_string(), Transition::Firing)));
        }
        outbox.send("nobody", &Arc::new(notification("x", Transition::Firing)));
        assert_eq!((outbox.sent(), outbox.lost()), (0, 4));
        // The oldest are kept, in order.
        assert_eq!(next().unwrap().rule, "0");
        assert_eq!(std::iter::from_fn(next).count(), WAITING_MAX - 1);
    }

    #[test]
    fn what_is_resumed_is_as_old_as_it_was() {
        let (outbox, mut deliverer) = Deliverer::new(Vec::new(), "here").unwrap();
        let of = |time_us| Arc::new(Notification { time_us, ..notification("x", Transition::Firing) });
        outbox.send(LOG, &of(0));
        for ago in [90, 0, -90] {
            outbox.resume(LOG, &of(wall_us() - ago * 1_000_000));
        }
        let ages: Vec<u64> = std::iter::from_fn(|| deliverer.workers[0].queue.try_recv().ok())
            .map(|queued| (queued.age + queued.since.elapsed()).as_secs() / 10)
            .collect();
        assert_eq!(ages, [0, 9, 0, 0]);
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
            outbox.send(LOG, &Arc::new(notification("x", Transition::Resolved)));
        }
        // Stopped before it began, with the outbox still held: the five are still delivered.
        deliverer.run(async {}, Duration::from_mins(1)).await;
        assert_eq!((outbox.sent(), outbox.lost()), (5, 0));
        outbox.send(LOG, &Arc::new(notification("late", Transition::Firing)));
        assert_eq!((outbox.sent(), outbox.lost()), (5, 1));
    }
}
