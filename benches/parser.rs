//! What a tick costs in each family that has a parser of its own, beside bare reads of the same files.
//!
//! Prints `parser: <family> ÷ bare` with its limit: a parser may add a quarter to the cost of reading its files.
//! `common` says how it is measured; here without the two clock reads of a tick. The bare side reads the files that the
//! family has open after its first ticks, on descriptors of its own. For `process` it also lists procfs, and asks for
//! the number of open files of each process that has a row, as the family does.
//!
//! The bare side also looks for new and vanished files as often as the families do. Once in ten ticks, that of `cgroup`
//! asks for the links of each group's folders and reads its limit, and that of `sensor` and `power` lists the class.
//! Once in a hundred ticks `cgroup` lists the folders of all groups; once in sixty, `sensor` and `power` list those of
//! all devices. All else counts as the parser's cost: the empty read that shows the end of `/proc/interrupts`, and all
//! work on names. Most rounds of 20 ticks contain no such walk, so the medians leave it out; the means include it.
//!
//! Ticks follow each other without a pause, so most lines have not changed since the last tick. The families that keep
//! the meaning of a line (pressure, softnet, interrupt, softirq) do not parse those. On most hosts that is so at real
//! intervals, too. `filesystem` is not measured: its files change only at a mount, and its cost is statvfs(3) on
//! another thread.
//!
//! A virtual machine has neither sensors nor RAPL. They are measured on a tree of links to real attributes of sysfs.
//! Such a read costs as much as one from a driver that has its value at hand.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot measure ends")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use common::{Bare, Collector, Medians, Seldom};
use criterion::{Criterion, criterion_group, criterion_main};
use kymo::reading::context::Context;

/// Families, each with the time between its ticks.
const FAMILIES: [(&str, Duration); 12] = [
    ("pressure", Duration::from_millis(100)),
    ("vm", Duration::from_millis(100)),
    ("tcp", Duration::from_millis(100)),
    ("ip", Duration::from_millis(100)),
    ("softnet", Duration::from_millis(100)),
    ("interrupt", Duration::from_secs(1)),
    ("softirq", Duration::from_millis(100)),
    ("host", Duration::from_secs(1)),
    ("process", Duration::from_secs(1)),
    // The shortest interval it may have; it still looks for groups once a second.
    ("cgroup", Duration::from_millis(100)),
    ("sensor", Duration::from_secs(1)),
    ("power", Duration::from_secs(1)),
];

/// The limit of a tick, in bare reads.
const RATIO_MAX: f64 = 1.25;

/// The number of sensors of each of two chips, and of RAPL zones.
const LINKS: usize = 8;
const TEMPERATURE: &str = "/sys/class/net/lo/mtu";
const ENERGY: &str = "/sys/class/net/lo/statistics/rx_bytes";

/// A sysfs with sensors and zones that are attributes of the loopback interface.
fn tree_of_links() -> tempfile::TempDir {
    let tree = tempfile::tempdir().expect("a temporary folder");
    for chip in 0..2 {
        let chip = tree.path().join(format!("class/hwmon/hwmon{chip}"));
        fs::create_dir_all(&chip).expect("make a folder");
        fs::write(chip.join("name"), "bench\n").expect("write a name");
        for number in 1..=LINKS {
            symlink(TEMPERATURE, chip.join(format!("temp{number}_input"))).expect("link a sensor");
        }
    }
    for number in 0..LINKS {
        let zone = tree.path().join(format!("class/powercap/intel-rapl:{number}"));
        fs::create_dir_all(&zone).expect("make a folder");
        fs::write(zone.join("name"), format!("package-{number}\n")).expect("write a name");
        fs::write(zone.join("max_energy_range_uj"), "9223372036854775807\n").expect("write a range");
        symlink(ENERGY, zone.join("energy_uj")).expect("link a zone");
    }
    tree
}

/// The files of procfs and sysfs that this process has open. A file of sysfs is listed as often as it is open, because the
/// links of the tree lead to the same file.
fn open_files() -> Vec<PathBuf> {
    let links =
        fs::read_dir("/proc/self/fd").expect("procfs").filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let mut files: Vec<PathBuf> =
        links.filter(|path| (path.starts_with("/proc") || path.starts_with("/sys")) && path.is_file()).collect();
    files.sort_unstable();
    files.dedup_by(|one, other| one == other && one.starts_with("/proc"));
    files
}

