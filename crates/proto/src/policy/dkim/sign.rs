//! Making a signature field (RFC 6376 §3.5, §5; RFC 8463 for Ed25519): which fields are signed, the octets that are
//! signed, and the field itself. The arithmetic is the caller's, who has the keys.
//!
//! Always `c=relaxed/relaxed`; never `l=` (anyone could add to the body), never `i=` (nobody needs it), and no `x=`: mail
//! that an operator held for weeks must still verify when it is released.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::canonical::{Canonical, body_octets, header_of, relaxed_field};
use super::signature::{Field, SignatureAlgorithm, fields};

/// Signed as often as they are there and once more, so that none can be added in front (RFC 6376 §8.15).
const GUARDED: [&str; 11] = [
    "From",
    "Reply-To",
    "Subject",
    "Date",
    "To",
    "Cc",
    "Message-ID",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
];
/// Signed where they are there; mailing lists and forwarders may add theirs. RFC 8058 §4 wants the List-Unsubscribe pair.
const SIGNED: [&str; 21] = [
    "Sender",
    "In-Reply-To",
    "References",
    "Content-ID",
    "Content-Description",
    "Content-Language",
    "List-Id",
    "List-Help",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Subscribe",
    "List-Post",
    "List-Owner",
    "List-Archive",
    "Auto-Submitted",
    "Feedback-ID",
    "Importance",
    "Resent-From",
    "Resent-To",
    "Resent-Date",
    "Resent-Message-ID",
];
/// Fields without which a signature says nothing; they cannot be left out (RFC 6376 §5.4).
const NEEDED: [&str; 1] = ["From"];
/// Length of lines of the field.
const LINE: usize = 76;

/// What a signature says about its maker.
#[derive(Debug, Clone, Copy)]
pub struct Maker<'a> {
    /// `d=`, A-labels, lower case.
    pub domain: &'a str,
    /// `s=`
    pub selector: &'a str,
    /// `a=`
    pub algorithm: SignatureAlgorithm,
    /// `t=`, seconds since 1970.
    pub made_at: u64,
}

/// A message prepared for any number of signatures: the costly parts are done once.
#[derive(Debug)]
pub struct Prepared {
    /// The body as it is hashed (SHA-256 gives `bh=`).
    pub body: Vec<u8>,
    names: String,
    header: Vec<u8>,
}

/// A signature field that lacks only its signature.
#[derive(Debug)]
pub struct Unsigned {
    /// The octets to be signed: RSA signs them with SHA-256, Ed25519 signs their SHA-256 hash (RFC 8463 §3).
    pub octets: Vec<u8>,
    field: String,
}

/// Whether a field may be left unsigned by choice, as for a provider that replaces it.
pub fn may_leave_out(name: &str) -> bool {
    !NEEDED.iter().any(|needed| needed.eq_ignore_ascii_case(name))
}

/// Takes a message with CRLF line ends apart. Fields named in `leave_out` are not signed, but for From.
pub fn prepare(message: &[u8], leave_out: &[String]) -> Prepared {
    let (header, body) = header_of(message);
    let fields = fields(header);
    let left = |name: &str| may_leave_out(name) && leave_out.iter().any(|out| out.eq_ignore_ascii_case(name));
    let mut prepared =
        Prepared { body: body_octets(body, Canonical::Relaxed), names: String::new(), header: Vec::new() };
    for name in GUARDED.into_iter().filter(|name| !left(name)) {
        prepared.field(&fields, name);
        prepared.name(name);
    }
    for name in SIGNED.into_iter().filter(|name| !left(name)) {
        prepared.field(&fields, name);
    }
    prepared
}

impl Prepared {
    /// Signs every field of a name, from the bottom up (RFC 6376 §5.4.2).
    fn field(&mut self, fields: &[Field<'_>], name: &str) {
        for field in fields.iter().rev().filter(|field| field.name.eq_ignore_ascii_case(name)) {
            self.header.extend(relaxed_field(field));
            self.name(name);
        }
    }

    fn name(&mut self, name: &str) {
        if !self.names.is_empty() {
            self.names.push(':');
        }
        self.names.push_str(name);
    }

    /// The field for one key. `body_hash` is the SHA-256 hash of [`Prepared::body`].
    pub fn unsigned(&self, maker: &Maker<'_>, body_hash: &[u8]) -> Unsigned {
        let mut field = Folded { text: String::with_capacity(900), column: 0 };
        field.raw("DKIM-Signature:");
        field.word(&format!("v=1; a={};", maker.algorithm.name()));
        field.word("c=relaxed/relaxed;");
        field.word(&format!("d={};", maker.domain));
        field.word(&format!("s={};", maker.selector));
        field.word(&format!("t={};", maker.made_at));
        field.list("h=", &self.names);
        field.word(&format!("bh={};", STANDARD.encode(body_hash)));
        field.word("b=");
        let own = Field { name: "DKIM-Signature", octets: field.text.as_bytes() };
        let mut octets = Vec::with_capacity(self.header.len() + field.text.len());
        octets.extend_from_slice(&self.header);
        octets.extend(relaxed_field(&own));
        // The last field goes without its line end (RFC 6376 §3.7).
        octets.truncate(octets.len() - 2);
        Unsigned { octets, field: field.text }
    }
}

impl Unsigned {
    /// The whole field with its last CRLF.
    pub fn signed(self, signature: &[u8]) -> String {
        let column = self.field.rfind('\n').map_or(self.field.len(), |at| self.field.len() - at - 1);
        let mut field = Folded { text: self.field, column };
        field.octets(&STANDARD.encode(signature));
        field.text.push_str("\r\n");
        field.text
    }
}

/// A field that is broken between words.
struct Folded {
    text: String,
    column: usize,
}

impl Folded {
    fn raw(&mut self, text: &str) {
        self.text.push_str(text);
        self.column += text.len();
    }

