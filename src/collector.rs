//! What a collector may be, and how a running one does.
//!
//! There is one set of rules, for collectors in the configuration and for those that are started or retuned over gRPC.
//! An error says what is wrong in words that fit any of these places. Each place adds how it names the field.

use std::time::Duration;

use crate::family::{FAMILIES, Family, FamilyId, Sampling};
use crate::sampler::health::CollectorHealth;
use crate::sampler::{INTERVAL_MAX, INTERVAL_MIN, Scheduling, Totals};
use crate::words::{self, list, shortened, unknown};

/// The greatest number of collectors.
pub const COLLECTORS_MAX: usize = 64;
/// The greatest length of a collector's name.
pub const NAME_LENGTH_MAX: usize = 64;

/// A collector that can be started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectorSettings {
    /// Its name: 1 to [`NAME_LENGTH_MAX`] of `a-z`, `0-9`, `_` and `-`, a letter first.
    pub name: String,
    /// The time between two ticks, [`INTERVAL_MIN`]…[`INTERVAL_MAX`].
    pub interval: Duration,
    /// What it samples: at least one, none twice, none that another collector samples.
    pub families: Vec<FamilyId>,
    /// Whether it may be faster than a family's [`interval_min`](crate::family::Sampling::interval_min).
    pub force: bool,
    /// How its thread is scheduled.
    pub scheduling: Scheduling,
}

/// A collector to start, unchecked.
#[derive(Clone, Debug, Default)]
pub struct StartCollector {
    /// Its name.
    pub name: String,
    /// The time between two ticks.
    pub interval: Duration,
    /// Names of the families it samples.
    pub families: Vec<String>,
    /// Whether it may be faster than a family's minimum interval.
    pub force: bool,
    /// How its thread is scheduled.
    pub scheduling: Scheduling,
}

/// What to change in a running collector, unchecked.
#[derive(Clone, Debug, Default)]
pub struct RetuneCollector {
    /// Its name.
    pub name: String,
    /// The new interval, if that changes.
    pub interval: Option<Duration>,
    /// Names of the new families; empty keeps the old ones.
    pub families: Vec<String>,
    /// Whether it may be faster than a family's minimum interval.
    pub force: bool,
    /// The new scheduling, if that changes.
    pub scheduling: Option<Scheduling>,
}

/// A collector and what it has done since it was started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CollectorStatus {
    /// What it was started with, or last retuned to.
    pub settings: CollectorSettings,
    /// When it was started, µs since the epoch.
    pub running_since_us: i64,
    /// Its counts, about a second old.
    pub totals: Totals,
    /// What it could not do.
    pub health: CollectorHealth,
}

/// The part of a collector that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectorField {
    /// The name.
    Name,
    /// The interval.
    Interval,
    /// The list of families, or one of them.
    Families,
}

/// Why a collector cannot be started or retuned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectorError {
    /// The name has a wrong form.
    #[error(
        "`{}` is not a collector name: use 1 to {NAME_LENGTH_MAX} characters of a-z, 0-9, _ and -, a letter first",
        shortened(.0)
    )]
    Name(String),
    /// The interval is out of bounds.
    #[error(
        "the interval must be from {} to {}, and is {}",
        words::duration(INTERVAL_MIN), words::duration(INTERVAL_MAX), words::duration(*.0)
    )]
    Range(Duration),
    /// The interval has nanoseconds.
    #[error("the interval must be whole microseconds, and is {}", words::duration(*.0))]
    Fraction(Duration),
    /// The interval is shorter than a family's minimum, and not forced.
    #[error("{} is too short for `{}`, {}", words::duration(*.interval), .family.name(), minimum(*.family))]
    TooShort {
        /// The interval asked for.
        interval: Duration,
        /// The family.
        family: FamilyId,
    },
    /// No family is listed.
    #[error("list at least one table of {}", list(sampled()))]
    NoFamily,
    /// There is no family of this name.
    #[error("{}", unknown("table", .0, sampled()))]
    Unknown(String),
    /// kymo writes the family itself.
    #[error("`{}` is written by kymo itself; no collector can sample it", .0.name())]
    Internal(FamilyId),
    /// The family is listed more than once.
    #[error("`{}` is listed twice", .0.name())]
    Twice(FamilyId),
    /// There are [`COLLECTORS_MAX`] others.
    #[error("there are {COLLECTORS_MAX} collectors already, which is the maximum")]
    Full,
    /// There is a collector of this name.
    #[error("there is a collector `{0}` already")]
    Exists(String),
    /// Another collector samples the family.
    #[error("collector `{owner}` samples `{}` already; a table can have one collector only", .family.name())]
    Taken {
        /// The family.
        family: FamilyId,
        /// The other collector.
        owner: String,
    },
}

