//! The thermal zones in `/sys/class/thermal` that no chip stands for.

use std::fs;
use std::path::Path;

use super::chip::Chip;
use super::{Found, Quantity, numbered};
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::{SensorSampler, chip};
    use crate::reading::prelude::*;

    fn write(probe: &Probe, files: &[(&str, &str)]) {
        files.iter().for_each(|(name, said)| probe.write(&format!("class/{name}"), format!("{said}\n")));
    }

    #[test]
    fn a_zone_has_a_row_unless_a_chip_has_its_temperature() {
        let mut probe = Probe::empty::<SensorSampler>();
        write(&probe, &[("thermal/cooling_device0/type", "Processor"), ("thermal/thermal_zone10/temp", "-5000")]);
        write(&probe, &[("thermal/thermal_zone2/type", "cpu-thermal"), ("thermal/thermal_zone2/temp", "70908")]);
        for (number, kind, celsius) in [(0, "passive", 85), (1, "critical", 110), (10, "critical", 120), (2, "hot", 95)]
        {
            let point = format!("thermal/thermal_zone2/trip_point_{number}");
            write(&probe, &[(&format!("{point}_type"), kind), (&format!("{point}_temp"), &format!("{celsius}000"))]);
        }
        assert_eq!(probe.check(), Ok(()));
        let zones = "cpu-thermal,thermal_zone2,thermal_zone2,70.908,95.0,110.0,\nthermal,thermal_zone10,thermal_zone10,-5.0,,,\n";
        assert_eq!(probe.rows(0), zones);

        // Twins of chips, and one that measures nothing.
        write(&probe, &[("hwmon/hwmon0/name", "gpu_thermal"), ("hwmon/hwmon0/temp1_input", "40000")]);
        write(&probe, &[("hwmon/hwmon1/name", "coretemp"), ("hwmon/hwmon1/temp1_input", "41000")]);
        write(&probe, &[("hwmon/hwmon2/name", "x"), ("hwmon/hwmon2/temp1_input", "42000")]);
        symlink("../../thermal_zone6", probe.path(chip::CLASS).join("hwmon2/device")).unwrap();
        for (number, kind) in [(3, "gpu-thermal"), (4, "x86_pkg_temp"), (5, "INT3400 Thermal"), (6, "other")] {
            let zone = format!("thermal/thermal_zone{number}");
            write(&probe, &[(&format!("{zone}/type"), kind), (&format!("{zone}/temp"), "20000")]);
        }
        let chips = "gpu_thermal,temp1,hwmon0,40.0,,,\ncoretemp,temp1,hwmon1,41.0,,,\nx,temp1,thermal_zone6,42.0,,,\n";
        assert_eq!(probe.rows(60_000), format!("{chips}{zones}"));
    }
}
