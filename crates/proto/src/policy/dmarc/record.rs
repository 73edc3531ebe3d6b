//! The record: `_dmarc` TXT (RFC 9989 §4.7, RFC 7489 §6.3).

use serde::Serialize;

use crate::policy::remark::{Parsed, short};
use crate::policy::tags::{Tag, Tags, has_version};

/// What the owner of a domain asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Nothing; only reports.
    None,
    /// Treat with suspicion.
    Quarantine,
    /// Do not take it.
    Reject,
}

impl Policy {
    /// As in `p=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }
    fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Quarantine, Self::Reject].into_iter().find(|policy| policy.name().eq_ignore_ascii_case(name))
    }
    /// One step milder: what `t=y` asks for (RFC 9989 §4.7).
    pub fn milder(self) -> Self {
        match self {
            Self::Reject => Self::Quarantine,
            Self::Quarantine | Self::None => Self::None,
        }
    }
}

/// `adkim=`, `aspf=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Alignment {
    /// The same organizational domain.
    #[default]
    Relaxed,
    /// The same domain.
    Strict,
}

/// `psd=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PublicSuffix {
    /// Others register below it.
    Yes,
    /// It is an organizational domain.
    No,
    /// The default: the tree says.
    #[default]
    Unknown,
}

/// One address for reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportUri {
    /// As written, without the size.
    pub uri: String,
    /// The domain of a `mailto:` address, lower case: it has to agree if it is another one (RFC 9990 §4).
    pub domain: Option<String>,
    /// The limit behind `!`, as written (RFC 7489 only).
    pub size: Option<String>,
}

/// A DMARC record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DmarcRecord {
    /// `p=`; [`Policy::None`] if it is missing or wrong and there is an address for reports.
    pub p: Policy,
    /// `sp=`
    pub sp: Option<Policy>,
    /// `np=` (RFC 9989; receivers of the old form know it from RFC 9091, or not at all).
    pub np: Option<Policy>,
    /// `psd=` (RFC 9989).
    pub psd: PublicSuffix,
    /// `t=y` (RFC 9989): the policy is asked for one step milder.
    pub testing: bool,
    /// `pct=` (RFC 7489 only).
    pub pct: Option<u8>,
    /// `adkim=`
    pub adkim: Alignment,
    /// `aspf=`
    pub aspf: Alignment,
    /// Addresses for aggregate reports.
    pub rua: Vec<ReportUri>,
    /// Addresses for failure reports.
    pub ruf: Vec<ReportUri>,
    /// `fo=`
    pub fo: Vec<String>,
}

/// Whether a TXT record is meant as one.
pub fn is_record(text: &[u8]) -> bool {
    has_version(text, "DMARC1")
}

const KNOWN: &[&str] = &["v", "p", "sp", "np", "psd", "t", "adkim", "aspf", "rua", "ruf", "fo", "pct", "rf", "ri"];

/// Reads a record.
pub fn parse(text: &[u8]) -> Parsed<DmarcRecord> {
    let mut tags = Tags::parse(text);
    if !is_record(text) {
        tags.error("bad_version", 0, "does not start with v=DMARC1");
        return Parsed::new(None, tags.remarks);
    }
    tags.warn_unknown(KNOWN);
    for name in ["pct", "rf", "ri"] {
        if let Some(at) = tags.get(name).map(|tag| tag.name_at) {
            tags.warn("tag_removed", at, format!("{name}= is not part of RFC 9989 any more"));
        }
    }
    let rua = uris(&mut tags, "rua");
    let ruf = uris(&mut tags, "ruf");
    let p = policy(&mut tags, "p");
    let sp = policy(&mut tags, "sp");
    let np = policy(&mut tags, "np");
    if tags.get("p").is_none() {
        match rua.is_empty() {
            true => tags.error("missing_policy", text.len(), "there is no p="),
            false => tags.warn("missing_policy", text.len(), "there is no p=; it counts as none"),
        }
    } else if tags.all.get(1).is_some_and(|second| !second.name.eq_ignore_ascii_case("p")) {
        let at = tags.get("p").map_or(0, |tag| tag.name_at);
        tags.warn("policy_not_second", at, "receivers of RFC 7489 may want p= right behind v=");
    }
    let wrong = |name: &str, value: Option<Policy>| tags.get(name).is_some() && value.is_none();
    // RFC 9989 §4.7, RFC 7489 §6.6.3: with a wrong policy only the wish for reports is left.
    let broken = p.is_none() || wrong("sp", sp) || wrong("np", np);
    if rua.is_empty() {
        tags.warn("no_reports", text.len(), "there is no rua=: nobody learns of failures");
    }
    let record = DmarcRecord {
        p: if broken { Policy::None } else { p.unwrap_or(Policy::None) },
        sp: if broken { None } else { sp },
        np: if broken { None } else { np },
        psd: psd(&mut tags),
        testing: word(&mut tags, "t", &["y", "n"]).as_deref() == Some("y"),
        pct: pct(&mut tags),
        adkim: alignment(&mut tags, "adkim"),
        aspf: alignment(&mut tags, "aspf"),
        fo: fo(&mut tags),
        rua,
        ruf,
    };
    let counts = !(broken && record.rua.is_empty());
    Parsed::new(counts.then_some(record), tags.remarks)
}

