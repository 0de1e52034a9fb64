//! Alert rules: as written, and as checked and compiled.

use std::collections::HashSet;
use std::time::Duration;

use datafusion::execution::context::{SessionContext, SessionState};

use super::expression::{self, Condition, Scope, Term};
use super::machine::{Absent, FORGOTTEN_AFTER_US, Limits};
use super::notify::LOG;
use super::shorthand;
use super::state::LABELS_PER_SERIES_MAX;
use super::stated::NAMED_MAX;
use super::template::{Names, Template};
use crate::family::FamilyId;
use crate::family::alert::Alert;
use crate::family::statement::Statement;
use crate::record::{Record, Table};
use crate::words::{self, list, unknown};

/// The most rules that one engine takes.
pub const RULES_MAX: usize = 10_000;

/// The longest `when`, in bytes.
pub const WHEN_BYTES_MAX: usize = 4_096;

/// The longest message template, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4_096;

/// The longest `for`, `resolve_after` and `absent_after`. Longer conditions are better queried from the stored data.
pub const HOLD_MAX: Duration = Duration::from_hours(7 * 24);

/// The message of a rule that does not give one.
pub const MESSAGE_DEFAULT: &str = "{rule} is {state}: {value}";

/// A missing `resolve_after` is this or `for`, whichever is longer. Values sampled a hundred times a second jitter around
/// a threshold, and each crossing would send a notification.
const RESOLVE_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// A missing `absent_after` is this or [`ABSENT_INTERVALS_DEFAULT`] intervals of the table, whichever is longer.
pub const ABSENT_AFTER_DEFAULT: Duration = Duration::from_mins(5);

const ABSENT_AFTER_DEFAULT_US: i64 = 300_000_000;

/// In intervals of the table: a missing `absent_after`.
pub const ABSENT_INTERVALS_DEFAULT: i64 = 5;

/// The shortest `absent_after`.
pub const ABSENT_AFTER_MIN: Duration = Duration::from_secs(1);

/// In intervals of the table: no series is absent before. Its next row may come late.
const ABSENT_INTERVALS_MIN: i64 = 2;

/// A break of this between two rows, or of [`SILENCE_INTERVALS_MAX`] intervals of the table if that is longer, is none.
const SILENCE_US_MAX: i64 = 60_000_000;

/// In intervals of the table: two rows may be missing in a row.
const SILENCE_INTERVALS_MAX: i64 = 3;

/// A rule as it was written, unchecked. Its keys have the fields' names; `for_` is the key `for`.
///
/// A rule has either `when` with `table`, or `condition` with `threshold`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSettings {
    /// The rule's name, unique among the rules.
    pub name: String,
    /// The table whose rows are watched; given with `when`, implied by `condition`.
    pub table: Option<String>,
    /// A SQL boolean over the table's columns, and `rate(counter)` per second over the trailing second.
    pub when: Option<String>,
    /// A short form: one of [`conditions`].
    pub condition: Option<String>,
    /// What the short form compares with: percent for the usage conditions, bytes per second for the network ones.
    pub threshold: Option<f64>,
    /// How long the condition must hold without a break before the rule fires.
    pub for_: Duration,
    /// How long the condition must fail without a break before the rule resolves; by default `for`, at least 1 s.
    pub resolve_after: Option<Duration>,
    /// What becomes of a series that has no more rows.
    pub absent: Absent,
    /// How long a series must have no rows; by default [`ABSENT_AFTER_DEFAULT`] and [`ABSENT_INTERVALS_DEFAULT`].
    pub absent_after: Option<Duration>,
    /// The notification's text, with `{value}`, `{threshold}`, `{rule}`, `{state}`, `{free_memory}` and any column of the
    /// table in braces; a literal brace is written `\{`. Empty for [`MESSAGE_DEFAULT`].
    pub message: String,
    /// Names of the notifiers; empty for `log` alone.
    pub notify: Vec<String>,
}

