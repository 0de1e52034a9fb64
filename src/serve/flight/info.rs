//! Facts about kymo's SQL and types, for clients that adapt to their database.

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    Nullable, Searchable, SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity,
    SqlSupportedGroupBy, SqlSupportedSubqueries, SqlSupportedTransaction, SqlSupportedUnions,
    SqlTransactionIsolationLevel, SupportedSqlGrammar, XdbcDataType, XdbcDatetimeSubcode,
};

/// Answers that are yes or no. JDBC treats a missing one as an error.
const SWITCHES: &[(SqlInfo, bool)] = &[
    (SqlInfo::FlightSqlServerReadOnly, true),
    (SqlInfo::FlightSqlServerSql, true),
    (SqlInfo::FlightSqlServerSubstrait, false),
    (SqlInfo::FlightSqlServerCancel, false),
    (SqlInfo::FlightSqlServerBulkIngestion, false),
    (SqlInfo::FlightSqlServerIngestTransactionsSupported, false),
    (SqlInfo::SqlDdlCatalog, false),
    (SqlInfo::SqlDdlSchema, false),
    (SqlInfo::SqlDdlTable, false),
    (SqlInfo::SqlAllTablesAreSelectable, true),
    (SqlInfo::SqlSupportsColumnAliasing, true),
    (SqlInfo::SqlNullPlusNullIsNull, true),
    (SqlInfo::SqlSupportsTableCorrelationNames, true),
    (SqlInfo::SqlSupportsDifferentTableCorrelationNames, false),
    (SqlInfo::SqlSupportsExpressionsInOrderBy, true),
    (SqlInfo::SqlSupportsOrderByUnrelated, true),
    (SqlInfo::SqlSupportsLikeEscapeClause, true),
    (SqlInfo::SqlSupportsNonNullableColumns, true),
    (SqlInfo::SqlSupportsIntegrityEnhancementFacility, false),
    (SqlInfo::SqlCatalogAtStart, true),
    (SqlInfo::SqlSelectForUpdateSupported, false),
    (SqlInfo::SqlStoredProceduresSupported, false),
    (SqlInfo::SqlCorrelatedSubqueriesSupported, true),
    (SqlInfo::SqlMaxRowSizeIncludesBlobs, true),
    (SqlInfo::SqlTransactionsSupported, false),
    (SqlInfo::SqlDataDefinitionCausesTransactionCommit, false),
    (SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false),
    (SqlInfo::SqlBatchUpdatesSupported, false),
    (SqlInfo::SqlSavepointsSupported, false),
    (SqlInfo::SqlNamedParametersSupported, false),
    (SqlInfo::SqlLocatorsUpdateCopy, false),
    (SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false),
];

/// Sizes without a fixed limit, for which the answer is 0.
const UNLIMITED: &[SqlInfo] = &[
    SqlInfo::SqlMaxBinaryLiteralLength,
    SqlInfo::SqlMaxCharLiteralLength,
    SqlInfo::SqlMaxColumnNameLength,
    SqlInfo::SqlMaxColumnsInGroupBy,
    SqlInfo::SqlMaxColumnsInIndex,
    SqlInfo::SqlMaxColumnsInOrderBy,
    SqlInfo::SqlMaxColumnsInSelect,
    SqlInfo::SqlMaxColumnsInTable,
    SqlInfo::SqlMaxConnections,
    SqlInfo::SqlMaxCursorNameLength,
    SqlInfo::SqlMaxIndexLength,
    SqlInfo::SqlDbSchemaNameLength,
    SqlInfo::SqlMaxProcedureNameLength,
    SqlInfo::SqlMaxCatalogNameLength,
    SqlInfo::SqlMaxRowSize,
    SqlInfo::SqlMaxStatementLength,
    SqlInfo::SqlMaxStatements,
    SqlInfo::SqlMaxTableNameLength,
    SqlInfo::SqlMaxTablesInSelect,
    SqlInfo::SqlMaxUsernameLength,
];

const NOTHING: &[&str] = &[];

/// The answers to `CommandGetSqlInfo`.
pub(super) fn sql() -> Result<SqlInfoData, FlightError> {
    let bits = |flags: &[i32]| flags.iter().fold(0_i32, |bits, flag| bits | (1 << flag));
    let mut info = SqlInfoDataBuilder::new();
    for (name, value) in SWITCHES {
        info.append(*name, *value);
    }
    for name in UNLIMITED {
        info.append(*name, 0_i64);
    }

    info.append(SqlInfo::FlightSqlServerName, "kymo");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlExtraNameCharacters, "");
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    info.append(SqlInfo::SqlSchemaTerm, "schema");
    info.append(SqlInfo::SqlProcedureTerm, "procedure");

    let functions = ["abs", "ceil", "floor", "ln", "log10", "power", "round", "sqrt"];
    info.append(SqlInfo::SqlNumericFunctions, functions.as_slice());
    let functions = ["concat", "length", "lower", "replace", "substr", "trim", "upper"];
    info.append(SqlInfo::SqlStringFunctions, functions.as_slice());
    let functions = ["date_bin", "date_part", "date_trunc", "now"];
    info.append(SqlInfo::SqlDatetimeFunctions, functions.as_slice());
    info.append(SqlInfo::SqlSystemFunctions, NOTHING);
    info.append(SqlInfo::SqlKeywords, NOTHING);

    // Unquoted names are folded to lower case. Quoted names keep their case.
    let lower = SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase;
    info.append(SqlInfo::SqlIdentifierCase, i64::from(lower as i32));
    let kept = SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive;
    info.append(SqlInfo::SqlQuotedIdentifierCase, i64::from(kept as i32));
    info.append(SqlInfo::SqlNullOrdering, i64::from(SqlNullOrdering::SqlNullsSortedAtEnd as i32));
    let joins = SqlOuterJoinsSupportLevel::SqlFullOuterJoins;
    info.append(SqlInfo::SqlOuterJoinsSupportLevel, i64::from(joins as i32));
    let isolation = SqlTransactionIsolationLevel::SqlTransactionNone;
    info.append(SqlInfo::SqlDefaultTransactionIsolation, i64::from(isolation as i32));

    // The values of `FLIGHT_SQL_SERVER_*` and bit masks have the 32-bit type, ordinals the 64-bit type.
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, 0_i32);
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0_i32);
    let group_by =
        [SqlSupportedGroupBy::SqlGroupByUnrelated as i32, SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32];
    info.append(SqlInfo::SqlSupportedGroupBy, bits(&group_by));
    info.append(SqlInfo::SqlSupportedGrammar, bits(&[SupportedSqlGrammar::SqlMinimumGrammar as i32]));
    info.append(SqlInfo::SqlAnsi92SupportedLevel, bits(&[0]));
    let unions = [SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32];
    info.append(SqlInfo::SqlSupportedUnions, bits(&unions));
    let subqueries = [
        SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
        SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
        SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
    ];
    info.append(SqlInfo::SqlSupportedSubqueries, bits(&subqueries));
    for nothing in [
        SqlInfo::SqlSchemasSupportedActions,
        SqlInfo::SqlCatalogsSupportedActions,
        SqlInfo::SqlSupportedPositionedCommands,
        SqlInfo::SqlSupportedTransactionsIsolationLevels,
        SqlInfo::SqlSupportedResultSetTypes,
    ] {
        info.append(nothing, 0_i32);
    }
    info.build()
}

/// The answers to `CommandGetXdbcTypeInfo`.
pub(super) fn types() -> Result<XdbcTypeInfoData, FlightError> {
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
