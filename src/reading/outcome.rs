//! The outcome of a tick whose rows are read one by one: one bad row costs no other, the first error is reported, and
//! values that cannot be true are left out and counted.

use std::fmt::Display;

use crate::record::Value;
use crate::sampler::SampleError;

/// An error about `what`.
pub(crate) fn failed(what: &'static str, cause: impl Display) -> SampleError {
    SampleError { what, cause: cause.to_string() }
}

/// Keeps the first error of a tick.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    error: Option<SampleError>,
    /// How many values were left out because they cannot be true.
    impossible: u64,
}

impl Outcome {
    /// Notes that something about `what` could not be read.
    pub(crate) fn fail(&mut self, what: &'static str, cause: impl Display) {
        self.error.get_or_insert_with(|| failed(what, cause));
    }

    /// Notes the error of a part, or gives what was read of it.
    pub(crate) fn note<T>(&mut self, part: Result<T, SampleError>) -> Option<T> {
        part.map_err(|error| _ = self.error.get_or_insert(error)).ok()
    }

    /// `value` if it can be true; otherwise absent, and counted.
    pub(crate) fn possible<V: Value>(&mut self, value: V, can_be_true: bool) -> V {
        if can_be_true {
            return value;
        }
        self.impossible += 1;
        V::ABSENT
    }

    /// `count`, unless it is the greatest `i64`, which stands for any number above it: the kernel writes a count below zero
    /// as an unsigned one, and no real count is so high.
    pub(crate) fn possible_count(&mut self, count: i64) -> i64 {
        self.possible(count, count != i64::MAX)
    }

    /// How many values were left out.
    pub(crate) fn impossible(&self) -> u64 {
        self.impossible
    }

    /// The first error, if there was one.
    pub(crate) fn into_result(self) -> Result<(), SampleError> {
        self.error.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_kept() {
        let mut outcome = Outcome::default();
        outcome.fail("stat", "one");
        outcome.fail("stat", "two");
        assert_eq!(outcome.into_result().unwrap_err().to_string(), "read stat: one");
        assert!(Outcome::default().into_result().is_ok());
    }
}
