//! Every interleaving of a producer and a consumer that loom can find (`cargo test -p ring-model --features loom`).
#![cfg(feature = "loom")]

use loom::thread;
use ring_model::ring::ring;

/// What was drained must be an ordered part of what was pushed, and nothing else may be missing than was dropped.
fn check(capacity: usize, ticks: &'static [u64], drains: usize) {
    loom::model(move || {
        let (mut producer, mut consumer) = ring::<u64>(capacity);
        let pushing = thread::spawn(move || {
            let mut next = 0;
            for records in ticks {
                for _ in 0..*records {
                    producer.push(next);
                    next += 1;
                }
                producer.publish();
            }
            (next, producer.dropped())
        });
        let mut drained = Vec::new();
        for _ in 0..drains {
            consumer.drain(|old, new| drained.extend(old.iter().chain(new).copied()));
        }
        let (produced, dropped) = pushing.join().unwrap();
        consumer.drain(|old, new| drained.extend(old.iter().chain(new).copied()));
        assert_eq!(produced, drained.len() as u64 + dropped);
        assert!(drained.windows(2).all(|pair| pair[0] < pair[1]), "{drained:?}");
        assert_eq!(consumer.dropped(), dropped);
    });
}

#[test]
fn single_records_through_a_ring_of_two() {
    check(2, &[1, 1, 1], 2);
}

#[test]
fn whole_ticks_that_wrap_around() {
    check(2, &[2, 1, 2], 2);
}

#[test]
fn a_ring_of_one() {
    check(1, &[1, 1], 2);
}
