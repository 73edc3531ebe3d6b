//! The scope finder: whom do failures touch, and since when? Pure.
//!
//! Every name that failing attempts have in common is a candidate: their domain, their route, our address and so on. For each
//! the stretch of time is found in which its attempts fail, and then how well "fails inside, works outside" tells the story of
//! all attempts, beside the stories of the other candidates. Single slips, unrelated failures and a recovery that has begun cost
//! a story something, and none is thrown out by one of them. Where stories are equally good the rule's own scope decides, and
//! then the narrower one.

use std::collections::HashMap;
use std::net::IpAddr;

use explain::Scope;
use store::{Family, IncidentScope};

use super::Sample;

/// Names of one kind that are looked at, those with the most failures first.
const NAMES: usize = 8;
/// Candidates that are told of.
const TOLD: usize = 12;
/// How much the rule's word counts, as a logarithm of odds: about as much as one attempt that says otherwise.
const RULE_SAYS: f64 = 2.6;
/// What is expected before anything is seen: pseudo-counts of failed and fine, inside and outside of a scope.
const INSIDE: (f64, f64) = (3.0, 0.5);
const OUTSIDE: (f64, f64) = (0.5, 14.0);
/// The share of failures inside a scope is taken to be within these.
const SHARE: (f64, f64) = (0.35, 0.95);
/// The share of failures elsewhere, when a stretch of time is looked for.
const ELSEWHERE: f64 = 0.05;

/// Reasons that are about what a route signs in with: what fails is the credential, wherever the mail goes.
const OF_CREDENTIALS: [&str; 13] = [
    "credentials_invalid",
    "app_password_required",
    "login_challenge",
    "account_locked",
    "auth_disabled",
    "basic_auth_retired",
    "oauth_token",
    "oauth_setup",
    "mechanism_unsupported",
    "auth_temporary",
    "login_address_refused",
    "auth_protocol",
    "account_suspended",
];

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct ScopeFound {
    /// Whom it touches.
    pub scope: IncidentScope,
    /// The first failure of the stretch in which the scope's attempts fail, Unix milliseconds: not the first slip ever.
    pub since_ms: i64,
    /// Recipients that failed inside since then.
    pub failing: u32,
    /// Recipients outside that were fine since then.
    pub others_ok: u32,
    /// The candidates, the best first: the share that fails inside, and outside, since then.
    pub looked_at: Vec<(IncidentScope, f64, f64)>,
}

/// Whether a reason is about what a route signs in with.
pub fn is_of_credential(reason: &str) -> bool {
    OF_CREDENTIALS.contains(&reason)
}

/// Whom the failures with this reason touch, and since when. Samples may be in any order; those that failed for another reason
/// say nothing. `None`: nothing failed with it.
pub fn find(samples: &[Sample], reason: &str, rule_scope: Option<Scope>, now_ms: i64) -> Option<ScopeFound> {
    let mut seen: Vec<(&Sample, bool)> = samples
        .iter()
        .filter(|sample| sample.at_ms <= now_ms)
        .filter_map(|sample| match &sample.failed {
            None => Some((sample, false)),
            Some(failed) => (**failed == *reason).then_some((sample, true)),
        })
        .collect();
    // Where a failure and a success are of one moment, the failure begins the trouble.
    seen.sort_by_key(|(sample, _)| sample.at_ms);
    let mut stories: Vec<Story> =
        candidates(&seen, reason).into_iter().filter_map(|scope| Story::of(scope, &seen, reason, rule_scope)).collect();
    stories.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| rank(&a.scope).cmp(&rank(&b.scope))));
    let best = stories.first()?;
    let looked_at =
        stories.iter().take(TOLD).map(|story| (story.scope.clone(), story.inside.share(), story.outside.share()));
    Some(ScopeFound {
        scope: best.scope.clone(),
        since_ms: best.since_ms,
        failing: best.inside.failed_recipients,
        others_ok: best.outside.fine_recipients,
        looked_at: looked_at.collect(),
    })
}

