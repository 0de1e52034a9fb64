//! The program as a user runs it: what it records can be queried at once, survives SIGTERM, and is there once.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::running::{Daemon, PATIENCE, command, rows};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

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
metrics = ["host", "filesystem"]
"#;

/// A daemon that is killed and started under another name shows the rows of both, each under its own.
#[test]
fn rows_keep_the_host_that_recorded_them() {
    let named = |host: &str| format!("{CONFIG}[storage]\nhost = '{host}'\n");
    let folder = tempfile::tempdir().unwrap();
    let hosts = "SELECT host, count(*) AS n, increase(rx_bytes, time) >= 0 AS grows FROM network WHERE interface = 'lo' \
                 GROUP BY host ORDER BY 1";
    let alpha = Daemon::start(folder.path(), &named("alpha"));
    let deadline = Instant::now() + PATIENCE;
    while alpha.query(hosts).is_empty() {
        assert!(Instant::now() < deadline, "nothing is recorded");
    }
    // Killed: its rows are in the journal only.
    drop(alpha);
    let beta = Daemon::start(folder.path(), &named("beta"));
    let found = loop {
        let found = beta.query(hosts);
        if found.len() == 2 && found[1]["n"].as_i64() > Some(1) {
            break found;
        }
        assert!(Instant::now() < deadline, "{found:?}");
    };
    assert!(found[0]["host"] == "alpha" && found[1]["host"] == "beta", "{found:?}");
    assert_eq!((&found[1]["grows"], found[0]["n"].as_i64() > Some(0)), (&Value::Bool(true), true), "{found:?}");
    let first = "SELECT DISTINCT host FROM cpu WHERE host = 'alpha' AND time < now()";
    assert_eq!(beta.query(first).len(), 1);
    beta.terminate();

    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let offline = rows(&["query", hosts, "--format", "json", "--data", data]);
    assert_eq!((offline.len(), &offline[0]), (2, &found[0]));
    let both = "SELECT interface, increase(rx_bytes, time) FROM network GROUP BY interface";
    let refused = command(&["query", both, "--data", data]).output().unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && told.contains("GROUP BY host"), "{told}");
}

/// For each family whether there are as many rows as ticks × labels, as of its collector's newest report.
fn completeness(query: impl Fn(&str) -> Vec<Value>) {
    let families = [
        ("network", "interface", "burst"),
        ("disk", "device", "burst"),
        ("cpu", "cpu", "system"),
        ("memory", "'-'", "system"),
        ("host", "'-'", "slow"),
        ("filesystem", "mountpoint", "slow"),
    ];
    for (table, label, collector) in families {
        let found = query(&format!(
            "WITH newest AS (SELECT ticks, time FROM collector WHERE collector = '{collector}' ORDER BY time DESC LIMIT 1)
             SELECT count(*) AS found, count(DISTINCT {label}) AS labels, max(newest.ticks) AS ticks
             FROM {table} JOIN newest ON {table}.time <= newest.time"
        ));
        let number = |name: &str| found[0][name].as_i64().unwrap_or_default();
        assert!(number("ticks") > 0, "{table}: {found:?}");
        assert_eq!(number("found"), number("ticks") * number("labels"), "{table}: {found:?}");
    }
}

#[test]
fn what_is_recorded_is_there_once_before_and_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    let deadline = Instant::now() + PATIENCE;
    let reported = "SELECT count(*) AS n FROM (SELECT DISTINCT collector FROM collector)";
    while daemon.query(reported)[0]["n"].as_i64() != Some(3) {
        assert!(Instant::now() < deadline, "not all collectors reported");
    }
    completeness(|sql| daemon.query(sql));

    let newest = "SELECT arrow_cast(max(time), 'Int64') AS time, count(*) AS n FROM network";
    let before = daemon.query(newest);
    let until = before[0]["time"].as_i64().unwrap();
    let bounded =
        format!("SELECT count(*) AS n, sum(rx_bytes) AS bytes FROM network WHERE time <= to_timestamp_micros({until})");
    let before = daemon.query(&bounded);
    daemon.terminate();

    let data = folder.path().join("data");
    let offline = |sql: &str| rows(&["query", sql, "--format", "json", "--data", data.to_str().unwrap()]);
    assert_eq!(offline(&bounded), before);
    completeness(offline);

    let again = Daemon::start(folder.path(), CONFIG);
    assert_eq!(again.query(&bounded), before);
    let deadline = Instant::now() + PATIENCE;
    let more = format!("SELECT count(*) AS n FROM network WHERE time > to_timestamp_micros({until})");
    while again.query(&more)[0]["n"].as_i64().unwrap() < 10 {
        assert!(Instant::now() < deadline, "nothing new is recorded");
    }
    again.terminate();
}

