//! Functions by which SQL tools ask what they are connected to.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use super::place::CATALOG;

/// Who asks. There are no users.
const USER: &str = "kymo";

/// The functions, to be registered with a session.
pub(super) fn functions() -> Vec<ScalarUDF> {
    const USERS: &[&str] = &["current_role", "current_user", "session_user", "user"];
    const CATALOGS: &[&str] = &["current_catalog", "current_database"];
    const PRIVILEGES: &[&str] =
        &["has_column_privilege", "has_database_privilege", "has_schema_privilege", "has_table_privilege"];
    let text = |value: &str| Answer::Constant(ScalarValue::from(value));
    let mut functions = vec![
        ("version", text(concat!("kymo ", env!("CARGO_PKG_VERSION")))),
        ("current_schema", Answer::Schema),
        ("pg_typeof", Answer::TypeName),
        ("quote_ident", Answer::Quoted),
    ];
    functions.extend(USERS.iter().map(|name| (*name, text(USER))));
    functions.extend(CATALOGS.iter().map(|name| (*name, text(CATALOG))));
    functions.extend(PRIVILEGES.iter().map(|name| (*name, Answer::Constant(ScalarValue::from(true)))));
    functions.into_iter().map(|(name, answer)| ScalarUDF::new_from_impl(Tool::new(name, answer))).collect()
}

/// What a function answers.
#[derive(Clone, Debug)]
enum Answer {
    Constant(ScalarValue),
    /// The schema where tables are looked for.
    Schema,
    /// PostgreSQL's name of the argument's type.
    TypeName,
    /// The argument, in double quotes if it is no plain name.
    Quoted,
}

#[derive(Debug)]
struct Tool {
    name: &'static str,
    answer: Answer,
    signature: Signature,
}

impl Tool {
    fn new(name: &'static str, answer: Answer) -> Tool {
        let signature = match &answer {
            Answer::TypeName => TypeSignature::Any(1),
            Answer::Quoted => TypeSignature::String(1),
            Answer::Constant(ScalarValue::Boolean(_)) => TypeSignature::VariadicAny,
            Answer::Constant(_) | Answer::Schema => TypeSignature::Nullary,
        };
        Tool { name, answer, signature: Signature::new(signature, Volatility::Stable) }
    }
}

impl PartialEq for Tool {
    fn eq(&self, other: &Tool) -> bool {
        self.name == other.name
    }
}

impl Eq for Tool {}

impl Hash for Tool {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Tool {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match &self.answer {
            Answer::Constant(value) => value.data_type(),
            Answer::Schema | Answer::TypeName | Answer::Quoted => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let text = |value: &str| Ok(ColumnarValue::Scalar(ScalarValue::from(value)));
        match &self.answer {
            Answer::Constant(value) => Ok(ColumnarValue::Scalar(value.clone())),
            Answer::Schema => text(&args.config_options.catalog.default_schema),
            Answer::TypeName => text(args.arg_fields.first().map_or("unknown", |field| type_name(field.data_type()))),
            Answer::Quoted => {
                let Some(argument) = args.args.first() else { return exec_err!("{} takes a text", self.name) };
                let names = cast(&argument.to_array(args.number_rows)?, &DataType::Utf8)?;
                let quoted: StringArray = names.as_string::<i32>().iter().map(|name| name.map(quoted)).collect();
                let quoted: ArrayRef = Arc::new(quoted);
                Ok(ColumnarValue::Array(quoted))
            }
        }
    }
}

/// PostgreSQL's name of a type.
pub(super) fn type_name(ty: &DataType) -> &'static str {
    match ty {
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => "smallint",
        DataType::UInt16 | DataType::Int32 => "integer",
        DataType::UInt32 | DataType::Int64 | DataType::UInt64 => "bigint",
        DataType::Float16 | DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytea",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time without time zone",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        DataType::Timestamp(_, None) => "timestamp without time zone",
        DataType::Duration(_) | DataType::Interval(_) => "interval",
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            "numeric"
        }
        DataType::Dictionary(_, values) => type_name(values),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => "anyarray",
        DataType::Struct(_) => "record",
        _ => "unknown",
    }
}

fn quoted(name: &str) -> String {
    let is_plain = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_they_must_be() {
        for (name, expected) in
            [("cpu", "cpu"), ("rx_bytes2", "rx_bytes2"), ("Cpu", "\"Cpu\""), ("a\"b", "\"a\"\"b\""), ("", "\"\"")]
        {
            assert_eq!(quoted(name), expected);
        }
    }
}
