//! Tickets and prepared statements: opaque to clients, and complete, so that the server keeps nothing.

use prost::Message;
use prost::bytes::Bytes;
use tonic::Status;

use crate::query::request::{Frame, Options};

/// Every handle begins with this. The last byte is the version: a server refuses handles of another version.
const MAGIC: &[u8] = b"kymo\x02";

/// A number that nobody can guess: of a prepared statement, a query or a transaction.
pub(super) type Id = [u8; 16];

/// A new number.
pub(super) fn new_id() -> Result<Id, Status> {
    let mut id = Id::default();
    getrandom::fill(&mut id).map_err(|error| Status::internal(format!("no random number: {error}")))?;
    Ok(id)
}

/// Where a statement is on its way through a client.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Handle {
    /// In the ticket of a statement query.
    Query = b'q',
    /// In the handle of a prepared statement.
    Prepared = b'p',
}

/// A statement with all that it needs to run.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Stated {
    #[prost(string, tag = "1")]
    pub(super) sql: String,
    /// The values of its parameters.
    #[prost(message, repeated, tag = "2")]
    pub(super) parameters: Vec<Frame>,
    /// Those of the call that asked for the ticket: they decide the schema that it was told.
    #[prost(message, optional, tag = "3")]
    pub(super) options: Option<Options>,
    /// The transaction in which it runs; empty for none.
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) transaction: Bytes,
    /// Which query or prepared statement this is.
    #[prost(bytes = "vec", tag = "5")]
    id: Vec<u8>,
}

impl Stated {
    pub(super) fn new(sql: String, transaction: Option<Bytes>) -> Result<Stated, Status> {
        let id = new_id()?.to_vec();
        Ok(Stated { sql, transaction: transaction.unwrap_or_default(), id, ..Stated::default() })
    }

    pub(super) fn id(&self) -> Id {
        self.id.as_slice().try_into().unwrap_or_default()
    }

    /// The query of a prepared statement: it is another one at each execution.
    pub(super) fn query(mut self, parameters: Option<Vec<Frame>>, options: Options) -> Result<Stated, Status> {
        self.parameters = parameters.unwrap_or(self.parameters);
        self.options = Some(options);
        self.id = new_id()?.to_vec();
        Ok(self)
    }
}

impl Handle {
    /// The handle that the client is given.
    pub(super) fn encode(self, stated: &Stated) -> Bytes {
        [MAGIC, &[self as u8], &stated.encode_to_vec()].concat().into()
    }

    /// What a handle of this kind stands for.
    pub(super) fn decode(self, handle: &[u8]) -> Result<Stated, Status> {
        let stated = handle.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(&[self as u8]));
        let stated =
            stated.and_then(|stated| Stated::decode(stated).ok()).filter(|stated| stated.id.len() == size_of::<Id>());
        stated.ok_or_else(|| {
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
        let frame = Frame { header: b"h"[..].into(), body: b"b"[..].into() };
        let stated = Stated::new("SELECT 'ß' FROM cpu".into(), Some(b"t"[..].into())).unwrap();
        let stated = stated.query(Some(vec![frame]), Options { nanoseconds: true, ..Options::default() }).unwrap();
        assert_eq!(Handle::Query.decode(&Handle::Query.encode(&stated)).unwrap(), stated);
        assert_eq!(Handle::Prepared.decode(&Handle::Prepared.encode(&stated)).unwrap(), stated);
        assert!(Handle::Query.decode(&Handle::Prepared.encode(&stated)).is_err());
        assert!(Handle::Prepared.decode(&Handle::Query.encode(&stated)).is_err());
        assert_ne!(stated.clone().query(None, Options::default()).unwrap().id(), stated.id());
    }

    #[test]
    fn anything_else_is_refused() {
        for handle in [
            &b""[..],
            b"kymo",
            b"kymo\x02",
            b"kymo\x02x1",
            b"kymo\x01qSELECT 1",
            b"kymo\x02qSELECT 1",
            b"SELECT 1",
            b"kymo\x02q",
        ] {
            let status = Handle::Query.decode(handle).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().contains("ask GetFlightInfo"), "{status}");
            assert!(Handle::Prepared.decode(handle).is_err());
        }
    }
}
