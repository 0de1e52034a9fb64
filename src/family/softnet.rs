//! `softnet`: packets that each CPU passes from drivers to protocols, from `/proc/net/softnet_stat`.
//!
//! The kernel's `Documentation/networking/scaling.rst` explains packet steering and flow limits;
//! `net/core/net-procfs.c` writes the file.

use crate::reading::counter::wraps::{RANGE_32_BITS, Wraps};
use crate::reading::prelude::*;

const FILE: &str = "net/softnet_stat";
/// The number of figures on a line that are parsed.
const FIGURES: usize = 13;
/// Of them, those that count.
const COUNTERS: usize = 5;
/// The most CPUs that any kernel is built for. Beyond it, wraps are not corrected.
const CPUS_MAX: usize = 8_192;

record! {
    /// Packets that each online CPU passes from drivers to protocols. The kernel counts in 32 bits; kymo corrects for wraps
    /// that happen while the collector runs.
    pub struct Softnet("softnet") {
        labels {
            /// The logical CPU's number. Older kernels do not report it. Then this is the line's number in
            /// `/proc/net/softnet_stat`, which is wrong if a CPU with a lower number is offline.
            cpu => "cpu.logical_number",
        }
        values {
            /// Packets taken from drivers.
            counter processed: i64 [Count("{packet}")] => "kymo.softnet.packets" {},
            /// Packets dropped because the CPU's queue was full.
            counter dropped: i64 [Count("{packet}")] => "kymo.softnet.dropped" {},
            /// How many times the CPU reached its limit with packets still waiting (`net.core.netdev_budget`).
            counter time_squeezed: i64 [Count("{event}")] => "kymo.softnet.time_squeezed" {},
            /// How many times another CPU woke this one to take packets (RPS).
            counter received_rps: i64 [Count("{event}")] => "kymo.softnet.received_rps" {},
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
    /// By the number of the CPU, in order.
    wraps: Vec<(i64, Wraps<COUNTERS>)>,
}

impl Sample for SoftnetSampler {
    type Record = Softnet;
    const INTERVAL_MIN: Duration = Duration::from_millis(1);
    const RESOLUTION: &'static str = "exact at every read, to the packet";
    const NEEDED: Option<(&'static str, &'static str)> =
        Some((FILE, "there is no /proc/net/softnet_stat: the kernel has no network (CONFIG_NET)"));

    fn open(_: &Context) -> SoftnetSampler {
        SoftnetSampler::default()
    }

