//! `tcp`: connections, segments and what went wrong with them, from `/proc/net/snmp`, `/proc/net/netstat`,
//! `/proc/net/sockstat` and `/proc/net/sockstat6`.
//!
//! RFC 4022 defines the figures of `snmp`, the kernel's `Documentation/networking/snmp_counter.rst` those of `netstat`.

use heim_runtime::snapshot::read_ahead_proc;

use crate::reading::optional::Optional;
use crate::reading::prelude::*;
use crate::reading::value::page_bytes;

const SNMP: &str = "net/snmp";
const NETSTAT: &str = "net/netstat";

record! {
    /// TCP over IPv4 and IPv6, in the same network namespace as `network`; some columns are for the whole host. A value
    /// is NULL if the kernel lacks its counter. `ipv6_sockets` is NULL if the kernel lacks IPv6.
    pub struct Tcp("tcp") {
        labels {}
        values {
            /// Connections in the states ESTABLISHED and CLOSE-WAIT (only the other side has closed).
            gauge established: i64 [Count("{connection}")] => "kymo.tcp.connections" {"kymo.tcp.state" = "established"},
            /// Closed connections that wait for late segments (TIME-WAIT).
            gauge time_wait: i64 [Count("{connection}")] => "kymo.tcp.connections" {"kymo.tcp.state" = "time_wait"},
            /// Connections that no process holds any more but that are not yet closed. For the whole host.
            gauge orphaned: i64 [Count("{connection}")] => "kymo.tcp.connections" {"kymo.tcp.state" = "orphaned"},
            /// IPv4 sockets in any state except closed and TIME-WAIT, including listening sockets.
            gauge ipv4_sockets: i64 [Count("{socket}")] => "kymo.tcp.sockets" {"network.type" = "ipv4"},
            /// The same for IPv6.
            gauge ipv6_sockets: i64 [Count("{socket}")] => "kymo.tcp.sockets" {"network.type" = "ipv6"},
            /// Sockets in any state, including closed ones that a process still holds. For the whole host.
            gauge allocated_sockets: i64 [Count("{socket}")] => "kymo.tcp.allocated_sockets" {},
            /// Memory used by socket buffers. For the whole host.
            gauge memory_bytes: i64 [Bytes] => "kymo.tcp.memory" {},
            /// Outgoing connection attempts.
            counter active_opens: i64 [Count("{connection}")] => "kymo.tcp.opens" {"kymo.tcp.side" = "active"},
            /// Incoming connections accepted.
            counter passive_opens: i64 [Count("{connection}")] => "kymo.tcp.opens" {"kymo.tcp.side" = "passive"},
            /// Connection attempts that failed, outgoing and incoming.
            counter failed_attempts: i64 [Count("{connection}")] => "kymo.tcp.failed_attempts" {},
            /// Established connections that were reset.
            counter established_resets: i64 [Count("{connection}")] => "kymo.tcp.established_resets" {},
            /// Segments received, including those with errors.
            counter rx_segments: i64 [Count("{segment}")] => "kymo.tcp.segments" {"network.io.direction" = "receive"},
            /// Segments sent, without retransmissions.
            counter tx_segments: i64 [Count("{segment}")] => "kymo.tcp.segments" {"network.io.direction" = "transmit"},
            /// Segments retransmitted.
            counter retransmitted_segments: i64 [Count("{segment}")] => "kymo.tcp.retransmitted_segments" {},
            /// Segments received with errors such as wrong checksums.
            counter rx_errors: i64 [Count("{segment}")] => "kymo.tcp.errors" {"network.io.direction" = "receive"},
            /// Resets (RST) sent.
            counter tx_resets: i64 [Count("{segment}")] => "kymo.tcp.resets" {"network.io.direction" = "transmit"},
            /// Incoming connections dropped because a listening socket's queue was full.
            counter listen_overflows: i64 [Count("{connection}")] => "kymo.tcp.listen_overflows" {},
            /// Incoming connections dropped by a listening socket for any reason, including `listen_overflows`.
            counter listen_drops: i64 [Count("{connection}")] => "kymo.tcp.listen_drops" {},
            /// SYN cookies sent because a queue of half-open connections was full.
            counter tx_syn_cookies: i64 [Count("{segment}")] => "kymo.tcp.syn_cookies" {"network.io.direction" = "transmit"},
            /// Retransmission timeouts: how many times an acknowledgement did not come in time.
            counter timeouts: i64 [Count("{timeout}")] => "kymo.tcp.timeouts" {},
            /// SYN and SYN-ACK segments retransmitted; included in `retransmitted_segments`.
            counter retransmitted_syns: i64 [Count("{segment}")] => "kymo.tcp.retransmitted_syns" {},
            /// Retransmitted segments that were lost again.
            counter lost_retransmits: i64 [Count("{segment}")] => "kymo.tcp.lost_retransmits" {},
            /// Segments dropped because too many arrived while a process had the socket locked.
            counter backlog_drops: i64 [Count("{segment}")] => "kymo.tcp.backlog_drops" {},
            /// Connections aborted because the other side did not answer.
            counter timeout_aborts: i64 [Count("{connection}")] => "kymo.tcp.aborts" {"kymo.tcp.reason" = "timeout"},
            /// Connections aborted because of too little memory or too many orphans.
            counter memory_aborts: i64 [Count("{connection}")] => "kymo.tcp.aborts" {"kymo.tcp.reason" = "memory"},
        }
    }
}

