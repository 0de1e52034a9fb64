//! `pressure`: time that tasks lost to interrupts and waiting for CPU, I/O and memory, from `/proc/pressure`.
//!
//! The kernel's `Documentation/accounting/psi.rst` defines the figures.

use std::ops::Range;
use std::path::PathBuf;

use rustix::fd::OwnedFd;

use crate::reading::folder::open_folder;
use crate::reading::optional::{Optional, check_proc};
use crate::reading::prelude::*;
use crate::reading::reader::{Kept, Reader};
use crate::reading::text::hundredths;

/// The kernel writes shares in per cent with two decimals.
const SHARE_UNITS_PER_ONE: f64 = 10_000.0;

record! {
    /// Time that tasks of the whole host lost waiting for a resource. A resource that the kernel does not measure, often
    /// `irq`, has no rows. `irq` has no `some`. `cpu` has no `full`, which is undefined for a whole host and always zero
    /// in the kernel's file.
    pub struct Pressure("pressure") {
        labels {
            /// The resource: `cpu`, `io`, `memory`, or `irq` for time taken by interrupts.
            resource => "kymo.pressure.resource",
            /// Either `some` (at least one task waited) or `full` (all non-idle tasks waited at the same time).
            kind => "kymo.pressure.kind",
        }
        values {
            /// Share of time lost, averaged over about 10 s, 0…1.
            gauge avg10_ratio: f64 [Ratio] => "kymo.pressure.share" {"kymo.window" = "10s"},
            /// The same, averaged over about a minute.
            gauge avg60_ratio: f64 [Ratio] => "kymo.pressure.share" {"kymo.window" = "1m"},
            /// The same, averaged over about five minutes.
            gauge avg300_ratio: f64 [Ratio] => "kymo.pressure.share" {"kymo.window" = "5m"},
            /// Time lost since boot.
            counter total_us: i64 [Micros] => "kymo.pressure.time" {},
        }
    }
}

/// Reads those of the four files that exist, one right after the other.
#[derive(Debug)]
pub struct PressureSampler {
    resources: [Resource; 4],
    root: PathBuf,
    /// The folder `root`, once it was opened.
    procfs: Option<OwnedFd>,
    reader: Reader,
    /// The ranges in `reader` of what was read of each resource.
    parts: Vec<Result<Option<Range<usize>>, SampleError>>,
}

#[derive(Debug)]
struct Resource {
    name: &'static str,
    file: Optional,
    kept: Kept,
    /// The file's bytes at the last read, if all were understood. Totals do not change while no task waits.
    known: Vec<u8>,
    /// The parsed records, without their time.
    records: Vec<Pressure>,
}

impl Sample for PressureSampler {
    type Record = Pressure;
    const INTERVAL_MIN: Duration = Duration::from_millis(100);
    const RESOLUTION: &'static str = "averages change every 2 s, totals at every read; reads more often than every 100 ms \
                                      make the kernel miss some stall time of nearly idle CPUs";

    fn open(context: &Context) -> PressureSampler {
        let files =
            [("cpu", "pressure/cpu"), ("io", "pressure/io"), ("memory", "pressure/memory"), ("irq", "pressure/irq")];
        let resource = |(name, path)| {
            let file = Optional::of_proc(path);
            Resource { name, file, kept: Kept::default(), known: Vec::new(), records: Vec::new() }
        };
        PressureSampler {
            resources: files.map(resource),
            root: context.roots.procfs.clone(),
            procfs: None,
            reader: Reader::default(),
            parts: Vec::new(),
        }
    }

    fn check(&mut self) -> Result<(), String> {
        const LACKING: &str = "/proc/pressure is missing or not supported: the kernel has no pressure stall information \
                               (CONFIG_PSI), or it is off until the kernel is booted with psi=1";
        let mut checks = self.resources.iter().map(|resource| check_proc(resource.file.name, LACKING));
        let first = checks.next().unwrap_or(Ok(()));
        if checks.any(|check| check.is_ok()) { Ok(()) } else { first }
    }

    fn forget_labels(&mut self) {
        self.resources.iter_mut().for_each(|resource| resource.known.clear());
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Pressure>) -> Result<(), SampleError> {
        let PressureSampler { resources, root, procfs, reader, parts } = self;
        let procfs = match procfs {
            Some(procfs) => procfs,
            None => {
                let opened = open_folder(&*root);
                procfs.insert(opened.map_err(|error| failed("pressure", format_args!("{}: {error}", root.display())))?)
            }
        };
        reader.clear();
        parts.clear();
        parts.extend(resources.iter_mut().map(|Resource { file, kept, .. }| file.append(tick, procfs, reader, kept)));
        // A resource has two kinds, and a row two labels, each at its own place in the cache.
        for ((place, resource), part) in (0..).step_by(4).zip(resources).zip(parts.drain(..)) {
            let Resource { name, file, known, records, .. } = resource;
            let Some(part) = rows.outcome.note(part).flatten() else { continue };
            let bytes = reader.part(&part);
            // `known` is also empty after bytes that were not understood.
            if known != bytes || bytes.is_empty() {
                let parsed = parse(name, file.name, bytes, records, |nth, text| rows.labels.resolve(place + nth, text));
                known.clear();
                if parsed.is_ok() {
                    known.extend_from_slice(bytes);
                }
                rows.outcome.note(parsed);
            }
            for record in records.iter() {
                let mut share = |share: f64| rows.outcome.possible(share, share.is_nan() || share <= 1.0);
                let shares = [record.avg10_ratio, record.avg60_ratio, record.avg300_ratio].map(&mut share);
                let [avg10_ratio, avg60_ratio, avg300_ratio] = shares;
                rows.push(Pressure { time: tick.time, avg10_ratio, avg60_ratio, avg300_ratio, ..*record });
            }
        }
        Ok(())
    }
}

