//! No bytes below `/proc` and `/sys` make a family panic, or push a row that is not whole.
//!
//! Each family is sampled over the trees of `tests/fixtures`, with every file changed at random: bits, bytes, words and
//! lines are cut, doubled, swapped and made huge. The test samples without a collector, which would catch a panic.
//!
//! - `KYMO_FUZZ_SECONDS`: the processor time for each family. If not set: a small number of iterations. The threads have the
//!   lowest priority. Tests beside them make them take longer, but cost no iteration.
//! - `KYMO_FUZZ_SEED`: the seed of the first iteration; each next iteration adds one. If not set: random with
//!   `KYMO_FUZZ_SECONDS`, otherwise always the same.
//! - `KYMO_FUZZ_FAMILY`: fuzz only this family.
//! - `KYMO_FUZZ_THREADS`: the number of families at the same time; 2 if not set.

use std::any::Any;
use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, thread};

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use fastrand::Rng;
use kymo::batch::Source;
use kymo::family::{FAMILIES, Family};
use kymo::reading::context::Context;
use kymo::reading::roots::Roots;
use kymo::reading::snapshot::in_snapshot;
use kymo::record::label::Labels;
use kymo::sampler::{Sampler, Tick};
use tempfile::TempDir;

/// Iterations of each family if no time is given.
const ITERATIONS: u64 = 200;
const SEED: u64 = 1;
/// Families that are sampled at the same time, if no number is given.
const THREADS: usize = 2;
/// The lowest priority.
const NICE: i32 = 19;
/// Some ticks push more, so that dropping is tested too.
const RING_CAPACITY: usize = 512;
/// The most bytes of a line that is made huge.
const HUGE_BYTES_MAX: usize = 64 << 10;
/// 2026-01-01.
const START_US: i64 = 1_767_225_600_000_000;
const SECOND_US: i64 = 1_000_000;

/// A tree of `tests/fixtures`.
struct Tree {
    name: String,
    entries: Vec<(PathBuf, Entry)>,
}

enum Entry {
    Folder,
    Link(PathBuf),
    File(Vec<u8>),
}

/// Every folder of `tests/fixtures` that has a `proc` or a `sys` in it.
fn trees() -> Vec<Tree> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        if folder.join("proc").is_dir() || folder.join("sys").is_dir() {
            let mut entries = Vec::new();
            read(&folder, Path::new(""), &mut entries);
            let name = folder.strip_prefix(&root).unwrap().to_str().unwrap().replace('/', "-");
            found.push(Tree { name, entries });
        } else {
            folders.extend(children(&folder).into_iter().filter(|path| path.is_dir()));
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(found.iter().any(|tree| tree.name == "vm"), "no trees in {}", root.display());
    found
}

/// The entries of `folder`, in the same order on every machine.
fn children(folder: &Path) -> Vec<PathBuf> {
    let mut children: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    children.sort();
    children
}

fn read(folder: &Path, below: &Path, entries: &mut Vec<(PathBuf, Entry)>) {
    for path in children(folder) {
        let name = below.join(path.file_name().unwrap());
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            entries.push((name.clone(), Entry::Folder));
            read(&path, &name, entries);
        } else if kind.is_symlink() {
            entries.push((name, Entry::Link(fs::read_link(&path).unwrap())));
        } else {
            entries.push((name, Entry::File(fs::read(&path).unwrap())));
        }
    }
}

/// True once in `n` times on average.
fn one_in(n: usize, random: &mut Rng) -> bool {
    random.usize(..n) == 0
}

/// Words that parsers may stumble on.
const WORDS: &[&[u8]] = &[
    b"0",
    b"00",
    b"-0",
    b"-1",
    b"+1",
    b"1.5",
    b".",
    b"-",
    b"1e9",
    b"1e400",
    b"0x10",
    b"nan",
    b"inf",
    b"-inf",
    b"255",
    b"256",
    b"65536",
    b"2147483648",
    b"4294967295",
    b"4294967296",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551615",
    b"18446744073709551616",
    b"18446744073709551615.99",
    b"99999999999999999999999999999999999999999",
    b"0.0000000000000000000000000001",
    b"kB",
    b":",
    b"::",
    b"=",
    b"a:b",
    b"(",
    b")",
    b"\\040",
    b"\\777",
    b"max",
    b"cpu",
    b"cpu0",
    b"cpu4294967295",
    b"cpu99999999999999999999",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xc3\xa9",
    b"\xe2\x80\x83",
    b"\xf0\x9f\x98\x80",
    b"..",
    b"/",
    b"%s",
];
/// Texts that may separate lines, words and halves of words.
const SEPARATORS: &[&[u8]] =
    &[b" ", b"  ", b"\t", b"\n", b"\n\n", b"\r\n", b"\r", b"\x0b", b"\xc2\xa0", b":", b": ", b"=", b",", b"\0"];

