//! Reaching the daemon.

use std::env;
use std::future::Future;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// A daemon that has not accepted a connection after this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A control call that has no answer after this time has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a spinner turns.
const SPINNER_INTERVAL: Duration = Duration::from_millis(120);

/// Names the daemon to ask where `--addr` does not.
const VARIABLE: &str = "KYMO_ADDR";
/// Where a daemon serves by default.
const DEFAULT: &str = "http://127.0.0.1:50051";

/// Which daemon to ask.
#[derive(Args, Clone, Debug)]
pub struct Target {
    // The variable is not clap's business: a variable beside `query --data` is no conflict, a flag is.
    /// Where the daemon serves
    #[arg(
        help = "Where the daemon serves [env: KYMO_ADDR] [default: http://127.0.0.1:50051]",
        long,
        value_name = "URL",
        global = true
    )]
    pub addr: Option<String>,
}

/// No daemon answers.
#[derive(Debug, thiserror::Error)]
#[error("no kymo answers at {addr} ({reason}); is `kymo run` running there? --addr names another address")]
pub struct ConnectError {
    addr: String,
    reason: String,
}

impl Target {
    /// Connects.
    ///
    /// # Errors
    /// When the address is not one, or nobody listens there.
    pub async fn connect(&self) -> anyhow::Result<Channel> {
        let addr = self.addr();
        let url = if addr.contains("://") { addr.clone() } else { format!("http://{addr}") };
        let endpoint = Endpoint::from_shared(url.clone())
            .with_context(|| format!("--addr {addr}: expected a URL such as {DEFAULT}"))?;
        anyhow::ensure!(
            endpoint.uri().scheme_str() == Some("http") && endpoint.uri().port_u16().is_some(),
            "--addr {addr}: expected http://HOST:PORT, such as {DEFAULT}"
        );
        let connected = endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await;
        connected.map_err(|error| self.unreachable(root_cause(&error)).into())
    }

    /// The error of a call: the daemon's own words, or that it is not there any more.
    #[must_use]
    pub fn failed(&self, status: &Status) -> anyhow::Error {
        match status.code() {
            Code::Unavailable => self.unreachable(status.message().to_owned()).into(),
            Code::DeadlineExceeded | Code::Cancelled if status.message().is_empty() => {
                anyhow::anyhow!("{}: no answer within {} s", self.addr(), CALL_TIMEOUT.as_secs())
            }
            Code::Unimplemented => {
                anyhow::anyhow!("{} does not offer this; is it another program or an older kymo?", self.addr())
            }
            _ => anyhow::anyhow!("{}", status.message()),
        }
    }

    fn unreachable(&self, reason: String) -> ConnectError {
        ConnectError { addr: self.addr(), reason }
    }

    fn addr(&self) -> String {
        self.addr.clone().or_else(|| env::var(VARIABLE).ok()).unwrap_or_else(|| DEFAULT.to_owned())
    }
}

/// A control call's request, with its time limit.
pub(super) fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// Runs a client to its end on this thread.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the client")?.block_on(work)
}

/// A spinner on stderr; nothing where stderr is no terminal or `shown` is false.
pub(super) fn spinner(text: &'static str, shown: bool) -> ProgressBar {
    if !shown {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{spinner} {elapsed} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    let spinner = ProgressBar::new_spinner().with_style(style).with_message(text);
    spinner.enable_steady_tick(SPINNER_INTERVAL);
    spinner
}

/// The innermost error, which is what the system said.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
