//! What the store promises, on disks that fail, tear and forget.
//!
//! - `KYMO_SEEDS`: how many power losses are simulated; a small number where it is not set.
//! - `KYMO_FUZZ_SECONDS`: how long the journal's reader is given arbitrary bytes; a small number of iterations where it is
//!   not set. `KYMO_FUZZ_SEED` is the seed of the first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod faults;
mod journal;
mod power;
mod random;
mod recovery;
mod rows;
