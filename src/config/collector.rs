//! What a collector may be: the one set of rules for collectors in the configuration and for those that are started
//! or retuned while the daemon runs.

use std::fmt;
use std::time::Duration;

use crate::family::{FAMILIES, Family, FamilyId};
use crate::sampler::{INTERVAL_MAX, INTERVAL_MIN, Scheduling};

use super::read::{self, Section};
use super::tree::Node;
use crate::words::{duration as show, unknown};

/// The greatest number of collectors.
pub const COLLECTORS_MAX: usize = 64;
/// The greatest length of a collector's name.
pub const NAME_LENGTH_MAX: usize = 64;

/// A collector that can be started.
#[derive(Clone, Debug)]
pub struct CollectorSettings {
    /// Its name: 1 to [`NAME_LENGTH_MAX`] of `a-z`, `0-9`, `_` and `-`, a letter first.
    pub name: String,
    /// The distance of its ticks, [`INTERVAL_MIN`]…[`INTERVAL_MAX`].
    pub interval: Duration,
    /// What it samples: at least one, none twice, none that another collector samples.
    pub families: Vec<FamilyId>,
    /// Whether it may be faster than a family's [`interval_min`](crate::family::Sampling::interval_min).
    pub force: bool,
    /// How its thread is scheduled.
    pub scheduling: Scheduling,
}

/// What a [`CollectorError`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectorField {
    /// The name.
    Name,
    /// The interval.
    Interval,
    /// The list of families as a whole.
    Metrics,
    /// One of the families, by its position in the list.
    Metric(usize),
}

impl fmt::Display for CollectorField {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CollectorField::Name => formatter.write_str("name"),
            CollectorField::Interval => formatter.write_str("interval"),
            CollectorField::Metrics => formatter.write_str("metrics"),
            CollectorField::Metric(index) => write!(formatter, "metrics[{index}]"),
        }
    }
}

/// Why a collector cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct CollectorError {
    /// What is wrong with it.
    pub field: CollectorField,
    /// In which way, and what would be right.
    pub message: String,
    /// Whether it would be right if the other collectors were not there.
    pub conflict: bool,
}

/// How configuration, API and command line name the scheduling policies.
pub const SCHEDULINGS: [(&str, Scheduling); 2] = [("other", Scheduling::Other), ("fifo", Scheduling::Fifo)];

/// Checks one collector against the rules and against `others`, which does not hold the collector itself.
///
/// # Errors
/// The first thing that is wrong; [`collector_errors`] gives all.
pub fn check_collector(
    name: &str,
    interval: Duration,
    metrics: &[impl AsRef<str>],
    force: bool,
    others: &[CollectorSettings],
) -> Result<CollectorSettings, CollectorError> {
    match collector_errors(name, interval, metrics, force, others).into_iter().next() {
        Some(error) => Err(error),
        None => {
            let families = metrics.iter().filter_map(|metric| FamilyId::find(metric.as_ref()));
            let (name, families, scheduling) = (name.to_owned(), families.collect(), Scheduling::default());
            Ok(CollectorSettings { name, interval, families, force, scheduling })
        }
    }
}

/// Everything that is wrong with a collector; nothing when it is right.
#[must_use]
pub fn collector_errors(
    name: &str,
    interval: Duration,
    metrics: &[impl AsRef<str>],
    force: bool,
    others: &[CollectorSettings],
) -> Vec<CollectorError> {
    let mut errors = Vec::new();
    let mut add = |field, message| errors.push(CollectorError { field, message, conflict: false });

    if let Some(message) = wrong_name(name) {
        add(CollectorField::Name, message);
    }
    if interval < INTERVAL_MIN || interval > INTERVAL_MAX {
        let bounds = format!("from {} to {}", show(INTERVAL_MIN), show(INTERVAL_MAX));
        add(CollectorField::Interval, format!("the interval must be {bounds}, and is {}", show(interval)));
    } else if !interval.subsec_nanos().is_multiple_of(1000) {
        add(CollectorField::Interval, "the interval must be of whole microseconds".to_owned());
    } else if !force {
        metrics.iter().filter_map(|metric| too_fast(interval, metric.as_ref())).for_each(|message| {
            add(CollectorField::Interval, message);
        });
    }
    if metrics.is_empty() {
        add(CollectorField::Metrics, "a collector samples at least one family".to_owned());
    }
    for (index, metric) in metrics.iter().map(AsRef::as_ref).enumerate() {
        if let Some(message) = wrong_metric(metric) {
            add(CollectorField::Metric(index), message);
        } else if metrics.iter().take(index).any(|earlier| earlier.as_ref() == metric) {
            add(CollectorField::Metric(index), format!("`{metric}` is listed twice"));
        }
    }

    let mut add = |field, message| errors.push(CollectorError { field, message, conflict: true });
    if others.len() >= COLLECTORS_MAX {
        add(CollectorField::Name, format!("there are {COLLECTORS_MAX} collectors, which is the most there can be"));
    }
    if others.iter().any(|other| other.name == name) {
        add(CollectorField::Name, format!("there is a collector `{name}` already"));
    }
    for (index, metric) in metrics.iter().map(AsRef::as_ref).enumerate() {
        if let Some(other) = others.iter().find(|other| other.families.iter().any(|family| family.name() == metric)) {
            let owner = &other.name;
            let message = format!("collector `{owner}` samples `{metric}` already; a family has one collector at most");
            add(CollectorField::Metric(index), message);
        }
    }
    errors
}

