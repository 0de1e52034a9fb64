//! Views of the configuration: queries with a name, which statements use like a table.
//!
//! They are kept as text. Each statement plans the views that it uses anew (`session/view.rs`), so a view that cannot be planned
//! fails the statements that use it, and no others.

pub mod check;
pub(super) mod planned;

use std::sync::Arc;

/// There are no more views. Tools list all of them, for which all are planned.
pub const SQL_VIEWS_MAX: usize = 64;

/// A view of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlView {
    /// Its name in SQL.
    pub name: String,
    /// The query that it stands for.
    pub sql: String,
    /// What it shows, for people; may be empty.
    pub doc: String,
}

/// All views. Clones share them.
pub type SqlViews = Arc<[SqlView]>;
