//! What a policy gives for a client: `check_host()` of RFC 7208 §4 as a machine that asks questions.
//!
//! The machine runs again from the start with each answer it gets, see [`crate::policy::dns::Known`]. What counts
//! (lookups, void lookups) is counted anew in each run, so the last run is the whole truth.

use std::net::IpAddr;

use super::expand::{DomainSpec, Values, expand, expand_domain, parse_explanation};
use super::record::{Directive, Mechanism, Qualifier, Record, Target, Term, TermKind, is_record, parse};
use super::{Client, Limits, SpfOutcome, SpfResult, TermOutcome, TermTrace, Visit};
use crate::policy::dns::{Data, Kind, Known, Missing, Question, Reply, Step, Steps, is_possible, reverse_name};
use crate::policy::remark::Level;
use crate::policy::tags::text_of;

/// Most records in a row; the limit of lookups stops before.
const MAX_DEPTH: usize = 20;

/// Evaluates the policy of the envelope sender's domain (of the HELO name for `<>`).
#[derive(Debug)]
pub struct Evaluation {
    client: Client,
    sender: String,
    domain: String,
    limits: Limits,
    known: Known,
}

impl Evaluation {
    /// For a client; nothing is asked before the first step.
    pub fn new(mut client: Client, limits: Limits) -> Self {
        client.ip = client.ip.to_canonical();
        // RFC 7208 §2.4, §4.3: without a local part it is postmaster's.
        let (local, domain) = match client.mail_from.rsplit_once('@') {
            Some((local, domain)) => (local, domain),
            None if client.mail_from.is_empty() => ("", client.helo.as_str()),
            None => ("", client.mail_from.as_str()),
        };
        let sender = format!("{}@{domain}", if local.is_empty() { "postmaster" } else { local });
        let domain = domain.to_owned();
        Self { client, sender, domain, limits, known: Known::default() }
    }

    fn run(&self) -> Result<SpfOutcome, Missing> {
        let mut run = Run {
            client: &self.client,
            sender: &self.sender,
            limits: self.limits,
            known: &self.known,
            lookups: 0,
            voids: 0,
            explanation: None,
        };
        let trace = run.visit(&self.domain, 0)?;
        let explanation = match (trace.result, run.explanation.take()) {
            (SpfResult::Fail, Some((spec, domain))) => run.explain(&spec, &domain)?,
            _ => None,
        };
        let decided_by = trace.terms.last().filter(|last| last.outcome != TermOutcome::NotMatched);
        Ok(SpfOutcome {
            result: trace.result,
            domain: self.domain.clone(),
            explanation,
            problem: trace.problem.clone(),
            decided_by: decided_by.map(|term| term.term.clone()),
            lookups: run.lookups,
            voids: run.voids,
            trace: Some(trace),
        })
    }
}

impl Steps for Evaluation {
    type Output = SpfOutcome;
    fn step(&mut self) -> Step<SpfOutcome> {
        match self.run() {
            Ok(outcome) => Step::Done(outcome),
            Err(Missing(question)) => Step::Ask(question),
        }
    }
    fn answer(&mut self, question: Question, reply: Reply) {
        self.known.put(question, reply);
    }
}

/// Why a term has no answer.
enum Stop {
    /// A question is open.
    Ask(Missing),
    /// `temperror`
    Temporary(String),
    /// `permerror`
    Permanent(String),
}

impl From<Missing> for Stop {
    fn from(missing: Missing) -> Self {
        Self::Ask(missing)
    }
}

/// What a term came to.
struct Judged {
    matched: bool,
    target: Option<String>,
    note: Option<String>,
    inner: Option<Box<Visit>>,
}

impl Judged {
    fn new(matched: bool) -> Self {
        Self { matched, target: None, note: None, inner: None }
    }
    fn at(matched: bool, target: String, note: Option<String>) -> Self {
        Self { target: Some(target), note, ..Self::new(matched) }
    }
}

