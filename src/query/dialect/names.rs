//! Names of columns. A column without an alias is named by the user's own text, and of several with one name, the later ones
//! are numbered.

use std::collections::HashSet;

use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, Function, Ident, ObjectName, Select, SelectItem, SelectItemQualifiedWildcardKind,
    WildcardAdditionalOptions,
};

use super::build;
use super::call::is_function;

/// Longer texts are cut.
const NAME_CHARS_MAX: usize = 200;

/// Gives each column of a SELECT a name of its own, as far as the text tells.
pub(super) fn name_columns(select: &mut Select) {
    let wildcards: Vec<SelectItem> = select.projection.iter().filter(|item| is_wildcard(item)).cloned().collect();
    let mut taken = HashSet::new();
    for item in &mut select.projection {
        let Some(name) = item_name(item) else { continue };
        let is_taken = taken.contains(&name) || wildcards.iter().any(|wildcard| has(wildcard, item, &name));
        let unique = if is_taken { numbered(&name, &taken) } else { name };
        taken.insert(unique.clone());
        let is_plain = match item {
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => !is_function(name),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(_)) | SelectItem::ExprWithAlias { .. } => true,
            _ => false,
        };
        if is_taken || !is_plain {
            rename(item, build::name(unique));
        }
    }
}

/// The name of a column, as the result has it. `None` if it stands for several columns, or the planner names it.
pub(super) fn item_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(folded(name)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names)) => names.last().map(folded),
        // It may become several columns.
        SelectItem::UnnamedExpr(Expr::Function(function)) if is_unnest(function) => None,
        SelectItem::UnnamedExpr(expr) => Some(shortened(expr.to_string())),
        _ => None,
    }
}

/// A name as tables have it: in small letters, unless it is quoted.
pub(in crate::query) fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

/// The first of `name_1`, `name_2` … that is not taken.
pub(super) fn numbered(name: &str, taken: &HashSet<String>) -> String {
    let mut names = (1..).map(|number| format!("{name}_{number}"));
    names.find(|name| !taken.contains(name)).unwrap_or_else(|| name.to_owned())
}

fn rename(item: &mut SelectItem, alias: Ident) {
    let expr = match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => expr.clone(),
        _ => return,
    };
    *item = SelectItem::ExprWithAlias { expr, alias };
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(NAME_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn is_unnest(function: &Function) -> bool {
    function.name.to_string().eq_ignore_ascii_case("unnest")
}

fn is_wildcard(item: &SelectItem) -> bool {
    matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
}

/// Whether a wildcard surely stands for this column, too: a column is among all of its table.
fn has(wildcard: &SelectItem, item: &SelectItem, name: &str) -> bool {
    let SelectItem::UnnamedExpr(column) = item else { return false };
    match (wildcard, column) {
        (SelectItem::Wildcard(options), Expr::Identifier(_) | Expr::CompoundIdentifier(_)) => keeps(options, name),
        (
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(table), options),
            Expr::CompoundIdentifier(parts),
        ) => {
            let of_table = parts.split_last().is_some_and(|(_, qualifier)| is_table(table, qualifier));
            of_table && keeps(options, name)
        }
        _ => false,
    }
}

fn is_table(table: &ObjectName, qualifier: &[Ident]) -> bool {
    let parts: Vec<String> = table.0.iter().filter_map(|part| part.as_ident().map(folded)).collect();
    parts == qualifier.iter().map(folded).collect::<Vec<_>>()
}

/// Whether a wildcard with these options keeps a column under its name.
fn keeps(options: &WildcardAdditionalOptions, name: &str) -> bool {
    let is_name = |other: &Ident| folded(other) == name;
    let excluded = match &options.opt_exclude {
        Some(ExcludeSelectItem::Single(one)) => one.0.iter().any(|part| part.as_ident().is_some_and(is_name)),
        Some(ExcludeSelectItem::Multiple(several)) => {
            several.iter().flat_map(|one| &one.0).any(|part| part.as_ident().is_some_and(is_name))
        }
        None => false,
    };
    let except = options.opt_except.as_ref();
    let is_except =
        except.is_some_and(|except| is_name(&except.first_element) || except.additional_elements.iter().any(is_name));
    !excluded && !is_except && options.opt_rename.is_none()
}
