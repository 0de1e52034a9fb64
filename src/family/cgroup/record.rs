//! The record of a control group.

use crate::record;

record! {
    /// Use of resources by each control group, including the groups below it. A value is NULL if no controller of
    /// the group provides it. This affects most values of a group without controllers, and some of the root group.
    /// `[cgroup]` in the configuration leaves groups out.
    ///
    /// In version 1, groups with the same path in several hierarchies are one row. A new group has a row within a
    /// second; the figures of a controller that is switched on later appear within 10 s.
    pub struct Cgroup("cgroup") {
        labels {
            /// The group's path below the root of its hierarchy; the root is `/`.
            cgroup => "kymo.cgroup.path",
        }
        values {
            /// CPU time in user mode and in the kernel.
            counter usage_us: i64 [Micros] => "kymo.cgroup.cpu.usage" {},
            /// CPU time in user mode.
            counter user_us: i64 [Micros] => "kymo.cgroup.cpu.time" {"cpu.mode" = "user"},
            /// CPU time in the kernel.
            counter system_us: i64 [Micros] => "kymo.cgroup.cpu.time" {"cpu.mode" = "system"},
            /// Periods of the CPU limit in which the group had a runnable task.
            counter periods: i64 [Count("{period}")] => "kymo.cgroup.cpu.periods" {},
            /// Periods in which the CPU limit was reached.
            counter throttled_periods: i64 [Count("{period}")] => "kymo.cgroup.cpu.throttled.periods" {},
            /// Time that the CPU limit kept the group from running, summed over CPUs.
            counter throttled_us: i64 [Micros] => "kymo.cgroup.cpu.throttled.time" {},
            /// Memory used, including page cache and kernel memory.
            gauge memory_bytes: i64 [Bytes] => "kymo.cgroup.memory.usage" {},
            /// The memory limit of this group itself, read once a second. NULL if it has none.
            gauge memory_max_bytes: i64 [Bytes] => "kymo.cgroup.memory.limit" {},
            /// How many times processes were throttled to reclaim memory because use was above `memory.high`. NULL in
            /// version 1.
            counter memory_high_events: i64 [Count("{event}")] => "kymo.cgroup.memory.events" {"kymo.event" = "high"},
            /// How many times memory use was about to exceed the limit. In version 1, groups below are not included.
            counter memory_max_events: i64 [Count("{event}")] => "kymo.cgroup.memory.events" {"kymo.event" = "max"},
            /// How many times memory use was at the limit and an allocation was about to fail. NULL in version 1.
            counter oom_events: i64 [Count("{event}")] => "kymo.cgroup.memory.events" {"kymo.event" = "oom"},
            /// Processes that the kernel killed because memory was short. In version 1, groups below are not
            /// included.
            counter oom_kill_events: i64 [Count("{event}")] => "kymo.cgroup.memory.events" {"kymo.event" = "oom_kill"},
            /// Bytes read, over all devices but those that stand on others, such as logical volumes. A device that
            /// is removed takes nothing back. NULL for a group with more than 256 devices. In version 1 before Linux 4.16
            /// the groups below are not included, or only devices that CFQ or BFQ schedules are (`kymo status` says which).
            counter read_bytes: i64 [Bytes] => "kymo.cgroup.io" {"disk.io.direction" = "read"},
            /// Bytes written, counted like `read_bytes`.
            counter write_bytes: i64 [Bytes] => "kymo.cgroup.io" {"disk.io.direction" = "write"},
            /// Reads, counted like `read_bytes`.
            counter read_ops: i64 [Count("{operation}")] => "kymo.cgroup.operations" {"disk.io.direction" = "read"},
            /// Writes, counted like `read_bytes`.
            counter write_ops: i64 [Count("{operation}")] => "kymo.cgroup.operations" {"disk.io.direction" = "write"},
            /// Time in which at least one task waited for a CPU.
            counter cpu_some_us: i64 [Micros] => "kymo.cgroup.pressure" {"kymo.resource" = "cpu", "kymo.kind" = "some"},
            /// Time in which all non-idle tasks waited for a CPU. The kernel reports 0 for the root.
            counter cpu_full_us: i64 [Micros] => "kymo.cgroup.pressure" {"kymo.resource" = "cpu", "kymo.kind" = "full"},
            /// Time in which at least one task waited for memory.
            counter memory_some_us: i64 [Micros] => "kymo.cgroup.pressure" {"kymo.resource" = "memory", "kymo.kind" = "some"},
            /// Time in which all non-idle tasks waited for memory.
            counter memory_full_us: i64 [Micros] => "kymo.cgroup.pressure" {"kymo.resource" = "memory", "kymo.kind" = "full"},
            /// Time in which at least one task waited for I/O.
            counter io_some_us: i64 [Micros] => "kymo.cgroup.pressure" {"kymo.resource" = "io", "kymo.kind" = "some"},
            /// Time in which all non-idle tasks waited for I/O.
            counter io_full_us: i64 [Micros] => "kymo.cgroup.pressure" {"kymo.resource" = "io", "kymo.kind" = "full"},
            /// Processes and threads, as counted by the pids controller.
            gauge tasks: i64 [Count("{task}")] => "kymo.cgroup.tasks" {},
            /// Memory used minus `inactive_file_bytes`. Kubernetes calls this the working set.
            gauge working_set_bytes: i64 [Bytes] => "kymo.cgroup.memory.working_set" {},
            /// Page cache that was not recently used, which the kernel gives back first. Read once a second.
            gauge inactive_file_bytes: i64 [Bytes] => "kymo.cgroup.memory.inactive_file" {},
            /// Swap space used. Read once a second.
            gauge swap_bytes: i64 [Bytes] => "kymo.cgroup.memory.swap" {},
            /// The most processes and threads. NULL without a limit. Read once a second.
            gauge tasks_max: i64 [Count("{task}")] => "kymo.cgroup.tasks.limit" {},
            /// The most CPU time for each time that passes, in CPUs (`cpu.max`, or quota and period of version 1). NULL without a
            /// limit. Read once a second.
            gauge cpus_max: f64 [Count("{cpu}")] => "kymo.cgroup.cpu.limit" {},
        }
    }
}
