//! What `kymo record` says at its end.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::command::Ended;
use super::summary::{Peak, Size, Summary, Ticks, Value};
use crate::cli::show::{bytes, counted, float};
use crate::family::process::PINNED_ROWS_MAX;

const US_PER_SECOND: f64 = 1e6;
/// What a copy of the recorder may have more than it, as a part of that.
const COPY_PARTS: u64 = 20;

/// What the recorder itself took while the command ran.
pub(super) struct Cost {
    pub(super) cpu: Duration,
    pub(super) took: Duration,
    /// The most memory that it had.
    pub(super) rss_bytes: Option<u64>,
}

/// How long the command ran and how it ended, what it took, the peaks, what recording cost, and how to look at it.
pub(super) fn text(folder: &Path, summary: &Summary, ended: &Ended, cost: &Cost) -> String {
    let folder = folder.display();
    let seconds = cost.took.as_secs_f64();
    let mut lines = vec![
        format!("kymo: recorded {} into {folder}; {}", rounded(seconds), ended.status),
        format!("  command    {}", command(ended, seconds, cost.rss_bytes)),
    ];
    lines.extend(peaks(summary));
    lines.push(format!("  recording  {}", recording(cost, summary.size, summary.ticks)));
    lines.push(format!("look at it: kymo top --data {folder}; kymo query --data {folder} \"SELECT * FROM process\""));
    lines.join("\n")
}

/// A line for each peak, below a head.
fn peaks(summary: &Summary) -> Vec<String> {
    let row = |peak: &Peak| {
        let (time, after) = moment(peak, summary.begun_us);
        [peak.of.clone(), value(&peak.value, summary.window), time, after]
    };
    let head = ["peak of".to_owned(), String::new(), "at (UTC)".to_owned(), "after".to_owned()];
    let rows: Vec<[String; 4]> = [head].into_iter().chain(summary.peaks.iter().map(row)).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let line = |[of, value, time, after]: &[String; 4]| {
        let [of_width, value_width, time_width] = widths;
        format!("  {of:of_width$}  {value:value_width$}  {time:time_width$}  {after}")
    };
    rows.iter().map(line).collect()
}

/// `own_bytes` is the most memory that the recorder had. A process begins as a copy of that which starts it, and the kernel keeps the
/// greatest size, so of smaller ones none is known.
fn command(ended: &Ended, seconds: f64, own_bytes: Option<u64>) -> String {
    let Ended { user, system, largest_bytes, read_bytes, written_bytes, .. } = ended;
    let all = (*user + *system).as_secs_f64();
    let [all_text, user, system] = [all, user.as_secs_f64(), system.as_secs_f64()].map(rounded);
    let [largest, read, written] = [*largest_bytes, *read_bytes, *written_bytes].map(bytes);
    let mean = if seconds > 0.0 { all / seconds } else { 0.0 };
    let is_known = own_bytes.is_none_or(|own_bytes| *largest_bytes > own_bytes + own_bytes / COPY_PARTS);
    let largest = if is_known { format!("largest process {largest}; ") } else { String::new() };
    format!(
        "{all_text} of CPU ({user} user, {system} system), {} CPUs on average; {largest}storage: {read} read, {written} written",
        two_decimals(mean)
    )
}

fn value(value: &Value, window: &str) -> String {
    let whole = |bytes_of: i64| bytes(u64::try_from(bytes_of).unwrap_or(0));
    match value {
        Value::Cpus { busy, mean, all } => {
            format!("{} of {all} CPUs busy for {window}, {} on average", two_decimals(*busy), two_decimals(*mean))
        }
        Value::Memory { used, all } => format!("{} in use of {}", whole(*used), whole(*all)),
        Value::Tree(sum) => {
            let processes = match usize::try_from(sum.processes).unwrap_or(usize::MAX) {
                1 => "1 process".to_owned(),
                PINNED_ROWS_MAX.. => format!("{PINNED_ROWS_MAX} processes; others are not recorded"),
                count => format!("{count} processes"),
            };
            format!("{} resident in {processes}", whole(sum.rss_bytes))
        }
        Value::Flow { what, per_s, bytes } => {
            format!("{what} {}/s for {window}, {} in all", whole(*per_s), whole(*bytes))
        }
        Value::Stalled { ratio, lost_s } => {
            format!("{} % of {window} waited, {} in all", float((ratio * 1000.0).round() / 10.0), rounded(*lost_s))
        }
    }
}

