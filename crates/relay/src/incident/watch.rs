//! Watching: every settled attempt becomes evidence here. Cheap where mail flows: a delivery costs one look into a map, and once
//! a second and lane a sample.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use proto::transcript::{Fact, Transcript};
use store::{Attempt, Cause, Claim, Outcome};
use tokio::sync::Notify;

use super::Sample;
use super::evidence::{Evidence, Failed, Followed, Opening, Suspicion, Tally};
use crate::brake::auth::is_rejection;
use crate::node::Word;
use crate::shared::Shared;

/// Kinds of failures of one settlement that are looked at.
const KINDS: usize = 8;

/// What is known of where an attempt went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place<'a> {
    /// The next hop's group.
    pub(crate) destination: Option<&'a Arc<str>>,
    /// What was said before the message.
    pub(crate) prelude: Option<&'a Transcript>,
}

/// The evidence, and a bell for what cannot wait.
#[derive(Debug)]
pub(crate) struct Watch {
    evidence: Mutex<Evidence>,
    hash: RandomState,
    pub(crate) bell: Notify,
    /// Attempts that were finished.
    pub(crate) settled: AtomicU64,
}

impl Watch {
    pub(crate) fn new(opening: Opening) -> Self {
        Self {
            evidence: Mutex::new(Evidence::new(opening)),
            hash: RandomState::new(),
            bell: Notify::new(),
            settled: AtomicU64::new(0),
        }
    }

    /// Incidents that there is enough evidence for, each told once as long as nothing new is seen.
    pub(crate) fn suspicions(&self, now_ms: i64) -> Vec<Suspicion> {
        let questions = self.evidence.lock().questions(now_ms);
        questions.iter().filter_map(|question| question.look()).collect()
    }

    pub(crate) fn follow(&self, open: Vec<Followed>) {
        self.evidence.lock().follow(open);
    }

    pub(crate) fn tallies(&self) -> Vec<Tally> {
        self.evidence.lock().tallies()
    }

    pub(crate) fn forget(&self, scope: &store::IncidentScope, reason: &str) {
        self.evidence.lock().forget(scope, reason);
    }
}

/// Takes in an attempt that is being settled.
pub(crate) fn settled(
    shared: &Shared,
    claim: &Claim,
    attempt: Option<&Attempt>,
    outcomes: &[(u32, Outcome)],
    place: Place<'_>,
) {
    shared.watch.settled.fetch_add(1, Ordering::Relaxed);
    let Some(attempt) = attempt else { return };
    // Alerts are never about alerts.
    if *claim.lane.key.sender == *crate::own_mail::SENDER {
        return;
    }
    let mut fine = 0;
    let mut kinds: Vec<(&Cause, u32, u32)> = Vec::new();
    for (n, outcome) in outcomes {
        match outcome {
            Outcome::Delivered | Outcome::Relayed { .. } | Outcome::Noted { .. } => fine += 1,
            Outcome::Deferred { cause, .. } | Outcome::Failed { cause } | Outcome::Expired { cause: Some(cause) } => {
                let alike = |(known, ..): &(&Cause, u32, u32)| known.rule == cause.rule && known.stage == cause.stage;
                match kinds.iter().position(alike) {
                    Some(at) => kinds[at].1 += 1,
                    None if kinds.len() < KINDS => kinds.push((cause, 1, *n)),
                    None => {}
                }
            }
            _ => {}
        }
    }
    if fine > 0 && attempt.peer.is_some() {
        delivered(shared, claim, attempt, fine, place);
    }
    for (cause, recipients, n) in kinds {
        failed(shared, claim, attempt, cause, recipients, n, place);
    }
}

fn delivered(shared: &Shared, claim: &Claim, attempt: &Attempt, recipients: u32, place: Place<'_>) {
    let now_ms = shared.now_ms();
    let watch = &shared.watch;
    let from = watch.hash.hash_one(sender_domain(claim));
    let wanted = watch.evidence.lock().fine(claim.lane.id, from, recipients, now_ms);
    if let Some(recipients) = wanted {
        let mut sample = sample(shared, claim, attempt, place, now_ms);
        sample.recipients = recipients;
        shared.tells(|| Word::Fine(Box::new(sample.clone())));
        watch.evidence.lock().sampled(sample);
    }
}

