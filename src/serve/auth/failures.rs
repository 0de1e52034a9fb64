//! Failed log-ins: whoever guesses has to wait.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures of one address are counted for so long.
const WINDOW: Duration = Duration::from_secs(60);
/// So many cost nothing: people mistype.
const FREE_MAX: u32 = 10;
/// Each further one costs this much more than the one before.
const DELAY_STEP: Duration = Duration::from_millis(50);
const DELAY_MAX: Duration = Duration::from_secs(1);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 1_024;

/// The failed log-ins of the last minute.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<IpAddr, Tally>>);

#[derive(Debug)]
struct Tally {
    since: Instant,
    count: u32,
}

impl Failures {
    /// Counts one. Returns how long its answer has to wait, and whether it is the first that has to.
    pub(super) fn note(&self, address: IpAddr, now: Instant) -> (Duration, bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = network(address);
        let is_old = |tally: &Tally| now.duration_since(tally.since) >= WINDOW;
        if all.len() >= ADDRESSES_MAX && !all.contains_key(&key) {
            all.retain(|_, tally| !is_old(tally));
        }
        if all.len() >= ADDRESSES_MAX && !all.contains_key(&key) {
            // So many at once are one attack: all that are not known wait.
            return (DELAY_MAX, false);
        }
        let tally = all.entry(key).or_insert(Tally { since: now, count: 0 });
        if is_old(tally) {
            *tally = Tally { since: now, count: 0 };
        }
        tally.count = tally.count.saturating_add(1);
        let beyond = tally.count.saturating_sub(FREE_MAX);
        (DELAY_STEP.saturating_mul(beyond).min(DELAY_MAX), beyond == 1)
    }
}

/// What one owner has: an IPv6 network of 64 bits has as many addresses as one likes.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        other @ IpAddr::V4(_) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_ten_failures_in_a_minute_answers_wait_longer_and_longer() {
        let (failures, begin) = (Failures::default(), Instant::now());
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..FREE_MAX {
            assert_eq!(failures.note(address, begin), (Duration::ZERO, false));
        }
        assert_eq!(failures.note(address, begin), (DELAY_STEP, true));
        assert_eq!(failures.note(address, begin), (2 * DELAY_STEP, false));
        assert_eq!(failures.note("192.0.2.2".parse().unwrap(), begin).0, Duration::ZERO);
        for _ in 0..100 {
            failures.note(address, begin);
        }
        assert_eq!(failures.note(address, begin).0, DELAY_MAX);
        assert_eq!(failures.note(address, begin + WINDOW).0, Duration::ZERO);
    }

    #[test]
    fn the_addresses_of_a_network_count_together_and_their_number_is_bounded() {
        let (failures, begin) = (Failures::default(), Instant::now());
        for host in 0..=FREE_MAX {
            failures.note(format!("2001:db8::{host:x}").parse().unwrap(), begin);
        }
        assert!(!failures.note("2001:db8::ffff".parse().unwrap(), begin).0.is_zero());
        for host in 0..2 * u32::try_from(ADDRESSES_MAX).unwrap() {
            failures.note(IpAddr::from(host.to_be_bytes()), begin);
        }
        assert_eq!(failures.0.lock().unwrap().len(), ADDRESSES_MAX);
        assert_eq!(failures.note("198.51.100.1".parse().unwrap(), begin).0, DELAY_MAX);
        assert_eq!(failures.note("198.51.100.1".parse().unwrap(), begin + WINDOW).0, Duration::ZERO);
    }
}
