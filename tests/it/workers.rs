//! Queries in processes of their own, seen from outside: what ends them, and what goes on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::running::{Daemon, PATIENCE, command};
use rustix::process::{Pid, Signal, kill_process};

const CONFIG: &str = r#"
[collector.burst]
interval = "1ms"
metrics = ["network", "disk"]
[query]
memory_bytes_max = "32MiB"
time_max = "2s"
"#;
/// Never ends by itself.
const ENDLESS: &str =
    "SELECT count(*) FROM network a, network b, network c, network d WHERE a.rx_bytes + b.rx_bytes < random()";

/// The processes that the daemon started, those that have ended left out.
fn workers(daemon: &Daemon) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.child.id())).unwrap();
    let children = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("children")).ok());
    let ids: Vec<i32> =
        children.flat_map(|ids| ids.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>()).collect();
    ids.into_iter().filter(|id| runs(*id)).collect()
}

/// Whether the process is there and no zombie.
fn runs(id: i32) -> bool {
    fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// CPU time in user mode (proc(5), field 14 of `/proc/pid/stat`); 0 if it is gone.
fn cpu_ticks(id: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(11)?.parse().ok()).unwrap_or(0)
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn ask(daemon: &Daemon, sql: &str) -> Child {
    command(&["query", sql, "--address", &daemon.address]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What a query that fails says.
fn error(daemon: &Daemon, sql: &str) -> String {
    let output = ask(daemon, sql).wait_with_output().unwrap();
    assert!(!output.status.success(), "{sql}");
    String::from_utf8(output.stderr).unwrap()
}

fn kill(id: i32) {
    // It may have ended by itself.
    let _ = kill_process(Pid::from_raw(id).unwrap(), Signal::KILL);
}

#[test]
fn a_killed_worker_costs_its_own_statement_only() {
    let folder = tempfile::tempdir().unwrap();
    let config = CONFIG.replace("\"2s\"", "\"60s\"");
    let daemon = Daemon::start(folder.path(), &config);
    let count = || daemon.query("SELECT count(*) AS n FROM network")[0]["n"].as_i64();
    wait_until("there are rows", || count() > Some(0));
    for round in 0..5 {
        // One statement may not end a worker so often.
        let victim = ask(&daemon, &format!("{ENDLESS} + {round}"));
        wait_until("another worker is warm while one works", || workers(&daemon).len() >= 2);
        // The other one has computed, too: it started.
        let before: Vec<(i32, _)> = workers(&daemon).into_iter().map(|id| (id, cpu_ticks(id))).collect();
        let busy = || before.iter().map(|(id, ticks)| (cpu_ticks(*id).saturating_sub(*ticks), *id)).max().unwrap();
        wait_until("the statement computes", || busy().0 > 50);
        kill(busy().1);
        let output = victim.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("SIGKILL"), "{said}");
        assert!(count() > Some(0));
    }
    wait_until("the faults are counted", || {
        daemon.query("SELECT max(query_faults) AS n FROM kymo")[0]["n"].as_i64() == Some(5)
    });
    daemon.terminate();
}

/// The CPUs that a thread may run on, as proc(5) writes them: `0-2,5`.
fn cpus(status: impl AsRef<std::path::Path>) -> Option<String> {
    let status = fs::read_to_string(status).ok()?;
    status.lines().find_map(|line| Some(line.strip_prefix("Cpus_allowed_list:")?.trim().to_owned()))
}

#[test]
fn queries_that_compute_for_long_leave_a_cpu_to_fast_collectors() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &CONFIG.replace("\"2s\"", "\"60s\""));
    let own = format!("/proc/{}/task", daemon.child.id());
    let named = |name: &str| {
        let tasks = fs::read_dir(&own).unwrap().map(|task| task.unwrap().path());
        let named = tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name));
        named.filter_map(|task| cpus(task.join("status"))).collect::<Vec<_>>()
    };
    let of_workers = || {
        let tasks =
            workers(&daemon).into_iter().filter_map(|id| fs::read_dir(format!("/proc/{id}/task")).ok()).flatten();
        tasks.filter_map(|task| cpus(task.unwrap().path().join("status"))).collect::<Vec<_>>()
    };
    let all = cpus(format!("/proc/{}/status", daemon.child.id())).unwrap();
    let mut clients: Vec<Child> = (0..2).map(|_| ask(&daemon, ENDLESS)).collect();
    wait_until("both work", || workers(&daemon).len() >= 2);
    if all.parse::<u32>().is_ok() {
        println!("a single CPU, {all}: nothing to leave");
    } else {
        // All threads of all workers, those that start after that, and those that serve them.
        wait_until("queries leave a CPU", || {
            let kept = named("kymo-burst");
            let others = [of_workers(), named("kymo-io")].concat();
            kept.len() == 1 && kept[0] != all && others.len() > 10 && others.iter().all(|other| *other != all)
        });
        let kept = named("kymo-burst").remove(0);
        assert!(of_workers().iter().all(|other| !other.split([',', '-']).any(|number| number == kept)), "{kept}");
        assert_eq!(named("kymo-drain"), [all.as_str()], "it may run anywhere");
    }
    for client in &mut clients {
        client.kill().unwrap();
        client.wait().unwrap();
    }
    wait_until("all have all CPUs again", || {
        let mut threads = [of_workers(), named("kymo-burst"), named("kymo-io")].concat();
        threads.retain(|thread| *thread != all);
        threads.is_empty()
    });
    daemon.terminate();
}

