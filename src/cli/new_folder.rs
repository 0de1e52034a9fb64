//! The folder that `record` and `export` make: a new one, so that nothing of another recording is in it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, bail};

use crate::store::cut::UNREADY;

/// Whether there is no such folder yet. One that is empty is as good.
///
/// # Errors
/// When it has something in it, cannot be read, or is no folder.
pub(super) fn is_absent(folder: &Path) -> anyhow::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        entries => entries.with_context(|| format!("read the folder {}", folder.display()))?,
    };
    let names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    if names.iter().any(|name| name == UNREADY) {
        bail!(
            "{} has the folder {UNREADY} of an export that was killed, or still runs: if none does, remove {}, or name a new folder with -o",
            folder.display(),
            folder.display()
        );
    }
    if !names.is_empty() {
        bail!("{} is not empty; name a new folder with -o", folder.display());
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_or_empty_folder_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_absent(folder.path()).unwrap() && is_absent(&folder.path().join("new")).unwrap());
        fs::write(folder.path().join("file"), "").unwrap();
        let refused = is_absent(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("is not empty; name a new folder with -o"), "{refused}");
        fs::create_dir(folder.path().join(UNREADY)).unwrap();
        let refused = is_absent(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("of an export that was killed"), "{refused}");
        let refused = is_absent(&folder.path().join("file")).unwrap_err().to_string();
        assert!(refused.starts_with("read the folder "), "{refused}");
    }
}
