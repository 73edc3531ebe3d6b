//! A sender's stolen key sends spam to the real server: an alert is raised, the sender is paused, and goes on when somebody says so.
//! Wrong passwords are counted and told.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use common::Server;
use relay::incident::volume::{Came, Volume};
use serde_json::{Value, json};
use store::secret::Keyring;
use store::sqlite::{Options, SqliteStore};
use store::{RecordKind, RecordWrite, Records};
use testkit::client::Client;
use testkit::sink::Sink;

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// What a server has learned that has seen the sender write a mail every ten minutes, for two weeks.
fn learned(now_ms: i64) -> Value {
    let mut volume = Volume::default();
    for minute in (1..14 * 1_440).rev() {
        let recipients = u32::from(minute % 10 == 0);
        volume.push(now_ms - minute * 60_000, Came { recipients, new: 0 });
    }
    json!({"last_ms": now_ms, "volume": volume})
}

async fn teach(data: &Path, name: &str) {
    let store = SqliteStore::open(Options::new(data, Keyring::from_key(&[7; 32])), now_ms()).unwrap();
    let record = RecordWrite::Add {
        kind: RecordKind::Volume,
        name: name.to_owned(),
        open: true,
        at_ms: now_ms(),
        body: learned(now_ms()),
    };
    store.write_records(vec![record]).await.unwrap();
    store::Maintain::close(&*store).await.unwrap();
}

fn mail(n: usize) -> Value {
    let to: Vec<String> = (0..20).map(|m| format!("victim{n}-{m}@strangers{}.test", m % 5)).collect();
    json!({"from": "app@shop.test", "to": to, "subject": "You have won", "text": "Click here"})
}

#[tokio::test]
async fn a_stolen_key_that_sends_spam_raises_an_alert_and_pauses_its_sender() {
    let mut server = Server::start();
    let sink = Sink::start().await;
    server.route_to(sink.port());
    server.run(&["sender", "set", "app", "--pause-on-spike", "refuse"]);
    server.terminate();
    teach(&server.dir.path().join("data"), "sender/app").await;
    server.restart();

    // What the application itself has queued for later, and what the thief sends.
    let later = json!({"from": "app@shop.test", "to": ["ann@one.test"], "text": "t", "send_at": "2099-01-01T00:00:00Z",
        "deliver_by": "2099-01-02T00:00:00Z"});
    let (status, own) = server.post("/api/v1/messages", &later, None).await;
    assert_eq!(status, 202, "{own}");
    for n in 0..10 {
        let (status, answer) = server.post("/api/v1/messages", &mail(n), None).await;
        // It may be noticed before the last of them.
        assert!(status == 202 || (status == 429 && n > 3), "{n}: {answer}");
    }
    let shown = server
        .until("the pause of the sender", async || {
            let shown = server.run_json(&["sender", "show", "app"]);
            (!shown["paused"].is_null()).then_some(shown)
        })
        .await;
    assert_eq!(shown["paused"]["new_mail"], "refuse");
    let why = shown["paused"]["why"].as_str().unwrap();
    assert!(why.contains(" recipients in 5 minutes, at most "), "{why}");
    let output =
        server.until("the alert", async || Some(server.output()).filter(|text| text.contains("volume_spike"))).await;
    assert!(output.contains("Sender app sends far more than it uses to"), "{output}");
    assert!(output.contains("severity=\"critical\""), "strangers make it critical: {output}");

    // No more of it, by any door.
    let (status, answer) = server.post("/api/v1/messages", &mail(99), None).await;
    assert_eq!(status, 429, "{answer}");
    let mut client = Client::connect(server.smtp()).await;
    client.ehlo().await;
    let mut client = client.start_tls("localhost", &server.ca).await;
    client.auth_plain("app", &server.password).await.expect(235);
    client.command("MAIL FROM:<app@shop.test>").await.expect(450);
    client.quit().await;
    // What is queued is held, with the reason.
    let id = own["id"].as_str().unwrap();
    let path = format!("/api/v1/messages/{id}");
    let held = server
        .until("the hold", async || {
            let (_, seen) = server.get(&path).await;
            (seen["recipients"][0]["state"] == "held").then_some(seen)
        })
        .await;
    assert!(held["recipients"][0]["reason"].as_str().unwrap().starts_with("sender paused: "), "{held}");
    let output = server.command(&["volume", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "something stands out");
    let volumes: Value = serde_json::from_slice(&output.stdout).unwrap();
    let app = volumes["items"].as_array().unwrap().iter().find(|one| one["of"] == "sender").unwrap();
    assert_eq!(app["name"], "app");
    assert!(app["spike"]["seen"].as_u64().unwrap() > 60, "{app}");

    // It survives a restart, and ends when somebody says so.
    server.terminate();
    server.restart();
    let (status, _) = server.post("/api/v1/messages", &mail(100), None).await;
    assert_eq!(status, 429);
    server.run(&["sender", "resume", "app"]);
    server
        .until("the release", async || {
            let (_, seen) = server.get(&path).await;
            (seen["recipients"][0]["state"] != "held").then_some(())
        })
        .await;
    let one = json!({"from": "app@shop.test", "to": ["ann@one.test"], "text": "t"});
    let (status, answer) = server.post("/api/v1/messages", &one, None).await;
    assert_eq!(status, 202, "{answer}");
}

#[tokio::test]
async fn a_paused_sender_that_holds_takes_mail_and_keeps_it_until_it_goes_on() {
    let server = Server::start();
    let sink = Sink::start().await;
    server.route_to(sink.port());
    server.run(&["sender", "pause", "app", "--why", "looks odd"]);
    let one = json!({"from": "app@shop.test", "to": ["ann@one.test"], "text": "t"});
    let (status, answer) = server.post("/api/v1/messages", &one, None).await;
    assert_eq!(status, 202, "{answer}");
    let path = format!("/api/v1/messages/{}", answer["id"].as_str().unwrap());
    let (_, seen) = server.get(&path).await;
    assert_eq!(seen["recipients"][0]["state"], "held");
    assert_eq!(seen["recipients"][0]["reason"], "sender paused: looks odd");
    server.run(&["sender", "resume", "app"]);
    assert_eq!(sink.wait_for(1, common::PATIENCE).await.len(), 1);
}

#[tokio::test]
async fn who_could_not_sign_in_is_listed_with_name_and_address_and_without_the_password() {
    let server = Server::start();
    for _ in 0..2 {
        let mut client = Client::connect(server.smtp()).await;
        client.ehlo().await;
        let mut client = client.start_tls("localhost", &server.ca).await;
        client.auth_plain("app", "canary-password").await.expect(535);
        client.auth_plain("nobody", "canary-password").await.expect(535);
    }
    let text = server.run(&["failed-sign-ins", "--json"]);
    assert!(!text.contains("canary"), "{text}");
    let list: Value = serde_json::from_str(&text).unwrap();
    let of = |name: &str| list["items"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone();
    assert_eq!((of("app")["times"].as_u64(), of("app")["exists"].as_bool()), (Some(2), Some(true)));
    assert_eq!((of("nobody")["times"].as_u64(), of("nobody")["exists"].as_bool()), (Some(2), Some(false)));
    assert_eq!(of("app")["address"], "127.0.0.1");
}
