//! Tables about tables, made of [`FAMILIES`](crate::family::FAMILIES).

pub(super) mod postgres;
pub(super) mod rows;
pub(super) mod standard;
