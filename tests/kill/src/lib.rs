//! Empty: this package is the test in `tests/kill.rs`.