/// A view of the configuration is there for the daemon's clients, for queries of files, and in lists of tables.
#[test]
fn a_view_of_the_configuration_is_used_like_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let view = "[view.ticks_of]\nsql = \"SELECT collector, max(ticks) AS most FROM collector GROUP BY collector\"\n\
                doc = \"The ticks of each collector.\"\n";
    let daemon = Daemon::start(folder.path(), &format!("{CONFIG}{view}"));
    let deadline = Instant::now() + PATIENCE;
    let sql = "SELECT collector FROM ticks_of WHERE most > 0 ORDER BY 1";
    while daemon.query(sql).len() < 3 {
        assert!(Instant::now() < deadline, "not all collectors reported");
    }
    let told = "SELECT table_comment AS doc FROM information_schema.tables WHERE table_type = 'VIEW'";
    assert_eq!(daemon.query(told)[0]["doc"], "The ticks of each collector.");
    let expected = daemon.query(sql);
    daemon.terminate();

    let (config, data) = (folder.path().join("kymo.toml"), folder.path().join("data"));
    let (config, data) = (config.to_str().unwrap(), data.to_str().unwrap());
    assert_eq!(rows(&["query", sql, "--format", "json", "--data", data, "-c", config]), expected);
    let listed = command(&["tables", "ticks_of", "-c", config]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("The ticks of each collector.") && listed.contains("most"), "{listed}");
}

#[test]
fn a_log_as_json_has_an_object_a_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("kymo.toml"), format!("{CONFIG}[log]\nformat = 'json'\n")).unwrap();
    let (config, data) = (folder.path().join("kymo.toml"), folder.path().join("data"));
    let paths = [config.to_str().unwrap(), data.to_str().unwrap()];
    let mut run = command(&["run", "--config", paths[0], "--data", paths[1], "--address", "127.0.0.1:0"]);
    run.env("KYMO_HTTP__ADDRESS", "127.0.0.1:0").stderr(Stdio::piped());
    let mut child = run.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut told: Vec<Value> = Vec::new();
    while !told.iter().any(|line| line["collector"] == "slow") {
        told.push(serde_json::from_str(&lines.next().unwrap()).unwrap());
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    told.extend(lines.map(|line| serde_json::from_str::<Value>(&line).unwrap()));
    assert!(child.wait().unwrap().success());
    let is_whole = |line: &Value| ["timestamp", "level", "target", "message"].iter().all(|key| line[key].is_string());
    assert!(told.iter().all(is_whole), "{told:?}");
}

#[test]
fn a_second_daemon_is_told_who_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    let data = folder.path().join("data");
    let second = command(&["run", "--address", "127.0.0.1:0", "--data", data.to_str().unwrap()]).output().unwrap();
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("pid {}", daemon.child.id())) && told.contains("in use"), "{told}");
    daemon.terminate();
}

/// All counts that `kymo status` shows of collectors and of losses, by the collector's name and the count's.
fn counts(daemon: &Daemon) -> BTreeMap<String, i64> {
    let output = command(&["status", "--format", "json", "--address", &daemon.address]).output().unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut counts = BTreeMap::new();
    let mut add = |of: &str, values: &Value, names: &[&str]| {
        for name in names {
            counts.insert(format!("{of} {name}"), values[*name].as_i64().unwrap());
        }
    };
    for one in status["collectors"].as_array().unwrap() {
        let names = ["scheduled_ticks", "ticks", "missed_ticks", "pushed_records", "dropped_records", "failed_reads"];
        add(one["name"].as_str().unwrap(), one, &names);
    }
    add("lost", &status["losses"], &["missed_ticks", "dropped_records"]);
    counts
}

