//! The rules' states for other threads: the engine writes each change on a board.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::loss::Loss;
use super::machine::{Absent, SERIES_MAX};
use super::rule::Rule;
use super::state::Transition;

/// How many firing series of a rule are listed. All are counted.
pub const FIRING_LISTED_MAX: usize = 100;

/// A rule and its state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleStatus {
    /// The rule's name.
    pub name: String,
    /// The table it watches.
    pub table: &'static str,
    /// Its condition as SQL, short forms written out.
    pub condition: String,
    /// How long the condition must hold before it fires.
    pub hold: Duration,
    /// The notifiers it tells.
    pub notify: Vec<String>,
    /// How often it fired.
    pub fired: u64,
    /// How often it resolved, or its series was gone.
    pub resolved: u64,
    /// How many series are pending: their condition holds, but not for long enough yet.
    pub pending: usize,
    /// How many series are firing.
    pub firing: usize,
    /// The firing series, at most [`FIRING_LISTED_MAX`] of them, in the order of their labels.
    pub firing_series: Vec<FiringSeries>,
    /// What becomes of a series that has no more rows.
    pub absent: Absent,
    /// How many rows were not watched, because too many series were known already.
    pub excess: u64,
}

/// A series that is firing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FiringSeries {
    /// Its labels by name.
    pub labels: BTreeMap<&'static str, String>,
    /// Whether it fires because it has no rows.
    pub has_no_data: bool,
    /// When it fired, µs since the epoch.
    pub since_us: i64,
    /// The worst value since then, about a second old.
    pub peak: Option<f64>,
}

/// All rules and their states, shared between the engine and other threads.
#[derive(Debug)]
pub struct Board {
    posts: Vec<Arc<Post>>,
    failures: Loss,
    excess: Loss,
    lost_changes: AtomicU64,
}

/// The series of one rule that are firing.
#[derive(Debug, Default)]
pub(super) struct Firing {
    pub(super) count: usize,
    pub(super) listed: Vec<FiringSeries>,
}

/// One rule's place on the board.
#[derive(Debug, Default)]
pub(super) struct Post {
    /// What never changes.
    rule: RuleStatus,
    fired: AtomicU64,
    resolved: AtomicU64,
    pending: AtomicUsize,
    excess: Loss,
    firing: ArcSwap<Firing>,
}

impl Post {
    fn new(rule: &Rule) -> Self {
        let rule = RuleStatus {
            name: rule.name.clone(),
            table: rule.table.name,
            condition: rule.text.clone(),
            hold: Duration::from_micros(rule.hold_us.max(0).cast_unsigned()),
            notify: rule.notify.clone(),
            absent: rule.absent,
            ..RuleStatus::default()
        };
        Post { rule, ..Post::default() }
    }

    pub(super) fn set_pending(&self, pending: usize) {
        // Relaxed: no other memory is read because of this figure.
        self.pending.store(pending, Ordering::Relaxed);
    }

    pub(super) fn add_excess(&self, rows: u64, now_us: i64) {
        self.excess.add(rows, now_us);
    }

    pub(super) fn count(&self, transition: Transition) {
        let counter = match transition {
            Transition::Firing | Transition::NoData => &self.fired,
            Transition::Resolved | Transition::Gone => &self.resolved,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_firing(&self, firing: Firing) {
        self.firing.store(Arc::new(firing));
    }
}

impl Board {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let posts = rules.iter().map(|rule| Arc::new(Post::new(rule))).collect();
        Board { posts, failures: Loss::default(), excess: Loss::default(), lost_changes: AtomicU64::new(0) }
    }

    pub(super) fn post(&self, index: usize) -> Arc<Post> {
        Arc::clone(&self.posts[index])
    }

    pub(super) fn add(&self, failures: u64, excess: u64, now_us: i64) {
        self.failures.add(failures, now_us);
        self.excess.add(excess, now_us);
    }

    pub(super) fn add_lost_changes(&self, count: u64) {
        self.lost_changes.fetch_add(count, Ordering::Relaxed);
    }

    /// All rules, in the order that the engine was given them.
    #[must_use]
    pub fn rules(&self) -> Vec<RuleStatus> {
        let status = |post: &Arc<Post>| {
            let firing = post.firing.load();
            RuleStatus {
                fired: post.fired.load(Ordering::Relaxed),
                resolved: post.resolved.load(Ordering::Relaxed),
                pending: post.pending.load(Ordering::Relaxed),
                excess: post.excess.count(),
                firing: firing.count,
                firing_series: firing.listed.clone(),
                ..post.rule.clone()
            }
        };
        self.posts.iter().map(status).collect()
    }

    /// How often an expression could not be evaluated on a batch. To its rules the batch's rows were absent.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.count()
    }

    /// How many changes were told and are no rows of the table `alert`, because there were too many at once.
    #[must_use]
    pub fn lost_changes(&self) -> u64 {
        self.lost_changes.load(Ordering::Relaxed)
    }

    /// How many rows had no rate, because too many series were known already.
    #[must_use]
    pub fn excess(&self) -> u64 {
        self.excess.count()
    }

    /// What rules cannot watch, as texts for people; nothing once there was no more of it for ten minutes. `now_us` is on
    /// `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn troubles(&self, now_us: i64) -> Vec<String> {
        let of = |post: &Arc<Post>| {
            let (name, excess) = (&post.rule.name, post.excess.current(now_us)?);
            Some(format!("alert {name}: more than {SERIES_MAX} series; rows not watched since the start: {excess}"))
        };
        let mut troubles: Vec<String> = self.posts.iter().filter_map(of).collect();
        if let Some(excess) = self.excess.current(now_us) {
            troubles.push(format!("alert rules: too many series; rows without a rate since the start: {excess}"));
        }
        if let Some(failures) = self.failures.current(now_us) {
            troubles.push(format!("alert rules: expressions that could not be evaluated since the start: {failures}"));
        }
        troubles
    }
}