#[test]
fn workers_end_with_the_recorder() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(folder.path(), &CONFIG.replace("\"2s\"", "\"60s\""));
    let mut clients: Vec<Child> = (0..3).map(|_| ask(&daemon, ENDLESS)).collect();
    wait_until("all work", || workers(&daemon).len() >= 3);
    let ids = workers(&daemon);
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let killed = Instant::now();
    wait_until("no worker is left", || !ids.iter().any(|id| runs(*id)));
    println!("workers ended {:?} after the recorder", killed.elapsed());
    for client in &mut clients {
        assert!(!client.wait().unwrap().success());
    }
}

/// Whether all threads of a process have stopped, or it is gone.
fn has_stopped(id: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{id}/task")) else { return true };
    let state = |stat: String| stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    threads
        .filter_map(|thread| state(fs::read_to_string(thread.ok()?.path().join("stat")).ok()?))
        .all(|state| matches!(state, 'T' | 'Z' | 'X'))
}

#[test]
fn a_worker_that_was_stopped_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &CONFIG.replace("\"2s\"", "\"60s\""));
    // Three strikes would have the statement refused.
    for _ in 0..4 {
        daemon.query("SELECT 1");
        wait_until("a worker is kept warm", || !workers(&daemon).is_empty());
        let stopped = workers(&daemon);
        for id in &stopped {
            let _ = kill_process(Pid::from_raw(*id).unwrap(), Signal::STOP);
        }
        // The signal takes effect when each of its threads runs, which may take long on a busy machine.
        wait_until("they have stopped", || stopped.iter().all(|id| has_stopped(*id)));
        assert_eq!(daemon.query("SELECT 1 AS one")[0]["one"].as_i64(), Some(1));
        wait_until("it has ended", || !stopped.iter().all(|id| runs(*id)));
    }
    daemon.terminate();
}

#[test]
fn rows_in_memory_are_read_only_for_a_worker_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &CONFIG.replace("\"2s\"", "\"60s\""));
    wait_until("there are rows", || daemon.query("SELECT count(*) AS n FROM network")[0]["n"].as_i64() > Some(9_000));
    let mut client = ask(&daemon, ENDLESS);
    // Standard output of a worker is its file in memory.
    let given = |id: &i32| fs::metadata(format!("/proc/{id}/fd/1")).ok().filter(|file| file.blocks() > 0);
    wait_until("a worker was given rows", || workers(&daemon).iter().any(|id| given(id).is_some()));
    for id in workers(&daemon) {
        let flags = fs::read_to_string(format!("/proc/{id}/fdinfo/1")).unwrap();
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        assert_eq!(i32::from_str_radix(flags, 8).unwrap() & libc::O_ACCMODE, libc::O_RDONLY);
        assert_eq!(fs::metadata(format!("/proc/{id}/fd/1")).unwrap().mode() & 0o777, 0o400);
    }
    let resident = |id: &i32| {
        let statm = fs::read_to_string(format!("/proc/{id}/statm")).unwrap_or_default();
        let pages = statm.split(' ').nth(1).map_or(0, |pages| pages.parse::<u64>().unwrap());
        pages * rustix::param::page_size() as u64
    };
    wait_until("its rows are counted", || {
        let workers = workers(&daemon);
        // So that none takes or frees memory while it is looked at.
        for id in &workers {
            let _ = kill_process(Pid::from_raw(*id).unwrap(), Signal::STOP);
        }
        let rows: u64 = workers.iter().filter_map(given).map(|file| 512 * file.blocks()).sum();
        let told = daemon.status()["query_workers"]["rss_bytes"].as_u64().unwrap();
        rows > 0 && told == workers.iter().map(resident).sum::<u64>() + rows
    });
    client.kill().unwrap();
    client.wait().unwrap();
    daemon.terminate();
}

