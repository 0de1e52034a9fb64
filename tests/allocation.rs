//! In the steady state a collector thread allocates nothing outside heim's own functions.
//!
//! Each family that this host has is sampled by its own collector for ten thousand ticks of the real `/proc`. Every
//! allocation of the collector's thread is counted by its stack. If the stack has a function of heim, the allocation is
//! heim's; their number is printed for each tick and family. Any other allocation is kymo's, and there must be none,
//! except where [`CHANGES`] names the function and the change on the host that causes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, thread};

use kymo::batch::Source;
use kymo::family::{FAMILIES, Family};
use kymo::reading::context::Context;
use kymo::reading::snapshot::in_snapshot;
use kymo::record::label::Labels;
use kymo::ring::ring;
use kymo::sampler::thread::CollectorThread;
use kymo::sampler::{Reasons, SampleError, Sampled, Sampler, Scheduling, Setup, Tick, Totals};
use tempfile::TempDir;

/// Ticks in which buffers and tables grow to the size they need.
const WARM_UP_TICKS: u64 = 500;
/// Ticks that are counted.
const TICKS: u64 = 10_000;
const RING_CAPACITY: usize = 1 << 16;
/// Longer than the test takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(10);
/// heim's crates, as functions name them.
const HEIM: &[&str] = &["heim::", "heim_common::", "heim_disk::", "heim_host::", "heim_net::"];

/// Functions that allocate because something on the host changed, and the change.
const CHANGES: &[(&str, &str)] = &[
    ("State::read_first", "a file is opened: a missing file is tried every 10 s"),
    ("LabelCache::resolve", "a label is new at its place"),
    ("slots::Slots::give", "a process has a row for the first time"),
    ("ProcessTable::cgroup", "a process has a row for the first time"),
    ("Origins::of", "a device does its first operation, or a minute has passed"),
    ("FilesystemSampler::follow", "a file system was mounted or unmounted"),
    ("cgroup::tree::Tree::adopt", "a control group came"),
    ("cgroup::tree::Groups::add", "a control group came"),
    ("counter::parts::Parts", "a control group uses a device for the first time"),
    ("stack::Stack::stands_on_others", "a device is used for the first time"),
    ("Outcome::fail", "a family cannot be read"),
    ("Asking::ask::{{closure}}", "a mount does not answer"),
    ("Usages::of", "a mount does not answer"),
    ("ticking::Member::note", "a family cannot be read"),
    ("ticking::Member::tell_lacking", "what a family lacks has changed"),
    ("ticking::Member::take::{{closure}}", "a family cannot be read"),
    ("tell_overload", "the test's build is too slow for a tick a millisecond"),
];
/// Allocations because of changes are at most so many, and these more for each process that began.
const CHANGES_MAX: u64 = TICKS / 50;
const CHANGES_OF_A_PROCESS_MAX: u64 = 4;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations by family and stack; `None` before the first.
static STACKS: Mutex<Option<Stacks>> = Mutex::new(None);

type Stacks = HashMap<(&'static str, Vec<usize>), u64>;

thread_local! {
    /// The family whose allocations are counted on this thread; empty while none are.
    static COUNTED: Cell<&'static str> = const { Cell::new("") };
}

/// The system's allocator, which notes where a counted thread allocates.
struct Counting;

// SAFETY: every call is passed unchanged to the system's allocator. Noting allocates too, with counting switched off.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps `GlobalAlloc`'s contract, which is that of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note();
        // SAFETY: as for `alloc`; the pointer came from the system's allocator.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as for `realloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn note() {
    // A thread that is ending has no counter any more and is not counted.
    let family = COUNTED.try_with(|counted| counted.replace("")).unwrap_or_default();
    if family.is_empty() {
        return;
    }
    let mut stack = Vec::new();
    backtrace::trace(|frame| {
        stack.push(frame.ip() as usize);
        true
    });
    let mut stacks = STACKS.lock().unwrap_or_else(PoisonError::into_inner);
    *stacks.get_or_insert_default().entry((family, stack)).or_default() += 1;
    drop(stacks);
    COUNTED.set(family);
}

/// A sampler that has all allocations of its thread counted after the warm-up.
struct Counted {
    sampler: Box<dyn Sampler>,
    taken: Arc<AtomicU64>,
}

impl Sampler for Counted {
    fn family(&self) -> &'static str {
        self.sampler.family()
    }

    fn check(&mut self) -> Result<(), String> {
        self.sampler.check()
    }

    fn tell_lacking(&self, told: &mut String) {
        self.sampler.tell_lacking(told);
    }

    fn sample(&mut self, tick: &Tick) -> (Sampled, Result<(), SampleError>) {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        if taken == WARM_UP_TICKS {
            COUNTED.set(self.family());
        } else if taken == WARM_UP_TICKS + TICKS {
            COUNTED.set("");
        }
        self.sampler.sample(tick)
    }
}

/// A collector of one family.
struct Collector {
    family: &'static str,
    thread: CollectorThread,
    taken: Arc<AtomicU64>,
    source: Box<dyn Source>,
}

