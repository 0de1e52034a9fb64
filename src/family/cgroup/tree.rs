//! The control groups of the host, and which files each has.

use std::ops::Range;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Stat, fstat, fstatfs, statat};

use super::files::{FILES, File, Files, Hierarchy, Source, source, wanted};
use super::io::Io;
use super::record::Cgroup;
use crate::reading::filter::Filter;
use crate::reading::folder::{Listing, c_path, list, listing, open_folder, open_folder_at};
use crate::reading::prelude::*;
use crate::reading::reader::{Kept, is_gone};

/// Below sysfs' root.
const FOLDER: &str = "fs/cgroup";
/// Where each hierarchy may be mounted below `FOLDER`, and a file that its root has. In version 1, controllers may
/// share a hierarchy; systemd then makes a symbolic link for each, other systems do not.
const MOUNTS: &[(Hierarchy, &[&str], &str)] = &[
    (Hierarchy::Unified, &[".", "unified"], "cgroup.controllers"),
    (Hierarchy::Cpu, &["cpu", "cpu,cpuacct", "cpuacct,cpu"], "cgroup.procs"),
    (Hierarchy::CpuAccounting, &["cpuacct", "cpu,cpuacct", "cpuacct,cpu"], "cgroup.procs"),
    (Hierarchy::Memory, &["memory"], "cgroup.procs"),
    (Hierarchy::BlockIo, &["blkio"], "cgroup.procs"),
    (Hierarchy::Pids, &["pids"], "cgroup.procs"),
];

/// The most groups that are looked at, with those that the configuration leaves out.
const WALKED_MAX: usize = 10_000;

/// The file system types that `statfs(2)` reports for version 2 and version 1. Their folders have a link for each
/// folder in them (`fs/kernfs/inode.c`), which a recorded tree may lack.
const CGROUP_MAGICS: &[u64] = &[0x6367_7270, 0x0027_e0eb];

const TOO_MANY: &str = "there are more than 1,000 groups, and the deepest have no rows: exclude in the section [cgroup] of the \
                        configuration leaves groups out that are not needed";
const TOO_MANY_LEFT_OUT: &str = "there are more than 10,000 groups with those that [cgroup] leaves out, and the deepest have \
                                 no rows: what is below an excluded group is not looked at if the pattern ends in *";

/// The groups of all hierarchies, joined by their paths.
#[derive(Debug)]
pub(super) struct Tree {
    /// Where hierarchies are mounted.
    pub(super) folder: PathBuf,
    hierarchies: Vec<(Hierarchy, OwnedFd)>,
    found: Groups,
    /// For each folder that was listed: the index of its group, that of its hierarchy, and its number of links.
    links: Vec<(usize, usize, u64)>,
    /// Links count folders in all hierarchies.
    has_links: bool,
    /// The types of file systems in which they do, as `statfs(2)` reports them.
    pub(super) magics: &'static [u64],
    path: Vec<u8>,
    listing: Listing,
}

/// The groups that were found.
#[derive(Debug)]
struct Groups {
    /// The root first, then less deep groups before deeper ones.
    list: Vec<Found>,
    /// Their paths.
    paths: Vec<u8>,
    filter: Filter,
    /// How many of them the filter takes.
    taken: usize,
    taken_max: usize,
    /// Why there are more groups than these.
    beyond: Option<&'static str>,
}

/// A group that was found.
#[derive(Debug)]
struct Found {
    /// The range of its path in [`Groups::paths`].
    path: Range<usize>,
    /// The hierarchies that it is in, one bit for each index.
    hierarchies: u8,
    files: Files,
    /// The configuration leaves it out, and perhaps not the groups below it.
    is_left_out: bool,
}

/// A group as it is read.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) path: GroupPath,
    /// Its files that are read at every tick.
    pub(super) files: Vec<(&'static File, Kept)>,
    /// All files that it has and that are wanted.
    pub(super) has: Files,
    pub(super) io: Io,
    /// The part of its record that is read once a second.
    pub(super) seldom: Cgroup,
}

/// A group's path below the roots of its hierarchies.
#[derive(Debug)]
pub(super) struct GroupPath {
    bytes: Vec<u8>,
    /// With a slash before it, for people.
    pub(super) text: String,
}

impl Tree {
    /// The groups below `sysfs` that the filter takes, at most `groups_max`.
    pub(super) fn new(sysfs: &Path, filter: Filter, groups_max: usize) -> Tree {
        Tree {
            folder: sysfs.join(FOLDER),
            hierarchies: Vec::new(),
            found: Groups {
                list: Vec::new(),
                paths: Vec::new(),
                filter,
                taken: 0,
                taken_max: groups_max,
                beyond: None,
            },
            links: Vec::new(),
            has_links: false,
            magics: CGROUP_MAGICS,
            path: Vec::new(),
            listing: listing(),
        }
    }

