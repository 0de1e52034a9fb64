//! The machine's own tests, and its comparison with a model that looks at all rows anew at each step.

use proptest::prelude::*;

use super::*;
use crate::alert::moment::{Moment, Timeline};

const SECOND: i64 = 1_000_000;
const YEAR: i64 = 365 * 86_400 * SECOND;

fn key(label: i32) -> SeriesKey {
    SeriesKey::default().with(label)
}

fn limits(hold_us: i64, resolve_after_us: i64) -> Limits {
    Limits {
        hold_us,
        resolve_after_us,
        silence_us_max: 60 * SECOND,
        absent_after_us: 300 * SECOND,
        absent: Absent::Resolve,
        forgotten_after_us: FORGOTTEN_AFTER_US,
    }
}

fn machine(hold_us: i64, resolve_after_us: i64) -> Machine {
    Machine::new(limits(hold_us, resolve_after_us), false)
}

fn sight(label: i32, at_us: i64, holds: Truth) -> Sight {
    Sight { key: key(label), at_us, time_us: at_us, value: f64::NAN, holds, is_tracked: false }
}

fn labels() -> LabelTexts {
    [Some("a".into())].into()
}

/// Steps series 0 through (second, truth) and gives the (second, change) told.
fn run(machine: &mut Machine, rows: &[(i64, Truth)]) -> Vec<(i64, Transition)> {
    let step = |(second, holds): &(i64, Truth)| {
        Some((*second, machine.step(&sight(0, second * SECOND, *holds), labels)?.transition))
    };
    rows.iter().filter_map(step).collect()
}

/// The transitions of a sweep at this second.
fn swept(machine: &mut Machine, second: i64) -> Vec<Transition> {
    machine.sweep(second * SECOND, second * SECOND, 0).into_iter().map(|change| change.transition).collect()
}

#[test]
fn fires_after_holding_and_resolves_after_failing() {
    use Truth::{False, True};
    let mut machine = machine(3 * SECOND, 2 * SECOND);
    let rows = [
        (0, True),
        (2, True),
        (3, True),
        (9, True),
        (10, False),
        (11, True),
        (12, False),
        (13, False),
        (14, False),
        (15, False),
    ];
    assert_eq!(run(&mut machine, &rows), [(3, Transition::Firing), (14, Transition::Resolved)]);
    assert!(machine.is_quiet());
    // A break starts the hold anew.
    assert_eq!(run(&mut machine, &[(20, True), (22, False), (23, True), (25, True)]), []);
    assert_eq!((machine.pending(), machine.on()), (1, 0));
    assert_eq!(run(&mut machine, &[(26, True)]), [(26, Transition::Firing)]);
    assert_eq!((machine.pending(), machine.on(), machine.alerts().count()), (0, 1, 1));
}

#[test]
fn without_a_hold_it_fires_and_resolves_at_once() {
    use Truth::{False, True};
    let mut machine = machine(0, 0);
    let told = run(&mut machine, &[(0, False), (1, True), (2, True), (3, False), (4, False), (5, True)]);
    assert_eq!(told, [(1, Transition::Firing), (3, Transition::Resolved), (5, Transition::Firing)]);
}

#[test]
fn absent_values_neither_fire_nor_resolve() {
    use Truth::{False, True, Unknown};
    let mut machine = machine(2 * SECOND, SECOND);
    let rows = [
        (0, Unknown),
        (1, True),
        (2, Unknown),
        (3, Unknown),
        (4, True),
        (5, Unknown),
        (9, False),
        (10, Unknown),
        (11, False),
    ];
    assert_eq!(run(&mut machine, &rows), [(4, Transition::Firing), (11, Transition::Resolved)]);
}

#[test]
fn what_was_not_seen_for_long_neither_held_nor_failed() {
    use Truth::{False, True, Unknown};
    let mut machine = machine(2 * SECOND, 2 * SECOND);
    assert_eq!(run(&mut machine, &[(0, True), (61, True), (62, True)]), []);
    // A row without a value ends no silence.
    assert_eq!(run(&mut machine, &[(130, Unknown), (131, True)]), []);
    assert_eq!(run(&mut machine, &[(132, True), (133, True)]), [(133, Transition::Firing)]);
    assert_eq!(run(&mut machine, &[(134, False), (200, False), (201, False)]), []);
    assert_eq!(run(&mut machine, &[(202, False)]), [(202, Transition::Resolved)]);
}

