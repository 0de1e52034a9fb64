//! What a client asks for: a statement, the values of its parameters, and how it is to be run and answered.

use std::sync::Arc;
use std::time::Duration;

use prost::bytes::Bytes;

use super::asked::Asked;
use super::place::SCHEMA;
use crate::store::{View, hot_bytes};

/// A statement as a client wants it run.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// One SQL query. It may have parameters, `$1` or `?`.
    pub sql: String,
    /// Values of its parameters. The statement runs once for each row.
    pub parameters: Vec<Frame>,
    /// Its deadline, tables and times.
    pub options: Options,
    /// Who asks, for the table `statement`.
    pub client: String,
    /// Its rows and `now()` are of this moment, else of the moment when it asks for rows.
    pub moment: Option<Arc<Moment>>,
    /// What a client wrote of a tail, if the statement is made of that.
    pub tail: Option<Written>,
    /// What the statement asks for, if that is known: it is run without being planned.
    pub window: Option<Asked>,
}

impl Request {
    /// A statement without parameters, over the newest rows.
    #[must_use]
    pub fn new(sql: impl Into<String>) -> Request {
        Request { sql: sql.into(), ..Request::default() }
    }
}

impl From<&str> for Request {
    fn from(sql: &str) -> Request {
        Request::new(sql)
    }
}

/// A Flight message with values of parameters, as the client sent it: a schema, or rows. Only workers decode it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Frame {
    /// The header of an Arrow IPC message.
    #[prost(bytes = "bytes", tag = "1")]
    pub header: Bytes,
    /// Its body.
    #[prost(bytes = "bytes", tag = "2")]
    pub body: Bytes,
}

/// Parts of a tail as its client wrote them. They are judged by themselves, so that errors are about the client's own words.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Written {
    /// The condition that rows must meet; empty for none.
    #[prost(string, tag = "1")]
    pub condition: String,
    /// The time of its first rows, if they begin at one.
    #[prost(string, optional, tag = "2")]
    pub since: Option<String>,
}

/// How a client wants its statements run.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Options {
    /// Where tables without a schema are looked for; [`SCHEMA`] if none is given.
    #[prost(string, optional, tag = "1")]
    pub schema: Option<String>,
    /// Ends the statement after this time. `query.time_max` still holds.
    #[prost(uint64, optional, tag = "2")]
    pub time_us_max: Option<u64>,
    /// Times in results are in nanoseconds, for clients that read every time so.
    #[prost(bool, tag = "3")]
    pub nanoseconds: bool,
}

impl Options {
    /// Where tables without a schema are looked for.
    #[must_use]
    pub fn schema_name(&self) -> &str {
        self.schema.as_deref().unwrap_or(SCHEMA)
    }

    /// The time limit of a statement, where `time_max` is that of all.
    #[must_use]
    pub fn time_max(&self, time_max: Duration) -> Duration {
        self.time_us_max.map_or(time_max, |us| time_max.min(Duration::from_micros(us)))
    }
}

/// What several statements see, as if all of them ran at one moment. Files stay, and rows in memory too, as long as it is held.
#[derive(Debug)]
pub struct Moment {
    /// The rows.
    pub(super) view: Arc<View>,
    /// The value of `now()`.
    pub(super) now_us: i64,
}

impl Moment {
    /// A moment without rows.
    #[cfg(test)]
    pub(crate) fn empty() -> Moment {
        Moment { view: Arc::new(View::empty()), now_us: 0 }
    }

    /// Memory that the rows in memory of several moments take, should nothing else need them any more.
    pub fn hot_bytes<'a>(moments: impl IntoIterator<Item = &'a Arc<Moment>>) -> u64 {
        let views: Vec<&View> = moments.into_iter().map(|moment| &*moment.view).collect();
        hot_bytes(views)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_can_only_lower_the_time_limit() {
        let minute = Duration::from_secs(60);
        let limit = |us| Options { time_us_max: us, ..Options::default() }.time_max(minute);
        assert_eq!(limit(None), minute);
        assert_eq!(limit(Some(5_000_000)), Duration::from_secs(5));
        assert_eq!(limit(Some(u64::MAX)), minute);
    }
}
