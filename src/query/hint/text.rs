//! Parts of the planner's messages.

use std::borrow::Cow;

/// A longer message of the planner is one that shows its data structures.
const MESSAGE_BYTES_MAX: usize = 300;

/// The first line of a message, without the names of the planner's own parts.
pub(super) fn first_line(message: &str) -> Cow<'_, str> {
    const PREFIXES: &[&str] = &[
        "Error during planning: ",
        "Execution error: ",
        "Internal error: ",
        "Arrow error: ",
        "Compute error: ",
        "Cast error: ",
        "Parser error: ",
        "Invalid argument error: ",
        "This feature is not implemented: ",
        "External error: ",
    ];
    let mut line = message.lines().next().unwrap_or_default();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| line.strip_prefix(prefix)) {
        line = rest;
    }
    // The planner prints its data structures.
    let shown = line.split(" {").next().unwrap_or(line);
    let shown = if shown.len() < line.len() { shown.rsplit_once(' ').map_or(shown, |(words, _)| words) } else { line };
    let inner = PREFIXES.iter().fold(Cow::Borrowed(shown), |text, prefix| {
        if text.contains(prefix) { Cow::Owned(text.replace(prefix, "")) } else { text }
    });
    if inner.len() > MESSAGE_BYTES_MAX {
        return Cow::Owned(format!("{}…", &inner[..inner.floor_char_boundary(MESSAGE_BYTES_MAX)]));
    }
    inner
}

/// The text between two others.
pub(super) fn between<'a>(text: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(behind).map(|(inner, _)| inner)
}
