//! `sensor`: temperatures of the host's sensors, from `/sys/class/hwmon`.
//!
//! The kernel's `Documentation/hwmon/sysfs-interface.rst` describes the files. heim's list of temperatures is not used:
//! it does not give a chip's device, so two equal disks look the same; its errors do not name the sensor; it ignores a
//! sensor's fault; and it lists and opens everything at each call.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::reading::attribute::{Attribute, text_at};
use crate::reading::class::{Class, Look};
use crate::reading::folder::names;
use crate::reading::prelude::*;
use crate::reading::reader::is_gone;
use crate::reading::text::integer;

const CLASS: &str = "class/hwmon";
const PREFIX: &str = "hwmon";
/// The most sensors that are read. Each keeps one descriptor, or two if it can report a fault.
const SENSORS_MAX: usize = 256;
const MILLIDEGREES_PER_DEGREE: f64 = 1_000.0;
/// What a sensor in a host can mean, °C. Drivers give values beyond it for a sensor that is not connected, such as -128, and for
/// one that was not measured, such as 0 K.
const TEMPERATURES: Range<f64> = -100.0..300.0;

record! {
    /// The temperature of each sensor; at most 256 sensors. kymo notices new chips within 10 s, and new sensors of a
    /// known chip within a minute. It notices at once when a sensor disappears.
    pub struct Sensor("sensor") {
        labels {
            /// The driver's name of the chip, such as `coretemp` or `nvme`.
            chip => "kymo.sensor.chip",
            /// The driver's label of the sensor, or `temp1` and so on if it has none. If two sensors of a chip have the
            /// same label, the second also has its `temp` name in parentheses.
            sensor => "kymo.sensor.name",
            /// The device of the chip, such as `nvme0` or `0000:00:18.3`. If the device is unknown: `hwmon0` and so on,
            /// whose number may change at a reboot.
            device => "kymo.sensor.device",
        }
        values {
            /// Temperature of the sensor. NULL if the driver reports a fault of the sensor or gives no temperature now, for
            /// example because the device sleeps, and NULL where it is none that a sensor can mean (-100 °C to 300 °C).
            gauge temperature_celsius: f64 [Celsius] => "kymo.sensor.temperature" {},
            /// Limit above which the temperature is too high. NULL if the chip has no such limit, or has not set it.
            gauge high_celsius: f64 [Celsius] => "kymo.sensor.limit" {"kymo.limit" = "high"},
            /// Limit above which the hardware is in danger. NULL if the chip has no such limit, or has not set it.
            gauge critical_celsius: f64 [Celsius] => "kymo.sensor.limit" {"kymo.limit" = "critical"},
        }
    }
}

/// Reads each sensor through its own descriptor.
#[derive(Debug)]
pub struct SensorSampler {
    class: Class,
    inputs: Vec<Input>,
}

impl Sample for SensorSampler {
    type Record = Sensor;
    const INTERVAL_MIN: Duration = Duration::from_secs(1);
    const RESOLUTION: &'static str = "depends on the driver: most measure once or twice a second, and many round to whole \
                                      degrees; a changed limit is seen within 10 s";

    fn open(context: &Context) -> SensorSampler {
        SensorSampler { class: Class::new(context.roots.sysfs.join(CLASS), PREFIX), inputs: Vec::new() }
    }

