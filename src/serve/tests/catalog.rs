//! What clients ask about tables, types and the server.

use arrow::array::AsArray;
use arrow::datatypes::Schema;
use arrow_flight::IpcMessage;
use arrow_flight::sql::{
    CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, SqlInfo, XdbcDataType,
};

use super::{TestServer, fetch, rows};
use crate::family::{FAMILIES, Family};

#[tokio::test]
async fn the_catalog_lists_every_family_with_its_columns() {
    let server = TestServer::start();
    let mut client = server.sql().await;
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(fetch(&mut client, info).await.column(0).as_string::<i32>().value(0), "kymo");
    let info = client.get_db_schemas(CommandGetDbSchemas::default()).await.unwrap();
    assert_eq!(fetch(&mut client, info).await.column(1).as_string::<i32>().value(0), "public");
    let info = client.get_table_types().await.unwrap();
    let types = fetch(&mut client, info).await;
    assert_eq!(types.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["TABLE", "VIEW"]);

    let info = client.get_tables(CommandGetTables::default()).await.unwrap();
    let tables = fetch(&mut client, info).await;
    let mut expected: Vec<_> = FAMILIES.iter().map(Family::name).chain(["lost"]).collect();
    expected.sort_unstable();
    assert_eq!(tables.column(2).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), expected);

    let filter = CommandGetTables {
        table_name_filter_pattern: Some("ga_".to_owned()),
        include_schema: true,
        ..CommandGetTables::default()
    };
    let info = client.get_tables(filter).await.unwrap();
    let tables = fetch(&mut client, info).await;
    assert_eq!(tables.column(2).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["gap"]);
    let schema = IpcMessage(tables.column(4).as_binary::<i32>().value(0).to_vec().into());
    let schema = Schema::try_from(schema).unwrap();
    let selected = rows(&mut client, "SELECT * FROM gap").await.schema();
    let types = |schema: &Schema| {
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect::<Vec<_>>()
    };
    assert_eq!(types(&schema), types(&selected));
    assert!(schema.field(1).metadata()["ARROW:FLIGHT:SQL:REMARKS"].contains("collector"));

    let views =
        CommandGetTables { table_types: vec!["view".to_owned()], include_schema: true, ..CommandGetTables::default() };
    let info = client.get_tables(views).await.unwrap();
    let views = fetch(&mut client, info).await;
    assert_eq!(views.column(2).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["lost"]);
    let schema = IpcMessage(views.column(4).as_binary::<i32>().value(0).to_vec().into());
    let schema = Schema::try_from(schema).unwrap();
    let selected = rows(&mut client, "SELECT * FROM lost").await.schema();
    assert_eq!(types(&schema), types(&selected));
    assert!(schema.field(1).metadata()["ARROW:FLIGHT:SQL:REMARKS"].ends_with("[tick]"));
}

#[tokio::test]
async fn clients_learn_what_the_server_can_do() {
    let server = TestServer::start();
    let mut client = server.sql().await;
    let info = client.get_sql_info(vec![SqlInfo::FlightSqlServerName]).await.unwrap();
    assert_eq!(fetch(&mut client, info).await.num_rows(), 1);
    let info = client.get_sql_info(vec![]).await.unwrap();
    assert!(fetch(&mut client, info).await.num_rows() > 20);
    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).await.unwrap();
    assert_eq!(fetch(&mut client, info).await.num_rows(), 14);
    let timestamps = CommandGetXdbcTypeInfo { data_type: Some(XdbcDataType::XdbcTimestamp as i32) };
    let info = client.get_xdbc_type_info(timestamps).await.unwrap();
    let types = fetch(&mut client, info).await;
    assert_eq!(types.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("TIMESTAMP")]);
    let keys = CommandGetPrimaryKeys { table: "gap".to_owned(), ..CommandGetPrimaryKeys::default() };
    let info = client.get_primary_keys(keys).await.unwrap();
    assert_eq!(fetch(&mut client, info).await.num_rows(), 0);
}