/// The piece of `bytes` around a random place, bounded by bytes for which `ends` holds.
fn piece(bytes: &[u8], random: &mut Rng, ends: fn(u8) -> bool) -> (usize, usize) {
    let at = random.usize(..bytes.len().max(1));
    let from = bytes[..at].iter().rposition(|byte| ends(*byte)).map_or(0, |end| end + 1);
    let to = bytes[at..].iter().position(|byte| ends(*byte)).map_or(bytes.len(), |end| at + end);
    (from, to)
}

fn line(bytes: &[u8], random: &mut Rng) -> (usize, usize) {
    let (from, to) = piece(bytes, random, |byte| byte == b'\n');
    (from, (to + 1).min(bytes.len()))
}

fn word(bytes: &[u8], random: &mut Rng) -> (usize, usize) {
    piece(bytes, random, |byte| byte.is_ascii_whitespace())
}

fn insert(bytes: &mut Vec<u8>, at: usize, what: impl IntoIterator<Item = u8>) {
    bytes.splice(at..at, what);
}

/// Makes one random change.
fn mutate(bytes: &mut Vec<u8>, random: &mut Rng) {
    let part = if random.bool() { line } else { word };
    let at = random.usize(..=bytes.len());
    let (from, to) = part(bytes, random);
    match random.usize(..22) {
        0..=1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.usize(..8)),
        2 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.u8(..)),
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(..at)),
        5 => drop(bytes.drain(from..to)),
        6..=7 => insert(bytes, to, bytes[from..to].to_vec()),
        8..=9 => {
            // Swaps two parts, or puts the one into the other.
            let (other_from, other_to) = part(bytes, random);
            let (one, other) = (bytes[from..to].to_vec(), bytes[other_from..other_to].to_vec());
            if from < other_from {
                bytes.splice(other_from..other_to, one);
                bytes.splice(from..to, other);
            } else {
                bytes.splice(from..to, other);
                bytes.splice(other_from..other_to, one);
            }
        }
        10..=13 => {
            let (from, to) = word(bytes, random);
            bytes.splice(from..to, random.choice(WORDS).unwrap().iter().copied());
        }
        14 => insert(bytes, at, random.choice(WORDS).unwrap().iter().copied()),
        15 => insert(bytes, at, random.choice(SEPARATORS).unwrap().iter().copied()),
        16 => {
            // A short line.
            let len = random.usize(..4);
            let short: Vec<u8> = (0..len).map(|_| *random.choice(b" :a0").unwrap()).chain(*b"\n").collect();
            insert(bytes, from, short);
        }
        17 => {
            // Removes the first blank after a random place.
            if let Some(end) = bytes[at..].iter().position(u8::is_ascii_whitespace) {
                bytes.remove(at + end);
            }
        }
        18 => {
            let len = random.usize(..64);
            let noise: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
            insert(bytes, at, noise);
        }
        19 => insert(bytes, at, vec![0; random.usize(..4_096)]),
        20 => {
            // Seldom, as it takes long.
            let bound = if one_in(8, random) { HUGE_BYTES_MAX } else { 2_048 };
            let len = random.usize(..bound);
            let what = if from < to { bytes[from..to].to_vec() } else { vec![b'9'] };
            let what = if random.bool() { random.choice(WORDS).unwrap().to_vec() } else { what };
            insert(bytes, at, what.into_iter().cycle().take(len));
        }
        _ => {
            if one_in(4, random) {
                bytes.clear();
            }
        }
    }
}

/// A file with some random changes.
fn mutated(bytes: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if !one_in(8, random) {
        for _ in 0..=random.usize(..8) {
            mutate(&mut bytes, random);
        }
    }
    bytes
}

