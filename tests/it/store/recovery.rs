//! Starts after something happened to the journal.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kymo::store::disk::LocalDisk;
use kymo::store::verify::verify;
use kymo::store::{Store, StoreSettings};

use super::rows::{Running, TABLES, numbers, settings};

fn open(data: &Path) -> Running {
    Running::open(Arc::new(LocalDisk), settings(data))
}

/// A folder whose journal has the rows 0 to 30 in one segment, and that.
fn killed() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let running = open(folder.path());
    for first in [0, 10, 20] {
        running.append([first; 2], 10);
    }
    running.close();
    let segments = names(&folder.path().join("journal"));
    assert_eq!(segments, ["00000000000000000000.journal"]);
    let segment = folder.path().join("journal").join(&segments[0]);
    (folder, segment)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn rows(running: &Running) -> [usize; 2] {
    numbers(&running.store.view()).map(|numbers| numbers.len())
}

#[test]
fn what_is_in_the_journal_is_shown_flushed_and_then_forgotten() {
    let (folder, _) = killed();
    let running = open(folder.path());
    let recovery = &running.opened.recovery;
    assert_eq!((recovery.segments, recovery.rows, recovery.torn_bytes), (1, 60, 0));
    assert!(recovery.kept.is_empty() && recovery.missing.is_empty() && recovery.last_us.is_some());
    assert_eq!(rows(&running), [30, 30]);
    running.append([30; 2], 5);
    running.store.flush().unwrap();
    running.store.close();
    assert!(names(&folder.path().join("journal")).is_empty());
    running.close();
    let running = open(folder.path());
    assert_eq!((rows(&running), running.opened.recovery.segments), ([35, 35], 0));
    running.close();
}

#[test]
fn a_torn_end_is_cut_and_the_rest_recovered() {
    let (folder, segment) = killed();
    let bytes = fs::read(&segment).unwrap();
    fs::write(&segment, &bytes[..bytes.len() - 7]).unwrap();
    let notes = verify(folder.path()).unwrap();
    assert!(notes.wrong.is_empty() && notes.notes[0].1.contains("cut off"), "{notes:?}");
    let running = open(folder.path());
    // The last frame is one of the second table.
    assert_eq!(rows(&running), [30, 20]);
    assert!(running.opened.recovery.torn_bytes > 0 && running.opened.recovery.kept.is_empty());
    assert!(fs::metadata(&segment).unwrap().len() < bytes.len() as u64 - 7);
    // What comes next has the numbers of what was torn off.
    running.append([30, 20], 5);
    assert_eq!(rows(&running), [35, 25]);
    running.close();
}

#[test]
fn what_something_else_broke_is_recovered_up_to_there_and_kept() {
    let (folder, segment) = killed();
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 4;
    fs::write(&segment, &bytes).unwrap();
    let told = verify(folder.path()).unwrap();
    assert!(told.wrong.len() == 1 && told.wrong[0].1.contains("checksum"), "{told:?}");
    let running = open(folder.path());
    let kept = &running.opened.recovery.kept;
    assert!(kept.len() == 1 && kept[0].1.contains("the checksum of a frame is wrong at byte"), "{kept:?}");
    let found = rows(&running);
    assert!(found[0] > 0 && found[1] < 30, "{found:?}");
    assert_eq!(fs::read(&segment).unwrap(), bytes);
    running.store.flush().unwrap();
    running.store.close();
    let aside = segment.with_added_extension("aside");
    assert_eq!(fs::read(&aside).unwrap(), bytes);
    running.close();
    let running = open(folder.path());
    assert_eq!((rows(&running), running.opened.recovery.kept.len()), (found, 1));
    running.close();
}

