//! The outcome of a tick whose rows are read one by one: one bad row costs no other, and the first error is reported.

use std::fmt::Display;

use crate::sampler::SampleError;

/// An error about `what`.
pub(crate) fn failed(what: &'static str, cause: impl Display) -> SampleError {
    SampleError { what, cause: cause.to_string() }
}

/// Keeps the first error of a tick.
#[derive(Debug, Default)]
pub(crate) struct Outcome(Option<SampleError>);

impl Outcome {
    /// Notes that something about `what` could not be read.
    pub(crate) fn fail(&mut self, what: &'static str, cause: impl Display) {
        self.0.get_or_insert_with(|| failed(what, cause));
    }

    /// Notes the error of a part, or gives what was read of it.
    pub(crate) fn note<T>(&mut self, part: Result<T, SampleError>) -> Option<T> {
        part.map_err(|error| _ = self.0.get_or_insert(error)).ok()
    }

    /// The first error, if there was one.
    pub(crate) fn into_result(self) -> Result<(), SampleError> {
        self.0.map_or(Ok(()), Err)
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
