//! Aligned tables for people.

use std::io::{self, IsTerminal, Write};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, TableComponent, Width};

use super::show;

/// The width of prose where stdout is no terminal.
const PROSE_WIDTH: u16 = 120;
/// Blanks between two columns.
const GAP: usize = 2;
/// Of these, the ones that belong to the column before.
const GAP_AFTER: u16 = 1;
/// A text is not broken into narrower pieces than this.
const WRAPPED_WIDTH_MIN: u16 = 16;

/// A table without headers and rows.
pub(super) fn without_headers() -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_style(TableComponent::VerticalLines, ' ');
    table
}

/// A table with these headers and no rows.
pub(super) fn with_headers<'a>(headers: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = without_headers();
    table.set_style(TableComponent::HeaderLines, '─');
    table.set_style(TableComponent::MiddleHeaderIntersections, ' ');
    table.set_header(headers.into_iter().map(Cell::new).collect::<Vec<_>>());
    pad(&mut table);
    table
}

fn pad(table: &mut Table) {
    let last = table.column_count().saturating_sub(1);
    for column in table.column_iter_mut() {
        column.set_padding((0, u16::from(column.index < last)));
    }
}

/// Breaks the texts of these columns, and of no others, where a line would be longer than the terminal is wide.
pub(super) fn wrap(table: &mut Table, wrapped: impl IntoIterator<Item = usize>) {
    let wrapped: Vec<_> = wrapped.into_iter().collect();
    pad(table);
    let widths = table.column_max_content_widths();
    let least = widths.iter().enumerate().map(|(index, width)| {
        let width = if wrapped.contains(&index) { (*width).min(WRAPPED_WIDTH_MIN) } else { *width };
        usize::from(width) + GAP
    });
    let least = u16::try_from(least.sum::<usize>().saturating_sub(GAP)).unwrap_or(u16::MAX);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(terminal_width().unwrap_or(PROSE_WIDTH).max(least));
    for column in table.column_iter_mut().filter(|column| !wrapped.contains(&column.index)) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
}

/// Aligns these columns right, as numbers are.
pub(super) fn align_right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// A table with the columns of `schema`, numbers aligned right.
pub(super) fn with_columns(schema: &Schema) -> Table {
    let mut table = with_headers(schema.fields().iter().map(|field| field.name().as_str()));
    let numbers = schema.fields().iter().enumerate().filter(|(_, field)| field.data_type().is_numeric());
    align_right(&mut table, numbers.map(|(index, _)| index));
    table
}

/// Adds the rows of `batch`: numbers rounded for people, null as nothing.
pub(super) fn add_rows(table: &mut Table, batch: &RecordBatch) -> Result<(), ArrowError> {
    let options = FormatOptions::default();
    let columns = batch.columns();
    let formatters: Vec<_> =
        columns.iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<_, _>>()?;
    for row in 0..batch.num_rows() {
        let cells = columns.iter().zip(&formatters).map(|(column, formatter)| cell(column, formatter, row));
        table.add_row(cells.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(())
}

fn cell(column: &ArrayRef, formatter: &ArrayFormatter<'_>, row: usize) -> Result<String, ArrowError> {
    if column.is_null(row) {
        return Ok(String::new());
    }
    match column.data_type() {
        DataType::Float64 => Ok(show::float(column.as_primitive::<Float64Type>().value(row))),
        integer if integer.is_integer() => Ok(show::integer(&formatter.value(row).try_to_string()?)),
        _ => formatter.value(row).try_to_string(),
    }
}

/// Writes what there is to say of some things, by their names, as a table of its own; nothing if there is nothing.
pub(super) fn write_notes(
    headers: [&str; 2],
    notes: impl Iterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut rows = with_headers(headers);
    for (name, text) in notes {
        rows.add_row([name.as_ref(), text.as_ref()]);
    }
    if rows.is_empty() {
        return Ok(());
    }
    wrap(&mut rows, [1]);
    writeln!(out)?;
    write(&rows, out)
}

/// Writes the table without blanks at the ends of lines.
pub(super) fn write(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    table.lines().try_for_each(|line| writeln!(out, "{}", line.trim_end()))
}

/// Writes the table, or, where a line is longer than `width`, each row as a block with a line per column.
pub(super) fn write_within(table: &Table, width: Option<u16>, out: &mut dyn Write) -> io::Result<()> {
    let headers: Vec<_> = table.header().map(|row| row.cell_iter().map(Cell::content).collect()).unwrap_or_default();
    let line_width: usize = table.column_max_content_widths().iter().map(|width| usize::from(*width) + GAP).sum();
    let fits = width.is_none_or(|width| line_width <= usize::from(width) + GAP);
    if fits || table.is_empty() {
        return write(table, out);
    }
    let name_width = headers.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    for (index, row) in table.row_iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        for (name, cell) in headers.iter().zip(row.cell_iter()) {
            writeln!(out, "{}", format!("{name:name_width$}  {}", cell.content()).trim_end())?;
        }
    }
    Ok(())
}

/// Writes rows below those that were written before, with the head again if `has_head`. Columns are at least as wide as `widths`,
/// which grow. Where a line is too long for the terminal, each row is a block.
pub(super) fn write_part(
    batch: &RecordBatch,
    has_head: bool,
    widths: &mut Vec<u16>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut table = with_columns(batch.schema_ref());
    add_rows(&mut table, batch)?;
    let found = table.column_max_content_widths();
    widths.resize(found.len(), 0);
    for ((known, found), column) in widths.iter_mut().zip(found).zip(table.column_iter_mut()) {
        *known = found.max(*known);
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*known + GAP_AFTER)));
    }
    let line_width: usize = widths.iter().map(|width| usize::from(*width) + GAP).sum();
    match terminal_width() {
        Some(width) if line_width > usize::from(width) + GAP => {
            write_within(&table, Some(width), out)?;
            writeln!(out)?;
        }
        _ => {
            // Its names and the line below them.
            let head = if has_head { 0 } else { 2 };
            table.lines().skip(head).try_for_each(|line| writeln!(out, "{}", line.trim_end()))?;
        }
    }
    Ok(())
}

/// The columns of the terminal that stdout is; none where it is no terminal.
pub(super) fn terminal_width() -> Option<u16> {
    let stdout = io::stdout();
    let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(stdout).ok())?;
    size.map(|size| size.ws_col).filter(|width| *width > 0)
}
