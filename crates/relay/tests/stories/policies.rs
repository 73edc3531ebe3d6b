//! MTA-STS (RFC 8461): what a policy that was learnt does to delivery, and how it is learnt. Under enforce nothing of an
//! envelope is ever sent without a verified connection.

use std::net::IpAddr;

use proto::transcript::{Failure, PolicyProblem, TransportPolicy};
use serde_json::json;
use testkit::ca::Validity;
use testkit::{Act, Ca, Page, Rule, Sink, SinkOptions, Stage, Tls, Trouble, Web, Zones};

use crate::rig::{Rig, Setup, beside};

/// A policy file.
pub fn policy(mode: &str, mx: &[&str]) -> Page {
    let hosts: String = mx.iter().map(|mx| format!("mx: {mx}\n")).collect();
    Page::Text(format!("version: STSv1\nmode: {mode}\n{hosts}max_age: 604800\n"))
}

/// A sink that offers TLS with this certificate.
pub fn with_tls(issued: testkit::Issued) -> SinkOptions {
    SinkOptions { tls: Tls::StartTls(issued), ..SinkOptions::default() }
}

/// `x.test` with the host `mx.test` at the sink, and a policy at `mta-sts.x.test`.
pub struct Scene {
    pub ca: Ca,
    pub zones: Zones,
    pub web: Web,
}

impl Scene {
    pub async fn new(page: Page) -> Self {
        let ca = Ca::new();
        let web = Web::start(&ca.issue(&["mta-sts.x.test"]), page).await;
        let zones = Zones::start().await;
        zones.mx("x.test", 10, "mx.test").loopback("mx.test").loopback("mta-sts.x.test");
        zones.txt("_mta-sts.x.test", "v=STSv1; id=1;");
        Self { ca, zones, web }
    }

    pub async fn start(self, sink: &Sink) -> (Rig, Web) {
        self.start_by(sink, |setup| setup).await
    }

    /// With further settings.
    pub async fn start_by(self, sink: &Sink, further: impl FnOnce(Setup) -> Setup) -> (Rig, Web) {
        let port = self.web.address().port();
        let setup = Setup::mx(sink.port()).config(|config| {
            config.transport.policy_port = port;
            config.transport.policy_from_private = true;
        });
        (further(setup).start_with(self.ca, self.zones).await, self.web)
    }
}

/// What was said of a message to a sink.
pub fn envelope(sink: &Sink) -> Vec<String> {
    let commands = sink.commands().into_iter().map(|(_, line)| line);
    commands.filter(|line| ["MAIL", "RCPT", "DATA", "BDAT"].iter().any(|verb| line.starts_with(verb))).collect()
}

/// What the last attempt of a message says of TLS.
pub async fn tls_of(rig: &Rig, id: store::MessageId) -> String {
    let events = store::Browse::events(&*rig.store, id, 100).await.unwrap();
    events
        .iter()
        .rev()
        .find_map(|event| event.detail.attempt.clone())
        .and_then(|attempt| attempt.tls)
        .unwrap_or_default()
}

#[tokio::test]
async fn a_host_that_fits_an_enforced_policy_gets_the_mail() {
    let scene = Scene::new(policy("enforce", &["mx.test"])).await;
    let sink = Sink::with(with_tls(scene.ca.issue(&["mx.test"]))).await;
    let (rig, web) = scene.start(&sink).await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    assert!(sink.received()[0].tls);
    assert!(tls_of(&rig, id).await.ends_with("verified for MTA-STS"), "{}", tls_of(&rig, id).await);
    let asked = web.asked();
    assert_eq!(asked[0].line, "GET /.well-known/mta-sts.txt HTTP/1.1");
    assert!(asked[0].head.contains("Host: mta-sts.x.test"), "{asked:?}");
}

