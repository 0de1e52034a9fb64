//! What the daemon says of itself, as messages of the API.

use super::operator::{self, AlertStatus, CollectorStatus, DaemonStatus, Flushed};
use super::proto::{
    AlertRule, AlertSeries, AlertState, Collector, FlushResponse, GetStatusResponse, Listener, Losses, StoreStatus,
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
            }),
            collectors: status.collectors.into_iter().map(Collector::from).collect(),
            listeners: status
                .listeners
                .into_iter()
                .map(|(name, address)| Listener { name: name.to_owned(), address: address.to_string() })
                .collect(),
            degraded: !status.degraded.is_empty(),
            degraded_reasons: status.degraded,
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
        let worst = status.series.iter().map(|series| series.state).max().unwrap_or_default();
        AlertRule {
            name: status.name,
            table: status.table.to_owned(),
            condition: status.condition,
            hold: Some(wire::duration(status.hold)),
            state: AlertState::from(worst).into(),
            series: status.series.into_iter().map(AlertSeries::from).collect(),
            fired: status.fired,
            resolved: status.resolved,
            last_error: status.last_error.unwrap_or_default(),
        }
    }
}

impl From<operator::AlertSeries> for AlertSeries {
    fn from(series: operator::AlertSeries) -> Self {
        AlertSeries {
            labels: series.labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            state: AlertState::from(series.state).into(),
            since: Some(wire::timestamp(series.since_us)),
            value: series.value,
        }
    }
}

impl From<operator::AlertState> for AlertState {
    fn from(state: operator::AlertState) -> Self {
        match state {
            operator::AlertState::Ok => AlertState::Ok,
            operator::AlertState::Pending => AlertState::Pending,
            operator::AlertState::Firing => AlertState::Firing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rule_is_as_bad_as_its_worst_series() {
        let series = |state| operator::AlertSeries {
            labels: vec![("cpu", "0".to_owned())],
            state,
            since_us: 5,
            value: Some(0.5),
        };
        let rule = |states: &[operator::AlertState]| {
            AlertRule::from(AlertStatus {
                name: "busy".to_owned(),
                table: "cpu",
                condition: "utilization > 0.9".to_owned(),
                hold: Duration::from_secs(1),
                series: states.iter().copied().map(series).collect(),
                fired: 0,
                resolved: 0,
                last_error: None,
            })
        };
        assert_eq!(rule(&[]).state(), AlertState::Ok);
        let states = [operator::AlertState::Firing, operator::AlertState::Pending];
        assert_eq!(rule(&states).state(), AlertState::Firing);
        assert_eq!(rule(&states).series[1].labels["cpu"], "0");
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
