//! Sums of counts over parts that come and go, such as the devices of a control group.

use super::growth;
use crate::record::ABSENT;

/// Sums of `N` counts over parts, each with a key of type `K`.
///
/// At the first read the sums are the source's own. Later a part adds what it grew by, so that a part that leaves takes
/// nothing back, and one that returns goes on or begins at zero. When all parts of two reads in a row fall, the thing
/// itself has begun anew, and so do the sums.
///
/// Memory: at most `len_max` parts, those that left included as long as there is room.
#[derive(Debug)]
pub(crate) struct Parts<K, const N: usize> {
    list: Vec<Part<K, N>>,
    len_max: usize,
    /// The number of this read.
    read: u64,
    /// The index of the part that was added to last: sources keep their order.
    at: usize,
    /// There were too many parts in this read.
    beyond: bool,
    /// There were too many parts in the last read, so a new one may have been there before.
    was_beyond: bool,
    /// `None` before the first read that had room for its parts.
    sums: Option<[i64; N]>,
}

#[derive(Clone, Copy, Debug)]
struct Part<K, const N: usize> {
    key: K,
    /// Its counts in this read; [`ABSENT`] where it has none.
    now: [i64; N],
    /// Its last known counts before; [`ABSENT`] where it had none.
    last: [i64; N],
    /// The last read that had it, and the one before.
    read: u64,
    read_before: u64,
}

impl<K: Copy + Eq, const N: usize> Parts<K, N> {
    /// No parts yet. There can be `len_max`.
    pub(crate) fn new(len_max: usize) -> Parts<K, N> {
        Parts { list: Vec::new(), len_max, read: 0, at: 0, beyond: false, was_beyond: false, sums: None }
    }

    /// Begins a read.
    pub(crate) fn begin(&mut self) {
        self.read += 1;
        self.at = 0;
        self.was_beyond = std::mem::replace(&mut self.beyond, false);
    }

    /// Adds the count `nth` of a part. If the read has given it before, the greater one counts. Allocates only if the part
    /// is new.
    pub(crate) fn add(&mut self, key: K, nth: usize, count: i64) {
        let Some(part) = self.part(key) else {
            self.beyond = true;
            return;
        };
        if let Some(now) = part.now.get_mut(nth) {
            *now = (*now).max(count);
        }
    }

    /// Ends a read, and gives the sums over the parts that `is_counted` holds for. `None` if there were too many parts.
    pub(crate) fn sums(&mut self, mut is_counted: impl FnMut(K) -> bool) -> Option<[i64; N]> {
        if self.beyond {
            return None;
        }
        let (mut whole, mut grown) = ([0_i64; N], [0_i64; N]);
        let (mut known, mut fallen) = (0, 0);
        let joins_late = self.was_beyond;
        for part in self.list.iter_mut().filter(|part| part.read == self.read) {
            let is_counted = is_counted(part.key);
            let (mut fell, mut kept) = (false, false);
            for (nth, (now, last)) in part.now.iter().zip(&mut part.last).enumerate() {
                let before = std::mem::replace(last, if *now == ABSENT { *last } else { *now });
                (fell, kept) = (fell | (*last < before), kept | (before > 0 && *last >= before));
                if is_counted && *last != ABSENT {
                    let from = if before == ABSENT && joins_late { *last } else { before.max(0) };
                    whole[nth] = whole[nth].saturating_add(*last);
                    grown[nth] = grown[nth].saturating_add(growth(from, *last));
                }
            }
            if is_counted && part.read_before + 1 == self.read {
                known += 1;
                fallen += u32::from(fell && !kept);
            }
        }
        let begin_anew = known > 0 && fallen == known;
        let sums = self.sums.map_or(whole, |sums| {
            // Sums that begin anew must fall: whoever reads them sees no other sign of it.
            let sum =
                |(sum, grown): (i64, i64)| if begin_anew && grown < sum { grown } else { sum.saturating_add(grown) };
            std::array::from_fn(|nth| sum((sums[nth], grown[nth])))
        });
        self.sums = Some(sums);
        Some(sums)
    }

