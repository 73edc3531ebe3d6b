//! The sources as syntax trees: types, functions and imports by file.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use syn::{Attribute, Expr, Fields, File, Generics, Item, ItemFn, Lit, Meta, UseTree, Variant};

/// Crates whose types may be named in the API.
const CRATES: &[&str] = &["pillarbox", "relay", "store", "diagnose", "explain", "net", "proto"];

/// A type that is named in the API.
pub struct Type {
    /// File it is in, from the root of the repository.
    pub file: String,
    /// Attributes, documentation among them.
    pub attributes: Vec<Attribute>,
    /// Its parameters.
    pub generics: Generics,
    /// What it is.
    pub shape: Shape,
}

/// A struct or an enum.
pub enum Shape {
    /// Fields.
    Struct(Fields),
    /// Variants.
    Enum(Vec<Variant>),
}

/// What was read.
#[derive(Default)]
pub struct Sources {
    types: HashMap<String, Vec<Type>>,
    /// Functions by file and name.
    pub functions: HashMap<(String, String), ItemFn>,
    /// What a file imports: name to path.
    imports: HashMap<(String, String), String>,
}

/// The repository.
pub fn root() -> PathBuf {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("run by cargo");
    Path::new(&here).ancestors().nth(2).expect("the repository").to_owned()
}

impl Sources {
    /// Reads the sources of all crates that could name a type of the API.
    pub fn read() -> Self {
        let mut sources = Self::default();
        for name in CRATES {
            sources.directory(&root().join("crates").join(name).join("src"));
        }
        sources
    }

    fn directory(&mut self, path: &Path) {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
        entries.sort();
        for entry in entries {
            if entry.is_dir() {
                self.directory(&entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&entry).expect("a source");
                let parsed: File =
                    syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", entry.display()));
                let name = entry.strip_prefix(root()).expect("within the repository").display().to_string();
                parsed.items.into_iter().for_each(|item| self.item(&name, item));
            }
        }
    }

    fn item(&mut self, file: &str, item: Item) {
        let mut add = |name: String, attributes, generics, shape| {
            self.types.entry(name).or_default().push(Type { file: file.to_owned(), attributes, generics, shape });
        };
        match item {
            Item::Struct(one) => add(one.ident.to_string(), one.attrs, one.generics, Shape::Struct(one.fields)),
            Item::Enum(one) => {
                add(one.ident.to_string(), one.attrs, one.generics, Shape::Enum(one.variants.into_iter().collect()));
            }
            Item::Fn(one) => drop(self.functions.insert((file.to_owned(), one.sig.ident.to_string()), one)),
            Item::Use(one) => self.import(file, "", &one.tree),
            _ => {}
        }
    }

    fn import(&mut self, file: &str, before: &str, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => self.import(file, &format!("{before}{}::", path.ident), &path.tree),
            UseTree::Name(name) => {
                let path = format!("{before}{}", name.ident);
                self.imports.insert((file.to_owned(), name.ident.to_string()), path);
            }
            UseTree::Rename(name) => {
                let path = format!("{before}{}", name.ident);
                self.imports.insert((file.to_owned(), name.rename.to_string()), path);
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(file, before, tree)),
            UseTree::Glob(_) => {}
        }
    }

    /// The type that a path means in a file; `None` for one that is not ours.
    pub fn find(&self, file: &str, path: &str) -> Option<(&Type, String)> {
        let first = path.split("::").next().unwrap_or(path);
        let full = match self.imports.get(&(file.to_owned(), first.to_owned())) {
            Some(import) => format!("{import}{}", &path[first.len()..]),
            None => path.to_owned(),
        };
        let name = full.rsplit("::").next().unwrap_or(&full).to_owned();
        // A name is that of the crate it is imported from, also where a macro makes it and it is not seen here.
        let first = full.split("::").next().filter(|_| full.contains("::")).unwrap_or_default();
        let owner = if CRATES.contains(&first) { Some(first) } else { file.split('/').nth(1) };
        let of_owner = |one: &&Type| owner.is_none_or(|owner| one.file.split('/').nth(1) == Some(owner));
        let all: Vec<&Type> = self.types.get(&name)?.iter().filter(of_owner).collect();
        let score = |one: &Type| -> usize {
            let segments: Vec<&str> = full.split("::").collect();
            let within = |segment: &&str| one.file.split(['/', '.']).any(|part| part == *segment);
            usize::from(!full.contains("::") && one.file == file) * 100
                + segments[..segments.len() - 1].iter().filter(|segment| within(segment)).count() * 10
                + usize::from(derives(&one.attributes, "Deserialize") || derives(&one.attributes, "Serialize")) * 3
                + usize::from(one.file.split('/').nth(1) == file.split('/').nth(1))
        };
        let found = *all.iter().max_by_key(|one| score(one))?;
        let equals = all.iter().filter(|one| score(one) == score(found)).count();
        assert!(equals == 1, "{path} in {file} may be one of several types");
        Some((found, name))
    }
}

/// The documentation of an item, lines joined.
pub fn doc(attributes: &[Attribute]) -> String {
    let mut text = String::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        if let Meta::NameValue(pair) = &attribute.meta
            && let Expr::Lit(literal) = &pair.value
            && let Lit::Str(line) = &literal.lit
        {
            let line = line.value();
            let line = line.trim();
            if line.starts_with('#') {
                break;
            }
            text.push_str(if line.is_empty() { "\n" } else { line });
            text.push(' ');
        }
    }
    // Links are for readers of the source.
    text.replace("[`", "`").replace("`]", "`").trim().to_owned()
}

/// What `#[serde(…)]` says: words, and words with values.
pub fn serde(attributes: &[Attribute]) -> HashMap<String, String> {
    let mut found = HashMap::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        attribute
            .parse_nested_meta(|meta| {
                let name = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
                let mut value = String::new();
                if meta.input.peek(syn::Token![=]) {
                    let literal: syn::LitStr = meta.value()?.parse()?;
                    value = literal.value();
                }
                found.insert(name, value);
                Ok(())
            })
            .expect("serde's words");
    }
    found
}

/// Whether a type derives a trait.
pub fn derives(attributes: &[Attribute], wanted: &str) -> bool {
    let mut found = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
        let _ = attribute.parse_nested_meta(|meta| {
            found |= meta.path.segments.last().is_some_and(|last| last.ident == wanted);
            Ok(())
        });
    }
    found
}
