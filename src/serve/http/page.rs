//! The page: the files of `web/`, which are in the program.
//!
//! Their folder's name has a hash of all of them, so a browser may keep them for ever. `build.rs` joins the modules into one script.

use axum::extract::Path;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::refusal::Refusal;
use super::tag;

include!(concat!(env!("OUT_DIR"), "/web.rs"));

/// A file of the page.
struct File {
    name: &'static str,
    content_type: &'static str,
    /// As gzip, which every browser reads.
    bytes: &'static [u8],
}

/// `/`: the page itself, which names the folder of its files.
pub(super) async fn index(headers: HeaderMap) -> Response {
    let head = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_ENCODING, "gzip")];
    tag::answer(&headers, &own_tag(), tag::ASK_AGAIN, || (head, INDEX).into_response())
}

/// `/web/<hash>/<name>`: a file of the page.
pub(super) async fn file(Path((hash, name)): Path<(String, String)>, headers: HeaderMap) -> Result<Response, Refusal> {
    let found = FILES.iter().find(|file| file.name == name && hash == HASH);
    let file = found.ok_or_else(|| {
        Refusal::with(StatusCode::NOT_FOUND, "the page has no such file, or was renewed: load it anew")
    })?;
    let head = [(CONTENT_TYPE, file.content_type), (CONTENT_ENCODING, "gzip")];
    Ok(tag::answer(&headers, &own_tag(), tag::FOR_EVER, || (head, file.bytes).into_response()))
}

/// That of each file, which has its own path.
fn own_tag() -> String {
    format!("\"{HASH}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small() {
        let bytes: usize = FILES.iter().map(|file| file.bytes.len()).sum::<usize>() + INDEX.len();
        assert!(bytes <= 120_000, "{bytes} bytes compressed");
        assert!(FILES.iter().any(|file| file.name == "main.js") && HASH.len() == 16);
    }
}
