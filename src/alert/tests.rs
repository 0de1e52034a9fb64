//! The engine's own tests: rows in, notifications out.

use std::time::Duration;

use super::fixture::{Bench, SECOND, short, when};
use super::machine::Absent;
use super::notify::WAITING_MAX;
use super::*;
use crate::family::cpu::Cpu;
use crate::family::filesystem::Filesystem;
use crate::family::host::Host;
use crate::family::memory::Memory;
use crate::family::network::Network;
use crate::record::Record;
use crate::record::label::LABELS_MAX;

fn memory(time: i64, change: impl FnOnce(&mut Memory)) -> Memory {
    let mut memory = Memory { total_bytes: 8 << 30, free_bytes: 1 << 30, ..Memory::absent(time) };
    change(&mut memory);
    memory
}

fn host(time: i64, load1: f64) -> Host {
    Host { load1, ..Host::absent(time) }
}

fn says(settings: RuleSettings, message: &str) -> RuleSettings {
    RuleSettings { message: message.into(), ..settings }
}

#[test]
fn cpu_usage_watches_the_total() {
    let mut bench = Bench::new(&[says(short("cpu_usage_above", 90.0), "{cpu} at {value} % of {threshold} %")]);
    let rows = [bench.cpu(1, "total", 0.9), bench.cpu(1, "0", 0.99), bench.cpu(2, "total", 0.95128)];
    assert_eq!(bench.told(&rows), ["firing total at 95.13 % of 90 %"]);
    let rows = [bench.cpu(3, "total", f64::NAN), bench.cpu(4, "total", 0.1)];
    assert_eq!(bench.told(&rows), ["resolved total at 10 % of 90 %"]);
}

#[test]
fn memory_usage_is_what_is_not_available_and_load_the_minute_s() {
    let mut bench = Bench::new(&[short("load_above", 4.0)]);
    assert_eq!(bench.told(&[host(1, 4.0), host(2, 4.25)]), ["firing load_above is firing: 4.25"]);
    let mut bench = Bench::new(&[says(short("memory_usage_above", 75.0), "{value}, {free_memory} free")]);
    assert_eq!(bench.told(&[memory(1, |memory| memory.available_bytes = 2 << 30)]), [""; 0]);
    assert_eq!(bench.told(&[memory(2, |memory| memory.available_bytes = 1 << 30)]), ["firing 87.5, 1.0 GiB free"]);
}

#[test]
fn disk_usage_is_by_file_system() {
    let mut bench = Bench::new(&[says(short("disk_usage_above", 80.0), "{mountpoint} on {device}: {value}")]);
    let row = |bench: &Bench, mountpoint, used_ratio, read_only| Filesystem {
        mountpoint: bench.labels.intern(mountpoint),
        device: bench.labels.intern("vda"),
        used_ratio,
        read_only,
        ..Filesystem::absent(1)
    };
    let rows = [("/", 0.5, 0), ("/home", 0.9, 0), ("/usr", 1.0, 1), ("/var", 0.85, 0)];
    let rows = rows.map(|(mountpoint, used_ratio, read_only)| row(&bench, mountpoint, used_ratio, read_only));
    assert_eq!(bench.told(&rows), ["firing /home on vda: 90", "firing /var on vda: 85"]);
    let firing = bench.board.rules().remove(0).firing_series;
    let mountpoints: Vec<_> = firing.iter().map(|series| series.labels["mountpoint"].as_str()).collect();
    assert_eq!(mountpoints, ["/home", "/var"]);
}

