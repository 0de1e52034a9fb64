//! The types of SQL, for clients that ask for them by `CommandGetXdbcTypeInfo`.

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};

/// Exact and approximate numbers: name, type, decimal digits.
const NUMBERS: &[(&str, XdbcDataType, i32)] = &[
    ("TINYINT", XdbcDataType::XdbcTinyint, 3),
    ("SMALLINT", XdbcDataType::XdbcSmallint, 5),
    ("INTEGER", XdbcDataType::XdbcInteger, 10),
    ("BIGINT", XdbcDataType::XdbcBigint, 19),
    ("REAL", XdbcDataType::XdbcReal, 7),
    ("DOUBLE", XdbcDataType::XdbcDouble, 15),
    ("DECIMAL", XdbcDataType::XdbcDecimal, 38),
];

/// Times: name, type, subcode, characters of a value.
const TIMES: &[(&str, XdbcDataType, XdbcDatetimeSubcode, i32)] = &[
    // The number of a year is also that of a date.
    ("DATE", XdbcDataType::XdbcDate, XdbcDatetimeSubcode::XdbcSubcodeYear, 10),
    ("TIME", XdbcDataType::XdbcTime, XdbcDatetimeSubcode::XdbcSubcodeTime, 15),
    ("TIMESTAMP", XdbcDataType::XdbcTimestamp, XdbcDatetimeSubcode::XdbcSubcodeTimestamp, 26),
];

/// The answers to `CommandGetXdbcTypeInfo`.
pub(super) fn all() -> Result<XdbcTypeInfoData, FlightError> {
    let mut types = XdbcTypeInfoDataBuilder::new();
    for (name, data_type, digits) in NUMBERS {
        let is_decimal = *data_type == XdbcDataType::XdbcDecimal;
        types.append(XdbcTypeInfo {
            column_size: Some(*digits),
            create_params: is_decimal.then(|| vec!["precision".into(), "scale".into()]),
            minimum_scale: is_decimal.then_some(0),
            maximum_scale: is_decimal.then_some(*digits),
            unsigned_attribute: Some(false),
            auto_increment: Some(false),
            num_prec_radix: Some(10),
            ..base(name, *data_type)
        });
    }
    for (name, data_type, subcode, characters) in TIMES {
        types.append(XdbcTypeInfo {
            column_size: Some(*characters),
            sql_data_type: XdbcDataType::XdbcDatetime,
            datetime_subcode: Some(*subcode),
            ..quoted(&format!("{name} '"), base(name, *data_type))
        });
    }
    types.append(base("BOOLEAN", XdbcDataType::XdbcBit));
    types.append(quoted("'", XdbcTypeInfo { case_sensitive: true, ..base("VARCHAR", XdbcDataType::XdbcVarchar) }));
    types.append(quoted("X'", base("VARBINARY", XdbcDataType::XdbcVarbinary)));
    types.append(quoted("INTERVAL '", base("INTERVAL", XdbcDataType::XdbcInterval)));
    types.build()
}

fn base(name: &str, data_type: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type,
        sql_data_type: data_type,
        nullable: Nullable::NullabilityNullable,
        case_sensitive: false,
        searchable: Searchable::Full,
        ..XdbcTypeInfo::default()
    }
}

fn quoted(prefix: &str, info: XdbcTypeInfo) -> XdbcTypeInfo {
    XdbcTypeInfo { literal_prefix: Some(prefix.to_owned()), literal_suffix: Some("'".to_owned()), ..info }
}
