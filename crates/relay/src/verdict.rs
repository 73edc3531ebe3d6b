//! What a failure means for a recipient: tried again, or never. The only place that decides permanence.
//!
//! RFC 5321 §4.2.1: 4yz may be retried, 5yz should not be. Around that class stand guards: a failure that is the route's,
//! the network's or our own is never held against the recipient; nothing but a clear 5yz to MAIL, RCPT, DATA or the message
//! ends a recipient for ever; a rule may turn such a 5yz into a wait only where its author said so by hand, and never the
//! reverse. A missing rule falls back to the class.

use explain::{Finding, Query, Retry, Rule, RuleBase, Scope};
use proto::smtp::reply::{EnhancedCode, Reply};
use proto::transcript::{Failure, Stage, Transcript, TransportPolicy};
use store::Cause;

use crate::route::RouteKind;
use crate::schedule::Sign;

/// Longest wait that a server may ask for, seconds.
const LONGEST_WAIT_S: u64 = 86_400;

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Tried again with backoff until the message expires.
    Transient,
    /// Never again.
    Permanent,
}

/// A failure, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What it means.
    pub verdict: Verdict,
    /// The wait the server asked for, seconds: not to be undercut.
    pub wait_s: Option<u64>,
    /// What it says about all mail for the same destination.
    pub sign: Sign,
    /// What is stored.
    pub cause: Cause,
}

/// Who was spoken with, as far as it came to that.
#[derive(Debug, Clone, Copy, Default)]
pub struct Peer<'a> {
    /// Name of the host.
    pub host: Option<&'a str>,
    /// What was said at the connection.
    pub transcript: Option<&'a Transcript>,
}

impl Peer<'_> {
    /// Id of the provider or program: known by its name, or else by its greeting.
    fn provider<'r>(&self, rules: &'r RuleBase) -> Option<&'r str> {
        let by_host = self.host.and_then(|host| rules.provider_of_host(host));
        let greeting = || {
            let steps = self.transcript?.steps.iter();
            let reply = steps.filter(|step| step.stage == Stage::Banner).find_map(|step| step.reply.as_ref())?;
            rules.provider_of_banner(&reply.text())
        };
        by_host.or_else(greeting).map(|provider| provider.id.as_str())
    }
}

/// Judges one failure.
pub fn judge(rules: &RuleBase, kind: RouteKind, peer: Peer<'_>, stage: Stage, failure: &Failure) -> Judgement {
    let provider = peer.provider(rules);
    let finding = rules.judge(&Query::failure(stage, failure).at(provider));
    let rule = finding.as_ref().and_then(|finding| rules.rule(&finding.rule));
    let by_class = by_class(kind, stage, failure);
    let verdict = match (by_class, rule) {
        (Verdict::Permanent, Some(rule)) if softens(rule, kind, stage, failure) => Verdict::Transient,
        _ => by_class,
    };
    let wait_s = finding.as_ref().and_then(wait_s);
    Judgement {
        verdict,
        wait_s,
        sign: rule.map_or(Sign::Other, |rule| sign(rule, kind, wait_s)),
        cause: Cause {
            stage,
            failure: failure.clone(),
            provider: finding.as_ref().and_then(|finding| finding.provider.as_deref()).or(provider).map(Into::into),
            rule: finding.map(|finding| finding.rule.into()),
            unknown_via: None,
        },
    }
}

/// Whether a rule turns a 5yz reply into a wait. [`Rule::advice`] has let through only what its author softened by hand.
fn softens(rule: &Rule, kind: RouteKind, stage: Stage, failure: &Failure) -> bool {
    let Some(reply) = failure.reply() else { return false };
    match rule.advice(stage, Some(reply.class())) {
        Retry::Retry | Retry::Slow => true,
        // An MX route has no account that could be repaired.
        Retry::HoldRoute => kind.has_account() || rule.scope != Scope::Route,
        Retry::Class | Retry::Stop => false,
    }
}

/// What a rule advises for everything that goes the same way. Advice about one sender, recipient or message is not.
fn sign(rule: &Rule, kind: RouteKind, wait_s: Option<u64>) -> Sign {
    let wait_ms = wait_s.and_then(|wait_s| i64::try_from(wait_s).ok()).map_or(0, |wait_s| wait_s * 1_000);
    // An MX route has no account that could be full or closed.
    let ours = match rule.scope {
        Scope::Route => kind.has_account(),
        Scope::Destination | Scope::OurAddress => true,
        _ => false,
    };
    match rule.retry {
        Retry::Slow if ours => Sign::Slow(wait_ms),
        Retry::HoldRoute if ours => Sign::Hold(wait_ms),
        _ => Sign::Other,
    }
}

