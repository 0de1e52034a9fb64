//! The snapshot of a tick: the calling thread reads each file below `/proc` and `/sys` at most once in it.

use std::future::Future;

use super::outcome::failed;
use crate::sampler::SampleError;

/// Runs `tick` within one snapshot.
pub fn in_snapshot(tick: &mut dyn FnMut()) {
    let _snapshot = heim_runtime::snapshot::begin();
    tick();
}

/// Calls `parse` with this tick's bytes of the file `name` below procfs' root.
pub(crate) fn with_proc<T>(name: &'static str, parse: impl FnOnce(&[u8]) -> T) -> Result<T, SampleError> {
    heim_runtime::snapshot::with_proc(name, parse).map_err(|error| failed(name, error))
}

/// The result of a call of heim, whose futures are ready at their first poll.
pub(crate) fn poll<T>(future: impl Future<Output = T>) -> Result<T, SampleError> {
    heim_runtime::ready(future).map_err(|error| failed("heim", error))
}
