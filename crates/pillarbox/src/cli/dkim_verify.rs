//! The arithmetic of DKIM: signatures of a message against keys that are known already. Asks nobody.
//!
//! Canonical forms are our own (`proto::policy::dkim`), because the library at hand hashes a relaxed body that ends in
//! blank lines wrongly; only the primitives are from a library.

use std::collections::BTreeMap;

use aws_lc_rs::{digest, signature};
use proto::policy::dkim::{
    DkimKey, Field, Hash, KeyAlgorithm, Service, Signature, SignatureAlgorithm, body_octets, fields, header_octets,
    header_of, is_record, key_name, parse_key, parse_signature, public_key_of,
};
use proto::policy::{Parsed, Remark, Reply};
use serde::Serialize;

/// Most signatures of one message that are looked at.
pub const MAX_SIGNATURES: usize = 20;

/// As in Authentication-Results (RFC 8601 §2.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DkimResult {
    /// Signed by the domain, and nothing signed was changed.
    Pass,
    /// Changed, or made with another key.
    Fail,
    /// It can never count.
    Permerror,
    /// It could not be judged now.
    Temperror,
}

impl DkimResult {
    /// As in the field.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Permerror => "permerror",
            Self::Temperror => "temperror",
        }
    }
}

/// What one signature came to.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// The result.
    pub result: DkimResult,
    /// A word in snake case; `None` for a pass.
    pub reason: Option<&'static str>,
    /// The reason in a few words.
    pub detail: Option<String>,
    /// The signature as far as it could be read.
    pub signature: Option<Signature>,
    /// `a=`
    pub algorithm: Option<&'static str>,
    /// `c=`, both.
    pub canonicalization: Option<String>,
    /// Bits of the key.
    pub key_bits: Option<u32>,
    /// The key says `t=y`: a failure means nothing.
    pub testing: bool,
    /// `x=` is over.
    pub expired: bool,
    /// What is wrong or odd in the signature.
    pub remarks: Vec<Remark>,
    /// What is wrong or odd in the key.
    pub key_remarks: Vec<Remark>,
}

/// A message that can be judged as soon as its keys are known.
pub struct Message {
    header: Vec<u8>,
    body: Vec<u8>,
    /// Line ends were LF alone; signatures are about CRLF.
    pub mended: bool,
}

impl Message {
    /// Takes a message with either kind of line ends.
    pub fn new(octets: &[u8]) -> Self {
        let mut whole = Vec::with_capacity(octets.len() + octets.len() / 32);
        let mut mended = false;
        for (n, octet) in octets.iter().enumerate() {
            if *octet == b'\n' && (n == 0 || octets[n - 1] != b'\r') {
                whole.push(b'\r');
                mended = true;
            }
            whole.push(*octet);
        }
        let (header, body) = header_of(&whole);
        Self { header: header.to_vec(), body: body.to_vec(), mended }
    }

    fn signatures(&self) -> Vec<Field<'_>> {
        let all = fields(&self.header).into_iter();
        all.filter(|field| field.name.eq_ignore_ascii_case("DKIM-Signature")).take(MAX_SIGNATURES).collect()
    }

    /// Names of the keys to look up.
    pub fn key_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .signatures()
            .iter()
            .filter_map(|field| parse_signature(field.value()).record)
            .map(|signature| key_name(&signature.selector, &signature.domain))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Judges every signature; `now` is in seconds since 1970.
    pub fn verify(&self, keys: &BTreeMap<String, Reply>, now: u64) -> Vec<Verified> {
        let fields = fields(&self.header);
        self.signatures().iter().map(|own| self.one(&fields, own, keys, now)).collect()
    }

    fn one(&self, fields: &[Field<'_>], own: &Field<'_>, keys: &BTreeMap<String, Reply>, now: u64) -> Verified {
        let Parsed { record, remarks } = parse_signature(own.value());
        let mut verified = Verified {
            result: DkimResult::Pass,
            reason: None,
            detail: None,
            algorithm: record.as_ref().map(|signature| signature.algorithm.name()),
            canonicalization: record.as_ref().map(|found| format!("{}/{}", found.header.name(), found.body.name())),
            key_bits: None,
            testing: false,
            expired: record.as_ref().and_then(|found| found.expires_at).is_some_and(|expires| expires < now),
            signature: None,
            remarks,
            key_remarks: Vec::new(),
        };
        let judged = match &record {
            Some(signature) => self.judge(fields, own, signature, keys, &mut verified),
            None => {
                let first = verified.remarks.iter().find(|remark| remark.level == proto::policy::Level::Error);
                let detail = first.map_or_else(String::new, |remark| remark.text.clone());
                Err(Bad(DkimResult::Permerror, "signature_syntax", detail))
            }
        };
        verified.signature = record;
        if let Err(Bad(result, reason, detail)) = judged {
            verified.result = result;
            verified.reason = Some(reason);
            verified.detail = Some(detail);
        }
        verified
    }

    fn judge(
        &self,
        fields: &[Field<'_>],
        own: &Field<'_>,
        signature: &Signature,
        keys: &BTreeMap<String, Reply>,
        verified: &mut Verified,
    ) -> Result<(), Bad> {
        let Parsed { record, remarks } = key(signature, keys)?;
        verified.key_remarks = remarks;
        let Some(key) = record else {
            let detail = verified.key_remarks.first().map_or_else(String::new, |remark| remark.text.clone());
            return Err(Bad(DkimResult::Permerror, "key_invalid", detail));
        };
        verified.key_bits = key.bits;
        verified.testing = key.testing;
        usable(&key, signature)?;
        self.body_hash(signature)?;
        let octets = header_octets(fields, own, signature);
        let good = match signature.algorithm {
            SignatureAlgorithm::RsaSha256 => {
                rsa(&signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, &key, &octets, signature)
            }
            SignatureAlgorithm::RsaSha1 => {
                rsa(&signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, &key, &octets, signature)
            }
            // RFC 8463 §3: it signs the hash, not the octets.
            SignatureAlgorithm::Ed25519Sha256 => {
                let hash = digest::digest(&digest::SHA256, &octets);
                let key = signature::UnparsedPublicKey::new(&signature::ED25519, &key.key);
                key.verify(hash.as_ref(), &signature.signature).is_ok()
            }
        };
        if !good {
            let detail = "a signed header field was changed, or the key is another one";
            return Err(Bad(DkimResult::Fail, "signature_mismatch", detail.into()));
        }
        if signature.algorithm.hash() == Hash::Sha1 {
            let detail = "rsa-sha1 does not count any more (RFC 8301 §3.1)";
            return Err(Bad(DkimResult::Permerror, "algorithm_too_weak", detail.into()));
        }
        if verified.expired {
            return Err(Bad(DkimResult::Permerror, "expired", "x= is over".into()));
        }
        Ok(())
    }

    fn body_hash(&self, signature: &Signature) -> Result<(), Bad> {
        let mut octets = body_octets(&self.body, signature.body);
        if let Some(length) = signature.length {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > octets.len() {
                let detail = format!("l= is {length}, the body has {} octets", octets.len());
                return Err(Bad(DkimResult::Permerror, "length_beyond_body", detail));
            }
            octets.truncate(length);
        }
        let hash = match signature.algorithm.hash() {
            Hash::Sha1 => digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &octets),
            Hash::Sha256 => digest::digest(&digest::SHA256, &octets),
        };
        match hash.as_ref() == signature.body_hash.as_slice() {
            true => Ok(()),
            false => Err(Bad(DkimResult::Fail, "body_hash_mismatch", "the body was changed on the way".into())),
        }
    }
}

