//! The page as one file: its script, its style and its data are in it, and its policy lets it load nothing.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::read::GzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::table::Packed;

const SCRIPT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/main.js.gz"));
const STYLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/page.css.gz"));
const ICON: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/icon.svg.gz"));

/// Writes the page of a recording with these tables.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(recording: &Value, tables: &[(&str, Packed)], to: &mut impl Write) -> io::Result<()> {
    let (script, style) = (text(SCRIPT)?, text(STYLE)?);
    // What is between the tags counts, to the last blank.
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    write!(
        to,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src {}; style-src {}; img-src data:; \
         form-action 'none'; base-uri 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>kymo report</title>\n\
         <link rel=\"icon\" href=\"data:image/svg+xml;base64,{}\">\n<style>{style}</style>\n</head>\n<body>\n\
         <header id=\"header\"></header>\n<div class=\"bar\" id=\"bar\" role=\"toolbar\" aria-label=\"Time\"></div>\n\
         <div class=\"banner\" id=\"banner\" role=\"status\" hidden></div>\n\
         <div class=\"body\" id=\"body\"><noscript>This page draws charts with JavaScript, from its own data only.</noscript></div>\n\
         <script type=\"application/json\" id=\"report\">{}</script>\n",
        hash(&script),
        hash(&style),
        BASE64_STANDARD.encode(text(ICON)?),
        inert(&recording.to_string()),
    )?;
    for (table, packed) in tables {
        for (column, block) in &packed.blocks {
            write!(to, "<script type=\"application/octet-stream\" id=\"{}\">", id(table, column))?;
            to.write_all(block.text.as_bytes())?;
            to.write_all(b"</script>\n")?;
        }
    }
    write!(to, "<script type=\"module\">{script}</script>\n</body>\n</html>\n")
}

/// How the page finds a block.
fn id(table: &str, column: &str) -> String {
    format!("rows:{table}:{column}")
}

/// JSON that cannot end the element that it is in.
fn inert(json: &str) -> String {
    json.chars().fold(String::with_capacity(json.len()), |mut inert, letter| {
        if letter == '<' {
            // Writing to a String cannot fail.
            let _ = write!(inert, "\\u003c");
        } else {
            inert.push(letter);
        }
        inert
    })
}

fn text(gzip: &[u8]) -> io::Result<String> {
    let mut text = String::new();
    GzDecoder::new(gzip).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_in_the_data_is_a_tag_and_the_policy_knows_the_script() {
        let recording = json!({ "host": "</script><img src=x onerror=alert(1)>" });
        let mut page = Vec::new();
        write(&recording, &[], &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(!page.contains("<img") && page.contains(r#"{"host":"\u003c/script>\u003cimg src=x"#));
        let (_, rest) = page.split_once("<script type=\"module\">").unwrap();
        let (script, end) = rest.split_once("</script>").unwrap();
        assert_eq!(end, "\n</body>\n</html>\n");
        let hash = BASE64_STANDARD.encode(Sha256::digest(script));
        assert!(page.contains(&format!("script-src 'sha256-{hash}';")));
        // Addresses in it are only those of its own elements.
        assert!(!page.contains("src=\"") && page.matches("href=\"").count() == 1);
    }
}
