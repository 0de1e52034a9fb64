//! The file of tokens: names, roles and digests. Nobody but its owner may read it.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::role::Role;
use super::secret::{Digest, Secret};

/// The most tokens in a file.
const TOKENS_MAX: usize = 1_024;
/// The longest name.
const NAME_BYTES_MAX: usize = 64;
/// A larger file is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The permissions of a new file.
const MODE: u32 = 0o600;
/// What others than the owner may do.
const OTHERS: u32 = 0o077;

/// Why a file of tokens cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The system refuses.
    #[error("{step} {}: {source}", .path.display())]
    Io {
        /// What was refused.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no such file.
    #[error("there is no file of tokens {}; `kymo token create NAME --role read` makes one", .0.display())]
    Absent(PathBuf),
    /// Others may read or write the file.
    #[error("{} is open to other users (mode {mode:04o}); run: chmod 600 {}", .path.display(), .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file does not have what it should.
    #[error("{}: {reason}", .path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is a token of that name.
    #[error("there is a token {0:?} already; revoke it first, or choose another name")]
    Exists(String),
    /// There is none of that name.
    #[error("there is no token {0:?}; `kymo token list` lists them")]
    Unknown(String),
    /// Such a name is not taken.
    #[error("{0:?} is no name for a token: expected 1 to 64 letters, digits, '_', '-' or '.' of ASCII")]
    Name(String),
    /// As many as may be.
    #[error("there are {TOKENS_MAX} tokens, which is the limit: revoke one first")]
    Full,
    /// The kernel has no random numbers.
    #[error("make a token: {0}")]
    Random(#[from] getrandom::Error),
}

/// What is kept of a token.
#[derive(Clone, Debug)]
pub struct Token {
    /// Whose it is, or what for.
    pub name: String,
    /// What its owner may do.
    pub role: Role,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends, if it does.
    pub expires: Option<Timestamp>,
    digest: Digest,
}

impl Token {
    /// Whether it has ended by `now`.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// The tokens of a file.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Vec<Token>);

/// The file as written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    token: Vec<WrittenToken>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenToken {
    name: String,
    role: Role,
    sha256: String,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

impl Tokens {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, others may read it, or it has anything but tokens.
    pub fn read(path: &Path) -> Result<Tokens, TokensError> {
        let refused = |step| move |source| TokensError::Io { step, path: path.to_owned(), source };
        let file = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => TokensError::Absent(path.to_owned()),
            _ => refused("read the file of tokens")(source),
        })?;
        let mode = file.metadata().map_err(refused("look at the file of tokens"))?.mode() & 0o7777;
        if mode & OTHERS != 0 {
            return Err(TokensError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        let read =
            file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(refused("read the file of tokens"))?;
        let wrong = |reason: String| TokensError::Wrong { path: path.to_owned(), reason };
        if read as u64 > FILE_BYTES_MAX {
            return Err(wrong(format!("larger than {FILE_BYTES_MAX} bytes")));
        }
        // The error's text would show the line, and a token might stand there by mistake.
        let written: Written = toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))?;
        Tokens::checked(written).map_err(wrong)
    }

    fn checked(written: Written) -> Result<Tokens, String> {
        if written.token.len() > TOKENS_MAX {
            return Err(format!("it has {} tokens; at most {TOKENS_MAX} are taken", written.token.len()));
        }
        let mut tokens = Tokens::default();
        for WrittenToken { name, role, sha256, created, expires } in written.token {
            check_name(&name).map_err(|error| error.to_string())?;
            if tokens.named(&name).is_some() {
                return Err(format!("the token {name} is there twice"));
            }
            let time = |key, text: String| {
                let wanted = || format!("token {name}: {key}: expected a time such as 2027-01-31T12:00:00Z");
                text.parse::<Timestamp>().map_err(|_| wanted())
            };
            let created = time("created", created)?;
            let expires = expires.map(|text| time("expires", text)).transpose()?;
            let digest = Digest::from_hex(&sha256);
            let digest = digest.ok_or_else(|| format!("token {name}: sha256: expected 64 hexadecimal digits"))?;
            tokens.0.push(Token { name, role, created, expires, digest });
        }
        Ok(tokens)
    }

    /// The token that has this text. All are compared, whichever it is.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<&Token> {
        let digest = Digest::of(text)?;
        self.0.iter().fold(None, |found, token| if token.digest.is(&digest) { Some(token) } else { found })
    }

    /// All of them, in the order in which they were made.
    pub fn iter(&self) -> impl Iterator<Item = &Token> {
        self.0.iter()
    }

    fn named(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|token| token.name == name)
    }

    /// Makes a token, and the file if there is none.
    ///
    /// # Errors
    /// When there is a token of that name, or the file cannot be read or written.
    pub fn create(
        path: &Path,
        name: &str,
        role: Role,
        created: Timestamp,
        expires: Option<Timestamp>,
    ) -> Result<Secret, TokensError> {
        check_name(name)?;
        change(path, |tokens| {
            if tokens.named(name).is_some() {
                return Err(TokensError::Exists(name.to_owned()));
            }
            if tokens.0.len() >= TOKENS_MAX {
                return Err(TokensError::Full);
            }
            let secret = Secret::generate()?;
            let digest = Digest::of(secret.text()).ok_or_else(|| TokensError::Name(name.to_owned()))?;
            tokens.0.push(Token { name: name.to_owned(), role, created, expires, digest });
            Ok(secret)
        })
    }

    /// Removes a token.
    ///
    /// # Errors
    /// When there is none of that name, or the file cannot be read or written.
    pub fn revoke(path: &Path, name: &str) -> Result<(), TokensError> {
        // Without the file there is nothing to revoke, and none is made.
        Tokens::read(path)?;
        change(path, |tokens| {
            let at = tokens.named(name).ok_or_else(|| TokensError::Unknown(name.to_owned()))?;
            tokens.0.remove(at);
            Ok(())
        })
    }

    fn written(&self) -> Written {
        let token = |token: &Token| WrittenToken {
            name: token.name.clone(),
            role: token.role,
            sha256: token.digest.to_hex(),
            created: format!("{:.0}", token.created),
            expires: token.expires.map(|end| format!("{end:.0}")),
        };
        Written { token: self.0.iter().map(token).collect() }
    }
}

