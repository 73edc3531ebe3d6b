//! Credentials first, then the probe, then one report of both.

use std::sync::Arc;

use anyhow::{Context, Result};
use diagnose::check::{self, Event, Outcome, Plan, Report};
use diagnose::{Judge, Judged};
use explain::credential::{self, Login};
use explain::{Reason, RuleBase, Severity};
use net::{ClientTls, Clock, Net, Resolver, ResolverSettings, Roots};
use proto::transcript::Stage;

use super::Prepared;
use crate::config::Config;
use crate::serve::parts;

/// What can be said of the credentials without asking anyone.
pub fn credentials(rules: &Arc<RuleBase>, plan: &Plan, now_ms: i64) -> Vec<Judged> {
    let Some(auth) = &plan.auth else { return Vec::new() };
    let by_host = rules.provider_of_host(&plan.target.host).map(|provider| provider.id.as_str());
    let provider = plan.provider.as_deref().or(by_host);
    let login = Login {
        provider,
        host: Some(&plan.target.host),
        mechanism: auth.mechanism.as_deref(),
        username: &auth.username,
        password: &auth.password,
        now_s: now_ms / 1000,
    };
    let mut judge = Judge::new(rules.clone());
    judge.met(provider);
    let notes = credential::lint(&login);
    notes.iter().filter_map(|note| judge.sign(Some(Stage::Auth), &note.kind, &note.values)).collect()
}

/// Runs a check with the resolver and the authorities of the configuration, unless others were asked for.
///
/// # Errors
/// The machine's own side cannot be set up: a file of authorities that cannot be read.
pub async fn perform(
    config: &Config,
    clock: Clock,
    rules: Arc<RuleBase>,
    mut prepared: Prepared,
    watch: &mut (dyn FnMut(Event<'_>) + Send + Sync),
) -> Result<Report> {
    let net = net(config, clock, &mut prepared)?;
    let notes = credentials(&rules, &prepared.plan, net.clock.now_ms());
    notes.iter().for_each(|note| watch(Event::Found(note)));
    let report = check::run(&net, rules, &prepared.plan, watch).await;
    Ok(merged(report, notes))
}

/// Fresh for each check: an answer from a cache is no diagnosis.
fn net(config: &Config, clock: Clock, prepared: &mut Prepared) -> Result<Net> {
    let mut net = parts::net(config, clock.clone())?;
    if let Some(server) = prepared.resolver {
        let settings =
            ResolverSettings { servers: vec![server], timeout: config.dns_timeout, ..ResolverSettings::default() };
        let other = Resolver::new(settings)?;
        prepared.plan.compare = Some(std::mem::replace(&mut net.resolver, other));
    }
    if let Some(path) = &prepared.ca_file {
        net.tls = ClientTls::new(&Roots::Pem(path.clone()), clock).context("--ca-file cannot be used")?;
    }
    Ok(net)
}

/// Notes on credentials that were accepted are proved wrong; the others go in by their severity.
fn merged(mut report: Report, notes: Vec<Judged>) -> Report {
    let accepted = report.stages.iter().any(|stage| stage.stage == Stage::Auth && stage.outcome == Outcome::Passed);
    if accepted || notes.is_empty() {
        return report;
    }
    // What ends the conversation decides; where nothing does, credentials that cannot work do.
    let first = if report.healthy { 0 } else { report.findings.len().min(1) };
    if let Some(problem) = notes.iter().find(|note| note.severity == Severity::Problem).filter(|_| report.healthy) {
        report.healthy = false;
        report.result = problem.explanation.result;
        report.reason = problem.explanation.reason;
        report.failed_at = Some(Stage::Auth);
        report.owner = Some(problem.explanation.owner);
    } else if report.failed_at == Some(Stage::Auth)
        && let Some(deciding) = report.findings.first_mut()
    {
        explained(deciding, &notes);
    }
    report.findings.splice(first..first, notes);
    if let Some(rest) = report.findings.get_mut(first..) {
        rest.sort_by_key(|found| match found.severity {
            Severity::Problem => 0,
            Severity::Warning => 1,
            Severity::Note => 2,
        });
    }
    report
}

/// A server that refuses a sign-in does not say why: what was noticed in the credentials is the likeliest cause.
fn explained(refusal: &mut Judged, notes: &[Judged]) {
    let about_credentials = [Reason::CredentialsInvalid, Reason::AppPasswordRequired, Reason::OauthToken];
    if !about_credentials.contains(&refusal.explanation.reason) {
        return;
    }
    let telling = || notes.iter().filter(|note| note.severity != Severity::Note);
    let causes = telling().map(|note| format!("{}.", note.explanation.title));
    refusal.explanation.causes.splice(0..0, causes);
    let fixes = telling().filter_map(|note| note.explanation.fixes.first().cloned());
    refusal.explanation.fixes.splice(0..0, fixes);
}
