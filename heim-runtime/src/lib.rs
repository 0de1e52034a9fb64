//! The runtime below heim: files of `/proc` and `/sys`, read once per tick.
//!
//! heim's crates read the system through a small crate named `heim-runtime`. This is an
//! implementation of the part of that crate's API which heim 0.1.0-rc.1 calls on Linux for `cpu`,
//! `disk`, `host`, `memory`, `net` and `sensors`, made for sampling at up to a thousand ticks a
//! second:
//!
//! - A file below the roots is opened once per thread and read by `pread` from then on.
//! - Between [`snapshot::begin`] and the drop of its guard a file is read once; everybody who reads
//!   it in this tick, be it heim or a parser of one's own ([`snapshot::with_proc`]), gets the same
//!   bytes.
//! - There is no executor. Every future and stream is ready when it is first polled, so [`ready`]
//!   drives a heim call from plain code.
//!
//! All state belongs to the thread that uses it: no locks, no threads, nothing shared. The modules,
//! in the order of a read: [`fs`] is what heim calls, [`snapshot`] finds the bytes, a private
//! module reads them, and [`linux`] says where the roots are. With a [`substitute`] heim parses other
//! bytes than the file's.
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

/// Polls `future` once and returns what it gave.
///
/// Futures of this crate, and of heim on top of it, read when they are polled and are ready then.
/// One that is not is dropped; waiting for it would need an executor.
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
/// heim wraps calls that may sleep in this. A collector's thread is there to wait for exactly
/// those, and its roots and descriptors are its own, so there is nowhere better to run them. The
/// bounds are those of an executor's `spawn_blocking`, for which heim's closures are written.
pub async fn spawn_blocking<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    work()
}

/// Pins variables to the stack: each name is bound anew, as a `Pin<&mut T>` to what it held.
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
