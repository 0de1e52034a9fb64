//! Which tables and columns the one who answers has: a daemon of another version has others.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;

use crate::cli::rows::{Rows, text};
use crate::family::FamilyId;

/// Tables with their columns; all that are declared here, if nobody was asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Catalog {
    known: Option<BTreeSet<(String, String)>>,
}

impl Catalog {
    /// The statement that asks for it.
    pub(super) fn statement() -> String {
        let tables: Vec<String> = FamilyId::all().map(|family| format!("'{}'", family.name())).collect();
        format!(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_name IN ({})",
            tables.join(", ")
        )
    }

    /// Reads the answer. One that is empty tells nothing.
    pub(super) fn read(batches: &[RecordBatch]) -> anyhow::Result<Catalog> {
        let mut known = BTreeSet::new();
        for batch in batches {
            let rows = Rows::of(batch);
            let (tables, columns) = (rows.texts("table_name")?, rows.texts("column_name")?);
            known.extend((0..rows.count()).map(|row| (text(&tables, row).to_owned(), text(&columns, row).to_owned())));
        }
        Ok(Catalog { known: Some(known).filter(|known| !known.is_empty()) })
    }

    /// Whether there is such a column.
    pub(super) fn has(&self, table: &str, column: &str) -> bool {
        self.known.as_ref().is_none_or(|known| known.contains(&(table.to_owned(), column.to_owned())))
    }

    /// Whether there is such a table. Each has a time.
    pub(super) fn has_table(&self, table: &str) -> bool {
        self.has(table, "time")
    }

    /// One without these columns, and without these tables.
    #[cfg(test)]
    pub(super) fn without(columns: &[(&str, &str)], tables: &[&str]) -> Catalog {
        let all = FamilyId::all()
            .flat_map(|family| family.table.columns.iter().map(move |column| (family.name(), column.name)));
        let known = all.filter(|(table, column)| !columns.contains(&(table, column)) && !tables.contains(table));
        let known = known.map(|(table, column)| (table.to_owned(), column.to_owned()));
        Catalog { known: Some(known.collect()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_was_asked_for_is_there() {
        assert!(Catalog::default().has("cpu", "utilization") && Catalog::default().has_table("cpu"));
        assert!(!Catalog::read(&[]).unwrap().has_table("cpu") || Catalog::read(&[]).unwrap().known.is_none());
        let older = Catalog::without(&[("cpu", "utilization")], &["tcp"]);
        assert!(older.has("cpu", "user_us") && !older.has("cpu", "utilization") && !older.has_table("tcp"));
    }
}
