//! The life of a brake: probes, restarts and crashes, releases that fail again, and a keeper of incidents that says nothing.

use std::time::Duration;

use relay::brake::{BrakeNews, ProbeOutcome, Ramp};
use store::{Operation, Selector, State};
use testkit::{Rule, Sink, Stage};

use crate::brakes::{FAST, all_held, delivered_once, hear, probe_when_free, queue_many, scope};
use crate::rig::{Setup, eventually};

#[tokio::test]
async fn only_probes_reach_the_server_and_pause_longer_and_longer() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).time_stands().start().await;
    sink.add(Rule::reply(Stage::Connect, "421 4.3.2 closed"));
    rig.relay.brake(scope("route:out"), 5, "closed".into()).await.expect("a brake");
    queue_many(&rig, 20).await;
    all_held(&rig, 20).await;
    let mut news = rig.relay.brake_news();
    let mut pauses = Vec::new();
    let mut next = rig.relay.brakes()[0].until_ms;
    for _ in 0..4 {
        let now = rig.now_ms();
        pauses.push((next - now) / 1_000);
        rig.pass(Duration::from_millis((next - now) as u64));
        next = hear(&mut news, |one| match one {
            BrakeNews::ProbeFailed { next_ms, .. } => Some(next_ms),
            _ => None,
        })
        .await;
    }
    assert_eq!(pauses, [10, 20, 40, 80]);
    assert_eq!((sink.connections(), sink.count()), (4, 0));
    sink.behave();
    assert_eq!(probe_when_free(&rig, "route:out").await, ProbeOutcome::Succeeded);
    assert_eq!(sink.count(), 0);

    // Nobody says that the mail may go: it goes by itself, once it has been well for a while.
    rig.pass(Duration::from_secs(31));
    hear(&mut news, |one| matches!(one, BrakeNews::ProbeSucceeded { .. }).then_some(())).await;
    eventually("all delivered", || async {
        rig.pass(Duration::from_millis(500));
        (sink.count() == 20).then_some(())
    })
    .await;
    assert_eq!(delivered_once(&sink), 20);
}

#[tokio::test]
async fn a_brake_outlives_a_restart_and_a_crash_in_the_middle_of_a_release() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    rig.relay.brake(scope("route:out"), 8, "x".into()).await.expect("a brake");
    queue_many(&rig, 60).await;
    all_held(&rig, 60).await;
    let rig = rig.restart().await;
    let brakes = rig.relay.brakes();
    assert_eq!((brakes.len(), brakes[0].scope.as_str()), (1, "route:out"));
    let late = rig.send(&["late@x.test"]).await;
    rig.becomes(late, &["held"]).await;
    assert_eq!(sink.count(), 0);

    // Slow enough to be cut in the middle.
    rig.relay.unbrake(8, Ramp { first_per_s: 10, double_ms: 2_000 }).await.expect("unbrake");
    eventually("some delivered", || async { (sink.count() >= 5).then_some(()) }).await;
    let rig = rig.crash().await;
    eventually("all delivered", || async {
        (rig.relay.status().window_recipients == 0 && sink.count() >= 61).then_some(())
    })
    .await;
    rig.drained().await;
    let mut all: Vec<String> = sink.received().iter().flat_map(|mail| mail.to.clone()).collect();
    all.sort();
    let arrived = all.len();
    all.dedup();
    // A crash repeats one transaction a connection at most.
    assert!(all.len() == 61 && arrived <= 61 + 2, "{arrived}");
}

#[tokio::test]
async fn mail_that_is_held_for_an_unknown_incident_is_found_and_goes() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).time_stands().start().await;
    let id = {
        let mut later = rig.submission(&["a@x.test"], crate::rig::MAIL.as_bytes());
        later.send_at_ms = Some(rig.now_ms() + 1_000);
        rig.submit(later).await
    };
    let of = Selector { message: Some(id), ..Selector::default() };
    let hold = Operation::Hold("incident i-99: lost".into());
    rig.store.operate(of, hold, String::new(), rig.now_ms()).await.expect("held");
    rig.pass(Duration::from_secs(10));
    rig.becomes(id, &["held"]).await;
    eventually("delivered", || async {
        rig.pass(Duration::from_secs(1));
        (sink.count() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_release_that_meets_the_same_failure_holds_again_without_a_second_incident() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    rig.relay.brake(scope("route:out"), 6, "x".into()).await.expect("a brake");
    queue_many(&rig, 50).await;
    all_held(&rig, 50).await;
    sink.add(Rule::reply(Stage::Connect, "421 4.3.2 closed again"));
    let mut news = rig.relay.brake_news();
    rig.relay.unbrake(6, Ramp { first_per_s: 5, double_ms: 60_000 }).await.expect("unbrake");
    let (found, incident) = hear(&mut news, |one| match one {
        BrakeNews::Braked { scope, incident, .. } => Some((scope, incident)),
        _ => None,
    })
    .await;
    assert_eq!((found, incident), (scope("route:out"), Some(6)));
    all_held(&rig, 50).await;
    assert!(sink.connections() < 10, "{}", sink.connections());
    sink.behave();
    assert_eq!(probe_when_free(&rig, "route:out").await, ProbeOutcome::Succeeded);
    rig.relay.unbrake(6, FAST).await.expect("unbrake");
    rig.drained().await;
    assert_eq!(delivered_once(&sink), 50);
}

#[tokio::test]
async fn a_release_goes_slowly_at_first_also_for_mail_that_comes_in_meanwhile() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).time_stands().start().await;
    rig.relay.brake(scope("route:out"), 2, "x".into()).await.expect("a brake");
    queue_many(&rig, 30).await;
    all_held(&rig, 30).await;
    rig.relay.unbrake(2, Ramp { first_per_s: 10, double_ms: 10_000 }).await.expect("unbrake");
    eventually("the first", || async { (sink.count() == 1).then_some(()) }).await;
    queue_many(&rig, 30).await;
    rig.pass(Duration::from_millis(1_000));
    // All of them are out of the door by now, and about ten have left.
    eventually("ten", || async { (sink.count() >= 2).then_some(()) }).await;
    assert!(sink.count() <= 14, "{}", sink.count());
    eventually("all", || async {
        rig.pass(Duration::from_millis(400));
        (sink.count() == 60).then_some(())
    })
    .await;
    rig.drained().await;
}

#[tokio::test]
async fn mail_in_hand_is_held_when_it_comes_back() {
    let sink = Sink::start().await;
    let rig = Setup::to(&sink).start().await;
    sink.add(Rule::at(Stage::Mail, testkit::Act::Hang).times(1));
    sink.add(Rule::reply(Stage::Rcpt, "451 4.3.0 not now"));
    let id = rig.send(&["a@x.test"]).await;
    eventually("in hand", || async { (sink.hanging() == 1).then_some(()) }).await;
    rig.relay.brake(scope("route:out"), 1, "x".into()).await.expect("a brake");
    let other = rig.send(&["b@x.test"]).await;
    rig.becomes(other, &["held"]).await;
    let counted = async || (rig.relay.brakes()[0].waiting == 1).then_some(());
    eventually("the queue follows", counted).await;
    // What was under way comes to its end.
    assert_eq!(rig.recipients(id).await[0].state, State::Leased);
    sink.release();
    let views = rig.becomes(id, &["held"]).await;
    assert_eq!((views[0].why.as_deref(), views[0].attempts), (Some("incident i-1: x"), 1));
}
