//! Connections within TLS, and what to tell users when there is none.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpStream as StdStream, ToSocketAddrs};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::{BoxFuture, Service};
use tonic::transport::Uri;

/// How long a port may take to show what it speaks.
const PROBE_TIME_MAX: Duration = Duration::from_secs(1);
/// How a client of HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How a server of TLS answers to what is none: a record that is an alert.
const ALERT: u8 = 0x15;
/// What is told of a handshake that the other side ended without a word.
const ENDED: &str = "the connection ended within the TLS handshake: it may have no room for more, or not speak TLS";
/// How rustls tells of an alert.
const ALERTED: &str = "received fatal alert: ";

/// Connects within TLS.
#[derive(Clone)]
pub(super) struct Secure(pub(super) Arc<ClientConfig>);

impl Service<Uri> for Secure {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<Self::Response, io::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let config = Arc::clone(&self.0);
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
            let stream = TcpStream::connect((bare, uri.port_u16().unwrap_or_default())).await?;
            // Calls are small and wait for their answers. A failure costs only latency.
            let _ = stream.set_nodelay(true);
            let shaken = TlsConnector::from(config).connect(name, stream).await;
            let ended = |error: io::Error| match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => io::Error::new(error.kind(), ENDED),
                _ => error,
            };
            shaken.map(TokioIo::new).map_err(ended)
        })
    }
}

/// What an error of TLS means, and what would help. `None` if it is none of TLS.
pub(super) fn explained(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        let within = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        let found = within.and_then(|inner| inner.downcast_ref::<rustls::Error>()).or_else(|| error.downcast_ref());
        if let Some(error) = found {
            return Some(meaning(error));
        }
        // HTTP/2 keeps no more than the text of what ended a connection.
        if let Some((_, alert)) = error.to_string().split_once(ALERTED) {
            return Some(meaning_of_alert(
                alert.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default(),
            ));
        }
        next = error.source();
    }
    None
}

fn meaning(error: &rustls::Error) -> String {
    use CertificateError as Wrong;
    match error {
        rustls::Error::InvalidMessage(_) => "it does not speak TLS: write http:// in place of https://".to_owned(),
        rustls::Error::InvalidCertificate(wrong) => match wrong {
            Wrong::UnknownIssuer => {
                "its certificate comes from an authority that is not known here: name that with --ca FILE".to_owned()
            }
            Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => {
                format!("its certificate is for another name ({wrong}): use an --address with a name that it has")
            }
            Wrong::Expired | Wrong::ExpiredContext { .. } => format!("its certificate has expired ({wrong})"),
            Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
                format!("its certificate is not valid yet ({wrong}): compare the clocks of both hosts")
            }
            other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                "its certificate is that of an authority (CA:TRUE), which servers must not use: make one with CA:FALSE"
                    .to_owned()
            }
            other => format!("its certificate is refused: {other}"),
        },
        rustls::Error::AlertReceived(alert) => meaning_of_alert(&format!("{alert:?}")),
        other => format!("no TLS with it: {other}"),
    }
}

/// What an alert means that the daemon sends, by its name in TLS.
fn meaning_of_alert(alert: &str) -> String {
    match alert {
        "CertificateRequired" => "it asks for a certificate of the client: give --certificate and --key".to_owned(),
        "UnknownCA"
        | "BadCertificate"
        | "CertificateUnknown"
        | "CertificateExpired"
        | "CertificateRevoked"
        | "UnsupportedCertificate"
        | "DecryptError"
        | "AccessDenied" => {
            format!("it does not accept the certificate of the client ({alert}): see --certificate and --key")
        }
        other => format!("it ended the connection by TLS ({other})"),
    }
}

/// A connection whose other side has a moment for each answer.
fn probed(address: &str) -> io::Result<StdStream> {
    let place = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let stream = StdStream::connect_timeout(&place, PROBE_TIME_MAX)?;
    stream.set_read_timeout(Some(PROBE_TIME_MAX))?;
    stream.set_write_timeout(Some(PROBE_TIME_MAX))?;
    Ok(stream)
}

/// Why the daemon ends connections within TLS, as far as it can be told within a moment. Nothing is sent behind the handshake, so that
/// its alert arrives.
pub(super) fn why_it_ended(config: Arc<ClientConfig>, address: &str) -> Option<String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned()).ok()?;
    let probe = || -> io::Result<()> {
        let mut stream = probed(address)?;
        let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        rustls::Stream::new(&mut connection, &mut stream).read_exact(&mut [0])
    };
    probe().err().and_then(|error| explained(&error))
}

/// Whether the port speaks TLS, as far as it can be told within a moment.
pub(super) fn speaks_tls(address: &str) -> bool {
    let probe = || -> io::Result<u8> {
        let mut stream = probed(address)?;
        stream.write_all(PREFACE)?;
        let mut first = [0];
        stream.read_exact(&mut first)?;
        Ok(first[0])
    };
    probe().is_ok_and(|first| first == ALERT)
}

#[cfg(test)]
mod tests {
    use rustls::AlertDescription;

    use super::*;

    #[test]
    fn errors_of_tls_are_found_within_others_and_say_what_helps() {
        let of = |error: rustls::Error| {
            let wrapped = anyhow::Error::from(io::Error::other(error)).context("connect");
            explained(wrapped.as_ref()).unwrap()
        };
        assert!(of(CertificateError::UnknownIssuer.into()).contains("--ca"));
        assert!(of(CertificateError::Expired.into()).contains("expired"));
        assert!(of(CertificateError::NotValidForName.into()).contains("another name"));
        assert!(of(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)).contains("--certificate"));
        assert!(of(rustls::Error::AlertReceived(AlertDescription::UnknownCA)).contains("does not accept"));
        assert!(of(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)).contains("http://"));
        let told = io::Error::other("connection error: received fatal alert: CertificateRequired");
        assert!(explained(&told).unwrap().contains("--certificate"));
        assert_eq!(explained(&io::Error::other("no luck")), None);
    }
}