/// Everything that failing attempts may have in common.
fn candidates(seen: &[(&Sample, bool)], reason: &str) -> Vec<IncidentScope> {
    let mut counts: HashMap<IncidentScope, u32> = HashMap::new();
    for (sample, _) in seen.iter().filter(|(_, failed)| *failed) {
        for scope in scopes_of(sample, reason) {
            *counts.entry(scope).or_default() += 1;
        }
    }
    let mut all: Vec<_> = counts.into_iter().collect();
    all.sort_by(|(a, many), (b, more)| more.cmp(many).then_with(|| a.cmp(b)));
    let mut of_kind: HashMap<&'static str, usize> = HashMap::new();
    all.retain(|(scope, _)| {
        let so_far = of_kind.entry(scope.kind()).or_default();
        *so_far += 1;
        *so_far <= NAMES
    });
    all.into_iter().map(|(scope, _)| scope).collect()
}

fn scopes_of(sample: &Sample, reason: &str) -> Vec<IncidentScope> {
    let mut all = vec![IncidentScope::Everyone, IncidentScope::Domain(sample.domain.to_string())];
    let route = sample.route.to_string();
    all.push(if is_of_credential(reason) { IncidentScope::Credential(route) } else { IncidentScope::Route(route) });
    if sample.recipients <= 1 {
        all.push(IncidentScope::Address(sample.address.to_string()));
    }
    if sample.destination != sample.route {
        all.push(IncidentScope::Destination(sample.destination.to_string()));
    }
    if !sample.sender_domain.is_empty() {
        all.push(IncidentScope::SenderDomain(sample.sender_domain.to_string()));
    }
    all.push(IncidentScope::Sender(sample.sender.to_string()));
    all.push(IncidentScope::Stream(sample.stream.to_string()));
    all.extend(sample.provider.as_ref().map(|provider| IncidentScope::Provider(provider.to_string())));
    all.extend(sample.source.map(|source| IncidentScope::Source(source.to_string())));
    all.extend(sample.peer.map(|peer| IncidentScope::Family(Family::of(peer))));
    all
}

/// Whether an attempt is inside a scope.
pub fn is_inside(scope: &IncidentScope, sample: &Sample) -> bool {
    match scope {
        IncidentScope::Everyone => true,
        IncidentScope::Route(name) | IncidentScope::Credential(name) => *sample.route == **name,
        IncidentScope::Source(name) => sample.source.is_some_and(|source| source.to_string() == *name),
        IncidentScope::Family(family) => sample.peer.is_some_and(|peer| Family::of(peer) == *family),
        IncidentScope::Provider(name) => sample.provider.as_deref() == Some(name),
        IncidentScope::Destination(name) => *sample.destination == **name,
        IncidentScope::Domain(name) => *sample.domain == **name,
        IncidentScope::SenderDomain(name) => *sample.sender_domain == **name,
        IncidentScope::Stream(name) => *sample.stream == **name,
        IncidentScope::Sender(name) => *sample.sender == **name,
        IncidentScope::Address(name) => sample.recipients <= 1 && *sample.address == **name,
        IncidentScope::Itself(_) => false,
    }
}

/// Attempts on one side of a scope.
#[derive(Debug, Clone, Copy, Default)]
struct Side {
    failed: f64,
    fine: f64,
    failed_recipients: u32,
    fine_recipients: u32,
}

impl Side {
    fn add(&mut self, sample: &Sample, failed: bool) {
        let (attempts, recipients) = if failed {
            (&mut self.failed, &mut self.failed_recipients)
        } else {
            (&mut self.fine, &mut self.fine_recipients)
        };
        *attempts += 1.0;
        *recipients = recipients.saturating_add(sample.recipients.max(1));
    }

    fn share(&self) -> f64 {
        let all = self.failed + self.fine;
        if all > 0.0 { self.failed / all } else { 0.0 }
    }

    /// How likely a run of such attempts is, as a logarithm, when the share of failures is not known but expected.
    fn likelihood(&self, (failed, fine): (f64, f64)) -> f64 {
        ln_beta(failed + self.failed, fine + self.fine) - ln_beta(failed, fine)
    }
}

/// "Inside fails since then, outside works", and how well that tells what was seen.
#[derive(Debug)]
struct Story {
    scope: IncidentScope,
    since_ms: i64,
    /// Since then.
    inside: Side,
    outside: Side,
    score: f64,
}

