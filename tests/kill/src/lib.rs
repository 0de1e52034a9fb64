//! Only a test: see `tests/kill.rs`.
