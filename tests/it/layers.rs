//! The layers of ARCHITECTURE.md hold: a module imports only from lines below its own, and modules on one line do not
//! import each other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From top to bottom.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["daemon"],
    &["config"],
    &["serve"],
    &["query", "export"],
    &["alert", "store"],
    &["family"],
    &["sampler", "batch"],
    &["ring"],
    &["record", "words"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The modules that the code of a file names by `crate::…` or `kymo::…`. Tests may look further down or up.
fn imports(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut found = BTreeSet::new();
    for line in lines {
        for prefix in ["crate::", "kymo::"] {
            for (at, _) in line.match_indices(prefix) {
                let before = line[..at].chars().next_back();
                if before.is_some_and(|character| character.is_alphanumeric() || "_$\"".contains(character)) {
                    continue;
                }
                let rest = &line[at + prefix.len()..];
                let names = rest.strip_prefix('{').map_or_else(|| vec![rest], |group| group.split(',').collect());
                for name in names {
                    let name: String = name
                        .trim()
                        .chars()
                        .take_while(|character| character.is_alphanumeric() || *character == '_')
                        .collect();
                    if layer(&name).is_some() {
                        found.insert(name);
                    }
                }
            }
        }
    }
    found
}

#[test]
fn modules_import_only_from_below() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for file in files {
        let path = file.strip_prefix(&root).unwrap();
        let name = path.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if name == "lib" {
            continue;
        }
        let own = layer(&name).unwrap_or_else(|| panic!("{name} has no place in the layers"));
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            checked += 1;
            if import != name && layer(&import).unwrap() <= own {
                wrong.push(format!("{} imports {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 50, "only {checked} imports were found: the test reads too little");
}

#[test]
fn what_must_stay_apart_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    // (who, what it must not know)
    let rules: &[(&[&str], &[&str])] = &[
        (&["record", "ring", "sampler", "batch", "family", "store"], &["tokio::", "tonic::", "prost"]),
        (&["record", "ring", "sampler", "batch", "alert", "store", "query"], &["heim"]),
        (&["alert", "query", "config"], &["tonic::", "prost::"]),
    ];
    let mut wrong = Vec::new();
    for file in files {
        let path = file.strip_prefix(&root).unwrap();
        let name = path.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (modules, words) in rules.iter().filter(|(modules, _)| modules.contains(&name.as_str())) {
            let used = code.lines().filter(|line| line.trim_start().starts_with("use "));
            for line in used.filter(|line| words.iter().any(|word| line.contains(word))) {
                wrong.push(format!("{} ({modules:?}): {line}", path.display()));
            }
        }
        let unsafe_code = code.lines().any(|line| !line.trim_start().starts_with("//") && line.contains("unsafe "));
        assert!(!unsafe_code || name == "ring", "{} has unsafe code", path.display());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
