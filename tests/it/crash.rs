//! A daemon at full rate is killed at random moments: every row that a query had shown is there after the next start, once. What
//! kills leave is as `kymo verify` wants it: files, journal, and tiers that have what their rows have.
//!
//! - `KYMO_BIN`: the program; the one that was built with the tests unless set.
//! - `KYMO_CRASHES`: how often; 5 unless set.
//! - `KYMO_CRASH_VERIFY`: after how many kills the folder is verified, each time; 20 unless set, and after the first one.
//! - `KYMO_CRASH_SEED`: the seed of the moments at which it is killed; printed, and another in each run unless set.

use std::collections::BTreeMap;
use std::env;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::running::{Daemon, without_settings};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use kymo::store::verify::verify;
use tonic::transport::{Channel, Endpoint};

const CRASHES: u64 = 5;
/// Kills between two verifications, which read the whole folder.
const VERIFY: u64 = 20;
/// The daemon is killed no later than this after its first answer.
const LIFE_MS_MAX: u64 = 900;
/// The rates of the default configuration, with frequent flushes.
const CONFIG: &str = r#"
[collector.burst]
interval = "1ms"
metrics = ["network", "disk"]
[collector.system]
interval = "10ms"
metrics = ["cpu", "memory"]
[collector.kernel]
interval = "100ms"
metrics = ["vm", "softirq"]
[storage]
flush_interval = "2s"
compaction_interval = "1m"
[log]
filter = "info"
"#;
/// Tables, with a label that differs between the rows of one tick, and a column that grows.
const TABLES: [(&str, &str, &str); 6] = [
    ("network", "interface", "rx_bytes"),
    ("disk", "device", "read_ops"),
    ("cpu", "cpu", "user_us"),
    ("memory", "'-'", "total_bytes"),
    ("vm", "'-'", "page_faults"),
    ("softirq", "type", "softirqs"),
];

/// The rows of a table up to a time, as a query showed them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shown {
    until_us: i64,
    rows: i64,
    sum: i64,
}

/// A Flight SQL client.
struct Asking {
    runtime: tokio::runtime::Runtime,
    client: FlightSqlServiceClient<Channel>,
}

impl Asking {
    fn new(address: &str) -> Asking {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(address.to_owned()).unwrap();
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        Asking { runtime, client: FlightSqlServiceClient::new(channel) }
    }

    /// The integers of the only row.
    fn integers(&mut self, sql: &str) -> Vec<i64> {
        let Asking { runtime, client } = self;
        let batches: Vec<_> = runtime.block_on(async {
            let info = client.execute(sql.to_owned(), None).await.unwrap();
            let ticket = info.endpoint[0].ticket.clone().unwrap();
            client.do_get(ticket).await.unwrap().try_collect().await.unwrap()
        });
        let batch = batches.iter().find(|batch| batch.num_rows() > 0).unwrap();
        batch.columns().iter().map(|column| column.as_primitive::<Int64Type>().value(0)).collect()
    }

    fn shown(&mut self, table: &str, column: &str) -> Shown {
        let found = self.integers(&format!(
            "SELECT coalesce(arrow_cast(max(time), 'Int64'), 0), count(*), coalesce(sum({column}), 0) FROM {table}"
        ));
        Shown { until_us: found[0], rows: found[1], sum: found[2] }
    }

    fn shown_until(&mut self, table: &str, column: &str, until_us: i64) -> Shown {
        let found = self.integers(&format!(
            "SELECT count(*), coalesce(sum({column}), 0) FROM {table} WHERE time <= to_timestamp_micros({until_us})"
        ));
        Shown { until_us, rows: found[0], sum: found[1] }
    }
}

fn wall_us() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

