//! Draws lines over time: axes, a grid, bands, lines and their names.

use plotters::backend::DrawingBackend;
use plotters::style::RGBColor;

use super::axis::{time_marks, window};
use super::canvas::{Align, Canvas, Picture, Size};
use super::lines::{Line, Lines, Point};
use super::theme::Colours;

/// Around everything.
const MARGIN: f64 = 20.0;
const TITLE_SIZE: f64 = 19.0;
const TEXT_SIZE: f64 = 14.5;
/// The height of a line of text.
const LINE_HEIGHT: f64 = 23.0;
/// Below the plot, for times.
const TIMES_HEIGHT: f64 = 24.0;
/// Between marks of times.
const TIME_MARK_WIDTH: f64 = 110.0;
const LINE_WIDTH: f64 = 1.6;
/// The mark of a line beside its name.
const SWATCH: (f64, f64) = (16.0, 3.0);
/// Between two names, and between a mark and its name.
const GAPS: (f64, f64) = (22.0, 7.0);
/// A line with fewer points in so many pixels has dots.
const DOTTED_PIXELS: f64 = 12.0;
const DOT: f64 = 2.5;

/// A plot of lines.
pub(super) struct Chart<'a> {
    pub(super) lines: &'a Lines,
    pub(super) title: Option<&'a str>,
    pub(super) colours: &'static Colours,
    pub(super) size: Size,
}

/// Where data are on the image.
#[derive(Clone, Copy)]
struct Plot {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    times: (i64, i64),
    values: (f64, f64),
}

impl Plot {
    fn x(&self, us: i64) -> f64 {
        let (from, to) = self.times;
        self.left + (us - from) as f64 / (to - from).max(1) as f64 * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        let (least, greatest) = self.values;
        self.bottom - (value - least) / (greatest - least) * (self.bottom - self.top)
    }
}

impl Picture for Chart<'_> {
    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> anyhow::Result<()> {
        let Chart { lines, colours, size, .. } = self;
        let (width, height) = (f64::from(size.width), f64::from(size.height));
        canvas.rectangle((0.0, 0.0), (width, height), colours.background)?;
        let times = times(lines);
        let top = self.draw_head(canvas, times)?;
        let marks = lines.measure.marks(least(lines), greatest(lines));
        let texts: Vec<String> = marks.iter().map(|mark| lines.measure.text(*mark)).collect();
        let unit = lines.measure.unit();
        let widest = texts.iter().map(|text| canvas.width_of(text, TEXT_SIZE)).fold(0.0, f64::max);
        let top = if unit.is_empty() { top } else { top + LINE_HEIGHT };
        let values = (marks.first().copied().unwrap_or(0.0), marks.last().copied().unwrap_or(1.0));
        let (left, right) = (MARGIN + widest + 10.0, width - MARGIN);
        let plot = Plot { left, right, top, bottom: height - MARGIN - TIMES_HEIGHT, times, values };
        canvas.rectangle((plot.left, plot.top), (plot.right, plot.bottom), colours.plot)?;
        if !unit.is_empty() {
            canvas.text(unit, (MARGIN, top - LINE_HEIGHT / 2.0 - 4.0), Align::Left, TEXT_SIZE, colours.faint)?;
        }
        for (mark, text) in marks.iter().zip(&texts) {
            let y = plot.y(*mark);
            let colour = if *mark == 0.0 { colours.axis } else { colours.grid };
            canvas.line(&[(plot.left, y), (plot.right, y)], colour, 1.0)?;
            canvas.text(text, (plot.left - 10.0, y), Align::Right, TEXT_SIZE, colours.faint)?;
        }
        #[expect(clippy::cast_possible_truncation, reason = "some marks")]
        let count = ((plot.right - plot.left) / TIME_MARK_WIDTH) as i64;
        for (us, text) in time_marks(times.0, times.1, count) {
            let x = plot.x(us);
            canvas.line(&[(x, plot.top), (x, plot.bottom)], colours.grid, 1.0)?;
            let half = canvas.width_of(&text, TEXT_SIZE) / 2.0;
            let x = x.clamp(MARGIN + half, (width - MARGIN - half).max(MARGIN + half));
            canvas.text(&text, (x, plot.bottom + TIMES_HEIGHT / 2.0 + 4.0), Align::Centre, TEXT_SIZE, colours.faint)?;
        }
        for (line, colour) in lines.drawn.iter().zip(colours.lines) {
            draw_line(canvas, line, &plot, colour, colours.band)?;
        }
        Ok(())
    }
}

