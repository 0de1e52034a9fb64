//! Tokens and TLS, as users see them.

mod certificates;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::running::{Daemon, PATIENCE, command};
use certificates::{Authority, Pair};

const SMALL: &str = "[collector.slow]\ninterval = '1s'\nmetrics = ['memory', 'cpu']\n";
/// No certificate of a test ends before.
const LATE: i32 = 2090;

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_owned()).unwrap()
}

/// What the program prints, which must succeed.
fn told(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Why the program fails, and its exit code.
fn refused(arguments: &[&str]) -> (String, i32) {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?}: {}", text(&output.stdout));
    (text(&output.stderr), output.status.code().unwrap())
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(100));
    }
}

/// A token, in a file that its client has.
fn token(folder: &Path, name: &str, role: &str) -> String {
    let tokens = folder.join("tokens.toml");
    let made = told(&["token", "create", name, "--role", role, "--file", tokens.to_str().unwrap()]);
    let file = folder.join(format!("{name}.token"));
    fs::write(&file, &made).unwrap();
    assert!(made.starts_with("kymo_") && made.trim().len() == 48, "{made}");
    file.to_str().unwrap().to_owned()
}

#[test]
fn tokens_say_who_may_read_and_who_may_change() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens.toml");
    let tokens = tokens.to_str().unwrap();
    let (reader, admin) = (token(folder.path(), "grafana", "read"), token(folder.path(), "ops", "admin"));
    let socket = folder.path().join("kymo.sock");
    let config = format!("{SMALL}[server]\ntokens = '{tokens}'\nsocket = '{}'\n", socket.display());
    let daemon = Daemon::start(folder.path(), &config);
    let at = |words: &[&str]| -> Vec<String> {
        let address = ["--address", &daemon.address];
        words.iter().chain(&address).map(|word| (*word).to_owned()).collect()
    };
    let told_at = |words: &[&str]| told(&at(words).iter().map(String::as_str).collect::<Vec<_>>());
    let refused_at = |words: &[&str]| refused(&at(words).iter().map(String::as_str).collect::<Vec<_>>()).0;

    for words in [&["status"][..], &["query", "SELECT 1"], &["alert", "list"], &["flush"]] {
        let error = refused_at(words);
        assert!(error.contains("asks for a token") && error.contains("--token-file"), "{words:?}: {error}");
    }
    let stop = ["collector", "stop", "slow", "--token-file"];
    assert!(told_at(&["query", "SELECT 1 AS one", "--token-file", &reader]).contains("one"));
    told_at(&["collector", "list", "--token-file", &reader]);
    for words in [&stop[..], &["flush", "--token-file"]] {
        let error = refused_at(&[words, &[reader.as_str()]].concat());
        assert!(error.contains("role `admin`"), "{error}");
    }
    told_at(&["flush", "--token-file", &admin]);
    // On the socket, our own user needs none.
    told(&["collector", "stop", "slow", "--address", &format!("unix:{}", socket.display())]);

    told(&["token", "revoke", "grafana", "--file", tokens]);
    until("a revoked token is refused", || {
        !run(&["collector", "list", "--address", &daemon.address, "--token-file", &reader]).status.success()
    });
    assert!(refused_at(&["status", "--token-file", &reader]).contains("may have been revoked"));
    told_at(&["collector", "list", "--token-file", &admin]);
    let listed = told(&["token", "list", "--file", tokens]);
    assert!(listed.contains("ops") && !listed.contains("grafana") && !listed.contains("kymo_"), "{listed}");

    for line in [
        "token grafana from 127.0.0.1:",
        "/kymo.v1.MetricsService/ControlCollector: denied",
        "token ops from 127.0.0.1:",
    ] {
        daemon.wait_for_log(line);
    }
    daemon.wait_for_log("stop collector \"slow\": done");
    assert!(!daemon.has_logged("kymo_"), "a token is in the log");
}

#[test]
fn a_file_of_tokens_that_others_may_read_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    token(folder.path(), "ops", "admin");
    let (tokens, config) = (folder.path().join("tokens.toml"), folder.path().join("kymo.toml"));
    fs::write(&config, format!("[server]\ntokens = '{}'\n", tokens.display())).unwrap();
    fs::set_permissions(&tokens, Permissions::from_mode(0o644)).unwrap();
    let data = folder.path().join("data");
    let start = ["run", "-c", config.to_str().unwrap(), "--address", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    let (error, _) = refused(&start);
    assert!(error.contains("server.tokens: ") && error.contains("chmod 600"), "{error}");
    fs::remove_file(&tokens).unwrap();
    let (error, _) = refused(&start);
    assert!(error.contains("kymo token create NAME"), "{error}");
    assert!(!data.exists());
}

/// A daemon that speaks TLS with this certificate.
fn secure(folder: &Path, Pair { certificate, key }: &Pair, more: &str) -> Daemon {
    let tls = format!("[server.tls]\ncertificate = '{certificate}'\nkey = '{key}'\n{more}");
    let daemon = Daemon::start(folder, &format!("{SMALL}{tls}"));
    assert!(daemon.address.starts_with("grpc+tls://127.0.0.1:"), "{}", daemon.address);
    daemon
}

