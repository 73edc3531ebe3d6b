//! Whether a chain is good for a name at a time, and if not, everything that is wrong with it.
//!
//! The verdict is webpki's. It names one problem only, and several very different ones "unknown issuer": what a person has
//! to do about it is found by asking for trust, time, name and strength one by one, and only after a chain was refused.

use std::sync::Arc;

use proto::transcript::CertificateProblem;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::TlsError;
use super::chain::{Parts, bounded, organization_of};

/// The trusted roots, and what follows from them.
#[derive(Clone)]
pub(super) struct Judge {
    roots: Arc<RootCertStore>,
    verifier: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl Judge {
    pub(super) fn new(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let roots = Arc::new(roots);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| TlsError::Library(Error::General(error.to_string())))?;
        Ok(Self { roots, verifier, provider })
    }

    /// The verdict, with one problem in the library's order.
    pub(super) fn verdict(
        &self,
        chain: &[CertificateDer<'_>],
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), CertificateProblem> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(CertificateProblem::Other("the server sent no certificate".into()));
        };
        let Some(name) = name else {
            return Err(CertificateProblem::NameMismatch);
        };
        match self.verifier.verify_server_cert(leaf, intermediates, name, &[], now) {
            Ok(_) => Ok(()),
            Err(_) if self.is_root(leaf) => own_checks(leaf, name, now),
            Err(error) => Err(problem_of(&error)),
        }
    }

    /// All that is wrong with a chain that was refused, the most telling first; never empty.
    ///
    /// Time comes first, since nothing else can be said to be wrong with an expired certificate until it is renewed;
    /// then strength, trust, and the name.
    pub(super) fn problems(
        &self,
        chain: &[CertificateDer<'_>],
        name: Option<&ServerName<'_>>,
        now: UnixTime,
        refused: CertificateProblem,
    ) -> Vec<CertificateProblem> {
        let parts: Vec<Option<Parts>> = bounded(chain).map(Parts::read).collect();
        let (Some(Some(leaf)), Some(first)) = (parts.first(), chain.first()) else { return vec![refused] };
        let Ok(parsed) = ParsedCertificate::try_from(first) else { return vec![refused] };
        let mut problems = Vec::new();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if seconds > leaf.not_after {
            problems.push(CertificateProblem::Expired);
        } else if seconds < leaf.not_before {
            problems.push(CertificateProblem::NotYetValid);
        }
        if let Some(weak) = parts.iter().flatten().find_map(|part| part.weak.clone()) {
            problems.push(CertificateProblem::Weak(weak));
        }
        // Trust is asked for at a time when the leaf is valid, so that it is told apart from time.
        let inside = seconds.clamp(leaf.not_before, leaf.not_after.max(leaf.not_before));
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(inside).unwrap_or(0)));
        if let Some(problem) = self.distrust(&parsed, chain, &parts, at)
            && !problems.contains(&problem)
            && !matches!((&problem, problems.last()), (CertificateProblem::Other(_), Some(CertificateProblem::Weak(_))))
        {
            problems.push(problem);
        }
        if name.is_none_or(|name| verify_server_name(&parsed, name).is_err()) {
            problems.push(CertificateProblem::NameMismatch);
        }
        if problems.is_empty() {
            problems.push(refused);
        }
        problems
    }

    /// Why no trusted root is reached.
    fn distrust(
        &self,
        parsed: &ParsedCertificate<'_>,
        chain: &[CertificateDer<'_>],
        parts: &[Option<Parts>],
        at: UnixTime,
    ) -> Option<CertificateProblem> {
        let (first, intermediates) = chain.split_first()?;
        let leaf = parts.first()?.as_ref()?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let error =
            verify_server_cert_signed_by_trust_anchor(parsed, &self.roots, intermediates, at, algorithms).err()?;
        if self.is_root(first) {
            return None;
        }
        let problem = problem_of(&error);
        let issuer = matches!(problem, CertificateProblem::UnknownIssuer);
        if leaf.self_issued() && (issuer || is_authority(&error)) {
            return Some(CertificateProblem::SelfSigned);
        }
        if !issuer {
            return Some(problem);
        }
        // Keys too short to be used make signatures "bad".
        if parts.iter().skip(1).flatten().any(|part| part.weak.is_some()) && is_bad_signature(&error) {
            return None;
        }
        Some(if self.is_cut_short(parts) { CertificateProblem::MissingIntermediate } else { problem })
    }

    /// Whether the chain ends below an authority that is there and only was not sent.
    ///
    /// A private authority's root is not sent either, as it need not be: signs of a public one decide.
    fn is_cut_short(&self, parts: &[Option<Parts>]) -> bool {
        let sent: Vec<&Parts> = parts.iter().flatten().collect();
        let Some(mut top) = sent.first().copied() else { return false };
        for _ in 0..sent.len() {
            match sent.iter().find(|above| above.subject == top.issuer && !std::ptr::eq(**above, top)) {
                Some(_) if top.self_issued() => return false,
                Some(above) => top = above,
                None => break,
            }
        }
        let roots = self.roots.subjects();
        let known = |name: &[u8]| roots.iter().any(|root| root.as_ref() == name);
        if top.self_issued() || known(&top.issuer) {
            return false;
        }
        let alone = sent.first().is_some_and(|leaf| std::ptr::eq(*leaf, top));
        let says_intermediate = || {
            let name = top.issuer_common_name.as_deref().unwrap_or_default().to_ascii_lowercase();
            ["intermediate", "issuing", "sub ca", "subca", "subordinate"].iter().any(|word| name.contains(word))
        };
        top.grand_issuer.as_deref().is_some_and(known)
            || top
                .issuer_organization
                .as_deref()
                .is_some_and(|name| roots.iter().any(|root| organization_of(root.as_ref()).as_deref() == Some(name)))
            || (alone && (top.points_to_issuer || says_intermediate()))
    }

    /// Whether the server's own certificate is one of the trusted ones: webpki has no word for that, but whoever put a
    /// self-signed certificate into a file of roots means it.
    fn is_root(&self, leaf: &CertificateDer<'_>) -> bool {
        let mut own = RootCertStore::empty();
        own.add(leaf.clone()).is_ok() && own.roots.first().is_some_and(|anchor| self.roots.roots.contains(anchor))
    }
}