    /// Looks for the hierarchies; whether there are any. Version 2, if mounted on the folder itself, is the only one.
    pub(super) fn open(&mut self) -> bool {
        self.hierarchies.clear();
        // The indexes in `links` may mean other hierarchies now.
        self.links.clear();
        self.has_links = true;
        let Ok(folder) = open_folder(&self.folder) else { return false };
        for (hierarchy, names, file) in MOUNTS {
            for name in *names {
                let Ok(root) = open_folder_at(&folder, *name) else { continue };
                if statat(&root, *file, AtFlags::empty()).is_err() {
                    continue;
                }
                let magic = fstatfs(&root).ok().and_then(|root| u64::try_from(root.f_type).ok());
                self.has_links &= magic.is_some_and(|magic| self.magics.contains(&magic));
                self.hierarchies.push((*hierarchy, root));
                if *name == "." {
                    return true;
                }
                break;
            }
        }
        !self.hierarchies.is_empty()
    }

    /// The root of a hierarchy.
    pub(super) fn root(&self, hierarchy: Hierarchy) -> Option<BorrowedFd<'_>> {
        self.hierarchies.iter().find(|(found, _)| *found == hierarchy).map(|(_, root)| root.as_fd())
    }

    /// Whether the folder of each group contains as many folders as at the last walk. Costs one system call for each
    /// group and hierarchy. Does not notice a group that was replaced by another.
    pub(super) fn has_same_folders(&mut self) -> bool {
        let Tree { hierarchies, found, links, has_links, path, .. } = self;
        *has_links
            && !links.is_empty()
            && links.iter().all(|(at, nth, links)| {
                let (Some(group), Some((_, root))) = (found.list.get(*at), hierarchies.get(*nth)) else { return false };
                let folder = c_path(path, |path| write_folder(path, found.path(&group.path)));
                let now = folder.and_then(|folder| statat(root, folder, AtFlags::empty()));
                now.is_ok_and(|now| links_of(&now) == *links)
            })
    }

    /// Looks for groups and their files.
    pub(super) fn walk(&mut self, outcome: &mut Outcome) {
        // With the CPU accounting of version 1, the CPU time of version 2 is the same figure, so it is skipped.
        let accounting = self.root(Hierarchy::CpuAccounting).is_some();
        let unwanted = |file: &File| accounting && file.hierarchy == Hierarchy::Unified && file.name == "cpu.stat";
        let Tree { hierarchies, found, links, path, listing, .. } = self;
        links.clear();
        found.begin(!hierarchies.is_empty());
        let mut at = 0;
        while let Some(parent) = found.list.get(at) {
            let (parent, of, first_child) = (parent.path.clone(), parent.hierarchies, found.list.len());
            for (nth, (hierarchy, root)) in hierarchies.iter().enumerate().filter(|(nth, _)| of & 1 << nth != 0) {
                let mut files = 0;
                let folder = c_path(path, |path| write_folder(path, found.path(&parent)));
                // Zero links for a folder that is gone by now, so that the next look sees a difference.
                links.push((at, nth, 0));
                let listed = folder.and_then(|folder| open_folder_at(root, folder)).and_then(|folder| {
                    // Counted before the listing: the next look then notices groups that come meanwhile.
                    let count = links_of(&fstat(&folder)?);
                    links.iter_mut().last().into_iter().for_each(|(.., links)| *links = count);
                    list(folder, listing, |entry| {
                        let name = entry.file_name().to_bytes();
                        if entry.file_type() == FileType::Directory {
                            found.add(&parent, name, nth, first_child);
                        } else {
                            let is = |file: &File| file.hierarchy == *hierarchy && file.name.as_bytes() == name;
                            let file = FILES.iter().position(|file| is(file) && !unwanted(file));
                            files |= file.map_or(0, |file| 1 << file);
                        }
                        true
                    })
                });
                if let Some(found) = found.list.get_mut(at) {
                    found.files |= files;
                }
                // A group that is gone was removed meanwhile.
                if let Err(error) = listed
                    && !is_gone(error)
                {
                    outcome.fail(FOLDER, format_args!("/{}: {error}", text(found.path(&parent))));
                }
            }
            at += 1;
        }
    }

    /// Why groups have no rows that the configuration does not leave out, for people.
    pub(super) fn beyond(&self) -> Option<&'static str> {
        self.found.beyond
    }

    /// What the files of the found groups do not give, for people.
    pub(super) fn lacking(&self) -> Option<&'static str> {
        // Only hierarchies of version 1 have a controller without the files.
        self.root(Hierarchy::BlockIo)?;
        let worst = self.found.taken().filter_map(|found| source(found.files)).max();
        match worst {
            Some(Source::All) => None,
            Some(Source::OwnOnly) => Some(
                "read_bytes, write_bytes, read_ops and write_ops do not include the groups below: before Linux 4.16 \
                 version 1 counts each group alone (blkio.throttle.io_service_bytes)",
            ),
            Some(Source::Scheduler) => Some(
                "read_bytes, write_bytes, read_ops and write_ops are only of devices that CFQ or BFQ schedules: the kernel \
                 has no blkio.throttle files",
            ),
            None => Some(
                "read_bytes, write_bytes, read_ops and write_ops are NULL: the blkio controller has no files of I/O, as \
                 without CONFIG_BLK_DEV_THROTTLING",
            ),
        }
    }

    /// Makes `groups` the found ones that the configuration does not leave out, keeping what is known of each.
    pub(super) fn adopt(&self, groups: &mut Vec<Group>) {
        for (at, found) in self.found.taken().enumerate() {
            let path = self.found.path(&found.path);
            let known = groups.iter().skip(at).position(|group| group.path.bytes == path);
            match known {
                Some(0) => {}
                Some(known) => groups.swap(at, at + known),
                None => groups.insert(at, Group::new(path)),
            }
            if let Some(group) = groups.get_mut(at) {
                group.set_files(found.files);
            }
        }
        groups.truncate(self.found.taken);
    }
}

