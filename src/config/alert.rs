//! `[[alert]]` and `[notifier.NAME]`: rules, and whom they notify.

use std::time::Duration;

use crate::alert::machine::Absent;
use crate::alert::notify::{LOG, NotifierKind, NotifierSettings};
use crate::alert::rule::{Compiler, RULES_MAX, Rule, RuleSettings};
use crate::alert::webhook::{GIVE_UP_AFTER_MAX, TIMEOUT_MAX, WebhookSettings};

use super::read::{self, Read, Section};
use super::tree::{Entry, Node, Value};

/// The greatest number of notifiers.
const NOTIFIERS_MAX: usize = 64;
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// The webhooks. The log needs no entry.
pub(super) fn read_notifiers(root: &mut Section<'_>) -> Vec<NotifierSettings> {
    let mut notifiers = Vec::new();
    for (entry, mut section) in root.named_sections("notifier") {
        if entry.key == LOG {
            section.wrong_itself(&entry.place, "`log` is the built-in notifier; choose another name");
        }
        if notifiers.len() == NOTIFIERS_MAX {
            section
                .wrong_itself(&entry.place, format!("is one notifier too many; at most {NOTIFIERS_MAX} are allowed"));
        }
        let url = section.required("url", read::some_text);
        let timeout = section.optional("timeout", read::duration(TIMEOUT_MIN..=TIMEOUT_MAX));
        let headers = section.optional("headers", headers).unwrap_or_default();
        let give_up_after = section.optional("give_up_after", read::duration(Duration::ZERO..=GIVE_UP_AFTER_MAX));
        if let Some(url) = url {
            let default = WebhookSettings::default();
            let timeout = timeout.unwrap_or(default.timeout);
            let give_up_after = give_up_after.unwrap_or(default.give_up_after);
            let webhook = WebhookSettings { url, timeout, headers, give_up_after, ..default };
            let notifier = NotifierSettings { name: entry.key.clone(), kind: NotifierKind::Webhook(webhook) };
            if let Err(error) = notifier.check() {
                section.wrong(error.key, None, error.problem);
            }
            notifiers.push(notifier);
        }
        section.finish();
    }
    notifiers
}

/// Header names and values.
fn headers(node: &Node) -> Read<Vec<(String, String)>> {
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

/// What becomes of series without rows.
fn absent(node: &Node) -> Read<Absent> {
    let text = read::text(node)?;
    let known = Absent::ALL.into_iter().find(|absent| absent.as_str() == text);
    known.ok_or_else(|| format!("expected \"resolve\", \"keep\" or \"fire\", found {text:?}"))
}

/// The rules, compiled. A wrong rule does not keep the others from being checked.
pub(super) fn read_rules(root: &mut Section<'_>, notifiers: &[NotifierSettings]) -> Vec<Rule> {
    let mut compiler = Compiler::new(notifiers.iter().map(|notifier| notifier.name.as_str()));
    let mut rules = Vec::new();
    // One too many is an error already.
    for mut section in root.listed_sections("alert").into_iter().take(RULES_MAX + 1) {
        let name = section.required("name", read::some_text);
        let any = || read::duration(Duration::ZERO..=Duration::MAX);
        let settings = RuleSettings {
            name: name.clone().unwrap_or_default(),
            table: section.optional("table", read::some_text),
            when: section.optional("when", read::some_text),
            condition: section.optional("condition", read::some_text),
            threshold: section.optional("threshold", read::number),
            for_: section.optional("for", any()).unwrap_or_default(),
            resolve_after: section.optional("resolve_after", any()),
            absent: section.optional("absent", absent).unwrap_or_default(),
            absent_after: section.optional("absent_after", any()),
            message: section.optional("message", read::text).unwrap_or_default(),
            notify: section.optional("notify", read::texts).unwrap_or_default(),
        };
        if name.is_some() {
            match compiler.compile(&settings) {
                Ok(rule) => rules.push(rule),
                Err(error) => section.wrong(error.key, error.item, error.problem),
            }
        }
        section.finish();
    }
    rules
}
