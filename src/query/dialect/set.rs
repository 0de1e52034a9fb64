//! EXCEPT ALL and INTERSECT ALL, which count how often a row occurs.
//!
//! The copies of a row are numbered on both sides. Then each numbered row occurs once, and EXCEPT and INTERSECT without ALL do.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Select, SelectItem, SetExpr, SetOperator, SetQuantifier, WindowSpec, WindowType,
};

use super::super::refusal::{GuardError, refuse};
use super::build;
use super::scope::Named;

/// Rewrites a set operation that keeps copies of rows. Inner ones were rewritten before.
pub(super) fn rewrite(body: &mut SetExpr, named: &Named) -> ControlFlow<GuardError> {
    if let SetExpr::SetOperation { left, right, .. } = body {
        rewrite(left, named)?;
        rewrite(right, named)?;
    }
    let names = match &*body {
        SetExpr::SetOperation {
            op: SetOperator::Except | SetOperator::Minus | SetOperator::Intersect,
            set_quantifier: SetQuantifier::All,
            left,
            ..
        } => named.of_body(left),
        _ => return ControlFlow::Continue(()),
    };
    let Some(names) = names else {
        return refuse("EXCEPT ALL or INTERSECT ALL of columns without names", "name the columns behind SELECT");
    };
    let columns: Vec<Ident> = (1..=names.len()).map(|number| build::name(format!("c{number}"))).collect();
    let empty = SetExpr::Select(Box::new(build::select(Vec::new(), Vec::new())));
    let SetExpr::SetOperation { op, left, right, .. } = std::mem::replace(body, empty) else {
        return ControlFlow::Continue(());
    };
    let side = |rows: SetExpr| Box::new(SetExpr::Select(Box::new(numbered(rows, &columns))));
    let (left, right) = (side(*left), side(*right));
    let both = SetExpr::SetOperation { op, set_quantifier: SetQuantifier::None, left, right };
    let items =
        columns.iter().zip(&names).map(|(column, name)| build::item(build::column(&[], column), build::name(name)));
    let from = vec![build::derived(build::query(both), "rows", Vec::new())];
    *body = SetExpr::Select(Box::new(build::select(items.collect(), from)));
    ControlFlow::Continue(())
}

/// The rows of a query, and the how manieth copy each one is.
fn numbered(rows: SetExpr, columns: &[Ident]) -> Select {
    let each = || columns.iter().map(|column| build::column(&[], column));
    let mut copy = build::function_of("row_number", Vec::new());
    copy.over = Some(WindowType::WindowSpec(WindowSpec {
        window_name: None,
        partition_by: each().collect(),
        order_by: Vec::new(),
        window_frame: None,
    }));
    let mut items: Vec<SelectItem> = each().map(SelectItem::UnnamedExpr).collect();
    items.push(build::item(Expr::Function(copy), build::name("copy")));
    build::select(items, vec![build::derived(build::query(rows), "side", columns.to_vec())])
}
