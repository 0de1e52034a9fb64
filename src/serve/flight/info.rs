//! What kymo says of its SQL and its types to clients that adapt to their database.

use std::sync::LazyLock;

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    Nullable, Searchable, SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity, SqlSupportedGroupBy,
    SqlSupportedTransaction, SqlSupportedUnions, SupportedSqlGrammar, XdbcDataType, XdbcDatetimeSubcode,
};
use tonic::Status;

static SQL: LazyLock<Result<SqlInfoData, FlightError>> = LazyLock::new(build_sql);
static TYPES: LazyLock<Result<XdbcTypeInfoData, FlightError>> = LazyLock::new(build_types);

/// The answers to `CommandGetSqlInfo`.
pub(super) fn sql() -> Result<&'static SqlInfoData, Status> {
    SQL.as_ref().map_err(internal)
}

/// The answers to `CommandGetXdbcTypeInfo`.
pub(super) fn types() -> Result<&'static XdbcTypeInfoData, Status> {
    TYPES.as_ref().map_err(internal)
}

fn internal(error: &FlightError) -> Status {
    Status::internal(format!("building the answer: {error}"))
}

fn build_sql() -> Result<SqlInfoData, FlightError> {
    let bits = |flags: &[i32]| flags.iter().fold(0_i32, |bits, flag| bits | (1 << flag));
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "kymo");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerCancel, false);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, 0_i32);
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0_i32);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, false);
    let lower = i64::from(SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32);
    info.append(SqlInfo::SqlIdentifierCase, lower);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    let exact = i64::from(SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32);
    info.append(SqlInfo::SqlQuotedIdentifierCase, exact);
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(SqlInfo::SqlNullOrdering, i64::from(SqlNullOrdering::SqlNullsSortedHigh as i32));
    info.append(
        SqlInfo::SqlNumericFunctions,
        ["abs", "ceil", "floor", "ln", "log10", "power", "round", "sqrt"].as_slice(),
    );
    info.append(
        SqlInfo::SqlStringFunctions,
        ["concat", "length", "lower", "replace", "substr", "trim", "upper"].as_slice(),
    );
    info.append(SqlInfo::SqlDatetimeFunctions, ["date_bin", "date_part", "date_trunc", "now"].as_slice());
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlSupportsColumnAliasing, true);
    info.append(SqlInfo::SqlNullPlusNullIsNull, true);
    info.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    info.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
    info.append(SqlInfo::SqlSupportsExpressionsInOrderBy, true);
    info.append(SqlInfo::SqlSupportsOrderByUnrelated, true);
    let group_by =
        [SqlSupportedGroupBy::SqlGroupByUnrelated as i32, SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32];
    info.append(SqlInfo::SqlSupportedGroupBy, bits(&group_by));
    info.append(SqlInfo::SqlSupportsLikeEscapeClause, true);
    info.append(SqlInfo::SqlSupportsNonNullableColumns, true);
    info.append(SqlInfo::SqlSupportedGrammar, bits(&[SupportedSqlGrammar::SqlMinimumGrammar as i32]));
    let unions = [SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32];
    info.append(SqlInfo::SqlSupportedUnions, bits(&unions));
    info.build()
}

fn build_types() -> Result<XdbcTypeInfoData, FlightError> {
    let base = |name: &str, data_type: XdbcDataType| XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type,
        sql_data_type: data_type,
        nullable: Nullable::NullabilityNullable,
        case_sensitive: false,
        searchable: Searchable::Full,
        ..XdbcTypeInfo::default()
    };
    let number = |name, data_type, digits| XdbcTypeInfo {
        column_size: Some(digits),
        unsigned_attribute: Some(false),
        auto_increment: Some(false),
        num_prec_radix: Some(10),
        ..base(name, data_type)
    };
    let quoted = |prefix: &str, info| XdbcTypeInfo {
        literal_prefix: Some(prefix.to_owned()),
        literal_suffix: Some("'".to_owned()),
        ..info
    };
    let mut types = XdbcTypeInfoDataBuilder::new();
    types.append(number("BIGINT", XdbcDataType::XdbcBigint, 19));
    types.append(number("DOUBLE", XdbcDataType::XdbcDouble, 15));
    types.append(base("BOOLEAN", XdbcDataType::XdbcBit));
    types.append(quoted("'", XdbcTypeInfo { case_sensitive: true, ..base("VARCHAR", XdbcDataType::XdbcVarchar) }));
    types.append(quoted(
        "TIMESTAMP '",
        XdbcTypeInfo {
            column_size: Some(26),
            sql_data_type: XdbcDataType::XdbcDatetime,
            datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeTimestamp),
            ..base("TIMESTAMP", XdbcDataType::XdbcTimestamp)
        },
    ));
    types.build()
}
