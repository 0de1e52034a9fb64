//! `downsample` against a search through all rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::{Engine, Fixture, HOST, START_US, refusal, rows, settings};
use crate::batch::to_batch;
use crate::record::label::Label;
use crate::record::{ABSENT, Record};
use crate::sampler::report::Collector;
use crate::store::HotBatch;

/// Series of one lake.
const SERIES: usize = 50;

/// Random courses, each looked at in a random window. The environment variable asks for more.
fn courses() -> usize {
    std::env::var("KYMO_COURSES").map_or(100, |count| count.parse().unwrap())
}

/// A value, and what it weighs in a mean.
#[derive(Clone, Copy)]
struct Point {
    us: i64,
    value: f64,
    amount: f64,
    weight: f64,
}

/// A course with gaps, resets and absent values.
fn course(random: &mut fastrand::Rng, collector: Label) -> Vec<Collector> {
    let (mut time, mut ticks) = (START_US, 0);
    (0..random.usize(1..400))
        .map(|_| {
            time += if random.u8(0..20) == 0 { random.i64(1..2_000_000) } else { random.i64(1..2_000) };
            ticks = if random.u8(0..15) == 0 { random.i64(0..5) } else { ticks + random.i64(0..100) };
            Collector {
                collector,
                ticks: if random.u8(0..10) == 0 { ABSENT } else { ticks },
                lateness_max_us: if random.u8(0..10) == 0 { ABSENT } else { random.i64(-50..50) },
                ..Collector::absent(time)
            }
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
fn points(rows: &[(i64, i64)], is_counter: bool) -> Vec<Point> {
    let known: Vec<(i64, i64)> = rows.iter().copied().filter(|(_, value)| *value != ABSENT).collect();
    if !is_counter {
        return known
            .iter()
            .map(|(us, value)| Point { us: *us, value: *value as f64, amount: *value as f64, weight: 1.0 })
            .collect();
    }
    steps(&known)
}

/// The rates from each row to the next, if both have a value.
#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
fn steps(rows: &[(i64, i64)]) -> Vec<Point> {
    let step = |pair: &[(i64, i64)]| {
        let ((before_us, before), (us, value)) = (pair[0], pair[1]);
        if before == ABSENT || value == ABSENT {
            return None;
        }
        let amount = (if value >= before { value - before } else { value }) as f64;
        let weight = (us - before_us) as f64;
        (us > before_us).then_some(Point { us, value: amount / (weight / 1e6), amount, weight })
    };
    rows.windows(2).filter_map(step).collect()
}

fn expected(points: &[Point], (from, to): (i64, i64), buckets: i64, unit: f64) -> Vec<(i64, [f64; 5], i64)> {
    let step = (to - from) / buckets;
    let before = (2 * step).clamp(10_000_000, 60_000_000).max(2);
    let mut told = Vec::new();
    if let Some(last) = points.iter().rev().find(|point| point.us < from && point.us >= from - before) {
        told.push((last.us, [last.value; 5], 1));
    }
    let mut by_bucket: BTreeMap<i64, Vec<Point>> = BTreeMap::new();
    for point in points.iter().filter(|point| point.us >= from && point.us < to) {
        by_bucket.entry((point.us - from) * buckets / (to - from)).or_default().push(*point);
    }
    for (bucket, points) in by_bucket {
        let time = if points.len() == 1 { points[0].us } else { from + (bucket * (to - from) + buckets - 1) / buckets };
        let values = points.iter().map(|point| point.value);
        let sum = |of: fn(&Point) -> f64| points.iter().map(of).sum::<f64>();
        let figures = [
            values.clone().fold(f64::INFINITY, f64::min),
            values.fold(f64::NEG_INFINITY, f64::max),
            sum(|point| point.amount) / (sum(|point| point.weight) / unit),
            points[0].value,
            points[points.len() - 1].value,
        ];
        told.push((time, figures, i64::try_from(points.len()).unwrap()));
    }
    told
}

async fn check(engine: &Engine, courses: &[Vec<Collector>], random: &mut fastrand::Rng) {
    let end = courses.iter().flatten().map(|row| row.time).max().unwrap();
    let from = random.i64(START_US - 1_000..=end);
    let to = from + random.i64(1..=(end - from).max(2_000));
    let buckets = random.i64(1..200);
    for (column, is_counter) in [("ticks", true), ("lateness_max_us", false)] {
        let sql = format!(
            "SELECT arrow_cast(time, 'Int64') AS us, collector, min, max, mean, first, last, count, tier, host \
             FROM downsample('collector', '{column}', to_timestamp_micros({from}), to_timestamp_micros({to}), {buckets}) \
             WHERE collector <> 'c00000' ORDER BY collector, us"
        );
        let mut wanted = Vec::new();
        for (at, course) in courses.iter().enumerate().skip(1) {
            let value = |row: &Collector| if is_counter { row.ticks } else { row.lateness_max_us };
            let series: Vec<(i64, i64)> = course.iter().map(|row| (row.time, value(row))).collect();
            for (time, figures, count) in
                expected(&points(&series, is_counter), (from, to), buckets, if is_counter { 1e6 } else { 1.0 })
            {
                let figures = figures.map(|figure| format!("{figure:?}")).join(" ");
                wanted.push(format!("{time} c{at:05} {figures} {count} raw {HOST}"));
            }
        }
        assert_eq!(rows(engine, &sql).await, wanted, "{sql}");
    }
}

/// A counter and a gauge at once.
async fn check_several(engine: &Engine, courses: &[Vec<Collector>], random: &mut fastrand::Rng) {
    let end = courses.iter().flatten().map(|row| row.time).max().unwrap();
    let from = random.i64(START_US - 1_000..=end);
    let to = from + random.i64(1..=(end - from).max(2_000));
    let buckets = random.i64(1..200);
    let of = |name: &str| {
        let figures = ["min", "max", "mean"].map(|what| format!("coalesce({name}_{what}, 0) AS {name}_{what}"));
        // Where there is no value, there is still their number.
        format!("{}, {name}_count", figures.join(", "))
    };
    let sql = format!(
        "SELECT arrow_cast(time, 'Int64') AS us, arrow_cast(end_time, 'Int64') AS end_us, collector, {}, {} FROM \
         downsample('collector', 'ticks, lateness_max_us', to_timestamp_micros({from}), to_timestamp_micros({to}), {buckets}) \
         ORDER BY collector, us",
        of("ticks"),
        of("lateness_max_us"),
    );
    let mut wanted = Vec::new();
    for (at, course) in courses.iter().enumerate() {
        let ticks: Vec<(i64, i64)> = course.iter().map(|row| (row.time, row.ticks)).collect();
        let lateness: Vec<(i64, i64)> = course.iter().map(|row| (row.time, row.lateness_max_us)).collect();
        let both = [(steps(&ticks), 1e6), (points(&lateness, false), 1.0)];
        let mut by_bucket: BTreeMap<i64, [Vec<Point>; 2]> = BTreeMap::new();
        for (column, (points, _)) in both.iter().enumerate() {
            for point in points.iter().filter(|point| point.us >= from && point.us < to) {
                let bucket = (point.us - from) * buckets / (to - from);
                by_bucket.entry(bucket).or_default()[column].push(*point);
            }
        }
        for (bucket, columns) in by_bucket {
            let times: BTreeSet<i64> = columns.iter().flatten().map(|point| point.us).collect();
            let (first, last) = (times.first().unwrap(), times.last().unwrap());
            let time = if first == last { *first } else { from + (bucket * (to - from) + buckets - 1) / buckets };
            let mut text = format!("{time} {last} c{at:05}");
            for (points, (_, unit)) in columns.iter().zip(&both) {
                // A bucket without a value has no row before the window either.
                let whole = expected(points, (i64::MIN / 4, i64::MAX / 4), 1, *unit);
                let (figures, count) = whole.first().map_or(([0.0; 5], 0), |(_, figures, count)| (*figures, *count));
                let [low, high, mean, ..] = figures;
                let _ = write!(text, " {low:?} {high:?} {mean:?} {count}");
            }
            wanted.push(text);
        }
    }
    assert_eq!(rows(engine, &sql).await, wanted, "{sql}");
}

#[tokio::test]
async fn a_window_has_the_figures_of_its_rows() {
    let mut random = fastrand::Rng::with_seed(std::env::var("KYMO_SEED").map_or(1, |seed| seed.parse().unwrap()));
    for _ in 0..courses().div_ceil(SERIES) {
        let mut fixture = Fixture::new();
        let courses: Vec<Vec<Collector>> =
            (0..SERIES).map(|at| course(&mut random, fixture.labels.intern(&format!("c{at:05}")))).collect();
        let mut all: Vec<Collector> = courses.iter().flatten().copied().collect();
        all.sort_by_key(|row| row.time);
        let mut first_seq = 0;
        for part in all.chunks(random.usize(50..2_000)) {
            let batch = to_batch(&[part], &fixture.labels, &Collector::TABLE.schema());
            let hot = HotBatch::new(fixture.host.into(), first_seq, batch);
            first_seq = hot.end_seq();
            fixture.hot.push(Arc::new(hot));
        }
        let engine = fixture.engine(settings());
        check(&engine, &courses, &mut random).await;
        check_several(&engine, &courses, &mut random).await;
    }
}

#[tokio::test]
async fn a_window_that_cannot_be_told_is_refused() {
    let engine = Fixture::of(&[10], &[10]).engine(settings());
    for (arguments, text) in [
        ("'colector', 'ticks', now(), now(), 5", "did you mean `collector`"),
        ("'collector', 'tick', now(), now(), 5", "did you mean `ticks`"),
        (
            "'collector', 'collector', now(), now(), 5",
            "`collector` of `collector` is neither: it tells rows apart; take one of",
        ),
        ("'collector', 'host', now(), now(), 5", "`host` of `collector` is neither"),
        ("'process', 'pid', now(), now(), 5", "`pid` of `process` is neither"),
        ("'collector_last', 'ticks', now(), now(), 5", "write 'collector', not 'collector_last'"),
        ("'collector_1m', 'ticks', now(), now(), 5", "write 'collector', not 'collector_1m'"),
        ("1, 'ticks', now(), now(), 5", "takes the table as a text, not 1"),
        ("'collector', NULL, now(), now(), 5", "takes the column, not NULL"),
        ("'collector', 'ticks', now(), now() - interval '1 s', 5", "from is not before to"),
        ("'collector', 'ticks', now(), now(), 5", "from is not before to"),
        ("'collector', 'ticks', now() - interval '1 s', now(), 0", "a whole number from 1 to 20000, not 0"),
        ("'collector', 'ticks', now() - interval '1 s', now(), -1", "from 1 to 20000, not -1"),
        ("'collector', 'ticks', now() - interval '1 s', now(), 20001", "from 1 to 20000, not 20001"),
        ("'collector', 'ticks', now() - interval '1 s', now(), 'ten'", "from 1 to 20000, not 'ten'"),
        ("'collector', 'ticks', now() - interval '1 s', now(), 1.5", "from 1 to 20000, not 1.5"),
        ("'collector', 'ticks', now() - interval '1 s', now(), NULL", "takes buckets, not NULL"),
        ("'collector', 'ticks, tick', now(), now(), 5", "did you mean `ticks`"),
        ("'collector', 'ticks, ', now(), now(), 5", "unknown counter or gauge"),
        ("'collector', 'ticks,ticks', now(), now(), 5", "`ticks` is there twice"),
        ("'collector', 'ticks'", "takes a table, a column"),
        ("'collector', 'ticks', 'x', now(), 5", "takes from as a time, such as now() - interval '1 hour'"),
        ("'collector', 'ticks', 'x', now(), 5", "not 'x'"),
        ("'collector', 'ticks', now(), 5, 5", "takes to as a time"),
        ("'collector', 'ticks', NULL, now(), 5", "takes from, not NULL"),
    ] {
        let error = refusal(&engine, &format!("SELECT * FROM downsample({arguments})")).await.to_string();
        assert!(error.contains(text), "{arguments}: {error}");
    }
    let alone = refusal(&engine, "SELECT * FROM downsample").await.to_string();
    assert!(alone.contains("downsample without arguments is refused: write downsample('network'"), "{alone}");
    let named = "WITH downsample AS (SELECT 7 AS x) SELECT x FROM downsample";
    assert_eq!(rows(&engine, named).await, ["7"]);
    let loud = "SELECT sum(count) FROM DOWNSAMPLE('collector', 'ticks', '2024-01-01', '2024-01-01 00:00:01', 5)";
    assert_eq!(rows(&engine, loud).await, ["17"]);
    let none = "SELECT * FROM downsample('gap', 'lost', now() - interval '1 s', now(), 5)";
    assert!(rows(&engine, none).await.is_empty());
    let whole =
        "SELECT count, min, max, tier, host FROM downsample('collector', 'ticks', '2024-01-01', '2024-01-02', 1)";
    assert_eq!(rows(&engine, whole).await.len(), 3);
}
