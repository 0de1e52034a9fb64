//! What a recording has: its peaks, with their moments, read from its files.

use std::cmp::Reverse;
use std::path::Path;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::tree::{Process, Sum, Tree};
use crate::cli::connect::block_on;
use crate::cli::offline::{Offline, spill_folder};
use crate::cli::rows::{Rows, float, text, whole};
use crate::query::sql_view::SqlViews;
use crate::store::View;

/// Rates are averages over a second, and over a tenth of one if the command ran for less than this.
const LONG: Duration = Duration::from_secs(2);
/// Devices, interfaces and resources that are told, of each table.
const TOLD_MAX: usize = 3;
/// Rows of so long before the command's start and after its end count, too: what it did first and last is in steps from and to them.
const AROUND_US: i64 = 100_000;
/// A smaller share of the time is not told.
const STALLED_MIN: f64 = 0.001;

/// The peaks of a recording, and how large it is.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) peaks: Vec<Peak>,
    /// The time over which rates are averages.
    pub(super) window: &'static str,
    /// When the command was started, µs since the epoch.
    pub(super) begun_us: i64,
    pub(super) size: Size,
    pub(super) ticks: Ticks,
}

/// The greatest value of something.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Peak {
    /// The table, and which of its series.
    pub(super) of: String,
    pub(super) value: Value,
    /// When it was reached, or began, µs since the epoch.
    pub(super) at_us: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// CPUs that were busy, of all.
    Cpus { busy: f64, mean: f64, all: i64 },
    /// Memory in use, of all.
    Memory { used: i64, all: i64 },
    /// What the command's processes had together.
    Tree(Sum),
    /// Bytes a second, and bytes in all.
    Flow { what: &'static str, per_s: i64, bytes: i64 },
    /// The share of the time in which some task waited, and seconds in all.
    Stalled { ratio: f64, lost_s: f64 },
}

/// The size of a recording, with that of its tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Without those of tiers.
    pub(super) rows: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// The ticks of all collectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticks {
    pub(super) missed: i64,
    pub(super) scheduled: i64,
}

impl Summary {
    /// Reads the recording in `folder` of the command that was the process `pid`.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub(super) fn read(folder: &Path, pid: i32, begun_us: i64, took: Duration) -> anyhow::Result<Summary> {
        block_on(async {
            let spill = spill_folder();
            let offline = Offline::open(folder, SqlViews::default(), spill.as_ref())?;
            let window = if took < LONG { "100 ms" } else { "1 s" };
            let within = within(begun_us, took)?;
            let mut peaks = Vec::new();
            peaks.extend(tree(&offline, pid).await?);
            peaks.extend(one(&offline, &cpus(window, &within), cpu_peak).await?);
            peaks.extend(one(&offline, &memory(&within), memory_peak).await?);
            peaks.extend(
                flows(&offline, "disk", "device", [("read", "read_bytes"), ("write", "write_bytes")], window, &within)
                    .await?,
            );
            let network = [("receive", "rx_bytes"), ("send", "tx_bytes")];
            peaks.extend(flows(&offline, "network", "interface", network, window, &within).await?);
            peaks.extend(several(&offline, &pressure(window, &within), stalled).await?);
            let ticks = one(&offline, TICKS, ticks).await?.unwrap_or_default();
            Ok(Summary { peaks, window, begun_us, size: Size::of(&offline.view), ticks })
        })
    }
}

impl Size {
    fn of(view: &View) -> Size {
        let mut size = Size::default();
        for table in view.tables.values() {
            size.rows += table.files.iter().map(|file| file.rows).sum::<u64>();
            for file in table.files.iter().chain(table.tiers.iter().flat_map(|tier| tier.iter())) {
                size.files += 1;
                size.bytes += file.bytes;
            }
        }
        size
    }
}

/// The condition on rows that are of the command's time.
fn within(begun_us: i64, took: Duration) -> anyhow::Result<String> {
    let to_us = begun_us.saturating_add(i64::try_from(took.as_micros())?);
    let from = Timestamp::from_microsecond(begun_us.saturating_sub(AROUND_US))?;
    let to = Timestamp::from_microsecond(to_us.saturating_add(AROUND_US))?;
    Ok(format!("time BETWEEN TIMESTAMPTZ '{from}' AND TIMESTAMPTZ '{to}'"))
}

