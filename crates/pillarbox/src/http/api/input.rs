//! What `POST /messages` takes, as types that cannot hold what would be dangerous in a header.

use std::collections::BTreeMap;
use std::fmt;

use proto::Address;
use proto::message::HeaderText;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A message to compose, or a finished one with its envelope.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MessageIn {
    /// From header, and the envelope's sender.
    pub from: Option<Mailbox>,
    /// To header.
    pub to: Mailboxes,
    /// Cc header.
    pub cc: Mailboxes,
    /// In no header.
    pub bcc: Mailboxes,
    /// Reply-To header.
    pub reply_to: Mailboxes,
    /// Subject.
    pub subject: Option<Text>,
    /// Plain text body.
    pub text: Option<String>,
    /// HTML body.
    pub html: Option<String>,
    /// Attachments.
    pub attachments: Vec<AttachmentIn>,
    /// More header fields.
    pub headers: BTreeMap<String, Text>,
    /// The envelope of `raw`.
    pub envelope: Option<EnvelopeIn>,
    /// A finished message (RFC 5322).
    pub raw: Option<String>,
    /// The same in base64, for octets that are not UTF-8.
    pub raw_base64: Option<String>,
    /// Named class of mail.
    pub stream: Option<String>,
    /// What it is about, for streams that fold equal mail; at most 200 characters.
    pub digest_key: Option<Text>,
    /// For searching; at most 20 of at most 64 characters.
    pub tags: Vec<Text>,
    /// Kept with the message; at most 8 KiB.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Verified TLS on every hop from here on, or no delivery (RFC 8689).
    pub require_tls: bool,
    /// RFC 3339.
    pub send_at: Option<Time>,
    /// RFC 3339.
    pub deliver_by: Option<Time>,
}

/// An attachment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentIn {
    /// Its name.
    pub filename: Option<Text>,
    /// `type/subtype`.
    #[serde(default)]
    pub content_type: Option<MediaType>,
    /// Base64.
    pub content: String,
    /// For `cid:` in the HTML body; such parts are shown within it.
    #[serde(default)]
    pub content_id: Option<ContentId>,
    /// Shown within the HTML body although it has no `content_id`.
    #[serde(default)]
    pub inline: bool,
}

/// The envelope of a finished message.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeIn {
    /// MAIL FROM; empty or `<>` for the null reverse-path.
    pub from: String,
    /// RCPT TO.
    pub to: Vec<PlainAddress>,
    /// NOTIFY (RFC 3461 §4.1): `never`, or any of `success`, `failure`, `delay`.
    #[serde(default)]
    pub notify: Vec<Notify>,
    /// RET (RFC 3461 §4.3).
    #[serde(default)]
    pub ret: Option<Ret>,
    /// ENVID (RFC 3461 §4.4).
    #[serde(default)]
    pub envid: Option<Text>,
}

/// When to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    /// Never.
    Never,
    /// On delivery.
    Success,
    /// On failure.
    Failure,
    /// When late.
    Delay,
}

/// What a report returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ret {
    /// All.
    Full,
    /// Headers.
    Headers,
}

/// A bare address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PlainAddress(pub Address);

/// `user@example.com`, or `Display Name <user@example.com>`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mailbox {
    /// Display name.
    pub name: Option<String>,
    /// Address.
    pub address: Address,
}

/// One mailbox or a list of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mailboxes(pub Vec<Mailbox>);

/// A text without line ends and control characters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Text(HeaderText);

/// `type/subtype` without parameters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct MediaType(pub String);

/// A content id without its angle brackets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ContentId(pub String);

/// A moment, Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Time(pub i64);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<String> for Text {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        HeaderText::new(text)
            .map(Self)
            .map_err(|_| "has a line end or another control character, or is too long".into())
    }
}

impl TryFrom<String> for PlainAddress {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Address::parse(text.trim()).map(Self).map_err(|error| error.to_string())
    }
}

