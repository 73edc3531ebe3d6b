//! What a batch is made of: its header, and rows of merge data.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::engine::Data;
use super::{MAX_ROW, RowFault};
use crate::config::values;
use crate::http::api::compose;
use crate::http::api::input::{AttachmentIn, Mailbox, Mailboxes, Text, Time};
use crate::http::problem::FieldError;

/// Field of a row that says where it goes.
pub const ADDRESS: &str = "email";
/// Longest window a batch is spread over: 30 days.
const MAX_SPREAD_MS: u128 = 30 * 86_400_000;
const MAX_TAGS: usize = 20;
const MAX_TAG: usize = 64;
const MAX_METADATA: usize = 8192;
const MAX_HEADERS: usize = 50;
const MAX_LABEL: usize = 200;

/// The first line: all that the messages have in common.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchIn {
    /// Subject and bodies.
    pub template: TemplateIn,
    /// From header, and the envelope's sender.
    pub from: Mailbox,
    /// Reply-To header.
    #[serde(default)]
    pub reply_to: Mailboxes,
    /// Named class of mail.
    #[serde(default)]
    pub stream: Option<String>,
    /// For lists.
    #[serde(default)]
    pub name: Option<Text>,
    /// 0 to 3, default 3 (bulk); never more urgent than the stream.
    #[serde(default)]
    pub priority: Option<u8>,
    /// Window to spread the rows over.
    #[serde(default)]
    pub spread: Option<Span>,
    /// RFC 3339.
    #[serde(default)]
    pub send_at: Option<Time>,
    /// RFC 3339.
    #[serde(default)]
    pub deliver_by: Option<Time>,
    /// For searching.
    #[serde(default)]
    pub tags: Vec<Text>,
    /// Kept with each message.
    #[serde(default)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Everything but the last hop.
    #[serde(default)]
    pub test: bool,
    /// Whether an address may be in more than one row.
    #[serde(default)]
    pub duplicates: Duplicates,
}

/// Texts with places for the fields of a row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateIn {
    /// Subject.
    pub subject: String,
    /// Plain text body.
    #[serde(default)]
    pub text: Option<String>,
    /// HTML body; what comes from a row is escaped.
    #[serde(default)]
    pub html: Option<String>,
    /// More header fields.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The same for all rows.
    #[serde(default)]
    pub attachments: Vec<AttachmentIn>,
}

/// Whether an address may be in more than one row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// Each row is a message.
    #[default]
    Allow,
    /// The later row is a bad one.
    Refuse,
}

/// A length of time such as `2h` or `1h30m`, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub i64);

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let millis = values::duration(&text).map(|span| span.as_millis()).filter(|span| *span <= MAX_SPREAD_MS);
        millis
            .and_then(|millis| i64::try_from(millis).ok())
            .map(Self)
            .ok_or_else(|| "is not a length of time such as 90s, 2h or 1h30m, at most 30d".into())
    }
}

impl BatchIn {
    /// What is wrong with it beside its templates.
    pub fn problems(&self, now_ms: i64) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut say = |pointer: &str, detail: &str| errors.push(FieldError::new(pointer, detail));
        if self.template.text.is_none() && self.template.html.is_none() {
            say("/template/text", "at least one of `text` and `html` is needed");
        }
        if self.template.headers.len() > MAX_HEADERS {
            say("/template/headers", "at most 50 more header fields");
        }
        for name in self.template.headers.keys() {
            if let Some(detail) = compose::header_problem(name) {
                say(&format!("/template/headers/{}", name.replace('~', "~0").replace('/', "~1")), detail);
            }
        }
        for (n, attachment) in self.template.attachments.iter().enumerate() {
            if let Err(detail) = compose::decoded(&attachment.content) {
                say(&format!("/template/attachments/{n}/content"), &detail);
            }
        }
        if self.priority.is_some_and(|priority| priority > 3) {
            say("/priority", "is 0 (most urgent) to 3 (bulk)");
        }
        if self.tags.len() > MAX_TAGS {
            say("/tags", "at most 20 tags");
        }
        if let Some(n) = self.tags.iter().position(|tag| tag.as_str().is_empty() || tag.as_str().len() > MAX_TAG) {
            say(&format!("/tags/{n}"), "a tag has 1 to 64 octets");
        }
        if !self.metadata.is_empty() && serde_json::to_vec(&self.metadata).map_or(0, |json| json.len()) > MAX_METADATA {
            say("/metadata", "at most 8192 octets of JSON");
        }
        let start_ms = self.send_at.map_or(now_ms, |time| time.0.max(now_ms));
        if self.deliver_by.is_some_and(|by| by.0 <= start_ms) {
            say("/deliver_by", "is in the past, or not after `send_at`");
        }
        errors
    }

    /// For lists: its name, else its subject.
    pub fn label(&self) -> String {
        let label = self.name.as_ref().map_or(self.template.subject.as_str(), Text::as_str);
        label.chars().filter(|c| !c.is_control()).take(MAX_LABEL).collect()
    }
}

