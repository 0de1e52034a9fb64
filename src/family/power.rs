//! `power`: energy used by processors and memory, as counted by RAPL, from `/sys/class/powercap`
//! (`Documentation/power/powercap/powercap.rst`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::io::Errno;

use crate::reading::attribute::{Attribute, text_at};
use crate::reading::class::{Class, Look};
use crate::reading::folder::names;
use crate::reading::prelude::*;
use crate::reading::reader::is_gone;
use crate::reading::text::integer;

const CLASS: &str = "class/powercap";
const PREFIX: &str = "intel-rapl";
/// The most zones that are read. Eight sockets of four dies, with four zones each, have 160.
const ZONES_MAX: usize = 256;
/// No zone uses more power than this. If a counter fell, a wrap means less power than this. A counter that restarted,
/// as after a suspension, seems to mean more, unless it is read only every few seconds.
const POWER_WATTS_MAX: i64 = 5_000;
/// The same check allows for a read this late after its tick.
const LATENESS_US: i64 = 100_000;

record! {
    /// Energy used by each RAPL zone; at most 256 zones. The energy of a zone includes that of the zones within it, and
    /// the zone `psys` is the whole board, so a sum over all zones has no meaning.
    pub struct Power("power") {
        labels {
            /// The path of the zone, parents first: `package-0`, `package-0/core`, `package-0/dram`. If the zone is not read
            /// from the processor's registers, the path begins with the interface: `intel-rapl-mmio/package-0`.
            zone => "kymo.power.zone",
        }
        values {
            /// Energy used: the kernel's counter, corrected for wraps since kymo started. The kernel's counter often wraps
            /// within an hour. If it wraps more than once between two ticks, kymo corrects for one wrap only. NULL if
            /// the zone cannot be read, or if it seems to have used more than 5 kW since the last tick.
            counter energy_uj: i64 [Microjoules] => "kymo.power.energy" {},
        }
    }
}

/// Reads each zone's counter through its own descriptor.
#[derive(Debug)]
pub struct PowerSampler {
    class: Class,
    zones: Vec<Zone>,
}

impl Sample for PowerSampler {
    type Record = Power;
    const INTERVAL_MIN: Duration = Duration::from_millis(10);
    const RESOLUTION: &'static str = "RAPL counters are updated about every 1 ms";

    fn open(context: &Context) -> PowerSampler {
        PowerSampler { class: Class::new(context.roots.sysfs.join(CLASS), PREFIX), zones: Vec::new() }
    }

