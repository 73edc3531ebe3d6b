//! What is wrong, or odd, in a record: where, how bad, and which kind.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The record works; this is worth knowing.
    Warning,
    /// The record, or this part of it, does not count.
    Error,
}

/// One thing about a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// How bad.
    pub level: Level,
    /// A word in snake case; the same for the same mistake whatever the record says.
    pub kind: &'static str,
    /// Octet offset into the record's text, from 0.
    pub at: usize,
    /// A fragment in lower case; parts of the record in it are as they came (bounded, not escaped).
    pub text: String,
}

impl Remark {
    /// Something that does not count.
    pub fn error(kind: &'static str, at: usize, text: impl Into<String>) -> Self {
        Self { level: Level::Error, kind, at, text: text.into() }
    }
    /// Something worth knowing.
    pub fn warning(kind: &'static str, at: usize, text: impl Into<String>) -> Self {
        Self { level: Level::Warning, kind, at, text: text.into() }
    }
}

/// A record as far as it can be understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parsed<T> {
    /// `None`: a receiver treats it as if it were not there.
    pub record: Option<T>,
    /// In the order of their positions.
    pub remarks: Vec<Remark>,
}

impl<T> Parsed<T> {
    /// Any [`Level::Error`].
    pub fn has_errors(&self) -> bool {
        self.remarks.iter().any(|remark| remark.level == Level::Error)
    }

    pub(crate) fn new(record: Option<T>, mut remarks: Vec<Remark>) -> Self {
        remarks.sort_by_key(|remark| remark.at);
        Self { record, remarks }
    }
}

/// At most 80 characters of a text from outside, for a remark.
pub(crate) fn short(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
