//! Digests of texts and bytes: `md5`, `sha256` and `digest`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::ColumnarValue;
use md5::Md5;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::scalar::{Call, Scalar, Types};

/// In hexadecimal digits, as in PostgreSQL and DuckDB.
pub(super) const MD5: Scalar = Scalar {
    name: "md5",
    aliases: &[],
    usage: "md5(text)",
    doc: "The MD5 digest of a text or of bytes, in hexadecimal digits.",
    types: to_text,
    body: |call| hexadecimal(call, digest::<Md5>),
    grows_with: None,
};

/// In hexadecimal digits, as in DuckDB. PostgreSQL gives bytes: `digest(text, 'sha256')`.
pub(super) const SHA256: Scalar = Scalar {
    name: "sha256",
    aliases: &[],
    usage: "sha256(text)",
    doc: "The SHA-256 digest of a text or of bytes, in hexadecimal digits.",
    types: to_text,
    body: |call| hexadecimal(call, digest::<Sha256>),
    grows_with: None,
};

/// As bytes, by the name of the method.
pub(super) const DIGEST: Scalar = Scalar {
    name: "digest",
    aliases: &[],
    usage: "digest(text, 'sha256')",
    doc: "The digest of a text or of bytes, as bytes, by the name of the method.",
    types: |types| match types {
        [value, method] if method.is_string() => Some((vec![bytes_or_text(value)?, DataType::Utf8], DataType::Binary)),
        _ => None,
    },
    body: |call| {
        let method = match call.text(1).map(str::to_lowercase).as_deref() {
            Some("md5") => digest::<Md5>,
            Some("sha224") => digest::<Sha224>,
            Some("sha256") => digest::<Sha256>,
            Some("sha384") => digest::<Sha384>,
            Some("sha512") => digest::<Sha512>,
            _ => return plan_err!("a digest is md5, sha224, sha256, sha384 or sha512: write digest(text, 'sha256')"),
        };
        let array = call.array(0)?;
        let digests = bytes(&array).map(|bytes| bytes.map(method));
        call.give(Arc::new(digests.collect::<BinaryArray>()))
    },
    grows_with: None,
};

fn digest<D: Digest>(bytes: &[u8]) -> Vec<u8> {
    D::digest(bytes).to_vec()
}

fn bytes_or_text(ty: &DataType) -> Option<DataType> {
    match ty {
        text if text.is_string() || text.is_null() => Some(DataType::Utf8),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Some(DataType::Binary),
        _ => None,
    }
}

fn to_text(types: &[DataType]) -> Option<Types> {
    match types {
        [value] => Some((vec![bytes_or_text(value)?], DataType::Utf8)),
        _ => None,
    }
}

fn bytes(array: &ArrayRef) -> Box<dyn Iterator<Item = Option<&[u8]>> + '_> {
    match array.data_type() {
        DataType::Binary => Box::new(array.as_binary::<i32>().iter()),
        _ => Box::new(array.as_string::<i32>().iter().map(|text| text.map(str::as_bytes))),
    }
}

fn hexadecimal(call: &Call<'_>, method: fn(&[u8]) -> Vec<u8>) -> Result<ColumnarValue> {
    let array = call.array(0)?;
    let digits = |bytes: &[u8]| {
        let digit = |number: u8| char::from_digit(number.into(), 16);
        method(bytes).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).flatten().collect::<String>()
    };
    let texts = bytes(&array).map(|bytes| bytes.map(digits));
    call.give(Arc::new(texts.collect::<StringArray>()))
}

#[cfg(test)]
mod tests {
    use datafusion::common::ScalarValue;

    use super::super::scalar::called;
    use super::*;

    #[test]
    fn digests_are_those_of_postgresql_and_duckdb() {
        let of = |scalar, args: &[ScalarValue]| {
            let args: Vec<ColumnarValue> = args.iter().cloned().map(ColumnarValue::Scalar).collect();
            match called(scalar, &args, &DataType::Utf8).unwrap() {
                ColumnarValue::Scalar(value) => value,
                other @ ColumnarValue::Array(_) => panic!("{other:?}"),
            }
        };
        assert_eq!(of(MD5, &["a".into()]), "0cc175b9c0f1b6a831c399e269772661".into());
        let sha256 = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        assert_eq!(of(SHA256, &["a".into()]), sha256.into());
        assert!(of(MD5, &[ScalarValue::Utf8(None)]).is_null());
        let ScalarValue::Binary(Some(bytes)) = of(DIGEST, &["a".into(), "SHA256".into()]) else { panic!() };
        assert_eq!((bytes.len(), bytes[0]), (32, 0xca));
    }
}
