//! `statement`: what clients asked.

use crate::record;

record! {
    /// Statements that have ended, one row each. `time` is when the statement ended. Statements that could not even be planned have a
    /// row, too. Planning alone has none, unless it failed.
    pub struct Statement("statement") {
        labels {
            /// Who asked: the name that the client's program gives itself (gRPC's user agent), or `AggregateMetrics` for that call.
            client => "kymo.statement.client",
            /// The statement. Of a longer one, the first 4 KiB.
            text => "db.query.text",
            /// How it ended. `ok`: all rows were sent. `cancelled`: the client went away or cancelled it. `invalid`: the statement, or
            /// a value in it, is wrong. `limit`: it reached a limit of memory, disk, size or number. `time`: it reached its time limit.
            /// `stopped`: kymo was stopped. `internal`: a fault of kymo.
            outcome => "kymo.statement.outcome",
            /// The error that the client was told, or its first 4 KiB. Empty if there was none.
            error => "error.message",
        }
        values {
            /// Rows that were sent.
            gauge rows: i64 [Count("{row}")],
            /// Size of these rows, as they were sent.
            gauge bytes: i64 [Bytes],
            /// Time from the request to the end. It includes the time that the client took to read.
            gauge duration_us: i64 [Micros],
            /// The most resident memory that its process had meanwhile. NULL if the process died or the kernel did not tell.
            gauge peak_bytes: i64 [Bytes],
        }
    }
}
