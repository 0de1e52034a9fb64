//! `[view.NAME]`: queries that statements use like tables.

use crate::query::sql_view::check::{Wrong, check};
use crate::query::sql_view::{SQL_VIEWS_MAX, SqlView, SqlViews};

use super::read::{self, Section};

/// The views, each of which can be planned.
pub(super) fn read(root: &mut Section<'_>) -> SqlViews {
    let (mut views, mut sections) = (Vec::new(), Vec::new());
    for (entry, mut section) in root.named_sections("view") {
        if sections.len() == SQL_VIEWS_MAX {
            section.wrong_itself(&entry.place, format!("is one view too many; at most {SQL_VIEWS_MAX} are allowed"));
        }
        let sql = section.required("sql", read::some_text);
        let doc = section.optional("doc", read::text).unwrap_or_default();
        // One too many is an error already.
        if let Some(sql) = sql.filter(|_| sections.len() < SQL_VIEWS_MAX) {
            views.push(SqlView { name: entry.key.clone(), sql, doc });
            sections.push((entry, section));
        } else {
            section.finish();
        }
    }
    let views: SqlViews = views.into();
    match check(&views) {
        Ok(wrong) => {
            for (at, wrong) in wrong {
                let Some((entry, section)) = sections.get(at) else { continue };
                match wrong {
                    Wrong::Name(problem) => section.wrong_itself(&entry.place, problem),
                    Wrong::Sql(problem) => section.wrong("sql", None, problem),
                }
            }
        }
        Err(error) => {
            if let Some((entry, section)) = sections.first() {
                section.wrong_itself(&entry.place, format!("cannot be checked: {error}"));
            }
        }
    }
    sections.into_iter().for_each(|(_, section)| section.finish());
    views
}
