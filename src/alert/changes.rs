//! Changes of alerts on their way to the table `alert`: bounded in rate, so that a rule that flaps does not fill the disk.

use super::state::Transition;

/// Changes that are kept in a second. Further ones are counted.
pub(super) const CHANGES_A_SECOND_MAX: usize = 1_000;
const SECOND_US: i64 = 1_000_000;

/// A row of the table `alert`.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertChange {
    /// When it happened, µs since the epoch.
    pub time_us: i64,
    /// The rule's name.
    pub rule: String,
    /// The series' labels, as `name=value` with a blank between two of them.
    pub labels: String,
    /// What happened.
    pub transition: Transition,
    /// The value compared; NaN if there is none.
    pub value: f64,
    /// The worst value since the alert fired; NaN if there was none.
    pub peak: f64,
    /// When the alert fired, µs since the epoch.
    pub since_us: i64,
}

/// Changes that wait for the drain thread.
#[derive(Debug, Default)]
pub(super) struct Changes {
    waiting: Vec<AlertChange>,
    /// The second that `kept` counts in, on `CLOCK_MONOTONIC`.
    second: i64,
    kept: usize,
}

impl Changes {
    /// Keeps the change that `make` gives if there is room in this second. Returns whether there was.
    pub(super) fn push(&mut self, now_us: i64, make: impl FnOnce() -> AlertChange) -> bool {
        let second = now_us.div_euclid(SECOND_US);
        if second != self.second {
            (self.second, self.kept) = (second, 0);
        }
        if self.kept == CHANGES_A_SECOND_MAX {
            return false;
        }
        self.kept += 1;
        self.waiting.push(make());
        true
    }

    /// The changes since the last call.
    pub(super) fn take(&mut self) -> Vec<AlertChange> {
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_second_allows_are_refused_and_the_next_second_is_free() {
        let change = || AlertChange {
            time_us: 0,
            rule: String::new(),
            labels: String::new(),
            transition: Transition::Firing,
            value: 0.0,
            peak: 0.0,
            since_us: 0,
        };
        let mut changes = Changes::default();
        let kept =
            |changes: &mut Changes, now_us, count: usize| (0..count).filter(|_| changes.push(now_us, change)).count();
        assert_eq!(kept(&mut changes, 0, CHANGES_A_SECOND_MAX + 5), CHANGES_A_SECOND_MAX);
        assert_eq!(changes.take().len(), CHANGES_A_SECOND_MAX);
        // Taking them makes no room in the same second.
        assert_eq!(kept(&mut changes, SECOND_US - 1, 1), 0);
        assert_eq!(kept(&mut changes, SECOND_US, 3), 3);
        assert_eq!((changes.take().len(), changes.take().len()), (3, 0));
    }
}