/// Result, reason, and the reason in a few words.
struct Bad(DkimResult, &'static str, String);

fn key(signature: &Signature, keys: &BTreeMap<String, Reply>) -> Result<Parsed<DkimKey>, Bad> {
    let name = key_name(&signature.selector, &signature.domain);
    match keys.get(&name) {
        Some(Reply::Failed(why)) => Err(Bad(DkimResult::Temperror, "key_lookup_failed", format!("TXT {name}: {why}"))),
        Some(reply @ Reply::Records(_)) => {
            let mut parsed: Vec<_> = reply.texts().filter(|text| is_record(text)).take(10).map(parse_key).collect();
            let first = parsed.iter().position(|parsed| parsed.record.is_some()).unwrap_or(0);
            match parsed.is_empty() {
                true => Err(Bad(DkimResult::Permerror, "key_not_found", format!("no key at {name}"))),
                false => Ok(parsed.swap_remove(first)),
            }
        }
        _ => Err(Bad(DkimResult::Permerror, "key_not_found", format!("no key at {name}"))),
    }
}

/// RFC 6376 §6.1.2 and the sizes of RFC 8301 §3.2.
fn usable(key: &DkimKey, signature: &Signature) -> Result<(), Bad> {
    let bad = |reason, detail: String| Err(Bad(DkimResult::Permerror, reason, detail));
    if key.revoked {
        return bad("key_revoked", "p= is empty".into());
    }
    let wanted = match signature.algorithm {
        SignatureAlgorithm::Ed25519Sha256 => KeyAlgorithm::Ed25519,
        _ => KeyAlgorithm::Rsa,
    };
    if key.algorithm != wanted {
        return bad("key_type_mismatch", "the key is of another kind than the signature".into());
    }
    let hash = match signature.algorithm.hash() {
        Hash::Sha1 => "sha1",
        Hash::Sha256 => "sha256",
    };
    if !key.hashes.is_empty() && !key.hashes.iter().any(|allowed| allowed == hash) {
        return bad("hash_not_allowed", format!("the key does not allow {hash}"));
    }
    if key.service == Service::Other {
        return bad("key_not_for_mail", "s= of the key names other services".into());
    }
    let at = signature.identity.rsplit('@').next().unwrap_or_default();
    if key.strict && !at.eq_ignore_ascii_case(&signature.domain) {
        return bad("identity_not_strict", "the key says t=s, and i= has another domain than d=".into());
    }
    match key.bits {
        Some(bits) if key.algorithm == KeyAlgorithm::Rsa && bits < 1024 => {
            bad("key_too_short", format!("{bits} bits; receivers want 1024 at least"))
        }
        _ => Ok(()),
    }
}

fn rsa(how: &'static signature::RsaParameters, key: &DkimKey, octets: &[u8], signature: &Signature) -> bool {
    let Some((plain, _)) = public_key_of(&key.key) else { return false };
    signature::UnparsedPublicKey::new(how, plain).verify(octets, &signature.signature).is_ok()
}

#[cfg(test)]
#[path = "dkim_tests.rs"]
mod tests;