#[test]
fn rows_may_be_as_far_apart_as_the_table_is_sampled() {
    use Truth::{False, True};
    let mut machine = machine(7_200 * SECOND, 3_600 * SECOND);
    machine.set_limits(Limits { silence_us_max: 3 * 3_600 * SECOND, ..limits(7_200 * SECOND, 3_600 * SECOND) });
    let hour = |hour: i64, holds| (hour * 3_600, holds);
    let rows = [hour(0, True), hour(1, True), hour(2, True), hour(3, False), hour(4, False)];
    assert_eq!(run(&mut machine, &rows), [(7_200, Transition::Firing), (4 * 3_600, Transition::Resolved)]);
}

#[test]
fn a_series_without_rows_is_gone_kept_or_without_data() {
    let told = |absent, is_tracked| {
        let mut machine = Machine::new(Limits { absent, ..limits(0, 0) }, false);
        let first = Sight { is_tracked, ..sight(1, 0, Truth::True) };
        assert_eq!(machine.step(&first, labels).unwrap().transition, Transition::Firing);
        assert_eq!(swept(&mut machine, 299), []);
        let told = swept(&mut machine, 300);
        assert_eq!(swept(&mut machine, 10_000), []);
        (told, machine.on())
    };
    assert_eq!(told(Absent::Resolve, false), (vec![Transition::Gone], 0));
    assert_eq!(told(Absent::Keep, false), (vec![], 1));
    assert_eq!(told(Absent::Fire, false), (vec![Transition::Gone], 0));
    assert_eq!(told(Absent::Fire, true), (vec![Transition::NoData], 1));
}

#[test]
fn a_series_that_never_comes_has_no_data_until_it_does() {
    let mut machine = Machine::new(Limits { absent: Absent::Fire, ..limits(0, 5 * SECOND) }, false);
    machine.expect(key(0), labels(), 0);
    assert_eq!((swept(&mut machine, 299), swept(&mut machine, 301)), (vec![], vec![Transition::NoData]));
    let back = [(400, Truth::False), (404, Truth::Unknown), (405, Truth::False), (406, Truth::False)];
    assert_eq!(run(&mut machine, &back), [(405, Transition::Resolved)]);
    assert_eq!((machine.on(), machine.is_quiet()), (0, false));
    // It is still expected.
    assert_eq!(swept(&mut machine, 706), [Transition::NoData]);
    assert_eq!(run(&mut machine, &[(800, Truth::True)]), [(800, Transition::Firing)]);
}

#[test]
fn an_alert_keeps_its_peak_and_its_start() {
    let mut machine = machine(0, 0);
    let mut step = |second: i64, value: f64, holds| {
        let sight = Sight { value, ..sight(0, second * SECOND, holds) };
        let change = machine.step(&sight, labels)?;
        Some((change.transition, change.alert.since_us / SECOND, change.alert.peak))
    };
    assert_eq!(step(1, 5.0, Truth::True), Some((Transition::Firing, 1, 5.0)));
    assert_eq!((step(2, 9.0, Truth::True), step(3, 7.0, Truth::True)), (None, None));
    assert_eq!(step(4, 1.0, Truth::False), Some((Transition::Resolved, 1, 9.0)));
    let mut falling = Machine::new(limits(0, 0), true);
    for (second, value) in [(1, 5.0), (2, f64::NAN), (3, 2.0), (4, 3.0)] {
        falling.step(&Sight { value, ..sight(0, second * SECOND, Truth::True) }, labels);
    }
    assert!(falling.take_peaks_moved() && !falling.take_peaks_moved());
    assert_eq!(falling.alerts().next().map(|alert| alert.peak), Some(2.0));
}