#[test]
fn rows_of_an_earlier_name_are_recovered_and_files_of_others_left_alone() {
    let (folder, _) = killed();
    let notes = folder.path().join("journal/notes.txt");
    fs::write(&notes, "mine").unwrap();
    let other = StoreSettings { host: "other".into(), ..settings(folder.path()) };
    let running = Running::open(Arc::new(LocalDisk), other);
    assert_eq!((rows(&running), running.opened.recovery.rows), ([30, 30], 60));
    let told: Vec<_> = running.opened.recovery.foreign.iter().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(told, ["its name is not that of a segment"]);
    running.append([30; 2], 5);
    running.store.flush().unwrap();
    running.store.close();
    running.close();
    assert_eq!(names(&folder.path().join("lake/gap")), ["host=other", "host=test"]);
    assert_eq!(names(&folder.path().join("journal")), ["notes.txt"]);
    assert_eq!(rows(&open(folder.path())), [35, 35]);
}

#[test]
fn a_segment_with_numbers_of_another_host_is_left_alone() {
    let (folder, segment) = killed();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = StoreSettings { host: "other".into(), ..settings(elsewhere.path()) };
    let running = Running::open(Arc::new(LocalDisk), other);
    running.append([0; 2], 40);
    running.close();
    let copied = segment.with_file_name(format!("{:020}.journal", 5));
    fs::copy(elsewhere.path().join("journal").join(segment.file_name().unwrap()), &copied).unwrap();
    let bytes = fs::read(&copied).unwrap();

    let running = open(folder.path());
    assert_eq!(rows(&running), [30, 30]);
    let told = &running.opened.recovery.foreign;
    assert!(told.len() == 1 && told[0].0 == copied && told[0].1.contains("host \"test\""), "{told:?}");
    running.append([30; 2], 5);
    running.store.flush().unwrap();
    running.store.close();
    running.close();
    assert_eq!(fs::read(&copied).unwrap(), bytes);
}

#[test]
fn an_empty_segment_and_one_of_zeros_are_removed() {
    let (folder, segment) = killed();
    for (number, bytes) in [(70, &b""[..]), (80, &b"KYMO"[..]), (90, &[0; 4096])] {
        fs::write(segment.with_file_name(format!("{number:020}.journal")), bytes).unwrap();
    }
    let running = open(folder.path());
    assert_eq!(rows(&running), [30, 30]);
    assert_eq!(names(&folder.path().join("journal")).len(), 1);
    running.append([30; 2], 1);
    assert!(names(&folder.path().join("journal")).contains(&format!("{:020}.journal", 91)));
    running.close();
}

#[test]
fn holes_of_the_journal_become_holes_of_files_and_no_row_is_there_twice() {
    let (folder, segment) = killed();
    let running = open(folder.path());
    running.append([30; 2], 20);
    running.close();
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 4;
    fs::write(&segment, &bytes).unwrap();

    let running = open(folder.path());
    let missing: u64 = running.opened.recovery.missing.iter().map(|missing| missing.rows).sum();
    let recovered = running.opened.recovery.rows;
    assert!(missing > 0 && recovered + missing == 100, "{:?}", running.opened.recovery);
    running.store.flush().unwrap();
    running.append([50; 2], 10);
    running.store.flush().unwrap();
    let found = numbers(&running.store.view());
    assert!(found.iter().all(|found| found.is_sorted_by(|one, next| one < next)), "{found:?}");
    running.store.close();
    running.close();
    let report = verify(folder.path()).unwrap();
    assert!(report.wrong.is_empty(), "{report:?}");
    assert_eq!((report.rows, report.journal_rows), (recovered + 20, 0));
    assert!(report.notes.iter().any(|(_, note)| note.contains("before it are missing")), "{report:?}");
}

#[test]
fn segments_that_are_kept_keep_their_numbers() {
    let (folder, segment) = killed();
    let kept = segment.with_added_extension("aside");
    fs::write(&kept, "earlier").unwrap();
    fs::remove_file(&segment).unwrap();
    let running = open(folder.path());
    running.append([0; 2], 10);
    let names = names(&folder.path().join("journal"));
    assert_eq!(names, ["00000000000000000000.journal.aside", "00000000000000000001.journal"]);
    running.close();
}

/// The only file of the first table.
fn file(data: &Path) -> PathBuf {
    let day = fs::read_dir(data.join("lake/gap/host=test")).unwrap().next().unwrap().unwrap().path();
    let files = names(&day);
    assert_eq!(files.len(), 1, "{files:?}");
    day.join(&files[0])
}

