//! `MetricsService` and `AlertService`: requests are checked here and handed to the [`Operator`].

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};

use super::aggregate::Aggregation;
use super::error::{invalid_field, within};
use super::operator::{self, Operator};
use super::proto::alert_service_server::AlertService;
use super::proto::control_collector_request::Action;
use super::proto::metrics_service_server::MetricsService;
use super::proto::{
    AggregateMetricsRequest, AggregateMetricsResponse, AlertRule, Collector, ControlCollectorRequest,
    ControlCollectorResponse, FlushRequest, FlushResponse, GetMetricsRequest, GetMetricsResponse, GetStatusRequest,
    GetStatusResponse, ListAlertsRequest, ListAlertsResponse, ListCollectorsRequest, ListCollectorsResponse,
};
use super::{rows, trace, wire};
use crate::family::{FAMILIES, Family, FamilyId};
use crate::query::Engine;
use crate::sampler::INTERVAL_MAX;

/// No collector's name is longer. Longer ones are refused before an error would repeat them.
const NAME_BYTES_MAX: usize = 64;

/// The control API over one daemon.
#[derive(Debug)]
pub(super) struct Control<O> {
    pub(super) operator: Arc<O>,
    pub(super) engine: Engine,
}

impl<O> Clone for Control<O> {
    fn clone(&self) -> Self {
        Control { operator: Arc::clone(&self.operator), engine: self.engine.clone() }
    }
}

#[tonic::async_trait]
impl<O: Operator> MetricsService for Control<O> {
    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let work = async {
            let name = request.into_inner().collector;
            known_name("collector", &name)?;
            let mut families = Vec::new();
            for (family, batch) in self.operator.latest(&name).await? {
                families.push(rows::newest(family.table, &batch)?);
            }
            Ok(Response::new(GetMetricsResponse { families }))
        };
        trace::within(&trace::control("GetMetrics"), work).await
    }

    async fn list_collectors(
        &self,
        _: Request<ListCollectorsRequest>,
    ) -> Result<Response<ListCollectorsResponse>, Status> {
        let work = async {
            let collectors = self.operator.list_collectors().await?.into_iter().map(Collector::from).collect();
            Ok(Response::new(ListCollectorsResponse { collectors }))
        };
        trace::within(&trace::control("ListCollectors"), work).await
    }

    async fn control_collector(
        &self,
        request: Request<ControlCollectorRequest>,
    ) -> Result<Response<ControlCollectorResponse>, Status> {
        let work = async {
            let status = match Change::try_from(request.into_inner())? {
                Change::Start(start) => {
                    self.operator.start_collector(start).await.map_err(|error| within("start", error))?
                }
                Change::Stop(name) => self.operator.stop_collector(&name).await?,
                Change::Retune(retune) => {
                    self.operator.retune_collector(retune).await.map_err(|error| within("retune", error))?
                }
            };
            Ok(Response::new(ControlCollectorResponse { collector: Some(status.into()) }))
        };
        trace::within(&trace::control("ControlCollector"), work).await
    }

    async fn aggregate_metrics(
        &self,
        request: Request<AggregateMetricsRequest>,
    ) -> Result<Response<AggregateMetricsResponse>, Status> {
        let work = async {
            let aggregation = Aggregation::try_from(request.into_inner())?;
            let rows = aggregation.run(&self.engine).await?;
            Ok(Response::new(AggregateMetricsResponse { rows }))
        };
        trace::within(&trace::control("AggregateMetrics"), work).await
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let work = async { Ok(Response::new(self.operator.status().await?.into())) };
        trace::within(&trace::control("GetStatus"), work).await
    }

    async fn flush(&self, _: Request<FlushRequest>) -> Result<Response<FlushResponse>, Status> {
        let work = async { Ok(Response::new(self.operator.flush().await?.into())) };
        trace::within(&trace::control("Flush"), work).await
    }
}

#[tonic::async_trait]
impl<O: Operator> AlertService for Control<O> {
    async fn list_alerts(&self, _: Request<ListAlertsRequest>) -> Result<Response<ListAlertsResponse>, Status> {
        let work = async {
            let rules = self.operator.alerts().await?.into_iter().map(AlertRule::from).collect();
            Ok(Response::new(ListAlertsResponse { rules }))
        };
        trace::within(&trace::control("ListAlerts"), work).await
    }
}

/// A checked request to change a collector.
#[derive(Debug)]
enum Change {
    Start(operator::StartCollector),
    Stop(String),
    Retune(operator::RetuneCollector),
}

impl TryFrom<ControlCollectorRequest> for Change {
    type Error = Status;

    fn try_from(request: ControlCollectorRequest) -> Result<Self, Status> {
        let ControlCollectorRequest { name, action } = request;
        let Some(action) = action else {
            return Err(invalid_field("action", "missing: say start, stop or retune"));
        };
        match action {
            Action::Start(start) => {
                known_name("name", &name)?;
                let Some(interval) = start.interval else {
                    return Err(invalid_field("start.interval", "missing: say how long from tick to tick"));
                };
                if start.families.is_empty() {
                    return Err(invalid_field(
                        "start.families",
                        format!("missing: name at least one of {}", sampled()),
                    ));
                }
                Ok(Change::Start(operator::StartCollector {
                    name,
                    interval: self::interval("start.interval", interval)?,
                    families: families("start.families", &start.families)?,
                    force: start.force,
                    scheduling: wire::checked_scheduling("start.scheduling", start.scheduling)?.unwrap_or_default(),
                }))
            }
            Action::Stop(_) => {
                known_name("name", &name)?;
                Ok(Change::Stop(name))
            }
            Action::Retune(retune) => {
                known_name("name", &name)?;
                let interval =
                    retune.interval.map(|interval| self::interval("retune.interval", interval)).transpose()?;
                let families = match retune.families.as_slice() {
                    [] => None,
                    names => Some(families("retune.families", names)?),
                };
                let scheduling = wire::checked_scheduling("retune.scheduling", retune.scheduling)?;
                if interval.is_none() && families.is_none() && scheduling.is_none() {
                    return Err(invalid_field(
                        "retune",
                        "nothing to change: give a new interval, new families, another scheduling or several of them",
                    ));
                }
                let force = retune.force;
                Ok(Change::Retune(operator::RetuneCollector { name, interval, families, force, scheduling }))
            }
        }
    }
}

