//! `kymo plot`: images of the rows of a query.

use std::fs;
use std::path::Path;
use std::process::Output;

use super::running::command;

/// Three lines of a minute and a half.
const ROWS: &str = "SELECT TIMESTAMPTZ '2026-11-25 14:00:00Z' + n * interval '1 second' AS time, 'line' || (n % 3) AS name, \
                    n * 1000 AS rx_bytes FROM generate_series(0, 90) AS t(n)";

fn plot(folder: &Path, arguments: &[&str]) -> Output {
    fs::create_dir_all(folder.join("data/lake")).unwrap();
    command(&[&["plot", "--data", "data"], arguments].concat()).current_dir(folder).output().unwrap()
}

#[test]
fn rows_become_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["-o", "out.svg", "--title", "Bytes & more", "--size", "800x300", "--theme", "dark"];
    let output = plot(folder.path(), &[&arguments[..], &[ROWS]].concat());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.is_empty(), "{told}");
    let image = fs::read_to_string(folder.path().join("out.svg")).unwrap();
    assert!(image.starts_with("<svg width=\"800\" height=\"300\"") && image.trim_end().ends_with("</svg>"), "{image}");
    for part in ["Bytes &amp; more", "line0", "line1", "line2", "KiB", "14:00:00", "25 Nov 2026"] {
        assert!(image.contains(part), "{part}: {image}");
    }
    let output = plot(folder.path(), &["-o", "out.png", ROWS]);
    assert!(output.status.success());
    let image = fs::read(folder.path().join("out.png")).unwrap();
    assert!(image.starts_with(b"\x89PNG") && image[16..24] == [0, 0, 4, 176, 0, 0, 1, 244], "1200 by 500");
    let output = plot(folder.path(), &["-o", "-", ROWS]);
    assert!(output.stdout.starts_with(b"<svg width=\"1200\""));
    let many = "SELECT now() AS time, 'line' || n AS name, n FROM generate_series(1, 20) AS t(n)";
    let output = plot(folder.path(), &["-o", "many.svg", many]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("drew the 7 lines with the greatest values, and left out 13 lines"), "{told}");
    assert!(fs::read_to_string(folder.path().join("many.svg")).unwrap().contains("and 13 more"));
}

#[test]
fn what_cannot_be_drawn_is_refused_and_leaves_the_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("old.svg"), "old").unwrap();
    for (sql, why) in [
        ("SELECT 1 AS a, 2 AS b", "has no column of times to draw along, only a, b"),
        ("SELECT now() AS time, 'x' AS name", "has no column of numbers to draw"),
        ("SELECT now() AS time, 1 AS value WHERE false", "has no rows with a time and a number"),
        ("SELECT now() AS time, n::text, n FROM generate_series(1, 2000) AS t(n)", "has more than 1000 lines"),
        ("SELECT nothing", "nothing"),
    ] {
        let output = plot(folder.path(), &["-o", "old.svg", sql]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && told.contains(why), "{sql}: {told}");
        assert_eq!(fs::read_to_string(folder.path().join("old.svg")).unwrap(), "old");
    }
    let output = plot(folder.path(), &["-o", "out.pdf", ROWS]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && told.contains("ends in .svg or .png"), "{told}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "the data folder and the old file");
}