/// The folder of a thread's trees.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Place { folder: folder.unwrap() }
    }

    /// Writes a tree with each file as `change` makes it; a file for which it gives `None` is removed.
    fn put(&self, tree: &Tree, change: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>) {
        let root = self.folder.path().join(&tree.name);
        // Both are there in any case.
        fs::create_dir_all(root.join("proc")).unwrap();
        fs::create_dir_all(root.join("sys")).unwrap();
        for (name, entry) in &tree.entries {
            let path = root.join(name);
            match entry {
                Entry::Folder => fs::create_dir_all(&path).unwrap(),
                Entry::Link(target) => {
                    if fs::symlink_metadata(&path).is_err() {
                        symlink(target, &path).unwrap();
                    }
                }
                // In place: kept descriptors see the new bytes.
                Entry::File(bytes) => match change(bytes) {
                    Some(bytes) => fs::write(&path, bytes).unwrap(),
                    None => drop(fs::remove_file(&path)),
                },
            }
        }
    }

    /// The family over this tree. The thread forgets all files that it kept.
    fn open(&self, tree: &Tree, family: &'static Family) -> Subject {
        let root = self.folder.path().join(&tree.name);
        let roots = Roots { procfs: root.join("proc"), sysfs: root.join("sys"), ..Roots::default() };
        heim_runtime::linux::set_roots(&roots.procfs, &roots.sysfs);
        Subject::new(family, &Context { roots, ..Context::default() })
    }
}

/// The counts of a family's run.
#[derive(Default)]
struct Course {
    iterations: u64,
    ticks: u64,
    rows: u64,
    errors: u64,
    slowest: Duration,
}

/// A family as a collector has it.
struct Subject {
    family: &'static Family,
    sampler: Box<dyn Sampler>,
    source: Box<dyn Source>,
}

impl Subject {
    fn new(family: &'static Family, context: &Context) -> Subject {
        let sampling = family.sampling().unwrap();
        let (sampler, source) = (sampling.open)(context, &Arc::new(Labels::default()), RING_CAPACITY);
        Subject { family, sampler, source }
    }

    /// Takes a tick, whose rows must be whole.
    fn tick(&mut self, tick: &Tick, course: &mut Course) {
        let mut taken = None;
        let began = Instant::now();
        in_snapshot(&mut || {
            // Samples even if the check fails: a host may lose a family after a check.
            let _ = self.sampler.check();
            taken = Some(self.sampler.sample(tick));
        });
        course.slowest = course.slowest.max(began.elapsed());
        let (sampled, outcome) = taken.unwrap();
        let mut rows = 0;
        if let Some(batch) = self.source.drain() {
            rows = batch.num_rows() as u64;
            assert_eq!(batch.schema(), self.family.table.schema());
            for column in batch.columns() {
                column.to_data().validate_full().unwrap();
            }
            let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
            assert!(times.null_count() == 0 && times.values().iter().all(|time| *time == tick.time));
        }
        assert_eq!(rows, sampled.pushed, "rows drained and pushed");
        course.ticks += 1;
        course.rows += rows;
        course.errors += u64::from(outcome.is_err());
    }
}

/// The trees in which the family has rows; all trees if it has rows in none.
fn useful<'a>(family: &'static Family, trees: &'a [Tree], place: &Place) -> Vec<&'a Tree> {
    let has_rows = |tree: &&Tree| {
        place.put(tree, &mut |bytes| Some(bytes.to_vec()));
        let (mut subject, mut course) = (place.open(tree, family), Course::default());
        for second in 0..2 {
            subject.tick(&tick(START_US, second), &mut course);
        }
        course.rows > 0
    };
    let found: Vec<&Tree> = trees.iter().filter(has_rows).collect();
    if found.is_empty() { trees.iter().collect() } else { found }
}

fn tick(start_us: i64, second: i64) -> Tick {
    Tick { time: start_us + second * SECOND_US, monotonic_ns: second * SECOND_US * 1_000 }
}