fn policy(tags: &mut Tags, name: &str) -> Option<Policy> {
    let tag = tags.get(name)?.clone();
    let policy = Policy::from_name(&tag.value);
    if policy.is_none() {
        tags.error("bad_policy", tag.at, format!("{name}= is `{}`", short(&tag.value)));
    }
    policy
}

/// The value of a tag that must be one of these words; another one is as if the tag were not there.
fn word(tags: &mut Tags, name: &str, words: &[&str]) -> Option<String> {
    let tag = tags.get(name)?.clone();
    let value = tag.value.to_ascii_lowercase();
    if words.contains(&value.as_str()) {
        return Some(value);
    }
    tags.error("bad_value", tag.at, format!("{name}= is `{}`", short(&tag.value)));
    None
}

fn psd(tags: &mut Tags) -> PublicSuffix {
    match word(tags, "psd", &["y", "n", "u"]).as_deref() {
        Some("y") => PublicSuffix::Yes,
        Some("n") => PublicSuffix::No,
        _ => PublicSuffix::Unknown,
    }
}

fn alignment(tags: &mut Tags, name: &str) -> Alignment {
    match word(tags, name, &["r", "s"]).as_deref() {
        Some("s") => Alignment::Strict,
        _ => Alignment::Relaxed,
    }
}

fn pct(tags: &mut Tags) -> Option<u8> {
    let tag = tags.get("pct")?.clone();
    let number = tag.value.parse::<u8>().ok().filter(|number| *number <= 100);
    match number {
        None => tags.error("bad_value", tag.at, format!("pct= is `{}`, not 0 to 100", short(&tag.value))),
        Some(100) => {}
        Some(number) => tags.warn("pct_below_100", tag.at, format!("the policy is for {number} % of the messages")),
    }
    number
}

fn fo(tags: &mut Tags) -> Vec<String> {
    let Some(Tag { value, at, .. }) = tags.get("fo").cloned() else { return Vec::new() };
    let mut all = Vec::new();
    for option in value.split(':').map(str::trim) {
        match ["0", "1", "d", "s"].contains(&option) {
            true => all.push(option.to_owned()),
            false => tags.error("bad_value", at, format!("fo= has `{}`", short(option))),
        }
    }
    all
}

fn uris(tags: &mut Tags, name: &str) -> Vec<ReportUri> {
    let Some(Tag { value, at, .. }) = tags.get(name).cloned() else { return Vec::new() };
    let mut found = Vec::new();
    let mut start = at;
    for piece in value.split(',') {
        match uri(piece.trim()) {
            Some(uri) => {
                if uri.size.is_some() {
                    tags.warn("size_removed", start, "a size behind `!` is not part of RFC 9989 any more");
                }
                found.push(uri);
            }
            None => tags.error("bad_uri", start, format!("{name}= has `{}`", short(piece.trim()))),
        }
        start += piece.len() + 1;
    }
    found
}

fn uri(text: &str) -> Option<ReportUri> {
    let (uri, size) = match text.rsplit_once('!') {
        Some((uri, size)) => (uri, Some(size.to_owned())),
        None => (text, None),
    };
    let (scheme, rest) = uri.split_once(':')?;
    if rest.is_empty() || rest.contains(char::is_whitespace) || !scheme.chars().all(|c| c.is_ascii_alphanumeric()) {
        return None;
    }
    let domain = match scheme.eq_ignore_ascii_case("mailto") {
        true => {
            let (local, domain) = rest.split(['?', '#']).next()?.rsplit_once('@')?;
            if local.is_empty() || !crate::policy::dns::is_possible(domain) {
                return None;
            }
            Some(domain.to_ascii_lowercase())
        }
        // Other schemes are allowed, and nobody sends there.
        false => None,
    };
    Some(ReportUri { uri: uri.to_owned(), domain, size })
}
