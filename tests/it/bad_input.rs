//! Bad input gets a clear error and the right exit code, and changes nothing.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const FAILURE: i32 = 1;
const USAGE: i32 = 2;
const UNAVAILABLE: i32 = 69;
const CONFIG: i32 = 78;
/// Longer than any of this takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder to run kymo in, and what it may find there.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A configuration file of this text.
    fn file(&self, text: &str) -> &Place {
        fs::write(self.path("k.toml"), text).unwrap();
        self
    }

    /// kymo with nothing in its environment but `variables`.
    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kymo"));
        command.args(arguments).env_clear().envs(variables.iter().copied()).current_dir(self.folder.path());
        command
    }

    fn kymo(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        self.command(arguments, variables).output().unwrap()
    }

    /// Names of what is in the folder.
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Asserts the exit code, that stderr has each of `told`, and that nothing went to stdout.
fn assert_refused(what: &str, output: &Output, code: i32, told: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{what}: {stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{what}");
    for text in told {
        assert!(stderr.contains(text), "{what}: {text:?} is not in {stderr:?}");
    }
    assert!(!stderr.contains("panicked"), "{what}: {stderr}");
}

/// Asserts that `run` and `check` both refuse the file, with the same words, and make nothing.
fn assert_wrong_file(what: &str, text: &str, told: &[&str]) {
    let place = Place::new();
    for command in ["run", "check"] {
        let output = place.file(text).kymo(&[command, "-c", "k.toml"], &[]);
        assert_refused(what, &output, CONFIG, told);
        assert_eq!(place.names(), ["k.toml"], "{what}: {command} made something");
    }
}

#[test]
fn wrong_configuration_files_start_nothing() {
    let collector = "[collector.a]\ninterval = \"1s\"\nmetrics = [\"cpu\"]\n";
    let twice = format!("{collector}[collector.b]\ninterval = \"1s\"\nmetrics = [\"cpu\"]\n");
    for (what, text, told) in [
        ("unknown key", "[storage]\npth = \"x\"\n", &["k.toml:2:1: storage.pth: ", "did you mean `path`?"][..]),
        ("unknown section", "[storge]\n", &["k.toml:1:2: storge: ", "did you mean `storage`?"]),
        ("wrong type", "[storage]\nflush_interval = 30\n", &["k.toml:2:18: storage.flush_interval: ", "\"10s\""]),
        ("no TOML", "[storage\n", &["k.toml:1:", "not valid TOML"]),
        ("a family twice", &twice, &["k.toml:6:12: collector.b.metrics[0]: collector `a` samples `cpu` already"]),
        (
            "a zero interval",
            "[collector.a]\ninterval = \"0s\"\nmetrics = [\"cpu\"]\n",
            &["k.toml:2:12: collector.a.interval: ", "from 1ms to 24h"],
        ),
        (
            "an interval below the kernel's",
            "[collector.a]\ninterval = \"1ms\"\nmetrics = [\"cpu\"]\n",
            &["k.toml:2:12: collector.a.interval: 1ms is too short for `cpu`", "force = true"],
        ),
        (
            "an unknown family",
            "[collector.a]\ninterval = \"1s\"\nmetrics = [\"netwrok\"]\n",
            &["k.toml:3:12: collector.a.metrics[0]: ", "did you mean `network`?"],
        ),
        (
            "an unknown scheduling",
            "[collector.a]\ninterval = \"1s\"\nmetrics = [\"cpu\"]\nscheduling = \"rr\"\n",
            &["k.toml:4:14: collector.a.scheduling: ", "\"other\" or \"fifo\"", "\"rr\""],
        ),
        (
            "a relative root",
            "[host]\nprocfs = \"proc\"\n",
            &["k.toml:2:10: host.procfs: ", "expected an absolute path, found proc"],
        ),
        (
            "a rule over no column",
            "[[alert]]\nname = \"a\"\ntable = \"cpu\"\nwhen = \"usage > 1\"\n",
            &["k.toml:4:8: alert[0].when: ", "usage"],
        ),
        (
            "an unknown condition",
            "[[alert]]\nname = \"a\"\ncondition = \"cpu_above\"\nthreshold = 1\n",
            &["k.toml:3:13: alert[0].condition: ", "cpu_usage_above"],
        ),
        (
            "an unknown notifier",
            "[[alert]]\nname = \"a\"\ncondition = \"load_above\"\nthreshold = 1\nnotify = [\"ops\"]\n",
            &["k.toml:5:11: alert[0].notify[0]: ", "unknown notifier `ops`"],
        ),
        ("no address", "[server]\naddress = \"here\"\n", &["k.toml:2:11: server.address: ", "\"127.0.0.1:50051\""]),
        (
            "an address for everyone",
            "[server]\naddress = \"0.0.0.0:50051\"\n",
            &["k.toml:2:11: server.address: ", "TLS and tokens"],
        ),
        ("a ratio above one", "[tracing]\nsampling_ratio = 2\n", &["k.toml:2:18: tracing.sampling_ratio: "]),
        ("two things", "[storage]\nx = 1\n[server]\ny = 1\n", &["k.toml:2:1: storage.x: ", "k.toml:4:1: server.y: "]),
    ] {
        assert_wrong_file(what, text, told);
    }
}

#[test]
fn wrong_variables_flags_and_missing_files_start_nothing() {
    let place = Place::new();
    for (what, arguments, variables, told) in [
        ("no file", &["run", "-c", "no.toml"][..], &[][..], &["no.toml", "No such file"][..]),
        ("no file in the environment", &["run"], &[("KYMO_CONFIG", "no.toml")], &["no.toml", "No such file"]),
        ("a folder", &["run", "-c", "."], &[], &["read configuration ."]),
        (
            "an unknown variable",
            &["run"],
            &[("KYMO_STORAGE__PTH", "x")],
            &["environment variable KYMO_STORAGE__PTH: storage.pth: ", "did you mean `path`?"],
        ),
        (
            "garbage in a variable",
            &["run"],
            &[("KYMO_STORAGE__FLUSH_INTERVAL", "soon")],
            &["environment variable KYMO_STORAGE__FLUSH_INTERVAL: ", "found \"soon\""],
        ),
        (
            "garbage in a flag",
            &["run", "--address", "8.8.8.8:1"],
            &[],
            &["flag --address: server.address: ", "TLS and tokens"],
        ),
        (
            "garbage in the variable of the flag",
            &["run"],
            &[("KYMO_ADDRESS", "here")],
            &["environment variable KYMO_ADDRESS: server.address: ", "127.0.0.1:50051"],
        ),
    ] {
        assert_refused(what, &place.kymo(arguments, variables), CONFIG, told);
        assert_eq!(place.names(), [""; 0], "{what}");
    }
}

#[test]
fn wrong_arguments_are_told_with_the_usage() {
    let place = Place::new();
    for (what, arguments, told) in [
        ("no command", &[][..], "Usage: kymo"),
        ("an unknown command", &["runn"], "similar subcommand exists: 'run'"),
        ("an unknown format", &["query", "SELECT 1", "--format", "xml"], "[possible values: table, csv"),
        ("two places to ask", &["query", "SELECT 1", "--data", "x", "--address", "y:1"], "cannot be used with"),
        ("nothing to set", &["collector", "set", "burst"], "--interval <INTERVAL>|--metrics <TABLES>|--scheduling"),
        ("no duration", &["collector", "set", "burst", "--interval", "fast"], "expected a duration such as 1ms"),
        ("no table", &["collector", "set", "burst", "--metrics", "cpu,,vm"], "expected names of tables"),
        ("no address", &["status", "--address", "not an address"], "such as 127.0.0.1:50051"),
        ("a flag's former name", &["status", "--addr", "nor this"], "such as 127.0.0.1:50051"),
    ] {
        assert_refused(what, &place.kymo(arguments, &[]), USAGE, &[told]);
    }
    let missing = place.kymo(&["tables", "cpus"], &[]);
    assert_refused("an unknown table", &missing, USAGE, &["unknown table `cpus`; did you mean `cpu`?"]);
}

#[test]
fn a_daemon_that_is_not_there_is_told_in_one_line() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    for arguments in [
        &["query", "SELECT 1"][..],
        &["status"],
        &["flush"],
        &["collector", "list"],
        &["collector", "stop", "burst"],
        &["alert", "list"],
    ] {
        for variable in ["KYMO_ADDRESS", "KYMO_ADDR"] {
            let output = place.kymo(arguments, &[(variable, &address)]);
            assert_refused("no daemon", &output, UNAVAILABLE, &[&address, "is `kymo run` running there?"]);
            assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
        }
    }
    let output = place.kymo(&["status"], &[("KYMO_ADDRESS", "not an address")]);
    assert_refused("no address", &output, USAGE, &["KYMO_ADDRESS: expected HOST:PORT, such as 127.0.0.1:50051"]);
}