/// The collectors of the configuration, checked one after the other.
pub(super) fn read(root: &mut Section<'_>) -> Vec<CollectorSettings> {
    let mut collectors = Vec::new();
    for (entry, mut section) in root.named_sections("collector") {
        let interval = section.required("interval", read::duration(Duration::ZERO..=Duration::MAX));
        let metrics = section.required("metrics", read::texts);
        let force = section.optional("force", read::boolean).unwrap_or(false);
        let scheduling = section.optional("scheduling", scheduling).unwrap_or_default();
        if let (Some(interval), Some(metrics)) = (interval, metrics) {
            for error in collector_errors(&entry.key, interval, &metrics, force, &collectors) {
                match error.field {
                    CollectorField::Name => section.wrong_itself(&entry.place, error.message),
                    CollectorField::Interval => section.wrong("interval", error.message),
                    CollectorField::Metrics => section.wrong("metrics", error.message),
                    CollectorField::Metric(index) => section.wrong_item("metrics", index, error.message),
                }
            }
            let families = metrics.iter().filter_map(|metric| FamilyId::find(metric)).collect();
            collectors.push(CollectorSettings { name: entry.key.clone(), interval, families, force, scheduling });
        }
        section.finish();
    }
    collectors
}

fn scheduling(node: &Node) -> Result<Scheduling, String> {
    let name = read::text(node)?;
    let found = SCHEDULINGS.iter().find(|(known, _)| *known == name);
    found.map(|(_, scheduling)| *scheduling).ok_or_else(|| format!("expected \"other\" or \"fifo\", found {name:?}"))
}

fn wrong_name(name: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    let right = name.len() <= NAME_LENGTH_MAX
        && name.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && name.bytes().all(allowed);
    let wanted = format!("1 to {NAME_LENGTH_MAX} of a-z, 0-9, _ and -, a letter first");
    (!right).then(|| format!("`{name}` is no collector name; it needs {wanted}"))
}

fn wrong_metric(metric: &str) -> Option<String> {
    match FamilyId::find(metric) {
        None => {
            let sampled = FAMILIES.iter().filter(|family| family.sampling().is_some()).map(Family::name);
            Some(unknown("family", metric, sampled))
        }
        Some(family) if family.sampling().is_none() => {
            Some(format!("`{metric}` is written by kymo itself, always; no collector can sample it"))
        }
        Some(_) => None,
    }
}

fn too_fast(interval: Duration, metric: &str) -> Option<String> {
    let family = FamilyId::find(metric)?;
    let sampling = family.sampling()?;
    (interval < sampling.interval_min).then(|| {
        let (interval, least) = (show(interval), show(sampling.interval_min));
        let resolution = sampling.resolution;
        format!(
            "{interval} is too short for `{metric}`, which is read every {least} at most ({resolution}); write \"{least}\" or \
             more, or force = true"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(
        name: &str,
        interval: Duration,
        metrics: &[&str],
        force: bool,
        others: &[CollectorSettings],
    ) -> Vec<String> {
        collector_errors(name, interval, metrics, force, others).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_right_collector_has_its_families() {
        let collector = check_collector("system", Duration::from_millis(10), &["cpu"], false, &[]).unwrap();
        assert_eq!((collector.name.as_str(), collector.families[0].name()), ("system", "cpu"));
    }

    #[test]
    fn each_rule_has_its_error() {
        let ms = Duration::from_millis;
        let other = check_collector("other", ms(10), &["cpu"], false, &[]).unwrap();
        for name in ["", "Ü", "1a", "a b", "a/b", &"a".repeat(65)] {
            assert!(texts(name, ms(10), &["cpu"], false, &[])[0].starts_with("name: "), "{name}");
        }
        for interval in [Duration::ZERO, Duration::from_micros(999), Duration::from_secs(86_401)] {
            let texts = texts("a", interval, &["cpu"], true, &[]);
            assert!(texts[0].starts_with("interval: the interval must be from 1ms to 24h"), "{texts:?}");
        }
        assert!(texts("a", Duration::from_nanos(10_000_001), &["cpu"], false, &[])[0].contains("whole microseconds"));
        let fast = texts("a", ms(1), &["cpu"], false, &[]);
        assert!(fast[0].contains("every 10ms at most (") && fast[0].contains("force = true"), "{fast:?}");
        assert_eq!(texts("a", ms(1), &["cpu"], true, &[]), [""; 0]);
        assert_eq!(texts("a", ms(10), &[], false, &[]), ["metrics: a collector samples at least one family"]);
        assert_eq!(texts("a", ms(10), &["cpu", "cpu"], false, &[]), ["metrics[1]: `cpu` is listed twice"]);
        assert_eq!(
            texts("a", ms(10), &["cpus"], false, &[]),
            ["metrics[0]: unknown family `cpus`; did you mean `cpu`?"]
        );
        assert!(texts("a", ms(10), &["gap"], false, &[])[0].contains("written by kymo itself"));
        let taken = texts("other", ms(10), &["cpu"], false, &[other]);
        assert_eq!(taken.len(), 2);
        assert_eq!(taken[0], "name: there is a collector `other` already");
        assert!(taken[1].starts_with("metrics[0]: collector `other` samples `cpu` already"));
    }
}