#[test]
fn the_number_of_series_is_bounded_and_the_excess_counted() {
    let mut machine = machine(1, 0);
    let last = i32::try_from(SERIES_MAX).unwrap() + 4;
    for label in 0..=last {
        assert_eq!(machine.step(&sight(label, 0, Truth::True), labels), None);
    }
    assert_eq!((machine.pending(), machine.take_excess()), (SERIES_MAX, 5));
    assert!(machine.step(&sight(0, 1, Truth::True), labels).is_some());
    assert_eq!(machine.step(&sight(last, 1, Truth::True), labels), None);
    let alert = Alert { labels: labels(), is_no_data: false, since_us: 0, peak: 0.0 };
    assert!(!machine.resume(key(last), alert.clone(), false, 0) && machine.resume(key(0), alert, false, 0));
}

#[test]
fn names_that_never_come_back_make_room_after_a_day() {
    let mut machine = Machine::new(Limits { absent: Absent::Fire, ..limits(0, 0) }, false);
    machine.expect(key(-7), labels(), 0);
    let all = i32::try_from(SERIES_MAX).unwrap() - 1;
    for label in 0..all {
        assert_eq!(machine.step(&Sight { is_tracked: true, ..sight(label, 0, Truth::False) }, labels), None);
    }
    let new = |second: i64| Sight { is_tracked: true, ..sight(all, second * SECOND, Truth::True) };
    assert_eq!((machine.step(&new(1), labels), machine.take_excess()), (None, 1));
    assert_eq!(swept(&mut machine, 300), vec![Transition::NoData; SERIES_MAX]);
    assert_eq!(swept(&mut machine, 86_699), []);
    assert_eq!(swept(&mut machine, 86_700), vec![Transition::Gone; SERIES_MAX - 1]);
    // The rule names the one that stays.
    assert!(machine.knows(key(-7)) && machine.on() == 1);
    assert_eq!(machine.step(&new(86_701), labels).unwrap().transition, Transition::Firing);
    // Without names, one series stays.
    let mut machine = Machine::new(Limits { absent: Absent::Fire, ..limits(0, 0) }, false);
    for label in 0..3 {
        machine.step(&Sight { is_tracked: true, ..sight(label, 0, Truth::False) }, labels);
    }
    assert_eq!(swept(&mut machine, 300).len(), 3);
    assert_eq!((swept(&mut machine, 900_000).len(), machine.on()), (2, 1));
}

/// What happens next. Times are µs since the last of them.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// A row of one of two series is sampled and drained.
    Row { series: usize, holds: Truth, value: f64 },
    /// Nothing but time: the rings are emptied and nothing is in them.
    Nothing,
    /// The wall clock is set.
    Set { by_us: i64 },
    /// kymo is stopped for all the time since the last of them. Then nothing is in the rings.
    Paused,
    /// The daemon is stopped and started again.
    Restart,
}

/// What is told of a series, and what is known of it then.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Told {
    series: usize,
    transition: Transition,
    time_us: i64,
    since_us: i64,
    peak: Option<f64>,
}

/// The rule, and which of the two series it names.
#[derive(Clone, Copy, Debug)]
struct Setting {
    limits: Limits,
    is_tracked: bool,
    named: [bool; 2],
}

/// A row or another thing that happened, at its true time.
#[derive(Clone, Copy, Debug)]
enum Past {
    Row(i64, Truth),
    Told,
    Restart(i64),
}

/// The model of a series: all that ever happened to it.
#[derive(Clone, Debug)]
struct Model {
    setting: Setting,
    past: Vec<Past>,
    /// Transition, since and peak of what is on.
    on: Option<(Transition, i64, Option<f64>)>,
    /// Since when rows are expected; none while the series is not known.
    expected_us: Option<i64>,
    /// The pauses: their ends and how long they took.
    pauses: Vec<(i64, i64)>,
}

impl Model {
    fn new(setting: Setting, is_named: bool, start_us: i64) -> Model {
        Model { setting, past: Vec::new(), on: None, expected_us: is_named.then_some(start_us), pauses: Vec::new() }
    }

