//! What the start found in the data folder, as sentences for the log and for `kymo status`.

use crate::store::Opened;
use crate::store::recovery::Recovery;
use crate::words::list;

/// Sentences that are kept for status. The log has all of them.
const FOUND_MAX: usize = 50;

/// Logs what the start found, and returns it for status.
pub(super) fn tell(opened: &Opened) -> Vec<String> {
    let Opened { scan, recovery } = opened;
    let mut found = Vec::new();
    let Recovery { segments, rows, torn_bytes, took, .. } = recovery;
    if *segments > 0 {
        let segments = if *segments == 1 { "1 journal segment" } else { &format!("{segments} journal segments") };
        let cut = if *torn_bytes == 0 { "" } else { &format!("; cut off {torn_bytes} incomplete bytes") };
        let text =
            format!("kymo was killed or the host crashed; recovered {rows} rows from {segments} in {took:.1?}{cut}");
        tracing::info!("{text}");
        found.push(text);
    }
    let foreign = scan.foreign.iter().chain(&recovery.foreign);
    let foreign = foreign.map(|(path, why)| format!("{} is ignored: {why}", path.display()));
    let kept = recovery
        .kept
        .iter()
        .map(|(path, why)| format!("{} is kept: {why}; the rows before that were recovered", path.display()));
    let missing = recovery.missing.iter().map(|missing| {
        let table = missing.family.name();
        format!("{} rows of {table} are lost: no file and no segment has them; the table gap says when", missing.rows)
    });
    let older = (!scan.older.is_empty()).then(|| {
        let files: u64 = scan.older.values().sum();
        let tables = list(scan.older.keys().copied());
        format!(
            "files of an older layout in {tables}: {files}; `downsample` takes rows in their place, as long as there are any"
        )
    });
    for text in foreign.chain(kept).chain(missing).chain(older) {
        tracing::warn!("{text}");
        found.push(text);
    }
    let temporaries = scan.temporaries.iter().map(|path| format!("removed {}: it was never finished", path.display()));
    let superseded =
        scan.superseded.iter().map(|path| format!("removed {}: another file has its rows", path.display()));
    for text in temporaries.chain(superseded) {
        tracing::info!("{text}");
        found.push(text);
    }
    let more = found.len().saturating_sub(FOUND_MAX);
    if more > 0 {
        found.truncate(FOUND_MAX);
        found.push(format!("and {more} more: see the log"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_folder_gives_no_sentence_and_many_sentences_are_cut_short() {
        assert_eq!(tell(&Opened::default()), [""; 0]);
        let mut opened = Opened::default();
        opened.scan.older = [("cpu_1m", 2), ("process_1m", 3)].into();
        let text = "files of an older layout in cpu_1m, process_1m: 5; `downsample` takes rows in their place, as long as there are any";
        assert_eq!(tell(&opened), [text]);
        let mut opened = Opened::default();
        opened.recovery.segments = 1;
        opened.scan.foreign = (0..60).map(|number| (format!("f{number}").into(), "no name".into())).collect();
        let told = tell(&opened);
        assert_eq!(told.len(), FOUND_MAX + 1);
        assert!(told[0].starts_with("kymo was killed or the host crashed"), "{}", told[0]);
        assert_eq!(told[1], "f0 is ignored: no name");
        assert_eq!(told[FOUND_MAX], "and 11 more: see the log");
    }
}