/// One to three ticks over a changed tree.
fn iterate(family: &'static Family, trees: &[&Tree], place: &Place, seed: u64, course: &mut Course) {
    let mut random = Rng::with_seed(seed);
    let tree = random.choice(trees).unwrap();
    // Some runs begin with an unchanged tree.
    let is_whole = one_in(4, &mut random);
    place.put(tree, &mut |bytes| if is_whole { Some(bytes.to_vec()) } else { change(bytes, &mut random) });
    let mut subject = place.open(tree, family);
    let mut now = tick(START_US, 1_000);
    for number in 0..=random.usize(..3) {
        if number > 0 {
            if !one_in(4, &mut random) {
                place.put(tree, &mut |bytes| change(bytes, &mut random));
            }
            // 0…2 s later. The wall clock may jump by years, but the monotonic clock never goes back.
            let step_us = random.i64(0..=2_000_000);
            let year_us = 365 * 86_400 * SECOND_US;
            let years = random.i64(-40..20);
            now.time += if one_in(4, &mut random) { years * year_us } else { step_us };
            now.monotonic_ns += step_us * 1_000;
        }
        subject.tick(&now, course);
    }
}

/// The file with random changes; sometimes `None`.
fn change(bytes: &[u8], random: &mut Rng) -> Option<Vec<u8>> {
    (!one_in(64, random)).then(|| mutated(bytes, random))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// The processor time that this thread has used.
fn processor_time() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).try_into().unwrap()
}

/// Runs until the time is over or something is wrong.
fn fuzz(family: &'static Family, trees: &[Tree], limit: Option<Duration>, first_seed: u64) -> Result<Course, String> {
    let place = Place::new();
    let trees = useful(family, trees, &place);
    let mut course = Course::default();
    let began = processor_time();
    while limit.map_or(course.iterations < ITERATIONS, |limit| processor_time().saturating_sub(began) < limit) {
        let seed = first_seed.wrapping_add(course.iterations);
        let iteration = AssertUnwindSafe(|| iterate(family, &trees, &place, seed, &mut course));
        if let Err(panic) = catch_unwind(iteration) {
            let (name, message) = (family.name(), message(&*panic));
            return Err(format!("{name}: {message}\n    again by KYMO_FUZZ_FAMILY={name} KYMO_FUZZ_SEED={seed}"));
        }
        course.iterations += 1;
    }
    Ok(course)
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    let value = text.parse();
    Some(value.unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn no_bytes_make_a_family_panic() {
    let limit = variable("KYMO_FUZZ_SECONDS").map(Duration::from_secs);
    let seed = variable("KYMO_FUZZ_SEED").unwrap_or_else(|| match limit {
        Some(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into(),
        None => SEED,
    });
    let only = env::var("KYMO_FUZZ_FAMILY").ok();
    let is_wanted =
        |family: &&Family| family.sampling().is_some() && only.as_ref().is_none_or(|only| only == family.name());
    let families: Vec<&'static Family> = FAMILIES.iter().filter(is_wanted).collect();
    assert!(!families.is_empty(), "KYMO_FUZZ_FAMILY names no family");
    println!("fuzz: seed {seed}");
    let trees = trees();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        // Of this thread alone. If it is refused, other tests take longer.
        let _ = rustix::process::setpriority_process(None, NICE);
        // Relaxed: the number carries nothing but itself.
        while let Some(family) = families.get(next.fetch_add(1, Ordering::Relaxed)) {
            match fuzz(family, &trees, limit, seed) {
                Ok(Course { iterations, ticks, rows, errors, slowest }) => println!(
                    "fuzz: {}: {iterations} iterations, {ticks} ticks, {errors} with an error, {rows} rows, the slowest tick {slowest:?}",
                    family.name()
                ),
                Err(failure) => failures.lock().unwrap().push(failure),
            }
        }
    };
    let threads = variable("KYMO_FUZZ_THREADS").unwrap_or(THREADS);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Files are changed, differently for each seed, and equally for the same seed.
#[test]
fn mutations_follow_from_the_seed() {
    let text = b"MemTotal:  2048 kB\nMemFree:  1024 kB\n".repeat(4);
    let of_seed = |seed| mutated(&text, &mut Rng::with_seed(seed));
    let all: Vec<Vec<u8>> = (0..1_000).map(of_seed).collect();
    assert_eq!(all[7], of_seed(7));
    let mut distinct = all.clone();
    distinct.sort();
    distinct.dedup();
    assert!(distinct.len() > 600, "{}", distinct.len());
    assert!(all.contains(&text) && all.iter().any(Vec::is_empty));
}
