//! What a start found in the data folder, in sentences: for the log, and for status as long as the daemon runs.

use crate::store::Opened;
use crate::store::recovery::Recovery;

/// Sentences that are kept for status; what more there is is in the log.
const FOUND_MAX: usize = 50;

/// Logs what is worth knowing of it, and returns that.
pub(super) fn tell(opened: &Opened) -> Vec<String> {
    let Opened { scan, recovery } = opened;
    let mut found = Vec::new();
    let Recovery { segments, rows, torn_bytes, took, .. } = recovery;
    if *segments > 0 {
        let text = format!(
            "kymo was killed here, or the host went down: {rows} rows recovered from {segments} segments of the journal in \
             {took:.1?}, {torn_bytes} torn bytes cut off"
        );
        tracing::info!("{text}");
        found.push(text);
    }
    let foreign = scan.foreign.iter().chain(&recovery.foreign);
    let foreign = foreign.map(|(path, why)| format!("{} is left alone and not read: {why}", path.display()));
    let kept = recovery
        .kept
        .iter()
        .map(|(path, why)| format!("{} is kept: {why}; what came before was recovered", path.display()));
    let missing = recovery.missing.iter().map(|missing| {
        let table = missing.family.name();
        format!("{} rows of {table} are neither in files nor in the journal; gap says of what time", missing.rows)
    });
    for text in foreign.chain(kept).chain(missing) {
        tracing::warn!("{text}");
        found.push(text);
    }
    let temporaries = scan.temporaries.iter().map(|path| format!("removed {}, never published", path.display()));
    let superseded = scan.superseded.iter().map(|path| format!("removed {}: another has its rows", path.display()));
    for text in temporaries.chain(superseded) {
        tracing::info!("{text}");
        found.push(text);
    }
    let more = found.len().saturating_sub(FOUND_MAX);
    if more > 0 {
        found.truncate(FOUND_MAX);
        found.push(format!("and {more} more, which are in the log"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_folder_is_not_worth_a_word_and_much_is_cut_short() {
        assert_eq!(tell(&Opened::default()), [""; 0]);
        let mut opened = Opened::default();
        opened.recovery.segments = 1;
        opened.scan.foreign = (0..60).map(|number| (format!("f{number}").into(), "no name".into())).collect();
        let told = tell(&opened);
        assert_eq!(told.len(), FOUND_MAX + 1);
        assert!(told[0].starts_with("kymo was killed here"), "{}", told[0]);
        assert_eq!(told[1], "f0 is left alone and not read: no name");
        assert_eq!(told[FOUND_MAX], "and 11 more, which are in the log");
    }
}
