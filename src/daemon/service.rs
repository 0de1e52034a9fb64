//! What a service manager is told (`sd_notify(3)`): that kymo records, how it goes, and that it stops. systemd's watchdog is fed only
//! while ticks go on, so it restarts a recorder that hangs.

use std::env;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::time::sleep;

use super::collectors::Collectors;
use crate::collector::CollectorStatus;

/// How often the status is told, at least.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// Counts of ticks come once a second, and a drain later.
const REPORTS_LATE: Duration = Duration::from_secs(5);

/// Tells that recording has begun, and then how it goes. Never returns. Without a service manager it does nothing.
pub(super) async fn tell(collectors: Arc<Collectors>) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return std::future::pending().await;
    }
    let watchdog = sd_notify::watchdog_enabled();
    // systemd advises half of its time; a round may be late.
    let interval = watchdog.map_or(STATUS_INTERVAL, |time| (time / 3).min(STATUS_INTERVAL));
    let mut ticking = Ticking { ticks: 0, since: Instant::now() };
    send(&[NotifyState::Ready]);
    loop {
        let (listed, _) = collectors.survey();
        send(&[NotifyState::Status(&status(&listed))]);
        if watchdog.is_some() && ticking.goes_on(Instant::now(), &listed) {
            send(&[NotifyState::Watchdog]);
        }
        sleep(interval).await;
    }
}

/// Tells that kymo stops, which may take so long.
pub(super) fn stopping(within: Duration) {
    let us = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    let text = "Stopping: draining the rings and flushing memory";
    send(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(us), NotifyState::Status(text)]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager is not told");
    }
}

/// A line for `systemctl status`.
fn status(listed: &[CollectorStatus]) -> String {
    let sum = |of: fn(&CollectorStatus) -> i64| listed.iter().map(of).sum::<i64>();
    let (missed, dropped) = (sum(|one| one.totals.missed), sum(|one| one.totals.dropped));
    let collectors = listed.len();
    format!(
        "Recording with {collectors} collectors; {missed} ticks missed, {dropped} records dropped since they were started"
    )
}

/// Whether ticks go on.
struct Ticking {
    /// Of all collectors.
    ticks: i64,
    /// When this last changed.
    since: Instant,
}

impl Ticking {
    /// Whether any collector ticks as it should. Where one hangs alone, `kymo status` says so, and a restart would cost the others.
    fn goes_on(&mut self, now: Instant, listed: &[CollectorStatus]) -> bool {
        let ticks = listed.iter().map(|one| one.totals.scheduled).sum();
        let Some(fastest) = listed.iter().map(|one| one.settings.interval).min() else {
            self.since = now;
            return true;
        };
        if ticks != self.ticks {
            *self = Ticking { ticks, since: now };
        }
        now.duration_since(self.since) <= 2 * fastest + REPORTS_LATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::StartCollector;
    use crate::sampler::Totals;
    use crate::sampler::health::CollectorHealth;

    fn ticked(scheduled: i64) -> CollectorStatus {
        let start = StartCollector {
            name: "system".to_owned(),
            interval: Duration::from_secs(1),
            families: vec!["cpu".to_owned()],
            ..StartCollector::default()
        };
        let settings = start.check(&[]).unwrap();
        let totals = Totals { scheduled, missed: 3, ..Totals::default() };
        CollectorStatus { settings, running_since_us: 0, totals, health: CollectorHealth::default() }
    }

    #[test]
    fn the_watchdog_is_fed_while_ticks_go_on() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut ticking = Ticking { ticks: 0, since: begin };
        assert!(ticking.goes_on(after(1), &[ticked(1)]));
        assert!(ticking.goes_on(after(8), &[ticked(1)]), "reports are late");
        assert!(!ticking.goes_on(after(9), &[ticked(1)]), "no tick for eight seconds");
        assert!(ticking.goes_on(after(10), &[ticked(2)]), "it goes on");
        assert!(!ticking.goes_on(after(30), &[ticked(2)]));
        assert!(ticking.goes_on(after(31), &[]), "nothing is to be recorded");
    }

    #[test]
    fn the_status_is_a_line() {
        let told = status(&[ticked(5), ticked(7)]);
        assert_eq!(told, "Recording with 2 collectors; 6 ticks missed, 0 records dropped since they were started");
    }
}
