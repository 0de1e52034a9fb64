//! Compiles the gRPC API under `proto/` without protoc, and keeps its descriptors for server reflection. Compresses the page's files,
//! which are `web/`, and gives their folder a name with their hash. The page's modules are joined into one script.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use flate2::Compression;
use flate2::write::GzEncoder;

/// The API, below `proto/`.
const FILES: [&str; 2] = ["kymo/v1/alert_service.proto", "kymo/v1/metrics_service.proto"];

/// The first glibc whose loader reads packed relocations.
const GLIBC_OF_PACKED: (u32, u32) = (2, 36);

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    // The program is 4 MB smaller with its 180,000 relocations packed, and then needs this glibc. Built on an older system,
    // it has them unpacked and runs there.
    if env::var("HOST")? == env::var("TARGET")? && glibc().is_some_and(|version| version >= GLIBC_OF_PACKED) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    tonic_prost_build::configure().btree_map(".").compile_fds(compiler.file_descriptor_set())?;

    // Reflection needs no comments: without them the program is smaller.
    compiler.include_source_info(false);
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    fs::write(Path::new(&out).join("kymo.bin"), compiler.encode_file_descriptor_set())?;
    embed_page(Path::new("web"), Path::new(&out))
}

/// Writes the constants of the page: `HASH`, `INDEX` and `FILES`. Its modules are one of these files: a browser takes a third of a second
/// to fetch forty.
fn embed_page(web: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", web.display());
    let index = fs::read_to_string(web.join("index.html"))?;
    let parts = [
        ("page.css", "text/css; charset=utf-8", fs::read(web.join("page.css"))?),
        ("icon.svg", "image/svg+xml", fs::read(web.join("icon.svg"))?),
        ("main.js", "text/javascript; charset=utf-8", joined(web)?.into_bytes()),
    ];
    let mut hash = fnv(FNV_BASIS, index.as_bytes());
    let mut files = String::new();
    for (name, content_type, bytes) in parts {
        hash = fnv(fnv(hash, name.as_bytes()), &bytes);
        fs::write(out.join(format!("{name}.gz")), gzip(&bytes)?)?;
        writeln!(
            files,
            "    File {{ name: {name:?}, content_type: {content_type:?}, bytes: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.gz\")) }},"
        )?;
    }
    let index = index.replace("/web/", &format!("/web/{hash:016x}/"));
    fs::write(out.join("index.html.gz"), gzip(index.as_bytes())?)?;
    let constants = format!(
        "/// Of all files.\nconst HASH: &str = \"{hash:016x}\";\n/// The page itself, as gzip.\nconst INDEX: &[u8] = include_bytes!(concat!(env!(\"OUT_DIR\"), \"/index.html.gz\"));\n\
         /// What it loads.\nstatic FILES: &[File] = &[\n{files}];\n"
    );
    fs::write(out.join("web.rs"), constants)?;
    Ok(())
}

/// The modules of the page as one script: each in a function of its own, after those that it imports.
fn joined(web: &Path) -> Result<String, Box<dyn Error>> {
    let mut modules = Modules { web, parsed: BTreeMap::new(), order: Vec::new() };
    modules.read("main", &mut Vec::new())?;
    let mut script = String::from("'use strict';\n");
    for name in &modules.order {
        let module = &modules.parsed[name];
        // What other modules name may be declared after another one: `export const A = 1, B = 2`.
        let wanted = modules.parsed.values().filter_map(|other| other.names.get(name)).flatten();
        let exported: BTreeSet<&str> = module.exported.iter().chain(wanted).map(String::as_str).collect();
        let exported = exported.into_iter().collect::<Vec<_>>().join(", ");
        write!(script, "const ${name} = (() => {{\n{}\nreturn {{ {exported} }};\n}})();\n", module.text.trim())?;
    }
    // It would end the element that the script is in.
    if script.to_ascii_lowercase().contains("</script") {
        return Err("a module of the page has the end of a script in it".into());
    }
    Ok(script)
}

/// Modules that are read.
struct Modules<'a> {
    web: &'a Path,
    parsed: BTreeMap<String, Module>,
    /// Each after those that it imports.
    order: Vec<String>,
}

/// A module without the words `import` and `export`.
struct Module {
    text: String,
    /// The names behind `export`.
    exported: BTreeSet<String>,
    /// What it imports by name, by module.
    names: BTreeMap<String, BTreeSet<String>>,
}

impl Modules<'_> {
    fn read(&mut self, name: &str, above: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
        if above.iter().any(|other| other == name) {
            return Err(format!("modules of the page import each other: {above:?}, {name}").into());
        }
        if self.parsed.contains_key(name) {
            return Ok(());
        }
        above.push(name.to_owned());
        let source = fs::read_to_string(self.web.join(format!("{name}.js")))?;
        let mut module = Module { text: String::new(), exported: BTreeSet::new(), names: BTreeMap::new() };
        let mut rest = source.as_str();
        while !rest.is_empty() {
            // An import ends with its semicolon, all else with its line.
            let is_import = rest.starts_with("import ");
            let end = if is_import { rest.find(";\n").map(|at| at + 1) } else { rest.find('\n') };
            let (line, more) = rest.split_at(end.unwrap_or(rest.len()));
            rest = more.strip_prefix('\n').unwrap_or(more);
            if is_import {
                let (what, from) = imported(line).ok_or_else(|| format!("{name}.js: cannot read {line}"))?;
                self.read(&from, above)?;
                module.text += &taken(what, &from, module.names.entry(from.clone()).or_default());
            } else if let Some(declared) = line.strip_prefix("export ") {
                let names = declared.trim_start_matches("async ").split_once(' ').map(|(_, names)| names);
                let end = |names: &str| names.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(names.len());
                let own = names.map(|names| names[..end(names)].to_owned()).filter(|own| !own.is_empty());
                module.exported.insert(own.ok_or_else(|| format!("{name}.js: cannot read {line}"))?);
                module.text += declared;
            } else {
                module.text += line;
            }
            module.text.push('\n');
        }
        above.pop();
        self.order.push(name.to_owned());
        self.parsed.insert(name.to_owned(), module);
        Ok(())
    }
}

/// What an import names, and its module: `{ a, b as c }` or `* as a`.
fn imported(line: &str) -> Option<(&str, String)> {
    let (what, from) = line.strip_prefix("import ")?.trim_end_matches(';').rsplit_once(" from ")?;
    Some((what, from.trim_matches('\'').strip_prefix("./")?.strip_suffix(".js")?.to_owned()))
}

/// The declaration that stands for an import.
fn taken(what: &str, from: &str, names: &mut BTreeSet<String>) -> String {
    if let Some(own) = what.strip_prefix("* as ") {
        return format!("const {own} = ${from};");
    }
    let listed = what.trim_matches(|c: char| c == '{' || c == '}' || c.is_whitespace()).split(',').map(str::trim);
    let listed = listed.filter(|one| !one.is_empty()).map(|one| {
        let (name, own) = one.split_once(" as ").unwrap_or((one, one));
        names.insert(name.to_owned());
        if name == own { name.to_owned() } else { format!("{name}: {own}") }
    });
    format!("const {{ {} }} = ${from};", listed.collect::<Vec<_>>().join(", "))
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>, std::io::Error> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Where FNV-1a begins.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, which tells versions of a file apart and needs no more than this.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The version of this system's glibc, from a line such as `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?.stdout;
    let (major, minor) = std::str::from_utf8(&told).ok()?.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