impl Chart<'_> {
    /// The title, the window, and the lines' names. Returns where the plot may begin.
    fn draw_head<B: DrawingBackend>(&self, canvas: &Canvas<B>, times: (i64, i64)) -> anyhow::Result<f64> {
        let Chart { lines, colours, size, .. } = self;
        let right = f64::from(size.width) - MARGIN;
        let mut y = MARGIN + LINE_HEIGHT / 2.0 - 4.0;
        let window = window(times.0, times.1);
        canvas.text(&window, (right, y), Align::Right, TEXT_SIZE, colours.faint)?;
        let mut end = right - canvas.width_of(&window, TEXT_SIZE) - GAPS.0;
        if let Some(title) = self.title {
            canvas.text(title, (MARGIN, y), Align::Left, TITLE_SIZE, colours.title)?;
            y += LINE_HEIGHT + 2.0;
            end = right;
        }
        let mut x = MARGIN;
        let more = (lines.left_out > 0).then(|| format!("and {} more", lines.left_out));
        let names = lines.drawn.iter().zip(colours.lines).map(|(line, colour)| (line.name.as_str(), Some(colour)));
        for (name, colour) in names.chain(more.as_deref().map(|more| (more, None))) {
            let mark = if colour.is_some() { SWATCH.0 + GAPS.1 } else { 0.0 };
            let width = mark + canvas.width_of(name, TEXT_SIZE);
            if x > MARGIN && x + width > end {
                (x, y, end) = (MARGIN, y + LINE_HEIGHT, right);
            }
            if let Some(colour) = colour {
                canvas.rectangle((x, y - SWATCH.1 / 2.0), (x + SWATCH.0, y + SWATCH.1 / 2.0), colour)?;
            }
            canvas.text(name, (x + mark, y), Align::Left, TEXT_SIZE, colours.text)?;
            x += width + GAPS.0;
        }
        Ok(y + LINE_HEIGHT)
    }
}

fn draw_line<B: DrawingBackend>(
    canvas: &Canvas<B>,
    line: &Line,
    plot: &Plot,
    colour: RGBColor,
    alpha: f64,
) -> anyhow::Result<()> {
    let points = by_pixel(&line.points, plot);
    let is_dotted = (points.len() as f64) < (plot.right - plot.left) / DOTTED_PIXELS;
    for piece in points.split(|point| !point.value.is_finite()).filter(|piece| !piece.is_empty()) {
        let place = |point: &Point, value: f64| (plot.x(point.us), plot.y(value));
        let upper = piece.iter().filter_map(|point| Some(place(point, point.band?.1)));
        let lower = piece.iter().rev().filter_map(|point| Some(place(point, point.band?.0)));
        let band: Vec<(f64, f64)> = upper.chain(lower).collect();
        if band.len() > 2 {
            canvas.polygon(&band, colour, alpha)?;
        }
        let means: Vec<(f64, f64)> = piece.iter().map(|point| place(point, point.value)).collect();
        canvas.line(&means, colour, LINE_WIDTH)?;
        for (x, y) in means.iter().filter(|_| is_dotted || means.len() == 1) {
            canvas.rectangle((x - DOT, y - DOT), (x + DOT, y + DOT), colour)?;
        }
    }
    Ok(())
}

