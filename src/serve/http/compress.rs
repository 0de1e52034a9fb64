//! Answers as gzip, for clients that take it: rows as JSON get five to ten times smaller on their way through a tunnel. Columns of Arrow
//! get hardly smaller than two thirds, and compressing them takes longer than computing them, so they are sent as they are.

use std::io::Write;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream::{self, Stream};
use futures::{StreamExt, TryStreamExt};
use tokio::task::yield_now;

use super::accept;

/// What answers say that may be compressed, or plain.
pub(super) const VARIES: HeaderValue = HeaderValue::from_static("accept-encoding");
/// Shorter answers stay as they are: they are one packet anyway.
const BYTES_MIN: u64 = 1_024;
/// So much is compressed before other tasks have their turn.
const TURN_BYTES_MAX: usize = 64 << 10;
/// What is compressed is sent in pieces of about this.
const PIECE_BYTES_MIN: usize = 16 << 10;

/// Compresses the answer if that is worth it.
pub(super) async fn compress(request: Request, next: Next) -> Response {
    let is_taken = takes_gzip(request.headers());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if headers.contains_key(CONTENT_ENCODING) || !is_plain(headers) {
        return response;
    }
    headers.append(VARY, VARIES);
    let is_short = response.body().size_hint().upper().is_some_and(|bytes| bytes < BYTES_MIN);
    if !is_taken || is_short || response.status() != StatusCode::OK {
        return response;
    }
    let (mut head, body) = response.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Response::from_parts(head, Body::from_stream(gzip(body.into_data_stream())))
}

/// Whether the client takes gzip. Names of encodings are judged as those of media types.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let told = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let told = told.collect::<Vec<_>>().join(",").replace('*', "*/*");
    !told.is_empty() && accept::best(&told, &["gzip"]).is_some()
}

/// Whether it is text. Parquet is compressed as it is.
fn is_plain(headers: &HeaderMap) -> bool {
    let kinds = ["text/", "application/json", "application/openmetrics-text"];
    let told = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kinds.iter().any(|kind| told.starts_with(kind))
}

/// The parts as gzip.
fn gzip<S>(parts: S) -> impl Stream<Item = Result<Bytes, axum::Error>>
where
    S: Stream<Item = Result<Bytes, axum::Error>> + Unpin,
{
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let turns = parts.map_ok(|part| {
        let starts = (0..part.len()).step_by(TURN_BYTES_MAX);
        let turns: Vec<Result<Bytes, axum::Error>> =
            starts.map(|at| Ok(part.slice(at..part.len().min(at + TURN_BYTES_MAX)))).collect();
        stream::iter(turns)
    });
    stream::try_unfold(Some((turns.try_flatten(), encoder)), |state| async move {
        let Some((mut turns, mut encoder)) = state else { return Ok(None) };
        while let Some(turn) = turns.next().await.transpose()? {
            encoder.write_all(&turn).map_err(axum::Error::new)?;
            yield_now().await;
            if encoder.get_ref().len() >= PIECE_BYTES_MIN {
                let piece = std::mem::take(encoder.get_mut());
                return Ok(Some((Bytes::from(piece), Some((turns, encoder)))));
            }
        }
        let last = encoder.finish().map_err(axum::Error::new)?;
        Ok(Some((Bytes::from(last), None)))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn gzip_is_for_those_who_take_it() {
        let takes = |told: &str| takes_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, told.parse().unwrap())]));
        for told in ["gzip", "br, GZIP;q=0.5", "*", "deflate, *;q=0.1"] {
            assert!(takes(told), "{told}");
        }
        for told in ["", "identity", "gzip;q=0", "*, gzip;q=0", "x-gzip-like"] {
            assert!(!takes(told), "{told}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn what_is_compressed_is_the_whole() {
        let mut random = fastrand::Rng::with_seed(3);
        for bytes in [0, 1, 100_000, 1_000_000] {
            let whole: Vec<u8> = (0..bytes).map(|_| random.u8(..)).collect();
            let parts: Vec<_> = whole.chunks(300_000).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
            let pieces: Vec<Bytes> = gzip(stream::iter(parts)).try_collect().await.unwrap();
            let mut read = Vec::new();
            GzDecoder::new(pieces.concat().as_slice()).read_to_end(&mut read).unwrap();
            assert!(read == whole && (bytes < 1_000_000 || pieces.len() > 10), "{bytes}");
        }
        let broken = [Ok(Bytes::from_static(b"some")), Err(axum::Error::new(std::io::Error::other("gone")))];
        assert!(gzip(stream::iter(broken)).try_collect::<Vec<_>>().await.is_err());
    }
}
