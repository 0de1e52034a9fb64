//! Labels as dictionaries: the same plan, with labels as their files and batches have them, and not as plain texts.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal, NotExpr, cast};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;

use super::super::file::LabelsAsDictionaries;
use super::steps::StepsExec;
use crate::record;

/// Positions of columns.
pub(in crate::query) type Columns = BTreeSet<usize>;

/// The type of labels in files and batches.
fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// The columns that an expression uses.
pub(super) fn used(expr: &Arc<dyn PhysicalExpr>) -> Columns {
    let mut columns = Columns::new();
    // What it calls cannot fail.
    let _ = expr.apply(|expr| {
        columns.extend(expr.downcast_ref::<Column>().map(Column::index));
        Ok(TreeNodeRecursion::Continue)
    });
    columns
}

/// A plan with the same rows whose columns at the positions `wanted` are dictionaries. `None` if some of these are anything but
/// labels of a table, or something on the way needs their texts.
pub(super) fn as_dictionaries(
    plan: &Arc<dyn ExecutionPlan>,
    wanted: &Columns,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if wanted.is_empty() {
        return Ok(Some(Arc::clone(plan)));
    }
    if wanted.iter().all(|at| plan.schema().fields().get(*at).is_some_and(|field| *field.data_type() == dictionary())) {
        return Ok(Some(Arc::clone(plan)));
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        return of_filter(filter, wanted);
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        return of_projection(projection, wanted);
    }
    if let Some(union) = plan.downcast_ref::<UnionExec>() {
        let inputs =
            union.inputs().iter().map(|input| as_dictionaries(input, wanted)).collect::<Result<Option<_>>>()?;
        return inputs.map(UnionExec::try_new).transpose();
    }
    if let Some(steps) = plan.downcast_ref::<StepsExec>() {
        return of_steps(steps, wanted);
    }
    match plan.downcast_ref::<DataSourceExec>().and_then(|scan| scan.downcast_to_file_source::<ParquetSource>()) {
        Some((config, source)) => of_scan(config, source, wanted),
        None => Ok(None),
    }
}

/// The same filter, which compares labels as dictionaries. What passes has texts again. `None` if it compares no labels, or they
/// have to be texts.
pub(super) fn filter_of_dictionaries(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(filter) = plan.downcast_ref::<FilterExec>() else { return Ok(None) };
    let stored = filter.input().schema();
    let is_label = |at: &usize| {
        let field = stored.field(*at);
        // The host has one value for each file, and is no dictionary.
        *field.data_type() == DataType::Utf8 && field.name() != record::Column::HOST.name
    };
    let labels: Columns = used(filter.predicate()).into_iter().filter(is_label).collect();
    if labels.is_empty() || filter.fetch().is_some() || !takes_dictionaries(filter.predicate(), &labels) {
        return Ok(None);
    }
    let Some(input) = as_dictionaries(filter.input(), &labels)? else { return Ok(None) };
    with_texts(Arc::new(with_input(filter, input)?), &plan.schema()).map(Some)
}

/// A plan whose dictionaries are texts where `plain` has them.
fn with_texts(plan: Arc<dyn ExecutionPlan>, plain: &SchemaRef) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    if *plain == schema {
        return Ok(plan);
    }
    let texts = plain.fields().iter().zip(schema.fields()).enumerate().map(|(at, (plain, field))| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), at));
        let is_text = plain.data_type() == field.data_type();
        let text = if is_text { column } else { cast(column, &schema, plain.data_type().clone())? };
        Ok((text, plain.name().clone()))
    });
    Ok(Arc::new(ProjectionExec::try_new(texts.collect::<Result<Vec<_>>>()?, plan)?))
}

/// The same filter over other rows.
fn with_input(filter: &FilterExec, input: Arc<dyn ExecutionPlan>) -> Result<FilterExec> {
    FilterExecBuilder::new(Arc::clone(filter.predicate()), input)
        .with_default_selectivity(filter.default_selectivity())
        .with_batch_size(filter.batch_size())
        .apply_projection_by_ref(filter.projection().as_ref())?
        .build()
}

fn of_filter(filter: &FilterExec, wanted: &Columns) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let below = match filter.projection() {
        Some(projection) => wanted.iter().filter_map(|at| projection.get(*at).copied()).collect(),
        None => wanted.clone(),
    };
    if below.len() != wanted.len() || filter.fetch().is_some() || !takes_dictionaries(filter.predicate(), &below) {
        return Ok(None);
    }
    let Some(input) = as_dictionaries(filter.input(), &below)? else { return Ok(None) };
    Ok(Some(Arc::new(with_input(filter, input)?)))
}

/// Whether a condition gives the same if these columns are dictionaries: it uses them in comparisons with constants only.
fn takes_dictionaries(condition: &Arc<dyn PhysicalExpr>, labels: &Columns) -> bool {
    if used(condition).is_disjoint(labels) {
        return true;
    }
    if let Some(not) = condition.downcast_ref::<NotExpr>() {
        return takes_dictionaries(not.arg(), labels);
    }
    let Some(binary) = condition.downcast_ref::<BinaryExpr>() else { return false };
    let (left, right) = (binary.left(), binary.right());
    match binary.op() {
        Operator::And | Operator::Or => takes_dictionaries(left, labels) && takes_dictionaries(right, labels),
        Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => {
            left.is::<Column>() && right.is::<Literal>() || left.is::<Literal>() && right.is::<Column>()
        }
        _ => false,
    }
}

