//! In-line alerting.