fn wait_s(finding: &Finding) -> Option<u64> {
    finding.values.get("wait_s")?.parse().ok().map(|wait: u64| wait.min(LONGEST_WAIT_S))
}

fn by_class(kind: RouteKind, stage: Stage, failure: &Failure) -> Verdict {
    match failure {
        Failure::Refused(reply) => judge_reply(stage, reply),
        // The recipient's domain for an MX route; the operator's own setting for a smart host.
        Failure::NameNotFound { .. } | Failure::NoAddress { .. } | Failure::NullMx { .. } | Failure::MxLoop { .. }
            if kind == RouteKind::Mx =>
        {
            Verdict::Permanent
        }
        Failure::PrivateAddress { .. } if kind == RouteKind::Mx => Verdict::Permanent,
        Failure::MissingExtension { .. } | Failure::TooLarge { .. } => Verdict::Permanent,
        Failure::Api { .. } if crate::graph::wire::is_final(failure) => Verdict::Permanent,
        // RFC 8689 §4.2.1: it is never downgraded, and another attempt would meet the same.
        Failure::Policy { policy: TransportPolicy::RequireTls, .. } => Verdict::Permanent,
        _ => Verdict::Transient,
    }
}

fn judge_reply(stage: Stage, reply: &Reply) -> Verdict {
    let about_the_message = matches!(stage, Stage::Sender | Stage::Recipient | Stage::Message);
    if reply.class() == 5 && about_the_message && !is_about_our_credential(reply) {
        Verdict::Permanent
    } else {
        Verdict::Transient
    }
}