#[test]
fn large_results_are_whole_and_their_memory_is_freed() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &CONFIG.replace("\"2s\"", "\"60s\""));
    // Standard error of a worker is its file with slabs.
    let slabs = |id: &i32| fs::metadata(format!("/proc/{id}/fd/2")).map_or(0, |file| 512 * file.blocks());
    let rows = daemon.query("SELECT value AS n, 2 * value AS twice FROM generate_series(1, 100000) ORDER BY value");
    let right = (1..).zip(&rows).all(|(n, row)| row["n"].as_i64() == Some(n) && row["twice"].as_i64() == Some(2 * n));
    assert!(rows.len() == 100_000 && right);
    let used: Vec<i32> = workers(&daemon).into_iter().filter(|id| slabs(id) > 0).collect();
    assert!(!used.is_empty());
    // A client that does not read what it asked for.
    let endless = "SELECT value FROM generate_series(1, 1000000000)";
    let mut stalled = command(&["query", endless, "--format", "csv", "--address", &daemon.address]);
    let stalled = stalled.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ticks = || workers(&daemon).iter().map(|id| (cpu_ticks(*id), *id)).max().unwrap();
    let mut before = ticks();
    wait_until("its worker waits", || {
        thread::sleep(Duration::from_millis(300));
        let now = ticks();
        slabs(&now.1) > 0 && std::mem::replace(&mut before, now) == now
    });
    // Others are answered.
    assert_eq!(daemon.query("SELECT count(*) AS n FROM generate_series(1, 100000)")[0]["n"].as_i64(), Some(100_000));
    workers(&daemon).into_iter().for_each(kill);
    let output = stalled.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("SIGKILL"), "{said}");
    assert_eq!(daemon.query("SELECT value FROM generate_series(1, 100000)").len(), 100_000);
    wait_until("their memory is freed", || workers(&daemon).iter().all(|id| slabs(id) == 0));
    daemon.terminate();
}

#[test]
fn short_results_that_nobody_reads_keep_no_place() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    // 0.8 MB, of which a client that does not read takes a part. More of them than statements may run at once.
    let short = "SELECT value FROM generate_series(1, 100000)";
    let ask =
        || command(&["query", short, "--format", "csv", "--address", &daemon.address]).stdout(Stdio::piped()).spawn();
    let unread: Vec<Child> = (0..6).map(|_| ask().unwrap()).collect();
    thread::sleep(Duration::from_millis(500));
    for _ in 0..6 {
        daemon.query("SELECT 1");
    }
    for child in unread {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 100_001);
    }
    daemon.terminate();
}

#[test]
fn rows_in_memory_are_counted_to_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    let sql = "SELECT (SELECT count(*) FROM network) AS rows, (SELECT count(time) FROM network) AS times, \
        (SELECT sum(n) FROM (SELECT count(*) AS n FROM network GROUP BY interface)) AS grouped";
    for _ in 0..20 {
        let rows = daemon.query(sql);
        let figures = ["rows", "times", "grouped"].map(|figure| rows[0][figure].as_i64().unwrap());
        assert!(figures.iter().all(|figure| *figure == figures[0]), "{rows:?}");
        thread::sleep(Duration::from_millis(30));
    }
    assert!(daemon.query("SELECT count(*) AS n FROM network")[0]["n"].as_i64() > Some(0));
    daemon.terminate();
}

#[test]
fn a_statement_that_has_failed_computes_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    let long = "levenshtein(repeat('ab', 50000), concat(repeat('ba', 50000), value))";
    let said = error(
        &daemon,
        &format!(
            "SELECT CAST(concat('x', value) AS BIGINT) FROM generate_series(1, 9) UNION ALL \
             SELECT {long} FROM generate_series(1, 100)"
        ),
    );
    assert!(said.contains("'x"), "{said}");
    wait_until("nothing computes", || {
        let ticks = || workers(&daemon).into_iter().map(cpu_ticks).sum::<u64>();
        let before = ticks();
        thread::sleep(Duration::from_millis(300));
        ticks() <= before
    });
    daemon.terminate();
}

/// Needs twice the memory that a query has.
fn large_sort(rows: &str) -> String {
    format!(
        "SELECT count(*) AS n, sum(a) AS s FROM \
         (SELECT value AS a FROM generate_series(1, 3000000) ORDER BY value % 1000003 DESC, value {rows})"
    )
}

