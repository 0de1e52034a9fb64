//! The buckets of one column, for all series of a table.

use arrow::array::{Array, ArrayRef, AsArray};

use super::cell::{Cell, Counter, Detail, Gauge};
use super::course::{Courses, Step};
use super::number::Number;
use crate::record::tier::Tier;
use crate::record::{self, Kind, Role, Type};

/// Where a tier's row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The buckets that have ended, by their number.
    Ended(usize),
    /// The series whose bucket has not ended.
    Open(usize),
}

/// One column of all series.
#[derive(Clone, Debug)]
struct Course<C> {
    /// By series: the second that has not ended.
    seconds: Vec<C>,
    /// By series: what the minute that has not ended has of seconds that have.
    minutes: Vec<C>,
    /// By tier: the buckets that have ended.
    ended: [Vec<C>; 2],
}

impl<C: Cell> Course<C> {
    fn new() -> Course<C> {
        Course { seconds: Vec::new(), minutes: Vec::new(), ended: [Vec::new(), Vec::new()] }
    }

    fn resize(&mut self, series: usize) {
        self.seconds.resize(series, C::EMPTY);
        self.minutes.resize(series, C::EMPTY);
    }

    fn end(&mut self, step: Step, keeps_seconds: bool) {
        let slot = step.slot as usize;
        let (Some(second), Some(minute)) = (self.seconds.get_mut(slot), self.minutes.get_mut(slot)) else { return };
        if step.ends_second {
            if keeps_seconds {
                self.ended[Tier::Second as usize].push(*second);
            }
            minute.append(second);
            *second = second.next();
        }
        if step.ends_minute {
            self.ended[Tier::Minute as usize].push(*minute);
            *minute = C::EMPTY;
        }
    }

    fn fold(&mut self, courses: &Courses, values: &ArrayRef, keeps_seconds: bool) {
        let Some(values) = values.as_primitive_opt::<<C::Value as Number>::Arrow>() else { return };
        let nulls = values.nulls().filter(|nulls| nulls.null_count() > 0);
        let values = values.values();
        // Most counters stand still at most ticks.
        let stands = nulls.is_none() && courses.stand(values);
        for run in courses.runs() {
            self.end(run.step, keeps_seconds);
            let Some(second) = self.seconds.get_mut(run.step.slot as usize) else { continue };
            if stands {
                second.add_same(&run, values);
                continue;
            }
            let Some(nulls) = nulls else {
                second.add_all(&run, values);
                continue;
            };
            for (row, time) in run.rows.iter().zip(run.times) {
                let row = *row as usize;
                if let Some(value) = values.get(row).filter(|_| nulls.is_valid(row)) {
                    second.add(*time, *value);
                }
            }
        }
    }

    fn cell(&self, tier: Tier, place: Place) -> C {
        match (place, tier) {
            (Place::Ended(at), _) => self.ended[tier as usize].get(at).copied().unwrap_or(C::EMPTY),
            (Place::Open(slot), Tier::Second) => self.seconds.get(slot).copied().unwrap_or(C::EMPTY),
            (Place::Open(slot), Tier::Minute) => {
                let mut minute = self.minutes.get(slot).copied().unwrap_or(C::EMPTY);
                minute.append(&self.seconds.get(slot).copied().unwrap_or(C::EMPTY));
                minute
            }
        }
    }

    fn arrays(&self, tier: Tier, places: &[Place]) -> Vec<ArrayRef> {
        C::arrays(&places.iter().map(|place| self.cell(tier, *place)).collect::<Vec<_>>())
    }

    fn keep_series(&mut self, kept: &[usize]) {
        let of = |cells: &[C]| kept.iter().map(|slot| cells.get(*slot).copied().unwrap_or(C::EMPTY)).collect();
        (self.seconds, self.minutes) = (of(&self.seconds), of(&self.minutes));
    }

    fn words(&self, out: &mut Vec<u64>) {
        let cells = [&self.seconds, &self.minutes].into_iter().chain(&self.ended);
        for cells in cells {
            cells.iter().for_each(|cell| cell.words(out));
        }
    }

