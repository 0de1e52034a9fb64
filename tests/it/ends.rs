//! How a daemon ends, and what it outlives: signals, a data folder that is taken away, reads and clients that hang.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::running::{Daemon, PATIENCE, command};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::StreamExt;
use kymo::serve::proto::FlushRequest;
use kymo::serve::proto::metrics_service_client::MetricsServiceClient;
use kymo::store::verify::verify;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

const CONFIG: &str = r#"
[collector.some]
interval = "10ms"
metrics = ["cpu", "memory"]
"#;
/// Longer than a stop takes that waits for a read or a client that hangs.
const STOP_MAX: Duration = Duration::from_secs(20);

/// Stops the daemon. All that it recorded is in files then, and nothing is left for the next start to recover.
fn stop(daemon: Daemon) {
    let data = daemon.data.clone();
    let begun = Instant::now();
    daemon.terminate();
    let took = begun.elapsed();
    assert!(took < STOP_MAX, "it took {took:?}");
    let report = verify(&data).unwrap();
    assert!(report.wrong.is_empty() && report.rows > 0, "{report:?}");
    assert_eq!((report.journal_rows, report.segments), (0, 0), "{report:?}");
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn rows(daemon: &Daemon, table: &str) -> i64 {
    daemon.query(&format!("SELECT count(*) AS n FROM {table}"))[0]["n"].as_i64().unwrap()
}

#[test]
fn a_hangup_changes_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("SIGHUP: nothing changed");
    let before = rows(&daemon, "cpu");
    wait_until("it records on", || rows(&daemon, "cpu") > before);
    stop(daemon);
}

#[test]
fn many_flushes_that_wait_do_not_hold_up_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    wait_until("there are rows", || rows(&daemon, "cpu") > 0);
    let endpoint = Endpoint::from_shared(daemon.address.clone()).unwrap();
    let flushing = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let channel = endpoint.connect().await.unwrap();
            let mut clients = JoinSet::new();
            for _ in 0..20 {
                let mut client = MetricsServiceClient::new(channel.clone());
                // Until the daemon stops.
                clients.spawn(async move {
                    let mut flushes = 0;
                    while client.flush(FlushRequest {}).await.is_ok() {
                        flushes += 1;
                    }
                    flushes
                });
            }
            clients.join_all().await.into_iter().sum::<u64>()
        })
    });
    wait_until("they flush", || daemon.status()["store"]["flushes"].as_u64() > Some(1));
    stop(daemon);
    assert!(flushing.join().unwrap() > 0);
}

type Stalled = Vec<(FlightSqlServiceClient<Channel>, FlightRecordBatchStream)>;

/// Clients that have begun to read results without end, and do not go on. They are there as long as the runtime.
fn stalled_clients(daemon: &Daemon, runtime: &Runtime) -> Stalled {
    wait_until("there are rows", || rows(daemon, "cpu") > 100);
    let endpoint = Endpoint::from_shared(daemon.address.clone()).unwrap();
    runtime.block_on(async {
        let mut stalled = Vec::new();
        for _ in 0..4 {
            let mut client = FlightSqlServiceClient::new(endpoint.connect().await.unwrap());
            let endless = "SELECT a.* FROM cpu a, cpu b, cpu c, cpu d, cpu e";
            let info = client.execute(endless.to_owned(), None).await.unwrap();
            let mut rows = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
            rows.next().await.unwrap().unwrap();
            stalled.push((client, rows));
        }
        stalled
    })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn clients_that_do_not_read_do_not_hold_up_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    let runtime = runtime();
    let stalled = stalled_clients(&daemon, &runtime);
    stop(daemon);
    drop(stalled);
}

#[test]
fn a_second_signal_ends_it_at_once_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // So long that a stop would wait for the clients.
    let mut daemon = Daemon::start(folder.path(), &format!("{CONFIG}[service]\nshutdown_timeout = '10m'\n"));
    let runtime = runtime();
    wait_until("there are rows", || rows(&daemon, "cpu") > 100);
    let seen = rows(&daemon, "cpu");
    let stalled = stalled_clients(&daemon, &runtime);
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("stopping: draining the rings");
    daemon.signal(Signal::INT);
    assert_eq!(daemon.child.wait().unwrap().code(), Some(128 + libc::SIGINT));
    drop(stalled);
    let report = verify(&daemon.data).unwrap();
    assert!(report.wrong.is_empty() && report.rows + report.journal_rows >= seen.unsigned_abs(), "{report:?}");
}

#[test]
fn systemd_is_told_of_start_and_stop_and_its_watchdog_is_fed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "300000")];
    let daemon = Daemon::start_with(folder.path(), CONFIG, &variables);
    let next = || {
        let mut bytes = [0; 1024];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    assert_eq!(next(), "READY=1\n");
    assert!(next().starts_with("STATUS=Recording with 1 collectors; "));
    for _ in 0..3 {
        assert_eq!(next(), "WATCHDOG=1\n");
        assert!(next().starts_with("STATUS="));
    }
    stop(daemon);
    let stopping = std::iter::repeat_with(next).find(|told| told.starts_with("STOPPING=1\n")).unwrap();
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC=10000000\nSTATUS=Stopping"), "{stopping}");
}

