//! `interrupt`: how often each interrupt was served, from `/proc/interrupts` (`Documentation/filesystems/proc.rst`).

use crate::reading::prelude::*;
use crate::reading::sums::Sums;

const FILE: &str = "interrupts";

record! {
    /// How many times each interrupt was served, over all online CPUs. Interrupts that were never served have no rows. A
    /// count falls if a device is removed and its interrupt is given to another.
    pub struct Interrupt("interrupt") {
        labels {
            /// The interrupt's number, or the short name of a CPU's own interrupt, such as `LOC`.
            interrupt => "kymo.interrupt.name",
            /// The interrupt's controller and devices, or the meaning of the short name.
            device => "kymo.interrupt.device",
        }
        values {
            /// How many times the interrupt was served. The kernel counts in 32 bits for each CPU; kymo corrects for
            /// wraps that happen while it runs.
            counter interrupts: i64 [Count("{interrupt}")] => "kymo.interrupt.count" {},
        }
    }
}

/// Reads `/proc/interrupts`.
#[derive(Debug, Default)]
pub struct InterruptSampler {
    sums: Sums<(Label, Label)>,
}

impl Sample for InterruptSampler {
    type Record = Interrupt;
    const INTERVAL_MIN: Duration = Duration::from_millis(10);
    const RESOLUTION: &'static str = "exact at every read; a read takes longer the more interrupts and CPUs there are";
    const NEEDED: Option<(&'static str, &'static str)> =
        Some((FILE, "there is no /proc/interrupts: procfs is not mounted, or a container's runtime hides it"));

    fn open(_: &Context) -> InterruptSampler {
        InterruptSampler::default()
    }

    fn forget_labels(&mut self) {
        self.sums.forget_labels();
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Interrupt>) -> Result<(), SampleError> {
        with_proc(FILE, |interrupts| {
            self.sums.read(FILE, interrupts, &mut rows.outcome, |line| {
                // A row has two labels, each at its own place in the cache.
                let mut label = |nth, text: &[u8]| rows.labels.resolve(line.row * 2 + nth, text);
                // The kernel aligns the words.
                let device = words(line.rest).map(text).collect::<Vec<_>>().join(" ");
                (label(0, line.name), label(1, device.as_bytes()))
            });
            for (sum, (interrupt, device)) in self.sums.rows().filter(|(sum, _)| *sum != 0) {
                rows.push(Interrupt { time: tick.time, interrupts: sum, interrupt, device });
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_kernels_figures() {
        let rows = "24,IO-APIC 5-edge ACPI:Ged,1\n\
                    25,IO-APIC 6-edge ACPI:Ged,1\n\
                    26,IO-APIC 4-edge ttyS0,14\n\
                    31,PCI-MSIX-0000:00:01.0 3-edge virtio0-stats,201\n\
                    32,PCI-MSIX-0000:00:01.0 4-edge virtio0-reporting_vq,129\n\
                    34,PCI-MSIX-0000:00:05.0 1-edge virtio4-input,29\n\
                    35,PCI-MSIX-0000:00:02.0 0-edge virtio1-config,1\n\
                    36,PCI-MSIX-0000:00:02.0 1-edge virtio1-req.0,83823\n\
                    38,PCI-MSIX-0000:00:03.0 1-edge virtio2-input.0,4185\n\
                    39,PCI-MSIX-0000:00:03.0 2-edge virtio2-output.0,2937\n\
                    41,PCI-MSIX-0000:00:04.0 1-edge virtio3-rx,912\n\
                    42,PCI-MSIX-0000:00:04.0 2-edge virtio3-tx,2656\n\
                    43,PCI-MSIX-0000:00:04.0 3-edge virtio3-event,1\n\
                    LOC,Local timer interrupts,345252\n\
                    IWI,IRQ work interrupts,1\n\
                    RES,Rescheduling interrupts,30289\n\
                    CAL,Function call interrupts,82298\n\
                    TLB,TLB shootdowns,29988\n\
                    HYP,Hypervisor callback interrupts,118\n";
        Probe::assert_fixture::<InterruptSampler>("vm", rows, None);
    }

    /// CPUs of which some are offline, a line with fewer numbers, no numbers, no name, no UTF-8, a 64-bit figure, two
    /// devices, a controller whose name begins with a digit, and a cut line.
    #[test]
    fn odd_lines_cost_no_other() {
        let rows = "9,\"IO-APIC 9-fasteoi acpi, i801_smbus\",6\n\
                 27,1c20800.pinctrl 27 Edge \u{fffd}th0-tx,7\n\
                 NMI,Non-maskable interrupts,8\n\
                 ERR,,12\n\
                 BIG,Big,9223372036854775807\n";
        Probe::assert_fixture::<InterruptSampler>("odd", rows, Some("read interrupts: not understood: no name here"));
    }

    #[test]
    fn interrupts_come_and_go_and_are_seen_once_served() {
        let mut probe = Probe::empty::<InterruptSampler>();
        let heading = "           CPU0       CPU1\n";
        probe.write(
            "interrupts",
            format!("{heading}  1: 2 3 PIC 1-edge kbd\n  7: 0 0 PIC 7-edge nvme0q1\nLOC: 5 6 Local\n"),
        );
        assert_eq!(probe.rows(0), "1,PIC 1-edge kbd,5\nLOC,Local,11\n");
        probe.write("interrupts", format!("{heading}  7: 0 1 PIC 7-edge nvme0q1\nLOC: 5 7 Local\n"));
        assert_eq!(probe.rows(1), "7,PIC 7-edge nvme0q1,1\nLOC,Local,12\n");
        assert_eq!(probe.rows_with(2, "interrupts", heading), "");
        // As where a container's runtime puts /dev/null in its place.
        assert_eq!(probe.rows_with(3, "interrupts", ""), "");
        assert!(probe.check().unwrap_err().contains("empty"));
    }
}
