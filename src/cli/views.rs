//! Views of a configuration, for commands that ask no daemon.

use std::path::PathBuf;

use clap::Args;

use crate::config::{self, ConfigError, Sources};
use crate::query::sql_view::SqlViews;

/// Where views come from.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Views {
    /// Configuration file whose views to know, without a daemon
    #[arg(short, long, value_name = "FILE", env = "KYMO_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
}

impl Views {
    /// The views, which are none without a file.
    ///
    /// # Errors
    /// When the configuration is wrong.
    pub(super) fn load(&self) -> Result<SqlViews, ConfigError> {
        let Some(file) = self.config.clone() else { return Ok(SqlViews::default()) };
        let sources = Sources { file: Some(file), variables: std::env::vars_os().collect(), ..Sources::default() };
        Ok(config::load(&sources)?.views)
    }
}
