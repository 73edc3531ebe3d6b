//! Whether a message passes: SPF or DKIM for a domain that is aligned with the one in From (RFC 9989 §4.4).

use serde::Serialize;

use super::record::Alignment;
use crate::policy::spf::SpfResult;

/// A domain together with its organizational domain, as found by the form that is judged by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpfClaim {
    /// Domain of the envelope sender (of HELO for `<>`).
    pub domain: String,
    /// Its organizational domain.
    pub organizational: String,
    /// What SPF gave for it.
    pub result: SpfResult,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DkimClaim {
    /// `d=`
    pub domain: String,
    /// Its organizational domain.
    pub organizational: String,
    /// It verified.
    pub pass: bool,
}

/// Which of the claims count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DmarcVerdict {
    /// At least one claim passed and is aligned.
    pub pass: bool,
    /// The envelope sender is aligned, whether it passed or not.
    pub spf_aligned: bool,
    /// SPF passed for an aligned domain.
    pub spf_pass: bool,
    /// For each signature: aligned or not.
    pub dkim_aligned: Vec<bool>,
    /// A signature of an aligned domain verified.
    pub dkim_pass: bool,
}

/// Whether two domains belong together.
pub fn aligned(mode: Alignment, a: (&str, &str), b: (&str, &str)) -> bool {
    let same = |a: &str, b: &str| !a.is_empty() && a.trim_matches('.').eq_ignore_ascii_case(b.trim_matches('.'));
    match mode {
        Alignment::Strict => same(a.0, b.0),
        Alignment::Relaxed => same(a.0, b.0) || same(a.1, b.1),
    }
}

/// Judges a message: `from` is the domain of From with its organizational domain.
pub fn judge(
    from: (&str, &str),
    aspf: Alignment,
    adkim: Alignment,
    spf: Option<&SpfClaim>,
    dkim: &[DkimClaim],
) -> DmarcVerdict {
    let spf_aligned = spf.is_some_and(|spf| aligned(aspf, from, (&spf.domain, &spf.organizational)));
    let spf_pass = spf_aligned && spf.is_some_and(|spf| spf.result == SpfResult::Pass);
    let dkim_aligned: Vec<bool> =
        dkim.iter().map(|dkim| aligned(adkim, from, (&dkim.domain, &dkim.organizational))).collect();
    let dkim_pass = dkim.iter().zip(&dkim_aligned).any(|(dkim, aligned)| *aligned && dkim.pass);
    DmarcVerdict { pass: spf_pass || dkim_pass, spf_aligned, spf_pass, dkim_aligned, dkim_pass }
}
