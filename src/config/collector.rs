//! `[collector.NAME]`: the collectors to start with.

use std::time::Duration;

use crate::collector::{CollectorError, CollectorField, CollectorSettings, StartCollector};
use crate::sampler::Scheduling;
use crate::words;

use super::read::{self, Read, Section};
use super::tree::Node;

/// The collectors, each checked against the earlier ones.
pub(super) fn read(root: &mut Section<'_>) -> Vec<CollectorSettings> {
    let mut collectors = Vec::new();
    for (entry, mut section) in root.named_sections("collector") {
        let interval = section.required("interval", read::duration(Duration::ZERO..=Duration::MAX));
        let families = section.required("metrics", read::texts);
        let force = section.optional("force", read::boolean).unwrap_or(false);
        let scheduling = section.optional("scheduling", scheduling).unwrap_or_default();
        if let (Some(interval), Some(families)) = (interval, families) {
            let name = entry.key.clone();
            let start = StartCollector { name, interval, families: families.clone(), force, scheduling };
            let (settings, errors) = start.resolve(&collectors);
            for error in errors {
                let item = error.family().and_then(|wrong| families.iter().rposition(|name| name == wrong));
                match error.field() {
                    CollectorField::Name => section.wrong_itself(&entry.place, error.to_string()),
                    CollectorField::Interval => section.wrong("interval", None, in_a_file(&error)),
                    CollectorField::Families => section.wrong("metrics", item, error.to_string()),
                }
            }
            collectors.push(settings);
        }
        section.finish();
    }
    collectors
}

/// The error, with the keys that would mend it.
fn in_a_file(error: &CollectorError) -> String {
    match error {
        CollectorError::TooShort { family, .. } => {
            let minimum = family.sampling().map_or(Duration::ZERO, |sampling| sampling.interval_min);
            format!("{error}; write \"{}\" or more, or force = true", words::duration(minimum))
        }
        other => other.to_string(),
    }
}

fn scheduling(node: &Node) -> Read<Scheduling> {
    match read::text(node)?.as_str() {
        "auto" => Ok(Scheduling::Auto),
        "other" => Ok(Scheduling::Other),
        "fifo" => Ok(Scheduling::Fifo),
        name => Err(format!("expected \"auto\", \"other\" or \"fifo\", found {name:?}")),
    }
}
