//! The syntax of an SPF record (RFC 7208 §4.5, §4.6, §12): terms with their places, and every mistake.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use super::expand::{DomainSpec, parse_domain_spec, parse_macro_string};
use crate::policy::remark::{Parsed, Remark, short};
use crate::policy::tags::readable;

/// Longest record that is read.
const MAX_RECORD: usize = 16 * 1024;
/// RFC 7208 §3.4: longer ones may not fit into an answer over UDP.
const GOOD_OCTETS: usize = 450;

/// What a match means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "named as in the RFC")]
pub enum Qualifier {
    Pass,
    Fail,
    Softfail,
    Neutral,
}

/// The domain of a term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// None is written: the domain of the record.
    Current,
    /// What is written, macros not yet expanded.
    Spec(DomainSpec),
}

/// A mechanism.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the RFC")]
pub enum Mechanism {
    All,
    Include(DomainSpec),
    A { target: Target, v4: u8, v6: u8 },
    Mx { target: Target, v4: u8, v6: u8 },
    Ptr(Target),
    Ip4(Ipv4Addr, u8),
    Ip6(Ipv6Addr, u8),
    Exists(DomainSpec),
}

impl Mechanism {
    /// Counts against the limit of lookups (RFC 7208 §4.6.4).
    pub fn looks_up(&self) -> bool {
        !matches!(self, Self::All | Self::Ip4(..) | Self::Ip6(..))
    }
}

/// A mechanism with its qualifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// What a match means.
    pub qualifier: Qualifier,
    /// What is matched.
    pub mechanism: Mechanism,
}

/// A modifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Modifier {
    /// Where to go on if nothing matches.
    Redirect(DomainSpec),
    /// Where the explanation of a fail is.
    Explanation(DomainSpec),
    /// Any other name: it means nothing.
    Unknown(String),
}

/// One term with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// As written.
    pub text: String,
    /// Octet offset in the record.
    pub at: usize,
    /// What it says.
    pub kind: TermKind,
}

/// What a term is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TermKind {
    /// Matches or does not.
    Directive(Directive),
    /// Says something about the record.
    Modifier(Modifier),
    /// Not understood: the whole record is void.
    Broken,
}

/// The terms of a record in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The text.
    pub text: String,
    /// All terms, those that are broken too.
    pub terms: Vec<Term>,
}

impl Record {
    /// The target of `redirect=`.
    pub fn redirect(&self) -> Option<(&Term, &DomainSpec)> {
        self.terms.iter().find_map(|term| match &term.kind {
            TermKind::Modifier(Modifier::Redirect(spec)) => Some((term, spec)),
            _ => None,
        })
    }
    /// The target of `exp=`.
    pub fn explanation(&self) -> Option<&DomainSpec> {
        self.terms.iter().find_map(|term| match &term.kind {
            TermKind::Modifier(Modifier::Explanation(spec)) => Some(spec),
            _ => None,
        })
    }
    /// The place of `all`.
    pub fn all(&self) -> Option<(usize, Qualifier)> {
        self.terms.iter().enumerate().find_map(|(n, term)| match &term.kind {
            TermKind::Directive(Directive { qualifier, mechanism: Mechanism::All }) => Some((n, *qualifier)),
            _ => None,
        })
    }
}

/// Whether a TXT record is an SPF record: the version stands alone (RFC 7208 §4.5).
pub fn is_record(text: &[u8]) -> bool {
    let start = text.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"v=spf1"));
    start && matches!(text.get(6), None | Some(b' '))
}

/// Reads a record. It always gives the terms, also those of a record with errors, so that they can be shown; a record
/// with any [`crate::policy::Level::Error`] is a `permerror` for receivers.
pub fn parse(text: &[u8]) -> Parsed<Record> {
    let mut remarks = Vec::new();
    if !is_record(text) {
        remarks.push(Remark::error("bad_version", 0, "does not start with v=spf1"));
        return Parsed::new(None, remarks);
    }
    if text.len() > GOOD_OCTETS {
        remarks.push(Remark::warning("record_long", GOOD_OCTETS, format!("{} octets", text.len())));
    }
    if text.len() > MAX_RECORD {
        remarks.push(Remark::error("record_too_long", MAX_RECORD, format!("{} octets", text.len())));
    }
    let text = &text[..text.len().min(MAX_RECORD)];
    if let Some(at) = text.iter().position(|octet| !matches!(octet, b' '..=b'~')) {
        remarks.push(Remark::error("not_ascii", at, format!("octet 0x{:02x}", text[at])));
    }
    let shown = readable(text).into_owned();
    let mut terms = Vec::new();
    let mut at = 6;
    for piece in text[6..].split(|octet| *octet == b' ') {
        if !piece.is_empty() {
            let written = readable(piece).into_owned();
            let kind = term(&written).unwrap_or_else(|(kind, offset, said)| {
                remarks.push(Remark::error(kind, at + offset, said));
                TermKind::Broken
            });
            terms.push(Term { text: written, at, kind });
        }
        at += piece.len() + 1;
    }
    let record = Record { text: shown, terms };
    modifiers_once(&record, &mut remarks);
    oddities(&record, &mut remarks);
    Parsed::new(Some(record), remarks)
}

