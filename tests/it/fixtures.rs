//! The rows of odd hosts: trees of `/proc` and `/sys` as hosts have or had them, with their rows as golden files.
//!
//! A case is a folder of `tests/fixtures`. It is one tree, or has a numbered tree for each tick; ticks are a second
//! apart. After a wanted change: `KYMO_BLESS=1 cargo test --test it fixtures`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs};

use arrow::array::RecordBatch;
use kymo::batch::Source;
use kymo::family::FamilyId;
use kymo::reading::context::Context;
use kymo::reading::roots::Roots;
use kymo::reading::snapshot::in_snapshot;
use kymo::record::label::Labels;
use kymo::sampler::{Sampler, Tick};

const RING_CAPACITY: usize = 4_096;
const SECOND_US: i64 = 1_000_000;
/// 2026-01-01.
const START_US: i64 = 1_767_225_600_000_000;

/// The columns of `filesystem` that say what this machine has at a path, and not what a tree says.
const OF_THIS_MACHINE: [&str; 6] =
    ["total_bytes", "used_bytes", "free_bytes", "used_ratio", "total_inodes", "free_inodes"];

/// A family over the trees of a case.
struct Reader {
    name: &'static str,
    sampler: Box<dyn Sampler>,
    source: Box<dyn Source>,
}

impl Reader {
    fn new(name: &'static str, context: &Context) -> Reader {
        let family = FamilyId::find(name).unwrap();
        let (sampler, source) = (family.sampling().unwrap().open)(context, &Arc::new(Labels::default()), RING_CAPACITY);
        Reader { name, sampler, source }
    }

    /// The rows of a tick and its errors.
    fn tick(&mut self, tick: &Tick, tree: &Path) -> String {
        let (mut lacking, mut outcome) = (None, Ok(()));
        in_snapshot(&mut || {
            lacking = self.sampler.check().err();
            if lacking.is_none() {
                outcome = self.sampler.sample(tick).1;
            }
        });
        let mut text = String::new();
        let shown = |text: &dyn ToString| text.to_string().replace(&*tree.to_string_lossy(), "");
        if let Some(reason) = lacking {
            writeln!(text, "unavailable: {}", shown(&reason)).unwrap();
        }
        if let Err(error) = outcome {
            writeln!(text, "error: {}", shown(&error)).unwrap();
        }
        if let Some(batch) = self.source.drain() {
            text += &csv(&batch, self.name == "filesystem");
        }
        text
    }
}

fn csv(batch: &RecordBatch, is_filesystem: bool) -> String {
    let mut text = Vec::new();
    let fields = batch.schema_ref().fields().iter().enumerate();
    let columns = fields.filter(|(_, field)| !OF_THIS_MACHINE.contains(&field.name().as_str()) || !is_filesystem);
    let batch = batch.project(&columns.map(|(at, _)| at).collect::<Vec<_>>()).unwrap();
    arrow::csv::Writer::new(&mut text).write(&batch).unwrap();
    String::from_utf8(text).unwrap()
}

/// The trees of a case, in the order of its ticks.
fn trees(case: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(case);
    let numbered: Vec<PathBuf> =
        (0..1_000).map(|number: u32| folder.join(number.to_string())).take_while(|tree| tree.exists()).collect();
    if numbered.is_empty() { vec![folder] } else { numbered }
}

/// Makes `folder` equal to `tree`. Files are rewritten in place, as the kernel's files change.
fn turn_into(folder: &Path, tree: &Path) {
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let (here, there) = (entry.as_ref().unwrap().path(), tree.join(entry.unwrap().file_name()));
        if !there.exists() {
            if here.is_dir() { fs::remove_dir_all(here).unwrap() } else { fs::remove_file(here).unwrap() }
        }
    }
    for entry in fs::read_dir(tree).unwrap() {
        let (there, here) = (entry.as_ref().unwrap().path(), folder.join(entry.unwrap().file_name()));
        if there.is_dir() {
            turn_into(&here, &there);
        } else {
            fs::write(here, fs::read(there).unwrap()).unwrap();
        }
    }
}