/// A procfs in which reading `loadavg` hangs, and a sysfs.
fn tree_that_hangs(folder: &Path) -> String {
    let (procfs, sysfs) = (folder.join("proc"), folder.join("sys"));
    fs::create_dir_all(sysfs.join("class")).unwrap();
    fs::create_dir(&procfs).unwrap();
    for name in ["stat", "meminfo"] {
        fs::copy(Path::new("/proc").join(name), procfs.join(name)).unwrap();
    }
    mknodat(CWD, procfs.join("loadavg"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    // A stop waits 5 s for the read, and builds may run beside.
    let service = "[service]\nshutdown_timeout = '20s'\n";
    format!("{service}[host]\nprocfs = '{}'\nsysfs = '{}'\n", procfs.display(), sysfs.display())
}

#[test]
fn a_read_that_hangs_is_told_and_does_not_hold_up_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let tree = tree_that_hangs(folder.path());
    let collectors = r#"
[collector.stuck]
interval = "1s"
metrics = ["host"]
[collector.well]
interval = "10ms"
metrics = ["memory"]
"#;
    let daemon = Daemon::start(folder.path(), &format!("{tree}{collectors}"));
    let hang = "a tick that reads host has not ended for ";
    wait_until("status tells the hang", || daemon.status()["degraded_reasons"].to_string().contains(hang));
    daemon.wait_for_log(hang);

    let begun = Instant::now();
    let refused = command(&["collector", "stop", "stuck", "--address", &daemon.address]).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("stuck could not be stopped: a tick that reads host"), "{told}");
    assert!(begun.elapsed() < STOP_MAX);
    // Others can be changed.
    let changed = command(&["collector", "set", "well", "--interval", "20ms", "--address", &daemon.address]).output();
    assert!(changed.unwrap().status.success());
    let before = rows(&daemon, "memory");
    wait_until("the other one records on", || rows(&daemon, "memory") > before);
    stop(daemon);
}

#[test]
fn a_collector_that_hung_when_it_was_stopped_goes_once_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let tree = tree_that_hangs(folder.path());
    let daemon = Daemon::start(folder.path(), &format!("{tree}[collector.stuck]\ninterval = '1s'\nmetrics = ['host']"));
    let hung = || daemon.status()["degraded_reasons"].to_string().contains("has not ended for ");
    wait_until("status tells the hang", hung);
    let stop_it = || command(&["collector", "stop", "stuck", "--address", &daemon.address]).output().unwrap().status;
    assert!(!stop_it().success());
    // Whoever opens it to write lets the reader go on, and gives it nothing. A tick may open it twice.
    let fifo = folder.path().join("proc/loadavg");
    wait_until("it goes once its read returns", || {
        // This fails while nobody reads.
        let _ = fs::File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&fifo);
        daemon.has_logged("stopped, as the read that had hung has returned")
    });
    assert_eq!(daemon.status()["collectors"].as_array().map(Vec::len), Some(0));
    stop(daemon);
}

#[test]
fn a_collector_that_hung_when_it_was_retuned_goes_on_with_its_new_settings() {
    let folder = tempfile::tempdir().unwrap();
    let tree = tree_that_hangs(folder.path());
    let daemon = Daemon::start(folder.path(), &format!("{tree}[collector.stuck]\ninterval = '1s'\nmetrics = ['host']"));
    let hung = || daemon.status()["degraded_reasons"].to_string().contains("has not ended for ");
    wait_until("status tells the hang", hung);
    let silent = || daemon.status()["silent_alerts"].to_string();
    assert!(silent().contains("alert memory-usage cannot fire: no collector records `memory`"), "{}", silent());
    let set = command(&["collector", "set", "stuck", "--metrics", "memory", "--address", &daemon.address]).output();
    let told = String::from_utf8_lossy(&set.unwrap().stderr).into_owned();
    let reason = "; it goes on with its new settings once that returns";
    assert!(told.contains(reason) && !told.contains("no daemon answers"), "{told}");
    assert!(hung(), "it is told until it runs");
    let fifo = folder.path().join("proc/loadavg");
    wait_until("it goes on once its read returns", || {
        // This fails while nobody reads.
        let _ = fs::File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&fifo);
        rows(&daemon, "memory") > 0
    });
    assert_eq!(daemon.status()["collectors"][0]["name"], "stuck");
    assert!(!silent().contains("memory-usage") && silent().contains("disk-usage"), "{}", silent());
    stop(daemon);
}

#[test]
fn a_data_folder_that_was_moved_away_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    wait_until("there are rows", || rows(&daemon, "cpu") > 0);
    let away = folder.path().join("away");
    fs::rename(&daemon.data, &away).unwrap();
    let gone = format!("data folder {} is gone: waiting until it is back", daemon.data.display());
    wait_until("status says so", || daemon.status()["degraded_reasons"].to_string().contains(&gone));
    daemon.wait_for_log(&gone);
    let before = rows(&daemon, "cpu");
    wait_until("it records on", || rows(&daemon, "cpu") > before);
    assert!(!daemon.data.exists());
    fs::rename(&away, &daemon.data).unwrap();
    wait_until("all is well", || daemon.status()["degraded"] == false);
    assert_eq!(daemon.status()["losses"]["lost_rows"], 0);
    stop(daemon);
}

#[test]
fn a_data_folder_that_was_deleted_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    let flush = || command(&["flush", "--address", &daemon.address]).output().unwrap().status.success();
    wait_until("there are rows in a file", || rows(&daemon, "cpu") > 0 && flush());
    // What is written meanwhile may keep it from being deleted.
    wait_until("it is deleted", || fs::remove_dir_all(&daemon.data).is_ok());
    wait_until("it is there and all is well", || {
        daemon.data.join("LOCK").exists() && daemon.status()["degraded"] == false
    });
    let gone = || daemon.query("SELECT count(*) AS n FROM gap WHERE reason = 'files gone'")[0]["n"].as_i64();
    wait_until("the loss is told", || gone() > Some(0));
    // The rows in new files can be read, too.
    assert!(flush());
    let flushed = rows(&daemon, "cpu");
    assert!(flushed > 0 && rows(&daemon, "cpu") >= flushed);
    stop(daemon);
}
