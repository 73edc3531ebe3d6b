//! One pass over the header section of a message: where each field is and what the relay asks about all of them.
//!
//! Works on raw octets and copies nothing. Values are not decoded here.

use std::ops::Range;

use memchr::memchr;

/// Most header fields a message may have.
pub const MAX_FIELDS: usize = 1000;
/// Longest header section, in octets.
pub const MAX_HEADER_OCTETS: usize = 1_048_576;

/// Why the header section cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Over [`MAX_FIELDS`].
    #[error("message has more than {MAX_FIELDS} header fields")]
    TooManyFields,
    /// Over [`MAX_HEADER_OCTETS`].
    #[error("message header is longer than {MAX_HEADER_OCTETS} octets")]
    TooLong,
}

/// Where one header field is; offsets into the content that was scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    start: u32,
    colon: u32,
    end: u32,
}

impl Field {
    /// Name, colon, value and line end.
    pub fn whole(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
    /// The name, without blanks that the obsolete syntax allows before the colon (RFC 5322 §4.5).
    pub fn name<'a>(&self, content: &'a [u8]) -> &'a [u8] {
        content.get(self.start as usize..self.colon as usize).unwrap_or_default().trim_ascii_end()
    }
    /// The value as it stands, folded, without the blanks around it and without the last line end.
    pub fn value<'a>(&self, content: &'a [u8]) -> &'a [u8] {
        content.get(self.colon as usize + 1..self.end as usize).unwrap_or_default().trim_ascii()
    }
}

/// What [`scan`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderScan {
    /// Where the first field begins: 0, or behind a mailbox-format `From ` line.
    pub start: usize,
    /// Where the header section ends, which is behind its last field.
    pub header_end: usize,
    /// Where the body begins: behind the empty line, or at `header_end` where there is none.
    pub end: usize,
    /// The fields in order.
    pub fields: Vec<Field>,
    /// How many `Received` fields there are (hop count, RFC 5321 §6.3).
    pub received_count: u32,
    /// How many `From` fields there are. More than one is against RFC 5322 §3.6.
    pub from_count: u32,
    /// A `Date` field is there.
    pub has_date: bool,
    /// A `Message-ID` field is there.
    pub has_message_id: bool,
    /// The header section has an octet over 127 (RFC 6532).
    pub eight_bit: bool,
    from: Option<u32>,
    subject: Option<u32>,
    message_id: Option<u32>,
}

impl HeaderScan {
    /// A `From` field is there.
    pub fn has_from(&self) -> bool {
        self.from_count > 0
    }
    /// Raw value of the first `From`.
    pub fn from<'a>(&self, content: &'a [u8]) -> Option<&'a [u8]> {
        self.at(self.from, content)
    }
    /// Raw value of the first `Subject`.
    pub fn subject<'a>(&self, content: &'a [u8]) -> Option<&'a [u8]> {
        self.at(self.subject, content)
    }
    /// Raw value of the first `Message-ID`.
    pub fn message_id<'a>(&self, content: &'a [u8]) -> Option<&'a [u8]> {
        self.at(self.message_id, content)
    }
    /// Raw value of the first field of that name, whatever its case.
    pub fn get<'a>(&self, content: &'a [u8], name: &str) -> Option<&'a [u8]> {
        let field = self.fields.iter().find(|field| field.name(content).eq_ignore_ascii_case(name.as_bytes()))?;
        Some(field.value(content))
    }
    /// Whether the message says `TLS-Required: No` (RFC 8689 §3). Several such fields are none: only one may be there.
    pub fn is_tls_optional(&self, content: &[u8]) -> bool {
        let mut fields = self.iter(content).filter(|(name, _)| name.eq_ignore_ascii_case(b"TLS-Required"));
        matches!((fields.next(), fields.next()), (Some((_, value)), None) if value.eq_ignore_ascii_case(b"No"))
    }
    /// Names and raw values in order.
    pub fn iter<'a>(&'a self, content: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + 'a {
        self.fields.iter().map(move |field| (field.name(content), field.value(content)))
    }

    fn at<'a>(&self, index: Option<u32>, content: &'a [u8]) -> Option<&'a [u8]> {
        self.fields.get(index? as usize).map(|field| field.value(content))
    }

    fn note(&mut self, name: &[u8]) {
        let index = Some(self.fields.len() as u32);
        // Most names are told apart by their length alone, which spares nearly all comparisons.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"From") => {
                self.from_count += 1;
                self.from = self.from.or(index);
            }
            4 if name.eq_ignore_ascii_case(b"Date") => self.has_date = true,
            7 if name.eq_ignore_ascii_case(b"Subject") => self.subject = self.subject.or(index),
            8 if name.eq_ignore_ascii_case(b"Received") => self.received_count += 1,
            10 if name.eq_ignore_ascii_case(b"Message-ID") => {
                self.has_message_id = true;
                self.message_id = self.message_id.or(index);
            }
            _ => {}
        }
    }
}

