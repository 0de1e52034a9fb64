//! All tables: those of the families, and the tiers of each.

use std::fmt;
use std::sync::LazyLock;

use super::{FamilyId, PerFamily};
use crate::record::Table;
use crate::record::tier::Tier;

/// A table: a family's own, or one of its tiers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    family: FamilyId,
    tier: Option<Tier>,
}

/// The tiers' tables, in the order of [`Tier::ALL`]. None for a family without tiers.
static TIERS: LazyLock<PerFamily<Option<[&'static Table; 2]>>> = LazyLock::new(|| {
    PerFamily::from_fn(|family| family.has_tiers.then(|| Tier::ALL.map(|tier| tier.table(family.table))))
});

impl TableId {
    /// The family's own table, which has every row.
    #[must_use]
    pub const fn raw(family: FamilyId) -> TableId {
        TableId { family, tier: None }
    }

    /// A tier of a family; `None` for a family without tiers.
    #[must_use]
    pub fn of_tier(family: FamilyId, tier: Tier) -> Option<TableId> {
        family.has_tiers.then_some(TableId { family, tier: Some(tier) })
    }

    /// The table of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<TableId> {
        TableId::all().find(|table| table.name() == name)
    }

    /// Every table: a family's own, then its tiers, in the order of [`FAMILIES`](super::FAMILIES).
    pub fn all() -> impl Iterator<Item = TableId> {
        FamilyId::all().flat_map(|family| [TableId::raw(family)].into_iter().chain(TableId::tiers(family)))
    }

    /// The tiers of a family, from the finest to the widest.
    pub fn tiers(family: FamilyId) -> impl Iterator<Item = TableId> {
        Tier::ALL.into_iter().filter_map(move |tier| TableId::of_tier(family, tier))
    }

    /// Whose rows it has, or of whose rows it is made.
    #[must_use]
    pub const fn family(self) -> FamilyId {
        self.family
    }

    /// Which tier it is; `None` for a family's own table.
    #[must_use]
    pub const fn tier(self) -> Option<Tier> {
        self.tier
    }

    /// Its name, columns and docs.
    #[must_use]
    pub fn table(self) -> &'static Table {
        let tier = |tier: Tier| TIERS[self.family].map(|tables| tables[tier as usize]);
        self.tier.and_then(tier).unwrap_or(self.family.table)
    }

    /// Its name in SQL and of its folder in the lake.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.table().name
    }
}

impl From<FamilyId> for TableId {
    fn from(family: FamilyId) -> TableId {
        TableId::raw(family)
    }
}

impl fmt::Debug for TableId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::record::Record;
    use crate::sampler::report::Gap;

    #[test]
    fn every_table_is_found_by_its_name() {
        let names: HashSet<&str> = TableId::all().map(TableId::name).collect();
        assert_eq!(names.len(), TableId::all().count(), "two tables have one name");
        for table in TableId::all() {
            assert_eq!(TableId::find(table.name()), Some(table));
            let columns: HashSet<&str> = table.table().sql_columns().map(|column| column.name).collect();
            assert_eq!(columns.len(), table.table().columns.len() + 1, "{table:?} has a column twice");
        }
        assert_eq!(TableId::find("network_1s").map(|table| (table.family().name(), table.tier())), {
            Some(("network", Some(Tier::Second)))
        });
        // What happens now and then has no buckets.
        assert_eq!(TableId::tiers(FamilyId::of::<Gap>()).count(), 0);
        assert_eq!(TableId::find(&format!("{}_1s", Gap::TABLE.name)), None);
    }
}
