//! The program's own code in memory. Much of it runs only while the daemon starts: configuration, the list of SQL functions,
//! recovery.

use std::ops::Range;
use std::{fs, io, ptr};

use rustix::mm::{Advice, madvise};

/// Unmaps the pages of the program's code. What runs on is mapped again from the page cache, 64 KiB at a time (a few µs). So
/// the process takes the memory of the code that it uses, and not that of all which it has used once.
///
/// # Errors
/// When the kernel does not tell its mappings, or refuses.
pub(super) fn forget_start() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    for range in code_of(&maps, &program.to_string_lossy()) {
        // SAFETY: the pages are code, which is mapped privately from a file and which this program never writes. So the kernel
        // reads the same bytes again when they are next touched.
        unsafe { madvise(ptr::with_exposed_provenance_mut(range.start), range.len(), Advice::LinuxDontNeed)? };
    }
    Ok(())
}

/// The addresses where code of `program` is mapped (`proc_pid_maps(5)`).
fn code_of(maps: &str, program: &str) -> Vec<Range<usize>> {
    let code = |line: &str| {
        let (addresses, rest) = line.split_once(' ')?;
        let path = rest.strip_prefix("r-xp ")?.splitn(4, ' ').nth(3)?.trim_start();
        let (start, end) = addresses.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        (path == program).then_some(address(start)?..address(end)?)
    };
    maps.lines().filter_map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_is_found() {
        let maps = "\
            55d0c0000000-55d0c1000000 r--p 00000000 fe:00 131 /opt/a b/kymo\n\
            55d0c1000000-55d0c5000000 r-xp 01000000 fe:00 131                   /opt/a b/kymo\n\
            55d0c5000000-55d0c6000000 rw-p 05000000 fe:00 131 /opt/a b/kymo\n\
            7f0000000000-7f0000001000 r-xp 00000000 fe:00 7 /lib/libc.so.6\n\
            7f0000002000-7f0000003000 r-xp 00000000 00:00 0 \n";
        let code = code_of(maps, "/opt/a b/kymo");
        assert_eq!(code.first(), Some(&(0x55d0_c100_0000..0x55d0_c500_0000)));
        assert_eq!(code.len(), 1);
    }

    #[test]
    fn the_program_runs_on_and_takes_less_memory() {
        let code_bytes = || {
            let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
            let program = fs::read_link("/proc/self/exe").unwrap();
            let code = smaps
                .split_inclusive("VmFlags")
                .find(|one| one.lines().any(|line| line.contains("r-xp") && line.ends_with(program.to_str().unwrap())));
            let resident = code.unwrap().lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
            resident.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
        };
        let before = code_bytes();
        forget_start().unwrap();
        let after = code_bytes();
        assert!(after < before, "{before} bytes of code, then {after}");
    }
}
