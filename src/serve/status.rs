//! The daemon's status as messages of the API.

use super::operator::DaemonStatus;
use super::proto::{
    self, AlertRule, AlertSeries, AlertState, Collector, GetStatusResponse, Listener, Losses, PartialFamily,
    QueryWorkers, StoreStatus, UnavailableFamily,
};
use super::wire;
use crate::alert::status::RuleStatus;
use crate::collector::CollectorStatus;
use crate::query::workers::WorkersStatus;
use crate::sampler::{Scheduling, Totals};

impl From<CollectorStatus> for Collector {
    fn from(status: CollectorStatus) -> Self {
        let warnings = status.warnings();
        let CollectorStatus { settings, running_since_us, totals, health } = status;
        let unavailable = health
            .unavailable
            .into_iter()
            .map(|one| UnavailableFamily { family: one.family.to_owned(), reason: one.reason });
        let partial =
            health.partial.into_iter().map(|one| PartialFamily { family: one.family.to_owned(), reason: one.reason });
        Collector {
            name: settings.name,
            interval: Some(wire::duration(settings.interval)),
            families: settings.families.iter().map(|family| family.name().to_owned()).collect(),
            running_since: Some(wire::timestamp(running_since_us)),
            scheduled_ticks: totals.scheduled,
            ticks: totals.ticks,
            missed_ticks: totals.missed,
            pushed_records: totals.pushed,
            dropped_records: totals.dropped,
            failed_reads: totals.failed,
            last_error: health.last_error.unwrap_or_default(),
            unavailable: unavailable.collect(),
            partial: partial.collect(),
            impossible_values: totals.impossible,
            warnings,
            scheduling: match settings.scheduling {
                Scheduling::Auto => proto::Scheduling::Auto.into(),
                Scheduling::Other => proto::Scheduling::Other.into(),
                Scheduling::Fifo => proto::Scheduling::Fifo.into(),
            },
        }
    }
}

impl From<DaemonStatus> for GetStatusResponse {
    fn from(status: DaemonStatus) -> Self {
        let losses = losses(&status);
        let listeners = status.listeners.iter();
        let listeners =
            listeners.map(|(name, address)| Listener { name: (*name).to_owned(), address: address.clone() });
        GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: status.host,
            started_at: Some(wire::timestamp(status.started_at_us)),
            uptime: Some(wire::duration(status.uptime)),
            data_dir: status.data_dir.display().to_string(),
            store: Some(StoreStatus {
                hot_rows: status.store.hot_rows,
                hot_bytes: status.store.hot_bytes,
                files: status.store.lake_files,
                file_bytes: status.store.lake_bytes,
                flushes: status.store.flushes,
                failed_flushes: status.store.failed_flushes,
                journal_bytes: status.store.journal_bytes,
            }),
            collectors: status.collectors.into_iter().map(Collector::from).collect(),
            listeners: listeners.collect(),
            degraded: !status.degraded.is_empty(),
            degraded_reasons: status.degraded,
            found_at_start: status.found_at_start,
            foreign: status.foreign,
            silent_alerts: status.silent_alerts,
            losses: Some(losses),
            query_workers: Some(status.workers.into()),
        }
    }
}

impl From<WorkersStatus> for QueryWorkers {
    fn from(workers: WorkersStatus) -> Self {
        let WorkersStatus { processes, idle, rss_bytes, started, faults, last_fault, in_force } = workers;
        QueryWorkers {
            processes,
            idle,
            rss_bytes,
            started,
            faults,
            last_fault_at: last_fault.as_ref().map(|fault| wire::timestamp(fault.at_us)),
            last_fault: last_fault.map(|fault| fault.reason).unwrap_or_default(),
            in_force,
        }
    }
}

/// The losses of all collectors, running and stopped, and of the rest of the daemon.
fn losses(status: &DaemonStatus) -> Losses {
    let sum = |count: fn(&Totals) -> i64| {
        let running = status.collectors.iter().map(|collector| count(&collector.totals)).sum::<i64>();
        (running + count(&status.retired)).max(0).cast_unsigned()
    };
    Losses {
        missed_ticks: sum(|totals| totals.missed),
        dropped_records: sum(|totals| totals.dropped),
        lost_rows: status.store.lost_rows,
        lost_notifications: status.lost_notifications,
        lost_exports: status.lost_exports,
    }
}

impl From<RuleStatus> for AlertRule {
    fn from(status: RuleStatus) -> Self {
        let state = match (status.firing, status.pending) {
            (0, 0) => AlertState::Ok,
            (0, _) => AlertState::Pending,
            _ => AlertState::Firing,
        };
        let series = status.firing_series.into_iter().map(|series| AlertSeries {
            labels: series.labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            no_data: series.has_no_data,
            since: Some(wire::timestamp(series.since_us)),
            peak: series.peak,
        });
        AlertRule {
            name: status.name,
            table: status.table.to_owned(),
            condition: status.condition,
            for_duration: Some(wire::duration(status.hold)),
            state: state.into(),
            pending: status.pending as u64,
            firing: status.firing as u64,
            firing_series: series.collect(),
            fired: status.fired,
            resolved: status.resolved,
            notify: status.notify,
            absent: status.absent.as_str().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreStats;

    #[test]
    fn a_rule_is_as_bad_as_its_worst_series() {
        let state = |pending, firing| AlertRule::from(RuleStatus { pending, firing, ..Default::default() }).state();
        assert_eq!(state(0, 0), AlertState::Ok);
        assert_eq!(state(3, 0), AlertState::Pending);
        assert_eq!(state(3, 1), AlertState::Firing);
    }

    #[test]
    fn losses_are_those_of_running_and_stopped_collectors() {
        let totals = |missed, dropped| Totals { missed, dropped, ..Totals::default() };
        let collector = |totals| CollectorStatus { totals, ..CollectorStatus::default() };
        let status = DaemonStatus {
            collectors: vec![collector(totals(1, 10)), collector(totals(2, 20))],
            retired: totals(4, 40),
            store: StoreStats { lost_rows: 7, ..StoreStats::default() },
            lost_exports: 8,
            ..DaemonStatus::default()
        };
        let losses = GetStatusResponse::from(status).losses.unwrap();
        let expected =
            Losses { missed_ticks: 7, dropped_records: 70, lost_rows: 7, lost_exports: 8, ..Losses::default() };
        assert_eq!(losses, expected);
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
