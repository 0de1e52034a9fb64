//! Statements over the files of a data folder, without a daemon.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::{Stream, TryStreamExt};
use tempfile::TempDir;

use super::show;
use crate::query::request::Request;
use crate::query::sql_view::SqlViews;
use crate::query::statements::{Statements, query_error};
use crate::query::workers::{Folders, Workers};
use crate::query::{QueryError, QuerySettings};
use crate::scheduling::cpus::Cpus;
use crate::store::data_folder::FolderError;
use crate::store::lake::Scan;
use crate::store::verify::{Journaled, Report};
use crate::store::{self, View};

/// An offline query may run for a day: only its own user waits.
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Rows come in parts of about this size.
const BATCH_BYTES: usize = 1 << 20;
/// Memory of an offline query.
const MEMORY_BYTES_MAX: usize = 1 << 30;
/// Disk of an offline query, for sorts and joins.
const SPILL_BYTES_MAX: u64 = 10 << 30;
/// Where that is, if the environment names no other folder. Unlike `/tmp`, it is never in memory (hier(7)).
const SPILL_FOLDER: &str = "/var/tmp";

/// The files of a folder as they were when it was opened, and the workers that read them.
pub(super) struct Offline {
    pub(super) view: Arc<View>,
    /// What the folder has beside these files.
    pub(super) scan: Scan,
    pub(super) workers: Workers,
}

/// A folder for what sorts and joins do not keep in memory. Without it, they have only memory.
pub(super) fn spill_folder() -> Option<TempDir> {
    let temporary = std::env::var_os("TMPDIR").filter(|folder| !folder.is_empty());
    let temporary = temporary.unwrap_or_else(|| SPILL_FOLDER.into());
    tempfile::Builder::new().prefix("kymo-").tempdir_in(temporary).ok()
}

/// What the journal has of a folder's rows.
pub(super) struct Unwritten(Result<Journaled, FolderError>);

impl Unwritten {
    /// Reads the journal. Do so before the files are listed: rows that a daemon flushes meanwhile are then in both.
    pub(super) fn read(folder: &Path) -> Unwritten {
        Unwritten(Journaled::read(folder, &mut Report::default()))
    }

    /// That rows are left out because no file has them, and how to see them. `None` if there are no such rows.
    pub(super) fn warning(self, folder: &Path, view: &View) -> Option<String> {
        match self.0.map(|journaled| journaled.rows_beyond(view)) {
            Ok(0) => None,
            Ok(rows) => {
                let rows = show::counted(rows, "row");
                let advice = if store::is_recorded(folder) {
                    "query the daemon (without --data) to see them".to_owned()
                } else {
                    let folder = folder.display();
                    format!(
                        "the recording was cut off before they were written to files; `kymo flush --data {folder}` does so"
                    )
                };
                Some(format!("{rows} only in the journal left out; {advice}"))
            }
            Err(error) => Some(format!("the rows that are only in the journal are left out: {error}")),
        }
    }
}

impl Offline {
    /// Lists the files. Call it within a runtime of tokio.
    ///
    /// # Errors
    /// When the folder holds no recordings or cannot be read.
    pub(super) fn open(folder: &Path, views: SqlViews, spill: Option<&TempDir>) -> anyhow::Result<Offline> {
        let settings = QuerySettings {
            memory_bytes_max: MEMORY_BYTES_MAX,
            time_max: TIME_MAX,
            rows_max: None,
            spill_bytes_max: SPILL_BYTES_MAX,
            ..QuerySettings::default()
        };
        let (view, scan) = store::open_read_only(folder)?;
        let view = Arc::new(view);
        let shown = Arc::clone(&view);
        let folders = Folders { data: std::path::absolute(folder)?, spill: spill.map(|spill| spill.path().into()) };
        let workers = Workers::new(
            Arc::new(move || Arc::clone(&shown)),
            settings,
            folders,
            BATCH_BYTES,
            Arc::new(Cpus::undivided()),
            views,
        );
        Ok(Offline { view, scan, workers })
    }

    /// The rows of a statement.
    ///
    /// # Errors
    /// When it is refused or fails.
    pub(super) async fn rows(&self, sql: &str) -> Result<Vec<RecordBatch>, QueryError> {
        self.stream(sql).await?.try_collect().await
    }

    /// The same, as they come.
    ///
    /// # Errors
    /// When it is refused. The stream ends with an error when it fails.
    pub(super) async fn stream(
        &self,
        sql: &str,
    ) -> Result<impl Stream<Item = Result<RecordBatch, QueryError>> + use<>, QueryError> {
        let rows = self.workers.execute(&Request::new(sql)).await?.decode();
        Ok(rows.map_err(query_error))
    }

    /// Whether files are gone: a running daemon may merge what was just listed.
    pub(super) fn has_lost_files(&self) -> bool {
        self.view.tables.values().flat_map(|table| table.files.iter()).any(|file| file.path.symlink_metadata().is_err())
    }
}