fn cpus(window: &str, within: &str) -> String {
    format!(
        "SELECT peak_rate(busy, time, interval '{window}') / 1e6 AS busy, rate(busy, time) / 1e6 AS mean, \
         peak_rate_at(busy, time, interval '{window}') AS at, (SELECT count(DISTINCT cpu) - 1 FROM cpu) AS cpus \
         FROM (SELECT time, user_us + nice_us + system_us + irq_us + softirq_us + steal_us AS busy \
         FROM cpu WHERE cpu = 'total' AND {within})"
    )
}

fn cpu_peak(rows: &Rows<'_>, row: usize) -> anyhow::Result<Option<Peak>> {
    let (busy, mean) = (float(&rows.floats("busy")?, row), float(&rows.floats("mean")?, row));
    let (at_us, all) = (whole(&rows.wholes("at")?, row), whole(&rows.wholes("cpus")?, row));
    let (Some(busy), Some(mean), Some(at_us), Some(all)) = (busy, mean, at_us, all) else { return Ok(None) };
    // The kernel counts in ticks, so a short time may have one too many.
    let busy = busy.min(all as f64);
    Ok(Some(Peak { of: "cpu".to_owned(), value: Value::Cpus { busy, mean, all }, at_us }))
}

fn memory(within: &str) -> String {
    format!(
        "SELECT time AS at, total_bytes - coalesce(available_bytes, free_bytes) AS used, total_bytes \
         FROM memory WHERE {within} ORDER BY used DESC, time LIMIT 1"
    )
}

fn memory_peak(rows: &Rows<'_>, row: usize) -> anyhow::Result<Option<Peak>> {
    let (used, all) = (whole(&rows.wholes("used")?, row), whole(&rows.wholes("total_bytes")?, row));
    let (Some(used), Some(all), Some(at_us)) = (used, all, whole(&rows.wholes("at")?, row)) else { return Ok(None) };
    Ok(Some(Peak { of: "memory".to_owned(), value: Value::Memory { used, all }, at_us }))
}

