//! Recordings of simulated loads, which are equal or not.

use fastrand::Rng;

use super::judge::{Figure, Judgement, judge};
use super::recording::{Series, Things};
use super::worth::{columns, families, is_stock};
use crate::family::FamilyId;

const BLOCKS: usize = 20;
/// Those of recordings that are long enough for any planted change.
const MANY_BLOCKS: usize = 40;
/// Things of each table.
const THINGS: usize = 3;

/// How a series varies by itself.
#[derive(Clone, Copy, Debug)]
enum Noise {
    /// Around a level, where neighbours resemble each other by this much.
    Steady(f64),
    /// Mostly small, seldom large.
    Skewed,
    /// Mostly nothing.
    Rare,
    /// A burst in every block.
    Bursts,
    /// Whole numbers, often equal ones.
    Whole,
    Constant,
}

const NOISES: [Noise; 8] = [
    Noise::Steady(0.0),
    Noise::Steady(0.4),
    Noise::Steady(0.8),
    Noise::Skewed,
    Noise::Rare,
    Noise::Bursts,
    Noise::Whole,
    Noise::Constant,
];

fn normal(random: &mut Rng) -> f64 {
    let (radius, angle) = ((-2.0 * (1.0 - random.f64()).ln()).sqrt(), std::f64::consts::TAU * random.f64());
    radius * angle.cos()
}

/// The means and peaks of a series, of whose load the first and the last block have a part only.
fn series(noise: Noise, level: f64, blocks: usize, random: &mut Rng) -> Series {
    let mut before = normal(random);
    let mut means = Vec::with_capacity(blocks);
    let mut peaks = Vec::with_capacity(blocks);
    for block in 0..blocks {
        let (mean, peak) = match noise {
            Noise::Steady(memory) => {
                before = memory * before + (1.0 - memory * memory).sqrt() * normal(random);
                let mean = (1.0 + 0.05 * before).max(0.0);
                (mean, mean * (1.5 + 0.1 * normal(random).abs()))
            }
            Noise::Skewed => {
                let mean = normal(random).exp();
                (mean, mean * (2.0 + normal(random).abs()))
            }
            Noise::Rare => {
                let mean = if random.f64() < 0.1 { 10.0 * random.f64() } else { 0.0 };
                (mean, 10.0 * mean)
            }
            Noise::Bursts => (1.0 + 0.02 * normal(random), 20.0 + normal(random)),
            Noise::Whole => {
                let mean = (1.5 * normal(random)).abs().floor();
                (mean, mean + (2.0 * random.f64()).floor())
            }
            Noise::Constant => (1.0, 1.0),
        };
        let part = if block == 0 || block == blocks - 1 { random.f64() } else { 1.0 };
        means.push(level * mean * part);
        peaks.push(level * peak * part);
    }
    Series { means, peaks, rows: (blocks * 20) as f64, start: None }
}

/// All tables of a load. What a series is like depends on its place, and how it varies on `random`.
fn load(blocks: usize, random: &mut Rng) -> Things {
    let mut places = Rng::with_seed(7);
    let mut things = Things::new();
    for family in families() {
        for thing in 0..THINGS {
            let of = columns(family).into_iter().map(|column| {
                let noise = NOISES[places.usize(..NOISES.len())];
                let level = 10f64.powf(1.0 + 7.0 * places.f64());
                let mut series = series(noise, level, blocks, random);
                // The host before: of another level in each recording.
                series.start = is_stock(column).then(|| {
                    let before = level * 3.0 * random.f64();
                    series.means.iter_mut().for_each(|mean| *mean += before);
                    before
                });
                series
            });
            things.insert((family, format!("thing{thing}")), of.collect());
        }
    }
    things
}

fn named(judgement: &Judgement) -> Vec<String> {
    let name = |finding: &super::judge::Finding| {
        format!("{} {} {} {:?}", finding.family.name(), finding.thing, finding.column.name, finding.figure)
    };
    judgement.changes.iter().flatten().map(name).collect()
}

/// Changes a series of a load; `None` for means leaves them.
fn plant(things: &mut Things, table: &str, column: &str, noise: Noise, factors: (f64, f64), random: &mut Rng) {
    let family = FamilyId::find(table).unwrap();
    let at = columns(family).iter().position(|known| known.name == column).unwrap();
    let blocks = things.values().flatten().next().map_or(BLOCKS, |series| series.means.len());
    let mut planted = series(noise, 1e6, blocks, random);
    planted.means.iter_mut().for_each(|mean| *mean *= factors.0);
    planted.peaks.iter_mut().for_each(|peak| *peak *= factors.1);
    things.get_mut(&(family, "thing1".to_owned())).unwrap()[at] = planted;
}

