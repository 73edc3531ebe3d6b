//! One domain from its name to the report: which sections run, in which order, and what they share.

use std::sync::atomic::{AtomicU64, Ordering};

use explain::{Severity, Values};
use futures_util::future::join_all;
use net::{Answer, Net, Outcome, Resolver, lookup::Kind};
use tokio::sync::OnceCell;

use super::notes::Notes;
use super::plan::{Plan, Section};
use super::report::{Audit, Found, SCHEMA, SectionReport};
use super::{addresses, bimi, blocklists, caa, dane, dkim, dmarc, mx, routes, spf, sts, zone};
use crate::finding::Judge;
use crate::lists::Lists;

/// Audits domains, one or many at a time; shared by reference.
pub struct Auditor {
    pub(super) net: Net,
    /// Checks signatures, if it can.
    pub(super) validating: Option<Resolver>,
    pub(super) judge: Judge,
    pub(super) plan: Plan,
    /// Whether the way to the name servers lets signatures through: asked once.
    pub(super) signatures: OnceCell<bool>,
    /// Blocklists, their test points asked once.
    pub(super) lists: Lists,
    random: AtomicU64,
}

impl std::fmt::Debug for Auditor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auditor").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// Why a name cannot be audited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameError {
    /// It is no domain name.
    #[error("{0} is no domain name")]
    NotADomain(String),
}

impl Auditor {
    /// `net.resolver` answers what anybody sees; `validating`, if there is one, checks signatures.
    pub fn new(net: Net, validating: Option<Resolver>, judge: Judge, plan: Plan) -> Self {
        let seed = u64::try_from(net.clock.now_ms()).unwrap_or(1) ^ net.clock.mono_us();
        let lists = plan.lists.clone().unwrap_or_else(|| explain::lists::blocklists().to_vec());
        let lists = Lists::new(net.resolver.clone(), lists, label(seed));
        Self { net, validating, judge, plan, signatures: OnceCell::new(), lists, random: AtomicU64::new(seed) }
    }

    /// What is asked for.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The time, for reports that could not be made.
    pub fn now_ms(&self) -> i64 {
        self.net.clock.now_ms()
    }

    /// Audits one domain. Never fails: what could not be found out is in the report.
    pub async fn audit(&self, typed: &str) -> Audit {
        let started_ms = self.net.clock.now_ms();
        let began = self.net.clock.mono_us();
        let mut audit = match plain_domain(typed) {
            Ok(domain) => self.sections(&domain, started_ms).await,
            Err(error) => Audit::failed(typed, started_ms, error.to_string()),
        };
        audit.took_us = self.net.clock.mono_us().saturating_sub(began);
        audit
    }

    async fn sections(&self, domain: &str, started_ms: i64) -> Audit {
        let mut base = Notes::new(Section::Domain);
        let alive = self.exists(domain, &mut base).await;
        let mut all = Vec::new();
        let mut provider = None;
        if alive {
            let scene = Scene { auditor: self, domain };
            (all, provider) = scene.look(&mut base).await;
        }
        all.insert(0, base);
        let (mut reports, mut findings, mut seen): (Vec<_>, Vec<_>, Vec<(&'static str, Values)>) = Default::default();
        for notes in all {
            let (report, found) = notes.judge(&self.judge, &mut seen);
            let keep = self.plan.wants(report.section) || (report.section == Section::Domain && !found.is_empty());
            if keep {
                reports.push(report);
                findings.extend(found);
            }
        }
        reports.sort_by_key(|report| report.section);
        findings.sort_by_key(|found| (rank(found.severity), found.section));
        Audit {
            schema: SCHEMA,
            domain: domain.to_owned(),
            started_ms,
            took_us: 0,
            healthy: !findings.iter().any(|found| found.severity == Severity::Problem),
            error: None,
            provider,
            sections: reports,
            findings,
        }
    }

    /// Looks at the reverse names of the plan's addresses alone; `name`: of whom reverse names are proposed.
    pub async fn addresses(&self, name: &str) -> (SectionReport, Vec<Found>) {
        let notes = addresses::look(Scene { auditor: self, domain: name }).await;
        notes.judge(&self.judge, &mut Vec::new())
    }

    /// Whether there is anything to look at.
    async fn exists(&self, domain: &str, notes: &mut Notes) -> bool {
        let (soa, mx) = tokio::join!(self.query(domain, Kind::Soa), self.query(domain, Kind::Mx));
        match (&soa.outcome, &mx.outcome) {
            (Outcome::NxDomain, Outcome::NxDomain) => {
                notes.sign("domain_missing", [("domain", domain)]);
                notes.summary("does not exist");
                false
            }
            (Outcome::Failed(reason), Outcome::Failed(_)) => {
                notes.sign(
                    "domain_dns_failure",
                    [("domain", domain), ("name", domain), ("type", "MX"), ("reason", reason)],
                );
                notes.summary(format!("no answer: {reason}"));
                false
            }
            _ => {
                notes.summary("exists");
                true
            }
        }
    }

    pub(super) async fn query(&self, name: &str, kind: Kind) -> Answer {
        self.net.resolver.query(name, kind).await
    }

    /// As [`Self::query`]; a failure is noted.
    pub(super) async fn ask(&self, domain: &str, name: &str, kind: Kind, notes: &mut Notes) -> Answer {
        let answer = self.query(name, kind).await;
        if let Outcome::Failed(reason) = &answer.outcome {
            let values = [("domain", domain), ("name", name), ("type", kind.name()), ("reason", reason)];
            notes.sign("domain_dns_failure", values);
        }
        answer
    }

    /// The validating resolver, if signatures reach it at all: one that never sees any would call everything bogus.
    pub(super) async fn signatures(&self) -> Option<&Resolver> {
        let resolver = self.validating.as_ref()?;
        let works = self
            .signatures
            .get_or_init(|| async { resolver.query(".", Kind::Soa).await.dnssec == net::Proof::Secure })
            .await;
        works.then_some(resolver)
    }

    /// A label nobody has published. Not secret, only unlikely.
    pub(super) fn random_label(&self) -> String {
        label(self.random.fetch_add(STRIDE, Ordering::Relaxed))
    }
}

const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// A label that nobody has published, made from a number.
pub fn label(seed: u64) -> String {
    format!("x{:012x}", seed.wrapping_mul(STRIDE).rotate_left(17) & 0xffff_ffff_ffff)
}

/// One domain being looked at.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) auditor: &'a Auditor,
    pub(super) domain: &'a str,
}

impl Scene<'_> {
    pub(super) fn wants(&self, section: Section) -> bool {
        self.auditor.plan.wants(section)
    }

