//! `network`: what went through each network interface, from `/proc/net/dev`.

use heim::net::os::linux::IoCountersExt;

use crate::reading::filter::RowFilter;
use crate::reading::line_rows::{LineRows, Parsed};
use crate::reading::prelude::*;
use crate::reading::text::{cut_last, numbers};
use crate::reading::value::bytes;

const FILE: &str = "net/dev";
/// The lines above the interfaces.
const HEADINGS: usize = 2;
/// The headings that heim gets instead.
const HEADINGS_TEXT: &[u8] = b"Inter-|   Receive  |  Transmit\n face |\n";

record! {
    /// Traffic of each network interface since the interface appeared. The interfaces are those of kymo's own network
    /// namespace, or, if `host.procfs` is not `/proc`, those that the host's process 1 sees. `[network]` in the configuration
    /// leaves some out; by default, those are the host's ends of the connections of containers, such as `veth*`.
    pub struct Network("network") {
        labels {
            /// The interface's name.
            interface => "network.interface.name",
        }
        values {
            /// Bytes received.
            counter rx_bytes: i64 [Bytes] => "system.network.io" {"network.io.direction" = "receive"},
            /// Bytes sent.
            counter tx_bytes: i64 [Bytes] => "system.network.io" {"network.io.direction" = "transmit"},
            /// Packets received.
            counter rx_packets: i64 [Count("{packet}")] => "system.network.packet.count" {"network.io.direction" = "receive"},
            /// Packets sent.
            counter tx_packets: i64 [Count("{packet}")] => "system.network.packet.count" {"network.io.direction" = "transmit"},
            /// Errors when receiving.
            counter rx_errors: i64 [Count("{error}")] => "system.network.errors" {"network.io.direction" = "receive"},
            /// Errors when sending.
            counter tx_errors: i64 [Count("{error}")] => "system.network.errors" {"network.io.direction" = "transmit"},
            /// Received packets that were dropped, including those that the device had no room for.
            counter rx_dropped: i64 [Count("{packet}")] => "system.network.packet.dropped" {"network.io.direction" = "receive"},
            /// Outgoing packets that were dropped.
            counter tx_dropped: i64 [Count("{packet}")] => "system.network.packet.dropped" {"network.io.direction" = "transmit"},
        }
    }
}

/// Reads `/proc/net/dev` through heim, and parses the lines that heim cannot.
#[derive(Debug)]
pub struct NetworkSampler {
    lines: LineRows<Network>,
    filter: RowFilter,
}

impl Sample for NetworkSampler {
    type Record = Network;
    const INTERVAL_MIN: Duration = Duration::from_millis(1);
    const RESOLUTION: &'static str = "exact at every read, to the packet";

    fn open(context: &Context) -> NetworkSampler {
        let filter = RowFilter::new(context.filters.network.clone());
        NetworkSampler { lines: LineRows::of_proc(FILE, HEADINGS_TEXT), filter }
    }

    fn forget_labels(&mut self) {
        self.lines.forget();
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Network>) -> Result<(), SampleError> {
        let NetworkSampler { lines: rows_of, filter } = self;
        with_proc(FILE, |dev| {
            let all = lines(dev).skip(HEADINGS).enumerate();
            // A line without a name is an error.
            let taken = all.filter(|(row, line)| interface(line).is_none_or(|(name, _)| filter.takes(*row, name)));
            rows_of.compare_all(taken.map(|(_, line)| line));
        })?;
        // heim gives one item a line. The item is an error if the line is not UTF-8, if the name has certain non-ASCII
        // blanks, or if no blank follows the name.
        self.lines.parse(heim::net::io_counters(), &mut rows.outcome, |row, line, counters| {
            let (name, rest) = interface(line).ok_or("a line names no interface")?;
            let record = match counters {
                Ok(counters) => Network {
                    rx_bytes: bytes(counters.bytes_recv()),
                    tx_bytes: bytes(counters.bytes_sent()),
                    rx_packets: count(counters.packets_recv()),
                    tx_packets: count(counters.packets_sent()),
                    rx_errors: count(counters.errors_recv()),
                    tx_errors: count(counters.errors_sent()),
                    rx_dropped: count(counters.drop_recv()),
                    tx_dropped: count(counters.drop_sent()),
                    ..Network::absent(0)
                },
                Err(error) => parse(rest).ok_or_else(|| error.to_string())?,
            };
            let interface = rows.labels.resolve(row, name);
            Ok(Parsed::Record(Network { interface, ..record }))
        });
        for (_, record) in self.lines.records() {
            rows.push(Network { time: tick.time, ..record });
        }
        Ok(())
    }
}

