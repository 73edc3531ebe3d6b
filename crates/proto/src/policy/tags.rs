//! `name=value; name=value`: the list that DKIM (RFC 6376 §3.2), DMARC, TLS reports, MTA-STS and BIMI share.
//!
//! Splits and says where; which names there are, and what they mean, is up to the record.

use std::borrow::Cow;

use super::remark::{Remark, short};

/// Longest record that is looked at; a TXT record of 64 KiB is no policy.
pub const MAX_RECORD: usize = 16 * 1024;

/// One tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Name as written; compare without case where the record's RFC says so.
    pub name: String,
    /// Value without blanks around it.
    pub value: String,
    /// Octet offset of the name.
    pub name_at: usize,
    /// Octet offset of the value.
    pub at: usize,
}

/// The tags of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags {
    /// In the order of the record.
    pub all: Vec<Tag>,
    /// What is wrong with the list itself.
    pub remarks: Vec<Remark>,
}

impl Tags {
    /// Reads a record.
    pub fn parse(record: &[u8]) -> Self {
        let mut remarks = Vec::new();
        let record = if record.len() > MAX_RECORD {
            remarks.push(Remark::error("record_too_long", MAX_RECORD, format!("{} octets", record.len())));
            &record[..MAX_RECORD]
        } else {
            record
        };
        // Folding leaves tabs and line ends in header fields; those are no mistake.
        let odd = |octet: &u8| !matches!(octet, b' '..=b'~' | b'\t' | b'\r' | b'\n');
        if let Some(at) = record.iter().position(odd) {
            remarks.push(Remark::error("not_ascii", at, format!("octet 0x{:02x}", record[at])));
        }
        let mut all: Vec<Tag> = Vec::new();
        let mut start = 0;
        let count = record.split(|octet| *octet == b';').count();
        for (n, piece) in record.split(|octet| *octet == b';').enumerate() {
            let text = readable(piece);
            match text.split_once('=') {
                Some((name, value)) => {
                    let name_at = start + blanks(name);
                    let at = start + name.len() + 1 + blanks(value);
                    let tag = Tag { name: name.trim().into(), value: value.trim().into(), name_at, at };
                    if !is_name(&tag.name) {
                        let said = format!("`{}` is no name of a tag", short(&tag.name));
                        remarks.push(Remark::error("bad_tag_name", name_at, said));
                    } else if all.iter().any(|other| other.name.eq_ignore_ascii_case(&tag.name)) {
                        remarks.push(Remark::error("duplicate_tag", name_at, format!("{}= is there twice", tag.name)));
                    }
                    all.push(tag);
                }
                None if text.trim().is_empty() && n + 1 == count => {}
                None if text.trim().is_empty() => {
                    remarks.push(Remark::warning("empty_tag", start, "nothing between two semicolons"));
                }
                None => {
                    let said = format!("`{}` has no `=`", short(text.trim()));
                    remarks.push(Remark::error("not_a_tag", start + blanks(&text), said));
                }
            }
            start += piece.len() + 1;
        }
        Self { all, remarks }
    }

    /// The first tag of this name.
    pub fn get(&self, name: &str) -> Option<&Tag> {
        self.all.iter().find(|tag| tag.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn error(&mut self, kind: &'static str, at: usize, text: impl Into<String>) {
        self.remarks.push(Remark::error(kind, at, text));
    }
    pub(crate) fn warn(&mut self, kind: &'static str, at: usize, text: impl Into<String>) {
        self.remarks.push(Remark::warning(kind, at, text));
    }
    pub(crate) fn warn_unknown(&mut self, known: &[&str]) {
        let unknown = self.all.iter().filter(|tag| !known.iter().any(|name| tag.name.eq_ignore_ascii_case(name)));
        let remarks: Vec<Remark> = unknown
            .map(|tag| Remark::warning("unknown_tag", tag.name_at, format!("{}= is unknown", short(&tag.name))))
            .collect();
        self.remarks.extend(remarks);
    }
}

fn blanks(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `v=` with this value at the very start: how receivers pick the records that are meant for them.
pub fn has_version(record: &[u8], version: &str) -> bool {
    let Ok(text) = std::str::from_utf8(record) else { return has_version(&ascii_start(record), version) };
    let Some((name, rest)) = text.split_once('=') else { return false };
    let value = rest.split(';').next().unwrap_or_default();
    name.trim() == "v" && value.trim() == version
}

fn ascii_start(record: &[u8]) -> Vec<u8> {
    record.iter().copied().take_while(u8::is_ascii).collect()
}

/// A text with as many octets as it came with, so that positions in it are those of the record.
pub(crate) fn readable(octets: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(octets) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => octets.iter().map(|octet| if octet.is_ascii() { char::from(*octet) } else { '?' }).collect(),
    }
}

/// A text of a record as it can be kept: octets that are no UTF-8 are replaced.
pub fn text_of(record: &[u8]) -> String {
    String::from_utf8_lossy(&record[..record.len().min(MAX_RECORD)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_keep_their_place() {
        let tags = Tags::parse(b"v=DKIM1; p = abc ;; k; v=2;");
        let places: Vec<_> = tags.all.iter().map(|tag| (tag.name.as_str(), tag.value.as_str(), tag.at)).collect();
        assert_eq!(places, [("v", "DKIM1", 2), ("p", "abc", 13), ("v", "2", 25)]);
        let kinds: Vec<_> = tags.remarks.iter().map(|remark| (remark.kind, remark.at)).collect();
        assert_eq!(kinds, [("empty_tag", 18), ("not_a_tag", 20), ("duplicate_tag", 23)]);
    }

    #[test]
    fn a_version_counts_only_at_the_start() {
        for (record, yes) in [
            ("v=DMARC1", true),
            ("v = DMARC1 ; p=none", true),
            ("V=DMARC1", false),
            ("v=DMARC1x", false),
            (" p=none; v=DMARC1", false),
            ("", false),
        ] {
            assert_eq!(has_version(record.as_bytes(), "DMARC1"), yes, "{record}");
        }
    }
}