fn failed(shared: &Shared, claim: &Claim, attempt: &Attempt, cause: &Cause, recipients: u32, n: u32, place: Place<'_>) {
    let Some(rule_id) = &cause.rule else { return };
    let rules = shared.rules();
    let Some(rule) = rules.rule(rule_id) else { return };
    let mut sample = sample(shared, claim, attempt, place, shared.now_ms());
    sample.failed = Some(rule.reason.as_str().into());
    sample.rule = Some(rule_id.clone());
    sample.recipients = recipients;
    sample.provider = cause.provider.clone().or(sample.provider);
    if let Some(recipient) = claim.recipients.iter().find(|recipient| recipient.n == n) {
        sample.address = recipient.address.as_str().into();
    }
    let (message, cause) = (claim.message.id, Arc::new(cause.clone()));
    let word = || Word::Failed { sample: Box::new(sample.clone()), message: message.0, cause: cause.clone() };
    if !shared.tells(word) {
        heard(shared, sample, message, cause);
    }
}

/// A failure, here or on another node.
pub(crate) fn heard(shared: &Shared, sample: Sample, message: store::MessageId, cause: Arc<Cause>) {
    let rules = shared.rules();
    let rule = cause.rule.as_deref().and_then(|id| rules.rule(id));
    let Some(rule_scope) = rule.map(|rule| rule.scope) else { return };
    let sure = is_rejection(cause.stage, &cause.failure);
    let failed = Failed { sample, message, cause, rule_scope: Some(rule_scope), sure };
    if shared.watch.evidence.lock().failed(failed) {
        shared.watch.bell.notify_one();
    }
}

/// Something that went well on another node.
pub(crate) fn heard_fine(shared: &Shared, sample: Sample) {
    shared.watch.evidence.lock().sampled(sample);
}

fn sender_domain(claim: &Claim) -> &str {
    claim.message.reverse_path.0.as_ref().map_or("", |address| address.domain())
}

fn sample(shared: &Shared, claim: &Claim, attempt: &Attempt, place: Place<'_>, now_ms: i64) -> Sample {
    let key = &claim.lane.key;
    let directory = shared.directory();
    let route = directory.route(&attempt.route);
    let own = route.is_some_and(|route| route.record.kind.has_account());
    let destination = match place.destination {
        Some(destination) => destination.clone(),
        None if own => attempt.route.clone(),
        None => key.domain.clone(),
    };
    let host = attempt.peer.as_deref().and_then(|peer| peer.split(' ').next());
    let provider = host.and_then(|host| shared.rules().provider_of_host(host).map(|known| known.id.as_str().into()));
    let (local, peer) = ends(attempt.transcript.as_ref().or(place.prelude));
    let source = route.and_then(|route| route.record.source_address);
    Sample {
        at_ms: now_ms,
        failed: None,
        rule: None,
        route: attempt.route.clone(),
        provider,
        destination,
        domain: key.domain.clone(),
        address: claim.recipients.first().map_or("", |recipient| recipient.address.as_str()).into(),
        sender_domain: sender_domain(claim).into(),
        sender: key.sender.clone(),
        stream: key.stream.clone(),
        source: source.or(local),
        peer,
        recipients: 1,
    }
}

/// Both ends of the connection that was spoken over.
fn ends(transcript: Option<&Transcript>) -> (Option<IpAddr>, Option<IpAddr>) {
    let steps = transcript.map(|transcript| transcript.steps.as_slice()).unwrap_or_default();
    let connected = steps.iter().rev().find_map(|step| match &step.fact {
        Some(Fact::Connected { peer, local }) => Some((local.ip(), peer.ip())),
        _ => None,
    });
    connected.unzip()
}
