//! Decides who calls.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;

use super::super::listener::Origin;
use super::caller::{Caller, Who};
use super::failures::Failures;
use super::role::Role;
use super::tokens::Tokens;

/// Why nobody is let in. Nothing in it is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::serve) enum Denial {
    #[error(
        "this call needs a token: send the header `authorization: Bearer TOKEN`, or Basic with any user and the token as the \
         password"
    )]
    Missing,
    #[error(
        "the header `authorization` has no token that could be read: expected `Bearer TOKEN`, or Basic with the token as the password"
    )]
    Unreadable,
    #[error("kymo does not know this token: it may have been revoked; `kymo token create` makes another one")]
    Unknown,
    #[error("this token has expired; `kymo token create` makes another one")]
    Expired,
}

/// Who is let in.
#[derive(Debug)]
pub(in crate::serve) struct Access {
    /// `None`: whoever reaches kymo over TCP is let in.
    tokens: Option<ArcSwap<Tokens>>,
    failures: Failures,
    own_uid: u32,
}

impl Access {
    pub(in crate::serve) fn new(tokens: Option<Tokens>) -> Access {
        let tokens = tokens.map(ArcSwap::from_pointee);
        Access { tokens, failures: Failures::default(), own_uid: rustix::process::geteuid().as_raw() }
    }

    /// Whether there are tokens.
    pub(in crate::serve) fn needs_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// From now on these are the tokens.
    pub(in crate::serve) fn replace(&self, tokens: Tokens) {
        if let Some(current) = &self.tokens {
            current.store(Arc::new(tokens));
        }
    }

    /// Who calls with these headers. A refusal comes late to those who were refused often.
    ///
    /// # Errors
    /// When nobody is let in with them.
    pub(in crate::serve) async fn enter(&self, origin: &Origin, headers: &HeaderMap) -> Result<Caller, Denial> {
        let denial = match self.admit(origin, headers, Timestamp::now()) {
            Ok(caller) => return Ok(caller),
            Err(denial) => denial,
        };
        // Browsers ask without a token first.
        if denial != Denial::Missing
            && let Origin::Tcp(peer) = origin
        {
            let (delay, is_first) = self.failures.note(peer.ip(), Instant::now());
            if is_first {
                tracing::warn!(target: "kymo::audit", "many log-ins from {} failed within a minute: answers to it wait", peer.ip());
            }
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
        }
        Err(denial)
    }

    fn admit(&self, origin: &Origin, headers: &HeaderMap, now: Timestamp) -> Result<Caller, Denial> {
        let caller = |who, role| Ok(Caller { who, role, origin: *origin });
        let (user, is_ours) = match origin {
            Origin::Unix { uid, .. } => (true, *uid == Some(0) || *uid == Some(self.own_uid)),
            Origin::Tcp(_) => (false, false),
        };
        if is_ours {
            return caller(Who::User, Role::Admin);
        }
        let shown = headers.get(AUTHORIZATION);
        let Some(tokens) = self.tokens.as_ref().filter(|_| !user || shown.is_some()) else {
            return if user { caller(Who::User, Role::Read) } else { caller(Who::Anyone, Role::Admin) };
        };
        let shown = shown.ok_or(Denial::Missing)?.to_str().map_err(|_| Denial::Unreadable)?;
        let shown = token_of(shown).ok_or(Denial::Unreadable)?;
        let tokens = tokens.load();
        let token = tokens.find(&shown).ok_or(Denial::Unknown)?;
        if token.has_expired(now) {
            return Err(Denial::Expired);
        }
        caller(Who::Token(token.name.as_str().into()), token.role)
    }
}

