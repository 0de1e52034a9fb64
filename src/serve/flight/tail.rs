//! Tickets of tails: JSON, so that any Flight client can write one.
//!
//! `{"tail": "network", "columns": ["time", "rx_bytes"], "where": "interface = 'lo'", "last": 10}`; `since` with a time in the
//! place of `last` begins with all rows since then. All but `tail` may be left out.

use serde::Deserialize;
use tonic::Status;

use crate::query::request::Options;
use crate::query::tail::{First, TailRequest};

/// No Flight SQL command begins with it.
const BEGINNING: u8 = b'{';

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    tail: String,
    #[serde(default)]
    columns: Vec<String>,
    #[serde(default, rename = "where")]
    filter: String,
    last: Option<u64>,
    since: Option<String>,
}

/// The tail that a ticket or a descriptor asks for, or `None` if it is none.
pub(super) fn request(bytes: &[u8], options: &Options, client: &str) -> Option<Result<TailRequest, Status>> {
    (bytes.trim_ascii_start().first() == Some(&BEGINNING)).then(|| {
        let written: Written = serde_json::from_slice(bytes).map_err(|error| {
            Status::invalid_argument(format!(
                "the ticket of a tail cannot be read: {error}; write {{\"tail\": \"network\", \"last\": 10}}"
            ))
        })?;
        let first = match (written.last, written.since) {
            (Some(_), Some(_)) => {
                return Err(Status::invalid_argument("a tail begins with `last` or `since`, not both"));
            }
            (Some(count), None) => First::Last(count),
            (None, Some(since)) => First::Since(since),
            (None, None) => First::None,
        };
        let Written { tail: table, columns, filter, .. } = written;
        Ok(TailRequest { table, columns, filter, first, options: options.clone(), client: client.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<TailRequest, String> {
        let read = request(json.as_bytes(), &Options::default(), "c").expect("a tail");
        read.map_err(|status| status.message().to_owned())
    }

    #[test]
    fn a_ticket_is_json() {
        let tail = read(r#"{"tail": "cpu", "columns": ["time"], "where": "cpu = '0'", "last": 3}"#).unwrap();
        assert_eq!((tail.table.as_str(), tail.first, tail.client.as_str()), ("cpu", First::Last(3), "c"));
        assert_eq!((tail.columns, tail.filter.as_str()), (vec!["time".to_owned()], "cpu = '0'"));
        assert_eq!(read(r#"{"tail": "cpu", "since": "x"}"#).unwrap().first, First::Since("x".into()));
        assert!(request(b"\x0a\x01x", &Options::default(), "").is_none());
        for (json, text) in [
            ("{", "cannot be read"),
            (r#"{"columns": []}"#, "missing field `tail`"),
            (r#"{"tail": "cpu", "limit": 5}"#, "unknown field `limit`"),
            (r#"{"tail": "cpu", "last": -1}"#, "cannot be read"),
            (r#"{"tail": "cpu", "last": 1, "since": "x"}"#, "not both"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(text), "{json}: {error}");
        }
    }
}
