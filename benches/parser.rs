//! What a tick of each family with a parser of kymo's own costs, beside bare reads of the same files.
//!
//! Prints `parser: <family> ÷ bare` with the limit that it is meant to keep: what a parser adds to reading its files is
//! at most a quarter of the reading. `common` says how it is measured, here without the two clocks of a tick. The bare
//! side reads what the family has open after its first ticks, on descriptors of its own; for `process` it also lists
//! procfs and asks for the number of open files of those that have a row, as the family does.
//!
//! The bare side also looks for what came and went as often as the families do, and no less bare: once in ten ticks that
//! of `cgroup` asks for the links of each group's folders and reads its limit, and that of `sensor` and `power` lists the
//! class; once in a hundred the first lists the folders of all groups, once in sixty the others those of all devices. What
//! is not in the bare side counts as the parser's cost: the read of nothing that shows the end of `/proc/interrupts`, and
//! whatever is done with the names. The medians are of rounds of 20 ticks, most of which have no such walk in them; the
//! means have.
//!
//! Ticks follow each other at once, so lines that rest while nothing happens are those of the tick before, and families
//! that keep what such a line meant (pressure, softnet, interrupt, softirq) do not parse them; most of a host's rest at
//! real intervals, too. `filesystem` is not measured: its files rest until something is mounted, and what it costs is
//! statvfs(3) on another thread.
//!
//! A virtual machine has neither sensors nor RAPL. They are measured over a tree of links to real attributes of sysfs,
//! which cost what attributes cost whose drivers have their values at hand.
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

/// Families, and the distance of their ticks.
const FAMILIES: [(&str, Duration); 11] = [
    ("pressure", Duration::from_millis(100)),
    ("vm", Duration::from_millis(100)),
    ("tcp", Duration::from_millis(100)),
    ("softnet", Duration::from_millis(100)),
    ("interrupt", Duration::from_secs(1)),
    ("softirq", Duration::from_millis(100)),
    ("host", Duration::from_secs(1)),
    ("process", Duration::from_secs(1)),
    // The shortest it may have; groups are looked for once a second all the same.
    ("cgroup", Duration::from_millis(100)),
    ("sensor", Duration::from_secs(1)),
    ("power", Duration::from_secs(1)),
];

/// What a tick may cost, in bare reads.
const RATIO_MAX: f64 = 1.25;

/// Sensors of each of two chips, and zones of RAPL.
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

/// The files of procfs that this process has open, and those of sysfs, each of these as often as it is: they stand for
/// others.
fn open_files() -> Vec<PathBuf> {
    let links =
        fs::read_dir("/proc/self/fd").expect("procfs").filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let mut files: Vec<PathBuf> =
        links.filter(|path| (path.starts_with("/proc") || path.starts_with("/sys")) && path.is_file()).collect();
    files.sort_unstable();
    files.dedup_by(|one, other| one == other && one.starts_with("/proc"));
    files
}

/// What a family does to look for changes, and once in how many ticks.
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
            let limits = ["memory.max", "memory.limit_in_bytes"];
            let limits = folders.iter().flat_map(|folder| limits.map(|limit| folder.join(limit)));
            let limits: Vec<Seldom> = limits.filter(|limit| limit.exists()).map(Seldom::Read).collect();
            let links = folders.iter().cloned().map(Seldom::Stat).collect();
            vec![(10, links), (10, limits), (100, listings(folders))]
        }
        _ => Vec::new(),
    }
}

fn listings(folders: Vec<PathBuf>) -> Vec<Seldom> {
    folders.into_iter().map(Seldom::List).collect()
}

/// Those of `roots` that are folders, and all folders below them.
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
    // What was read of a process that has no row any more is kept open for a while.
    let has_row = |file: &Path| pids.iter().any(|pid| file.starts_with(format!("/proc/{pid}")));
    files.retain(|file| !file.ends_with("io") || has_row(file));
    let mut bare = Bare::new(files);
    bare.list(Path::new("/proc"), pids.iter().map(|pid| format!("{pid}/fd")));
    Ok((collector, bare))
}

fn beside_bare(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parser");
    let tree = tree_of_links();
    // `cargo bench --bench parser -- process` is about that family only.
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
