//! `kymo top` finds what was recorded, as text and from the keyboard, and leaves the terminal as it was.

use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use kymo::batch::to_batch;
use kymo::family::FamilyId;
use kymo::family::cgroup::Cgroup;
use kymo::family::disk::Disk;
use kymo::family::host::Host;
use kymo::family::network::Network;
use kymo::family::pressure::Pressure;
use kymo::family::process::Process;
use kymo::record::Record;
use kymo::record::label::Labels;
use kymo::store::{Append, Appender, Store, StoreSettings};
use rustix::process::{Pid, Signal, kill_process};

use super::looking::Looking;
use super::running::{Daemon, PATIENCE, command};

/// 2026-11-25 14:00:00 UTC
const START_US: i64 = 1_795_615_200_000_000;
const MS_US: i64 = 1_000;
const SECOND_US: i64 = 1_000_000;
/// The tick that received two megabytes.
const BURST_TICK: i64 = 61_234;
const TICKS: i64 = 120_000;

/// In this second a process writes for 0.6 s, and others wait for the disk.
const STALL_SECOND: i64 = 30;
/// From this second on, a control group is throttled for five.
const THROTTLE_SECOND: i64 = 90;
/// The host was started so long before.
const UPTIME_US: i64 = 3_600 * SECOND_US;

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
            let staller = (second == STALL_SECOND + 1).then(|| Process {
                start_us: UPTIME_US + SECOND_US * STALL_SECOND + 200 * MS_US,
                write_bytes: 300_000_000,
                ..row("staller", "2", 91, 0.02)
            });
            // More than the first page shows, all busier than the one that stalls the disk.
            let others = (0..12).map(|at| row("worker", &at.to_string(), 100 + at, 0.05));
            let rows: Vec<Process> =
                [Some(row("steady", "0", 42, 0.25)), burster, staller].into_iter().flatten().chain(others).collect();
            rows
        })
        .collect();
    append(&mut appender, &labels, &processes);
    record_faults(&mut appender, &labels);
    store.flush().unwrap();
}

fn append<R: Record>(appender: &mut Appender, labels: &Labels, rows: &[R]) {
    let family = FamilyId::of::<R>();
    appender.append(vec![Append { family, batch: to_batch(&[rows], labels, &R::TABLE.schema()) }]);
}

/// A disk that stalls for 0.6 s, and a control group that is throttled for five seconds.
fn record_faults(appender: &mut Appender, labels: &Labels) {
    let seconds = TICKS / 1_000;
    let hosts: Vec<Host> = (0..seconds)
        .map(|second| Host { uptime_us: UPTIME_US + SECOND_US * second, ..Host::absent(START_US + SECOND_US * second) })
        .collect();
    append(appender, labels, &hosts);
    // Ten a second: six of them within the stall.
    let begin = STALL_SECOND * 10 + 2;
    let waited = |tick: i64| 100 * MS_US * (tick - begin).clamp(0, 6);
    let pressures: Vec<Pressure> = (0..seconds * 10)
        .map(|tick| Pressure {
            resource: labels.intern("io"),
            kind: labels.intern("some"),
            total_us: waited(tick),
            ..Pressure::absent(START_US + 100 * MS_US * tick)
        })
        .collect();
    append(appender, labels, &pressures);
    let disks: Vec<Disk> = (0..seconds * 10)
        .map(|tick| Disk {
            device: labels.intern("vda"),
            kind: labels.intern("disk"),
            read_bytes: 0,
            write_bytes: 500 * waited(tick) + 1_000 * tick,
            busy_us: waited(tick),
            ..Disk::absent(START_US + 100 * MS_US * tick)
        })
        .collect();
    append(appender, labels, &disks);
    let throttled = |second: i64| (second - THROTTLE_SECOND).clamp(0, 5);
    let groups: Vec<Cgroup> = (0..seconds)
        .flat_map(|second| {
            let row = |path: &str, cpus: i64| Cgroup {
                cgroup: labels.intern(path),
                usage_us: cpus * 100 * MS_US * second,
                ..Cgroup::absent(START_US + SECOND_US * second)
            };
            let limited = Cgroup {
                periods: 10 * second,
                throttled_periods: 7 * throttled(second),
                throttled_us: 640 * MS_US * throttled(second),
                ..row("/app.slice/etl.service", 2)
            };
            [row("/", 9), row("/app.slice", 7), row("/app.slice/web.service", 5), limited]
        })
        .collect();
    append(appender, labels, &groups);
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
        let header = text.lines().next().unwrap();
        assert!(header.contains(if at.is_some() { " ago " } else { " old " }), "{header}");
        assert!(text.starts_with(if at.is_some() { " planted  PAUSED" } else { " planted  FILES" }), "{text}");
    }
    let text = once(folder.path(), &["--at", "14:01:01.234", "--window", "50ms"]);
    let row = row(&text, "77 burster");
    assert!(row.contains("0.80"), "{text}");
    let text = once(folder.path(), &["--at", "14:01:03", "--window", "1s", "--size", "120x40"]);
    assert!(!text.contains("burster") && text.contains("42 steady"), "{text}");
    assert!(text.contains("14:01:02.0-03.0"), "{text}");
    let text = once(folder.path(), &["--at", "1970-01-02 00:00"]);
    assert!(text.contains("Nothing was recorded then, but from 25 Nov 2026 14:00 to 25 Nov 2026 14:01."), "{text}");
    let wrong =
        command(&["top", "--once", "--at", "soon", "--data", folder.path().to_str().unwrap()]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("'10 minutes ago'"), "{wrong:?}");
}

