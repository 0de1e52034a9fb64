//! Aligned tables for people.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, TableComponent};

/// The width of tables that hold prose.
const WRAPPED_WIDTH: u16 = 120;

/// An empty table with these headers.
pub(super) fn with_headers<'a>(headers: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_style(TableComponent::HeaderLines, '─');
    table.set_style(TableComponent::MiddleHeaderIntersections, ' ');
    table.set_style(TableComponent::VerticalLines, ' ');
    table.set_header(headers.into_iter().map(Cell::new).collect::<Vec<_>>());
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 1));
    });
    table
}

/// Breaks long texts, so that lines stay within what a wide terminal shows.
pub(super) fn wrap(table: &mut Table) {
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(WRAPPED_WIDTH);
}

/// Lets these columns stand right, as numbers do.
pub(super) fn align_right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// The rows of `batches`, numbers to the right, null as nothing.
pub(super) fn of_batches(batches: &[RecordBatch]) -> Result<Option<Table>, ArrowError> {
    let Some(first) = batches.first() else { return Ok(None) };
    let schema = first.schema();
    let mut table = with_headers(schema.fields().iter().map(|field| field.name().as_str()));
    let options = FormatOptions::default();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            let cells = columns.iter().map(|column| column.value(row).try_to_string().map(Cell::new));
            table.add_row(cells.collect::<Result<Vec<_>, _>>()?);
        }
    }
    let numbers = schema.fields().iter().enumerate().filter(|(_, field)| field.data_type().is_numeric());
    align_right(&mut table, numbers.map(|(index, _)| index));
    Ok(Some(table))
}

/// Writes the table without blanks at the ends of lines.
pub(super) fn write(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    table.lines().try_for_each(|line| writeln!(out, "{}", line.trim_end()))
}
