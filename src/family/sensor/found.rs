//! A sensor as it was found, before it is opened.

use std::path::PathBuf;

/// What a sensor measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantity {
    Temperature,
    Fan,
}

/// A sensor that was found, with the paths of its files.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) class: &'static str,
    pub(super) quantity: Quantity,
    pub(super) chip: String,
    pub(super) sensor: String,
    pub(super) device: String,
    /// Its name among the sensors of the chip, such as `temp1`.
    pub(super) name: String,
    pub(super) value: PathBuf,
    pub(super) fault: Option<PathBuf>,
    pub(super) high: Option<PathBuf>,
    pub(super) critical: Option<PathBuf>,
}

/// The number in `name`, which must be `prefix` and digits.
pub(super) fn numbered(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The path if there is a file.
pub(super) fn existing(path: PathBuf) -> Option<PathBuf> {
    path.exists().then_some(path)
}
