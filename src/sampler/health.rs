//! The health of a collector: families that cannot be read or that the host lacks, and overload.
//!
//! The collector's thread writes it when something changes, and never waits for a reader.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The health of a collector, besides its counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CollectorHealth {
    /// The latest read error, if there ever was one.
    pub last_error: Option<String>,
    /// Families that could not be read, or only in part, at the last tick.
    pub failing: Vec<Failing>,
    /// Families that are not sampled because this host lacks them.
    pub unavailable: Vec<Unavailable>,
    /// Families that are recorded only in part, as of the last second.
    pub partial: Vec<Partial>,
    /// Reading took more than half of the last second.
    pub overload: Option<Overload>,
    /// Why the system refused the configured scheduling policy.
    pub refused_scheduling: Option<String>,
    /// A tick began long ago and has not ended.
    pub hang: Option<Hang>,
}

/// A family that this host lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// The family's name.
    pub family: &'static str,
    /// Why, for people.
    pub reason: String,
}

/// A family that is recorded only in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// The family's name.
    pub family: &'static str,
    /// What is missing, and why, for people.
    pub reason: String,
}

/// A family that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// The family's name.
    pub family: &'static str,
    /// Why.
    pub error: String,
}

/// A second in which reading took more than half of the time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overload {
    /// Average reading time of a tick, µs.
    pub read_us: i64,
    /// The interval, µs: the most that a tick may take.
    pub interval_us: i64,
    /// Each family's share of `read_us`, 0…1, in the order of the collector's list.
    pub shares: Vec<(&'static str, f64)>,
}

impl fmt::Display for Overload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Overload { read_us, interval_us, shares } = self;
        let shares: Vec<_> = shares.iter().map(|(family, share)| format!("{family} {:.0} %", share * 100.0)).collect();
        write!(
            formatter,
            "overloaded: a tick takes {read_us} µs of every {interval_us} µs to read ({}); ticks may be missed: give it \
             a longer interval or fewer tables",
            shares.join(", ")
        )
    }
}

/// A tick that does not end, as a read hangs in the kernel or in a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hang {
    /// The family that is read.
    pub family: &'static str,
    /// For so long.
    pub seconds: i64,
}

impl fmt::Display for Hang {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hang { family, seconds } = self;
        write!(
            formatter,
            "a tick that reads {family} has not ended for {seconds} s: the kernel or a driver does not answer"
        )
    }
}

impl CollectorHealth {
    /// Notes the outcome of the last tick of `family`.
    pub(super) fn note(&mut self, family: &'static str, error: Option<String>) {
        self.failing.retain(|one| one.family != family);
        if let Some(error) = error {
            self.last_error = Some(error.clone());
            self.failing.push(Failing { family, error });
        }
    }

    /// Notes what `family` could not give; nothing if `lacking` is empty.
    pub(super) fn note_partial(&mut self, family: &'static str, lacking: &str) {
        match self.partial.iter_mut().find(|one| one.family == family) {
            Some(known) if !lacking.is_empty() => lacking.clone_into(&mut known.reason),
            Some(_) => self.partial.retain(|one| one.family != family),
            None if lacking.is_empty() => {}
            None => self.partial.push(Partial { family, reason: lacking.into() }),
        }
    }
}

/// A [`CollectorHealth`] that one thread writes and others read.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedHealth(Arc<Mutex<CollectorHealth>>);

impl SharedHealth {
    /// A copy of its present state.
    pub(super) fn get(&self) -> CollectorHealth {
        // Each field is replaced whole, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it, unless another thread holds it right now; whether it was changed.
    pub(super) fn try_change(&self, change: impl FnOnce(&mut CollectorHealth)) -> bool {
        let Ok(mut health) = self.0.try_lock() else { return false };
        change(&mut health);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overload_names_families_and_a_way_out() {
        let overload = Overload { read_us: 620, interval_us: 1_000, shares: vec![("network", 0.713), ("disk", 0.287)] };
        assert_eq!(
            overload.to_string(),
            "overloaded: a tick takes 620 µs of every 1000 µs to read (network 71 %, disk 29 %); ticks may be missed: \
             give it a longer interval or fewer tables"
        );
    }

    #[test]
    fn whoever_reads_is_not_waited_for() {
        let health = SharedHealth::default();
        let reader = health.0.lock().unwrap();
        assert!(!health.try_change(|health| health.last_error = Some("lost".to_owned())));
        drop(reader);
        assert!(health.try_change(|health| health.last_error = Some("kept".to_owned())));
        assert_eq!(health.get().last_error.as_deref(), Some("kept"));
    }
}
