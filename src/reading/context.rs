//! The context of a sampler: where the kernel's files are, and what to record of what they have.

use super::census::Census;
use super::filter::Filters;
use super::roots::Roots;

/// The most processes that each of [`ProcessChoice::top_by_cpu`] and [`ProcessChoice::top_by_memory`] can ask for.
pub const TOP_MAX: usize = 100;
/// The most pins; further ones are ignored.
pub const PINS_MAX: usize = 100;

/// The context in which a sampler is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Where the kernel's files are.
    pub roots: Roots,
    /// Which processes have rows in `process`.
    pub processes: ProcessChoice,
    /// Which devices, file systems and groups have rows.
    pub filters: Filters,
    /// What the family that reads all processes has counted.
    pub census: Census,
}

/// Which processes have rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessChoice {
    /// Number of top CPU users, at most [`TOP_MAX`].
    pub top_by_cpu: usize,
    /// Number of top memory users, at most [`TOP_MAX`].
    pub top_by_memory: usize,
    /// Processes that always have a row, at most [`PINS_MAX`].
    pub pinned: Vec<Pin>,
}

/// A process, or all processes of one name, that always have a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// All processes with this command. The kernel keeps 15 bytes of a name, so only the first 15 are compared.
    Name(String),
    /// The process with this id, whichever it is.
    Pid(i32),
    /// Those that the process with this id has started, and those that these have started. One that was seen among them stays, also
    /// when its parent has ended.
    Below(i32),
}

impl Default for ProcessChoice {
    fn default() -> ProcessChoice {
        ProcessChoice { top_by_cpu: 10, top_by_memory: 10, pinned: Vec::new() }
    }
}
