//! HTTP: the page, its API, and what Prometheus reads. It never changes anything.
//!
//! Recording does not depend on it: if the port is taken, [`HttpServer`] says so and tries again until it is free.

mod about;
mod accept;
mod answer;
mod api;
mod compress;
mod conversation;
mod guard;
mod page;
mod pages;
mod parquet_file;
mod places;
mod range;
mod refusal;
pub mod tables;
mod tag;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::listener::{self, Peer};
use super::operator::Operator;
use super::security::{OPENING, Security};
use super::tls::Tls;
use crate::query::statements::Statements;
use api::Api;
use conversation::{GRACE, Times, converse, converse_within};
use guard::Kept;
use places::Places;

/// Where HTTP is offered by default.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:9464";

/// The pause after the port could not be had.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// How long a request may take to come.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// Where HTTP is offered, and to how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where to listen: on loopback, or with TLS and tokens anywhere. Port 0 takes any free port. `None`: nowhere.
    pub address: Option<SocketAddr>,
    /// The most open connections. For a further one, the one that has been idle longest is closed; if requests run on all, the further
    /// one is.
    pub connections_max: usize,
    /// How long the head of a request may take, and then its body. It is also the time that a connection may be idle.
    pub request_time_max: Duration,
}

/// Where HTTP is offered now, or why it is not. Shared with the daemon's status.
#[derive(Clone, Debug, Default)]
pub struct HttpState(Arc<Mutex<Listening>>);

#[derive(Clone, Debug, Default)]
enum Listening {
    /// It was switched off, has not begun, or has ended.
    #[default]
    Off,
    At(SocketAddr),
    Refused(String),
}

impl HttpState {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match *self.get() {
            Listening::At(address) => Some(address),
            _ => None,
        }
    }

    /// Why it does not listen, although it should.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match &*self.get() {
            Listening::Refused(reason) => Some(reason.clone()),
            _ => None,
        }
    }

    fn set(&self, listening: Listening) {
        *self.get() = listening;
    }

    fn get(&self) -> MutexGuard<'_, Listening> {
        // Each change is a single step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The HTTP server. It listens once it [runs](HttpServer::run).
#[derive(Debug)]
pub struct HttpServer {
    settings: HttpSettings,
    router: Router,
    tls: Option<Arc<Tls>>,
    is_open_to_others: bool,
    state: HttpState,
}

impl HttpServer {
    /// A server that lets in whom `security` does, asks `operator`, runs `statements`, and says in `state` where it listens.
    pub fn new<O: Operator>(
        settings: HttpSettings,
        security: &Security,
        operator: Arc<O>,
        statements: Arc<dyn Statements>,
        state: HttpState,
    ) -> HttpServer {
        let tls = security.tls.clone();
        let (is_secure, needs_tokens) = (tls.is_some(), security.access.needs_tokens());
        let kept = Kept { access: Arc::clone(&security.access), scheme: if is_secure { "https" } else { "http" } };
        let router = Router::new()
            .route("/", get(page::index))
            .route("/web/{hash}/{name}", get(page::file))
            .route("/metrics", get(pages::metrics::<O>))
            .route("/api/v1/openapi.json", get(api::openapi))
            .route("/api/v1/status", get(api::status::<O>))
            .route("/api/v1/tables", get(api::tables::<O>))
            .route("/api/v1/alerts", get(api::alerts::<O>))
            .route(api::SQL_PATH, get(api::sql::<O>).post(api::sql::<O>))
            .route("/api/v1/range", get(api::range::<O>))
            .method_not_allowed_fallback(pages::other_method)
            .fallback(pages::absent)
            .with_state(Arc::new(Api { operator, statements, body_time_max: settings.request_time_max }))
            .layer(from_fn(compress::compress))
            .layer(from_fn_with_state(kept, guard::keep));
        HttpServer { settings, router, tls, is_open_to_others: is_secure && needs_tokens, state }
    }

    /// Offers HTTP until `shutdown` is ready. Then requests that run may take two seconds more.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let HttpServer { settings, router, tls, is_open_to_others, state } = self;
        let Some(address) = settings.address else { return };
        let mut open = JoinSet::new();
        let (stop, stopping) = watch::channel(());
        tokio::select! {
            () = async {
                if !address.ip().is_loopback() && !is_open_to_others {
                    state.set(Listening::Refused(format!("no HTTP on {address}: {OPENING}")));
                    return std::future::pending().await;
                }
                let listener = listen(address, tls.is_some(), &state).await;
                accept(listener, &settings, &router, tls, &stopping, &mut open).await;
            } => {}
            () = shutdown => {}
        }
        state.set(Listening::Off);
        drop(stop);
        // Those that are left end with the set.
        let _ = timeout(GRACE, async { while open.join_next().await.is_some() {} }).await;
    }
}

/// Binds the port, however often that takes. An outage is logged once.
async fn listen(address: SocketAddr, is_secure: bool, state: &HttpState) -> TcpListener {
    loop {
        let reason = match bind(address).await {
            Ok((listener, local)) => {
                let scheme = if is_secure { "https" } else { "http" };
                tracing::info!("HTTP on {scheme}://{local}: the page, and /metrics for Prometheus");
                state.set(Listening::At(local));
                return listener;
            }
            Err(reason) => reason,
        };
        if state.trouble().as_ref() != Some(&reason) {
            tracing::warn!("{reason}; recording goes on, and kymo tries again every 10 s");
        }
        state.set(Listening::Refused(reason));
        sleep(RETRY_AFTER).await;
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let bound = TcpListener::bind(address).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
    bound.map(|(local, listener)| (listener, local)).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "no HTTP on {address}: another program has the port; free it, or set another one as `http.address` (`ss -ltnp \
             'sport = :{}'` shows who has it)",
            address.port()
        ),
        _ => format!("no HTTP on {address}: {error}"),
    })
}

/// Takes connections. When there are as many as may be, the one that has been idle longest gives its place to a new one.
async fn accept(
    listener: TcpListener,
    settings: &HttpSettings,
    router: &Router,
    tls: Option<Arc<Tls>>,
    stopping: &watch::Receiver<()>,
    open: &mut JoinSet<()>,
) {
    let places = Places::new(settings.connections_max);
    loop {
        tokio::select! {
            (stream, origin) = listener::accept(&listener) => match places.take() {
                Some(place) => {
                    let (router, times) = (router.clone(), Times::new(settings.request_time_max));
                    let peer = Peer::of(&stream, origin);
                    let stopping = stopping.clone();
                    match tls.clone() {
                        None => open.spawn(converse(stream, peer, place, router, times, stopping)),
                        Some(tls) => open.spawn(converse_within(tls, stream, peer, place, router, times, stopping)),
                    };
                }
                None => {
                    let most = settings.connections_max;
                    tracing::warn!(peer = %origin, "connection refused: requests run on {most}, which is the limit");
                }
            },
            Some(_) = open.join_next() => {}
        }
    }
}
