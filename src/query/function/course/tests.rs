//! Courses in any order and any parts, against the definition of the increase.

use proptest::prelude::*;

use super::super::sections::Piece;
use super::*;

const HOUR_US: i64 = 3_600_000_000;

/// The increase as the documentation defines it.
fn naive(points: &[(i64, i64)]) -> Option<(i64, i64, i64)> {
    let mut points = points.to_vec();
    points.sort_unstable();
    let steps =
        points.windows(2).map(|pair| if pair[1].1 < pair[0].1 { pair[1].1.max(0) } else { pair[1].1 - pair[0].1 });
    Some((points.first()?.0, points.last()?.0, steps.sum()))
}

fn told<C: Counter>(course: &mut Course<C>) -> Option<(i64, i64, C)> {
    course.growth().unwrap().map(|growth| (growth.first.0, growth.last.0, growth.increase))
}

fn clashes(points: &[(i64, i64)]) -> bool {
    let mut points = points.to_vec();
    points.sort_unstable();
    points.windows(2).any(|pair| pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1)
}

/// So many random courses as `KYMO_COURSES` says, or 200.
pub(in super::super) fn config() -> ProptestConfig {
    let cases = std::env::var("KYMO_COURSES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig::with_cases(cases.unwrap_or(200))
}

/// Points that mostly go up, with resets, in any order.
fn points() -> impl Strategy<Value = Vec<(i64, i64)>> {
    let point = (0..200_i64, prop_oneof![5 => 0..1_000_i64, 1 => -5..5_i64]);
    let wild = prop::collection::vec(point, 0..60);
    let tame = prop::collection::vec((1..4_i64, 0..9_i64, prop::bool::weighted(0.05)), 0..60).prop_map(|steps| {
        let (mut time, mut value) = (0, 0);
        let mut points = Vec::new();
        for (later, more, reset) in steps {
            time += later;
            value = if reset { more } else { value + more };
            points.push((time, value));
        }
        points
    });
    prop_oneof![wild, tame.clone(), tame.prop_shuffle()]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_increase_depends_on_neither_order_nor_parts(
        points in points(),
        cuts in prop::collection::vec((0..4_usize, prop::bool::ANY), 60),
    ) {
        // Four threads that each get some of the points, and pack at any time.
        let mut parts: [Course<i64>; 4] = Default::default();
        let mut floats: [Course<f64>; 4] = Default::default();
        for ((time, value), (part, pack)) in points.iter().zip(&cuts) {
            parts[*part].push(*time, *value);
            floats[*part].push(*time, *value as f64);
            if *pack {
                parts[*part].pack();
                floats[*part].pack();
            }
        }
        let (mut whole, mut floating) = (Course::<i64>::default(), Course::<f64>::default());
        for (part, float) in parts.iter_mut().zip(&mut floats) {
            prop_assert!(whole.read(&part.write()).is_ok());
            prop_assert!(floating.read(&float.write()).is_ok());
        }
        prop_assert_eq!(whole.growth().unwrap().is_some_and(|growth| growth.clash.is_some()), clashes(&points));
        if !clashes(&points) {
            prop_assert_eq!(told(&mut whole), naive(&points));
            let expected = naive(&points).map(|(from, to, increase)| (from, to, increase as f64));
            prop_assert_eq!(told(&mut floating), expected);
        }
        let mut sorted = points;
        sorted.sort_unstable();
        let mut told = whole.sorted().points().collect::<Result<Vec<_>, _>>().unwrap();
        prop_assert!(told.is_sorted_by_key(|point| point.0));
        told.sort_unstable();
        prop_assert_eq!(told, sorted);
    }

    /// Files in order, which may overlap and lie in any order, shared by threads whose states come in any order.
    #[test]
    fn the_ends_of_runs_suffice_where_files_do_not_overlap(
        points in points(),
        sizes in prop::collection::vec(1..25_usize, 60),
        overlapping in prop::collection::vec(prop::bool::weighted(0.2), 60),
        places in prop::collection::vec(0..60_usize, 60),
        (threads, swapped) in (1..5_usize, prop::bool::ANY),
    ) {
        let mut sorted = points.clone();
        sorted.sort_unstable();
        // A file has the points of some time, and perhaps some of the file before.
        let mut files: Vec<Vec<(i64, i64)>> = Vec::new();
        let mut rest = &*sorted;
        for (size, overlaps) in sizes.iter().zip(&overlapping) {
            let (mut file, later) = rest.split_at(*size.min(&rest.len()));
            rest = later;
            if let Some(before) = files.last_mut().filter(|before| *overlaps && before.len() > 2) {
                let taken = before.split_off(before.len() / 2);
                let (kept, given) = taken.into_iter().enumerate().partition::<Vec<_>, _>(|(at, _)| at % 2 == 0);
                before.extend(kept.into_iter().map(|(_, point)| point));
                let mut mixed: Vec<_> = given.into_iter().map(|(_, point)| point).chain(file.iter().copied()).collect();
                mixed.sort_unstable();
                files.push(mixed);
                file = &[];
            }
            if !file.is_empty() {
                files.push(file.to_vec());
            }
        }
        if swapped {
            for (at, to) in places.iter().enumerate().take(files.len()) {
                let to = to % files.len();
                files.swap(at, to);
            }
        }
        let pieces: Vec<Piece> = files.iter().enumerate().map(|(place, file)| {
            Piece { host: None, place, times: (file[0].0, file[file.len() - 1].0) }
        }).collect();
        let sections = Arc::new(Sections::of_pieces(&pieces));
        // Each thread reads some files one after the other, and the first and last of them perhaps in part.
        let rows: Vec<(i64, i64)> = files.concat();
        let mut states: Vec<Vec<u8>> = rows.chunks(rows.len().div_ceil(threads).max(1)).map(|rows| {
            let mut course = Course::in_sections(Arc::clone(&sections));
            rows.iter().for_each(|(time, value)| course.push(*time, *value));
            course.write()
        }).collect();
        states.reverse();
        let mut whole = Course::<i64>::default();
        states.iter().for_each(|state| whole.read(state).unwrap());
        let growth = whole.growth();
        prop_assert!(growth.is_ok());
        prop_assert_eq!(growth.unwrap().is_some_and(|growth| growth.clash.is_some()), clashes(&points));
        if !clashes(&points) {
            prop_assert_eq!(told(&mut whole), naive(&points));
        }
    }

    #[test]
    fn other_bytes_are_refused_or_read_but_never_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut course = Course::<i64>::default();
        let _ = course.read(&bytes);
        let _ = course.growth();
        let _ = course.sorted().points().take(1_000).count();
    }
}