    /// The part of this key, ready for this read; `None` if there is no room.
    fn part(&mut self, key: K) -> Option<&mut Part<K, N>> {
        let is_it = |at: usize| self.list.get(at).is_some_and(|part| part.key == key);
        let found = [self.at, self.at + 1].into_iter().find(|at| is_it(*at));
        let found = found.or_else(|| self.list.iter().position(|part| part.key == key));
        let at = match found {
            Some(at) => at,
            None => {
                let new = Part { key, now: [ABSENT; N], last: [ABSENT; N], read: 0, read_before: 0 };
                if self.list.len() < self.len_max {
                    self.list.push(new);
                    self.list.len() - 1
                } else {
                    // The part that left the longest time ago gives way. It began at zero if it ever returns.
                    let (at, oldest) = self.list.iter_mut().enumerate().min_by_key(|(_, part)| part.read)?;
                    if oldest.read + 1 >= self.read {
                        return None;
                    }
                    *oldest = new;
                    at
                }
            }
        };
        self.at = at;
        let part = self.list.get_mut(at)?;
        if part.read != self.read {
            (part.read_before, part.read) = (part.read, self.read);
            part.now = [ABSENT; N];
        }
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sums of reads, each of which is a list of parts with their count.
    fn course(len_max: usize, reads: &[&[(char, i64)]]) -> Vec<Option<i64>> {
        let mut parts = Parts::<char, 1>::new(len_max);
        let read = |read: &&[(char, i64)]| {
            parts.begin();
            read.iter().for_each(|(key, count)| parts.add(*key, 0, *count));
            parts.sums(|key| key != '-').map(|[sum]| sum)
        };
        reads.iter().map(read).collect()
    }

    fn some<const N: usize>(sums: [i64; N]) -> Vec<Option<i64>> {
        sums.into_iter().map(Some).collect()
    }

    #[test]
    fn a_part_that_leaves_takes_nothing_back() {
        let reads: [&[_]; 5] = [&[('a', 100), ('b', 50)], &[('a', 101), ('b', 50)], &[('a', 102)], &[('a', 103)], &[]];
        assert_eq!(course(9, &reads), some([150, 151, 152, 153, 153]));
    }

    #[test]
    fn a_part_that_returns_goes_on_or_begins_at_zero() {
        let reads: [&[_]; 4] =
            [&[('a', 100), ('b', 50)], &[('a', 100)], &[('b', 51), ('a', 100)], &[('a', 100), ('b', 3)]];
        assert_eq!(course(9, &reads), some([150, 150, 151, 154]));
        assert_eq!(course(9, &[&[('a', 100)], &[], &[('a', 7)], &[('b', 2), ('a', 7)]]), some([100, 100, 107, 109]));
    }

    #[test]
    fn when_all_parts_begin_anew_the_sums_do() {
        let reads: [&[_]; 3] = [&[('a', 100), ('b', 50), ('-', 5)], &[('a', 3), ('b', 2), ('-', 9)], &[('a', 4)]];
        assert_eq!(course(9, &reads), some([150, 5, 6]));
    }

    #[test]
    fn a_part_adds_what_it_grows_by_while_it_counts() {
        let mut parts = Parts::<u8, 2>::new(9);
        let mut read = |count: i64, counts: bool| {
            parts.begin();
            parts.add(1, 0, count);
            parts.add(2, 1, 5);
            parts.sums(|key| key == 2 || counts)
        };
        for (count, counts, sum) in [(100, false, 0), (120, true, 20), (125, true, 25), (130, false, 25)] {
            assert_eq!(read(count, counts), Some([sum, 5]));
        }
    }

    #[test]
    fn the_greater_of_two_counts_of_a_part_is_taken() {
        let mut parts = Parts::<u8, 1>::new(9);
        parts.begin();
        for count in [0, 7, 0] {
            parts.add(1, 0, count);
        }
        assert_eq!(parts.sums(|_| true), Some([7]));
    }

    #[test]
    fn too_many_parts_have_no_sum_and_add_no_past_later() {
        let many: &[_] = &[('a', 10), ('b', 10), ('c', 10)];
        let later = [&many[1..], &[('b', 10), ('c', 11)], &[('b', 10), ('c', 12)]];
        let reads = [&[&many[..2], many, many], &later[..]].concat();
        // A part that was there a read ago may still come in this one.
        assert_eq!(course(2, &reads), [Some(20), None, None, None, Some(20), Some(21)]);
        // Parts that left give way to new ones.
        let reads: [&[_]; 4] = [&[('a', 10), ('b', 10)], &[('a', 11)], &[('a', 11)], &[('a', 11), ('c', 4)]];
        assert_eq!(course(2, &reads), some([20, 21, 21, 25]));
    }
}
