//! `kymo export`: the rows of a stretch of time, exactly, as a folder of their own.

use std::path::Path;

use serde_json::Value;

use super::running::{Daemon, command, rows};

const CONFIG: &str =
    "[collector.fast]\ninterval = '20ms'\nmetrics = ['cpu', 'memory']\n[storage]\ndrain_interval = '20ms'\n";
/// Each row as a text, so that folders are compared value by value.
const ROWS: &str = "SELECT * FROM cpu WHERE time >= '{from}' AND time < '{to}' ORDER BY time, cpu";

fn of_folder(sql: &str, folder: &Path) -> Vec<Value> {
    rows(&["query", sql, "--data", folder.to_str().unwrap(), "--format", "json"])
}

#[test]
fn an_exported_stretch_has_the_same_rows_from_a_daemon_and_from_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    let seen = |sql: &str| daemon.query(sql);
    let deadline = std::time::Instant::now() + super::running::PATIENCE;
    while seen("SELECT count(*) >= 90 AS enough FROM cpu")[0]["enough"] != true {
        assert!(std::time::Instant::now() < deadline);
    }
    let span = seen(
        "SELECT min(time) + interval '200 milliseconds' AS a, min(time) + interval '400 milliseconds' AS b FROM cpu",
    );
    let (from, to) = (span[0]["a"].as_str().unwrap(), span[0]["b"].as_str().unwrap());
    let sql = ROWS.replace("{from}", from).replace("{to}", to);
    let expected = seen(&sql);
    assert!(!expected.is_empty());

    let output = |name: &str| folder.path().join(name);
    let export = |source: &[&str], name: &str, more: &[&str]| {
        let path = output(name);
        let arguments = [&["export", "-o", path.to_str().unwrap()], source, more].concat();
        let output = command(&arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let online = ["--address", &daemon.address];
    let data = daemon.data.to_str().unwrap().to_owned();
    let offline = ["--data", &data];
    let stretch = ["--from", from, "--to", to];
    let (code, told) = export(&online, "online", &stretch);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("kymo: exported "), "{told}");
    assert_eq!(of_folder(&sql, &output("online")), expected);
    assert_eq!(of_folder("SELECT count(*) AS n FROM cpu", &output("online"))[0]["n"], expected.len());
    assert!(!of_folder("SELECT * FROM memory", &output("online")).is_empty());
    assert!(command(&["flush", "--address", &daemon.address]).output().unwrap().status.success());
    let (code, told) = export(&offline, "offline", &[&stretch[..], &["--table", "cpu"]].concat());
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(of_folder(&sql, &output("offline")), expected);
    assert!(of_folder("SELECT * FROM memory", &output("offline")).is_empty());
    for name in ["online", "offline"] {
        let verified = command(&["verify", output(name).to_str().unwrap()]).output().unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    }
    let (code, told) = export(&online, "last", &["--last", "10m"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(of_folder(&sql, &output("last")), expected);

    let (code, told) = export(&offline, "online", &stretch);
    assert!(code == Some(1) && told.contains("online is not empty; name a new folder with -o"), "{told}");
    let (code, told) = export(&offline, "none", &["--to", "2020-01-01 00:00:00"]);
    assert!(code == Some(1) && told.contains("there are no rows before "), "{told}");
    for (more, wrong) in [
        (&["--last", "soon"][..], "--last: \"soon\" is not a duration, such as 30s, 5m or 2h"),
        (&["--from", to, "--to", from], "--from must be before --to"),
        (&["--last", "5m", "--table", "cpus"], "--table: unknown table `cpus`; did you mean `cpu`?"),
    ] {
        let (code, told) = export(&offline, "none", more);
        assert!(code == Some(2) && told.contains(wrong), "{told}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("none")), "{left:?}");
    daemon.terminate();
}
