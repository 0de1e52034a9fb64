//! Reaching the daemon.

mod credentials;
mod secure;

use std::env;
use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Error, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{self, Endpoint, Uri};
use tonic::{Code, Response, Status};

use self::credentials::{Bearer, Credentials, is_loopback};
use self::secure::{Secure, explained, speaks_tls, why_it_ended};
use crate::config::{ADDRESS_VARIABLE, OLD_ADDRESS_VARIABLE, TOKEN_VARIABLE};
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

/// What stands before the address of a daemon that speaks TLS, and what may.
const SECURE: &str = "https://";
const SECURE_SCHEMES: [&str; 2] = ["grpc+tls://", SECURE];

/// A connection whose calls show the token.
pub type Channel = InterceptedService<transport::Channel, Bearer>;

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
    #[command(flatten)]
    credentials: Credentials,
}

/// Where a daemon serves: `HOST:PORT`, also read with `grpc://` or `http://` before it, `https://HOST:PORT` with TLS, or
/// `unix:PATH`.
fn host_and_port(text: &str) -> Result<String, String> {
    if let Some(path) =
        SOCKET_SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme)).filter(|path| !path.is_empty())
    {
        return Ok(format!("{SOCKET}{path}"));
    }
    let scheme = if SECURE_SCHEMES.iter().any(|scheme| text.starts_with(scheme)) { SECURE } else { "" };
    let address = without_scheme(text).trim_end_matches('/');
    let uri = format!("http://{address}").parse::<Uri>().ok();
    match uri.filter(|uri| uri.port_u16().is_some() && uri.path() == "/" && uri.query().is_none()) {
        Some(_) => Ok(format!("{scheme}{address}")),
        None => Err(format!("expected HOST:PORT, such as {DEFAULT_ADDRESS}, https://HOST:PORT for TLS, or unix:PATH")),
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
    /// When the variable holds no address, a file of the credentials cannot be read, or no daemon listens there.
    pub async fn connect(&self) -> anyhow::Result<Channel> {
        let address = self.address()?;
        let bearer = self.bearer(&address)?;
        let (is_local, is_secure) = (address.starts_with(SOCKET), address.starts_with(SECURE));
        let url = if is_local || is_secure { address.clone() } else { format!("http://{address}") };
        let endpoint = Endpoint::from_shared(url).context("read the daemon's address")?;
        let endpoint = endpoint.user_agent(USER_AGENT).context("set the name of this client")?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT);
        let connected = if is_secure {
            endpoint.connect_with_connector(Secure(self.credentials.tls()?)).await
        } else {
            endpoint.connect().await
        };
        let channel = connected.map_err(|error| match explained(&error) {
            Some(meaning) => anyhow!("{address}: {meaning}"),
            None => ConnectError { address, reason: Error::from(error).root_cause().to_string() }.into(),
        })?;
        Ok(InterceptedService::new(channel, bearer))
    }

    /// The token for this address, which is not sent where others could read it.
    fn bearer(&self, address: &str) -> anyhow::Result<Bearer> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let is_plain = !address.starts_with(SECURE) && !address.starts_with(SOCKET);
        if is_plain && self.credentials.need_tls() {
            let flags = "--ca, --certificate and --key are for TLS";
            return Err(UsageError(format!("{flags}: write --address https://{address}")).into());
        }
        if is_plain && self.credentials.has_token() && !is_loopback(host) {
            let why = "without TLS, everybody on the way could read the token";
            return Err(UsageError(format!("{why}: write --address https://{address}")).into());
        }
        self.credentials.bearer()
    }

    /// The words of a command that asks the same daemon.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let address = self.to_string();
        let named = if address == DEFAULT_ADDRESS { Vec::new() } else { vec!["--address".to_owned(), address] };
        named.into_iter().chain(self.credentials.words()).collect()
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
        if status.source().is_some() {
            // The status is not the daemon's: there is no connection with it.
            if let Some(meaning) = explained(status) {
                return anyhow!("{address}: {meaning}");
            }
            // The alert that says why may have been lost behind the end of the connection.
            if let Some(place) = address.strip_prefix(SECURE)
                && let Ok(config) = self.credentials.tls()
                && let Some(meaning) = why_it_ended(config, place)
            {
                return anyhow!("{address}: {meaning}");
            }
            let is_plain = !address.starts_with(SECURE) && !address.starts_with(SOCKET);
            if is_plain && speaks_tls(&address) {
                return anyhow!("{address}: it speaks TLS: write --address https://{address}");
            }
        }
        match status.code() {
            Code::Unauthenticated if !self.credentials.has_token() => anyhow!(
                "{address} asks for a token: give --token-file FILE, or set {TOKEN_VARIABLE}; `kymo token create` makes one on its host"
            ),
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

    fn target(address: &str, credentials: Credentials) -> Target {
        Target { address: Some(address.to_owned()), credentials }
    }

    #[test]
    fn a_token_is_not_sent_where_others_could_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "kymo_x\n").unwrap();
        let bearer = |address: &str, words: &[&str]| {
            let words = words.iter().map(|word| (*word).to_owned());
            let credentials = Credentials::of(words);
            target(address, credentials).bearer(address).map(|_| ()).map_err(|error| error.to_string())
        };
        let file = file.to_str().unwrap();
        for address in ["127.0.0.1:1", "localhost:1", "[::1]:1", "https://ember.example:1", "unix:/run/kymo.sock"] {
            assert_eq!(bearer(address, &["--token-file", file]), Ok(()), "{address}");
        }
        let refused = bearer("ember.example:1", &["--token-file", file]).unwrap_err();
        assert!(refused.contains("write --address https://ember.example:1"), "{refused}");
        assert!(bearer("127.0.0.1:1", &["--ca", file]).unwrap_err().contains("are for TLS"));
        std::fs::write(file, "two words").unwrap();
        assert!(bearer("127.0.0.1:1", &["--token-file", file]).unwrap_err().contains("expected a token"));
    }

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
        for text in ["https://ember.example:50051/", "grpc+tls://ember.example:50051"] {
            assert_eq!(host_and_port(text).as_deref(), Ok("https://ember.example:50051"), "{text}");
        }
        assert_eq!(host_and_port("unix:here.sock").as_deref(), Ok("unix:here.sock"));
        for text in
            ["unix:", "", "localhost", "not an address", "https://localhost", "localhost:1/path", "localhost:99999"]
        {
            let error = host_and_port(text).unwrap_err();
            assert!(error.contains("such as 127.0.0.1:50051"), "{text}: {error}");
        }
    }
}
