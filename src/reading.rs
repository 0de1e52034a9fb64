//! What the families share in reading `/proc` and `/sys`: a sampler and its ring, the snapshot of a tick, text and
//! numbers.

pub(crate) mod attribute;
pub mod census;
pub(crate) mod class;
pub mod context;
pub(crate) mod counter;
pub mod filter;
pub(crate) mod folder;
pub mod foreign;
pub(crate) mod lacking;
pub(crate) mod line_rows;
pub(crate) mod optional;
pub(crate) mod outcome;
pub(crate) mod prelude;
#[cfg(test)]
pub(crate) mod probe;
pub(crate) mod reader;
pub mod roots;
pub mod sample;
pub mod snapshot;
pub(crate) mod sums;
pub(crate) mod text;
pub(crate) mod value;
