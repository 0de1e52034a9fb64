//! Connections, and what every client may ask.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServiceResponse};

use super::{Fake, TestServer, any_port, engine};
use crate::query::QuerySettings;
use crate::serve::proto::metrics_service_client::MetricsServiceClient;
use crate::serve::security::Security;
use crate::serve::{ServeSettings, Server, SocketSettings, Stopped, proto};

#[tokio::test]
async fn health_and_reflection_know_the_services() {
    let server = TestServer::start();
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "kymo.v1.MetricsService", "kymo.v1.AlertService", "arrow.flight.protocol.FlightService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1, "{service} serves");
    }
    let nobody = HealthCheckRequest { service: "nobody".to_owned() };
    assert_eq!(health.check(nobody).await.unwrap_err().code(), Code::NotFound);

    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection.server_reflection_info(futures::stream::iter([list])).await.unwrap().into_inner();
    let answers: Vec<_> = answers.try_collect().await.unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answers[0].message_response.clone() else {
        panic!("{answers:?}");
    };
    let names: Vec<_> = list.service.iter().map(|ServiceResponse { name }| name.as_str()).collect();
    assert!(names.contains(&"kymo.v1.MetricsService") && names.contains(&"kymo.v1.AlertService"), "{names:?}");
}

#[tokio::test]
async fn a_taken_port_and_a_public_address_are_explained() {
    let server = TestServer::start();
    let bind = |address| {
        let settings = ServeSettings::at(address);
        let security = Arc::new(Security::open(&settings.security).unwrap());
        Server::bind(settings, security, Arc::new(Fake::default()), engine(QuerySettings::default()))
    };
    let error = bind(server.address).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(&server.address.to_string()) && error.contains("the port is taken"), "{error}");
    for address in ["0.0.0.0:0", "192.0.2.1:50051", "[::]:0"] {
        let error = bind(address.parse().unwrap()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(address), "{error}");
        let how = "needs TLS and tokens: set server.tls.certificate, server.tls.key and server.tokens (`kymo token create NAME";
        assert!(error.contains(how), "{error}");
    }
}

#[tokio::test]
async fn a_unix_socket_is_a_second_way_in_with_the_same_places() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kymo.sock");
    let socket = Some(SocketSettings { path: path.clone(), mode: 0o600 });
    let server = TestServer::with(ServeSettings { socket, connections_max: 1, ..any_port() }, QuerySettings::default());
    let local = Endpoint::from_shared(format!("unix://{}", path.display())).unwrap().connect().await.unwrap();
    let mut local = MetricsServiceClient::new(local);
    local.flush(proto::FlushRequest {}).await.unwrap();
    let refused = match MetricsServiceClient::connect(format!("http://{}", server.address)).await {
        Ok(mut second) => second.flush(proto::FlushRequest {}).await.is_err(),
        Err(_) => true,
    };
    assert!(refused, "the one place is taken");
    drop(local);
    assert_eq!(server.stop().await, Stopped::Drained);
    assert!(!path.exists(), "the socket goes with the server");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_the_others_live() {
    let server = TestServer::with(ServeSettings { connections_max: 1, ..any_port() }, QuerySettings::default());
    let mut first = server.metrics().await;
    first.flush(proto::FlushRequest {}).await.unwrap();
    let url = format!("http://{}", server.address);
    let refused = match MetricsServiceClient::connect(url).await {
        Ok(mut second) => second.flush(proto::FlushRequest {}).await.map(|_| ()).is_err(),
        Err(_) => true,
    };
    assert!(refused);
    first.flush(proto::FlushRequest {}).await.unwrap();
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_client_that_never_ends() {
    let settings = ServeSettings { stop_timeout: Duration::from_millis(200), ..any_port() };
    let server = TestServer::with(settings, QuerySettings::default());
    let mut health = HealthClient::new(server.channel().await);
    let mut watch = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(watch.try_next().await.unwrap().unwrap().status, 1);
    assert_eq!(server.stop().await, Stopped::TimedOut);
    assert_eq!(watch.try_next().await.unwrap().unwrap().status, 2, "health said that it stops");
}