    fn check(&mut self) -> Result<(), String> {
        const LACKING: &str = "no RAPL zone in /sys/class/powercap; usual causes: a virtual machine, or the intel_rapl \
                               driver is not loaded";
        let class = &self.class.folder;
        let mut first = None;
        for folder in folders(class) {
            let path = class.join(folder).join("energy_uj");
            match Attribute::open(&path).and_then(|energy| energy.with(|_| ())) {
                Ok(()) => return Ok(()),
                Err(Errno::NOENT) => (),
                Err(error) => _ = first.get_or_insert_with(|| refused(&path, error)),
            }
        }
        Err(first.unwrap_or_else(|| LACKING.to_owned()))
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Power>) -> Result<(), SampleError> {
        let find_anew = match self.class.look(tick) {
            Look::Early => false,
            // The mode of a refused file may have changed.
            Look::Same => self.zones.iter().any(|zone| zone.energy.is_none()),
            Look::Changed => true,
        };
        if find_anew {
            let known = std::mem::take(&mut self.zones);
            self.zones = find(&self.class.folder, known, &mut rows.outcome);
        }
        self.zones.iter_mut().filter_map(|zone| zone.energy.as_mut()).for_each(Attribute::read);
        for (row, zone) in self.zones.iter_mut().enumerate() {
            let mut energy_uj = ABSENT;
            match zone.energy.as_ref().map(|energy| energy.last(microjoules)) {
                Some(Ok(Some(raw))) => {
                    let total = zone.counter.total(raw, tick.monotonic_ns);
                    energy_uj = rows.outcome.possible(total.unwrap_or(ABSENT), total.is_some());
                }
                Some(Ok(None)) => rows.outcome.fail(CLASS, format!("no count in {}/energy_uj", zone.folder)),
                Some(Err(error)) if is_gone(error) => self.class.look_again(),
                Some(Err(error)) => rows.outcome.fail(CLASS, format!("{}/energy_uj: {error}", zone.folder)),
                None => (),
            }
            let label = rows.labels.resolve(row, &zone.label);
            rows.push(Power { time: tick.time, zone: label, energy_uj });
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Zone {
    /// Its name in the class, such as `intel-rapl:0:1`.
    folder: String,
    label: String,
    /// `None` if it cannot be opened.
    energy: Option<Attribute>,
    counter: Counter,
}

/// A counter that wraps, and its sum over wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counter {
    /// The greatest value that it shows; [`ABSENT`] if the kernel does not report it. The registers count one unit more
    /// before they wrap, about 60 µJ, which the kernel does not report.
    range: i64,
    /// Its last value, [`ABSENT`] before the first read, and the time of that read.
    last: i64,
    last_ns: i64,
    /// The sum of all wraps so far.
    before: i64,
    /// The last value that it showed was left out: it had risen too much.
    doubted: bool,
}

impl Counter {
    fn new(range: i64) -> Counter {
        Counter { range, last: ABSENT, last_ns: 0, before: 0, doubted: false }
    }

    /// The total when the counter shows `raw`. If the counter restarted, the total does too. `None` if it has risen by more
    /// than any zone uses, unless that shows again.
    fn total(&mut self, raw: i64, now_ns: i64) -> Option<i64> {
        let elapsed_us = now_ns.saturating_sub(self.last_ns) / 1_000;
        let most = elapsed_us.saturating_add(LATENESS_US).saturating_mul(POWER_WATTS_MAX);
        self.doubted = !self.doubted && self.last != ABSENT && raw.saturating_sub(self.last) > most;
        if self.doubted {
            return None;
        }
        if self.last != ABSENT && raw < self.last {
            // Without a range, or with one below a value that was seen, a fall is no wrap.
            let wrapped = (self.range >= self.last && self.range.saturating_sub(self.last).saturating_add(raw) <= most)
                .then(|| self.before.saturating_add(self.range));
            self.before = wrapped.unwrap_or(0);
        }
        (self.last, self.last_ns) = (raw, now_ns);
        Some(self.before.saturating_add(raw))
    }
}

/// The zones of the class, in the order of the numbers in their names.
fn folders(class: &Path) -> Vec<String> {
    let numbers = |zone: &String| -> Option<Vec<u32>> {
        let (_, numbers) = zone.strip_prefix(PREFIX)?.split_once(':')?;
        numbers.split(':').map(|number| number.parse().ok()).collect()
    };
    let mut zones: Vec<String> = names(class).into_iter().filter(|zone| numbers(zone).is_some()).collect();
    zones.sort_by_cached_key(|zone| (control(zone).to_owned(), numbers(zone)));
    zones
}

/// The way a zone is read, which its name begins with.
fn control(zone: &str) -> &str {
    zone.split_once(':').map_or(zone, |(control, _)| control)
}

/// The zones of the class that count energy. Those in `known` continue their totals.
fn find(class: &Path, known: Vec<Zone>, outcome: &mut Outcome) -> Vec<Zone> {
    let mut zones: Vec<Zone> = Vec::new();
    for folder in folders(class) {
        let path = class.join(&folder).join("energy_uj");
        let energy = match Attribute::open(&path) {
            Ok(energy) => Some(energy),
            // The zone has only limits, or was removed after the listing.
            Err(error) if is_gone(error) => continue,
            Err(error) => {
                outcome.fail(CLASS, refused(&path, error));
                None
            }
        };
        if zones.len() >= ZONES_MAX {
            outcome.fail(CLASS, format!("more than {ZONES_MAX} zones; the others are not read"));
            break;
        }
        let mut label = label(class, &folder);
        if zones.iter().any(|zone| zone.label == label) {
            label = format!("{label} ({folder})");
        }
        let range = text_at(&class.join(&folder).join("max_energy_range_uj"));
        let range = range.and_then(|range| microjoules(range.as_bytes())).unwrap_or(ABSENT);
        let same = known.iter().find(|zone| zone.folder == folder && zone.label == label);
        let counter = same.map_or_else(|| Counter::new(range), |zone| Counter { range, ..zone.counter });
        zones.push(Zone { folder, label, energy, counter });
    }
    zones
}

/// The names of the zones around `folder`, and its own. A zone `a:0:1` is within `a:0`.
fn label(class: &Path, folder: &str) -> String {
    let mut label = if control(folder) == PREFIX { String::new() } else { control(folder).to_owned() };
    let ends = folder.match_indices(':').map(|(at, _)| at).skip(1).chain([folder.len()]);
    for zone in ends.filter_map(|end| folder.get(..end)) {
        if !label.is_empty() {
            label.push('/');
        }
        label += &text_at(&class.join(zone).join("name")).unwrap_or_else(|| zone.to_owned());
    }
    label
}

/// Why the counter at `path` cannot be read.
fn refused(path: &Path, error: Errno) -> String {
    let path_shown = path.display();
    if !matches!(error, Errno::ACCESS | Errno::PERM) {
        return format!("{path_shown}: {error}");
    }
    let mode = fs::metadata(path)
        .map_or_else(|_| String::new(), |file| format!(" (its mode is {:04o})", file.permissions().mode() & 0o7777));
    format!(
        "{path_shown} may not be read{mode}: since 5.10 Linux lets only root read it, as it reveals what other processes \
         do; run as root or with CAP_DAC_READ_SEARCH, or make it readable with a udev rule"
    )
}

/// The count in `bytes`; `None` for anything else.
fn microjoules(bytes: &[u8]) -> Option<i64> {
    integer(bytes).filter(|count| *count >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn write(probe: &Probe, zone: &str, name: &str, range: &str, energy: &str) {
        probe.write(&format!("class/powercap/{zone}/name"), format!("{name}\n"));
        probe.write(&format!("class/powercap/{zone}/max_energy_range_uj"), format!("{range}\n"));
        probe.write(&format!("class/powercap/{zone}/energy_uj"), format!("{energy}\n"));
    }

    #[test]
    fn zones_are_named_after_those_they_are_within() {
        let mut probe = Probe::empty::<PowerSampler>();
        probe.write("class/powercap/intel-rapl/enabled", "1\n");
        probe.write("class/powercap/dtpm:0/energy_uj", "1\n");
        write(&probe, "intel-rapl-mmio:0", "package-0", "262143328850", "7");
        write(&probe, "intel-rapl:10", "package-10", "262143328850", "6");
        write(&probe, "intel-rapl:2", "psys", "262143328850", "5");
        write(&probe, "intel-rapl:0:1", "dram", "65712999613", "4");
        write(&probe, "intel-rapl:0:0", "core", "262143328850", "3");
        write(&probe, "intel-rapl:0", "package-0", "262143328850", "262143328849");
        write(&probe, "intel-rapl:3", "psys", "262143328850", "8");
        probe.write("class/powercap/intel-rapl:4/name", "has no energy\n");
        assert_eq!(probe.check(), Ok(()));
        let rows = "package-0,262143328849\npackage-0/core,3\npackage-0/dram,4\npsys,5\npsys (intel-rapl:3),8\n\
                    package-10,6\nintel-rapl-mmio/package-0,7\n";
        assert_eq!((probe.rows(0).as_str(), probe.rows(10).as_str()), (rows, rows));
    }

    #[test]
    fn a_wrap_is_carried_on_and_a_counter_that_begins_anew_is_not() {
        let mut probe = Probe::empty::<PowerSampler>();
        let mut at = |ms, energy: &str| {
            write(&probe, "intel-rapl:0", "package-0", "262143328850", energy);
            probe.last_column(ms)
        };
        assert_eq!(at(0, "262143000000"), ["262143000000"]);
        assert_eq!(at(10, "262143300000"), ["262143300000"]);
        assert_eq!(at(20, "271150"), ["262143600000"]);
        assert_eq!(at(30, "571150"), ["262143900000"]);
        // As at no power that there is.
        assert_eq!(at(40, "1000"), ["1000"]);
        assert_eq!(at(50, "1001"), ["1001"]);
    }

    #[test]
    fn wraps_are_told_from_resets_by_the_power_they_mean() {
        let seen = |range, last, raw, elapsed_ns: i64| {
            let mut counter = Counter::new(range);
            assert_eq!(counter.total(last, 5), Some(last));
            counter.total(raw, 5 + elapsed_ns).unwrap()
        };
        assert_eq!(seen(1_000, 900, 50, 0), 1_050);
        assert_eq!(seen(1_000, 1_000, 0, 0), 1_000);
        // 100 ms and more at 5 kW.
        assert_eq!(seen(1_000_000_000, 500_000_000, 0, 0), 1_000_000_000);
        assert_eq!(seen(1_000_000_000, 499_999_999, 0, 0), 0);
        assert_eq!(seen(1_000_000_000, 450_000_000, 0, 10_000_000), 1_000_000_000);
        assert_eq!(seen(1_000_000_000, 449_999_999, 0, 10_000_000), 0);
        assert_eq!(seen(1_000, 2_000, 5, 0), 5);
        assert_eq!(seen(ABSENT, 2_000, 5, 1 << 60), 5);
        assert_eq!(seen(i64::MAX, 2_000, 5, 1 << 60), 5);
        assert_eq!(seen(i64::MAX, i64::MAX, 5, 0), i64::MAX);
    }

    #[test]
    fn a_rise_that_no_zone_makes_is_left_out_once() {
        let mut probe = Probe::empty::<PowerSampler>();
        let mut at = |ms, energy: &str| {
            write(&probe, "intel-rapl:0", "package-0", "262143328850", energy);
            (probe.last_column(ms).remove(0), probe.impossible)
        };
        assert_eq!(at(0, "1000000"), ("1000000".to_owned(), 0));
        assert_eq!(at(1_000, "200000000000"), (String::new(), 1));
        assert_eq!(at(2_000, "1200000"), ("1200000".to_owned(), 0));
        assert_eq!(at(3_000, "200000000000"), (String::new(), 1));
        assert_eq!(at(4_000, "200000000001"), ("200000000001".to_owned(), 0));
    }

    /// A zone that gives EIO, one that may not be opened, and garbage.
    #[test]
    fn a_zone_that_cannot_be_read_has_no_value_and_costs_no_other() {
        let mut probe = Probe::empty::<PowerSampler>();
        for zone in ["intel-rapl:0", "intel-rapl:1"] {
            probe.write(&format!("class/powercap/{zone}/name"), "");
        }
        let class = probe.path(CLASS);
        symlink("/proc/self/mem", class.join("intel-rapl:0/energy_uj")).unwrap();
        let refused = probe.check().unwrap_err();
        assert!(refused.contains("intel-rapl:0/energy_uj: Input/output error"), "{refused}");
        symlink("energy_uj", class.join("intel-rapl:1/energy_uj")).unwrap();
        write(&probe, "intel-rapl:2", "p", "9", "2");
        assert_eq!(probe.check(), Ok(()));
        let (rows, outcome) = probe.tick(0);
        assert_eq!(rows, "intel-rapl:0,\nintel-rapl:1,\np,2\n");
        assert!(outcome.unwrap_err().to_string().contains("intel-rapl:1/energy_uj: Too many levels"));
        let told = |probe: &mut Probe, ms| probe.tick(ms).1.unwrap_err().to_string();
        assert!(told(&mut probe, 1).contains("intel-rapl:0/energy_uj: Input/output error"));
        // What could not be opened is tried again later.
        assert!(told(&mut probe, 10_000).contains("intel-rapl:1/energy_uj"));
        for garbage in ["", "-1", "2 3", "\u{1}", "99999999999999999999"] {
            write(&probe, "intel-rapl:2", "p", "9", garbage);
            let (rows, outcome) = probe.tick(10_001);
            assert_eq!(rows, "intel-rapl:0,\nintel-rapl:1,\np,\n");
            assert!(outcome.unwrap_err().to_string().starts_with("read class/powercap: intel-rapl:0/energy_uj: "));
        }
    }

    #[test]
    fn zones_come_and_go_and_go_on_counting() {
        let mut probe = Probe::empty::<PowerSampler>();
        assert_eq!(probe.rows(0), "");
        write(&probe, "intel-rapl:0", "p", "1000", "990");
        assert_eq!(probe.rows(10_000), "p,990\n");
        write(&probe, "intel-rapl:0", "p", "1000", "10");
        write(&probe, "intel-rapl:1", "q", "none", "7");
        assert_eq!(probe.rows(10_001), "p,1010\n");
        assert_eq!(probe.rows(20_000), "p,1010\nq,7\n");
        fs::remove_dir_all(probe.path(CLASS).join("intel-rapl:0")).unwrap();
        write(&probe, "intel-rapl:1", "q", "none", "6");
        assert_eq!(probe.rows(30_000), "q,6\n");
    }

    #[test]
    fn the_number_of_zones_is_bounded() {
        let mut probe = Probe::empty::<PowerSampler>();
        for zone in 0..=ZONES_MAX {
            write(&probe, &format!("intel-rapl:{zone}"), &format!("package-{zone}"), "9", "1");
        }
        let (rows, outcome) = probe.tick(0);
        assert_eq!(rows.lines().count(), ZONES_MAX);
        assert!(outcome.unwrap_err().to_string().contains("more than 256 zones"));
    }

    #[test]
    fn a_host_without_zones_lacks_them_and_one_that_refuses_says_so() {
        let mut probe = Probe::empty::<PowerSampler>();
        assert!(
            probe.check().unwrap_err().contains("no RAPL zone in /sys/class/powercap; usual causes: a virtual machine")
        );
        probe.write("class/powercap/intel-rapl:0/name", "limits only\n");
        assert!(probe.check().unwrap_err().contains("no RAPL zone in /sys/class/powercap"));
        write(&probe, "intel-rapl:0", "p", "9", "1");
        let path = probe.path(CLASS).join("intel-rapl:0/energy_uj");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        // Tests may run as root, whom no mode refuses.
        let told = refused(&path, Errno::ACCESS);
        assert!(told.contains("intel-rapl:0/energy_uj may not be read (its mode is 0400): "), "{told}");
    }
}