/// A wanted figure: its name in a file, and its column.
type Key = (&'static [u8], fn(&mut Tcp) -> &mut i64);

/// Of `/proc/net/snmp`.
const SNMP_KEYS: &[Key] = &[
    (b"ActiveOpens", |tcp| &mut tcp.active_opens),
    (b"PassiveOpens", |tcp| &mut tcp.passive_opens),
    (b"AttemptFails", |tcp| &mut tcp.failed_attempts),
    (b"EstabResets", |tcp| &mut tcp.established_resets),
    (b"CurrEstab", |tcp| &mut tcp.established),
    (b"InSegs", |tcp| &mut tcp.rx_segments),
    (b"OutSegs", |tcp| &mut tcp.tx_segments),
    (b"RetransSegs", |tcp| &mut tcp.retransmitted_segments),
    (b"InErrs", |tcp| &mut tcp.rx_errors),
    (b"OutRsts", |tcp| &mut tcp.tx_resets),
];

/// Of `/proc/net/netstat`.
const NETSTAT_KEYS: &[Key] = &[
    (b"SyncookiesSent", |tcp| &mut tcp.tx_syn_cookies),
    (b"ListenOverflows", |tcp| &mut tcp.listen_overflows),
    (b"ListenDrops", |tcp| &mut tcp.listen_drops),
    (b"TCPLostRetransmit", |tcp| &mut tcp.lost_retransmits),
    (b"TCPTimeouts", |tcp| &mut tcp.timeouts),
    (b"TCPAbortOnMemory", |tcp| &mut tcp.memory_aborts),
    (b"TCPAbortOnTimeout", |tcp| &mut tcp.timeout_aborts),
    (b"TCPBacklogDrop", |tcp| &mut tcp.backlog_drops),
    (b"TCPSynRetrans", |tcp| &mut tcp.retransmitted_syns),
];

/// Of `/proc/net/sockstat`; memory is in pages there.
const SOCKSTAT_KEYS: &[Key] = &[
    (b"inuse", |tcp| &mut tcp.ipv4_sockets),
    (b"orphan", |tcp| &mut tcp.orphaned),
    (b"tw", |tcp| &mut tcp.time_wait),
    (b"alloc", |tcp| &mut tcp.allocated_sockets),
    (b"mem", |tcp| &mut tcp.memory_bytes),
];

/// Of `/proc/net/sockstat6`, which a kernel without IPv6 lacks.
const SOCKSTAT6_KEYS: &[Key] = &[(b"inuse", |tcp| &mut tcp.ipv6_sockets)];

/// Reads the four files.
#[derive(Debug)]
pub struct TcpSampler {
    snmp: Headed,
    netstat: Headed,
    /// The files besides `snmp`, in the order of their names here.
    optional: [Optional; 3],
}

impl Sample for TcpSampler {
    type Record = Tcp;
    const INTERVAL_MIN: Duration = Duration::from_millis(10);
    const RESOLUTION: &'static str = "exact at every read, except that `memory_bytes` may be off by 1 MiB per CPU";
    const NEEDED: Option<(&'static str, &'static str)> =
        Some((SNMP, "there is no /proc/net/snmp: the kernel has no IPv4 (CONFIG_INET)"));

    fn open(_: &Context) -> TcpSampler {
        TcpSampler {
            snmp: Headed::new(SNMP, b"Tcp: ", SNMP_KEYS),
            netstat: Headed::new(NETSTAT, b"TcpExt: ", NETSTAT_KEYS),
            optional: [NETSTAT, "net/sockstat", "net/sockstat6"].map(Optional::of_proc),
        }
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Tcp>) -> Result<(), SampleError> {
        let mut record = Tcp::absent(tick.time);
        let outcome = &mut rows.outcome;
        read_ahead_proc([SNMP].into_iter().chain(self.optional.iter().filter_map(|file| file.wanted(tick))));
        let read = with_proc(SNMP, |snmp| self.snmp.parse(snmp, &mut record, outcome));
        outcome.note(read);
        // The kernel adds up the CPUs one by one. A connection that opens on one CPU and closes on another meanwhile
        // can bring the sum below zero, which the kernel writes as a huge unsigned number.
        record.established = outcome.possible_count(record.established);
        let [netstat, sockstat, sockstat6] = &mut self.optional;
        let read = netstat.with(tick, |netstat| self.netstat.parse(netstat, &mut record, outcome));
        outcome.note(read);
        for (file, before, keys) in [(sockstat, &b"TCP: "[..], SOCKSTAT_KEYS), (sockstat6, b"TCP6: ", SOCKSTAT6_KEYS)] {
            let name = file.name;
            let read = file.with(tick, |bytes| parse_pairs(name, before, keys, bytes, &mut record, outcome));
            outcome.note(read);
        }
        record.memory_bytes = scaled(record.memory_bytes, page_bytes());
        rows.push(record);
        Ok(())
    }
}

/// A line of names followed by a line of values in the same order. Both begin with the same word.
#[derive(Debug)]
struct Headed {
    file: &'static str,
    before: &'static [u8],
    keys: &'static [Key],
    /// The names that `places` was made from. They change only with the kernel.
    names: Vec<u8>,
    /// The number of each wanted value and its key, in the line's order.
    places: Vec<(usize, Key)>,
}

impl Headed {
    const fn new(file: &'static str, before: &'static [u8], keys: &'static [Key]) -> Headed {
        Headed { file, before, keys, names: Vec::new(), places: Vec::new() }
    }

    fn parse(&mut self, bytes: &[u8], record: &mut Tcp, outcome: &mut Outcome) {
        let mut lines = lines(bytes).filter_map(|line| line.strip_prefix(self.before));
        let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
            outcome.fail(self.file, format!("expected two lines of {}", text(self.before.trim_ascii_end())));
            return;
        };
        if self.names != names {
            self.find(names);
        }
        let mut values = fields(values);
        let mut next = 0;
        for (at, (name, column)) in &self.places {
            let value = values.nth(at - next);
            next = at + 1;
            match value.map(number) {
                Some(Some(value)) => *column(record) = value,
                Some(None) => outcome.fail(self.file, format!("{} is no number", text(name))),
                None => {
                    outcome.fail(self.file, format!("{} has a name and no value", text(name)));
                    break;
                }
            }
        }
    }

    fn find(&mut self, names: &[u8]) {
        let place_of = |known: &[u8]| fields(names).position(|name| name == known);
        self.places.clear();
        self.places.extend(self.keys.iter().filter_map(|key| Some((place_of(key.0)?, *key))));
        self.places.sort_unstable_by_key(|(at, _)| *at);
        names.clone_into(&mut self.names);
    }
}

