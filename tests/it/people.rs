//! What people see: widths, numbers, colors, and how commands end.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::TempDir;

use super::running::{Daemon, PATIENCE, command};

/// A hundred thousand rows of five digits each.
const LONG: &str = "WITH t AS (SELECT * FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS v(n))
    SELECT a.n AS a, b.n AS b, c.n AS c, d.n AS d, e.n AS e FROM t a, t b, t c, t d, t e ORDER BY a, b, c, d, e";

/// A data folder without rows.
fn empty_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("data/lake")).unwrap();
    folder
}

fn in_folder(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.current_dir(folder).env_remove("NO_COLOR");
    command
}

/// A terminal of this width: our end, and the one for a program.
pub fn terminal(width: u16) -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    tcsetwinsize(&ours, Winsize { ws_row: 24, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    (ours.into(), theirs.into())
}

/// All that is written to the terminal until no program has it any more.
fn shown(mut ours: File) -> String {
    let mut text = Vec::new();
    // The last reader of a terminal that nobody has open gets an error.
    let _ = ours.read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn lines_are_no_longer_than_the_terminal_is_wide() {
    let folder = empty_folder();
    let wide = "SELECT 'a long text that fills the line' AS first_column, 'and another one that does' AS second_column";
    for arguments in
        [&["tables"][..], &["tables", "network"], &["tables", "kymo"], &["check"], &["query", "--data", "data", wide]]
    {
        for width in [80, 120] {
            let (ours, theirs) = terminal(width);
            let mut running = in_folder(folder.path(), arguments).stdout(theirs).spawn().unwrap();
            let text = shown(ours);
            assert!(running.wait().unwrap().success());
            let longest = text.lines().map(|line| line.trim_end().chars().count()).max().unwrap();
            assert!((30..=usize::from(width)).contains(&longest), "{arguments:?} at {width}: {longest}\n{text}");
        }
    }
}

#[test]
fn the_log_has_colors_on_a_terminal_unless_no_color_is_set() {
    for (value, has_colors) in [("", true), ("1", false)] {
        let folder = empty_folder();
        let (ours, theirs) = terminal(80);
        let arguments = ["run", "--address", "127.0.0.1:0", "--data", "data"];
        let mut running = in_folder(folder.path(), &arguments).env("NO_COLOR", value).stderr(theirs).spawn().unwrap();
        let mut log = String::new();
        let mut ours = ours;
        while !log.contains("gRPC on") {
            let mut bytes = [0; 4096];
            let length = ours.read(&mut bytes).unwrap();
            log += &String::from_utf8_lossy(&bytes[..length]);
        }
        running.kill().unwrap();
        running.wait().unwrap();
        assert_eq!(log.contains('\u{1b}'), has_colors, "{value:?}: {log}");
        assert!(log.contains("kymo query --address 127.0.0.1:"), "{log}");
    }
}

#[test]
fn a_reader_of_a_query_that_goes_away_is_no_error() {
    let folder = empty_folder();
    for format in ["table", "csv", "json", "arrow", "parquet"] {
        let mut command = in_folder(folder.path(), &["query", "--data", "data", "--format", format, LONG]);
        let mut running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 4];
        running.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = running.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{format}");
    }
}

#[test]
fn a_drawn_table_has_a_bound_and_numbers_for_people() {
    let folder = empty_folder();
    let output = in_folder(folder.path(), &["query", "--data", "data", LONG]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("left out 90,000 rows from the middle; --format csv"), "{stderr}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 2 + 10_001);
    assert_eq!(text.lines().last().unwrap().split_whitespace().collect::<String>(), "99999");

    let sql = "SELECT 0.07000006790006585 AS share, 25276063744 AS bytes, 2026 AS year";
    let written = |arguments: &[&str]| {
        let output = in_folder(folder.path(), arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().last().map(str::to_owned)
    };
    let table = written(&["query", "--data", "data", sql]).unwrap();
    assert_eq!(table.split_whitespace().collect::<Vec<_>>(), ["0.07", "25,276,063,744", "2026"]);
    let exact = "0.07000006790006585,25276063744,2026";
    assert_eq!(written(&["query", "--data", "data", "--format", "csv", sql]).as_deref(), Some(exact));
    assert_eq!(written(&["query", "--data", "data", "-o", "x.CSV", sql]), None);
    assert_eq!(fs::read_to_string(folder.path().join("x.CSV")).unwrap().lines().last(), Some(exact));
}

#[test]
fn a_degraded_daemon_and_an_unflushed_journal_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let quiet = "[collector.quiet]\ninterval = \"100ms\"\nmetrics = [\"memory\"]\n[storage]\nflush_interval = \"1h\"\n";
    let daemon = Daemon::start(folder.path(), quiet);
    let ask = |arguments: &[&str]| command(&[arguments, &["--address", &daemon.address]].concat()).output().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let until = |holds: &dyn Fn() -> bool| {
        while !holds() {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    until(&|| !daemon.query("SELECT 1 FROM memory").is_empty());
    let data = daemon.data.to_str().unwrap();
    until(&|| {
        let output = command(&["query", "--data", data, "SELECT * FROM memory"]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).contains("only in the journal left out")
    });
    until(&|| ask(&["status"]).status.success());
    let tables = ask(&["collector", "set", "quiet", "--metrics", "vm, tcp"]);
    assert!(String::from_utf8_lossy(&tables.stdout).contains("changed quiet"), "{tables:?}");

    fs::rename(&daemon.data, folder.path().join("away")).unwrap();
    until(&|| ask(&["status"]).status.code() == Some(1));
    let degraded = ask(&["status"]);
    assert!(String::from_utf8_lossy(&degraded.stdout).contains("DEGRADED"), "{degraded:?}");
    assert_eq!(String::from_utf8_lossy(&degraded.stderr), "kymo: the daemon is degraded\n");
}

#[test]
fn statements_that_are_piped_in_run_up_to_the_first_error() {
    let folder = empty_folder();
    let script = "SELECT 1 AS one; -- a comment;\nSELECT 'x;y'\nAS text;\nSELECT nothing; SELECT 4";
    let mut running = in_folder(folder.path(), &["sql", "--data", "data", "--format", "csv"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    running.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one\n1\ntext\nx;y\n");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.starts_with("kymo: statement 3: ") && stderr.contains("nothing"), "{stderr}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_person_types_statements_and_commands_at_the_prompt() {
    let folder = empty_folder();
    let (mut ours, theirs) = terminal(100);
    let state = folder.path().join("state");
    let mut running = in_folder(folder.path(), &["sql", "--data", "data"])
        .env("XDG_STATE_HOME", &state)
        .env("TERM", "xterm")
        .stdin(theirs.try_clone().unwrap())
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs)
        .spawn()
        .unwrap();
    let mut until = {
        let mut read = ours.try_clone().unwrap();
        move |wanted: &str| {
            let (mut text, mut bytes) = (String::new(), [0; 4096]);
            while !text.contains(wanted) {
                let length = read.read(&mut bytes).unwrap();
                text += &String::from_utf8_lossy(&bytes[..length]);
            }
            text
        }
    };
    until("kymo> ");
    // The statement goes on in the next line, and Tab completes a name.
    ours.write_all(b"SELECT 40 + 2\rAS answer;\r").unwrap();
    let text = until("1 row in ");
    assert!(text.contains("answer") && text.contains("42"), "{text}");
    ours.write_all(b"\\d softn\t\r").unwrap();
    until("time_squeezed");
    ours.write_all(b"SELECT nope;\r").unwrap();
    until("kymo: the query is not valid");
    ours.write_all(b"\\q\r").unwrap();
    assert!(running.wait().unwrap().success());
    let history = fs::read_to_string(state.join("kymo/sql_history")).unwrap();
    assert!(history.contains("SELECT 40 + 2") && history.contains("softnet"), "{history}");
}

#[test]
fn ctrl_c_ends_a_query_here_and_on_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), "[collector.quiet]\ninterval = \"1s\"\nmetrics = [\"memory\"]\n");
    let out = folder.path().join("out.csv");
    let slow =
        "SELECT max(a.value * b.value % 7) FROM generate_series(1, 1000000) AS a, generate_series(1, 1000000) AS b";
    let mut asking = command(&["query", "--address", &daemon.address, "-o", out.to_str().unwrap(), slow]);
    let running = asking.stderr(Stdio::piped()).spawn().unwrap();
    let busy = || {
        let status = daemon.status();
        let count = |key: &str| status["query_workers"][key].as_u64().unwrap_or_default();
        count("processes") - count("idle")
    };
    let until = |wanted: u64| {
        let deadline = Instant::now() + PATIENCE;
        while busy() != wanted {
            assert!(Instant::now() < deadline, "{wanted} busy workers: {}", daemon.status());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until(1);
    kill_process(Pid::from_child(&running), Signal::INT).unwrap();
    let output = running.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "kymo: interrupted\n");
    assert_eq!(output.status.code(), Some(130));
    until(0);
    assert_eq!(
        fs::read_dir(folder.path())
            .unwrap()
            .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("out")))
            .count(),
        0
    );
}
