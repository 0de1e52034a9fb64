//! The bytes of `/proc/PID/stat` and `/proc/PID/io`.

use crate::reading::text::{cut, fields, lines, number};

/// The longest command that the kernel writes: the name of a worker with that of its queue (`fs/proc/array.c`).
pub(super) const COMMAND_BYTES_MAX: usize = 64;

/// The wanted figures of `/proc/PID/stat`, in the kernel's units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stat {
    /// The letter of its state, as `proc_pid_stat(5)` lists them.
    pub(super) state: u8,
    /// The pid of the process that started it, or that adopted it since.
    pub(super) parent: i64,
    pub(super) minor_faults: i64,
    pub(super) major_faults: i64,
    /// In clock ticks.
    pub(super) user: i64,
    /// In clock ticks.
    pub(super) system: i64,
    pub(super) threads: i64,
    /// In clock ticks since boot. With the pid it identifies the process.
    pub(super) start: i64,
    pub(super) rss_pages: i64,
}

impl Stat {
    /// CPU time, in clock ticks.
    pub(super) fn cpu(&self) -> i64 {
        self.user.saturating_add(self.system)
    }
}

/// The command and the figures of `/proc/PID/stat`; `None` for other bytes.
///
/// `proc_pid_stat(5)` gives the order of the fields. The command stands in parentheses and may itself contain blanks,
/// parentheses and line ends, so it ends at the last parenthesis.
pub(super) fn parse_stat(bytes: &[u8]) -> Option<(&[u8], Stat)> {
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    // No parenthesis follows the command. The kernel escapes a line end or a backslash with two bytes.
    let after_open = bytes.get(open + 1..)?;
    let within = after_open.get(..=2 * COMMAND_BYTES_MAX).unwrap_or(after_open);
    let close = memchr::memrchr(b')', within)?;
    let command = after_open.get(..close)?;
    // A blank follows, then the third field, the state, and the fourth, the parent.
    let rest = after_open.get(close + 1..)?.strip_prefix(b" ")?.strip_suffix(b"\n")?;
    let state = *rest.first()?;
    let mut fields = fields(rest);
    let mut after = |skipped| fields.nth(skipped).and_then(number);
    let stat = Stat {
        state,
        parent: after(1)?,
        minor_faults: after(5)?,
        major_faults: after(1)?,
        user: after(1)?,
        system: after(0)?,
        threads: after(4)?,
        start: after(1)?,
        rss_pages: after(1)?,
    };
    Some((command, stat))
}

/// A command as it is recorded.
///
/// The kernel appends to a worker's name its last work, as in `kworker/0:1-events`, or its current work, as in
/// `kworker/0:1+events`. That would make a label for each worker and queue, so it is cut off.
pub(super) fn stable_command(command: &[u8]) -> &[u8] {
    match command.strip_prefix(b"kworker/") {
        // These rescue workers are named after their queue.
        None | Some([b'R', ..]) => command,
        Some(worker) => {
            let cut = worker.iter().position(|byte| matches!(byte, b'-' | b'+'));
            cut.and_then(|cut| command.get(..command.len() - worker.len() + cut)).unwrap_or(command)
        }
    }
}

/// Bytes read from and written to storage, of `/proc/PID/io` (`Documentation/filesystems/proc.rst`).
pub(super) fn parse_io(bytes: &[u8]) -> (Option<i64>, Option<i64>) {
    let (mut read, mut written) = (None, None);
    for line in lines(bytes) {
        if let Some(value) = line.strip_prefix(b"read_bytes: ") {
            read = number(value);
        } else if let Some(value) = line.strip_prefix(b"write_bytes: ") {
            written = number(value);
        }
    }
    (read, written)
}

