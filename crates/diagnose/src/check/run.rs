//! The order of the stages, and what all of it comes to.

use std::sync::Arc;
use std::time::Duration;

use explain::{Reason, ResultWord, RuleBase, Severity};
use net::Net;
use net::client::{ClientSettings, Recording};
use proto::transcript::Stage;

use super::peek::even;
use super::plan::{Plan, Tls};
use super::probe::{Found, Halt, Probe, Stop, mode_word};
use super::report::{Event, Outcome, Report, StageReport};
use crate::finding::Judged;

/// Form of the report.
const SCHEMA: &str = "pillarbox.check/1";
/// Longest wait for the answer to QUIT: nothing depends on it.
const GOOD_BYE: Duration = Duration::from_secs(1);
/// Stages in the order of the report, without the second EHLO.
const ORDER: &[Stage] = &[
    Stage::Dns,
    Stage::Tcp,
    Stage::Banner,
    Stage::Ehlo,
    Stage::Tls,
    Stage::Auth,
    Stage::Sender,
    Stage::Recipient,
    Stage::Message,
];
/// Signs that say more about a failure than the failure itself.
const EXPLAINING: &[&str] = &[
    "network_down",
    "network_blocks_port",
    "host_probably_meant",
    "wrong_tls_mode_implicit",
    "wrong_tls_mode_starttls",
    "not_a_mail_server",
    "out_of_step",
    "starttls_stripped",
    "certificate_intercepted",
    "auth_only_before_tls",
    "auth_only_after_tls",
    "auth_not_offered",
    "oauth_challenge",
];

/// Probes a server as `plan` says and tells `watch` of everything as it happens. To cancel, drop the future.
///
/// Every wait is bounded by the plan's time limit. Nothing secret crosses a link that is not encrypted unless the
/// plan allows it, and nothing secret is in the report.
pub async fn run(
    net: &Net,
    rules: Arc<RuleBase>,
    plan: &Plan,
    watch: &mut (dyn FnMut(Event<'_>) + Send + Sync),
) -> Report {
    let settings = ClientSettings {
        source: plan.source,
        auth: plan.auth.as_ref().map(super::auth::credentials),
        verify: !plan.insecure,
        timeouts: even(plan.timeout),
        recording: Recording::Full,
        ..ClientSettings::new(&plan.helo)
    };
    let mut probe = Probe::new(net, rules, plan, &settings, watch);
    let stop = probe.converse().await.err();
    if let Some(stop) = &stop {
        probe.session.hang_up();
        probe.tell();
        probe.explore(stop).await;
    }
    let spoke = stop.as_ref().is_none_or(|stop| stop.stage > Stage::Tls);
    if plan.open_relay && spoke {
        probe.open_relay().await;
    }
    probe.judge_addresses().await;
    probe.compare_resolvers().await;
    probe.finish(stop.as_ref())
}

impl Probe<'_> {
    async fn converse(&mut self) -> Result<(), Stop> {
        let candidates = self.dns().await?;
        if !self.reaches(Stage::Tcp) {
            return Ok(());
        }
        self.tcp(candidates).await?;
        if !self.reaches(Stage::Banner) {
            self.session.hang_up();
            return Ok(());
        }
        self.open().await?;
        if self.reaches(Stage::Auth) {
            self.auth().await?;
        }
        let open = if self.reaches(Stage::Sender) { self.envelope().await? } else { true };
        if open {
            self.session.quit(GOOD_BYE.min(self.plan.timeout)).await;
        }
        self.tell();
        Ok(())
    }

    /// Greeting, EHLO and TLS; once more in the other mode, if the mode is ours to choose.
    async fn open(&mut self) -> Result<(), Stop> {
        match self.greet().await {
            Ok(()) => Ok(()),
            Err(Halt::Stop(stop)) => Err(stop),
            Err(Halt::Switch(tls)) => {
                self.tell();
                self.switch(tls).await?;
                match self.greet().await {
                    Ok(()) => Ok(()),
                    Err(Halt::Stop(stop)) => Err(stop),
                    Err(Halt::Switch(_)) => Err(self.fail(Stage::Banner, proto::transcript::Failure::Disconnected)),
                }
            }
        }
    }

    async fn switch(&mut self, tls: Tls) -> Result<(), Stop> {
        let usual = mode_word(self.tls);
        let stands = self.plan.stands_for(self.way.port).is_some();
        self.tls = tls;
        self.way.tls = mode_word(tls);
        let (host, port) = self.place();
        let stage = if tls == Tls::Implicit { Stage::Banner } else { Stage::Tls };
        if stands {
            let values = [("host", &*host), ("port", &*port), ("mode", mode_word(tls)), ("usual", usual)];
            self.sign(stage, "tls_mode_unusual", &values);
        } else {
            self.sign(stage, "tls_mode_found", &[("host", &host), ("port", &port), ("mode", mode_word(tls))]);
        }
        self.working = Some(self.way.clone());
        let Some(peer) = self.peer else { return Ok(()) };
        match self.session.dial(peer).await {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.fail(Stage::Tcp, failure)),
        }
    }

    async fn greet(&mut self) -> Result<(), Halt> {
        if self.tls == Tls::Implicit {
            self.implicit().await?;
        }
        self.banner().await?;
        if !self.reaches(Stage::Ehlo) {
            return Ok(());
        }
        self.ehlo().await?;
        if !self.reaches(Stage::Tls) {
            return Ok(());
        }
        match self.tls {
            Tls::Implicit => {}
            Tls::None => {
                self.begin(Stage::Tls);
                self.skip(Stage::Tls, "not wanted");
            }
            Tls::Auto | Tls::StartTls => {
                if self.start_tls().await? && self.reaches(Stage::Auth) {
                    self.ehlo_again().await?;
                }
            }
        }
        Ok(())
    }

    fn finish(mut self, stop: Option<&Stop>) -> Report {
        self.tell();
        self.fill_stages(stop.is_some());
        let findings = in_order(std::mem::take(&mut self.found));
        let decides = findings.first().filter(|first| first.severity == Severity::Problem);
        let healthy = decides.is_none();
        let failed_at = stop.map(|stop| stop.stage).or_else(|| decides.and_then(|first| first.stage));
        let mut transcripts = vec![self.session.take_transcript()];
        transcripts.append(&mut self.further);
        let took_us = self.net.clock.mono_us().saturating_sub(self.start_us);
        Report {
            schema: SCHEMA,
            started_ms: self.started_ms,
            took_us,
            waited_us: self.waited_us.min(took_us),
            healthy,
            result: decides.map_or(ResultWord::Success, |first| first.explanation.result),
            reason: decides.map_or(Reason::Accepted, |first| first.explanation.reason),
            failed_at: failed_at.filter(|_| !healthy),
            owner: decides.map(|first| first.explanation.owner),
            provider: self.judge.provider().map(str::to_owned),
            target: self.target,
            stages: self.stages,
            findings,
            working: self.working,
            insecure: self.plan.insecure,
            transcripts,
        }
    }

    /// Adds the stages that did not come about.
    fn fill_stages(&mut self, stopped: bool) {
        for &stage in ORDER {
            if self.stages.iter().any(|done| done.stage == stage) {
                continue;
            }
            let wanted = match stage {
                Stage::Auth => self.plan.auth.is_some(),
                Stage::Sender => self.plan.from.is_some(),
                Stage::Recipient => self.plan.from.is_some() && !self.plan.to.is_empty(),
                Stage::Message => self.plan.from.is_some() && self.plan.message != super::plan::Message::No,
                Stage::Tls => self.tls != Tls::None,
                _ => true,
            };
            let outcome = if stopped && wanted && self.reaches(stage) { Outcome::NotReached } else { Outcome::Skipped };
            self.stages.push(StageReport { stage, outcome, took_us: 0, summary: String::new(), reply: None });
        }
    }
}

