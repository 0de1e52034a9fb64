//! A child process of low priority, which does not outlive its owner.

use std::fs::File;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::processes::Processes;
use crate::scheduling::be_background;

/// Added to the recorder's niceness for a worker.
const NICENESS: i32 = 10;
/// How soon a process that ends is looked at, and how often later.
const REAP_INTERVAL_MIN: Duration = Duration::from_millis(1);
const REAP_INTERVAL_MAX: Duration = Duration::from_millis(64);

/// A child, which is killed when this is dropped.
pub(super) struct Process {
    /// Taken when dropped only.
    child: Option<Child>,
    pub(super) all: Processes,
    /// For its statement. Another one may run when this process has ended or is free.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl Process {
    pub(super) fn start(command: Command, all: &Processes, memory: [Arc<File>; 2]) -> io::Result<Process> {
        let child = spawn(command, all)?;
        all.add(child.id(), memory);
        Ok(Process { child: Some(child), all: all.clone(), permit: None })
    }

    pub(super) fn child(&mut self) -> io::Result<&mut Child> {
        self.child.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let (all, permit) = (self.all.clone(), self.permit.take());
        // This fails if it has ended already.
        let _ = child.kill();
        match Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    reap(&mut child).await;
                    all.remove(child.id());
                    drop(permit);
                });
            }
            // The kernel reaps it when this process has ended.
            Err(_) => all.remove(child.id()),
        }
    }
}

/// Waits until a process has ended. This asks time after time, as the kernel takes long to free the memory of a large process, and
/// a thread that waits in a system call for that delays others.
pub(super) async fn reap(child: &mut Child) -> Option<ExitStatus> {
    let mut interval = REAP_INTERVAL_MIN;
    loop {
        match child.try_wait() {
            Ok(None) => {
                sleep(interval).await;
                interval = (2 * interval).min(REAP_INTERVAL_MAX);
            }
            Ok(status) => return status,
            Err(_) => return None,
        }
    }
}

/// Starts a program at low priority. A process starts with the priority of the thread that starts it, and a thread may not raise
/// its own again. So this is a thread for the start alone.
fn spawn(mut command: Command, all: &Processes) -> io::Result<Child> {
    let all = all.clone();
    let starting = std::thread::Builder::new().name("kymo-start".into()).spawn(move || {
        // A refusal leaves queries at ordinary priority, and on all CPUs.
        let _ = be_background(NICENESS);
        let _ = all.place_thread();
        command.spawn()
    })?;
    starting.join().map_err(|_| io::Error::other("the thread that starts a query worker panicked"))?
}