#[test]
fn data_folders_that_are_none_are_not_read() {
    let place = Place::new();
    let missing = place.kymo(&["query", "--data", "none", "SELECT 1"], &[]);
    assert_refused("no folder", &missing, FAILURE, &["none holds no recordings"]);
    fs::create_dir_all(place.path("data/lake")).unwrap();
    let beside = place.kymo(&["query", "--data", "data", "SELECT 1"], &[("KYMO_ADDRESS", "elsewhere")]);
    assert!(beside.status.success(), "a variable that names a daemon is no conflict");
    for (what, sql, told) in [
        ("INSERT", "INSERT INTO cpu VALUES (1)", "SELECT"),
        ("an unknown table", "SELECT * FROM cpus", "unknown table `cpus`"),
        ("an unknown column", "SELECT usage FROM cpu", "usage"),
        ("no SQL", "SELEC 1", "SELEC"),
        ("two statements", "SELECT 1; SELECT 2", "2 statements"),
    ] {
        let output = place.kymo(&["query", "--data", "data", "-o", "out.csv", sql], &[]);
        assert_refused(what, &output, FAILURE, &[told]);
        assert_eq!(place.names(), ["data"], "{what}");
    }
}

#[test]
fn roots_without_the_kernels_files_are_named() {
    let place = Place::new();
    place.file("[host]\nprocfs = \"/nowhere/proc\"\n[server]\naddress = \"127.0.0.1:0\"\n");
    let output = place.kymo(&["run", "-c", "k.toml"], &[]);
    assert_refused("no procfs", &output, FAILURE, &["host.procfs", "/nowhere/proc/stat", "No such file"]);
    assert_eq!(place.names(), ["k.toml"]);
}

