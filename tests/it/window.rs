//! A window of a counter has its rate in every bucket, whatever the bucket is made of: rows, seconds or minutes, whole or only begun,
//! before a pause and after it. A window that is asked for without a statement has the rows that its statement has.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use futures::TryStreamExt;
use kymo::batch::to_batch;
use kymo::family::FamilyId;
use kymo::family::cpu::Cpu;
use kymo::family::network::Network;
use kymo::query::asked::{Asked, LabelIs, VALUES};
use kymo::query::request::Request;
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

#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
fn varied(labels: &Labels) -> Vec<Cpu> {
    // The names come in another order than that of the alphabet.
    let cpus = ["total", "cpu10", "cpu2"];
    let row = |at: i64| {
        let (tick, cpu) = (at / 3, at % 3);
        Cpu {
            cpu: labels.intern(cpus[usize::try_from(cpu).unwrap()]),
            user_us: tick * tick + cpu,
            // Sums of these are exact, in whatever order.
            utilization: ((tick * 37 + cpu) % 1_024) as f64 / 1_024.0,
            ..Cpu::absent(START_US + 10 * TICK_US * tick)
        }
    };
    (0..7_500).map(row).collect()
}

/// The statement of a window, as a client would write it.
fn statement(asked: &Asked) -> String {
    let Asked { columns, from_us, to_us, buckets, .. } = asked;
    let is_one = columns.len() == 1;
    let of = |column: &str, what: &str| if is_one { what.to_owned() } else { format!("{column}_{what}") };
    let pairs = columns.iter().flat_map(|column| asked.values.iter().map(move |value| (column, value)));
    let told: Vec<String> = pairs.map(|(column, what)| format!("{} AS {column}_{what}, ", of(column, what))).collect();
    let counts: Vec<String> = columns.iter().map(|column| of(column, "count")).collect();
    let is = |LabelIs { label, value }: &LabelIs| format!(" AND {label} = '{value}'");
    let labels: Vec<String> = asked.labels.iter().map(is).collect();
    let tier = if asked.is_raw { " AND tier = 'raw'" } else { "" };
    format!(
        "SELECT cpu, time, end_time AS \"end\", {}greatest({}) AS ticks, tier, host FROM downsample('cpu', '{}', \
         to_timestamp_micros({from_us}), to_timestamp_micros({to_us}), {buckets}) \
         WHERE time >= to_timestamp_micros({from_us}){}{tier} ORDER BY cpu, host, time",
        told.concat(),
        counts.join(", "),
        columns.join(", "),
        labels.concat(),
    )
}

#[test]
fn a_window_without_a_statement_has_the_rows_of_its_statement() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut appender, _) = Store::open(StoreSettings::unlimited(folder.path(), "varied")).unwrap();
    let family = FamilyId::of::<Cpu>();
    // Often enough for a tier of seconds.
    store.set_source(family, "kernel", Duration::from_millis(10));
    let labels = Labels::default();
    for rows in varied(&labels).chunks(3_000) {
        appender.append(vec![Append { family, batch: to_batch(&[rows], &labels, &Cpu::TABLE.schema()) }]);
        store.flush().unwrap();
    }
    let views = Arc::clone(&store);
    let engine = Engine::new(Arc::new(move || views.view()), QuerySettings::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let ask = |request: Request| -> RecordBatch {
        let text = request.sql.clone();
        let found = runtime.block_on(async {
            let rows = engine.execute(request).await?;
            let schema = rows.schema();
            Ok::<_, kymo::query::QueryError>((schema, rows.try_collect::<Vec<_>>().await?))
        });
        let (schema, batches) = found.unwrap_or_else(|error| panic!("{text}: {error}"));
        arrow::compute::concat_batches(&schema, &batches).unwrap()
    };
    let mut wanted: [(&[&str], Option<&str>, bool); 4] = [
        (&VALUES, None, false),
        (&["mean"], Some("total"), false),
        (&["max", "mean"], None, true),
        (&[], Some("cpu2"), false),
    ];
    let (mut rows, mut tiers) = (0, HashSet::new());
    for (from, to, buckets) in [(-7, 260, 3), (0, 250, 90), (100, 103, 7), (20, 251, 2_000)] {
        for columns in [vec!["user_us"], vec!["utilization"], vec!["utilization", "user_us"]] {
            let (values, cpu, is_raw) = wanted[0];
            wanted.rotate_left(1);
            let label = |cpu: &str| LabelIs { label: "cpu".to_owned(), value: cpu.to_owned() };
            let asked = Asked {
                table: "cpu".to_owned(),
                columns: columns.iter().map(ToString::to_string).collect(),
                from_us: START_US + from * 1_000_000,
                to_us: START_US + to * 1_000_000,
                buckets,
                values: values.iter().map(ToString::to_string).collect(),
                labels: cpu.map(label).into_iter().collect(),
                is_raw,
            };
            let expected = ask(Request::new(statement(&asked)));
            let told = ask(Request { window: Some(asked), ..Request::new("a window") });
            assert_eq!(told, expected, "{columns:?} {values:?} from {from} to {to} in {buckets}");
            rows += told.num_rows();
            let widest = told.column_by_name("tier").unwrap().as_string::<i32>();
            tiers.extend(widest.iter().flatten().map(str::to_owned));
        }
    }
    assert!(rows > 2_000 && tiers.len() == 3, "{rows} rows of {tiers:?}");
    let wrong =
        Asked { table: "cpu".to_owned(), columns: vec!["user".to_owned()], to_us: 1, buckets: 1, ..Asked::default() };
    let refused = runtime.block_on(engine.execute(Request { window: Some(wrong), ..Request::default() })).unwrap_err();
    assert!(refused.to_string().contains("user_us"), "{refused}");
}
