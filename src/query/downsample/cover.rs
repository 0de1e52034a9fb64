//! Which table gives which part of a window: rows, or a tier of theirs.

use crate::query::named::Named;

/// A table that has rows of some of a window.
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

/// Parts that cover a window as far as sources have it, in the order of time. A step is the length of one bucket of the window. What a
/// source does not have, or has only as a part of a bucket of its own, the next one gives: first the tiers that are not wider than a
/// step, the widest one first, then rows, and where nothing else is left, wider tiers.
pub(super) fn cover(from_us: i64, to_us: i64, step_us: i64, mut sources: Vec<Source>) -> Vec<Part> {
    sources.sort_by_key(|source| {
        let is_wide = source.width_us > step_us.max(1);
        (is_wide, if is_wide { source.width_us } else { -source.width_us })
    });
    let mut parts = Vec::new();
    cover_by(from_us, to_us, false, &sources, &mut parts);
    parts
}

/// If it `is_followed` by a part, that has all rows from `to_us` on, so no bucket may reach beyond.
fn cover_by(from_us: i64, to_us: i64, is_followed: bool, sources: &[Source], parts: &mut Vec<Part>) {
    let Some((source, rest)) = sources.split_first().filter(|_| from_us < to_us) else { return };
    let mut first = up(from_us.max(source.times.0), source.width_us);
    let end = down(to_us.min(source.times.1), source.width_us);
    // Where older rows have expired, a bucket of a tier has more than those that are left of it. Its first bucket has not.
    let has_more = |other: &&Source| {
        let bucket = down(first, other.width_us);
        other.width_us > source.width_us && other.times.0 < bucket && first < other.times.1 && bucket >= from_us
    };
    if let Some(wider) = rest.iter().find(has_more).filter(|_| first > from_us) {
        first = up(first, wider.width_us);
    }
    if first >= end {
        let before = parts.len();
        cover_by(from_us, to_us, is_followed, rest, parts);
        if parts.len() == before && !is_followed {
            parts.extend(last_bucket(*source, from_us, to_us));
        }
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
    fn no_time_is_covered_twice() {
        let mut random = fastrand::Rng::with_seed(7);
        let minutes = |(from, to): (i64, i64)| (from / 60 * 60, to / 60 * 60);
        for _ in 0..2_000 {
            let mut times = || {
                let from = random.i64(0..400);
                (from, from + random.i64(0..400))
            };
            let all = [
                source("network", 1, times()),
                source("network_1s", SECOND, times()),
                source("network_1m", 60 * SECOND, minutes(times())),
            ];
            let (from, length, step) = (random.i64(0..300 * SECOND), random.i64(0..300 * SECOND), random.i64(0..100));
            let parts = cover(from, from + length, step * SECOND, all.to_vec());
            let mut end = from;
            for part in &parts {
                assert!(part.from_us >= end && part.from_us < part.to_us && part.to_us <= from + length, "{parts:?}");
                assert!(part.from_us >= part.source.times.0 && part.to_us <= part.source.times.1, "{parts:?}");
                end = part.to_us;
            }
            // What rows have is always covered.
            let rows = (all[0].times.0.max(from), all[0].times.1.min(from + length));
            let by_rows_at_least = (rows.1 - rows.0).max(0);
            let overlap = |part: &Part| (part.to_us.min(rows.1) - part.from_us.max(rows.0)).max(0);
            assert_eq!(parts.iter().map(overlap).sum::<i64>(), by_rows_at_least, "{rows:?} {parts:?}");
        }
    }
}