/// Presses keys, each after the screen is as it is to be before, until the last screen is as wanted.
fn find(folder: &Path, presses: &[(&str, &str)], is_found: impl Fn(&str) -> bool) {
    let mut looking = Looking::begin(&["--window", "2m", "--data", folder.to_str().unwrap()]);
    looking.wait_for("steady");
    let keys: usize = presses.iter().map(|(keys, _)| keys.chars().count()).sum();
    assert!(keys <= 6, "{keys} key presses");
    for (keys, shown) in presses {
        looking.until(|text| text.contains(shown));
        looking.press(keys);
    }
    looking.until(is_found);
    looking.press("q");
    looking.wait_for_end();
}

#[test]
fn planted_faults_are_found_within_six_key_presses() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path());
    // A burst of a millisecond: to the row of what is received, and to its highest peak.
    find(folder.path(), &[("jjj[", "rx eth0")], |text| {
        text.contains("PAUSED")
            && text.contains("25 Nov 2026 14:01:01.2")
            && text.lines().any(|line| line.contains("77 burster"))
    });
    // A process of 0.6 s that stalls a disk: to the last row, waiting for I/O, its highest peak, and by what was written.
    find(folder.path(), &[("G[", "psi io"), ("ssss", "2026 14:00:3")], |text| {
        let first = text.lines().skip_while(|line| !line.contains("COMMAND")).nth(1).unwrap_or_default();
        first.starts_with('+') && first.contains("91 staller") && first.contains("300 MB")
    });
    // A control group that is throttled: when any was most, and by that.
    // Both keys at once: the second waits for the charts of the screen.
    find(folder.path(), &[("3[", "psi io"), ("ss", "2026 14:01:3")], |text| {
        let at = |name: &str| text.lines().position(|line| line.contains(name));
        let throttled = text.lines().find(|line| line.contains("etl.service"));
        throttled.is_some_and(|line| line.contains("70 %")) && at("etl.service") < at("web.service")
    });
}

#[test]
fn every_screen_shows_what_was_recorded_and_a_file_gets_what_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path());
    for (screen, shown) in [
        ("2", "42 steady"),
        ("3", "etl.service"),
        ("4", "busy"),
        ("5", "available"),
        ("6", "interface eth0"),
        ("7", "device vda"),
        ("8", "events"),
        ("9", "COLLECTOR"),
        ("0", "utilization"),
    ] {
        let text = once(folder.path(), &["--window", "2m", "--screen", screen]);
        assert!(text.contains(shown), "{screen}\n{text}");
    }
    let text = once(folder.path(), &["--window", "2m", "--screen", "6"]);
    assert!(row(&text, "received").contains("2.00 GB/s"), "{text}");
    let text = once(folder.path(), &["--window", "2m", "--screen", "7"]);
    assert!(row(&text, "busy").contains("100 %"), "{text}");

    let mut looking = Looking::begin_in(folder.path(), &["--window", "2m", "--data", folder.path().to_str().unwrap()]);
    looking.wait_for("steady");
    looking.press("e");
    let deadline = Instant::now() + PATIENCE;
    let written = loop {
        let mut files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let is_screen =
            |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with("kymo-top-planted-20261125T1401");
        match files.find(|path| is_screen(path)).map(|path| std::fs::read_to_string(path).unwrap()) {
            Some(text) if !text.is_empty() => break text,
            _ => assert!(Instant::now() < deadline, "no file was written"),
        }
        thread::sleep(Duration::from_millis(5));
    };
    assert!(written.contains("rx eth0"), "{written}");
    looking.press("c");
    // The command goes to the clipboard.
    looking.wait_for("\x1b]52;c;");
    looking.press("q");
    looking.wait_for_end();
}

#[test]
fn the_terminal_says_what_its_background_is() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path());
    for (answer, colour) in [("ffff/ffff/ffff", "\x1b[0;34m"), ("0000/0000/0000", "\x1b[0;36m")] {
        let mut looking = Looking::with(folder.path(), &["--data", folder.path().to_str().unwrap()], |command| {
            command.env_remove("NO_COLOR").env_remove("COLORFGBG");
        });
        looking.wait_for("\x1b]11;?\x07");
        looking.press(&format!("\x1b]11;rgb:{answer}\x1b\\"));
        looking.wait_for(colour);
        looking.press("q");
        looking.wait_for_end();
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
