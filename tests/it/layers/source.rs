//! Reads the modules of a crate and what each of them imports, from syntax.
//!
//! A file is a module; modules within a file belong to it. An import is a `use`, or a path in code or in the arguments of a
//! macro, that leads to another file. Declaring a child (`mod child;`) imports nothing. Not seen: names that come through
//! a glob, whose `use` is seen; and `$crate` in the rules of a macro, which is an import of the file that calls it.
//! Code under `#[cfg(test)]` is left out, and so are files that are declared under it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemMod, ItemUse, Macro, Meta, UseTree, VisRestricted};

/// The longest chain of `use` that is followed from one name to the next.
const ALIASES_MAX: usize = 8;

/// The modules of one crate, each before its children.
pub struct Crate {
    pub files: Vec<File>,
}

/// A module and what it imports.
pub struct File {
    /// From the folder of the package, such as `src/store/lake.rs`.
    pub path: PathBuf,
    /// The module, such as `store`, `lake`; empty for the crate itself.
    pub module: Vec<String>,
    /// Files of the same crate by their position in [`Crate::files`], and the lines that name them.
    pub imports: BTreeMap<usize, BTreeSet<usize>>,
    /// First segments of paths that lead out of the crate or to names of this file, and the lines that have them.
    pub foreign: BTreeMap<String, BTreeSet<usize>>,
}

/// A path as it is written.
struct Written {
    /// The module within the file that it is written in.
    within: Vec<String>,
    segments: Vec<String>,
    line: usize,
}

/// Where a path leads.
enum Place {
    Here(Vec<String>),
    Elsewhere(String),
}

/// What one file says.
#[derive(Default)]
struct Reader {
    within: Vec<String>,
    /// Modules that are declared here.
    declared: BTreeSet<Vec<String>>,
    /// Those that are files, and no tests.
    children: Vec<Vec<String>>,
    written: Vec<Written>,
    /// What names stand for by a `use`, and the module within the file that has it.
    aliases: BTreeMap<String, (Vec<String>, Vec<String>)>,
}

impl Crate {
    /// Reads `src/lib.rs` and all modules below it, and `src/main.rs`, if there is one, as the module `main`. `name` is
    /// what other crates call this one.
    pub fn read(package: &Path, name: &str) -> Crate {
        let mut readers = Vec::new();
        let mut files = Vec::new();
        let mut waiting = vec![(PathBuf::from("src/lib.rs"), Vec::new())];
        if package.join("src/main.rs").exists() {
            waiting.push((PathBuf::from("src/main.rs"), vec!["main".to_owned()]));
        }
        while let Some((path, module)) = waiting.pop() {
            let text = fs::read_to_string(package.join(&path)).unwrap();
            let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let mut reader = Reader { within: module.clone(), ..Reader::default() };
            reader.visit_file(&syntax);
            let folder = if module.is_empty() { path.parent().unwrap().to_owned() } else { path.with_extension("") };
            for child in &reader.children {
                let below: PathBuf = child[module.len()..].iter().collect();
                waiting.push((folder.join(below).with_extension("rs"), child.clone()));
            }
            readers.push(reader);
            files.push(File { path, module, imports: BTreeMap::new(), foreign: BTreeMap::new() });
        }
        let modules: BTreeMap<Vec<String>, usize> =
            files.iter().enumerate().map(|(number, file)| (file.module.clone(), number)).collect();
        for (number, (file, reader)) in files.iter_mut().zip(&readers).enumerate() {
            for Written { within, segments, line } in &reader.written {
                match reader.place(name, within, segments, ALIASES_MAX) {
                    Place::Here(path) => {
                        // The longest part of the path that is a file; the crate itself has the rest.
                        let target = (0..=path.len()).rev().find_map(|len| modules.get(&path[..len])).unwrap();
                        if *target != number {
                            file.imports.entry(*target).or_default().insert(*line);
                        }
                    }
                    Place::Elsewhere(first) => _ = file.foreign.entry(first).or_default().insert(*line),
                }
            }
        }
        Crate { files }
    }
}

