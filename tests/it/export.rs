//! `kymo export` and `kymo report`: a stretch of recorded time as a data folder, and as a page.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::running::{Daemon, PATIENCE, command, rows};

/// Slower than the default, as tests run without optimisation beside others.
const CONFIG: &str = r#"
[collector.burst]
interval = "5ms"
metrics = ["network", "disk"]
[collector.system]
interval = "20ms"
metrics = ["cpu", "memory"]
[collector.slow]
interval = "1s"
metrics = ["host", "process"]
"#;

/// What a command says, which ends with this exit code.
fn told(arguments: &[&str], code: i32) -> String {
    let output = command(arguments).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    told
}

/// All rows of a table in this window, in an order that does not depend on who is asked.
fn all(table: &str, (from, to): (i64, i64), source: [&str; 2]) -> Vec<Value> {
    let within = format!("time >= to_timestamp_micros({from}) AND time < to_timestamp_micros({to})");
    let sql = format!("SELECT * FROM {table} WHERE {within}");
    let mut all = rows(&["query", &sql, source[0], source[1], "--format", "json"]);
    all.sort_by_cached_key(Value::to_string);
    all
}

/// A daemon that has rows in files and rows in its journal, and a window that has some of both and not all of either.
fn recorded(folder: &Path) -> (Daemon, (i64, i64)) {
    let daemon = Daemon::start(folder, CONFIG);
    let newest = "SELECT CAST(min(time) AS BIGINT) AS first, CAST(max(time) AS BIGINT) AS last FROM cpu";
    let deadline = Instant::now() + PATIENCE;
    let mut flushed_us = None;
    loop {
        assert!(Instant::now() < deadline, "too little is recorded");
        let found = daemon.query(newest);
        let times = found.first().and_then(|row| row["first"].as_i64().zip(row["last"].as_i64()));
        match (times, flushed_us) {
            (Some((first, last)), None) if last - first > 1_500_000 => {
                told(&["flush", "--address", &daemon.address], 0);
                flushed_us = Some(last);
            }
            (Some((first, last)), Some(flushed)) if last - flushed > 2_000_000 => {
                return (daemon, (first + 400_000, last - 400_000));
            }
            _ => thread::sleep(Duration::from_millis(50)),
        }
    }
}

#[test]
fn an_export_has_each_row_of_its_time_once_and_a_report_is_made_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (daemon, window) = recorded(folder.path());
    let tables = ["network", "cpu", "memory", "host", "process", "collector"];
    let expected = tables.map(|table| all(table, window, ["--address", &daemon.address]));
    assert!(expected.iter().take(3).all(|rows| rows.len() > 20), "{:?}", expected.each_ref().map(Vec::len));

    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let time = |us: i64| jiff::Timestamp::from_microsecond(us).unwrap().to_string();
    let (from, to, data) = (time(window.0), time(window.1), path("data"));
    let arguments = ["export", "--from", &from, "--to", &to];
    let export = |source: &[&str]| told(&[&arguments[..], source].concat(), 0);
    let (asked, read, killed) = (path("asked"), path("read"), path("killed"));
    export(&["--address", &daemon.address, "-o", &asked]);
    let said = export(&["--data", &data, "-o", &read]);
    // Its newest rows are in the journal only.
    drop(daemon);
    export(&["--data", &data, "-o", &killed]);
    let always = (0, i64::MAX / 4);
    for exported in [&asked, &read, &killed] {
        for (table, expected) in tables.iter().zip(&expected) {
            let found = all(table, always, ["--data", exported]);
            assert!(found == *expected, "{exported}: {table} has {} rows, not {}", found.len(), expected.len());
        }
        let verified = told(&["verify", exported], 0);
        assert!(verified.contains("0 segments") && !verified.contains("WRONG"), "{verified}");
    }
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains(" tables, ") && last.contains(" rows, ") && last.contains(&from[..19]), "{said}");
    // Numbers are those of the folder, so files of a later export fit in between.
    let numbers = |folder: &str| names(Path::new(folder), "network");
    assert_eq!(numbers(&read), numbers(&killed));
    assert!(Path::new(&read).join("HOST").is_file());

    // What has no rows is refused with the time of those that are there, and what has not come yet is not waited for.
    for (from, to) in [("2001-01-01", "2001-01-02"), ("2099-01-01", "2099-01-02")] {
        let empty = path("empty");
        let refused = told(&["export", "--from", from, "--to", to, "--data", &data, "-o", &empty], 1);
        assert!(refused.contains("nothing was recorded in this time: there are rows from 20"), "{refused}");
        assert!(!Path::new(&empty).exists());
    }
    let future = path("future");
    told(&["export", "--from", &from, "--to", "2099-01-01", "--data", &data, "-o", &future], 0);

    let (report, top) = (path("report.html"), told(&["top", "--data", &read, "--once"], 0));
    assert!(top.contains("CPU"), "{top}");
    let said = told(&["report", &read, "-o", &report], 0);
    assert!(said.contains("every row of "), "{said}");
    let page = fs::read_to_string(&report).unwrap();
    assert!(page.contains("content=\"default-src 'none'; script-src 'sha256-"), "it may load something");
    assert!(page.contains("id=\"rows:network:rx_bytes\"") && page.contains("id=\"rows:process:cpu_ratio\""));

    // What does not fit is refused, and the report that was there stays.
    let refused = told(&["report", &read, "-o", &report, "--size-max", "10KB"], 1);
    assert!(refused.contains("name a shorter time with --last"), "{refused}");
    assert!(fs::read_to_string(&report).unwrap() == page && !Path::new(&(report.clone() + ".partial")).exists());
}

