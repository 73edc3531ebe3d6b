//! The journal of a running server, with two authoritative name servers that disagree for a while, and a list that lists.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use net::{Authority, Clock, Resolver, ResolverSettings};
use relay::Relay;
use serde_json::{Value, json};
use store::Store;
use testkit::{Trouble, Zones};
use tower::ServiceExt as _;

use super::*;
use crate::http::Shared;
use crate::monitor::{CheckKind, Level, Subject, results};
use crate::serve::domains::Domains;
use crate::serve::parts;

struct World {
    app: Shared,
    clock: Clock,
    view: Zones,
    servers: [Zones; 2],
    _dir: tempfile::TempDir,
}

const SPF: &str = "v=spf1 ip4:192.0.2.9 -all";

impl World {
    async fn start() -> Self {
        let (view, one, two) = (Zones::start().await, Zones::start().await, Zones::start().await);
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "hostname = \"mail.shop.test\"\ndata_dir = \"{}\"\n[dns]\nservers = [\"{}\"]\ntimeout = \"2s\"\naddresses = [\"192.0.2.9\"]\n",
            dir.path().join("data").display(),
            view.address()
        );
        let config = crate::config::read(None, &text, std::iter::empty()).unwrap().config;
        view.line("ns1.dns.test A 192.0.2.1").line("ns2.dns.test A 192.0.2.2");
        let records = [
            "shop.test NS ns1.dns.test".to_owned(),
            "shop.test NS ns2.dns.test".to_owned(),
            "shop.test MX 10 mail.shop.test".to_owned(),
            format!("shop.test TXT {SPF}"),
            "_dmarc.shop.test TXT v=DMARC1; p=reject".to_owned(),
            "mail.shop.test A 192.0.2.9".to_owned(),
            "2.0.192.in-addr.arpa NS ns1.dns.test".to_owned(),
            "9.2.0.192.in-addr.arpa PTR mail.shop.test.".to_owned(),
        ];
        for line in &records {
            view.line(line);
            one.line(line);
            two.line(line);
        }
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
        let world = Self { app: Arc::new(app), clock, view, servers: [one, two], _dir: dir };
        world
            .ask(Method::POST, "/routes", json!({ "name": "direct", "kind": "mx", "source_address": "127.0.0.1" }))
            .await;
        world.ask(Method::PUT, "/rules/default", json!({ "order": 1, "route": "direct" })).await;
        world.ask(Method::POST, "/senders", json!({ "name": "shop", "allowed_from": ["shop.test"] })).await;
        world
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        let request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        let request = request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap();
        let answer = crate::http::control(self.app.clone()).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let octets = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let value = serde_json::from_slice(&octets).unwrap_or_default();
        assert!(status < 300, "{path}: {status} {value}");
        value
    }

    async fn look(&self) -> crate::monitor::Found {
        let kind = JournalKind;
        let subjects = kind.subjects(&self.app).await;
        assert_eq!(subjects.iter().map(|subject| subject.id.as_str()).collect::<Vec<_>>(), ["shop.test"]);
        self.clock.advance(Duration::from_secs(3_600));
        kind.run(&self.app, &subjects[0]).await
    }

    async fn raised(&self, record: &str) -> bool {
        self.app.alerts.is_raised(&format!("dns:shop.test/{record}")).await
    }

    /// Both name servers and all resolvers.
    fn everywhere(&self) -> [&Zones; 3] {
        [&self.view, &self.servers[0], &self.servers[1]]
    }
}

