//! Which table gives which part of a window: rows, or a tier of theirs.

use crate::query::named::Named;

/// A stretch of time in which a table has all rows. A table from whose middle rows are gone has several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Source {
    pub(super) table: Named,
    /// The length of its buckets, µs; 1 for rows.
    pub(super) width_us: i64,
    /// The first time that it has, and the first after the last, µs.
    pub(super) times: (i64, i64),
}

/// A part of a window, from its first time to the first one after it, µs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) source: Source,
    pub(super) from_us: i64,
    pub(super) to_us: i64,
}

/// Parts that cover a window as far as sources have it, in the order of time. No two sources of one table overlap. If rows and
/// seconds are both gone around one time, less than a minute beside it may be left out.
///
/// A step is the length of one bucket of the window. What a source does not have, or has only as a part of a bucket of its own,
/// the next one gives: first the tiers that are not wider than a step, the widest one first, then rows, and where nothing else is
/// left, wider tiers.
pub(super) fn cover(from_us: i64, to_us: i64, step_us: i64, mut sources: Vec<Source>) -> Vec<Part> {
    sources.sort_by_key(|source| {
        let is_wide = source.width_us > step_us.max(1);
        (is_wide, if is_wide { source.width_us } else { -source.width_us }, source.times)
    });
    let mut parts = Vec::new();
    cover_by(from_us, to_us, false, &sources, &mut parts);
    parts
}

/// If it `is_followed` by a part, that has all rows from `to_us` on, so no bucket may reach beyond.
fn cover_by(from_us: i64, to_us: i64, is_followed: bool, sources: &[Source], parts: &mut Vec<Part>) {
    let Some((source, rest)) = sources.split_first().filter(|_| from_us < to_us) else { return };
    let mut first = up(from_us.max(source.times.0), source.width_us);
    let mut end = down(to_us.min(source.times.1), source.width_us);
    // Where older rows have expired, a bucket of a tier has more than those that are left of it. Its first bucket has not.
    let has_more = |other: &&Source| {
        let bucket = down(first, other.width_us);
        other.width_us > source.width_us && other.times.0 < bucket && first < other.times.1 && bucket >= from_us
    };
    let has = (first, end);
    if let Some(wider) = rest.iter().find(has_more).filter(|_| first > from_us) {
        first = up(first, wider.width_us);
    }
    // So it is where later rows are gone. The last bucket of all has no more than the last rows.
    let goes_on = |other: &&Source| {
        let bucket = down(end, other.width_us);
        let begins_later = bucket < other.times.1.saturating_sub(other.width_us);
        let is_within = bucket.saturating_add(other.width_us) <= to_us;
        other.width_us > source.width_us && other.times.0 < bucket && begins_later && is_within
    };
    if let Some(wider) = rest.iter().find(goes_on).filter(|_| first < end && source.times.1 < to_us) {
        end = down(end, wider.width_us);
    }
    if first >= end {
        let before = parts.len();
        cover_by(from_us, to_us, is_followed, rest, parts);
        let told = parts[before..].iter().map(|part| (part.to_us.min(has.1) - part.from_us.max(has.0)).max(0));
        if has.0 < has.1 && told.sum::<i64>() < has.1 - has.0 {
            // The wider bucket is not in the window as a whole, or others have some of it: a part of it is better than nothing.
            parts.truncate(before);
            (first, end) = has;
        } else if parts.len() == before && !is_followed {
            parts.extend(last_bucket(*source, from_us, to_us));
        }
    }
    if first >= end {
        return;
    }
    cover_by(from_us, first, true, rest, parts);
    let at = parts.len();
    parts.push(Part { source: *source, from_us: first, to_us: end });
    cover_by(end, to_us, is_followed, rest, parts);
    if parts.len() == at + 1 && !is_followed {
        parts[at].to_us = end.max(to_us.min(source.times.1));
    }
}

