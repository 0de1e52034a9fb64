//! The gate before every call on both ports. What changes something needs the role `admin`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use tonic::Status;

use super::super::listener::Peer;
use super::access::{Access, Denial};
use super::caller::Caller;

/// Load balancers ask without a token.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// The calls of kymo's own services begin so, and change something unless they are listed below.
const OWN: &str = "/kymo.v1.";
const READING: [&str; 5] = [
    "/kymo.v1.MetricsService/GetMetrics",
    "/kymo.v1.MetricsService/ListCollectors",
    "/kymo.v1.MetricsService/AggregateMetrics",
    "/kymo.v1.MetricsService/GetStatus",
    "/kymo.v1.AlertService/ListAlerts",
];

/// Whether a call changes something. A new one of kymo's own does until it is listed.
fn changes(path: &str) -> bool {
    path.starts_with(OWN) && !READING.contains(&path)
}

/// Lets calls over gRPC pass, with their [`Caller`].
pub(in crate::serve) async fn grpc(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path.starts_with(HEALTH) {
        return next.run(request).await;
    }
    let Some(peer) = request.extensions().get::<Peer>() else {
        return Status::internal("the connection of this call is not known").into_http();
    };
    let caller = match access.enter(&peer.origin(), request.headers()).await {
        Ok(caller) => caller,
        Err(denial) => return Status::unauthenticated(denial.to_string()).into_http(),
    };
    if changes(path) && !caller.may_change() {
        tracing::info!(target: "kymo::audit", "{caller}: {path}: denied, it may only read");
        return Status::permission_denied(
            "this call changes something: it needs a token of the role `admin` (`kymo token create NAME --role admin`), or on the \
             Unix socket root or the user that kymo runs as",
        )
        .into_http();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Who sends a request over HTTP, where nothing is changed.
///
/// # Errors
/// When nobody is let in with these headers.
pub(in crate::serve) async fn http(access: &Access, peer: &Peer, headers: &HeaderMap) -> Result<Caller, Denial> {
    access.enter(&peer.origin(), headers).await
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::super::super::proto::FILE_DESCRIPTOR_SET;
    use super::*;

    #[test]
    fn calls_that_change_something_are_those_that_are_not_named_as_reading() {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
        let mut changing = Vec::new();
        let mut reading = 0;
        for file in files {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    if changes(&path) { changing.push(path) } else { reading += 1 }
                }
            }
        }
        changing.sort();
        assert_eq!(changing, ["/kymo.v1.MetricsService/ControlCollector", "/kymo.v1.MetricsService/Flush"]);
        assert_eq!(reading, READING.len());
        assert!(!changes("/arrow.flight.protocol.FlightService/DoGet"));
        assert!(changes("/kymo.v1.MetricsService/../MetricsService/GetStatus"));
    }
}
