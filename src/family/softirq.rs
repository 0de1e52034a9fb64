//! `softirq`: how often each kind of softirq ran, from `/proc/softirqs`.
//!
//! The kernel's `Documentation/filesystems/proc.rst` describes the file.

use std::time::Duration;

use crate::reading::optional::check_proc;
use crate::reading::snapshot::with_proc;
use crate::reading::sums::Sums;
use crate::reading::{Context, Rows, Sample};
use crate::record;
use crate::record::label::Label;
use crate::sampler::{SampleError, Tick};

const FILE: &str = "softirqs";

record! {
    /// How often each kind of softirq ran, over all CPUs. Softirqs are work that interrupt handlers defer.
    pub struct Softirq("softirq") {
        labels {
            /// The kind of softirq, such as `NET_RX` or `TIMER`.
            r#type => "kymo.softirq.type",
        }
        values {
            /// Times that it ran. The kernel counts in 32 bits for each CPU; wraps that happen while kymo runs are
            /// added back.
            counter softirqs: i64 [Count("{softirq}")] => "kymo.softirq.count" {},
        }
    }
}

/// Reads `/proc/softirqs`.
#[derive(Debug, Default)]
pub struct SoftirqSampler {
    sums: Sums<Label>,
}

impl Sample for SoftirqSampler {
    type Record = Softirq;
    const INTERVAL_MIN: Duration = Duration::from_millis(10);
    const RESOLUTION: &'static str =
        "exact at every read; a read takes longer the more CPUs the kernel is prepared for";

    fn open(_: &Context) -> SoftirqSampler {
        SoftirqSampler::default()
    }

    fn check(&mut self) -> Result<(), String> {
        check_proc(FILE, "there is no /proc/softirqs: procfs is not mounted, or a container's runtime hides it")
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Softirq>) -> Result<(), SampleError> {
        with_proc(FILE, |softirqs| {
            let outcome = self.sums.read(FILE, softirqs, |line| rows.labels.resolve(line.row, line.name));
            for (softirqs, r#type) in self.sums.rows() {
                rows.push(Softirq { time: tick.time, softirqs, r#type });
            }
            outcome
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::probe::Probe;

    #[test]
    fn rows_are_the_kernels_figures() {
        let mut probe = Probe::fixture::<SoftirqSampler>("vm");
        assert_eq!(probe.check(), Ok(()));
        let rows = "HI,0\nTIMER,39184\nNET_TX,5\nNET_RX,6871\nBLOCK,83821\n\
                    IRQ_POLL,0\nTASKLET,499\nSCHED,48319\nHRTIMER,1\nRCU,94248\n";
        assert_eq!((probe.rows(0).as_str(), probe.rows(1).as_str()), (rows, rows));
    }

    /// Possible CPUs that are not there, a kind without numbers, figures that are no numbers or that no `i64` holds,
    /// and a cut line.
    #[test]
    fn odd_lines_cost_no_other() {
        let mut probe = Probe::fixture::<SoftirqSampler>("odd");
        for ms in 0..2 {
            let (rows, outcome) = probe.tick(ms);
            assert_eq!(rows, "HI,0\nTIMER,9223372036854775807\nRCU,10\n");
            assert_eq!(outcome.unwrap_err().to_string(), "read softirqs: not understood:       NET_TX:");
        }
    }

    #[test]
    fn kinds_are_found_in_any_order() {
        let mut probe = Probe::empty::<SoftirqSampler>();
        probe.write("softirqs", "  CPU0 CPU1\n HI: 1 2\n RCU: 3 4\n");
        assert_eq!(probe.rows(0), "HI,3\nRCU,7\n");
        probe.write("softirqs", "  CPU0 CPU1\n RCU: 3 5\n NEW: 0 0\n HI: 1 2\n");
        assert_eq!(probe.rows(1), "RCU,8\nNEW,0\nHI,3\n");
        probe.write("softirqs", "");
        assert_eq!(probe.rows(2), "");
        assert!(probe.check().unwrap_err().contains("empty"));
    }

    #[test]
    fn without_the_file_there_is_an_error_that_names_it() {
        let mut probe = Probe::empty::<SoftirqSampler>();
        assert!(probe.check().unwrap_err().contains("/proc/softirqs"));
        let (rows, outcome) = probe.tick(1);
        assert_eq!(rows, "");
        assert!(outcome.unwrap_err().to_string().starts_with("read softirqs: "));
    }
}
