//! Macros (RFC 7208 §7): their syntax, and what they become.

use std::net::IpAddr;

type Mistake = (&'static str, usize, String);

/// One piece of a macro string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// As it stands.
    Literal(String),
    /// `%{d2r-}` and the like.
    Macro {
        /// Lower case.
        letter: u8,
        /// Written as a capital: the value is escaped for URLs.
        escape: bool,
        /// How many labels from the right; `None` is all.
        keep: Option<usize>,
        /// `r`
        reverse: bool,
        /// What the value is split at.
        delimiters: String,
    },
}

/// A domain as a term has it, with macros in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainSpec {
    pub(super) pieces: Vec<Piece>,
    /// As written.
    pub text: String,
}

impl DomainSpec {
    /// It is the same for all senders.
    pub fn is_literal(&self) -> bool {
        self.pieces.iter().all(|piece| match piece {
            Piece::Literal(_) => true,
            // The domain of the record is known without a sender.
            Piece::Macro { letter, .. } => *letter == b'd',
        })
    }
    pub(super) fn uses(&self, wanted: u8) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Macro { letter, .. } if *letter == wanted))
    }
}

/// What macros stand for.
pub(super) struct Values<'a> {
    pub(super) sender: &'a str,
    pub(super) domain: &'a str,
    pub(super) ip: IpAddr,
    pub(super) helo: &'a str,
    pub(super) receiver: &'a str,
    pub(super) now: u64,
    /// The validated name of the client, or `unknown`.
    pub(super) validated: &'a str,
}

/// A macro string of an unknown modifier or an explanation without the letters only explanations have.
pub(super) fn parse_macro_string(text: &str) -> Result<Vec<Piece>, Mistake> {
    pieces(text, b"slodiphv")
}

/// The text of an explanation: three letters more, and blanks.
pub(super) fn parse_explanation(text: &str) -> Result<Vec<Piece>, Mistake> {
    pieces(text, b"slodiphvcrt")
}

/// A macro string that ends like a domain name (RFC 7208 §7.1).
pub(super) fn parse_domain_spec(text: &str) -> Result<DomainSpec, Mistake> {
    if text.is_empty() {
        return Err(("missing_domain", 0, "the domain is missing".into()));
    }
    let found = pieces(text, b"slodiphv")?;
    let fine = match found.last() {
        Some(Piece::Macro { .. }) => true,
        // What `%%`, `%_` and `%-` become is no domain-end; a domain-end has a dot before its last label.
        Some(Piece::Literal(literal)) => {
            let bare = literal.strip_suffix('.').unwrap_or(literal);
            let label = bare.rsplit_once('.').map(|(_, label)| label);
            let text_bare = text.strip_suffix('.').unwrap_or(text);
            label.is_some_and(|label| is_top_label(label) && text_bare.ends_with(label))
        }
        None => false,
    };
    if !fine {
        return Err(("bad_domain", 0, format!("`{}` does not end like a domain", crate::policy::remark::short(text))));
    }
    Ok(DomainSpec { pieces: found, text: text.to_owned() })
}

fn is_top_label(label: &str) -> bool {
    !label.is_empty()
        && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
        && !label.bytes().all(|octet| octet.is_ascii_digit())
}

fn pieces(text: &str, letters: &[u8]) -> Result<Vec<Piece>, Mistake> {
    let mut found: Vec<Piece> = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c != '%' {
            literal.push(c);
            at += c.len_utf8();
            continue;
        }
        match text[at + 1..].chars().next() {
            Some('%') => literal.push('%'),
            Some('_') => literal.push(' '),
            Some('-') => literal.push_str("%20"),
            Some('{') => {
                let Some(length) = text[at..].find('}') else {
                    return Err(("bad_macro", at, "`%{` without `}`".into()));
                };
                let inner = &text[at + 2..at + length];
                if !literal.is_empty() {
                    found.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                let one = one(inner, letters).ok_or_else(|| {
                    ("bad_macro", at, format!("`%{{{}}}` is no macro", crate::policy::remark::short(inner)))
                })?;
                found.push(one);
                at += length + 1;
                continue;
            }
            _ => return Err(("bad_macro", at, "a single `%`".into())),
        }
        at += 2;
    }
    if !literal.is_empty() {
        found.push(Piece::Literal(literal));
    }
    Ok(found)
}

/// The inside of `%{...}`.
fn one(inner: &str, letters: &[u8]) -> Option<Piece> {
    let first = *inner.as_bytes().first()?;
    let letter = first.to_ascii_lowercase();
    if !letters.contains(&letter) {
        return None;
    }
    let rest = inner.get(1..)?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let keep = match &rest[..digits] {
        "" => None,
        // More labels than a name can have are all of them.
        number => Some(number.parse::<usize>().unwrap_or(usize::MAX)),
    };
    if keep == Some(0) {
        return None;
    }
    let rest = &rest[digits..];
    let (reverse, rest) = match rest.strip_prefix(['r', 'R']) {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if !rest.bytes().all(|octet| b".-+,/_=".contains(&octet)) {
        return None;
    }
    let delimiters = if rest.is_empty() { "." } else { rest };
    Some(Piece::Macro { letter, escape: first.is_ascii_uppercase(), keep, reverse, delimiters: delimiters.into() })
}

/// The text with all macros replaced.
pub(super) fn expand(pieces: &[Piece], values: &Values<'_>) -> String {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(text) => out.push_str(text),
            Piece::Macro { letter, escape, keep, reverse, delimiters } => {
                let value = value(*letter, values);
                let mut parts: Vec<&str> = value.split(|c| delimiters.contains(c)).collect();
                if *reverse {
                    parts.reverse();
                }
                let skip = keep.map_or(0, |keep| parts.len().saturating_sub(keep));
                let text = parts[skip..].join(".");
                if *escape { escaped(&text, &mut out) } else { out.push_str(&text) }
            }
        }
    }
    out
}

/// A domain: at most 253 octets, labels on the left give way (RFC 7208 §7.3).
pub(super) fn expand_domain(spec: &DomainSpec, values: &Values<'_>) -> String {
    let full = expand(&spec.pieces, values);
    let mut name = full.strip_suffix('.').unwrap_or(&full);
    while name.len() > 253 {
        match name.split_once('.') {
            Some((_, rest)) => name = rest,
            None => break,
        }
    }
    name.to_owned()
}

fn value(letter: u8, values: &Values<'_>) -> String {
    let (local, of_sender) = values.sender.rsplit_once('@').unwrap_or(("postmaster", values.sender));
    match letter {
        b's' => values.sender.to_owned(),
        b'l' => local.to_owned(),
        b'o' => of_sender.to_owned(),
        b'd' => values.domain.to_owned(),
        b'i' => match values.ip {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => {
                let nibbles = v6.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
                nibbles.map(|nibble| format!("{nibble:X}")).collect::<Vec<_>>().join(".")
            }
        },
        b'p' => values.validated.to_owned(),
        b'v' => if values.ip.is_ipv4() { "in-addr" } else { "ip6" }.to_owned(),
        b'h' => values.helo.to_owned(),
        b'c' => values.ip.to_string(),
        b'r' => values.receiver.to_owned(),
        b't' => values.now.to_string(),
        _ => String::new(),
    }
}

/// RFC 3986 §2.3: everything that is not unreserved.
fn escaped(text: &str, out: &mut String) {
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            out.push(char::from(octet));
        } else {
            out.push_str(&format!("%{octet:02X}"));
        }
    }
}
