//! The fields of a header and the signature field in it (RFC 6376 §3.5).

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Serialize;

use super::canonical::Canonical;
use crate::policy::remark::{Parsed, short};
use crate::policy::tags::Tags;

/// Most fields of a header that are looked at.
pub(super) const MAX_FIELDS: usize = 2000;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// One header field with its line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Name without blanks.
    pub name: &'a str,
    /// The whole field as it stands in the message, with its last CRLF.
    pub octets: &'a [u8],
}

impl<'a> Field<'a> {
    /// What follows the colon.
    pub fn value(&self) -> &'a [u8] {
        let colon = self.octets.iter().position(|octet| *octet == b':').map_or(self.octets.len(), |at| at + 1);
        &self.octets[colon..]
    }
}

/// The fields of a header; lines that are no field are left out.
pub fn fields(header: &[u8]) -> Vec<Field<'_>> {
    let mut found = Vec::new();
    let mut start = 0;
    while start < header.len() && found.len() < MAX_FIELDS {
        let mut end = start;
        loop {
            end = header[end..].iter().position(|octet| *octet == b'\n').map_or(header.len(), |at| end + at + 1);
            if !matches!(header.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let octets = &header[start..end];
        let colon = octets.iter().position(|octet| *octet == b':');
        if let Some(name) = colon.and_then(|colon| std::str::from_utf8(&octets[..colon]).ok()) {
            let name = name.trim_end_matches([' ', '\t']);
            if !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic()) {
                found.push(Field { name, octets });
            }
        }
        start = end;
    }
    found
}

/// The hash inside of `a=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hash {
    /// Must not count any more (RFC 8301 §3.1).
    Sha1,
    /// What all use.
    Sha256,
}

/// `a=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "named as in the RFC")]
pub enum SignatureAlgorithm {
    RsaSha1,
    RsaSha256,
    Ed25519Sha256,
}

impl SignatureAlgorithm {
    /// As in `a=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::RsaSha1 => "rsa-sha1",
            Self::RsaSha256 => "rsa-sha256",
            Self::Ed25519Sha256 => "ed25519-sha256",
        }
    }
    /// Its hash.
    pub fn hash(self) -> Hash {
        match self {
            Self::RsaSha1 => Hash::Sha1,
            _ => Hash::Sha256,
        }
    }
}

/// A signature field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// `a=`
    pub algorithm: SignatureAlgorithm,
    /// `d=`, lower case.
    pub domain: String,
    /// `s=`, lower case.
    pub selector: String,
    /// `c=` for the header.
    pub header: Canonical,
    /// `c=` for the body.
    pub body: Canonical,
    /// `h=` in its order, as written.
    pub signed: Vec<String>,
    /// `i=`, or `@` and the domain.
    pub identity: String,
    /// `l=`: octets of the body that are signed.
    pub length: Option<u64>,
    /// `t=`, seconds since 1970.
    pub made_at: Option<u64>,
    /// `x=`, seconds since 1970.
    pub expires_at: Option<u64>,
    /// `bh=`
    #[serde(skip)]
    pub body_hash: Vec<u8>,
    /// `b=`
    #[serde(skip)]
    pub signature: Vec<u8>,
}

impl Signature {
    /// How often a field is signed: `h=` may name one more often than it is there, so that none can be added.
    pub fn signs(&self, name: &str) -> usize {
        self.signed.iter().filter(|signed| signed.eq_ignore_ascii_case(name)).count()
    }
}

/// Reads the value of a `DKIM-Signature` field; positions are octet offsets into it.
pub fn parse_signature(value: &[u8]) -> Parsed<Signature> {
    let mut tags = Tags::parse(value);
    // What a record in DNS must not have, a folded field may.
    tags.remarks.retain(|remark| remark.kind != "empty_tag");
    let end = value.len();
    let version = tags.get("v").cloned();
    match &version {
        Some(tag) if tag.value == "1" => {}
        Some(tag) => tags.error("bad_version", tag.at, format!("v= is `{}`, not 1", short(&tag.value))),
        None => tags.error("missing_version", end, "there is no v="),
    }
    let algorithm = algorithm(&mut tags, end);
    let (header, body) = canonicalization(&mut tags);
    let domain = required(&mut tags, "d", end).map(|value| value.to_ascii_lowercase());
    let selector = required(&mut tags, "s", end).map(|value| value.to_ascii_lowercase());
    let signed = signed(&mut tags, end);
    let body_hash = base64_of(&mut tags, "bh", end);
    let signature = base64_of(&mut tags, "b", end);
    let length = number(&mut tags, "l");
    let made_at = number(&mut tags, "t");
    let expires_at = number(&mut tags, "x");
    if let (Some(made), Some(expires), Some(tag)) = (made_at, expires_at, tags.get("x").cloned())
        && expires <= made
    {
        tags.error("expires_before_made", tag.at, "x= is not after t=");
    }
    if let Some(tag) = tags.get("l").cloned() {
        tags.warn("length_limit", tag.at, "l= lets anyone add to the body");
    }
    if let Some(tag) = tags.get("q").cloned()
        && !tag.value.split(':').any(|method| method.trim().eq_ignore_ascii_case("dns/txt"))
    {
        tags.error("unknown_query", tag.at, format!("q= is `{}`", short(&tag.value)));
    }
    let identity = identity(&mut tags, domain.as_deref());
    let fatal = tags.remarks.iter().any(|remark| remark.level == crate::policy::Level::Error);
    let record = match (algorithm, domain, selector, signed, body_hash, signature) {
        (Some(algorithm), Some(domain), Some(selector), Some(signed), Some(body_hash), Some(signature)) if !fatal => {
            Some(Signature {
                algorithm,
                identity: identity.unwrap_or_else(|| format!("@{domain}")),
                domain,
                selector,
                header,
                body,
                signed,
                length,
                made_at,
                expires_at,
                body_hash,
                signature,
            })
        }
        _ => None,
    };
    Parsed::new(record, tags.remarks)
}

