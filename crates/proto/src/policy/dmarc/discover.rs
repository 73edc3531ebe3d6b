//! Where the policy of a domain is, and which domain is the organizational one: RFC 9989 §4.10 by walking up the
//! tree with at most eight questions, RFC 7489 §6.6.3 by the public suffix list.

use serde::Serialize;

use super::record::{DmarcRecord, Policy, PublicSuffix, is_record, parse};
use super::{Whose, record_name};
use crate::policy::dns::{Kind, Known, Missing, Question, Reply, Step, Steps, is_possible};
use crate::policy::remark::Remark;
use crate::policy::tags::text_of;

/// Most questions of one walk (RFC 9989 §4.10).
const MAX_QUESTIONS: usize = 8;

/// One name of the walk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The domain; the question was for `_dmarc.` and this.
    pub domain: String,
    /// DMARC records there, whether they count or not.
    pub texts: Vec<String>,
    /// The record that counts.
    pub record: Option<DmarcRecord>,
    /// What is wrong with it.
    pub remarks: Vec<Remark>,
    /// Nothing is known: the lookup failed.
    pub failed: Option<String>,
}

/// The policy as one of the two RFCs finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The domain whose record it is; `None` if there is none.
    pub at: Option<String>,
    /// Its text.
    pub text: Option<String>,
    /// The record.
    pub record: Option<DmarcRecord>,
    /// The organizational domain of the domain that was asked about.
    pub organizational: String,
    /// The domain that was asked about.
    pub domain: String,
    /// Whether `np` and `t` count (RFC 9989).
    pub current: bool,
}

impl Found {
    /// What the owner asks for; `None` without a record.
    pub fn policy(&self, whose: Whose) -> Option<Policy> {
        let record = self.record.as_ref()?;
        let inherited = self.at.as_deref() != Some(self.domain.as_str());
        let sub = record.sp.unwrap_or(record.p);
        let asked = match whose {
            Whose::Domain if !inherited => record.p,
            Whose::Domain | Whose::Subdomain => sub,
            Whose::NonExistent if self.current => record.np.unwrap_or(sub),
            Whose::NonExistent => sub,
        };
        Some(asked)
    }
}

/// The result of a [`Discovery`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DmarcDiscovery {
    /// The domain that was asked about.
    pub domain: String,
    /// Every name that was asked, in order of the walk, then those only the old form wants.
    pub asked: Vec<Asked>,
    /// By RFC 9989.
    pub current: Found,
    /// By RFC 7489.
    pub classic: Found,
    /// A lookup failed: what was found may be wrong.
    pub incomplete: bool,
}

impl DmarcDiscovery {
    /// The two forms give another policy, place or organizational domain.
    pub fn differs(&self) -> bool {
        let all = [Whose::Domain, Whose::Subdomain, Whose::NonExistent];
        self.current.at != self.classic.at
            || self.current.organizational != self.classic.organizational
            || all.iter().any(|whose| self.current.policy(*whose) != self.classic.policy(*whose))
    }
}

/// Finds the policy of a domain in both forms.
#[derive(Debug)]
pub struct Discovery {
    domain: String,
    known: Known,
}

impl Discovery {
    /// For a domain as in a From header; IDNA must be done already.
    pub fn new(domain: &str) -> Self {
        Self { domain: plain(domain), known: Known::default() }
    }

    fn run(&self) -> Result<DmarcDiscovery, Missing> {
        let mut asked = walk(&self.known, &self.domain)?;
        let current = current(&self.domain, &asked);
        let classic = classic(&self.known, &self.domain, &mut asked)?;
        let incomplete = asked.iter().any(|asked| asked.failed.is_some());
        Ok(DmarcDiscovery { domain: self.domain.clone(), asked, current, classic, incomplete })
    }
}

impl Steps for Discovery {
    type Output = DmarcDiscovery;
    fn step(&mut self) -> Step<DmarcDiscovery> {
        match self.run() {
            Ok(done) => Step::Done(done),
            Err(Missing(question)) => Step::Ask(question),
        }
    }
    fn answer(&mut self, question: Question, reply: Reply) {
        self.known.put(question, reply);
    }
}

/// Finds only the organizational domain by RFC 9989, for the other side of an alignment.
#[derive(Debug)]
pub struct OrganizationalDomain {
    domain: String,
    known: Known,
}

impl OrganizationalDomain {
    /// Of this domain.
    pub fn new(domain: &str) -> Self {
        Self { domain: plain(domain), known: Known::default() }
    }
}

impl Steps for OrganizationalDomain {
    type Output = String;
    fn step(&mut self) -> Step<String> {
        match walk(&self.known, &self.domain) {
            Ok(asked) => Step::Done(organizational(&self.domain, &asked)),
            Err(Missing(question)) => Step::Ask(question),
        }
    }
    fn answer(&mut self, question: Question, reply: Reply) {
        self.known.put(question, reply);
    }
}

