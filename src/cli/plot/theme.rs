//! Colours, which are those of the page.

use clap::ValueEnum;
use plotters::style::RGBColor;

/// Which colours a plot has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Theme {
    /// Dark lines on white
    #[default]
    Light,
    /// Light lines on black
    Dark,
}

/// The colours of a theme.
#[derive(Debug)]
pub(super) struct Colours {
    pub(super) background: RGBColor,
    pub(super) plot: RGBColor,
    pub(super) grid: RGBColor,
    pub(super) axis: RGBColor,
    pub(super) title: RGBColor,
    pub(super) text: RGBColor,
    pub(super) faint: RGBColor,
    /// Those of lines, in the order in which they are taken: each pair can be told apart by all eyes.
    pub(super) lines: [RGBColor; 7],
    /// How strongly the band from the least to the greatest value is filled.
    pub(super) band: f64,
}

static LIGHT: Colours = Colours {
    background: RGBColor(0xff, 0xff, 0xff),
    plot: RGBColor(0xff, 0xff, 0xff),
    grid: RGBColor(0xe6, 0xe9, 0xed),
    axis: RGBColor(0xc9, 0xd0, 0xd8),
    title: RGBColor(0x14, 0x18, 0x1d),
    text: RGBColor(0x43, 0x4d, 0x59),
    faint: RGBColor(0x5f, 0x6a, 0x77),
    lines: [
        RGBColor(0x1f, 0x86, 0xea),
        RGBColor(0xc5, 0x7b, 0x00),
        RGBColor(0x00, 0x7a, 0x6e),
        RGBColor(0x86, 0x1c, 0x7c),
        RGBColor(0x4c, 0x4a, 0x08),
        RGBColor(0xcc, 0x2f, 0x40),
        RGBColor(0x7a, 0x45, 0xc8),
    ],
    band: 0.26,
};

static DARK: Colours = Colours {
    background: RGBColor(0x0d, 0x10, 0x14),
    plot: RGBColor(0x12, 0x16, 0x1b),
    grid: RGBColor(0x1e, 0x25, 0x2d),
    axis: RGBColor(0x32, 0x3c, 0x47),
    title: RGBColor(0xe8, 0xeb, 0xef),
    text: RGBColor(0xb0, 0xb8, 0xc2),
    faint: RGBColor(0x8a, 0x95, 0xa2),
    lines: [
        RGBColor(0x3f, 0x97, 0xf6),
        RGBColor(0xe3, 0xa3, 0x43),
        RGBColor(0x62, 0xdc, 0xc6),
        RGBColor(0xbd, 0x55, 0xab),
        RGBColor(0xf3, 0xea, 0x72),
        RGBColor(0xdd, 0x4f, 0x26),
        RGBColor(0xc2, 0xb5, 0xfb),
    ],
    band: 0.32,
};

impl Theme {
    pub(super) fn colours(self) -> &'static Colours {
        match self {
            Theme::Light => &LIGHT,
            Theme::Dark => &DARK,
        }
    }
}
