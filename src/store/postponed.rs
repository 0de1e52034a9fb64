//! Groups of files that could not be merged. Each is tried again after a pause that grows, so that a file that cannot be read
//! does not cost the reading of its group every few seconds.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::time::Duration;

use crate::family::tables::TableId;
use crate::words;

/// The pause after the first try. It doubles with each further try.
const PAUSE_MIN: Duration = Duration::from_secs(30);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_hours(1);
/// Groups that are remembered. Further ones are tried again at once.
const GROUPS_MAX: usize = 4_096;

/// A group of files: its table, and the sequence number of its first row.
pub(super) type Group = (TableId, u64);

/// The groups whose last try failed.
#[derive(Debug, Default)]
pub(super) struct Postponed(HashMap<Group, Failed>);

#[derive(Debug)]
struct Failed {
    tries: u32,
    /// When it was last tried, µs since the epoch.
    tried_us: i64,
    reason: String,
}

impl Failed {
    fn pause(&self) -> Duration {
        let doublings = self.tries.saturating_sub(1).min(16);
        (PAUSE_MIN * (1 << doublings)).min(PAUSE_MAX)
    }
}

impl Postponed {
    /// Whether a group is to be tried at `now` (µs since the epoch). After a clock was set back it is tried at once.
    pub(super) fn is_due(&self, group: Group, now: i64) -> bool {
        let waits = |failed: &Failed| {
            let since = now.saturating_sub(failed.tried_us);
            u64::try_from(since).is_ok_and(|since| Duration::from_micros(since) < failed.pause())
        };
        !self.0.get(&group).is_some_and(waits)
    }

    /// Notes that a group could not be merged at `now`.
    pub(super) fn fail(&mut self, group: Group, now: i64, reason: &impl Display) {
        if self.0.len() < GROUPS_MAX || self.0.contains_key(&group) {
            let tries = self.0.get(&group).map_or(0, |failed| failed.tries);
            self.0.insert(group, Failed { tries: tries.saturating_add(1), tried_us: now, reason: reason.to_string() });
        }
    }

    /// Forgets groups that are not among these.
    pub(super) fn keep(&mut self, groups: &HashSet<Group>) {
        self.0.retain(|group, _| groups.contains(group));
    }

    /// Forgets a group that was merged.
    pub(super) fn forget(&mut self, group: Group) {
        self.0.remove(&group);
    }

    /// What is wrong, as text for users: with the group that was tried most often, and how many others there are.
    pub(super) fn trouble(&self) -> Option<String> {
        let (_, worst) = self.0.iter().max_by_key(|(group, failed)| (failed.tries, **group))?;
        let tries = if worst.tries == 1 { "once".into() } else { format!("{} times", worst.tries) };
        let others = match self.0.len() - 1 {
            0 => String::new(),
            1 => "; another period waits, too".into(),
            others => format!("; {others} other periods wait, too"),
        };
        let (reason, pause) = (&worst.reason, words::duration(worst.pause()));
        Some(format!("the files of a period stay apart: {reason}; tried {tries}, pausing for {pause}{others}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: i64 = 1_000_000;

    fn group(first_seq: u64) -> Group {
        (TableId::all().next().unwrap(), first_seq)
    }

    #[test]
    fn pauses_grow_up_to_an_hour() {
        let mut postponed = Postponed::default();
        let (mut now, mut pauses) = (0, Vec::new());
        for _ in 0..9 {
            assert!(postponed.is_due(group(1), now));
            postponed.fail(group(1), now, &"no luck");
            let paused = (1..=4_000).find(|seconds| postponed.is_due(group(1), now + seconds * SECOND_US)).unwrap();
            pauses.push(paused);
            now += paused * SECOND_US;
        }
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
        assert!(postponed.is_due(group(1), now - 7_200 * SECOND_US), "the clock was set back");
        assert!(postponed.is_due(group(2), now));
    }

    #[test]
    fn the_worst_is_told_until_it_is_merged_or_gone() {
        let mut postponed = Postponed::default();
        assert_eq!(postponed.trouble(), None);
        postponed.fail(group(1), 0, &"one");
        postponed.fail(group(2), 0, &"two");
        postponed.fail(group(2), 0, &"two");
        let told = postponed.trouble().unwrap();
        assert_eq!(
            told,
            "the files of a period stay apart: two; tried 2 times, pausing for 1m; another period waits, too"
        );
        postponed.forget(group(2));
        assert!(postponed.trouble().unwrap().ends_with("one; tried once, pausing for 30s"));
        postponed.keep(&HashSet::new());
        assert_eq!(postponed.trouble(), None);
    }

    #[test]
    fn the_groups_are_bounded() {
        let mut postponed = Postponed::default();
        (0..5_000).for_each(|first_seq| postponed.fail(group(first_seq), 0, &"no luck"));
        assert_eq!(postponed.0.len(), GROUPS_MAX);
        assert!(postponed.is_due(group(4_999), 0));
    }
}
