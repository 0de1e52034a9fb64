//! Tickets and prepared statements: opaque to clients, and complete, so that the server keeps nothing.

use prost::bytes::Bytes;
use tonic::Status;

/// Every handle begins with this. The last byte is the version: a server refuses handles of another version.
const MAGIC: &[u8] = b"kymo\x01";

/// Where a statement is on its way through a client.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Handle {
    /// In the ticket of a statement query.
    Query = b'q',
    /// In the handle of a prepared statement.
    Prepared = b'p',
}

impl Handle {
    /// The handle of `sql` that the client is given.
    pub(super) fn encode(self, sql: &str) -> Bytes {
        [MAGIC, &[self as u8], sql.as_bytes()].concat().into()
    }

    /// The SQL of a handle of this kind.
    pub(super) fn decode(self, handle: &[u8]) -> Result<String, Status> {
        let sql = handle.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(&[self as u8]));
        let sql = sql.and_then(|sql| str::from_utf8(sql).ok());
        sql.map(str::to_owned).ok_or_else(|| {
            Status::invalid_argument(match self {
                Handle::Query => "the ticket was not made by this version of kymo: ask GetFlightInfo for a new one",
                Handle::Prepared => "the prepared statement was not made by this version of kymo: prepare it again",
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_comes_back_as_what_it_was() {
        let sql = "SELECT 'ß' FROM cpu";
        assert_eq!(Handle::Query.decode(&Handle::Query.encode(sql)).unwrap(), sql);
        assert_eq!(Handle::Prepared.decode(&Handle::Prepared.encode(sql)).unwrap(), sql);
        assert!(Handle::Query.decode(&Handle::Prepared.encode(sql)).is_err());
        assert!(Handle::Prepared.decode(&Handle::Query.encode(sql)).is_err());
    }

    #[test]
    fn anything_else_is_refused() {
        for handle in
            [&b""[..], b"kymo", b"kymo\x01", b"kymo\x01x1", b"kymo\x02qSELECT 1", b"SELECT 1", b"kymo\x01q\xff"]
        {
            let status = Handle::Query.decode(handle).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().contains("ask GetFlightInfo"), "{status}");
            assert!(Handle::Prepared.decode(handle).is_err());
        }
    }
}
