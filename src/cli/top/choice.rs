//! What can be chosen: screens, panels, scales, and lines that are typed.

/// The screens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Screen {
    #[default]
    Overview,
    Processes,
    Cgroups,
    Cpu,
    Memory,
    Network,
    Disk,
    Alerts,
    Kymo,
    All,
}

/// The digit of each screen.
const DIGITS: [(char, Screen); 10] = [
    ('1', Screen::Overview),
    ('2', Screen::Processes),
    ('3', Screen::Cgroups),
    ('4', Screen::Cpu),
    ('5', Screen::Memory),
    ('6', Screen::Network),
    ('7', Screen::Disk),
    ('8', Screen::Alerts),
    ('9', Screen::Kymo),
    ('0', Screen::All),
];

impl Screen {
    /// The screen of a digit.
    pub(super) fn of(digit: char) -> Option<Screen> {
        DIGITS.iter().find(|(of, _)| *of == digit).map(|(_, screen)| *screen)
    }

    /// The digit of a screen.
    pub(super) fn digit(self) -> char {
        DIGITS.iter().find(|(_, screen)| *screen == self).map_or('1', |(digit, _)| *digit)
    }

    /// Whether it is a list of charts, without a table.
    pub(super) fn is_list(self) -> bool {
        matches!(self, Screen::Cpu | Screen::Memory | Screen::Network | Screen::Disk | Screen::All)
    }
}

/// How values become heights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Scale {
    /// Each chart to its own top.
    #[default]
    Linear,
    /// A third of the height is ten times as much.
    Log,
    /// All charts of one unit to the same top.
    Same,
}

impl Scale {
    /// The one after it.
    pub(super) fn next(self) -> Scale {
        match self {
            Scale::Linear => Scale::Log,
            Scale::Log => Scale::Same,
            Scale::Same => Scale::Linear,
        }
    }

    pub(super) fn told(self) -> &'static str {
        match self {
            Scale::Linear => "each chart to its own top",
            Scale::Log => "logarithmic: a third of the height is ten times as much",
            Scale::Same => "the same top for all charts of a unit",
        }
    }
}

/// Where arrows up and down go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Panel {
    #[default]
    Charts,
    Table,
}

/// A line that is being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    pub(super) of: Question,
    pub(super) text: String,
    /// Why it was not taken.
    pub(super) error: Option<String>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    GoTo,
    Search,
    Filter,
}
