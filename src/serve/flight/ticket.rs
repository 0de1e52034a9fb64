//! Tickets and prepared statements: opaque to clients, and complete, so that the server keeps nothing.

use prost::bytes::{BufMut, Bytes, BytesMut};
use tonic::Status;

/// Every handle begins with this. The last byte is the version: a server refuses handles of another version.
const MAGIC: &[u8] = b"kymo\x01";

const QUERY: u8 = b'q';
const PREPARED: u8 = b'p';

/// A statement on its way through a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// In the ticket of a statement query.
    Query(String),
    /// In the handle of a prepared statement.
    Prepared(String),
}

impl Statement {
    /// The handle that the client is given.
    pub(super) fn encode(&self) -> Bytes {
        let (kind, sql) = match self {
            Statement::Query(sql) => (QUERY, sql),
            Statement::Prepared(sql) => (PREPARED, sql),
        };
        let mut handle = BytesMut::with_capacity(MAGIC.len() + 1 + sql.len());
        handle.put_slice(MAGIC);
        handle.put_u8(kind);
        handle.put_slice(sql.as_bytes());
        handle.freeze()
    }

    /// The SQL of a statement query's ticket.
    pub(super) fn query(handle: &[u8]) -> Result<String, Status> {
        match Self::decode(handle) {
            Some(Statement::Query(sql)) => Ok(sql),
            _ => Err(Status::invalid_argument(
                "the ticket was not made by this version of kymo: ask GetFlightInfo for a new one",
            )),
        }
    }

    /// The SQL of a prepared statement's handle.
    pub(super) fn prepared(handle: &[u8]) -> Result<String, Status> {
        match Self::decode(handle) {
            Some(Statement::Prepared(sql)) => Ok(sql),
            _ => Err(Status::invalid_argument(
                "the prepared statement was not made by this version of kymo: prepare it again",
            )),
        }
    }

    fn decode(handle: &[u8]) -> Option<Statement> {
        let (kind, sql) = handle.strip_prefix(MAGIC)?.split_first()?;
        let sql = std::str::from_utf8(sql).ok()?.to_owned();
        match *kind {
            QUERY => Some(Statement::Query(sql)),
            PREPARED => Some(Statement::Prepared(sql)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_comes_back_as_what_it_was() {
        let sql = "SELECT 'ß' FROM cpu".to_owned();
        assert_eq!(Statement::query(&Statement::Query(sql.clone()).encode()).unwrap(), sql);
        assert_eq!(Statement::prepared(&Statement::Prepared(sql.clone()).encode()).unwrap(), sql);
        assert!(Statement::query(&Statement::Prepared(sql.clone()).encode()).is_err());
        assert!(Statement::prepared(&Statement::Query(sql).encode()).is_err());
    }

    #[test]
    fn anything_else_is_refused() {
        for handle in
            [&b""[..], b"kymo", b"kymo\x01", b"kymo\x01x1", b"kymo\x02qSELECT 1", b"SELECT 1", b"kymo\x01q\xff"]
        {
            let status = Statement::query(handle).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().contains("ask GetFlightInfo"), "{status}");
            assert!(Statement::prepared(handle).is_err());
        }
    }
}
