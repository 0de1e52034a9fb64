//! What a table calls a counter only grows, except where the thing that it counts begins anew.
//!
//! The kernel does not keep this rule, so samplers keep it, and whoever reads the files may subtract:
//!
//! | the source | the counter | kept by |
//! |---|---|---|
//! | steps back by a little, as waiting for I/O does | stays at its highest value | [`held`] |
//! | is a sum, and a part leaves it or begins anew | goes on: each part adds what it grew by | [`parts`] |
//! | wraps, because the kernel keeps few bits | goes on | [`wraps`] |
//! | falls for any other reason: what it counts began anew | falls too, which means a restart from zero | – |
//!
//! What samplers keep lasts while their collector runs, also when it is retuned. When kymo or the collector is started again,
//! the counter begins anew at the kernel's figure.
//!
//! `increase` and `rate` of the queries and of the alert rules take every fall for a restart from zero.

pub(crate) mod held;
pub(crate) mod parts;
pub(crate) mod wraps;

/// How much a count grew from `before` to `now`, both 0 or more. A fall means that it began anew at zero.
pub(crate) fn growth(before: i64, now: i64) -> i64 {
    if now >= before { now.saturating_sub(before) } else { now }
}

#[cfg(test)]
mod property;
