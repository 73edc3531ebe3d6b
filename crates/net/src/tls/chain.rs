//! What is in the certificates that a server sent, for people and for the judge.
//!
//! Everything here was written by the peer: sizes are bounded, names are escaped, and a parser that panics is contained.
//! Nothing is decided here.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use proto::smtp::reply::escape;
use proto::transcript::{Certificate, Fact};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::Oid;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

/// Most certificates that are described.
pub(super) const MAX_CERTIFICATES: usize = 10;
/// Most names of one certificate that are kept.
const MAX_NAMES: usize = 20;
/// Most octets of all certificates that are looked at.
const MAX_OCTETS: usize = 64 * 1024;
/// Longest distinguished name that is shown, octets.
const MAX_DN: usize = 300;
/// Shortest RSA key that is accepted, bits.
const MIN_RSA_BITS: usize = 2048;

/// The chain as sent. A certificate that cannot be read has empty texts, and its hash.
pub(super) fn fact(chain: &[CertificateDer<'_>]) -> Fact {
    let certificates = bounded(chain).map(describe).collect();
    Fact::Chain { certificates }
}

/// As much of a chain as is looked at.
pub(super) fn bounded<'a>(chain: &'a [CertificateDer<'a>]) -> impl Iterator<Item = &'a [u8]> {
    let mut left = MAX_OCTETS;
    chain.iter().map(CertificateDer::as_ref).take(MAX_CERTIFICATES).take_while(move |der| {
        let fits = der.len() <= left;
        left = left.saturating_sub(der.len());
        fits
    })
}

/// Names (alternative names, or else the common name; escaped) and end of validity (Unix seconds).
pub(super) fn names_and_end(der: &[u8]) -> (Vec<String>, Option<i64>) {
    read(der, |certificate| (names(certificate), Some(certificate.validity().not_after.timestamp())))
        .unwrap_or_default()
}

/// The public key with its header, as DER (`SubjectPublicKeyInfo`, RFC 5280 §4.1).
pub(super) fn public_key_of(der: &[u8]) -> Option<Vec<u8>> {
    read(der, |certificate| certificate.public_key().raw.to_vec())
}

/// The public key of a certificate in DER form, without its algorithm: what signatures are verified with.
pub fn certificate_key(der: &[u8]) -> Option<Vec<u8>> {
    read(der, |certificate| certificate.public_key().subject_public_key.data.to_vec())
}

/// End of validity of a certificate in DER form, Unix seconds; `None` if it is none.
pub fn certificate_end(der: &[u8]) -> Option<i64> {
    names_and_end(der).1
}

/// Gives a parsed certificate to `use_it`; `None` if it cannot be parsed.
fn read<T>(der: &[u8], use_it: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
    if der.len() > MAX_OCTETS {
        return None;
    }
    catch_unwind(AssertUnwindSafe(|| x509_parser::parse_x509_certificate(der).ok().map(|(_, parsed)| use_it(&parsed))))
        .ok()
        .flatten()
}

fn describe(der: &[u8]) -> Certificate {
    let sha256 = Sha256::digest(der).iter().fold(String::with_capacity(64), |mut text, octet| {
        use std::fmt::Write as _;
        let _ = write!(text, "{octet:02x}");
        text
    });
    let described = read(der, |certificate| Certificate {
        subject: dn(certificate.subject()),
        issuer: dn(certificate.issuer()),
        names: names(certificate),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        key: key_text(certificate.public_key()),
        signature: signature_text(&certificate.signature_algorithm.algorithm),
        sha256: sha256.clone(),
    });
    described.unwrap_or_else(|| Certificate {
        subject: String::new(),
        issuer: String::new(),
        names: Vec::new(),
        not_before: 0,
        not_after: 0,
        key: String::new(),
        signature: String::new(),
        sha256,
    })
}

fn dn(name: &X509Name<'_>) -> String {
    escape(name.to_string().as_bytes(), MAX_DN)
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        names.extend(alternative.value.general_names.iter().take(10 * MAX_NAMES).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(escape(name.as_bytes(), 255)),
            GeneralName::IPAddress(octets) => match *octets {
                [a, b, c, d] => Some(Ipv4Addr::new(*a, *b, *c, *d).to_string()),
                octets => <[u8; 16]>::try_from(octets).ok().map(|six| Ipv6Addr::from(six).to_string()),
            },
            _ => None,
        }));
    }
    if names.is_empty() {
        let common = certificate.subject().iter_common_name();
        names.extend(common.take(MAX_NAMES).filter_map(|name| Some(escape(name.as_str().ok()?.as_bytes(), 255))));
    }
    names.truncate(MAX_NAMES);
    names
}