    fn forget_labels(&mut self) {
        self.lines.clear();
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Softnet>) -> Result<(), SampleError> {
        let SoftnetSampler { lines: known, wraps } = self;
        with_proc(FILE, |softnet| {
            for (row, line) in lines(softnet).enumerate() {
                if row == known.len() {
                    known.push(Line::default());
                }
                let Some(known) = known.get_mut(row) else { continue };
                // The line of a CPU that receives nothing is the same as a tick ago.
                if known.bytes != line {
                    known.change(row, line, wraps, &mut rows.labels);
                }
                match known.record {
                    Some(record) => rows.push(Softnet { time: tick.time, ..record }),
                    None => rows.outcome.fail(FILE, format!("not understood: {}", text(line))),
                }
            }
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
    fn change(&mut self, row: usize, line: &[u8], wraps: &mut Vec<(i64, Wraps<COUNTERS>)>, labels: &mut LabelCache) {
        line.clone_into(&mut self.bytes);
        self.record = parse(line).map(|figures| {
            let [processed, dropped, time_squeezed, .., received_rps, flow_limited, backlog, cpu] = figures;
            let number = if cpu == ABSENT { i64::try_from(row).unwrap_or(i64::MAX) } else { cpu };
            let mut counters = [processed, dropped, time_squeezed, received_rps, flow_limited];
            if let Some(wraps) = wraps_of(number, wraps) {
                wraps.carry(&mut counters, RANGE_32_BITS);
            }
            let [processed, dropped, time_squeezed, received_rps, flow_limited] = counters;
            // The label's text is made only if the line was another CPU's before.
            let known = self.cpu.filter(|(known, _)| *known == number);
            let (_, cpu) = *self.cpu.insert(known.unwrap_or_else(|| (number, labels.resolve(row, number.to_string()))));
            Softnet { time: 0, cpu, processed, dropped, time_squeezed, received_rps, flow_limited, backlog }
        });
    }
}

/// What is known of a CPU; `None` if there are too many.
fn wraps_of(cpu: i64, wraps: &mut Vec<(i64, Wraps<COUNTERS>)>) -> Option<&mut Wraps<COUNTERS>> {
    let at = match wraps.binary_search_by_key(&cpu, |(known, _)| *known) {
        Ok(at) => at,
        Err(_) if wraps.len() == CPUS_MAX => return None,
        Err(at) => {
            wraps.insert(at, (cpu, Wraps::default()));
            at
        }
    };
    wraps.get_mut(at).map(|(_, wraps)| wraps)
}

/// The figures of a line: nine or more hexadecimal numbers, separated by single blanks. Figures that older kernels lack
/// are absent. `None` for any other line.
fn parse(line: &[u8]) -> Option<[i64; FIGURES]> {
    /// The number of figures that every kernel writes.
    const FIGURES_MIN: usize = 9;

    let (mut figures, mut count) = ([ABSENT; FIGURES], 0);
    for (figure, word) in figures.iter_mut().zip(fields(line)) {
        *figure = hexadecimal(word)?;
        count += 1;
    }
    (count >= FIGURES_MIN).then_some(figures)
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

    #[test]
    fn rows_are_the_kernels_figures() {
        Probe::assert_fixture::<SoftnetSampler>("vm", "0,22,0,0,0,0,0\n1,6398,0,0,0,0,0\n", None);
    }

    /// CPUs that are offline, the greatest figures, lines that are cut or no numbers, a blank one, and unknown figures.
    #[test]
    fn odd_lines_cost_no_other() {
        let rows = "0,1,2,3,10,11,12\n\
                 2,4294967295,4294967295,4294967295,4294967295,4294967295,4294967295\n\
                 511,16,0,0,0,0,0\n\
                 1023,32,0,0,0,0,0\n";
        Probe::assert_fixture::<SoftnetSampler>(
            "odd",
            rows,
            Some("read net/softnet_stat: not understood: 00000001 0000000"),
        );
    }

    #[test]
    fn older_kernels_write_less() {
        let mut probe = Probe::empty::<SoftnetSampler>();
        for (figures, row) in [(9, "7,7,7,,,"), (10, "7,7,7,7,,"), (11, "7,7,7,7,7,"), (12, "7,7,7,7,7,7")] {
            let line = vec!["00000007"; figures].join(" ") + "\n";
            assert_eq!(probe.rows_with(0, "net/softnet_stat", line.repeat(2)), format!("0,{row}\n1,{row}\n"));
        }
    }

    #[test]
    fn counters_go_on_where_the_kernels_wrap() {
        let line = |cpu: u32, processed: u32| format!("{processed:08x}{} {cpu:08x} 0\n", " 00000000".repeat(11));
        let mut probe = Probe::empty::<SoftnetSampler>();
        probe.write("net/softnet_stat", line(0, u32::MAX) + &line(1, 7));
        assert_eq!(probe.rows(0), "0,4294967295,0,0,0,0,0\n1,7,0,0,0,0,0\n");
        probe.write("net/softnet_stat", line(1, 8));
        assert_eq!(probe.rows(1), "1,8,0,0,0,0,0\n");
        probe.write("net/softnet_stat", line(0, 4) + &line(1, 8));
        assert_eq!(probe.rows(2), "0,4294967300,0,0,0,0,0\n1,8,0,0,0,0,0\n");
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
}
