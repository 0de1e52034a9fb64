//! The chips in `/sys/class/hwmon`, and the sensors of each.

use std::fs;
use std::path::{Path, PathBuf};

use super::found::{Found, Quantity, existing, numbered};
use crate::reading::attribute::text_at;
use crate::reading::folder::names;
use crate::reading::text::text;

pub(super) const CLASS: &str = "class/hwmon";
pub(super) const PREFIX: &str = "hwmon";

/// A chip: a folder of the class.
#[derive(Debug)]
pub(super) struct Chip {
    /// Its number and its name, such as `hwmon3`.
    number: u32,
    name: String,
    /// The folder of its files.
    pub(super) folder: PathBuf,
    /// The link to its device.
    pub(super) link: PathBuf,
}

/// The chips in `class`, in the order of their numbers.
pub(super) fn list(class: &Path) -> Vec<Chip> {
    let chip = |name: String| {
        let number = numbered(&name, PREFIX)?;
        let (own, link) = (class.join(&name), class.join(&name).join("device"));
        // Old drivers put their files and their name into the device's folder.
        let folder = if !own.join("name").exists() && link.join("name").exists() { link.clone() } else { own };
        Some(Chip { number, name, folder, link })
    };
    let mut chips: Vec<Chip> = names(class).into_iter().filter_map(chip).collect();
    chips.sort_unstable_by_key(|chip| chip.number);
    chips
}

impl Chip {
    /// The driver's name of it.
    pub(super) fn kind(&self) -> String {
        text_at(&self.folder.join("name")).unwrap_or_else(|| self.name.clone())
    }

    pub(super) fn device(&self) -> String {
        let device = fs::read_link(&self.link).ok();
        let name = device.as_ref().and_then(|device| device.file_name());
        name.map_or_else(|| self.name.clone(), |name| text(name.as_encoded_bytes()).into_owned())
    }

    /// Its sensors: temperatures and then fans, each in the order of their numbers.
    pub(super) fn sensors(&self) -> Vec<Found> {
        let (chip, device, names) = (self.kind(), self.device(), names(&self.folder));
        let mut sensors = Vec::new();
        for (quantity, prefix) in [(Quantity::Temperature, "temp"), (Quantity::Fan, "fan")] {
            let number = |name: &String| numbered(name.strip_suffix("_input")?, prefix);
            let mut numbers: Vec<u32> = names.iter().filter_map(number).collect();
            numbers.sort_unstable();
            sensors.extend(numbers.into_iter().map(|number| {
                let name = format!("{prefix}{number}");
                let path = |what: &str| self.folder.join(format!("{name}_{what}"));
                // A fan's limits are speeds, and are not recorded.
                let limit = |what| existing(path(what)).filter(|_| quantity == Quantity::Temperature);
                Found {
                    class: CLASS,
                    quantity,
                    chip: chip.clone(),
                    sensor: text_at(&path("label")).unwrap_or_else(|| name.clone()),
                    device: device.clone(),
                    value: path("input"),
                    fault: existing(path("fault")),
                    high: limit("max"),
                    critical: limit("crit"),
                    name,
                }
            }));
        }
        sensors
    }
}
