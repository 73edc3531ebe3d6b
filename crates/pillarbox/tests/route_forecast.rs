//! What waits, until when, and what receivers will think of it: in the status, on the page of a route, in lists and the API.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::Server;
use serde_json::{Value, json};
use testkit::Zones;
use testkit::sink::Sink;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

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
                let mut notes =
                    status["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap().to_owned());
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

/// A server that says TLS may begin, and then knows nothing of it; gives its port.
async fn without_tls() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (read, mut write) = socket.split();
                let mut lines = BufReader::new(read).lines();
                write.write_all(b"220 mx.test\r\n").await.unwrap();
                let mut content = false;
                while let Ok(Some(line)) = lines.next_line().await {
                    let answer: &[u8] = match line.split(' ').next().unwrap_or_default() {
                        "." => b"250 2.0.0 taken\r\n",
                        _ if content => continue,
                        "EHLO" => b"250-mx.test\r\n250 STARTTLS\r\n",
                        "STARTTLS" => b"220 2.0.0 go ahead\r\n",
                        "DATA" => b"354 go on\r\n",
                        _ => b"250 2.0.0 fine\r\n",
                    };
                    content = answer.starts_with(b"354");
                    if write.write_all(answer).await.is_err() || line == "STARTTLS" {
                        // The handshake comes, and is no line.
                        let _ = lines.get_mut().fill_buf().await;
                        let _ = write.write_all(b"500 5.5.1 what is that\r\n").await;
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_addresses_and_names_and_servers_whose_tls_is_broken_are_shown() {
    let zones = Zones::start().await;
    zones.loopback("one.relay.test").mx("x.test", 10, "mx.test").loopback("mx.test");
    let server = Server::with(&format!("[dns]\nservers = [\"{}\"]\n", zones.address()));
    server.run(&["sender", "set", "app", "--admin"]);
    let port = without_tls().await.to_string();
    let pool = ["--source", "127.0.0.1=one.relay.test", "--source", "192.0.2.9=two.relay.test"];
    let add = ["route", "add", "pool", "--mx", "--port", &port, "--allow-private", "--default"];
    server.run(&[&add[..], &pool].concat());
    let mail = json!({ "from": "app@shop.test", "to": ["r@x.test"], "subject": "x", "text": "y" });
    assert_eq!(server.post("/api/v1/messages", &mail, None).await.0, 202);
    let state = async |name: &str| server.get(&format!("/api/v1/routes/{name}/status")).await.1;
    let warned = async |name: &'static str, count: usize| {
        server
            .until("the warnings", async || {
                (state(name).await["warnings"].as_array().unwrap().len() >= count).then_some(())
            })
            .await;
        server.run(&["route", "show", name])
    };
    server.until("the handshakes", async || state("pool").await["tls"][0].is_object().then_some(())).await;
    let shown = warned("pool", 2).await;
    for part in [
        "127.0.0.1 says one.relay.test in EHLO",
        "192.0.2.9 says two.relay.test in EHLO: not one of this machine's addresses",
        "The source address 192.0.2.9 is not one of this machine's.",
        "two.relay.test, said in EHLO, has no address in the DNS",
        "mx.test [127.0.0.1]: only clear text works, until 2",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("one.relay.test, said in EHLO"), "{shown}");
    assert_eq!(state("pool").await["tls"][0]["host"], "mx.test");

    // A route without addresses of its own has the name of the server, which nobody knows here.
    server.run(&["route", "add", "plain", "--mx"]);
    let shown = warned("plain", 1).await;
    assert!(shown.contains("relay.test, said in EHLO, has no address in the DNS"), "{shown}");
    assert!(!shown.contains("192.0.2.9"), "{shown}");
    assert!(server.run(&["status"]).contains("relay.test, said in EHLO, has no address"), "the status has them too");
}
