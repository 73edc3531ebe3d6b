//! The check of a route to Microsoft Graph: name, connection, TLS, token, and whether Graph lets it send. Nothing is sent.
//!
//! The last question is a message to nobody: Graph looks at token, permission and mailbox before it refuses that.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use diagnose::Judge;
use diagnose::check::{Outcome, Report, StageReport, Way};
use explain::{Reason, ResultWord, RuleBase, Severity};
use net::client::ClientSettings;
use net::client::web::WebConnection;
use net::{ClientTls, Clock, Net, Roots};
use proto::smtp::reply::escape;
use proto::transcript::{Fact, Failure, Stage, Step, Transcript};
use relay::graph::Place;
use relay::route::RouteRecord;
use secrecy::SecretString;

use crate::config::Config;
use crate::http::words;
use crate::serve::parts;

/// The form of the report: that of every check.
const SCHEMA: &str = "pillarbox.check/1";
/// Longest summary of a stage, octets.
const MAX_SUMMARY: usize = 300;
/// The stages there are.
const STAGES: [Stage; 4] = [Stage::Dns, Stage::Tcp, Stage::Tls, Stage::Auth];

/// Runs the check. `token` is only asked for once Graph is reached.
///
/// # Errors
/// The machine's own side cannot be set up: a file of authorities that cannot be read.
pub async fn perform(
    config: &Config,
    clock: Clock,
    rules: Arc<RuleBase>,
    record: &RouteRecord,
    token: impl Future<Output = Result<SecretString, Failure>>,
) -> Result<Report> {
    let mut net = parts::net(config, clock.clone())?;
    if let Some(path) = &record.ca_file {
        net.tls = ClientTls::new(&Roots::Pem(Path::new(path).to_owned()), clock).context("the route's authorities")?;
    }
    let settings = ClientSettings {
        source: record.source_address,
        verify: record.verify,
        ..ClientSettings::new(record.helo.clone().unwrap_or_else(|| config.hostname.clone()))
    };
    let host = record.next_host().unwrap_or_default().to_owned();
    let mut check = Check::new(net.clone(), Way { host, port: record.port.unwrap_or(443), tls: "implicit" });
    let stopped = check.run(&settings, record, token).await.err();
    Ok(check.report(rules, stopped, !record.verify))
}

/// A check that goes its own way through the stages.
pub(super) struct Check {
    net: Net,
    target: Way,
    stages: Vec<StageReport>,
    transcript: Transcript,
    started_ms: i64,
    start_us: u64,
    began_us: u64,
}

impl Check {
    pub(super) fn new(net: Net, target: Way) -> Self {
        let (started_ms, start_us) = (net.clock.now_ms(), net.clock.mono_us());
        let transcript = Transcript { started_ms, ..Transcript::default() };
        Self { net, target, stages: Vec::new(), transcript, started_ms, start_us, began_us: start_us }
    }

    async fn run(
        &mut self,
        settings: &ClientSettings,
        record: &RouteRecord,
        token: impl Future<Output = Result<SecretString, Failure>>,
    ) -> Result<(), (Stage, Failure)> {
        let host = self.target.host.clone();
        let addresses = self.net.resolver.addresses(&host).await;
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(failure) => {
                self.note(Stage::Dns, None, Some(&failure));
                return Err((Stage::Dns, failure));
            }
        };
        let shown: Vec<String> = addresses.iter().take(20).map(ToString::to_string).collect();
        self.pass(Stage::Dns, &shown.join(", "));
        self.note(Stage::Dns, Some(Fact::Resolved { host: host.clone(), addresses: shown }), None);
        let place =
            Place { net: self.net.clone(), settings: settings.clone(), host, port: self.target.port, addresses };
        let mut web = match place.connect().await {
            Ok(web) => web,
            Err(error) => {
                self.transcript.steps.extend(error.transcript.steps);
                if error.stage == Stage::Tls {
                    self.pass(Stage::Tcp, "connected");
                }
                return Err((error.stage, error.failure));
            }
        };
        self.pass(Stage::Tcp, &web.peer().to_string());
        self.pass(Stage::Tls, web.tls().unwrap_or_default());
        let token = match token.await {
            Ok(token) => token,
            Err(failure) => {
                self.take(&mut web);
                self.note(Stage::Auth, None, Some(&failure));
                return Err((Stage::Auth, failure));
            }
        };
        let mailbox = record.username.as_deref().unwrap_or_default();
        let asked = place.ask_leave(&mut web, mailbox, &token).await;
        self.take(&mut web);
        match asked {
            Ok(()) => {
                self.pass(Stage::Auth, &format!("Graph lets it send as {mailbox}"));
                Ok(())
            }
            // Whatever Graph says, it says about leave to send: there was no message.
            Err(failure) => Err((Stage::Auth, failure)),
        }
    }

    fn take(&mut self, web: &mut WebConnection) {
        self.transcript.steps.extend(web.take_transcript().steps);
    }

    pub(super) fn note(&mut self, stage: Stage, fact: Option<Fact>, failure: Option<&Failure>) {
        let started_us = self.began_us - self.start_us;
        let failure = failure.cloned();
        self.transcript.push(Step { stage, started_us, took_us: 0, sent: None, reply: None, fact, failure });
    }

    fn pass(&mut self, stage: Stage, summary: &str) {
        self.end(stage, Outcome::Passed, summary);
    }

    fn end(&mut self, stage: Stage, outcome: Outcome, summary: &str) {
        let now_us = self.net.clock.mono_us();
        let took_us = now_us.saturating_sub(std::mem::replace(&mut self.began_us, now_us));
        let summary = escape(summary.as_bytes(), MAX_SUMMARY);
        self.stages.push(StageReport { stage, outcome, took_us, summary, reply: None });
    }

    pub(super) fn report(mut self, rules: Arc<RuleBase>, stopped: Option<(Stage, Failure)>, insecure: bool) -> Report {
        let mut judge = Judge::new(rules);
        let provider = judge.rules().provider_of_host(&self.target.host).map(|provider| provider.id.clone());
        judge.met(provider.as_deref().or(Some("microsoft-graph")));
        let mut findings = Vec::new();
        if let Some((stage, failure)) = &stopped {
            self.end(*stage, Outcome::Failed, &words::failure(failure));
            // The rule is that of where Graph says it; the stage is where this check was.
            let said = relay::graph::wire::stage_of(failure);
            let like = if matches!(failure, Failure::Api { .. }) { said } else { *stage };
            findings.extend(judge.failure(like, failure).map(|mut judged| {
                judged.stage = Some(*stage);
                judged
            }));
        }
        for stage in STAGES {
            if !self.stages.iter().any(|done| done.stage == stage) {
                self.end(stage, Outcome::NotReached, "");
            }
        }
        self.stages.sort_by_key(|done| STAGES.iter().position(|stage| *stage == done.stage));
        let problem = findings.first().filter(|first| first.severity == Severity::Problem);
        let took_us = self.net.clock.mono_us().saturating_sub(self.start_us);
        Report {
            schema: SCHEMA,
            started_ms: self.started_ms,
            took_us,
            waited_us: took_us,
            target: self.target,
            healthy: stopped.is_none(),
            result: problem.map_or(ResultWord::Success, |first| first.explanation.result),
            reason: problem.map_or(Reason::Accepted, |first| first.explanation.reason),
            failed_at: stopped.map(|(stage, _)| stage),
            owner: problem.map(|first| first.explanation.owner),
            provider: judge.provider().map(str::to_owned),
            stages: self.stages,
            findings,
            working: None,
            insecure,
            transcripts: vec![self.transcript],
        }
    }
}
