//! The servers: Flight SQL, the control API, health and reflection on one port, and HTTP on another ([`http`]).
//!
//! It reaches the daemon through [`Operator`] and the data through [`Statements`], and knows nothing else of them.
//! Messages, clients and server traits of the control API are in [`proto`].

mod aggregate;
pub mod auth;
mod control;
mod error;
mod flight;
pub mod http;
mod listener;
mod operator;
pub mod proto;
mod rows;
pub mod security;
mod socket;
mod status;
pub mod tls;
mod trace;
mod wire;

use std::io;
use std::iter;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use axum::middleware::from_fn_with_state;
use futures::stream::{self, StreamExt};
use tokio::sync::{Semaphore, oneshot};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::query::statements::Statements;
use auth::gate;
use control::Control;
use flight::Flight;
use flight::server::FlightServer;
pub use operator::{DaemonStatus, Operator, OperatorError};
use proto::alert_service_server::{AlertServiceServer, SERVICE_NAME as ALERT};
use proto::metrics_service_server::{MetricsServiceServer, SERVICE_NAME as METRICS};
use security::{OPENING, Security, SecurityError, SecuritySettings};
use socket::SocketFile;
pub use socket::{PATH_BYTES_MAX, SocketError, SocketSettings};

/// The services that have a health status. The empty name is the server as a whole.
const SERVICES: [&str; 4] = ["", FlightServer::NAME, METRICS, ALERT];

/// Where a server listens by default.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";

/// How often an idle connection is probed, so that dead clients free their place.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long a client may take to answer a probe.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A server's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeSettings {
    /// Where to listen: on loopback, or with TLS and tokens anywhere. Port 0 takes any free port.
    pub address: SocketAddr,
    /// What clients need.
    pub security: SecuritySettings,
    /// The Unix socket that is listened on, too.
    pub socket: Option<SocketSettings>,
    /// The most open connections, those to the Unix socket among them. Further ones are closed at once.
    pub connections_max: usize,
    /// The most concurrent requests on one connection. Further ones wait.
    pub requests_per_connection_max: u32,
    /// The largest request, in bytes.
    pub request_bytes_max: usize,
    /// Batches of a query's result are split to about this size.
    pub batch_bytes_max: usize,
    /// How long running requests may take once the server stops.
    pub stop_timeout: Duration,
}

impl ServeSettings {
    /// The default limits at `address`.
    #[must_use]
    pub fn at(address: SocketAddr) -> ServeSettings {
        ServeSettings {
            address,
            security: SecuritySettings::default(),
            socket: None,
            connections_max: 128,
            requests_per_connection_max: 64,
            request_bytes_max: 4 << 20,
            // Clients refuse messages above 4 MiB by default, and a batch's size is an estimate.
            batch_bytes_max: 2 << 20,
            stop_timeout: Duration::from_secs(5),
        }
    }
}

/// Why the server does not listen, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can be reached from other hosts.
    #[error("listen on {0}: {OPENING}")]
    NotLoopback(SocketAddr),
    /// A file of tokens, a certificate or a key cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// Another program has the port.
    #[error(
        "listen on {}: the port is taken, perhaps by another kymo; stop that program or use another port (--address) \
         (`ss -ltnp 'sport = :{}'` shows who has it)", .0, .0.port()
    )]
    PortTaken(SocketAddr),
    /// Listening failed for another reason.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// There is no Unix socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The API's descriptors cannot be read, which is a bug.
    #[error("offer server reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server failed while it ran.
    #[error("serve on {address}: {source}")]
    Serve {
        /// Where it listened.
        address: SocketAddr,
        /// What failed.
        source: tonic::transport::Error,
    },
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every running request was answered.
    Drained,
    /// Requests were still running after [`ServeSettings::stop_timeout`]. They end with the runtime.
    TimedOut,
}

/// A server that listens. Connections wait in the kernel until it [runs](Server::run).
#[derive(Debug)]
pub struct Server {
    settings: ServeSettings,
    listener: TcpListener,
    address: SocketAddr,
    socket: Option<(SocketFile, UnixListener)>,
    routes: Routes,
    security: Arc<Security>,
    health: HealthReporter,
}

impl Server {
    /// Listens at the address and the socket of `settings`, whose security is `security`.
    ///
    /// # Errors
    /// When the address is not loopback, or one of both is taken or cannot be bound.
    pub fn bind<O: Operator>(
        settings: ServeSettings,
        security: Arc<Security>,
        operator: Arc<O>,
        statements: Arc<dyn Statements>,
    ) -> Result<Server, ServeError> {
        let address = settings.address;
        let listener = listen(&settings)?;
        let listening = listener.set_nonblocking(true).and_then(|()| listener.local_addr());
        let local = listening.map_err(|source| ServeError::Listen { address, source })?;
        let socket = settings.socket.as_ref().map(SocketFile::bind).transpose()?;

        let health = HealthReporter::new();
        let routes = routes(&settings, operator, statements, &health)?;
        let gate = from_fn_with_state(Arc::clone(&security.access), gate::grpc);
        let routes = routes.into_axum_router().layer(gate).into();
        Ok(Server { settings, listener, address: local, socket, routes, security, health })
    }