fn rows(case: &str, families: &[&'static str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let roots = Roots { procfs: folder.path().join("proc"), sysfs: folder.path().join("sys"), ..Roots::default() };
    let context = Context { roots, ..Context::default() };
    let mut readers: Vec<Reader> = families.iter().map(|name| Reader::new(name, &context)).collect();
    let mut text = String::new();
    for (second, tree) in (0..).zip(trees(case)) {
        turn_into(folder.path(), &tree);
        // Otherwise the thread would keep reading a file that was removed.
        heim_runtime::linux::set_roots(&context.roots.procfs, &context.roots.sysfs);
        let tick = Tick { time: START_US + second * SECOND_US, monotonic_ns: second * 1_000 * SECOND_US };
        for reader in &mut readers {
            let rows = reader.tick(&tick, folder.path());
            write!(text, "== {}, tick {second}\n{rows}", reader.name).unwrap();
        }
    }
    text
}

/// The rows of a case are those of its golden file.
fn holds(case: &str, families: &[&'static str]) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fixtures").join(format!("{case}.txt"));
    let rows = rows(case, families);
    if env::var_os("KYMO_BLESS").is_some() {
        fs::write(&golden, &rows).unwrap();
    }
    let wanted = fs::read_to_string(&golden).unwrap();
    // A short message: all rows are in the file.
    if let Some((number, (found, wanted))) =
        (1..).zip(rows.lines().zip(wanted.lines())).find(|(_, (found, wanted))| found != wanted)
    {
        panic!("{}:{number}:\n    found {found}\n   wanted {wanted}", golden.display());
    }
    assert_eq!(rows.lines().count(), wanted.lines().count(), "{}", golden.display());
}

/// All families that are sampled.
fn all() -> Vec<&'static str> {
    FamilyId::all().filter(|family| family.sampling().is_some()).map(|family| family.name()).collect()
}

#[test]
fn cpus_go_offline_and_come_back_with_their_ids() {
    holds("cpus-with-holes", &["cpu", "host"]);
}

#[test]
fn counters_that_begin_anew_or_wrap_at_an_unknown_value_are_recorded_as_they_are() {
    holds("counters-backwards", &["cpu", "disk", "network"]);
}

#[test]
fn cpu_times_that_step_back_are_held() {
    holds("iowait-steps-back", &["cpu"]);
}

#[test]
fn stat_may_lack_columns_and_lines_and_have_zeros_only() {
    holds("stat-of-openvz", &["cpu", "host"]);
    holds("stat-all-zero", &["cpu", "host"]);
}

#[test]
fn old_kernels_count_reclaim_by_zone() {
    holds("vmstat-per-zone", &["vm"]);
    holds("vmstat-of-2.6.32", &["vm"]);
}

#[test]
fn energy_may_be_above_the_range_that_is_reported() {
    holds("rapl-above-its-range", &["power"]);
}

#[test]
fn a_disk_and_an_interface_return_under_the_same_name() {
    holds("come-and-go", &["disk", "network"]);
}

#[test]
fn three_hundred_block_devices_are_all_there() {
    holds("block-devices-300", &["disk"]);
}

#[test]
fn mount_points_may_have_any_bytes() {
    holds("mount-points", &["filesystem"]);
}

#[test]
fn the_image_that_a_host_was_started_from_has_no_row_and_its_disk_has_one() {
    holds("composefs-root", &["filesystem"]);
}

#[test]
fn names_of_interfaces_may_have_colons() {
    holds("interface-names-with-colons", &["network"]);
}

#[test]
fn limits_that_are_not_set_are_absent() {
    holds("hwmon-limits-unset", &["sensor"]);
}

#[test]
fn a_device_that_sleeps_is_not_read() {
    holds("sensors-asleep", &["sensor"]);
}

#[test]
fn a_board_without_hwmon_has_its_thermal_zones() {
    holds("thermal-zones", &["sensor"]);
}

#[test]
fn disks_are_told_from_what_lies_on_them() {
    holds("disks-stacked", &["disk"]);
}

#[test]
fn the_cache_of_zfs_is_available() {
    holds("zfs-arc", &["memory"]);
}

#[test]
fn an_old_kernel_has_no_available_memory() {
    holds("meminfo-of-2.6", &["memory"]);
}

#[test]
fn five_hundred_and_twelve_cpus_are_all_there() {
    holds("cpus-512", &["cpu", "host"]);
}

#[test]
fn a_process_is_its_id_and_its_start() {
    holds("processes", &["process"]);
}

#[test]
fn control_groups_come_and_go() {
    holds("cgroup-v2", &["cgroup"]);
    holds("cgroup-v1", &["cgroup"]);
}

#[test]
fn a_device_that_leaves_a_control_group_takes_nothing_back() {
    holds("cgroup-io-device-goes", &["cgroup"]);
}

#[test]
fn io_of_a_control_group_is_counted_once() {
    holds("cgroup-v1-io-stacked", &["cgroup"]);
    holds("cgroup-v2-io-stacked", &["cgroup"]);
}

#[test]
fn old_kernels_count_io_of_control_groups_elsewhere() {
    holds("cgroup-v1-io-before-4.16", &["cgroup"]);
    holds("cgroup-v1-io-bfq-only", &["cgroup"]);
}

#[test]
fn energy_goes_on_where_its_register_starts_again() {
    holds("hwmon-and-rapl", &["sensor", "power"]);
}

#[test]
fn empty_files_are_no_figures() {
    holds("empty", &all());
}

#[test]
fn truncated_files_cost_what_is_cut() {
    holds("truncated", &all());
}

#[test]
fn garbage_is_an_error_and_no_figure() {
    holds("garbage", &all());
}

#[test]
fn a_tree_without_files_lacks_all() {
    holds("nothing", &all());
}
