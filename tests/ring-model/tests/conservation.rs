//! Produced = drained + dropped, for any sizes and any interleaving of ticks and drains, on one thread and on two.
#![cfg(not(feature = "loom"))]

use proptest::prelude::*;
use ring_model::ring::{Consumer, ring};

/// A record that shows when it is torn: all words carry the same number.
type Wide = [u64; 8];

fn collect(consumer: &mut Consumer<Wide>, into: &mut Vec<u64>) {
    consumer.drain(|old, new| {
        for record in old.iter().chain(new) {
            assert!(record.iter().all(|word| *word == record[0]), "torn record {record:?}");
            into.push(record[0]);
        }
    });
}

proptest! {
    #[test]
    fn in_turns(capacity in 1_usize..40, steps in prop::collection::vec((0_u64..30, any::<bool>()), 0..60)) {
        let (mut producer, mut consumer) = ring::<Wide>(capacity);
        let (mut produced, mut accepted, mut drained) = (0, Vec::new(), Vec::new());
        for (records, drain) in steps {
            for _ in 0..records {
                if producer.push([produced; 8]) {
                    accepted.push(produced);
                }
                produced += 1;
            }
            producer.publish();
            if drain {
                collect(&mut consumer, &mut drained);
                prop_assert_eq!(&drained, &accepted, "all published records are drained, in their order");
            }
        }
        collect(&mut consumer, &mut drained);
        prop_assert_eq!(produced, drained.len() as u64 + producer.dropped());
        prop_assert_eq!(consumer.dropped(), producer.dropped());
        prop_assert_eq!(drained, accepted);
    }
}

#[test]
fn unpublished_records_are_not_seen() {
    let (mut producer, mut consumer) = ring::<Wide>(4);
    assert!(producer.push([1; 8]));
    let mut drained = Vec::new();
    collect(&mut consumer, &mut drained);
    assert!(drained.is_empty());
    producer.publish();
    collect(&mut consumer, &mut drained);
    assert_eq!(drained, [1]);
}

#[test]
fn side_by_side() {
    const RECORDS: u64 = if cfg!(miri) { 2_000 } else { 2_000_000 };
    for capacity in [1, 2, 64, 4_096] {
        let (mut producer, mut consumer) = ring::<Wide>(capacity);
        let pushing = std::thread::spawn(move || {
            for number in 0..RECORDS {
                producer.push([number; 8]);
                if number % 7 == 0 {
                    producer.publish();
                }
            }
            producer.publish();
            producer.dropped()
        });
        let mut drained = Vec::new();
        while !consumer.is_abandoned() {
            collect(&mut consumer, &mut drained);
        }
        collect(&mut consumer, &mut drained);
        let dropped = pushing.join().unwrap();
        assert_eq!(RECORDS, drained.len() as u64 + dropped, "capacity {capacity}");
        assert!(drained.windows(2).all(|pair| pair[0] < pair[1]), "records are out of order");
    }
}