#[test]
fn a_day_in_order_has_a_small_state() {
    let piece = |(place, start)| Piece { host: None, place, times: (start, start + HOUR_US) };
    let pieces: Vec<Piece> = (0..24_i64).map(|hour| hour * HOUR_US).enumerate().map(piece).collect();
    let mut course = Course::in_sections(Arc::new(Sections::of_pieces(&pieces)));
    let ticks = 864_000;
    for tick in 0..ticks {
        course.push(tick * 24 * HOUR_US / ticks, 7 * tick);
    }
    let state = course.write();
    assert!(state.len() <= 1_024, "{} bytes", state.len());
    let mut read = Course::<i64>::default();
    read.read(&state).unwrap();
    let growth = read.growth().unwrap().unwrap();
    assert_eq!((growth.increase, growth.count), (7 * (ticks - 1), ticks.cast_unsigned()));
}

#[test]
fn rows_in_an_order_that_they_should_not_have_are_told() {
    let mut course = Course::in_sections(Arc::new(Sections::of_pieces(&[])));
    for (time, value) in [(1, 1), (2, 2), (9, 3), (3, 4), (4, 5), (5, 6)] {
        course.push(time, value);
    }
    assert_eq!(course.growth().err(), Some(Disorder));
}

#[test]
fn a_state_of_another_version_is_refused() {
    assert_eq!(Course::<i64>::default().read(&[9, 0]), Err(Unreadable::Version(9)));
    assert_eq!(Course::<i64>::default().read(&[]), Err(Unreadable::Broken));
}

#[test]
fn a_regular_counter_takes_few_bytes_a_point() {
    let mut course = Course::<i64>::default();
    let many = 1_000_000_i64;
    for tick in 0..many {
        course.push(1_704_067_200_000_000 + 1_000 * tick + tick % 50, 1_500 * tick);
    }
    let growth = course.growth().unwrap().unwrap();
    assert_eq!(growth.increase, 1_500 * (many - 1));
    assert!(course.size() < 5 * 1_000_000, "{} bytes", course.size());
}

#[test]
fn what_is_no_number_is_left_out() {
    let mut course = Course::<f64>::default();
    for (time, value) in [(1, 5.0), (2, f64::NAN), (3, 7.5)] {
        course.push(time, value);
    }
    let growth = course.growth().unwrap().unwrap();
    assert_eq!((growth.increase, growth.last.0), (2.5, 3));
}
