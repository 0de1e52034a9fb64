//! Tables about tables and views.

pub(super) mod postgres;
pub mod rows;
pub(super) mod standard;