/// A point for each pixel at most: the mean of its points, with a band from the least to the greatest of them.
fn by_pixel(points: &[Point], plot: &Plot) -> Vec<Point> {
    if points.len() as f64 <= plot.right - plot.left {
        return points.to_vec();
    }
    let mut reduced: Vec<Point> = Vec::new();
    let (mut column, mut count) = (i64::MIN, 0.0);
    for point in points {
        #[expect(clippy::cast_possible_truncation, reason = "a pixel")]
        let at = plot.x(point.us).floor() as i64;
        let (low, high) = point.band.unwrap_or((point.value, point.value));
        match reduced.last_mut() {
            Some(last) if at == column && last.value.is_finite() && point.value.is_finite() => {
                let band = last.band.unwrap_or((last.value, last.value));
                last.band = Some((band.0.min(low), band.1.max(high)));
                count += 1.0;
                last.value += (point.value - last.value) / count;
            }
            _ => {
                let band = point.value.is_finite().then_some((low, high));
                reduced.push(Point { band, ..*point });
                (column, count) = (at, 1.0);
            }
        }
    }
    reduced
}

fn points(lines: &Lines) -> impl Iterator<Item = &Point> {
    lines.drawn.iter().flat_map(|line| &line.points).filter(|point| point.value.is_finite())
}

fn times(lines: &Lines) -> (i64, i64) {
    let (first, last) = (points(lines).map(|point| point.us).min(), points(lines).map(|point| point.us).max());
    let (first, last) = (first.unwrap_or(0), last.unwrap_or(0));
    // A single point stands in the middle of a second.
    if first == last { (first - 500_000, last + 500_000) } else { (first, last) }
}

fn least(lines: &Lines) -> f64 {
    points(lines)
        .map(|point| point.band.map_or(point.value, |(low, _)| low.min(point.value)))
        .fold(f64::INFINITY, f64::min)
}

fn greatest(lines: &Lines) -> f64 {
    points(lines)
        .map(|point| point.band.map_or(point.value, |(_, high)| high.max(point.value)))
        .fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use super::super::axis::Measure;
    use super::super::canvas::{png, svg};
    use super::super::theme::Theme;
    use super::*;

    fn chart(lines: &Lines) -> Chart<'_> {
        Chart {
            lines,
            title: Some("A <title>"),
            colours: Theme::Dark.colours(),
            size: Size { width: 400, height: 200 },
        }
    }

    fn lines(count: i64) -> Lines {
        let point =
            |at: i64| Point { us: at * 1_000, value: if at == count / 2 { 1e6 } else { (at % 7) as f64 }, band: None };
        let points = (0..count).map(point).collect();
        Lines { drawn: vec![Line { name: "eth0".to_owned(), points }], left_out: 2, measure: Measure::BytesPerSecond }
    }

    #[test]
    fn an_image_has_title_names_and_axes() {
        let lines = lines(100);
        let text = String::from_utf8(svg(&chart(&lines), Size { width: 400, height: 200 }).unwrap()).unwrap();
        assert!(text.starts_with("<svg width=\"400\" height=\"200\" viewBox=\"0 0 3200 1600\""), "{text}");
        for part in ["A &lt;title&gt;", "eth0", "and 2 more", "1 MB/s", "UTC"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_burst_among_many_points_keeps_its_height() {
        let lines = lines(100_000);
        let text = String::from_utf8(svg(&chart(&lines), Size { width: 400, height: 200 }).unwrap()).unwrap();
        assert!(text.len() < 100_000, "{}", text.len());
        let plot =
            Plot { left: 0.0, right: 300.0, top: 0.0, bottom: 100.0, times: (0, 100_000_000), values: (0.0, 1e6) };
        let reduced = by_pixel(&lines.drawn[0].points, &plot);
        assert!(reduced.len() <= 301);
        assert!(reduced.iter().any(|point| point.band == Some((0.0, 1e6))));
    }

    #[test]
    fn png_has_the_size_that_was_asked_for() {
        let lines = lines(10);
        let bytes = png(&chart(&lines), Size { width: 400, height: 200 }).unwrap();
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((number(16), number(20)), (400, 200));
    }
}
