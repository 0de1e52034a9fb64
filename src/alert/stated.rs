//! The series that a condition names: for which labels it states the text, as in `device = 'sda'`.
//!
//! A rule can tell that a named series has no rows even if there never was one.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::logical_expr::expr::{BinaryExpr, InList};
use datafusion::logical_expr::{Expr, Operator};

use crate::record::Table;

/// The most series that a rule may name to be told of their absence.
pub(super) const NAMED_MAX: usize = 1_000;

/// For each label that the condition states: its position in the table, and the texts that it may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stated(BTreeMap<usize, BTreeSet<String>>);

impl Stated {
    /// Takes one more of the terms that must all be true.
    pub(super) fn add(&mut self, table: &'static Table, term: &Expr) {
        let Some((position, texts)) = texts(table, term) else { return };
        match self.0.get_mut(&position) {
            Some(stated) => stated.retain(|text| texts.contains(text)),
            None => _ = self.0.insert(position, texts),
        }
    }

    /// Every combination of the stated texts: for each label of `table` its text, `None` where the condition states none.
    /// One combination without texts if no label is stated. An error is their number if there are more than [`NAMED_MAX`].
    pub(super) fn combinations(&self, table: &'static Table) -> Result<Vec<Vec<Option<String>>>, usize> {
        let count = self.0.values().map(BTreeSet::len).fold(1, usize::saturating_mul);
        if count > NAMED_MAX {
            return Err(count);
        }
        let mut combinations = vec![Vec::new()];
        for (position, _) in table.labels() {
            let texts: Vec<Option<String>> =
                self.0.get(&position).map_or_else(|| vec![None], |texts| texts.iter().cloned().map(Some).collect());
            let with = |begun: Vec<Option<String>>| {
                texts.iter().map(move |text| begun.iter().cloned().chain([text.clone()]).collect::<Vec<_>>()).collect()
            };
            combinations =
                combinations.into_iter().flat_map(|begun| -> Vec<Vec<Option<String>>> { with(begun) }).collect();
        }
        Ok(combinations)
    }
}

/// The label and the texts of which one must be its own, if the term is of this kind.
fn texts(table: &'static Table, term: &Expr) -> Option<(usize, BTreeSet<String>)> {
    match term {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let pair = |one: &Expr, other: &Expr| Some((label(table, one)?, BTreeSet::from([text(other)?])));
            pair(left, right).or_else(|| pair(right, left))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let ((position, mut texts), (other, more)) = (self::texts(table, left)?, self::texts(table, right)?);
            texts.extend(more);
            (position == other).then_some((position, texts))
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            Some((label(table, expr)?, list.iter().map(text).collect::<Option<_>>()?))
        }
        _ => None,
    }
}

/// The position of the label that `expr` is.
pub(super) fn label(table: &'static Table, expr: &Expr) -> Option<usize> {
    let Expr::Column(column) = expr else { return None };
    table.labels().find(|(_, label)| label.name == column.name).map(|(position, _)| position)
}

/// The text that `expr` is.
pub(super) fn text(expr: &Expr) -> Option<String> {
    let Expr::Literal(literal, _) = expr else { return None };
    literal.try_as_str()?.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use crate::alert::fixture::{compiled, when};

    /// The combinations that a condition names, as "label,label".
    fn named(table: &str, sql: &str) -> Vec<String> {
        let rule = compiled(&[when(table, sql)]).remove(0);
        let combinations = rule.condition.stated.combinations(rule.table).unwrap();
        let shown = |label: &Option<String>| label.clone().unwrap_or_else(|| "*".into());
        combinations.iter().map(|labels| labels.iter().map(shown).collect::<Vec<_>>().join(",")).collect()
    }

    #[test]
    fn equal_labels_are_stated_and_nothing_else_is() {
        assert_eq!(named("cpu", "cpu = 'total' AND utilization > 0.5"), ["total"]);
        assert_eq!(named("cpu", "utilization > 0.5 AND 'total' = cpu"), ["total"]);
        assert_eq!(named("cpu", "cpu IN ('2', '0', '1') AND utilization > 0.5"), ["0", "1", "2"]);
        assert_eq!(named("cpu", "cpu IN ('0', '1', '2', '3', '4') AND utilization > 0"), ["0", "1", "2", "3", "4"]);
        assert_eq!(named("cpu", "(cpu = '0' OR cpu = '1') AND cpu IN ('1', '7')"), ["1"]);
        for other in
            ["utilization > 0.5", "cpu <> 'total' AND utilization > 0", "cpu LIKE 'a%'", "cpu = 'a' OR utilization > 1"]
        {
            assert_eq!(named("cpu", other), ["*"], "{other}");
        }
        assert_eq!(named("filesystem", "mountpoint IN ('/', '/home') AND used_ratio > 0.9"), ["/,*,*", "/home,*,*"]);
        assert_eq!(named("host", "load1 > 1"), [""]);
    }

    #[test]
    fn more_than_can_be_watched_are_counted() {
        let texts: Vec<String> = (0..1_001).map(|number| format!("'{number}'")).collect();
        let rule = compiled(&[when("cpu", &format!("cpu IN ({})", texts[..600].join(",")))]).remove(0);
        assert_eq!(rule.condition.stated.combinations(rule.table).map(|all| all.len()), Ok(600));
        let two = format!("mountpoint IN ({}) AND device IN ({})", texts[..100].join(","), texts[..11].join(","));
        let rule = compiled(&[when("filesystem", &two)]).remove(0);
        assert_eq!(rule.condition.stated.combinations(rule.table), Err(1_100));
    }
}
