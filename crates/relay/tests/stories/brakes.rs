//! A credential that a provider no longer takes, told from the first rejection to the last message: the keeper of incidents
//! is played by the test.

use std::collections::HashSet;
use std::time::Duration;

use relay::brake::{BrakeNews, BrakeScope, ProbeOutcome, Ramp};
use secrecy::SecretString;
use serde_json::json;
use store::settings::{Kind, SecretChange};
use store::{Operation, Selector, State};
use testkit::{Rule, Sink, SinkOptions, Stage};
use tokio::sync::broadcast::Receiver;

use crate::rig::{MAIL, PATIENCE, Rig, Setup, eventually, smarthost, with};

const MESSAGES: usize = 300;
/// Fast, so that a story does not take long.
pub const FAST: Ramp = Ramp { first_per_s: 200, double_ms: 200 };

pub fn scope(text: &str) -> BrakeScope {
    text.parse().expect("a scope")
}

/// The first of the news that is looked for.
pub async fn hear<T>(news: &mut Receiver<BrakeNews>, mut wanted: impl FnMut(BrakeNews) -> Option<T>) -> T {
    let look = async {
        loop {
            if let Some(found) = wanted(news.recv().await.expect("news")) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("news in time")
}

/// Waits until nothing waits or is in hand: all that is open is held, and so many are.
pub async fn all_held(rig: &Rig, count: usize) {
    eventually("all mail held", || async {
        let open = Selector { all: true, ..Selector::default() };
        let views = rig.store.recipients(open, None, 1_000).await.expect("the queue");
        let held = views.iter().filter(|view| view.state == State::Held).count();
        (held == count && views.len() == count).then_some(())
    })
    .await;
}

pub async fn queue_many(rig: &Rig, count: usize) {
    for n in 0..count {
        let to = format!("r{n}@x{}.test", n % 7);
        rig.submit(rig.submission(&[&to], MAIL.as_bytes())).await;
    }
}

/// Each recipient once.
pub fn delivered_once(sink: &Sink) -> usize {
    let all: Vec<String> = sink.received().iter().flat_map(|mail| mail.to.clone()).collect();
    let each: HashSet<&String> = all.iter().collect();
    assert_eq!(each.len(), all.len(), "something arrived twice");
    all.len()
}

async fn guarded() -> Sink {
    Sink::with(SinkOptions { users: vec![("relay".into(), "right".into())], ..SinkOptions::default() }).await
}

fn route(sink: &Sink) -> serde_json::Value {
    with(smarthost(sink), json!({"username": "relay", "auth_without_tls": true}))
}

fn tries(sink: &Sink) -> usize {
    sink.commands().iter().filter(|(_, line)| line.starts_with("AUTH")).count()
}

async fn set_password(rig: &Rig, sink: &Sink, password: &str) {
    let secret = SecretChange::Set(SecretString::from(password));
    rig.store.put_document(Kind::Route, "out".into(), route(sink), secret, rig.now_ms()).await.expect("a document");
}

#[tokio::test]
async fn a_rejected_credential_holds_all_mail_with_one_try_and_a_new_password_lets_each_go_once() {
    let sink = guarded().await;
    let rig = Setup::to(&sink).secret_route(route(&sink), "wrong").start().await;
    let mut news = rig.relay.brake_news();
    queue_many(&rig, MESSAGES).await;
    let (found, code) = hear(&mut news, |one| match one {
        BrakeNews::Braked { scope, incident: None, cause, .. } => {
            Some((scope, cause.failure.reply().map(|reply| reply.code)))
        }
        _ => None,
    })
    .await;
    assert_eq!((found, code), (scope("credential:out"), Some(535)));
    rig.relay.brake(scope("credential:out"), 17, "the password is rejected".into()).await.expect("a brake");
    all_held(&rig, MESSAGES).await;
    let at_the_door = rig.send(&["late@x.test"]).await;
    let views = rig.becomes(at_the_door, &["held"]).await;
    assert_eq!(views[0].why.as_deref(), Some("incident i-17: the password is rejected"));
    assert_eq!(tries(&sink), 1);
    eventually("a status that counts", || async {
        let brakes = rig.relay.status().brakes;
        let one = brakes.first()?;
        assert_eq!((brakes.len(), one.scope.as_str(), one.incident.as_deref()), (1, "credential:out", Some("i-17")));
        assert!(one.until_ms > rig.now_ms() && one.released.is_none());
        (one.waiting == MESSAGES as u64 + 1).then_some(())
    })
    .await;

    // Another wrong password is one try more, and the mail stays.
    set_password(&rig, &sink, "wrong too").await;
    hear(&mut news, |one| matches!(one, BrakeNews::SettingChanged { incident: 17, .. }).then_some(())).await;
    hear(&mut news, |one| matches!(one, BrakeNews::ProbeFailed { incident: 17, .. }).then_some(())).await;
    assert_eq!((tries(&sink), sink.count()), (2, 0));

    set_password(&rig, &sink, "right").await;
    hear(&mut news, |one| matches!(one, BrakeNews::ProbeSucceeded { incident: Some(17), .. }).then_some(())).await;
    assert_eq!((tries(&sink), sink.count()), (3, 0), "a probe carries no mail, and mail waits for a word");
    let unbraked = rig.relay.unbrake(17, FAST).await.expect("unbrake").expect("a brake");
    assert_eq!(unbraked.waiting, MESSAGES as u64 + 1);
    let recipients = hear(&mut news, |one| match one {
        BrakeNews::Released { incident: 17, recipients, .. } => Some(recipients),
        _ => None,
    })
    .await;
    assert_eq!(recipients, MESSAGES as u64 + 1);
    rig.drained().await;
    assert_eq!(delivered_once(&sink), MESSAGES + 1);
    assert!(rig.relay.status().brakes.is_empty());
}

#[tokio::test]
async fn ten_thousand_queued_messages_cost_at_most_3_sign_ins() {
    const QUEUED: usize = 10_000;
    let sink = guarded().await;
    let rig = Setup::to(&sink).secret_route(route(&sink), "wrong").start().await;
    let mut news = rig.relay.brake_news();
    let submit = async |n: usize| {
        let mut mails = tokio::task::JoinSet::new();
        for n in n..n + 100 {
            let to = format!("r{n}@x{}.test", n % 7);
            let (door, mail) = (rig.relay.door(), rig.submission(&[&to], MAIL.as_bytes()));
            mails.spawn(async move { door.submit(mail).await.expect("accepted").id });
        }
        mails.join_all().await;
    };
    submit(0).await;
    hear(&mut news, |one| matches!(one, BrakeNews::Braked { .. }).then_some(())).await;
    rig.relay.brake(scope("credential:out"), 17, "the password is rejected".into()).await.expect("a brake");
    for n in (100..QUEUED).step_by(100) {
        submit(n).await;
    }
    eventually("all mail held", || async {
        let held = rig.store.count(Selector::held_for("incident i-17:"), u32::MAX).await.expect("a count");
        (held == QUEUED as u64 && rig.relay.status().window_recipients == 0).then_some(())
    })
    .await;
    for _ in 0..2 {
        let tried = probe_when_free(&rig, "credential:out").await;
        assert!(matches!(tried, ProbeOutcome::Failed { .. }), "{tried:?}");
    }
    assert_eq!((tries(&sink), sink.count()), (3, 0));
}

#[tokio::test]
async fn what_a_person_holds_stays_held_and_what_a_person_releases_waits_on() {
    let sink = guarded().await;
    let rig = Setup::to(&sink).secret_route(route(&sink), "right").start().await;
    rig.relay.brake(scope("credential:out"), 4, "x".into()).await.expect("a brake");
    let [mine, copied, released] =
        [rig.send(&["a@x.test"]).await, rig.send(&["b@x.test"]).await, rig.send(&["c@x.test"]).await];
    for id in [mine, copied, released] {
        rig.becomes(id, &["held"]).await;
        assert_eq!(rig.operate(id, Operation::Release).await, 1);
        eventually("held again", || async {
            let view = rig.recipients(id).await.remove(0);
            (view.state == State::Held).then_some(())
        })
        .await;
    }
    // From hand to hand: released and held by a person, before the brake looks at it.
    for (id, why) in [(mine, "wait for the lawyers"), (copied, "incident i-4: x")] {
        let selector = Selector { message: Some(id), ..Selector::default() };
        rig.store.operate(selector, Operation::Release, "t".into(), rig.now_ms()).await.expect("released");
        assert_eq!(rig.operate(id, Operation::Hold(why.into())).await, 1);
    }
    rig.relay.unbrake(4, FAST).await.expect("unbrake");
    rig.becomes(released, &["delivered"]).await;
    rig.idle().await;
    let why = |views: Vec<store::RecipientView>| views[0].why.clone();
    assert_eq!(why(rig.becomes(mine, &["held"]).await).as_deref(), Some("wait for the lawyers"));
    assert_eq!(why(rig.becomes(copied, &["held"]).await).as_deref(), Some("held by hand: incident i-4: x"));
    assert_eq!(delivered_once(&sink), 1);
}

#[tokio::test]
async fn mail_does_not_expire_while_it_is_held_nor_when_it_is_let_go() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).time_stands().start().await;
    sink.add(Rule::reply(Stage::Ehlo, "554 5.7.1 not you"));
    rig.relay.brake(scope("route:out"), 3, "x".into()).await.expect("a brake");
    let id = rig.send(&["a@x.test"]).await;
    rig.becomes(id, &["held"]).await;
    for _ in 0..10 {
        rig.pass(Duration::from_secs(86_400));
        rig.idle().await;
    }
    rig.becomes(id, &["held"]).await;
    sink.behave();
    assert_eq!(probe_when_free(&rig, "route:out").await, ProbeOutcome::Succeeded);
    rig.relay.unbrake(3, FAST).await.expect("unbrake");
    rig.becomes(id, &["delivered"]).await;
}

/// Probes as soon as no other probe is under way.
pub async fn probe_when_free(rig: &Rig, text: &str) -> ProbeOutcome {
    let target = scope(text);
    eventually("a probe", || async {
        let outcome = rig.relay.probe(&target).await;
        (outcome != ProbeOutcome::NotNow).then_some(outcome)
    })
    .await
}