/// A row's fields.
pub fn row(line: &[u8]) -> Result<Data, RowFault> {
    if line.len() > MAX_ROW {
        return Err(RowFault::new("", format!("is larger than {} KiB", MAX_ROW / 1024)));
    }
    serde_json::from_slice(line).map_err(|error| {
        let text = error.to_string();
        let detail = text.split(" at line ").next().unwrap_or_default().to_owned();
        RowFault::new("", format!("is not a JSON object: {detail}, column {}", error.column()))
    })
}

/// Where a row goes.
pub fn mailbox(data: &Data) -> Result<Mailbox, RowFault> {
    match data.get(ADDRESS) {
        None => Err(RowFault::new(ADDRESS, "is missing")),
        Some(serde_json::Value::String(text)) => {
            Mailbox::try_from(text.clone()).map_err(|detail| RowFault::new(ADDRESS, detail))
        }
        Some(_) => Err(RowFault::new(ADDRESS, "is not a text")),
    }
}

/// A row for the store: values alone where it has the usual fields in the usual order.
pub fn packed(data: &Data, fields: &[String]) -> String {
    let usual = data.len() == fields.len() && data.keys().zip(fields).all(|(name, usual)| name == usual);
    if usual {
        let values: Vec<&serde_json::Value> = data.values().collect();
        serde_json::to_string(&values).unwrap_or_default()
    } else {
        serde_json::to_string(data).unwrap_or_default()
    }
}

/// The fields of a row as it was packed.
pub fn unpacked(text: &str, fields: &[String]) -> Result<Data, String> {
    let broken = |error: serde_json::Error| format!("the stored row cannot be read: {error}");
    if text.starts_with('[') {
        let values: Vec<serde_json::Value> = serde_json::from_str(text).map_err(broken)?;
        return Ok(fields.iter().cloned().zip(values).collect());
    }
    serde_json::from_str(text).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_as_it_was_packed() {
        let fields = ["email".to_owned(), "n".to_owned()];
        for text in [
            r#"{"email":"a@b.example","n":[1,"x",null]}"#,
            r#"{"email":"a@b.example"}"#,
            r#"{"email":"a","n":1,"z":2}"#,
        ] {
            let data = row(text.as_bytes()).unwrap();
            assert_eq!(unpacked(&packed(&data, &fields), &fields).unwrap(), data);
        }
        let data = row(br#"{"email":"a@b.example","n":1}"#).unwrap();
        assert_eq!(packed(&data, &fields), r#"["a@b.example",1]"#);
    }

    #[test]
    fn a_bad_row_says_where() {
        assert!(row(b"[1]").unwrap_err().detail.contains("not a JSON object"));
        assert!(row(b"{\"a\":}").unwrap_err().detail.ends_with("column 6"));
        assert!(row(&vec![b' '; MAX_ROW + 1]).is_err());
        for text in
            [r#"{"a":1}"#, r#"{"email":7}"#, r#"{"email":"a"}"#, r#"{"email":"a@b.example\r\nBcc: x@y.example"}"#]
        {
            assert_eq!(mailbox(&row(text.as_bytes()).unwrap()).unwrap_err().field, ADDRESS, "{text}");
        }
        let mailbox = mailbox(&row(br#"{"email":"Ann <ann@b.example>"}"#).unwrap()).unwrap();
        assert_eq!((mailbox.name.as_deref(), mailbox.address.as_str()), (Some("Ann"), "ann@b.example"));
    }

    #[test]
    fn a_window_has_a_unit_and_an_end() {
        assert_eq!(Span::try_from("2h".to_owned()), Ok(Span(7_200_000)));
        assert!(Span::try_from("2".to_owned()).is_err() && Span::try_from("31d".to_owned()).is_err());
    }
}