#[test]
fn a_data_folder_or_port_that_cannot_be_had_is_named() {
    let place = Place::new();
    fs::write(place.path("file"), "mine").unwrap();
    let output = place.kymo(&["run", "--data", "file", "--address", "127.0.0.1:0"], &[]);
    assert_refused("a file as data folder", &output, FAILURE, &["file"]);
    assert_eq!(fs::read_to_string(place.path("file")).unwrap(), "mine");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = place.kymo(&["run", "--address", &address], &[]);
    assert_refused("a port that is taken", &output, FAILURE, &[&address, "the port is taken"]);
}

/// A running daemon; ended when dropped.
struct Daemon {
    process: Child,
    address: String,
}

impl Daemon {
    fn start(place: &Place) -> Daemon {
        // Free now; if another program takes it first, the daemon says so and the test fails with that.
        let free: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = place.command(&["run", "--address", &free.to_string()], &[]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut daemon = Daemon { process, address: free.to_string() };
        let deadline = Instant::now() + PATIENCE;
        while !daemon.ask(place, &["collector", "list"]).status.success() {
            assert!(daemon.process.try_wait().unwrap().is_none(), "the daemon ended");
            assert!(Instant::now() < deadline, "the daemon does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon
    }

    fn ask(&self, place: &Place, arguments: &[&str]) -> Output {
        place.kymo(arguments, &[("KYMO_ADDRESS", &self.address)])
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

#[test]
fn what_a_configuration_leaves_out_is_said() {
    let place = Place::new();
    place.file("[collector.burst]\ninterval = \"1ms\"\nmetrics = [\"network\", \"disk\"]\n");
    // Kubernetes sets such variables for a service named kymo.
    let variables = [("KYMO_PORT", "tcp://10.0.0.7:50051"), ("KYMO_SERVICE_HOST", "10.0.0.7")];
    let checked = place.kymo(&["check", "-c", "k.toml"], &variables);
    let told = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{checked:?}");
    for text in ["not recorded", "cpu", "power", "KYMO_PORT", "KYMO_SERVICE_HOST"] {
        assert!(told.contains(text), "{text:?} is not in {told:?}");
    }
    // The port is taken, so the run ends once it has read its configuration.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = place.kymo(&["run", "-c", "k.toml", "--address", &address], &variables);
    let told = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(FAILURE), "{told}");
    for text in ["no collector of the configuration lists them: cpu, memory, ", "KYMO_PORT, KYMO_SERVICE_HOST"] {
        assert!(told.contains(text), "{text:?} is not in {told:?}");
    }
}

/// Names, intervals and families of the running collectors.
fn collectors(daemon: &Daemon, place: &Place) -> Vec<(String, String)> {
    let output = daemon.ask(place, &["collector", "list", "--format", "json"]);
    let all: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    all.iter().map(|one| (one["name"].to_string(), format!("{} {}", one["interval_us"], one["families"]))).collect()
}

#[test]
fn a_running_daemon_refuses_and_goes_on_as_before() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let before = collectors(&daemon, &place);
    assert_eq!(before.len(), 5);
    let start = |name, interval, metrics| ["collector", "start", name, "--interval", interval, "--metrics", metrics];
    for (what, arguments, told) in [
        ("INSERT", &["query", "INSERT INTO cpu VALUES (1)"][..], "SELECT"),
        ("COPY", &["query", "COPY cpu TO 'x.csv'"], "SELECT"),
        ("a query for an unknown table", &["query", "SELECT * FROM cpus"], "unknown table `cpus`"),
        ("a query for an unknown column", &["query", "SELECT usage FROM cpu"], "usage"),
        ("a collector with a bad name", &start("A b", "1s", "cpu"), "a-z"),
        ("a collector that exists", &start("burst", "1s", "cpu"), "burst"),
        ("a collector of a family that is taken", &start("quick", "1s", "cpu"), "system"),
        (
            "a collector of an unknown family",
            &start("quick", "1s", "cpus"),
            "kymo: --metrics: unknown table `cpus`; did you mean `cpu`?",
        ),
        ("a collector without an interval", &start("quick", "0s", "cpu"), "kymo: --interval: the interval must be"),
        (
            "changing to less than the kernel's interval",
            &["collector", "set", "system", "--interval", "1ms"],
            "kymo: --interval: 1ms is too short for `cpu`, whose minimum is 10ms",
        ),
        (
            "changing to less than the kernel's interval, which names the flag that allows it",
            &["collector", "set", "system", "--interval", "1ms"],
            "; --force allows a shorter interval",
        ),
        ("retuning what does not run", &["collector", "set", "none", "--interval", "1s"], "none"),
        ("stopping what does not run", &["collector", "stop", "none"], "none"),
    ] {
        assert_refused(what, &daemon.ask(&place, arguments), FAILURE, &[told]);
        assert_eq!(collectors(&daemon, &place), before, "{what}");
    }

    let second = place.kymo(&["run", "--address", "127.0.0.1:0"], &[]);
    assert_refused("a second daemon on one data folder", &second, FAILURE, &["in use by a kymo daemon"]);
    assert_foreign_files_are_left_alone(&daemon, &place);
}

fn assert_foreign_files_are_left_alone(daemon: &Daemon, place: &Place) {
    assert!(daemon.ask(place, &["flush"]).status.success());
    let folder = first_folder_of(&place.path("data/lake/cpu"));
    fs::write(folder.join("foreign.parquet"), "not Parquet").unwrap();
    let offline = place.kymo(&["query", "--data", "data", "--format", "csv", "SELECT count(*) > 0 FROM cpu"], &[]);
    let stderr = String::from_utf8_lossy(&offline.stderr);
    assert!(stderr.contains("foreign.parquet"), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&offline.stdout).lines().nth(1), Some("true"), "{stderr}");
    assert_eq!(fs::read(folder.join("foreign.parquet")).unwrap(), b"not Parquet");
}

/// The folder with files below `folder`.
fn first_folder_of(folder: &Path) -> PathBuf {
    let first = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    if first.is_dir() { first_folder_of(&first) } else { folder.to_owned() }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    for arguments in [&["tables"][..], &["check"], &["tables", "cpu"]] {
        let mut command = place.command(arguments, &[]);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}