/// The token in a header `authorization`: of Bearer, or the password of Basic.
pub(in crate::serve) fn token_of(header: &str) -> Option<String> {
    let (scheme, rest) = header.trim().split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(rest).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        access: Access,
        reader: String,
        admin: String,
        ended: String,
    }

    fn now() -> Timestamp {
        "2026-11-28T00:00:00Z".parse().unwrap()
    }

    fn case() -> Case {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let make = |name, role, end| Tokens::create(&path, name, role, now(), end).unwrap().text().to_owned();
        let (reader, admin) = (make("grafana", Role::Read, None), make("ops", Role::Admin, None));
        let ended = make("old", Role::Admin, Some(now()));
        Case { access: Access::new(Some(Tokens::read(&path).unwrap())), reader, admin, ended }
    }

    fn headers(value: &str) -> HeaderMap {
        if value.is_empty() {
            HeaderMap::new()
        } else {
            HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
        }
    }

    fn tcp() -> Origin {
        Origin::Tcp("192.0.2.1:5".parse().unwrap())
    }

    #[test]
    fn a_token_lets_in_as_bearer_and_as_a_password() {
        let Case { access, reader, admin, .. } = case();
        let role = |header: &str| access.admit(&tcp(), &headers(header), now()).map(|caller| caller.role);
        let basic = |user: &str, token: &str| format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{token}")));
        assert_eq!(role(&format!("Bearer {reader}")), Ok(Role::Read));
        assert_eq!(role(&format!("bearer  {admin} ")), Ok(Role::Admin));
        assert_eq!(role(&basic("anybody", &reader)), Ok(Role::Read));
        assert_eq!(role(&basic("", &admin)), Ok(Role::Admin));
        let caller = access.admit(&tcp(), &headers(&format!("Bearer {admin}")), now()).unwrap();
        assert_eq!(caller.to_string(), "token ops from 192.0.2.1:5");
    }

    #[test]
    fn everything_else_is_denied_and_told_without_secrets() {
        let Case { access, reader, ended, .. } = case();
        let denial = |header: &str| access.admit(&tcp(), &headers(header), now()).unwrap_err();
        assert_eq!(denial(""), Denial::Missing);
        for header in [reader.as_str(), "Bearer", "Basic", "Basic !", "Basic a3ltbw==", "Digest x", "Basic /w=="] {
            assert_eq!(denial(header), Denial::Unreadable, "{header}");
        }
        let shorter = &reader[..reader.len() - 1];
        for token in [shorter, &reader.to_uppercase(), "kymo_", &"x".repeat(9_000)] {
            let denial = denial(&format!("Bearer {token}"));
            assert_eq!(denial, Denial::Unknown);
            assert!(!denial.to_string().contains(token) || token == "kymo_");
        }
        assert_eq!(denial(&format!("Bearer {ended}")), Denial::Expired);
        access.replace(Tokens::default());
        assert_eq!(denial(&format!("Bearer {reader}")), Denial::Unknown);
    }

    #[test]
    fn the_socket_asks_for_the_user_and_a_token_gives_more() {
        let Case { access, reader, admin, ended } = case();
        let other = access.own_uid + 1;
        let role = |uid, header: &str| {
            access.admit(&Origin::Unix { uid, pid: None }, &headers(header), now()).map(|caller| caller.role)
        };
        assert_eq!(role(Some(0), ""), Ok(Role::Admin));
        assert_eq!(role(Some(access.own_uid), ""), Ok(Role::Admin));
        assert_eq!(role(Some(other), ""), Ok(Role::Read));
        assert_eq!(role(None, ""), Ok(Role::Read));
        assert_eq!(role(Some(other), &format!("Bearer {reader}")), Ok(Role::Read));
        assert_eq!(role(Some(other), &format!("Bearer {admin}")), Ok(Role::Admin));
        assert_eq!(role(Some(other), &format!("Bearer {ended}")), Err(Denial::Expired));
    }

    #[test]
    fn without_tokens_only_the_socket_tells_users_apart() {
        let access = Access::new(None);
        let role = |origin: Origin| access.admit(&origin, &headers("Bearer x"), now()).unwrap().role;
        assert_eq!(role(tcp()), Role::Admin);
        assert_eq!(role(Origin::Unix { uid: Some(access.own_uid + 1), pid: None }), Role::Read);
    }
}