#[tokio::test]
async fn a_change_is_kept_with_who_is_affected_and_alerts_until_it_is_settled() {
    let world = World::start().await;
    let first = world.look().await;
    assert_eq!((first.level, world.raised("spf").await), (Level::Ok, false), "{first:?}");
    let changes = world.ask(Method::GET, "/dns-journal", Value::Null).await;
    assert_eq!(changes["items"], json!([]), "the first look is no change");
    let began = world.clock.now_ms();

    // Somebody takes our address out of the policy, on one server so far; resolvers may see either.
    let new = "v=spf1 ip4:198.51.100.7 -all";
    for zones in [&world.view, &world.servers[0]] {
        zones.remove("shop.test").line("shop.test NS ns1.dns.test").line("shop.test NS ns2.dns.test");
        zones.line("shop.test MX 10 mail.shop.test").txt("shop.test", new);
    }
    let half = world.look().await;
    assert_eq!((half.level, world.raised("spf").await, world.raised("mx").await), (Level::Warning, true, false));
    let changes = world.ask(Method::GET, "/dns-journal?domain=shop.test", Value::Null).await;
    let change = &changes["items"][0];
    assert_eq!(
        (&change["record"], &change["half"], &change["severity"]),
        (&json!("spf"), &json!(true), &json!("warning"))
    );
    assert_eq!(change["affected"]["senders"], json!(["shop"]));
    assert_eq!(change["affected"]["routes"], json!(["direct"]));
    let warnings = change["affected"]["warnings"].to_string();
    assert!(
        warnings.contains("192.0.2.9") && warnings.contains("direct"),
        "SPF against the route really used: {warnings}"
    );

    // The other server follows; nothing is wrong with the servers any more, and the alert ends.
    world.servers[1].remove("shop.test").line("shop.test NS ns1.dns.test").line("shop.test NS ns2.dns.test");
    world.servers[1].line("shop.test MX 10 mail.shop.test").txt("shop.test", new);
    assert_eq!(world.look().await.level, Level::Ok);
    assert!(world.raised("spf").await);
    world.clock.advance(Duration::from_secs(7 * 3_600));
    world.look().await;
    assert!(!world.raised("spf").await);
    let state = world.ask(Method::GET, "/dns-journal/shop.test", Value::Null).await;
    let spf = state["records"].as_array().unwrap().iter().find(|one| one["record"] == "spf").unwrap();
    assert_eq!((&spf["records"], &spf["half"]), (&json!([format!("\"{new}\"")]), &json!(false)));
    let between = |domain: &'static str, since_ms, until_ms| {
        let store = world.app.store.clone();
        async move { page(&*store, Some(domain), Some(since_ms), Some(until_ms), None, 100).await.unwrap() }
    };
    let found = between("shop.test", began, world.clock.now_ms()).await;
    let told: Vec<_> = found.iter().rev().map(|one| one.entry.what.to_string()).collect();
    assert_eq!(told[..2], ["spf", "spf"], "oldest first: {told:?}");
    assert!(between("other.test", 0, i64::MAX).await.is_empty());
    assert!(between("shop.test", 0, began).await.is_empty());
}

#[tokio::test]
async fn a_record_that_vanishes_is_a_problem_and_a_server_that_dies_a_warning() {
    let world = World::start().await;
    world.look().await;
    for zones in world.everywhere() {
        zones.remove("shop.test").line("shop.test NS ns1.dns.test").line("shop.test NS ns2.dns.test");
        zones.txt("shop.test", SPF);
    }
    let gone = world.look().await;
    assert_eq!((gone.level, world.raised("mx").await), (Level::Problem, true), "{gone:?}");
    assert_eq!(world.look().await.level, Level::Problem, "it still is");
    for zones in world.everywhere() {
        zones.line("shop.test MX 10 mail.shop.test");
    }
    assert_eq!(world.look().await.level, Level::Ok);
    world.servers[1].fail("shop.test", Trouble::Refused).fail("_dmarc.shop.test", Trouble::Refused);
    assert_eq!(world.look().await.level, Level::Ok, "one lost answer is nothing");
    let lame = world.look().await;
    assert_eq!(lame.level, Level::Warning);
    assert!(lame.summary.contains("ns2.dns.test (192.0.2.2) does not have the zone (REFUSED)"), "{}", lame.summary);
}