#[test]
fn a_sort_beyond_its_memory_spills_within_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let spilling = |setting: &str| format!("{CONFIG}spill_bytes_max = \"{setting}\"\n").replace("\"2s\"", "\"5m\"");
    let folder_for = |setting: &str| {
        let folder = folder.path().join(setting);
        fs::create_dir(&folder).unwrap();
        folder
    };
    let much = folder_for("1GiB");
    let daemon = Daemon::start(&much, &spilling("1GiB"));
    // The first of them is 1000002, the last of them 2000006.
    for (rows, left_out) in [("OFFSET 1", 1_000_002), ("LIMIT 2999999", 2_000_006)] {
        let sorted = daemon.query(&large_sort(rows));
        assert_eq!(sorted[0]["n"].as_i64(), Some(2_999_999), "{rows}");
        assert_eq!(sorted[0]["s"].as_i64(), Some(3_000_000 * 3_000_001 / 2 - left_out), "{rows}");
    }
    assert_eq!(fs::read_dir(much.join("data/spill")).unwrap().count(), 0, "its files have no names");
    daemon.terminate();
    for (setting, named) in [("1MiB", "`query.spill_bytes_max`"), ("0B", "`query.memory_bytes_max`")] {
        let daemon = Daemon::start(&folder_for(setting), &spilling(setting));
        let said = error(&daemon, &large_sort("OFFSET 1"));
        assert!(said.contains(named), "{setting}: {said}");
        daemon.terminate();
    }
}

#[test]
fn lists_are_built_searched_and_sent() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    let rows = daemon.query(
        "SELECT [1, 2, 3][2] AS second, array_length(range(0, 1000)) AS length, array_has(make_array(4, 5), 5) AS has, \
         array_sort(array_agg(DISTINCT metric)) AS names FROM (VALUES ('b'), ('a'), ('b')) AS t (metric)",
    );
    assert_eq!(rows[0]["second"].as_i64(), Some(2));
    assert_eq!(rows[0]["length"].as_i64(), Some(1000));
    assert_eq!(rows[0]["has"].as_bool(), Some(true));
    assert_eq!(rows[0]["names"].as_array().map(Vec::len), Some(2));
    daemon.terminate();
}

#[test]
fn workers_are_in_the_background() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    wait_until("a worker is kept warm", || !workers(&daemon).is_empty());
    daemon.query("SELECT 1");
    let own = rustix::process::getpriority_process(None).unwrap();
    for id in workers(&daemon) {
        for task in fs::read_dir(format!("/proc/{id}/task")).unwrap() {
            let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            let fields: Vec<i64> =
                stat.rsplit(") ").next().unwrap().split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
            // proc(5): fields 19 and 41, and here the first is 3.
            assert_eq!(
                (fields[16], fields[38]),
                (i64::from((own + 10).min(19)), 3),
                "niceness and SCHED_BATCH of {stat}"
            );
        }
    }
    daemon.terminate();
}

#[test]
fn limits_hold_whatever_a_statement_does() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    let double = |inner: String, at: i32| format!("SELECT t{at} || t{at} AS t{} FROM ({inner})", at + 1);
    let grown = format!("SELECT length(t40) FROM ({})", (0..40).fold("SELECT 'x' AS t0".to_owned(), double));
    let said = error(&daemon, &grown);
    assert!(said.contains("`query.memory_bytes_max`"), "{said}");
    let said = error(&daemon, "SELECT length(repeat('x', 2000000000))");
    assert!(said.contains("`query.memory_bytes_max`"), "{said}");
    // An error that quotes its value is cut, as it goes to the client in a header.
    for length in [10_000, 1_000_000] {
        let said = error(&daemon, &format!("SELECT CAST(repeat('x', {length}) AS bigint)"));
        assert!(said.contains("xxx") && said.len() < 4_096, "{} bytes: {:.200}", said.len(), said);
    }
    let began = Instant::now();
    let said = error(&daemon, ENDLESS);
    assert!(said.contains("`query.time_max`"), "{said}");
    println!("ended after {:?} of 2 s", began.elapsed());
    // It took a worker along twice more, so it does not run again.
    error(&daemon, &grown);
    error(&daemon, &grown);
    let said = error(&daemon, &grown);
    assert!(said.contains("is refused for"), "{said}");
    assert!(daemon.query("SELECT count(*) AS n FROM network")[0]["n"].as_i64() > Some(0));
    daemon.terminate();
}
