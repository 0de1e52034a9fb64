//! What happened: alerts, ticks that were missed, and what a collector lost over a window.

use std::collections::HashSet;

use arrow::array::RecordBatch;

use crate::cli::rows::{Rows, float, text, whole};

/// Something that happened at a time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Event {
    pub(super) time_us: i64,
    pub(super) what: What,
    /// The rule, or the collector.
    pub(super) name: String,
    /// The labels of the series that fired.
    pub(super) labels: String,
    /// The state, or why ticks were missed.
    pub(super) state: String,
    /// The value that fired, or how many ticks were missed.
    pub(super) value: Option<f64>,
    /// When it fired, or since when nothing was recorded.
    pub(super) since_us: Option<i64>,
    /// Until when nothing was recorded.
    pub(super) to_us: Option<i64>,
}

/// Reasons why nothing at all was recorded for a while.
const WHOLE: &[&str] = &["suspended", "killed"];

/// What it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum What {
    #[default]
    Fired,
    Resolved,
    Missed,
}

/// A rule that fires now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Firing {
    pub(super) rule: String,
    pub(super) labels: String,
    pub(super) since_us: Option<i64>,
    /// What the rule says, if the one who knows was asked.
    pub(super) condition: String,
    pub(super) peak: Option<f64>,
}

/// What a collector should have done over a window, and what was lost of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Loss {
    pub(super) collector: String,
    pub(super) missed: f64,
    pub(super) due: f64,
    pub(super) dropped: f64,
}

/// Events, the newest first, and losses.
#[derive(Clone, Debug, Default)]
pub(super) struct Events {
    pub(super) events: Vec<Event>,
    pub(super) losses: Vec<Loss>,
}

impl Events {
    /// Reads the answer.
    pub(super) fn read(batches: &[RecordBatch]) -> anyhow::Result<Events> {
        let mut found = Events::default();
        for batch in batches {
            let rows = Rows::of(batch);
            let (parts, names) = (rows.texts("part")?, rows.texts("name")?);
            let (labels, states) = (rows.texts("labels")?, rows.texts("state")?);
            let (times, values, since) = (rows.wholes("time")?, rows.floats("value")?, rows.wholes("since_us")?);
            for row in 0..rows.count() {
                let part = text(&parts, row);
                let value = float(&values, row);
                if part == "loss" {
                    found.losses.push(Loss {
                        collector: text(&names, row).to_owned(),
                        missed: value.unwrap_or(0.0),
                        due: whole(&since, row).unwrap_or(0) as f64,
                        dropped: text(&labels, row).parse().unwrap_or(0.0),
                    });
                    continue;
                }
                let Some(time_us) = whole(&times, row) else { continue };
                let state = text(&states, row);
                let is_gap = part == "gap";
                let what = match (part, state) {
                    ("gap", _) => What::Missed,
                    (_, "firing" | "no data") => What::Fired,
                    _ => What::Resolved,
                };
                found.events.push(Event {
                    time_us,
                    what,
                    name: text(&names, row).to_owned(),
                    labels: if is_gap { String::new() } else { text(&labels, row).to_owned() },
                    state: state.to_owned(),
                    value,
                    since_us: whole(&since, row),
                    to_us: text(&labels, row).parse().ok().filter(|_| is_gap),
                });
            }
        }
        found.events.sort_by_key(|event| std::cmp::Reverse(event.time_us));
        found.losses.sort_by(|one, other| one.collector.cmp(&other.collector));
        Ok(found)
    }

    /// The alerts that were on at the end of the window, as far as the events tell.
    pub(super) fn firing(&self) -> Vec<Firing> {
        let mut seen = HashSet::new();
        let mut firing = Vec::new();
        for event in self.alerts().filter(|event| seen.insert((event.name.clone(), event.labels.clone()))) {
            if event.what == What::Fired {
                firing.push(Firing {
                    rule: event.name.clone(),
                    labels: event.labels.clone(),
                    since_us: event.since_us.or(Some(event.time_us)),
                    condition: String::new(),
                    peak: event.value,
                });
            }
        }
        firing
    }

    /// The stretch in which nothing was recorded, if a moment is in one, and why.
    pub(super) fn nothing_at(&self, at_us: i64) -> Option<(i64, i64, &str)> {
        let whole =
            self.events.iter().filter(|event| event.what == What::Missed && WHOLE.contains(&event.state.as_str()));
        let mut stretches = whole.filter_map(|event| Some((event.since_us?, event.to_us?, event.state.as_str())));
        stretches.find(|(from_us, to_us, _)| (*from_us..*to_us).contains(&at_us))
    }

    /// Only alerts, the newest first.
    pub(super) fn alerts(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| event.what != What::Missed)
    }

    /// The collector that samples most often: of it the most ticks were due.
    pub(super) fn fastest(&self) -> Option<&Loss> {
        self.losses.iter().max_by(|one, other| one.due.total_cmp(&other.due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fires_is_what_was_not_resolved() {
        let event = |time_us, name: &str, what| Event { time_us, name: name.into(), what, ..Event::default() };
        let events = vec![event(3, "a", What::Resolved), event(2, "b", What::Fired), event(1, "a", What::Fired)];
        let firing = Events { events, losses: Vec::new() }.firing();
        assert_eq!(firing.iter().map(|one| one.rule.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_moment_without_rows_tells_why() {
        let gap = |state: &str| Event {
            what: What::Missed,
            state: state.into(),
            since_us: Some(10),
            to_us: Some(20),
            ..Event::default()
        };
        let events = Events { events: vec![gap("late"), gap("suspended")], losses: Vec::new() };
        assert_eq!([9, 10, 20].map(|at| events.nothing_at(at).is_some()), [false, true, false]);
        let of_one = Events { events: vec![gap("late")], losses: Vec::new() };
        assert_eq!(of_one.nothing_at(15), None);
    }
}
