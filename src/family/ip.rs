//! `ip`: what IP, ICMP and UDP received, sent and could not handle, from `/proc/net/snmp` and `/proc/net/snmp6`.
//!
//! RFC 4293 and RFC 4113 define the figures; `Documentation/networking/snmp_counter.rst` says what the kernel counts.

use heim_runtime::snapshot::read_ahead_proc;

use crate::reading::optional::Optional;
use crate::reading::prelude::*;

const SNMP: &str = "net/snmp";
const SNMP6: &str = "net/snmp6";

record! {
    /// IP, ICMP and UDP, one row for each version of IP, in the same network namespace as `network`. A value is NULL if the
    /// kernel lacks its counter. Kernels without IPv6 have no row for it. See `tcp` for TCP.
    pub struct Ip("ip") {
        labels {
            /// The version of IP: `ipv4` or `ipv6`.
            version => "network.type",
        }
        values {
            /// Packets received, including those with errors.
            counter rx_packets: i64 [Count("{packet}")] => "kymo.ip.packets" {"network.io.direction" = "receive"},
            /// Packets that local programs sent, without forwarded ones.
            counter tx_packets: i64 [Count("{packet}")] => "kymo.ip.packets" {"network.io.direction" = "transmit"},
            /// Packets forwarded for other hosts.
            counter forwarded_packets: i64 [Count("{packet}")] => "kymo.ip.forwarded_packets" {},
            /// Received packets with an error in their header.
            counter rx_header_errors: i64 [Count("{packet}")] => "kymo.ip.errors" {"kymo.ip.reason" = "header"},
            /// Received packets for an address that is not this host's and that it does not forward to.
            counter rx_address_errors: i64 [Count("{packet}")] => "kymo.ip.errors" {"kymo.ip.reason" = "address"},
            /// Received packets that were dropped though they had no error, for example because memory was short.
            counter rx_discards: i64 [Count("{packet}")] => "kymo.ip.discards" {"network.io.direction" = "receive"},
            /// Outgoing packets that were dropped though they had no error.
            counter tx_discards: i64 [Count("{packet}")] => "kymo.ip.discards" {"network.io.direction" = "transmit"},
            /// Outgoing packets that were dropped because there was no route.
            counter no_routes: i64 [Count("{packet}")] => "kymo.ip.no_routes" {},
            /// Failures to put a fragmented packet together again.
            counter reassembly_failures: i64 [Count("{packet}")] => "kymo.ip.fragmentation_failures" {"kymo.ip.step" = "reassembly"},
            /// Packets that had to be fragmented and could not be.
            counter fragmentation_failures: i64 [Count("{packet}")] => "kymo.ip.fragmentation_failures" {"kymo.ip.step" = "fragmentation"},
            /// ICMP messages received, including those with errors.
            counter icmp_rx_messages: i64 [Count("{message}")] => "kymo.icmp.messages" {"network.io.direction" = "receive"},
            /// ICMP messages sent.
            counter icmp_tx_messages: i64 [Count("{message}")] => "kymo.icmp.messages" {"network.io.direction" = "transmit"},
            /// ICMP messages received with errors such as wrong checksums.
            counter icmp_rx_errors: i64 [Count("{message}")] => "kymo.icmp.errors" {"network.io.direction" = "receive"},
            /// ICMP messages received that say that a destination cannot be reached.
            counter icmp_rx_unreachable: i64 [Count("{message}")] => "kymo.icmp.unreachable" {"network.io.direction" = "receive"},
            /// ICMP messages sent that say that a destination cannot be reached.
            counter icmp_tx_unreachable: i64 [Count("{message}")] => "kymo.icmp.unreachable" {"network.io.direction" = "transmit"},
            /// UDP datagrams given to programs.
            counter udp_rx_datagrams: i64 [Count("{datagram}")] => "kymo.udp.datagrams" {"network.io.direction" = "receive"},
            /// UDP datagrams sent.
            counter udp_tx_datagrams: i64 [Count("{datagram}")] => "kymo.udp.datagrams" {"network.io.direction" = "transmit"},
            /// UDP datagrams received for a port that no program listens on.
            counter udp_no_ports: i64 [Count("{datagram}")] => "kymo.udp.no_ports" {},
            /// UDP datagrams received that could not be given to a program for another reason, including
            /// `udp_rx_buffer_errors`.
            counter udp_rx_errors: i64 [Count("{datagram}")] => "kymo.udp.errors" {},
            /// UDP datagrams dropped because a socket's receive buffer was full.
            counter udp_rx_buffer_errors: i64 [Count("{datagram}")] => "kymo.udp.buffer_errors" {"network.io.direction" = "receive"},
            /// UDP datagrams dropped because memory for sending was short.
            counter udp_tx_buffer_errors: i64 [Count("{datagram}")] => "kymo.udp.buffer_errors" {"network.io.direction" = "transmit"},
        }
    }
}

