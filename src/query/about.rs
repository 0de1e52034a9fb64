//! Tables about tables and views.

pub(super) mod postgres;
pub(super) mod routines;
pub mod rows;
pub(super) mod standard;
