//! The state of a running probe, and the way every stage begins, ends, and finds.
//!
//! Stages are in their own files; the order of them is in `run`.

use std::net::SocketAddr;
use std::sync::Arc;

use explain::{RuleBase, Values, sign_value};
use net::Net;
use net::client::{ClientSettings, Session};
use proto::smtp::capability::Capabilities;
use proto::smtp::reply::{Reply, escape};
use proto::transcript::{Failure, Stage, Transcript};

use super::peek::{self, Peeked, Service};
use super::plan::{Plan, Tls};
use super::report::{Event, Outcome, StageReport, Way};
use super::signs::SIGNS;
use super::summary;
use super::tcp::Dials;
use crate::finding::{Judge, Judged};

/// Longest text of a summary, octets.
const MAX_SUMMARY: usize = 300;

/// The failure that ended the conversation.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    pub(super) stage: Stage,
    pub(super) failure: Failure,
}

/// Why a stage did not lead to the next one.
pub(super) enum Halt {
    /// The conversation is over.
    Stop(Stop),
    /// The mode was left to us, and this other one works on the port: begin again with it.
    Switch(Tls),
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// A finding with what it came from.
pub(super) struct Found {
    pub(super) judged: Judged,
    /// It is a failed step, not a sign.
    pub(super) failed: bool,
}

pub(super) struct Probe<'a> {
    pub(super) net: &'a Net,
    pub(super) plan: &'a Plan,
    pub(super) settings: &'a ClientSettings,
    pub(super) session: Session<'a>,
    pub(super) judge: Judge,
    pub(super) watch: &'a mut (dyn FnMut(Event<'_>) + Send + Sync),
    /// As probed; the host is the mail host once a domain was given.
    pub(super) way: Way,
    /// What was asked for at first.
    pub(super) target: Way,
    /// How the link is to be secured.
    pub(super) tls: Tls,
    /// The host is known as one that takes mail from its customers, so that it is no domain.
    pub(super) is_submission: bool,
    /// All addresses of the host that is probed, in order.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) greeting: String,
    /// What was offered before TLS, with STARTTLS.
    pub(super) before_tls: Option<Capabilities>,
    pub(super) caps: Capabilities,
    pub(super) dials: Option<Dials>,
    pub(super) other_answers: Option<super::dns::Other>,
    pub(super) peeked: Option<Peeked>,
    pub(super) working: Option<Way>,
    pub(super) stages: Vec<StageReport>,
    pub(super) found: Vec<Found>,
    pub(super) further: Vec<Transcript>,
    pub(super) waited_us: u64,
    told: usize,
    began_us: u64,
    pub(super) start_us: u64,
    pub(super) started_ms: i64,
}