#[tokio::test]
async fn under_enforce_nothing_is_sent_where_tls_is_stripped_or_the_certificate_is_wrong() {
    let strip = |act| vec![Rule::at(Stage::StartTls, act)];
    for (what, rules, problem) in [
        ("not offered", Vec::new(), PolicyProblem::NoTls),
        ("454", strip(Act::Reply("454 4.7.0 TLS not available".into())), PolicyProblem::NoTls),
        ("502", strip(Act::Reply("502 5.5.1 unknown".into())), PolicyProblem::NoTls),
        ("cut at STARTTLS", strip(Act::Drop), PolicyProblem::NoTls),
        ("cut in the handshake", strip(Act::Close("220 go ahead".into())), PolicyProblem::NoTls),
        ("other name", Vec::new(), PolicyProblem::Certificate),
        ("expired", Vec::new(), PolicyProblem::Certificate),
        ("not trusted", Vec::new(), PolicyProblem::Certificate),
        ("self-signed", Vec::new(), PolicyProblem::Certificate),
    ] {
        let scene = Scene::new(policy("enforce", &["mx.test"])).await;
        let issued = match what {
            "other name" => scene.ca.issue(&["other.test"]),
            "expired" => scene.ca.issue_for(&["mx.test"], Validity::Past),
            "not trusted" => Ca::new().issue(&["mx.test"]),
            "self-signed" => Ca::self_signed(&["mx.test"], Validity::Now, false),
            _ => scene.ca.issue(&["mx.test"]),
        };
        let tls = if what == "not offered" { Tls::None } else { Tls::StartTls(issued) };
        let sink = Sink::with(SinkOptions { tls, rules, ..SinkOptions::default() }).await;
        let (rig, _web) = scene.start(&sink).await;
        let id = rig.send(&["r@x.test"]).await;
        let views = rig.becomes(id, &["deferred"]).await;
        let failure = views[0].failure();
        assert!(
            matches!(failure, Some(Failure::Policy { policy: TransportPolicy::MtaSts, problem: is, .. }) if *is == problem),
            "{what}: {failure:?}"
        );
        assert_eq!(envelope(&sink), Vec::<String>::new(), "{what}");
        assert!(sink.connections() >= 1, "{what}");
    }
}

#[tokio::test]
async fn a_host_that_the_policy_does_not_list_is_passed_over() {
    let scene = Scene::new(policy("enforce", &["*.good.test"])).await;
    let sink = Sink::with(with_tls(scene.ca.issue(&["mx.test"]))).await;
    let listed = beside(&sink, "127.0.0.2", with_tls(scene.ca.issue(&["mx.good.test"]))).await;
    scene.zones.address_of("mx.good.test", IpAddr::from([127, 0, 0, 2]));
    let (rig, _web) = scene.start(&sink).await;
    let id = rig.send(&["r@x.test"]).await;
    let views = rig.becomes(id, &["deferred"]).await;
    let failure = views[0].failure();
    assert!(matches!(failure, Some(Failure::Policy { problem: PolicyProblem::HostNotListed, .. })), "{failure:?}");
    assert_eq!(sink.connections(), 0);
    let (ground, config) = rig.stop().await;
    ground.zones.mx("x.test", 20, "mx.good.test");
    let rig = Rig::again(ground, config).await;
    rig.operate(id, store::Operation::Retry).await;
    rig.becomes(id, &["delivered"]).await;
    assert_eq!((sink.connections(), listed.count()), (0, 1), "by the second host");
}

#[tokio::test]
async fn a_policy_in_testing_stops_nothing_and_is_recorded() {
    for (mx, name, said) in [
        ("mx.test", "mx.test", "verified for MTA-STS (testing)"),
        ("mx.test", "other.test", "MTA-STS (testing): the certificate does not verify"),
        ("other.test", "mx.test", "MTA-STS (testing): the policy does not list the host"),
    ] {
        let scene = Scene::new(policy("testing", &[mx])).await;
        let sink = Sink::with(with_tls(scene.ca.issue(&[name]))).await;
        let (rig, _web) = scene.start(&sink).await;
        let id = rig.send(&["r@x.test"]).await;
        rig.becomes(id, &["delivered"]).await;
        assert!(tls_of(&rig, id).await.ends_with(said), "{}", tls_of(&rig, id).await);
    }
}