impl CollectorError {
    /// What it is about.
    #[must_use]
    pub fn field(&self) -> CollectorField {
        match self {
            Self::Name(_) | Self::Full | Self::Exists(_) => CollectorField::Name,
            Self::Range(_) | Self::Fraction(_) | Self::TooShort { .. } => CollectorField::Interval,
            Self::NoFamily | Self::Unknown(_) | Self::Internal(_) | Self::Twice(_) | Self::Taken { .. } => {
                CollectorField::Families
            }
        }
    }

    /// The name in the list of families that is wrong, if one is.
    #[must_use]
    pub fn family(&self) -> Option<&str> {
        match self {
            Self::Unknown(name) => Some(name),
            Self::Internal(family) | Self::Twice(family) | Self::Taken { family, .. } => Some(family.table.name),
            _ => None,
        }
    }
}

impl StartCollector {
    /// Checks it, also against the `others`.
    ///
    /// # Errors
    /// The first thing that is wrong; [`resolve`](Self::resolve) gives all.
    pub fn check(self, others: &[CollectorSettings]) -> Result<CollectorSettings, CollectorError> {
        first(self.resolve(others))
    }

    /// The collector's settings with those of its families that exist, and everything that is wrong.
    #[must_use]
    pub fn resolve(self, others: &[CollectorSettings]) -> (CollectorSettings, Vec<CollectorError>) {
        let StartCollector { name, interval, families, force, scheduling } = self;
        let (families, wrong) = resolve_families(&families);
        let settings = CollectorSettings { name, interval, families, force, scheduling };
        let mut errors = settings.errors();
        errors.extend(wrong);
        if others.iter().any(|other| other.name == settings.name) {
            errors.push(CollectorError::Exists(settings.name.clone()));
        }
        if others.len() >= COLLECTORS_MAX {
            errors.push(CollectorError::Full);
        }
        errors.extend(settings.conflicts(others));
        (settings, errors)
    }
}

impl RetuneCollector {
    /// Whether nothing is to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.interval.is_none() && self.families.is_empty() && self.scheduling.is_none()
    }

    /// What the collector becomes that has the settings `running`. Checks it, also against the others among `all`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(
        self,
        running: &CollectorSettings,
        all: &[CollectorSettings],
    ) -> Result<CollectorSettings, CollectorError> {
        // Scheduling alone keeps what was forced. A new interval or new families must be forced anew.
        let force = self.force || (running.force && self.interval.is_none() && self.families.is_empty());
        let (families, wrong) = match self.families.as_slice() {
            [] => (running.families.clone(), Vec::new()),
            names => resolve_families(names),
        };
        let settings = CollectorSettings {
            name: running.name.clone(),
            interval: self.interval.unwrap_or(running.interval),
            families,
            force,
            scheduling: self.scheduling.unwrap_or(running.scheduling),
        };
        let mut errors = settings.errors();
        errors.extend(wrong);
        errors.extend(settings.conflicts(all));
        first((settings, errors))
    }
}

impl CollectorSettings {
    /// What is wrong with it by itself.
    fn errors(&self) -> Vec<CollectorError> {
        let mut errors = Vec::new();
        let interval = self.interval;
        if !is_name(&self.name) {
            errors.push(CollectorError::Name(self.name.clone()));
        }
        if interval < INTERVAL_MIN || interval > INTERVAL_MAX {
            errors.push(CollectorError::Range(interval));
        } else if !interval.subsec_nanos().is_multiple_of(1000) {
            errors.push(CollectorError::Fraction(interval));
        } else if !self.force {
            let is_too_short =
                |family: &FamilyId| family.sampling().is_some_and(|sampling| interval < sampling.interval_min);
            let short = self.families.iter().copied().filter(is_too_short);
            errors.extend(short.map(|family| CollectorError::TooShort { interval, family }));
        }
        errors
    }

