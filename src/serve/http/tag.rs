//! Tags of answers, for the header `ETag`: a client that has an answer is told that it is the same.

use axum::http::header::{CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

/// May be kept, and is asked for again before it is used.
pub(super) const ASK_AGAIN: &str = "no-cache";
/// May be kept for ever: what has another content has another path.
pub(super) const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// The tag of a text. It is weak, because the text is sent plain or compressed.
pub(super) fn of(text: &str) -> String {
    format!("W/\"{:08x}-{:x}\"", crc32c::crc32c(text.as_bytes()), text.len())
}

/// The answer with its tag, or "not modified" for a client that has it.
pub(super) fn answer(headers: &HeaderMap, tag: &str, keep: &'static str, whole: impl FnOnce() -> Response) -> Response {
    let mut response = if is_known(headers, tag) { StatusCode::NOT_MODIFIED.into_response() } else { whole() };
    let own = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(tag) {
        own.insert(ETAG, tag);
    }
    own.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    response
}

/// Whether the client names the tag among those that it has.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let plain = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    let known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    known.map(str::trim).any(|known| known == "*" || plain(known) == plain(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_in_a_list_and_as_a_weak_one() {
        let tag = of("text");
        let is_known = |value: &str| is_known(&HeaderMap::from_iter([(IF_NONE_MATCH, value.parse().unwrap())]), &tag);
        let strong = tag.trim_start_matches("W/");
        assert!(is_known(&tag) && is_known(strong) && is_known(&format!("\"a\", {tag}")) && is_known("*"));
        assert!(!is_known("\"a\"") && !is_known("") && !super::is_known(&HeaderMap::new(), &tag) && of("texts") != tag);
    }
}