struct Run<'a> {
    client: &'a Client,
    sender: &'a str,
    limits: Limits,
    known: &'a Known,
    lookups: u32,
    voids: u32,
    /// `exp=` of the record that decided, with its domain.
    explanation: Option<(DomainSpec, String)>,
}

impl Run<'_> {
    /// RFC 7208 §4.3 to §4.7 for one domain.
    fn visit(&mut self, domain: &str, depth: usize) -> Result<Visit, Missing> {
        let mut visit = Visit::new(domain);
        if !is_possible(domain) || !domain.trim_end_matches('.').contains('.') {
            return Ok(visit.end(SpfResult::None, "this is no domain name that could have a policy"));
        }
        let record = match find(self.known, domain, &mut visit)? {
            Ok(record) => record,
            Err(result) => return Ok(Visit { result, ..visit }),
        };
        if let Some(error) = visit.remarks.iter().find(|remark| remark.level == Level::Error) {
            let said = format!("syntax error at octet {}: {}", error.at, error.text);
            return Ok(visit.end(SpfResult::Permerror, said));
        }
        let before = (self.lookups, self.voids);
        self.terms(&record, domain, depth, &mut visit)?;
        visit.lookups = self.lookups - before.0;
        visit.voids = self.voids - before.1;
        Ok(visit)
    }

    fn terms(&mut self, record: &Record, domain: &str, depth: usize, visit: &mut Visit) -> Result<(), Missing> {
        for term in &record.terms {
            let TermKind::Directive(directive) = &term.kind else { continue };
            let before = (self.lookups, self.voids);
            let judged = self.directive(directive, domain, depth);
            let (trace, end) = self.traced(term, before, judged)?;
            let matched = trace.outcome == TermOutcome::Matched;
            visit.terms.push(trace);
            if let Some((result, problem)) = end {
                visit.result = result;
                visit.problem = Some(problem);
                return Ok(());
            }
            if matched {
                visit.result = match directive.qualifier {
                    Qualifier::Pass => SpfResult::Pass,
                    Qualifier::Fail => SpfResult::Fail,
                    Qualifier::Softfail => SpfResult::Softfail,
                    Qualifier::Neutral => SpfResult::Neutral,
                };
                self.explanation = record.explanation().map(|spec| (spec.clone(), domain.to_owned()));
                return Ok(());
            }
        }
        visit.result = SpfResult::Neutral;
        if let Some((term, spec)) = record.redirect() {
            self.redirect(term, spec, domain, depth, visit)?;
        }
        Ok(())
    }

    /// The trace of a term, and the result of the record if this ends it.
    fn traced(
        &self,
        term: &Term,
        before: (u32, u32),
        judged: Result<Judged, Stop>,
    ) -> Result<(TermTrace, Option<(SpfResult, String)>), Missing> {
        let (judged, outcome, end) = match judged {
            Ok(judged) if judged.matched => (judged, TermOutcome::Matched, None),
            Ok(judged) => {
                let end = judged.inner.as_ref().and_then(|inner| match inner.result {
                    SpfResult::Temperror => Some((SpfResult::Temperror, problem_of(inner))),
                    SpfResult::Permerror | SpfResult::None => Some((SpfResult::Permerror, problem_of(inner))),
                    _ => None,
                });
                (judged, if end.is_some() { TermOutcome::Error } else { TermOutcome::NotMatched }, end)
            }
            Err(Stop::Ask(missing)) => return Err(missing),
            Err(Stop::Temporary(why)) => {
                let note = Judged { note: Some(why.clone()), ..Judged::new(false) };
                (note, TermOutcome::Error, Some((SpfResult::Temperror, format!("{}: {why}", term.text))))
            }
            Err(Stop::Permanent(why)) => {
                let note = Judged { note: Some(why.clone()), ..Judged::new(false) };
                (note, TermOutcome::Error, Some((SpfResult::Permerror, format!("{}: {why}", term.text))))
            }
        };
        let trace = TermTrace {
            term: term.text.clone(),
            at: term.at,
            target: judged.target,
            outcome,
            note: judged.note,
            lookups: self.lookups - before.0,
            voids: self.voids - before.1,
            inner: judged.inner,
        };
        Ok((trace, end))
    }

    /// RFC 7208 §6.1.
    fn redirect(
        &mut self,
        term: &Term,
        spec: &DomainSpec,
        domain: &str,
        depth: usize,
        visit: &mut Visit,
    ) -> Result<(), Missing> {
        let before = (self.lookups, self.voids);
        let followed = self.count().and_then(|()| {
            let target = self.name(spec, domain)?;
            let inner = self.descend(&target, depth)?;
            Ok(Judged { inner: Some(Box::new(inner)), ..Judged::at(false, target, None) })
        });
        let (mut trace, end) = self.traced(term, before, followed)?;
        if trace.inner.is_some() {
            trace.outcome = TermOutcome::Followed;
        }
        visit.result = match (&end, &trace.inner) {
            (Some((result, _)), _) => *result,
            (None, Some(inner)) => inner.result,
            (None, None) => SpfResult::Permerror,
        };
        visit.problem = end.map(|(_, problem)| problem);
        visit.terms.push(trace);
        Ok(())
    }

    fn descend(&mut self, domain: &str, depth: usize) -> Result<Visit, Stop> {
        if depth >= MAX_DEPTH {
            return Err(Stop::Permanent("too many records in a row".into()));
        }
        Ok(self.visit(domain, depth + 1)?)
    }

    /// Counts a term that looks something up (RFC 7208 §4.6.4).
    fn count(&mut self) -> Result<(), Stop> {
        self.lookups += 1;
        if self.lookups > self.limits.lookups {
            return Err(Stop::Permanent(format!("more than {} lookups", self.limits.lookups)));
        }
        Ok(())
    }

    /// One question; answers without records count. A name that DNS cannot hold does not exist (§4.8).
    fn ask(&mut self, name: &str, kind: Kind) -> Result<Reply, Stop> {
        if !is_possible(name) {
            return Ok(Reply::NoName);
        }
        let reply = self.known.get(name, kind)?.clone();
        if reply.is_void() {
            self.voids += 1;
            if self.voids > self.limits.voids {
                return Err(Stop::Permanent(format!("more than {} lookups without an answer", self.limits.voids)));
            }
        }
        Ok(reply)
    }

    /// The same for those whose failure ends the evaluation.
    fn need(&mut self, name: &str, kind: Kind) -> Result<Reply, Stop> {
        match self.ask(name, kind)? {
            Reply::Failed(why) => Err(Stop::Temporary(format!("{} {name}: {why}", kind.name()))),
            reply => Ok(reply),
        }
    }

    fn directive(&mut self, directive: &Directive, domain: &str, depth: usize) -> Result<Judged, Stop> {
        if directive.mechanism.looks_up() {
            self.count()?;
        }
        match &directive.mechanism {
            Mechanism::All => Ok(Judged::new(true)),
            Mechanism::Ip4(network, bits) => Ok(Judged::new(within(self.client.ip, (*network).into(), *bits))),
            Mechanism::Ip6(network, bits) => Ok(Judged::new(within(self.client.ip, (*network).into(), *bits))),
            Mechanism::Include(spec) => {
                let target = self.name(spec, domain)?;
                let kept = self.explanation.take();
                let inner = self.descend(&target, depth)?;
                // §6.2: the explanation of an included record is not used.
                self.explanation = kept;
                let matched = inner.result == SpfResult::Pass;
                Ok(Judged { inner: Some(Box::new(inner)), ..Judged::at(matched, target, None) })
            }
            Mechanism::Exists(spec) => {
                let target = self.name(spec, domain)?;
                let matched = !self.need(&target, Kind::A)?.records().is_empty();
                Ok(Judged::at(matched, target, None))
            }
            Mechanism::A { target, v4, v6 } => {
                let target = self.target(target, domain)?;
                let found = self.addresses(&target, (*v4, *v6))?;
                Ok(Judged::at(found.is_some(), target, found.map(|ip| ip.to_string())))
            }
            Mechanism::Mx { target, v4, v6 } => self.mx(target, (*v4, *v6), domain),
            Mechanism::Ptr(target) => {
                let target = self.target(target, domain)?;
                let names = self.validated()?;
                let found = names.into_iter().find(|name| is_below(name, &target));
                Ok(Judged::at(found.is_some(), target, found))
            }
        }
    }

    /// RFC 7208 §5.4.
    fn mx(&mut self, target: &Target, bits: (u8, u8), domain: &str) -> Result<Judged, Stop> {
        let target = self.target(target, domain)?;
        let reply = self.need(&target, Kind::Mx)?;
        let mut hosts: Vec<(u16, &String)> = reply
            .records()
            .iter()
            .filter_map(|data| match data {
                Data::Mx { preference, host } => Some((*preference, host)),
                _ => None,
            })
            .collect();
        if hosts.len() > self.limits.mx_hosts {
            return Err(Stop::Permanent(format!("{target} has {} MX hosts", hosts.len())));
        }
        hosts.sort();
        for (_, host) in hosts {
            if let Some(ip) = self.addresses(host, bits)? {
                return Ok(Judged::at(true, target, Some(format!("{host} {ip}"))));
            }
        }
        Ok(Judged::at(false, target, None))
    }

    /// The first address of a host that has the client in its network.
    fn addresses(&mut self, host: &str, bits: (u8, u8)) -> Result<Option<IpAddr>, Stop> {
        let (kind, bits) = if self.client.ip.is_ipv4() { (Kind::A, bits.0) } else { (Kind::Aaaa, bits.1) };
        let reply = self.need(host, kind)?;
        let found = addresses_of(&reply).find(|ip| within(self.client.ip, *ip, bits));
        Ok(found)
    }

    /// Names of the client whose addresses have it again (RFC 7208 §5.5). Failures mean: no such name.
    fn validated(&mut self) -> Result<Vec<String>, Stop> {
        let reply = self.ask(&reverse_name(self.client.ip), Kind::Ptr)?;
        let names: Vec<String> = reply
            .records()
            .iter()
            .filter_map(|data| match data {
                Data::Ptr(name) => Some(name.clone()),
                _ => None,
            })
            .take(self.limits.ptr_names)
            .collect();
        let kind = if self.client.ip.is_ipv4() { Kind::A } else { Kind::Aaaa };
        let mut fine = Vec::new();
        for name in names {
            let reply = self.ask(&name, kind)?;
            if addresses_of(&reply).any(|ip| ip == self.client.ip) {
                fine.push(name);
            }
        }
        Ok(fine)
    }

    fn target(&mut self, target: &Target, domain: &str) -> Result<String, Stop> {
        match target {
            Target::Current => Ok(domain.to_owned()),
            Target::Spec(spec) => self.name(spec, domain),
        }
    }

    fn name(&mut self, spec: &DomainSpec, domain: &str) -> Result<String, Stop> {
        let validated = match spec.uses(b'p') {
            true => self.best_name(domain)?,
            false => String::new(),
        };
        Ok(expand_domain(spec, &self.values(domain, &validated)))
    }

    /// `%{p}`: the domain itself, else a name below it, else any, else `unknown` (RFC 7208 §7.3).
    fn best_name(&mut self, domain: &str) -> Result<String, Stop> {
        let names = self.validated()?;
        let same = names.iter().find(|name| name.eq_ignore_ascii_case(domain));
        let best = same.or_else(|| names.iter().find(|name| is_below(name, domain))).or(names.first());
        Ok(best.cloned().unwrap_or_else(|| "unknown".into()))
    }

    fn values<'v>(&'v self, domain: &'v str, validated: &'v str) -> Values<'v> {
        Values {
            sender: self.sender,
            domain,
            ip: self.client.ip,
            helo: &self.client.helo,
            receiver: &self.client.receiver,
            now: self.client.now,
            validated,
        }
    }

    /// RFC 7208 §6.2; whatever goes wrong, there is no explanation then.
    fn explain(&mut self, spec: &DomainSpec, domain: &str) -> Result<Option<String>, Missing> {
        // The limits are for the verdict, which is found already.
        self.limits.voids = u32::MAX;
        let counted = (self.lookups, self.voids);
        let text = self.explanation_text(spec, domain);
        (self.lookups, self.voids) = counted;
        match text {
            Ok(text) => Ok(text),
            Err(Stop::Ask(missing)) => Err(missing),
            Err(_) => Ok(None),
        }
    }

    fn explanation_text(&mut self, spec: &DomainSpec, domain: &str) -> Result<Option<String>, Stop> {
        let name = self.name(spec, domain)?;
        let reply = self.ask(&name, Kind::Txt)?;
        let texts: Vec<&[u8]> = reply.texts().collect();
        let [one] = texts.as_slice() else { return Ok(None) };
        let Some(text) = std::str::from_utf8(one).ok().filter(|text| text.is_ascii()) else { return Ok(None) };
        let Ok(pieces) = parse_explanation(text) else { return Ok(None) };
        let validated = match text.to_ascii_lowercase().contains("%{p") {
            true => self.best_name(domain)?,
            false => String::new(),
        };
        Ok(Some(expand(&pieces, &self.values(domain, &validated))))
    }
}

