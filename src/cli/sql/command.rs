//! Commands of the prompt that are no SQL.

/// What a line asks for that is no SQL.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Leave,
    Help,
    Describe(Option<String>),
    Format(String),
    Unknown(String),
}

/// The command of a line. Words that people try first count, too.
pub(super) fn command(text: &str) -> Option<Command> {
    let text = text.trim().trim_end_matches(';').trim_end();
    let mut words = text.split_whitespace();
    let name = words.next()?.to_ascii_lowercase();
    let argument = words.next().map(str::to_owned);
    Some(match (&*name, argument) {
        ("\\q" | "quit" | "exit", None) => Command::Leave,
        ("\\?" | "\\h" | "help", None) => Command::Help,
        ("\\d" | "\\dt" | "\\d+", table) => Command::Describe(table),
        ("\\o", Some(format)) => Command::Format(format),
        _ if name.starts_with('\\') => Command::Unknown(name),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_statements() {
        for (text, wanted) in [
            ("\\q", Some(Command::Leave)),
            (" quit ; ", Some(Command::Leave)),
            ("help", Some(Command::Help)),
            ("\\d", Some(Command::Describe(None))),
            ("\\d cpu;", Some(Command::Describe(Some("cpu".into())))),
            ("\\o csv", Some(Command::Format("csv".into()))),
            ("\\o", Some(Command::Unknown("\\o".into()))),
            ("\\x", Some(Command::Unknown("\\x".into()))),
            ("SELECT 1", None),
            ("quit 1", None),
        ] {
            assert_eq!(command(text), wanted, "{text}");
        }
    }
}