#[tokio::test]
async fn without_a_policy_that_was_learnt_tls_is_opportunistic() {
    let enforced = "version: STSv1\nmode: enforce\nmx: other.test\nmax_age: 604800\n";
    let raw = |head: &str| Page::Raw(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n{enforced}"));
    for (what, page) in [
        ("none", policy("none", &[])),
        ("no record", policy("enforce", &["other.test"])),
        ("two records", policy("enforce", &["other.test"])),
        ("SERVFAIL", policy("enforce", &["other.test"])),
        ("404", raw("404 Not Found\r\nContent-Type: text/plain")),
        ("redirect", raw("301 Moved\r\nContent-Type: text/plain\r\nLocation: https://mta-sts.x.test/")),
        ("content type", raw("200 OK\r\nContent-Type: text/html")),
        ("no policy", Page::Text("hello".into())),
        ("too long", Page::Text(format!("{enforced}{}", "#".repeat(70_000)))),
        ("silence", Page::Silence),
        ("certificate", policy("enforce", &["other.test"])),
        ("nobody there", policy("enforce", &["other.test"])),
    ] {
        let scene = Scene::new(page).await;
        match what {
            "no record" => drop(scene.zones.remove("_mta-sts.x.test")),
            "two records" => drop(scene.zones.txt("_mta-sts.x.test", "v=STSv1; id=2;")),
            "SERVFAIL" => drop(scene.zones.fail("_mta-sts.x.test", Trouble::ServFail)),
            "certificate" => drop(scene.web.certify(&scene.ca.issue(&["x.test"]))),
            "nobody there" => drop(scene.zones.remove("mta-sts.x.test")),
            _ => {}
        }
        let sink = Sink::start().await;
        let hurried =
            |setup: Setup| setup.config(|config| config.transport.policy_limit = std::time::Duration::from_millis(500));
        let (rig, _web) = match what {
            "silence" => scene.start_by(&sink, hurried).await,
            _ => scene.start(&sink).await,
        };
        let id = rig.send(&["r@x.test"]).await;
        rig.becomes(id, &["delivered"]).await;
        assert!(!sink.received()[0].tls, "{what}");
    }
}

#[tokio::test]
async fn a_policy_outlives_its_record_its_file_and_a_restart_until_its_age_is_over() {
    let scene = Scene::new(policy("enforce", &["mx.test"])).await;
    let sink = Sink::start().await;
    let (rig, web) = scene.start(&sink).await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["deferred"]).await;
    web.show(Page::Raw("HTTP/1.1 500 Oops\r\n\r\n".into()));
    let mut rig = rig;
    for what in ["file", "record", "SERVFAIL"] {
        let (ground, config) = rig.stop().await;
        match what {
            "file" => drop(ground.zones.remove("_mta-sts.x.test").txt("_mta-sts.x.test", "v=STSv1; id=2;")),
            "record" => drop(ground.zones.remove("_mta-sts.x.test")),
            _ => drop(ground.zones.fail("_mta-sts.x.test", Trouble::ServFail)),
        }
        rig = Rig::again(ground, config).await;
        let id = rig.send(&["r@x.test"]).await;
        let views = rig.becomes(id, &["deferred"]).await;
        assert!(matches!(views[0].failure(), Some(Failure::Policy { .. })), "{what}: {views:?}");
    }
    assert_eq!(envelope(&sink), Vec::<String>::new());
    let (ground, config) = rig.stop().await;
    let path = ground.dir.path().join("mta-sts.json");
    let mut learnt: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let fetched = learnt["x.test"]["fetched_ms"].as_i64().unwrap();
    learnt["x.test"]["fetched_ms"] = json!(fetched - 604_800_000);
    std::fs::write(&path, learnt.to_string()).unwrap();
    let rig = Rig::again(ground, config).await;
    rig.operate(id, store::Operation::Retry).await;
    rig.becomes(id, &["delivered"]).await;
}

