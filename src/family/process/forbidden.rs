//! What kymo may not read of other users' processes (`proc_pid_io(5)`, `proc_pid_fd(5)`, and `hidepid` in `proc(5)`).

use crate::sampler::Limit;

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
    /// What is absent at a tick with `rows` rows.
    pub(super) fn limit(self, rows: u32) -> Option<Limit> {
        let Forbidden { processes, io, files } = self;
        let things = "processes";
        if processes > 0 {
            let needed = "procfs is mounted with hidepid: run kymo as root, or in the group of its option gid";
            return Some(Limit { columns: "all columns", lacking: processes, of: processes + rows, things, needed });
        }
        let columns = match (io > 0, files > 0) {
            (true, true) => "read_bytes, write_bytes and open_files",
            (true, false) => "read_bytes and write_bytes",
            (false, true) => "open_files",
            (false, false) => return None,
        };
        let needed = "run it as root or with CAP_SYS_PTRACE to see those of other users";
        Some(Limit { columns, lacking: io.max(files), of: rows, things, needed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(processes: u32, io: u32, files: u32) -> Option<String> {
        Forbidden { processes, io, files }.limit(20).map(|limit| limit.to_string())
    }

    #[test]
    fn a_limit_names_columns_and_what_is_needed() {
        assert_eq!(told(0, 0, 0), None);
        let expected = "read_bytes and write_bytes are absent for 12 of 20 processes: kymo may not read them; run it as root or \
                        with CAP_SYS_PTRACE to see those of other users";
        assert_eq!(told(0, 12, 0).as_deref(), Some(expected));
        assert!(
            told(0, 12, 13).unwrap().starts_with("read_bytes, write_bytes and open_files are absent for 13 of 20 ")
        );
        assert!(told(5, 0, 0).unwrap().starts_with("all columns are absent for 5 of 25 processes: "));
    }
}
