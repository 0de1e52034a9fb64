//! Which requests are answered, and what every answer says to browsers.
//!
//! A web page from elsewhere may send requests to this host, and may have a name of its own resolve to it ("DNS rebinding"). So
//! only requests to a name of loopback are answered, and none that a page of another origin has sent. Where tokens are needed, any
//! name is answered: a browser has the token for the name that its user typed, and for no other one.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, ORIGIN, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::refusal::Refusal;
use crate::serve::auth::access::Access;
use crate::serve::auth::gate;
use crate::serve::listener::Peer;

/// On every answer: nothing is loaded but from here, guessed, framed, or given to pages of other origins.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'none'; \
             frame-ancestors 'none'; base-uri 'none'",
        ),
    ),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Has browsers ask their user for a token, as the password of any name.
const ASKS: HeaderValue =
    HeaderValue::from_static("Basic realm=\"kymo: any user, and a token as the password\", charset=\"UTF-8\"");

/// Who is let in, and how the page's address begins.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) access: Arc<Access>,
    pub(super) scheme: &'static str,
}

/// Refuses requests from elsewhere and those without a token where one is needed, and adds [`HEADERS`] to every answer.
pub(super) async fn keep(State(kept): State<Kept>, request: Request, next: Next) -> Response {
    let mut response = match kept.refusal(&request) {
        Some(refusal) => refusal.into_response(),
        None => match kept.denial(request.extensions().get(), request.headers()).await {
            Some(denial) => denial,
            None => next.run(request).await,
        },
    };
    response.headers_mut().extend(HEADERS);
    // What may be kept says so itself.
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

impl Kept {
    fn refusal(&self, request: &Request) -> Option<Refusal> {
        let any_name = self.access.needs_tokens();
        let refused = refusal(request.headers(), request.uri().path(), self.scheme, any_name);
        let host = request.headers().get(HOST).map(HeaderValue::as_bytes);
        let is_foreign = |authority: &Authority| {
            let name = authority.as_str();
            if any_name { Some(name.as_bytes()) != host } else { !is_loopback(name) }
        };
        let elsewhere = request.uri().authority().is_some_and(is_foreign);
        let no_proxy = || elsewhere.then(|| Refusal::with(StatusCode::MISDIRECTED_REQUEST, "kymo is no proxy"));
        refused.or_else(no_proxy)
    }

    /// The answer to those who are not let in.
    async fn denial(&self, peer: Option<&Peer>, headers: &HeaderMap) -> Option<Response> {
        let Some(peer) = peer else { return Some(StatusCode::INTERNAL_SERVER_ERROR.into_response()) };
        let denial = gate::http(&self.access, peer, headers).await.err()?;
        let mut response = Refusal::with(StatusCode::UNAUTHORIZED, denial.to_string()).into_response();
        response.headers_mut().insert(WWW_AUTHENTICATE, ASKS);
        Some(response)
    }
}

fn refusal(headers: &HeaderMap, path: &str, scheme: &str, any_name: bool) -> Option<Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Some(Refusal::wrong("expected one Host header"));
    };
    let Some(host) = host.to_str().ok().filter(|host| any_name || is_loopback(host)) else {
        let why = "without tokens (server.tokens), kymo answers requests to localhost, 127.0.0.1 and [::1], and the Host header \
                   names another";
        return Some(Refusal::with(StatusCode::MISDIRECTED_REQUEST, why));
    };
    let is_foreign = |origin: &HeaderValue| origin.as_bytes() != format!("{scheme}://{host}").as_bytes();
    if headers.get_all(ORIGIN).iter().any(is_foreign) || was_sent_from_elsewhere(headers, path) {
        return Some(Refusal::with(StatusCode::FORBIDDEN, "kymo does not answer pages of another origin"));
    }
    None
}

/// Whether the browser says that a page of another origin has sent this. Links to the page itself may be anywhere.
fn was_sent_from_elsewhere(headers: &HeaderMap, path: &str) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|found| found.as_bytes() == value.as_bytes());
    let is_own = is("sec-fetch-site", "same-origin") || is("sec-fetch-site", "none");
    let is_link = path == "/" && is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document");
    headers.contains_key("sec-fetch-site") && !is_own && !is_link
}

/// Whether a Host header names loopback, with any port.
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let is_plain = !authority.as_str().contains('@');
    is_plain && (name.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(headers: &[(HeaderName, &str)]) -> Option<u16> {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        let mut map = HeaderMap::new();
        headers.for_each(|(name, value)| _ = map.append(name, value));
        refusal(&map, "/metrics", "http", false).map(|refusal| refusal.into_response().status().as_u16())
    }

    #[test]
    fn only_names_of_loopback_are_answered() {
        for host in ["localhost", "LOCALHOST:9464", "127.0.0.1:9464", "127.0.0.2", "[::1]:9464", "[::1]"] {
            assert_eq!(status(&[(HOST, host)]), None, "{host}");
        }
        let foreign = [
            "example.org",
            "localhost.example.org",
            "127.0.0.1.nip.io",
            "10.0.0.1:9464",
            "user@localhost",
            "localhost@example.org",
            "0.0.0.0",
            "[::]",
            "[::ffff:10.0.0.1]",
            "",
        ];
        for host in foreign {
            assert_eq!(status(&[(HOST, host)]), Some(421), "{host}");
        }
        assert_eq!(status(&[]), Some(400));
        assert_eq!(status(&[(HOST, "localhost"), (HOST, "localhost")]), Some(400));
    }

    #[test]
    fn pages_of_another_origin_are_refused() {
        let of = |origin| status(&[(HOST, "localhost:9464"), (ORIGIN, origin)]);
        assert_eq!(of("http://localhost:9464"), None);
        for origin in
            ["https://localhost:9464", "http://localhost", "http://127.0.0.1:9464", "null", "http://evil.example"]
        {
            assert_eq!(of(origin), Some(403), "{origin}");
        }
    }

    #[test]
    fn with_tokens_any_one_name_is_answered_and_still_no_other_origin() {
        let status = |pairs: &[(HeaderName, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            let mut map = HeaderMap::new();
            pairs.for_each(|(name, value)| _ = map.append(name, value));
            refusal(&map, "/metrics", "https", true).map(|refusal| refusal.into_response().status().as_u16())
        };
        assert_eq!(status(&[(HOST, "ember.example:9464"), (ORIGIN, "https://ember.example:9464")]), None);
        assert_eq!(status(&[(HOST, "10.0.0.1:9464")]), None);
        assert_eq!(status(&[(HOST, "ember.example"), (HOST, "ember.example")]), Some(400));
        for origin in ["http://ember.example", "https://evil.example", "null"] {
            assert_eq!(status(&[(HOST, "ember.example"), (ORIGIN, origin)]), Some(403), "{origin}");
        }
    }

    #[test]
    fn a_link_elsewhere_may_open_the_page_and_load_nothing_else() {
        let of = |path: &str, site: &'static str, mode: &'static str| {
            let fetch = [
                ("host", "localhost"),
                ("sec-fetch-site", site),
                ("sec-fetch-mode", mode),
                ("sec-fetch-dest", "document"),
            ];
            let pairs = fetch.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            refusal(&HeaderMap::from_iter(pairs), path, "http", false).is_none()
        };
        assert!(
            of("/", "cross-site", "navigate")
                && of("/api/v1/sql", "same-origin", "cors")
                && of("/metrics", "none", "navigate")
        );
        assert!(!of("/", "cross-site", "no-cors") && !of("/api/v1/sql", "cross-site", "navigate"));
        assert!(!of("/api/v1/sql", "same-site", "cors"));
    }
}
