//! The answers to Flight SQL commands about the database: catalogs, schemas, tables, keys.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::sql::{Command, CommandGetTables};
use tonic::Status;

use super::{info, types};
use crate::query::about::rows::{self, Described};
use crate::query::request::Options;
use crate::query::{CATALOG, SCHEMA, wire_schema};

/// The types of tables.
const TABLE: &str = "TABLE";
const VIEW: &str = "VIEW";
/// What standard SQL calls a table.
const BASE_TABLE: &str = "BASE TABLE";

/// The answer to a command that is not a statement. `views` are the views with their columns.
pub(super) fn answer(
    command: Command,
    options: &Options,
    time_max: Duration,
    views: Vec<Described>,
) -> Result<RecordBatch, Status> {
    match command {
        Command::CommandGetSqlInfo(command) => info::sql(time_max).and_then(|info| command.into_builder(&info).build()),
        Command::CommandGetXdbcTypeInfo(command) => types::all().and_then(|types| command.into_builder(&types).build()),
        Command::CommandGetCatalogs(command) => {
            let mut catalogs = command.into_builder();
            catalogs.append(CATALOG);
            catalogs.build()
        }
        Command::CommandGetDbSchemas(command) => {
            let mut schemas = command.into_builder();
            schemas.append(CATALOG, SCHEMA);
            schemas.build()
        }
        Command::CommandGetTables(command) => tables(command, options.nanoseconds, views),
        Command::CommandGetTableTypes(command) => {
            let mut types = command.into_builder();
            [TABLE, VIEW].into_iter().for_each(|ty| types.append(ty));
            types.build()
        }
        // A time series has no keys.
        Command::CommandGetPrimaryKeys(_) => Ok(RecordBatch::new_empty(primary_keys())),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => Ok(RecordBatch::new_empty(foreign_keys())),
        Command::CommandStatementSubstraitPlan(_) => {
            return Err(Status::unimplemented("Substrait plans are not offered: send SQL in a CommandStatementQuery"));
        }
        Command::CommandStatementUpdate(_)
        | Command::CommandPreparedStatementUpdate(_)
        | Command::CommandStatementIngest(_) => return Err(Status::unimplemented("kymo answers queries only")),
        other => return Err(Status::unimplemented(format!("{} is not offered here", other.type_url()))),
    }
    // Answers are built from constants, so an error is a bug.
    .map_err(|error| Status::internal(format!("building the answer: {error}")))
}

fn tables(mut command: CommandGetTables, nanoseconds: bool, views: Vec<Described>) -> Result<RecordBatch, FlightError> {
    // Clients write the types in any case, and some call a table a base table.
    for ty in &mut command.table_types {
        let known = [(TABLE, TABLE), (BASE_TABLE, TABLE), (VIEW, VIEW)];
        if let Some((_, known)) = known.into_iter().find(|(name, _)| ty.eq_ignore_ascii_case(name)) {
            known.clone_into(ty);
        }
    }
    let mut tables = command.into_builder();
    for table in rows::tables().chain(views) {
        let ty = if table.is_view() { VIEW } else { TABLE };
        tables.append(CATALOG, SCHEMA, &table.name, ty, &described(&table, nanoseconds))?;
    }
    tables.build()
}

/// The table's schema as results have it. The metadata has the remarks that clients show beside a column, too.
fn described(table: &Described, nanoseconds: bool) -> Schema {
    let wire = wire_schema(&table.schema, &[], nanoseconds);
    let fields = wire.fields().iter().zip(table.schema.fields()).map(|(field, told)| {
        let ty = match field.data_type() {
            DataType::Int64 => "BIGINT",
            DataType::Float64 => "DOUBLE",
            DataType::Boolean => "BOOLEAN",
            DataType::Date32 => "DATE",
            DataType::Timestamp(_, _) => "TIMESTAMP",
            _ => "VARCHAR",
        };
        let told = told.metadata();
        let about = |key: &str| told.get(key).map_or("", String::as_str);
        let (doc, unit) = (about("kymo.doc"), about("kymo.unit"));
        let remarks = match about("kymo.kind") {
            "counter" => format!("{doc} Cumulative. [{unit}]"),
            "gauge" => format!("{doc} [{unit}]"),
            _ => doc.to_owned(),
        };
        let metadata = [
            ("CATALOG_NAME", CATALOG.to_owned()),
            ("SCHEMA_NAME", SCHEMA.to_owned()),
            ("TABLE_NAME", table.name.clone()),
            ("TYPE_NAME", ty.to_owned()),
            ("IS_READ_ONLY", "1".to_owned()),
            ("IS_SEARCHABLE", "1".to_owned()),
            ("REMARKS", remarks),
        ];
        let metadata = metadata.map(|(key, value)| (format!("ARROW:FLIGHT:SQL:{key}"), value));
        field.as_ref().clone().with_metadata(told.clone().into_iter().chain(metadata).collect())
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// The schema that the protocol gives for `CommandGetPrimaryKeys`.
fn primary_keys() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

/// The schema that the protocol gives for exported and imported keys and cross references.
fn foreign_keys() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}
