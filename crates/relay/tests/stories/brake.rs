//! The brake of a route's sign-in: a wrong password is tried once by one connection, not by all for every message.

use secrecy::SecretString;
use serde_json::json;
use store::settings::{Kind, SecretChange};
use store::{Operation, Selector};
use testkit::{Rule, Sink, SinkOptions, Stage};

use crate::rig::{MAIL, Rig, Setup, eventually, smarthost, with};

const MESSAGES: usize = 1_000;

async fn guarded() -> Sink {
    Sink::with(SinkOptions { users: vec![("relay".into(), "right".into())], forget: true, ..SinkOptions::default() })
        .await
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

async fn queue_many(rig: &Rig) {
    for n in 0..MESSAGES {
        let to = format!("r{n}@x{}.test", n % 7);
        rig.submit(rig.submission(&[&to], MAIL.as_bytes())).await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_tried_at_most_3_times_for_1000_queued_messages() {
    let sink = guarded().await;
    let rig = Setup::to(&sink).secret_route(route(&sink), "wrong").start().await;
    queue_many(&rig).await;
    eventually("all mail back in the store", || async {
        let everything = Selector { all: true, ..Selector::default() };
        let views = rig.store.recipients(everything, None, 2_000).await.expect("the queue");
        let told = views.iter().filter(|view| view.attempts == 1 && view.failure().is_some()).count();
        (told == MESSAGES && rig.relay.status().window_recipients == 0).then_some(())
    })
    .await;
    assert_eq!(tries(&sink), 1);
    let brakes = rig.relay.status().brakes;
    assert_eq!((brakes.len(), brakes[0].route.as_str(), brakes[0].rejections), (1, "out", 1));

    // An operator's retry is one probe more; the mail that it made due waits on.
    rig.relay.operate(Selector { all: true, ..Selector::default() }, Operation::Retry, "t".into()).await.unwrap();
    eventually("a second probe", || async { (rig.relay.status().brakes[0].rejections == 2).then_some(()) }).await;
    rig.idle().await;
    assert_eq!(tries(&sink), 2);

    // The right password: nothing waits for the end of the pause.
    set_password(&rig, &sink, "right").await;
    rig.drained().await;
    assert_eq!(sink.count(), MESSAGES as u64);
    assert!(rig.relay.status().brakes.is_empty());
}

#[tokio::test]
async fn a_password_that_is_changed_at_the_server_stops_all_connections_after_at_most_3_tries() {
    let sink = guarded().await;
    let rig =
        Setup::to(&sink).secret_route(with(route(&sink), json!({"messages_per_connection": 5})), "right").start().await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    sink.add(Rule::reply(Stage::Auth, "535 5.7.8 the password was changed"));
    let before = tries(&sink);
    queue_many(&rig).await;
    eventually("the brake", || async { (!rig.relay.status().brakes.is_empty()).then_some(()) }).await;
    rig.idle().await;
    let more = tries(&sink) - before;
    assert!((1..=3).contains(&more), "{more}");
}

#[tokio::test]
async fn a_server_that_cannot_check_passwords_now_is_no_reason_to_brake() {
    let sink = guarded().await;
    sink.add(Rule::reply(Stage::Auth, "454 4.7.0 try again").times(1));
    let rig = Setup::to(&sink).secret_route(with(route(&sink), json!({"retry_s": [1]})), "right").start().await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    assert!(rig.relay.status().brakes.is_empty());
}

#[tokio::test]
async fn after_a_rotation_the_password_before_still_carries_mail_while_the_new_one_does_not_work() {
    use relay::secrets::{Previous, Secrets};
    let sink = guarded().await;
    let rig = Setup::to(&sink).secret_route(route(&sink), "right").start().await;
    let before = Secrets::of_password("right".into());
    let rotated = Secrets {
        previous: Some(Box::new(Previous { secrets: before, since_ms: rig.now_ms() })),
        ..Secrets::of_password("not known to all servers yet".into())
    };
    let stored = SecretChange::Set(rotated.store().expect("secrets"));
    rig.store.put_document(Kind::Route, "out".into(), route(&sink), stored, rig.now_ms()).await.expect("a document");
    rig.relay.reload().await.expect("settings");
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    assert_eq!(tries(&sink), 2);
    assert!(rig.relay.status().brakes.is_empty());
}

#[tokio::test]
async fn a_rotation_that_has_worked_for_an_hour_leaves_nothing_of_the_password_before() {
    use relay::secrets::{Previous, Secrets};
    let sink = guarded().await;
    let long_ago = Previous { secrets: Secrets::of_password("old".into()), since_ms: 1 };
    let rotated = Secrets { previous: Some(Box::new(long_ago)), ..Secrets::of_password("right".into()) };
    let stored = rotated.store().expect("secrets");
    let rig = Setup::to(&sink).secret_route(route(&sink), secrecy::ExposeSecret::expose_secret(&stored)).start().await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    eventually("only the new password", || async {
        let documents = rig.store.documents(Kind::Route).await.expect("routes");
        let secret = documents[0].secret.clone().expect("a secret");
        (secrecy::ExposeSecret::expose_secret(&secret) == "right").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_proof_signs_in_and_sends_nothing() {
    let sink = guarded().await;
    let rig = Setup::to(&sink).secret_route(route(&sink), "right").start().await;
    let mut tried = relay::route::Route::clone(&rig.relay.routes()[0]);
    rig.relay.prove(&tried, None).await.expect("the right password");
    tried.secrets = relay::secrets::Secrets::of_password("wrong".into());
    let error = rig.relay.prove(&tried, None).await.expect_err("a wrong password");
    assert_eq!(error.failure.reply().map(|reply| reply.code), Some(535));
    let commands = sink.commands();
    assert!(commands.iter().all(|(_, line)| !line.starts_with("MAIL")), "{commands:?}");
    assert!(rig.relay.status().brakes.is_empty());
}
