//! DKIM (RFC 6376): the key record, the signature field, and the octets that a signature is about.
//!
//! The arithmetic of signatures is not here; it needs a library for it.

mod canonical;
mod key;
mod sign;
mod signature;

pub use canonical::{Canonical, body_octets, header_octets, header_of, relaxed_field};
pub use key::{DkimKey, KeyAlgorithm, Service, is_record, parse_key, public_key_of};
pub use sign::{Maker, Prepared, Unsigned, may_leave_out, prepare};
pub use signature::{Field, Hash, Signature, SignatureAlgorithm, fields, parse_signature};

/// The name of a key record.
pub fn key_name(selector: &str, domain: &str) -> String {
    format!("{}._domainkey.{}", selector.trim_matches('.'), domain.trim_matches('.')).to_ascii_lowercase()
}
