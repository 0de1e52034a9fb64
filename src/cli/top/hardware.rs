//! File systems, sensors and power at a moment, which wide screens show beside everything else.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;

use super::catalog::Catalog;
use super::page::{Page, Place};
use super::statement::{Host, between};
use super::units::{bytes, count, percent};
use super::window::SECOND_US;
use crate::cli::rows::{Rows, float, text, whole};

/// These tables have a row a second: two of each series are in a stretch of this length.
const BEFORE_US: i64 = 2 * SECOND_US + SECOND_US / 2;
/// At most so many file systems are shown, the fullest first.
const FILESYSTEMS_MAX: usize = 4;
/// At most so many sensors and zones are shown, two a row.
const SENSORS_MAX: usize = 6;
const ZONES_MAX: usize = 2;
/// Columns of a sensor.
const SENSOR: u16 = 41;
/// Characters of a bar.
const BAR: usize = 20;

/// What was known at a moment, as it is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Hardware {
    filesystems: Vec<Filesystem>,
    /// How many there are.
    filesystem_count: usize,
    sensors: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Filesystem {
    path: String,
    /// Its device and type.
    of: String,
    used: f64,
    free: f64,
}

/// A row of a series.
struct Row {
    time_us: i64,
    more: String,
    value: f64,
    other: Option<f64>,
}

/// The statement for a moment, or for the newest one, in a text that is the same each time: `part`, `time`, `name`, `more`, and two
/// values. `None` if there is no such table.
pub(super) fn statement(at_us: Option<i64>, host: &Host, catalog: &Catalog) -> Option<String> {
    let times = match at_us {
        Some(at_us) => between(at_us - BEFORE_US, at_us + SECOND_US + 20_000),
        None => format!("time >= now() - interval '{} milliseconds'", BEFORE_US / 1_000),
    };
    let none = "CAST(NULL AS DOUBLE)";
    let parts = [
        ("filesystem", "filesystem", "mountpoint", "device || ' ' || type", "used_ratio", "CAST(free_bytes AS DOUBLE)"),
        (
            "sensor",
            "sensor",
            "chip || ' ' || sensor",
            "device",
            "temperature_celsius",
            "coalesce(high_celsius, critical_celsius)",
        ),
        ("fan", "sensor", "chip || ' ' || sensor", "device", "CAST(fan_rpm AS DOUBLE)", none),
        ("power", "power", "zone", "''", "CAST(energy_uj AS DOUBLE)", none),
    ];
    let known = parts.into_iter().filter(|(_, table, ..)| catalog.has_table(table));
    let part = |(part, table, name, more, value, other): (&str, &str, &str, &str, &str, &str)| {
        format!(
            "SELECT '{part}' AS part, time, {name} AS name, {more} AS more, {value} AS value, {other} AS other FROM {table} WHERE {times} AND {}",
            host.condition()
        )
    };
    let text = known.map(part).collect::<Vec<_>>().join("\nUNION ALL ");
    (!text.is_empty()).then_some(text)
}

impl Hardware {
    /// Reads the answer: of each series the first row at or after the moment, else the newest.
    pub(super) fn read(batches: &[RecordBatch], at_us: Option<i64>) -> anyhow::Result<Hardware> {
        let mut series: BTreeMap<(String, String, String), Vec<Row>> = BTreeMap::new();
        for batch in batches {
            let rows = Rows::of(batch);
            let (parts, names, more) = (rows.texts("part")?, rows.texts("name")?, rows.texts("more")?);
            let (times, values, others) = (rows.wholes("time")?, rows.floats("value")?, rows.floats("other")?);
            for row in 0..rows.count() {
                let (Some(time_us), Some(value)) = (whole(&times, row), float(&values, row)) else { continue };
                let [part, name, more] = [&parts, &names, &more].map(|column| text(column, row).to_owned());
                let rows = series.entry((part, name, more.clone())).or_default();
                rows.push(Row { time_us, more, value, other: float(&others, row) });
            }
        }
        let (mut hardware, mut sensors, mut zones) = (Hardware::default(), Vec::new(), Vec::new());
        for ((part, name, _), mut rows) in series {
            rows.sort_unstable_by_key(|row| row.time_us);
            let first = at_us.and_then(|at_us| rows.iter().position(|row| row.time_us >= at_us));
            let at = first.unwrap_or(rows.len() - 1);
            let row = &rows[at];
            match part.as_str() {
                "filesystem" => {
                    let (path, of) = (name, row.more.trim_start_matches("/dev/").to_owned());
                    let free = row.other.unwrap_or(0.0);
                    hardware.filesystems.push(Filesystem { path, of, used: row.value, free });
                }
                "sensor" => {
                    let limit = row.other.map(|limit| format!(" of {limit:.0}")).unwrap_or_default();
                    // Those that are nearest to their limit first.
                    let share = row.value / row.other.unwrap_or(f64::INFINITY).max(1.0);
                    sensors.push((share, format!("{name}  {:.0} C{limit}", row.value)));
                }
                "fan" => sensors.push((-1.0, format!("{name}  {} rpm", count(row.value)))),
                // Zones within others are parts of them.
                _ if !name.contains('/') && at > 0 => {
                    let before = &rows[at - 1];
                    let watts = (row.value - before.value) / (row.time_us - before.time_us).max(1) as f64;
                    zones.push(format!("{name}  {} W", count(watts.max(0.0))));
                }
                _ => {}
            }
        }
        hardware.filesystem_count = hardware.filesystems.len();
        hardware.filesystems.sort_by(|one, other| other.used.total_cmp(&one.used));
        hardware.filesystems.truncate(FILESYSTEMS_MAX);
        sensors.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        zones.truncate(ZONES_MAX);
        sensors.truncate(SENSORS_MAX - zones.len());
        hardware.sensors = sensors.into_iter().map(|(_, told)| told).chain(zones).collect();
        Ok(hardware)
    }