#[test]
fn of_equal_loads_nothing_is_named() {
    let mut random = Rng::with_seed(1);
    let mut wrong = Vec::new();
    for _ in 0..200 {
        let judgement = judge(&load(BLOCKS, &mut random), &load(BLOCKS, &mut random));
        assert!(judgement.compared > 300, "{}", judgement.compared);
        wrong.extend(named(&judgement));
    }
    // One in a hundred comparisons may name something.
    assert!(wrong.len() <= 2, "{wrong:#?}");
}

#[test]
fn a_planted_change_is_named_first_with_its_size_and_noise() {
    let mut random = Rng::with_seed(2);
    for factor in [0.5, 1.5, 2.0, 5.0] {
        for (table, column) in [("network", "rx_bytes"), ("process", "cpu_user_us"), ("disk", "write_bytes")] {
            let (mut a, mut b) = (load(MANY_BLOCKS, &mut random), load(MANY_BLOCKS, &mut random));
            let noise = Noise::Steady(0.3);
            plant(&mut a, table, column, noise, (1.0, 1.0), &mut random);
            plant(&mut b, table, column, noise, (factor, factor), &mut random);
            let judgement = judge(&a, &b);
            let first =
                judgement.changes.first().and_then(|group| group.first()).unwrap_or_else(|| panic!("{table} {factor}"));
            assert_eq!(
                (first.family.name(), first.column.name, first.figure),
                (table, column, Figure::Mean),
                "{:?}",
                named(&judgement)
            );
            let difference = first.difference;
            let true_change = 1e6 * (factor - 1.0);
            let off = (difference.b - difference.a - true_change).abs();
            assert!(
                off < 3.0 * difference.error && difference.error < 0.1 * difference.a.max(difference.b),
                "{factor}: {difference:?}"
            );
        }
    }
}

#[test]
fn bursts_that_grow_are_named_though_the_mean_stays() {
    let mut random = Rng::with_seed(3);
    let (mut a, mut b) = (load(BLOCKS, &mut random), load(BLOCKS, &mut random));
    plant(&mut a, "network", "tx_bytes", Noise::Bursts, (1.0, 1.0), &mut random);
    plant(&mut b, "network", "tx_bytes", Noise::Bursts, (1.0, 2.0), &mut random);
    assert_eq!(named(&judge(&a, &b)), ["network thing1 tx_bytes Peak"]);
}

#[test]
fn stocks_count_from_their_beginning_and_what_was_so_before_stands_apart() {
    let mut random = Rng::with_seed(4);
    let (mut a, mut b) = (load(BLOCKS, &mut random), load(BLOCKS, &mut random));
    let family = FamilyId::find("memory").unwrap();
    let at = columns(family).iter().position(|column| column.name == "cached_bytes").unwrap();
    for (things, start, grows) in [(&mut a, 1e9, 0.0), (&mut b, 3e9, 0.0)] {
        let mut planted = series(Noise::Steady(0.3), 1e7, BLOCKS, &mut random);
        planted.means.iter_mut().for_each(|mean| *mean += start + grows);
        planted.start = Some(start);
        things.get_mut(&(family, "thing1".to_owned())).unwrap()[at] = planted;
    }
    let judgement = judge(&a, &b);
    let before =
        judgement.before.iter().any(|finding| finding.column.name == "cached_bytes" && finding.thing == "thing1");
    assert!(before && named(&judgement).is_empty() && !judgement.differs(true), "{judgement:?}");
    // The load itself takes more than a gigabyte more.
    let planted = &mut b.get_mut(&(family, "thing1".to_owned())).unwrap()[at];
    planted.means.iter_mut().for_each(|mean| *mean += 1.5e9);
    assert_eq!(named(&judge(&a, &b)), ["memory thing1 cached_bytes Growth"]);
}

#[test]
fn what_one_recording_has_alone_stands_apart() {
    let mut random = Rng::with_seed(5);
    let (a, mut b) = (load(BLOCKS, &mut random), load(BLOCKS, &mut random));
    let (network, process, memory) = ["network", "process", "memory"].map(|name| FamilyId::find(name).unwrap()).into();
    let idle = |family: FamilyId| {
        columns(family).iter().map(|_| series(Noise::Constant, 0.0, BLOCKS, &mut Rng::with_seed(6))).collect::<Vec<_>>()
    };
    b.insert((network, "eth9".to_owned()), idle(network));
    b.insert((process, "idle".to_owned()), idle(process));
    let mut busy = idle(process);
    busy[0] = series(Noise::Steady(0.2), 5e5, BLOCKS, &mut random);
    b.insert((process, "busy".to_owned()), busy);
    b.retain(|(family, _), _| *family != memory);
    let judgement = judge(&a, &b);
    let alone: Vec<&str> = judgement.alone.iter().map(|alone| alone.thing.as_str()).collect();
    assert_eq!(alone, ["busy", "eth9"]);
    assert!(judgement.alone.iter().all(|alone| alone.is_in_b) && judgement.differs(true));
    assert_eq!(judgement.unrecorded, [(memory, true)]);
}
