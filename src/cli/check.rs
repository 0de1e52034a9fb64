//! `kymo check`: validates the configuration and prints a summary.

use std::io::{self, Write};
use std::path::PathBuf;

use super::{Configured, table};
use crate::alert::notify::LOG;
use crate::config::{self, Settings};
use crate::serve::security::Security;
use crate::store::identity::name_of;
use crate::words::{duration, list};

/// Checks the configuration and prints a summary. Starts and changes nothing.
///
/// # Errors
/// When the configuration is wrong, with all that is wrong in it.
pub fn run(configured: &Configured) -> anyhow::Result<()> {
    let settings = config::load(&configured.sources())?;
    let mut out = io::stdout().lock();
    summarize(&settings, &mut out)?;
    Ok(out.flush()?)
}

fn summarize(settings: &Settings, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "ok\n")?;
    let mut collectors = table::with_headers(["collector", "interval", "tables"]);
    for collector in &settings.collectors {
        let families = list(collector.families.iter().map(|family| family.table.name));
        collectors.add_row([&collector.name, &duration(collector.interval), &families]);
    }
    table::align_right(&mut collectors, [1]);
    table::wrap(&mut collectors, [2]);
    table::write(&collectors, out)?;
    if !settings.rules.is_empty() {
        writeln!(out)?;
        let mut rules = table::with_headers(["alert", "table", "condition", "notify"]);
        for rule in &settings.rules {
            rules.add_row([&rule.name, rule.table().name, rule.condition(), &rule.notify.join(", ")]);
        }
        table::wrap(&mut rules, [2, 3]);
        table::write(&rules, out)?;
    }
    if !settings.views.is_empty() {
        writeln!(out)?;
        let mut views = table::with_headers(["view", "query"]);
        for view in settings.views.iter() {
            views.add_row([&view.name, &view.sql.split_whitespace().collect::<Vec<_>>().join(" ")]);
        }
        table::wrap(&mut views, [1]);
        table::write(&views, out)?;
    }
    writeln!(out)?;
    let mut rest = table::without_headers();
    let unrecorded = list(settings.unrecorded().iter().map(|family| family.table.name));
    if !unrecorded.is_empty() {
        rest.add_row(["not recorded", &format!("{unrecorded} (no collector lists them)")]);
    }
    if !settings.ignored_variables.is_empty() {
        rest.add_row(["ignored", &format!("{} (they name no key)", settings.ignored_variables.join(", "))]);
    }
    let notifiers = settings.notifiers.iter().map(|notifier| notifier.name.as_str());
    rest.add_row(["notifiers", &list([LOG].into_iter().chain(notifiers))]);
    rest.add_row(["data folder", &settings.store.path.display().to_string()]);
    rest.add_row(["host name", &name_of(&settings.store.path, &settings.store.host)]);
    let roots = &settings.context.roots;
    rest.add_row(["host.procfs", &roots.procfs.display().to_string()]);
    rest.add_row(["host.sysfs", &roots.sysfs.display().to_string()]);
    rest.add_row(["host.rootfs", &roots.rootfs.display().to_string()]);
    if let Err(error) = roots.check() {
        rest.add_row(["", &format!("not usable on this host: {error}")]);
    }
    rest.add_row(["address", &settings.serve.address.to_string()]);
    let http = settings.http.address.map_or_else(|| "off".to_owned(), |address| address.to_string());
    rest.add_row(["HTTP", &http]);
    let security = &settings.serve.security;
    let file = |path: Option<&PathBuf>| path.map_or_else(|| "off".to_owned(), |path| path.display().to_string());
    rest.add_row(["tokens", &file(security.tokens.as_ref())]);
    rest.add_row(["TLS", &file(security.tls.as_ref().map(|tls| &tls.certificate))]);
    if let Err(error) = Security::open(security) {
        rest.add_row(["", &format!("not usable on this host: {error}")]);
    }
    let off = |endpoint: &Option<String>| endpoint.clone().unwrap_or_else(|| "off".to_owned());
    let (traces, metrics) = (off(&settings.tracing.endpoint), off(&settings.metrics.endpoint));
    rest.add_row(["OTLP", &format!("traces {traces}, metrics {metrics}")]);
    table::wrap(&mut rest, [1]);
    table::write(&rest, out)
}
