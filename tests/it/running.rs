//! The program running on a data folder, for tests that look at it from outside.
#![allow(dead_code, reason = "each test is a program of its own and uses its part of this module")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The program that was built with the tests.
const KYMO: &str = env!("CARGO_BIN_EXE_kymo");
/// Longer than any of this takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A kymo that records into the folder `data` of the folder it was given.
pub struct Daemon {
    pub child: Child,
    pub address: String,
    pub data: PathBuf,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    /// Starts the program that was built with the tests, with this configuration.
    pub fn start(folder: &Path, config_text: &str) -> Daemon {
        Daemon::start_program(KYMO.as_ref(), folder, config_text)
    }

    /// The same, with these variables.
    pub fn start_with(folder: &Path, config_text: &str, variables: &[(&str, &str)]) -> Daemon {
        let mut command = without_settings(Command::new(KYMO));
        command.envs(variables.iter().copied());
        Daemon::start_command(command, folder, config_text)
    }

    pub fn start_program(program: &Path, folder: &Path, config_text: &str) -> Daemon {
        Daemon::start_command(without_settings(Command::new(program)), folder, config_text)
    }

    fn start_command(mut command: Command, folder: &Path, config_text: &str) -> Daemon {
        let (config, data) = (folder.join("kymo.toml"), folder.join("data"));
        std::fs::write(&config, config_text).unwrap();
        let mut child = command
            .args(["run", "--address", "127.0.0.1:0", "-c", config.to_str().unwrap(), "--data"])
            .arg(&data)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let told = Arc::clone(&log);
        // Reads on to the end, so that the daemon never waits for us.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                told.lock().unwrap().extend([&line, "\n"]);
            }
        });
        let mut daemon = Daemon { child, address: String::new(), data, log };
        daemon.wait_for_log("Flight SQL and gRPC on ");
        let log = daemon.log.lock().unwrap().clone();
        let (_, rest) = log.split_once("Flight SQL and gRPC on ").unwrap();
        rest.split([';', ' ']).next().unwrap().clone_into(&mut daemon.address);
        daemon
    }

    /// Whether the log says this.
    pub fn has_logged(&self, text: &str) -> bool {
        self.log.lock().unwrap().contains(text)
    }

    /// Waits until the log says this.
    pub fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The thread that writes it has the other.
            let has_ended = Arc::strong_count(&self.log) == 1;
            let log = self.log.lock().unwrap();
            if log.contains(text) {
                return;
            }
            assert!(!has_ended && Instant::now() < deadline, "not in the log: {text}\n{log}");
            drop(log);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What `kymo status` says.
    pub fn status(&self) -> Value {
        let output = command(&["status", "--format", "json", "--address", &self.address]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The rows of a query.
    pub fn query(&self, sql: &str) -> Vec<Value> {
        rows(&["query", sql, "--format", "json", "--address", &self.address])
    }

    /// Has it end in order.
    pub fn terminate(mut self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("the daemon did not end");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After `terminate` there is nothing left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program that was built with the tests, with these arguments.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = without_settings(Command::new(KYMO));
    command.args(arguments);
    command
}

/// Without the variables that tests read, which kymo would take for configuration. Daemons side by side cannot have one port.
pub fn without_settings(mut command: Command) -> Command {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| name.as_encoded_bytes().starts_with(b"KYMO_")).for_each(|name| _ = command.env_remove(name));
    command.env("KYMO_HTTP__ADDRESS", "127.0.0.1:0");
    command
}

/// The rows of a query of these arguments.
pub fn rows(arguments: &[&str]) -> Vec<Value> {
    let output = command(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(&text).unwrap();
    }
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