fn problem_of(inner: &Visit) -> String {
    let why = inner.problem.as_deref().unwrap_or("has no policy");
    format!("{}: {why}", inner.domain)
}

/// The record of a domain (RFC 7208 §4.4, §4.5); without one, the result and, in `visit`, why.
pub(super) fn find(known: &Known, domain: &str, visit: &mut Visit) -> Result<Result<Record, SpfResult>, Missing> {
    let reply = known.get(domain, Kind::Txt)?;
    if let Reply::Failed(why) = reply {
        visit.problem = Some(format!("TXT {domain}: {why}"));
        return Ok(Err(SpfResult::Temperror));
    }
    let texts: Vec<&[u8]> = reply.texts().filter(|text| is_record(text)).collect();
    match texts.as_slice() {
        [] => {
            let why = if *reply == Reply::NoName { "the domain does not exist" } else { "there is no SPF record" };
            visit.problem = Some(why.into());
            Ok(Err(SpfResult::None))
        }
        [one] => {
            let parsed = parse(one);
            visit.record = Some(text_of(one));
            visit.remarks = parsed.remarks;
            Ok(parsed.record.ok_or(SpfResult::Permerror))
        }
        many => {
            visit.several = many.iter().take(10).map(|text| text_of(text)).collect();
            visit.problem = Some(format!("there are {} SPF records", many.len()));
            Ok(Err(SpfResult::Permerror))
        }
    }
}

fn addresses_of(reply: &Reply) -> impl Iterator<Item = IpAddr> {
    reply.records().iter().filter_map(|data| match data {
        Data::A(ip) => Some(IpAddr::V4(*ip)),
        Data::Aaaa(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    })
}

/// `name` is `domain` or below it.
fn is_below(name: &str, domain: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let domain = domain.trim_end_matches('.').to_ascii_lowercase();
    name == domain || name.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
}

fn within(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    let same = |a: u128, b: u128, width: u32| {
        let drop = width.saturating_sub(u32::from(bits));
        drop >= 128 || (a >> drop) == (b >> drop)
    };
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => same(u32::from(ip).into(), u32::from(network).into(), 32),
        (IpAddr::V6(ip), IpAddr::V6(network)) => same(ip.into(), network.into(), 128),
        _ => false,
    }
}
