//! Where statements end in a text.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// The statements of a text that end with a semicolon, without it, and the rest of the text. Statements of blanks and comments
/// only are left out.
pub(super) fn split(text: &str) -> (Vec<&str>, &str) {
    let mut tokens: Vec<TokenWithSpan> = Vec::new();
    // It fails at a quote or comment that is not closed yet. What came before it counts.
    let _ = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location_into_buf(&mut tokens);
    let lines = line_starts(text);
    let mut statements = Vec::new();
    let (mut start, mut is_blank) = (0, true);
    for TokenWithSpan { token, span } in tokens {
        match token {
            Token::SemiColon => {
                let end = offset(text, &lines, span.start);
                if !is_blank {
                    statements.push(text[start..end].trim());
                }
                (start, is_blank) = (end + 1, true);
            }
            Token::Whitespace(_) => {}
            _ => is_blank = false,
        }
    }
    (statements, &text[start..])
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

/// The byte at which a location is. Lines and columns count from 1, and columns count characters.
fn offset(text: &str, lines: &[usize], Location { line, column }: Location) -> usize {
    let before = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
    let start = lines.get(before(line)).copied().unwrap_or(text.len());
    text[start..].char_indices().nth(before(column)).map_or(text.len(), |(at, _)| start + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes_and_comments() {
        for (text, statements, rest) in [
            ("", &[][..], ""),
            ("SELECT 1", &[], "SELECT 1"),
            ("SELECT 1;", &["SELECT 1"], ""),
            ("SELECT 1; SELECT\n 2 ;\n3", &["SELECT 1", "SELECT\n 2"], "\n3"),
            ("SELECT ';' ;", &["SELECT ';'"], ""),
            ("SELECT \"a;b\" -- c;\n, 'ü;' ; x", &["SELECT \"a;b\" -- c;\n, 'ü;'"], " x"),
            ("SELECT /* ; */ 1;", &["SELECT /* ; */ 1"], ""),
            (";; -- nothing\n;", &[], ""),
            ("SELECT 1; SELECT 'open;", &["SELECT 1"], " SELECT 'open;"),
        ] {
            assert_eq!(split(text), (statements.to_vec(), rest), "{text}");
        }
    }
}