/// The peaks of two counters of each series, the greatest first. A disk's partitions and what is stacked on it count in the disk.
async fn flows(
    offline: &Offline,
    table: &'static str,
    label: &str,
    counters: [(&'static str, &str); 2],
    window: &str,
    within: &str,
) -> anyhow::Result<Vec<Peak>> {
    let filter = if table == "disk" { "kind = 'disk' AND " } else { "" };
    let mut peaks = Vec::new();
    for (what, counter) in counters {
        let sql = format!(
            "SELECT {label} AS label, CAST(peak_rate({counter}, time, interval '{window}') AS BIGINT) AS per_s, \
             peak_rate_at({counter}, time, interval '{window}') AS at, increase({counter}, time) AS bytes \
             FROM {table} WHERE {filter}{within} GROUP BY {label}"
        );
        let flow = |rows: &Rows<'_>, row: usize| {
            let (per_s, bytes) = (whole(&rows.wholes("per_s")?, row), whole(&rows.wholes("bytes")?, row));
            let at_us = whole(&rows.wholes("at")?, row);
            let (Some(per_s), Some(bytes @ 1..), Some(at_us)) = (per_s, bytes, at_us) else { return Ok(None) };
            let of = format!("{table} {}", text(&rows.texts("label")?, row));
            Ok(Some(Peak { of, value: Value::Flow { what, per_s, bytes }, at_us }))
        };
        peaks.extend(several(offline, &sql, flow).await?);
    }
    peaks.sort_by_key(|peak| if let Value::Flow { per_s, .. } = peak.value { Reverse(per_s) } else { Reverse(0) });
    peaks.truncate(TOLD_MAX);
    Ok(peaks)
}

fn pressure(window: &str, within: &str) -> String {
    format!(
        "SELECT resource, increase(total_us, time) / 1e6 AS lost_s, \
         peak_rate(total_us, time, interval '{window}') / 1e6 AS ratio, \
         peak_rate_at(total_us, time, interval '{window}') AS at \
         FROM pressure WHERE kind = 'some' AND {within} GROUP BY resource ORDER BY lost_s DESC LIMIT {TOLD_MAX}"
    )
}

fn stalled(rows: &Rows<'_>, row: usize) -> anyhow::Result<Option<Peak>> {
    let (ratio, lost_s) = (float(&rows.floats("ratio")?, row), float(&rows.floats("lost_s")?, row));
    let (Some(ratio), Some(lost_s), Some(at_us)) = (ratio, lost_s, whole(&rows.wholes("at")?, row)) else {
        return Ok(None);
    };
    // The kernel adds to it some time later.
    let ratio = ratio.min(1.0);
    let of = format!("pressure {}", text(&rows.texts("resource")?, row));
    Ok((ratio >= STALLED_MIN).then_some(Peak { of, value: Value::Stalled { ratio, lost_s }, at_us }))
}

const TICKS: &str = "SELECT sum(missed) AS missed, sum(scheduled) AS scheduled FROM (SELECT max(missed_ticks) AS missed, \
                     max(scheduled_ticks) AS scheduled FROM collector GROUP BY collector)";

fn ticks(rows: &Rows<'_>, row: usize) -> anyhow::Result<Option<Ticks>> {
    let (missed, scheduled) = (whole(&rows.wholes("missed")?, row), whole(&rows.wholes("scheduled")?, row));
    Ok(missed.zip(scheduled).map(|(missed, scheduled)| Ticks { missed, scheduled }))
}

/// The moment at which the processes of the command had the most memory together.
async fn tree(offline: &Offline, pid: i32) -> anyhow::Result<Option<Peak>> {
    const SQL: &str = "SELECT time, pid, start_us, parent_pid, rss_bytes FROM process ORDER BY time";
    let mut tree = Tree::of(pid.into());
    let (mut tick, mut tick_us) = (Vec::new(), i64::MIN);
    let mut greatest: Option<(Sum, i64)> = None;
    let mut take = |tick: &mut Vec<Process>, at_us: i64| {
        let sum = tree.sum(tick);
        tick.clear();
        let is_greater = greatest.is_none_or(|(before, _)| before.rss_bytes < sum.rss_bytes);
        if sum.processes > 0 && is_greater {
            greatest = Some((sum, at_us));
        }
    };
    let mut batches = Box::pin(offline.stream(SQL).await?);
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let rows = Rows::of(&batch);
        let (times, pids, starts) = (rows.wholes("time")?, rows.wholes("pid")?, rows.wholes("start_us")?);
        let (parents, sizes) = (rows.wholes("parent_pid")?, rows.wholes("rss_bytes")?);
        for row in 0..rows.count() {
            if times.value(row) != tick_us {
                take(&mut tick, tick_us);
                tick_us = times.value(row);
            }
            tick.push(Process {
                pid: pids.value(row),
                start_us: starts.value(row),
                parent_pid: whole(&parents, row).unwrap_or(0),
                rss_bytes: whole(&sizes, row).unwrap_or(0),
            });
        }
    }
    take(&mut tick, tick_us);
    Ok(greatest.map(|(sum, at_us)| Peak { of: "command".to_owned(), value: Value::Tree(sum), at_us }))
}

/// What `read` makes of each row of a statement.
async fn several<T>(
    offline: &Offline,
    sql: &str,
    read: impl Fn(&Rows<'_>, usize) -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Vec<T>> {
    let batches: Vec<RecordBatch> = offline.stream(sql).await?.try_collect().await?;
    let mut found = Vec::new();
    for batch in &batches {
        let rows = Rows::of(batch);
        for row in 0..rows.count() {
            found.extend(read(&rows, row)?);
        }
    }
    Ok(found)
}

/// The same of the first row.
async fn one<T>(
    offline: &Offline,
    sql: &str,
    read: impl Fn(&Rows<'_>, usize) -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    Ok(several(offline, sql, read).await?.into_iter().next())
}