/// The one that decides, then problems, warnings and notes as they were found.
fn in_order(mut found: Vec<Found>) -> Vec<Judged> {
    let is_problem = |found: &Found| found.judged.severity == Severity::Problem;
    let failure = found.iter().position(|found| found.failed && is_problem(found));
    let explains = |one: &Found, failure: &Found| {
        let kind = one.judged.sign.as_deref().unwrap_or_default();
        // A reply that says more than "wrong" about a token is better known than its JSON.
        let vague = failure.judged.explanation.reason == Reason::CredentialsInvalid;
        let beaten = kind == "oauth_challenge" && !vague && !failure.judged.finding.is_by_class();
        is_problem(one) && EXPLAINING.contains(&kind) && !beaten
    };
    let sign_for = |index: usize| {
        EXPLAINING.iter().find_map(|kind| {
            found.iter().position(|one| one.judged.sign.as_deref() == Some(kind) && explains(one, &found[index]))
        })
    };
    let first = match (failure, failure.and_then(sign_for)) {
        (Some(failed), Some(sign)) => Some(explained(&mut found, failed, sign)),
        (Some(failed), None) => Some(found.remove(failed)),
        (None, _) => found.iter().position(is_problem).map(|index| found.remove(index)),
    };
    if first.as_ref().is_some_and(|first| first.failed) {
        only_note(&mut found, "oauth_challenge");
    }
    if first.is_none() {
        // The answer that was asked for leads to a server that works: that another one differs is no fault of it.
        only_note(&mut found, "resolver_differs");
    }
    found.sort_by_key(|found| match found.judged.severity {
        Severity::Problem => 0,
        Severity::Warning => 1,
        Severity::Note => 2,
    });
    first.into_iter().chain(found).map(|found| found.judged).collect()
}

/// The sign in place of the failed step that it explains: one thing is wrong, not two. What the server said stays.
fn explained(found: &mut Vec<Found>, failed: usize, sign: usize) -> Found {
    let reply = found[failed].judged.reply.take();
    let mut first = found[sign].judged.clone();
    first.reply = first.reply.or(reply);
    let mut index = 0;
    found.retain(|_| {
        index += 1;
        index - 1 != failed && index - 1 != sign
    });
    Found { judged: first, failed: false }
}

fn only_note(found: &mut [Found], kind: &str) {
    for one in found.iter_mut().filter(|one| one.judged.sign.as_deref() == Some(kind)) {
        one.judged.severity = Severity::Note;
        one.judged.explanation.severity = Severity::Note;
    }
}
