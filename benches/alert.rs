//! What alert rules cost the drain thread: one batch of five ticks, under few and many rules.
//!
//! At the default five drains a second, 2 ms a drain would be 1 % of a core.

use std::hint::black_box;
use std::time::Duration;

use arrow::array::RecordBatch;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use kymo::alert::Engine;
use kymo::alert::moment::Moment;
use kymo::alert::notify::Deliverer;
use kymo::alert::rule::{Compiler, RuleSettings};
use kymo::batch::to_batch;
use kymo::family::{FamilyId, PerFamily};
use kymo::record::label::Labels;
use kymo::record::{Record, Table};

kymo::record! {
    /// Those columns of `cpu` that rules need.
    pub struct Cpu("cpu") {
        labels {
            /// Which one.
            cpu,
        }
        values {
            /// Busy share.
            gauge utilization: f64 [Ratio],
        }
    }
}

kymo::record! {
    /// Network interfaces with all their counters.
    pub struct Network("network") {
        labels {
            /// Which one.
            interface,
        }
        values {
            /// Received.
            counter rx_bytes: i64 [Bytes],
            /// Sent.
            counter tx_bytes: i64 [Bytes],
            /// Packets received.
            counter rx_packets: i64 [Count("{packet}")],
            /// Packets sent.
            counter tx_packets: i64 [Count("{packet}")],
            /// Errors.
            counter rx_errors: i64 [Count("{error}")],
            /// Errors.
            counter tx_errors: i64 [Count("{error}")],
            /// Dropped.
            counter rx_dropped: i64 [Count("{packet}")],
            /// Dropped.
            counter tx_dropped: i64 [Count("{packet}")],
        }
    }
}

const CPU: FamilyId = FamilyId::of::<Cpu>();
const NETWORK: FamilyId = FamilyId::of::<Network>();
static TABLES: [(FamilyId, &Table); 2] = [(CPU, Cpu::TABLE), (NETWORK, Network::TABLE)];

/// Rows of one series come this far apart.
const TICK_US: i64 = 1_000;

fn rules(count: usize, table: &str, when: impl Fn(usize) -> String) -> Vec<RuleSettings> {
    let rule = |i| RuleSettings {
        name: format!("rule {i}"),
        table: Some(table.into()),
        when: Some(when(i)),
        for_: Duration::from_secs(1),
        ..RuleSettings::default()
    };
    (0..count).map(rule).collect()
}

fn engine(settings: &[RuleSettings]) -> Engine {
    let compiled = Compiler::over(TABLES).compile_all(settings);
    let delivery = Deliverer::new(Vec::new(), "bench");
    match (compiled, delivery) {
        // Nothing delivers notifications here, so all are dropped: the cheapest case for the drain thread.
        (Ok(rules), Ok((outbox, _))) => Engine::new(rules, outbox, PerFamily::default(), Moment::default()),
        (rules, _) => unreachable!("{:?}", rules.err()),
    }
}

/// One tick of the total and two CPUs, `busy` of 1.
fn cpu_rows(labels: &Labels, time: i64, busy: f64) -> RecordBatch {
    let row = |cpu| Cpu { cpu: labels.intern(cpu), utilization: busy, ..Cpu::absent(time) };
    to_batch(&[&[row("total"), row("0"), row("1")]], labels, &Cpu::TABLE.schema())
}

/// Five ticks of two interfaces, which receive 1 kB and send 2 kB a second.
fn network_rows(labels: &Labels, time: i64) -> RecordBatch {
    let mut rows = Vec::new();
    for tick in 0..5 {
        let time = time + tick * TICK_US;
        for interface in ["lo", "eth0"] {
            let row = Network { rx_bytes: time / 1_000, tx_bytes: time / 500, ..Network::absent(time) };
            rows.push(Network { interface: labels.intern(interface), ..row });
        }
    }
    to_batch(&[&rows], labels, &Network::TABLE.schema())
}

/// Times `engine` on one batch after another, after a warm-up of two seconds of data.
fn measure(
    criterion: &mut Criterion,
    name: &str,
    family: FamilyId,
    settings: &[RuleSettings],
    rows: impl Fn(&Labels, i64) -> RecordBatch,
) {
    let mut engine = engine(settings);
    let labels = Labels::default();
    let mut time = 0;
    let mut next = || {
        time += 5 * TICK_US;
        (rows(&labels, time), Moment { wall_us: time + 5 * TICK_US, monotonic_us: time + 5 * TICK_US })
    };
    let mut drain = |(batch, now): (RecordBatch, Moment)| {
        engine.evaluate(family, black_box(&batch), now);
        engine.tick(now);
    };
    for _ in 0..400 {
        drain(next());
    }
    criterion.bench_function(name, |bencher| {
        bencher.iter_batched(&mut next, &mut drain, BatchSize::SmallInput);
    });
    let failures = engine.board().failures();
    assert_eq!(failures, 0, "{name}: every expression can be evaluated");
}

fn alerts(criterion: &mut Criterion) {
    let usage = |i: usize| format!("cpu = 'total' AND utilization * 100 > {}", 50.0 + i as f64 / 25.0);
    let idle = |labels: &Labels, time| cpu_rows(labels, time, 0.2);
    let busy = |labels: &Labels, time| cpu_rows(labels, time, 0.99);
    measure(criterion, "cpu usage, 1 rule", CPU, &rules(1, "cpu", usage), idle);
    measure(criterion, "cpu usage, 1000 rules", CPU, &rules(1_000, "cpu", usage), idle);
    measure(criterion, "cpu usage, 1000 rules firing", CPU, &rules(1_000, "cpu", usage), busy);

    let rate = |i: usize| format!("rate(rx_bytes) > {}", 1_000_000 + i);
    measure(criterion, "network rate, 1 rule", NETWORK, &rules(1, "network", rate), network_rows);
    measure(criterion, "network rate, 1000 rules", NETWORK, &rules(1_000, "network", rate), network_rows);

    let either = |i: usize| {
        format!("interface = 'eth{i}' AND (rate(rx_bytes) > {i} * 1000000 + 1000000 OR rx_errors > {i} + 10)")
    };
    measure(criterion, "network interfaces, 1000 rules", NETWORK, &rules(1_000, "network", either), network_rows);

    // No two rules share anything: the most expensive case.
    let different = |i: usize| format!("rate(rx_bytes) * {} + rate(tx_bytes) > 1000000000", i + 1);
    measure(criterion, "network sums, 1 rule", NETWORK, &rules(1, "network", different), network_rows);
    measure(criterion, "network sums, 1000 rules", NETWORK, &rules(1_000, "network", different), network_rows);
}

criterion_group!(benches, alerts);
criterion_main!(benches);