impl TryFrom<String> for Mailbox {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Text::try_from(text.clone())?;
        let text = text.trim();
        let Some(inner) = text.strip_suffix('>') else {
            return Ok(Self { name: None, address: Address::parse(text).map_err(|error| error.to_string())? });
        };
        let (name, address) = inner.rsplit_once('<').ok_or("has a > without a <")?;
        let address = Address::parse(address.trim()).map_err(|error| error.to_string())?;
        let name = unquoted(name.trim());
        Ok(Self { name: (!name.is_empty()).then_some(name), address })
    }
}

fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
        None => name.to_owned(),
        Some(inner) => {
            let mut plain = String::with_capacity(inner.len());
            let mut characters = inner.chars();
            while let Some(character) = characters.next() {
                plain.extend(if character == '\\' { characters.next() } else { Some(character) });
            }
            plain
        }
    }
}

impl TryFrom<String> for MediaType {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let token = |part: &str| {
            !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&octet))
        };
        match text.split_once('/') {
            Some((kind, subtype)) if kind.eq_ignore_ascii_case("multipart") || kind.eq_ignore_ascii_case("message") => {
                Err(format!("an attachment cannot be {}/{}", kind.escape_debug(), subtype.escape_debug()))
            }
            Some((kind, subtype)) if token(kind) && token(subtype) && text.len() <= 127 => Ok(Self(text)),
            _ => Err("is not a media type such as application/pdf".into()),
        }
    }
}

impl TryFrom<String> for ContentId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let inner = text.strip_prefix('<').and_then(|inner| inner.strip_suffix('>')).unwrap_or(&text);
        let fine = |octet: u8| octet.is_ascii_graphic() && !b"<>()[]\\,;:\"".contains(&octet);
        if inner.is_empty() || inner.len() > 200 || !inner.bytes().all(fine) {
            return Err("is not a content id such as logo@example.com".into());
        }
        Ok(Self(inner.to_owned()))
    }
}

impl TryFrom<String> for Time {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        super::super::time::read(&text)
            .map(Self)
            .ok_or_else(|| "is not a time with its offset such as 2026-11-21T08:00:00Z (RFC 3339)".into())
    }
}

impl<'de> Deserialize<'de> for Mailboxes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = Mailboxes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address or a list of addresses")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Mailboxes, E> {
                Ok(Mailboxes(vec![Mailbox::try_from(text.to_owned()).map_err(E::custom)?]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Mailboxes, A::Error> {
                let mut all = Vec::new();
                while let Some(mailbox) = items.next_element::<Mailbox>()? {
                    if all.len() >= 100_000 {
                        return Err(A::Error::custom("too many addresses"));
                    }
                    all.push(mailbox);
                }
                Ok(Mailboxes(all))
            }
            fn visit_unit<E>(self) -> Result<Mailboxes, E> {
                Ok(Mailboxes::default())
            }
        }
        deserializer.deserialize_any(One)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_an_address_with_or_without_a_name() {
        for (text, name, address) in [
            ("a@b.example", None, "a@b.example"),
            ("<a@b.example>", None, "a@b.example"),
            ("Ann B <a@b.example>", Some("Ann B"), "a@b.example"),
            (r#""B, \"Ann\"" <a@b.example>"#, Some(r#"B, "Ann""#), "a@b.example"),
        ] {
            let mailbox = Mailbox::try_from(text.to_owned()).unwrap();
            assert_eq!((mailbox.name.as_deref(), mailbox.address.as_str()), (name, address), "{text}");
        }
        for text in ["", "a", "a@b.example\r\nBcc: x@y.example", "Ann a@b.example>", "x\0 <a@b.example>"] {
            assert!(Mailbox::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_media_type_cannot_smuggle_a_parameter() {
        assert!(MediaType::try_from("application/pdf".to_owned()).is_ok());
        for text in ["pdf", "text/html; charset=x", "text/ht\r\nml", "multipart/mixed", "message/rfc822"] {
            assert!(MediaType::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn one_address_is_as_good_as_a_list_of_one() {
        let one: Mailboxes = serde_json::from_str(r#""a@b.example""#).unwrap();
        let list: Mailboxes = serde_json::from_str(r#"["a@b.example"]"#).unwrap();
        assert_eq!(one, list);
    }
}
