//! `kymo record`: the command runs and ends as it would without kymo, and its recording has what happened.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::running::{command, rows};

/// `kymo record` of a command, in this folder.
fn record(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = command(&[&["record"], arguments].concat());
    command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_command_keeps_its_input_and_output_and_its_peaks_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let script = "cat; echo other >&2; sleep 2; exit 3";
    let mut child =
        record(folder.path(), &["-o", "out", "--report", "page.html", "--", "sh", "-c", script]).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from stdin").unwrap();
    let output = child.wait_with_output().unwrap();
    let told = told(&output);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), &b"from stdin"[..]), "{told}");
    assert!(told.starts_with("other\nkymo: recorded "), "{told}");
    assert!(told.contains(" into out; exit status: 3\n"), "{told}");
    // The shell, and `sleep` below it.
    for part in ["resident in 2 processes", "  cpu ", "  memory ", " % of one CPU", "kymo query --data out "] {
        assert!(told.contains(part), "{part}: {told}");
    }

    assert!(told.contains("\npage.html: ") && told.contains(", every row of "), "{told}");
    assert!(fs::read_to_string(folder.path().join("page.html")).unwrap().contains("id=\"rows:process:cpu_ratio\""));

    let out = folder.path().join("out");
    let data = out.to_str().unwrap();
    let asked = |sql: &str| rows(&["query", sql, "--data", data, "--format", "json"]);
    let sleep = asked("SELECT parent_pid, count(*) AS ticks FROM process WHERE command = 'sleep' GROUP BY parent_pid");
    let shell = asked("SELECT pid FROM process WHERE command = 'sh' GROUP BY pid, parent_pid ORDER BY pid");
    assert!(shell.iter().any(|row| sleep.iter().any(|sleep| sleep["parent_pid"] == row["pid"])), "{sleep:?} {shell:?}");
    let spans = asked("SELECT max(time) - min(time) > interval '2 seconds' AS whole FROM cpu WHERE cpu = 'total'");
    assert_eq!(spans[0]["whole"], true);
    assert!(command(&["verify", data]).output().unwrap().status.success());

    let again = record(folder.path(), &["-o", "out", "--", "true"]).output().unwrap();
    let again = (again.status.code(), String::from_utf8(again.stderr).unwrap());
    assert_eq!(again, (Some(125), "kymo: out is not empty; name a new folder with -o\n".to_owned()));
}

#[test]
fn kymo_ends_as_the_command_does() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&script, Permissions::from_mode(0o644)).unwrap();
    // All at once, as each waits for its collectors.
    let start = |arguments: &[&str]| record(folder.path(), arguments).spawn().unwrap();
    let end = |child: Child| {
        let output = child.wait_with_output().unwrap();
        (output.status.code(), told(&output))
    };
    let missing = start(&["-o", "missing", "--", "./no-such-command"]);
    let refused = start(&["-o", "refused", "--", "./script"]);
    let killed = start(&["-q", "-o", "killed", "--", "sh", "-c", "kill -KILL $$"]);
    let mut trapped = start(&[
        "-q",
        "-o",
        "trapped",
        "--",
        "sh",
        "-c",
        "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done",
    ]);
    let mut line = String::new();
    BufReader::new(trapped.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    kill_process(Pid::from_child(&trapped), Signal::TERM).unwrap();
    assert_eq!(end(trapped), (Some(7), String::new()));
    assert_eq!(end(killed), (Some(137), String::new()));
    let (code, told) = end(missing);
    assert!(code == Some(127) && told.starts_with("kymo: run ./no-such-command: "), "{code:?} {told}");
    assert!(!folder.path().join("missing").exists(), "a folder without a recording is left behind");
    let (code, told) = end(refused);
    assert!(code == Some(126) && told.starts_with("kymo: run ./script: "), "{code:?} {told}");
    assert!(folder.path().join("killed/lake").is_dir());
}
