//! Alerting in line: the drain thread shows every batch to the rules before anything else.
//!
//! A [`rule`] is a SQL condition over one table's columns. A series is the rows with equal labels. [`Engine::evaluate`]
//! takes each batch of rows and moves each rule's series through their states: a series is *pending* while the condition
//! holds, *firing* once it held for the rule's `for`, and *resolved* once it failed for `resolve_after`. Times are those
//! of the rows. Firing and resolving each send one notification, through the bounded outbox of [`notify`].
//!
//! A row in which a value that the condition needs is absent (null, NaN, a division by zero) changes nothing: absent data
//! neither fires nor resolves. A firing series without rows for five minutes, while its table has rows, is gone and
//! resolves. The states do not survive a restart: a condition that still holds then notifies again.

mod expression;
#[cfg(test)]
#[expect(unreachable_pub, reason = "a record's fields are as public as records are elsewhere")]
mod fixture;
mod leaf;
pub mod notification;
pub mod notify;
mod rate;
pub mod rule;
mod shorthand;
mod state;
pub mod status;
mod template;
mod watch;
pub mod webhook;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use crate::family::{FamilyId, PerFamily};
use leaf::value_at;
use notification::Notification;
use notify::Outbox;
use rule::Rule;
use status::{Board, FIRING_LISTED_MAX, Firing, Post};
use template::Facts;
use watch::{Event, Watch};

pub use rule::{Compiler, RuleError, RuleSettings};
pub use state::Transition;

/// Evaluates rules on batches. Lives on the drain thread. Other threads see its [`Board`].
#[derive(Debug)]
pub struct Engine {
    /// `None` where no rule watches.
    tables: PerFamily<Option<Table>>,
    board: Arc<Board>,
    outbox: Outbox,
    free_memory: FreeMemory,
    events: Vec<Event>,
}

/// One table's rules.
#[derive(Debug)]
struct Table {
    watch: Watch,
    rules: Vec<Rule>,
    /// Each rule's place on the board.
    posts: Vec<Arc<Post>>,
}

/// The host's free memory, for messages.
#[derive(Debug)]
struct FreeMemory {
    /// Table and column, if a message names it.
    place: Option<(FamilyId, usize)>,
    bytes: Option<i64>,
}

impl Engine {
    /// An engine that evaluates `rules` and puts notifications into `outbox`.
    #[must_use]
    pub fn new(rules: Vec<Rule>, outbox: Outbox) -> Self {
        let board = Arc::new(Board::new(&rules));
        let place = rules.iter().find_map(|rule| rule.message.free_memory());
        let mut families: PerFamily<(Vec<Rule>, Vec<Arc<Post>>)> = PerFamily::default();
        for (index, rule) in rules.into_iter().enumerate() {
            let (rules, posts) = &mut families[rule.family];
            rules.push(rule);
            posts.push(board.post(index));
        }
        let tables = families.map(|_, (rules, posts)| {
            let watch = Watch::new(rules.first()?.table, &rules);
            Some(Table { watch, rules, posts })
        });
        Engine { tables, board, outbox, free_memory: FreeMemory { place, bytes: None }, events: Vec::new() }
    }

    /// The rules' states, for other threads.
    #[must_use]
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Takes those of the keys away that pending or firing series of the family have as labels. Forgets what rates know of the
    /// others, which may come to stand for other texts.
    pub fn release(&mut self, family: FamilyId, keys: &mut BTreeSet<i32>) {
        if let Some(Table { watch, .. }) = &mut self.tables[family] {
            watch.release(keys);
        }
    }

    /// Takes the next rows of a family, in the order they were sampled. Never waits.
    pub fn evaluate(&mut self, family: FamilyId, batch: &RecordBatch) {
        self.free_memory.read(family, batch);
        let Some(Table { watch, rules, posts }) = &mut self.tables[family] else { return };
        let settled = |rule: usize, machine: &state::Machine| posts[rule].set_pending(machine.pending());
        let batch = match watch.evaluate(batch, &mut self.events, settled) {
            Ok(batch) => batch,
            Err(error) => unreachable!("the family's rows and rates have the table's columns: {error}"),
        };
        let (failures, excess) = (watch.take_failures(), watch.take_excess());
        if failures + excess > 0 {
            self.board.add(failures, excess);
        }
        if self.events.is_empty() {
            return;
        }
        // Events come rule by rule. Notifications follow the order of the rows.
        self.events.sort_by_key(|event| event.row);
        for event in &self.events {
            let rule = &rules[event.rule];
            posts[event.rule].count(event.transition);
            let notification = Arc::new(notification(rule, watch, event, &batch, self.free_memory.bytes));
            for notifier in &rule.notify {
                self.outbox.send(notifier, &notification);
            }
        }
        let mut changed: Vec<usize> = self.events.drain(..).map(|event| event.rule).collect();
        changed.sort_unstable();
        changed.dedup();
        for rule in changed {
            posts[rule].set_firing(firing(&rules[rule], rule, watch, &batch));
        }
    }
}

impl FreeMemory {
    fn read(&mut self, family: FamilyId, batch: &RecordBatch) {
        let Some((named, column)) = self.place else { return };
        if named == family {
            let bytes = batch.column(column).as_primitive::<Int64Type>();
            self.bytes = (0..bytes.len()).rev().find(|row| bytes.is_valid(*row)).map(|row| bytes.value(row));
        }
    }
}

