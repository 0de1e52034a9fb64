//! `sensor`: temperatures and fans of the host's sensors, from `/sys/class/hwmon` and `/sys/class/thermal`.
//!
//! The kernel's `Documentation/hwmon/sysfs-interface.rst` and `Documentation/driver-api/thermal/sysfs-api.rst` describe the
//! files. heim's list of temperatures is not used: it does not give a chip's device, so two equal disks look the same; its
//! errors do not name the sensor; it ignores a sensor's fault; and it lists and opens everything at each call.

mod chip;
mod found;
mod power;
mod zone;

use std::ops::Range;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use self::found::{Found, Quantity};
use self::power::Power;
use crate::reading::attribute::Attribute;
use crate::reading::class::{Class, Look};
use crate::reading::filter::Filter;
use crate::reading::prelude::*;
use crate::reading::reader::is_gone;
use crate::reading::text::integer;

/// The most sensors that are read. Each keeps one descriptor, or two if it can report a fault.
const SENSORS_MAX: usize = 256;
const MILLIDEGREES_PER_DEGREE: f64 = 1_000.0;
/// What a sensor in a host can mean, °C. Drivers give values beyond it for a sensor that is not connected, such as -128, and for
/// one that was not measured, such as 0 K.
const TEMPERATURES: Range<f64> = -100.0..300.0;
/// The fastest speed that a fan in a host can have, revolutions per minute. Drivers give greater ones for a fan that stands
/// still.
const FAN_RPM_MAX: i64 = 100_000;

record! {
    /// The temperature of each sensor and the speed of each fan; at most 256 sensors and fans. kymo notices new chips within
    /// 10 s, and new sensors of a known chip within a minute. It notices at once when a sensor disappears. A thermal zone has a
    /// row if no chip has its temperature, as on many ARM boards. `[sensor]` in the configuration leaves chips out.
    ///
    /// kymo does not read the sensors of a device that sleeps (`power_state` is `D3hot` or `D3cold`, or `runtime_status` is
    /// `suspended`), because a read may wake it.
    pub struct Sensor("sensor") {
        labels {
            /// The driver's name of the chip, such as `coretemp` or `nvme`; the type of a thermal zone, such as `cpu-thermal`.
            chip => "kymo.sensor.chip",
            /// The driver's label of the sensor, or `temp1`, `fan1` and so on if it has none. If two sensors of a chip have
            /// the same label, the second also has its `temp` or `fan` name in parentheses. For a thermal zone:
            /// `thermal_zone0` and so on.
            sensor => "kymo.sensor.name",
            /// The device of the chip, such as `nvme0` or `0000:00:18.3`. If the device is unknown: `hwmon0` or
            /// `thermal_zone0` and so on, whose number may change at a reboot.
            device => "kymo.sensor.device",
        }
        values {
            /// Temperature of the sensor. NULL for a fan, if the device sleeps, if the driver reports a fault of the sensor or
            /// gives no temperature now, and where it is none that a sensor can mean (-100 °C to 300 °C).
            gauge temperature_celsius: f64 [Celsius] => "kymo.sensor.temperature" {},
            /// Limit above which the temperature is too high. NULL if the chip has no such limit, or has not set it.
            gauge high_celsius: f64 [Celsius] => "kymo.sensor.limit" {"kymo.limit" = "high"},
            /// Limit above which the hardware is in danger. NULL if the chip has no such limit, or has not set it.
            gauge critical_celsius: f64 [Celsius] => "kymo.sensor.limit" {"kymo.limit" = "critical"},
            /// Speed of the fan, revolutions per minute; 0 if it stands still. NULL for a temperature, if the device sleeps, if
            /// the driver reports a fault, and where it is no speed of a fan (above 100,000).
            gauge fan_rpm: i64 [Count("{revolution}/min")] => "kymo.sensor.fan_speed" {},
        }
    }
}

/// Reads each sensor through its own descriptor.
#[derive(Debug)]
pub struct SensorSampler {
    chips: Class,
    zones: Class,
    filter: Filter,
    /// The devices that can sleep.
    powers: Vec<Power>,
    inputs: Vec<Input>,
}

impl Sample for SensorSampler {
    type Record = Sensor;
    const INTERVAL_MIN: Duration = Duration::from_secs(1);
    const RESOLUTION: &'static str = "depends on the driver: most measure once or twice a second, and many round to whole \
                                      degrees; a changed limit is seen within 10 s";

