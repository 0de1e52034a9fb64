//! The ring of kymo, compiled by itself: loom explores its interleavings, and the sanitizers watch it, without the
//! rest of the program having to be built for them.

#[path = "../../../src/ring.rs"]
pub mod ring;