/// An interface's name, and the rest of its line. Kernels before 4.9 allow colons in a name.
fn interface(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = cut_last(line, b':')?;
    Some((name.trim_ascii_start(), rest))
}

/// The numbers after an interface's name: eight received and eight sent.
fn parse(line: &[u8]) -> Option<Network> {
    let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] =
        numbers::<16>(words(line))?;
    Some(Network {
        rx_bytes,
        tx_bytes,
        rx_packets,
        tx_packets,
        rx_errors,
        tx_errors,
        rx_dropped,
        tx_dropped,
        ..Network::absent(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::filter::{Filter, Filters};

    #[test]
    fn rows_are_the_kernels_figures() {
        let rows = "lo,3345,3345,32,32,0,0,0,0\n\
             ifb0,0,0,0,0,0,0,0,0\n\
             ifb1,0,0,0,0,0,0,0,0\n\
             eth0,200208127,853799,10947,8710,0,0,0,0\n";
        Probe::assert_fixture::<NetworkSampler>("vm", rows, None);
    }

    /// Among them 64-bit counts, which become the greatest there is, a glued name and three that heim cannot read.
    #[test]
    fn odd_lines_are_read_and_a_cut_one_costs_no_other() {
        let rows = "eth0,1234567890,9876543210,1001,2002,1,5,2,6\n\
             br-0.100,10,18,11,19,12,20,13,21\n\
             v\u{fffd}th,20,28,21,29,22,30,23,31\n\
             \u{2003}em,30,38,31,39,32,40,33,41\n\
             wg0,9223372036854775807,9223372036854775807,51,59,52,60,53,61\n\
             tun,0,0,0,0,0,0,0,0\n";
        Probe::assert_fixture::<NetworkSampler>("odd", rows, Some("read net/dev: invalid data"));
    }

    #[test]
    fn a_name_may_have_colons() {
        let line = |name: &str, bytes: u32| format!("{name}: {bytes} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n");
        let mut probe = Probe::empty::<NetworkSampler>();
        for (ms, tun) in [(0, 1_000), (1_000, 1_010)] {
            let names = [("tun10001:1", tun), ("tun10001:2", 5_000_000), (" team0", 900_000), ("team0:1", 0)];
            let lines = names.map(|(name, bytes)| line(name, bytes)).concat();
            probe.write("net/dev", format!("Inter-| Receive\n face |bytes\n{lines}"));
            let rows = format!(
                "tun10001:1,{tun},0,0,0,0,0,0,0\ntun10001:2,5000000,0,0,0,0,0,0,0\nteam0,900000,0,0,0,0,0,0,0\n\
                 team0:1,0,0,0,0,0,0,0,0\n"
            );
            assert_eq!(probe.rows(ms), rows);
        }
    }

    #[test]
    fn interfaces_that_are_left_out_have_no_row() {
        let line = |name: &str| format!("{name}: 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n");
        let network = Filter::new(&[] as &[&str], &["veth*"]).unwrap();
        let mut probe = Probe::filtering::<NetworkSampler>(Filters { network, ..Filters::default() });
        probe.write("net/dev", format!("h\nh\n{}{}{}", line("lo"), line("veth1"), line("eth0")));
        assert_eq!(probe.rows(0), "lo,1,0,0,0,0,0,0,0\neth0,1,0,0,0,0,0,0,0\n");
        probe.write("net/dev", format!("h\nh\n{}{}no colon\n", line("veth1"), line("lo")));
        let (rows, outcome) = probe.tick(1);
        assert_eq!(rows, "lo,1,0,0,0,0,0,0,0\n");
        assert!(outcome.unwrap_err().to_string().contains("a line names no interface"));
    }

    #[test]
    fn interfaces_come_and_go() {
        let heading = "Inter-| Receive | Transmit\n face |bytes |bytes\n";
        let line = |name: &str, bytes: u32| format!("{name:>6}: {bytes} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n");
        let mut probe = Probe::empty::<NetworkSampler>();
        probe.write("net/dev", format!("{heading}{}{}", line("lo", 1), line("eth0", 2)));
        assert_eq!(probe.rows(1), "lo,1,0,0,0,0,0,0,0\neth0,2,0,0,0,0,0,0,0\n");
        probe.write("net/dev", format!("{heading}{}{}", line("eth0", 3), line("wlan0", 4)));
        assert_eq!(probe.rows(2), "eth0,3,0,0,0,0,0,0,0\nwlan0,4,0,0,0,0,0,0,0\n");
        assert_eq!(probe.rows_with(3, "net/dev", heading), "");
    }
}