#[test]
fn each_way_in_which_tls_fails_has_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (Authority::new(folder.path(), "own"), Authority::new(folder.path(), "other"));
    let daemon = secure(folder.path(), &own.sign("server", "127.0.0.1", LATE), "");
    let query = |address: &str, more: &[&str]| -> Vec<String> {
        let words = ["query", "SELECT 1 AS one", "--address", address];
        words.iter().chain(more).map(|word| (*word).to_owned()).collect()
    };
    let asked =
        |address: &str, more: &[&str]| told(&query(address, more).iter().map(String::as_str).collect::<Vec<_>>());
    let error =
        |address: &str, more: &[&str]| refused(&query(address, more).iter().map(String::as_str).collect::<Vec<_>>()).0;
    assert!(asked(&daemon.address, &["--ca", &own.file]).contains("one"));
    let unknown = error(&daemon.address, &[]);
    assert!(unknown.contains("an authority that is not known here") && unknown.contains("--ca FILE"), "{unknown}");
    assert!(error(&daemon.address, &["--ca", &other.file]).contains("not known here"));
    let place = daemon.address.strip_prefix("grpc+tls://").unwrap();
    let plain = error(place, &[]);
    assert!(plain.contains(&format!("it speaks TLS: write --address https://{place}")), "{plain}");
    let name = error(&daemon.address.replace("127.0.0.1", "localhost"), &["--ca", &own.file]);
    assert!(name.contains("for another name"), "{name}");
    drop(daemon);

    let daemon = secure(folder.path(), &own.sign("server", "127.0.0.1", 2021), "");
    let expired = error(&daemon.address, &["--ca", &own.file]);
    assert!(expired.contains("has expired"), "{expired}");
    drop(daemon);

    let daemon = Daemon::start(folder.path(), SMALL);
    let plain = daemon.address.replace("grpc://", "https://");
    assert!(error(&plain, &["--ca", &own.file]).contains("does not speak TLS: write http://"));
}

#[test]
fn clients_without_a_certificate_are_refused_where_one_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (Authority::new(folder.path(), "own"), Authority::new(folder.path(), "other"));
    let server = own.sign("server", "127.0.0.1", LATE);
    let daemon = secure(folder.path(), &server, &format!("client_ca = '{}'\n", own.file));
    let status = ["collector", "list", "--address", &daemon.address, "--ca", &own.file];
    let (without, _) = refused(&status);
    assert!(without.contains("asks for a certificate of the client"), "{without}");
    let showing = |Pair { certificate, key }: &Pair| {
        let shown = ["--certificate", certificate, "--key", key];
        run(&status.iter().copied().chain(shown).collect::<Vec<_>>())
    };
    let refused = text(&showing(&other.sign("stranger", "client", LATE)).stderr);
    assert!(refused.contains("does not accept the certificate of the client"), "{refused}");
    let accepted = showing(&own.sign("client", "client", LATE));
    assert!(accepted.status.success(), "{}", text(&accepted.stderr));
}

#[test]
fn new_certificates_are_used_and_wrong_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Authority::new(folder.path(), "first"), Authority::new(folder.path(), "second"));
    let server = first.sign("server", "127.0.0.1", LATE);
    let daemon = secure(folder.path(), &server, "");
    let trusts = |authority: &Authority| {
        run(&["collector", "list", "--address", &daemon.address, "--ca", &authority.file]).status.success()
    };
    assert!(trusts(&first) && !trusts(&second));
    second.sign("server", "127.0.0.1", LATE);
    until("the new certificate is used", || trusts(&second));
    fs::write(&server.certificate, "nonsense").unwrap();
    daemon.wait_for_log("the certificate that was read before stays in use");
    assert!(trusts(&second));
}

#[test]
fn other_hosts_are_let_in_with_tls_and_tokens_only() {
    let folder = tempfile::tempdir().unwrap();
    let Pair { certificate, key } = Authority::new(folder.path(), "own").sign("server", "127.0.0.1", LATE);
    token(folder.path(), "ops", "admin");
    let config = folder.path().join("kymo.toml");
    let tokens = format!("tokens = '{}'\n", folder.path().join("tokens.toml").display());
    let tls = format!("[server.tls]\ncertificate = '{certificate}'\nkey = '{key}'\n");
    let check = |server: &str, tls: &str, rest: &str| {
        fs::write(&config, format!("[server]\n{server}{tls}{rest}")).unwrap();
        command(&["check", "-c", config.to_str().unwrap()]).env_remove("KYMO_HTTP__ADDRESS").output().unwrap()
    };
    let open = "address = '0.0.0.0:50051'\n";
    for (server, tls) in [(open.to_owned(), ""), (format!("{open}{tokens}"), ""), (open.to_owned(), tls.as_str())] {
        let error = text(&check(&server, tls, "").stderr);
        let how = "0.0.0.0:50051: other hosts can reach this address, so it needs TLS and tokens: set server.tls.certificate, \
                   server.tls.key and server.tokens (`kymo token create NAME --role read --file FILE` makes the file and a token)";
        assert!(error.contains(how), "{error}");
    }
    let http = "[http]\naddress = '[::]:9464'\n";
    let error = text(&check("", "", http).stderr);
    assert!(error.contains("http.address: [::]:9464: other hosts can reach"), "{error}");
    let checked = check(&format!("{open}{tokens}"), &tls, http);
    let summary = text(&checked.stdout);
    assert!(checked.status.success() && summary.contains("tokens.toml"), "{summary}{}", text(&checked.stderr));
    assert!(!summary.contains("kymo_") && !summary.contains("PRIVATE"), "{summary}");
}
