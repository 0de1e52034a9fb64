//! Connections for exports: on a small runtime of their own, with time limits.

use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint, Uri};

use super::error::ExportError;

/// An export fails when its endpoint could not be connected to within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// An export fails when it was not answered within this time.
pub const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The runtime that connections live on: one thread.
///
/// The OpenTelemetry SDK exports from plain threads, where gRPC connections cannot live. The daemon's runtime is not used
/// either, so that a slow endpoint does not slow down serving.
#[derive(Debug)]
pub(super) struct Link {
    handle: Handle,
    /// The thread ends when this is dropped.
    _stop: oneshot::Sender<()>,
}

impl Link {
    pub(super) fn start() -> Result<Link, ExportError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(ExportError::Thread)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            // An error means that the sender was dropped, which ends the thread.
            let _ = runtime.block_on(stopped);
            // A running name look-up must not delay the end of the process.
            runtime.shutdown_background();
        };
        thread::Builder::new().name("kymo-export".into()).spawn(run).map_err(ExportError::Thread)?;
        Ok(Link { handle, _stop: stop })
    }

    /// A connection that is made at its first use, and again after it breaks.
    pub(super) fn connect(&self, endpoint: &str) -> Result<Channel, ExportError> {
        let uri = parse(endpoint)?;
        // The channel starts its worker on the current runtime.
        let _entered = self.handle.enter();
        Ok(Endpoint::from(uri).connect_timeout(CONNECT_TIMEOUT).timeout(EXPORT_TIMEOUT).connect_lazy())
    }
}

/// Whether OTLP could be sent to `endpoint`; nothing is connected.
///
/// # Errors
/// When it is not of the form `http://HOST:PORT`.
pub fn check_endpoint(endpoint: &str) -> Result<(), ExportError> {
    parse(endpoint).map(drop)
}

fn parse(endpoint: &str) -> Result<Uri, ExportError> {
    let wrong = |reason| ExportError::Setting { setting: "OTLP endpoint", text: endpoint.into(), reason };
    let expected = "expected http://HOST:PORT of an OTLP gRPC receiver, such as http://127.0.0.1:4317";
    let uri: Uri = endpoint.parse().map_err(|error| wrong(format!("{error}; {expected}")))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(wrong("TLS is not offered here; send to a collector on this host over http://".into()));
        }
        _ => return Err(wrong(expected.into())),
    }
    if uri.port_u16().is_none_or(|port| port == 0) {
        return Err(wrong(format!("the port is missing or wrong (OTLP over gRPC is on 4317); {expected}")));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong(format!("a gRPC endpoint has no path; {expected}")));
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_checked_without_connecting() {
        for good in ["http://127.0.0.1:4317", "http://otel.example:4317/", "http://[::1]:4317"] {
            check_endpoint(good).unwrap();
        }
        let cases = [
            ("", "expected http://"),
            ("127.0.0.1:4317", "expected http://"),
            ("localhost", "expected http://"),
            ("ftp://a:1", "expected http://"),
            ("https://otel.example:4317", "TLS is not offered"),
            ("http://otel.example", "port is missing"),
            ("http://otel.example:0", "port is missing"),
            ("http://otel.example:99999", "expected http://"),
            ("http://127.0.0.1:4318/v1/metrics", "has no path"),
            ("http://a b:1", "expected http://"),
        ];
        for (endpoint, reason) in cases {
            let error = check_endpoint(endpoint).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(&format!("{endpoint:?}")), "{endpoint}: {error}");
        }
    }
}
