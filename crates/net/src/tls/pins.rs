//! Certificates pinned in signed DNS (RFC 7672 §3, RFC 7671 §5): whether a chain fits the TLSA records of its host.
//!
//! Whether records may be used, and whether a host has any, is not decided here.

use proto::policy::tlsa::Tlsa;
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256, Sha512};

use super::chain;

/// Most records of one host that are tried; each may cost a verification.
pub const MAX_PINS: usize = 40;

/// One TLSA record that a sender of mail can use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pin {
    /// 2 (DANE-TA) or 3 (DANE-EE).
    pub usage: u8,
    /// 0 (certificate) or 1 (public key).
    pub selector: u8,
    /// 0 (as it is), 1 (SHA-256) or 2 (SHA-512).
    pub matching: u8,
    /// What has to be there.
    pub data: Vec<u8>,
}

/// The usable records of a host, with the names its certificate may have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pins {
    /// At most [`MAX_PINS`].
    pub records: Vec<Pin>,
    /// Where the records were found, which is the name to ask for in TLS, and the other reference identifiers
    /// (RFC 7672 §3.2.2). Only DANE-TA looks at them.
    pub names: Vec<String>,
}

impl Pins {
    /// The usable ones of these records; of several hashes over the same thing only the strongest counts
    /// (RFC 7671 §9).
    pub fn new(all: impl IntoIterator<Item = Pin>, names: Vec<String>) -> Self {
        let usable = |pin: &Pin| Tlsa::new(pin.usage, pin.selector, pin.matching, &pin.data).is_usable();
        let mut records: Vec<Pin> = all.into_iter().filter(usable).take(MAX_PINS).collect();
        let strongest: Vec<(u8, u8)> =
            records.iter().filter(|pin| pin.matching == 2).map(|pin| (pin.usage, pin.selector)).collect();
        records.retain(|pin| pin.matching != 1 || !strongest.contains(&(pin.usage, pin.selector)));
        Self { records, names }
    }

    /// Whether one of the records fits; otherwise why none does, in a few words.
    pub(super) fn check(
        &self,
        chain: &[CertificateDer<'_>],
        provider: &CryptoProvider,
        now: UnixTime,
    ) -> Result<(), String> {
        let Some((leaf, above)) = chain.split_first() else {
            return Err("the server sent no certificate".into());
        };
        // DANE-EE: the record alone decides; names and dates are those of the DNS (RFC 7672 §3.1.1).
        if self.records.iter().any(|pin| pin.usage == 3 && pin.fits(leaf)) {
            return Ok(());
        }
        let mut nearest = String::from("no TLSA record fits the certificate");
        for pin in self.records.iter().filter(|pin| pin.usage == 2) {
            let sent = chain.iter().take(chain::MAX_CERTIFICATES).filter(|certificate| pin.fits(certificate));
            // An authority's whole certificate in the DNS need not be sent by the server.
            let published = (pin.selector == 0 && pin.matching == 0).then(|| CertificateDer::from(pin.data.as_slice()));
            for authority in sent.cloned().chain(published) {
                match self.below(&authority, leaf, above, provider, now) {
                    Ok(()) => return Ok(()),
                    Err(reason) => nearest = reason,
                }
            }
        }
        Err(nearest)
    }

    /// DANE-TA: the chain leads to the pinned authority, and the certificate has one of the names (RFC 7672 §3.1.2).
    fn below(
        &self,
        authority: &CertificateDer<'_>,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        provider: &CryptoProvider,
        now: UnixTime,
    ) -> Result<(), String> {
        let parsed = ParsedCertificate::try_from(leaf).map_err(|error| error.to_string())?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned()).map_err(|error| error.to_string())?;
        let algorithms = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, above, now, algorithms)
            .map_err(|error| super::judge::problem_text(&super::judge::problem_of(&error)))?;
        let named = |name: &String| {
            ServerName::try_from(name.trim_end_matches('.').to_owned())
                .is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
        };
        if self.names.iter().any(named) { Ok(()) } else { Err("not for this name".into()) }
    }
}

impl Pin {
    fn fits(&self, certificate: &CertificateDer<'_>) -> bool {
        let hashed = |octets: &[u8]| match self.matching {
            0 => octets == self.data,
            1 => Sha256::digest(octets).as_slice() == self.data,
            2 => Sha512::digest(octets).as_slice() == self.data,
            _ => false,
        };
        match self.selector {
            0 => hashed(certificate),
            _ => chain::public_key_of(certificate).is_some_and(|key| hashed(&key)),
        }
    }
}