/// The bucket that begins in a window and ends after it, which nothing else gives.
fn last_bucket(source: Source, from_us: i64, to_us: i64) -> Option<Part> {
    let from_us = up(from_us.max(source.times.0), source.width_us);
    let to_us = to_us.min(source.times.1);
    (from_us < to_us).then_some(Part { source, from_us, to_us })
}

fn down(time: i64, width: i64) -> i64 {
    time.saturating_sub(time.rem_euclid(width))
}

fn up(time: i64, width: i64) -> i64 {
    let down = down(time, width);
    if down < time { down.saturating_add(width) } else { time }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn source(name: &str, width_us: i64, times: (i64, i64)) -> Source {
        Source { table: Named::find(name).unwrap(), width_us, times: (times.0 * SECOND, times.1 * SECOND) }
    }

    fn covered(window: (i64, i64), step_s: i64, sources: &[Source]) -> Vec<(&'static str, i64, i64)> {
        let parts = cover(window.0, window.1, step_s * SECOND, sources.to_vec());
        parts.iter().map(|part| (part.source.table.table.name, part.from_us, part.to_us)).collect()
    }

    #[test]
    fn the_widest_tier_that_fits_is_asked_and_finer_ones_fill_in() {
        let all = [
            source("network", 1, (500, 1_000)),
            source("network_1s", SECOND, (300, 1_000)),
            source("network_1m", 60 * SECOND, (60, 1_020)),
        ];
        let s = |at: i64| at * SECOND;
        assert_eq!(covered((s(600), s(700)), 0, &all), [("network", s(600), s(700))]);
        assert_eq!(covered((s(600), s(700)), 1, &all), [("network_1s", s(600), s(700))]);
        // The ends are not whole minutes, and not whole seconds.
        assert_eq!(
            covered((s(599) + 5, s(725)), 60, &all),
            [("network", s(599) + 5, s(600)), ("network_1m", s(600), s(720)), ("network_1s", s(720), s(725)),]
        );
        // Rows and seconds have expired: minutes are better than nothing.
        assert_eq!(
            covered((s(110), s(520)), 0, &all),
            [("network_1m", s(120), s(300)), ("network_1s", s(300), s(500)), ("network", s(500), s(520)),]
        );
        // As far as rows reach, their minute and second have more.
        let all = [Source { times: (s(500) + 5, s(1_000)), ..all[0] }, all[1], all[2]];
        assert_eq!(covered((s(499), s(502)), 0, &all), [("network_1s", s(499), s(501)), ("network", s(501), s(502))]);
        assert_eq!(covered((s(500) + 2, s(502)), 0, &all), [("network", s(500) + 5, s(502))]);
        // The first minute has no more than its rows, and they are told once.
        let new = [source("network", 1, (76, 1_000)), source("network_1m", 60 * SECOND, (60, 960))];
        assert_eq!(covered((s(60), s(150)), 0, &new), [("network", s(76), s(150))]);
        let new =
            [Source { times: (s(76) + 5, s(1_000)), ..new[0] }, source("network_1s", SECOND, (76, 1_000)), new[1]];
        assert_eq!(covered((s(60), s(150)), 0, &new), [("network", s(76) + 5, s(150))]);
        // A minute that has only begun is better than nothing, too.
        assert_eq!(covered((s(70), s(130)), 0, &all), [("network_1m", s(120), s(130))]);
        assert_eq!(covered((s(70), s(190)), 0, &all), [("network_1m", s(120), s(190))]);
        assert_eq!(covered((s(0), s(50)), 1, &all), []);
        assert_eq!(covered((s(5), s(5)), 1, &all), []);
    }

    #[test]
    fn what_is_gone_from_the_middle_of_a_table_comes_from_its_tiers() {
        let s = |at: i64| at * SECOND;
        let rows = |times: (i64, i64)| Source { times, ..source("network", 1, (0, 0)) };
        let seconds = source("network_1s", SECOND, (0, 1_000));
        let all = [rows((s(10), s(400) + 5)), rows((s(500) + 5, s(1_000))), seconds];
        assert_eq!(
            covered((s(20), s(900)), 0, &all),
            [("network", s(20), s(400)), ("network_1s", s(400), s(501)), ("network", s(501), s(900))]
        );
        // Nothing has these.
        assert_eq!(
            covered((s(20), s(900)), 0, &all[..2]),
            [("network", s(20), s(400) + 5), ("network", s(500) + 5, s(900))]
        );
        // Seconds may be gone, too.
        let seconds = |times: (i64, i64)| source("network_1s", SECOND, times);
        let all = [rows((s(10), s(1_000))), seconds((0, 300)), seconds((330, 1_000))];
        assert_eq!(
            covered((s(20), s(900)), 2, &all),
            [("network_1s", s(20), s(300)), ("network", s(300), s(330)), ("network_1s", s(330), s(900))]
        );
        // The last rows of all are in the last bucket of all.
        let all = [rows((s(10), s(400) + 5)), source("network_1s", SECOND, (0, 401))];
        assert_eq!(covered((s(20), s(900)), 0, &all), [("network", s(20), s(400) + 5)]);
    }

    #[test]
    fn no_time_is_covered_twice_and_no_rows_are_left_out() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..5_000 {
            // All tables have rows up to now, and some are gone: the first ones, and rows, but not tiers, from the middle.
            let now = random.i64(1..400);
            let mut stretches = |name: &str, width: i64| {
                let floor = |time: i64| time / width * width;
                let from = floor(random.i64(0..now));
                let end = floor(now + width - 1);
                let (gone_from, gone_to) = (floor(from + random.i64(0..=now - from)), floor(random.i64(0..=now)));
                if name != "network" || gone_from <= from || gone_to <= gone_from {
                    vec![(from, end)]
                } else {
                    vec![(from, gone_from), (gone_to, end)]
                }
            };
            let mut all: Vec<Source> = Vec::new();
            for (name, width) in [("network", 1), ("network_1s", 1), ("network_1m", 60)] {
                let width_us = if name == "network" { 1 } else { width * SECOND };
                all.extend(stretches(name, width).into_iter().map(|times| source(name, width_us, times)));
            }
            all.iter_mut().filter(|source| source.width_us == 1).for_each(|source| {
                // Rows may be gone from any time on.
                source.times.0 += random.i64(0..SECOND / 2);
                source.times.1 = (source.times.1 - random.i64(0..SECOND / 2)).max(source.times.0 + 1);
            });
            let (from, length, step) = (random.i64(0..300 * SECOND), random.i64(0..300 * SECOND), random.i64(0..100));
            let parts = cover(from, from + length, step * SECOND, all.clone());
            let mut end = from;
            for part in &parts {
                assert!(part.from_us >= end && part.from_us < part.to_us && part.to_us <= from + length, "{parts:?}");
                assert!(part.from_us >= part.source.times.0 && part.to_us <= part.source.times.1, "{parts:?}");
                end = part.to_us;
            }
            let is_covered = |first: i64, end: i64| {
                let overlap = |part: &Part| (part.to_us.min(end) - part.from_us.max(first)).max(0);
                parts.iter().map(overlap).sum::<i64>() >= end - first
            };
            for source in &all {
                let (first, last) = (source.times.0.max(from), source.times.1.min(from + length));
                // Buckets that are as a whole in the window and in the tier, but for the first and last ones of the tier, which may
                // have less.
                let inner = if source.width_us == 1 { 0 } else { source.width_us };
                let (first, last) = (up(first, source.width_us), down(last, source.width_us));
                let (first, last) = (first.max(source.times.0 + inner), last.min(source.times.1 - inner));
                let told: Vec<_> = parts.iter().map(|part| (part.source.width_us, part.from_us, part.to_us)).collect();
                let known: Vec<_> = all.iter().map(|source| (source.width_us, source.times)).collect();
                assert!(
                    first >= last || is_covered(first, last),
                    "{first} to {last} of {from} and {length} by {step}: {told:?} of {known:?}"
                );
            }
        }
    }
}