/// 530, 534, 535, 538 and their enhanced forms (RFC 4954 §6) are about how we signed in, not about the recipient.
fn is_about_our_credential(reply: &Reply) -> bool {
    matches!(reply.code, 530 | 534 | 535 | 538) || matches!(reply.enhanced(), Some(EnhancedCode(5, 7, 8 | 9 | 11 | 12)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(kind: RouteKind, stage: Stage, failure: &Failure) -> Verdict {
        super::judge(RuleBase::builtin(), kind, Peer::default(), stage, failure).verdict
    }

    const USER: &str = r#"
        [file]
        source = "our contract"
        checked = "2026-11-21"
        [[rule]]
        id = "own-soft"
        text = ["contract number pending"]
        reason = "sender_unverified"
        retry = "hold_route"
        scope = "route"
        softens = true
        samples = ["550 5.7.1 contract number pending"]
        [[rule]]
        id = "own-hard"
        text = ["contract number refused"]
        reason = "sender_unverified"
        retry = "hold_route"
        scope = "route"
        samples = ["550 5.7.1 contract number refused"]
        [[rule]]
        id = "own-stop"
        text = ["contract number unknown"]
        reason = "sender_unverified"
        retry = "stop"
        samples = ["450 4.7.1 contract number unknown"]
    "#;

    #[test]
    fn a_rule_softens_a_5yz_reply_only_where_its_author_said_so_and_never_hardens_a_4yz() {
        let rules = RuleBase::with_user_rules(&[("own.toml", USER)]).unwrap();
        let verdict =
            |kind, code, text| super::judge(&rules, kind, Peer::default(), Stage::Sender, &refused(code, text)).verdict;
        assert_eq!(verdict(RouteKind::Smarthost, 550, "5.7.1 contract number pending"), Verdict::Transient);
        assert_eq!(verdict(RouteKind::Mx, 550, "5.7.1 contract number pending"), Verdict::Permanent);
        assert_eq!(verdict(RouteKind::Smarthost, 550, "5.7.1 contract number refused"), Verdict::Permanent);
        assert_eq!(verdict(RouteKind::Smarthost, 450, "4.7.1 contract number unknown"), Verdict::Transient);
    }

    #[test]
    fn every_sample_of_every_rule_keeps_the_meaning_of_its_class_unless_the_rule_softens_it() {
        let rules = RuleBase::builtin();
        let mut judged = 0;
        for rule in rules.rules() {
            for sample in rule.samples() {
                let explain::SampleWhat::Reply(reply) = &sample.what else { continue };
                let stage = sample.stage.unwrap_or(Stage::Recipient);
                let failure = Failure::Refused(reply.clone());
                let found = super::judge(rules, RouteKind::Smarthost, Peer::default(), stage, &failure);
                let softened = rules.rule(found.cause.rule.as_deref().unwrap()).unwrap().softens;
                let hard = reply.class() == 5 && by_class(RouteKind::Smarthost, stage, &failure) == Verdict::Permanent;
                assert_eq!(found.verdict == Verdict::Permanent, hard && !softened, "{}: {reply}", rule.id);
                judged += 1;
            }
        }
        assert!(judged > 500, "{judged}");
    }

    #[test]
    fn the_cause_names_rule_and_provider_and_the_wait_the_server_asked_for() {
        let host = |name| Peer { host: Some(name), transcript: None };
        let failure = refused(450, "4.2.0 Greylisted, please try again in 300 seconds");
        let found =
            super::judge(RuleBase::builtin(), RouteKind::Mx, host("mx1.example.net"), Stage::Recipient, &failure);
        assert_eq!((found.verdict, found.wait_s), (Verdict::Transient, Some(300)));
        assert!(found.cause.rule.is_some() && found.cause.provider.is_none(), "{found:?}");
        let google = host("gmail-smtp-in.l.google.com");
        let found =
            super::judge(RuleBase::builtin(), RouteKind::Mx, google, Stage::Recipient, &refused(550, "5.1.1 no"));
        assert_eq!(found.cause.provider.as_deref(), Some("google"));
    }

    fn refused(code: u16, text: &str) -> Failure {
        Failure::Refused(Reply::new(code, text))
    }

    #[test]
    fn the_class_of_the_reply_decides_at_the_stages_that_are_about_the_message() {
        for stage in [Stage::Sender, Stage::Recipient, Stage::Message] {
            assert_eq!(judge(RouteKind::Mx, stage, &refused(550, "5.1.1 no such user")), Verdict::Permanent);
            assert_eq!(judge(RouteKind::Mx, stage, &refused(599, "")), Verdict::Permanent);
            assert_eq!(judge(RouteKind::Mx, stage, &refused(450, "4.2.1 busy")), Verdict::Transient);
            assert_eq!(judge(RouteKind::Mx, stage, &refused(421, "4.3.2 going down")), Verdict::Transient);
            assert_eq!(judge(RouteKind::Mx, stage, &refused(250, "unexpected")), Verdict::Transient);
        }
    }

    #[test]
    fn a_refusal_of_the_connection_is_never_held_against_the_recipient() {
        for stage in [Stage::Banner, Stage::Ehlo, Stage::Tls, Stage::Auth, Stage::Quit] {
            assert_eq!(judge(RouteKind::Smarthost, stage, &refused(554, "5.7.1 go away")), Verdict::Transient);
        }
    }

    #[test]
    fn a_rejected_credential_is_never_held_against_the_recipient() {
        for (code, text) in
            [(530, "5.7.0 authentication required"), (535, "5.7.8 bad"), (550, "5.7.8 bad"), (534, "5.7.9 weak")]
        {
            assert_eq!(judge(RouteKind::Smarthost, Stage::Sender, &refused(code, text)), Verdict::Transient, "{text}");
        }
    }

    #[test]
    fn a_name_that_does_not_exist_is_final_for_mx_and_an_operators_slip_for_a_smart_host() {
        for failure in [
            Failure::NameNotFound { name: "gone.example".into() },
            Failure::NoAddress { name: "gone.example".into() },
            Failure::NullMx { domain: "gone.example".into() },
        ] {
            assert_eq!(judge(RouteKind::Mx, Stage::Dns, &failure), Verdict::Permanent);
            assert_eq!(judge(RouteKind::Smarthost, Stage::Dns, &failure), Verdict::Transient);
        }
    }

    #[test]
    fn what_is_not_known_is_transient() {
        for failure in [
            Failure::DnsUnavailable { name: "a.example".into(), reason: "SERVFAIL".into() },
            Failure::Disconnected,
            Failure::Timeout { seconds: 600 },
            Failure::BadReply { text: "hello".into() },
            Failure::TlsHandshake { reason: "alert".into() },
            Failure::StartTlsMissing,
            Failure::AuthNeedsTls,
            Failure::Local { reason: "shutting down".into() },
        ] {
            assert_eq!(judge(RouteKind::Mx, Stage::Message, &failure), Verdict::Transient, "{failure:?}");
        }
    }

    #[test]
    fn what_the_next_hop_can_never_take_is_final() {
        assert_eq!(
            judge(RouteKind::Mx, Stage::Sender, &Failure::MissingExtension { extension: "SMTPUTF8".into() }),
            Verdict::Permanent
        );
        assert_eq!(judge(RouteKind::Mx, Stage::Sender, &Failure::TooLarge { size: 2, limit: 1 }), Verdict::Permanent);
    }
}
