//! What a client shows to the daemon, and what it expects of it.

use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::config::TOKEN_VARIABLE;

/// No file of a token is longer.
const TOKEN_BYTES_MAX: u64 = 4_096;

/// How to be let in.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Credentials {
    /// File with the token that the daemon asks for
    #[arg(
        help = format!("File with the token that the daemon asks for [env: {TOKEN_VARIABLE}, the token itself]"),
        long,
        value_name = "FILE",
        global = true
    )]
    token_file: Option<PathBuf>,
    /// Authority of the daemon's certificate, in PEM [default: those of the system]
    #[arg(long, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// Certificate to show to the daemon, in PEM
    #[arg(long, value_name = "FILE", requires = "key", global = true)]
    certificate: Option<PathBuf>,
    /// Private key of that certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "certificate", global = true)]
    key: Option<PathBuf>,
}

/// Puts the token, if there is one, into each call.
#[derive(Clone, Debug)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

impl Credentials {
    /// Those of a command line.
    #[cfg(test)]
    pub(super) fn of(words: impl Iterator<Item = String>) -> Credentials {
        use clap::{Command, FromArgMatches};
        let matches = Credentials::augment_args(Command::new("kymo").no_binary_name(true)).get_matches_from(words);
        Credentials::from_arg_matches(&matches).unwrap()
    }

    /// Whether there is a token.
    pub(super) fn has_token(&self) -> bool {
        self.token_file.is_some() || env::var_os(TOKEN_VARIABLE).is_some()
    }

    /// Whether there is anything that only TLS has.
    pub(super) fn need_tls(&self) -> bool {
        self.ca.is_some() || self.certificate.is_some()
    }

    /// The words of a command that has the same.
    pub(super) fn words(&self) -> Vec<String> {
        let flags = [
            ("--token-file", &self.token_file),
            ("--ca", &self.ca),
            ("--certificate", &self.certificate),
            ("--key", &self.key),
        ];
        let words =
            |(flag, path): (&str, &Option<PathBuf>)| Some([flag.to_owned(), path.as_ref()?.display().to_string()]);
        flags.into_iter().filter_map(words).flatten().collect()
    }

    /// The token of the file, or else of the environment. It is never shown.
    pub(super) fn bearer(&self) -> anyhow::Result<Bearer> {
        let (token, place) = match (&self.token_file, env::var(TOKEN_VARIABLE)) {
            (Some(path), _) => {
                let reading = || format!("read the token in {}", path.display());
                let mut text = String::new();
                File::open(path)
                    .with_context(reading)?
                    .take(TOKEN_BYTES_MAX)
                    .read_to_string(&mut text)
                    .with_context(reading)?;
                (text, path.display().to_string())
            }
            (None, Ok(token)) => (token, format!("environment variable {TOKEN_VARIABLE}")),
            (None, Err(env::VarError::NotPresent)) => return Ok(Bearer(None)),
            (None, Err(_)) => bail!("environment variable {TOKEN_VARIABLE}: is not valid UTF-8"),
        };
        let token = token.trim();
        let is_right = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let header = format!("Bearer {token}").parse::<MetadataValue<Ascii>>().ok().filter(|_| is_right);
        let mut header = header.ok_or_else(|| {
            anyhow!("{place}: expected a token, such as `kymo token create` prints, and nothing else")
        })?;
        header.set_sensitive(true);
        Ok(Bearer(Some(header)))
    }

    /// TLS as these files have it.
    pub(super) fn tls(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for authority in certificates(path)? {
                    roots.add(authority).with_context(|| format!("take the certificates of {}", path.display()))?;
                }
            }
            // Without them, the error names --ca.
            None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(roots);
        let mut config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let bytes = fs::read(key).with_context(|| format!("read the key {}", key.display()))?;
                let private = PrivateKeyDer::from_pem_slice(&bytes)
                    .map_err(|_| anyhow!("{}: expected a private key in PEM, without a passphrase", key.display()))?;
                builder.with_client_auth_cert(certificates(certificate)?, private).with_context(|| {
                    format!("use the certificate {} with the key {}", certificate.display(), key.display())
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let bytes = fs::read(path).with_context(|| format!("read the certificates {}", path.display()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    found
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| anyhow!("{}: expected certificates in PEM (-----BEGIN CERTIFICATE-----)", path.display()))
}

/// Whether a name or address of a host is surely this host's own.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}
