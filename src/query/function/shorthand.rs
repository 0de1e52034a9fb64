//! Functions that stand for an expression: `epoch_ms(t)` for a product, `variance(x)` for `var_samp(x)`.
//!
//! The planner sees a function with the type of that expression, and [`rewrite`](super::rewrite) puts the expression in its
//! place before types are coerced.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::{Column, DFSchema, Result, internal_err, plan_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::manual::Entry;

/// A function and the expression that it stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shorthand {
    /// Its name in SQL.
    pub(super) name: &'static str,
    /// Other names.
    pub(super) aliases: &'static [&'static str],
    /// How it is called, for errors.
    pub(super) usage: &'static str,
    /// What it gives, for people.
    pub(super) doc: &'static str,
    /// The expression for these arguments; `None` if their number is wrong.
    pub(super) expand: fn(&[Expr]) -> Option<Expr>,
}

impl Shorthand {
    /// The function, to be registered.
    pub(super) fn function(self) -> ScalarUDF {
        let signature = Signature::user_defined(Volatility::Immutable);
        let aliases = self.aliases.iter().map(|&alias| alias.to_owned()).collect();
        ScalarUDF::new_from_impl(Declared { shorthand: self, signature, aliases })
    }
}

/// What a call stands for, if its function is a [`Shorthand`].
pub(super) fn expanded(function: &ScalarUDF, args: &[Expr]) -> Option<Result<Expr>> {
    function.inner().downcast_ref::<Declared>().map(|declared| declared.expand(args))
}

/// What a function is for people, if it is a [`Shorthand`].
pub(super) fn about(function: &ScalarUDF) -> Option<Entry> {
    let Declared { shorthand, .. } = function.inner().downcast_ref()?;
    Some(Entry::new(shorthand.usage, shorthand.doc))
}

#[derive(Debug)]
struct Declared {
    shorthand: Shorthand,
    signature: Signature,
    aliases: Vec<String>,
}

impl PartialEq for Declared {
    fn eq(&self, other: &Declared) -> bool {
        self.shorthand.name == other.shorthand.name
    }
}

impl Eq for Declared {}

impl Hash for Declared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.shorthand.name.hash(state);
    }
}

impl Declared {
    fn expand(&self, args: &[Expr]) -> Result<Expr> {
        match (self.shorthand.expand)(args) {
            Some(expr) => Ok(expr),
            None => plan_err!("{} takes other arguments: write {}", self.shorthand.name, self.shorthand.usage),
        }
    }
}

impl ScalarUDFImpl for Declared {
    fn name(&self) -> &str {
        self.shorthand.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(types.to_vec())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type of {} depends on its arguments' fields", self.shorthand.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let name = |position: usize| format!("argument {position}");
        let fields: Vec<Field> = args
            .arg_fields
            .iter()
            .enumerate()
            .map(|(position, field)| Field::new(name(position), field.data_type().clone(), true))
            .collect();
        let stand_ins: Vec<Expr> = args
            .scalar_arguments
            .iter()
            .enumerate()
            .map(|(position, constant)| match constant {
                Some(value) => Expr::Literal((*value).clone(), None),
                None => Expr::Column(Column::new_unqualified(name(position))),
            })
            .collect();
        let schema = DFSchema::try_from(Schema::new(fields))?;
        let data_type = self.expand(&stand_ins)?.get_type(&schema)?;
        Ok(Arc::new(Field::new(self.shorthand.name, data_type, true)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("{} was not replaced by its expression", self.shorthand.name)
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.expand(&args).map(ExprSimplifyResult::Simplified)
    }
}