    /// Asks what the second round wants to know already, as far as it does not depend on the first.
    async fn ahead(self) {
        let names = [(Section::MtaSts, "_mta-sts"), (Section::TlsRpt, "_smtp._tls"), (Section::Bimi, "default._bimi")];
        let wanted = names.into_iter().filter(|(section, _)| self.wants(*section));
        let asked = wanted.map(|(_, label)| async move {
            self.auditor.query(&format!("{label}.{}", self.domain), Kind::Txt).await;
        });
        join_all(asked).await;
    }

    /// Two rounds: what stands alone, then what needs the mail hosts and policies of the first.
    async fn look(self, base: &mut Notes) -> (Vec<Notes>, Option<String>) {
        let needs_mx = [Section::Mx, Section::Dkim, Section::MtaSts, Section::Dane, Section::Spf];
        let mx = async {
            match needs_mx.iter().any(|section| self.wants(*section)) {
                true => mx::look(self).await,
                false => mx::Receiving::nothing(),
            }
        };
        let needs_spf = [Section::Spf, Section::Dkim];
        let spf = async {
            let wanted = needs_spf.iter().any(|section| self.wants(*section)) || !self.auditor.plan.routes.is_empty();
            if wanted { spf::survey(self).await } else { spf::Sending::nothing() }
        };
        let needs_dmarc = [Section::Dmarc, Section::Bimi];
        let dmarc = async {
            match needs_dmarc.iter().any(|section| self.wants(*section)) {
                true => dmarc::look(self).await,
                false => dmarc::Policy::nothing(),
            }
        };
        let (wild, receiving, sending, policy, caa, servers, addresses, lists, ()) = tokio::join!(
            zone::wildcard(self, base),
            mx,
            spf,
            dmarc,
            caa::look(self),
            zone::servers(self),
            addresses::look(self),
            blocklists::look(self),
            self.ahead(),
        );
        let spf_notes = spf::judge(self, &sending, &receiving).await;
        let (keys, sts, bimi) = tokio::join!(
            dkim::look(self, &receiving, &sending, wild),
            sts::look(self, &receiving),
            bimi::look(self, &policy),
        );
        let dane = dane::look(self, &receiving, &sts).await;
        let reports = sts::reports(self, &sts, dane.pins).await;
        zone::parking(self, base, &receiving, &servers.hosts);
        let provider = receiving.provider.clone();
        let mut spf_notes = spf_notes;
        let mut dmarc_notes = policy.notes;
        routes::compare(self, &sending, &keys.selectors, policy.found.as_ref(), &mut spf_notes, &mut dmarc_notes);
        let mut all = vec![receiving.notes, spf_notes, keys.notes, dmarc_notes, sts.notes, reports, dane.notes];
        all.extend([bimi, caa, servers.notes, addresses, lists]);
        (all, provider)
    }
}

fn rank(severity: Severity) -> u8 {
    match severity {
        Severity::Problem => 0,
        Severity::Warning => 1,
        Severity::Note => 2,
    }
}

/// Lower case, ASCII form, without `http://`, `@` and the final dot: what people paste.
fn plain_domain(typed: &str) -> Result<String, NameError> {
    let text = typed.trim().trim_matches(['<', '>', '"', '\'']);
    let text = text.rsplit_once("://").map_or(text, |(_, rest)| rest);
    let text = text.split(['/', '?', '#']).next().unwrap_or_default();
    let text = text.rsplit_once('@').map_or(text, |(_, domain)| domain);
    let text = text.trim_end_matches('.');
    match proto::address::parse_domain(text) {
        Ok(domain) if !domain.starts_with('[') => Ok(domain.to_ascii_lowercase()),
        _ => Err(NameError::NotADomain(explain::sign_value(typed))),
    }
}
