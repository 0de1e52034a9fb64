//! What the store promises on disks that fail, hang, tear and forget.
//!
//! - `KYMO_SEEDS`: how many power losses are simulated; 30 unless set. `KYMO_POWER_SEED` is the seed of the first; printed,
//!   and another in each run unless set.
//! - `KYMO_TIERS`: how many random courses of rows the tiers are compared with; 100 unless set. `KYMO_TIERS_SEED` is the seed of
//!   the first.
//! - `KYMO_FUZZ_SECONDS`: for how long the journal's reader gets damaged segments; 2,000 iterations unless set.
//!   `KYMO_FUZZ_SEED` is the seed of the first.

mod disks;
mod faults;
mod hang;
mod journal;
mod power;
mod recovery;
mod rows;
mod tier_files;
mod tiers;