/// What is wrong with a rule, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("alert rule {rule:?}: {key}{}: {problem}", .item.map(|item| format!("[{item}]")).unwrap_or_default())]
pub struct RuleError {
    /// The rule's name.
    pub rule: String,
    /// The key of [`RuleSettings`] that is wrong.
    pub key: &'static str,
    /// The position in the key's list, if one item of it is wrong.
    pub item: Option<usize>,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

/// A rule that is checked and compiled.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Its notifiers.
    pub notify: Vec<String>,
    /// The table's family.
    pub(super) family: FamilyId,
    pub(super) table: &'static Table,
    /// The condition as SQL, short forms written out.
    pub(super) text: String,
    pub(super) condition: Condition,
    pub(super) hold_us: i64,
    pub(super) resolve_after_us: i64,
    pub(super) absent: Absent,
    absent_after_us: Option<i64>,
    /// The series whose absence is told even if they never had rows, by the texts of their labels: `None` for any text. None
    /// unless [`watches_absence`](Self::watches_absence).
    pub(super) expected: Vec<Vec<Option<String>>>,
    pub(super) message: Template,
}

/// The names of the short forms, for documentation and completion.
pub fn conditions() -> impl Iterator<Item = &'static str> {
    shorthand::SHORTHANDS.iter().map(|shorthand| shorthand.name)
}

impl Rule {
    /// The table it watches.
    #[must_use]
    pub fn table(&self) -> &'static Table {
        self.table
    }

    /// Its condition as SQL, short forms written out.
    #[must_use]
    pub fn condition(&self) -> &str {
        &self.text
    }

    /// Whether a series without rows fires.
    pub(super) fn watches_absence(&self) -> bool {
        self.absent == Absent::Fire
    }

    /// Whether its condition only names series. Rows of them are as they should be, and only their absence fires.
    pub(super) fn is_of_presence(&self) -> bool {
        let names = |term: &Term| matches!(term, Term::Boolean { names_labels_only: true, .. });
        self.watches_absence() && self.condition.terms.iter().all(names)
    }

    /// Its times for a table that is sampled at this interval, if that is known.
    pub(super) fn limits(&self, interval_us: Option<i64>) -> Limits {
        let intervals = |count: i64| interval_us.map_or(0, |interval_us| interval_us.saturating_mul(count));
        let absent_after_us = match self.absent_after_us {
            Some(absent_after_us) => absent_after_us.max(intervals(ABSENT_INTERVALS_MIN)),
            None => intervals(ABSENT_INTERVALS_DEFAULT).max(ABSENT_AFTER_DEFAULT_US),
        };
        Limits {
            hold_us: self.hold_us,
            resolve_after_us: self.resolve_after_us,
            silence_us_max: intervals(SILENCE_INTERVALS_MAX).max(SILENCE_US_MAX),
            absent_after_us,
            absent: self.absent,
            forgotten_after_us: FORGOTTEN_AFTER_US,
        }
    }
}

/// Checks and compiles the rules of one configuration, over a list of tables.
pub struct Compiler {
    session: SessionState,
    /// One a table.
    scopes: Vec<Scope>,
    /// The names of the notifiers that rules may list.
    notifiers: Vec<String>,
    /// The names of the rules so far.
    names: HashSet<String>,
}