/// What the judge needs of one certificate; distinguished names as DER.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) subject: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// Too weak a key or signature, in words.
    pub(super) weak: Option<String>,
    /// Says where its issuer's certificate can be fetched (RFC 5280 §4.2.2.1), as public authorities do.
    pub(super) points_to_issuer: bool,
    /// The issuer's own issuer, where the key identifier tells it (RFC 5280 §4.2.1.1).
    pub(super) grand_issuer: Option<Vec<u8>>,
    pub(super) issuer_organization: Option<String>,
    pub(super) issuer_common_name: Option<String>,
}

impl Parts {
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        read(der, Self::of)
    }

    fn of(certificate: &X509Certificate<'_>) -> Self {
        let issuer = certificate.issuer();
        let mut parts = Self {
            subject: certificate.subject().as_raw().to_vec(),
            issuer: issuer.as_raw().to_vec(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            weak: weakness(certificate),
            points_to_issuer: false,
            grand_issuer: None,
            issuer_organization: organization(issuer),
            issuer_common_name: issuer.iter_common_name().next().and_then(|name| Some(name.as_str().ok()?.to_owned())),
        };
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::AuthorityInfoAccess(access) => {
                    const CA_ISSUERS: &str = "1.3.6.1.5.5.7.48.2";
                    parts.points_to_issuer |=
                        access.accessdescs.iter().any(|way| way.access_method.to_id_string() == CA_ISSUERS);
                }
                ParsedExtension::AuthorityKeyIdentifier(key) => {
                    let names = key.authority_cert_issuer.iter().flatten();
                    parts.grand_issuer = names
                        .filter_map(|name| match name {
                            GeneralName::DirectoryName(name) => Some(name.as_raw().to_vec()),
                            _ => None,
                        })
                        .next();
                }
                _ => {}
            }
        }
        parts
    }

    pub(super) fn self_issued(&self) -> bool {
        self.subject == self.issuer
    }
}

/// The organisation in a distinguished name given as DER.
pub(super) fn organization_of(der: &[u8]) -> Option<String> {
    use x509_parser::prelude::FromDer;
    X509Name::from_der(der).ok().and_then(|(_, name)| organization(&name))
}

fn organization(name: &X509Name<'_>) -> Option<String> {
    name.iter_organization().next().and_then(|name| Some(name.as_str().ok()?.to_owned()))
}

/// Whether the certificate's key or signature is too weak, in words. Its own signature on itself says nothing.
pub(super) fn weakness_of(der: &[u8]) -> Option<String> {
    read(der, weakness).flatten()
}

fn weakness(certificate: &X509Certificate<'_>) -> Option<String> {
    if let Some(bits) = rsa_bits(certificate.public_key())
        && bits < MIN_RSA_BITS
    {
        return Some(format!("RSA key of {bits} bits"));
    }
    let signature = signature_text(&certificate.signature_algorithm.algorithm);
    let digest = signature.split('-').next().unwrap_or_default();
    let weak =
        matches!(digest, "MD2" | "MD5" | "SHA1") && certificate.subject().as_raw() != certificate.issuer().as_raw();
    weak.then(|| format!("signature with {}", if digest == "SHA1" { "SHA-1" } else { digest }))
}

fn rsa_bits(key: &SubjectPublicKeyInfo<'_>) -> Option<usize> {
    match key.parsed() {
        Ok(PublicKey::RSA(key)) => {
            let modulus = key.modulus;
            let start = modulus.iter().position(|octet| *octet != 0)?;
            Some((modulus.len() - start) * 8 - modulus[start].leading_zeros() as usize)
        }
        _ => None,
    }
}

