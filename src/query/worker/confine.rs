//! What the kernel keeps a query worker from.
//!
//! Each limit holds for the whole process and for good. A kernel that lacks one of them still has the others; the recorder
//! tells its users which are in force.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus,
};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::message::{Limits, path_of};
use crate::query::slab;
use crate::store::data_folder::LAKE;

/// Memory beyond the limit of a query: for planning it, for its result, and for the stacks of its threads.
const MEMORY_BYTES_MORE: u64 = 256 << 20;
/// The same number on every architecture.
const SYS_FCHMODAT2: libc::c_long = 452;
/// What a query never calls, and what somebody would who broke out of it: other programs, sockets, other processes, files in
/// memory, which no limit counts, rights to files that it may only read, and parts of the kernel that few programs need.
const DENIED: &[libc::c_long] = &[
    SYS_FCHMODAT2,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_add_key,
    libc::SYS_bind,
    libc::SYS_bpf,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    libc::SYS_chroot,
    libc::SYS_connect,
    libc::SYS_delete_module,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_kill,
    libc::SYS_listen,
    libc::SYS_memfd_create,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setscheduler,
    libc::SYS_setns,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_swapon,
    libc::SYS_tkill,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Limits this process for good. Returns what is in force, for people.
pub(super) fn confine(limits: &Limits) -> anyhow::Result<String> {
    let mut in_force = Vec::new();
    // Private memory of the process: heap, stacks and what allocators map.
    let used = data_bytes().unwrap_or_default();
    let memory = used.saturating_add(limits.memory_bytes_max).saturating_add(MEMORY_BYTES_MORE);
    limit(Resource::Data, memory)?;
    in_force.push("memory");
    limit(Resource::Core, 0)?;
    // Queries count what they write. This holds if they count wrongly. It is about the file with slabs, too.
    // It cannot grow: whoever writes more to stderr is to get an error, and not the signal of this limit.
    limit(Resource::Fsize, limits.spill_bytes_max.max(2 * slab::FILE_BYTES))?;
    in_force.push("no core dumps");
    // Where memory is short, the kernel kills a worker before anything else of this host.
    if fs::write("/proc/self/oom_score_adj", "1000").is_ok() {
        in_force.push("first to be killed");
    }
    match landlock(limits) {
        Ok(RulesetStatus::FullyEnforced) => in_force.push("Landlock"),
        Ok(RulesetStatus::PartiallyEnforced) => in_force.push("Landlock (what this kernel has of it)"),
        Ok(RulesetStatus::NotEnforced) | Err(_) => {}
    }
    if seccomp().is_ok() {
        in_force.push("seccomp");
    }
    // The data folder may lie in a folder of another user. A refusal leaves what this user may do.
    let _ = keep_capabilities(CapabilitySet::DAC_READ_SEARCH);
    Ok(in_force.join(", "))
}

fn keep_capabilities(kept: CapabilitySet) -> io::Result<()> {
    let now = capabilities(None)?;
    let permitted = now.permitted & kept;
    let sets = CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}

fn limit(resource: Resource, to: u64) -> anyhow::Result<()> {
    let maximum = getrlimit(resource).maximum.map_or(to, |maximum| maximum.min(to));
    Ok(setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) })?)
}

/// `VmData` of `/proc/self/status`, which `RLIMIT_DATA` is about.
fn data_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Allows nothing but reading below the data folder, and files in the folder for spilling.
fn landlock(limits: &Limits) -> Result<RulesetStatus, RulesetError> {
    let abi = ABI::V5;
    let spilled =
        AccessFs::MakeReg | AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::RemoveFile;
    let mut rules =
        Ruleset::default().handle_access(AccessFs::from_all(abi))?.handle_access(AccessNet::from_all(abi))?.create()?;
    // Without its folder a query fails, but none of its files is there to be read then.
    let data = path_of(&limits.folder);
    // The lake may be a link to another place.
    for folder in [data.join(LAKE), data] {
        if let Ok(folder) = PathFd::new(folder) {
            rules = rules.add_rule(PathBeneath::new(folder, AccessFs::ReadFile | AccessFs::ReadDir))?;
        }
    }
    if let Ok(folder) = PathFd::new(path_of(&limits.spill_folder)) {
        rules = rules.add_rule(PathBeneath::new(folder, spilled))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// Makes the calls in [`DENIED`] fail, and those that start processes.
fn seccomp() -> anyhow::Result<()> {
    for filter in [denied()?, processes()?, clone3()?] {
        seccompiler::apply_filter_all_threads(&filter)?;
    }
    Ok(())
}

fn denied() -> anyhow::Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<_>> = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    // These are about another process if their first argument is its id.
    let own = u64::from(std::process::id());
    for (call, itself) in [(libc::SYS_prlimit64, 0), (libc::SYS_setpriority, 0), (libc::SYS_tgkill, own)] {
        let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, itself)?;
        rules.insert(call, vec![SeccompRule::new(vec![other])?]);
    }
    failing(rules, Errno::PERM)
}

/// A process may start threads, and no processes.
fn processes() -> anyhow::Result<BpfProgram> {
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(thread), 0)?;
    let rules = BTreeMap::from([
        (libc::SYS_clone, vec![SeccompRule::new(vec![other])?]),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_fork, Vec::new()),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_vfork, Vec::new()),
    ]);
    failing(rules, Errno::PERM)
}

/// A filter cannot see what `clone3` starts. On a kernel that lacks it, the C library calls `clone`.
fn clone3() -> anyhow::Result<BpfProgram> {
    failing(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), Errno::NOSYS)
}

/// A filter that makes calls fail with an error.
fn failing(rules: BTreeMap<i64, Vec<SeccompRule>>, error: Errno) -> anyhow::Result<BpfProgram> {
    let error = SeccompAction::Errno(error.raw_os_error().cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, error, std::env::consts::ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    fn threads_start_and_processes_do_not() {
        // Filters hold for this thread and what it starts.
        let confined = thread::spawn(|| {
            for filter in [processes().unwrap(), clone3().unwrap()] {
                seccompiler::apply_filter(&filter).unwrap();
            }
            let process = Command::new("true").spawn().map(|mut child| child.wait());
            (thread::spawn(|| 7).join().unwrap(), process.unwrap_err().raw_os_error())
        });
        assert_eq!(confined.join().unwrap(), (7, Some(libc::EPERM)));
    }

    #[test]
    fn no_rights_change_and_no_files_in_memory() {
        let confined = thread::spawn(|| {
            let file = tempfile::tempfile().unwrap();
            seccompiler::apply_filter(&denied().unwrap()).unwrap();
            let memory = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC);
            (rustix::fs::fchmod(&file, rustix::fs::Mode::RWXU), memory.map(drop))
        });
        assert_eq!(confined.join().unwrap(), (Err(Errno::PERM), Err(Errno::PERM)));
    }
}
