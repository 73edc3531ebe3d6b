//! Batches: what a template is, how its rows are checked before anything is accepted, and how each becomes a message.
//!
//! Templates and rows come from applications and are taken as hostile: [`guard`] and [`engine`] bound what they may cost,
//! [`input`] what they may be. The queue's side is in `relay::batch`, the way in is in `http::api::batches`.

pub mod engine;
pub mod guard;
pub mod input;
pub mod merge;
pub mod upload;

/// Most rows of a batch.
pub const MAX_ROWS: u32 = 100_000;
/// Most octets of a row.
pub const MAX_ROW: usize = 16 * 1024;
/// Most octets of all rows together.
pub const MAX_OCTETS: u64 = 256 << 20;
/// Bad rows that are named; the others are counted.
pub const MAX_NAMED: usize = 1_000;

/// Most characters of what is said about a bad row.
const MAX_WORDS: usize = 200;

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFault {
    /// Field of the row, or part of the template.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

impl RowFault {
    /// From its parts. Both may quote the row, so they are cut: there may be many of them.
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        let cut = |text: String| match text.char_indices().nth(MAX_WORDS) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        };
        Self { field: cut(field.into()), detail: cut(detail.into()) }
    }
}
