//! Between which times a host's table has all of its rows.
//!
//! The numbers of rows follow each other from file to file, and on into memory. Where they do not, rows are gone, as those of files
//! that were deleted by hand. A tier has such a place where kymo took rows that it did not keep: the file TIERS was lost, or a disk
//! refused the tier for too long. There the tier may have buckets with only some of their rows. The first bucket after such a place
//! had begun before it. Before it, a bucket of a series without further rows had not ended, and was in no file yet. So a stretch of a
//! tier leaves them out. Files of an older layout count as gone.
//!
//! The rows that a tier did not keep may be of any time, if the clock was set. Files of rows say of which: a tier leaves out the times of
//! those that were recorded at such a place.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::lake::DataFile;
use super::tier::buckets::{Buckets, OVERLAP_US_MAX};
use super::view::TableView;
use crate::record::tier::Tier;

/// A time without a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Whose rows they are.
    pub host: Arc<str>,
    /// The first and the last `time`, µs.
    pub times: (i64, i64),
}

/// The host and times of rows in memory.
pub type InMemory = (Arc<str>, (i64, i64));

/// A file, or rows in memory.
#[derive(Debug)]
struct Piece {
    first_seq: u64,
    /// `None` for rows in memory.
    end_seq: Option<u64>,
    times: (i64, i64),
    is_older: bool,
}

impl TableView {
    /// Those of a tier, or of the rows themselves, of which these are in memory.
    #[must_use]
    pub fn stretches(&self, tier: Option<Tier>, memory: &[InMemory]) -> Vec<Stretch> {
        let files = self.files_of(tier);
        tier.map_or_else(|| of_rows(files, memory), |tier| of_tier(&self.buckets, tier, (files, &self.files), memory))
    }
}

/// Those of a table of rows. What is in memory follows the last file.
fn of_rows(files: &[Arc<DataFile>], memory: &[InMemory]) -> Vec<Stretch> {
    let mut known: BTreeMap<Arc<str>, Vec<(i64, i64)>> = BTreeMap::new();
    let mut ends: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    let mut add = |host: &Arc<str>, times: (i64, i64), follows: bool| {
        let stretches = known.entry(Arc::clone(host)).or_default();
        match stretches.last_mut().filter(|_| follows) {
            Some(stretch) => *stretch = both(*stretch, times),
            None => stretches.push(times),
        }
    };
    for file in files {
        let host: Arc<str> = file.host().into();
        let follows = ends.insert(Arc::clone(&host), file.end_seq) == Some(file.first_seq);
        add(&host, file.time_range, follows);
    }
    memory.iter().for_each(|(host, times)| add(host, *times, true));
    listed(known)
}

/// Those of a tier, of which `buckets` has what no file has. The files are those of the tier, and those of the rows.
pub(super) fn of_tier(
    buckets: &Buckets,
    tier: Tier,
    (files, rows): (&[Arc<DataFile>], &[Arc<DataFile>]),
    memory: &[InMemory],
) -> Vec<Stretch> {
    let (next_seq, goes_on) = (buckets.next_seqs[tier as usize], buckets.goes_on(tier));
    let mut hosts: BTreeMap<Arc<str>, Vec<Piece>> = BTreeMap::new();
    let (mut starts, mut ends) = (HashSet::new(), HashSet::new());
    for file in files {
        if !file.is_older {
            starts.insert(file.first_seq);
            ends.insert(file.end_seq);
        }
        let (end_seq, times) = (Some(file.end_seq), file.time_range);
        let piece = Piece { first_seq: file.first_seq, end_seq, times, is_older: file.is_older };
        hosts.entry(file.host().into()).or_default().push(piece);
    }
    for (host, times) in memory {
        let piece = Piece { first_seq: next_seq, end_seq: None, times: *times, is_older: false };
        hosts.entry(Arc::clone(host)).or_default().push(piece);
    }
    if goes_on || !memory.is_empty() {
        starts.insert(next_seq);
    }
    let mut known = BTreeMap::new();
    for (host, pieces) in hosts {
        let follows = |at: usize, piece: &Piece| match at.checked_sub(1).and_then(|at| pieces.get(at)) {
            Some(before) => !before.is_older && before.end_seq == Some(piece.first_seq),
            // A host that got another name goes on with the numbers.
            None => piece.first_seq == 0 || ends.contains(&piece.first_seq),
        };
        let is_followed = |at: usize, piece: &Piece| match (piece.end_seq, pieces.get(at + 1)) {
            (None, _) => goes_on,
            (Some(end_seq), Some(next)) => !next.is_older && next.first_seq == end_seq,
            (Some(end_seq), None) => starts.contains(&end_seq),
        };
        let mut stretches: Vec<(i64, i64)> = Vec::new();
        let mut holes = Vec::new();
        let mut is_whole = false;
        for (at, piece) in pieces.iter().enumerate().filter(|(_, piece)| !piece.is_older) {
            let (first, last) = piece.times;
            match stretches.last_mut().filter(|_| is_whole) {
                Some(stretch) => *stretch = both(*stretch, piece.times),
                None => stretches.push((first.saturating_add(i64::from(!follows(at, piece))), last)),
            }
            is_whole = is_followed(at, piece);
            if let Some(stretch) = stretches.last_mut().filter(|_| !is_whole) {
                stretch.1 = stretch.1.saturating_sub(OVERLAP_US_MAX);
                holes.push((last, pieces.get(at + 1).map(|next| next.times.0)));
            }
        }
        if !holes.is_empty() {
            let rows: Vec<(i64, i64)> =
                rows.iter().filter(|file| file.host() == *host).map(|file| file.time_range).collect();
            for (last, next) in holes {
                let Some((from, to)) = recorded_at(&rows, last, next, tier.width_us()) else { continue };
                let end = from.saturating_sub(tier.width_us());
                let parts =
                    |(first, last): (i64, i64)| [(first, last.min(end)), (first.max(to.saturating_add(1)), last)];
                stretches = stretches.into_iter().flat_map(parts).filter(|(first, last)| first <= last).collect();
            }
        }
        known.insert(host, stretches);
    }
    listed(known)
}

