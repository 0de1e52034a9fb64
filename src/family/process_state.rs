//! `process_state`: how many processes are in which state, counted by `process` (`proc_pid_stat(5)`).

use crate::reading::census::{Census, Counts};
use crate::reading::prelude::*;

/// Without a count for this time, `process` is not recorded, or seldom.
const UNCOUNTED_NS_MAX: i64 = 60_000_000_000;

record! {
    /// How many processes of the host are in which state. They are counted when `process` reads them all: there is a row after
    /// each tick of `process`, and none if no collector records it. Threads are not counted, and neither are processes that kymo may
    /// not see.
    pub struct ProcessState("process_state") {
        labels {}
        values {
            /// Processes that run or wait for a CPU.
            gauge running: i64 [Count("{process}")] => "system.process.count" {"process.state" = "running"},
            /// Processes that wait for something, such as input or a timer.
            gauge sleeping: i64 [Count("{process}")] => "system.process.count" {"process.state" = "sleeping"},
            /// Processes that wait and cannot be interrupted, most often for a disk or a network file system.
            gauge uninterruptible: i64 [Count("{process}")] => "system.process.count" {"process.state" = "uninterruptible"},
            /// Processes that a signal or a debugger has stopped.
            gauge stopped: i64 [Count("{process}")] => "system.process.count" {"process.state" = "stopped"},
            /// Processes that have ended, and whose parent has not asked for their exit code yet.
            gauge zombie: i64 [Count("{process}")] => "system.process.count" {"process.state" = "zombie"},
            /// Threads of the kernel without work. Before Linux 4.14 they count as `uninterruptible` or `sleeping`.
            gauge idle: i64 [Count("{process}")] => "system.process.count" {"process.state" = "idle"},
        }
    }
}

/// Records what the sampler of `process` has counted.
#[derive(Debug)]
pub struct ProcessStateSampler {
    census: Census,
    /// How many counts there were at the last tick.
    taken: u64,
    /// The last tick with a new count, or the first one.
    counted_ns: Option<i64>,
    now_ns: i64,
}

impl Sample for ProcessStateSampler {
    type Record = ProcessState;
    const INTERVAL_MIN: Duration = Duration::from_millis(100);
    const RESOLUTION: &'static str = "exact at each tick of the table process";

    fn open(context: &Context) -> ProcessStateSampler {
        ProcessStateSampler { census: context.census.clone(), taken: 0, counted_ns: None, now_ns: 0 }
    }

    fn tell_lacking(&self, told: &mut String) {
        if self.counted_ns.is_some_and(|counted_ns| self.now_ns.saturating_sub(counted_ns) >= UNCOUNTED_NS_MAX) {
            told.push_str("there are no rows: processes are counted when the table process is recorded, and it is not");
        }
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<ProcessState>) -> Result<(), SampleError> {
        let (taken, Counts([running, sleeping, uninterruptible, stopped, zombie, idle])) = self.census.last();
        self.now_ns = tick.monotonic_ns;
        if taken == self.taken {
            self.counted_ns.get_or_insert(tick.monotonic_ns);
            return Ok(());
        }
        (self.taken, self.counted_ns) = (taken, Some(tick.monotonic_ns));
        rows.push(ProcessState { time: tick.time, running, sleeping, uninterruptible, stopped, zombie, idle });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::process::ProcessSampler;
    use crate::reading::roots::Roots;

    #[test]
    fn the_processes_of_a_tick_are_counted_by_state() {
        let folder = tempfile::tempdir().unwrap();
        for (pid, state) in [(1, 'S'), (2, 'I'), (30, 'R'), (31, 'D'), (32, 'D'), (40, 'Z'), (50, 't')] {
            let path = folder.path().join(pid.to_string());
            std::fs::create_dir(&path).unwrap();
            let stat = format!("{pid} (x) {state} 1 1 1 0 -1 0 21 0 22 0 5 3 0 0 20 0 9 0 500 5000000 3 0 0\n");
            std::fs::write(path.join("stat"), stat).unwrap();
        }
        let roots = Roots { procfs: folder.path().into(), ..Roots::default() };
        let context = Context { roots, ..Context::default() };
        let mut processes = Probe::of::<ProcessSampler>(&context);
        let mut states = Probe::of::<ProcessStateSampler>(&context);
        assert_eq!(states.rows(0), "", "nothing was counted yet");
        for _ in 0..2 {
            processes.rows(1_000);
            assert_eq!(states.rows(1_000), "1,1,2,1,1,1\n");
        }
        assert_eq!((states.rows(2_000).as_str(), states.lacking().as_str()), ("", ""));
        assert_eq!(states.rows(61_000), "");
        assert!(states.lacking().contains("when the table process is recorded, and it is not"));
        processes.rows(62_000);
        assert_eq!((states.rows(62_000).as_str(), states.lacking().as_str()), ("1,1,2,1,1,1\n", ""));
        // Nothing is known of them.
        for pid in [1, 2, 30, 31, 32, 40, 50] {
            std::fs::write(folder.path().join(pid.to_string()).join("stat"), "?").unwrap();
        }
        let _ = processes.tick(63_000);
        assert_eq!(states.rows(63_000), "");
    }
}
