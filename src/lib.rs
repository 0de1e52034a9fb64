//! kymo, a flight recorder for Linux hosts.
//!
//! The journey of a record, which is also the order of the modules: a collector thread takes a snapshot of `/proc` at
//! each tick ([`sampler`], [`reading`]) and lets its families ([`family`]) push fixed-size records ([`mod@record`]) into
//! lock-free rings ([`ring`]). The drain thread turns what the rings hold into Arrow record batches ([`batch`]), shows them
//! to the alert rules ([`alert`]), keeps the newest of them at hand ([`latest`]) and puts them into the store ([`store`]),
//! which flushes them to Parquet. Queries ([`query`]) see memory and files through one view. [`serve`] offers them over
//! Arrow Flight SQL and gRPC, [`export`] sends metrics and traces out over OTLP. [`config`] says what to do, [`daemon`]
//! runs all of it, and
//! [`cli`] talks to it.
//!
//! ARCHITECTURE.md says what imports what, and why.

pub mod record;
pub mod scheduling;
pub mod words;

pub mod ring;

pub mod batch;
pub mod sampler;

pub mod reading;

pub mod family;

pub mod alert;
pub mod collector;
pub mod latest;
pub mod store;

pub mod export;
pub mod query;

pub mod serve;

pub mod config;

pub mod daemon;

pub mod cli;