/// Reads the two files.
#[derive(Debug)]
pub struct IpSampler {
    snmp6: Optional,
}

impl Sample for IpSampler {
    type Record = Ip;
    const INTERVAL_MIN: Duration = Duration::from_millis(10);
    const RESOLUTION: &'static str = "exact at every read, to the packet";
    const NEEDED: Option<(&'static str, &'static str)> =
        Some((SNMP, "there is no /proc/net/snmp: the kernel has no IPv4 (CONFIG_INET)"));

    fn open(_: &Context) -> IpSampler {
        IpSampler { snmp6: Optional::of_proc(SNMP6) }
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Ip>) -> Result<(), SampleError> {
        read_ahead_proc([SNMP].into_iter().chain(self.snmp6.wanted(tick)));
        let mut ipv4 = Ip { version: rows.labels.resolve(0, "ipv4"), ..Ip::absent(tick.time) };
        with_proc(SNMP, |snmp| parse_snmp(snmp, &mut ipv4, &mut rows.outcome))?;
        rows.push(ipv4);
        let mut ipv6 = Ip { version: rows.labels.resolve(1, "ipv6"), ..Ip::absent(tick.time) };
        let Rows { outcome, .. } = rows;
        let read = self.snmp6.with(tick, |snmp6| parse_snmp6(snmp6, &mut ipv6, outcome));
        if let Some(Some(())) = outcome.note(read) {
            rows.push(ipv6);
        }
        Ok(())
    }
}

/// Lines of names, each followed by a line of values in the same order. Both begin with the protocol.
fn parse_snmp(snmp: &[u8], record: &mut Ip, outcome: &mut Outcome) {
    let mut lines = lines(snmp);
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (mut names, mut values) = (fields(names), fields(values));
        let Some(protocol) = names.next().and_then(|protocol| protocol.strip_suffix(b":")) else { continue };
        if !matches!(protocol, b"Ip" | b"Icmp" | b"Udp") {
            continue;
        }
        if values.next().and_then(|protocol| protocol.strip_suffix(b":")) != Some(protocol) {
            outcome.fail(SNMP, format_args!("no values of {}", text(protocol)));
            continue;
        }
        for (name, value) in names.zip(values) {
            let Some(column) = column(record, protocol, name) else { continue };
            match number(value) {
                Some(value) => *column = value,
                None => outcome.fail(SNMP, format_args!("{} is no number", text(name))),
            }
        }
    }
}

/// Lines of a name and a value. A name begins with its protocol, such as `Ip6`.
fn parse_snmp6(snmp6: &[u8], record: &mut Ip, outcome: &mut Outcome) {
    for line in lines(snmp6) {
        let mut words = words(line);
        let (Some(name), value) = (words.next(), words.next()) else { continue };
        let Some(at) = name.iter().position(|byte| *byte == b'6') else { continue };
        let (protocol, name) = (name.get(..at).unwrap_or_default(), name.get(at + 1..).unwrap_or_default());
        let Some(column) = column(record, protocol, name) else { continue };
        match value.and_then(number) {
            Some(value) => *column = value,
            None => outcome.fail(SNMP6, format_args!("{} is no number", text(name))),
        }
    }
}

