//! Which rows of a table are shown: `pg cpus>0.5 rss>1G`.

use super::processes::Line;

/// Conditions that all must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Filter {
    text: String,
    words: Vec<String>,
    limits: Vec<Limit>,
}

/// `name>value` or `name<value`.
#[derive(Clone, Debug, PartialEq)]
struct Limit {
    of: Measure,
    is_above: bool,
    value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Cpus,
    Memory,
    Threads,
    Read,
    Written,
    Pid,
}

const MEASURES: &[(&str, Measure)] = &[
    ("cpus", Measure::Cpus),
    ("rss", Measure::Memory),
    ("thr", Measure::Threads),
    ("read", Measure::Read),
    ("write", Measure::Written),
    ("pid", Measure::Pid),
];

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// When a condition names nothing that is known, or has no number.
    pub(super) fn parse(text: &str) -> Result<Filter, String> {
        let mut filter = Filter { text: text.trim().to_owned(), ..Filter::default() };
        for term in text.split_whitespace() {
            let Some(at) = term.find(['>', '<']) else {
                filter.words.push(term.to_lowercase());
                continue;
            };
            let name = &term[..at];
            let Some((_, of)) = MEASURES.iter().find(|(known, _)| *known == name) else {
                let known: Vec<&str> = MEASURES.iter().map(|(known, _)| *known).collect();
                return Err(format!("{name:?} is not one of {}", known.join(", ")));
            };
            let value = number(&term[at + 1..]).ok_or_else(|| format!("{term:?} needs a number, such as 0.5 or 1G"))?;
            filter.limits.push(Limit { of: *of, is_above: term.as_bytes()[at] == b'>', value });
        }
        Ok(filter)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether a process is shown.
    pub(super) fn takes(&self, line: &Line) -> bool {
        let pid = line.process.pid.to_string();
        let has = |word: &String| line.process.command.to_lowercase().contains(word.as_str()) || pid == *word;
        let holds = |limit: &Limit| {
            let value = match limit.of {
                Measure::Cpus => Some(line.process.cpus),
                Measure::Memory => line.process.rss_bytes,
                Measure::Threads => line.process.threads,
                Measure::Read => line.read,
                Measure::Written => line.written,
                Measure::Pid => Some(line.process.pid as f64),
            };
            value.is_some_and(|value| if limit.is_above { value > limit.value } else { value < limit.value })
        };
        self.words.iter().all(has) && self.limits.iter().all(holds)
    }

    /// Whether something with only a name is shown: only words count.
    pub(super) fn takes_name(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.words.iter().all(|word| name.contains(word.as_str()))
    }
}

/// `0.5`, `10k`, `1M`, `1G`: sizes are powers of 1,024, as memory is shown.
fn number(text: &str) -> Option<f64> {
    let (digits, factor) = match text.char_indices().next_back()? {
        (at, 'k' | 'K') => (&text[..at], 1024.0),
        (at, 'm' | 'M') => (&text[..at], 1024.0 * 1024.0),
        (at, 'g' | 'G') => (&text[..at], 1024.0 * 1024.0 * 1024.0),
        _ => (text, 1.0),
    };
    digits.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::processes::Process;

    #[test]
    fn words_and_limits_must_all_hold() {
        let process =
            Process { command: "postgres".into(), pid: 17, cpus: 0.9, rss_bytes: Some(2e9), ..Process::default() };
        let line = Line { process, ..Line::default() };
        let takes = |text: &str| Filter::parse(text).unwrap().takes(&line);
        for text in ["", "pg", "gres", "POST cpus>0.5", "rss>1G", "17", "cpus<1 pid>16"] {
            assert_eq!(takes(text), text != "pg", "{text}");
        }
        assert!(!takes("read>0"), "what is not known is not above anything");
        assert!(Filter::parse("speed>1").unwrap_err().contains("cpus, rss"));
        assert!(Filter::parse("cpus>x").unwrap_err().contains("needs a number"));
    }
}