#[test]
fn network_usage_is_bytes_per_second_by_interface() {
    let rules = [
        says(short("network_rx_above", 1e6), "{interface} rx {value}"),
        says(short("network_tx_above", 1e6), "{interface} tx {value}"),
    ];
    let mut bench = Bench::new(&rules);
    let mut told = Vec::new();
    for tick in 0..3_000 {
        let row =
            |interface, rx_bytes, tx_bytes| Network { tx_bytes, ..bench.network(tick * 1_000, interface, rx_bytes) };
        // 2 MB/s in the second second only.
        let burst = (tick - 1_000).clamp(0, 1_000) * 2_000;
        let rows = [row("eth0", burst, tick), row("lo", tick, 5 * burst)];
        told.extend(bench.take(&rows));
    }
    let told: Vec<_> =
        told.iter().map(|told| (told.rule.as_str(), told.state, told.labels["interface"].as_str())).collect();
    let expected = [
        ("network_tx_above", Transition::Firing, "lo"),
        ("network_rx_above", Transition::Firing, "eth0"),
        ("network_rx_above", Transition::Resolved, "eth0"),
        ("network_tx_above", Transition::Resolved, "lo"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_name_gives_way_only_after_its_series_is_let_go() {
    let rules = [
        says(short("network_rx_above", 1e6), "{interface} rx {value}"),
        says(when("network", "rx_bytes > 5 AND interface = 'new'"), "{interface} has {value}"),
    ];
    let mut bench = Bench::new(&rules);
    let interface = |bench: &Bench, name: &str, ms: i64, rx_bytes| bench.network(ms * 1_000, name, rx_bytes);
    // `a` fires, `b` has a rate only.
    for ms in [0, 500, 1_000, 1_500] {
        let rows = [interface(&bench, "a", ms, 3_000 * ms), interface(&bench, "b", ms, 0)];
        bench.take(&rows);
    }
    let firing = |bench: &Bench| -> Vec<String> {
        let rules = bench.board.rules();
        rules.iter().flat_map(|rule| &rule.firing_series).map(|series| series.labels["interface"].clone()).collect()
    };
    assert_eq!(firing(&bench), ["a"]);
    let key = |bench: &Bench, name| bench.labels.intern(name).key();
    let (a, b) = (key(&bench, "a"), key(&bench, "b"));
    let mut keys = [a, b].into();
    bench.engine.release(FamilyId::of::<Network>(), &mut keys);
    assert_eq!(keys, [b].into());
    // Another name in the place of `b` is a series of its own, with no rate yet, and rules find it.
    (0..LABELS_MAX).for_each(|name| _ = bench.labels.intern(&format!("x{name}")));
    bench.labels.give_way(&keys);
    let rows = [interface(&bench, "a", 2_000, 6_000_000), interface(&bench, "new", 2_000, 100_000_000)];
    assert_eq!(bench.told(&rows), ["firing new has 100000000"]);
    assert_eq!(key(&bench, "new"), b);
    assert_eq!(firing(&bench), ["a", "new"]);
}

/// Also while it has no rows: what is expected does not give way.
#[test]
fn a_name_whose_absence_is_watched_keeps_its_place() {
    let rule = RuleSettings { absent: Absent::Fire, ..when("network", "interface = 'gone'") };
    let mut bench = Bench::new(&[rule]);
    let mut keys = (2..10).collect();
    bench.engine.release(FamilyId::of::<Network>(), &mut keys);
    assert!(!keys.contains(&bench.labels.intern("gone").key()), "{keys:?}");
    assert_eq!(keys.len(), 7);
}

#[test]
fn swap_usage_needs_swap() {
    let mut bench = Bench::new(&[says(short("swap_usage_above", 50.0), "{value}")]);
    let swap =
        |time, total, free| memory(time, |memory| (memory.swap_total_bytes, memory.swap_free_bytes) = (total, free));
    assert_eq!(bench.told(&[swap(1, 0, 0), swap(2, 100, 50)]), [""; 0]);
    assert_eq!(bench.told(&[swap(3, 100, 40)]), ["firing 60"]);
    // Turned off while firing: absent, so still firing.
    assert_eq!(bench.told(&[swap(4, 0, 0)]), [""; 0]);
    assert_eq!(bench.told(&[swap(5, 100, 90)]), ["resolved 10"]);
}

#[test]
fn firing_and_resolved_are_told_once_by_the_rows_own_time() {
    let settings = RuleSettings {
        for_: Duration::from_secs(2),
        resolve_after: Some(Duration::from_secs(3)),
        ..when("host", "load1 > 1")
    };
    let mut bench = Bench::new(&[settings]);
    let mut told = Vec::new();
    for second in 0..30 {
        // Over from 5 to 15, with a dip too short to resolve.
        let load = if (5..15).contains(&second) && second != 10 { 2.0 } else { 0.5 };
        told.extend(bench.take(&[host(second * SECOND, load)]));
        let status = bench.board.rules().remove(0);
        let expected = match second {
            5 | 6 => (1, 0),
            7..18 => (0, 1),
            _ => (0, 0),
        };
        assert_eq!((status.pending, status.firing), expected, "at {second} s");
    }
    let told: Vec<_> = told.iter().map(|told| (told.state, told.time_us / SECOND, told.value)).collect();
    assert_eq!(told, [(Transition::Firing, 7, Some(2.0)), (Transition::Resolved, 18, Some(0.5))]);
}

#[test]
fn rows_of_one_batch_are_taken_in_order_and_told_in_order() {
    let mut bench = Bench::new(&[when("host", "load1 > 2"), when("host", "load1 > 1")]);
    let loads = [0.0, 1.5, 2.5, 1.5, 0.0];
    let rows: Vec<_> = (1..).zip(loads).map(|(time, load)| host(time, load)).collect();
    let told: Vec<_> = bench.take(&rows).iter().map(|told| (told.time_us, told.threshold, told.state)).collect();
    let expected = [
        (2, Some(1.0), Transition::Firing),
        (3, Some(2.0), Transition::Firing),
        (4, Some(2.0), Transition::Resolved),
        (5, Some(1.0), Transition::Resolved),
    ];
    assert_eq!(told, expected);
}

#[test]
fn many_rules_of_one_shape_each_keep_their_own_threshold() {
    let rules: Vec<_> =
        (0..1_000).map(|i| when("cpu", &format!("cpu = 'total' AND utilization * 1000 > {i}"))).collect();
    let mut bench = Bench::new(&rules);
    let rows = [bench.cpu(1, "total", 0.2505), bench.cpu(1, "0", 1.0)];
    let told = bench.take(&rows);
    assert_eq!(told.len(), 251);
    assert!(told.iter().all(|told| told.threshold <= Some(250.0) && told.labels["cpu"] == "total"));
    let row = bench.cpu(2, "total", 0.2);
    let resolved = bench.take(&[row]);
    assert_eq!((resolved.len(), resolved[0].state, resolved[0].threshold), (51, Transition::Resolved, Some(200.0)));
}

#[test]
fn all_shapes_of_conditions_agree_with_sql() {
    let conditions = [
        ("utilization >= 0.5", "b c"),
        ("utilization < 0.5", "a"),
        ("utilization <= 0.5", "a b"),
        ("utilization = 0.5", "b"),
        ("utilization <> 0.5", "a c"),
        ("utilization > 0.1 AND utilization < 0.6", "a b"),
        ("utilization > 0.1 AND user_us > 2", "b c"),
        ("utilization > 0.9 OR cpu = 'a'", "a c"),
        ("cpu IN ('b', 'c') AND utilization IS NOT NULL", "b c"),
        ("utilization IS NULL", "d"),
        ("NOT (utilization > 0.4)", "a"),
        ("cpu LIKE 'c%' AND utilization > user_us / 10.0", "c"),
        ("user_us % 2 = 1", "a c"),
        ("CASE WHEN cpu = 'a' THEN utilization ELSE 0 END > 0.1", "a"),
    ];
    for (sql, expected) in conditions {
        let mut bench = Bench::new(&[says(when("cpu", sql), "{cpu}")]);
        let rows = [("a", 0.2, 1), ("b", 0.5, 4), ("c", 1.0, 3), ("d", f64::NAN, 0)];
        let rows = rows.map(|(cpu, utilization, user_us)| Cpu { user_us, ..bench.cpu(1, cpu, utilization) });
        let told: Vec<_> = bench.take(&rows).iter().map(|told| told.message.clone()).collect();
        assert_eq!(told.join(" "), expected, "{sql}");
    }
}

#[test]
fn dividing_by_zero_is_absent_and_blinds_no_other_row() {
    let mut bench = Bench::new(&[says(when("network", "rx_bytes / tx_bytes > 1"), "{interface} {value}")]);
    let row = |bench: &Bench, interface, tx_bytes| Network { tx_bytes, ..bench.network(1, interface, 10) };
    let rows = [row(&bench, "idle", 0), row(&bench, "busy", 3)];
    assert_eq!(bench.told(&rows), ["firing busy 3"]);
    assert_eq!(bench.board.failures(), 0);
}

#[test]
fn an_expression_that_fails_is_counted_and_harms_no_other_rule() {
    let rules =
        [says(when("cpu", "CAST(cpu AS BIGINT) > 3"), "number"), says(when("cpu", "utilization > 0.5"), "share")];
    let mut bench = Bench::new(&rules);
    let rows = [bench.cpu(1, "total", 0.9), bench.cpu(1, "7", 0.9)];
    assert_eq!(bench.told(&rows), ["firing share"; 2]);
    assert_eq!(bench.board.failures(), 1);
}

#[test]
fn a_series_that_is_gone_is_told_as_gone() {
    let mut bench = Bench::new(&[says(when("network", "rx_bytes > 5"), "{interface} {rx_bytes} {value}")]);
    let rows = [bench.network(0, "veth1", 9), bench.network(0, "eth0", 7)];
    assert_eq!(bench.told(&rows), ["firing veth1 9 9", "firing eth0 7 7"]);
    let mut told = Vec::new();
    for second in 1..=400 {
        let row = bench.network(second * SECOND, "eth0", 7);
        told.extend(bench.take(&[row]));
    }
    assert_eq!(told.len(), 1);
    let message = "network: rx_bytes > 5: network interface=veth1 is gone: no rows for 5m";
    assert_eq!((told[0].state, told[0].message.as_str(), told[0].value), (Transition::Gone, message, None));
    assert_eq!((told[0].time_us, told[0].since_us, told[0].peak), (300 * SECOND, 0, Some(9.0)));
    assert_eq!(bench.board.rules()[0].firing, 1);
}

#[test]
fn a_full_outbox_never_waits() {
    let rules: Vec<_> = (0..WAITING_MAX + 10).map(|i| when("host", &format!("load1 > {i} - 10000"))).collect();
    let (outbox, next) = notify::tests::outbox();
    let mut engine = Engine::new(fixture::compiled(&rules), outbox.clone(), PerFamily::default(), Moment::default());
    let bench = Bench::new(&[]);
    engine.evaluate(FamilyId::of::<Host>(), &bench.batch(&[host(1, 0.0)]), Moment::default());
    assert_eq!((std::iter::from_fn(next).count(), outbox.lost()), (WAITING_MAX, 10));
}

#[test]
fn families_without_rules_are_passed_over() {
    let mut bench = Bench::new(&[short("memory_usage_above", 50.0)]);
    assert_eq!(bench.told(&[host(1, 9.0)]), [""; 0]);
    let row = bench.cpu(1, "total", 1.0);
    assert_eq!(bench.told(&[row]), [""; 0]);
}

fn absent(absent: Absent, after: u64, settings: RuleSettings) -> RuleSettings {
    RuleSettings { absent, absent_after: Some(Duration::from_secs(after)), ..settings }
}

/// Lets seconds pass without any row. Returns "second state labels" of what is told.
fn silence(bench: &mut Bench, seconds: i64) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..seconds {
        bench.pass_until(bench.now.wall_us + SECOND);
        for one in bench.tick() {
            let labels: Vec<_> = one.labels.iter().map(|(name, text)| format!(" {name}={text}")).collect();
            told.push(format!("{} {}{}", one.time_us / SECOND, one.state.as_str(), labels.join("")));
        }
    }
    // What is found at the same moment has no order.
    told.sort();
    told
}

#[test]
fn a_table_without_rows_ends_keeps_or_fires_by_the_rule_s_choice() {
    let told = |choice| {
        let mut bench = Bench::new(&[absent(choice, 30, when("cpu", "cpu = 'total' AND utilization > 0.5"))]);
        let row = bench.cpu(SECOND, "total", 0.9);
        assert_eq!(bench.take(&[row]).len(), 1);
        let told = silence(&mut bench, 600);
        let status = bench.board.rules().remove(0);
        (told, status.firing)
    };
    assert_eq!(told(Absent::Resolve), (vec!["31 gone cpu=total".to_owned()], 0));
    assert_eq!(told(Absent::Keep), (vec![], 1));
    assert_eq!(told(Absent::Fire), (vec!["31 no data cpu=total".to_owned()], 1));
}

#[test]
fn a_device_that_never_appears_is_told_and_resolves_when_it_comes() {
    let mut bench = Bench::new(&[absent(Absent::Fire, 10, when("network", "interface = 'eth9' AND rx_bytes > 5"))]);
    let other = bench.network(SECOND, "eth0", 9);
    assert_eq!(bench.take(&[other]).len(), 0);
    assert_eq!(silence(&mut bench, 60), ["10 no data interface=eth9"]);
    let firing = bench.board.rules().remove(0).firing_series;
    assert_eq!((firing.len(), firing[0].has_no_data, firing[0].since_us), (1, true, 10 * SECOND));
    let row = bench.network(100 * SECOND, "eth9", 1);
    let told = bench.take(&[row]);
    assert_eq!((told.len(), told[0].state, told[0].since_us), (1, Transition::Resolved, 10 * SECOND));
    assert_eq!(silence(&mut bench, 60), ["110 no data interface=eth9"]);
}

#[test]
fn with_some_labels_stated_any_row_with_them_will_do() {
    let condition = "mountpoint IN ('/', '/data') AND used_ratio > 0.9";
    let mut bench = Bench::new(&[absent(Absent::Fire, 10, when("filesystem", condition))]);
    let row = |bench: &Bench, second, mountpoint, device, used_ratio| Filesystem {
        mountpoint: bench.labels.intern(mountpoint),
        device: bench.labels.intern(device),
        used_ratio,
        ..Filesystem::absent(second * SECOND)
    };
    let rows = [row(&bench, 5, "/", "vda", 0.1), row(&bench, 5, "/data", "vdb", 0.95)];
    assert_eq!(silence(&mut bench, 4), [""; 0]);
    assert_eq!(bench.take(&rows).len(), 1);
    let root = row(&bench, 14, "/", "vda", 0.1);
    assert_eq!(silence(&mut bench, 8), [""; 0]);
    assert_eq!(bench.take(&[root]).len(), 0);
    // What fired ends, and that nothing is there fires.
    let told = ["15 gone device=vdb mountpoint=/data type=", "15 no data mountpoint=/data"];
    assert_eq!(silence(&mut bench, 5), told);
    // Another device is mounted there.
    let back = [row(&bench, 20, "/", "vda", 0.1), row(&bench, 20, "/data", "vdc", 0.2)];
    let told = bench.take(&back);
    assert_eq!((told.len(), told[0].state, told[0].labels.len()), (1, Transition::Resolved, 1));
}

#[test]
fn with_no_label_stated_each_series_that_was_there_is_watched_and_one_at_least() {
    let condition = "interface LIKE 'eth%' AND rx_bytes > 5";
    let mut bench = Bench::new(&[absent(Absent::Fire, 10, when("network", condition))]);
    let lo = bench.network(SECOND, "lo", 1);
    assert_eq!(bench.take(&[lo]).len(), 0);
    assert_eq!(silence(&mut bench, 20), ["10 no data"]);
    let row = bench.network(30 * SECOND, "eth0", 1);
    let told = bench.take(&[row]);
    assert_eq!((told.len(), told[0].state, told[0].labels.len()), (1, Transition::Resolved, 0));
    let row = bench.network(31 * SECOND, "eth0", 1);
    assert_eq!(bench.take(&[row]).len(), 0);
    assert_eq!(silence(&mut bench, 60), ["41 no data interface=eth0"]);
}

#[test]
fn a_condition_that_only_names_series_fires_for_their_absence_only() {
    let names = || absent(Absent::Fire, 10, when("network", "interface IN ('eth0', 'eth1')"));
    let mut bench = Bench::new(&[names()]);
    let row = bench.network(5 * SECOND, "eth0", 1);
    assert_eq!(silence(&mut bench, 4), [""; 0]);
    assert_eq!(bench.take(&[row]).len(), 0);
    assert_eq!(silence(&mut bench, 20), ["10 no data interface=eth1", "15 no data interface=eth0"]);
    // Without this choice it holds for every row.
    let mut bench = Bench::new(&[RuleSettings { absent: Absent::Resolve, absent_after: None, ..names() }]);
    let row = bench.network(5 * SECOND, "eth0", 1);
    assert_eq!(bench.take(&[row]).len(), 1);
}

#[test]
fn rows_and_absence_follow_the_interval_of_the_table() {
    let settings = RuleSettings {
        for_: Duration::from_mins(20),
        resolve_after: Some(Duration::from_mins(20)),
        ..when("host", "load1 > 1")
    };
    let mut bench = Bench::new(&[settings]);
    bench.engine.set_interval(FamilyId::of::<Host>(), Duration::from_mins(10));
    let mut told = Vec::new();
    for tick in 0..8 {
        let load = if tick < 4 { 2.0 } else { 0.0 };
        told.extend(bench.take(&[host(tick * 600 * SECOND, load)]).iter().map(|told| (told.state, tick)));
    }
    assert_eq!(told, [(Transition::Firing, 2), (Transition::Resolved, 6)]);
    bench.take(&[host(8 * 600 * SECOND, 2.0), host(9 * 600 * SECOND, 2.0)]);
    assert_eq!(bench.take(&[host(10 * 600 * SECOND, 2.0)]).len(), 1);
    assert_eq!(silence(&mut bench, 3_600), ["9000 gone"]);
}

#[test]
fn a_clock_that_is_set_neither_fires_nor_resolves() {
    const DAY: i64 = 86_400 * SECOND;
    for step in [DAY, -DAY, 3_650 * DAY, -3_650 * DAY] {
        let held = |seconds| Some(Duration::from_secs(seconds));
        let settings =
            RuleSettings { for_: Duration::from_secs(60), resolve_after: held(60), ..when("host", "load1 > 1") };
        let keep = RuleSettings { absent: Absent::Keep, ..short("load_above", 1.0) };
        let rate = RuleSettings { for_: Duration::from_secs(60), ..when("network", "rate(rx_bytes) > 90") };
        let rates = [rate, when("network", "rate(rx_bytes) < 90"), when("network", "rate(rx_bytes) > 110")];
        let mut bench = Bench::new(&[vec![settings, keep], rates.into()].concat());
        bench.now.wall_us = 20_000 * DAY;
        let mut told = Vec::new();
        for second in 0..300 {
            match second {
                // While it is pending, while it is firing, and while it is failing.
                30 | 100 | 220 => bench.now.wall_us += step,
                _ => {}
            }
            let load = if second < 200 { 2.0 } else { 0.5 };
            let time = bench.now.wall_us + SECOND;
            bench.pass_until(time);
            let steady = bench.network(time, "eth0", 100 * second);
            let one = [bench.take(&[host(time, load)]), bench.take(&[steady])].concat();
            told.extend(one.iter().map(|told| (second, told.rule.clone(), told.state)));
        }
        let (slow, quick) = ("host: load1 > 1".to_owned(), "load_above".to_owned());
        let expected = [
            (0, quick.clone(), Transition::Firing),
            (60, slow.clone(), Transition::Firing),
            (61, "network: rate(rx_bytes) > 90".to_owned(), Transition::Firing),
            (200, quick, Transition::Resolved),
            (260, slow, Transition::Resolved),
        ];
        assert_eq!(told, expected, "step of {step}");
        // Without rows, too.
        assert_eq!(bench.take(&[host(bench.now.wall_us, 2.0)]).len(), 1);
        bench.now.wall_us += step;
        assert_eq!(silence(&mut bench, 299), [""; 0]);
    }
}

#[test]
fn time_in_which_kymo_does_not_run_is_no_absence() {
    for choice in [Absent::Resolve, Absent::Fire] {
        let held = RuleSettings { for_: Duration::from_secs(90), ..when("host", "load1 >= 1") };
        let mut bench = Bench::new(&[absent(choice, 30, when("host", "load1 > 1")), held]);
        assert_eq!(bench.take(&[host(SECOND, 2.0)]).len(), 1);
        assert_eq!(silence(&mut bench, 20), [""; 0]);
        bench.pass_until(bench.now.wall_us + 3_600 * SECOND);
        assert_eq!(bench.tick().len(), 0);
        // The pause is not taken for time in which the condition held.
        assert_eq!(bench.take(&[host(bench.now.wall_us + SECOND, 2.0)]).len(), 0);
        bench.pass_until(bench.now.wall_us + 3_600 * SECOND);
        assert_eq!(silence(&mut bench, 20), [""; 0]);
        // The two seconds count in which a pause is not noticed.
        assert_eq!(silence(&mut bench, 20).len(), 1);
    }
}

#[test]
fn alerts_go_on_after_a_restart_and_end_once() {
    let rules = [when("network", "rx_bytes > 5"), when("host", "load1 > 1")];
    let mut bench = Bench::new(&rules);
    let rows = [bench.network(SECOND, "a", 9), bench.network(SECOND, "b", 7), bench.network(SECOND, "c", 7)];
    assert_eq!(bench.take(&rows).len(), 3);
    assert_eq!(bench.take(&[host(2 * SECOND, 3.0)]).len(), 1);
    let higher = bench.network(3 * SECOND, "a", 11);
    assert_eq!(bench.take(&[higher]).len(), 0);

    // The rule on `host` is removed.
    bench.restart(&rules[..1]);
    let told = bench.tick();
    assert_eq!(told.len(), 1);
    let message = "host: load1 > 1 is gone: it is not configured any more for host";
    assert_eq!((told[0].state, told[0].message.as_str(), told[0].peak), (Transition::Gone, message, Some(3.0)));
    bench.restart(&rules[..1]);
    bench.restart(&rules[..1]);
    assert_eq!(bench.tick().len(), 0);
    let status = bench.board.rules().remove(0);
    assert_eq!((status.firing, status.fired, status.firing_series[0].peak), (3, 0, Some(11.0)));

    // Other labels come first now, so that keys differ from those before.
    let rows = ["z", "y", "b", "a"].map(|name| bench.network(5 * SECOND, name, if name == "a" { 1 } else { 7 }));
    let told: Vec<_> = bench.take(&rows).iter().map(|told| (told.state, told.labels["interface"].clone())).collect();
    let firing = |name: &str| (Transition::Firing, name.to_owned());
    assert_eq!(told, [firing("z"), firing("y"), (Transition::Resolved, "a".to_owned())]);
    let resolved = bench.engine.take_changes().pop().unwrap();
    assert_eq!((resolved.since_us, resolved.peak, resolved.value), (SECOND, 11.0, 1.0));
    // "c" does not come back. The time counts from the start.
    assert_eq!(silence(&mut bench, 299), ["303 gone interface=c"]);
}

#[test]
fn no_data_goes_on_after_a_restart_unless_the_rule_expects_something_else() {
    let names = |text: &str| {
        let settings =
            absent(Absent::Fire, 10, when("filesystem", &format!("mountpoint = '{text}' AND used_ratio > 0.9")));
        RuleSettings { name: "mount".into(), ..settings }
    };
    let mut bench = Bench::new(&[names("/data")]);
    assert_eq!(silence(&mut bench, 20), ["10 no data mountpoint=/data"]);
    bench.restart(&[names("/data")]);
    assert_eq!(silence(&mut bench, 100), [""; 0]);
    assert_eq!(bench.board.rules()[0].firing_series[0].since_us, 10 * SECOND);
    bench.restart(&[names("/srv")]);
    assert_eq!(silence(&mut bench, 20), ["120 gone mountpoint=/data", "130 no data mountpoint=/srv"]);
}

#[test]
fn every_change_is_a_row_and_alerts_are_saved_soon() {
    let mut bench = Bench::new(&[when("network", "rx_bytes > 5")]);
    let row = bench.network(SECOND, "a", 9);
    bench.take(&[row]);
    let change = bench.engine.take_changes().pop().unwrap();
    assert_eq!((change.labels.as_str(), change.transition, change.value), ("interface=a", Transition::Firing, 9.0));
    assert_eq!(bench.engine.take_alerts(bench.now, false).map(|alerts| alerts.len()), Some(1));
    assert_eq!(bench.engine.take_alerts(bench.now, true), None);
    // Flapping is saved once a second, and a peak once a minute.
    let mut saved = 0;
    for half in 0..240 {
        let row =
            bench.network(2 * SECOND + half * SECOND / 2, "a", if half < 40 && half % 2 == 0 { 1 } else { 9 + half });
        bench.take(&[row]);
        saved += usize::from(bench.engine.take_alerts(bench.now, false).is_some());
    }
    assert!((20..=23).contains(&saved), "{saved}");
    let alerts = bench.engine.take_alerts(bench.now, true).unwrap();
    assert_eq!(alerts[0].peak, Some(248.0));
}

#[test]
fn rows_beyond_the_bound_of_series_are_told() {
    let mut bench = Bench::new(&[when("network", "rx_bytes > 5"), when("network", "rx_bytes > 6")]);
    let troubles = |bench: &Bench, later_us: i64| bench.board.troubles(bench.now.monotonic_us + later_us);
    assert_eq!(troubles(&bench, 0), [""; 0]);
    let rows: Vec<_> = (0..10_003).map(|name| bench.network(SECOND, &name.to_string(), 6)).collect();
    bench.take(&rows);
    let told = "alert network: rx_bytes > 5: more than 10000 series; rows not watched since the start: 3";
    assert_eq!((troubles(&bench, 0), troubles(&bench, 599 * SECOND)), (vec![told.to_owned()], vec![told.to_owned()]));
    // It has ended by then, and stays counted.
    assert_eq!((troubles(&bench, 600 * SECOND), bench.board.rules()[0].excess), (Vec::new(), 3));
}