    /// Where it listens, with the port that was taken for port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What clients are told about its health.
    #[must_use]
    pub fn health(&self) -> Health {
        Health(self.health.clone())
    }

    /// All that it listens on, as clients name it.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let socket = self.settings.socket.iter().map(|socket| format!("unix:{}", socket.path.display()));
        let scheme = if self.is_secure() { "https://" } else { "" };
        iter::once(format!("{scheme}{}", self.address)).chain(socket).collect()
    }

    /// Whether it speaks TLS, but on the Unix socket.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.security.tls.is_some()
    }

    /// Serves until `shutdown` is ready. Then it accepts no new connections, reports itself as not serving, and gives
    /// running requests [`ServeSettings::stop_timeout`] to end.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Stopped, ServeError> {
        let Server { settings, listener, address, socket, routes, security, health } = self;
        let refused = |source| ServeError::Listen { address, source };
        let listener = tokio::net::TcpListener::from_std(listener).map_err(refused)?;
        let (_file, socket) = socket.unzip();
        let socket = socket.map(tokio::net::UnixListener::from_std).transpose().map_err(refused)?;
        let places = Arc::new(Semaphore::new(settings.connections_max));
        let local = stream::iter(socket).flat_map({
            let places = Arc::clone(&places);
            move |socket| listener::connections(socket, Arc::clone(&places), None).boxed()
        });
        let connections = stream::select(listener::connections(listener, places, security.tls.clone()).boxed(), local);
        for service in SERVICES {
            health.set_service_status(service, ServingStatus::Serving).await;
        }
        let (stop, stopping) = oneshot::channel::<()>();
        let serving = tonic::transport::Server::builder()
            .max_concurrent_streams(settings.requests_per_connection_max)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_routes(routes)
            .serve_with_incoming_shutdown(connections, async {
                // A dropped sender stops the server, too.
                let _ = stopping.await;
            });
        let deadline = async {
            shutdown.await;
            Health(health).stops().await;
            let _ = stop.send(());
            tokio::time::sleep(settings.stop_timeout).await;
        };
        tokio::select! {
            served = serving => {
                served.map_err(|source| ServeError::Serve { address, source })?;
                Ok(Stopped::Drained)
            }
            () = deadline => Ok(Stopped::TimedOut),
        }
    }
}

/// A server's health, as clients and load balancers ask for it.
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

impl Health {
    /// Says that the server stops soon. It still answers.
    pub async fn stops(&self) {
        for service in SERVICES {
            self.0.set_service_status(service, ServingStatus::NotServing).await;
        }
    }
}

/// An address without the scheme that clients may write before it.
#[must_use]
pub fn without_scheme(address: &str) -> &str {
    let schemes = ["grpc://", "grpc+tcp://", "http://", "https://", "grpc+tls://"];
    schemes.iter().find_map(|scheme| address.strip_prefix(scheme)).unwrap_or(address)
}

/// Whether address and socket of `settings` can be bound now, and its files of tokens and TLS can be used. Another program may
/// take the address before [`Server::bind`].
///
/// # Errors
/// As for [`Server::bind`].
pub fn check_address(settings: &ServeSettings) -> Result<(), ServeError> {
    Security::open(&settings.security)?;
    if let Some(socket) = &settings.socket {
        socket::check(&socket.path)?;
    }
    listen(settings).map(drop)
}

fn listen(settings: &ServeSettings) -> Result<TcpListener, ServeError> {
    let address = settings.address;
    if !address.ip().is_loopback() && !settings.security.is_open_to_others() {
        return Err(ServeError::NotLoopback(address));
    }
    TcpListener::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::PortTaken(address),
        _ => ServeError::Listen { address, source },
    })
}

fn routes<O: Operator>(
    settings: &ServeSettings,
    operator: Arc<O>,
    statements: Arc<dyn Statements>,
    health: &HealthReporter,
) -> Result<Routes, ServeError> {
    let request_bytes_max = settings.request_bytes_max;
    let flight = Flight::new(Arc::clone(&statements), settings.batch_bytes_max);
    let flight = FlightServer::new(Arc::new(flight), request_bytes_max);
    let control = Arc::new(Control { operator, statements });
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let health = HealthServer::new(HealthService::from_health_reporter(health.clone()));
    Ok(Routes::new(flight)
        .add_service(MetricsServiceServer::from_arc(Arc::clone(&control)).max_decoding_message_size(request_bytes_max))
        .add_service(AlertServiceServer::from_arc(control).max_decoding_message_size(request_bytes_max))
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?))
}

#[cfg(test)]
mod tests;