/// The names of the files of a table.
fn names(folder: &Path, table: &str) -> Vec<String> {
    let (mut waiting, mut found) = (vec![folder.join("lake").join(table)], Vec::new());
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn what_cannot_be_exported_or_reported_is_refused_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (full, new, data) = (path("full"), path("new"), path("data"));
    fs::create_dir_all(format!("{full}/some")).unwrap();
    let (within, killed) = (path("data/new"), path("killed"));
    fs::create_dir_all(format!("{killed}/.lake.unready")).unwrap();
    fs::create_dir_all(format!("{data}/lake")).unwrap();
    for (arguments, code, part) in [
        (vec!["export", "--data", &data, "-o", &new], 2, "name the time: --last 5m, or --from and --to"),
        (vec!["export", "--last", "5m", "--data", &data, "-o", &full], 1, "is not empty; name a new folder with -o"),
        (vec!["export", "--last", "5m", "--data", &data, "-o", &new], 1, "holds no rows"),
        (vec!["export", "--last", "5m", "--data", &full, "-o", &new], 1, "lake"),
        (vec!["export", "--last", "5m", "--table", "netwrk", "-o", &new], 2, "did you mean `network`?"),
        (vec!["export", "--last", "5m", "--address", "127.0.0.1:1", "-o", &new], 69, "no daemon answers"),
        (vec!["export", "--last", "5m", "-o", "-"], 2, "an export is a folder, which stdout cannot take"),
        (vec!["export", "--last", "5m", "--data", &data, "-o", &within], 2, "is within"),
        (vec!["export", "--last", "5m", "--data", &data, "-o", &killed], 1, "of an export that was killed"),
        (vec!["report", "-o", &new], 2, "name a data folder, or a time of the daemon's"),
        (vec!["report", &data, "-o", &new], 1, "holds no rows"),
    ] {
        let told = told(&arguments, code);
        assert!(told.contains(part), "{arguments:?}: {told}");
        assert!(!Path::new(&new).exists(), "{arguments:?} left something behind");
    }
}

#[test]
fn an_export_that_is_ended_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (daemon, (from, _)) = recorded(folder.path());
    let from = jiff::Timestamp::from_microsecond(from).unwrap().to_string();
    for (signal, ends_by) in [(Signal::TERM, (None, Some(15))), (Signal::INT, (Some(130), None))] {
        // A daemon that stands still does not answer, so the export is under way.
        daemon.signal(Signal::STOP);
        let out = folder.path().join("out");
        let mut child =
            command(&["export", "--from", &from, "--address", &daemon.address, "-o", out.to_str().unwrap()])
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !out.join(".lake.unready").exists() {
            assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "it did not begin");
            thread::sleep(Duration::from_millis(5));
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        daemon.signal(Signal::CONT);
        assert_eq!((status.code(), status.signal()), ends_by);
        assert!(!out.exists(), "{signal:?} left something behind");
    }
}
