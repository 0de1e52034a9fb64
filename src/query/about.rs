//! Tables about tables, made of the list of tables ([`Named`](super::named::Named)).

pub(super) mod postgres;
pub(super) mod rows;
pub(super) mod standard;
