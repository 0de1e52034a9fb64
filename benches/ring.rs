//! kymo's ring beside rtrb's chunk API, in one run: a tick of records written and published, then drained as slices.
//!
//! Prints `ring: kymo ÷ rtrb`, the ratio of throughputs from the medians of interleaved rounds. Above 1, kymo is
//! faster. Both sides do what the daemon does: copy each record in, publish the whole tick at once, read the slices,
//! and free the slots.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use kymo::ring::ring;

/// A network record's size: nine words and a label.
#[derive(Clone, Copy, Debug)]
struct Sample {
    words: [i64; 9],
    label: u32,
}

const CAPACITY: usize = 16_384;
/// Records a tick: four interfaces.
const TICK: u32 = 4;
/// Ticks between two drains. A daemon has more, so its calls cost less for each record.
const TICKS: u32 = 5;
const ROUNDS: usize = 201;
const DRAINS_A_ROUND: u32 = 2_000;

fn sample(number: u32) -> Sample {
    Sample { words: [i64::from(number); 9], label: number }
}

fn sum(slice: &[Sample]) -> i64 {
    slice.iter().map(|sample| sample.words[0] + i64::from(sample.label)).sum()
}

fn kymo_round(producer: &mut kymo::ring::Producer<Sample>, consumer: &mut kymo::ring::Consumer<Sample>) -> i64 {
    for tick in 0..TICKS {
        for record in 0..TICK {
            producer.push(black_box(sample(tick * TICK + record)));
        }
        producer.publish();
    }
    consumer.drain(|old, new| sum(old) + sum(new))
}

fn rtrb_round(producer: &mut rtrb::Producer<Sample>, consumer: &mut rtrb::Consumer<Sample>) -> i64 {
    for tick in 0..TICKS {
        if let Ok(chunk) = producer.write_chunk_uninit(TICK as usize) {
            chunk.fill_from_iter((0..TICK).map(|record| black_box(sample(tick * TICK + record))));
        }
    }
    let Ok(chunk) = consumer.read_chunk(consumer.slots()) else { return 0 };
    let (old, new) = chunk.as_slices();
    let total = sum(old) + sum(new);
    chunk.commit_all();
    total
}

fn timed(mut round: impl FnMut() -> i64) -> Duration {
    let begun = Instant::now();
    for _ in 0..DRAINS_A_ROUND {
        black_box(round());
    }
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn beside_rtrb(criterion: &mut Criterion) {
    let (mut producer, mut consumer) = ring::<Sample>(CAPACITY);
    let (mut rtrb_producer, mut rtrb_consumer) = rtrb::RingBuffer::<Sample>::new(CAPACITY);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(timed(|| kymo_round(&mut producer, &mut consumer)));
        theirs.push(timed(|| rtrb_round(&mut rtrb_producer, &mut rtrb_consumer)));
    }
    let (ours, theirs) = (median(ours), median(theirs));
    let records = f64::from(DRAINS_A_ROUND * TICKS * TICK);
    println!(
        "ring: kymo ÷ rtrb = {:.2} (kymo {:.2} ns, rtrb {:.2} ns a record)",
        theirs.as_secs_f64() / ours.as_secs_f64(),
        ours.as_secs_f64() * 1e9 / records,
        theirs.as_secs_f64() * 1e9 / records,
    );
    let mut group = criterion.benchmark_group("ring");
    group.bench_function("kymo", |bencher| {
        bencher.iter_batched(|| (), |()| kymo_round(&mut producer, &mut consumer), BatchSize::SmallInput);
    });
    group.bench_function("rtrb", |bencher| {
        bencher.iter_batched(|| (), |()| rtrb_round(&mut rtrb_producer, &mut rtrb_consumer), BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, beside_rtrb);
criterion_main!(benches);
