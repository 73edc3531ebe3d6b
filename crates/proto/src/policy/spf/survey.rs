//! What the whole tree of a policy costs, whoever sends: receivers differ in how far they come, the worst case counts.

use std::net::{IpAddr, Ipv4Addr};

use super::evaluate::find;
use super::expand::{DomainSpec, Values, expand_domain};
use super::record::{Directive, Mechanism, Record, Target, Term, TermKind};
use super::{Limits, SpfResult, SpfSurvey, TermOutcome, TermTrace, Visit};
use crate::policy::dns::{Data, Kind, Known, Missing, Question, Reply, Step, Steps, is_possible};
use crate::policy::remark::{Level, Remark};

/// A tree beyond this is not followed any further; ten would be allowed.
const MAX_LOOKUPS: u32 = 100;

/// Reads the record of a domain and all records below it.
#[derive(Debug)]
pub struct Survey {
    domain: String,
    limits: Limits,
    known: Known,
}

impl Survey {
    /// Of this domain.
    pub fn new(domain: &str, limits: Limits) -> Self {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        Self { domain, limits, known: Known::default() }
    }

    fn run(&self) -> Result<SpfSurvey, Missing> {
        let mut walk = Walk {
            limits: self.limits,
            known: &self.known,
            lookups: 0,
            voids: 0,
            above: Vec::new(),
            incomplete: false,
        };
        let tree = walk.visit(&self.domain)?;
        let mut remarks = Vec::new();
        let mut whole = |remark| remarks.push((self.domain.clone(), remark));
        if walk.lookups > self.limits.lookups {
            whole(Remark::error("too_many_lookups", 0, format!("{} lookups", walk.lookups)));
        }
        if walk.voids > self.limits.voids {
            whole(Remark::error("too_many_voids", 0, format!("{} lookups without an answer", walk.voids)));
        }
        gather(&tree, &mut remarks);
        Ok(SpfSurvey { lookups: walk.lookups, voids: walk.voids, incomplete: walk.incomplete, tree, remarks })
    }
}

impl Steps for Survey {
    type Output = SpfSurvey;
    fn step(&mut self) -> Step<SpfSurvey> {
        match self.run() {
            Ok(survey) => Step::Done(survey),
            Err(Missing(question)) => Step::Ask(question),
        }
    }
    fn answer(&mut self, question: Question, reply: Reply) {
        self.known.put(question, reply);
    }
}

/// Remarks of all records, those of a record included twice only once.
fn gather(visit: &Visit, remarks: &mut Vec<(String, Remark)>) {
    for remark in &visit.remarks {
        let one = (visit.domain.clone(), remark.clone());
        if !remarks.contains(&one) {
            remarks.push(one);
        }
    }
    visit.terms.iter().filter_map(|term| term.inner.as_deref()).for_each(|inner| gather(inner, remarks));
}

struct Walk<'a> {
    limits: Limits,
    known: &'a Known,
    lookups: u32,
    voids: u32,
    /// The way down to here.
    above: Vec<String>,
    incomplete: bool,
}

