//! A key record: `selector._domainkey` (RFC 6376 §3.6.1, RFC 8463, key sizes of RFC 8301).

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Serialize;

use crate::policy::remark::{Parsed, short};
use crate::policy::tags::{Tags, has_version};

/// Receivers take no RSA key below this (RFC 8301 §3.2).
pub(super) const MIN_BITS: u32 = 1024;
/// Signers should use at least this (RFC 8301 §3.2).
pub(super) const GOOD_BITS: u32 = 2048;

/// Folding may leave the padding away.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// `k=`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyAlgorithm {
    /// The default.
    Rsa,
    /// RFC 8463.
    Ed25519,
}

/// `s=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Mail, or everything.
    Mail,
    /// Something else only.
    Other,
}

/// A key as published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DkimKey {
    /// `k=`
    pub algorithm: KeyAlgorithm,
    /// The octets of `p=`: DER for RSA, 32 octets for Ed25519. Empty if revoked.
    #[serde(skip)]
    pub key: Vec<u8>,
    /// Size of the key; `None` if revoked.
    pub bits: Option<u32>,
    /// `p=` is empty: signatures with this key do not count any more.
    pub revoked: bool,
    /// `t=y`: receivers must not treat a failure as worse than no signature.
    pub testing: bool,
    /// `t=s`: `i=` must have the very domain of `d=`.
    pub strict: bool,
    /// `h=`; empty means all.
    pub hashes: Vec<String>,
    /// `s=`
    pub service: Service,
    /// `n=`: words for people, of a stranger.
    pub notes: Option<String>,
}

/// Whether a TXT record may be a key: `v=DKIM1`, or without a version a `p=`.
pub fn is_record(text: &[u8]) -> bool {
    if has_version(text, "DKIM1") {
        return true;
    }
    let tags = Tags::parse(text);
    tags.get("v").is_none() && tags.get("p").is_some()
}

/// Reads a key record.
pub fn parse_key(text: &[u8]) -> Parsed<DkimKey> {
    let mut tags = Tags::parse(text);
    let mut fatal = tags.remarks.iter().any(|remark| matches!(remark.kind, "duplicate_tag" | "not_ascii"));
    if let Some(version) = tags.get("v").cloned() {
        if version.value != "DKIM1" {
            tags.error("bad_version", version.at, format!("v= is `{}`, not DKIM1", short(&version.value)));
            fatal = true;
        } else if tags.all.first().is_some_and(|first| first.name != "v") {
            tags.error("version_not_first", version.name_at, "v= is not the first tag");
            fatal = true;
        }
    }
    tags.warn_unknown(&["v", "g", "h", "k", "n", "p", "s", "t"]);
    let algorithm = match tags.get("k").cloned() {
        None => Some(KeyAlgorithm::Rsa),
        Some(tag) if tag.value.eq_ignore_ascii_case("rsa") => Some(KeyAlgorithm::Rsa),
        Some(tag) if tag.value.eq_ignore_ascii_case("ed25519") => Some(KeyAlgorithm::Ed25519),
        Some(tag) => {
            tags.error("unknown_key_type", tag.at, format!("k= is `{}`", short(&tag.value)));
            None
        }
    };
    let hashes = list(&tags, "h");
    if let Some(tag) = tags.get("h").cloned()
        && !hashes.iter().any(|hash| hash == "sha256")
    {
        tags.error("no_sha256", tag.at, "h= does not allow sha256");
    }
    let services = list(&tags, "s");
    let service = match services.is_empty() || services.iter().any(|name| name == "*" || name == "email") {
        true => Service::Mail,
        false => Service::Other,
    };
    if let (Service::Other, Some(tag)) = (service, tags.get("s").cloned()) {
        tags.error("not_for_mail", tag.at, format!("s= is `{}`", short(&tag.value)));
    }
    let flags = list(&tags, "t");
    if flags.iter().any(|flag| flag == "y") {
        let at = tags.get("t").map_or(0, |tag| tag.at);
        tags.warn("testing", at, "t=y: receivers ignore failures of this key");
    }
    let material = material(&mut tags, algorithm.as_ref(), text.len());
    let notes = tags.get("n").map(|tag| tag.value.clone());
    let record = match (algorithm, material) {
        (Some(algorithm), Some((key, bits))) if !fatal => Some(DkimKey {
            algorithm,
            revoked: key.is_empty(),
            key,
            bits,
            testing: flags.iter().any(|flag| flag == "y"),
            strict: flags.iter().any(|flag| flag == "s"),
            hashes,
            service,
            notes,
        }),
        _ => None,
    };
    Parsed::new(record, tags.remarks)
}

fn list(tags: &Tags, name: &str) -> Vec<String> {
    let values = tags.get(name).map(|tag| tag.value.split(':').map(|value| value.trim().to_ascii_lowercase()));
    values.into_iter().flatten().filter(|value| !value.is_empty()).collect()
}

