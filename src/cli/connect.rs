//! Reaching the daemon.

use std::env;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Error, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::config::{ADDRESS_VARIABLE, OLD_ADDRESS_VARIABLE};
use crate::serve::{DEFAULT_ADDRESS, without_scheme};

/// What the daemon's table `statement` calls these commands.
const USER_AGENT: &str = concat!("kymo/", env!("CARGO_PKG_VERSION"));
/// A daemon that has not accepted a connection after this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A control call without an answer after this time has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// A command that takes less time than this shows no spinner.
const SPINNER_DELAY: Duration = Duration::from_millis(300);
/// How often a spinner turns.
const SPINNER_INTERVAL: Duration = Duration::from_millis(120);

/// The variables that name the daemon. The first that is set counts.
const VARIABLES: [&str; 2] = [ADDRESS_VARIABLE, OLD_ADDRESS_VARIABLE];

/// What stands before the path of a Unix socket, and what may.
const SOCKET: &str = "unix:";
const SOCKET_SCHEMES: [&str; 4] = ["grpc+unix://", "unix://", "grpc+unix:", SOCKET];

/// Which daemon to ask.
#[derive(Args, Clone, Debug)]
pub struct Target {
    // clap does not read the variable: beside `query --data` a variable is no conflict, and a flag is one.
    /// Address of the daemon
    #[arg(
        help = format!("Address of the daemon [env: {ADDRESS_VARIABLE}] [default: {DEFAULT_ADDRESS}]"),
        long,
        alias = "addr",
        value_name = "ADDRESS",
        value_parser = host_and_port,
        global = true
    )]
    address: Option<String>,
}

/// Where a daemon serves: `HOST:PORT`, also read with `grpc://` or `http://` before it, or `unix:PATH`.
fn host_and_port(text: &str) -> Result<String, String> {
    if let Some(path) =
        SOCKET_SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme)).filter(|path| !path.is_empty())
    {
        return Ok(format!("{SOCKET}{path}"));
    }
    let address = without_scheme(text).trim_end_matches('/');
    let uri = format!("http://{address}").parse::<tonic::transport::Uri>().ok();
    match uri.filter(|uri| uri.port_u16().is_some() && uri.path() == "/" && uri.query().is_none()) {
        Some(_) => Ok(address.to_owned()),
        None => Err(format!("expected HOST:PORT, such as {DEFAULT_ADDRESS}, or unix:PATH")),
    }
}

/// The arguments are wrong in a way that the parser does not see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub(super) String);

/// No daemon answers.
#[derive(Debug, thiserror::Error)]
#[error("no daemon answers at {address} ({reason}); is `kymo run` running there? Use --address for another address")]
pub struct ConnectError {
    address: String,
    reason: String,
}

/// Somebody pressed Ctrl-C.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct InterruptedError;

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address().unwrap_or_else(|error| error.to_string()))
    }
}

impl Target {
    /// Connects.
    ///
    /// # Errors
    /// When the variable holds no address, or no daemon listens there.
    pub async fn connect(&self) -> anyhow::Result<Channel> {
        let address = self.address()?;
        let url = if address.starts_with(SOCKET) { address.clone() } else { format!("http://{address}") };
        let endpoint = Endpoint::from_shared(url).context("read the daemon's address")?;
        let endpoint = endpoint.user_agent(USER_AGENT).context("set the name of this client")?;
        let connected = endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await;
        connected.map_err(|error| ConnectError { address, reason: Error::from(error).root_cause().to_string() }.into())
    }

    /// Connects, makes one call, and gives its answer.
    ///
    /// # Errors
    /// When the daemon does not answer, or refuses.
    pub fn call<T>(&self, call: impl AsyncFnOnce(Channel) -> Result<Response<T>, Status>) -> anyhow::Result<T> {
        block_on(async {
            let answer = call(self.connect().await?).await;
            Ok(answer.map_err(|status| self.failed(&status))?.into_inner())
        })
    }

    /// The error of a call: the daemon's own words, or that it does not answer any more.
    #[must_use]
    pub fn failed(&self, status: &Status) -> Error {
        let address = match self.address() {
            Ok(address) => address,
            Err(error) => return error.into(),
        };
        match status.code() {
            Code::Unavailable => ConnectError { address, reason: status.message().to_owned() }.into(),
            Code::DeadlineExceeded | Code::Cancelled if status.message().is_empty() => {
                anyhow!("{address} did not answer within {} s", CALL_TIMEOUT.as_secs())
            }
            Code::Unimplemented => {
                anyhow!("{address} does not offer this call; is it another program or an older kymo?")
            }
            _ => anyhow!("{}", status.message()),
        }
    }

    fn address(&self) -> Result<String, UsageError> {
        if let Some(address) = &self.address {
            return Ok(address.clone());
        }
        let named = VARIABLES.into_iter().find_map(|name| Some((name, env::var(name).ok()?)));
        let Some((name, text)) = named else { return Ok(DEFAULT_ADDRESS.to_owned()) };
        host_and_port(&text)
            .map_err(|wanted| UsageError(format!("environment variable {name}: {wanted}, found {text:?}")))
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

/// Does `work` unless Ctrl-C comes before its end.
///
/// # Errors
/// That of `work`, or [`InterruptedError`].
pub(super) async fn unless_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        biased;
        outcome = tokio::signal::ctrl_c() => {
            outcome.context("wait for Ctrl-C")?;
            Err(InterruptedError.into())
        }
        done = work => done,
    }
}

/// A spinner for [`spin`]. Nothing is shown yet.
pub(super) fn spinner(text: &'static str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} {elapsed} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_style(style).with_message(text)
}

/// Runs `work`. If it takes longer than [`SPINNER_DELAY`], the spinner appears on stderr, unless that is no terminal.
pub(super) async fn spin<T>(spinner: &ProgressBar, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let done = match tokio::time::timeout(SPINNER_DELAY, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            spinner.set_draw_target(ProgressDrawTarget::stderr());
            spinner.enable_steady_tick(SPINNER_INTERVAL);
            work.await
        }
    };
    spinner.finish_and_clear();
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_behind_any_scheme() {
        let address = "127.0.0.1:50051";
        for text in [address, "http://127.0.0.1:50051/", "grpc://127.0.0.1:50051", "grpc+tcp://127.0.0.1:50051"] {
            assert_eq!(host_and_port(text).as_deref(), Ok(address), "{text}");
        }
        assert!(host_and_port("[::1]:50051").is_ok() && host_and_port("localhost:1").is_ok());
        for text in ["unix:/run/kymo.sock", "unix:///run/kymo.sock", "grpc+unix:///run/kymo.sock"] {
            assert_eq!(host_and_port(text).as_deref(), Ok("unix:/run/kymo.sock"), "{text}");
        }
        assert_eq!(host_and_port("unix:here.sock").as_deref(), Ok("unix:here.sock"));
        for text in
            ["unix:", "", "localhost", "not an address", "https://localhost:1", "localhost:1/path", "localhost:99999"]
        {
            let error = host_and_port(text).unwrap_err();
            assert!(error.contains("such as 127.0.0.1:50051"), "{text}: {error}");
        }
    }
}