    fn check(&mut self) -> Result<(), String> {
        let chips = chips(&self.class.folder);
        if chips.is_empty() {
            return Err("there is no /sys/class/hwmon/hwmon*: no driver exports a sensor, as in most virtual machines"
                .to_owned());
        }
        if chips.iter().all(|chip| chip.temperatures().is_empty()) {
            return Err("there is no /sys/class/hwmon/hwmon*/temp*_input: no driver exports a temperature".to_owned());
        }
        Ok(())
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Sensor>) -> Result<(), SampleError> {
        match self.class.look(tick) {
            Look::Early => (),
            Look::Same => self.inputs.iter_mut().for_each(|input| input.read_limits(&mut rows.outcome)),
            Look::Changed => self.inputs = find(&self.class.folder, &mut rows.outcome),
        }
        self.inputs.iter_mut().for_each(Input::read);
        for (row, input) in self.inputs.iter().enumerate() {
            let read = input.temperature(&mut rows.outcome);
            match read {
                // An error of these means that the sensor is switched off or not ready.
                Ok(Some(_)) | Err(Errno::NODATA | Errno::AGAIN | Errno::BUSY) => (),
                Ok(None) => rows.outcome.fail(CLASS, format!("{}: no number in {}_input", input.chip, input.name)),
                Err(error) if is_gone(error) => self.class.look_again(),
                Err(error) => rows.outcome.fail(CLASS, format!("{}: {}_input: {error}", input.chip, input.name)),
            }
            // A row has three labels, each at its own place in the cache.
            let mut label = |nth: usize, text: &str| rows.labels.resolve(row * 3 + nth, text);
            let record = Sensor {
                time: tick.time,
                chip: label(0, &input.chip),
                sensor: label(1, &input.sensor),
                device: label(2, &input.device),
                temperature_celsius: read.ok().flatten().unwrap_or(f64::NAN),
                high_celsius: input.high.celsius,
                critical_celsius: input.critical.celsius,
            };
            rows.push(record);
        }
        Ok(())
    }
}

/// A sensor.
#[derive(Debug)]
struct Input {
    chip: String,
    sensor: String,
    device: String,
    /// The beginning of its files' names, such as `temp1`.
    name: String,
    value: Attribute,
    /// Reports that the sensor is open, shorted or otherwise not to be trusted; not all drivers have it.
    fault: Option<Attribute>,
    high: Limit,
    critical: Limit,
}

impl Input {
    fn read(&mut self) {
        self.value.read();
        if let Some(fault) = &mut self.fault {
            fault.read();
        }
    }

    /// The temperature that was read: NaN during a fault; `None` if it is no number.
    fn temperature(&self, outcome: &mut Outcome) -> Result<Option<f64>, Errno> {
        let value = self.value.last(celsius)?;
        let trusted = self.fault.as_ref().is_none_or(|fault| fault.last(|said| said == b"0") == Ok(true));
        let possible = |celsius| outcome.possible(celsius, TEMPERATURES.contains(&celsius));
        Ok(if trusted { value.map(possible) } else { Some(f64::NAN) })
    }

    fn read_limits(&mut self, outcome: &mut Outcome) {
        self.high.read(outcome);
        self.critical.read(outcome);
    }
}

/// A limit of a sensor, which a chip may lack. It seldom changes, so it is read at each look and not kept open.
#[derive(Debug)]
struct Limit {
    path: Option<PathBuf>,
    celsius: f64,
}

impl Limit {
    fn read(&mut self, outcome: &mut Outcome) {
        self.celsius = f64::NAN;
        let Some(path) = &self.path else { return };
        match Attribute::open(path).and_then(|attribute| attribute.with(celsius)) {
            // Unset limits are 0 (drivetemp) or the greatest value of their register (nvme: 65,535 K).
            Ok(Some(celsius)) => {
                self.celsius = outcome.possible(celsius, celsius > 0.0 && TEMPERATURES.contains(&celsius));
            }
            Ok(None) => outcome.fail(CLASS, format!("no number in {}", path.display())),
            // The driver does not answer or is gone.
            Err(_) => (),
        }
    }
}

/// A chip: a folder of the class.
#[derive(Debug)]
struct Chip {
    /// Its number and its name, such as `hwmon3`.
    number: u32,
    name: String,
    /// The folder of its files.
    folder: PathBuf,
    /// The link to its device.
    link: PathBuf,
}

impl Chip {
    fn device(&self) -> String {
        let device = fs::read_link(&self.link).ok();
        let name = device.as_ref().and_then(|device| device.file_name());
        name.map_or_else(|| self.name.clone(), |name| text(name.as_encoded_bytes()).into_owned())
    }

