//! Values as records hold them: an `i64` that saturates, or [`ABSENT`].

use heim::units::Information;

use crate::record::ABSENT;

pub(crate) const US_PER_SECOND: i64 = 1_000_000;

/// A count that heim gives. One that an `i64` cannot hold becomes the greatest `i64`.
pub(crate) fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Bytes that heim gives. Its `Information` stores bytes, so this reads the field: the getter would divide by a float.
pub(crate) fn bytes(information: Information) -> i64 {
    count(information.value)
}

/// `value` in a unit that is `factor` times finer; absent stays absent.
pub(crate) fn scaled(value: i64, factor: i64) -> i64 {
    if value == ABSENT { ABSENT } else { value.saturating_mul(factor) }
}

/// The bytes of a page of memory.
pub(crate) fn page_bytes() -> i64 {
    count(rustix::param::page_size() as u64)
}

/// The kernel's units of CPU time in a second, `USER_HZ`.
pub(crate) fn clock_ticks_per_second() -> i64 {
    count(rustix::param::clock_ticks_per_second().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_never_wrap() {
        assert_eq!(count(u64::MAX), i64::MAX);
        assert_eq!((scaled(ABSENT, 1000), scaled(7, 1000), scaled(i64::MAX, 2)), (ABSENT, 7000, i64::MAX));
    }
}