fn required(tags: &mut Tags, name: &'static str, end: usize) -> Option<String> {
    match tags.get(name).cloned() {
        Some(tag) if !tag.value.is_empty() => Some(tag.value),
        Some(tag) => {
            tags.error("empty_value", tag.at, format!("{name}= is empty"));
            None
        }
        None => {
            tags.error("missing_tag", end, format!("there is no {name}="));
            None
        }
    }
}

fn algorithm(tags: &mut Tags, end: usize) -> Option<SignatureAlgorithm> {
    let name = required(tags, "a", end)?;
    let at = tags.get("a").map_or(end, |tag| tag.at);
    match name.to_ascii_lowercase().as_str() {
        "rsa-sha256" => Some(SignatureAlgorithm::RsaSha256),
        "rsa-sha1" => Some(SignatureAlgorithm::RsaSha1),
        "ed25519-sha256" => Some(SignatureAlgorithm::Ed25519Sha256),
        other => {
            tags.error("unknown_algorithm", at, format!("a= is `{}`", short(other)));
            None
        }
    }
}

fn canonicalization(tags: &mut Tags) -> (Canonical, Canonical) {
    let Some(tag) = tags.get("c").cloned() else { return (Canonical::Simple, Canonical::Simple) };
    let lower = tag.value.to_ascii_lowercase();
    // RFC 6376 §3.5: one name alone is for the header; the body is simple then.
    let (header, body) = lower.split_once('/').unwrap_or((&lower, "simple"));
    match (Canonical::from_name(header), Canonical::from_name(body)) {
        (Some(header), Some(body)) => (header, body),
        _ => {
            tags.error("unknown_canonicalization", tag.at, format!("c= is `{}`", short(&tag.value)));
            (Canonical::Simple, Canonical::Simple)
        }
    }
}

fn signed(tags: &mut Tags, end: usize) -> Option<Vec<String>> {
    let value = required(tags, "h", end)?;
    let names: Vec<String> =
        value.split(':').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    if !names.iter().any(|name| name.eq_ignore_ascii_case("from")) {
        let at = tags.get("h").map_or(end, |tag| tag.at);
        tags.error("from_not_signed", at, "h= does not name From");
        return None;
    }
    Some(names)
}

fn base64_of(tags: &mut Tags, name: &'static str, end: usize) -> Option<Vec<u8>> {
    let value = required(tags, name, end)?;
    let packed: String = value.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if let Ok(octets) = LENIENT.decode(packed) {
        return Some(octets);
    }
    let at = tags.get(name).map_or(end, |tag| tag.at);
    tags.error("bad_base64", at, format!("{name}= is not base64"));
    None
}

fn number(tags: &mut Tags, name: &'static str) -> Option<u64> {
    let tag = tags.get(name)?.clone();
    let digits = !tag.value.is_empty() && tag.value.bytes().all(|octet| octet.is_ascii_digit());
    match tag.value.parse() {
        Ok(number) if digits => Some(number),
        // RFC 6376 §3.5 allows more digits than a number here can hold; what is that far away is never.
        Err(_) if digits => Some(u64::MAX),
        _ => {
            tags.error("bad_number", tag.at, format!("{name}= is `{}`", short(&tag.value)));
            None
        }
    }
}

/// `i=` has the domain of `d=` or one below it (RFC 6376 §6.1.1).
fn identity(tags: &mut Tags, domain: Option<&str>) -> Option<String> {
    let tag = tags.get("i")?.clone();
    let at = tag.value.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
    if let Some(domain) = domain
        && at != domain
        && !at.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
    {
        tags.error("identity_outside", tag.at, format!("i= is not below {}", short(domain)));
    }
    Some(tag.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_folding() {
        let header = b"A: 1\r\n two\r\nnot a field\r\nB :x\r\n";
        let found: Vec<_> = fields(header).iter().map(|field| (field.name, field.octets.len())).collect();
        assert_eq!(found, [("A", 12), ("B", 6)]);
    }

    #[test]
    fn what_makes_a_signature_void_is_told() {
        let good = "v=1; a=rsa-sha256; d=Example.com; s=S1; c=relaxed; h=From:To; bh=AAAA; b=AA AA";
        let parsed = parse_signature(good.as_bytes()).record.expect("a signature");
        assert_eq!((parsed.domain.as_str(), parsed.selector.as_str()), ("example.com", "s1"));
        assert_eq!((parsed.header, parsed.body), (Canonical::Relaxed, Canonical::Simple));
        for (from, to, kind) in [
            ("v=1", "v=2", "bad_version"),
            ("a=rsa-sha256", "a=rsa-md5", "unknown_algorithm"),
            ("h=From:To", "h=To", "from_not_signed"),
            ("bh=AAAA", "bh=*", "bad_base64"),
            ("c=relaxed", "c=loose", "unknown_canonicalization"),
            ("s=S1", "s=S1; i=a@other.example", "identity_outside"),
            ("s=S1", "s=S1; t=10; x=5", "expires_before_made"),
            ("s=S1", "s=S1; q=http", "unknown_query"),
            (" d=Example.com;", "", "missing_tag"),
        ] {
            let parsed = parse_signature(good.replace(from, to).as_bytes());
            assert!(parsed.record.is_none(), "{to}");
            assert!(parsed.remarks.iter().any(|remark| remark.kind == kind), "{to}: {:?}", parsed.remarks);
        }
    }
}
