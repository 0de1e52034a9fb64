//! Lost exports: each is counted, and the log has one line an outage.

use std::error::Error;
use std::fmt::Display;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tonic::Status;

/// Metric exports and spans that did not reach their endpoint, counted since start. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct LostExports(Arc<AtomicU64>);

impl LostExports {
    /// How many so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        // Relaxed here and below: no other memory is read because of these numbers.
        self.0.load(Ordering::Relaxed)
    }

    /// The losses of one signal (`metrics` or `traces`) on its way to `endpoint`.
    pub(super) fn signal(&self, signal: &'static str, endpoint: &str) -> Arc<Outage> {
        Arc::new(Outage { signal, endpoint: endpoint.into(), losses: self.clone(), lost: AtomicU64::new(0) })
    }
}

/// Follows whether one signal reaches its endpoint.
#[derive(Debug)]
pub(super) struct Outage {
    signal: &'static str,
    endpoint: String,
    losses: LostExports,
    /// How many were lost since the last delivery. The first loss is logged, and the next delivery.
    lost: AtomicU64,
}

impl Outage {
    /// `count` did not arrive. The first loss since the last delivery is logged.
    pub(super) fn lost(&self, count: u64, reason: &dyn Display) {
        if count == 0 {
            return;
        }
        self.losses.0.fetch_add(count, Ordering::Relaxed);
        if self.lost.fetch_add(count, Ordering::Relaxed) == 0 {
            let Outage { signal, endpoint, .. } = self;
            tracing::warn!("{signal} do not reach {endpoint}: {reason}; kymo will log when they do");
        }
    }

    /// Something arrived. Ends the outage, if there was one.
    pub(super) fn delivered(&self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let Outage { signal, endpoint, .. } = self;
            tracing::info!("{signal} reach {endpoint} again; {lost} were lost");
        }
    }
}

/// The text of a failed call and its causes: a status alone often reads "transport error".
pub(super) fn reason(status: &Status) -> String {
    let causes = iter::successors(status.source(), |&error| error.source()).map(ToString::to_string);
    causes.fold(format!("{}: {}", status.code(), status.message()), |text, cause| {
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_when_it_begins_and_when_it_ends() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let subscriber = tracing_subscriber::fmt().with_writer(log.reopen().unwrap()).with_ansi(false).finish();
        let losses = LostExports::default();
        tracing::subscriber::with_default(subscriber, || {
            let outage = losses.signal("traces", "http://a:1");
            outage.delivered();
            outage.lost(3, &"refused");
            outage.lost(4, &"refused");
            outage.lost(0, &"nothing");
            outage.delivered();
            outage.delivered();
            outage.lost(1, &"refused");
        });
        assert_eq!(losses.count(), 8);
        let text = std::fs::read_to_string(log.path()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].contains("traces do not reach http://a:1: refused"), "{text}");
        assert!(lines[1].contains("again; 7 were lost"), "{text}");
        assert!(lines[2].contains("do not reach"), "{text}");
    }
}
