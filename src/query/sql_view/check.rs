//! Checking views when the configuration is read.

use std::io;
use std::sync::Arc;
use std::thread;

use super::SqlViews;
use crate::family::FamilyId;
use crate::query::STACK_BYTES;
use crate::query::about::rows::Described;
use crate::query::error::QueryError;
use crate::query::guard;
use crate::query::named::Named;
use crate::query::place::{CATALOG, INFORMATION_SCHEMA, PG_CATALOG, SCHEMA, is_table_function};
use crate::query::rows::NoRows;
use crate::query::session::Sessions;
use crate::query::vocabulary::reserved_words;
use crate::sampler;

/// No name is longer, as in PostgreSQL.
const NAME_BYTES_MAX: usize = 63;
/// Memory for planning.
const PLANNING_BYTES_MAX: usize = 64 << 20;

/// What is wrong about a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Its name.
    Name(String),
    /// Its query.
    Sql(String),
}

/// Checks each view, with its position among them: its name, and that its query can be planned. A view that is wrong only because
/// of another one is right.
///
/// # Errors
/// When there is no thread for planning.
pub fn check(views: &SqlViews) -> io::Result<Vec<(usize, Wrong)>> {
    let names = views.iter().map(|view| check_name(&view.name));
    let names: Vec<_> = names.enumerate().filter_map(|(at, name)| Some((at, Wrong::Name(name.err()?)))).collect();
    if !names.is_empty() || views.is_empty() {
        return Ok(names);
    }
    let own = |(at, planned): (usize, Result<Described, QueryError>)| match planned.err()? {
        QueryError::View { name, .. } if name != views[at].name => None,
        QueryError::View { problem, .. } => Some((at, Wrong::Sql(problem))),
        error => Some((at, Wrong::Sql(error.to_string()))),
    };
    Ok(plan(views)?.into_iter().enumerate().filter_map(own).collect())
}

/// The views with their columns, as far as they can be planned.
///
/// # Errors
/// As [`check`].
pub fn describe(views: &SqlViews) -> io::Result<Vec<Described>> {
    Ok(plan(views)?.into_iter().filter_map(Result::ok).collect())
}

fn check_name(name: &str) -> Result<(), String> {
    let is_plain =
        |(at, letter): (usize, char)| letter.is_ascii_lowercase() || letter == '_' || at > 0 && letter.is_ascii_digit();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().enumerate().all(is_plain) {
        return Err(format!(
            "the name must have 1 to {NAME_BYTES_MAX} characters of a-z, 0-9 and _, and begin with no digit"
        ));
    }
    if Named::find(name).is_some() || is_table_function(name) {
        return Err(format!("the name hides the table `{name}`; choose another one"));
    }
    if [CATALOG, SCHEMA, INFORMATION_SCHEMA, PG_CATALOG].contains(&name) {
        return Err(format!("`{name}` is where tables are, as in {name}.x; choose another name"));
    }
    if let Some(family) = FamilyId::all().find(|family| is_kept_for(name, family.name())) {
        return Err(format!(
            "kymo keeps names such as `{name}` for what it makes of `{}`; choose another one",
            family.name()
        ));
    }
    if name.starts_with("pg_") {
        return Err("PostgreSQL's own tables begin with pg_, and tools ask for them; choose another name".into());
    }
    let is_reserved = reserved_words().iter().any(|word| word.eq_ignore_ascii_case(name));
    if is_reserved || guard::check(&format!("SELECT * FROM {name}"), usize::MAX).is_err() {
        return Err(format!("`{name}` is a word of SQL; choose another name"));
    }
    Ok(())
}

/// Whether it is a name that tables have which are made of a family.
fn is_kept_for(name: &str, family: &str) -> bool {
    let rest = name.strip_prefix(family).and_then(|rest| rest.strip_prefix('_'));
    rest.is_some_and(|rest| ["1s", "1m", "last"].contains(&rest))
}

/// Plans each view, and a statement that uses it.
fn plan(views: &SqlViews) -> io::Result<Vec<Result<Described, QueryError>>> {
    let plan = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let sessions = Sessions::new(1, PLANNING_BYTES_MAX, None, Arc::clone(views)).map_err(io::Error::other)?;
        let each = views.iter().map(|view| {
            let session = sessions.take(Arc::new(NoRows), sampler::wall_us(), SCHEMA);
            Ok(runtime.block_on(session.map_err(io::Error::other)?.describe(view)))
        });
        each.collect()
    };
    // A thread of its own, with the stack that planning needs.
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("kymo-views".into()).stack_size(STACK_BYTES);
        let planning = thread.spawn_scoped(scope, plan)?;
        planning.join().map_err(|_| io::Error::other("the thread that plans views panicked"))?
    })
}