/// Refuses what is no name at all. Which ones a collector can have, the operator knows.
fn known_name(field: &'static str, name: &str) -> Result<(), Status> {
    if name.is_empty() {
        return Err(invalid_field(field, "empty: name a collector"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(invalid_field(field, format!("longer than {NAME_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn interval(field: &'static str, interval: prost_types::Duration) -> Result<Duration, Status> {
    wire::positive_duration(field, interval, INTERVAL_MAX)
}

/// The families of these names, each once.
fn families(field: &'static str, names: &[String]) -> Result<Vec<FamilyId>, Status> {
    let mut families: Vec<FamilyId> = Vec::with_capacity(names.len().min(FamilyId::COUNT));
    for name in names {
        let Some(family) = FamilyId::find(name) else {
            return Err(invalid_field(field, format!("{name:?} is not a family: the families are {}", sampled())));
        };
        if family.sampling().is_none() {
            return Err(invalid_field(field, format!("{name:?} is written by kymo itself and cannot be sampled")));
        }
        if families.contains(&family) {
            return Err(invalid_field(field, format!("{name:?} is listed twice")));
        }
        families.push(family);
    }
    Ok(families)
}

/// The names of all families that a collector can have, for messages.
fn sampled() -> String {
    let names: Vec<_> = FAMILIES.iter().filter(|family| family.sampling().is_some()).map(Family::name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::StatusExt;

    use super::*;
    use crate::serve::proto::{RetuneCollector, StartCollector, StopCollector};

    fn change(name: &str, action: Option<Action>) -> Result<Change, Status> {
        Change::try_from(ControlCollectorRequest { name: name.to_owned(), action })
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands where a request's optional action stands")]
    fn start(interval_us: i32, families: &[&str]) -> Option<Action> {
        Some(Action::Start(StartCollector {
            interval: Some(prost_types::Duration { seconds: 0, nanos: interval_us * 1_000 }),
            families: families.iter().map(|name| (*name).to_owned()).collect(),
            force: false,
            scheduling: 0,
        }))
    }

    #[test]
    fn a_good_start_arrives_as_it_was_meant() {
        let Ok(Change::Start(start)) = change("burst-1", start(10_000, &["cpu"])) else { panic!("refused") };
        assert_eq!((start.name.as_str(), start.interval, start.force), ("burst-1", Duration::from_millis(10), false));
        assert_eq!(start.families.iter().map(|family| family.name()).collect::<Vec<_>>(), ["cpu"]);
    }

    #[test]
    fn bad_changes_are_refused_with_the_field_at_fault() {
        let retune = |interval, families: &[&str]| {
            let families = families.iter().map(|name| (*name).to_owned()).collect();
            Some(Action::Retune(RetuneCollector { interval, families, force: true, scheduling: 0 }))
        };
        let retune_scheduling =
            |scheduling| Some(Action::Retune(RetuneCollector { scheduling, ..RetuneCollector::default() }));
        let no_interval =
            Some(Action::Start(StartCollector { interval: None, families: vec![], force: false, scheduling: 0 }));
        for (name, action, field, text) in [
            ("a", None, "action", "missing"),
            ("", start(1, &["cpu"]), "name", "empty"),
            (&"a".repeat(65), start(1, &["cpu"]), "name", "longer"),
            ("a", no_interval, "start.interval", "missing"),
            ("a", start(0, &["cpu"]), "start.interval", "above zero"),
            ("a", start(-5, &["cpu"]), "start.interval", "above zero"),
            ("a", start(5, &[]), "start.families", "cpu"),
            ("a", retune_scheduling(7), "retune.scheduling", "7 is not a value"),
            ("a", retune_scheduling(0), "retune", "nothing to change"),
            ("a", start(5, &["cpo"]), "start.families", "\"cpo\" is not a family"),
            ("a", start(5, &["kymo"]), "start.families", "by kymo itself"),
            ("a", start(5, &["cpu", "cpu"]), "start.families", "twice"),
            ("", Some(Action::Stop(StopCollector {})), "name", "empty"),
            (&"a".repeat(65), Some(Action::Stop(StopCollector {})), "name", "longer"),
            ("a", retune(None, &[]), "retune", "nothing to change"),
            ("a", retune(Some(prost_types::Duration::default()), &[]), "retune.interval", "above zero"),
            ("a", retune(None, &["nope"]), "retune.families", "not a family"),
        ] {
            let status = change(name, action).expect_err(field);
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains(text), "{field}: {}", status.message());
            let details = status.get_details_bad_request().expect("details");
            assert_eq!(details.field_violations[0].field, field);
        }
    }
}
