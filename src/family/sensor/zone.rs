//! The thermal zones in `/sys/class/thermal` that no chip stands for.

use std::fs;
use std::path::Path;

use super::chip::Chip;
use super::found::{Found, Quantity, numbered};
use crate::reading::attribute::text_at;
use crate::reading::folder::names;

pub(super) const CLASS: &str = "class/thermal";
pub(super) const PREFIX: &str = "thermal_zone";

/// A zone that only carries rules: its temperature is made up.
const WITHOUT_SENSOR: &str = "INT3400 Thermal";
/// A type of zone whose temperature the chip of this name has too.
const SAME_AS: [(&str, &str); 1] = [("x86_pkg_temp", "coretemp")];

/// The zones in `class` that none of `chips` stands for, in the order of their numbers. The kernel makes a chip for most zones,
/// in the zone's folder and with the zone's type as its name.
pub(super) fn list(class: &Path, chips: &[Chip]) -> Vec<Found> {
    let devices: Vec<String> = chips.iter().map(Chip::device).collect();
    let kinds: Vec<String> = chips.iter().map(|chip| plain(&chip.kind())).collect();
    let mut numbers: Vec<u32> = names(class).iter().filter_map(|name| numbered(name, PREFIX)).collect();
    numbers.sort_unstable();
    let zone = |number| {
        let name = format!("{PREFIX}{number}");
        let folder = class.join(&name);
        let kind = text_at(&folder.join("type")).unwrap_or_else(|| "thermal".to_owned());
        let twin = SAME_AS.iter().find(|(zone, _)| *zone == kind).map(|(_, chip)| plain(chip));
        let has_chip =
            devices.contains(&name) || kinds.contains(&plain(&kind)) || twin.is_some_and(|twin| kinds.contains(&twin));
        if has_chip || kind == WITHOUT_SENSOR || !folder.join("temp").exists() {
            return None;
        }
        let trip = |kind| trip_point(&folder, kind).map(|number| folder.join(format!("trip_point_{number}_temp")));
        Some(Found {
            class: CLASS,
            quantity: Quantity::Temperature,
            chip: kind,
            sensor: name.clone(),
            device: name.clone(),
            value: folder.join("temp"),
            fault: None,
            high: trip("hot"),
            critical: trip("critical"),
            name,
        })
    };
    numbers.into_iter().filter_map(zone).collect()
}

/// The number of a zone's first trip point of a type.
fn trip_point(zone: &Path, kind: &str) -> Option<u32> {
    let number = |name: &String| numbered(name.strip_suffix("_type")?, "trip_point_");
    let mut numbers: Vec<u32> = names(zone).iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers.into_iter().find(|number| {
        fs::read_to_string(zone.join(format!("trip_point_{number}_type"))).is_ok_and(|found| found.trim() == kind)
    })
}

/// A name as the kernel makes a chip's of a zone's type.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}
