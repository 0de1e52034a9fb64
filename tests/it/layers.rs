//! Modules import only what ARCHITECTURE.md allows: from lines below their own, and never in a circle.

mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use source::{Crate, File, unsafe_lines};

/// From top to bottom.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["daemon"],
    &["config"],
    &["serve"],
    &["query", "export"],
    &["alert", "collector", "store", "latest"],
    &["family"],
    &["reading"],
    &["sampler", "batch"],
    &["ring"],
    &["record", "scheduling", "words"],
];

/// Crates, by the beginning of their names, and the only modules that may know them.
const KNOWN_BY: &[(&str, &[&str])] = &[
    ("heim", &["reading", "family"]),
    ("prost", &["cli", "serve", "export", "query"]),
    ("tonic", &["cli", "serve", "export"]),
    ("tokio", &["cli", "daemon", "serve", "query", "export", "alert"]),
];

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn kymo() -> Crate {
    Crate::read(package(), "kymo")
}

fn layer(module: &str) -> usize {
    let found = LAYERS.iter().position(|layer| layer.contains(&module));
    found.unwrap_or_else(|| panic!("{module} has no place in the layers"))
}

#[test]
fn modules_import_only_from_below() {
    let krate = kymo();
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for file in &krate.files {
        for (target, lines) in &file.imports {
            let target = &krate.files[*target];
            let (Some(own), Some(other)) = (file.module.first(), target.module.first()) else { continue };
            checked += 1;
            if own != other && layer(other) <= layer(own) {
                wrong.push(format!("{} imports {other}, lines {lines:?}", file.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 400, "only {checked} imports were found: the test reads too little");
}

#[test]
fn what_must_stay_apart_does() {
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for file in kymo().files {
        let Some(module) = file.module.first() else { continue };
        for (name, lines) in &file.foreign {
            for (_, modules) in KNOWN_BY.iter().filter(|(beginning, _)| name.starts_with(beginning)) {
                checked += 1;
                if !modules.contains(&module.as_str()) {
                    wrong.push(format!("{} knows {name}, lines {lines:?}", file.path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 40, "only {checked} uses were found: the test reads too little");
}

/// Files that import each other, directly or through others, as positions in `files`.
fn circles(files: &[File]) -> Vec<Vec<usize>> {
    let reached: Vec<BTreeSet<usize>> = (0..files.len())
        .map(|from| {
            let (mut found, mut waiting) = (BTreeSet::new(), vec![from]);
            while let Some(file) = waiting.pop() {
                let imports = files[file].imports.keys().copied();
                waiting.extend(imports.filter(|target| found.insert(*target)));
            }
            found
        })
        .collect();
    let circle = |file: usize| -> Vec<usize> {
        reached[file].iter().copied().filter(|other| reached[*other].contains(&file)).collect()
    };
    // Each once: by its first file.
    (0..files.len())
        .map(|file| (file, circle(file)))
        .filter(|(file, all)| all.first() == Some(file))
        .map(|(_, all)| all)
        .collect()
}

/// The imports among these files, one a line.
fn imports_among(files: &[File], circle: &[usize]) -> String {
    let mut texts = Vec::new();
    for from in circle {
        for (to, lines) in files[*from].imports.iter().filter(|(to, _)| circle.contains(to)) {
            let (from, to) = (files[*from].path.display(), files[*to].path.display());
            texts.push(format!("    {from} imports {to} in lines {lines:?}"));
        }
    }
    texts.join("\n")
}

#[test]
fn no_files_import_each_other() {
    let mut wrong = Vec::new();
    for (folder, name) in [("", "kymo"), ("heim-runtime", "heim_runtime")] {
        let files = Crate::read(&package().join(folder), name).files;
        let circles = circles(&files);
        wrong.extend(circles.iter().map(|circle| format!("a circle of {name}:\n{}", imports_among(&files, circle))));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_ring_and_four_calls_are_unsafe() {
    let mut folders = vec![package().join("src"), package().join("heim-runtime/src")];
    let (mut found, mut files): (Vec<(PathBuf, Vec<usize>)>, _) = (Vec::new(), 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files += 1;
                let lines = unsafe_lines(&fs::read_to_string(&path).unwrap());
                if !lines.is_empty() {
                    found.push((path, lines));
                }
            }
        }
    }
    assert!(files > 100, "{files}");
    found.sort();
    let [(code, in_code), (slab, in_slab), (ring, in_ring), (scheduling, in_scheduling)] = &found[..] else {
        panic!("{found:#?}")
    };
    assert!(code.ends_with("src/daemon/code.rs") && in_code.len() == 1, "{found:#?}");
    assert!(slab.ends_with("src/query/slab.rs") && in_slab.len() == 2, "{found:#?}");
    assert!(ring.ends_with("src/ring.rs") && in_ring.len() >= 6, "{found:#?}");
    assert!(scheduling.ends_with("src/scheduling.rs") && in_scheduling.len() == 1, "{found:#?}");
}

#[test]
fn imports_are_seen_however_they_are_written() {
    let package = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = package.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("src/lib.rs", "mod a; mod b; mod c; mod d; #[cfg(test)] mod probe;");
    write("src/a.rs", "pub mod child;\nuse crate::{b::{self as other, X}, c};\nfn f() { other::g() }");
    write("src/a/child.rs", "pub(super) fn f() { super::super::d::g() }\n#[cfg(test)] mod tests { use crate::c; }");
    write("src/b.rs", "mod inner { use super::super::a::child; fn f() { h!(child::f(), [crate::c::X]) } }");
    write(
        "src/c.rs",
        "// crate::a\nfn f() { let text = \"crate::a\"; }\n#[cfg(all(test, x))] fn g() { crate::a::f() }",
    );
    write("src/d.rs", "use crate::a::*;\nuse std::fmt;\nfn f() -> fmt::Result { tokio::spawn() }");
    let krate = Crate::read(package.path(), "example");
    let mut found: Vec<String> = Vec::new();
    for file in &krate.files {
        for (target, lines) in &file.imports {
            found.push(format!("{} {} {lines:?}", file.module.join("/"), krate.files[*target].module.join("/")));
        }
    }
    found.sort();
    assert_eq!(found, ["a b {2, 3}", "a c {2}", "a/child d {1}", "b a/child {1}", "b c {1}", "d a {1}"]);
    let d = krate.files.iter().find(|file| file.module == ["d"]).unwrap();
    let foreign: Vec<&str> = d.foreign.keys().map(String::as_str).collect();
    assert_eq!(foreign, ["std", "tokio"]);
}