#[tokio::test]
async fn a_reverse_name_that_leads_elsewhere_is_found() {
    let world = World::start().await;
    let kind = ReverseKind;
    let subjects: Vec<Subject> = kind.subjects(&world.app).await;
    assert_eq!(subjects.len(), 1);
    let found = kind.run(&world.app, &subjects[0]).await;
    assert_eq!(found.level, Level::Ok, "{found:?}");
    for zones in world.everywhere() {
        zones.remove("9.2.0.192.in-addr.arpa").line("9.2.0.192.in-addr.arpa PTR host-192-0-2-9.isp.test.");
    }
    let found = kind.run(&world.app, &subjects[0]).await;
    assert!(found.level >= Level::Warning && found.facts["signs"][0] == "ptr_not_forward", "{found:?}");
    assert!(world.app.alerts.is_raised("dns:192.0.2.9/ptr").await);
    let changes = world.ask(Method::GET, "/dns-journal?domain=192.0.2.9", Value::Null).await;
    assert_eq!(changes["items"][0]["affected"]["routes"], json!(["direct"]));
}

#[tokio::test]
async fn a_listing_is_a_problem_that_mail_about_it_must_not_share_an_address_with() {
    let world = World::start().await;
    for list in explain::lists::blocklists().iter().filter(|list| list.retired.is_none()) {
        world.view.line(&format!("{} SOA ns.example.net. hostmaster.example.net. 1 1 1 1 1", list.zone));
        let listed = list.test_listed.as_deref().unwrap_or("2.0.0.127");
        let code = if list.third == 1 { "127.0.1.2" } else { "127.0.0.2" };
        world.view.line(&format!("{listed}.{} A {code}", list.zone));
    }
    let kind = crate::monitor::lists::ListsKind;
    let subjects = kind.subjects(&world.app).await;
    assert_eq!(subjects.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["192.0.2.9", "shop.test"]);
    assert_eq!(kind.run(&world.app, &subjects[0]).await.level, Level::Ok);
    world.view.line("9.2.0.192.zen.spamhaus.org A 127.0.0.2");
    let found = kind.run(&world.app, &subjects[0]).await;
    assert_eq!((found.level, found.avoid.as_slice()), (Level::Problem, &["direct".to_owned()][..]), "{found:?}");
    assert_eq!(found.facts, json!({ "listed": { "spamhaus-zen": ["127.0.0.2"] } }));
    assert_eq!(kind.run(&world.app, &subjects[1]).await.level, Level::Ok);

    // The list falls silent, and the server is started anew: the listing stays until the list says otherwise.
    let kept = &world.app.monitor.results;
    let whose = results::Whose {
        name: "blocklists:192.0.2.9".into(),
        title: "blocklists of our addresses and domains: address 192.0.2.9".into(),
        rule: kind.rule(),
        alerting: kind.alerting(),
        confirm: kind.confirm(),
    };
    results::take(&world.app, &whose, found.clone(), world.clock.now_ms()).await;
    kept.close(&world.app, &whose.name).await;
    kept.open(&world.app, &whose.name).await.unwrap();
    world.view.fail("9.2.0.192.zen.spamhaus.org", Trouble::ServFail);
    let silent = kind.run(&world.app, &subjects[0]).await;
    assert_eq!((silent.level, &silent.facts, &silent.avoid), (found.level, &found.facts, &found.avoid), "{silent:?}");
    assert!(silent.summary.contains("; Spamhaus ZEN has not answered since "), "{}", silent.summary);
    world.view.remove("9.2.0.192.zen.spamhaus.org");
    assert_eq!(kind.run(&world.app, &subjects[0]).await.level, Level::Ok);
    world.view.line("9.2.0.192.zen.spamhaus.org A 127.0.0.2");
    let report = world.ask(Method::POST, "/blocklists/ask", json!({})).await;
    assert_eq!(report["subjects"][0]["rank"], "problem", "{report}");
    let table = world.ask(Method::GET, "/blocklists", Value::Null).await;
    assert!(table["items"].as_array().unwrap().len() > 10);
}
