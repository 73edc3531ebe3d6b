//! The kinds of checks that are there from the start. Another one is a file here and a line below.

use std::sync::Arc;

use super::CheckKind;
use super::journal::{JournalKind, ReverseKind};
use super::lists::ListsKind;

/// All of them.
pub(super) fn builtin() -> Vec<Arc<dyn CheckKind>> {
    vec![Arc::new(JournalKind), Arc::new(ReverseKind), Arc::new(ListsKind::default())]
}