impl Compiler {
    /// A compiler over kymo's own tables. Its rules may list [`LOG`] and the notifiers of these names.
    #[must_use]
    pub fn new<'a>(notifiers: impl IntoIterator<Item = &'a str>) -> Self {
        let compiler = Self::over(FamilyId::all().map(|family| (family, family.table)));
        Compiler { notifiers: notifiers.into_iter().chain([LOG]).map(str::to_owned).collect(), ..compiler }
    }

    /// A compiler over `tables`, each with the family that the engine is called with. Its rules may list [`LOG`] only.
    #[must_use]
    pub fn over(tables: impl IntoIterator<Item = (FamilyId, &'static Table)>) -> Self {
        let context = SessionContext::new();
        context.register_udf(expression::rate_function());
        Compiler {
            session: context.state(),
            scopes: tables.into_iter().map(|(family, table)| Scope::new(family, table)).collect(),
            notifiers: vec![LOG.to_owned()],
            names: HashSet::new(),
        }
    }

    /// Checks and compiles several rules.
    ///
    /// # Errors
    /// The position of the first wrong rule and what is wrong with it.
    pub fn compile_all(&mut self, settings: &[RuleSettings]) -> Result<Vec<Rule>, (usize, RuleError)> {
        let compiled = settings.iter().enumerate();
        compiled.map(|(index, rule)| self.compile(rule).map_err(|error| (index, error))).collect()
    }

    /// Checks and compiles one more rule.
    ///
    /// # Errors
    /// When a key is missing, superfluous or wrong, an earlier rule has the name, or there are [`RULES_MAX`] already.
    pub fn compile(&mut self, settings: &RuleSettings) -> Result<Rule, RuleError> {
        let fail = |key, item, problem| RuleError { rule: settings.name.clone(), key, item, problem };
        if settings.name.trim().is_empty() {
            return Err(fail("name", None, "is empty; give the rule a name".into()));
        }
        if self.names.len() == RULES_MAX {
            return Err(fail("name", None, format!("is one rule too many; at most {RULES_MAX} are allowed")));
        }
        if !self.names.insert(settings.name.clone()) {
            return Err(fail("name", None, "is taken by an earlier rule; give each rule a name of its own".into()));
        }
        for (index, notifier) in settings.notify.iter().enumerate() {
            if !self.notifiers.contains(notifier) {
                let known = self.notifiers.iter().map(String::as_str);
                return Err(fail("notify", Some(index), unknown("notifier", notifier, known)));
            }
        }
        self.checked(settings).map_err(|(key, problem)| fail(key, None, problem))
    }

    /// Checks and compiles all but name and notifiers.
    fn checked(&self, settings: &RuleSettings) -> Result<Rule, (&'static str, String)> {
        let (scope, text) = self.condition(settings)?;
        let key = if settings.when.is_some() { "when" } else { "condition" };
        if text.len() > WHEN_BYTES_MAX {
            return Err((key, format!("is {} bytes long; the limit is {WHEN_BYTES_MAX}", text.len())));
        }
        let condition = expression::compile(&self.session, scope, &text).map_err(|problem| (key, problem))?;
        let hold_us = micros(settings.for_).map_err(|problem| ("for", problem))?;
        let resolve_after = settings.resolve_after.unwrap_or(settings.for_.max(RESOLVE_AFTER_DEFAULT));
        let resolve_after_us = micros(resolve_after).map_err(|problem| ("resolve_after", problem))?;
        let absent_after_us = absent_after(settings).map_err(|problem| ("absent_after", problem))?;
        let expected = match (settings.absent, condition.stated.combinations(scope.table)) {
            (Absent::Resolve | Absent::Keep, _) => Vec::new(),
            (Absent::Fire, Ok(expected)) => expected,
            (Absent::Fire, Err(count)) => {
                let problem = format!("names {count} series; with absent = \"fire\", at most {NAMED_MAX} are allowed");
                return Err((key, problem));
            }
        };
        let message = self.message(settings, scope.table).map_err(|problem| ("message", problem))?;
        let notify = if settings.notify.is_empty() { vec![LOG.into()] } else { settings.notify.clone() };
        Ok(Rule {
            name: settings.name.clone(),
            notify,
            family: scope.family,
            table: scope.table,
            text,
            condition,
            hold_us,
            resolve_after_us,
            absent: settings.absent,
            absent_after_us,
            expected,
            message,
        })
    }

    /// The family that the rule watches and its condition as SQL.
    fn condition(&self, settings: &RuleSettings) -> Result<(&Scope, String), (&'static str, String)> {
        match (&settings.when, &settings.condition) {
            (Some(_), Some(_)) => Err(("condition", "cannot stand beside `when`; remove one of them".into())),
            (None, None) => Err((
                "when",
                format!("is missing; give `when` with `table`, or `condition` as one of {}", list(conditions())),
            )),
            (Some(when), None) => {
                if settings.threshold.is_some() {
                    return Err(("threshold", "belongs to `condition`; with `when`, write the number into it".into()));
                }
                let Some(name) = &settings.table else {
                    return Err(("table", format!("is missing; `when` needs one of {}", self.tables())));
                };
                Ok((self.find(name)?, when.clone()))
            }
            (None, Some(name)) => {
                let Some(shorthand) = shorthand::find(name) else {
                    return Err(("condition", format!("{name:?} is not known; it is one of {}", list(conditions()))));
                };
                let text = shorthand.expand(settings.threshold).map_err(|problem| ("threshold", problem))?;
                if let Some(table) = settings.table.as_ref().filter(|table| *table != shorthand.table) {
                    let right = shorthand.table;
                    return Err((
                        "table",
                        format!("{table:?} does not go with `{name}`, which watches {right:?}; leave it out"),
                    ));
                }
                Ok((self.find(shorthand.table)?, text))
            }
        }
    }

    fn find(&self, table: &str) -> Result<&Scope, (&'static str, String)> {
        if table == Alert::TABLE.name {
            return Err(("table", format!("{table:?} has what the rules themselves did; no rule can watch it")));
        }
        if table == Statement::TABLE.name {
            let instead = "watch `query_faults` or `queries` of the table \"kymo\"";
            return Err(("table", format!("{table:?} has rows of single statements and no series; {instead}")));
        }
        let Some(found) = self.scopes.iter().find(|scope| scope.table.name == table) else {
            return Err(("table", format!("{table:?} is not known; it is one of {}", self.tables())));
        };
        let labels = found.table.labels().count();
        if labels > LABELS_PER_SERIES_MAX {
            let problem = format!("{table:?} has {labels} labels; rules watch tables of up to {LABELS_PER_SERIES_MAX}");
            return Err(("table", problem));
        }
        Ok(found)
    }

    fn tables(&self) -> String {
        list(self.scopes.iter().map(|scope| scope.table.name))
    }

    fn message(&self, settings: &RuleSettings, table: &'static Table) -> Result<Template, String> {
        let text = if settings.message.is_empty() { MESSAGE_DEFAULT } else { settings.message.as_str() };
        if text.len() > MESSAGE_BYTES_MAX {
            return Err(format!("is {} bytes long; the limit is {MESSAGE_BYTES_MAX}", text.len()));
        }
        let memory = self.scopes.iter().find(|scope| scope.table.name == "memory");
        let free_memory = memory.and_then(|scope| Some((scope.family, scope.table.column("free_bytes")?.0)));
        Template::parse(text, &Names { table, free_memory })
    }
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The session would print its whole configuration and every function.
        f.debug_struct("Compiler").field("tables", &self.tables()).finish_non_exhaustive()
    }
}