fn notification(
    rule: &Rule,
    watch: &Watch,
    event: &Event,
    batch: &RecordBatch,
    free_memory_bytes: Option<i64>,
) -> Notification {
    let state = event.transition;
    let labels = watch.label_texts(event.key, rule.table, batch);
    let expression = rule.condition.value.as_ref();
    // A failure was logged already, when the rule itself was evaluated.
    let value =
        expression.zip(event.row).and_then(|(expression, row)| value_at(expression, batch, row).unwrap_or(None));
    let threshold = rule.condition.threshold;
    let row = event.row.map(|row| (batch, row));
    let facts =
        Facts { rule: &rule.name, state: state.as_str(), value, threshold, free_memory_bytes, labels: &labels, row };
    let message = rule.message.render(&facts);
    Notification {
        rule: rule.name.clone(),
        state,
        table: rule.table.name,
        time_us: event.time_us,
        value,
        threshold,
        labels: labels.into_iter().collect(),
        message,
    }
}

fn firing(rule: &Rule, index: usize, watch: &Watch, batch: &RecordBatch) -> Firing {
    let keys = watch.machine(index).firing();
    let mut listed: Vec<BTreeMap<_, _>> = keys
        .take(FIRING_LISTED_MAX)
        .map(|key| watch.label_texts(key, rule.table, batch).into_iter().collect())
        .collect();
    listed.sort_unstable();
    Firing { count: watch.machine(index).firing().count(), listed }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::record::label::LABELS_MAX;

    use super::fixture::{Bench, SECOND, short, when};
    use super::notify::WAITING_MAX;
    use super::*;
    use crate::family::cpu::Cpu;
    use crate::family::filesystem::Filesystem;
    use crate::family::host::Host;
    use crate::family::memory::Memory;
    use crate::family::network::Network;
    use crate::record::Record;

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
        assert_eq!(firing.iter().map(|series| series["mountpoint"].as_str()).collect::<Vec<_>>(), ["/home", "/var"]);
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
            let row = |interface, rx_bytes, tx_bytes| Network {
                tx_bytes,
                ..bench.network(tick * 1_000, interface, rx_bytes)
            };
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
            rules.iter().flat_map(|rule| &rule.firing_series).map(|series| series["interface"].clone()).collect()
        };
        assert_eq!(firing(&bench), ["a"]);
        // The labels are kymo's own two, and then these.
        let mut keys = [2, 3].into();
        bench.engine.release(FamilyId::of::<Network>(), &mut keys);
        assert_eq!(keys, [3].into());
        // Another name in the place of `b` is a series of its own, with no rate yet, and rules find it.
        (0..LABELS_MAX).for_each(|name| _ = bench.labels.intern(&format!("x{name}")));
        bench.labels.give_way(&keys);
        let rows = [interface(&bench, "a", 2_000, 6_000_000), interface(&bench, "new", 2_000, 100_000_000)];
        assert_eq!(bench.told(&rows), ["firing new has 100000000"]);
        assert_eq!(firing(&bench), ["a", "new"]);
    }

    #[test]
    fn swap_usage_needs_swap() {
        let mut bench = Bench::new(&[says(short("swap_usage_above", 50.0), "{value}")]);
        let swap = |time, total, free| {
            memory(time, |memory| (memory.swap_total_bytes, memory.swap_free_bytes) = (total, free))
        };
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
    fn a_series_that_is_gone_is_resolved() {
        let mut bench = Bench::new(&[says(when("network", "rx_bytes > 5"), "{interface} {rx_bytes} {value}")]);
        let rows = [bench.network(0, "veth1", 9), bench.network(0, "eth0", 7)];
        assert_eq!(bench.told(&rows), ["firing veth1 9 9", "firing eth0 7 7"]);
        let mut told = Vec::new();
        for second in 1..=400 {
            let row = bench.network(second * SECOND, "eth0", 7);
            told.extend(bench.take(&[row]));
        }
        assert_eq!(told.len(), 1);
        assert_eq!(
            (told[0].state, told[0].message.as_str(), told[0].value),
            (Transition::Resolved, "veth1 n/a n/a", None)
        );
        assert!((300..=330).contains(&(told[0].time_us / SECOND)), "{}", told[0].time_us);
        assert_eq!(bench.board.rules()[0].firing, 1);
    }

    #[test]
    fn a_full_outbox_never_waits() {
        let rules: Vec<_> = (0..WAITING_MAX + 10).map(|i| when("host", &format!("load1 > {i} - 10000"))).collect();
        let (outbox, next) = notify::tests::outbox();
        let mut engine = Engine::new(fixture::compiled(&rules), outbox.clone());
        let bench = Bench::new(&[]);
        engine.evaluate(FamilyId::of::<Host>(), &bench.batch(&[host(1, 0.0)]));
        assert_eq!((std::iter::from_fn(next).count(), outbox.lost()), (WAITING_MAX, 10));
    }

    #[test]
    fn families_without_rules_are_passed_over() {
        let mut bench = Bench::new(&[short("memory_usage_above", 50.0)]);
        assert_eq!(bench.told(&[host(1, 9.0)]), [""; 0]);
        let row = bench.cpu(1, "total", 1.0);
        assert_eq!(bench.told(&[row]), [""; 0]);
    }
}