    /// The rows that count for a hold or a failure that goes on: since something was told or the daemon started, without a
    /// silence between them. The newest is last.
    fn window(&self) -> Vec<(i64, Truth)> {
        let mut window: Vec<(i64, Truth)> = Vec::new();
        for past in self.past.iter().rev() {
            let Past::Row(at_us, holds) = *past else { break };
            if window.last().is_some_and(|(later_us, _)| later_us - at_us > self.setting.limits.silence_us_max) {
                break;
            }
            window.push((at_us, holds));
        }
        window.reverse();
        window
    }

    /// How long the condition has held without a break, if it does now.
    fn held_us(&self) -> Option<i64> {
        let window = self.window();
        let (now_us, newest) = *window.last()?;
        let without_break = window.iter().rev().take_while(|(_, holds)| *holds != Truth::False);
        let first = without_break.filter(|(_, holds)| *holds == Truth::True).last()?;
        (newest == Truth::True).then_some(now_us - first.0)
    }

    /// How long it has failed without a break, if it does now.
    fn failed_us(&self) -> Option<i64> {
        let window = self.window();
        let (now_us, newest) = *window.last()?;
        let without_break = window.iter().rev().take_while(|(_, holds)| *holds != Truth::True);
        let first = without_break.filter(|(_, holds)| *holds == Truth::False).last()?;
        (newest == Truth::False).then_some(now_us - first.0)
    }

    /// Whether the condition was seen to hold, and not to fail since.
    fn may_hold(&self) -> bool {
        let window = self.window();
        window.iter().rev().find(|(_, holds)| *holds != Truth::Unknown).is_some_and(|(_, holds)| *holds == Truth::True)
    }

    fn row(&mut self, at_us: i64, time_us: i64, holds: Truth, value: f64) -> Option<(Transition, i64, Option<f64>)> {
        self.past.push(Past::Row(at_us, holds));
        if self.setting.is_tracked {
            self.expected_us = Some(at_us);
        }
        let Limits { hold_us, resolve_after_us, .. } = self.setting.limits;
        let value = Some(value).filter(|value| !value.is_nan());
        let fires = self.held_us().is_some_and(|held_us| held_us >= hold_us);
        let told = match self.on {
            None | Some((Transition::NoData, ..)) if fires => {
                self.on = Some((Transition::Firing, time_us, value));
                self.on
            }
            None => None,
            Some((Transition::NoData, since_us, peak)) => {
                let back_us = at_us - self.window()[0].0;
                (!self.may_hold() && back_us >= resolve_after_us).then_some((Transition::Resolved, since_us, peak))
            }
            Some((_, since_us, peak)) => {
                let held = value.filter(|_| holds == Truth::True);
                let peak = [peak, held].into_iter().flatten().reduce(f64::max);
                self.on = Some((Transition::Firing, since_us, peak));
                let resolves = self.failed_us().is_some_and(|failed_us| failed_us >= resolve_after_us);
                resolves.then_some((Transition::Resolved, since_us, peak))
            }
        };
        self.tell(told)
    }

    fn sweep(&mut self, at_us: i64, time_us: i64) -> Option<(Transition, i64, Option<f64>)> {
        let seen = |past: &Past| match past {
            Past::Row(at_us, _) | Past::Restart(at_us) => Some(*at_us),
            Past::Told => None,
        };
        let seen_us = self.past.iter().rev().find_map(seen).or(self.expected_us)?;
        let paused_us: i64 =
            self.pauses.iter().filter(|(end_us, _)| *end_us > seen_us).map(|(_, paused_us)| *paused_us).sum();
        if at_us - seen_us - paused_us < self.setting.limits.absent_after_us {
            return None;
        }
        let told = match (self.on, self.setting.limits.absent) {
            (Some((Transition::Firing, _, peak)), Absent::Fire) if self.setting.is_tracked => {
                self.on = Some((Transition::NoData, time_us, peak));
                self.on
            }
            (None, Absent::Fire) if self.expected_us.is_some() => {
                self.on = Some((Transition::NoData, time_us, None));
                self.on
            }
            (Some((Transition::NoData, ..)), Absent::Fire) | (None, _) | (_, Absent::Keep) => None,
            (Some((_, since_us, peak)), _) => Some((Transition::Gone, since_us, peak)),
        };
        self.tell(told)
    }