    /// The families that other collectors among `all` sample.
    fn conflicts(&self, all: &[CollectorSettings]) -> Vec<CollectorError> {
        let taken = |family: &FamilyId| {
            let owner = all.iter().find(|other| other.name != self.name && other.families.contains(family))?;
            Some(CollectorError::Taken { family: *family, owner: owner.name.clone() })
        };
        self.families.iter().filter_map(taken).collect()
    }
}

impl CollectorStatus {
    /// Problems that someone should look at, in sentences.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let CollectorHealth { failing, overload, refused_scheduling, hang, .. } = &self.health;
        let failing = failing.iter().map(|one| one.error.clone());
        let overload = overload.iter().map(ToString::to_string);
        let hang = hang.iter().map(ToString::to_string);
        failing.chain(overload).chain(hang).chain(refused_scheduling.as_deref().map(scheduling_was_refused)).collect()
    }
}

/// Says that a collector runs without the scheduling it should have.
#[must_use]
pub fn scheduling_was_refused(reason: &str) -> String {
    format!(
        "real-time scheduling (fifo) was refused: {reason}; it needs CAP_SYS_NICE or RLIMIT_RTPRIO. The collector runs \
         at normal priority"
    )
}

/// Names of the families that collectors can sample.
pub fn sampled() -> impl Iterator<Item = &'static str> + Clone {
    FAMILIES.iter().filter(|family| family.sampling().is_some()).map(Family::name)
}

fn first((settings, errors): (CollectorSettings, Vec<CollectorError>)) -> Result<CollectorSettings, CollectorError> {
    errors.into_iter().next().map_or(Ok(settings), Err)
}

/// The families of these names that collectors can sample, each once, and what is wrong with the others.
fn resolve_families(names: &[String]) -> (Vec<FamilyId>, Vec<CollectorError>) {
    let (mut families, mut errors) = (Vec::new(), Vec::new());
    if names.is_empty() {
        errors.push(CollectorError::NoFamily);
    }
    for name in names {
        match FamilyId::find(name) {
            None => errors.push(CollectorError::Unknown(name.clone())),
            Some(family) if family.sampling().is_none() => errors.push(CollectorError::Internal(family)),
            Some(family) if families.contains(&family) => errors.push(CollectorError::Twice(family)),
            Some(family) => families.push(family),
        }
    }
    (families, errors)
}

/// Whether a collector can have this name.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    name.len() <= NAME_LENGTH_MAX
        && name.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && name.bytes().all(allowed)
}