#[tokio::test]
async fn a_new_id_brings_the_new_policy_in_the_background() {
    let scene = Scene::new(policy("enforce", &["mx.test"])).await;
    let sink = Sink::start().await;
    let (rig, web) = scene.start(&sink).await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["deferred"]).await;
    web.show(policy("none", &[]));
    let rig = rig.restart().await;
    rig.operate(id, store::Operation::Retry).await;
    crate::rig::eventually("a second attempt", || async { (rig.recipients(id).await[0].attempts == 2).then_some(()) })
        .await;
    assert_eq!(web.asked().len(), 1, "the same id: nothing is fetched");
    let (ground, config) = rig.stop().await;
    ground.zones.remove("_mta-sts.x.test").txt("_mta-sts.x.test", "v=STSv1; id=2;");
    let rig = Rig::again(ground, config).await;
    rig.operate(id, store::Operation::Retry).await;
    crate::rig::eventually("a third attempt", || async { (rig.recipients(id).await[0].attempts == 3).then_some(()) })
        .await;
    web.wait_for(2).await;
    assert_eq!(envelope(&sink), Vec::<String>::new(), "until then the old one holds");
    let rig = rig.restart().await;
    rig.operate(id, store::Operation::Retry).await;
    rig.becomes(id, &["delivered"]).await;
}

#[tokio::test]
async fn a_policy_does_not_reach_another_domain_with_the_same_hosts() {
    let scene = Scene::new(policy("enforce", &["mx.test"])).await;
    scene.zones.mx("y.test", 10, "mx.test");
    let sink = Sink::start().await;
    let (rig, _web) = scene.start(&sink).await;
    let id = rig.send(&["r@y.test", "r@x.test"]).await;
    rig.becomes(id, &["delivered", "deferred"]).await;
    assert_eq!(sink.received()[0].to, ["r@y.test"]);
}

#[tokio::test]
async fn a_route_may_leave_policies_alone() {
    let scene = Scene::new(policy("enforce", &["mx.test"])).await;
    let sink = Sink::start().await;
    let port = scene.web.address().port();
    let route = json!({"kind": "mx", "port": sink.port(), "mta_sts": false});
    let setup = Setup::by(route).config(|config| config.transport.policy_port = port);
    let rig = setup.start_with(scene.ca, scene.zones).await;
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["delivered"]).await;
    assert_eq!(scene.web.asked(), []);
}

#[tokio::test]
async fn mail_to_private_addresses_leaves_only_where_the_route_allows_it() {
    let sink = Sink::start().await;
    let rig = Setup::by(json!({"kind": "mx", "port": sink.port(), "allow_private": false})).start().await;
    rig.zones.mx("x.test", 10, "mx.test").loopback("mx.test");
    let id = rig.send(&["r@x.test", "r@[127.0.0.1]"]).await;
    let views = rig.becomes(id, &["failed", "failed"]).await;
    assert!(matches!(views[0].failure(), Some(Failure::PrivateAddress { .. })), "{views:?}");
    assert_eq!(sink.connections(), 0);
}

#[tokio::test]
async fn a_pool_gives_a_destination_one_address_and_passes_over_those_that_are_gone() {
    let sink = Sink::start().await;
    let sources = json!([
        {"address": "127.0.0.3", "helo": "three.relay.test"}, {"address": "127.0.0.4", "helo": "four.relay.test"},
        {"address": "192.0.2.7", "helo": "gone.relay.test"},
    ]);
    let route = json!({"kind": "mx", "port": sink.port(), "sources": sources, "messages_per_connection": 1});
    let rig = Setup::by(route).start().await;
    let mut used = std::collections::HashSet::new();
    for n in 0..12 {
        let (domain, host) = (format!("d{n}.test"), format!("mx{n}.test"));
        rig.zones.mx(&domain, 10, &host).loopback(&host);
        for _ in 0..2 {
            let id = rig.send(&[&format!("r@{domain}")]).await;
            rig.becomes(id, &["delivered"]).await;
        }
        let names: Vec<String> = sink.received().iter().rev().take(2).map(|received| received.helo.clone()).collect();
        assert_eq!(names[0], names[1], "a destination keeps its address");
        used.insert(names[0].clone());
    }
    assert_eq!(used, ["three.relay.test", "four.relay.test"].map(String::from).into());
}