impl Story {
    fn of(scope: IncidentScope, seen: &[(&Sample, bool)], reason: &str, rule_scope: Option<Scope>) -> Option<Self> {
        // An address is read once, not written once for each attempt.
        let address: Option<IpAddr> = match &scope {
            IncidentScope::Source(name) => name.parse().ok(),
            _ => None,
        };
        let members: Vec<(usize, bool)> = seen
            .iter()
            .enumerate()
            .filter(|(_, (sample, _))| match address {
                Some(_) => sample.source == address,
                None => is_inside(&scope, sample),
            })
            .map(|(at, (_, failed))| (at, *failed))
            .collect();
        let (from, to) = stretch(&members)?;
        let (mut stretch, mut rest) = (Side::default(), Side::default());
        let (mut inside, mut outside) = (Side::default(), Side::default());
        let mut next = members.iter().map(|(at, _)| *at).peekable();
        for (at, (sample, failed)) in seen.iter().enumerate() {
            let is_member = next.next_if_eq(&at).is_some();
            let side = if is_member && (from..=to).contains(&at) { &mut stretch } else { &mut rest };
            side.add(sample, *failed);
            if at >= from {
                let side = if is_member { &mut inside } else { &mut outside };
                side.add(sample, *failed);
            }
        }
        let smart_host = members.iter().all(|(at, _)| seen[*at].0.destination == seen[*at].0.route);
        let score =
            stretch.likelihood(INSIDE) + rest.likelihood(OUTSIDE) + expected(&scope, reason, rule_scope, smart_host)
                - 0.02 * f64::from(rank(&scope));
        Some(Self { scope, since_ms: seen[from].0.at_ms, inside, outside, score })
    }
}

/// The stretch of a scope's attempts that stands out by its failures, from a failure to a failure: the places of both in
/// `seen`. The share of failures to look for is first taken to be high, then what was found.
fn stretch(members: &[(usize, bool)]) -> Option<(usize, usize)> {
    let mut share = SHARE.1;
    let mut found = None;
    for _ in 0..3 {
        let (from, to) = best_stretch(members, share)?;
        found = Some((members[from].0, members[to].0));
        let inside = &members[from..=to];
        let failed = inside.iter().filter(|(_, failed)| *failed).count();
        share = (failed as f64 / inside.len() as f64).clamp(SHARE.0, SHARE.1);
    }
    found
}

/// The stretch with the greatest sum of evidence; of equal ones the latest start and the earliest end.
fn best_stretch(members: &[(usize, bool)], share: f64) -> Option<(usize, usize)> {
    let failed = (share / ELSEWHERE).ln();
    let fine = ((1.0 - share) / (1.0 - ELSEWHERE)).ln();
    let (mut from, mut sum) = (0, 0.0);
    let mut best: Option<(f64, usize, usize)> = None;
    for (at, (_, is_failed)) in members.iter().enumerate() {
        // A tie begins anew: what came before was a slip.
        if sum <= 1e-9 {
            (from, sum) = (at, 0.0);
        }
        sum += if *is_failed { failed } else { fine };
        if *is_failed && best.is_none_or(|(most, ..)| sum > most + 1e-9) {
            best = Some((sum, from, at));
        }
    }
    best.map(|(_, from, to)| (from, to))
}

/// From narrow to wide.
fn rank(scope: &IncidentScope) -> u8 {
    match scope {
        IncidentScope::Address(_) => 0,
        IncidentScope::Domain(_) => 1,
        IncidentScope::Destination(_) => 2,
        IncidentScope::Provider(_) => 3,
        IncidentScope::SenderDomain(_) => 4,
        IncidentScope::Stream(_) => 5,
        IncidentScope::Sender(_) => 6,
        IncidentScope::Credential(_) => 7,
        IncidentScope::Route(_) => 8,
        IncidentScope::Source(_) => 9,
        IncidentScope::Family(_) => 10,
        IncidentScope::Itself(_) => 11,
        IncidentScope::Everyone => 12,
    }
}