/// Finds the header fields of a message (RFC 5322 §2.2).
///
/// Lines end with LF or CRLF. The section ends at the empty line, or before the first line that is neither a field
/// nor the continuation of one; if that is the first line, the message has no header and its body starts at 0.
pub fn scan(content: &[u8]) -> Result<HeaderScan, ScanError> {
    let mut found = HeaderScan { start: mailbox_line(content), ..HeaderScan::default() };
    let mut at = found.start;
    loop {
        let limit = content.len().min(MAX_HEADER_OCTETS + 1);
        let Some(rest) = content.get(at..limit).filter(|rest| !rest.is_empty()) else { break };
        let line_end = memchr(b'\n', rest).map_or(limit, |found| at + found + 1);
        let line = &content[at..line_end];
        if line == b"\r\n" || line == b"\n" {
            found.header_end = at;
            found.end = line_end;
            break;
        }
        if matches!(line[0], b' ' | b'\t') && !found.fields.is_empty() {
            if let Some(field) = found.fields.last_mut() {
                field.end = line_end as u32;
            }
        } else if let Some(name) = field_name(line) {
            if found.fields.is_empty() {
                found.fields.reserve(24);
            }
            if found.fields.len() == MAX_FIELDS {
                return Err(ScanError::TooManyFields);
            }
            found.note(name.trim_ascii_end());
            found.fields.push(Field { start: at as u32, colon: (at + name.len()) as u32, end: line_end as u32 });
        } else {
            break;
        }
        at = line_end;
        if at > MAX_HEADER_OCTETS {
            return Err(ScanError::TooLong);
        }
    }
    if found.end == 0 {
        found.header_end = at;
        found.end = at;
    }
    found.eight_bit = !content[found.start..found.header_end].is_ascii();
    Ok(found)
}

/// The octets before the colon, if the line starts as a field does (RFC 5322 §2.2, §4.5).
fn field_name(line: &[u8]) -> Option<&[u8]> {
    let name = &line[..memchr(b':', line)?];
    let bare = name.trim_ascii_end();
    (!bare.is_empty() && bare.iter().all(|octet| octet.is_ascii_graphic())).then_some(name)
}