fn key_text(key: &SubjectPublicKeyInfo<'_>) -> String {
    if let Some(bits) = rsa_bits(key) {
        return format!("RSA {bits}");
    }
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match (key.algorithm.algorithm.to_id_string().as_str(), curve.map(|oid| oid.to_id_string()).as_deref()) {
        ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7")) => "EC P-256".into(),
        ("1.2.840.10045.2.1", Some("1.3.132.0.34")) => "EC P-384".into(),
        ("1.2.840.10045.2.1", Some("1.3.132.0.35")) => "EC P-521".into(),
        ("1.2.840.10045.2.1", _) => "EC".into(),
        ("1.3.101.112", _) => "Ed25519".into(),
        ("1.3.101.113", _) => "Ed448".into(),
        ("1.2.840.10040.4.1", _) => "DSA".into(),
        (other, _) => escape(other.as_bytes(), 60),
    }
}

fn signature_text(algorithm: &Oid<'_>) -> String {
    let oid = algorithm.to_id_string();
    let known = match oid.as_str() {
        "1.2.840.113549.1.1.2" => "MD2-RSA",
        "1.2.840.113549.1.1.4" => "MD5-RSA",
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => "SHA1-RSA",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.113549.1.1.11" => "SHA256-RSA",
        "1.2.840.113549.1.1.12" => "SHA384-RSA",
        "1.2.840.113549.1.1.13" => "SHA512-RSA",
        "1.2.840.10040.4.3" => "SHA1-DSA",
        "1.2.840.10045.4.1" => "SHA1-ECDSA",
        "1.2.840.10045.4.3.2" => "SHA256-ECDSA",
        "1.2.840.10045.4.3.3" => "SHA384-ECDSA",
        "1.2.840.10045.4.3.4" => "SHA512-ECDSA",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        other => return escape(other.as_bytes(), 60),
    };
    known.into()
}

/// The hash of a certificate that `tls-server-end-point` asks for (RFC 5929 §4.1): that of its signature, or SHA-256
/// instead of what is weaker. None is defined for signatures without a hash of their own.
pub(super) fn end_point(der: &[u8]) -> Option<Vec<u8>> {
    let signature = read(der, |certificate| signature_text(&certificate.signature_algorithm.algorithm))?;
    match signature.split('-').next()? {
        "MD5" | "SHA1" | "SHA256" => Some(Sha256::digest(der).to_vec()),
        "SHA384" => Some(sha2::Sha384::digest(der).to_vec()),
        "SHA512" => Some(sha2::Sha512::digest(der).to_vec()),
        _ => None,
    }
}

/// Whole days from `now` to `not_after` (both Unix seconds): negative once it is past, 0 on the last day.
pub fn days_left(not_after: i64, now: i64) -> i64 {
    not_after.saturating_sub(now).div_euclid(86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_and_negative_once_over() {
        for (end, now, days) in
            [(86_400, 0, 1), (86_399, 0, 0), (0, 1, -1), (0, 86_401, -2), (i64::MAX, -1, i64::MAX / 86_400)]
        {
            assert_eq!(days_left(end, now), days, "{end} {now}");
        }
    }

    #[test]
    fn rubbish_is_counted_and_not_read() {
        let rubbish = [CertificateDer::from(vec![0x30, 0x82, 0xff, 0xff]), CertificateDer::from(vec![0; 70_000])];
        let Fact::Chain { certificates } = fact(&rubbish) else { panic!("a chain") };
        assert_eq!(certificates.len(), 1, "more than 64 KiB are not looked at");
        assert_eq!(certificates[0].subject, "");
        assert_eq!(certificates[0].sha256.len(), 64);
        let many = vec![CertificateDer::from(vec![1]); 30];
        let Fact::Chain { certificates } = fact(&many) else { panic!("a chain") };
        assert_eq!(certificates.len(), 10);
        assert_eq!(names_and_end(b"\x30"), (Vec::new(), None));
        assert!(Parts::read(b"").is_none());
    }
}
