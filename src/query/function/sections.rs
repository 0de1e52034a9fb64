//! The sections of time in which a counter's rows come in order.
//!
//! A plan reads pieces: files and batches in memory, each in the order of time. Threads share them in the order of their places.
//! Where pieces follow each other in time as in place, a run of rows that one thread reads has no rows of another in between, so
//! its ends and its increase say all. Pieces that overlap, as after a clock was set back, have rows of the same time in different
//! places: there all rows count.

/// A part of the rows in the order of time, such as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::query) struct Piece {
    /// The host of all its rows, if it is known.
    pub(in crate::query) host: Option<String>,
    /// Threads read pieces by their places: each reads those that follow each other, the last one perhaps in part.
    pub(in crate::query) place: usize,
    /// Its first and last time, µs.
    pub(in crate::query) times: (i64, i64),
}

/// Sections of time, which together are all time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::query) struct Sections {
    /// The first time of each section, and whether its rows come in order. In the order of time.
    starts: Vec<(i64, bool)>,
}

/// What is known of the rows of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// Its last time, µs.
    pub(super) end_us: i64,
    /// Rows of one counter come in order, and those of one thread have none of another in between.
    pub(super) is_ordered: bool,
}

impl Sections {
    pub(in crate::query) fn of_pieces(pieces: &[Piece]) -> Sections {
        let mut hosts: Vec<Option<&str>> = pieces.iter().map(|piece| piece.host.as_deref()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        // Rows of a host may be in its own pieces, and in those of unknown hosts.
        if hosts.len() > 1 {
            hosts.retain(Option::is_some);
        }
        let mut found = Found::default();
        for host in hosts {
            let of_host = |piece: &&Piece| piece.host.is_none() || piece.host.as_deref() == host;
            found.search(pieces.iter().filter(of_host).collect());
        }
        found.sections()
    }

    pub(super) fn of(&self, time_us: i64) -> Section {
        let next = self.starts.partition_point(|(start, _)| *start <= time_us);
        let is_ordered = next.checked_sub(1).and_then(|at| self.starts.get(at)).is_some_and(|(_, ordered)| *ordered);
        let end_us = self.starts.get(next).map_or(i64::MAX, |(start, _)| start - 1);
        Section { end_us, is_ordered }
    }
}

/// What parts the time.
#[derive(Default)]
struct Found {
    /// Where pieces overlap: the first and the last time.
    overlaps: Vec<(i64, i64)>,
    /// Times from which on rows are in another place.
    cuts: Vec<i64>,
}

impl Found {
    /// Searches the pieces of one host.
    fn search(&mut self, mut pieces: Vec<&Piece>) {
        pieces.sort_by_key(|piece| (piece.times, piece.place));
        // The piece before, or the one that reaches beyond it.
        let mut before: Option<&Piece> = None;
        for piece in pieces {
            if let Some(before) = before {
                if piece.times.0 < before.times.1 {
                    self.overlaps.push((piece.times.0, piece.times.1.min(before.times.1)));
                } else if piece.place != before.place + 1 {
                    self.cuts.push(piece.times.0);
                }
            }
            if before.is_none_or(|before| piece.times.1 >= before.times.1) {
                before = Some(piece);
            }
        }
    }

    fn sections(mut self) -> Sections {
        self.overlaps.sort_unstable();
        let mut starts = vec![(i64::MIN, true)];
        let mut until = i64::MIN;
        for (first, last) in self.overlaps {
            if starts.len() > 1 && first <= until.saturating_add(1) {
                until = until.max(last);
                continue;
            }
            if starts.len() > 1 {
                starts.push((until.saturating_add(1), true));
            }
            starts.push((first, false));
            until = last;
        }
        if starts.len() > 1 && until < i64::MAX {
            starts.push((until + 1, true));
        }
        // A cut within an overlap parts nothing.
        let whole = Sections { starts };
        let cuts: Vec<(i64, bool)> =
            self.cuts.into_iter().filter(|cut| whole.of(*cut).is_ordered).map(|cut| (cut, true)).collect();
        let mut starts = whole.starts;
        starts.extend(cuts);
        starts.sort_unstable();
        starts.dedup();
        Sections { starts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections(pieces: &[(&str, usize, i64, i64)]) -> Vec<(i64, bool)> {
        let pieces: Vec<Piece> = pieces
            .iter()
            .map(|(host, place, first, last)| Piece {
                host: Some((*host).to_owned()).filter(|host| !host.is_empty()),
                place: *place,
                times: (*first, *last),
            })
            .collect();
        let Sections { starts } = Sections::of_pieces(&pieces);
        assert_eq!(starts[0], (i64::MIN, true));
        starts[1..].to_vec()
    }

    #[test]
    fn pieces_that_follow_each_other_are_one_section() {
        assert_eq!(sections(&[]), []);
        assert_eq!(sections(&[("", 0, 0, 10), ("", 1, 10, 20), ("", 2, 25, 30)]), []);
    }

    #[test]
    fn rows_come_in_no_order_where_pieces_overlap() {
        assert_eq!(sections(&[("", 0, 0, 10), ("", 1, 8, 20)]), [(8, false), (11, true)]);
        assert_eq!(sections(&[("", 0, 0, 100), ("", 1, 5, 9), ("", 2, 7, 12)]), [(5, false), (13, true)]);
        assert_eq!(sections(&[("", 0, 0, 100), ("", 1, 5, 9), ("", 2, 20, 30)]).len(), 4);
    }

    #[test]
    fn pieces_in_another_order_are_parted() {
        assert_eq!(sections(&[("", 1, 0, 10), ("", 0, 10, 20), ("", 2, 20, 30)]), [(10, true), (20, true)]);
    }

    #[test]
    fn hosts_do_not_overlap_each_other_but_what_may_be_of_any() {
        assert_eq!(sections(&[("a", 0, 0, 10), ("b", 1, 0, 10)]), []);
        assert_eq!(sections(&[("a", 0, 0, 10), ("b", 1, 0, 10), ("", 2, 9, 20)]), [(9, false), (11, true)]);
    }
}