/// What a family does to look for changes, each with its distance in ticks.
fn seldom(family: &str) -> Vec<(u64, Vec<Seldom>)> {
    let sysfs = heim_runtime::linux::sysfs_root();
    let class = |name: &str| {
        let class = sysfs.join("class").join(name);
        let devices = folders(std::slice::from_ref(&class)).split_off(1);
        vec![(10, vec![Seldom::List(class.clone())]), (60, vec![Seldom::List(class)]), (60, listings(devices))]
    };
    match family {
        "sensor" => class("hwmon"),
        "power" => class("powercap"),
        "cgroup" => {
            let root = sysfs.join("fs/cgroup");
            let version_1 = ["cpu", "cpuacct", "memory", "blkio", "pids", "unified"].map(|name| root.join(name));
            let roots = if root.join("cgroup.controllers").exists() { vec![root] } else { version_1.to_vec() };
            let folders = folders(&roots);
            let names = ["memory.max", "memory.limit_in_bytes", "memory.stat", "memory.swap.current"];
            let files = folders.iter().flat_map(|folder| names.map(|name| folder.join(name)));
            let files: Vec<Seldom> = files.filter(|file| file.exists()).map(Seldom::Read).collect();
            let links = folders.iter().cloned().map(Seldom::Stat).collect();
            vec![(10, links), (10, files), (100, listings(folders))]
        }
        _ => Vec::new(),
    }
}

fn listings(folders: Vec<PathBuf>) -> Vec<Seldom> {
    folders.into_iter().map(Seldom::List).collect()
}

/// Those of `roots` that are folders, with all folders below them.
fn folders(roots: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = roots.iter().filter(|folder| folder.is_dir()).cloned().collect();
    let mut at = 0;
    while let Some(folder) = folders.get(at) {
        let below = fs::read_dir(folder).expect("list a folder").filter_map(Result::ok);
        let below: Vec<PathBuf> = below.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        folders.extend(below);
        at += 1;
    }
    folders
}

/// A collector of one family after some ticks, and bare reads of what it reads.
fn open(family: &str, interval: Duration, context: &Context) -> Result<(Collector, Bare), String> {
    let mut collector = Collector::new(&[family], context)?.without_clocks(interval);
    collector.ticks(20);
    let mut files = open_files();
    if family != "process" {
        let mut bare = Bare::new(files);
        seldom(family).into_iter().for_each(|(every, calls)| bare.seldom(every, calls));
        return Ok((collector, bare));
    }
    let rows = collector.drained();
    let pids: BTreeSet<i64> =
        rows.iter().flat_map(|rows| rows["pid"].as_primitive::<Int64Type>().values().to_vec()).collect();
    // Files of a process that has no row any more stay open for a while.
    let has_row = |file: &Path| pids.iter().any(|pid| file.starts_with(format!("/proc/{pid}")));
    files.retain(|file| !file.ends_with("io") || has_row(file));
    let mut bare = Bare::new(files);
    bare.list(Path::new("/proc"), pids.iter().map(|pid| format!("{pid}/fd")));
    Ok((collector, bare))
}

fn beside_bare(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parser");
    let tree = tree_of_links();
    // `cargo bench --bench parser -- process` measures only that family.
    let arguments: Vec<String> = std::env::args().collect();
    let is_named = |family: &str| arguments.iter().any(|argument| argument == family);
    let some_named = FAMILIES.iter().any(|(family, _)| is_named(family));
    for (family, interval) in FAMILIES.into_iter().filter(|(family, _)| !some_named || is_named(family)) {
        // This also closes the files of the family before.
        let mut context = Context::default();
        if matches!(family, "sensor" | "power") {
            context.roots.sysfs = tree.path().into();
        }
        context.roots.apply();
        let (mut collector, mut bare) = match open(family, interval, &context) {
            Ok(opened) => opened,
            Err(reason) => {
                println!("parser: {family} is not measured: {reason}");
                continue;
            }
        };
        let medians = Medians::measure(&mut collector, |ticks| bare.ticks(ticks.into()));
        let kept = if medians.ratio().max(medians.ratio_of_means()) <= RATIO_MAX { "kept" } else { "exceeded" };
        println!("parser: {family} ÷ bare = {medians}, {} files, limit {RATIO_MAX:.2} {kept}", bare.len());
        group.bench_function(family, |bencher| bencher.iter_custom(|ticks| collector.ticks(ticks)));
        group.bench_function(format!("{family}-bare"), |bencher| bencher.iter_custom(|ticks| bare.ticks(ticks)));
    }
    group.finish();
}

criterion_group!(benches, beside_bare);
criterion_main!(benches);