/// RFC 7208 §6: `redirect` and `exp` at most once.
fn modifiers_once(record: &Record, remarks: &mut Vec<Remark>) {
    for (name, is) in [
        ("redirect", (|m: &Modifier| matches!(m, Modifier::Redirect(_))) as fn(&Modifier) -> bool),
        ("exp", |m: &Modifier| matches!(m, Modifier::Explanation(_))),
    ] {
        let again = record.terms.iter().filter(|term| matches!(&term.kind, TermKind::Modifier(m) if is(m))).skip(1);
        remarks.extend(again.map(|term| Remark::error("modifier_twice", term.at, format!("{name}= is there twice"))));
    }
}

fn oddities(record: &Record, remarks: &mut Vec<Remark>) {
    for term in &record.terms {
        match &term.kind {
            TermKind::Directive(Directive { mechanism: Mechanism::Ptr(_), .. }) => {
                remarks.push(Remark::warning("ptr_used", term.at, "ptr is slow and should not be used"));
            }
            TermKind::Directive(Directive { mechanism: Mechanism::All, qualifier: Qualifier::Pass }) => {
                remarks.push(Remark::warning("plus_all", term.at, "everybody may send"));
            }
            TermKind::Directive(Directive { mechanism: Mechanism::All, qualifier: Qualifier::Neutral }) => {
                remarks.push(Remark::warning("neutral_all", term.at, "says nothing about anybody"));
            }
            TermKind::Modifier(Modifier::Unknown(name)) => {
                let said = format!("the modifier `{}` means nothing", short(name));
                remarks.push(Remark::warning("unknown_modifier", term.at, said));
            }
            TermKind::Directive(Directive { mechanism: Mechanism::Ip4(_, 0..8), .. }) => {
                remarks.push(Remark::warning("network_wide", term.at, format!("`{}` is very wide", term.text)));
            }
            TermKind::Directive(Directive { mechanism: Mechanism::Ip6(_, 0..16), .. }) => {
                remarks.push(Remark::warning("network_wide", term.at, format!("`{}` is very wide", term.text)));
            }
            _ => {}
        }
    }
    let mut seen = std::collections::HashSet::new();
    for term in &record.terms {
        if matches!(term.kind, TermKind::Directive(_)) && !seen.insert(term.text.to_ascii_lowercase()) {
            remarks.push(Remark::warning("term_twice", term.at, format!("`{}` is there twice", short(&term.text))));
        }
    }
    match (record.all(), record.redirect()) {
        (None, None) => {
            remarks.push(Remark::warning("missing_all", record.text.len(), "there is no `all` and no redirect"));
        }
        (Some(_), Some((redirect, _))) => {
            remarks.push(Remark::warning("redirect_ignored", redirect.at, "redirect does not count beside `all`"));
        }
        _ => {}
    }
    if let Some((n, _)) = record.all() {
        let behind = record.terms[n + 1..].iter().find(|term| matches!(term.kind, TermKind::Directive(_)));
        if let Some(term) = behind {
            let said = format!("`{}` stands behind `all`", short(&term.text));
            remarks.push(Remark::warning("term_unreachable", term.at, said));
        }
    }
}

