//! The kinds of checks that are there from the start. Another one is a file here and a line below.

use std::sync::Arc;

use super::CheckKind;

/// All of them.
pub(super) fn builtin() -> Vec<Arc<dyn CheckKind>> {
    Vec::new()
}
