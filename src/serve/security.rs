//! What both ports need before they answer: TLS, and who may do what. The files of both are read again when they change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::auth::access::Access;
use super::auth::tokens::{Tokens, TokensError};
use super::tls::{Tls, TlsError, TlsSettings};

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What another address than loopback needs, and how to get there.
pub const OPENING: &str = "other hosts can reach this address, so it needs TLS and tokens: set server.tls.certificate, server.tls.key and \
                           server.tokens (`kymo token create NAME --role read --file FILE` makes the file and a token)";

/// Where tokens, certificates and keys are. The same for both ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecuritySettings {
    /// The file of tokens. `None`: calls need none.
    pub tokens: Option<PathBuf>,
    /// TLS. `None`: there is none.
    pub tls: Option<TlsSettings>,
}

impl SecuritySettings {
    /// Whether another address than loopback may be served.
    #[must_use]
    pub fn is_open_to_others(&self) -> bool {
        self.tokens.is_some() && self.tls.is_some()
    }
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// That of the tokens.
    #[error("server.tokens: {0}")]
    Tokens(#[from] TokensError),
    /// One of TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What is in force now.
#[derive(Debug)]
pub struct Security {
    settings: SecuritySettings,
    pub(super) access: Arc<Access>,
    pub(super) tls: Option<Arc<Tls>>,
}

impl Security {
    /// Reads all files.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn open(settings: &SecuritySettings) -> Result<Security, SecurityError> {
        let tokens = settings.tokens.as_deref().map(Tokens::read).transpose()?;
        let tls = settings.tls.clone().map(Tls::open).transpose()?.map(Arc::new);
        Ok(Security { settings: settings.clone(), access: Arc::new(Access::new(tokens)), tls })
    }

    /// Reads files again when they have changed. What cannot be used is logged, and what was in force stays. Never returns.
    pub async fn keep(self: Arc<Security>) {
        let SecuritySettings { tokens, tls } = &self.settings;
        if tokens.is_none() && tls.is_none() {
            return std::future::pending().await;
        }
        let mut seen = [self.look_at_tokens(), self.look_at_tls()];
        loop {
            sleep(LOOK_INTERVAL).await;
            let own = Arc::clone(&self);
            // A disk that hangs delays nobody else.
            let looked = tokio::task::spawn_blocking(move || own.look(seen)).await;
            match looked {
                Ok(now) => seen = now,
                Err(_) => return,
            }
        }
    }

    /// Compares the files with what was seen, and reads those that differ. Returns what is seen now.
    fn look(&self, [tokens_seen, tls_seen]: [Vec<Stamp>; 2]) -> [Vec<Stamp>; 2] {
        let (tokens_now, tls_now) = (self.look_at_tokens(), self.look_at_tls());
        if let Some(path) = &self.settings.tokens
            && tokens_now != tokens_seen
        {
            match Tokens::read(path) {
                Ok(tokens) => {
                    tracing::info!(target: "kymo::audit", "read {} again: {} tokens", path.display(), tokens.iter().count());
                    self.access.replace(tokens);
                }
                Err(error) => tracing::error!("{error}; the tokens that were read before stay valid"),
            }
        }
        if let Some(tls) = &self.tls
            && tls_now != tls_seen
        {
            match tls.reload() {
                Ok(()) => tracing::info!(target: "kymo::audit", "read the certificate and the key of TLS again"),
                Err(error) => tracing::error!("{error}; the certificate that was read before stays in use"),
            }
        }
        [tokens_now, tls_now]
    }

    fn look_at_tokens(&self) -> Vec<Stamp> {
        self.settings.tokens.iter().map(|path| stamp(path)).collect()
    }

    fn look_at_tls(&self) -> Vec<Stamp> {
        self.settings.tls.iter().flat_map(TlsSettings::files).map(stamp).collect()
    }
}

/// What tells a file from its next version: where it is, its size, its permissions, and when it last changed. `None` without it.
type Stamp = Option<[i64; 5]>;

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    let [inode, size] = [found.ino(), found.size()].map(u64::cast_signed);
    Some([inode, size, i64::from(found.mode()), found.ctime(), found.ctime_nsec()])
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use jiff::Timestamp;

    use super::super::auth::role::Role;
    use super::super::listener::Origin;
    use super::*;

    #[tokio::test]
    async fn tokens_that_come_and_go_are_noticed_and_a_wrong_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let make = |name| Tokens::create(&path, name, Role::Read, Timestamp::now(), None).unwrap().text().to_owned();
        let first = make("first");
        let security = Security::open(&SecuritySettings { tokens: Some(path.clone()), tls: None }).unwrap();
        let mut seen = [security.look_at_tokens(), security.look_at_tls()];
        let origin = Origin::Tcp("127.0.0.1:5".parse().unwrap());
        let enters = async |token: &str| {
            let header = format!("Bearer {token}").parse().unwrap();
            let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, header)]);
            security.access.enter(&origin, &headers).await.is_ok()
        };
        let second = make("second");
        assert!(!enters(&second).await);
        seen = security.look(seen);
        assert!(enters(&first).await && enters(&second).await);
        Tokens::revoke(&path, "first").unwrap();
        seen = security.look(seen);
        assert!(!enters(&first).await && enters(&second).await);
        fs::write(&path, "nonsense").unwrap();
        seen = security.look(seen);
        fs::remove_file(&path).unwrap();
        security.look(seen);
        assert!(enters(&second).await);
    }
}
