//! Addresses that get no mail: told at the door and at the attempt, learned from what recipients' servers say, and from nothing else.

use relay::rates::{Level, RateOf};
use serde_json::json;
use store::settings::Kind;
use store::{EventKind, Evidence, Existing, LaterReport, ReportKind, Severity, Suppression, SuppressionReason};
use testkit::{Rule, Sink, Stage};

use crate::rig::{FROM, MAIL, Rig, Setup, eventually, queued, smarthost, with};

fn suppression(rig: &Rig, to: &str, scope: &str) -> Suppression {
    Suppression {
        address: to.parse().unwrap(),
        scope: scope.into(),
        reason: SuppressionReason::Manual,
        evidence: Evidence::default(),
        who: "tester".into(),
        added_ms: rig.now_ms(),
        expires_ms: None,
    }
}

async fn suppress(rig: &Rig, to: &str, scope: &str) {
    let count = rig.relay.suppress(vec![suppression(rig, to, scope)], Existing::Keep).await.unwrap();
    assert_eq!(count.added, 1);
}

/// Why an address gets no mail of the default stream.
async fn why(rig: &Rig, to: &str) -> Option<SuppressionReason> {
    let list = vec![to.parse().unwrap()];
    let found = rig.store.suppressed(list, "default".into(), rig.now_ms()).await.unwrap();
    found[0].as_ref().map(|suppression| suppression.reason)
}

async fn becomes_suppressed(rig: &Rig, to: &str) -> Suppression {
    eventually("the address is suppressed", || async {
        rig.store.suppressions_of(to.parse().unwrap(), rig.now_ms()).await.unwrap().pop()
    })
    .await
}

#[tokio::test]
async fn a_suppressed_recipient_is_recorded_with_the_reason_and_the_others_get_their_mail() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    suppress(&rig, "Bob@X.test", "*").await;
    suppress(&rig, "ann@x.test", "news").await;
    let id = rig.send(&["bob@x.test", "ann@x.test", "tom@x.test"]).await;
    let views = rig.becomes(id, &["suppressed", "delivered", "delivered"]).await;
    assert!(views[0].why.as_ref().unwrap().starts_with("suppressed: manual since "), "{:?}", views[0].why);
    assert_eq!(rig.events(id, 0).await, [EventKind::Suppressed]);
    let mut news = rig.submission(&["bob@x.test", "ann@x.test"], MAIL.as_bytes());
    news.stream = Some("news".into());
    let id = rig.submit(news).await;
    rig.becomes(id, &["suppressed", "suppressed"]).await;
    // By SMTP the answer is 250 all the same: what became of the message is in its events.
    let mut client = rig.client().await;
    let id = queued(&client.submit(FROM, &["bob@x.test"], MAIL).await.expect(250));
    rig.becomes(id, &["suppressed"]).await;
    assert_eq!(sink.received().iter().map(|mail| mail.to.clone()).collect::<Vec<_>>(), [["ann@x.test", "tom@x.test"]]);
    let rig = rig.restart().await;
    let id = rig.send(&["BOB@x.test"]).await;
    rig.becomes(id, &["suppressed"]).await;
}

