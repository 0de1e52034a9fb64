//! Retention: which files to delete, by age and by total size.

use std::sync::Arc;
use std::time::Duration;

use super::lake::DataFile;

/// The files to delete, so that no file has only rows older than `age_max`, and all files together have at most
/// `bytes_max`. Those whose rows end earliest go first. `now` is in µs since the epoch.
pub(super) fn expired(
    files: &[Arc<DataFile>],
    now: i64,
    age_max: Option<Duration>,
    bytes_max: Option<u64>,
) -> Vec<Arc<DataFile>> {
    let mut by_age: Vec<&Arc<DataFile>> = files.iter().collect();
    by_age.sort_by_key(|file| file.time_range.1);
    let oldest = age_max.map_or(i64::MIN, |age| now.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX)));
    let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
    by_age
        .into_iter()
        .take_while(|file| {
            let expired = file.time_range.1 < oldest || bytes_max.is_some_and(|max| bytes > max);
            bytes -= file.bytes;
            expired
        })
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(end: i64, bytes: u64) -> Arc<DataFile> {
        Arc::new(DataFile::new(format!("{end}").into(), (0, 1), 1, bytes, (end - 10, end)))
    }

    fn ends(files: &[Arc<DataFile>]) -> Vec<i64> {
        files.iter().map(|file| file.time_range.1).collect()
    }

    #[test]
    fn only_files_wholly_past_the_age_go() {
        let files = [file(300, 1), file(100, 1), file(200, 1)];
        assert_eq!(ends(&expired(&files, 1_200, Some(Duration::from_millis(1)), None)), [100]);
        assert_eq!(ends(&expired(&files, 1_200, None, None)), [0_i64; 0]);
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let files = [file(300, 40), file(100, 40), file(200, 40)];
        assert_eq!(ends(&expired(&files, 0, None, Some(80))), [100]);
        assert_eq!(ends(&expired(&files, 0, None, Some(79))), [100, 200]);
        assert_eq!(ends(&expired(&files, 0, None, Some(0))), [100, 200, 300]);
    }
}
