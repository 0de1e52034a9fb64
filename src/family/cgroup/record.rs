//! The record of a control group.

use crate::record;

record! {
    /// What each control group used, the groups below it included. What a group's controllers do not give is absent, as
    /// most is for a group without controllers, and some for the root.
    ///
    /// Of version 1, the groups of the same path in several hierarchies are one row. A group made has its row after a
    /// second at most; what a controller tells that is switched on for a group comes after 10 s at most. Some programs make groups all the time, with names such as `session-123.scope`: after 65,534
    /// paths since kymo started, further ones read as "(too many labels)".
    pub struct Cgroup("cgroup") {
        labels {
            /// The group's path below the root of its hierarchy, which is `/`.
            cgroup => "kymo.cgroup.path",
        }
        values {
            /// CPU time.
            counter usage_us: i64 [Micros] => "kymo.cgroup.cpu.usage" {},
            /// CPU time in user mode.
            counter user_us: i64 [Micros] => "kymo.cgroup.cpu.time" {"cpu.mode" = "user"},
            /// CPU time in the kernel.
            counter system_us: i64 [Micros] => "kymo.cgroup.cpu.time" {"cpu.mode" = "system"},
            /// Periods of the CPU limit in which there was something to run.
            counter periods: i64 [Count("{period}")] => "kymo.cgroup.cpu.periods" {},
            /// Those in which the limit was reached.
            counter throttled_periods: i64 [Count("{period}")] => "kymo.cgroup.cpu.throttled.periods" {},
            /// Time for which the limit kept the group from running, summed over CPUs.
            counter throttled_us: i64 [Micros] => "kymo.cgroup.cpu.throttled.time" {},
            /// Memory used, page cache and kernel memory included.
            gauge memory_bytes: i64 [Bytes] => "kymo.cgroup.memory.usage" {},
            /// The memory limit of this group itself; absent when there is none. Read once a second.
            gauge memory_max_bytes: i64 [Bytes] => "kymo.cgroup.memory.limit" {},
            /// Times that processes were throttled and had to reclaim because memory was above its high mark. Version 2.
            counter memory_high_events: i64 [Count("{event}")] => "kymo.cgroup.memory.events" {"kymo.event" = "high"},
            /// Times that memory was about to go above its limit; of version 1 that of this group itself.
            counter memory_max_events: i64 [Count("{event}")] => "kymo.cgroup.memory.events" {"kymo.event" = "max"},
            /// Times that memory was at its limit and an allocation was about to fail. Version 2.
            counter oom_events: i64 [Count("{event}")] => "kymo.cgroup.memory.events" {"kymo.event" = "oom"},
            /// Processes that the kernel killed for want of memory, whatever they wanted it for; of version 1 those of
            /// this group itself.
            counter oom_kill_events: i64 [Count("{event}")] => "kymo.cgroup.memory.events" {"kymo.event" = "oom_kill"},
            /// Bytes read, over all devices.
            counter read_bytes: i64 [Bytes] => "kymo.cgroup.io" {"disk.io.direction" = "read"},
            /// Bytes written, over all devices.
            counter write_bytes: i64 [Bytes] => "kymo.cgroup.io" {"disk.io.direction" = "write"},
            /// Reads, over all devices.
            counter read_ops: i64 [Count("{operation}")] => "kymo.cgroup.operations" {"disk.io.direction" = "read"},
            /// Writes, over all devices.
            counter write_ops: i64 [Count("{operation}")] => "kymo.cgroup.operations" {"disk.io.direction" = "write"},
            /// Time in which at least one task waited for a CPU.
            counter cpu_some_us: i64 [Micros] => "kymo.cgroup.pressure" {"kymo.resource" = "cpu", "kymo.kind" = "some"},
            /// Time in which all tasks that were not idle waited for a CPU. For the root the kernel says 0.
            counter cpu_full_us: i64 [Micros] => "kymo.cgroup.pressure" {"kymo.resource" = "cpu", "kymo.kind" = "full"},
            /// Time in which at least one task waited for memory.
            counter memory_some_us: i64 [Micros] => "kymo.cgroup.pressure" {"kymo.resource" = "memory", "kymo.kind" = "some"},
            /// Time in which all tasks that were not idle waited for memory.
            counter memory_full_us: i64 [Micros] => "kymo.cgroup.pressure" {"kymo.resource" = "memory", "kymo.kind" = "full"},
            /// Time in which at least one task waited for I/O.
            counter io_some_us: i64 [Micros] => "kymo.cgroup.pressure" {"kymo.resource" = "io", "kymo.kind" = "some"},
            /// Time in which all tasks that were not idle waited for I/O.
            counter io_full_us: i64 [Micros] => "kymo.cgroup.pressure" {"kymo.resource" = "io", "kymo.kind" = "full"},
            /// Processes and threads, as the controller of their number counts them.
            gauge tasks: i64 [Count("{task}")] => "kymo.cgroup.tasks" {},
        }
    }
}