fn flushed(data: &Path, first: u64, rows: u64) {
    let running = open(data);
    running.append([first; 2], rows);
    running.store.flush().unwrap();
    running.store.close();
    running.close();
}

#[test]
fn a_file_with_numbers_of_another_but_rows_of_its_own_stays() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    flushed(one.path(), 0, 10);
    flushed(other.path(), 100, 20);
    let copied = file(one.path());
    fs::copy(&copied, file(other.path()).with_file_name(copied.file_name().unwrap())).unwrap();
    let running = open(other.path());
    assert_eq!(running.opened.scan.superseded, [""; 0].map(PathBuf::from));
    assert!(numbers(&running.store.view())[0].iter().copied().eq((0..10).chain(100..120)));
    running.close();
    let wrong = verify(other.path()).unwrap().wrong;
    assert!(wrong.len() == 1 && wrong[0].1.contains("rows of gap have numbers of"), "{wrong:?}");
}

#[test]
fn numbers_of_a_file_that_cannot_be_read_are_not_given_again() {
    let folder = tempfile::tempdir().unwrap();
    flushed(folder.path(), 0, 10);
    let broken = file(folder.path());
    let bytes = fs::read(&broken).unwrap();
    fs::write(&broken, &bytes[..bytes.len() - 20]).unwrap();
    flushed(folder.path(), 10, 10);
    // Whoever had it away brings it back.
    fs::write(&broken, &bytes).unwrap();
    let running = open(folder.path());
    assert!(numbers(&running.store.view())[0].iter().copied().eq(0..20));
    running.close();
    assert!(verify(folder.path()).unwrap().wrong.is_empty());
}

/// The sequence numbers that files have, by table: the first, and one past the last.
fn ranges(running: &Running) -> [Vec<(u64, u64)>; 2] {
    let view = running.store.view();
    TABLES.map(|(family, _)| view.tables[family].files.iter().map(|file| (file.first_seq, file.end_seq)).collect())
}

/// Records in a folder whose only segment has the numbers 0 to 30 of each table, not all of which can be read, over two
/// more starts.
fn record_after_damage(folder: &Path) {
    for start in 0..2 {
        let running = open(folder);
        assert_eq!((running.opened.recovery.kept.len(), running.opened.recovery.missing.len()), (1, 0));
        running.append([30 + 20 * start; 2], 10);
        running.store.flush().unwrap();
        running.append([40 + 20 * start; 2], 10);
        running.close();
    }
    let running = open(folder);
    assert_eq!(running.opened.recovery.missing, []);
    running.store.flush().unwrap();
    for ranges in ranges(&running) {
        let new: Vec<_> = ranges.iter().skip_while(|range| range.1 <= 30).collect();
        assert!(new[0].0 > 30 && new.windows(2).all(|pair| pair[0].1 == pair[1].0), "{ranges:?}");
        assert_eq!(new.iter().map(|range| range.1 - range.0).sum::<u64>(), 40);
    }
    running.store.close();
    running.close();
    let report = verify(folder).unwrap();
    assert!(report.wrong.is_empty() && !report.notes.iter().any(|(_, note)| note.contains("missing")), "{report:?}");
}

#[test]
fn numbers_of_a_segment_that_cannot_be_read_are_not_given_again() {
    let (folder, segment) = killed();
    fs::remove_file(&segment).unwrap();
    // Whoever opens this gets an error: it links to itself.
    std::os::unix::fs::symlink(&segment, &segment).unwrap();
    record_after_damage(folder.path());
}

#[test]
fn numbers_after_a_broken_frame_are_not_given_again() {
    let (folder, segment) = killed();
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 4;
    fs::write(&segment, &bytes).unwrap();
    record_after_damage(folder.path());
}

#[test]
fn a_folder_has_one_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Store::open(StoreSettings::unlimited(folder.path(), "host"));
    let first = open().unwrap();
    let error = open().unwrap_err().to_string();
    assert!(error.contains("in use by a kymo daemon (pid "), "{error}");
    drop(first);
    open().unwrap();
}
