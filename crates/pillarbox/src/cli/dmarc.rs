//! `pillarbox dmarc`: where the policy of a domain is and what it asks for, by both RFCs; and whether a message passes.

use std::fmt::Write as _;

use net::Resolver;
use proto::policy::dmarc::{
    Alignment, Discovery, DkimClaim, DmarcDiscovery, DmarcVerdict, Found, OrganizationalDomain, Policy, SpfClaim,
    Whose, judge, organizational_by_list,
};
use serde::Serialize;

use super::Fault;
use super::args::Global;
use super::args_policy::{DmarcArgs, DmarcCheckArgs, DmarcCommand};
use super::output::{clean, json, print};
use super::spf::{remarks, resolver};

/// Policies for the domain and what is below it.
#[derive(Serialize)]
struct Policies {
    domain: Option<Policy>,
    subdomain: Option<Policy>,
    non_existent: Option<Policy>,
}

impl Policies {
    fn of(found: &Found) -> Self {
        Self {
            domain: found.policy(Whose::Domain),
            subdomain: found.policy(Whose::Subdomain),
            non_existent: found.policy(Whose::NonExistent),
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    discovery: &'a DmarcDiscovery,
    /// RFC 9989.
    current: Policies,
    /// RFC 7489.
    classic: Policies,
    differs: bool,
}

/// One of the two ways to judge.
#[derive(Serialize)]
struct Judged {
    /// `RFC 9989` or `RFC 7489`.
    form: &'static str,
    from_organizational: String,
    policy_at: Option<String>,
    aspf: Alignment,
    adkim: Alignment,
    /// What the owner asks for if this fails, for a domain that exists.
    policy: Option<Policy>,
    /// `t=y`: the owner asks for one step less.
    testing: bool,
    spf: Option<SpfClaim>,
    dkim: Vec<DkimClaim>,
    verdict: DmarcVerdict,
}

#[derive(Serialize)]
struct CheckReport<'a> {
    schema: &'static str,
    from: &'a str,
    /// By RFC 9989.
    current: &'a Judged,
    /// By RFC 7489.
    classic: &'a Judged,
}

/// Does what was asked.
pub async fn run(global: &Global, args: &DmarcArgs) -> Result<(), Fault> {
    match (&args.command, &args.domain) {
        (Some(DmarcCommand::Check(check)), _) => self::check(global, check).await,
        (None, Some(domain)) => {
            let resolver = resolver(&args.resolver)?;
            let found = discover(&resolver, domain).await?;
            let report = Report {
                schema: "pillarbox.dmarc/1",
                current: Policies::of(&found.current),
                classic: Policies::of(&found.classic),
                differs: found.differs(),
                discovery: &found,
            };
            if global.json {
                json(&report)?
            } else {
                print(&words(&report))?
            }
            if found.current.record.is_some() { Ok(()) } else { Err(Fault::Told) }
        }
        (None, None) => Err(Fault::Usage("name a domain; see `pillarbox dmarc --help`".into())),
    }
}

/// A walk that could ask nothing at all says nothing about the domain.
async fn discover(resolver: &Resolver, domain: &str) -> Result<DmarcDiscovery, Fault> {
    let ascii = domain_name(domain)?;
    let found = resolver.walk(&mut Discovery::new(&ascii)).await;
    match found.asked.iter().find_map(|asked| asked.failed.as_ref()) {
        Some(why) if found.asked.iter().all(|asked| asked.failed.is_some()) => {
            Err(Fault::cannot(anyhow::anyhow!("DNS does not answer for {}: {why}", found.domain)))
        }
        _ => Ok(found),
    }
}

/// A domain as typed, as DNS has it.
pub fn domain_name(text: &str) -> Result<String, Fault> {
    let bare = text.trim().trim_start_matches('@').trim_end_matches('.');
    let ascii = match bare.is_ascii() {
        true => bare.to_ascii_lowercase(),
        false => proto::address::parse_domain(bare).unwrap_or_default(),
    };
    match proto::policy::dns::is_possible(&ascii) && !ascii.contains(char::is_whitespace) {
        true => Ok(ascii),
        false => Err(Fault::Usage(format!("`{}` is no domain name", clean(text)))),
    }
}

fn words(report: &Report<'_>) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", clean(&report.discovery.domain));
    for asked in &report.discovery.asked {
        let what = match (asked.texts.as_slice(), &asked.failed) {
            (_, Some(why)) => format!("failed: {why}"),
            ([], None) => "nothing".into(),
            (texts, None) => texts.join(" | "),
        };
        let _ = writeln!(out, "  _dmarc.{}: {}", clean(&asked.domain), clean(&what));
        out.push_str(&remarks(&asked.remarks, "    "));
    }
    found("RFC 9989", &report.discovery.current, &report.current, &mut out);
    if report.differs {
        found("RFC 7489", &report.discovery.classic, &report.classic, &mut out);
    } else {
        let _ = writeln!(out, "RFC 7489: the same");
    }
    if report.discovery.incomplete {
        let _ = writeln!(out, "Some lookups failed: this may not be the whole picture.");
    }
    out
}

fn found(form: &str, found: &Found, policies: &Policies, out: &mut String) {
    let at = found.at.as_deref().map_or("no record".to_owned(), |at| format!("record at {}", clean(at)));
    let _ = writeln!(out, "{form}: {at}, organizational domain {}", clean(&found.organizational));
    let name = |policy: Option<Policy>| policy.map_or("-", Policy::name);
    if found.record.is_some() {
        let _ = writeln!(
            out,
            "  policy for the domain {}, below it {}, for names that do not exist {}",
            name(policies.domain),
            name(policies.subdomain),
            name(policies.non_existent)
        );
    }
    if found.current && found.record.as_ref().is_some_and(|record| record.testing) {
        let _ = writeln!(out, "  t=y: one step milder is asked for");
    }
}

async fn check(global: &Global, args: &DmarcCheckArgs) -> Result<(), Fault> {
    let resolver = resolver(&args.resolver)?;
    let found = discover(&resolver, &args.from).await?;
    let mut claims = Vec::new();
    let mut signatures = Vec::new();
    if let (Some(domain), Some(result)) = (&args.spf_domain, args.spf_result) {
        claims.push((domain_name(domain)?, result));
    }
    for (domain, pass) in &args.dkim {
        signatures.push((domain_name(domain)?, *pass));
    }
    let mut current = Vec::new();
    for domain in claims.iter().map(|(domain, _)| domain).chain(signatures.iter().map(|(domain, _)| domain)) {
        current.push(resolver.walk(&mut OrganizationalDomain::new(domain)).await);
    }
    let classic: Vec<String> = claims
        .iter()
        .map(|(domain, _)| domain)
        .chain(signatures.iter().map(|(domain, _)| domain))
        .map(|domain| organizational_by_list(domain))
        .collect();
    let verdict = |form, found: &Found, organizational: &[String]| {
        let mut organizational = organizational.iter().cloned();
        let mut next = || organizational.next().unwrap_or_default();
        let spf = claims.first().map(|(domain, result)| SpfClaim {
            domain: domain.clone(),
            organizational: next(),
            result: *result,
        });
        let dkim: Vec<DkimClaim> = signatures
            .iter()
            .map(|(domain, pass)| DkimClaim { domain: domain.clone(), organizational: next(), pass: *pass })
            .collect();
        judged(form, found, spf, dkim)
    };
    let now = verdict("RFC 9989", &found.current, &current);
    let old = verdict("RFC 7489", &found.classic, &classic);
    if global.json {
        json(&CheckReport { schema: "pillarbox.dmarc-check/1", from: &found.domain, current: &now, classic: &old })?;
    } else {
        print(&format!("{}{}", verdict_words(&now), verdict_words(&old)))?;
    }
    if now.verdict.pass { Ok(()) } else { Err(Fault::Told) }
}

fn judged(form: &'static str, found: &Found, spf: Option<SpfClaim>, dkim: Vec<DkimClaim>) -> Judged {
    let aspf = found.record.as_ref().map_or(Alignment::Relaxed, |record| record.aspf);
    let adkim = found.record.as_ref().map_or(Alignment::Relaxed, |record| record.adkim);
    let verdict = judge((&found.domain, &found.organizational), aspf, adkim, spf.as_ref(), &dkim);
    Judged {
        form,
        from_organizational: found.organizational.clone(),
        policy_at: found.at.clone(),
        aspf,
        adkim,
        policy: found.policy(Whose::Domain),
        testing: found.current && found.record.as_ref().is_some_and(|record| record.testing),
        spf,
        dkim,
        verdict,
    }
}

fn verdict_words(judged: &Judged) -> String {
    let mut out = String::new();
    let verdict = if judged.verdict.pass { "pass" } else { "fail" };
    let policy = judged.policy.map_or("no policy".to_owned(), |policy| format!("policy {}", policy.name()));
    let _ = writeln!(out, "{}: {verdict} ({policy})", judged.form);
    let aligned = |yes: bool| if yes { "aligned" } else { "not aligned" };
    if let Some(spf) = &judged.spf {
        let word = aligned(judged.verdict.spf_aligned);
        let _ = writeln!(out, "  SPF {} for {}: {word}", spf.result.name(), clean(&spf.domain));
    }
    for (dkim, yes) in judged.dkim.iter().zip(&judged.verdict.dkim_aligned) {
        let result = if dkim.pass { "pass" } else { "fail" };
        let _ = writeln!(out, "  DKIM {result} for {}: {}", clean(&dkim.domain), aligned(*yes));
    }
    out
}
