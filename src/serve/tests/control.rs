//! The control API.

use std::time::Duration;

use tonic::Code;
use tonic_types::StatusExt;

use super::{ROWS, STEP_US, TestServer};
use crate::serve::proto;
use crate::serve::proto::alert_service_client::AlertServiceClient;
use crate::serve::proto::control_collector_request::Action as Change;
use crate::serve::proto::number::Value;
use crate::serve::wire;

#[tokio::test]
async fn collectors_are_started_retuned_listed_and_stopped() {
    let server = TestServer::start();
    let mut client = server.metrics().await;
    let interval = |millis| wire::duration(Duration::from_millis(millis));
    let families = vec!["cpu".to_owned()];
    let start = proto::StartCollector { interval: Some(interval(10)), families, ..Default::default() };
    let request = |action| proto::ControlCollectorRequest { name: "fast".to_owned(), action: Some(action) };

    let short = proto::StartCollector { interval: Some(wire::duration(Duration::from_micros(5))), ..start.clone() };
    let short = client.control_collector(request(Change::Start(short))).await.unwrap_err();
    assert_eq!(short.code(), Code::InvalidArgument);
    assert!(short.message().starts_with("start.interval: the interval must be from 1ms to 24h"), "{short}");
    let details = short.get_details_bad_request().expect("details survive the wire");
    assert_eq!(details.field_violations[0].field, "start.interval");

    let started = client.control_collector(request(Change::Start(start.clone()))).await.unwrap().into_inner();
    assert_eq!(started.collector.unwrap().families, ["cpu"]);
    let again = client.control_collector(request(Change::Start(start))).await.unwrap_err();
    assert_eq!((again.code(), again.message()), (Code::AlreadyExists, "there is a collector `fast` already"));

    let retune = proto::RetuneCollector { interval: Some(interval(20)), ..Default::default() };
    let retuned = client.control_collector(request(Change::Retune(retune))).await.unwrap().into_inner();
    assert_eq!(retuned.collector.unwrap().interval, Some(interval(20)));
    let listed = client.list_collectors(proto::ListCollectorsRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.collectors.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["fast"]);

    let stop = Change::Stop(proto::StopCollector {});
    client.control_collector(request(stop)).await.unwrap();
    let gone = client.control_collector(request(Change::Stop(proto::StopCollector {}))).await.unwrap_err();
    assert_eq!((gone.code(), gone.message()), (Code::NotFound, "no collector fast runs"));
    let nothing = client.control_collector(proto::ControlCollectorRequest::default()).await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn metrics_status_flush_and_alerts_arrive() {
    let server = TestServer::start();
    let mut client = server.metrics().await;
    let get = |collector: &str| proto::GetMetricsRequest { collector: collector.to_owned() };
    let metrics = client.get_metrics(get("reports")).await.unwrap().into_inner();
    assert_eq!(metrics.families[0].rows.len(), 1, "the newest tick has one row");
    assert_eq!(metrics.families[0].rows[0].labels["collector"], "odd");
    assert_eq!(client.get_metrics(get("nobody")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.get_metrics(get("")).await.unwrap_err().code(), Code::InvalidArgument);

    let status = client.get_status(proto::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.host.as_str(), status.version.as_str()), ("ember", env!("CARGO_PKG_VERSION")));
    assert_eq!((status.degraded, status.degraded_reasons.as_slice()), (true, ["disk full".to_owned()].as_slice()));
    let flushed = client.flush(proto::FlushRequest {}).await.unwrap().into_inner();
    assert_eq!((flushed.files, flushed.rows), (2, 7));

    let mut alerts = AlertServiceClient::new(server.channel().await);
    let rules = alerts.list_alerts(proto::ListAlertsRequest {}).await.unwrap().into_inner().rules;
    assert_eq!((rules[0].name.as_str(), rules[0].state()), ("busy", proto::AlertState::Firing));
    let series = &rules[0].firing_series[0];
    assert_eq!((series.labels["cpu"].as_str(), series.no_data, series.peak), ("total", false, Some(99.5)));
    assert_eq!(series.since.as_ref().map(|since| since.seconds), Some(1_700_000_000));
    assert_eq!(rules[0].absent, "resolve");
}

fn aggregate(columns: &[&str], bucket_s: Option<i64>) -> proto::AggregateMetricsRequest {
    proto::AggregateMetricsRequest {
        table: "gap".to_owned(),
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        start_time: Some(wire::timestamp(0)),
        end_time: Some(wire::timestamp(ROWS * STEP_US)),
        bucket: bucket_s.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        group_by: Some(proto::LabelNames::default()),
        ..Default::default()
    }
}

fn int(number: Option<proto::Number>) -> Option<i64> {
    number.map(|number| match number.value {
        Some(Value::IntValue(value)) => value,
        other => panic!("not an integer: {other:?}"),
    })
}

#[tokio::test]
async fn aggregates_are_those_of_the_rows_in_each_bucket_and_series() {
    let server = TestServer::start();
    let mut client = server.metrics().await;

    // One bucket, no labels: 0…18, and an absent value at 19. Integers above 2⁵³ keep every digit.
    let rows = client.aggregate_metrics(aggregate(&["lost", "to_us"], None)).await.unwrap().into_inner().rows;
    assert_eq!(rows.len(), 1);
    let [lost, to] = rows[0].aggregates.as_slice() else { panic!("two columns") };
    assert_eq!((lost.count, int(lost.min), int(lost.max), int(lost.last)), (19, Some(0), Some(18), Some(18)));
    assert_eq!((lost.avg, lost.unit.as_str()), (Some(9.0), "tick"));
    assert_eq!((to.count, int(to.last)), (20, Some((1 << 53) + 19)));

    // Buckets of 10 s by collector: 0, 2 … 8 are even in the first.
    let by_collector = proto::AggregateMetricsRequest {
        group_by: Some(proto::LabelNames { names: vec!["collector".to_owned()] }),
        ..aggregate(&["lost"], Some(10))
    };
    let rows = client.aggregate_metrics(by_collector.clone()).await.unwrap().into_inner().rows;
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.time.unwrap().seconds, row.labels["collector"].as_str(), int(row.aggregates[0].last)))
        .collect();
    assert_eq!(
        told,
        [(0, "even", Some(8)), (0, "odd", Some(9)), (10, "even", Some(18)), (10, "odd", Some(17))],
        "in the order of time, then labels"
    );

    let odd = proto::AggregateMetricsRequest {
        labels: [("collector".to_owned(), "odd".to_owned())].into(),
        start_time: Some(wire::timestamp(19 * STEP_US)),
        ..by_collector
    };
    let rows = client.aggregate_metrics(odd.clone()).await.unwrap().into_inner().rows;
    assert_eq!(rows.len(), 1);
    let only = &rows[0].aggregates[0];
    assert_eq!((only.count, only.min, only.max, only.avg, only.last), (0, None, None, None, None));

    let nobody = proto::AggregateMetricsRequest {
        labels: [("collector".to_owned(), "' OR '1' = '1".to_owned())].into(),
        group_by: Some(proto::LabelNames::default()),
        bucket: None,
        ..odd
    };
    assert_eq!(client.aggregate_metrics(nobody).await.unwrap().into_inner().rows, []);
    let wrong = proto::AggregateMetricsRequest { table: "gaps".to_owned(), ..aggregate(&[], None) };
    assert_eq!(client.aggregate_metrics(wrong).await.unwrap_err().code(), Code::InvalidArgument);
}