/// The first and last time of rows that were recorded where a tier does not go on: its last bucket before that place begins at `last`, and
/// its first one after it at `next`. `rows` are the times of the files of rows, in the order in which these were recorded. `None` if they
/// are gone.
fn recorded_at(rows: &[(i64, i64)], last: i64, next: Option<i64>, width_us: i64) -> Option<(i64, i64)> {
    let begin = rows.iter().position(|(_, to)| *to >= last)?;
    let rows = &rows[begin..];
    let is_next =
        |(from, to): &(i64, i64)| next.is_some_and(|next| *from < next.saturating_add(width_us) && next <= *to);
    // The last file has rows from after that place, too. Without one, those rows are in memory.
    let (around, before) = match rows.iter().rposition(is_next) {
        Some(at) => (&rows[..=at], &rows[..at]),
        None if next.is_some_and(|next| rows.iter().all(|(from, _)| *from > next)) => return None,
        None => (rows, rows),
    };
    let from = around.iter().map(|(from, _)| *from).min()?;
    let to = before.iter().map(|(_, to)| *to).fold(last, i64::max);
    (from <= to).then_some((from, to))
}

/// Those that have some time.
fn listed(known: BTreeMap<Arc<str>, Vec<(i64, i64)>>) -> Vec<Stretch> {
    let of_host = |(host, stretches): (Arc<str>, Vec<(i64, i64)>)| {
        stretches.into_iter().map(move |times| Stretch { host: Arc::clone(&host), times })
    };
    known.into_iter().flat_map(of_host).filter(|stretch| stretch.times.0 <= stretch.times.1).collect()
}

