//! When failures become an incident, and when they do not.

use proto::smtp::reply::Reply;
use proto::transcript::{Failure, Stage};

use super::*;

const T0: i64 = 1_800_000_000_000;

fn sample(at_ms: i64, domain: &str, reason: Option<&str>, recipients: u32) -> Sample {
    Sample {
        at_ms,
        failed: reason.map(Into::into),
        rule: None,
        route: "out".into(),
        provider: None,
        destination: format!("out/mx.{domain}").into(),
        domain: domain.into(),
        address: format!("a@{domain}").into(),
        sender_domain: "shop.example".into(),
        sender: "app".into(),
        stream: "default".into(),
        source: None,
        peer: None,
        recipients,
    }
}

fn failed(message: i64, at_ms: i64, domain: &str, reason: &str, scope: Scope) -> Failed {
    Failed {
        sample: sample(at_ms, domain, Some(reason), 1),
        message: MessageId(message),
        cause: Arc::new(Cause {
            stage: Stage::Recipient,
            failure: Failure::Refused(Reply::new(451, "4.3.0 no")),
            provider: None,
            rule: None,
            unknown_via: None,
        }),
        rule_scope: Some(scope),
        sure: false,
    }
}

fn suspected(evidence: &mut Evidence, now_ms: i64) -> Vec<Suspicion> {
    evidence.questions(now_ms).iter().filter_map(Question::look).collect()
}

#[test]
fn a_slip_is_no_incident_and_five_recipients_of_two_messages_are() {
    let mut evidence = Evidence::new(Opening::default());
    for n in 0..4 {
        evidence.failed(failed(n, T0 + n, "a.example", "server_error", Scope::Destination));
        assert!(suspected(&mut evidence, T0 + n).is_empty(), "{n}");
    }
    evidence.failed(failed(4, T0 + 4, "a.example", "server_error", Scope::Destination));
    let [found] = &suspected(&mut evidence, T0 + 5)[..] else { panic!("no incident") };
    assert_eq!(found.found.scope, IncidentScope::Destination("out/mx.a.example".into()));
    assert_eq!((found.recipients, found.messages, found.examples.len()), (5, 5, 5));
    // Nothing new: it is not asked again.
    assert!(evidence.questions(T0 + 6).is_empty());
}

#[test]
fn one_message_to_many_recipients_is_no_incident() {
    let mut evidence = Evidence::new(Opening::default());
    let mut one = failed(1, T0, "a.example", "server_error", Scope::Destination);
    one.sample.recipients = 50;
    evidence.failed(one);
    assert!(suspected(&mut evidence, T0).is_empty());
}

#[test]
fn failures_among_many_successes_are_no_incident() {
    let mut evidence = Evidence::new(Opening::default());
    for n in 0..10 {
        evidence.failed(failed(n, T0 + n * 100, "a.example", "server_error", Scope::Destination));
        let wanted = evidence.fine(LaneId(1), 0, 40, T0 + n * 1_000);
        assert_eq!(wanted, Some(40));
        evidence.sampled(sample(T0 + n * 100 + 50, "a.example", None, 40));
    }
    assert!(suspected(&mut evidence, T0 + 1_000).is_empty());
}

#[test]
fn what_concerns_one_recipient_is_never_an_incident() {
    let mut evidence = Evidence::new(Opening::default());
    for n in 0..100 {
        evidence.failed(failed(n, T0 + n, "a.example", "mailbox_unknown", Scope::Recipient));
        evidence.failed(failed(n, T0 + n, "a.example", "greylisted", Scope::Destination));
    }
    assert!(suspected(&mut evidence, T0 + 100).is_empty());
}

#[test]
fn a_rejected_credential_is_an_incident_at_once() {
    let mut evidence = Evidence::new(Opening::default());
    let one = Failed { sure: true, ..failed(1, T0, "a.example", "credentials_invalid", Scope::Route) };
    assert!(evidence.failed(one.clone()));
    let [found] = &suspected(&mut evidence, T0)[..] else { panic!("no incident") };
    assert_eq!(found.found.scope, IncidentScope::Credential("out".into()));
    // While it is open the next one is counted, and no news.
    let followed = Followed { id: 17, scope: found.found.scope.clone(), reason: "credentials_invalid".into() };
    evidence.follow(vec![followed]);
    assert!(!evidence.failed(Failed { message: MessageId(2), ..one }));
    assert!(evidence.questions(T0 + 1).is_empty());
    let [tally] = &evidence.tallies()[..] else { panic!("not counted") };
    assert_eq!((tally.id, tally.recipients, &tally.examples[..]), (17, 1, &[MessageId(2)][..]));
    assert!(evidence.tallies().is_empty());
}

#[test]
fn few_messages_that_fail_for_long_are_an_incident_where_more_than_one_domain_may_be_hit() {
    let mut evidence = Evidence::new(Opening::default());
    let minute = 60_000;
    for (n, at) in [0, 5, 11].into_iter().enumerate() {
        let mut one = failed(1, T0 + at * minute, "a.example", "connection_refused", Scope::Route);
        one.sample.destination = "out".into();
        one.sample.address = format!("u{n}@a.example").into();
        evidence.failed(one);
    }
    let [found] = &suspected(&mut evidence, T0 + 11 * minute)[..] else { panic!("no incident") };
    assert_eq!(found.found.scope, IncidentScope::Route("out".into()));
}

#[test]
fn successes_are_sampled_and_none_is_lost() {
    let mut evidence = Evidence::new(Opening::default());
    let mut total = 0;
    for n in 0..10_000_i64 {
        total += evidence.fine(LaneId(n % 7), 0, 1, T0 + n).unwrap_or(0);
    }
    for lane in 0..7 {
        total += evidence.fine(LaneId(lane), 0, 0, T0 + 20_000).unwrap_or(0);
    }
    assert_eq!(total, 10_000);
}

#[test]
fn everything_is_bounded() {
    let mut evidence = Evidence::new(Opening::default());
    for n in 0..20_000_i64 {
        let reason = format!("reason_{}", n % 200);
        evidence.failed(failed(n, T0 + n, "a.example", &reason, Scope::Destination));
        evidence.fine(LaneId(n), 0, 1, T0 + n);
        evidence.sampled(sample(T0 + n, "a.example", None, 1));
    }
    assert!(evidence.reasons.len() <= REASONS && evidence.lanes.len() <= LANES && evidence.fine.len() <= FINE);
    assert!(evidence.reasons.values().all(|kept| kept.failures.len() <= FAILURES));
}
