//! Routes to known providers as a user makes them: what is missing is named, what does not work is not saved.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::process::{Output, Stdio};

use common::Server;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::Zones;
use testkit::sink::{Rule, Sink, SinkOptions, Stage, Tls};

const KEY: &str = "SG.aaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const OTHER_KEY: &str = "SG.cccccccccccccccccccccc.ddddddddddddddddddddddddddddddddddddddddddd";
const SENDGRID: &str = "smtp.sendgrid.net";

/// A server for which a host of a provider is a sink on this machine.
struct Place {
    server: Server,
    sink: Sink,
    _zones: Zones,
}

impl Place {
    async fn new(host: &str, users: &[(&str, &str)]) -> Self {
        let zones = Zones::start().await;
        zones.loopback(host);
        let server = Server::with(&format!("[dns]\nservers = [\"{}\"]\n", zones.address()));
        server.ca.write_pem(server.dir.path());
        let users = users.iter().map(|(user, password)| ((*user).to_owned(), (*password).to_owned())).collect();
        let tls = Tls::StartTls(server.ca.issue(&[host]));
        let sink = Sink::with(SinkOptions { tls, users, ..SinkOptions::default() }).await;
        Self { server, sink, _zones: zones }
    }

    fn secret(&self, name: &str, text: &str) {
        std::fs::write(self.server.dir.path().join(name), format!("{text}\n")).unwrap();
    }

