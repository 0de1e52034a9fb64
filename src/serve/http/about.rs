//! The daemon and its alert rules as JSON.

use serde_json::{Value, json};

use crate::alert::status::{FiringSeries, RuleStatus};
use crate::collector::CollectorStatus;
use crate::serve::operator::DaemonStatus;

pub(super) fn status(status: &DaemonStatus) -> Value {
    let DaemonStatus { store, workers, retired, .. } = status;
    let sum = |of: fn(&CollectorStatus) -> i64, gone: i64| status.collectors.iter().map(of).sum::<i64>() + gone;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "host": status.host,
        "started_at_us": status.started_at_us,
        "uptime_us": status.uptime.as_micros(),
        "degraded": status.degraded,
        "foreign": status.foreign,
        "found_at_start": status.found_at_start,
        "silent_alerts": status.silent_alerts,
        "collectors": status.collectors.iter().map(collector).collect::<Vec<_>>(),
        "losses": {
            "scheduled_ticks": sum(|one| one.totals.scheduled, retired.scheduled),
            "missed_ticks": sum(|one| one.totals.missed, retired.missed),
            "dropped_records": sum(|one| one.totals.dropped, retired.dropped),
            "lost_rows": store.lost_rows,
            "lost_notifications": status.lost_notifications,
            "lost_exports": status.lost_exports,
        },
        "store": {
            "hot_rows": store.hot_rows,
            "hot_bytes": store.hot_bytes,
            "journal_bytes": store.journal_bytes,
            "lake_bytes": store.lake_bytes,
            "lake_files": store.lake_files,
            "flushes": store.flushes,
            "failed_flushes": store.failed_flushes,
        },
        "query_workers": { "processes": workers.processes, "rss_bytes": workers.rss_bytes, "faults": workers.faults },
    })
}

fn collector(collector: &CollectorStatus) -> Value {
    let CollectorStatus { settings, totals, health, .. } = collector;
    let unavailable = health.unavailable.iter().map(|one| json!({ "table": one.family, "reason": one.reason }));
    json!({
        "name": settings.name,
        "interval_us": settings.interval.as_micros(),
        "tables": settings.families.iter().map(|family| family.name()).collect::<Vec<_>>(),
        "running_since_us": collector.running_since_us,
        "scheduled_ticks": totals.scheduled,
        "ticks": totals.ticks,
        "missed_ticks": totals.missed,
        "dropped_records": totals.dropped,
        "failed_reads": totals.failed,
        "unavailable": unavailable.collect::<Vec<_>>(),
        "warnings": collector.warnings(),
    })
}

pub(super) fn alerts(rules: Vec<RuleStatus>) -> Value {
    json!({ "rules": rules.into_iter().map(rule).collect::<Vec<_>>() })
}

fn rule(rule: RuleStatus) -> Value {
    let state = match (rule.firing, rule.pending) {
        (0, 0) => "ok",
        (0, _) => "pending",
        _ => "firing",
    };
    let series = |one: FiringSeries| json!({ "labels": one.labels, "since_us": one.since_us, "peak": one.peak, "no_data": one.has_no_data });
    json!({
        "name": rule.name,
        "table": rule.table,
        "condition": rule.condition,
        "for_us": rule.hold.as_micros(),
        "state": state,
        "pending": rule.pending,
        "firing": rule.firing,
        "firing_series": rule.firing_series.into_iter().map(series).collect::<Vec<_>>(),
        "fired": rule.fired,
        "resolved": rule.resolved,
        "notify": rule.notify,
        "absent": rule.absent.as_str(),
    })
}
