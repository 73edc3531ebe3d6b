//! What was typed: every value of the file and of the environment with its place, not yet understood.
//!
//! Unknown names are found here, several at once; what a value means is the affair of [`super::checked`].

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Key};
use super::{Place, Problem};

/// A value as typed.
#[derive(Debug, Clone, PartialEq)]
pub enum Typed {
    /// A string, or the text of an environment variable.
    Text(String),
    /// An integer.
    Integer(i64),
    /// `true` or `false`.
    Flag(bool),
    /// An array.
    List(Vec<Typed>),
    /// Something no setting takes: the TOML name of its type.
    Other(&'static str),
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// The value.
    pub value: Typed,
    /// Where it was typed.
    pub place: Place,
}

/// One table's values by key.
pub type Values = BTreeMap<&'static str, Located>;

/// One `[[listener]]` or `[[stream]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Its header.
    pub place: Place,
    /// Its values by full path (`listener.name`).
    pub values: Values,
}

/// All that was typed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Raw {
    /// Single settings by path (`retry.expiry`).
    pub values: Values,
    /// Array tables by name.
    pub blocks: BTreeMap<&'static str, Vec<Block>>,
}

/// Line and column, from 1, of an offset.
fn place(text: &str, offset: usize) -> Place {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line_start = before.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
    let line = before.iter().filter(|octet| **octet == b'\n').count() + 1;
    // Columns count characters; an offset inside one counts it as begun.
    let column = before[line_start..].iter().filter(|octet| (**octet & 0xC0) != 0x80).count() + 1;
    Place::File { line, column }
}

/// Reads the text; syntax errors and unknown names become problems, the rest is kept.
pub fn parse(text: &str, problems: &mut Vec<Problem>) -> Raw {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let offset = error.span().map_or(0, |span| span.start);
        problems.push(Problem { file: None, place: place(text, offset), message: error.message().to_owned() });
    }
    let mut reader = Reader { text, problems, raw: Raw::default() };
    reader.table("", table.get_ref());
    reader.raw
}

struct Reader<'a> {
    text: &'a str,
    problems: &'a mut Vec<Problem>,
    raw: Raw,
}

impl Reader<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let path = join(prefix, name.get_ref());
            if let Some(key) = keys::find(&path).filter(|key| !key.in_block()) {
                let located = Located { value: typed(value), place: place(self.text, value.span().start) };
                self.raw.values.insert(key.path, located);
            } else if let Some(block) = prefix.is_empty().then(|| keys::block(&path)).flatten() {
                self.blocks(block, value);
            } else {
                match value.get_ref() {
                    DeValue::Table(inner) if keys::is_section(&path) => self.table(&path, inner),
                    _ => self.unknown(name.span().start, &path),
                }
            }
        }
    }

    fn blocks(&mut self, block: &'static str, value: &Spanned<DeValue<'_>>) {
        let Some(items) = value.get_ref().as_array() else {
            let message = format!("`{block}` is a list: begin each one with [[{block}]]");
            self.problems.push(Problem { file: None, place: place(self.text, value.span().start), message });
            return;
        };
        for item in items.iter() {
            let mut values = Values::new();
            for (name, value) in item.get_ref().as_table().into_iter().flatten() {
                let path = join(block, name.get_ref());
                match keys::find(&path) {
                    Some(key) => {
                        let located = Located { value: typed(value), place: place(self.text, value.span().start) };
                        values.insert(key.path, located);
                    }
                    None => self.unknown(name.span().start, &path),
                }
            }
            let header = place(self.text, item.span().start);
            self.raw.blocks.entry(block).or_default().push(Block { place: header, values });
        }
    }

    fn unknown(&mut self, offset: usize, path: &str) {
        let message = match keys::nearest(path) {
            Some(near) => format!("there is no setting `{}`; did you mean `{near}`?", path.escape_debug()),
            None => {
                format!("there is no setting `{}`; `pillarbox config reference` lists them", path.escape_debug())
            }
        };
        self.problems.push(Problem { file: None, place: place(self.text, offset), message });
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

fn typed(value: &Spanned<DeValue<'_>>) -> Typed {
    match value.get_ref() {
        DeValue::String(text) => Typed::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(&number.as_str().replace('_', ""), number.radix())
            .map_or(Typed::Other("integer out of range"), Typed::Integer),
        DeValue::Boolean(flag) => Typed::Flag(*flag),
        DeValue::Array(items) => Typed::List(items.iter().map(typed).collect()),
        other => Typed::Other(other.type_str()),
    }
}

/// The environment variable that sets a key.
pub fn variable(key: &Key) -> String {
    format!("PILLARBOX_{}", key.path.replace('.', "_").to_ascii_uppercase())
}

/// Lays environment variables over the file. Variables that name no setting are left to others.
pub fn add_environment(raw: &mut Raw, environment: impl Iterator<Item = (String, String)>) {
    let given: BTreeMap<String, String> = environment.collect();
    for key in keys::KEYS.iter().filter(|key| !key.in_block()) {
        let name = variable(key);
        if let Some(text) = given.get(&name) {
            let located = Located { value: Typed::Text(text.clone()), place: Place::Environment(name) };
            raw.values.insert(key.path, located);
        }
    }
}
