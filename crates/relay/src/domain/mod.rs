//! Domains we sign for (DKIM, RFC 6376): what is stored of them, their keys, and the seal on messages at the door.
//!
//! Asks no name server: whether a key is published is found out elsewhere and told to [`DomainRecord`].

pub mod keys;
mod record;
mod seal;
#[cfg(test)]
mod tests;

pub use keys::{KeyError, NewKey, Secrets};
pub use record::{Checked, DomainRecord, KeyKind, KeyRecord, KeyState, is_selector};
pub(crate) use seal::{Sealer, SigningDomain, seal};
