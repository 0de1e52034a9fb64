//! What a chart is drawn on, for an SVG or a PNG image. Places and sizes are in pixels of the image.

use anyhow::{Context, anyhow};
use epaint_default_fonts::UBUNTU_LIGHT;
use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{PathElement, Polygon, Rectangle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontFamily, FontStyle, IntoTextStyle, RGBColor, TextStyle, register_font};

use super::png::encode;

/// The font's name in SVG, where a viewer has one of its own for it.
const FONT: &str = "sans-serif";
/// Steps of a pixel to which an SVG image is exact.
const SVG_STEPS: u32 = 8;
/// So many by so many dots make a pixel of a PNG image, so that its lines are smooth.
const PNG_STEPS: u32 = 3;

/// The size of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: u32,
    pub(super) height: u32,
}

/// What can be drawn.
pub(super) trait Picture {
    /// Draws it.
    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> anyhow::Result<()>;
}

/// Where a text stands beside its place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Align {
    Left,
    Centre,
    Right,
}

/// An image that is being drawn.
pub(super) struct Canvas<B: DrawingBackend> {
    area: DrawingArea<B, Shift>,
    steps: f64,
    /// Whether a line of several points is drawn in one go. Else its pieces are, as sharp bends would have spikes.
    is_joined: bool,
}

impl<B: DrawingBackend> Canvas<B> {
    fn place(&self, (x, y): (f64, f64)) -> (i32, i32) {
        #[expect(clippy::cast_possible_truncation, reason = "an image has some thousand pixels")]
        let whole = |value: f64| (value * self.steps).round() as i32;
        (whole(x), whole(y))
    }

    fn length(&self, pixels: f64) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some pixels")]
        let whole = (pixels * self.steps).round().max(1.0) as u32;
        whole
    }

    /// Fills a rectangle.
    pub(super) fn rectangle(&self, from: (f64, f64), to: (f64, f64), colour: RGBColor) -> anyhow::Result<()> {
        self.add(&Rectangle::new([self.place(from), self.place(to)], colour.filled()))
    }

    /// Fills a polygon.
    pub(super) fn polygon(&self, corners: &[(f64, f64)], colour: RGBColor, alpha: f64) -> anyhow::Result<()> {
        let corners: Vec<_> = corners.iter().map(|corner| self.place(*corner)).collect();
        self.add(&Polygon::new(corners, colour.mix(alpha).filled()))
    }

    /// Draws a line from point to point.
    pub(super) fn line(&self, points: &[(f64, f64)], colour: RGBColor, width: f64) -> anyhow::Result<()> {
        let style = colour.stroke_width(self.length(width));
        let mut points: Vec<_> = points.iter().map(|point| self.place(*point)).collect();
        points.dedup();
        if self.is_joined {
            return self.add(&PathElement::new(points, style));
        }
        points.windows(2).try_for_each(|piece| self.add(&PathElement::new(piece.to_vec(), style)))
    }

    /// Writes a text, whose middle is at the height of its place.
    pub(super) fn text(
        &self,
        text: &str,
        place: (f64, f64),
        align: Align,
        size: f64,
        colour: RGBColor,
    ) -> anyhow::Result<()> {
        let across = match align {
            Align::Left => HPos::Left,
            Align::Centre => HPos::Center,
            Align::Right => HPos::Right,
        };
        let style = self.style(size).pos(Pos::new(across, VPos::Center)).color(&colour);
        self.area.draw_text(text, &style, self.place(place)).map_err(|error| anyhow!("draw {text:?}: {error}"))
    }

    /// The width of a text.
    pub(super) fn width_of(&self, text: &str, size: f64) -> f64 {
        let estimated = self.area.estimate_text_size(text, &self.style(size));
        estimated.map_or(text.len() as f64 * size, |(width, _)| f64::from(width) / self.steps)
    }

    fn style(&self, size: f64) -> TextStyle<'static> {
        (FontFamily::Name(FONT), f64::from(self.length(size)), FontStyle::Normal).into_text_style(&self.area)
    }

    fn add<E>(&self, element: &E) -> anyhow::Result<()>
    where
        for<'a> &'a E: plotters::element::PointCollection<'a, (i32, i32)>,
        E: plotters::element::Drawable<B>,
    {
        self.area.draw(element).map_err(|error| anyhow!("draw: {error}"))
    }
}

/// The image as SVG.
///
/// # Errors
/// When it cannot be drawn, which would be a bug.
pub(super) fn svg(picture: &impl Picture, size: Size) -> anyhow::Result<Vec<u8>> {
    know_font()?;
    let (width, height) = (size.width * SVG_STEPS, size.height * SVG_STEPS);
    let mut text = String::new();
    draw(SVGBackend::with_string(&mut text, (width, height)), SVG_STEPS, true, picture)?;
    let fine = format!("<svg width=\"{width}\" height=\"{height}\"");
    Ok(text.replacen(&fine, &format!("<svg width=\"{}\" height=\"{}\"", size.width, size.height), 1).into_bytes())
}

/// The image as PNG.
///
/// # Errors
/// When it cannot be drawn, which would be a bug.
pub(super) fn png(picture: &impl Picture, size: Size) -> anyhow::Result<Vec<u8>> {
    know_font()?;
    let (width, height) = (size.width * PNG_STEPS, size.height * PNG_STEPS);
    let row_bytes = width as usize * 3;
    let mut dots = vec![0; row_bytes * height as usize];
    draw(BitMapBackend::with_buffer(&mut dots, (width, height)), PNG_STEPS, false, picture)?;
    let steps = PNG_STEPS as usize;
    let mut pixels = Vec::with_capacity(dots.len() / (steps * steps));
    for rows in dots.chunks_exact(row_bytes * steps) {
        for column in 0..size.width as usize {
            for part in 0..3 {
                let sum: usize = (0..steps)
                    .flat_map(|row| (0..steps).map(move |dot| row * row_bytes + (column * steps + dot) * 3 + part))
                    .map(|at| usize::from(rows[at]))
                    .sum();
                pixels.push(u8::try_from(sum / (steps * steps)).unwrap_or(u8::MAX));
            }
        }
    }
    encode(&pixels, (size.width, size.height)).context("write the PNG image")
}

fn draw<B: DrawingBackend>(backend: B, steps: u32, is_joined: bool, picture: &impl Picture) -> anyhow::Result<()> {
    let area = backend.into_drawing_area();
    let canvas = Canvas { area, steps: f64::from(steps), is_joined };
    picture.draw(&canvas)?;
    canvas.area.present().map_err(|error| anyhow!("end the image: {error}"))
}

fn know_font() -> anyhow::Result<()> {
    register_font(FONT, FontStyle::Normal, UBUNTU_LIGHT).map_err(|_| anyhow!("the program's own font cannot be read"))
}