impl<'a> Probe<'a> {
    pub(super) fn new(
        net: &'a Net,
        rules: Arc<RuleBase>,
        plan: &'a Plan,
        settings: &'a ClientSettings,
        watch: &'a mut (dyn FnMut(Event<'_>) + Send + Sync),
    ) -> Self {
        let host = plan.target.host.trim().to_owned();
        let mut judge = Judge::new(rules);
        let provider = judge.rules().provider_of_host(&host).map(|provider| provider.id.clone());
        judge.met(plan.provider.as_deref().or(provider.as_deref()));
        let port = plan.target.port.or(plan.connect_to.map(|to| to.port()));
        let mut ways = judge.rules().providers().iter().flat_map(|provider| &provider.submission);
        let known = ways.find(|way| way.host.eq_ignore_ascii_case(&host));
        let tls = match (plan.tls, port, known) {
            (Tls::Auto, Some(port), Some(known)) if known.implicit.contains(&port) => Tls::Implicit,
            (Tls::Auto, Some(port), _) if plan.stands_for(port) == Some(Tls::Implicit) => Tls::Implicit,
            (Tls::Auto, None, Some(known)) if known.starttls.is_empty() => Tls::Implicit,
            (tls, ..) => tls,
        };
        let usual = if tls == Tls::Implicit { 465 } else { 587 };
        let port = port.unwrap_or_else(|| match known {
            Some(known) => {
                let ports = if tls == Tls::Implicit { &known.implicit } else { &known.starttls };
                if ports.contains(&usual) { usual } else { ports.first().copied().unwrap_or(usual) }
            }
            None => usual,
        });
        let is_submission = known.is_some();
        let way = Way { host: host.clone(), port, tls: mode_word(tls) };
        Self {
            net,
            plan,
            settings,
            session: Session::new(net, host, settings),
            judge,
            watch,
            target: way.clone(),
            way,
            tls,
            is_submission,
            addresses: Vec::new(),
            peer: None,
            greeting: String::new(),
            before_tls: None,
            caps: Capabilities::default(),
            dials: None,
            other_answers: None,
            peeked: None,
            working: None,
            stages: Vec::new(),
            found: Vec::new(),
            further: Vec::new(),
            waited_us: 0,
            told: 0,
            began_us: 0,
            start_us: net.clock.mono_us(),
            started_ms: net.clock.now_ms(),
        }
    }

    /// Whether the plan goes as far as this stage.
    pub(super) fn reaches(&self, stage: Stage) -> bool {
        self.plan.last >= stage
    }

    pub(super) fn begin(&mut self, stage: Stage) {
        self.began_us = self.net.clock.mono_us();
        (self.watch)(Event::Began(stage));
    }

    /// Tells the steps that were made since it was last called.
    pub(super) fn tell(&mut self) {
        let steps = self.session.steps();
        for step in steps.get(self.told..).unwrap_or_default() {
            if step.stage > Stage::Tcp {
                self.waited_us += step.took_us;
            }
            (self.watch)(Event::Step(step));
        }
        self.told = steps.len();
    }

    pub(super) fn pass(&mut self, stage: Stage, summary: impl AsRef<str>, reply: Option<Reply>) {
        self.end(stage, Outcome::Passed, summary.as_ref(), reply);
    }

    pub(super) fn skip(&mut self, stage: Stage, summary: &str) {
        self.end(stage, Outcome::Skipped, summary, None);
    }

    /// Ends a stage with the failure that ends the conversation.
    pub(super) fn fail(&mut self, stage: Stage, failure: Failure) -> Stop {
        self.end(stage, Outcome::Failed, &summary::failure(&failure), failure.reply().cloned());
        self.failed(stage, &failure);
        Stop { stage, failure }
    }

    /// Judges a failure.
    pub(super) fn failed(&mut self, stage: Stage, failure: &Failure) {
        self.failed_as(stage, stage, failure);
    }

    /// Judges a failure of a stage as if it were one of another. A reply that refuses nothing and yet does not belong
    /// to its command has no rule of its own: it is the order of the conversation that is wrong.
    fn failed_as(&mut self, stage: Stage, like: Stage, failure: &Failure) {
        let judged = match failure {
            Failure::Refused(reply) if reply.class() < 4 => {
                let text = sign_value(&summary::failure(failure));
                let kind = if stage == Stage::Banner { "not_a_mail_server" } else { "out_of_step" };
                let values = self.strange(kind, text, reply);
                self.judge
                    .sign(Some(stage), kind, &values)
                    .map(|judged| Judged { reply: Some(reply.clone()), ..judged })
            }
            _ => self.judge.failure(like, failure).map(|judged| Judged { stage: Some(stage), ..judged }),
        };
        if let Some(judged) = judged {
            self.keep(judged, true);
        }
    }

    fn strange(&self, kind: &str, text: String, reply: &Reply) -> Values {
        let mut values = Values::from([("text".to_owned(), text)]);
        if kind == "not_a_mail_server" {
            let (host, port) = self.place();
            let service = match peek::service_of(format!("{} {}", reply.code, reply.text()).as_bytes()) {
                Service::Other(service) => service,
                _ => "Another service",
            };
            let more = [("host", host), ("port", port), ("service", service.to_owned())];
            values.extend(more.map(|(name, value)| (name.to_owned(), value)));
        }
        values
    }

    /// Ends a stage with a failure that means what it means at another stage.
    pub(super) fn fail_as(&mut self, stage: Stage, like: Stage, failure: Failure) -> Stop {
        self.end(stage, Outcome::Failed, &summary::failure(&failure), failure.reply().cloned());
        self.failed_as(stage, like, &failure);
        Stop { stage, failure }
    }

    pub(super) fn end(&mut self, stage: Stage, outcome: Outcome, summary: &str, reply: Option<Reply>) {
        self.tell();
        let took_us = self.net.clock.mono_us().saturating_sub(self.began_us);
        if matches!(stage, Stage::Dns | Stage::Tcp) {
            self.waited_us += took_us;
        }
        let summary = escape(summary.as_bytes(), MAX_SUMMARY);
        let report = StageReport { stage, outcome, took_us, summary, reply };
        (self.watch)(Event::Ended(&report));
        self.stages.push(report);
    }

    /// Something noticed. Values are escaped and bounded here.
    pub(super) fn sign(&mut self, stage: Stage, kind: &str, values: &[(&str, &str)]) {
        debug_assert!(SIGNS.contains(&kind), "{kind} is in no list");
        let values: Values = values.iter().map(|(name, value)| ((*name).to_owned(), sign_value(value))).collect();
        if let Some(judged) = self.judge.sign(Some(stage), kind, &values) {
            let again = self
                .found
                .iter()
                .any(|found| found.judged.sign == judged.sign && found.judged.finding.values == judged.finding.values);
            if !again {
                self.keep(judged, false);
            }
        }
    }

    fn keep(&mut self, judged: Judged, failed: bool) {
        (self.watch)(Event::Found(&judged));
        self.found.push(Found { judged, failed });
    }

    /// Host and port for signs.
    pub(super) fn place(&self) -> (String, String) {
        (self.way.host.clone(), self.way.port.to_string())
    }
}

/// A mode as reports and values write it.
pub(super) const fn mode_word(tls: Tls) -> &'static str {
    match tls {
        Tls::Auto | Tls::StartTls => "starttls",
        Tls::Implicit => "implicit",
        Tls::None => "none",
    }
}