    fn fold(&mut self) {
        self.text.push_str("\r\n\t");
        self.column = 8;
    }

    /// A word after a blank or on the next line.
    fn word(&mut self, text: &str) {
        if self.column + 1 + text.len() > LINE {
            self.fold();
        } else {
            self.raw(" ");
        }
        self.raw(text);
    }

    /// Names with colons between, where lines may be broken too (RFC 6376 §3.5, h=).
    fn list(&mut self, tag: &str, names: &str) {
        let mut names = names.split(':').peekable();
        let first = names.next().unwrap_or_default();
        let end = |more: bool| if more { ":" } else { ";" };
        self.word(&format!("{tag}{first}{}", end(names.peek().is_some())));
        while let Some(name) = names.next() {
            if self.column + name.len() + 1 > LINE {
                self.fold();
            }
            self.raw(name);
            self.raw(end(names.peek().is_some()));
        }
    }

    /// Base64, broken anywhere.
    fn octets(&mut self, mut text: &str) {
        while !text.is_empty() {
            let room = LINE.saturating_sub(self.column).min(text.len());
            let (now, later) = text.split_at(room);
            self.raw(now);
            text = later;
            if !text.is_empty() {
                self.fold();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{header_octets, parse_signature};
    use super::*;

    const MAIL: &[u8] =
        b"Received: x\r\nReceived: y\r\nFrom: a@example.com\r\nTO: b@example.net\r\nTo: c@example.net\r\n\
        Subject: folded\r\n  twice\r\nList-Id: <l.example.com>\r\nX-Own: 1\r\n\r\nHi \r\n\r\n";

    fn maker() -> Maker<'static> {
        Maker {
            domain: "example.com",
            selector: "s1",
            algorithm: SignatureAlgorithm::RsaSha256,
            made_at: 1_800_000_000,
        }
    }

    #[test]
    fn a_verifier_sees_the_octets_that_were_signed() {
        let prepared = prepare(MAIL, &[]);
        let unsigned = prepared.unsigned(&maker(), &[7; 32]);
        let octets = unsigned.octets.clone();
        let field = unsigned.signed(&[9; 256]);
        let message = [field.as_bytes(), MAIL].concat();
        let all = fields(header_of(&message).0);
        let own = &all[0];
        let parsed = parse_signature(own.value());
        assert!(parsed.remarks.is_empty(), "{:?}", parsed.remarks);
        let signature = parsed.record.expect("a signature");
        assert_eq!(header_octets(&all, own, &signature), octets);
        assert_eq!((signature.signature.as_slice(), signature.body_hash.as_slice()), (&[9; 256][..], &[7; 32][..]));
        assert_eq!((signature.made_at, signature.expires_at, signature.length), (Some(1_800_000_000), None, None));
        for (name, times) in [("from", 2), ("to", 3), ("cc", 1), ("message-id", 1), ("list-id", 1), ("sender", 0)] {
            assert_eq!(signature.signs(name), times, "{name}");
        }
        assert_eq!((signature.signs("received"), signature.signs("x-own")), (0, 0));
        assert_eq!(prepared.body, b"Hi\r\n");
    }

    #[test]
    fn lines_of_the_field_are_short_whatever_the_names() {
        let domain = format!("{}.example.com", ["label"; 30].join("."));
        let maker = Maker { domain: &domain, selector: "a-selector-that-is-rather-long", ..maker() };
        let field = prepare(MAIL, &[]).unsigned(&maker, &[7; 32]).signed(&[9; 512]);
        assert!(field.ends_with("\r\n"));
        for line in field.split("\r\n") {
            assert!(line.len() <= 78 || line.contains(&domain), "{line}");
        }
        assert_eq!(parse_signature(field.split_once(':').expect("a field").1.as_bytes()).remarks, []);
    }

    #[test]
    fn what_a_provider_replaces_can_be_left_out_but_never_from() {
        let out = ["message-id".to_owned(), "Date".into(), "from".into()];
        let field = prepare(MAIL, &out).unsigned(&maker(), &[7; 32]).signed(&[9; 64]);
        let signature = parse_signature(field.split_once(':').expect("a field").1.as_bytes()).record.expect("one");
        assert_eq!((signature.signs("Date"), signature.signs("Message-ID"), signature.signs("From")), (0, 0, 2));
    }
}