    /// Rows of the screen that it takes, with headings.
    pub(super) fn rows(&self) -> u16 {
        let rows = |count: usize| if count == 0 { 0 } else { count + 1 };
        u16::try_from(rows(self.filesystems.len()) + rows(self.sensors.len().div_ceil(2))).unwrap_or(0)
    }

    /// Draws it. A place that is too small has no part of it.
    pub(super) fn draw(&self, page: &mut Page, place: Place) {
        if place.rows < self.rows() {
            return;
        }
        let plain = page.palette.plain;
        let mut y = place.y;
        if !self.filesystems.is_empty() {
            let (shown, all) = (self.filesystems.len(), self.filesystem_count);
            let which = if shown < all { format!(" {shown} of {all}, the fullest") } else { String::new() };
            page.heading(place, true, &format!("file systems{which}"));
            for filesystem in &self.filesystems {
                y += 1;
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a short bar")]
                let full = (filesystem.used.clamp(0.0, 1.0) * BAR as f64).round() as usize;
                let bar = format!("[{}{}]", "#".repeat(full), ".".repeat(BAR - full));
                page.put_or_cut(place.x + 1, y, &filesystem.path, place.x + 17, plain);
                page.put_before(place.x + 24, y, &percent(filesystem.used), plain);
                page.put(place.x + 25, y, &bar, plain);
                page.put_before(place.x + 63, y, &format!("{} free", bytes(filesystem.free)), plain);
                page.put_or_cut(place.x + 65, y, &filesystem.of, place.end, plain);
            }
            y += 1;
        }
        if !self.sensors.is_empty() {
            page.heading(Place { y, ..place }, true, "sensors");
            for pair in self.sensors.chunks(2) {
                y += 1;
                for (told, x) in pair.iter().zip([place.x + 1, place.x + 1 + SENSOR]) {
                    page.put_or_cut(x, y, told, (x + SENSOR - 1).min(place.end), plain);
                }
            }
        }
    }

    /// As it could be.
    #[cfg(test)]
    pub(super) fn fixed() -> Hardware {
        const GIB: f64 = 1_073_741_824.0;
        let filesystem =
            |path: &str, of: &str, used, free| Filesystem { path: path.into(), of: of.into(), used, free: free * GIB };
        Hardware {
            filesystems: vec![
                filesystem("/var/backups", "nvme1n1p1 xfs", 0.84, 285.0),
                filesystem("/srv", "nvme0n1p3 xfs", 0.63, 614.0),
                filesystem("/", "nvme0n1p2 ext4", 0.41, 68.6),
            ],
            filesystem_count: 3,
            sensors: ["coretemp Package id 0  61 C of 100", "nvme Composite  52 C of 84", "package-0  83.0 W"]
                .map(str::to_owned)
                .into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    /// Table, second, name, what else is told, and two values.
    type Told = (&'static str, i64, &'static str, &'static str, f64, Option<f64>);

    #[test]
    fn the_fullest_the_hottest_and_the_power_of_whole_packages_are_told() {
        let rows: &[Told] = &[
            ("filesystem", 1, "/", "/dev/vda1 ext4", 0.4, Some(1e9)),
            ("filesystem", 1, "/srv", "/dev/vdb xfs", 0.9, Some(1e9)),
            ("filesystem", 2, "/", "/dev/vda1 ext4", 0.95, Some(5e8)),
            ("sensor", 1, "nvme Composite", "nvme0", 52.0, Some(84.0)),
            ("sensor", 1, "coretemp Core 0", "", 80.0, Some(100.0)),
            ("fan", 1, "thinkpad fan1", "", 2_900.0, None),
            ("power", 1, "package-0", "", 0.0, None),
            ("power", 2, "package-0", "", 83e6, None),
            ("power", 2, "package-0/core", "", 83e6, None),
        ];
        let texts =
            |of: fn(&Told) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(of))) };
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("part", texts(|row| row.0.to_owned()), true),
            (
                "time",
                Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.1 * SECOND_US)))
                    as ArrayRef,
                true,
            ),
            ("name", texts(|row| row.2.to_owned()), true),
            ("more", texts(|row| row.3.to_owned()), true),
            ("value", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.4))), true),
            ("other", Arc::new(rows.iter().map(|row| row.5).collect::<Float64Array>()), true),
        ]);
        let batches = [batch.unwrap()];
        let newest = Hardware::read(&batches, None).unwrap();
        assert_eq!(newest.filesystems.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["/", "/srv"]);
        let told = [
            "coretemp Core 0  80 C of 100",
            "nvme Composite  52 C of 84",
            "thinkpad fan1  2900 rpm",
            "package-0  83.0 W",
        ];
        assert_eq!(newest.sensors, told);
        assert_eq!(newest.rows(), 3 + 3);
        let before = Hardware::read(&batches, Some(SECOND_US)).unwrap();
        assert_eq!(before.filesystems.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["/srv", "/"]);
        assert_eq!(before.sensors.len(), 3, "no power is known of the first row");
    }
}