    fn tell(&mut self, told: Option<(Transition, i64, Option<f64>)>) -> Option<(Transition, i64, Option<f64>)> {
        let (transition, ..) = told?;
        if !transition.is_on() {
            self.on = None;
        }
        self.past.push(Past::Told);
        told
    }

    fn restart(&mut self, at_us: i64, is_named: bool) {
        self.expected_us = (is_named || (self.on.is_some() && self.setting.is_tracked)).then_some(at_us);
        self.past.push(Past::Restart(at_us));
    }
}

/// The machine among the clocks, as the engine has it.
struct Real {
    setting: Setting,
    machine: Machine,
    timeline: Timeline,
}

impl Real {
    fn start(setting: Setting, alerts: Vec<(SeriesKey, Alert)>, now: Moment) -> Real {
        let mut machine = Machine::new(setting.limits, false);
        for (series, _) in (0..).zip(setting.named).filter(|(_, is_named)| *is_named) {
            machine.expect(key(series), [Some(series.to_string().into())].into(), now.monotonic_us);
        }
        for (key, alert) in alerts {
            assert!(machine.resume(key, alert, setting.is_tracked, now.monotonic_us));
        }
        Real { setting, machine, timeline: Timeline::new(now) }
    }

    fn restart(&mut self, now: Moment) {
        let series = |alert: &Alert| alert.labels[0].as_deref().unwrap().parse().unwrap();
        let alerts = self.machine.alerts().map(|alert| (key(series(alert)), alert.clone())).collect();
        *self = Real::start(self.setting, alerts, now);
    }

    fn row(&mut self, series: usize, holds: Truth, value: f64, now: Moment) -> Option<Change> {
        self.timeline.set_now(now);
        let at_us = self.timeline.place(now.wall_us);
        let key = key(i32::try_from(series).unwrap());
        let sight = Sight { key, at_us, time_us: now.wall_us, value, holds, is_tracked: self.setting.is_tracked };
        self.machine.step(&sight, || [Some(series.to_string().into())].into())
    }

    /// Only a pause is one: otherwise the rings were emptied in between, with nothing in them.
    fn sweep(&mut self, paused_us: i64, now: Moment) -> Vec<Change> {
        self.timeline.set_now(now);
        self.timeline.finish();
        self.machine.sweep(now.monotonic_us, now.wall_us, paused_us)
    }
}

fn told(change: &Change, time_us: i64) -> Told {
    let Alert { labels, since_us, peak, .. } = &change.alert;
    Told {
        series: labels[0].as_deref().unwrap().parse().unwrap(),
        transition: change.transition,
        time_us,
        since_us: *since_us,
        peak: Some(*peak).filter(|peak| !peak.is_nan()),
    }
}

/// One of these by a number.
fn pick<T: Copy>(from: &[T], number: u32) -> T {
    from[number as usize % from.len()]
}

fn setting(number: u32) -> Setting {
    let interval_us = pick(&[1_000, SECOND, 60 * SECOND, 150 * SECOND, 3_600 * SECOND], number);
    let durations = [0, interval_us, 2 * interval_us, 5 * SECOND, 300 * SECOND];
    let absent = pick(&Absent::ALL, number >> 12);
    let is_tracked = absent == Absent::Fire && !(number >> 16).is_multiple_of(4);
    let named = [number >> 18 & 1 == 1, number >> 19 & 1 == 1].map(|named| named && is_tracked);
    let limits = Limits {
        hold_us: pick(&durations, number >> 3),
        resolve_after_us: pick(&durations, number >> 6),
        silence_us_max: (3 * interval_us).max(60 * SECOND),
        absent_after_us: pick(&[SECOND, 10 * SECOND, 5 * interval_us, 300 * SECOND], number >> 9).max(2 * interval_us),
        absent,
        forgotten_after_us: i64::MAX,
    };
    Setting { limits, is_tracked, named }
}