impl Walk<'_> {
    fn visit(&mut self, domain: &str) -> Result<Visit, Missing> {
        let mut visit = Visit::new(domain);
        if !is_possible(domain) {
            visit.remarks.push(Remark::error("bad_domain", 0, "this is no domain name"));
            return Ok(visit.end(SpfResult::None, "this is no domain name"));
        }
        let record = match find(self.known, domain, &mut visit)? {
            Ok(record) => record,
            Err(result) => {
                let problem = visit.problem.clone().unwrap_or_default();
                match result {
                    SpfResult::Temperror => self.incomplete = true,
                    SpfResult::Permerror => visit.remarks.push(Remark::error("several_records", 0, problem)),
                    // The start of the tree may well be without a policy; what is included must have one.
                    _ if self.above.is_empty() => {}
                    _ => visit.remarks.push(Remark::error("no_record", 0, problem)),
                }
                return Ok(Visit { result, ..visit });
            }
        };
        if visit.remarks.iter().any(|remark| remark.level == Level::Error) {
            visit.result = SpfResult::Permerror;
        }
        let before = (self.lookups, self.voids);
        self.above.push(domain.to_ascii_lowercase());
        self.terms(&record, domain, &mut visit)?;
        self.above.pop();
        visit.lookups = self.lookups - before.0;
        visit.voids = self.voids - before.1;
        Ok(visit)
    }

    fn terms(&mut self, record: &Record, domain: &str, visit: &mut Visit) -> Result<(), Missing> {
        let all = record.all().map_or(record.terms.len(), |(n, _)| n);
        for term in record.terms.iter().take(all + 1) {
            let TermKind::Directive(Directive { mechanism, .. }) = &term.kind else { continue };
            let trace = self.mechanism(term, mechanism, domain, visit)?;
            visit.terms.push(trace);
        }
        if let (None, Some((term, spec))) = (record.all(), record.redirect()) {
            let trace = self.follow(term, spec, domain, visit)?;
            visit.terms.push(TermTrace { outcome: TermOutcome::Followed, ..trace });
        }
        Ok(())
    }

    fn mechanism(
        &mut self,
        term: &Term,
        mechanism: &Mechanism,
        domain: &str,
        visit: &mut Visit,
    ) -> Result<TermTrace, Missing> {
        let before = (self.lookups, self.voids);
        let mut trace = blank(term);
        self.lookups += u32::from(mechanism.looks_up());
        let target = match mechanism {
            Mechanism::All | Mechanism::Ip4(..) | Mechanism::Ip6(..) => return Ok(trace),
            Mechanism::Include(spec) => {
                self.lookups -= 1;
                return self.follow(term, spec, domain, visit);
            }
            Mechanism::Exists(spec) => literal(spec, domain),
            Mechanism::A { target, .. } | Mechanism::Mx { target, .. } | Mechanism::Ptr(target) => match target {
                Target::Current => Some(domain.to_owned()),
                Target::Spec(spec) => literal(spec, domain),
            },
        };
        trace.target = target.clone();
        let usable = target.filter(|target| is_possible(target) && self.lookups <= MAX_LOOKUPS);
        if let Some(target) = usable {
            let kinds: &[Kind] = match mechanism {
                Mechanism::A { .. } => &[Kind::A, Kind::Aaaa],
                Mechanism::Mx { .. } => &[Kind::Mx],
                Mechanism::Exists(_) => &[Kind::A],
                _ => &[],
            };
            self.look(term, &target, kinds, visit, &mut trace)?;
        }
        trace.lookups = self.lookups - before.0;
        trace.voids = self.voids - before.1;
        Ok(trace)
    }

    /// Asks what a term would ask; it is void if nothing at all comes back.
    fn look(
        &mut self,
        term: &Term,
        target: &str,
        kinds: &[Kind],
        visit: &mut Visit,
        trace: &mut TermTrace,
    ) -> Result<(), Missing> {
        let mut void = !kinds.is_empty();
        let mut found = Vec::new();
        for kind in kinds {
            let reply = self.known.get(target, *kind)?;
            void &= reply.is_void();
            if let Reply::Failed(why) = reply {
                self.incomplete = true;
                trace.note = Some(format!("{} {target}: {why}", kind.name()));
            }
            found.extend(reply.records().iter().filter_map(shown));
        }
        if void {
            self.voids += 1;
            visit.remarks.push(Remark::warning("void_lookup", term.at, format!("`{}` finds nothing", term.text)));
        }
        if kinds == [Kind::Mx] && found.len() > self.limits.mx_hosts {
            let said = format!("{target} has {} MX hosts", found.len());
            visit.remarks.push(Remark::error("too_many_mx_hosts", term.at, said));
        }
        if trace.note.is_none() && !found.is_empty() {
            found.truncate(20);
            trace.note = Some(found.join(" "));
        }
        Ok(())
    }

    /// `include` and `redirect`.
    fn follow(
        &mut self,
        term: &Term,
        spec: &DomainSpec,
        domain: &str,
        visit: &mut Visit,
    ) -> Result<TermTrace, Missing> {
        let before = (self.lookups, self.voids);
        self.lookups += 1;
        let mut trace = blank(term);
        trace.target = literal(spec, domain);
        match &trace.target {
            None => {
                let said = format!("`{}` depends on the sender, so it was not followed", term.text);
                visit.remarks.push(Remark::warning("not_followed", term.at, said));
            }
            Some(target) if self.above.contains(&target.to_ascii_lowercase()) => {
                let said = format!("`{}` comes back to where it started", term.text);
                visit.remarks.push(Remark::error("loop", term.at, said));
                trace.outcome = TermOutcome::Error;
            }
            Some(_) if self.lookups > MAX_LOOKUPS => self.incomplete = true,
            Some(target) => trace.inner = Some(Box::new(self.visit(&target.clone())?)),
        }
        trace.lookups = self.lookups - before.0;
        trace.voids = self.voids - before.1;
        Ok(trace)
    }
}

fn blank(term: &Term) -> TermTrace {
    TermTrace {
        term: term.text.clone(),
        at: term.at,
        target: None,
        outcome: TermOutcome::Counted,
        note: None,
        lookups: 0,
        voids: 0,
        inner: None,
    }
}

fn shown(data: &Data) -> Option<String> {
    match data {
        Data::A(ip) => Some(ip.to_string()),
        Data::Aaaa(ip) => Some(ip.to_string()),
        Data::Mx { host, .. } => Some(host.clone()),
        _ => None,
    }
}

/// The name, if it is the same for all senders.
fn literal(spec: &DomainSpec, domain: &str) -> Option<String> {
    let nobody = Values {
        sender: "",
        domain,
        ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        helo: "",
        receiver: "",
        now: 0,
        validated: "",
    };
    spec.is_literal().then(|| expand_domain(spec, &nobody))
}
