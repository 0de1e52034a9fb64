//! The cookbook's answers to first questions: each statement gives the right answer where it is known.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use kymo::batch::to_batch;
use kymo::family::FamilyId;
use kymo::family::cgroup::Cgroup;
use kymo::family::disk::Disk;
use kymo::family::kymo::Kymo;
use kymo::family::network::Network;
use kymo::family::process::Process;
use kymo::query::{Engine, QuerySettings};
use kymo::record::Record;
use kymo::record::label::Labels;
use kymo::store::{Append, Store, StoreSettings};

const SECOND_US: i64 = 1_000_000;
const HOST: &str = "planted";

/// The statements that the cookbook marks as tested here, without what ends them.
fn recipes() -> Vec<String> {
    let cookbook = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/cookbook.md")).unwrap();
    let blocks = cookbook.split("```sql,exact\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|sql| sql.trim().trim_end_matches(';').to_owned()).collect()
}

fn append<R: Record>(labels: &Labels, rows: &[R]) -> Append {
    Append { family: FamilyId::of::<R>(), batch: to_batch(&[rows], labels, &R::TABLE.schema()) }
}

/// Half a minute of rows up to `end_us`, with what is to be found.
struct Planted {
    /// Where eth0 receives 1,000,000 bytes in ten milliseconds, while `dd` is busy.
    burst_us: i64,
    /// Where sdb has an operation that takes two seconds.
    stall_us: i64,
    appends: Vec<Append>,
}

fn plant(end_us: i64) -> Planted {
    let start_us = end_us - 30 * SECOND_US;
    let (burst_us, stall_us) = (start_us + 12 * SECOND_US + 300_000, start_us + 20 * SECOND_US);
    let labels = Labels::default();
    let mut network = Vec::new();
    let mut disk = Vec::new();
    for tick in 0..3_000_i64 {
        let time = start_us + 10_000 * tick;
        for (interface, steady) in [("eth0", 100), ("lo", 700)] {
            let burst = if interface == "eth0" && time > burst_us { 1_000_000 - steady } else { 0 };
            let rx_bytes = steady * tick + burst;
            network.push(Network { interface: labels.intern(interface), rx_bytes, ..Network::absent(time) });
        }
        for device in ["sda", "sdb"] {
            let hangs = device == "sdb" && (stall_us..stall_us + 2 * SECOND_US).contains(&time);
            let done = if hangs { (stall_us - start_us) / 10_000 } else { tick };
            disk.push(Disk {
                device: labels.intern(device),
                kind: labels.intern("disk"),
                parent: labels.intern(""),
                read_ops: done,
                write_ops: 0,
                in_flight: 1,
                ..Disk::absent(time)
            });
        }
    }
    let mut process = Vec::new();
    let mut cgroup = Vec::new();
    let mut kymo = Vec::new();
    for second in 0..30_i64 {
        let time = start_us + SECOND_US * second;
        let is_burst = (time - burst_us).abs() <= SECOND_US;
        for (pid, command) in (1..).zip(["init", "dd", "make"]) {
            let cpu_ratio = match command {
                "dd" if is_burst => 0.9,
                "make" if !is_burst => 1.0,
                _ => 0.1,
            };
            process.push(Process {
                command: labels.intern(command),
                slot: labels.intern("0"),
                cgroup: labels.intern("/"),
                pid,
                cpu_ratio,
                ..Process::absent(time)
            });
        }
        for (name, busy_from) in [("/web", 10), ("/batch", 15)] {
            // A second of one and a half CPUs, and two seconds of one.
            let usage_us = match (name, second - busy_from) {
                (_, ..=0) => 0,
                ("/web", _) => 1_500_000,
                (_, 1) => 1_000_000,
                _ => 2_000_000,
            };
            let memory_bytes = if second == 11 { 5_000 } else { 3_000 };
            cgroup.push(Cgroup { cgroup: labels.intern(name), usage_us, memory_bytes, ..Cgroup::absent(time) });
        }
        let lake_bytes = 1_000 * second;
        kymo.push(Kymo { cpu_us: 50_000 * second, rss_bytes: 40_000_000, lake_bytes, ..Kymo::absent(time) });
    }
    let appends = vec![
        append(&labels, &network),
        append(&labels, &disk),
        append(&labels, &process),
        append(&labels, &cgroup),
        append(&labels, &kymo),
    ];
    Planted { burst_us, stall_us, appends }
}

fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default();
    let row = |batch: &RecordBatch, row: usize| {
        let columns = batch.columns().iter().map(|column| {
            let formatter = ArrayFormatter::try_new(column, &options).unwrap();
            if column.is_null(row) { "null".to_owned() } else { formatter.value(row).to_string() }
        });
        columns.collect::<Vec<_>>().join(" ")
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|at| row(batch, at)).collect::<Vec<_>>()).collect()
}

#[test]
fn first_questions_have_the_answers_that_the_cookbook_promises() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut appender, _) = Store::open(StoreSettings::unlimited(folder.path(), HOST)).unwrap();
    let now_us = jiff::Timestamp::now().as_microsecond();
    let Planted { burst_us, stall_us, appends } = plant(now_us - 2 * SECOND_US);
    appender.append(appends);
    let views = Arc::clone(&store);
    let engine = Engine::new(Arc::new(move || views.view()), QuerySettings::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let ask = |sql: &str| {
        let batches = runtime.block_on(async { engine.execute(sql).await?.try_collect::<Vec<_>>().await });
        texts(&batches.unwrap_or_else(|error| panic!("{sql}: {error}")))
    };
    let moment = |us: i64| {
        let time = TimestampMicrosecondArray::from(vec![us]).with_timezone("UTC");
        texts(&[RecordBatch::try_from_iter([("time", Arc::new(time) as ArrayRef)]).unwrap()]).remove(0)
    };
    let recipes = recipes();
    let [burst, process, stall, cgroup, cost] = &recipes[..] else { panic!("{} recipes", recipes.len()) };
    for is_flushed in [false, true] {
        if is_flushed {
            store.flush().unwrap();
        }
        assert_eq!(ask(burst), [format!("eth0 100000000.0 {}", moment(burst_us))]);
        assert_eq!(ask(process)[0], "dd 2 0.9");
        // It shows from the first row on that has nothing done since the row before.
        let stalled = format!("sdb 1.99 {}", moment(stall_us + 10_000));
        assert_eq!(ask(stall), [stalled, "sda 0.0 null".to_owned()]);
        assert_eq!(ask(cgroup), ["/web 1.5 5000", "/batch 1.0 5000"]);
        assert_eq!(ask(cost), ["5.0 40000000 29000"]);
    }
    // A group with several series says which label tells them apart.
    for call in ["peak_rate(rx_bytes, time, interval '10 ms')", "time_above(rx_bytes > 0, time)"] {
        let asked = runtime.block_on(async {
            engine.execute(&*format!("SELECT {call} FROM network")).await?.try_collect::<Vec<_>>().await
        });
        let error = asked.unwrap_err().to_string();
        assert!(error.contains("GROUP BY interface"), "{call}: {error}");
    }
}
