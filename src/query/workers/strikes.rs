//! Statements that end their workers: after the third time such a statement is refused for a while.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::query::error::QueryError;

/// After so many ends of a worker a statement is refused.
const STRIKES_MAX: u32 = 3;
/// A statement is refused for this long after its last strike, and strikes are forgotten then.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// Statements that are remembered.
const STATEMENTS_MAX: usize = 64;

/// The statements that ended a worker lately.
#[derive(Debug, Default)]
pub(super) struct Strikes {
    /// Statements may be long, so only their hashes are kept.
    hasher: RandomState,
    strikes: Mutex<VecDeque<Strike>>,
}

#[derive(Debug)]
struct Strike {
    statement: u64,
    count: u32,
    last: Instant,
}

impl Strikes {
    /// Whether a statement may run.
    pub(super) fn check(&self, sql: &str) -> Result<(), QueryError> {
        let statement = self.hasher.hash_one(sql);
        self.change(|strikes| match strikes.iter().find(|strike| strike.statement == statement) {
            Some(strike) if strike.count >= STRIKES_MAX => {
                Err(QueryError::Struck { count: strike.count, left: REFUSED_FOR.saturating_sub(strike.last.elapsed()) })
            }
            _ => Ok(()),
        })
    }

    /// Notes that a statement ended its worker.
    pub(super) fn strike(&self, sql: &str) {
        let statement = self.hasher.hash_one(sql);
        self.change(|strikes| {
            let known =
                strikes.iter().position(|strike| strike.statement == statement).and_then(|at| strikes.remove(at));
            let count = known.as_ref().map_or(1, |known| known.count.saturating_add(1));
            if strikes.len() == STATEMENTS_MAX {
                strikes.pop_front();
            }
            strikes.push_back(Strike { statement, count, last: Instant::now() });
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut VecDeque<Strike>) -> T) -> T {
        let mut strikes = self.strikes.lock().unwrap_or_else(PoisonError::into_inner);
        strikes.retain(|strike| strike.last.elapsed() < REFUSED_FOR);
        change(&mut strikes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_strike_refuses_a_statement_and_no_other() {
        let strikes = Strikes::default();
        for _ in 0..STRIKES_MAX {
            assert!(strikes.check("bad").is_ok());
            strikes.strike("bad");
        }
        assert!(matches!(strikes.check("bad"), Err(QueryError::Struck { count: 3, .. })));
        assert!(strikes.check("good").is_ok());
        for number in 0..STATEMENTS_MAX {
            strikes.strike(&number.to_string());
        }
        assert!(strikes.check("bad").is_ok(), "only so many are remembered");
    }
}