    fn try_run(&self, args: &[&str]) -> Output {
        self.server.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// `route add NAME PROVIDER` with the sink's port and authority.
    fn add(&self, name: &str, provider: &str, more: &[&str]) -> Output {
        let port = self.sink.port().to_string();
        self.try_run(&[&["route", "add", name, provider, "--port", &port, "--ca-file", "ca.pem"], more].concat())
    }

    fn route(&self, name: &str) -> Option<Value> {
        let all = self.server.run_json(&["route", "ls"]);
        all["items"].as_array().unwrap().iter().find(|route| route["name"] == name).cloned()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_key_is_saved_with_what_the_preset_knows() {
    let place = Place::new(SENDGRID, &[("apikey", KEY)]).await;
    place.secret("key", KEY);
    let output =
        place.add("mail", "sendgrid", &["--password-from", "file:key", "--from", "app@shop.test", "--default"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output), errors(&output));
    let route = place.route("mail").unwrap();
    let is = [&route["host"], &route["tls"], &route["username"], &route["recipients_per_transaction"]];
    assert_eq!(is, [&json!(SENDGRID), &json!("required"), &json!("apikey"), &json!(1000)], "{route:#}");
    assert!(route["has_password"].as_bool().unwrap());
    assert_eq!(place.sink.count(), 0, "a test sends no message");
    let all = text(&output) + &errors(&output);
    assert!(!all.contains("SG."), "{all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_cannot_reach_production() {
    let place = Place::new(SENDGRID, &[("apikey", KEY)]).await;
    place.secret("wrong", OTHER_KEY);
    let from_file = ["--password-from", "file:wrong"];
    let output = place.add("mail", "sendgrid", &from_file);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output).contains("User name or password is wrong"), "{}", text(&output));
    assert!(errors(&output).contains("nothing was saved"), "{}", errors(&output));
    assert_eq!(place.route("mail"), None);

    // For programs: the problem with the whole report.
    let output = place.add("mail", "sendgrid", &[&from_file[..], &["--json"]].concat());
    let problem: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), problem["type"].as_str()), (Some(1), Some("route_test_failed")), "{problem:#}");
    assert_eq!(problem["report"]["failed_at"], "auth");

    // Unless somebody insists.
    let output = place.add("mail", "sendgrid", &[&from_file[..], &["--force"]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(errors(&output).contains("saved although"), "{}", errors(&output));
    assert!(place.route("mail").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_does_not_work_leaves_the_old_route_in_place() {
    let place = Place::new(SENDGRID, &[("apikey", KEY), ("apikey", OTHER_KEY)]).await;
    place.secret("key", KEY);
    place.secret("other", OTHER_KEY);
    place.secret("wrong", "SG.eeeeeeeeeeeeeeeeeeeeee.fffffffffffffffffffffffffffffffffffffffffff");
    assert_eq!(place.add("mail", "sendgrid", &["--password-from", "file:key"]).status.code(), Some(0));
    let before = place.route("mail").unwrap();

    let output = place.try_run(&["route", "set", "mail", "--password-from", "file:wrong"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(place.route("mail").unwrap(), before);
    assert_eq!(place.try_run(&["check", "--route", "mail"]).status.code(), Some(0), "the old key is still the one");

    // What cannot be tried needs no server.
    let connections = place.sink.connections();
    assert_eq!(place.try_run(&["route", "set", "mail", "--connections", "2"]).status.code(), Some(0));
    assert_eq!(place.sink.connections(), connections);
    assert_eq!(place.try_run(&["route", "set", "mail", "--helo", "other.test"]).status.code(), Some(0));
    assert!(place.sink.connections() > connections);

    // A sender the provider does not take is found before the first message.
    place.sink.add(Rule::reply(Stage::Mail, "550 The from address does not match a verified Sender Identity"));
    let set = ["route", "set", "mail", "--password-from", "file:other", "--from", "nobody@shop.test"];
    let output = place.try_run(&set);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output).contains("FAIL sender"), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_listed_where_nobody_can_be_asked() {
    let place = Place::new(SENDGRID, &[]).await;
    for (args, parts) in [
        (&["ses"][..], &["--region REGION", "--username NAME", "--password-from"][..]),
        (&["microsoft365"], &["--username NAME: The full sign-in address", "--password-from"]),
        (&["sendgrid"], &["--password-from prompt, stdin, env:NAME or file:PATH: An API key"]),
        (&["exchange", "--username", "EXAMPLE\\app"], &["--host HOST", "--password-from"]),
        (&["workspace-relay"], &["--helo NAME"]),
        (&["mailgun", "--region", "moon", "--username", "a@b.test"], &["no region `moon`; there are us, eu"]),
        (&["sendgrid", "--host", "h.test"], &["leave --host out"]),
        (&["gmail-restricted", "--username", "ann"], &["leave --username out"]),
        (&["nobody"], &["no provider `nobody`", "microsoft365"]),
    ] {
        let output = place.try_run(&[&["route", "add", "mail"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?} {output:?}");
        for part in parts {
            assert!(errors(&output).contains(part), "{args:?} {part}: {}", errors(&output));
        }
    }
    assert_eq!(place.sink.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_of_ses_is_derived_from_the_secret_key_for_the_region() {
    let host = "email-smtp.eu-central-1.amazonaws.com";
    let secret = "some+secret+key+some+secret+key+some+sec";
    let password = "BNVL9Dji5lDL1L6+iFJl1tg2LgcB80isE4rONEVZOZuN";
    let place = Place::new(host, &[("AKIAABCDEFGHIJKLMNOP", password)]).await;
    place.secret("aws", secret);
    let ses = ["--region", "eu-central-1", "--username", "AKIAABCDEFGHIJKLMNOP", "--secret-access-key-file", "aws"];
    let output = place.add("aws", "ses", &ses);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output), errors(&output));
    assert_eq!(place.route("aws").unwrap()["host"], host);
    // The same key for a changed route; and one that cannot be one.
    assert_eq!(place.try_run(&["route", "set", "aws", "--secret-access-key-file", "aws"]).status.code(), Some(0));
    place.secret("short", "tooshort");
    let output = place.try_run(&["route", "set", "aws", "--secret-access-key-file", "short"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(errors(&output).contains("has 40 characters") && !errors(&output).contains("tooshort"), "{output:?}");
    // The secret key in place of the password: refused, and the reason is told.
    let output = place.add("pasted", "ses", &[&ses[..4], &["--password-from", "file:aws"]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output).contains("looks like an AWS secret access key"), "{}", text(&output));
    assert!(text(&output).contains("--secret-access-key-file"), "{}", text(&output));
    assert_eq!(place.route("pasted"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_guards_a_change_and_lists_what_is_known() {
    let place = Place::new(SENDGRID, &[("apikey", KEY)]).await;
    place.server.run(&["sender", "set", "app", "--admin"]);
    let ca = place.server.dir.path().join("ca.pem");
    let body = |key: &str| {
        json!({ "name": "mail", "kind": "smarthost", "host": SENDGRID, "port": place.sink.port(), "ca_file": ca,
                "username": "apikey", "password": key })
    };
    let (status, problem) = place.server.post("/api/v1/routes?test=true", &body(OTHER_KEY), None).await;
    assert_eq!((status, problem["report"]["healthy"].as_bool()), (422, Some(false)), "{problem:#}");
    assert!(!problem.to_string().contains("SG."), "{problem}");
    let (status, _) = place.server.post("/api/v1/routes?test=true", &body(KEY), None).await;
    assert_eq!(status, 201);
    let patch = async |query: &str, body: Value| {
        let path = format!("/api/v1/routes/mail{query}");
        let request = place.server.request(Method::PATCH, &path).bearer_auth(&place.server.key).json(&body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, problem) = patch("?test=true", json!({ "password": OTHER_KEY })).await;
    assert_eq!((status, problem["report"]["failed_at"].as_str()), (422, Some("auth")), "{problem:#}");
    assert_eq!(patch("?surprise=1", json!({ "connections": 2 })).await.0, 400);
    assert_eq!(patch("", json!({ "password": OTHER_KEY })).await.0, 200, "without a test it counts at once");

    let (status, all) = place.server.get("/api/v1/providers").await;
    assert_eq!((status, all["items"].as_array().unwrap().len()), (200, explain::presets().len()));
    let (_, one) = place.server.get("/api/v1/providers/m365").await;
    assert_eq!((one["id"].as_str(), one["limits"]["per_minute"].as_u64()), (Some("microsoft365"), Some(25)), "{one:#}");
    assert_eq!(place.server.get("/api/v1/providers/nobody").await.0, 404);
    let shown = place.server.run(&["provider", "show", "ses"]);
    for part in ["email-smtp.eu-west-1.amazonaws.com", "587 STARTTLS", "include:amazonses.com", "ses-not-verified"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(place.server.run(&["provider", "ls"]).contains("workspace-relay"));
}