#[test]
fn no_count_goes_down_while_collectors_are_retuned_and_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    let deadline = Instant::now() + PATIENCE;
    // While the process stands still, ticks are missed.
    for signal in [Signal::STOP, Signal::CONT] {
        kill_process(Pid::from_child(&daemon.child), signal).unwrap();
        thread::sleep(Duration::from_millis(200));
    }
    let mut before = counts(&daemon);
    while before["lost missed_ticks"] == 0
        || ["burst ticks", "system ticks", "slow ticks"].iter().any(|of| before[*of] == 0)
    {
        assert!(Instant::now() < deadline, "not all collectors reported: {before:?}");
        before = counts(&daemon);
    }
    for (change, running) in [
        (&["set", "burst", "--interval", "7ms"][..], &["burst", "slow", "system"][..]),
        (&["set", "system", "--metrics", "cpu"], &["burst", "slow", "system"]),
        (&["stop", "burst"], &["slow", "system"]),
        (&["start", "burst", "--interval", "5ms", "--metrics", "network"], &["slow", "system"]),
    ] {
        let output = command(&[&["collector"], change, &["--address", &daemon.address]].concat()).output().unwrap();
        assert!(output.status.success(), "{change:?}: {}", String::from_utf8_lossy(&output.stderr));
        // Until all of them have reported anew.
        let at_change = before.clone();
        loop {
            let now = counts(&daemon);
            for (name, count) in &now {
                // A collector that is started anew counts from zero.
                let is_new = change[0] == "start" && name.starts_with("burst");
                let least = if is_new { 0 } else { before.get(name).copied().unwrap_or(0) };
                assert!(*count >= least, "{change:?}: {name} went from {least} to {count}");
            }
            assert!(now["lost missed_ticks"] > 0);
            let has_grown = |name: &&str| now[&format!("{name} ticks")] > at_change[&format!("{name} ticks")];
            let all = running.iter().all(has_grown);
            before = now;
            if all {
                break;
            }
            assert!(Instant::now() < deadline, "{change:?}: not all collectors reported: {before:?}");
        }
    }
    daemon.terminate();
}

#[test]
fn rows_are_drained_at_the_interval_after_many_queries() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &format!("{CONFIG}\n[storage]\ndrain_interval = '1s'\n"));
    // Each has the rings drained. The next regular drain is due within a second all the same, and not a second later for
    // each of them.
    let (queried, mut queries) = (Instant::now(), 0);
    while Duration::from_secs(queries).saturating_sub(queried.elapsed()) < Duration::from_secs(15) {
        assert!(queried.elapsed() < PATIENCE, "{queries} queries took too long to show anything");
        daemon.query("SELECT 1");
        queries += 1;
    }
    let journaled = || -> u64 {
        let segments = fs::read_dir(daemon.data.join("journal")).unwrap().map(Result::unwrap);
        segments.filter_map(|segment| Some(segment.metadata().ok()?.len())).sum()
    };
    // The first growth may be that of the last query's drain.
    let asked = Instant::now();
    for _ in 0..2 {
        let before = journaled();
        while journaled() == before {
            assert!(asked.elapsed() < Duration::from_secs(10), "nothing was drained");
            thread::sleep(Duration::from_millis(50));
        }
    }
    daemon.terminate();
}

/// A program that runs kymo as an ordinary user, if this test is run by root, and a folder that this user may write to.
fn as_ordinary_user(folder: &Path) -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_kymo"));
    if !rustix::process::geteuid().is_root() {
        return program;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    // The folder of the build may be closed to others.
    let copy = folder.join("kymo");
    fs::copy(program, &copy).unwrap();
    let script = folder.join("kymo-as-nobody");
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    fs::write(&script, format!("#!/bin/sh\nexec {nobody} {} \"$@\"\n", copy.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

#[test]
fn an_ordinary_user_is_told_what_kymo_may_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let program = as_ordinary_user(folder.path());
    let config = "[collector.slow]\ninterval = '1s'\nmetrics = ['process', 'host']\n[process]\npinned = [1]\n";
    let daemon = Daemon::start_program(&program, folder.path(), config);
    let deadline = Instant::now() + PATIENCE;
    let partial = || daemon.status()["collectors"][0]["partial"].clone();
    while partial() == serde_json::json!([]) {
        assert!(Instant::now() < deadline, "{}", daemon.status());
    }
    let (partial, told) = (partial(), partial().to_string());
    assert_eq!((partial.as_array().map(Vec::len), &partial[0]["family"]), (Some(1), &"process".into()));
    assert!(told.contains("read_bytes and write_bytes are absent for ") && told.contains("CAP_SYS_PTRACE"), "{told}");
    // That is no fault of the daemon.
    assert_eq!(daemon.status()["degraded"], false);
    let first = daemon.query("SELECT count(*) AS rows, count(read_bytes) AS known FROM process WHERE pid = 1");
    assert!(first[0]["rows"].as_i64() > Some(0) && first[0]["known"] == 0, "{first:?}");
    daemon.terminate();
}