fn plain(domain: &str) -> String {
    domain.trim_matches('.').to_ascii_lowercase()
}

fn ask(known: &Known, domain: &str) -> Result<Asked, Missing> {
    let mut asked = Asked { domain: domain.into(), texts: Vec::new(), record: None, remarks: Vec::new(), failed: None };
    let name = record_name(domain);
    if !is_possible(&name) {
        return Ok(asked);
    }
    let reply = known.get(&name, Kind::Txt)?;
    if let Reply::Failed(reason) = reply {
        asked.failed = Some(reason.clone());
    }
    let texts: Vec<&[u8]> = reply.texts().filter(|text| is_record(text)).collect();
    asked.texts = texts.iter().take(10).map(|text| text_of(text)).collect();
    match texts.as_slice() {
        [] => {}
        [one] => {
            let parsed = parse(one);
            asked.record = parsed.record;
            asked.remarks = parsed.remarks;
        }
        // Several are none.
        many => asked.remarks.push(Remark::error("several_records", 0, format!("{} DMARC records", many.len()))),
    }
    Ok(asked)
}

/// RFC 9989 §4.10.
fn walk(known: &Known, domain: &str) -> Result<Vec<Asked>, Missing> {
    let mut all = Vec::new();
    let labels: Vec<&str> = domain.split('.').collect();
    let mut from = 0;
    while from < labels.len() && all.len() < MAX_QUESTIONS {
        let asked = ask(known, &labels[from..].join("."))?;
        let stop = asked.record.as_ref().is_some_and(|record| record.psd != PublicSuffix::Unknown);
        all.push(asked);
        if stop {
            break;
        }
        // Long names jump to their last seven labels, so that eight questions are enough.
        from = (from + 1).max(if from == 0 { labels.len().saturating_sub(MAX_QUESTIONS - 1) } else { 0 });
    }
    Ok(all)
}

/// RFC 9989 §4.10.2.
fn organizational(domain: &str, asked: &[Asked]) -> String {
    let with_record = || asked.iter().filter_map(|asked| Some((asked, asked.record.as_ref()?)));
    if let Some((at, _)) = with_record().find(|(_, record)| record.psd == PublicSuffix::No) {
        return at.domain.clone();
    }
    if let Some((at, _)) = with_record().find(|(at, record)| record.psd == PublicSuffix::Yes && at.domain != domain) {
        return one_below(domain, &at.domain);
    }
    match with_record().next_back() {
        Some((at, _)) => at.domain.clone(),
        None => domain.to_owned(),
    }
}

/// The domain one label below `parent` on the way to `domain`.
fn one_below(domain: &str, parent: &str) -> String {
    let labels: Vec<&str> = domain.split('.').collect();
    let depth = parent.split('.').count() + 1;
    labels[labels.len().saturating_sub(depth)..].join(".")
}

/// RFC 9989 §4.10.1: the domain's own record, then that of the organizational domain, then that of the suffix.
fn current(domain: &str, asked: &[Asked]) -> Found {
    let organizational = organizational(domain, asked);
    let with_record = || asked.iter().filter(|asked| asked.record.is_some());
    let found = with_record()
        .find(|asked| asked.domain == domain)
        .or_else(|| with_record().find(|asked| asked.domain == organizational))
        .or_else(|| with_record().find(|a| a.record.as_ref().is_some_and(|r| r.psd == PublicSuffix::Yes)));
    found_at(domain, organizational, found, true)
}

/// RFC 7489 §6.6.3.
fn classic(known: &Known, domain: &str, asked: &mut Vec<Asked>) -> Result<Found, Missing> {
    let organizational = organizational_by_list(domain);
    for name in [domain, &organizational] {
        if !asked.iter().any(|asked| asked.domain == name) {
            asked.push(ask(known, name)?);
        }
    }
    let with_record = |name: &str| asked.iter().find(|asked| asked.domain == name && asked.record.is_some());
    let found = with_record(domain).or_else(|| with_record(&organizational));
    Ok(found_at(domain, organizational.clone(), found, false))
}

fn found_at(domain: &str, organizational: String, found: Option<&Asked>, current: bool) -> Found {
    Found {
        at: found.map(|asked| asked.domain.clone()),
        text: found.and_then(|asked| asked.texts.first().cloned()),
        record: found.and_then(|asked| asked.record.clone()),
        organizational,
        domain: domain.to_owned(),
        current,
    }
}

/// The organizational domain of RFC 7489 §3.2: one label more than the public suffix. The list is compiled in.
pub fn organizational_by_list(domain: &str) -> String {
    let domain = plain(domain);
    psl::domain_str(&domain).map_or(domain.clone(), str::to_owned)
}
