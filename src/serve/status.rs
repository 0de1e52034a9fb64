//! What the daemon says of itself, as messages of the API.

use super::operator::{AlertStatus, CollectorStatus, DaemonStatus, Flushed};
use super::proto::{
    AlertRule, AlertSeries, AlertState, Collector, FlushResponse, GetStatusResponse, Listener, Losses, StoreStatus,
    UnavailableFamily,
};
use super::wire;

impl From<CollectorStatus> for Collector {
    fn from(status: CollectorStatus) -> Self {
        Collector {
            name: status.name,
            interval: Some(wire::duration(status.interval)),
            families: status.families.into_iter().map(str::to_owned).collect(),
            running_since: Some(wire::timestamp(status.running_since_us)),
            scheduled_ticks: status.scheduled_ticks,
            ticks: status.ticks,
            missed_ticks: status.missed_ticks,
            pushed_records: status.pushed_records,
            dropped_records: status.dropped_records,
            failed_reads: status.failed_reads,
            last_error: status.last_error.unwrap_or_default(),
            unavailable: status
                .unavailable
                .into_iter()
                .map(|one| UnavailableFamily { family: one.family.to_owned(), reason: one.reason })
                .collect(),
            warnings: status.warnings,
            scheduling: wire::scheduling(status.scheduling).into(),
        }
    }
}

impl From<DaemonStatus> for GetStatusResponse {
    fn from(status: DaemonStatus) -> Self {
        let (store, losses) = (status.store, status.losses);
        GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: status.host,
            started_at: Some(wire::timestamp(status.started_at_us)),
            uptime: Some(wire::duration(status.uptime)),
            data_dir: status.data_dir.display().to_string(),
            store: Some(StoreStatus {
                hot_rows: store.hot_rows,
                hot_bytes: store.hot_bytes,
                files: store.files,
                file_bytes: store.file_bytes,
                flushes: store.flushes,
                failed_flushes: store.failed_flushes,
                journal_bytes: store.journal_bytes,
            }),
            collectors: status.collectors.into_iter().map(Collector::from).collect(),
            listeners: status
                .listeners
                .into_iter()
                .map(|(name, address)| Listener { name: name.to_owned(), address: address.to_string() })
                .collect(),
            degraded: !status.degraded.is_empty(),
            degraded_reasons: status.degraded,
            found_at_start: status.found_at_start,
            losses: Some(Losses {
                missed_ticks: losses.missed_ticks,
                dropped_records: losses.dropped_records,
                lost_rows: losses.lost_rows,
                lost_notifications: losses.lost_notifications,
                lost_exports: losses.lost_exports,
            }),
        }
    }
}

impl From<Flushed> for FlushResponse {
    fn from(flushed: Flushed) -> Self {
        FlushResponse { files: flushed.files, rows: flushed.rows }
    }
}

impl From<AlertStatus> for AlertRule {
    fn from(status: AlertStatus) -> Self {
        let state = match (status.firing, status.pending) {
            (0, 0) => AlertState::Ok,
            (0, _) => AlertState::Pending,
            _ => AlertState::Firing,
        };
        let series = |labels: Vec<(&'static str, String)>| AlertSeries {
            labels: labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        };
        AlertRule {
            name: status.name,
            table: status.table.to_owned(),
            condition: status.condition,
            for_duration: Some(wire::duration(status.hold)),
            state: state.into(),
            pending: status.pending,
            firing: status.firing,
            firing_series: status.firing_series.into_iter().map(series).collect(),
            fired: status.fired,
            resolved: status.resolved,
            notify: status.notify,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_as_bad_as_its_worst_series() {
        let state = |pending, firing| AlertRule::from(AlertStatus { pending, firing, ..Default::default() }).state();
        assert_eq!(state(0, 0), AlertState::Ok);
        assert_eq!(state(3, 0), AlertState::Pending);
        assert_eq!(state(3, 1), AlertState::Firing);
    }

    #[test]
    fn reasons_make_a_daemon_degraded() {
        assert!(!GetStatusResponse::from(DaemonStatus::default()).degraded);
        let status = DaemonStatus { degraded: vec!["no flush succeeded".to_owned()], ..DaemonStatus::default() };
        let response = GetStatusResponse::from(status);
        assert!(response.degraded);
        assert_eq!(response.degraded_reasons, ["no flush succeeded"]);
    }
}