/// Takes the values of a line of names, each followed by its value, into `record`.
fn parse_pairs(file: &'static str, before: &[u8], keys: &[Key], bytes: &[u8], record: &mut Tcp, outcome: &mut Outcome) {
    let Some(line) = lines(bytes).find_map(|line| line.strip_prefix(before)) else { return };
    let mut words = words(line);
    while let Some(name) = words.next() {
        let value = words.next();
        let Some((_, column)) = keys.iter().find(|(known, _)| *known == name) else { continue };
        match value.and_then(number) {
            Some(value) => *column(record) = value,
            None => outcome.fail(file, format!("{} has no number", text(name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_is_the_kernels_figures() {
        let row = format!("3,0,0,4,0,4,{},22,2,0,4,6376,3872,0,0,10,0,0,0,2,0,0,0,0,0\n", 342 * page_bytes());
        Probe::assert_fixture::<TcpSampler>("vm", &row, None);
    }

    /// Fewer values than names, a name twice, figures that no `i64` holds or that are no numbers, and no IPv6.
    #[test]
    fn odd_figures_cost_no_other() {
        let rows = ",4294967296,,1,,,,9223372036854775807,2,,,,5,6,,,,1,,,3,,,,\n";
        Probe::assert_fixture::<TcpSampler>("odd", rows, Some("read net/snmp: CurrEstab is no number"));
    }

    #[test]
    fn columns_are_found_by_their_names_in_any_order() {
        let mut probe = Probe::empty::<TcpSampler>();
        let memory = 2 * page_bytes();
        probe.write("net/sockstat", "TCP: mem 2 inuse 1\n");
        probe.write("net/snmp", "Udp: InErrs\nUdp: 9\nTcp: CurrEstab MaxConn OutRsts\nTcp: 3 -1 4\n");
        assert_eq!(probe.rows(0), format!("3,,,1,,,{memory},,,,,,,,,4,,,,,,,,,\n"));
        probe.write("net/snmp", "Tcp: OutRsts CurrEstab\nTcp: 5 6\n");
        probe.write("net/netstat", "TcpExt: ListenDrops\nTcpExt: 7\n");
        probe.write("net/sockstat", "UDP: inuse 1\n");
        // What was missing is asked for again after a while only.
        assert_eq!(probe.rows(1), "6,,,,,,,,,,,,,,,5,,,,,,,,,\n");
        assert_eq!(probe.rows(60_000), "6,,,,,,,,,,,,,,,5,,7,,,,,,,\n");
        probe.write("net/snmp", "Tcp: OutRsts InErrs\nTcp: 5 6\n");
        assert_eq!(probe.rows(60_001), ",,,,,,,,,,,,,,6,5,,7,,,,,,,\n");
        // What a sum over CPUs that is -1 is written as.
        probe.write("net/snmp", "Tcp: OutRsts CurrEstab\nTcp: 5 18446744073709551615\n");
        assert_eq!(probe.rows(60_002), ",,,,,,,,,,,,,,,5,,7,,,,,,,\n");
    }

    #[test]
    fn without_lines_there_is_an_error_that_names_the_file() {
        let mut probe = Probe::empty::<TcpSampler>();
        assert!(probe.check().unwrap_err().contains("/proc/net/snmp"));
        let (rows, outcome) = probe.tick(0);
        assert_eq!(rows, format!("{}\n", ",".repeat(24)));
        assert!(outcome.unwrap_err().to_string().starts_with("read net/snmp: "));
        for snmp in ["", "Tcp: CurrEstab\n", "TcpX: a\nTcpX: 1\n"] {
            probe.write("net/snmp", snmp);
            assert_eq!(probe.tick(0).1.unwrap_err().to_string(), "read net/snmp: expected two lines of Tcp:");
        }
    }
}
