//! Keys from the cradle to the grave, with two authoritative name servers that disagree for a while.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use net::{Clock, Resolver, ResolverSettings};
use relay::Relay;
use serde_json::{Value, json};
use store::Store;
use testkit::sink::{Received, Sink};
use testkit::{Trouble, Zones};
use tower::ServiceExt as _;

use super::*;
use crate::serve::parts;

const DAY: Duration = Duration::from_secs(86_400);

/// A relay that sends everything to a sink, and the name servers of shop.test.
struct World {
    app: Shared,
    clock: Clock,
    sink: Sink,
    /// What resolvers see: which servers there are.
    view: Zones,
    servers: [Zones; 2],
    _dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let (view, one, two, sink) =
            (Zones::start().await, Zones::start().await, Zones::start().await, Sink::start().await);
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "hostname = \"relay.test\"\ndata_dir = \"{}\"\n[dns]\nservers = [\"{}\"]\n",
            dir.path().join("data").display(),
            view.address()
        );
        let config = crate::config::read(None, &text, std::iter::empty()).unwrap().config;
        view.line("shop.test NS ns1.dns.test").line("shop.test NS ns2.dns.test");
        view.line("ns1.dns.test A 192.0.2.1").line("ns2.dns.test A 192.0.2.2");
        let settings = ResolverSettings { servers: vec![view.address()], ..ResolverSettings::default() };
        let mut authority = Authority::new(Resolver::new(settings).unwrap(), Duration::from_secs(2));
        for (address, zones) in [("192.0.2.1:53", &one), ("192.0.2.2:53", &two)] {
            authority.redirects.insert(address.parse().unwrap(), zones.address());
        }
        let net = parts::net(&config, Clock::system()).unwrap();
        let (store, _) = parts::store(&config, &Clock::system()).unwrap();
        let store: Arc<dyn Store> = store;
        let relay = Relay::start(parts::relay(&config), store.clone(), net).await.unwrap();
        let clock = Clock::manual(Clock::system().now_ms());
        let mut app = crate::serve::app(&config, store, Some(relay), None, clock.clone());
        app.domains = Arc::new(Domains::new(Ok(authority), 5 * 86_400));
        let world = Self { app: Arc::new(app), clock, sink, view, servers: [one, two], _dir: dir };
        let sink =
            json!({"name": "sink", "kind": "smarthost", "host": "127.0.0.1", "port": world.sink.port(), "tls": "none"});
        world.ask(Method::POST, "/routes", sink).await;
        world.ask(Method::PUT, "/rules/default", json!({"order": 1, "route": "sink"})).await;
        world.ask(Method::POST, "/senders", json!({"name": "local", "allowed_from": ["*"]})).await;
        world
    }

    /// A request as over the control socket.
    async fn try_ask(&self, method: Method, path: &str, kind: &str, body: String) -> (u16, Value) {
        let request = Request::builder().method(method).uri(format!("/api/v1{path}")).header("content-type", kind);
        let answer =
            crate::http::control(self.app.clone()).oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let octets = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&octets).unwrap_or_default())
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, value) = self.try_ask(method, path, "application/json", body.to_string()).await;
        assert!(status < 300, "{path}: {status} {value}");
        value
    }

    async fn post(&self, rest: &str) -> Value {
        self.ask(Method::POST, &format!("/domains/shop.test{rest}"), json!({})).await
    }

    /// Sends a message; it counts from then on.
    async fn send(&self) {
        let mail = "From: a@shop.test\r\nSubject: story\r\n\r\nHi\r\n".to_owned();
        let path = "/messages?from=a@shop.test&to=b@one.test";
        let (status, answer) = self.try_ask(Method::POST, path, "message/rfc822", mail).await;
        assert_eq!(status, 202, "{answer}");
    }

    fn publish(&self, server: usize, domain: &Value) {
        for key in domain["keys"].as_array().unwrap().iter().filter(|key| key["state"] == "prepared") {
            let record = &key["record"];
            self.servers[server].txt(record["name"].as_str().unwrap(), record["value"].as_str().unwrap());
        }
    }

    async fn received(&self, count: usize) -> Vec<Received> {
        self.sink.wait_for(count, Duration::from_secs(20)).await
    }
}

fn states(domain: &Value) -> Vec<(&str, &str)> {
    let keys = domain["keys"].as_array().unwrap().iter();
    keys.map(|key| (key["selector"].as_str().unwrap(), key["state"].as_str().unwrap())).collect()
}

/// Selectors of the signatures of a message, top to bottom.
fn selectors(mail: &Received) -> Vec<String> {
    let text = mail.text();
    let fields =
        proto::policy::dkim::fields(text.as_bytes()).into_iter().filter(|field| field.name == "DKIM-Signature");
    fields
        .filter_map(|field| proto::policy::dkim::parse_signature(field.value()).record)
        .map(|one| one.selector)
        .collect()
}

