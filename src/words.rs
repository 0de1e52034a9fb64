//! Names and durations as people write and read them.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};

/// Another name is suggested from this similarity on (Jaro-Winkler, 0…1).
const SUGGESTION_SIMILARITY_MIN: f64 = 0.8;

/// Errors show no more of a name: a request's names may be megabytes long.
const NAME_SHOWN_BYTES_MAX: usize = 64;

/// `names` as "a, b, c".
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// A text on one line. Docs are written over several lines in the source.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first 64 bytes of a name, for errors.
#[must_use]
pub fn shortened(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_SHOWN_BYTES_MAX)]
}

/// Says that `name` is not among the `known` ones, and suggests the most similar of these or lists them all.
pub fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let name = shortened(name);
    let name_lower = name.to_lowercase();
    let similarity = |other: &&str| match strsim::damerau_levenshtein(&name_lower, other) {
        // One typing mistake. Jaro-Winkler says little about short names.
        0 | 1 => 1.0,
        _ => strsim::jaro_winkler(&name_lower, other),
    };
    let closest = known.clone().max_by(|left, right| similarity(left).total_cmp(&similarity(right)));
    match closest.filter(|other| similarity(other) >= SUGGESTION_SIMILARITY_MIN) {
        Some(other) => format!("unknown {what} `{name}`; did you mean `{other}`?"),
        None => {
            let known: Vec<_> = known.map(|known| format!("`{known}`")).collect();
            format!("unknown {what} `{name}`; there is {}", known.join(", "))
        }
    }
}

/// Parses a duration such as `1ms` or `1h 30m`; a day has 24 hours. `None` for anything else, negative durations
/// included.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(duration).ok()
}

/// A duration as [`parse_duration`] reads it.
#[must_use]
pub fn duration(duration: Duration) -> String {
    SignedDuration::try_from(duration).map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_people_write_them() {
        let ms = Duration::from_millis;
        for (text, duration) in
            [("1ms", ms(1)), ("1h 30m", ms(5_400_000)), ("7d", ms(7 * 86_400_000)), ("1.5s", ms(1500))]
        {
            assert_eq!(parse_duration(text), Some(duration), "{text}");
        }
        for text in ["", "5", "-1s", "1 month", "fast"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(duration(ms(1)), "1ms");
        assert_eq!(duration(ms(5_400_000)), "1h 30m");
    }
}