/// Time and name of a certificate that is trusted as such.
fn own_checks(leaf: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), CertificateProblem> {
    let unreadable = || CertificateProblem::Other("the certificate cannot be read".into());
    let parts = Parts::read(leaf).ok_or_else(unreadable)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now > parts.not_after {
        return Err(CertificateProblem::Expired);
    }
    if now < parts.not_before {
        return Err(CertificateProblem::NotYetValid);
    }
    let parsed = ParsedCertificate::try_from(leaf).map_err(|error| problem_of(&error))?;
    verify_server_name(&parsed, name).map_err(|error| problem_of(&error))
}

fn is_authority(error: &Error) -> bool {
    // rustls passes webpki's errors that it has no name for on as text only.
    matches!(error, Error::InvalidCertificate(CertificateError::Other(other)) if format!("{other:?}").contains("CaUsedAsEndEntity"))
}

fn is_bad_signature(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::BadSignature))
}

pub(super) fn problem_of(error: &Error) -> CertificateProblem {
    let Error::InvalidCertificate(inner) = error else {
        return CertificateProblem::Other(error.to_string());
    };
    match inner {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => CertificateProblem::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => CertificateProblem::NotYetValid,
        // A bad signature is that of an authority with the name of a trusted one and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => CertificateProblem::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            CertificateProblem::NameMismatch
        }
        _ if is_authority(error) => {
            CertificateProblem::Other("an authority's certificate (CA:TRUE) is used as the server's own".into())
        }
        other => CertificateProblem::Other(other.to_string()),
    }
}

/// What is wrong, in a few words: those of [`proto::transcript::Fact::Tls`].
pub fn problem_text(problem: &CertificateProblem) -> String {
    match problem {
        CertificateProblem::Expired => "expired".into(),
        CertificateProblem::NotYetValid => "not yet valid".into(),
        CertificateProblem::UnknownIssuer => "issuer is not trusted".into(),
        CertificateProblem::NameMismatch => "not for this name".into(),
        CertificateProblem::SelfSigned => "signed by its own key".into(),
        CertificateProblem::MissingIntermediate => "the signer's certificate was not sent".into(),
        CertificateProblem::Other(text) | CertificateProblem::Weak(text) => text.clone(),
    }
}