#[allow(clippy::useless_conversion, reason = "st_nlink has 32 bits on some architectures")]
fn links_of(stat: &Stat) -> u64 {
    u64::from(stat.st_nlink)
}

/// A group's path, for people.
fn shown(path: &[u8]) -> String {
    format!("/{}", text(path))
}

/// Writes the path of a group's folder below its hierarchy's root.
fn write_folder(path: &mut Vec<u8>, group: &[u8]) {
    path.extend_from_slice(if group.is_empty() { b"." } else { group });
}

impl Groups {
    fn begin(&mut self, with_root: bool) {
        self.list.clear();
        self.paths.clear();
        (self.taken, self.beyond) = (0, None);
        if with_root {
            self.push(Found { path: 0..0, hierarchies: u8::MAX, files: 0, is_left_out: !self.filter.takes("/") });
        }
    }

    fn push(&mut self, found: Found) {
        self.taken += usize::from(!found.is_left_out);
        self.list.push(found);
    }

    /// Those that the configuration does not leave out.
    fn taken(&self) -> impl Iterator<Item = &Found> {
        self.list.iter().filter(|found| !found.is_left_out)
    }

    fn path(&self, path: &Range<usize>) -> &[u8] {
        self.paths.get(path.clone()).unwrap_or_default()
    }

    /// Adds the group `name` below `parent`, whose first child is at index `first_child`, in the hierarchy `nth`.
    fn add(&mut self, parent: &Range<usize>, name: &[u8], nth: usize, first_child: usize) {
        let path_start = self.paths.len();
        self.paths.extend_from_within(parent.clone());
        if !parent.is_empty() {
            self.paths.push(b'/');
        }
        self.paths.extend_from_slice(name);
        let path = path_start..self.paths.len();
        // In the first hierarchy a group cannot be known yet.
        let mut siblings = self.list.iter().skip(if nth > 0 { first_child } else { usize::MAX });
        let known = siblings.position(|sibling| self.path(&sibling.path) == self.path(&path));
        if let Some(known) = known.and_then(|known| self.list.get_mut(first_child + known)) {
            known.hierarchies |= 1 << nth;
        } else if let Some(is_left_out) = self.admit(&path) {
            self.push(Found { path, hierarchies: 1 << nth, files: 0, is_left_out });
            return;
        }
        self.paths.truncate(path_start);
    }

    /// Whether a group may be in the list, and if so, whether the configuration leaves it out.
    fn admit(&mut self, path: &Range<usize>) -> Option<bool> {
        let is_left_out = if self.filter.takes_all() {
            false
        } else {
            let name = shown(self.path(path));
            if self.filter.leaves_out_all_of(&name) {
                return None;
            }
            !self.filter.takes(&name)
        };
        if !is_left_out && self.taken == self.taken_max {
            self.beyond = Some(TOO_MANY);
        } else if self.list.len() >= WALKED_MAX {
            self.beyond = Some(TOO_MANY_LEFT_OUT);
        } else {
            return Some(is_left_out);
        }
        None
    }
}

impl Group {
    fn new(path: &[u8]) -> Group {
        Group {
            path: GroupPath { bytes: path.to_vec(), text: shown(path) },
            files: Vec::new(),
            has: 0,
            io: Io::default(),
            seldom: Cgroup::absent(0),
        }
    }

    fn set_files(&mut self, has: Files) {
        let has = wanted(has);
        if self.has == has {
            return;
        }
        self.has = has;
        self.files.clear();
        let often = FILES.iter().enumerate().filter(|(at, file)| !file.seldom && has & 1 << at != 0);
        self.files.extend(often.map(|(_, file)| (file, Kept::default())));
    }
}

impl GroupPath {
    pub(super) fn is_root(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes the path of a file of the group.
    pub(super) fn write(&self, path: &mut Vec<u8>, file: &str) {
        path.extend_from_slice(&self.bytes);
        if !self.bytes.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(file.as_bytes());
    }
}
