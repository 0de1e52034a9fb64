//! The configuration: as written, then as checked.
//!
//! Defaults, file, environment and flags are merged into one tree, which remembers where each key and value stands.
//! Reading the tree checks everything and fills the settings of every module. All errors are found in one go. Each names
//! the place and what would be right, and nothing is started.
//!
//! The defaults are `config.toml` at the root of the sources, compiled in. It documents every key.
//!
//! An environment variable names a key if it has a double underscore or names a whole section. An unknown key is an
//! error. So is a variable that differs from a known key in its underscores only. All others are ignored, as a service
//! manager may set them: Kubernetes sets `KYMO_SERVICE_HOST` and `KYMO_PORT` for a service named `kymo`.

mod alert;
mod collector;
mod read;
mod section;
mod tree;
mod view;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::alert::notify::NotifierSettings;
use crate::alert::rule::Rule;
use crate::collector::CollectorSettings;
use crate::export::{LogSettings, MetricsSettings, TracingSettings};
use crate::family::FamilyId;
use crate::query::QuerySettings;
use crate::query::sql_view::SqlViews;
use crate::reading::context::Context;
use crate::serve::ServeSettings;
use crate::serve::http::HttpSettings;
use crate::store::StoreSettings;
use read::{Report, Section};
use tree::{Node, nest};

pub use tree::{Place, Problem};

/// The default configuration, which documents every key.
pub const DEFAULT: &str = include_str!("../config.toml");

/// How places in [`DEFAULT`] are named.
const DEFAULT_NAME: &str = "built-in config.toml";

/// The same for [`Sources::defaults`].
const COMMAND_NAME: &str = "the command's defaults";

/// A file larger than this is not read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Tables that a file replaces as a whole. They do not keep default entries.
const WHOLESALE: &[&str] = &["collector", "alert", "notifier"];

/// Variables with this prefix set keys: `KYMO_STORAGE__PATH` is `storage.path`.
const VARIABLE_PREFIX: &str = "KYMO_";

/// What stands in a variable's name for the dot of a key's path.
const DOT: &str = "__";

/// Where to serve, and where the command line finds the daemon: `server.address` in a word.
pub const ADDRESS_VARIABLE: &str = "KYMO_ADDRESS";
/// Its older name, which the command line still reads.
pub const OLD_ADDRESS_VARIABLE: &str = "KYMO_ADDR";

/// The token that the command line shows to a daemon.
pub const TOKEN_VARIABLE: &str = "KYMO_TOKEN";

/// Variables with the prefix that only the command line reads.
const COMMAND_LINE_VARIABLES: &[&str] = &["KYMO_CONFIG", OLD_ADDRESS_VARIABLE, TOKEN_VARIABLE];

/// Everything that the daemon needs to know, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the kernel's files are, and what to record of what they have.
    pub context: Context,
    /// The collectors to start with.
    pub collectors: Vec<CollectorSettings>,
    /// The alert rules, compiled.
    pub rules: Vec<Rule>,
    /// Who is told, beside the log.
    pub notifiers: Vec<NotifierSettings>,
    /// The data folder, its limits and its retention.
    pub store: StoreSettings,
    /// The longest time from a signal to the end.
    pub shutdown_timeout: Duration,
    /// The time between two flushes to Parquet.
    pub flush_interval: Duration,
    /// The time between two rounds of the drain thread.
    pub drain_interval: Duration,
    /// What a query may take.
    pub query: QuerySettings,
    /// What queries may use like tables.
    pub views: SqlViews,
    /// Where Flight SQL and gRPC are served.
    pub serve: ServeSettings,
    /// Where HTTP is offered.
    pub http: HttpSettings,
    /// Traces of kymo's own operations.
    pub tracing: TracingSettings,
    /// Metrics over OTLP.
    pub metrics: MetricsSettings,
    /// What is logged, and how.
    pub log: LogSettings,
    /// Environment variables that begin with `KYMO_` and name no key.
    pub ignored_variables: Vec<String>,
}

impl Settings {
    /// The families that no collector samples.
    #[must_use]
    pub fn unrecorded(&self) -> Vec<FamilyId> {
        let listed = |family: &FamilyId| self.collectors.iter().any(|one| one.families.contains(family));
        FamilyId::all().filter(|family| family.sampling().is_some() && !listed(family)).collect()
    }
}

/// Where a configuration comes from. Later fields win over earlier ones, and all of them over [`DEFAULT`].
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// What the command has in the place of some defaults, as TOML.
    pub defaults: Option<&'static str>,
    /// The file, if one is given.
    pub file: Option<PathBuf>,
    /// The process's environment; only what begins with `KYMO_` matters.
    pub variables: Vec<(OsString, OsString)>,
    /// Flags of the command line that set keys.
    pub flags: Vec<Flag>,
}

