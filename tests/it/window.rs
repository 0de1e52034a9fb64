//! A window of a counter has its rate in every bucket, whatever the bucket is made of: rows, seconds or minutes, whole or only begun,
//! before a pause and after it.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use futures::TryStreamExt;
use kymo::batch::to_batch;
use kymo::family::FamilyId;
use kymo::family::network::Network;
use kymo::query::{Engine, QuerySettings};
use kymo::record::Record;
use kymo::record::label::Labels;
use kymo::store::{Append, Store, StoreSettings};

/// 2026-11-25, 17.3 s after a minute.
const START_US: i64 = 1_795_564_817_300_000;
const TICK_US: i64 = 10_000;
const BYTES_PER_TICK: i64 = 50;
const RATE: f64 = 5_000.0;

fn rows(labels: &Labels) -> Vec<Network> {
    // 250 s, of which 40 have no rows.
    let ticks = (0..25_000).filter(|tick| !(9_000..13_000).contains(tick));
    let row = |tick: i64| Network {
        interface: labels.intern("eth0"),
        rx_bytes: BYTES_PER_TICK * tick,
        ..Network::absent(START_US + TICK_US * tick)
    };
    ticks.map(row).collect()
}

#[test]
fn every_bucket_of_a_steady_counter_has_its_rate() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut appender, _) = Store::open(StoreSettings::unlimited(folder.path(), "steady")).unwrap();
    let family = FamilyId::of::<Network>();
    store.set_source(family, "burst", Duration::from_millis(10));
    let labels = Labels::default();
    for rows in rows(&labels).chunks(1_000) {
        appender.append(vec![Append { family, batch: to_batch(&[rows], &labels, &Network::TABLE.schema()) }]);
    }
    let views = Arc::clone(&store);
    let engine = Engine::new(Arc::new(move || views.view()), QuerySettings::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let ask = |sql: &str| -> RecordBatch {
        let found = runtime.block_on(async { engine.execute(sql).await?.try_collect::<Vec<_>>().await });
        let batches = found.unwrap_or_else(|error| panic!("{sql}: {error}"));
        arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
    };
    for is_flushed in [false, true] {
        if is_flushed {
            store.flush().unwrap();
        }
        // Edges are whole seconds of no tier.
        let (from_us, to_us) = (START_US - 1_234_567, START_US + 260_000_001);
        for (buckets, tier) in [(3, "1m"), (4, "1m"), (97, "1s"), (1_000, "raw")] {
            let sql = format!(
                "SELECT time, min, max, mean, first, last, tier FROM downsample('network', 'rx_bytes', \
                 to_timestamp_micros({from_us}), to_timestamp_micros({to_us}), {buckets}) ORDER BY time"
            );
            let told = ask(&sql);
            assert!(told.num_rows() > 1 && told.num_rows() <= buckets, "{sql}");
            for column in ["min", "max", "mean", "first", "last"] {
                let values = told.column_by_name(column).unwrap().as_primitive::<Float64Type>();
                let is_rate = |value: Option<f64>| value.is_some_and(|value| (value - RATE).abs() < 1e-6);
                assert!(values.iter().all(is_rate), "{column} of {sql}: {values:?}");
            }
            let widest = told.column_by_name("tier").unwrap().as_string::<i32>();
            assert!(widest.iter().any(|one| one == Some(tier)), "{sql}: {widest:?}");
            let times = told.column_by_name("time").unwrap().as_primitive::<TimestampMicrosecondType>().values();
            assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{sql}: {times:?}");
            // The first bucket begins with rows, as its edge is within a minute.
            let width_us = match tier {
                "1m" => 60_000_000,
                "1s" => 1_000_000,
                _ => continue,
            };
            let whole = times.iter().zip(widest).skip(1).filter(|(_, one)| *one == Some(tier));
            assert!(
                whole.clone().count() > 0 && whole.clone().all(|(time, _)| time % width_us == 0),
                "{sql}: {times:?}"
            );
        }
    }
}