    fn of_words(words: &mut &[u64], counts: [usize; 4]) -> Option<Course<C>> {
        let mut cells = |count: usize| {
            let (of_cells, rest) = words.split_at_checked(count.checked_mul(C::WORDS)?)?;
            *words = rest;
            of_cells.chunks(C::WORDS).map(C::of_words).collect::<Option<Vec<C>>>()
        };
        let [seconds, minutes, ended_seconds, ended_minutes] = counts;
        Some(Course {
            seconds: cells(seconds)?,
            minutes: cells(minutes)?,
            ended: [cells(ended_seconds)?, cells(ended_minutes)?],
        })
    }
}

/// One column of a table, by its kind and type.
#[derive(Clone, Debug)]
enum Values {
    Gauge(Course<Gauge<i64>>),
    FloatGauge(Course<Gauge<f64>>),
    Counter(Course<Counter<i64>>),
    FloatCounter(Course<Counter<f64>>),
    Detail(Course<Detail<i64>>),
}

/// Does the same with a column of any type.
macro_rules! each {
    ($values:expr, $course:ident => $does:expr) => {
        match $values {
            Values::Gauge($course) => $does,
            Values::FloatGauge($course) => $does,
            Values::Counter($course) => $does,
            Values::FloatCounter($course) => $does,
            Values::Detail($course) => $does,
        }
    };
}

/// One column of a table, for all its series.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// Its position in the table.
    pub(super) at: usize,
    values: Values,
}

impl Column {
    /// `None` for what tells series apart: it is a part of their keys.
    pub(super) fn new(at: usize, column: &record::Column) -> Option<Column> {
        let values = match (column.role, column.kind, column.ty) {
            (Role::Identity, ..) => return None,
            (Role::Detail, ..) => Values::Detail(Course::new()),
            (Role::Figure, Kind::Counter, Type::Float64) => Values::FloatCounter(Course::new()),
            (Role::Figure, Kind::Counter, _) => Values::Counter(Course::new()),
            (Role::Figure, _, Type::Float64) => Values::FloatGauge(Course::new()),
            (Role::Figure, ..) => Values::Gauge(Course::new()),
        };
        Some(Column { at, values })
    }

    /// Makes room for so many series.
    pub(super) fn resize(&mut self, series: usize) {
        each!(&mut self.values, course => course.resize(series));
    }

    /// Takes the values of a batch.
    pub(super) fn fold(&mut self, courses: &Courses, values: &ArrayRef, keeps_seconds: bool) {
        each!(&mut self.values, course => course.fold(courses, values, keeps_seconds));
    }

    /// Ends buckets of a series.
    pub(super) fn end(&mut self, step: Step, keeps_seconds: bool) {
        each!(&mut self.values, course => course.end(step, keeps_seconds));
    }

    /// A tier's columns of the rows at these places.
    pub(super) fn arrays(&self, tier: Tier, places: &[Place]) -> Vec<ArrayRef> {
        each!(&self.values, course => course.arrays(tier, places))
    }

    /// Keeps these series only, in this order.
    pub(super) fn keep_series(&mut self, kept: &[usize]) {
        each!(&mut self.values, course => course.keep_series(kept));
    }

    /// Forgets the buckets of a tier that have ended.
    pub(super) fn forget_ended(&mut self, tier: Tier) {
        each!(&mut self.values, course => course.ended[tier as usize].clear());
    }

    pub(super) fn words(&self, out: &mut Vec<u64>) {
        each!(&self.values, course => course.words(out));
    }

    /// Takes what [`words`](Self::words) gave of so many series, and so many buckets of each tier that have ended.
    pub(super) fn take_words(&mut self, words: &mut &[u64], series: usize, ended: [usize; 2]) -> Option<()> {
        let counts = [series, series, ended[0], ended[1]];
        match &mut self.values {
            Values::Gauge(course) => *course = Course::of_words(words, counts)?,
            Values::FloatGauge(course) => *course = Course::of_words(words, counts)?,
            Values::Counter(course) => *course = Course::of_words(words, counts)?,
            Values::FloatCounter(course) => *course = Course::of_words(words, counts)?,
            Values::Detail(course) => *course = Course::of_words(words, counts)?,
        }
        Some(())
    }
}