    /// The numbers of its temperatures, in order.
    fn temperatures(&self) -> Vec<u32> {
        let number = |name: String| numbered(name.strip_suffix("_input")?, "temp");
        let mut numbers: Vec<u32> = names(&self.folder).into_iter().filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// The chips in `class`, in the order of their numbers.
fn chips(class: &Path) -> Vec<Chip> {
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

/// The sensors of all chips in `class`, with their limits.
fn find(class: &Path, outcome: &mut Outcome) -> Vec<Input> {
    let mut inputs: Vec<Input> = Vec::new();
    for chip in chips(class) {
        let device = chip.device();
        let kind = text_at(&chip.folder.join("name")).unwrap_or_else(|| chip.name.clone());
        for number in chip.temperatures() {
            if inputs.len() >= SENSORS_MAX {
                outcome.fail(CLASS, format!("more than {SENSORS_MAX} sensors; the others are not read"));
                return inputs;
            }
            let name = format!("temp{number}");
            let path = |what: &str| chip.folder.join(format!("{name}_{what}"));
            let value = match Attribute::open(&path("input")) {
                Ok(value) => value,
                // It was removed after the listing.
                Err(error) if is_gone(error) => continue,
                Err(error) => {
                    outcome.fail(CLASS, format!("{}: {error}", path("input").display()));
                    continue;
                }
            };
            let mut sensor = text_at(&path("label")).unwrap_or_else(|| name.clone());
            if inputs.iter().any(|input| (&input.chip, &input.device, &input.sensor) == (&kind, &device, &sensor)) {
                sensor = format!("{sensor} ({name})");
            }
            let limit = |what| Limit { path: Some(path(what)).filter(|path| path.exists()), celsius: f64::NAN };
            let (high, critical) = (limit("max"), limit("crit"));
            let fault = Attribute::open(&path("fault")).ok();
            let (chip, device) = (kind.clone(), device.clone());
            let mut input = Input { chip, sensor, device, name, value, fault, high, critical };
            input.read_limits(outcome);
            inputs.push(input);
        }
    }
    inputs
}

/// The number in `name`, which must be `prefix` and digits.
fn numbered(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The temperature in `millidegrees`; `None` if it is no number.
fn celsius(millidegrees: &[u8]) -> Option<f64> {
    Some(integer(millidegrees)? as f64 / MILLIDEGREES_PER_DEGREE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

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
        let rows = "coretemp,Core 0,coretemp.0,38.0,80.0,100.0\ncoretemp,temp10,coretemp.0,41.0,,\n\
                    acpitz,temp1,hwmon10,-5.5,,\n";
        assert_eq!((probe.rows(0).as_str(), probe.rows(1_000).as_str()), (rows, rows));
        write(&probe, "hwmon2", &[("temp2_input", "38001"), ("temp2_max", "90000")]);
        assert!(probe.rows(2_000).starts_with("coretemp,Core 0,coretemp.0,38.001,80.0,100.0\n"));
        // A changed limit is seen at the next look.
        assert!(probe.rows(10_000).starts_with("coretemp,Core 0,coretemp.0,38.001,90.0,100.0\n"));
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
        let rows = "drivetemp,temp1,hwmon0,43.0,,\nnvme,temp1,hwmon1,36.85,84.85,84.85\nnvme,temp2,hwmon1,36.85,,\n\
                    nvme,temp3,hwmon1,,,\nnvme,temp4,hwmon1,,,\nnvme,temp5,hwmon1,,,\n";
        assert_eq!(probe.rows(0), rows);
        assert_eq!(probe.impossible, 6, "three limits and three temperatures");
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
            "nvme,T,nvme0,1.0,,\nnvme,T (temp2),nvme0,2.0,,\nnvme,T,nvme1,1.0,,\nnvme,T (temp2),nvme1,2.0,,\n"
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
        assert_eq!(probe.rows(0), "w83781d,temp1,0-002d,30.0,,\n");
    }

    /// Sensors that give EIO and EISDIR, one at fault and one that was, and chips without a name.
    #[test]
    fn a_sensor_that_does_not_answer_has_no_value_and_costs_no_other() {
        let mut probe = Probe::empty::<SensorSampler>();
        write(&probe, "hwmon0", &[("temp3_input", "3000"), ("temp3_fault", "1"), ("temp3_max", "5000")]);
        write(&probe, "hwmon0", &[("temp4_input", "4000"), ("temp4_fault", "0"), ("temp4_label", "")]);
        write(&probe, "hwmon0/temp2_input", &[("x", "")]);
        symlink("/proc/self/mem", probe.path(CLASS).join("hwmon0/temp1_input")).unwrap();
        let rows = "hwmon0,temp1,hwmon0,,,\nhwmon0,temp2,hwmon0,,,\nhwmon0,temp3,hwmon0,,5.0,\n";
        let (found, outcome) = probe.tick(0);
        assert_eq!(found, format!("{rows}hwmon0,temp4,hwmon0,4.0,,\n"));
        let error = outcome.unwrap_err().to_string();
        assert_eq!(error, "read class/hwmon: hwmon0: temp1_input: Input/output error (os error 5)");
        write(&probe, "hwmon0", &[("temp3_fault", "0"), ("temp4_fault", "")]);
        let found = probe.tick(1_000).0;
        assert_eq!(found, format!("{}hwmon0,temp4,hwmon0,,,\n", rows.replace(",,5.0", ",3.0,5.0")));
    }

    #[test]
    fn garbage_is_an_error_and_no_value() {
        let mut probe = Probe::empty::<SensorSampler>();
        write(&probe, "hwmon0", &[("temp1_input", "warm"), ("temp2_input", "2000"), ("name", "c")]);
        probe.write("class/hwmon/hwmon1/temp1_input", b"\xff\n");
        probe.write("class/hwmon/hwmon1/name", b"\xff\n");
        let (rows, outcome) = probe.tick(0);
        assert_eq!(rows, "c,temp1,hwmon0,,,\nc,temp2,hwmon0,2.0,,\n\u{fffd},temp1,hwmon1,,,\n");
        assert_eq!(outcome.unwrap_err().to_string(), "read class/hwmon: c: no number in temp1_input");
        write(&probe, "hwmon0", &[("temp1_input", "1000"), ("temp1_crit", "hot")]);
        write(&probe, "hwmon1", &[("temp1_input", "1000")]);
        let (rows, outcome) = probe.tick(60_000);
        assert!(rows.starts_with("c,temp1,hwmon0,1.0,,\n"), "{rows}");
        assert!(outcome.unwrap_err().to_string().ends_with("hwmon0/temp1_crit"));
    }

    #[test]
    fn chips_come_and_go() {
        let mut probe = Probe::empty::<SensorSampler>();
        assert_eq!(probe.rows(0), "");
        write(&probe, "hwmon0", &[("name", "a"), ("temp1_input", "1000")]);
        assert_eq!(probe.rows(9_999), "");
        assert_eq!(probe.rows(10_000), "a,temp1,hwmon0,1.0,,\n");
        fs::remove_dir_all(probe.path(CLASS).join("hwmon0")).unwrap();
        write(&probe, "hwmon0", &[("name", "b"), ("temp1_input", "2000")]);
        // What was opened stays with the chip that went; it has no file of the new one.
        assert_eq!(probe.rows(11_000), "a,temp1,hwmon0,1.0,,\n");
        assert_eq!(probe.rows(20_000), "b,temp1,hwmon0,2.0,,\n");
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
            "there is no /sys/class/hwmon/hwmon*: no driver exports a sensor, as in most virtual machines"
        );
        write(&probe, "hwmon0", &[("name", "BAT0"), ("in0_input", "1000")]);
        assert!(probe.check().unwrap_err().contains("temp*_input"));
        write(&probe, "hwmon0", &[("temp1_input", "1000")]);
        assert_eq!(probe.check(), Ok(()));
    }
}
