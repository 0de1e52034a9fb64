//! All integration tests in one program, as each program links DataFusion anew. Apart from it stand `tests/allocation.rs`,
//! which counts what the allocator is asked for, and `tests/kill/`, whose kymo has points at which it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::zombie_processes,
    reason = "a test fails by panicking"
)]

mod bad_input;
mod compare;
mod crash;
mod daemon;
mod ends;
mod exact;
mod export;
mod fixtures;
mod fuzz;
mod layers;
mod looking;
mod newest;
mod people;
mod plot;
mod recipes;
mod record;
mod running;
mod schema;
mod security;
mod store;
mod top;
mod top_far;
mod window;
mod workers;
