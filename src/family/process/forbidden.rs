//! What kymo may not read of other users' processes (`proc_pid_io(5)`, `proc_pid_fd(5)`, and `hidepid` in `proc(5)`).

use std::fmt::Write;

/// How many processes of a tick kymo may not read something of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Forbidden {
    /// All of them: these have no rows.
    pub(super) processes: u32,
    /// Their `io`.
    pub(super) io: u32,
    /// Their `fd`.
    pub(super) files: u32,
}

impl Forbidden {
    /// What was so at the tick before, too. The kernel also refuses what is asked of a process that is ending.
    pub(super) fn and_before(self, before: Forbidden) -> Forbidden {
        Forbidden {
            processes: self.processes.min(before.processes),
            io: self.io.min(before.io),
            files: self.files.min(before.files),
        }
    }

    /// Writes what is absent at a tick with `rows` rows, if anything is.
    pub(super) fn tell(self, rows: u32, told: &mut String) {
        let Forbidden { processes, io, files } = self;
        let (columns, lacking, of, needed) = if processes > 0 {
            let needed = "procfs is mounted with hidepid: run kymo as root, or in the group of its option gid";
            ("all columns", processes, processes + rows, needed)
        } else {
            let columns = match (io > 0, files > 0) {
                (true, true) => "read_bytes, write_bytes and open_files",
                (true, false) => "read_bytes and write_bytes",
                (false, true) => "open_files",
                (false, false) => return,
            };
            let needed = "run it as root or with CAP_SYS_PTRACE to see those of other users";
            (columns, io.max(files), rows, needed)
        };
        // Writing to a string does not fail.
        let _ = write!(told, "{columns} are absent for {lacking} of {of} processes: kymo may not read them; {needed}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(processes: u32, io: u32, files: u32) -> String {
        let mut told = String::new();
        Forbidden { processes, io, files }.tell(20, &mut told);
        told
    }

    #[test]
    fn what_was_refused_once_is_not_told() {
        let now = Forbidden { processes: 1, io: 3, files: 0 };
        let before = Forbidden { processes: 0, io: 2, files: 5 };
        assert_eq!(now.and_before(before), Forbidden { processes: 0, io: 2, files: 0 });
    }

    #[test]
    fn what_is_told_names_columns_and_what_is_needed() {
        assert_eq!(told(0, 0, 0), "");
        let expected = "read_bytes and write_bytes are absent for 12 of 20 processes: kymo may not read them; run it as root or \
                        with CAP_SYS_PTRACE to see those of other users";
        assert_eq!(told(0, 12, 0), expected);
        assert!(told(0, 12, 13).starts_with("read_bytes, write_bytes and open_files are absent for 13 of 20 "));
        assert!(told(5, 0, 0).starts_with("all columns are absent for 5 of 25 processes: "));
    }
}