/// What happens, and how long after the thing before it.
fn happening(number: u32, limits: &Limits) -> (i64, Happening) {
    let silence_us = limits.silence_us_max;
    let beyond = |us: i64| us + 1;
    let waits = [
        1_000,
        SECOND,
        silence_us / 3,
        silence_us,
        beyond(silence_us),
        limits.hold_us,
        limits.resolve_after_us,
        limits.absent_after_us,
        limits.absent_after_us / 2,
        2 * limits.absent_after_us,
    ];
    // Two things never happen in the same µs.
    let after_us = pick(&waits, number >> 4).max(1);
    let holds = pick(&[Truth::True, Truth::True, Truth::False, Truth::False, Truth::Unknown], number >> 8);
    let happening = match number & 15 {
        0..10 => {
            let value = pick(&[f64::NAN, 1.0, 2.0, 3.5, -4.0], number >> 12);
            Happening::Row { series: usize::from((number >> 16).is_multiple_of(4)), holds, value }
        }
        10..12 => Happening::Nothing,
        12 => Happening::Paused,
        13 => Happening::Restart,
        _ => {
            Happening::Set { by_us: pick(&[86_400 * SECOND, -86_400 * SECOND, 10 * YEAR, -10 * YEAR, 7], number >> 12) }
        }
    };
    (after_us, happening)
}

/// Runs both side by side, and compares what they tell.
fn compare(setting: Setting, happenings: &[(i64, Happening)]) -> Result<(), TestCaseError> {
    let mut now = Moment { wall_us: 50 * YEAR, monotonic_us: 7 * SECOND };
    let mut real = Real::start(setting, Vec::new(), now);
    let mut models = setting.named.map(|is_named| Model::new(setting, is_named, now.monotonic_us));
    for (after_us, happening) in happenings {
        now.monotonic_us += after_us;
        now.wall_us += after_us;
        let (mut from_real, mut from_models) = (Vec::new(), Vec::new());
        let mut paused_us = 0;
        let model_told =
            |series, (transition, since_us, peak)| Told { series, transition, time_us: now.wall_us, since_us, peak };
        match *happening {
            Happening::Row { series, holds, value } => {
                from_real.extend(real.row(series, holds, value, now).iter().map(|change| told(change, now.wall_us)));
                let told = models[series].row(now.monotonic_us, now.wall_us, holds, value);
                from_models.extend(told.map(|told| model_told(series, told)));
            }
            Happening::Nothing => {}
            Happening::Set { by_us } => now.wall_us += by_us,
            Happening::Paused => {
                paused_us = *after_us;
                models.iter_mut().for_each(|model| model.pauses.push((now.monotonic_us, paused_us)));
            }
            Happening::Restart => {
                real.restart(now);
                for (model, is_named) in models.iter_mut().zip(setting.named) {
                    model.restart(now.monotonic_us, is_named);
                }
            }
        }
        let mut swept: Vec<Told> = real.sweep(paused_us, now).iter().map(|change| told(change, now.wall_us)).collect();
        swept.sort_by_key(|told| told.series);
        from_real.extend(swept);
        for (series, model) in models.iter_mut().enumerate() {
            let told = model.sweep(now.monotonic_us, now.wall_us);
            let time_us = now.wall_us;
            from_models.extend(told.map(|(transition, since_us, peak)| Told {
                series,
                transition,
                time_us,
                since_us,
                peak,
            }));
        }
        prop_assert_eq!(&from_real, &from_models, "after {:?} at {:?}", happening, now);
        prop_assert_eq!(real.machine.on(), models.iter().filter(|model| model.on.is_some()).count());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn the_machine_tells_what_a_naive_model_tells(
        rule in any::<u32>(),
        numbers in prop::collection::vec(any::<u32>(), 1..24),
    ) {
        let setting = setting(rule);
        let happenings: Vec<_> = numbers.iter().map(|number| happening(*number, &setting.limits)).collect();
        compare(setting, &happenings)?;
    }
}
