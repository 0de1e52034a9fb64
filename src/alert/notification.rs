//! What a notifier is told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::state::Transition;

/// An alert changed. As JSON it is one object with these fields' names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// The rule's name.
    pub rule: String,
    /// What happened.
    pub state: Transition,
    /// The table that the rule watches.
    pub table: String,
    /// The time of the row that caused it or, without one, when it was found, µs since the epoch, UTC.
    pub time_us: i64,
    /// When the alert fired, µs since the epoch, UTC.
    pub since_us: i64,
    /// The value compared. None if the condition compares none or the value is absent.
    pub value: Option<f64>,
    /// The worst value since the alert fired. None if there was none.
    pub peak: Option<f64>,
    /// The constant it is compared with, if it is one.
    pub threshold: Option<f64>,
    /// The series' labels by name.
    pub labels: BTreeMap<String, String>,
    /// The rule's message, filled in.
    pub message: String,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::alert) fn notification(rule: &str, state: Transition) -> Notification {
        Notification {
            rule: rule.into(),
            state,
            table: "network".into(),
            time_us: 1_700_000_000_000_000,
            since_us: 1_699_999_999_000_000,
            value: Some(12.5),
            peak: Some(99.0),
            threshold: None,
            labels: BTreeMap::from([("interface".to_owned(), "eth0".to_owned())]),
            message: "eth0 is busy".into(),
        }
    }

    #[test]
    fn json_has_the_documented_fields() {
        let json = serde_json::to_value(notification("busy", Transition::Firing)).unwrap();
        let expected = serde_json::json!({
            "rule": "busy", "state": "firing", "table": "network", "time_us": 1_700_000_000_000_000_i64,
            "since_us": 1_699_999_999_000_000_i64, "value": 12.5, "peak": 99.0, "threshold": null, "labels": {"interface": "eth0"}, "message": "eth0 is busy",
        });
        assert_eq!(json, expected);
    }
}