/// Parses a resource's file into `records`. `label` gives the label of a text at one of four places.
fn parse(
    resource: &str,
    path: &'static str,
    bytes: &[u8],
    records: &mut Vec<Pressure>,
    mut label: impl FnMut(usize, &str) -> Label,
) -> Result<(), SampleError> {
    let mut outcome = Outcome::default();
    records.clear();
    for line in lines(bytes) {
        let (kind, nth) = match words(line).next() {
            Some(b"some") => ("some", 0),
            Some(b"full") if resource != "cpu" => ("full", 2),
            Some(b"full") => continue,
            _ => {
                outcome.fail(path, format!("no kind of pressure: {}", text(line)));
                continue;
            }
        };
        let mut record = Pressure { resource: label(nth, resource), kind: label(nth + 1, kind), ..Pressure::absent(0) };
        if !parse_values(line, &mut record) {
            outcome.fail(path, format!("not understood: {}", text(line)));
        }
        records.push(record);
    }
    outcome.into_result()
}

/// Parses the values after the kind; whether all of them were understood. Skips keys of newer kernels.
fn parse_values(line: &[u8], record: &mut Pressure) -> bool {
    let mut understood = true;
    for word in words(line).skip(1) {
        let Some((key, value)) = cut(word, b'=') else {
            understood = false;
            continue;
        };
        let share = match key {
            b"avg10" => &mut record.avg10_ratio,
            b"avg60" => &mut record.avg60_ratio,
            b"avg300" => &mut record.avg300_ratio,
            b"total" => {
                match number(value) {
                    Some(total) => record.total_us = total,
                    None => understood = false,
                }
                continue;
            }
            _ => continue,
        };
        *share = ratio(value);
        understood &= !share.is_nan();
    }
    understood
}

/// The share in `percent`, which has two decimals; NaN for anything else.
fn ratio(percent: &[u8]) -> f64 {
    hundredths(percent).map_or(f64::NAN, |units| units / SHARE_UNITS_PER_ONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_kernels_figures_as_shares() {
        let rows = "cpu,some,0.9663,0.7016,0.2538,114740354\n\
             io,some,0.0,0.0,0.0029,10209489\n\
             io,full,0.0,0.0,0.0016,8333993\n\
             memory,some,0.0,0.0,0.0,0\n\
             memory,full,0.0,0.0,0.0,0\n";
        Probe::assert_fixture::<PressureSampler>("vm", rows, None);
    }

    /// Interrupts that are accounted for, a line of no kind, figures that are no numbers or too large, and a cut line.
    #[test]
    fn odd_lines_cost_no_other() {
        let rows = "cpu,some,0.005,,,12\n\
             memory,full,0.01,0.02,0.03,7\n\
             irq,full,0.9999,0.0001,0.0,9223372036854775807\n";
        let error = "read pressure/cpu: not understood: some avg10=0.50 avg60=1.5 avg300=x total=12";
        Probe::assert_fixture::<PressureSampler>("odd", rows, Some(error));
    }

    #[test]
    fn rows_are_found_in_any_order_and_files_may_be_missing() {
        let line = |kind: &str, total: u32| format!("{kind} avg10=0.00 avg60=100.00 avg300=1.00 total={total}\n");
        let mut probe = Probe::empty::<PressureSampler>();
        assert_eq!(probe.rows(0), "");
        let lacking = probe.check().unwrap_err();
        assert!(lacking.starts_with("/proc/pressure is missing") && lacking.contains("psi=1"), "{lacking}");
        let mut probe = Probe::empty::<PressureSampler>();
        probe.write("pressure/io", line("some", 1) + &line("full", 2));
        assert_eq!(probe.check(), Ok(()));
        assert_eq!(probe.rows(1), "io,some,0.0,1.0,0.01,1\nio,full,0.0,1.0,0.01,2\n");
        probe.write("pressure/io", line("full", 3) + &line("some", 4));
        assert_eq!(probe.rows(2), "io,full,0.0,1.0,0.01,3\nio,some,0.0,1.0,0.01,4\n");
        probe.write("pressure/io", line("some", 5) + "odd\n");
        assert!(probe.tick(3).1.is_err());
        assert_eq!(probe.rows_with(4, "pressure/io", ""), "");
        assert!(probe.check().is_err());
    }

    #[test]
    fn shares_above_one_are_absent_and_counted() {
        let mut probe = Probe::empty::<PressureSampler>();
        probe.write("pressure/io", "some avg10=100.00 avg60=100.01 avg300=655.35 total=5\n");
        for ms in 0..2 {
            assert_eq!(probe.rows(ms), "io,some,1.0,,,5\n");
            assert_eq!(probe.impossible, 2);
        }
    }

    #[test]
    fn shares_are_per_cent_with_two_decimals() {
        for (text, share) in [("0.00", 0.0), ("0.01", 0.0001), ("12.50", 0.125), ("100.00", 1.0)] {
            assert!((ratio(text.as_bytes()) - share).abs() < f64::EPSILON, "{text}");
        }
        for text in ["", ".", "1", "1.0", "1.000", "-1.00", ".50", "1,00", "nan", "9.9x"] {
            assert!(ratio(text.as_bytes()).is_nan(), "{text}");
        }
    }
}