fn of_projection(projection: &ProjectionExec, wanted: &Columns) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let stored = projection.input().schema();
    let mut below = Columns::new();
    let mut exprs = Vec::with_capacity(projection.expr().len());
    for (at, ProjectionExpr { expr, alias }) in projection.expr().iter().enumerate() {
        if !wanted.contains(&at) {
            exprs.push((Arc::clone(expr), alias.clone()));
            continue;
        }
        // Rows in memory have labels as dictionaries, and a cast to texts.
        let column = expr.downcast_ref::<CastExpr>().map_or(expr, CastExpr::expr);
        let Some(label) = column.downcast_ref::<Column>() else { return Ok(None) };
        if !Arc::ptr_eq(column, expr) && *stored.field(label.index()).data_type() != dictionary() {
            return Ok(None);
        }
        below.insert(label.index());
        exprs.push((Arc::clone(column), alias.clone()));
    }
    let others = projection.expr().iter().enumerate().filter(|(at, _)| !wanted.contains(at));
    let is_cast = |at: &usize| *stored.field(*at).data_type() == dictionary();
    if others.into_iter().any(|(_, other)| used(&other.expr).iter().any(|at| below.contains(at) && !is_cast(at))) {
        return Ok(None);
    }
    let Some(input) = as_dictionaries(projection.input(), &below)? else { return Ok(None) };
    Ok(Some(Arc::new(ProjectionExec::try_new(exprs, input)?)))
}

fn of_steps(steps: &StepsExec, wanted: &Columns) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let columns = steps.input().schema().fields().len();
    let is_used = |at: &usize| *at >= columns || steps.values().iter().any(|value| used(value).contains(at));
    if wanted.iter().any(is_used) {
        return Ok(None);
    }
    let Some(input) = as_dictionaries(steps.input(), wanted)? else { return Ok(None) };
    let schema = with_dictionaries(&steps.schema(), wanted);
    Ok(Some(Arc::new(steps.with(input, schema))))
}

fn of_scan(
    config: &FileScanConfig,
    source: &ParquetSource,
    wanted: &Columns,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let (Some(projection), Some(factory)) = (source.projection(), source.parquet_file_reader_factory()) else {
        return Ok(None);
    };
    let schema = FileSource::table_schema(source);
    let files = schema.file_schema();
    let mut labels = Columns::new();
    for at in wanted {
        let column = projection.as_ref().get(*at).and_then(|expr| expr.expr.downcast_ref::<Column>());
        // What is behind the columns of the files, the host, has one value for each file.
        match column.map(Column::index).filter(|index| *index < files.fields().len()) {
            Some(index) => labels.insert(index),
            None => return Ok(None),
        };
    }
    let others = projection.as_ref().iter().filter(|expr| !expr.expr.is::<Column>());
    let is_free = others.into_iter().all(|other| used(&other.expr).is_disjoint(&labels));
    let predicate = source.filter();
    if !is_free || predicate.as_ref().is_some_and(|predicate| !takes_dictionaries(predicate, &labels)) {
        return Ok(None);
    }
    // Columns that are read twice would have two types.
    let twice = projection.as_ref().iter().enumerate().any(|(at, expr)| {
        let column = expr.expr.downcast_ref::<Column>();
        !wanted.contains(&at) && column.is_some_and(|column| labels.contains(&column.index()))
    });
    if twice {
        return Ok(None);
    }
    let schema = TableSchema::builder(with_dictionaries(files, &labels))
        .with_table_partition_cols(schema.table_partition_cols().to_vec())
        .build();
    let mut labelled = ParquetSource::new(schema)
        .with_table_parquet_options(source.table_parquet_options().clone())
        .with_parquet_file_reader_factory(Arc::clone(factory));
    if let Some(predicate) = predicate {
        labelled = labelled.with_predicate(predicate);
    }
    let Some(labelled) = labelled.try_pushdown_projection(projection)? else { return Ok(None) };
    let groups = config.file_groups.iter().map(|group| {
        FileGroup::new(group.iter().map(|file| file.clone().with_extension(LabelsAsDictionaries)).collect())
    });
    let groups = groups.collect();
    let config = FileScanConfigBuilder::from(config.clone()).with_source(labelled).with_file_groups(groups).build();
    Ok(Some(DataSourceExec::from_data_source(config)))
}

fn with_dictionaries(schema: &SchemaRef, labels: &Columns) -> SchemaRef {
    let fields = schema.fields().iter().enumerate().map(|(at, field)| {
        let is_label = labels.contains(&at);
        if is_label { Arc::new(Field::clone(field).with_data_type(dictionary())) } else { Arc::clone(field) }
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}
