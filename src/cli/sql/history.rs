//! Where typed statements are kept.

use std::env;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

/// Further ones replace the oldest.
pub(super) const STATEMENTS_MAX: usize = 1_000;
const NAME: &str = "sql_history";

/// The file of the history, which only its user can read. `None` if there is no place for it.
pub(super) fn file() -> Option<PathBuf> {
    let named = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = named("XDG_STATE_HOME").or_else(|| named("HOME").map(|home| home.join(".local/state")))?;
    let folder = state.join("kymo");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
    let file = folder.join(NAME);
    OpenOptions::new().append(true).create(true).mode(0o600).open(&file).ok()?;
    Some(file)
}
