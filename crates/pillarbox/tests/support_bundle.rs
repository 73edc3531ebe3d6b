//! The support bundle: what helps is in it; what was planted everywhere, secrets, names, content, is not.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::io::Read as _;

use common::Server;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::sink::{Rule, Sink, Stage};

/// What nobody may find, in small letters.
const PLANTED: &[&str] = &[
    "hunter2-relay",
    "grete.musterfrau",
    "musterfrau",
    "quartalszahlen",
    "ganz geheimer text",
    "t0k3nt0k3nt0k3nt0k3n9a",
    "b00pathpath",
    "zz9tokenzz9",
    "aufsichtsrat",
    "whsec_",
    "pbx_",
    "pba_",
    "margarete",
    "agfub2h1bnrlcjityq",
];

fn all(archive: &[u8]) -> Vec<(String, String)> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(archive)).unwrap();
    (0..archive.len())
        .map(|n| {
            let mut file = archive.by_index(n).unwrap();
            let (name, mut text) = (file.name().unwrap().into_owned(), String::new());
            file.read_to_string(&mut text).unwrap();
            (name, text)
        })
        .collect()
}

#[tokio::test]
async fn a_bundle_holds_what_helps_and_nothing_that_is_nobodys_business() {
    let server = Server::start();
    let sink = Sink::start().await;
    sink.add(Rule::reply(
        Stage::Rcpt,
        "550 5.7.1 <Grete.Musterfrau@kunde.test>: user grete.musterfrau is over quota; see https://help.test/a?u=zz9tokenzz9 AUTH PLAIN AGFub2h1bnRlcjItYQ==",
    ));
    std::fs::write(server.dir.path().join("secret"), "hunter2-relay").unwrap();
    server.route_to(sink.port());
    server.run(&[
        "route",
        "add",
        "spare",
        "--smarthost",
        "mail.provider.test:587",
        "--username",
        "grete.musterfrau@kunde.test",
        "--password-from",
        "file:secret",
    ]);
    server.run(&["webhook", "add", "app", "https://hooks.test/services/b00pathpath?key=zz9tokenzz9"]);
    server.run(&["key", "add", "robot", "--role", "viewer"]);
    server.run(&[
        "suppression",
        "add",
        "grete.musterfrau@kunde.test",
        "--scope",
        "news",
        "--note",
        "asked by Grete.Musterfrau@kunde.test, token: T0k3nT0k3nT0k3nT0k3n9A",
    ]);
    let mut command = server.command(&["user", "add", "margarete", "--role", "operator", "--password-from", "env:NEW"]);
    assert!(command.env("NEW", "hunter2-relay").output().unwrap().status.success());
    let message = json!({
        "from": "aufsichtsrat@shop.test", "to": "Grete.Musterfrau@kunde.test",
        "subject": "Quartalszahlen", "text": "ganz geheimer Text",
    });
    let (status, answer) = server.post("/api/v1/messages", &message, None).await;
    assert_eq!(status, 202, "{answer}");
    server
        .until("the failure", async || {
            let seen = server.run_json(&["queue", "causes"]);
            seen["items"].as_array().is_some_and(|items| !items.is_empty()).then_some(())
        })
        .await;

    server.run(&[
        "support",
        "bundle",
        "--to",
        "case.zip",
        "--since",
        "2020-01-01T00:00:00Z",
        "--sample",
        "grete.musterfrau@kunde.test",
        "--proxy",
        "none",
        "--spam-folder",
        "not-there",
        "--what",
        "mail to Grete.Musterfrau@kunde.test does not arrive",
    ]);
    let files = all(&std::fs::read(server.dir.path().join("case.zip")).unwrap());
    for (name, text) in &files {
        let small = text.to_lowercase();
        for planted in PLANTED {
            assert!(
                !small.contains(planted) && !name.to_lowercase().contains(planted),
                "{planted} is in {name}:\n{text}"
            );
        }
        assert!(!text.contains(&server.password) && !text.contains(&server.key), "{name}");
    }
    let file = |name: &str| {
        let found = files.iter().find(|(other, _)| other == name);
        found
            .unwrap_or_else(|| panic!("{name} is not in {:?}", files.iter().map(|(name, _)| name).collect::<Vec<_>>()))
            .1
            .as_str()
    };
    for (name, word) in [
        ("README.txt", "support bundle"),
        ("answers.json", "not_there"),
        ("answers.json", "@kunde.test"),
        ("versions.json", env!("CARGO_PKG_VERSION")),
        ("routes.json", "mail.provider.test"),
        ("failures.json", "over quota"),
        ("settings.json", "retry.expiry"),
        ("webhooks.json", "hooks.test"),
        ("changes.json", "route/spare"),
    ] {
        assert!(file(name).contains(word), "{word} in {name}: {}", file(name));
    }
    let refused = |text: &str| serde_json::from_str::<Value>(text).is_ok_and(|answer| answer.get("problem").is_some());
    let problems: Vec<&str> = files.iter().filter(|(_, text)| refused(text)).map(|(name, _)| &**name).collect();
    assert_eq!(problems, ["tls-reports.json"], "only what is not set up cannot be asked");

    let again = server.command(&["support", "bundle", "--to", "case.zip"]).output().unwrap();
    assert_eq!(again.status.code(), Some(2), "a file is never replaced");
    let key = server.run_json(&["key", "add", "reader", "--role", "operator"]);
    let response = server.request(Method::GET, "/api/v1/support-bundle").bearer_auth(key["key"].as_str().unwrap());
    assert_eq!(response.send().await.unwrap().status(), 403);
}
