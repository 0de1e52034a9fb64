//! `[[alert]]` and `[notifier.NAME]`: rules, and who is told.

use std::collections::HashSet;
use std::time::Duration;

use crate::alert::notify::{LOG, NotifierKind, NotifierSettings};
use crate::alert::rule::{Compiler, HOLD_MAX, RULES_MAX, Rule, RuleSettings};
use crate::alert::webhook::{self, TIMEOUT_MAX, WebhookSettings};

use super::read::{self, Section, unknown};
use super::tree::{Entry, Node, Value};

/// The greatest number of notifiers.
const NOTIFIERS_MAX: usize = 64;
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// The webhooks; the log is always there.
pub(super) fn read_notifiers(root: &mut Section<'_>) -> Vec<NotifierSettings> {
    let mut notifiers = Vec::new();
    for (entry, mut section) in root.named_sections("notifier") {
        if entry.key == LOG {
            section.wrong_itself(&entry.place, "`log` is the built-in notifier; give this one another name");
        }
        if notifiers.len() == NOTIFIERS_MAX {
            section.wrong_itself(&entry.place, format!("is one notifier too many; there may be {NOTIFIERS_MAX}"));
        }
        let url = section.required("url", read::some_text);
        let timeout = section.optional("timeout", read::duration(TIMEOUT_MIN..=TIMEOUT_MAX));
        let headers = section.optional("headers", headers).unwrap_or_default();
        if let Some(url) = url {
            let default = WebhookSettings::default();
            let timeout = timeout.unwrap_or(default.timeout);
            let webhook = WebhookSettings { url, timeout, headers, ..default };
            let notifier = NotifierSettings { name: entry.key.clone(), kind: NotifierKind::Webhook(webhook) };
            if let Err(error) = webhook::check(&notifier) {
                section.wrong(error.key, error.problem);
            }
            notifiers.push(notifier);
        }
        section.finish();
    }
    notifiers
}

/// Header names and values.
fn headers(node: &Node) -> Result<Vec<(String, String)>, String> {
    let Value::Table(entries) = &node.value else {
        return Err(format!(
            "expected a table of headers, such as {{ Authorization = \"…\" }}, found {}",
            node.value.kind()
        ));
    };
    let header = |entry: &Entry| match read::text(&entry.node) {
        Ok(value) => Ok((entry.key.clone(), value)),
        Err(message) => Err(format!("{}: {message}", entry.key)),
    };
    entries.iter().map(header).collect()
}

/// The rules, compiled; what is wrong with one does not keep the others from being checked.
pub(super) fn read_rules(root: &mut Section<'_>, notifiers: &[NotifierSettings]) -> Vec<Rule> {
    let compiler = Compiler::new();
    let mut names = HashSet::new();
    let mut rules = Vec::new();
    for (index, mut section) in root.listed_sections("alert").into_iter().enumerate() {
        if index == RULES_MAX {
            section.wrong("name", format!("is one rule too many; there may be {RULES_MAX}"));
            break;
        }
        let name = section.required("name", read::some_text);
        let settings = RuleSettings {
            name: name.clone().unwrap_or_default(),
            table: section.optional("table", read::some_text),
            when: section.optional("when", read::some_text),
            condition: section.optional("condition", read::some_text),
            threshold: section.optional("threshold", read::number),
            for_: section.optional("for", read::duration(Duration::ZERO..=HOLD_MAX)).unwrap_or_default(),
            resolve_after: section.optional("resolve_after", read::duration(Duration::ZERO..=HOLD_MAX)),
            message: section.optional("message", read::text).unwrap_or_default(),
            notify: section.optional("notify", read::texts).unwrap_or_default(),
        };
        for (index, notifier) in settings.notify.iter().enumerate() {
            let known = notifiers.iter().map(|notifier| notifier.name.as_str()).chain([LOG]);
            if !known.clone().any(|known| known == notifier) {
                section.wrong_item("notify", index, unknown("notifier", notifier, known));
            }
        }
        if let Some(name) = name {
            match compiler.compile(&settings) {
                Ok(rule) => rules.push(rule),
                Err(error) => section.wrong(error.key, error.problem),
            }
            if !names.insert(name) {
                section.wrong("name", "is taken by an earlier rule; give each rule a name of its own");
            }
        }
        section.finish();
    }
    rules
}
