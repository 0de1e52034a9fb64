//! `MetricsService` and `AlertService`: the form of requests is checked here, the rest by the [`Operator`].

use std::sync::Arc;

use tonic::{Request, Status};

use super::aggregate::Aggregation;
use super::auth::caller::Caller;
use super::error::{invalid_field, within};
use super::operator::Operator;
use super::proto::alert_service_server::AlertService;
use super::proto::control_collector_request::Action;
use super::proto::metrics_service_server::MetricsService;
use super::proto::{
    AggregateMetricsRequest, AggregateMetricsResponse, AlertRule, Collector, ControlCollectorRequest,
    ControlCollectorResponse, FlushRequest, FlushResponse, GetMetricsRequest, GetMetricsResponse, GetStatusRequest,
    GetStatusResponse, ListAlertsRequest, ListAlertsResponse, ListCollectorsRequest, ListCollectorsResponse,
};
use super::trace::{self, Reply};
use super::{rows, wire};
use crate::collector::{NAME_LENGTH_MAX, RetuneCollector, StartCollector, sampled};
use crate::query::statements::Statements;
use crate::words::{list, shortened};

/// The control API over one daemon.
#[derive(Debug)]
pub(super) struct Control<O> {
    pub(super) operator: Arc<O>,
    pub(super) statements: Arc<dyn Statements>,
}

#[tonic::async_trait]
impl<O: Operator> MetricsService for Control<O> {
    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Reply<GetMetricsResponse> {
        let work = async {
            let name = request.into_inner().collector;
            known_name("collector", &name)?;
            let latest = self.operator.latest(&name).await?.into_iter();
            let families = latest.map(|(family, batch)| rows::newest(family.table, &batch));
            Ok(GetMetricsResponse { families: families.collect::<Result<_, _>>()? })
        };
        trace::control("GetMetrics", work).await
    }

    async fn list_collectors(&self, _: Request<ListCollectorsRequest>) -> Reply<ListCollectorsResponse> {
        let work = async {
            let collectors = self.operator.list_collectors().await?.into_iter().map(Collector::from).collect();
            Ok(ListCollectorsResponse { collectors })
        };
        trace::control("ListCollectors", work).await
    }

    async fn control_collector(&self, request: Request<ControlCollectorRequest>) -> Reply<ControlCollectorResponse> {
        let caller = request.extensions().get::<Caller>().cloned();
        let what = told(request.get_ref());
        let work = async {
            let operator = &self.operator;
            let status = match Change::try_from(request.into_inner())? {
                Change::Start(start) => {
                    operator.start_collector(start).await.map_err(|error| within("start", error))?
                }
                Change::Stop(name) => operator.stop_collector(&name).await?,
                Change::Retune(retune) => {
                    operator.retune_collector(retune).await.map_err(|error| within("retune", error))?
                }
            };
            Ok(ControlCollectorResponse { collector: Some(status.into()) })
        };
        trace::change("ControlCollector", caller, what, work).await
    }

    async fn aggregate_metrics(&self, request: Request<AggregateMetricsRequest>) -> Reply<AggregateMetricsResponse> {
        let work = async {
            let rows = Aggregation::try_from(request.into_inner())?.run(&*self.statements).await?;
            Ok(AggregateMetricsResponse { rows })
        };
        trace::control("AggregateMetrics", work).await
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Reply<GetStatusResponse> {
        trace::control("GetStatus", async { Ok(self.operator.status().await?.into()) }).await
    }

    async fn flush(&self, request: Request<FlushRequest>) -> Reply<FlushResponse> {
        let caller = request.extensions().get::<Caller>().cloned();
        let work = async {
            let flushed = self.operator.flush().await?;
            Ok(FlushResponse { files: flushed.files.len() as u64, rows: flushed.rows })
        };
        trace::change("Flush", caller, "flush".to_owned(), work).await
    }
}

#[tonic::async_trait]
impl<O: Operator> AlertService for Control<O> {
    async fn list_alerts(&self, _: Request<ListAlertsRequest>) -> Reply<ListAlertsResponse> {
        let work = async {
            let rules = self.operator.alerts().await?.into_iter().map(AlertRule::from).collect();
            Ok(ListAlertsResponse { rules })
        };
        trace::control("ListAlerts", work).await
    }
}

/// What a request wants, for the log. Nothing in it is checked yet.
fn told(request: &ControlCollectorRequest) -> String {
    let action = match &request.action {
        Some(Action::Start(_)) => "start",
        Some(Action::Stop(_)) => "stop",
        Some(Action::Retune(_)) => "retune",
        None => "change",
    };
    format!("{action} collector {:?}", shortened(&request.name))
}

/// A request to change a collector, checked as to its form.
#[derive(Debug)]
enum Change {
    Start(StartCollector),
    Stop(String),
    Retune(RetuneCollector),
}

impl TryFrom<ControlCollectorRequest> for Change {
    type Error = Status;