#[tokio::test]
async fn who_is_suppressed_after_the_accept_is_not_mailed_and_a_removal_is_heeded() {
    let sink = Sink::start().await;
    sink.add(Rule::reply(Stage::Connect, "421 4.3.2 not yet"));
    let rig = Setup::by(with(smarthost(&sink), json!({"retry_s": [1]}))).start().await;
    let id = rig.send(&["bob@x.test", "tom@x.test"]).await;
    rig.becomes(id, &["deferred", "deferred"]).await;
    suppress(&rig, "bob@x.test", "*").await;
    sink.behave();
    let views = rig.becomes(id, &["suppressed", "delivered"]).await;
    assert!(views[0].why.as_ref().unwrap().starts_with("suppressed: manual"), "{:?}", views[0].why);
    assert_eq!(sink.received().iter().map(|mail| mail.to.clone()).collect::<Vec<_>>(), [["tom@x.test"]]);
    let list = vec![("bob@x.test".parse().unwrap(), None)];
    assert_eq!(rig.store.unsuppress(list, "tester".into(), None, rig.now_ms()).await.unwrap(), 1);
    let id = rig.send(&["bob@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
}

#[tokio::test]
async fn what_a_server_is_certain_of_suppresses_at_once_and_our_own_faults_never() {
    let sink = Sink::start().await;
    for (to, reply) in [
        ("gone", "550 5.1.1 <gone@x.test>: Recipient address rejected: User unknown in virtual alias table"),
        ("closed", "550 5.2.1 account disabled"),
        ("hint", "550 5.1.1 xyzzy"),
        ("bare", "550 xyzzy"),
        ("spam", "550 5.7.1 message content rejected as spam"),
    ] {
        sink.add(Rule::reply(Stage::Rcpt, reply).with_text(&format!("<{to}@")));
    }
    let rig = Setup::to(&sink).start().await;
    for to in ["hint", "bare", "spam", "closed"] {
        let id = rig.send(&[&format!("{to}@x.test")]).await;
        eventually("a final failure, or a wait", || async {
            let view = rig.recipients(id).await.remove(0);
            (view.attempts > 0).then_some(())
        })
        .await;
    }
    // Events are heeded in order: when this one is, the others were.
    let id = rig.send(&["gone@x.test"]).await;
    let found = becomes_suppressed(&rig, "gone@x.test").await;
    assert_eq!((found.reason, found.scope.as_str(), &*found.who), (SuppressionReason::UnknownUser, "*", "pillarbox"));
    let evidence = found.evidence;
    assert_eq!((evidence.message, evidence.n, evidence.source.as_deref()), (Some(id), Some(0), Some("delivery")));
    assert!(evidence.reply.unwrap().contains("User unknown") && evidence.rule.is_some());
    assert!(found.expires_ms.is_some_and(|expires| expires > rig.now_ms() + 170 * 86_400_000));
    assert_eq!(why(&rig, "closed@x.test").await, Some(SuppressionReason::MailboxClosed));
    for to in ["hint", "bare", "spam"] {
        assert_eq!(why(&rig, &format!("{to}@x.test")).await, None, "{to}");
    }
    assert_eq!(rig.store.struck(None, 10).await.unwrap(), ["hint@x.test"]);
    // Told again after a restart it is still so, and nobody asks the server any more.
    let asked = || sink.commands().iter().filter(|(_, command)| command.starts_with("RCPT")).count();
    let before = asked();
    let rig = rig.restart().await;
    let id = rig.send(&["GONE@x.test"]).await;
    rig.becomes(id, &["suppressed"]).await;
    assert_eq!(asked(), before);
}

#[tokio::test]
async fn a_delivery_forgives_what_was_counted() {
    let sink = Sink::start().await;
    sink.add(Rule::reply(Stage::Rcpt, "550 5.1.1 xyzzy").times(1));
    let rig = Setup::to(&sink).start().await;
    let id = rig.send(&["hint@x.test"]).await;
    rig.becomes(id, &["failed"]).await;
    eventually("something is counted", || async {
        (!rig.store.struck(None, 10).await.unwrap().is_empty()).then_some(())
    })
    .await;
    let id = rig.send(&["hint@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    eventually("it is forgiven", || async { rig.store.struck(None, 10).await.unwrap().is_empty().then_some(()) }).await;
}

#[tokio::test]
async fn a_complaint_suppresses_at_once_and_what_somebody_removed_stays_removed() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    let id = rig.send(&["bob@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    let report = LaterReport {
        message: id,
        n: Some(0),
        at_ms: rig.now_ms(),
        kind: ReportKind::Complained,
        severity: Severity::Hard,
        cause: None,
        why: Some("abuse".into()),
        source: "listener".into(),
        key: "arf:1".into(),
    };
    rig.store.report(report).await.unwrap();
    let found = becomes_suppressed(&rig, "bob@x.test").await;
    assert_eq!((found.reason, found.expires_ms), (SuppressionReason::Complaint, None));
    assert_eq!(found.evidence.source.as_deref(), Some("listener"));
    let list = vec![("bob@x.test".parse().unwrap(), None)];
    rig.store.unsuppress(list, "tester".into(), Some("a mistake".into()), rig.now_ms()).await.unwrap();
    // The events are read again, as after a crash in the worst moment.
    let (ground, config) = rig.stop().await;
    ground.engine.rewind(ground.dir.path(), "~suppression");
    let rig = Rig::again(ground, config).await;
    eventually("the events were read again", || async {
        (rig.store.cursor("~suppression").await.unwrap() > 0).then_some(())
    })
    .await;
    assert_eq!(why(&rig, "bob@x.test").await, None);
    let id = rig.send(&["bob@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
}

#[tokio::test]
async fn too_many_bounces_pause_the_stream_and_a_restart_forgets_nothing() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).config(|config| config.rates.minimum = 20).start().await;
    let good: Vec<String> = (0..20).map(|n| format!("r{n}@x.test")).collect();
    let good: Vec<&str> = good.iter().map(String::as_str).collect();
    let mut mail = rig.submission(&good, MAIL.as_bytes());
    mail.stream = Some("news".into());
    rig.submit(mail).await;
    rig.drained().await;
    let paused = || async {
        let documents = rig.store.documents(Kind::Stream).await.unwrap();
        let body = documents.into_iter().find(|document| document.name == "news")?.body;
        Some(body["paused"]["why"].as_str()?.to_owned())
    };
    assert_eq!(paused().await, None);
    sink.add(Rule::reply(Stage::Rcpt, "550 5.1.1 user unknown").with_text("<gone"));
    let gone: Vec<String> = (0..5).map(|n| format!("gone{n}@x.test")).collect();
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    let mut mail = rig.submission(&gone, MAIL.as_bytes());
    mail.stream = Some("news".into());
    rig.submit(mail).await;
    let why = eventually("the stream is paused", paused).await;
    assert!(why.contains("5 of 25 recipients bounced (20.00 %)"), "{why}");
    let rates = rig.relay.rates();
    let stream = |rates: &[relay::rates::Rate]| {
        rates.iter().find(|rate| rate.of == RateOf::Stream && &*rate.name == "news").cloned().unwrap()
    };
    let before = stream(&rates);
    assert_eq!((before.sent, before.bounced, before.bounces, before.complaints), (25, 5, Level::Stop, Level::Fine));
    assert_eq!(rig.relay.status().rates.len(), 3, "stream, sender and route: {:?}", rig.relay.status().rates);
    let rig = rig.restart().await;
    assert_eq!(stream(&rig.relay.rates()), before);
    // Somebody mends the list and lets the stream go on: it begins anew, and is not stopped again for what was.
    rig.put(Kind::Stream, "news", json!({})).await;
    eventually("it begins anew", || async { rig.relay.rates().iter().all(|rate| &*rate.name != "news").then_some(()) })
        .await;
}