/// The time of day, and how long after the command's start.
fn moment(peak: &Peak, begun_us: i64) -> (String, String) {
    // A step that the command began in is from before its start.
    let at_us = peak.at_us.max(begun_us);
    let time = Timestamp::from_microsecond(at_us);
    let time = time.map_or_else(|_| "-".to_owned(), |time| time.strftime("%H:%M:%S%.3f").to_string());
    (time, rounded((at_us - begun_us) as f64 / US_PER_SECOND))
}

fn recording(cost: &Cost, size: Size, ticks: Ticks) -> String {
    let share = 100.0 * cost.cpu.as_secs_f64() / cost.took.as_secs_f64().max(f64::MIN_POSITIVE);
    let memory = cost.rss_bytes.map_or_else(String::new, |rss_bytes| format!(", {} of memory", bytes(rss_bytes)));
    let missed = match ticks {
        Ticks { missed: 0, .. } => "no tick missed".to_owned(),
        Ticks { missed, scheduled } => format!("{missed} of {scheduled} ticks missed"),
    };
    let (rows, files) = (counted(size.rows, "row"), counted(size.files, "file"));
    format!("{} % of one CPU{memory}; {rows}, {} in {files}, {missed}", two_decimals(share), bytes(size.bytes))
}

fn two_decimals(value: f64) -> String {
    float((value * 100.0).round() / 100.0)
}

/// Seconds for people: to the millisecond below ten, to the tenth above.
fn rounded(seconds: f64) -> String {
    let steps = if seconds.abs() < 10.0 { 1000.0 } else { 10.0 };
    format!("{} s", float((seconds * steps).round() / steps))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::super::tree::Sum;
    use super::*;

    #[test]
    fn a_summary_says_what_the_peaks_were_and_when() {
        let peak = |of: &str, value, at_us| Peak { of: of.to_owned(), value, at_us };
        let summary = Summary {
            peaks: vec![
                peak("command", Value::Tree(Sum { processes: 3, rss_bytes: 1_200 << 20 }), 3_500_000),
                peak("cpu", Value::Cpus { busy: 1.987, mean: 1.2, all: 2 }, 2_000_000),
                peak("disk vda", Value::Flow { what: "write", per_s: 209_600_000, bytes: 1 << 30 }, 1_250_000),
                peak("pressure io", Value::Stalled { ratio: 0.4567, lost_s: 2.1 }, 1_500_000),
            ],
            window: "1 s",
            begun_us: 1_000_000,
            size: Size { rows: 41_200, files: 24, bytes: 1 << 20 },
            ticks: Ticks { missed: 0, scheduled: 100 },
        };
        let ended = Ended {
            pid: 7,
            status: ExitStatus::from_raw(3 << 8),
            user: Duration::from_millis(10_100),
            system: Duration::from_millis(2_200),
            largest_bytes: 812 << 20,
            read_bytes: 12 << 20,
            written_bytes: 0,
        };
        let cost = Cost { cpu: Duration::from_millis(93), took: Duration::from_millis(12_400), rss_bytes: None };
        let told = text(Path::new("out"), &summary, &ended, &cost);
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[0], "kymo: recorded 12.4 s into out; exit status: 3");
        let command = "  command    12.3 s of CPU (10.1 s user, 2.2 s system), 0.99 CPUs on average; largest process 812.0 MiB; \
                       storage: 12.0 MiB read, 0 B written";
        assert_eq!(lines[1], command);
        assert!(
            lines[3].starts_with("  command      1.2 GiB resident in 3 processes ")
                && lines[3].ends_with("00:00:03.500  2.5 s"),
            "{told}"
        );
        assert!(lines[4].starts_with("  cpu          1.99 of 2 CPUs busy for 1 s, 1.2 on average "), "{told}");
        assert!(lines[5].contains("write 199.9 MiB/s for 1 s, 1.0 GiB in all"), "{told}");
        assert!(lines[6].contains("45.7 % of 1 s waited, 2.1 s in all"), "{told}");
        assert_eq!(lines[7], "  recording  0.75 % of one CPU; 41,200 rows, 1.0 MiB in 24 files, no tick missed");
        assert!(lines[8].starts_with("look at it: kymo top --data out; "), "{told}");
    }
}
