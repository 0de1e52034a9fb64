//! `kymo record`: the command runs and ends as it would without kymo, and its recording has what happened.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

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
    let plain = folder.path().join("plain");
    fs::write(&plain, "echo $0 $1\n").unwrap();
    fs::set_permissions(&plain, Permissions::from_mode(0o755)).unwrap();
    let without_interpreter = start(&["-q", "-o", "plain-out", "--", "./plain", "first"]);
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
    let killed = killed.wait_with_output().unwrap();
    assert_eq!((killed.status.signal(), told(&killed)), (Some(9), String::new()));
    let plain = without_interpreter.wait_with_output().unwrap();
    assert_eq!((plain.status.code(), plain.stdout.as_slice()), (Some(0), &b"./plain first\n"[..]), "{}", told(&plain));
    let (code, told) = end(missing);
    assert!(code == Some(127) && told.starts_with("kymo: run ./no-such-command: "), "{code:?} {told}");
    assert!(!folder.path().join("missing").exists(), "a folder without a recording is left behind");
    let (code, told) = end(refused);
    assert!(code == Some(126) && told.starts_with("kymo: run ./script: "), "{code:?} {told}");
    assert!(folder.path().join("killed/lake").is_dir());
}

#[test]
fn ctrl_c_ends_a_loop_around_it() {
    let folder = tempfile::tempdir().unwrap();
    // A shell goes on with its loop unless its command died of SIGINT.
    let script = "for turn in 1 2; do \"$KYMO\" record -- sh -c 'echo began; exec sleep 60'; done; echo after";
    let program = command(&[]).get_program().to_owned();
    // Whoever started the tests may ignore Ctrl-C, as a job in the background does. The command goes by itself after a minute.
    let mut shell = Command::new("env");
    shell.args(["--default-signal=INT", "bash", "-c", script]);
    shell.env("KYMO", program).current_dir(folder.path()).process_group(0);
    let mut shell = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(shell.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "began\n");
    // As the terminal sends it: to all processes of the group.
    kill_process_group(Pid::from_child(&shell), Signal::INT).unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    let ended = shell.wait_with_output().unwrap();
    let told = told(&ended);
    assert_eq!((ended.status.signal(), rest.as_str()), (Some(2), ""), "{told}");
    // The peaks are told all the same.
    assert!(told.contains("kymo: recorded ") && told.contains("signal: 2 (SIGINT)"), "{told}");
}

#[test]
fn a_recording_that_was_cut_says_so_and_can_be_completed() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder =
        record(folder.path(), &["-o", "cut", "--", "sh", "-c", "echo began; sleep 1; echo later; sleep 60"]);
    let mut recorder = recorder.process_group(0).spawn().unwrap();
    let mut lines = BufReader::new(recorder.stdout.take().unwrap()).lines();
    let data = folder.path().join("cut");
    let data = data.to_str().unwrap();
    let query = || {
        command(&["query", "--data", data, "--format", "json", "SELECT count(*) AS rows FROM cpu"]).output().unwrap()
    };
    let flush = || command(&["flush", "--data", data]).output().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "began");
    assert_eq!(lines.next().unwrap().unwrap(), "later");
    // While it records, a daemon may have the rows, and the folder is in use.
    let running = query();
    assert!(told(&running).contains("only in the journal left out; query the daemon"), "{}", told(&running));
    let refused = flush();
    assert!(refused.status.code() == Some(1) && told(&refused).contains("is in use by"), "{}", told(&refused));
    kill_process_group(Pid::from_child(&recorder), Signal::KILL).unwrap();
    recorder.wait().unwrap();
    let cut = query();
    let advice =
        format!("the recording was cut off before they were written to files; `kymo flush --data {data}` does so");
    assert!(told(&cut).contains(&advice), "{}", told(&cut));
    let written = flush();
    assert!(written.status.success() && written.stdout.starts_with(b"wrote "), "{}", told(&written));
    let whole = query();
    assert_eq!(told(&whole), "");
    let rows: serde_json::Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert!(rows["rows"].as_i64().unwrap() >= 20, "{rows}");
    assert!(command(&["verify", data]).output().unwrap().status.success());
    let none = command(&["flush", "--data", "no-such-folder"]).current_dir(folder.path()).output().unwrap();
    assert!(none.status.code() == Some(1) && told(&none).contains("holds no recordings"), "{}", told(&none));
    assert!(!folder.path().join("no-such-folder").exists());
}
