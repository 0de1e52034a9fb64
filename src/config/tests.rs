//! Every kind of wrong configuration has its error, with its place; the defaults are right.

use std::path::PathBuf;

use super::*;

/// What a file of this text and `more` sources give.
fn loaded(text: &str, more: Sources) -> Result<Settings, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k.toml");
    std::fs::write(&path, text).unwrap();
    load(&Sources { file: Some(path), ..more })
}

/// What is wrong with a file of this text, one line each, without the file's name.
fn problems(text: &str) -> Vec<String> {
    let lines = lines(loaded(text, Sources::default()));
    lines.iter().map(|line| line.split_once("/k.toml:").map_or(line.as_str(), |(_, told)| told).to_owned()).collect()
}

fn lines(loaded: Result<Settings, ConfigError>) -> Vec<String> {
    match loaded {
        Ok(_) => Vec::new(),
        Err(ConfigError::Wrong(problems)) => problems.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// The only problem of a file, which must begin and go on as said.
fn assert_problem(text: &str, begins: &str, contains: &str) {
    let problems = problems(text);
    assert!(
        problems.len() == 1 && problems[0].starts_with(begins) && problems[0].contains(contains),
        "{text:?} gave {problems:#?}, not {begins:?} … {contains:?}"
    );
}

fn from_environment(variables: &[(&str, &str)], flags: &[Flag]) -> Result<Settings, ConfigError> {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
    load(&Sources { variables, flags: flags.to_vec(), ..Sources::default() })
}

#[test]
fn the_default_configuration_is_what_the_code_takes_by_default() {
    let settings = load(&Sources::default()).unwrap();
    let families = |one: &CollectorSettings| one.families.iter().map(|family| family.name()).collect::<Vec<_>>();
    let collectors = settings.collectors.iter().map(|one| (one.name.as_str(), one.interval, families(one)));
    let ms = Duration::from_millis;
    assert_eq!(
        collectors.collect::<Vec<_>>(),
        [
            ("burst", ms(1), vec!["network", "disk"]),
            ("system", ms(10), vec!["cpu"]),
            ("kernel", ms(100), vec!["memory", "pressure", "vm", "tcp", "ip", "softnet", "softirq"]),
            ("slow", ms(1000), vec!["host", "interrupt", "process", "process_state", "cgroup", "sensor", "power"]),
            ("mounts", ms(1000), vec!["filesystem"]),
        ]
    );
    assert_eq!(settings.query, QuerySettings::default());
    assert_eq!(settings.serve, ServeSettings::at(crate::serve::DEFAULT_ADDRESS.parse().unwrap()));
    assert_eq!(settings.store.path, PathBuf::from("data"));
    assert_eq!(settings.store.host, "");
    assert_eq!((settings.flush_interval, settings.drain_interval), (ms(60_000), ms(200)));
    assert_eq!((settings.tracing.endpoint, settings.metrics.endpoint), (None, None));
    assert!(settings.notifiers.is_empty() && settings.rules.len() == 3);
}

#[test]
fn the_default_configuration_as_a_file_gives_the_same() {
    assert_eq!(problems(DEFAULT), [""; 0]);
}

#[test]
fn commented_out_examples_in_the_default_configuration_are_right() {
    let start = DEFAULT.find("# [notifier.ops]").unwrap();
    let end = start + DEFAULT[start..].find("# ---").unwrap();
    let example =
        DEFAULT[start..end].lines().map(|line| line.strip_prefix("# ").unwrap_or("")).collect::<Vec<_>>().join("\n");
    let when = "when = \"interface = 'eth0' AND rate(rx_dropped) > 100\"";
    assert!(DEFAULT.contains(when));
    let rule = format!("\n[[alert]]\nname = 'drops'\ntable = 'network'\n{when}\nnotify = ['ops']");
    assert_eq!(problems(&(example + &rule)), [""; 0]);
}

#[test]
fn files_replace_lists_of_things_and_add_to_sections() {
    let text = "[collector.mine]\ninterval = '1s'\nmetrics = ['cpu']\n[storage]\nflush_interval = '5s'\n";
    let settings = loaded(text, Sources::default()).unwrap();
    assert_eq!(settings.collectors.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["mine"]);
    assert_eq!(settings.flush_interval, Duration::from_secs(5));
    assert_eq!(settings.drain_interval, Duration::from_millis(200));
    assert_eq!(settings.rules.len(), 3);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let variable = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
    let more = Sources {
        variables: vec![
            variable("KYMO_STORAGE__PATH", "variable"),
            variable("KYMO_STORAGE__HOST", "12"),
            variable("KYMO_STORAGE__RETENTION_BYTES", "1GiB"),
            variable("KYMO_CONFIG", "ignored"),
            variable("OTHER_STORAGE__PATH", "ignored"),
        ],
        flags: vec![Flag { name: "--data", key: "storage.path", value: "flag".to_owned() }],
        ..Sources::default()
    };
    let settings = loaded("[storage]\npath = 'file'\nhost = 'file'\nretention_days = 1\n", more).unwrap();
    assert_eq!(settings.store.path, PathBuf::from("flag"));
    assert_eq!(settings.store.host, "12");
    assert_eq!(settings.store.retention_age_max, Some(Duration::from_secs(86_400)));
    assert_eq!(settings.store.retention_bytes_max, Some(1 << 30));
}

#[test]
fn zero_and_empty_stand_for_without() {
    let settings = from_environment(
        &[
            ("KYMO_STORAGE__RETENTION_DAYS", "0"),
            ("KYMO_STORAGE__RETENTION_DAYS_1S", "0"),
            ("KYMO_STORAGE__RETENTION_BYTES", "0"),
            ("KYMO_QUERY__ROWS_MAX", "0"),
        ],
        &[],
    )
    .unwrap();
    assert_eq!((settings.store.retention_age_max, settings.store.retention_bytes_max), (None, None));
    let two_years = Some(Duration::from_hours(730 * 24));
    assert_eq!(settings.store.retention_tier_ages_max, [None, two_years]);
    assert_eq!(settings.query.rows_max, None);
}

#[test]
fn unknown_keys_are_refused_wherever_they_stand() {
    assert_problem("[storge]\n", "1:2: storge: ", "unknown key `storge`; did you mean `storage`?");
    assert_problem("[storage]\npth = 'x'\n", "2:1: storage.pth: ", "did you mean `path`?");
    let told = "unknown key `port`; there is `tokens`, `tls`, `address`, `socket`, `socket_mode`, `connections_max`";
    assert_problem("[server]\nport = 1\n", "2:1: server.port: ", told);
    let collector = "[collector.a]\ninterval = '1s'\nmetrics = ['cpu']\nforced = true\n";
    assert_problem(collector, "4:1: collector.a.forced: ", "did you mean `force`?");
    let rule = "[[alert]]\nname = 'a'\ncondition = 'cpu_usage_above'\nthreshold = 1\nfro = '1s'\n";
    assert_problem(rule, "5:1: alert[0].fro: ", "did you mean `for`?");
    let notifier = "[notifier.a]\nurl = 'http://localhost/'\nurls = 1\n";
    assert_problem(notifier, "3:1: notifier.a.urls: ", "did you mean `url`?");
}

#[test]
fn values_of_the_wrong_kind_or_out_of_bounds_are_refused() {
    assert_problem("storage = 1\n", "1:11: storage: ", "expected a table, found an integer");
    assert_problem("[alert]\nname = 'a'\n", "1:1: alert: ", "expected a list of tables");
    assert_problem("[storage]\npath = 1\n", "2:8: storage.path: ", "expected text, found the integer 1");
    assert_problem("[storage]\npath = ''\n", "2:8: storage.path: ", "must not be empty");
    let told = "a duration as text, such as \"10s\"";
    assert_problem("[storage]\nflush_interval = 30\n", "2:18: storage.flush_interval: ", told);
    assert_problem("[storage]\nhot_bytes_max = '64 MB/s'\n", "2:17: storage.hot_bytes_max: ", "expected a size");
    assert_problem("[query]\nconcurrent_max = 1.5\n", "2:18: query.concurrent_max: ", "found the float 1.5");
    assert_problem("[storage]\ndrain_interval = '0s'\n", "2:18: storage.drain_interval: ", "a duration from 1ms to 1s");
    assert_problem("[storage]\nflush_interval = '2d'\n", "2:18: storage.flush_interval: ", "a duration from 1s to 24h");
    assert_problem("[storage]\nretention_days = -1\n", "2:18: storage.retention_days: ", "an integer from 0 to 36500");
    let long = format!("[storage]\nhost = '{}'\n", "ü".repeat(42));
    assert_problem(&long, "2:8: storage.host: ", "counts three times");
    assert_problem("[storage]\nhost = \"a\\u0007\"\n", "2:8: storage.host: ", "without control characters");
    let told = "a size from 1.0 MiB to 1.0 TiB";
    assert_problem("[query]\nmemory_bytes_max = '1KiB'\n", "2:20: query.memory_bytes_max: ", told);
    assert_problem("[tracing]\nsampling_ratio = 1.5\n", "2:18: tracing.sampling_ratio: ", "a ratio between 0 and 1");
}

#[test]
fn addresses_are_checked() {
    let wanted = "an IP address and a port, such as \"127.0.0.1:50051\"";
    assert_problem("[server]\naddress = 'localhost:50051'\n", "2:11: server.address: ", wanted);
    assert_problem("[server]\naddress = '127.0.0.1'\n", "2:11: server.address: ", wanted);
    let everywhere = "[server]\naddress = '0.0.0.0:50051'\n";
    assert_problem(everywhere, "2:11: server.address: ", "so it needs TLS and tokens: set server.tls.certificate");
    assert_problem(everywhere, "2:11: server.address: ", "or write \"127.0.0.1:50051\"");
    assert_problem("[http]\naddress = '[::]:9464'\n", "2:11: http.address: ", "so it needs TLS and tokens");
    let half = "[server]\naddress = '0.0.0.0:50051'\ntokens = 't'\n";
    assert_problem(half, "2:11: server.address: ", "server.tls.certificate");
    assert_problem("[server.tls]\nkey = 'k'\n", "2:7: server.tls.key: ", "needs `certificate`");
    assert_problem("[server.tls]\ncertificate = 'c'\n", "2:15: server.tls.certificate: ", "needs `key`");
    assert_problem("[server.tls]\nclient_ca = 'c'\n", "2:13: server.tls.client_ca: ", "needs `certificate` and `key`");
    assert_problem("[tracing]\nendpoint = 'localhost'\n", "2:12: tracing.endpoint: ", "http://127.0.0.1:4317");
    assert_problem("[metrics]\nendpoint = 'https://h:4317'\n", "2:12: metrics.endpoint: ", "http://");
    assert_problem("[notifier.a]\nurl = 'ftp://h/'\n", "2:7: notifier.a.url: ", "http");
}

#[test]
fn pinned_processes_are_names_and_ids() {
    assert_eq!(problems("[process]\npinned = ['sshd', 4711]\n"), [""; 0]);
    assert_problem("[process]\npinned = 'sshd'\n", "2:10: process.pinned: ", "a list of names and ids");
    assert_problem("[process]\npinned = [true]\n", "2:10: process.pinned: ", "[\"sshd\", 4711]");
    assert_problem("[process]\npinned = [0]\n", "2:10: process.pinned: ", "from 1 to 4194304");
    assert_problem("[process]\ntop_by_cpu = 101\n", "2:14: process.top_by_cpu: ", "100");
}

#[test]
fn collectors_are_checked_against_each_other_and_the_kernel() {
    let collector = |lines: &str| format!("[collector.a]\n{lines}\n");
    assert_problem(&collector("interval = '0s'\nmetrics = ['cpu']"), "2:12: collector.a.interval: ", "from 1ms to 24h");
    assert_problem(&collector("metrics = ['cpu']"), "1:1: collector.a.interval: ", "is missing");
    assert_problem(&collector("interval = '1s'\nmetrics = []"), "3:11: collector.a.metrics: ", "at least one table");
    let unknown = collector("interval = '1s'\nmetrics = ['network', 'cpus']");
    assert_problem(&unknown, "3:23: collector.a.metrics[1]: ", "unknown table `cpus`; did you mean `cpu`?");
    let fast = "interval = '1ms'\nmetrics = ['cpu']";
    assert_problem(&collector(fast), "2:12: collector.a.interval: ", "force = true");
    assert_eq!(problems(&collector(&format!("{fast}\nforce = true"))), [""; 0]);
    let slow = "interval = '1s'\nmetrics";
    let twice = format!("[collector.a]\n{slow} = ['cpu']\n[collector.b]\n{slow} = ['network', 'cpu']\n");
    assert_problem(&twice, "6:23: collector.b.metrics[1]: ", "collector `a` samples `cpu` already");
    let misnamed = "[collector.'A b']\ninterval = '1s'\nmetrics = ['cpu']\n";
    assert_problem(misnamed, "1:12: collector.A b: ", "use 1 to 64 characters of a-z");
}

#[test]
fn rules_are_compiled_and_their_notifiers_known() {
    let rule = |lines: &str| format!("[[alert]]\nname = 'a'\n{lines}\n");
    assert_problem("[[alert]]\ncondition = 'cpu_usage_above'\nthreshold = 1\n", "1:1: alert[0].name: ", "is missing");
    assert_problem(&rule("table = 'cpu'\nwhen = 'utilisation > 1'"), "4:8: alert[0].when: ", "utilization");
    assert_problem(&rule("table = 'cpu'\nwhen = 'utilization >'"), "4:8: alert[0].when: ", "");
    assert_problem(&rule("condition = 'cpu_above'\nthreshold = 1"), "3:13: alert[0].condition: ", "cpu_usage_above");
    assert_problem(&rule("condition = 'cpu_usage_above'"), "1:1: alert[0].threshold: ", "is missing");
    assert_problem(&rule("condition = 'cpu_usage_above'\nthreshold = 150"), "4:13: alert[0].threshold: ", "below 100");
    let right = "condition = 'cpu_usage_above'\nthreshold = 50\n";
    assert_problem(&rule(&format!("{right}message = '{{none}}'")), "5:11: alert[0].message: ", "none");
    assert_problem(&rule(&format!("{right}for = '8d'")), "5:7: alert[0].for: ", "from 0s to 168h");
    let found = "expected \"resolve\", \"keep\" or \"fire\", found \"never\"";
    assert_problem(&rule(&format!("{right}absent = 'never'")), "5:10: alert[0].absent: ", found);
    assert_problem(&rule(&format!("{right}absent_after = '0s'")), "5:16: alert[0].absent_after: ", "from 1s to 168h");
    let notify = rule(&format!("{right}notify = ['log', 'ops']"));
    assert_problem(&notify, "5:18: alert[0].notify[1]: ", "unknown notifier `ops`; there is `log`");
    assert_problem(&(rule(right) + &rule(right)), "7:8: alert[1].name: ", "is taken by an earlier rule");
    assert_problem("[notifier.log]\nurl = 'http://localhost/'\n", "1:11: notifier.log: ", "built-in");
}

#[test]
fn everything_that_is_wrong_is_told_from_top_to_bottom() {
    let text = "[storage]\npth = 'x'\nflush_interval = 1\n[server]\naddress = 'x'\n[log]\nfilter = 'kymo=loud'\n";
    let begins: Vec<_> =
        problems(text).iter().map(|problem| problem.split(": ").take(2).collect::<Vec<_>>().join(": ")).collect();
    assert_eq!(
        begins,
        ["2:1: storage.pth", "3:18: storage.flush_interval", "5:11: server.address", "7:10: log.filter"]
    );
}

#[test]
fn wrong_variables_and_flags_are_named() {
    let told = |variables: &[(&str, &str)], flags: &[Flag]| lines(from_environment(variables, flags)).join("\n");
    let unknown = told(&[("KYMO_STORAGE__PTH", "x")], &[]);
    assert_eq!(unknown, "environment variable KYMO_STORAGE__PTH: storage.pth: unknown key `pth`; did you mean `path`?");
    let wrong = told(&[("KYMO_SERVER__ADDRESS", "here")], &[]);
    let begins = "environment variable KYMO_SERVER__ADDRESS: server.address: expected an IP address";
    assert!(wrong.starts_with(begins), "{wrong}");
    let wrong = told(&[("KYMO_STORAGE", "x")], &[]);
    assert!(wrong.starts_with("environment variable KYMO_STORAGE: storage: expected a table, found text"), "{wrong}");
    let flag = Flag { name: "--address", key: "server.address", value: "8.8.8.8:1".to_owned() };
    let wrong = told(&[], &[flag]);
    assert!(wrong.starts_with("flag --address: server.address: 8.8.8.8:1: other hosts can reach"), "{wrong}");
}

#[test]
fn variables_that_name_no_key_are_ignored() {
    // What Kubernetes sets for services named kymo and kymo-server.
    let variables = [
        ("KYMO_SERVER_PORT", "tcp://10.0.0.8:50051"),
        ("KYMO_SERVER_SERVICE_HOST", "10.0.0.8"),
        ("KYMO_SERVICE_HOST", "10.0.0.7"),
        ("KYMO_SERVICE_PORT_GRPC", "50051"),
        ("KYMO_PORT", "tcp://10.0.0.7:50051"),
        ("KYMO_PORT_50051_TCP_ADDR", "10.0.0.7"),
        ("KYMO_CONFIG", "k.toml"),
        ("KYMO_STORAGE__HOST", "alpha"),
    ];
    let settings = from_environment(&variables, &[]).unwrap();
    let ignored = [
        "KYMO_PORT",
        "KYMO_PORT_50051_TCP_ADDR",
        "KYMO_SERVER_PORT",
        "KYMO_SERVER_SERVICE_HOST",
        "KYMO_SERVICE_HOST",
        "KYMO_SERVICE_PORT_GRPC",
    ];
    assert_eq!(settings.ignored_variables, ignored);
    assert_eq!(settings.store.host, "alpha");
}

#[test]
fn mistyped_variables_are_refused() {
    let told = |name| lines(from_environment(&[(name, "1s")], &[])).join("\n");
    assert_eq!(
        told("KYMO_STORAGE_FLUSH_INTERVAL"),
        "environment variable KYMO_STORAGE_FLUSH_INTERVAL: storage.flush_interval: unknown variable; did you mean \
         KYMO_STORAGE__FLUSH_INTERVAL, with two underscores for the dot?"
    );
    assert!(told("KYMO_COLLECTOR_BURST_INTERVAL").contains("did you mean KYMO_COLLECTOR__BURST__INTERVAL"));
    assert!(told("KYMO_STORGE__PATH").contains("unknown key `storge`; did you mean `storage`?"));
}

#[test]
fn families_that_no_collector_lists_are_known() {
    let unrecorded = |text: &str| {
        let settings = loaded(text, Sources::default()).unwrap();
        settings.unrecorded().iter().map(|family| family.name()).collect::<Vec<_>>()
    };
    assert_eq!(unrecorded(""), [""; 0]);
    let burst = "[collector.burst]\ninterval = '1ms'\nmetrics = ['network', 'disk']\n";
    let left_out = unrecorded(burst);
    assert_eq!((left_out.len(), left_out[0], left_out[15]), (16, "cpu", "power"));
}

#[test]
fn a_log_filter_has_levels() {
    for filter in ["off", "INFO", "warn,kymo::store=debug", "info,[query{rows}]=trace", ""] {
        assert_eq!(problems(&format!("[log]\nfilter = '{filter}'\n")), [""; 0], "{filter}");
    }
    let told = "\"loud\" is not a level; expected a level (off, error, warn, info, debug, trace)";
    assert_problem("[log]\nfilter = 'loud'\n", "2:10: log.filter: ", told);
    assert_problem("[log]\nfilter = 'warn,loud'\n", "2:10: log.filter: ", told);
    assert_problem("[log]\nfilter = 'kymo=loud'\n", "2:10: log.filter: ", "kymo::store=debug");
    assert_problem("[log]\nformat = 'xml'\n", "2:10: log.format: ", "expected \"text\" or \"json\"");
}

#[test]
fn a_variable_that_is_no_text_is_named() {
    use std::os::unix::ffi::OsStringExt;
    let variables = vec![(OsString::from("KYMO_STORAGE__PATH"), OsString::from_vec(vec![0xff]))];
    let told = lines(load(&Sources { variables, ..Sources::default() }));
    assert_eq!(told, ["environment variable KYMO_STORAGE__PATH: storage.path: is not valid UTF-8"]);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let file = Some(PathBuf::from("/nowhere/k.toml"));
    let told = lines(load(&Sources { file, ..Sources::default() }));
    assert_eq!(told, ["read configuration /nowhere/k.toml: No such file or directory (os error 2)"]);
    let file = Some(PathBuf::from("/dev/zero"));
    let told = lines(load(&Sources { file, ..Sources::default() }));
    assert!(told[0].contains("larger than"), "{told:?}");
    let told = problems("[storage\n");
    assert!(told[0].starts_with("1:") && told[0].contains("not valid TOML"), "{told:?}");
}

#[test]
fn what_is_left_out_by_default_are_loop_and_ram_devices_and_the_interfaces_of_containers() {
    let filters = load(&Sources::default()).unwrap().context.filters;
    let interfaces = ["eth0", "lo", "docker0", "lxcbr0", "veth1a2b3c4", "cali0123456789a", "lxc0a1b2c3d4e5f"];
    assert_eq!(interfaces.map(|name| filters.network.takes(name)), [true, true, true, true, false, false, false]);
    let disks = ["sda", "nvme0n1p1", "dm-0", "zram0", "loop7", "ram15"];
    assert_eq!(disks.map(|name| filters.disk.takes(name)), [true, true, true, true, false, false]);
    assert!(filters.filesystem.takes_all() && filters.cgroup.takes_all() && filters.sensor.takes_all());
}

#[test]
fn what_is_no_pattern_is_named_with_its_place() {
    assert_problem("[network]\nexclude = [\"a\", \"x[\"]\n", "2:17: network.exclude[1]: ", "a `[` has no `]`");
    assert_problem("[cgroup]\ninclude = [\"/a/**b\"]\n", "2:12: cgroup.include[0]: ", "write `*`");
    assert_problem("[disk]\ninclude = \"loop*\"\n", "2:11: disk.include: ", "expected a list of patterns");
    assert_problem("[sensor]\nexcept = []\n", "2:1: sensor.except: ", "there is `include`, `exclude`");
    assert_problem("[host]\nrootfs = \"host\"\n", "2:10: host.rootfs: ", "expected an absolute path");
}

#[test]
fn views_are_queries_that_can_be_planned() {
    let settings = loaded(
        "[view.late]\nsql = \"SELECT * FROM early\"\n[view.early]\nsql = \"SELECT 1 AS x\"\n",
        Sources::default(),
    );
    let views = settings.unwrap().views;
    assert_eq!(views.iter().map(|view| view.name.as_str()).collect::<Vec<_>>(), ["late", "early"]);
    assert_problem("[view.late]\nsql = \"SELECT nope FROM cpu\"\n", "2:7: view.late.sql: ", "nope");
    assert_problem("[view.cpu]\nsql = \"SELECT 1 AS x\"\n", "1:", "view.cpu: the name hides the table `cpu`");
    assert_problem("[view.late]\ndoc = \"x\"\n", "1:", "view.late.sql: is missing");
    assert_problem(
        "[view.late]\nsql = \"SELECT 1 AS x\"\ndocs = \"x\"\n",
        "3:1: view.late.docs: ",
        "did you mean `doc`?",
    );
    let circle = problems(
        "[view.a]\nsql = \"SELECT * FROM b\"\n[view.b]\nsql = \"SELECT * FROM a\"\n[view.c]\nsql = \"SELECT * FROM a\"\n",
    );
    assert_eq!(
        circle,
        ["2:7: view.a.sql: it uses itself: a → b → a", "4:7: view.b.sql: it uses itself: b → a → b"],
        "and `c` is right"
    );
    let many: Vec<_> = (0..65).map(|number| format!("[view.v{number}]\nsql = \"SELECT 1 AS x\"\n")).collect();
    let many = many.concat();
    assert_problem(&many, "129:", "at most 64");
}