/// Sensors and an energy counter, which virtual machines lack.
fn hardware() -> &'static Path {
    static TREE: LazyLock<TempDir> = LazyLock::new(|| {
        let tree = tempfile::tempdir().unwrap();
        let zone = "class/powercap/intel-rapl:0";
        for (name, text) in [
            ("class/hwmon/hwmon0/name".to_owned(), "coretemp\n"),
            ("class/hwmon/hwmon0/temp1_input".to_owned(), "45000\n"),
            ("class/hwmon/hwmon0/temp1_max".to_owned(), "100000\n"),
            (format!("{zone}/name"), "package-0\n"),
            (format!("{zone}/energy_uj"), "1000\n"),
            (format!("{zone}/max_energy_range_uj"), "262143328850\n"),
        ] {
            let path = tree.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        tree
    });
    TREE.path()
}

fn start(family: &'static Family) -> Option<Collector> {
    let mut context = Context::default();
    if ["sensor", "power"].contains(&family.name()) {
        context.roots.sysfs = hardware().into();
    }
    let (sampler, source) = (family.sampling()?.open)(&context, &Arc::new(Labels::default()), RING_CAPACITY);
    let taken = Arc::new(AtomicU64::new(0));
    let labels = Labels::default();
    let label = labels.intern("collector");
    let thread = CollectorThread::start(Setup {
        name: family.name().to_owned(),
        interval: Duration::from_millis(1),
        scheduling: Scheduling::Other,
        cpus: Arc::new(kymo::scheduling::cpus::Cpus::of_process()),
        prepare: Box::new(move || context.roots.apply()),
        samplers: vec![Box::new(Counted { sampler, taken: Arc::clone(&taken) })],
        snapshot: in_snapshot,
        // Room for all reports and gaps: nobody reads them.
        reports: ring(RING_CAPACITY).0,
        gaps: ring(RING_CAPACITY).0,
        report_label: label,
        gap_label: label,
        reasons: Reasons { late: label, suspended: label, clock_step: label },
        totals: Totals::default(),
    });
    Some(Collector { family: family.name(), thread: thread.unwrap(), taken, source })
}

/// The functions of a stack, from the innermost to the outermost.
fn functions(stack: &[usize]) -> Vec<String> {
    let mut names = Vec::new();
    for address in stack {
        backtrace::resolve(*address as *mut c_void, |symbol| {
            names.extend(symbol.name().map(|name| format!("{name:#}")));
        });
    }
    names
}

fn is_heims(functions: &[String]) -> bool {
    let of_heim = |function: &str| {
        // A method of a trait is named `<type as trait>::method`.
        let parts = function.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
        parts.into_iter().any(|part| HEIM.iter().any(|krate| part.starts_with(krate)))
    };
    functions.iter().any(|function| of_heim(function))
}

/// The processes and threads that the host has begun since it started (`proc_stat(5)`).
fn begun() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let line = stat.lines().find_map(|line| line.strip_prefix("processes ")).unwrap();
    line.parse().unwrap()
}

#[test]
fn a_collector_thread_allocates_nothing_of_its_own() {
    let mut collectors: Vec<Collector> = FAMILIES.iter().filter_map(start).collect();
    let (deadline, begun_before) = (Instant::now() + PATIENCE, begun());
    let mut left = collectors.len();
    let mut lacking = Vec::new();
    while left > 0 {
        assert!(Instant::now() < deadline, "{left} collectors have not taken {TICKS} ticks");
        thread::sleep(Duration::from_millis(20));
        left = 0;
        lacking.clear();
        for collector in &mut collectors {
            drop(collector.source.drain());
            if collector.thread.health().unavailable.is_empty() {
                left += usize::from(collector.taken.load(Ordering::Relaxed) <= WARM_UP_TICKS + TICKS);
            } else {
                lacking.push(collector.family);
            }
        }
    }
    let families: Vec<&str> = collectors.iter().map(|collector| collector.family).collect();
    for collector in collectors {
        collector.thread.stop(PATIENCE).unwrap();
    }

    let stacks = STACKS.lock().unwrap().take().unwrap_or_default();
    let mut heims: HashMap<&str, u64> = HashMap::new();
    let (mut ours, mut changes) = (Vec::new(), 0);
    for ((family, stack), count) in stacks {
        let functions = functions(&stack);
        let change = CHANGES.iter().find(|(name, _)| functions.iter().any(|function| function.contains(name)));
        if is_heims(&functions) {
            *heims.entry(family).or_default() += count;
        } else if let Some((_, what)) = change {
            println!("allocations: {family}: {count} because {what}");
            changes += count;
        } else {
            ours.push(format!("{family}, {count} times in {TICKS} ticks:\n    {}", functions.join("\n    ")));
        }
    }
    for family in families {
        if lacking.contains(&family) {
            println!("allocations: {family}: this host lacks it");
        } else {
            let heims = heims.get(family).copied().unwrap_or_default() as f64 / TICKS as f64;
            println!("allocations: {family}: {heims:.2} of heim a tick");
        }
    }
    let begun = begun() - begun_before;
    let most = CHANGES_MAX + begun * CHANGES_OF_A_PROCESS_MAX;
    assert!(changes <= most, "{changes} allocations because of changes, while {begun} processes began");
    assert!(ours.is_empty(), "{} places allocate:\n{}", ours.len(), ours.join("\n"));
}
