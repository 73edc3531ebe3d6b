//! What must survive: messages, recipients, events and settings.
//!
//! The verbs are traits, one transaction each, object-safe; no SQL leaves this crate. The embedded engine is
//! [`sqlite`]; every engine has to pass [`contract`].

pub mod contract;
pub mod model;
pub mod secret;
pub mod settings;
pub mod sqlite;
pub mod verbs;

pub use model::*;
pub use verbs::*;
