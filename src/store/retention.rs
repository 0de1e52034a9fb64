//! Retention: which files to delete, by age and by total size.
//!
//! A file's age is that of its rows, as far as their times can be true. Of one host's rows, those with greater sequence
//! numbers were recorded later. So a file is no older than those before it: the clock was behind when it was written. And one with times in the
//! future is about as old as the one after it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::lake::DataFile;

/// Files that expire at one age.
#[derive(Debug)]
pub(super) struct Kind<'a> {
    /// Those of each table, in the order of their sequence numbers.
    pub(super) files: Vec<&'a [Arc<DataFile>]>,
    /// Older files go.
    pub(super) age_max: Option<Duration>,
}

/// The files to delete, so that no file has only rows older than its kind may have, and all files together have at most
/// `bytes_max`. Of each kind the oldest go first. For the sake of `bytes_max`, all of a kind go before one of the next.
/// `now` is in µs since the epoch.
pub(super) fn expired(kinds: &[Kind<'_>], now: i64, bytes_max: Option<u64>) -> Vec<Arc<DataFile>> {
    let mut expired: Vec<Arc<DataFile>> = Vec::new();
    let mut left = Vec::new();
    for Kind { files, age_max } in kinds {
        let by_host = files.iter().flat_map(|files| by_host(files));
        let mut by_age: Vec<(i64, &Arc<DataFile>)> = by_host
            .flat_map(|files| {
                let ends = ends(&files, now);
                ends.into_iter().zip(files)
            })
            .collect();
        by_age.sort_by_key(|(end, file)| (*end, file.time_range.1));
        let micros = |age: Duration| i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let oldest = age_max.map_or(i64::MIN, |age| now.saturating_sub(micros(age)));
        let (old, young) = by_age.split_at(by_age.partition_point(|(end, _)| *end < oldest));
        expired.extend(old.iter().map(|(_, file)| Arc::clone(file)));
        left.extend(young.iter().map(|(_, file)| Arc::clone(file)));
    }
    let mut bytes: u64 = left.iter().map(|file| file.bytes).sum();
    let beyond = left.into_iter().take_while(|file| {
        let is_beyond = bytes_max.is_some_and(|max| bytes > max);
        bytes -= file.bytes;
        is_beyond
    });
    expired.extend(beyond);
    expired
}

/// The files of a table apart by host, each in the same order.
fn by_host(files: &[Arc<DataFile>]) -> Vec<Vec<&Arc<DataFile>>> {
    let mut hosts: BTreeMap<Option<&Path>, Vec<&Arc<DataFile>>> = BTreeMap::new();
    for file in files {
        let folder = file.path.parent().and_then(Path::parent);
        hosts.entry(folder).or_default().push(file);
    }
    hosts.into_values().collect()
}

/// When the rows of each file of a host's table were recorded at the latest, µs since the epoch, as of `now`.
fn ends(files: &[&Arc<DataFile>], now: i64) -> Vec<i64> {
    let mut latest = i64::MIN;
    let believed = files.iter().map(|file| {
        let end = file.time_range.1;
        (end <= now).then(|| {
            latest = latest.max(end);
            latest
        })
    });
    let mut ends: Vec<Option<i64>> = believed.collect();
    let mut next = now;
    for end in ends.iter_mut().rev() {
        next = *end.get_or_insert(next);
    }
    ends.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(end: i64, bytes: u64) -> Arc<DataFile> {
        Arc::new(DataFile::new(format!("{end}").into(), (0, 1), 1, bytes, (end - 10, end)))
    }

    /// The last times of the files of one table that expire.
    fn gone(files: &[Arc<DataFile>], now: i64, age_max: Option<Duration>, bytes_max: Option<u64>) -> Vec<i64> {
        let kind = Kind { files: vec![files], age_max };
        expired(&[kind], now, bytes_max).iter().map(|file| file.time_range.1).collect()
    }

    #[test]
    fn only_files_wholly_past_the_age_go() {
        let files = [file(100, 1), file(200, 1), file(300, 1)];
        assert_eq!(gone(&files, 1_200, Some(Duration::from_millis(1)), None), [100]);
        assert_eq!(gone(&files, 1_200, None, None), [0_i64; 0]);
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let tables = [[file(100, 40), file(300, 40)], [file(200, 40), file(400, 40)]];
        let gone = |bytes_max| {
            let kind = Kind { files: tables.iter().map(<[_; 2]>::as_slice).collect(), age_max: None };
            expired(&[kind], 500, Some(bytes_max)).iter().map(|file| file.time_range.1).collect::<Vec<_>>()
        };
        assert_eq!(gone(160), [0_i64; 0]);
        assert_eq!(gone(159), [100]);
        assert_eq!(gone(79), [100, 200, 300]);
        assert_eq!(gone(0), [100, 200, 300, 400]);
    }

    #[test]
    fn rows_go_before_tiers_and_each_by_its_age() {
        let second = |end: i64| file(end * 1_000_000, 40);
        let (rows, tier) = ([second(300), second(400)], [second(100), second(400)]);
        let gone = |age_s: [u64; 2], bytes_max| {
            let [rows_age, tier_age] = age_s.map(|age| Some(Duration::from_secs(age)));
            let kinds =
                [Kind { files: vec![&rows], age_max: rows_age }, Kind { files: vec![&tier], age_max: tier_age }];
            let gone = expired(&kinds, 500_000_000, Some(bytes_max));
            gone.iter().map(|file| file.time_range.1 / 1_000_000).collect::<Vec<_>>()
        };
        assert_eq!(gone([1_000, 1_000], 160), [0_i64; 0]);
        assert_eq!(gone([150, 1_000], 160), [300]);
        assert_eq!(gone([1_000, 150], 160), [100]);
        // The tier has the oldest file, and it stays.
        assert_eq!(gone([1_000, 1_000], 100), [300, 400]);
        assert_eq!(gone([1_000, 1_000], 50), [300, 400, 100]);
    }

    #[test]
    fn files_of_a_wrong_clock_are_as_old_as_those_beside_them() {
        let second = |end: i64, bytes| file(end * 1_000_000, bytes);
        // The clock was far behind before 110, and far ahead before 130.
        let files = [100, 5, 6, 110, 9_000, 9_001, 130, 9_002].map(|end| second(end, 1));
        let gone = |now: i64| gone(&files, now * 1_000_000, Some(Duration::from_secs(60)), None).len();
        assert_eq!([160, 161, 171, 190, 191].map(gone), [0, 3, 4, 4, 7]);
        // The last one is new for as long as its times are to come.
        assert_eq!([8_999, 9_062, 9_063].map(gone), [7, 7, 8]);
    }

    #[test]
    fn numbers_of_another_host_say_nothing() {
        let of = |host: &str, first: u64, end: i64| {
            let path = format!("lake/x/host={host}/date=1970-01-01/{end}.parquet").into();
            Arc::new(DataFile::new(path, (first, first + 1), 1, 1, (end - 10, end)))
        };
        // Each host counts from 0. Their rows are years apart.
        let files = [of("new", 0, 9_000), of("old", 0, 100), of("new", 1, 9_100), of("old", 1, 200)];
        assert_eq!(gone(&files, 9_150, Some(Duration::from_millis(1)), None), [100, 200]);
        assert_eq!(gone(&files, 9_150, None, Some(3)), [100]);
    }
}
