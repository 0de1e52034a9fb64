//! `softnet`: packets that each CPU passes from drivers to protocols, from `/proc/net/softnet_stat`.
//!
//! The kernel's `Documentation/networking/scaling.rst` explains packet steering and flow limits;
//! `net/core/net-procfs.c` writes the file.

use std::time::Duration;

use crate::reading::optional::check_proc;
use crate::reading::snapshot::with_proc;
use crate::reading::text::{lines, text};
use crate::reading::{Context, Outcome, Rows, Sample};
use crate::record;
use crate::record::ABSENT;
use crate::record::label::{Label, LabelCache};
use crate::sampler::{SampleError, Tick};

const FILE: &str = "net/softnet_stat";
/// The number of figures on a line that are parsed.
const FIGURES: usize = 13;

record! {
    /// Packets that each online CPU passes from drivers to protocols. The kernel counts in 32 bits, so a counter wraps
    /// to zero after 4294967295.
    pub struct Softnet("softnet") {
        labels {
            /// The number of the logical CPU. Older kernels do not give it; there it is the number of the row, which
            /// differs from the CPU's if an earlier CPU is offline.
            cpu => "cpu.logical_number",
        }
        values {
            /// Packets taken from drivers.
            counter processed: i64 [Count("{packet}")] => "kymo.softnet.packets" {},
            /// Packets dropped because the CPU's queue was full.
            counter dropped: i64 [Count("{packet}")] => "kymo.softnet.dropped" {},
            /// Times that more packets were waiting than the CPU may take at once (`net.core.netdev_budget`).
            counter time_squeezed: i64 [Count("{time}")] => "kymo.softnet.time_squeezed" {},
            /// Times that another CPU woke this one to take packets (RPS).
            counter received_rps: i64 [Count("{time}")] => "kymo.softnet.received_rps" {},
            /// Packets dropped because one flow filled too much of the queue. NULL if the kernel lacks the counter.
            counter flow_limited: i64 [Count("{packet}")] => "kymo.softnet.flow_limited" {},
            /// Packets waiting in the CPU's queue. NULL if the kernel lacks the counter.
            gauge backlog: i64 [Count("{packet}")] => "kymo.softnet.backlog" {},
        }
    }
}

/// Reads `/proc/net/softnet_stat`.
#[derive(Debug, Default)]
pub struct SoftnetSampler {
    lines: Vec<Line>,
}

impl Sample for SoftnetSampler {
    type Record = Softnet;
    const INTERVAL_MIN: Duration = Duration::from_millis(1);
    const RESOLUTION: &'static str = "exact at every read, to the packet";

    fn open(_: &Context) -> SoftnetSampler {
        SoftnetSampler::default()
    }

    fn check(&mut self) -> Result<(), String> {
        check_proc(FILE, "there is no /proc/net/softnet_stat: the kernel has no network (CONFIG_NET)")
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Softnet>) -> Result<(), SampleError> {
        with_proc(FILE, |softnet| {
            let mut outcome = Outcome::default();
            for (row, line) in lines(softnet).enumerate() {
                if row == self.lines.len() {
                    self.lines.push(Line::default());
                }
                let Some(known) = self.lines.get_mut(row) else { continue };
                // The line of a CPU that receives nothing is the same as a tick ago.
                if known.bytes != line {
                    known.change(row, line, &mut rows.labels);
                }
                match known.record {
                    Some(record) => rows.push(Softnet { time: tick.time, ..record }),
                    None => outcome.fail(FILE, format!("not understood: {}", text(line))),
                }
            }
            outcome.into_result()
        })
    }
}

/// A line, as last parsed.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    /// Its record without the time; `None` for a line that is not understood.
    record: Option<Softnet>,
    /// The CPU and its label.
    cpu: Option<(i64, Label)>,
}

impl Line {
    fn change(&mut self, row: usize, line: &[u8], labels: &mut LabelCache) {
        self.bytes.clear();
        self.bytes.extend_from_slice(line);
        self.record = parse(line).map(|figures| {
            let [processed, dropped, time_squeezed, .., received_rps, flow_limited, backlog, cpu] = figures;
            let cpu = if cpu == ABSENT { i64::try_from(row).unwrap_or(i64::MAX) } else { cpu };
            let cpu = self.label(row, cpu, labels);
            Softnet { time: 0, cpu, processed, dropped, time_squeezed, received_rps, flow_limited, backlog }
        });
    }

