//! `kymo plot`: the rows of a query as lines over time, in an SVG or PNG file.

mod axis;
mod canvas;
mod chart;
mod lines;
mod png;
mod theme;

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::Context;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use clap::Args;

use super::connect::UsageError;
use super::output::write_file;
use super::query::{Source, Taker};
use super::show;
use axis::Measure;
use canvas::{Size, png, svg};
use chart::Chart;
use lines::{LINES_MAX, Lines, Reading};
use theme::Theme;

/// The least and greatest width, and height, of an image.
const WIDTHS: [u32; 2] = [200, 4_096];
const HEIGHTS: [u32; 2] = [120, 2_160];
/// The file that stands for standard output, as SVG.
const STDOUT: &str = "-";

/// `kymo plot`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kymo plot \"SELECT time, cpu, utilization FROM cpu WHERE time > now() - interval '1 minute'\" -o cpu.svg
  kymo plot --data data --title 'Received' -o received.png --unit bytes/s \"SELECT time, interface,
            min, max, mean FROM downsample('network', 'rx_bytes', now() - interval '1 hour', now(), 1000)\"

The first column of times is the x axis. Each column of numbers is a line, and so is each
value of a column of texts. Columns `min` and `max` are the edges of a band with `mean`
as its line, as downsample() has them. Seven lines are drawn, those with the greatest
values. Missing rows are gaps. Times are in UTC.")]
pub struct Plot {
    /// One SQL query
    sql: String,
    #[command(flatten)]
    source: Source,
    /// Image to write, which ends in .svg or .png; - for SVG on stdout
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Text above the plot
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Unit of the values, such as bytes, bytes/s, ratio, µs or packets/s [default: that of the column]
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// Width and height in pixels
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "1200x500", value_parser = size)]
    size: Size,
    /// Colours
    #[arg(long, value_enum, default_value_t)]
    theme: Theme,
}

/// What a file is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Svg,
    Png,
}

impl Kind {
    fn of(path: &Path) -> Result<Kind, UsageError> {
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
        match ending.as_deref() {
            _ if path == Path::new(STDOUT) => Ok(Kind::Svg),
            Some("svg") => Ok(Kind::Svg),
            Some("png") => Ok(Kind::Png),
            _ => Err(UsageError(format!("{}: a plot is a file that ends in .svg or .png", path.display()))),
        }
    }
}

fn size(text: &str) -> Result<Size, String> {
    let wrong = || {
        let ([least_width, width], [least_height, height]) = (WIDTHS, HEIGHTS);
        format!("expected WIDTHxHEIGHT from {least_width}x{least_height} to {width}x{height}, such as 1200x500")
    };
    let (width, height) = text.split_once('x').ok_or_else(wrong)?;
    let read = |text: &str, [least, greatest]: [u32; 2]| {
        text.parse().ok().filter(|value| (least..=greatest).contains(value)).ok_or_else(wrong)
    };
    Ok(Size { width: read(width, WIDTHS)?, height: read(height, HEIGHTS)? })
}

/// Runs the query and writes the image.
///
/// # Errors
/// When the query is refused or fails, its rows make no plot, or the file cannot be written. An existing file then stays as it was.
pub fn run(plot: &Plot) -> anyhow::Result<()> {
    let kind = Kind::of(&plot.output)?;
    let mut rows = Rows(None);
    plot.source.read(&plot.sql, &mut rows, false)?;
    let mut lines = rows.0.context("the query has no columns")?.finish()?;
    if let Some(unit) = &plot.unit {
        lines.measure = Measure::of_unit(unit);
    }
    tell_left_out(&lines);
    let chart = Chart { lines: &lines, title: plot.title.as_deref(), colours: plot.theme.colours(), size: plot.size };
    let bytes = match kind {
        Kind::Svg => svg(&chart, plot.size)?,
        Kind::Png => png(&chart, plot.size)?,
    };
    if plot.output == Path::new(STDOUT) {
        let mut out = stdout().lock();
        out.write_all(&bytes)?;
        return Ok(out.flush()?);
    }
    write_file(&plot.output, &bytes)
}

fn tell_left_out(lines: &Lines) {
    if lines.left_out > 0 {
        let left_out = show::counted(lines.left_out as u64, "line");
        eprintln!(
            "kymo: drew the {LINES_MAX} lines with the greatest values, and left out {left_out}; WHERE chooses others"
        );
    }
}

/// The rows of the query.
struct Rows(Option<Reading>);

impl Taker for Rows {
    fn begin(&mut self, schema: &SchemaRef) -> anyhow::Result<()> {
        self.0 = Some(Reading::new(schema)?);
        Ok(())
    }

    fn take(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        self.0.as_mut().map_or(Ok(()), |reading| reading.take(batch))
    }

    fn end(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_endings_are_checked() {
        assert_eq!(size("800x300"), Ok(Size { width: 800, height: 300 }));
        for text in ["", "800", "800x", "10x10", "800x99999", "x300"] {
            assert!(size(text).unwrap_err().contains("such as 1200x500"), "{text}");
        }
        let of = |path: &str| Kind::of(Path::new(path)).map_err(|error| error.to_string());
        assert_eq!([of("a.SVG"), of("b.png"), of("-")], [Ok(Kind::Svg), Ok(Kind::Png), Ok(Kind::Svg)]);
        assert_eq!(of("a.pdf").unwrap_err(), "a.pdf: a plot is a file that ends in .svg or .png");
    }
}
