//! Addresses as RFC 5321 §4.1.2 and RFC 6531 §3.3 spell them.
//!
//! An [`Address`] can only hold what parses, so it can never carry CR, LF or NUL into a command or a header.
//! Nothing here knows whether a domain exists.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most octets in a local part (RFC 5321 §4.5.3.1.1).
const MAX_LOCAL: usize = 64;
/// Most octets in a domain (RFC 5321 §4.5.3.1.2).
const MAX_DOMAIN: usize = 255;
/// Most octets in an address: a path of 256 less its brackets (RFC 5321 §4.5.3.1.3).
const MAX_ADDRESS: usize = 254;

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
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > 4 * MAX_ADDRESS {
            return Err(AddressError::TooLong);
        }
        let (local, domain) = split(text)?;
        if local.len() > MAX_LOCAL {
            return Err(AddressError::LocalPart);
        }
        let domain = checked_domain(domain)?;
        let length = local.len() + 1 + domain.len();
        if length > MAX_ADDRESS {
            return Err(AddressError::TooLong);
        }
        let mut whole = String::with_capacity(length);
        whole.push_str(&local);
        whole.push('@');
        whole.push_str(&domain);
        // The local part is at most 64 octets: the position always fits.
        Ok(Self { text: whole.into_boxed_str(), at: local.len() as u16 })
    }

    /// The local part as it must be written in a command.
    pub fn local_part(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }
    /// The domain in lower-case A-label form, or the literal with brackets.
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }
    /// The IP address, if the domain is an address literal (RFC 5321 §4.1.3).
    pub fn literal(&self) -> Option<IpAddr> {
        literal_of(self.domain())
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

/// Parses a domain or address literal into the form [`Address::domain`] has.
///
/// Accepts host names (labels of letters, digits and inner hyphens, RFC 5321 §4.1.2), U-labels, `[192.0.2.1]` and
/// `[IPv6:2001:db8::1]`. A name whose last label is a number is refused: it is a mistyped address literal.
pub fn parse_domain(text: &str) -> Result<String, AddressError> {
    checked_domain(text).map(Cow::into_owned)
}

/// Local part in its shortest spelling, and the domain as written.
fn split(text: &str) -> Result<(Cow<'_, str>, &str), AddressError> {
    if let Some(rest) = text.strip_prefix('"') {
        let (content, rest) = unquote(rest)?;
        let domain = rest.strip_prefix('@').ok_or(AddressError::NoAt)?;
        let local = if is_dot_string(&content) { content } else { quote(&content)? };
        return Ok((Cow::Owned(local), domain));
    }
    let at = memchr::memchr(b'@', text.as_bytes()).ok_or(AddressError::NoAt)?;
    let local = &text[..at];
    if !is_dot_string(local) {
        return Err(AddressError::LocalPart);
    }
    Ok((Cow::Borrowed(local), &text[at + 1..]))
}

/// The content of a quoted string and what follows its closing quote; `text` starts behind the opening one.
fn unquote(text: &str) -> Result<(String, &str), AddressError> {
    let mut content = String::new();
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return Ok((content, &text[position + 1..])),
            '\\' => match characters.next() {
                Some((_, escaped)) if (' '..='~').contains(&escaped) => content.push(escaped),
                _ => return Err(AddressError::LocalPart),
            },
            ' '..='~' => content.push(character),
            _ if is_international(character) => content.push(character),
            _ => return Err(AddressError::LocalPart),
        }
    }
    Err(AddressError::LocalPart)
}

fn quote(content: &str) -> Result<String, AddressError> {
    if content.is_empty() {
        return Err(AddressError::LocalPart);
    }
    let mut quoted = String::with_capacity(content.len() + 2);
    quoted.push('"');
    for character in content.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    Ok(quoted)
}

/// Dot-string of RFC 5321 §4.1.2 with the UTF-8 of RFC 6531 §3.3.
fn is_dot_string(text: &str) -> bool {
    let mut after_dot = true;
    for octet in text.bytes() {
        match octet {
            b'.' if after_dot => return false,
            b'.' => after_dot = true,
            _ if octet >= 0x80 || is_atext(octet) => after_dot = false,
            _ => return false,
        }
    }
    !after_dot && (text.is_ascii() || text.chars().all(|character| character.is_ascii() || is_international(character)))
}

const fn is_atext(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'/'
                | b'='
                | b'?'
                | b'^'
                | b'_'
                | b'`'
                | b'{'
                | b'|'
                | b'}'
                | b'~'
        )
}

/// Non-ASCII that can stand in a local part: no control, no blank, nothing that reorders or hides text.
fn is_international(character: char) -> bool {
    !character.is_ascii()
        && !character.is_control()
        && !character.is_whitespace()
        && !matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffd}')
}

fn checked_domain(text: &str) -> Result<Cow<'_, str>, AddressError> {
    if text.starts_with('[') {
        return literal_of(text).map(|ip| Cow::Owned(write_literal(ip))).ok_or(AddressError::Domain);
    }
    if text.is_ascii() {
        if !is_host_name(text.as_bytes()) {
            return Err(AddressError::Domain);
        }
        let upper = text.bytes().any(|octet| octet.is_ascii_uppercase());
        return Ok(if upper { Cow::Owned(text.to_ascii_lowercase()) } else { Cow::Borrowed(text) });
    }
    let ascii = idna::domain_to_ascii_strict(text).map_err(|_| AddressError::Domain)?;
    if is_host_name(ascii.as_bytes()) { Ok(Cow::Owned(ascii)) } else { Err(AddressError::Domain) }
}

fn is_host_name(name: &[u8]) -> bool {
    if name.is_empty() || name.len() > MAX_DOMAIN {
        return false;
    }
    let mut label_is_number = false;
    for label in name.split(|octet| *octet == b'.') {
        let (Some(first), Some(last)) = (label.first(), label.last()) else { return false };
        let valid = label.len() <= 63
            && first.is_ascii_alphanumeric()
            && last.is_ascii_alphanumeric()
            && label.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-');
        if !valid {
            return false;
        }
        label_is_number = label.iter().all(u8::is_ascii_digit);
    }
    !label_is_number
}

fn literal_of(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    if let Some(tag) = inner.get(..5)
        && tag.eq_ignore_ascii_case("IPv6:")
    {
        return Ipv6Addr::from_str(&inner[5..]).ok().map(IpAddr::V6);
    }
    Ipv4Addr::from_str(inner).ok().map(IpAddr::V4)
}

fn write_literal(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
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

impl AsRef<str> for Address {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
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

impl From<Address> for ReversePath {
    fn from(address: Address) -> Self {
        Self(Some(address))
    }
}

#[cfg(test)]
mod tests;
