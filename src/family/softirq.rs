//! `softirq`: how often each kind of softirq ran, from `/proc/softirqs` (`Documentation/filesystems/proc.rst`).

use crate::reading::prelude::*;
use crate::reading::sums::Sums;

const FILE: &str = "softirqs";

record! {
    /// How many times each kind of softirq ran, over all CPUs. Softirqs are work that interrupt handlers defer.
    pub struct Softirq("softirq") {
        labels {
            /// The kind of softirq, such as `NET_RX` or `TIMER`.
            r#type => "kymo.softirq.type",
        }
        values {
            /// How many times it ran. The kernel counts in 32 bits for each CPU; kymo corrects for
            /// wraps that happen while the collector runs.
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
    const RESOLUTION: &'static str = "exact at every read; a read takes longer on hosts with more CPUs";
    const NEEDED: Option<(&'static str, &'static str)> =
        Some((FILE, "there is no /proc/softirqs: procfs is not mounted, or a container's runtime hides it"));

    fn open(_: &Context) -> SoftirqSampler {
        SoftirqSampler::default()
    }

    fn forget_labels(&mut self) {
        self.sums.forget_labels();
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Softirq>) -> Result<(), SampleError> {
        with_proc(FILE, |softirqs| {
            self.sums.read(FILE, softirqs, &mut rows.outcome, |line| rows.labels.resolve(line.row, line.name));
            for (softirqs, r#type) in self.sums.rows() {
                rows.push(Softirq { time: tick.time, softirqs, r#type });
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_kernels_figures() {
        let rows = "HI,0\nTIMER,39184\nNET_TX,5\nNET_RX,6871\nBLOCK,83821\n\
                    IRQ_POLL,0\nTASKLET,499\nSCHED,48319\nHRTIMER,1\nRCU,94248\n";
        Probe::assert_fixture::<SoftirqSampler>("vm", rows, None);
    }

    /// CPUs that are not there, a kind without numbers, figures that are no numbers or too large, and a cut line.
    #[test]
    fn odd_lines_cost_no_other() {
        let rows = "HI,0\nTIMER,9223372036854775807\nRCU,10\n";
        Probe::assert_fixture::<SoftirqSampler>("odd", rows, Some("read softirqs: not understood:       NET_TX:"));
    }

    #[test]
    fn kinds_are_found_in_any_order() {
        let mut probe = Probe::empty::<SoftirqSampler>();
        assert_eq!(probe.rows_with(0, "softirqs", "  CPU0 CPU1\n HI: 1 2\n RCU: 3 4\n"), "HI,3\nRCU,7\n");
        probe.write("softirqs", "  CPU0 CPU1\n RCU: 3 5\n NEW: 0 0\n HI: 1 2\n");
        assert_eq!(probe.rows(1), "RCU,8\nNEW,0\nHI,3\n");
        assert_eq!(probe.rows_with(2, "softirqs", ""), "");
        assert!(probe.check().unwrap_err().contains("empty"));
    }
}