fn both(one: (i64, i64), other: (i64, i64)) -> (i64, i64) {
    (one.0.min(other.0), one.1.max(other.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::FamilyId;
    use crate::family::cpu::Cpu;

    const SECOND: i64 = 1_000_000;

    /// Of the numbers `seqs` and the times `times`, in seconds.
    fn file(host: &str, seqs: (u64, u64), times: (i64, i64)) -> Arc<DataFile> {
        let path = format!("lake/cpu/host={host}/date=2026-11-25/x.parquet");
        Arc::new(DataFile::new(path.into(), seqs, seqs.1 - seqs.0, 1, (times.0 * SECOND, times.1 * SECOND)))
    }

    fn older(file: Arc<DataFile>) -> Arc<DataFile> {
        Arc::new(Arc::into_inner(file).unwrap().older_if(true))
    }

    fn memory(host: &str, times: (i64, i64)) -> InMemory {
        (host.into(), (times.0 * SECOND, times.1 * SECOND))
    }

    fn told(stretches: Vec<Stretch>) -> Vec<(String, i64, i64)> {
        stretches.into_iter().map(|Stretch { host, times }| (host.to_string(), times.0, times.1)).collect()
    }

    /// Those of seconds.
    fn of_seconds(files: &[Arc<DataFile>], next_seq: u64, has_seconds: bool, memory: &[InMemory]) -> Vec<Stretch> {
        let mut buckets = Buckets::new(FamilyId::of::<Cpu>(), 0, [next_seq, 0]);
        buckets.has_seconds = has_seconds;
        of_tier(&buckets, Tier::Second, (files, &[]), memory)
    }

    #[test]
    fn rows_are_gone_where_numbers_do_not_follow_each_other() {
        let files = [
            file("a", (0, 5), (10, 20)),
            file("b", (0, 7), (12, 22)),
            file("a", (5, 9), (21, 30)),
            file("a", (20, 25), (50, 60)),
        ];
        let rows = told(of_rows(&files, &[memory("a", (70, 80))]));
        let s = |host: &str, first: i64, last: i64| (host.to_owned(), first * SECOND, last * SECOND);
        assert_eq!(rows, [s("a", 10, 30), s("a", 50, 80), s("b", 12, 22)]);
    }

    #[test]
    fn a_tier_lacks_the_buckets_beside_a_place_where_numbers_do_not_follow_each_other() {
        let files = [file("a", (0, 5), (10, 20)), file("a", (5, 9), (21, 40)), file("a", (10, 25), (50, 90))];
        let first = ("a".to_owned(), 10 * SECOND, 30 * SECOND);
        let told = |next_seq, has_seconds, memory: &[InMemory]| told(of_seconds(&files, next_seq, has_seconds, memory));
        let second = |last: i64| ("a".to_owned(), 50 * SECOND + 1, last * SECOND);
        // Rows in memory go on with the numbers, or do not.
        assert_eq!(told(25, true, &[memory("a", (91, 95))]), [first.clone(), second(95)]);
        assert_eq!(told(25, true, &[]), [first.clone(), second(90)]);
        let third = ("a".to_owned(), 91 * SECOND + 1, 95 * SECOND);
        assert_eq!(told(26, true, &[memory("a", (91, 95))]), [first.clone(), second(80), third]);
        // There are seconds no longer, and some of the last ones wait for their file.
        assert_eq!(told(25, false, &[memory("a", (91, 95))]), [first.clone(), second(85)]);
        assert_eq!(told(25, false, &[]), [first, second(80)]);
    }

    #[test]
    fn rows_at_a_place_where_a_tier_does_not_go_on_may_be_of_any_time() {
        let told = |rows: &[(i64, i64)], last, next| recorded_at(rows, last, next, 2);
        // In order: the tier lacks what follows its last bucket.
        let rows = [(0, 10), (11, 20), (21, 30), (31, 40)];
        assert_eq!(told(&rows, 15, Some(25)), Some((11, 20)));
        assert_eq!(told(&rows, 15, Some(20)), Some((11, 20)));
        assert_eq!(told(&rows, 15, Some(50)), Some((11, 40)));
        assert_eq!(told(&rows, 15, None), Some((11, 40)));
        assert_eq!(told(&rows, 45, None), None);
        // The clock was set back at that place, so an earlier time lacks rows.
        assert_eq!(told(&[(0, 10), (11, 20), (5, 8), (21, 30)], 15, Some(21)), Some((5, 20)));
        // Rows of a later time were recorded before it was set back.
        assert_eq!(told(&[(0, 10), (11, 60), (21, 30), (31, 70)], 15, Some(21)), Some((11, 60)));
        // Rows of that place have expired.
        assert_eq!(told(&[(21, 30), (31, 40)], 15, Some(18)), None);
        assert_eq!(told(&[(21, 30), (31, 40)], 15, Some(25)), None);
    }

    #[test]
    fn files_of_an_older_layout_are_as_gone() {
        let files = [
            file("a", (0, 5), (10, 30)),
            older(file("a", (5, 9), (31, 40))),
            file("a", (9, 12), (41, 60)),
            older(file("b", (0, 5), (10, 20))),
        ];
        let expected = [("a".to_owned(), 10 * SECOND, 20 * SECOND), ("a".to_owned(), 41 * SECOND + 1, 60 * SECOND)];
        assert_eq!(told(of_seconds(&files, 12, true, &[])), expected);
    }

    #[test]
    fn a_host_that_got_another_name_goes_on_with_the_numbers() {
        let files = [file("a", (0, 5), (10, 30)), file("b", (5, 9), (31, 40))];
        let expected = [("a".to_owned(), 10 * SECOND, 30 * SECOND), ("b".to_owned(), 31 * SECOND, 40 * SECOND)];
        assert_eq!(told(of_seconds(&files, 9, true, &[])), expected);
    }
}