/// The octets of `p=` and the size of the key; empty octets if it is revoked, `None` if there is no key in it.
fn material(tags: &mut Tags, algorithm: Option<&KeyAlgorithm>, end: usize) -> Option<(Vec<u8>, Option<u32>)> {
    let Some(tag) = tags.get("p").cloned() else {
        tags.error("missing_key", end, "there is no p=");
        return None;
    };
    let packed: String = tag.value.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if packed.is_empty() {
        tags.warn("revoked", tag.at, "p= is empty: the key is revoked");
        return Some((Vec::new(), None));
    }
    let Ok(octets) = LENIENT.decode(&packed) else {
        let bad = tag.value.find(|c: char| !c.is_ascii_alphanumeric() && !" \t\r\n+/=".contains(c)).unwrap_or(0);
        tags.error("bad_base64", tag.at + bad, "p= is not base64");
        return None;
    };
    match algorithm? {
        KeyAlgorithm::Ed25519 if octets.len() == 32 => Some((octets, Some(256))),
        KeyAlgorithm::Ed25519 => {
            tags.error("bad_key", tag.at, format!("an Ed25519 key has 32 octets, this has {}", octets.len()));
            None
        }
        KeyAlgorithm::Rsa => {
            let Some((_, bits)) = public_key_of(&octets) else {
                tags.error("bad_key", tag.at, "p= is not an RSA public key (cut off?)");
                return None;
            };
            if bits < MIN_BITS {
                tags.error("key_too_short", tag.at, format!("{bits} bits"));
            } else if bits < GOOD_BITS {
                tags.warn("key_short", tag.at, format!("{bits} bits"));
            }
            Some((octets, Some(bits)))
        }
    }
}

/// The `RSAPublicKey` inside of DER (which may be a `SubjectPublicKeyInfo`) and the bits of its modulus.
pub fn public_key_of(der: &[u8]) -> Option<(&[u8], u32)> {
    let (outer, rest) = element(der, 0x30)?;
    if !rest.is_empty() {
        return None;
    }
    let plain = match element(outer, 0x30) {
        Some((_algorithm, rest)) => element(rest, 0x03)?.0.strip_prefix(&[0])?,
        None => der,
    };
    let (numbers, _) = element(plain, 0x30)?;
    let (modulus, rest) = element(numbers, 0x02)?;
    let (exponent, _) = element(rest, 0x02)?;
    let first = modulus.iter().position(|octet| *octet != 0)?;
    let modulus = &modulus[first..];
    let bits = u32::try_from(modulus.len()).ok()? * 8 - modulus[0].leading_zeros();
    (!exponent.is_empty()).then_some((plain, bits))
}

/// One DER element with this tag: its content, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    if first != tag {
        return None;
    }
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x83 => {
            let (octets, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (octets.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6376 appendix C: 1024 bits.
    const RSA: &str = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYt\
        IxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gb\
        to/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB";

    #[test]
    fn a_key_has_its_size_and_flags() {
        let key = parse_key(format!("v=DKIM1; k=rsa; t=y:s; n=a note; p={RSA}").as_bytes());
        let kinds: Vec<_> = key.remarks.iter().map(|remark| remark.kind).collect();
        assert_eq!(kinds, ["testing", "key_short"]);
        let key = key.record.expect("a key");
        assert_eq!((key.bits, key.testing, key.strict, key.revoked), (Some(1024), true, true, false));
        let ed = parse_key(b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
        assert_eq!(ed.record.expect("a key").bits, Some(256));
        assert!(ed.remarks.is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_key_is_told() {
        for (text, kind, counts) in [
            ("v=DKIM1; p=", "revoked", true),
            ("v=DKIM1; k=rsa", "missing_key", false),
            ("v=DKIM2; p=", "bad_version", false),
            ("p=; v=DKIM1", "version_not_first", false),
            ("v=DKIM1; k=dsa; p=AAAA", "unknown_key_type", false),
            ("v=DKIM1; p=MIGf!A0", "bad_base64", false),
            ("v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP", "bad_key", false),
            ("v=DKIM1; k=ed25519; p=AAAA", "bad_key", false),
            ("v=DKIM1; h=sha1; p=", "no_sha256", true),
            ("v=DKIM1; s=tlsrpt; p=", "not_for_mail", true),
            ("v=DKIM1; p=; p=", "duplicate_tag", false),
        ] {
            let parsed = parse_key(text.as_bytes());
            assert!(parsed.remarks.iter().any(|remark| remark.kind == kind), "{text}: {:?}", parsed.remarks);
            assert_eq!(parsed.record.is_some(), counts, "{text}");
        }
    }
}
