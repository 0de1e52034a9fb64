//! The newest rows: `<table>_last`, and tails, from outside.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::running::{Daemon, PATIENCE, command, rows};

const MEMORY: &str = "[collector.fast]\ninterval = \"100ms\"\nmetrics = [\"memory\"]\n";
const NETWORK: &str = "[collector.burst]\ninterval = \"1ms\"\nmetrics = [\"network\"]\n";
const HOST: &str = "[collector.slow]\ninterval = \"1s\"\nmetrics = [\"host\"]\n";

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

fn wait_for_rows(daemon: &Daemon, table: &str) {
    let deadline = Instant::now() + PATIENCE;
    while number(&daemon.query(&format!("SELECT count(*) AS n FROM {table}"))[0]["n"]) == 0 {
        assert!(Instant::now() < deadline, "{table} has no rows");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_newest_row_of_each_series_is_of_the_same_moment_and_outlives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), NETWORK);
    wait_for_rows(&daemon, "network");
    // In one statement, so of one moment.
    let differing = "SELECT count(*) AS n FROM network_last l
        FULL JOIN (SELECT interface, max(time) AS time FROM network GROUP BY interface) r USING (interface, time)
        WHERE l.rx_bytes IS NULL OR r.time IS NULL";
    for _ in 0..5 {
        assert_eq!(number(&daemon.query(differing)[0]["n"]), 0);
    }
    let newest = "SELECT interface, time, rx_bytes FROM network_last ORDER BY interface";
    assert!(!daemon.query(newest).is_empty());
    drop(daemon);
    // Recovered rows, then a file.
    for _ in 0..2 {
        let daemon = Daemon::start(folder.path(), HOST);
        assert_eq!(number(&daemon.query(differing)[0]["n"]), 0);
        assert!(!daemon.query(newest).is_empty());
        daemon.terminate();
    }
    let data = folder.path().join("data");
    let read = |sql: &str| rows(&["query", sql, "--format", "json", "--data", data.to_str().unwrap()]);
    assert_eq!(number(&read(differing)[0]["n"]), 0);
    assert!(!read(newest).is_empty());
}

fn tail(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = command(&["tail"]);
    command.args(arguments).args(["--address", &daemon.address, "--format", "json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn lines(child: Child) -> Vec<Value> {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_tail_has_each_row_once_from_its_first_to_its_last() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), NETWORK);
    wait_for_rows(&daemon, "network");
    let columns = ["--columns", "time,interface,rx_bytes"];
    for first in [["--last", "50"], ["--since", "2s"]] {
        let of_lo = ["network", "--where", "interface = 'lo'", "--rows", "1000"];
        let tails = [&of_lo[..], &columns, &first].concat();
        let tails: Vec<Child> = (0..3).map(|_| tail(&daemon, &tails).spawn().unwrap()).collect();
        for told in tails.into_iter().map(lines) {
            assert_eq!(told.len(), 1_000);
            let time = |row: &Value| row["time"].as_str().unwrap().to_owned();
            let sql = format!(
                "SELECT time, interface, rx_bytes FROM network
                 WHERE interface = 'lo' AND time BETWEEN '{}' AND '{}' ORDER BY time",
                time(&told[0]),
                time(&told[999])
            );
            assert_eq!(daemon.query(&sql), told);
        }
    }
}

#[test]
fn a_tail_that_ends_its_worker_ends_alone() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), NETWORK);
    wait_for_rows(&daemon, "network");
    // For longer than the others take.
    let rows = ["network", "--last", "1", "--columns", "time", "--where", "interface = 'lo'", "--rows", "5000"];
    let mut good = tail(&daemon, &rows).spawn().unwrap();
    let mut told = BufReader::new(good.stdout.take().unwrap()).lines();
    let mut read = vec![told.next().unwrap().unwrap()];
    let bad = |filter: &str, text: &str| {
        let output = tail(&daemon, &["network", "--last", "0", "--where", filter]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(text), "{filter}: {error}");
    };
    bad("array_length(range(0, 100000000 + rx_bytes % 2)) > 1", "memory");
    // Its worker is killed.
    bad("levenshtein(repeat(interface, 9000), repeat(interface, 8999)) > 0", "longer than 2 s");
    bad("interface = nothing", "nothing");
    bad("rx_bytes = (SELECT max(rx_bytes) FROM network)", "looks at one row");
    read.extend(told.map(Result::unwrap));
    assert!(good.wait().unwrap().success());
    let told: Vec<Value> = read.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (first, last) = (told[0]["time"].as_str().unwrap(), told[4_999]["time"].as_str().unwrap());
    let sql =
        format!("SELECT count(*) AS n FROM network WHERE interface = 'lo' AND time BETWEEN '{first}' AND '{last}'");
    assert_eq!(number(&daemon.query(&sql)[0]["n"]), 5_000);
}

#[test]
fn a_tail_says_what_is_wrong_with_it_in_its_users_words() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), MEMORY);
    for (arguments, text) in [
        (["--where", "true) OR (true"], "it ends before `)` at Line: 1, Column: 5"),
        (["--where", "total_bytes = = 1"], "Line: 1, Column: 15"),
        (["--since", "9999-01-01"], "give one that has passed"),
    ] {
        let output = tail(&daemon, &[&["memory"], &arguments[..]].concat()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(text), "{arguments:?}: {error}");
    }
    let mut waiting = tail(&daemon, &["power"]).spawn().unwrap();
    let said = BufReader::new(waiting.stderr.take().unwrap()).lines().next().unwrap().unwrap();
    assert!(said.contains("no collector records power"), "{said}");
    waiting.kill().unwrap();
    waiting.wait().unwrap();
}

#[test]
fn a_tail_of_a_table_for_people_has_aligned_columns() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), MEMORY);
    wait_for_rows(&daemon, "memory");
    let arguments = ["tail", "memory", "--columns", "time,total_bytes", "--rows", "5", "--address", &daemon.address];
    let output = command(&arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 7, "{text}");
    assert!(lines[0].starts_with("time") && lines[0].ends_with("total_bytes"), "{text}");
    assert!(lines[2..].iter().all(|line| line.len() == lines[0].len()), "{text}");
    daemon.signal(Signal::TERM);
}
