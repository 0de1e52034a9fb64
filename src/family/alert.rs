//! `alert`: what the alert rules did.

use crate::record;

record! {
    /// Changes of alerts, one row for each that is told to the rule's notifiers. `time` is that of the row that caused the
    /// change or, for `gone` and `no data`, the time when it was found.
    pub struct Alert("alert") {
        labels {
            /// The rule's name in the configuration.
            rule => "kymo.alert.rule",
            /// The labels of the series, as `name=value` with a blank between two of them. Empty for tables without labels.
            labels => "kymo.alert.labels",
            /// What happened. `firing`: the condition held for the rule's `for`. `resolved`: the condition failed for
            /// `resolve_after`, or the series has rows again after `no data`. `gone`: a firing series had no rows for
            /// `absent_after`, or its rule is not configured any more. `no data`: a series had no rows for `absent_after`,
            /// which fires by the rule's choice.
            state => "kymo.alert.state",
        }
        values {
            /// The value that the condition compares, at that moment. NULL if it compares none, or there was no row.
            gauge value: f64 [Number],
            /// The worst value since the alert fired for which the condition held: the lowest if the condition is that a value is low, else the highest.
            gauge peak: f64 [Number],
            /// When the alert fired, µs since the epoch. The row's own `time` for `firing` and `no data`.
            gauge since_us: i64 [Micros],
        }
    }
}