#[tokio::test]
async fn a_rotation_leaves_no_mail_unsigned_or_signed_with_a_key_that_is_not_everywhere() {
    let world = World::start().await;
    let first = json!({"domain": "shop.test", "selector": "a", "when_published": true});
    let domain = world.ask(Method::POST, "/domains", first).await;
    assert_eq!(states(&domain), [("a-rsa", "prepared"), ("a-ed25519", "prepared")]);
    world.publish(0, &domain);
    let checked = world.post("/check").await;
    assert_eq!(checked["published"], false);
    assert_eq!(checked["keys"][0]["problems"], json!(["ns2.dns.test does not have the record"]));
    assert_eq!(checked["domain"]["signs"], false);
    let (status, refused) =
        world.try_ask(Method::POST, "/domains/shop.test/activate", "application/json", "{}".into()).await;
    assert_eq!(status, 409, "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("ns2.dns.test does not have the record"), "{refused}");
    world.publish(1, &domain);
    assert_eq!(world.post("/check").await["domain"]["signs"], true);

    world.send().await;
    let domain = world.post("/rotate").await;
    let new: Vec<String> = domain["keys"].as_array().unwrap()[2..]
        .iter()
        .map(|key| key["selector"].as_str().unwrap().to_owned())
        .collect();
    world.publish(1, &domain);
    for sent in 2..=10 {
        world.send().await;
        round(&world.app).await.unwrap();
        let all = world.received(sent).await;
        assert_eq!(selectors(all.last().unwrap()), ["a-rsa", "a-ed25519"], "one server lacks the new keys");
    }
    // From here on both have them, and mail goes on while the change happens.
    world.publish(0, &domain);
    tokio::join!(
        async {
            for _ in 0..10 {
                world.send().await;
            }
        },
        async { round(&world.app).await.unwrap() }
    );
    world.send().await;
    let all = world.received(21).await;
    for mail in &all {
        let by = selectors(mail);
        assert!(by == ["a-rsa", "a-ed25519"] || by == new.as_slice(), "{by:?}");
    }
    assert!(all.iter().any(|mail| selectors(mail) == new.as_slice()), "the last one at least");

    let domain = world.ask(Method::GET, "/domains/shop.test", Value::Null).await;
    let now: Vec<&str> = states(&domain).iter().map(|(_, state)| *state).collect();
    assert_eq!(now, ["retiring", "retiring", "active", "active"]);
    world.clock.advance(6 * DAY);
    round(&world.app).await.unwrap();
    let domain = world.ask(Method::GET, "/domains/shop.test", Value::Null).await;
    assert_eq!(states(&domain)[0].1, "retiring", "mail under way still needs the old records");
    world.clock.advance(2 * DAY);
    round(&world.app).await.unwrap();
    let domain = world.ask(Method::GET, "/domains/shop.test", Value::Null).await;
    assert_eq!(states(&domain)[..2], [("a-rsa", "retired"), ("a-ed25519", "retired")]);
    let document = world.app.store.documents(Kind::Domain).await.unwrap().remove(0);
    let kept = format!("{:?}", read_secrets(&document).unwrap());
    assert!(!kept.contains("a-rsa") && kept.contains(&new[0]), "{kept}");
    world.servers[0].remove("a-rsa._domainkey.shop.test");
    assert_eq!(world.post("/check").await["published"], true, "nobody asks for retired records");
}

#[tokio::test]
async fn what_servers_say_wrongly_has_its_words_and_an_active_key_that_is_lost_is_noted() {
    let world = World::start().await;
    let add = json!({"domain": "shop.test", "selector": "s", "algorithm": "rsa"});
    let domain = world.ask(Method::POST, "/domains", add).await;
    let name = "s._domainkey.shop.test";
    let value = domain["keys"][0]["record"]["value"].as_str().unwrap().to_owned();
    world.servers[0].txt(name, &value);
    let two = &world.servers[1];
    for (record, trouble, result) in [
        (None, None, "missing"),
        (Some("v=spf1 -all"), None, "missing"),
        (Some("v=DKIM1; p="), None, "unusable"),
        (Some("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="), None, "other_key"),
        (Some(value.get(..200).unwrap()), None, "unusable"),
        (None, Some(Trouble::Refused), "unreachable"),
        (Some(value.as_str()), None, "published"),
    ] {
        two.remove(name);
        if let Some(record) = record {
            two.txt(name, record);
        }
        if let Some(trouble) = trouble {
            two.fail(name, trouble);
        }
        let checked = world.post("/check").await;
        let said = checked["keys"][0]["servers"].as_array().unwrap();
        let results: Vec<&str> = said.iter().map(|one| one["result"].as_str().unwrap()).collect();
        assert_eq!(results, ["published", result], "{checked}");
        assert_eq!(checked["published"], result == "published", "{checked}");
    }
    assert_eq!(world.post("/activate").await["signs"], true);
    assert_eq!(world.app.domains.notes(), Vec::<String>::new());
    two.txt(name, &value);
    world.post("/check").await;
    let notes = world.app.domains.notes();
    assert!(notes.len() == 1 && notes[0].contains("ns2.dns.test has several keys at this name"), "{notes:?}");
    world.view.fail("ns2.dns.test", Trouble::ServFail);
    assert!(world.post("/check").await["keys"][0]["problems"][0].as_str().unwrap().contains("ns2.dns.test"));
}