impl Reader {
    fn place(&self, name: &str, within: &[String], segments: &[String], aliases_left: usize) -> Place {
        let mut at = within.to_vec();
        let first = &segments[0];
        let rest = match first.as_str() {
            "crate" => {
                at.clear();
                &segments[1..]
            }
            "self" => &segments[1..],
            "super" => {
                let up = segments.iter().take_while(|segment| *segment == "super").count();
                at.truncate(at.len() - up);
                &segments[up..]
            }
            first if first == name => {
                at.clear();
                &segments[1..]
            }
            first => {
                let mut child = at.clone();
                child.push(first.to_owned());
                if self.declared.contains(&child) {
                    segments
                } else if let Some((within, path)) = self.aliases.get(first).filter(|(_, path)| path[0] != first)
                    && aliases_left > 0
                {
                    let path: Vec<String> = path.iter().chain(&segments[1..]).cloned().collect();
                    return self.place(name, within, &path, aliases_left - 1);
                } else {
                    return Place::Elsewhere(first.to_owned());
                }
            }
        };
        at.extend_from_slice(rest);
        Place::Here(at)
    }

    fn note(&mut self, segments: Vec<String>, line: usize) {
        self.written.push(Written { within: self.within.clone(), segments, line });
    }

    /// Notes each name of a `use`.
    fn note_use(&mut self, before: &[String], tree: &UseTree) {
        let with = |ident: &Ident| before.iter().cloned().chain([ident.to_string()]).collect::<Vec<String>>();
        let (path, name) = match tree {
            UseTree::Path(path) => return self.note_use(&with(&path.ident), &path.tree),
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.note_use(before, tree)),
            UseTree::Glob(glob) => return self.note(before.to_vec(), glob.star_token.spans[0].start().line),
            UseTree::Name(name) => (with(&name.ident), &name.ident),
            UseTree::Rename(rename) => (with(&rename.ident), &rename.rename),
        };
        // `use a::b::{self}` is `use a::b`.
        let path = if path.len() > 1 && name == "self" { before.to_vec() } else { path };
        let alias = if name == "self" { path[path.len() - 1].clone() } else { name.to_string() };
        self.note(path.clone(), name.span().start().line);
        self.aliases.insert(alias, (self.within.clone(), path));
    }

    /// Notes what looks like a path of several segments.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.note_tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let is_variable = at > 0 && matches!(&tokens[at - 1], TokenTree::Punct(p) if p.as_char() == '$');
                    let mut segments = vec![first.to_string()];
                    while is_colon(at + 1) && is_colon(at + 2) {
                        let Some(TokenTree::Ident(next)) = tokens.get(at + 3) else { break };
                        segments.push(next.to_string());
                        at += 3;
                    }
                    if segments.len() > 1 && !is_variable {
                        self.note(segments, first.span().start().line);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }
}

impl<'a> Visit<'a> for Reader {
    fn visit_item(&mut self, item: &'a Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'a ImplItem) {
        let attributes = match item {
            ImplItem::Fn(item) => &item.attrs[..],
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'a ItemMod) {
        self.within.push(module.ident.to_string());
        self.declared.insert(self.within.clone());
        if module.content.is_none() {
            self.children.push(self.within.clone());
        }
        visit::visit_item_mod(self, module);
        self.within.pop();
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        self.note_use(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(segments, path.segments[0].ident.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'a Macro) {
        self.visit_path(&called.path);
        self.note_tokens(called.tokens.clone());
    }

    /// `pub(super)` imports nothing.
    fn visit_vis_restricted(&mut self, _: &'a VisRestricted) {}

    fn visit_attribute(&mut self, _: &'a Attribute) {}
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether the item is only there for tests: `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition: String = list.tokens.to_string().split_whitespace().collect();
            condition == "test" || condition.starts_with("all(test,")
        }
        _ => false,
    })
}

/// The lines with the keyword `unsafe`, wherever it stands: blocks, functions, implementations, macros, tests.
pub fn unsafe_lines(text: &str) -> Vec<usize> {
    fn find(tokens: TokenStream, lines: &mut Vec<usize>) {
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if ident == "unsafe" => lines.push(ident.span().start().line),
                TokenTree::Group(group) => find(group.stream(), lines),
                _ => {}
            }
        }
    }
    let mut lines = Vec::new();
    find(text.parse().unwrap(), &mut lines);
    lines
}