/// What the rule's scope, and the reason, make of a candidate before anything is counted.
fn expected(scope: &IncidentScope, reason: &str, rule_scope: Option<Scope>, smart_host: bool) -> f64 {
    use IncidentScope as To;
    let of_reason = if is_of_credential(reason) && matches!(scope, To::Credential(_)) { RULE_SAYS } else { 0.0 };
    let fits = match (rule_scope, scope) {
        (Some(Scope::Recipient), To::Address(_))
        | (Some(Scope::Sender), To::SenderDomain(_))
        | (Some(Scope::Route), To::Route(_) | To::Credential(_))
        | (Some(Scope::Destination), To::Destination(_))
        | (Some(Scope::OurAddress), To::Source(_))
        | (Some(Scope::Everyone), To::Everyone) => 1.0,
        (Some(Scope::Recipient), To::Domain(_))
        | (Some(Scope::Message), To::Stream(_) | To::Sender(_))
        | (Some(Scope::Sender), To::Sender(_))
        | (Some(Scope::Destination), To::Domain(_))
        | (Some(Scope::OurAddress), To::Family(_)) => 0.8,
        (Some(Scope::Destination), To::Provider(_)) if !smart_host => 0.8,
        // A smart host is its route's one destination.
        (Some(Scope::Destination), To::Route(_)) if smart_host => 0.9,
        // A provider that is only met as a smart host is that route, unless two routes lead to it.
        (_, To::Provider(_)) if smart_host => -0.3,
        (None, To::Family(_) | To::Stream(_) | To::Sender(_)) => -0.3,
        _ => 0.0,
    };
    of_reason + RULE_SAYS * fits
}

/// Logarithm of the beta function.
fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// Logarithm of the gamma function for positive numbers: Stirling's series, after moving up to where it is exact enough.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut below) = (x, 0.0);
    while x < 8.0 {
        below += x.ln();
        x += 1.0;
    }
    let square = x * x;
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x * square) + 1.0 / (1260.0 * x * square * square);
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - below
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_s: i64, route: &str, domain: &str, failed: Option<&str>) -> Sample {
        Sample {
            at_ms: at_s * 1_000,
            failed: failed.map(Into::into),
            rule: None,
            route: route.into(),
            provider: None,
            destination: format!("mx.{domain}").into(),
            domain: domain.into(),
            address: format!("u{at_s}@{domain}").into(),
            sender_domain: "shop.example".into(),
            sender: "app".into(),
            stream: "default".into(),
            source: None,
            peer: None,
            recipients: 1,
        }
    }

    #[test]
    fn the_logarithm_of_the_beta_function_is_right() {
        for (a, b, beta) in [(1.0, 1.0, 1.0_f64), (2.0, 3.0, 1.0 / 12.0), (0.5, 0.5, std::f64::consts::PI)] {
            assert!((ln_beta(a, b) - beta.ln()).abs() < 1e-8, "{a} {b}");
        }
    }

    #[test]
    fn one_domain_fails_and_the_slip_of_an_hour_ago_is_not_its_beginning() {
        let mut samples = vec![sample(0, "out", "a.example", Some("server_busy"))];
        for at in 1..40 {
            samples.push(sample(60 * at, "out", "a.example", (at >= 30).then_some("server_busy")));
            samples.push(sample(60 * at + 5, "out", "b.example", None));
        }
        let found = find(&samples, "server_busy", None, 10_000_000).unwrap();
        assert_eq!(found.scope, IncidentScope::Domain("a.example".into()));
        assert_eq!(found.since_ms, 60_000 * 30);
        assert_eq!((found.failing, found.others_ok), (10, 10));
    }

    #[test]
    fn the_rules_scope_decides_where_nothing_else_does() {
        let samples: Vec<_> = (0..6).map(|at| sample(at, "out", "a.example", Some("connection_refused"))).collect();
        let scope = |rule| find(&samples, "connection_refused", rule, 10_000).unwrap().scope;
        assert_eq!(scope(Some(Scope::Destination)), IncidentScope::Destination("mx.a.example".into()));
        assert_eq!(scope(Some(Scope::Everyone)), IncidentScope::Everyone);
        assert_eq!(scope(None), IncidentScope::Domain("a.example".into()));
    }

    #[test]
    fn a_rejected_password_is_the_credentials_whatever_the_rule_says() {
        let samples: Vec<_> = (0..6)
            .map(|at| sample(at, "out", &format!("d{at}.example"), Some("credentials_invalid")))
            .chain((0..6).map(|at| sample(at, "mx", "d1.example", None)))
            .collect();
        let found = find(&samples, "credentials_invalid", None, 10_000).unwrap();
        assert_eq!(found.scope, IncidentScope::Credential("out".into()));
    }

    #[test]
    fn other_reasons_and_silence_are_no_evidence() {
        let samples = vec![sample(1, "out", "a.example", Some("mailbox_full"))];
        assert_eq!(find(&samples, "server_busy", None, 10_000), None);
        assert_eq!(find(&[], "server_busy", None, 10_000), None);
    }
}
