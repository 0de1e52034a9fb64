//! `kymo check`: is the configuration right, and what comes out of it.

use std::io::{self, Write};

use super::{Check, table};
use crate::alert::notify::{LOG, NotifierSettings};
use crate::config::{self, Settings};
use crate::family::FamilyId;

/// Checks the configuration and prints a summary. Starts and changes nothing.
///
/// # Errors
/// When the configuration is wrong, with everything that is wrong in it.
pub fn run(check: &Check) -> anyhow::Result<()> {
    let settings = config::load(&check.configured.sources())?;
    let mut out = io::stdout().lock();
    summarize(&settings, &mut out)?;
    Ok(out.flush()?)
}

fn summarize(settings: &Settings, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "ok\n")?;
    let mut collectors = table::with_headers(["collector", "interval", "metrics"]);
    for collector in &settings.collectors {
        let families: Vec<_> = collector.families.iter().map(|family| family.table.name).collect();
        collectors.add_row([collector.name.clone(), format!("{:?}", collector.interval), families.join(", ")]);
    }
    table::align_right(&mut collectors, [1]);
    table::write(&collectors, out)?;
    let listed = |family: &FamilyId| settings.collectors.iter().any(|one| one.families.contains(family));
    let silent: Vec<_> = FamilyId::all()
        .filter(|family| family.sampling().is_some() && !listed(family))
        .map(|family| family.table.name)
        .collect();
    if !silent.is_empty() {
        writeln!(out, "not recorded: {}", silent.join(", "))?;
    }
    if !settings.rules.is_empty() {
        writeln!(out)?;
        let mut rules = table::with_headers(["alert", "table", "condition", "tells"]);
        for rule in &settings.rules {
            rules.add_row([&rule.name, rule.table().name, rule.condition(), &rule.notify.join(", ")]);
        }
        table::write(&rules, out)?;
    }
    let notifiers: Vec<_> = settings.notifiers.iter().map(|NotifierSettings { name, .. }| name.as_str()).collect();
    let off = |endpoint: &Option<String>| endpoint.clone().unwrap_or_else(|| "off".to_owned());
    writeln!(out, "\nnotifiers: {}", [&[LOG], notifiers.as_slice()].concat().join(", "))?;
    writeln!(out, "data:      {}, host {}", settings.store.path.display(), settings.store.host)?;
    let roots = &settings.context.roots;
    writeln!(out, "reads:     {}, {}", roots.procfs.display(), roots.sysfs.display())?;
    if let Err(error) = roots.check() {
        writeln!(out, "           but not on this host: {error}")?;
    }
    writeln!(out, "serves on: {}", settings.serve.address)?;
    writeln!(out, "OTLP:      traces {}, metrics {}", off(&settings.tracing.endpoint), off(&settings.metrics.endpoint))
}