/// A flag of the command line that sets a key.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag, such as `--data`.
    pub name: &'static str,
    /// The key's path, such as `storage.path`.
    pub key: &'static str,
    /// What it is set to.
    pub value: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("read configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was read is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Problem>),
}

/// Reads and checks the configuration. Starts and changes nothing.
///
/// # Errors
/// When the file cannot be read, or with everything that is wrong in any of the sources.
pub fn load(sources: &Sources) -> Result<Settings, ConfigError> {
    let report = Report::default();
    let mut tree = tree::parse(DEFAULT_NAME, DEFAULT).map_err(ConfigError::Wrong)?;
    if let Some(defaults) = sources.defaults {
        let defaults = tree::parse(COMMAND_NAME, defaults).map_err(ConfigError::Wrong)?;
        tree::merge(&mut tree, defaults, WHOLESALE);
    }
    if let Some(path) = &sources.file {
        let text = read_file(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let file = tree::parse(&path.display().to_string(), &text).map_err(ConfigError::Wrong)?;
        tree::merge(&mut tree, file, WHOLESALE);
    }
    let (nodes, ignored) = variables(&sources.variables, &tree.paths(DOT), &report);
    for node in nodes {
        tree::merge(&mut tree, node, &[]);
    }
    for flag in &sources.flags {
        let node = tree::parse_literal(&Place::Flag(flag.name), &flag.value);
        tree::merge(&mut tree, nest(flag.key, ".", node), &[]);
    }
    let settings = settings(&tree, ignored, &report);
    let problems = report.into_problems();
    match settings {
        Some(settings) if problems.is_empty() => Ok(settings),
        _ => Err(ConfigError::Wrong(problems)),
    }
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let size = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if size as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// The keys that the environment sets, and the names of ignored variables, both in the order of the names. `known` has the
/// paths of all keys, with [`DOT`]s.
fn variables(all: &[(OsString, OsString)], known: &[String], report: &Report) -> (Vec<Node>, Vec<String>) {
    let is_ours =
        |(name, _): &(String, _)| name.starts_with(VARIABLE_PREFIX) && !COMMAND_LINE_VARIABLES.contains(&name.as_str());
    let all = all.iter().map(|(name, value)| (name.to_string_lossy().into_owned(), value));
    let mut ours: Vec<_> = all.filter(is_ours).collect();
    ours.sort();
    let (mut nodes, mut ignored) = (Vec::new(), Vec::new());
    for (name, value) in ours {
        let path = match name.as_str() {
            ADDRESS_VARIABLE => "server__address".to_owned(),
            _ => name[VARIABLE_PREFIX.len()..].to_lowercase(),
        };
        if !path.contains(DOT) && !known.contains(&path) {
            match known.iter().find(|key| key.replace(DOT, "_") == path) {
                Some(key) => {
                    let meant = format!("{VARIABLE_PREFIX}{}", key.to_uppercase());
                    let message = format!("unknown variable; did you mean {meant}, with two underscores for the dot?");
                    report.add(&Place::Variable(name), key.replace(DOT, "."), message);
                }
                None => ignored.push(name),
            }
            continue;
        }
        let place = Place::Variable(name);
        match value.to_str() {
            Some(value) => nodes.push(nest(&path, DOT, tree::parse_literal(&place, value))),
            None => report.add(&place, path.replace(DOT, "."), "is not valid UTF-8"),
        }
    }
    (nodes, ignored)
}

/// Checks the tree. `None` when something is wrong; `report` then has the reasons.
fn settings(tree: &Node, ignored_variables: Vec<String>, report: &Report) -> Option<Settings> {
    let mut root = Section::new(tree, String::new(), report)?;
    let roots = section::host(&mut root);
    let processes = section::process(&mut root);
    let filters = section::filters(&mut root);
    let collectors = collector::read(&mut root);
    let notifiers = alert::read_notifiers(&mut root);
    let rules = alert::read_rules(&mut root, &notifiers);
    let storage = section::storage(&mut root);
    let query = section::query(&mut root);
    let views = view::read(&mut root);
    let serve = section::server(&mut root);
    let http = section::http(&mut root, &serve.as_ref().map(|serve| serve.security.clone()).unwrap_or_default());
    let tracing = section::tracing(&mut root);
    let metrics = section::metrics(&mut root);
    let log = section::log(&mut root);
    let shutdown_timeout = section::service(&mut root);
    root.finish();

    let (store, flush_interval, drain_interval) = storage?;
    Some(Settings {
        context: Context { roots: roots?, processes: processes?, filters: filters?, ..Context::default() },
        collectors,
        rules,
        notifiers,
        store,
        flush_interval,
        drain_interval,
        shutdown_timeout: shutdown_timeout?,
        query: query?,
        views,
        serve: serve?,
        http: http?,
        tracing: tracing?,
        metrics: metrics?,
        log: log?,
        ignored_variables,
    })
}

#[cfg(test)]
mod tests;
