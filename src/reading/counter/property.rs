//! Any course of raw values: what is recorded increases by what the parts grew by.

use proptest::prelude::*;

use super::growth;
use super::held::Held;
use super::parts::Parts;
use super::wraps::Wraps;

const CASES: u32 = 10_000;

/// `increase`, as queries and alert rules compute it over recorded values.
fn increase(recorded: &[i64]) -> i64 {
    recorded.windows(2).map(|pair| growth(pair[0], pair[1])).sum()
}

/// What happens to a part between two reads.
#[derive(Clone, Copy, Debug)]
enum Change {
    Grows(i64),
    Leaves,
    /// It returns with the count that it left with, and what it grew by since.
    Returns(i64),
    /// It returns, or begins anew where it is, with this count.
    BeginsAnew(i64),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (0..1_000_i64).prop_map(Change::Grows),
        1 => Just(Change::Leaves),
        1 => (0..1_000_i64).prop_map(Change::Returns),
        1 => (0..50_i64).prop_map(Change::BeginsAnew),
    ]
}

const PARTS: usize = 4;

/// The course of a sum over parts: for each read, what happens to each part, or that all begin anew.
fn course_of_parts() -> impl Strategy<Value = Vec<[Change; PARTS]>> {
    let anew = prop::array::uniform4((0..50_i64).prop_map(Change::BeginsAnew));
    let read = prop_oneof![9 => prop::array::uniform4(change()), 1 => anew];
    prop::collection::vec(read, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// A sum over parts that come, go and begin anew increases by what each part grew by.
    #[test]
    fn sums_increase_by_what_their_parts_grew_by(course in course_of_parts(), first in prop::array::uniform4(0..5_000_i64)) {
        // Some parts join later.
        let mut there = first.map(|count| count % 3 != 0);
        let mut counts: [Option<i64>; PARTS] = std::array::from_fn(|at| there[at].then_some(first[at]));
        let mut parts = Parts::<usize, 1>::new(PARTS);
        let mut read = |counts: &[Option<i64>; PARTS], there: &[bool; PARTS]| {
            parts.begin();
            let present = counts.iter().enumerate().filter(|(at, _)| there[*at]);
            present.for_each(|(at, count)| parts.add(at, 0, count.unwrap_or(0)));
            parts.sums(|_| true).map(|[sum]| sum).expect("room for all parts")
        };
        let mut recorded = vec![read(&counts, &there)];
        let mut grown = 0;
        for changes in course {
            for (at, change) in changes.into_iter().enumerate() {
                let before = counts[at];
                (there[at], counts[at]) = match change {
                    Change::Grows(by) if there[at] => (true, before.map(|count| count + by)),
                    Change::Leaves | Change::Grows(_) => (false, before),
                    Change::Returns(by) => (true, Some(before.unwrap_or(0) + by)),
                    Change::BeginsAnew(count) => (true, Some(count)),
                };
                if there[at] {
                    // One that begins anew with more than it had cannot be told from one that grew.
                    grown += growth(before.unwrap_or(0), counts[at].unwrap_or(0));
                }
            }
            recorded.push(read(&counts, &there));
        }
        prop_assert_eq!(increase(&recorded), grown, "{:?}", recorded);
    }

    /// Counts that step back by less than the limit, and begin anew, increase by what they truly grew by: they are behind by
    /// less than the limit, and wrong by less than two for each time that counts begin anew.
    #[test]
    fn held_counts_increase_by_what_they_truly_grew_by(
        course in prop::collection::vec((prop::array::uniform3(0..300_i64), prop::array::uniform3(0..100_i64), 0..25_u8), 1..60),
    ) {
        const LIMIT: i64 = 100;
        let mut held = Held::<3>::default();
        let mut truth = [10 * LIMIT; 3];
        let mut recorded: [Vec<i64>; 3] = Default::default();
        let (mut grown, mut restarts) = ([0; 3], 0);
        let mut hold = |raw: [i64; 3]| {
            let mut counts = raw;
            held.hold(&mut counts, LIMIT);
            recorded.iter_mut().zip(counts).for_each(|(recorded, count)| recorded.push(count));
            counts
        };
        let mut before = hold(truth);
        for (grows, steps_back, dice) in course {
            restarts += i64::from(dice <= 3);
            for at in 0..3 {
                // All begin anew, or one of them.
                let begins_anew = dice == 0 || usize::from(dice) == at + 1;
                let grows = if begins_anew { grows[at] / 10 } else { grows[at] };
                truth[at] = if begins_anew { grows } else { truth[at] + grows };
                grown[at] += grows;
            }
            // What steps back is behind the truth until the next read.
            let raw: [i64; 3] = std::array::from_fn(|at| (truth[at] - steps_back[at] * i64::from(dice % 2)).max(0));
            let now = hold(raw);
            for at in 0..3 {
                let begins_anew = before[at] - raw[at] >= LIMIT || raw[at] <= before[at] / 2;
                prop_assert!(now[at] >= before[at] || begins_anew, "{} {}", before[at], raw[at]);
            }
            before = now;
        }
        for at in 0..3 {
            let wrong = (increase(&recorded[at]) - grown[at]).abs();
            prop_assert!(wrong < LIMIT * (1 + 2 * restarts), "{:?} grew by {}", recorded[at], grown[at]);
        }
    }

    /// Counts of few bits increase by what they truly grew by, over wraps and when they begin anew.
    #[test]
    fn carried_counts_increase_by_what_they_grew_by(
        first in 0..1_000_i64,
        course in prop::collection::vec((0..250_i64, 0..20_u8), 1..80),
    ) {
        const RANGE: i64 = 1_000;
        let mut wraps = Wraps::<1>::default();
        let mut carry = |truth: i64| {
            let mut counts = [truth % RANGE];
            wraps.carry(&mut counts, RANGE);
            counts[0]
        };
        let (mut truth, mut grown) = (first, 0);
        let mut recorded = vec![carry(truth)];
        for (grows, dice) in course {
            // A fall from near the range would look like a wrap.
            if dice == 0 && truth % RANGE < RANGE / 2 && truth % RANGE > grows {
                truth = grows;
            } else {
                truth += grows;
            }
            grown += grows;
            recorded.push(carry(truth));
        }
        prop_assert_eq!(increase(&recorded), grown, "{:?}", recorded);
    }
}
