//! TLS for both ports: certificates, keys, and the handshake.
//!
//! TLS 1.2 and 1.3 are offered, by rustls with ring. New certificates are for connections that come after them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// A larger file has no certificates.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What everybody may do with a file.
const EVERYBODY: u32 = 0o007;

/// The files of TLS, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// The authority that clients' certificates must come from. `None`: clients need none.
    pub client_ca: Option<PathBuf>,
}

impl TlsSettings {
    /// Its files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.certificate, &self.key].into_iter().chain(&self.client_ca).map(PathBuf::as_path)
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {key} {}: {source}", .path.display())]
    Read {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The key is open to everybody.
    #[error("{} is a private key that every user of this host may use (mode {mode:04o}); run: chmod 600 {}", .path.display(), .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file does not have what it should.
    #[error("{key} {}: {reason}", .path.display())]
    Wrong {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

const CERTIFICATE: &str = "server.tls.certificate";
const KEY: &str = "server.tls.key";
const CLIENT_CA: &str = "server.tls.client_ca";

/// What is spoken within TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    Grpc,
    Http,
}

/// TLS as it is offered now.
#[derive(Debug)]
pub(super) struct Tls {
    settings: TlsSettings,
    offered: ArcSwap<Offered>,
}

#[derive(Debug)]
struct Offered {
    grpc: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them cannot be read, or they do not fit together.
    pub(super) fn open(settings: TlsSettings) -> Result<Tls, TlsError> {
        let offered = ArcSwap::from_pointee(read(&settings)?);
        Ok(Tls { settings, offered })
    }

    /// Reads the files again. After an error, what was offered before stays.
    ///
    /// # Errors
    /// As [`open`](Tls::open).
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        self.offered.store(Arc::new(read(&self.settings)?));
        Ok(())
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    /// When the client does not speak TLS, takes too long, or is refused.
    pub(super) async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        within: Within,
    ) -> io::Result<TlsStream<S>> {
        let offered = self.offered.load_full();
        let config = match within {
            Within::Grpc => &offered.grpc,
            Within::Http => &offered.http,
        };
        let shaking = TlsAcceptor::from(Arc::clone(config)).accept(stream);
        timeout(HANDSHAKE_TIME_MAX, shaking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

fn read(settings: &TlsSettings) -> Result<Offered, TlsError> {
    let chain = certificates(CERTIFICATE, &settings.certificate)?;
    let key = private_key(&settings.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let wrong = |key, path: &Path, reason: String| TlsError::Wrong { key, path: path.to_owned(), reason };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(CERTIFICATE, &settings.certificate, error.to_string()))?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(CLIENT_CA, path)? {
                roots.add(authority).map_err(|error| wrong(CLIENT_CA, path, error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| wrong(CLIENT_CA, path, error.to_string()))?)
        }
    };
    let config = builder.with_single_cert(chain, key).map_err(|error| {
        let reason = match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("the key {} does not belong to this certificate", settings.key.display())
            }
            other => other.to_string(),
        };
        wrong(CERTIFICATE, &settings.certificate, reason)
    })?;
    let speaking = |protocol: &[u8]| {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    };
    Ok(Offered { grpc: speaking(b"h2"), http: speaking(b"http/1.1") })
}

/// The bytes of a file, which is a small one.
fn bytes(key: &'static str, path: &Path) -> Result<(Vec<u8>, fs::Metadata), TlsError> {
    let refused = |source| TlsError::Read { key, path: path.to_owned(), source };
    let file = File::open(path).map_err(refused)?;
    let metadata = file.metadata().map_err(refused)?;
    let mut bytes = Vec::new();
    if file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(refused)? as u64 > FILE_BYTES_MAX {
        return Err(refused(io::ErrorKind::FileTooLarge.into()));
    }
    Ok((bytes, metadata))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let (bytes, _) = bytes(key, path)?;
    let wrong = |reason: String| TlsError::Wrong { key, path: path.to_owned(), reason };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| wrong(format!("expected certificates in PEM: {error}")))?;
    if chain.is_empty() {
        return Err(wrong("expected certificates in PEM (-----BEGIN CERTIFICATE-----), and there are none".to_owned()));
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let (bytes, metadata) = bytes(KEY, path)?;
    let mode = metadata.mode() & 0o7777;
    if mode & EVERYBODY != 0 {
        return Err(TlsError::Exposed { path: path.to_owned(), mode });
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| TlsError::Wrong {
        key: KEY,
        path: path.to_owned(),
        reason: "expected a private key in PEM (-----BEGIN PRIVATE KEY-----), without a passphrase".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    /// A certificate and its key as files.
    fn made(folder: &Path, name: &str) -> TlsSettings {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let file = |extension: &str, text: String| {
            let path = folder.join(format!("{name}.{extension}"));
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let certificate = file("crt", cert.pem());
        TlsSettings { certificate, key: file("key", signing_key.serialize_pem()), client_ca: None }
    }

    fn refusal(settings: TlsSettings) -> String {
        Tls::open(settings).unwrap_err().to_string()
    }

    #[test]
    fn wrong_files_are_named_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (made(folder.path(), "one"), made(folder.path(), "other"));
        Tls::open(TlsSettings { client_ca: Some(other.certificate.clone()), ..one.clone() }).unwrap();
        let mixed = refusal(TlsSettings { key: other.key.clone(), ..one.clone() });
        assert!(mixed.contains("one.crt") && mixed.contains("other.key does not belong to this"), "{mixed}");
        let swapped = refusal(TlsSettings { certificate: one.key.clone(), ..one.clone() });
        assert!(swapped.contains("server.tls.certificate") && swapped.contains("there are none"), "{swapped}");
        let no_key = refusal(TlsSettings { key: one.certificate.clone(), ..one.clone() });
        assert!(no_key.contains("server.tls.key") && no_key.contains("expected a private key"), "{no_key}");
        let absent = refusal(TlsSettings { client_ca: Some(folder.path().join("none")), ..one.clone() });
        assert!(absent.contains("server.tls.client_ca") && absent.contains("No such file"), "{absent}");
        fs::set_permissions(&one.key, fs::Permissions::from_mode(0o644)).unwrap();
        let exposed = refusal(one.clone());
        assert!(exposed.contains("every user") && exposed.contains("chmod 600"), "{exposed}");
        // As Debian keeps them for a group.
        fs::set_permissions(&one.key, fs::Permissions::from_mode(0o640)).unwrap();
        Tls::open(one).unwrap();
    }

    #[test]
    fn a_wrong_new_file_keeps_what_was_offered() {
        let folder = tempfile::tempdir().unwrap();
        let settings = made(folder.path(), "one");
        let tls = Tls::open(settings.clone()).unwrap();
        let before = Arc::clone(&tls.offered.load().grpc);
        fs::write(&settings.certificate, "something").unwrap();
        tls.reload().unwrap_err();
        assert!(Arc::ptr_eq(&before, &tls.offered.load().grpc));
        made(folder.path(), "one");
        tls.reload().unwrap();
        assert!(!Arc::ptr_eq(&before, &tls.offered.load().grpc));
    }
}