fn check_name(name: &str) -> Result<(), TokensError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let is_right = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain);
    if is_right { Ok(()) } else { Err(TokensError::Name(name.to_owned())) }
}

/// Changes the file, in one step for whoever reads it. Two changes at once come one after the other.
fn change<T>(path: &Path, change: impl FnOnce(&mut Tokens) -> Result<T, TokensError>) -> Result<T, TokensError> {
    let refused = |step| move |source| TokensError::Io { step, path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let locked = File::open(folder).map_err(refused("open the folder of"))?;
    locked.lock().map_err(refused("lock the folder of"))?;
    let mut tokens = match Tokens::read(path) {
        Err(TokensError::Absent(_)) => Tokens::default(),
        read => read?,
    };
    let outcome = change(&mut tokens)?;
    let text = toml::to_string_pretty(&tokens.written())
        .map_err(|error| TokensError::Wrong { path: path.to_owned(), reason: error.to_string() })?;
    let mut file = tempfile::Builder::new()
        .prefix(".tokens-")
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(folder)
        .map_err(refused("write"))?;
    file.write_all(b"# Tokens of kymo, without the tokens themselves. `kymo token` changes this file.\n\n")
        .and_then(|()| file.write_all(text.as_bytes()))
        .map_err(refused("write"))?;
    // Whoever could read it before can read it again: root may change the file of another user.
    if let Ok(old) = fs::metadata(path)
        && file.as_file().metadata().is_ok_and(|new| (new.uid(), new.gid()) != (old.uid(), old.gid()))
    {
        fchown(file.as_file(), Some(old.uid()), Some(old.gid())).map_err(refused("keep the owner of"))?;
    }
    file.as_file().sync_all().map_err(refused("write"))?;
    file.persist(path).map_err(|error| refused("replace")(error.error))?;
    locked.sync_all().map_err(refused("sync the folder of"))?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-28T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn tokens_are_made_found_and_revoked_and_the_file_has_none_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let absent = Tokens::revoke(&path, "ops").unwrap_err().to_string();
        assert!(absent.contains("kymo token create"), "{absent}");
        let reader = Tokens::create(&path, "grafana", Role::Read, now(), None).unwrap();
        let end = "2027-02-26T00:00:00Z".parse().unwrap();
        let admin = Tokens::create(&path, "ops", Role::Admin, now(), Some(end)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(reader.text()) && !text.contains("kymo_"), "{text}");

        let tokens = Tokens::read(&path).unwrap();
        assert_eq!(tokens.find(reader.text()).unwrap().role, Role::Read);
        let ops = tokens.find(admin.text()).unwrap();
        assert_eq!((ops.role, ops.created, ops.expires), (Role::Admin, now(), Some(end)));
        assert!(ops.has_expired(end) && !ops.has_expired(now()));
        assert!(tokens.find("kymo_").is_none() && tokens.find("").is_none());

        let again = Tokens::create(&path, "ops", Role::Read, now(), None).unwrap_err().to_string();
        assert!(again.contains("already"), "{again}");
        Tokens::revoke(&path, "ops").unwrap();
        assert!(Tokens::read(&path).unwrap().find(admin.text()).is_none());
        assert!(Tokens::revoke(&path, "ops").unwrap_err().to_string().contains("kymo token list"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        Tokens::create(&path, "ops", Role::Admin, now(), None).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = Tokens::read(&path).unwrap_err().to_string();
            assert!(error.contains("open to other users") && error.contains("chmod 600"), "{error}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert_eq!(Tokens::read(&path).unwrap().iter().count(), 1);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named_and_nothing_of_it_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let hex = "0".repeat(64);
        let token = |name: &str, more: &str| {
            format!("[[token]]\nname='{name}'\nrole='read'\ncreated='2026-11-28T00:00:00Z'\n{more}\n")
        };
        for (text, part) in [
            (token("a", "sha256='12'"), "64 hexadecimal digits"),
            (token("a b", &format!("sha256='{hex}'")), "no name for a token"),
            (token("a", &format!("sha256='{hex}'\nexpires='soon'")), "expires: expected a time"),
            (token("a", &format!("sha256='{hex}'\ntoken='kymo_secret'")), "unknown field `token`"),
            (token("a", &format!("sha256='{hex}'")).repeat(2), "twice"),
            ("kymo_secret\n".to_owned(), ""),
        ] {
            fs::write(&path, &text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            let error = Tokens::read(&path).unwrap_err().to_string();
            assert!(error.contains("tokens.toml") && error.contains(part), "{text}: {error}");
            assert!(!error.contains("kymo_secret"), "{error}");
        }
    }
}