    fn try_from(request: ControlCollectorRequest) -> Result<Self, Status> {
        let ControlCollectorRequest { name, action } = request;
        let Some(action) = action else {
            return Err(invalid_field("action", "missing: give start, stop or retune"));
        };
        known_name("name", &name)?;
        match action {
            Action::Start(start) => {
                let Some(interval) = start.interval else {
                    return Err(invalid_field("start.interval", "missing: give the time between two ticks"));
                };
                if start.families.is_empty() {
                    let message = format!("missing: list at least one of {}", list(sampled()));
                    return Err(invalid_field("start.families", message));
                }
                Ok(Change::Start(StartCollector {
                    name,
                    interval: wire::checked_duration("start.interval", interval)?,
                    families: start.families,
                    force: start.force,
                    scheduling: wire::checked_scheduling("start.scheduling", start.scheduling)?.unwrap_or_default(),
                }))
            }
            Action::Stop(_) => Ok(Change::Stop(name)),
            Action::Retune(retune) => {
                let interval = retune.interval.map(|interval| wire::checked_duration("retune.interval", interval));
                let change = RetuneCollector {
                    name,
                    interval: interval.transpose()?,
                    families: retune.families,
                    force: retune.force,
                    scheduling: wire::checked_scheduling("retune.scheduling", retune.scheduling)?,
                };
                if change.is_empty() {
                    let message = "nothing to change: give a new interval, new families or another scheduling";
                    return Err(invalid_field("retune", message));
                }
                Ok(Change::Retune(change))
            }
        }
    }
}

/// Refuses names that no collector can have, before an error repeats them.
fn known_name(field: &'static str, name: &str) -> Result<(), Status> {
    if name.is_empty() {
        return Err(invalid_field(field, "empty: name a collector"));
    }
    if name.len() > NAME_LENGTH_MAX {
        return Err(invalid_field(field, format!("longer than {NAME_LENGTH_MAX} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;
    use tonic_types::StatusExt;

    use super::super::proto::{self, StopCollector};
    use super::*;

    fn change(name: &str, action: Option<Action>) -> Result<Change, Status> {
        Change::try_from(ControlCollectorRequest { name: name.to_owned(), action })
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands where a request's optional action stands")]
    fn start(interval_us: i32, families: &[&str]) -> Option<Action> {
        Some(Action::Start(proto::StartCollector {
            interval: Some(prost_types::Duration { seconds: 0, nanos: interval_us * 1_000 }),
            families: families.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        }))
    }

    #[test]
    fn a_good_start_arrives_as_it_was_meant() {
        let Ok(Change::Start(start)) = change("burst-1", start(10_000, &["cpu"])) else { panic!("refused") };
        assert_eq!((start.name.as_str(), start.interval, start.force), ("burst-1", Duration::from_millis(10), false));
        assert_eq!(start.families, ["cpu"]);
    }

    /// What a client is told by an operator whose one collector is `a`.
    fn refusal(name: &str, action: Option<Action>) -> Status {
        match change(name, action) {
            Err(status) => status,
            Ok(Change::Start(start)) => within("start", start.check(&[]).unwrap_err().into()),
            Ok(Change::Retune(retune)) => {
                let (interval, families) = (Duration::from_secs(1), vec!["memory".to_owned()]);
                let running = StartCollector { name: "a".into(), interval, families, ..Default::default() };
                let running = running.check(&[]).unwrap();
                within("retune", retune.check(&running, std::slice::from_ref(&running)).unwrap_err().into())
            }
            Ok(Change::Stop(name)) => panic!("{name} can be stopped"),
        }
    }

    #[test]
    fn bad_changes_are_refused_with_the_field_at_fault() {
        let retune = |interval, families: &[&str]| {
            let families = families.iter().map(|name| (*name).to_owned()).collect();
            Some(Action::Retune(proto::RetuneCollector { interval, families, force: true, scheduling: 0 }))
        };
        let retune_scheduling =
            |scheduling| Some(Action::Retune(proto::RetuneCollector { scheduling, ..Default::default() }));
        let no_interval = Some(Action::Start(proto::StartCollector::default()));
        for (name, action, field, text) in [
            ("a", None, "action", "missing"),
            ("", start(1, &["cpu"]), "name", "empty"),
            (&"a".repeat(65), start(1, &["cpu"]), "name", "longer"),
            ("a", no_interval, "start.interval", "missing"),
            ("a", start(0, &["cpu"]), "start.interval", "from 1ms to 24h"),
            ("a", start(-5, &["cpu"]), "start.interval", "above zero"),
            ("a", start(5, &[]), "start.families", "cpu"),
            ("a", retune_scheduling(7), "retune.scheduling", "7 is not a value"),
            ("a", retune_scheduling(0), "retune", "nothing to change"),
            ("a", start(5_000, &["cpo"]), "start.families", "unknown table `cpo`; did you mean `cpu`?"),
            ("a", start(5_000, &["cpu"]), "start.interval", "5ms is too short for `cpu`"),
            ("a", start(5_000, &["kymo"]), "start.families", "by kymo itself"),
            ("a", start(10_000, &["cpu", "cpu"]), "start.families", "twice"),
            ("", Some(Action::Stop(StopCollector {})), "name", "empty"),
            (&"a".repeat(65), Some(Action::Stop(StopCollector {})), "name", "longer"),
            ("a", retune(None, &[]), "retune", "nothing to change"),
            ("a", retune(Some(prost_types::Duration::default()), &[]), "retune.interval", "from 1ms to 24h"),
            ("a", retune(None, &["nope"]), "retune.families", "unknown table `nope`"),
        ] {
            let status = refusal(name, action);
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains(text), "{field}: {}", status.message());
            let details = status.get_details_bad_request().expect("details");
            assert_eq!(details.field_violations[0].field, field);
        }
    }
}