    fn open(context: &Context) -> SensorSampler {
        let class = |name, prefix| Class::new(context.roots.sysfs.join(name), prefix);
        SensorSampler {
            chips: class(chip::CLASS, chip::PREFIX),
            zones: class(zone::CLASS, zone::PREFIX),
            filter: context.filters.sensor.clone(),
            powers: Vec::new(),
            inputs: Vec::new(),
        }
    }

    fn check(&mut self) -> Result<(), String> {
        let chips = chip::list(&self.chips.folder);
        let has_zones = !zone::list(&self.zones.folder, &chips).is_empty();
        if chips.is_empty() && !has_zones {
            return Err(
                "there is neither /sys/class/hwmon/hwmon* nor /sys/class/thermal/thermal_zone*: no driver exports a \
                        sensor, as in most virtual machines"
                    .to_owned(),
            );
        }
        if !has_zones && chips.iter().all(|chip| chip.sensors().is_empty()) {
            return Err("there is no /sys/class/hwmon/hwmon*/temp*_input or fan*_input: no driver exports a temperature or a fan"
                .to_owned());
        }
        Ok(())
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Sensor>) -> Result<(), SampleError> {
        let looks = [self.chips.look(tick), self.zones.look(tick)];
        if looks.contains(&Look::Changed) {
            self.find(&mut rows.outcome);
        }
        self.powers.iter_mut().for_each(Power::read);
        let SensorSampler { powers, inputs, .. } = self;
        let sleeps = |input: &Input| input.power.and_then(|power| powers.get(power)).is_some_and(Power::is_asleep);
        for input in inputs.iter_mut() {
            input.sleeps = sleeps(input);
            if !input.sleeps {
                input.read();
            }
        }
        let mut has_gone = false;
        for (row, input) in inputs.iter_mut().enumerate() {
            if !looks.contains(&Look::Early) && !input.sleeps {
                input.read_limits(&mut rows.outcome);
            }
            let value = match input.value() {
                Ok(value) => {
                    input.was_refused = false;
                    value
                }
                // It is switched off or not ready.
                Err(Silence::Error(Errno::NODATA | Errno::AGAIN | Errno::BUSY)) => None,
                Err(Silence::Error(error)) if is_gone(error) => {
                    has_gone = true;
                    None
                }
                // Some drivers refuse while they are asleep or locked, perhaps for days: that is told once.
                Err(Silence::Error(Errno::PERM | Errno::ACCESS)) if input.was_refused => None,
                Err(silence) => {
                    input.was_refused = true;
                    rows.outcome.fail(input.class, format!("{}: {}: {silence}", input.chip, input.file));
                    None
                }
            };
            // A row has three labels, each at its own place in the cache.
            let mut label = |nth: usize, text: &str| rows.labels.resolve(row * 3 + nth, text);
            let record = Sensor {
                chip: label(0, &input.chip),
                sensor: label(1, &input.sensor),
                device: label(2, &input.device),
                high_celsius: input.high.celsius,
                critical_celsius: input.critical.celsius,
                ..Sensor::absent(tick.time)
            };
            let record = match (input.quantity, value) {
                (_, None) => record,
                (Quantity::Temperature, Some(value)) => {
                    let celsius = value as f64 / MILLIDEGREES_PER_DEGREE;
                    let temperature_celsius = rows.outcome.possible(celsius, TEMPERATURES.contains(&celsius));
                    Sensor { temperature_celsius, ..record }
                }
                (Quantity::Fan, Some(value)) => {
                    let fan_rpm = rows.outcome.possible(value, (0..=FAN_RPM_MAX).contains(&value));
                    Sensor { fan_rpm, ..record }
                }
            };
            rows.push(record);
        }
        if has_gone {
            self.chips.look_again();
            self.zones.look_again();
        }
        Ok(())
    }
}

