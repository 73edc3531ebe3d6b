//! What waits, until when, and what receivers will think of it: in the status, on the page of a route, in lists and the API.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::Server;
use serde_json::{Value, json};
use testkit::Zones;
use testkit::sink::Sink;

/// A server whose mail goes by a route `out` that takes three messages an hour, and twelve messages in it.
async fn slow_route() -> (Server, Sink) {
    let server = Server::start();
    let sink = Sink::start().await;
    server.route_to(sink.port());
    server.run(&["sender", "set", "app", "--admin"]);
    let names = server.run_json(&["route", "ls"]);
    let route = names["items"].as_array().unwrap().iter().find(|one| one["kind"] == "smarthost").unwrap();
    let route = route["name"].as_str().unwrap();
    server.run(&["route", "set", route, "--per-hour", "3", "--recipients-per-day", "8", "--reserve", "0"]);
    for n in 0..12 {
        let mail = json!({ "from": "app@shop.test", "to": [format!("r{n}@one.test")], "subject": "x", "text": "y" });
        let (status, answer) = server.post("/api/v1/messages", &mail, None).await;
        assert_eq!(status, 202, "{answer}");
    }
    server
        .until("the first three", async || {
            let status = server.get("/api/v1/status").await.1;
            (status["forecasts"][0]["waiting"] == 9).then_some(())
        })
        .await;
    (server, sink)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_said_when_a_route_drains_and_what_will_not_fit_today() {
    let (server, sink) = slow_route().await;
    assert_eq!(sink.count(), 3);
    let status = server.get("/api/v1/status").await.1;
    let forecast = status["forecasts"][0].clone();
    assert_eq!((forecast["waiting"].as_u64(), forecast["held"].as_u64()), (Some(9), Some(0)), "{forecast:#}");
    // Eight go today, three an hour; the ninth to the twelfth are behind the recipients of 24 hours.
    let seconds = forecast["drains_in_s"].as_i64().unwrap();
    assert!((86_400 - 60..86_400 + 3 * 3_700).contains(&seconds), "{seconds}");
    assert_eq!(forecast["limited_by"], json!({ "kind": "window", "limit": 8, "unit": "recipients", "per": "day" }));
    let not_today = forecast["not_today"].as_u64().unwrap();
    assert!((4..=9).contains(&not_today), "{not_today}");

    let route = forecast["route"].as_str().unwrap();
    let words = format!("{not_today} of 9 will not fit today: ");
    for args in [
        &["status"][..],
        &["route", "show", route],
        &["route", "ls"],
        &["queue", "ls"],
        &["queue", "ls", "--route", route],
    ] {
        let shown = server.run(args);
        for part in ["drains on ", "limited by 8 recipients a day", &words] {
            assert!(shown.contains(part), "{args:?}: {shown}");
        }
    }
    assert!(
        !server.run(&["queue", "ls", "--domain", "one.test"]).contains("drains"),
        "a part of the mail has no forecast"
    );
    assert_eq!(server.run_json(&["queue", "ls"])["forecasts"][0]["waiting"], 9);
    let listed = server.run_json(&["route", "ls"]);
    let listed = listed["items"].as_array().unwrap().iter().find(|one| one["name"] == route).unwrap();
    assert_eq!(listed["forecast"]["not_today"], not_today);

    // Mail that is held waits for somebody, not for a limit.
    server.run(&["queue", "hold", "--route", route]);
    let held = server.get("/api/v1/status").await.1["forecasts"][0].clone();
    assert_eq!((held["waiting"].as_u64(), held["held"].as_u64()), (Some(0), Some(9)), "{held:#}");
    assert!(server.run(&["status"]).contains("9 held until somebody releases them"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_is_one_readable_page() {
    let (server, _sink) = slow_route().await;
    let name = server.get("/api/v1/status").await.1["forecasts"][0]["route"].as_str().unwrap().to_owned();
    let shown = server.run(&["route", "show", &name]);
    for part in [
        "kind",
        "smarthost",
        "Now",
        "queue",
        "9 waiting",
        "Used of its limits",
        "3 of 3 messages an hour, room again ",
        "3 of 8 recipients a day",
        "Destinations",
        "9 in memory",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let now = &server.run_json(&["route", "show", &name])["now"];
    assert_eq!((now["running"].as_bool(), now["forecast"]["waiting"].as_u64()), (Some(true), Some(9)), "{now:#}");
    let windows: Vec<&str> =
        now["windows"].as_array().unwrap().iter().map(|one| one["per"].as_str().unwrap()).collect();
    assert_eq!(windows, ["hour", "day"]);
    assert_eq!(server.get("/api/v1/routes/nowhere/status").await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_that_receivers_will_not_believe_is_told_before_its_first_message_and_at_it() {
    let zones = Zones::start().await;
    for domain in ["shop.test", "new.test"] {
        zones.txt(domain, "v=spf1 -all").txt(&format!("_dmarc.{domain}"), "v=DMARC1; p=reject").loopback(domain);
    }
    let server = Server::with(&format!("[dns]\nservers = [\"{}\"]\n", zones.address()));
    server.run(&["sender", "set", "app", "--admin", "--allow-from", "shop.test", "--allow-from", "*"]);
    server.run(&["route", "add", "mail", "--smarthost", "smtp.sendgrid.net:587", "--default"]);
    let told = async |domain: &str| {
        let begin = format!("Mail from {domain} by the route mail: ");
        server
            .until("the warning", async || {
                let status = server.get("/api/v1/status").await.1;
                let mut notes = status["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap().to_owned());
                notes.rfind(|note| note.starts_with(&begin))
            })
            .await
    };
    let note = told("shop.test").await;
    assert!(note.contains("does not pass DMARC for shop.test"), "{note}");
    assert!(note.contains("shop.test. IN TXT \"v=spf1 include:sendgrid.net -all\""), "the fix is there: {note}");
    assert!(server.run(&["route", "show", "mail"]).contains("does not pass DMARC for shop.test"));
    assert!(server.run(&["status"]).contains("does not pass DMARC for shop.test"));
    assert_eq!(server.output().matches("does not pass DMARC for shop.test").count(), 1, "the log says it once");

    // Whoever may write as anybody is looked at with the first message.
    let status = server.get("/api/v1/status").await.1;
    assert!(!status["notes"].to_string().contains("new.test"), "{status:#}");
    let mail = json!({ "from": "Ann <ann@new.test>", "to": ["r@one.test"], "subject": "x", "text": "y" });
    assert_eq!(server.post("/api/v1/messages", &mail, None).await.0, 202);
    assert!(told("new.test").await.contains("p=reject"));

    // A key of ours that signs makes it pass by every route: the warning goes.
    let silent = |status: &Value| !status["notes"].to_string().contains("DMARC for new.test");
    server.run(&["dkim", "add", "new.test"]);
    server.run(&["dkim", "activate", "new.test", "--force"]);
    server.until("the end of the warning", async || silent(&server.get("/api/v1/status").await.1).then_some(())).await;
}
