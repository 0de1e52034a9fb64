//! The tables that SQL has: one for each family, its tiers, and its newest rows.

use std::sync::LazyLock;

use crate::family::FamilyId;
use crate::family::tables::TableId;
use crate::record::Table;
use crate::store::last::has_last;

/// A table in SQL.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Named {
    /// Whose rows it has.
    pub family: FamilyId,
    /// Which of them.
    pub rows: Which,
    /// Its name, doc and columns.
    pub table: &'static Table,
}

/// Which rows of a family a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those of a tier.
    Tier(TableId),
    /// The newest row of each series: `<table>_last`.
    Last,
}

static TABLES: LazyLock<Vec<Named>> = LazyLock::new(|| {
    let of = |family: FamilyId| {
        let last = has_last(family).then(|| Named { family, rows: Which::Last, table: last(family.table) });
        let tiers = TableId::tiers(family).map(|id| Named { family, rows: Which::Tier(id), table: id.table() });
        [Named::of(family)].into_iter().chain(tiers).chain(last).collect::<Vec<_>>()
    };
    FamilyId::all().flat_map(of).collect()
});

impl Named {
    /// All tables: those of families in their order, each followed by those that are made of it.
    pub fn all() -> impl Iterator<Item = Named> {
        TABLES.iter().copied()
    }

    /// The table of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Named> {
        Named::all().find(|named| named.table.name == name)
    }

    /// The tiers of a family.
    pub fn tiers(family: FamilyId) -> impl Iterator<Item = Named> {
        Named::all().filter(move |named| named.family == family && matches!(named.rows, Which::Tier(_)))
    }

    /// The table of the newest rows of a family, if it has one.
    #[must_use]
    pub fn last(family: FamilyId) -> Option<Named> {
        Named::all().find(|named| named.family == family && named.rows == Which::Last)
    }

    /// The table of all rows of a family.
    #[must_use]
    pub fn of(family: FamilyId) -> Named {
        Named { family, rows: Which::All, table: family.table }
    }
}

/// Called once for each family.
fn last(of: &'static Table) -> &'static Table {
    let name = format!("{}_last", of.name);
    let doc = format!("The newest row of each series of `{}`, also of up to 1,024 that are gone.", of.name);
    Box::leak(Box::new(Table { name: name.leak(), doc: doc.leak(), columns: of.columns }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tables_have_one_name() {
        let mut names: Vec<&str> = Named::all().map(|named| named.table.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert!(names.len() == count && count > FamilyId::all().len());
        assert!(Named::all().all(|named| Named::find(named.table.name) == Some(named)));
        assert_eq!(Named::find("network_last").map(|named| named.rows), Some(Which::Last));
        assert_eq!(Named::find("alert_last"), None);
    }
}