impl SensorSampler {
    /// Looks for all sensors anew.
    fn find(&mut self, outcome: &mut Outcome) {
        self.powers.clear();
        self.inputs.clear();
        let chips = chip::list(&self.chips.folder);
        let zones = zone::list(&self.zones.folder, &chips);
        let sensors = chips.iter().flat_map(|chip| chip.sensors().into_iter().map(move |found| (Some(chip), found)));
        let sensors = sensors.chain(zones.into_iter().map(|found| (None, found)));
        let mut last_chip: Option<&Path> = None;
        for (chip, found) in sensors {
            if !self.filter.takes_thing(&[&found.chip, &found.device]) {
                continue;
            }
            if self.inputs.len() >= SENSORS_MAX {
                outcome.fail(found.class, format!("more than {SENSORS_MAX} sensors; the others are not read"));
                return;
            }
            if let Some(chip) = chip
                && last_chip != Some(&chip.folder)
            {
                last_chip = Some(&chip.folder);
                self.powers.push(Power::of(&chip.link));
            }
            let power = chip.and_then(|_| self.powers.len().checked_sub(1));
            match Attribute::open(&found.value) {
                Ok(value) => {
                    let folder = found.value.parent().and_then(Path::file_name).unwrap_or_default().to_os_string();
                    let mut input = Input::new(found, value, power);
                    let by_name = format!("{} ({})", input.sensor, input.name);
                    let by_folder = format!("{} ({}/{})", input.sensor, folder.display(), input.name);
                    for other_name in [by_name, by_folder] {
                        let is_same = |other: &Input| {
                            (&other.chip, &other.device, &other.sensor) == (&input.chip, &input.device, &input.sensor)
                        };
                        if self.inputs.iter().any(is_same) {
                            input.sensor = other_name;
                        }
                    }
                    self.inputs.push(input);
                }
                // It was removed after the listing.
                Err(error) if is_gone(error) => {}
                Err(error) => outcome.fail(found.class, format!("{}: {error}", found.value.display())),
            }
        }
    }
}

/// A sensor.
#[derive(Debug)]
struct Input {
    class: &'static str,
    quantity: Quantity,
    chip: String,
    sensor: String,
    device: String,
    name: String,
    /// The name of its file, for people.
    file: String,
    /// Which of the sampler's devices it belongs to, if that can sleep.
    power: Option<usize>,
    sleeps: bool,
    /// The driver refused, and this was told.
    was_refused: bool,
    value: Attribute,
    /// Reports that the sensor is open, shorted or otherwise not to be trusted; not all drivers have it.
    fault: Option<Attribute>,
    high: Limit,
    critical: Limit,
}

/// Why a sensor gives nothing.
#[derive(Debug, thiserror::Error)]
enum Silence {
    #[error("no number in it")]
    NoNumber,
    #[error("{0}")]
    Error(Errno),
}

impl Input {
    fn new(found: Found, value: Attribute, power: Option<usize>) -> Input {
        let fault = found.fault.as_deref().and_then(|fault| Attribute::open(fault).ok());
        let limit = |path: Option<PathBuf>| Limit { path, celsius: f64::NAN };
        let Found { class, quantity, chip, sensor, device, name, value: path, high, critical, .. } = found;
        let file = path.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
        let (high, critical) = (limit(high), limit(critical));
        let (sleeps, was_refused) = (false, false);
        Input {
            class,
            quantity,
            chip,
            sensor,
            device,
            name,
            file,
            power,
            sleeps,
            was_refused,
            value,
            fault,
            high,
            critical,
        }
    }

    fn read(&mut self) {
        self.value.read();
        if let Some(fault) = &mut self.fault {
            fault.read();
        }
    }

    /// What was read; `None` while the device sleeps and during a fault.
    fn value(&self) -> Result<Option<i64>, Silence> {
        if self.sleeps {
            return Ok(None);
        }
        let value = self.value.last(integer).map_err(Silence::Error)?.ok_or(Silence::NoNumber)?;
        let trusted = self.fault.as_ref().is_none_or(|fault| fault.last(|said| said == b"0") == Ok(true));
        Ok(trusted.then_some(value))
    }

    fn read_limits(&mut self, outcome: &mut Outcome) {
        self.high.read(self.class, outcome);
        self.critical.read(self.class, outcome);
    }
}

/// A limit of a sensor, which a chip may lack. It seldom changes, so it is read at each look and not kept open.
#[derive(Debug)]
struct Limit {
    path: Option<PathBuf>,
    celsius: f64,
}