/// A family's minimum interval, with the reason.
fn minimum(family: FamilyId) -> String {
    let minimum = |sampling: &Sampling| {
        format!("whose minimum is {} ({})", words::duration(sampling.interval_min), sampling.resolution)
    };
    family.sampling().map(minimum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn start(name: &str, interval: Duration, families: &[&str]) -> StartCollector {
        StartCollector { name: name.to_owned(), interval, families: names(families), ..StartCollector::default() }
    }

    fn cpu() -> CollectorSettings {
        start("system", 10 * MS, &["cpu"]).check(&[]).unwrap()
    }

    fn wrong(start: StartCollector, others: &[CollectorSettings]) -> Vec<(CollectorField, String)> {
        start.resolve(others).1.iter().map(|error| (error.field(), error.to_string())).collect()
    }

    fn wrong_alone(name: &str, interval: Duration, families: &[&str]) -> (CollectorField, String) {
        let mut errors = wrong(start(name, interval, families), &[]);
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors.remove(0)
    }

    #[test]
    fn a_right_collector_has_its_families() {
        assert_eq!((cpu().name.as_str(), cpu().families[0].name()), ("system", "cpu"));
    }

    #[test]
    fn each_rule_has_its_error() {
        for name in ["", "Ü", "1a", "a b", "a/b", &"a".repeat(65)] {
            let (field, text) = wrong_alone(name, 10 * MS, &["cpu"]);
            assert_eq!(field, CollectorField::Name);
            assert!(text.contains("1 to 64 characters of a-z") && text.len() < 200, "{text}");
        }
        for interval in [Duration::ZERO, Duration::from_micros(999), Duration::from_secs(86_401)] {
            let forced = StartCollector { force: true, ..start("a", interval, &["cpu"]) };
            let errors = wrong(forced, &[]);
            assert!(errors[0].1.starts_with("the interval must be from 1ms to 24h, and is "), "{errors:?}");
        }
        assert!(wrong_alone("a", Duration::from_nanos(10_000_001), &["cpu"]).1.contains("whole microseconds"));
        let (field, text) = wrong_alone("a", MS, &["cpu"]);
        assert_eq!(field, CollectorField::Interval);
        assert!(text.starts_with("1ms is too short for `cpu`, whose minimum is 10ms ("), "{text}");
        assert_eq!(wrong(StartCollector { force: true, ..start("a", MS, &["cpu"]) }, &[]), []);

        let families = |names: &[&str]| {
            let (field, text) = wrong_alone("a", 10 * MS, names);
            assert_eq!(field, CollectorField::Families);
            text
        };
        assert!(families(&[]).starts_with("list at least one table of cpu, memory, "));
        assert_eq!(families(&["cpu", "cpu"]), "`cpu` is listed twice");
        assert_eq!(families(&["cpus"]), "unknown table `cpus`; did you mean `cpu`?");
        assert!(families(&["gap"]).contains("written by kymo itself"));
        assert!(families(&[&"x".repeat(1 << 20)]).len() < 1000);
    }

    #[test]
    fn collectors_are_apart() {
        let errors = wrong(start("system", 10 * MS, &["cpu"]), &[cpu()]);
        assert_eq!(errors, [(CollectorField::Name, "there is a collector `system` already".to_owned())]);
        let errors = wrong(start("other", 10 * MS, &["memory", "cpu"]), &[cpu()]);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].1.starts_with("collector `system` samples `cpu` already"), "{errors:?}");
        let others: Vec<_> =
            (0..COLLECTORS_MAX).map(|index| start(&format!("c{index}"), MS, &[]).resolve(&[]).0).collect();
        assert_eq!(start("last", 10 * MS, &["cpu"]).check(&others), Err(CollectorError::Full));
    }

    #[test]
    fn retuning_keeps_what_is_not_named() {
        let all = [cpu(), start("burst", MS, &["disk"]).check(&[]).unwrap()];
        let retune = |change: RetuneCollector| change.check(&all[0], &all);
        let slower = retune(RetuneCollector { interval: Some(20 * MS), ..Default::default() }).unwrap();
        assert_eq!(slower, CollectorSettings { interval: 20 * MS, ..cpu() });
        let families = |families: &[&str]| RetuneCollector { families: names(families), ..Default::default() };
        assert_eq!(retune(families(&["memory"])).unwrap().families[0].name(), "memory");
        let owner = "burst".to_owned();
        let disk = FamilyId::find("disk").unwrap();
        assert_eq!(retune(families(&["disk"])), Err(CollectorError::Taken { family: disk, owner }));
        assert_eq!(retune(families(&["nope"])), Err(CollectorError::Unknown("nope".to_owned())));
    }

    #[test]
    fn what_was_forced_stays_so_while_only_the_scheduling_changes() {
        let forced = CollectorSettings { interval: MS, force: true, ..cpu() };
        let fifo = RetuneCollector { scheduling: Some(Scheduling::Fifo), ..Default::default() };
        let retuned = fifo.clone().check(&forced, std::slice::from_ref(&forced)).unwrap();
        assert_eq!(retuned, CollectorSettings { scheduling: Scheduling::Fifo, ..forced.clone() });
        let faster = RetuneCollector { interval: Some(2 * MS), ..fifo };
        let error = faster.check(&forced, std::slice::from_ref(&forced)).unwrap_err();
        assert!(matches!(error, CollectorError::TooShort { .. }), "{error}");
    }
}
