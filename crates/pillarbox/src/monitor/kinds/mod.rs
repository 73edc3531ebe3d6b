//! The kinds of checks that are there from the start. Another one is a file here and a line below.

mod certificate;
mod itself;
mod key_age;
pub mod own;
mod own_arrival;
mod probe;
pub(super) mod reported;
mod secret;
mod settings;

use std::sync::Arc;

use super::CheckKind;
use super::journal::{JournalKind, ReverseKind};
use super::lists::ListsKind;

/// All of them; with `builtin` off only those of one's own.
pub(super) fn all(builtin: bool) -> Vec<Arc<dyn CheckKind>> {
    if !builtin {
        return vec![own::own()];
    }
    vec![
        Arc::new(probe::SignIn),
        Arc::new(probe::Port),
        Arc::new(certificate::Certificate),
        Arc::new(secret::Secret),
        Arc::new(key_age::KeyAge),
        Arc::new(settings::Settings),
        Arc::new(itself::Configuration),
        Arc::new(itself::OwnVersion),
        own::own(),
        Arc::new(JournalKind),
        Arc::new(ReverseKind),
        Arc::new(ListsKind),
    ]
}
