//! `kymo top` finds what was recorded, as text and from the keyboard, and leaves the terminal as it was.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use kymo::batch::to_batch;
use kymo::family::FamilyId;
use kymo::family::network::Network;
use kymo::family::process::Process;
use kymo::record::Record;
use kymo::record::label::Labels;
use kymo::store::{Append, Store, StoreSettings};
use rustix::process::{Pid, Signal, kill_process};

use super::people::terminal;
use super::running::{Daemon, PATIENCE, command};

/// 2026-11-25 14:00:00 UTC
const START_US: i64 = 1_795_615_200_000_000;
const MS_US: i64 = 1_000;
const SECOND_US: i64 = 1_000_000;
/// The tick that received two megabytes.
const BURST_TICK: i64 = 61_234;
const TICKS: i64 = 120_000;

/// Two minutes at 1 kHz with a burst of one tick, while a process ran that is there for a second only.
fn record(folder: &Path) {
    let (store, mut appender, _) = Store::open(StoreSettings::unlimited(folder, "planted")).unwrap();
    let labels = Labels::default();
    let network = FamilyId::of::<Network>();
    store.set_source(network, "burst", Duration::from_millis(1));
    let mut rx_bytes = 0;
    let rows: Vec<Network> = (0..TICKS)
        .map(|tick| {
            rx_bytes += if tick == BURST_TICK { 2_000_000 } else { 100 };
            Network {
                interface: labels.intern("eth0"),
                rx_bytes,
                tx_bytes: 10 * tick,
                ..Network::absent(START_US + MS_US * tick)
            }
        })
        .collect();
    for rows in rows.chunks(10_000) {
        appender.append(vec![Append { family: network, batch: to_batch(&[rows], &labels, &Network::TABLE.schema()) }]);
    }
    let processes: Vec<Process> = (0..TICKS / 1_000)
        .flat_map(|second| {
            let row = |command: &str, slot: &str, pid: i64, cpu_ratio: f64| Process {
                command: labels.intern(command),
                slot: labels.intern(slot),
                pid,
                cpu_ratio,
                ..Process::absent(START_US + SECOND_US * second)
            };
            let burster = (second == BURST_TICK / 1_000 + 1).then(|| row("burster", "1", 77, 0.8));
            [Some(row("steady", "0", 42, 0.25)), burster].into_iter().flatten()
        })
        .collect();
    let family = FamilyId::of::<Process>();
    appender.append(vec![Append { family, batch: to_batch(&[&processes], &labels, &Process::TABLE.schema()) }]);
    store.flush().unwrap();
}

fn once(folder: &Path, arguments: &[&str]) -> String {
    let output = command(&["top", "--once", "--data", folder.to_str().unwrap()])
        .args(arguments)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The row of a screen that begins with these words.
fn row<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .find(|line| line.trim_start().trim_start_matches('▸').starts_with(name))
        .unwrap_or_else(|| panic!("{name}\n{text}"))
}

#[test]
fn a_burst_of_a_millisecond_is_seen_at_every_zoom_with_the_process_of_its_moment() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path());
    for (window, at) in [("10m", None), ("2m", None), ("1m", Some("14:01:00")), ("50ms", Some("14:01:01.234"))] {
        let mut arguments = vec!["--window", window];
        arguments.extend(at.iter().flat_map(|at| ["--at", at]));
        let text = once(folder.path(), &arguments);
        assert!(row(&text, "rx eth0").contains("2.00 GB/s"), "{window}\n{text}");
        assert!(text.starts_with(if at.is_some() { " planted  PAUSED" } else { " planted  FILES" }), "{text}");
    }
    let text = once(folder.path(), &["--at", "14:01:01.234", "--window", "50ms"]);
    let row = row(&text, "77 burster");
    assert!(row.contains("0.80"), "{text}");
    let text = once(folder.path(), &["--at", "14:01:03", "--window", "1s", "--size", "120x40"]);
    assert!(!text.contains("burster") && text.contains("42 steady"), "{text}");
    assert!(text.contains("14:01:02.0-03.0"), "{text}");
    let wrong =
        command(&["top", "--once", "--at", "soon", "--data", folder.path().to_str().unwrap()]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("'10 minutes ago'"), "{wrong:?}");
}

/// A view in a terminal, and all that it wrote.
struct Looking {
    child: Child,
    ours: File,
    written: Receiver<Vec<u8>>,
    text: String,
}

impl Looking {
    fn begin(arguments: &[&str]) -> Looking {
        let (ours, theirs) = terminal(80);
        let mut command = command(&["top"]);
        command.args(arguments).env("TZ", "UTC").env("NO_COLOR", "1").stdin(theirs.try_clone().unwrap());
        let child = command.stdout(theirs).stderr(Stdio::null()).spawn().unwrap();
        let (to, written) = channel();
        let mut reading = ours.try_clone().unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reading.read(&mut bytes) {
                if to.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Looking { child, ours, written, text: String::new() }
    }

    /// Waits until this was written, and forgets all up to there.
    fn wait_for(&mut self, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        let end = loop {
            if let Some(at) = self.text.find(wanted) {
                break at + wanted.len();
            }
            let bytes = self.written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let bytes = bytes.unwrap_or_else(|_| panic!("{wanted:?} was not shown, but\n{}", self.text));
            self.text.push_str(&String::from_utf8_lossy(&bytes));
        };
        self.text.drain(..end);
    }

    fn press(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).unwrap();
    }

    fn wait_for_end(mut self) {
        self.wait_for("\x1b[?1049l");
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it did not end");
            thread::sleep(Duration::from_millis(5));
        }
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn the_burst_is_found_from_the_keyboard_and_the_terminal_is_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path());
    let mut looking = Looking::begin(&["--window", "2m", "--data", folder.path().to_str().unwrap()]);
    looking.wait_for("FILES");
    looking.wait_for("steady");
    // To the row of what is received, and to its highest peak.
    looking.press("jjj[");
    looking.wait_for("PAUSED");
    looking.wait_for("burster");
    looking.press("?");
    looking.wait_for("MOUSE");
    looking.press("\x1b");
    looking.wait_for("PAUSED");
    looking.press("q");
    looking.wait_for_end();

    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let mut looking = Looking::begin(&["--data", folder.path().to_str().unwrap()]);
        looking.wait_for("\x1b[?1049h");
        looking.wait_for("FILES");
        kill_process(Pid::from_child(&looking.child), signal).unwrap();
        looking.wait_for_end();
    }
}

#[test]
fn a_daemon_that_dies_is_told_as_lost_and_found_again_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(folder.path(), "");
    let address = daemon.address.trim_start_matches("grpc://").to_owned();
    let mut looking = Looking::begin(&["--address", &address]);
    looking.wait_for("LIVE");
    looking.wait_for("kymo");
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    // Only what changed is written: LIVE becomes LOST, and LIVE again.
    looking.wait_for("OST");
    let data = folder.path().join("data");
    let mut again = command(&["run", "--address", &address, "--data", data.to_str().unwrap()]);
    let mut again = again.stderr(Stdio::null()).spawn().unwrap();
    looking.wait_for("IVE");
    looking.press("q");
    looking.wait_for_end();
    again.kill().unwrap();
    again.wait().unwrap();
}
