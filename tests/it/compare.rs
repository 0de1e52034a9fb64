//! `kymo compare`: what it says of one recording, and when it refuses. What it finds is checked beside the code, with simulated loads,
//! and by `tests/clients/check_compare.py`, with real ones.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::running::command;

fn compare(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        command(&[&["compare"], arguments].concat()).current_dir(folder).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_recording_does_not_differ_from_itself() {
    let folder = tempfile::tempdir().unwrap();
    let recorded = |name: &str, seconds: &str| {
        let arguments = ["record", "-q", "-o", name, "--", "sleep", seconds];
        assert!(command(&arguments).current_dir(folder.path()).status().unwrap().success());
    };
    recorded("one", "5");
    recorded("short", "0.1");
    let (code, out, err) = compare(folder.path(), &["one", "one"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(
        out.ends_with(": nothing differs by more than noise\n") && out.contains(" series in 16 and 16 blocks of "),
        "{out}"
    );
    let (code, out, _) = compare(folder.path(), &["one", "one", "--format", "csv", "--tables", "cpu,network"]);
    assert_eq!(code, Some(0));
    assert_eq!(out, "what,rank,table,series,column,figure,a,b,change,noise,unit,surprise\n");

    let refused = |arguments: &[&str], why: &str| {
        let (code, out, err) = compare(folder.path(), arguments);
        assert!(code == Some(2) && out.is_empty() && err.contains(why), "{arguments:?}: {code:?} {out}{err}");
    };
    refused(&["one"], "compare takes two folders, or one with two times of it");
    refused(&["one", "short"], "tells too little");
    refused(&["one", "none"], "holds no recordings");
    refused(&["one", "one", "--a", "14:00"], "expected FROM..TO");
    refused(&["one", "one", "--a", "2026-01-01 10:00..2026-01-01 09:00"], "ends before it begins");
    refused(&["one", "one", "--a", "2026-01-01 10:00..2026-01-01 11:00"], "has no rows from 2026-01-01T");
    refused(&["one", "one", "--host", "other"], "has no rows of the host other");
    refused(&["one", "one", "--tables", "cpus"], "did you mean `cpu`?");
}

#[test]
fn what_was_planted_is_named() {
    let folder = tempfile::tempdir().unwrap();
    // A shell under a name that nothing else has, which takes as much of a CPU as it can get.
    fs::copy("/bin/sh", folder.path().join("planted")).unwrap();
    for (name, run) in
        [("idle", &["sleep", "8"][..]), ("busy", &["timeout", "8", "./planted", "-c", "while :; do :; done"])]
    {
        let arguments = [&["record", "-q", "-o", name, "--"], run].concat();
        command(&arguments).current_dir(folder.path()).status().unwrap();
    }
    let (code, out, err) = compare(folder.path(), &["idle", "busy", "--format", "json", "--tables", "process"]);
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let planted = rows.iter().find(|row| row["series"] == "planted").unwrap_or_else(|| panic!("{out}"));
    let used = planted["b"].as_f64().unwrap();
    assert!(planted["column"] == "cpu_user_us" && (1e5..1.1e6).contains(&used), "{planted}");
}
