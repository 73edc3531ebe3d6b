//! Which failures are learned from, and what of them is believed.

use explain::SampleWhat;
use proto::transcript::Failure;

use super::*;

fn cause(stage: Stage, failure: Failure, provider: Option<&str>) -> Cause {
    Cause { stage, failure, provider: provider.map(Into::into), rule: None, unknown_via: None }
}

fn refused(text: &str) -> Cause {
    let (code, words) = text.split_once(' ').unwrap();
    cause(Stage::Recipient, Failure::Refused(Reply::new(code.parse().unwrap(), words)), None)
}

fn failed(cause: &Cause) -> Option<Charge> {
    charge(RuleBase::builtin(), EventKind::Failed, None, Some(cause))
}

fn charged(text: &str) -> Option<(SuppressionReason, bool)> {
    failed(&refused(text)).map(|charge| (charge.reason, charge.certain))
}

/// Whatever a server says and whatever the rule base makes of it: only the recipient's own fault suppresses.
#[test]
fn no_sample_of_any_rule_suppresses_for_a_fault_that_is_not_the_recipients_own() {
    let rules = RuleBase::builtin();
    let own = [Reason::MailboxUnknown, Reason::MailboxDisabled, Reason::MailboxFull];
    let (mut walked, mut charged, mut certain) = (0, 0, 0);
    for (rule, sample) in rules.samples() {
        for stage in [Stage::Recipient, Stage::Sender, Stage::Auth] {
            let cause = match &sample.what {
                SampleWhat::Reply(reply) => cause(stage, Failure::Refused(reply.clone()), rule.provider.as_deref()),
                SampleWhat::Failure(failure) => cause(stage, failure.clone(), rule.provider.as_deref()),
                // What people paste: as if a server had said it for good.
                SampleWhat::Text(text) => {
                    cause(stage, Failure::Refused(Reply::new(550, text.as_str())), rule.provider.as_deref())
                }
                SampleWhat::Sign(..) => continue,
            };
            for (kind, severity) in
                [(EventKind::Failed, None), (EventKind::Bounced, Some(Severity::Soft)), (EventKind::Deferred, None)]
            {
                let Some(found) = charge(rules, kind, severity, Some(&cause)) else { continue };
                charged += 1;
                certain += usize::from(found.certain);
                let query = Query::failure(stage, &cause.failure).at(cause.provider.as_deref());
                let judged = rules.rule(&rules.judge(&query).unwrap().rule).unwrap();
                assert_eq!(judged.scope, Scope::Recipient, "{}: {:?}", judged.id, cause.failure);
                assert!(own.contains(&judged.reason), "{}: {:?}", judged.id, cause.failure);
                assert!(matches!(judged.owner, Owner::Recipient | Owner::You), "{}", judged.id);
                assert!(matches!(stage, Stage::Recipient | Stage::Message), "{}", judged.id);
                assert_ne!(kind, EventKind::Deferred);
                // And where the sample is played as it is, its own rule says the same.
                if matches!(sample.what, SampleWhat::Reply(_)) && sample.stage.is_none_or(|at| at == stage) {
                    assert!(own.contains(&rule.reason), "{}: {:?}", rule.id, cause.failure);
                }
            }
        }
        walked += 1;
    }
    assert!(walked > 1_565 && charged > 200 && certain > 50, "{walked} {charged} {certain}");
}

#[test]
fn what_the_server_leaves_no_doubt_about_counts_at_once_and_what_it_hints_at_does_not() {
    use SuppressionReason::{MailboxClosed, MailboxFull, UnknownUser};
    for (text, wanted) in [
        (
            "550 5.1.1 <user@example.net>: Recipient address rejected: User unknown in virtual alias table",
            Some((UnknownUser, true)),
        ),
        (
            "550 5.1.1 The email account that you tried to reach does not exist. https://support.google.com/mail/?p=NoSuchUser",
            Some((UnknownUser, true)),
        ),
        // Words that are known, without the code.
        ("550 not a known user", Some((UnknownUser, false))),
        // The code, in words nobody knows.
        ("550 5.1.1 xyzzy", Some((UnknownUser, false))),
        ("550 5.2.1 account disabled", Some((MailboxClosed, true))),
        ("552 5.2.2 mailbox full", Some((MailboxFull, false))),
        (
            "552 5.2.2 The recipient's inbox is out of storage space and inactive. p=OverQuotaPerm",
            Some((MailboxFull, true)),
        ),
        // A refusal that says nothing, or something else.
        ("550 xyzzy", None),
        ("554 xyzzy", None),
        ("550 5.5.0 xyzzy", None),
        ("550 5.7.1 Service unavailable; client [192.0.2.1] blocked using zen.spamhaus.org", None),
        ("550 5.7.26 This mail has been blocked because the sender is unauthenticated.", None),
        ("550 5.7.1 relaying denied", None),
        ("535 5.7.8 authentication failed", None),
        ("550 5.7.1 message content rejected as spam", None),
        ("450 4.1.1 user unknown", None),
    ] {
        assert_eq!(charged(text), wanted, "{text}");
    }
}

#[test]
fn what_expired_counts_only_if_the_mailbox_stayed_full() {
    let rules = RuleBase::builtin();
    let of = |kind, severity, text| charge(rules, kind, severity, Some(&refused(text))).map(|charge| charge.reason);
    let full = "452 4.2.2 The email account that you tried to reach is over quota";
    assert_eq!(of(EventKind::Expired, None, full), Some(SuppressionReason::MailboxFull));
    assert_eq!(of(EventKind::Bounced, Some(Severity::Soft), full), Some(SuppressionReason::MailboxFull));
    assert_eq!(of(EventKind::Expired, None, "550 5.1.1 user unknown"), None);
    assert_eq!(of(EventKind::Bounced, Some(Severity::Soft), "550 5.1.1 user unknown"), None);
    assert_eq!(of(EventKind::Deferred, None, full), None);
    assert_eq!(charge(rules, EventKind::Expired, None, None), None);
    let complaint = charge(rules, EventKind::Complained, Some(Severity::Hard), None).unwrap();
    assert_eq!((complaint.reason, complaint.certain), (SuppressionReason::Complaint, true));
}

#[test]
fn a_bounce_is_a_wrong_address_and_nothing_else() {
    let rules = RuleBase::builtin();
    let bounce = |text| is_bounce(rules, EventKind::Failed, None, Some(&refused(text)));
    assert!(bounce("550 5.1.1 user unknown") && bounce("550 5.2.1 account disabled"));
    for text in ["552 5.2.2 mailbox full", "550 5.7.1 relaying denied", "550 5.7.1 message content rejected as spam"] {
        assert!(!bounce(text), "{text}");
    }
    assert!(is_bounce(rules, EventKind::Bounced, Some(Severity::Hard), None));
    assert!(!is_bounce(rules, EventKind::Bounced, Some(Severity::Soft), None));
    assert!(!is_bounce(rules, EventKind::Expired, None, Some(&refused("550 5.1.1 user unknown"))));
}