type Mistake = (&'static str, usize, String);

fn term(text: &str) -> Result<TermKind, Mistake> {
    // A modifier is a name and `=`; what comes first decides, so `a:x=y` is a mechanism.
    if let Some(end) = text.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
        && text[end..].starts_with('=')
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
    {
        return modifier(&text[..end], &text[end + 1..], end + 1).map(TermKind::Modifier);
    }
    let (qualifier, skip) = match text.as_bytes().first() {
        Some(b'+') => (Qualifier::Pass, 1),
        Some(b'-') => (Qualifier::Fail, 1),
        Some(b'~') => (Qualifier::Softfail, 1),
        Some(b'?') => (Qualifier::Neutral, 1),
        _ => (Qualifier::Pass, 0),
    };
    let mechanism = mechanism(&text[skip..]).map_err(|(kind, at, said)| (kind, at + skip, said))?;
    Ok(TermKind::Directive(Directive { qualifier, mechanism }))
}

fn modifier(name: &str, value: &str, at: usize) -> Result<Modifier, Mistake> {
    let shift = |(kind, offset, said): Mistake| (kind, at + offset, said);
    match name.to_ascii_lowercase().as_str() {
        "redirect" => Ok(Modifier::Redirect(parse_domain_spec(value).map_err(shift)?)),
        "exp" => Ok(Modifier::Explanation(parse_domain_spec(value).map_err(shift)?)),
        _ => {
            parse_macro_string(value).map_err(shift)?;
            Ok(Modifier::Unknown(name.to_owned()))
        }
    }
}

fn mechanism(text: &str) -> Result<Mechanism, Mistake> {
    let end = text.find([':', '/']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let unexpected = |what: &str| ("unexpected_argument", end, format!("`{name}` takes no {what}"));
    let spec = || match rest.strip_prefix(':') {
        Some(value) => parse_domain_spec(value).map_err(|(kind, at, said)| (kind, at + end + 1, said)),
        None => Err(("missing_domain", end, format!("`{name}` needs a domain"))),
    };
    match name.to_ascii_lowercase().as_str() {
        "all" if rest.is_empty() => Ok(Mechanism::All),
        "all" => Err(unexpected("argument")),
        "include" => Ok(Mechanism::Include(spec()?)),
        "exists" => Ok(Mechanism::Exists(spec()?)),
        "ptr" if rest.is_empty() => Ok(Mechanism::Ptr(Target::Current)),
        "ptr" if rest.starts_with(':') => Ok(Mechanism::Ptr(Target::Spec(spec()?))),
        "ptr" => Err(unexpected("length")),
        "a" => address(rest, end).map(|(target, v4, v6)| Mechanism::A { target, v4, v6 }),
        "mx" => address(rest, end).map(|(target, v4, v6)| Mechanism::Mx { target, v4, v6 }),
        "ip4" => network(rest, end, 32).map(|(ip, length)| Mechanism::Ip4(ip, length)),
        "ip6" => network(rest, end, 128).map(|(ip, length)| Mechanism::Ip6(ip, length)),
        _ => Err(("unknown_mechanism", 0, format!("`{}` is no mechanism", short(name)))),
    }
}

/// `[":" domain-spec] ["/" length] ["//" length]`
fn address(rest: &str, at: usize) -> Result<(Target, u8, u8), Mistake> {
    let (domain, lengths) = split_lengths(rest);
    let (v4, v6) = lengths_of(lengths, at + domain.len())?;
    let target = match domain.strip_prefix(':') {
        Some(value) => Target::Spec(parse_domain_spec(value).map_err(|(kind, off, said)| (kind, at + 1 + off, said))?),
        None => Target::Current,
    };
    Ok((target, v4, v6))
}

/// Cuts the prefix lengths off; a slash inside of a macro is no part of them.
fn split_lengths(rest: &str) -> (&str, &str) {
    let mut depth = 0;
    let mut cut = None;
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            '/' if depth <= 0 && cut.is_none() => {
                let tail = &rest[at..];
                if tail.bytes().all(|octet| octet.is_ascii_digit() || octet == b'/') {
                    cut = Some(at);
                }
            }
            _ => {}
        }
    }
    rest.split_at(cut.unwrap_or(rest.len()))
}

fn lengths_of(text: &str, at: usize) -> Result<(u8, u8), Mistake> {
    if text.is_empty() {
        return Ok((32, 128));
    }
    let (v4, v6) = match text.split_once("//") {
        Some((v4, v6)) => (v4, Some(v6)),
        None => (text, None),
    };
    let v4 = match v4.strip_prefix('/') {
        Some(digits) => length(digits, 32, at)?,
        None if v4.is_empty() => 32,
        None => return Err(("bad_length", at, format!("`{}` is no prefix length", short(text)))),
    };
    let v6 = match v6 {
        Some(digits) => length(digits, 128, at)?,
        None => 128,
    };
    Ok((v4, v6))
}

fn length(digits: &str, most: u8, at: usize) -> Result<u8, Mistake> {
    let well = !digits.is_empty()
        && digits.bytes().all(|octet| octet.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    match digits.parse::<u8>() {
        Ok(length) if well && length <= most => Ok(length),
        _ => Err(("bad_length", at, format!("`/{}` is no prefix length of at most {most}", short(digits)))),
    }
}

fn network<T: std::str::FromStr>(rest: &str, at: usize, most: u8) -> Result<(T, u8), Mistake> {
    let Some(value) = rest.strip_prefix(':') else {
        return Err(("missing_address", at, "an address is missing".into()));
    };
    let (ip, bits) = match value.split_once('/') {
        Some((ip, digits)) => (ip, length(digits, most, at + 2 + ip.len())?),
        None => (value, most),
    };
    let parsed = ip.parse().map_err(|_| {
        ("bad_address", at + 1, format!("`{}` is no IPv{} address", short(ip), if most == 32 { 4 } else { 6 }))
    })?;
    Ok((parsed, bits))
}