/// Length of a leading `From user date` line that programs made for mailbox files put first; 0 if there is none.
///
/// Only if a field follows: else it may be the first line of a message without header, which must not be lost.
fn mailbox_line(content: &[u8]) -> usize {
    if !content.strip_prefix(b">").unwrap_or(content).starts_with(b"From ") {
        return 0;
    }
    let line_at = |at: usize| {
        let rest = &content[at..content.len().min(at + 1000)];
        memchr(b'\n', rest).map_or(rest, |end| &rest[..=end])
    };
    let line = line_at(0);
    // `From : a@b` is a field in the obsolete syntax.
    if field_name(line).is_none() && field_name(line_at(line.len())).is_some() { line.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Names and values found, then where header and body are said to be.
    fn found(content: &str) -> (Vec<(String, String)>, &str, &str) {
        let scan = scan(content.as_bytes()).unwrap();
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        let fields = scan.iter(content.as_bytes()).map(|(name, value)| (text(name), text(value))).collect();
        (fields, &content[scan.start..scan.header_end], &content[scan.end..])
    }

    #[test]
    fn finds_fields_and_body() {
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);
        let rows: &[Row<'_>] = &[
            ("A: b\r\n\r\nbody", &[("A", "b")], "A: b\r\n", "body"),
            ("A: b\n\nbody", &[("A", "b")], "A: b\n", "body"),
            (
                "A: b\r\n c\r\n\td\r\nE:f\r\n\r\n",
                &[("A", "b\r\n c\r\n\td"), ("E", "f")],
                "A: b\r\n c\r\n\td\r\nE:f\r\n",
                "",
            ),
            ("A : b\r\n\r\n", &[("A", "b")], "A : b\r\n", ""),
            ("A:\r\n\r\n", &[("A", "")], "A:\r\n", ""),
            ("A: b", &[("A", "b")], "A: b", ""),
            ("A: b\r\n \r\nC: d\r\n\r\n", &[("A", "b"), ("C", "d")], "A: b\r\n \r\nC: d\r\n", ""),
            ("\r\nA: b\r\n", &[], "", "A: b\r\n"),
            ("hello\r\nA: b\r\n\r\n", &[], "", "hello\r\nA: b\r\n\r\n"),
            ("see http://x\r\n\r\n", &[], "", "see http://x\r\n\r\n"),
            (" A: b\r\n\r\n", &[], "", " A: b\r\n\r\n"),
            (": b\r\n\r\n", &[], "", ": b\r\n\r\n"),
            ("A: b\r\nbody starts\r\n\r\nx", &[("A", "b")], "A: b\r\n", "body starts\r\n\r\nx"),
            ("From a@b Mon Jan 1 00:00:00 2024\r\nA: b\r\n\r\nx", &[("A", "b")], "A: b\r\n", "x"),
            (">From a@b Mon Jan 1 00:00:00 2024\r\nA: b\r\n\r\nx", &[("A", "b")], "A: b\r\n", "x"),
            ("From now on: text\r\n\r\nx", &[], "", "From now on: text\r\n\r\nx"),
            ("From : a@b\r\nA: b\r\n\r\nx", &[("From", "a@b"), ("A", "b")], "From : a@b\r\nA: b\r\n", "x"),
            ("", &[], "", ""),
        ];
        for &(content, fields, header, body) in rows {
            let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(found(content), (fields, header, body), "{content:?}");
        }
    }

    #[test]
    fn notices_what_the_relay_asks_about() {
        let content = "RECEIVED: a\r\nreceived: b\r\nfrom: one\r\nFrom: two\r\nDATE: x\r\nmessage-id: <i>\r\n\
            Subject: s\r\nSubject: t\r\n\r\nReceived: not this\r\n";
        let scan = scan(content.as_bytes()).unwrap();
        assert_eq!((scan.received_count, scan.from_count), (2, 2));
        assert!(scan.has_date && scan.has_message_id && scan.has_from() && !scan.eight_bit);
        let octets = content.as_bytes();
        assert_eq!(scan.from(octets), Some(&b"one"[..]));
        assert_eq!(scan.subject(octets), Some(&b"s"[..]));
        assert_eq!(scan.message_id(octets), Some(&b"<i>"[..]));
        assert_eq!(scan.get(octets, "Date"), Some(&b"x"[..]));
        assert_eq!(scan.get(octets, "Sender"), None);
        assert!(super::scan("Subject: ü\r\n\r\n".as_bytes()).unwrap().eight_bit);
        assert!(!super::scan("Subject: u\r\n\r\nü".as_bytes()).unwrap().eight_bit);
    }

    #[test]
    fn headers_are_bounded_and_bodies_are_not() {
        assert!(scan("A: b\r\n".repeat(MAX_FIELDS).as_bytes()).is_ok());
        assert_eq!(scan("A: b\r\n".repeat(MAX_FIELDS + 1).as_bytes()), Err(ScanError::TooManyFields));
        let folded = |octets: usize| format!("A: b\r\n{}", " x\r\n".repeat(octets / 4));
        assert!(scan(folded(MAX_HEADER_OCTETS - 8).as_bytes()).is_ok());
        assert_eq!(scan(folded(MAX_HEADER_OCTETS).as_bytes()), Err(ScanError::TooLong));
        assert_eq!(scan(format!("A: {}", "x".repeat(MAX_HEADER_OCTETS)).as_bytes()), Err(ScanError::TooLong));
        let body = "x".repeat(3 * MAX_HEADER_OCTETS);
        assert_eq!(scan(format!("A: b\r\n\r\n{body}").as_bytes()).unwrap().end, 8);
        assert_eq!(scan(body.as_bytes()).unwrap().end, 0);
    }

    proptest! {
        #[test]
        fn fields_lie_in_the_header_without_gaps(pieces in prop::collection::vec(
            prop::sample::select(vec!["A: b", "From ", ":", " ", "\t", "\r\n", "\n", "\r", "Date", "\u{e9}", "x", "\0"]), 0..30)) {
            let content = pieces.concat();
            let scan = scan(content.as_bytes()).unwrap();
            let mut at = scan.start;
            for field in &scan.fields {
                prop_assert_eq!(field.whole().start, at);
                at = field.whole().end;
            }
            prop_assert_eq!(at, scan.header_end);
            prop_assert!(scan.header_end <= scan.end && scan.end <= content.len());
            prop_assert!(["", "\n", "\r\n"].contains(&&content[scan.header_end..scan.end]));
        }
    }
}