#[test]
fn what_was_shown_outlives_kills() {
    let program = env::var_os("KYMO_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_kymo").into());
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("expected a number"));
    let crashes = number("KYMO_CRASHES").unwrap_or(CRASHES);
    let verify_every = number("KYMO_CRASH_VERIFY").unwrap_or(VERIFY);
    let seed = number("KYMO_CRASH_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("KYMO_CRASH_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut verified = Duration::ZERO;
    let mut before: BTreeMap<&str, Shown> = BTreeMap::new();
    let mut killed_us = None;
    // By table: from the newest row that is left to the kill, µs. At most the rows of this time were lost.
    let mut lost_us: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for crash in 0..=crashes {
        let mut daemon = Daemon::start_program(program.as_ref(), folder.path(), CONFIG);
        let mut asking = Asking::new(&daemon.address);
        for (table, label, column) in TABLES {
            let shown = before.get(table).copied().unwrap_or_default();
            let found = asking.shown_until(table, column, shown.until_us);
            assert_eq!(found, shown, "{table} after crash {crash}");
            // Without a sort, and with a row of each series in memory: millions of groups may take more than a query has.
            let twice = asking.integers(&format!(
                "SELECT count(*) FROM (SELECT time, lag(time) OVER (PARTITION BY {label} ORDER BY time) AS before FROM {table}) \
                 WHERE time = before"
            ));
            assert_eq!(twice, [0], "{table} after crash {crash}");
        }
        if let Some(killed_us) = killed_us {
            for (table, ..) in TABLES {
                let sql = format!(
                    "SELECT arrow_cast(max(time), 'Int64') FROM {table} WHERE time <= to_timestamp_micros({killed_us})"
                );
                lost_us.entry(table).or_default().push(killed_us - asking.integers(&sql)[0]);
            }
            let gaps = asking.integers("SELECT count(*) FROM gap WHERE reason = 'killed'");
            assert_eq!(gaps, [i64::try_from(crash).unwrap()], "after crash {crash}");
        }
        if crash == crashes {
            daemon.terminate();
            break;
        }
        let until = Instant::now() + Duration::from_millis(random.u64(..LIFE_MS_MAX));
        loop {
            for (table, _, column) in TABLES {
                before.insert(table, asking.shown(table, column));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(Duration::from_millis(50)));
        }
        killed_us = Some(wall_us());
        daemon.child.kill().unwrap();
        daemon.child.wait().unwrap();
        if crash % verify_every == 0 {
            let begun = Instant::now();
            let told = without_settings(Command::new(&program)).arg("verify").arg(&data).output().unwrap();
            verified += begun.elapsed();
            assert!(told.status.success(), "after kill {}: {}", crash + 1, String::from_utf8_lossy(&told.stdout));
        }
    }
    let report = verify(&data).unwrap();
    assert!(report.wrong.is_empty() && report.journal_rows == 0, "{report:?}");
    println!(
        "{crashes} kills, {} rows in {} files; verified after every {verify_every}., {verified:.1?} in all",
        report.rows, report.files
    );
    for (table, mut lost_us) in lost_us {
        lost_us.sort_unstable();
        let [median, p99, most] = [50, 99, 100].map(|part| lost_us[(lost_us.len() - 1) * part / 100] / 1000);
        println!("{table}: from the newest row there to the kill: median {median} ms, p99 {p99} ms, most {most} ms");
    }
}

#[test]
fn a_row_about_a_kill_outlives_the_next_kill_before_any_flush() {
    let folder = tempfile::tempdir().unwrap();
    let kill = |mut daemon: Daemon| {
        daemon.child.kill().unwrap();
        daemon.child.wait().unwrap();
    };
    let first = Daemon::start(folder.path(), CONFIG);
    while first.query("SELECT count(*) AS n FROM cpu")[0]["n"] == 0 {}
    kill(first);
    // No file of this table can be written, so its rows are in the journal only.
    let lake = folder.path().join("data/lake");
    std::fs::create_dir_all(&lake).unwrap();
    std::fs::write(lake.join("gap"), "").unwrap();
    for kills in 1..4 {
        let daemon = Daemon::start(folder.path(), CONFIG);
        let found = daemon.query("SELECT count(*) AS n FROM gap WHERE reason = 'killed'");
        assert_eq!(found[0]["n"], kills);
        kill(daemon);
    }
}