fn absent_after(settings: &RuleSettings) -> Result<Option<i64>, String> {
    let Some(absent_after) = settings.absent_after else { return Ok(None) };
    if absent_after < ABSENT_AFTER_MIN {
        let (min, max) = (words::duration(ABSENT_AFTER_MIN), words::duration(HOLD_MAX));
        return Err(format!("expected a duration from {min} to {max}, found {}", words::duration(absent_after)));
    }
    micros(absent_after).map(Some)
}

fn micros(duration: Duration) -> Result<i64, String> {
    match i64::try_from(duration.as_micros()) {
        Ok(micros) if duration <= HOLD_MAX => Ok(micros),
        _ => {
            let (max, found) = (words::duration(HOLD_MAX), words::duration(duration));
            Err(format!("expected a duration from 0s to {max}, found {found}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::fixture::{compiler, error, short, when};

    #[test]
    fn every_short_form_compiles_and_is_written_out() {
        let texts: Vec<_> = conditions()
            .map(|name| {
                let rule = compiler().compile(&short(name, 50.0)).unwrap();
                assert_eq!((rule.condition.threshold, rule.notify), (Some(50.0), vec!["log".to_owned()]), "{name}");
                format!("{}: {}", rule.table.name, rule.text)
            })
            .collect();
        let expected = [
            "cpu: cpu = 'total' AND utilization * 100 > 50.0",
            "memory: (total_bytes - available_bytes) * 100.0 / total_bytes > 50.0",
            "filesystem: used_ratio * 100 > 50.0 AND read_only = 0",
            "network: rate(rx_bytes) > 50.0",
            "network: rate(tx_bytes) > 50.0",
            "memory: (swap_total_bytes - swap_free_bytes) * 100.0 / swap_total_bytes > 50.0",
            "host: load1 > 50.0",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn resolving_waits_as_long_as_firing_and_at_least_a_second() {
        let resolve_after = |for_ms, resolve_after_ms: Option<u64>| {
            let resolve_after = resolve_after_ms.map(Duration::from_millis);
            let settings =
                RuleSettings { for_: Duration::from_millis(for_ms), resolve_after, ..when("host", "load1 > 1") };
            let rule = compiler().compile(&settings).unwrap();
            (rule.hold_us, rule.resolve_after_us)
        };
        assert_eq!(resolve_after(0, None), (0, 1_000_000));
        assert_eq!(resolve_after(5_000, None), (5_000_000, 5_000_000));
        assert_eq!(resolve_after(5_000, Some(0)), (5_000_000, 0));
    }

    #[test]
    fn absence_follows_the_interval_unless_it_is_stated() {
        let limits = |absent_after: Option<u64>, interval: Option<i64>| {
            let absent_after = absent_after.map(Duration::from_secs);
            let rule = compiler().compile(&RuleSettings { absent_after, ..when("host", "load1 > 1") }).unwrap();
            let limits = rule.limits(interval.map(|seconds| seconds * 1_000_000));
            (limits.absent_after_us / 1_000_000, limits.silence_us_max / 1_000_000)
        };
        assert_eq!(
            [limits(None, None), limits(None, Some(1)), limits(Some(2), Some(1))],
            [(300, 60), (300, 60), (2, 60)]
        );
        assert_eq!([limits(None, Some(3_600)), limits(Some(2), Some(60))], [(5 * 3_600, 3 * 3_600), (120, 180)]);
    }

    #[test]
    fn each_key_that_is_wrong_is_named_with_what_would_be_right() {
        let rule = || when("cpu", "utilization > 0.5");
        let texts: Vec<String> = (0..100).map(|number| format!("'{number}'")).collect();
        let named = format!("mountpoint IN ({}) AND device IN ({})", texts.join(","), texts[..11].join(","));
        let cases = [
            (RuleSettings { name: " ".into(), ..rule() }, "name", "give the rule a name"),
            (RuleSettings { condition: Some("load_above".into()), ..rule() }, "condition", "beside `when`; remove"),
            (
                RuleSettings { when: None, ..rule() },
                "when",
                "is missing; give `when` with `table`, or `condition` as one of cpu_usage_above, ",
            ),
            (RuleSettings { table: None, ..rule() }, "table", "needs one of cpu, memory, network"),
            (
                RuleSettings { table: Some("cpus".into()), ..rule() },
                "table",
                "\"cpus\" is not known; it is one of cpu, ",
            ),
            (when("wide", "x > 1"), "table", "has 5 labels"),
            (RuleSettings { threshold: Some(1.0), ..rule() }, "threshold", "belongs to `condition`"),
            (
                RuleSettings { for_: HOLD_MAX + Duration::from_secs(1), ..rule() },
                "for",
                "from 0s to 168h, found 168h 1s",
            ),
            (
                RuleSettings { resolve_after: Some(HOLD_MAX * 2), ..rule() },
                "resolve_after",
                "from 0s to 168h, found 336h",
            ),
            (
                RuleSettings { absent_after: Some(Duration::from_millis(999)), ..rule() },
                "absent_after",
                "from 1s to 168h, found 999ms",
            ),
            (RuleSettings { absent_after: Some(HOLD_MAX * 2), ..rule() }, "absent_after", "found 336h"),
            (RuleSettings { absent: Absent::Fire, ..when("filesystem", &named) }, "when", "names 1100 series; with"),
            (when("alert", "value > 1"), "table", "no rule can watch it"),
            (RuleSettings { message: "{nope}".into(), ..rule() }, "message", "cpu: time, cpu, user_us, nice_us"),
            (RuleSettings { message: "x".repeat(MESSAGE_BYTES_MAX + 1), ..rule() }, "message", "the limit is 4096"),
            (
                RuleSettings { notify: vec!["log".into(), String::new()], ..rule() },
                "notify",
                "unknown notifier ``; there is `log`",
            ),
            (RuleSettings { notify: vec!["ops".into()], ..rule() }, "notify", "unknown notifier `ops`; there is `log`"),
            (short("cpu_above", 1.0), "condition", "\"cpu_above\" is not known; it is one of cpu_usage_above"),
            (short("cpu_usage_above", 101.0), "threshold", "from 0 to below 100"),
            (RuleSettings { threshold: None, ..short("load_above", 1.0) }, "threshold", "is missing"),
            (RuleSettings { table: Some("cpu".into()), ..short("load_above", 1.0) }, "table", "watches \"host\""),
            (when("cpu", &format!("utilization > {}", "1".repeat(WHEN_BYTES_MAX))), "when", "the limit is 4096"),
        ];
        for (settings, key, problem) in cases {
            let error = error(&settings);
            assert_eq!((error.rule.as_str(), error.key), (settings.name.as_str(), key), "{error}");
            assert!(error.problem.contains(problem), "{error}");
        }
    }

    #[test]
    fn two_rules_of_one_name_are_refused_by_position() {
        let rules = [when("cpu", "utilization > 0"), when("host", "load1 > 1"), when("cpu", "utilization > 0")];
        let (position, error) = compiler().compile_all(&rules).unwrap_err();
        assert_eq!((position, error.key), (2, "name"));
        let many: Vec<_> = (0..=RULES_MAX).map(|i| when("host", &format!("load1 > {i}"))).collect();
        let (position, many) = compiler().compile_all(&many).unwrap_err();
        assert_eq!((position, many.problem.as_str()), (RULES_MAX, "is one rule too many; at most 10000 are allowed"));
        assert_eq!(
            error.to_string(),
            "alert rule \"cpu: utilization > 0\": name: is taken by an earlier rule; give each rule a name of its own"
        );
    }

    #[test]
    fn kymo_s_own_tables_fit_rules() {
        for family in FamilyId::all() {
            assert!(family.table.labels().count() <= LABELS_PER_SERIES_MAX, "{}", family.name());
        }
        let mut compiler = Compiler::new(["ops"]);
        for name in conditions() {
            let settings = RuleSettings { message: "{value}, {free_memory} free".into(), ..short(name, 50.0) };
            assert_eq!(compiler.compile(&settings).map(|rule| rule.name), Ok(name.to_owned()));
        }
        let settings = RuleSettings { message: "{collector} lost {lost}".into(), ..when("gap", "lost > 0") };
        assert_eq!(compiler.compile(&settings).unwrap().table.name, "gap");
        let settings = |notify: [&str; 2]| RuleSettings {
            name: notify.concat(),
            notify: notify.map(str::to_owned).to_vec(),
            ..short("load_above", 1.0)
        };
        assert_eq!(compiler.compile(&settings(["log", "ops"])).unwrap().notify, ["log", "ops"]);
        let error = compiler.compile(&settings(["ops", "opsy"])).unwrap_err();
        assert_eq!((error.key, error.item), ("notify", Some(1)));
        assert!(error.to_string().starts_with("alert rule \"opsopsy\": notify[1]: unknown notifier `opsy`"), "{error}");
    }
}
