//! How a function of one row is declared: a name, its types, and what it computes from whole columns.

use std::hash::{Hash, Hasher};

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::manual::Entry;

/// The types that arguments are cast to, and that of the result.
pub(super) type Types = (Vec<DataType>, DataType);

/// What a function computes, and of which types.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalar {
    /// Its name in SQL.
    pub(super) name: &'static str,
    /// Other names.
    pub(super) aliases: &'static [&'static str],
    /// How it is called, for errors.
    pub(super) usage: &'static str,
    /// What it gives, for people. Empty if only plans call it.
    pub(super) doc: &'static str,
    /// The types that its arguments are cast to, and that of its result. `None` if it does not take such arguments.
    pub(super) types: fn(&[DataType]) -> Option<Types>,
    /// Its result for arguments of these types.
    pub(super) body: fn(&Call<'_>) -> Result<ColumnarValue>,
    /// Whether the result grows with the argument at this position, if all others are constants.
    pub(super) grows_with: Option<usize>,
}

/// The arguments of one call.
pub(super) struct Call<'a> {
    /// Constants and columns.
    pub(super) args: &'a [ColumnarValue],
    /// The type of the result.
    pub(super) returns: &'a DataType,
    rows: usize,
}

impl Call<'_> {
    /// The argument at this position as a column.
    pub(super) fn array(&self, position: usize) -> Result<ArrayRef> {
        match self.args.get(position) {
            Some(argument) => argument.to_array(self.rows),
            None => plan_err!("argument {} is missing", position + 1),
        }
    }

    /// The argument at this position if it is a constant.
    pub(super) fn constant(&self, position: usize) -> Option<&ScalarValue> {
        match self.args.get(position) {
            Some(ColumnarValue::Scalar(value)) => Some(value),
            _ => None,
        }
    }

    /// The text at this position if it is a constant. Null is none.
    pub(super) fn text(&self, position: usize) -> Option<&str> {
        self.constant(position).and_then(|value| value.try_as_str().flatten())
    }

    /// The result: one value if all arguments are constants.
    pub(super) fn give(&self, array: ArrayRef) -> Result<ColumnarValue> {
        let constant = !self.args.is_empty() && self.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        if constant && array.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

impl Scalar {
    /// The function, to be registered or called.
    pub(super) fn function(self) -> ScalarUDF {
        let signature = Signature::user_defined(Volatility::Immutable);
        let aliases = self.aliases.iter().map(|&alias| alias.to_owned()).collect();
        ScalarUDF::new_from_impl(Declared { scalar: self, signature, aliases })
    }
}

/// What a function is for people, if it is a [`Scalar`].
pub(super) fn about(function: &ScalarUDF) -> Option<Entry> {
    let Declared { scalar, .. } = function.inner().downcast_ref()?;
    Some(Entry::new(scalar.usage, scalar.doc))
}

/// A [`Scalar`] as DataFusion takes it. Two of the same name are the same.
#[derive(Debug)]
struct Declared {
    scalar: Scalar,
    signature: Signature,
    aliases: Vec<String>,
}

impl PartialEq for Declared {
    fn eq(&self, other: &Declared) -> bool {
        self.scalar.name == other.scalar.name
    }
}

impl Eq for Declared {}

impl Hash for Declared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.scalar.name.hash(state);
    }
}

impl Declared {
    fn types(&self, types: &[DataType]) -> Result<Types> {
        match (self.scalar.types)(types) {
            Some(types) => Ok(types),
            None => {
                let given: Vec<String> = types.iter().map(ToString::to_string).collect();
                plan_err!("{} is not for ({}): write {}", self.scalar.name, given.join(", "), self.scalar.usage)
            }
        }
    }
}

impl ScalarUDFImpl for Declared {
    fn name(&self) -> &str {
        self.scalar.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(self.types(types)?.0)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(self.types(types)?.1)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        (self.scalar.body)(&Call { args: &args.args, returns: args.return_type(), rows: args.number_rows })
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        let Some(position) = self.scalar.grows_with else { return Ok(SortProperties::Unordered) };
        let others = inputs.iter().enumerate().filter(|(other, _)| *other != position);
        let fixed = others.into_iter().all(|(_, input)| input.sort_properties == SortProperties::Singleton);
        let sorted = inputs.get(position).map(|input| input.sort_properties).filter(|_| fixed);
        Ok(sorted.unwrap_or(SortProperties::Unordered))
    }
}

/// Calls a function with constants.
#[cfg(test)]
pub(super) fn called(scalar: Scalar, args: &[ColumnarValue], returns: &DataType) -> Result<ColumnarValue> {
    let rows = args.iter().find_map(|arg| match arg {
        ColumnarValue::Array(array) => Some(array.len()),
        ColumnarValue::Scalar(_) => None,
    });
    (scalar.body)(&Call { args, returns, rows: rows.unwrap_or(1) })
}