/// The path of the process's control group, of `/proc/PID/cgroup` (`cgroups(7)`): that of the memory controller of version 1,
/// if it is there, as that is where containers are; else that of version 2.
pub(super) fn parse_cgroup(bytes: &[u8]) -> Option<&[u8]> {
    // Each line: the hierarchy's number, its controllers, and the path. Version 2 has the number 0 and no controllers.
    let group = |line| {
        let (controllers, path) = cut(cut(line, b':')?.1, b':')?;
        Some((controllers, path))
    };
    let has_memory = |controllers: &[u8]| controllers.split(|byte| *byte == b',').any(|one| one == b"memory");
    let version_1 = lines(bytes).filter_map(group).find(|(controllers, _)| has_memory(controllers));
    let group = version_1.or_else(|| lines(bytes).filter_map(group).find(|(controllers, _)| controllers.is_empty()));
    group.map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_manual_says() {
        let bytes = b"4711 (sshd) S 1 4711 4711 0 -1 4194560 12 99 3 98 1500 250 97 96 20 0 7 0 12345 8192000 2048 \
            18446744073709551615 1 1 0\n";
        let expected = Stat {
            state: b'S',
            parent: 1,
            minor_faults: 12,
            major_faults: 3,
            user: 1500,
            system: 250,
            threads: 7,
            start: 12345,
            rss_pages: 2048,
        };
        assert_eq!(parse_stat(bytes), Some((&b"sshd"[..], expected)));
        let shortest = b"1 () R 1 1 1 -1 -1 0 1 2 3 4 5 6 -7 -8 -20 -5 9 0 10 11 12\n";
        assert_eq!(parse_stat(shortest).map(|(command, stat)| (command.len(), stat.rss_pages)), Some((0, 12)));
    }

    #[test]
    fn the_control_group_is_that_of_the_memory_controller_or_of_version_2() {
        for (bytes, path) in [
            (&b"0::/system.slice/ssh.service\n"[..], Some(&b"/system.slice/ssh.service"[..])),
            (b"12:cpu,memory:/docker/1\n1:name=systemd:/x\n0::/y\n", Some(b"/docker/1")),
            (b"3:cpu:/x\n0::/a:b\n", Some(b"/a:b")),
            (b"3:cpu:/x\n", None),
            (b"0:\n\nx\n", None),
        ] {
            assert_eq!(parse_cgroup(bytes), path, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_command_may_have_any_bytes() {
        let tail = "S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 9 0 10 11 12 13\n";
        for command in [&b"a b"[..], b") S 1 (", b"((", b")", b"\n)\n", b"\xff\xfe", b""] {
            let bytes = [b"7 (", command, b") ", tail.as_bytes()].concat();
            let (found, stat) = parse_stat(&bytes).unwrap();
            assert_eq!((found, stat.start), (command, 10), "{}", command.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_stat_is_none() {
        for bytes in [
            &b""[..],
            b"\n",
            b"7",
            b"7 (x",
            b"7 x)",
            b")(",
            b"7 (x)",
            b"7 (x) ",
            b"7 (x)S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 9 0 10 11 12 13",
            b"7 (x) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 9 0 10 11",
            b"7 (x) S 1 1 1 0 -1 0 x 2 3 4 5 6 7 8 20 0 9 0 10 11 12 13",
            b"7 (x) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 9 0 -10 11 12 13",
        ] {
            assert_eq!(parse_stat(bytes), None, "{}", bytes.escape_ascii());
        }
        let whole = b"7 (x) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 9 0 10 11 12";
        for len in 0..whole.len() - 2 {
            assert_eq!(parse_stat(&whole[..len]), None, "{len}");
        }
    }

    #[test]
    fn workers_are_named_without_what_they_do() {
        for (command, stable) in [
            ("kworker/0:1-events", "kworker/0:1"),
            ("kworker/u8:3+flush-254:0", "kworker/u8:3"),
            ("kworker/0:1H", "kworker/0:1H"),
            ("kworker/R-rcu_gp", "kworker/R-rcu_gp"),
            ("kworker/", "kworker/"),
            ("x-kworker/0-1", "x-kworker/0-1"),
            ("a-b+c", "a-b+c"),
        ] {
            assert_eq!(stable_command(command.as_bytes()), stable.as_bytes());
        }
    }

    #[test]
    fn io_has_what_the_kernel_counts() {
        let io = b"rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 5\nwrite_bytes: 6\ncancelled_write_bytes: 7\n";
        assert_eq!(parse_io(io), (Some(5), Some(6)));
        assert_eq!(parse_io(b"read_bytes: x\nwrite_bytes:\n"), (None, None));
        assert_eq!(parse_io(b""), (None, None));
    }
}
