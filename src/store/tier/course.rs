//! The rows of a batch by series, so that each column goes through one series after the other.
//!
//! Rows of several series take turns. What is the same for all columns is worked out once: which rows a series has, which of them begin
//! a bucket, and how long after the row before they are. A column then keeps the bucket that it adds to in registers.

/// Where rows go: their series, and what ends before them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) slot: u32,
    pub(super) ends_second: bool,
    pub(super) ends_minute: bool,
}

/// What the rows of a batch are to each series.
#[derive(Debug)]
pub(super) struct Courses {
    /// The positions of the rows in the batch, by series, and those of each in their order.
    rows: Vec<u32>,
    /// Of each of these rows: its time, µs.
    times: Vec<i64>,
    /// Of each of these rows: how long after the one before of its series it is, seconds; 0 without one, and where the clock was set
    /// back.
    spans: Vec<f64>,
    /// The rows of a series in one second, in the order of `rows`: what ends before them, and where they end.
    seconds: Vec<(Step, usize)>,
}

/// Rows of a series in one second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    pub(super) step: Step,
    pub(super) rows: &'a [u32],
    pub(super) times: &'a [i64],
    pub(super) spans: &'a [f64],
}

impl Courses {
    /// Takes the series of each row, of which there are `series`, and its time. `next` is told the series and time of each row, by
    /// series. It says how long after the row before it is, µs, and what ends before it if it begins a bucket.
    pub(super) fn new(
        slots: &[u32],
        series: usize,
        times: &[i64],
        mut next: impl FnMut(u32, i64) -> (i64, Option<Step>),
    ) -> Courses {
        let (rows, times) = by_series(slots, series, times);
        let mut spans = Vec::with_capacity(rows.len());
        let mut seconds: Vec<(Step, usize)> = Vec::new();
        for (place, (row, time)) in rows.iter().zip(&times).enumerate() {
            let slot = slots.get(*row as usize).copied().unwrap_or_default();
            let (elapsed_us, begins) = next(slot, *time);
            spans.push(elapsed_us as f64 / 1e6);
            match (begins, seconds.last_mut().filter(|(step, _)| step.slot == slot)) {
                (None, Some((_, end))) => *end = place + 1,
                // The batch before had rows of its bucket.
                (None, None) => seconds.push((Step { slot, ends_second: false, ends_minute: false }, place + 1)),
                (Some(step), _) => seconds.push((step, place + 1)),
            }
        }
        Courses { rows, times, spans, seconds }
    }

    /// The rows of each series, one second after the other.
    pub(super) fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        let mut from = 0;
        self.seconds.iter().filter_map(move |(step, end)| {
            let range = std::mem::replace(&mut from, *end)..*end;
            let (rows, times) = (self.rows.get(range.clone())?, self.times.get(range.clone())?);
            Some(Run { step: *step, rows, times, spans: self.spans.get(range)? })
        })
    }
}

/// The positions of rows and their times, by series.
fn by_series(slots: &[u32], series: usize, times: &[i64]) -> (Vec<u32>, Vec<i64>) {
    // Where the next row of each series goes.
    let mut places = vec![0; series + 1];
    for slot in slots {
        if let Some(count) = places.get_mut(*slot as usize + 1) {
            *count += 1;
        }
    }
    let mut end = 0;
    for place in &mut places {
        end += *place;
        *place = end;
    }
    let mut rows = vec![0; slots.len()];
    let mut ordered = vec![0; slots.len()];
    for ((row, slot), time) in (0..).zip(slots).zip(times) {
        let Some(place) = places.get_mut(*slot as usize) else { continue };
        if let (Some(to), Some(of)) = (rows.get_mut(*place), ordered.get_mut(*place)) {
            (*to, *of) = (row, *time);
        }
        *place += 1;
    }
    (rows, ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_take_turns_are_told_by_series_and_second() {
        // Series 1 has rows in every second, series 0 in the first alone.
        let slots = [1, 0, 1, 0, 1, 1, 3];
        let times = [10, 11, 20, 21, 1_000_030, 1_000_040, 50];
        let mut told = Vec::new();
        let courses = Courses::new(&slots, 4, &times, |slot, time| {
            told.push((slot, time));
            let ends = Step { slot, ends_second: true, ends_minute: false };
            (time % 1_000, (time == 1_000_030).then_some(ends))
        });
        let expected = [(0, 11), (0, 21), (1, 10), (1, 20), (1, 1_000_030), (1, 1_000_040), (3, 50)];
        assert_eq!(told, expected);
        let runs: Vec<_> = courses.runs().map(|run| (run.step.slot, run.step.ends_second, run.rows.to_vec())).collect();
        assert_eq!(runs, [(0, false, vec![1, 3]), (1, false, vec![0, 2]), (1, true, vec![4, 5]), (3, false, vec![6])]);
        assert!(courses.runs().flat_map(|run| run.times).eq(expected.iter().map(|(_, time)| time)));
        assert!(courses.runs().flat_map(|run| run.spans).eq(&[11e-6, 21e-6, 10e-6, 20e-6, 30e-6, 40e-6, 50e-6]));
    }
}
