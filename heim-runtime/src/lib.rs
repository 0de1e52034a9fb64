//! The runtime below heim: files of `/proc` and `/sys`, read once per tick.
//!
//! heim's crates read the system through a small crate named `heim-runtime`. This crate implements
//! the part of its API that heim 0.1.0-rc.1 calls on Linux for `cpu`, `disk`, `host`, `memory`,
//! `net` and `sensors`. It is made for sampling at up to a thousand ticks a second:
//!
//! - Each thread opens a file below the roots once and then reads it with `pread`.
//! - Between [`snapshot::begin`] and the drop of its guard a file is read once. All readers in this
//!   tick, heim as well as other parsers ([`snapshot::with_proc`]), get the same bytes.
//! - There is no executor. Every future and stream is ready when it is first polled, so [`ready`]
//!   drives a heim call from plain code.
//!
//! All state belongs to the thread that uses it: no locks, no threads, nothing shared. The modules,
//! in the order of a read: heim calls [`fs`], [`snapshot`] finds the bytes, a private module reads
//! them, and [`linux`] holds the roots. With a [`substitute`] heim parses other bytes than the
//! file's.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! use heim_runtime::{fs, linux, ready, snapshot};
//!
//! let tick = snapshot::begin();
//! let uptime = ready(fs::read_to_string(linux::procfs_root().join("uptime")))??;
//! let same = snapshot::with_proc("uptime", |bytes| bytes == uptime.as_bytes())?;
//! assert!(same);
//! drop(tick);
//! # Ok(())
//! # }
//! ```

mod file;
pub mod fs;
pub mod linux;
pub mod snapshot;
pub mod substitute;

use std::future::Future;
use std::io;
use std::task::{Context, Poll, Waker};

/// Polls `future` once and returns its output.
///
/// Futures of this crate, and of heim on top of it, read when they are polled and are ready then. A
/// future that is not ready is dropped; waiting for it would need an executor.
///
/// # Errors
///
/// [`io::ErrorKind::WouldBlock`] if the future was not ready.
///
/// ```
/// assert_eq!(heim_runtime::ready(async { 7 }).unwrap(), 7);
/// assert!(heim_runtime::ready(std::future::pending::<()>()).is_err());
/// ```
pub fn ready<F: Future>(future: F) -> io::Result<F::Output> {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => {
            Err(io::Error::new(io::ErrorKind::WouldBlock, "poll a future of heim: not ready at the first poll"))
        }
    }
}

/// Runs `work` on the calling thread when the returned future is polled.
///
/// heim wraps calls that may sleep in this. They run on the collector's own thread, because the
/// roots and descriptors belong to it. The bounds are those of an executor's `spawn_blocking`, for
/// which heim's closures are written.
pub async fn spawn_blocking<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    work()
}

/// Pins variables to the stack: rebinds each name to a `Pin<&mut T>` of its value.
///
/// ```
/// let answer = async { 42 };
/// heim_runtime::pin!(answer);
/// assert_eq!(heim_runtime::ready(answer.as_mut()).unwrap(), 42);
/// ```
#[macro_export]
macro_rules! pin {
    ($($name:ident),* $(,)?) => {
        $(
            #[allow(unused_mut)]
            let mut $name = ::core::pin::pin!($name);
        )*
    };
}