    /// The CPU's label. Its text is made only if the line was another CPU's before.
    fn label(&mut self, row: usize, cpu: i64, labels: &mut LabelCache) -> Label {
        match self.cpu {
            Some((known, label)) if known == cpu => label,
            _ => {
                let label = labels.resolve(row, cpu.to_string());
                self.cpu = Some((cpu, label));
                label
            }
        }
    }
}

/// The figures of a line: nine or more hexadecimal numbers, separated by single blanks. Figures that older kernels lack
/// are absent. `None` for any other line.
fn parse(line: &[u8]) -> Option<[i64; FIGURES]> {
    /// The number of figures that every kernel writes.
    const FIGURES_MIN: usize = 9;

    let mut figures = [ABSENT; FIGURES];
    let mut words = line.split(|byte| *byte == b' ');
    for (at, figure) in figures.iter_mut().enumerate() {
        match words.next() {
            Some(word) => *figure = hexadecimal(word)?,
            None if at < FIGURES_MIN => return None,
            None => break,
        }
    }
    Some(figures)
}

/// The number in `word`, of up to 32 bits.
fn hexadecimal(word: &[u8]) -> Option<i64> {
    if word.is_empty() || word.len() > 8 {
        return None;
    }
    word.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | i64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::probe::Probe;

    #[test]
    fn rows_are_the_kernels_figures() {
        let mut probe = Probe::fixture::<SoftnetSampler>("vm");
        assert_eq!(probe.check(), Ok(()));
        assert_eq!(probe.rows(0), "0,22,0,0,0,0,0\n1,6398,0,0,0,0,0\n");
    }

    /// CPUs that are offline, the greatest figures there are, lines that are cut or no numbers, a blank one, and more
    /// figures than are known.
    #[test]
    fn odd_lines_cost_no_other() {
        let mut probe = Probe::fixture::<SoftnetSampler>("odd");
        for ms in 0..2 {
            let (rows, outcome) = probe.tick(ms);
            assert_eq!(
                rows,
                "0,1,2,3,10,11,12\n\
                 2,4294967295,4294967295,4294967295,4294967295,4294967295,4294967295\n\
                 511,16,0,0,0,0,0\n\
                 1023,32,0,0,0,0,0\n"
            );
            assert_eq!(outcome.unwrap_err().to_string(), "read net/softnet_stat: not understood: 00000001 0000000");
        }
    }

    #[test]
    fn older_kernels_write_less() {
        let mut probe = Probe::empty::<SoftnetSampler>();
        for (figures, row) in [(9, "7,7,7,,,"), (10, "7,7,7,7,,"), (11, "7,7,7,7,7,"), (12, "7,7,7,7,7,7")] {
            let line = vec!["00000007"; figures].join(" ") + "\n";
            probe.write("net/softnet_stat", line.repeat(2));
            assert_eq!(probe.rows(0), format!("0,{row}\n1,{row}\n"));
        }
    }

    #[test]
    fn cpus_come_and_go() {
        let line = |processed: u32, cpu: u32| format!("{processed:08x}{} {cpu:08x} 00000000\n", " 00000000".repeat(11));
        let mut probe = Probe::empty::<SoftnetSampler>();
        for cpus in [&[0, 1, 2][..], &[0, 2], &[2, 0, 1, 300], &[], &[1]] {
            probe.write("net/softnet_stat", cpus.iter().map(|cpu| line(cpu + 5, *cpu)).collect::<String>());
            let row = |cpu: &u32| format!("{cpu},{},0,0,0,0,0\n", cpu + 5);
            let rows: String = cpus.iter().map(row).collect();
            assert_eq!((&probe.rows(0), &probe.rows(1)), (&rows, &rows));
        }
    }

    #[test]
    fn without_the_file_there_is_an_error_that_names_it() {
        let mut probe = Probe::empty::<SoftnetSampler>();
        assert!(probe.check().unwrap_err().contains("/proc/net/softnet_stat"));
        let (rows, outcome) = probe.tick(1);
        assert_eq!(rows, "");
        assert!(outcome.unwrap_err().to_string().starts_with("read net/softnet_stat: "));
    }
}