impl Limit {
    fn read(&mut self, class: &'static str, outcome: &mut Outcome) {
        self.celsius = f64::NAN;
        let Some(path) = &self.path else { return };
        match Attribute::open(path).and_then(|attribute| attribute.with(integer)) {
            Ok(Some(limit)) => {
                // Unset limits are 0 (drivetemp) or the greatest value of their register (nvme: 65,535 K).
                let celsius = limit as f64 / MILLIDEGREES_PER_DEGREE;
                self.celsius = outcome.possible(celsius, celsius > 0.0 && TEMPERATURES.contains(&celsius));
            }
            Ok(None) => outcome.fail(class, format!("no number in {}", path.display())),
            // The driver does not answer or is gone.
            Err(_) => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::symlink;
    use std::{fs, thread};

    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    };

    use super::chip::CLASS;
    use super::*;
    use crate::reading::filter::Filters;

    /// A chip of these files, each with a line.
    fn write(probe: &Probe, chip: &str, files: &[(&str, &str)]) {
        for (name, said) in files {
            probe.write(&format!("class/hwmon/{chip}/{name}"), format!("{said}\n"));
        }
    }

    #[test]
    fn rows_are_in_the_order_of_numbers_and_need_no_label_nor_limit() {
        let mut probe = Probe::empty::<SensorSampler>();
        write(&probe, "hwmon10", &[("name", "acpitz"), ("temp1_input", "-5500")]);
        write(
            &probe,
            "hwmon2",
            &[
                ("name", "coretemp"),
                ("temp10_input", "41000"),
                ("temp2_input", "38000"),
                ("temp2_label", "Core 0"),
                ("temp2_max", "80000"),
                ("temp2_crit", "100000"),
                ("temp2_crit_alarm", "0"),
                ("tempx_input", "1"),
                ("temp_input", "1"),
                ("temp3_label", "no input"),
                ("fan1_input", "900"),
                ("in0_input", "1000"),
            ],
        );
        write(&probe, "thermal", &[("name", "none"), ("temp1_input", "1")]);
        symlink("../../devices/platform/coretemp.0", probe.path(CLASS).join("hwmon2/device")).unwrap();
        assert_eq!(probe.check(), Ok(()));
        let rows = "coretemp,Core 0,coretemp.0,38.0,80.0,100.0,\ncoretemp,temp10,coretemp.0,41.0,,,\n\
                    coretemp,fan1,coretemp.0,,,,900\nacpitz,temp1,hwmon10,-5.5,,,\n";
        assert_eq!((probe.rows(0).as_str(), probe.rows(1_000).as_str()), (rows, rows));
        write(&probe, "hwmon2", &[("temp2_input", "38001"), ("temp2_max", "90000")]);
        assert!(probe.rows(2_000).starts_with("coretemp,Core 0,coretemp.0,38.001,80.0,100.0,\n"));
        // A changed limit is seen at the next look.
        assert!(probe.rows(10_000).starts_with("coretemp,Core 0,coretemp.0,38.001,90.0,100.0,\n"));
    }

    #[test]
    fn what_no_sensor_can_mean_and_unset_limits_are_absent() {
        let mut probe = Probe::empty::<SensorSampler>();
        let disk = [("name", "drivetemp"), ("temp1_input", "43000"), ("temp1_max", "0"), ("temp1_crit", "0")];
        write(&probe, "hwmon0", &disk);
        let first = [("name", "nvme"), ("temp1_input", "36850"), ("temp1_max", "84850"), ("temp1_crit", "84850")];
        write(&probe, "hwmon1", &first);
        write(&probe, "hwmon1", &[("temp2_input", "36850"), ("temp2_max", "65261850")]);
        write(&probe, "hwmon1", &[("temp3_input", "65261850"), ("temp4_input", "-273150"), ("temp5_input", "-128000")]);
        let rows = "drivetemp,temp1,hwmon0,43.0,,,\nnvme,temp1,hwmon1,36.85,84.85,84.85,\nnvme,temp2,hwmon1,36.85,,,\n\
                    nvme,temp3,hwmon1,,,,\nnvme,temp4,hwmon1,,,,\nnvme,temp5,hwmon1,,,,\n";
        assert_eq!(probe.rows(0), rows);
        assert_eq!(probe.impossible, 6, "three limits and three temperatures");
    }

    /// A driver that refuses is played by the kernel: a filter of system calls has each read of a value fail.
    #[test]
    fn a_driver_that_refuses_is_told_once() {
        let refuse = || {
            let is_value = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 32).unwrap();
            let rules = BTreeMap::from([(libc::SYS_pread64, vec![SeccompRule::new(vec![is_value]).unwrap()])]);
            let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
            let arch = std::env::consts::ARCH.try_into().unwrap();
            let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).unwrap();
            seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
        };
        let run = move || {
            let mut probe = Probe::empty::<SensorSampler>();
            write(&probe, "hwmon0", &[("name", "drivetemp"), ("temp1_input", "45000"), ("temp1_max", "70000")]);
            assert_eq!(probe.rows(0), "drivetemp,temp1,hwmon0,45.0,70.0,,\n");
            refuse();
            let mut told = Vec::new();
            for second in 1..4 {
                let (rows, outcome) = probe.tick(second * 1_000);
                assert_eq!(rows, "drivetemp,temp1,hwmon0,,70.0,,\n");
                told.extend(outcome.err().map(|error| error.to_string()));
            }
            assert_eq!(told.len(), 1);
            assert!(told[0].contains("drivetemp: temp1_input: ") && told[0].contains("not permitted"), "{told:?}");
        };
        // The filter stays with its thread.
        thread::spawn(run).join().unwrap();
    }

    #[test]
    fn equal_chips_are_told_apart() {
        let mut probe = Probe::empty::<SensorSampler>();
        for (chip, device) in [("hwmon0", "nvme0"), ("hwmon1", "nvme1")] {
            let files = [("temp1_input", "1000"), ("temp2_input", "2000"), ("temp1_label", "T"), ("temp2_label", "T")];
            write(&probe, chip, &[("name", "nvme")]);
            write(&probe, chip, &files);
            symlink(format!("../../{device}"), probe.path(CLASS).join(chip).join("device")).unwrap();
        }
        assert_eq!(
            probe.rows(0),
            "nvme,T,nvme0,1.0,,,\nnvme,T (temp2),nvme0,2.0,,,\nnvme,T,nvme1,1.0,,,\nnvme,T (temp2),nvme1,2.0,,,\n"
        );
    }

    #[test]
    fn drivers_of_old_have_their_files_in_the_devices_folder() {
        let mut probe = Probe::empty::<SensorSampler>();
        probe.write("devices/i2c-0/0-002d/name", "w83781d\n");
        probe.write("devices/i2c-0/0-002d/temp1_input", "30000\n");
        std::fs::create_dir_all(probe.path(CLASS).join("hwmon0")).unwrap();
        symlink("../../../devices/i2c-0/0-002d", probe.path(CLASS).join("hwmon0/device")).unwrap();
        assert_eq!(probe.check(), Ok(()));
        assert_eq!(probe.rows(0), "w83781d,temp1,0-002d,30.0,,,\n");
    }

    /// Sensors that give EIO and EISDIR, one at fault and one that was, and chips without a name.
    #[test]
    fn a_sensor_that_does_not_answer_has_no_value_and_costs_no_other() {
        let mut probe = Probe::empty::<SensorSampler>();
        write(&probe, "hwmon0", &[("temp3_input", "3000"), ("temp3_fault", "1"), ("temp3_max", "5000")]);
        write(&probe, "hwmon0", &[("temp4_input", "4000"), ("temp4_fault", "0"), ("temp4_label", "")]);
        write(&probe, "hwmon0/temp2_input", &[("x", "")]);
        symlink("/proc/self/mem", probe.path(CLASS).join("hwmon0/temp1_input")).unwrap();
        let rows = "hwmon0,temp1,hwmon0,,,,\nhwmon0,temp2,hwmon0,,,,\nhwmon0,temp3,hwmon0,,5.0,,\n";
        let (found, outcome) = probe.tick(0);
        assert_eq!(found, format!("{rows}hwmon0,temp4,hwmon0,4.0,,,\n"));
        let error = outcome.unwrap_err().to_string();
        assert_eq!(error, "read class/hwmon: hwmon0: temp1_input: Input/output error (os error 5)");
        write(&probe, "hwmon0", &[("temp3_fault", "0"), ("temp4_fault", "")]);
        let found = probe.tick(1_000).0;
        assert_eq!(found, format!("{}hwmon0,temp4,hwmon0,,,,\n", rows.replace(",,5.0", ",3.0,5.0")));
    }

    #[test]
    fn garbage_is_an_error_and_no_value() {
        let mut probe = Probe::empty::<SensorSampler>();
        write(&probe, "hwmon0", &[("temp1_input", "warm"), ("temp2_input", "2000"), ("name", "c")]);
        probe.write("class/hwmon/hwmon1/temp1_input", b"\xff\n");
        probe.write("class/hwmon/hwmon1/name", b"\xff\n");
        let (rows, outcome) = probe.tick(0);
        assert_eq!(rows, "c,temp1,hwmon0,,,,\nc,temp2,hwmon0,2.0,,,\n\u{fffd},temp1,hwmon1,,,,\n");
        assert_eq!(outcome.unwrap_err().to_string(), "read class/hwmon: c: temp1_input: no number in it");
        write(&probe, "hwmon0", &[("temp1_input", "1000"), ("temp1_crit", "hot")]);
        write(&probe, "hwmon1", &[("temp1_input", "1000")]);
        let (rows, outcome) = probe.tick(60_000);
        assert!(rows.starts_with("c,temp1,hwmon0,1.0,,,\n"), "{rows}");
        assert!(outcome.unwrap_err().to_string().ends_with("hwmon0/temp1_crit"));
    }

    #[test]
    fn chips_come_and_go() {
        let mut probe = Probe::empty::<SensorSampler>();
        assert_eq!(probe.rows(0), "");
        write(&probe, "hwmon0", &[("name", "a"), ("temp1_input", "1000")]);
        assert_eq!(probe.rows(9_999), "");
        assert_eq!(probe.rows(10_000), "a,temp1,hwmon0,1.0,,,\n");
        fs::remove_dir_all(probe.path(CLASS).join("hwmon0")).unwrap();
        write(&probe, "hwmon0", &[("name", "b"), ("temp1_input", "2000")]);
        // What was opened stays with the chip that went; it has no file of the new one.
        assert_eq!(probe.rows(11_000), "a,temp1,hwmon0,1.0,,,\n");
        assert_eq!(probe.rows(20_000), "b,temp1,hwmon0,2.0,,,\n");
        fs::remove_dir_all(probe.path(CLASS)).unwrap();
        assert_eq!(probe.rows(30_000), "");
    }

    #[test]
    fn the_number_of_sensors_is_bounded() {
        let mut probe = Probe::empty::<SensorSampler>();
        for chip in 0..3 {
            for number in 0..100 {
                probe.write(&format!("class/hwmon/hwmon{chip}/temp{number}_input"), "1");
            }
        }
        let (rows, outcome) = probe.tick(0);
        assert_eq!(rows.lines().count(), SENSORS_MAX);
        assert!(outcome.unwrap_err().to_string().contains("more than 256 sensors"));
        assert_eq!(probe.rows(1).lines().count(), SENSORS_MAX);
    }

    #[test]
    fn a_host_without_sensors_lacks_them() {
        let mut probe = Probe::empty::<SensorSampler>();
        assert_eq!(
            probe.check().unwrap_err(),
            "there is neither /sys/class/hwmon/hwmon* nor /sys/class/thermal/thermal_zone*: no driver exports a sensor, as in \
             most virtual machines"
        );
        write(&probe, "hwmon0", &[("name", "BAT0"), ("in0_input", "1000")]);
        assert!(probe.check().unwrap_err().contains("temp*_input"));
        write(&probe, "hwmon0", &[("temp1_input", "1000")]);
        assert_eq!(probe.check(), Ok(()));
    }

    #[test]
    fn the_sensors_of_a_device_that_sleeps_are_not_read() {
        let mut probe = Probe::empty::<SensorSampler>();
        write(&probe, "hwmon0", &[("name", "amdgpu"), ("temp1_input", "45000"), ("temp1_crit", "97000")]);
        write(&probe, "hwmon0", &[("fan1_input", "900"), ("device/power_state", "D3cold")]);
        write(&probe, "hwmon1", &[("name", "drivetemp"), ("temp1_input", "29000"), ("temp1_max", "60000")]);
        write(&probe, "hwmon1", &[("device/power/runtime_status", "suspended")]);
        let asleep = "amdgpu,temp1,hwmon0,,,,\namdgpu,fan1,hwmon0,,,,\ndrivetemp,temp1,hwmon1,,,,\n";
        assert_eq!((probe.rows(0).as_str(), probe.rows(1_000).as_str()), (asleep, asleep));
        write(&probe, "hwmon0", &[("device/power_state", "D0")]);
        write(&probe, "hwmon1", &[("device/power/runtime_status", "active")]);
        let awake = "amdgpu,temp1,hwmon0,45.0,,,\namdgpu,fan1,hwmon0,,,,900\ndrivetemp,temp1,hwmon1,29.0,,,\n";
        assert_eq!(probe.rows(2_000), awake, "limits are read at the next look");
        let looked = awake.replace("45.0,,,", "45.0,,97.0,").replace("29.0,,,", "29.0,60.0,,");
        assert_eq!(probe.rows(10_000), looked);
        write(&probe, "hwmon0", &[("device/power_state", "D3hot")]);
        assert_eq!(probe.rows(11_000), looked.replace("45.0,", ",").replace("900", ""), "limits stay known");
    }

    #[test]
    fn what_a_fan_cannot_do_is_absent_and_chips_that_are_left_out_are_not_read() {
        let sensor = Filter::new(&[] as &[&str], &["gone", "hwmon2"]).unwrap();
        let mut probe = Probe::filtering::<SensorSampler>(Filters { sensor, ..Filters::default() });
        write(
            &probe,
            "hwmon0",
            &[("name", "it87"), ("fan1_input", "0"), ("fan2_input", "1350000"), ("fan3_input", "-1")],
        );
        write(&probe, "hwmon0", &[("fan4_input", "1200"), ("fan4_label", "CPU"), ("fan4_fault", "1")]);
        write(&probe, "hwmon1", &[("name", "gone"), ("fan1_input", "x")]);
        write(&probe, "hwmon2", &[("name", "other"), ("fan1_input", "x")]);
        let rows = "it87,fan1,hwmon0,,,,0\nit87,fan2,hwmon0,,,,\nit87,fan3,hwmon0,,,,\nit87,CPU,hwmon0,,,,\n";
        assert_eq!(probe.rows(0), rows);
    }

    /// Files of the classes, each with a line.
    fn write_class(probe: &Probe, files: &[(&str, &str)]) {
        files.iter().for_each(|(name, said)| probe.write(&format!("class/{name}"), format!("{said}\n")));
    }

    #[test]
    fn a_zone_has_a_row_unless_a_chip_has_its_temperature() {
        let mut probe = Probe::empty::<SensorSampler>();
        write_class(&probe, &[("thermal/cooling_device0/type", "Processor"), ("thermal/thermal_zone10/temp", "-5000")]);
        write_class(&probe, &[("thermal/thermal_zone2/type", "cpu-thermal"), ("thermal/thermal_zone2/temp", "70908")]);
        for (number, kind, celsius) in [(0, "passive", 85), (1, "critical", 110), (10, "critical", 120), (2, "hot", 95)]
        {
            let point = format!("thermal/thermal_zone2/trip_point_{number}");
            write_class(
                &probe,
                &[(&format!("{point}_type"), kind), (&format!("{point}_temp"), &format!("{celsius}000"))],
            );
        }
        assert_eq!(probe.check(), Ok(()));
        let zones = "cpu-thermal,thermal_zone2,thermal_zone2,70.908,95.0,110.0,\nthermal,thermal_zone10,thermal_zone10,-5.0,,,\n";
        assert_eq!(probe.rows(0), zones);

        // Twins of chips, and one that measures nothing.
        write_class(&probe, &[("hwmon/hwmon0/name", "gpu_thermal"), ("hwmon/hwmon0/temp1_input", "40000")]);
        write_class(&probe, &[("hwmon/hwmon1/name", "coretemp"), ("hwmon/hwmon1/temp1_input", "41000")]);
        write_class(&probe, &[("hwmon/hwmon2/name", "x"), ("hwmon/hwmon2/temp1_input", "42000")]);
        symlink("../../thermal_zone6", probe.path(CLASS).join("hwmon2/device")).unwrap();
        for (number, kind) in [(3, "gpu-thermal"), (4, "x86_pkg_temp"), (5, "INT3400 Thermal"), (6, "other")] {
            let zone = format!("thermal/thermal_zone{number}");
            write_class(&probe, &[(&format!("{zone}/type"), kind), (&format!("{zone}/temp"), "20000")]);
        }
        let chips = "gpu_thermal,temp1,hwmon0,40.0,,,\ncoretemp,temp1,hwmon1,41.0,,,\nx,temp1,thermal_zone6,42.0,,,\n";
        assert_eq!(probe.rows(60_000), format!("{chips}{zones}"));
    }
}