/// The column of a figure. Both files have the same names for it, but for forwarded packets.
fn column<'a>(record: &'a mut Ip, protocol: &[u8], name: &[u8]) -> Option<&'a mut i64> {
    Some(match (protocol, name) {
        (b"Ip", b"InReceives") => &mut record.rx_packets,
        (b"Ip", b"OutRequests") => &mut record.tx_packets,
        (b"Ip", b"ForwDatagrams" | b"OutForwDatagrams") => &mut record.forwarded_packets,
        (b"Ip", b"InHdrErrors") => &mut record.rx_header_errors,
        (b"Ip", b"InAddrErrors") => &mut record.rx_address_errors,
        (b"Ip", b"InDiscards") => &mut record.rx_discards,
        (b"Ip", b"OutDiscards") => &mut record.tx_discards,
        (b"Ip", b"OutNoRoutes") => &mut record.no_routes,
        (b"Ip", b"ReasmFails") => &mut record.reassembly_failures,
        (b"Ip", b"FragFails") => &mut record.fragmentation_failures,
        (b"Icmp", b"InMsgs") => &mut record.icmp_rx_messages,
        (b"Icmp", b"OutMsgs") => &mut record.icmp_tx_messages,
        (b"Icmp", b"InErrors") => &mut record.icmp_rx_errors,
        (b"Icmp", b"InDestUnreachs") => &mut record.icmp_rx_unreachable,
        (b"Icmp", b"OutDestUnreachs") => &mut record.icmp_tx_unreachable,
        (b"Udp", b"InDatagrams") => &mut record.udp_rx_datagrams,
        (b"Udp", b"OutDatagrams") => &mut record.udp_tx_datagrams,
        (b"Udp", b"NoPorts") => &mut record.udp_no_ports,
        (b"Udp", b"InErrors") => &mut record.udp_rx_errors,
        (b"Udp", b"RcvbufErrors") => &mut record.udp_rx_buffer_errors,
        (b"Udp", b"SndbufErrors") => &mut record.udp_tx_buffer_errors,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IPV4: &str = "Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards \
        InDelivers OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails\n\
        Ip: 1 64 1 4 5 3 0 6 0 2 7 8 0 0 0 9 0 10\n\
        Icmp: InMsgs InErrors InCsumErrors InDestUnreachs OutMsgs OutErrors OutDestUnreachs\n\
        Icmp: 11 13 0 14 12 0 15\n\
        IcmpMsg: InType3 OutType3\nIcmpMsg: 14 15\n\
        Tcp: InErrs MaxConn\nTcp: 99 -1\n\
        Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors\n\
        Udp: 16 18 19 17 20 21 0\n\
        UdpLite: InDatagrams\nUdpLite: 77\n";

    #[test]
    fn each_version_has_a_row_of_the_kernels_figures() {
        let mut probe = Probe::empty::<IpSampler>();
        probe.write(
            "net/snmp6",
            "Ip6InReceives    1\nIp6OutForwDatagrams 3\nIcmp6OutMsgs 12\nUdp6RcvbufErrors 20\nUdpLite6InErrors 7\n",
        );
        let ipv4 = "ipv4,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21\n";
        let ipv6 = "ipv6,1,,3,,,,,,,,,12,,,,,,,,20,\n";
        assert_eq!(probe.rows_with(0, SNMP, IPV4), format!("{ipv4}{ipv6}"));
        assert_eq!(probe.check(), Ok(()));
    }

    #[test]
    fn a_kernel_without_ipv6_has_one_row_and_garbage_costs_its_own_value() {
        let mut probe = Probe::empty::<IpSampler>();
        assert_eq!(probe.rows_with(0, SNMP, IPV4).lines().count(), 1);
        probe.write(SNMP, "Udp: InDatagrams NoPorts\nUdp: x 2\nIp: InReceives\nTcp: 1\n");
        let (rows, outcome) = probe.tick(1);
        assert_eq!(rows, "ipv4,,,,,,,,,,,,,,,,,,2,,,\n");
        assert_eq!(outcome.unwrap_err().to_string(), "read net/snmp: InDatagrams is no number");
        let (rows, outcome) = Probe::empty::<IpSampler>().tick(0);
        assert_eq!((rows.as_str(), outcome.unwrap_err().what), ("", SNMP));
    }
}
