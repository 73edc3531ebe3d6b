//! DANE (RFC 7672): a signed tree of zones, and a sink for each way in which a host may keep or break its promise.

use std::net::{IpAddr, Ipv4Addr};

use net::{Dnssec, Resolver, ResolverSettings};
use proto::transcript::{Failure, PolicyProblem, TransportPolicy};
use serde_json::json;
use testkit::ca::Validity;
use testkit::signed::SignedTree;
use testkit::zones::{RecordType, rdata};
use testkit::{Act, Ca, Page, Rule, Sink, SinkOptions, Stage, Tls, Web, Zones};

use crate::policies::{envelope, policy, tls_of};
use crate::rig::{Rig, Setup, beside};

/// A mail host of the story: its own address, and what it publishes.
pub struct Host {
    /// First label of domain and host.
    name: &'static str,
    tls: Tls,
    rules: Vec<Rule>,
    /// Content of its TLSA records.
    pins: Vec<String>,
}

impl Host {
    pub fn new(name: &'static str, tls: Tls, pins: &[String]) -> Self {
        Self { name, tls, rules: Vec::new(), pins: pins.to_vec() }
    }
}

pub fn starttls(issued: &testkit::Issued) -> Tls {
    Tls::StartTls(issued.clone())
}

/// `usage selector matching data` for a certificate.
pub fn pin(usage: u8, selector: u8, matching: u8, der: &[u8]) -> String {
    testkit::ca::pin(usage, selector, matching, der)
}

/// The hosts as `NAME.secure` with the mail host `mx-NAME.secure`; further records as in a zone file.
pub async fn world(hosts: Vec<Host>, further: &[(&str, &str, &str)]) -> (Vec<Sink>, Rig) {
    let (sinks, tree) = tree(hosts, further).await;
    let setup = setup(&sinks, &tree);
    let rig = setup.start_with(Ca::new(), Zones::start().await).await;
    // The name server lives as long as the test.
    std::mem::forget(tree);
    (sinks, rig)
}

pub fn setup(sinks: &[Sink], tree: &SignedTree) -> Setup {
    let asking = ResolverSettings {
        servers: vec![tree.address()],
        timeout: std::time::Duration::from_secs(5),
        dnssec: Dnssec::Anchors(tree.anchors().to_owned()),
    };
    let validating = Resolver::new(asking).unwrap();
    Setup::by(json!({"kind": "mx", "port": sinks[0].port(), "dane": true}))
        .config(|config| config.transport.validating = Some(validating))
}

pub async fn tree(hosts: Vec<Host>, further: &[(&str, &str, &str)]) -> (Vec<Sink>, SignedTree) {
    let mut sinks: Vec<Sink> = Vec::new();
    let mut records = Vec::new();
    for (at, host) in hosts.into_iter().enumerate() {
        let options = SinkOptions { tls: host.tls, rules: host.rules, ..SinkOptions::default() };
        let address = Ipv4Addr::new(127, 0, 1, u8::try_from(at + 1).unwrap());
        let sink = match sinks.first() {
            Some(first) => beside(first, &address.to_string(), options).await,
            None => Sink::with(SinkOptions { address: Some((IpAddr::V4(address), 0).into()), ..options }).await,
        };
        let (domain, mx) = (format!("{}.secure", host.name), format!("mx-{}.secure", host.name));
        records.push((domain, rdata(RecordType::MX, &format!("10 {mx}."))));
        records.push((mx.clone(), rdata(RecordType::A, &address.to_string())));
        for pin in host.pins {
            records.push((format!("_{}._tcp.{mx}", sink.port()), rdata(RecordType::TLSA, &pin)));
        }
        sinks.push(sink);
    }
    let port = sinks[0].port().to_string();
    for (name, kind, data) in further {
        records.push((name.replace("PORT", &port), rdata(kind.parse().unwrap(), &data.replace("PORT", &port))));
    }
    let records: Vec<(&str, _)> = records.iter().map(|(name, data)| (name.as_str(), data.clone())).collect();
    (sinks, SignedTree::start(&records).await)
}

#[tokio::test]
async fn a_certificate_that_fits_its_pins_is_enough_and_nothing_else_is() {
    let ca = Ca::new();
    let other = Ca::new();
    let elsewhere = ca.issue(&["elsewhere.test"]);
    let own = Ca::self_signed(&["nobody.test"], Validity::Past, false);
    let of = |name: &'static str| other.issue(&[name]);
    let (host, domain, wrong) = (of("mx-ta.secure"), of("ta-domain.secure"), of("mx-other.secure"));
    let past = other.issue_for(&["mx-ta-past.secure"], Validity::Past);
    let above = pin(2, 0, 1, &other.der());
    let hash = "0".repeat(64);
    let hosts = vec![
        Host::new("ee", starttls(&own), &[pin(3, 1, 1, &own.der())]),
        Host::new("ee-512", starttls(&own), &[pin(3, 0, 2, &own.der()), format!("3 0 1 {hash}")]),
        Host::new("ee-two", starttls(&elsewhere), &[format!("3 1 1 {hash}"), pin(3, 0, 0, &elsewhere.der())]),
        Host::new("ta", starttls(&host.clone().with(&other)), std::slice::from_ref(&above)),
        Host::new("ta-domain", starttls(&domain.clone().with(&other)), &[pin(2, 1, 1, &other.der())]),
        Host::new("ta-full", starttls(&of("mx-ta-full.secure")), &[pin(2, 0, 0, &other.der())]),
        Host::new("ee-wrong", starttls(&elsewhere), &[pin(3, 1, 1, &own.der())]),
        Host::new("ee-weak", starttls(&own), &[format!("3 1 2 {hash}{hash}"), pin(3, 1, 1, &own.der())]),
        Host::new("ta-name", starttls(&wrong.clone().with(&other)), std::slice::from_ref(&above)),
        Host::new("ta-past", starttls(&past.clone().with(&other)), std::slice::from_ref(&above)),
        Host::new("ta-unsent", starttls(&of("mx-ta-unsent.secure")), std::slice::from_ref(&above)),
        Host::new("ta-other", starttls(&ca.issue(&["mx-ta-other.secure"]).with(&other)), &[above]),
    ];
    let names: Vec<&str> = hosts.iter().map(|host| host.name).collect();
    let (sinks, rig) = world(hosts, &[]).await;
    for (name, sink) in names.iter().zip(&sinks) {
        let id = rig.send(&[&format!("r@{name}.secure")]).await;
        if names.iter().position(|is| is == name) < Some(6) {
            rig.becomes(id, &["delivered"]).await;
            assert!(tls_of(&rig, id).await.ends_with("verified by DANE"), "{name}: {}", tls_of(&rig, id).await);
        } else {
            let views = rig.becomes(id, &["deferred"]).await;
            let failure = views[0].failure();
            let wanted = matches!(
                failure,
                Some(Failure::Policy { policy: TransportPolicy::Dane, problem: PolicyProblem::Certificate, .. })
            );
            assert!(wanted, "{name}: {failure:?}");
            assert_eq!(envelope(sink), Vec::<String>::new(), "{name}");
        }
    }
}

#[tokio::test]
async fn pins_of_no_use_demand_tls_with_any_certificate() {
    let own = Ca::self_signed(&["nobody.test"], Validity::Past, false);
    let useless = [pin(1, 1, 1, &own.der()), "3 1 1 00".to_owned(), "9 1 1 00".to_owned()];
    let hosts = vec![Host::new("tls", starttls(&own), &useless), Host::new("clear", Tls::None, &useless)];
    let (sinks, rig) = world(hosts, &[]).await;
    let id = rig.send(&["r@tls.secure", "r@clear.secure"]).await;
    let views = rig.becomes(id, &["delivered", "deferred"]).await;
    assert!(sinks[0].received()[0].tls);
    assert!(matches!(views[1].failure(), Some(Failure::Policy { problem: PolicyProblem::NoTls, .. })), "{views:?}");
    assert_eq!(envelope(&sinks[1]), Vec::<String>::new());
}

#[tokio::test]
async fn a_host_with_pins_gets_nothing_in_clear_whatever_happens_to_starttls() {
    let own = Ca::self_signed(&["nobody.test"], Validity::Now, false);
    let pins = [pin(3, 1, 1, &own.der())];
    let strip =
        |name, act| Host { rules: vec![Rule::at(Stage::StartTls, act)], ..Host::new(name, starttls(&own), &pins) };
    let hosts = vec![
        Host::new("hidden", Tls::None, &pins),
        strip("busy", Act::Reply("454 4.7.0 not now".into())),
        strip("unknown", Act::Reply("502 5.5.1 what".into())),
        strip("cut", Act::Drop),
        strip("reset", Act::Close("220 go ahead".into())),
    ];
    let to: Vec<String> = hosts.iter().map(|host| format!("r@{}.secure", host.name)).collect();
    let (sinks, rig) = world(hosts, &[]).await;
    let id = rig.send(&to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let views = rig.becomes(id, &["deferred"; 5]).await;
    for (view, sink) in views.iter().zip(&sinks) {
        let wanted = matches!(view.failure(), Some(Failure::Policy { problem: PolicyProblem::NoTls, .. }));
        assert!(wanted, "{:?}", view.failure());
        assert!(sink.connections() > 0 && envelope(sink).is_empty(), "{:?}", envelope(sink));
    }
}

#[tokio::test]
async fn only_what_is_proven_counts_and_what_cannot_be_known_waits() {
    let own = Ca::self_signed(&["nobody.test"], Validity::Now, false);
    let right = pin(3, 1, 1, &own.der());
    let wrong = format!("3 1 1 {}", "0".repeat(64));
    let hosts = vec![
        Host::new("unpinned", Tls::None, &[]),
        Host::new("pinned", starttls(&own), std::slice::from_ref(&right)),
        Host::new("clear", Tls::None, &[]),
    ];
    let further = [
        // Not signed at all: neither MX nor TLSA records prove anything.
        ("d.plain", "MX", "10 mx.plain."),
        ("_PORT._tcp.mx.plain", "TLSA", wrong.as_str()),
        // A signed domain whose host is not.
        ("out.secure", "MX", "10 mx.plain."),
        ("mx.plain", "A", "127.0.1.3"),
        // The alias leads to a signed name with pins, or has its own.
        ("alias.secure", "MX", "10 other.secure."),
        ("other.secure", "CNAME", "mx-pinned.secure."),
        ("own-alias.secure", "MX", "10 leaves.secure."),
        ("leaves.secure", "CNAME", "mx2.plain."),
        ("mx2.plain", "A", "127.0.1.2"),
        ("_PORT._tcp.leaves.secure", "TLSA", right.as_str()),
        // Whether there are pins is not known.
        ("bad-tlsa.secure", "MX", "10 mx-bad.secure."),
        ("mx-bad.secure", "A", "127.0.1.3"),
        ("_PORT._tcp.mx-bad.secure", "CNAME", "t.bogus."),
        ("t.bogus", "TLSA", right.as_str()),
        ("bad-host.secure", "MX", "10 mx.bogus."),
        ("mx.bogus", "A", "127.0.1.3"),
        ("d.bogus", "MX", "10 mx-clear.secure."),
    ];
    let (sinks, rig) = world(hosts, &further).await;
    rig.zones.address_of("mx.plain", IpAddr::from([127, 0, 1, 3]));
    let before = |sinks: &[Sink]| sinks.iter().map(Sink::connections).collect::<Vec<_>>();
    for (domain, note) in [
        ("unpinned.secure", None),
        ("d.plain", None),
        ("out.secure", None),
        ("alias.secure", Some("verified by DANE")),
        ("own-alias.secure", Some("verified by DANE")),
    ] {
        let id = rig.send(&[&format!("r@{domain}")]).await;
        rig.becomes(id, &["delivered"]).await;
        let tls = tls_of(&rig, id).await;
        assert!(note.map_or(tls.is_empty(), |note| tls.ends_with(note)), "{domain}: {tls}");
    }
    let counts = before(&sinks);
    for (domain, lookup) in [("bad-tlsa.secure", true), ("bad-host.secure", true), ("d.bogus", false)] {
        let id = rig.send(&[&format!("r@{domain}")]).await;
        let views = rig.becomes(id, &["deferred"]).await;
        let failure = views[0].failure();
        let wanted = match failure {
            Some(Failure::Policy { policy: TransportPolicy::Dane, problem: PolicyProblem::Lookup, .. }) => lookup,
            Some(Failure::DnsUnavailable { .. }) => !lookup,
            _ => false,
        };
        assert!(wanted, "{domain}: {failure:?}");
    }
    assert_eq!(before(&sinks), counts, "nobody was asked");
}

#[tokio::test]
async fn pins_win_over_a_policy_and_a_policy_holds_where_there_are_none() {
    let ca = Ca::new();
    let own = Ca::self_signed(&["nobody.test"], Validity::Past, false);
    let hosts =
        vec![Host::new("both", starttls(&own), &[pin(3, 1, 1, &own.der())]), Host::new("policy", starttls(&own), &[])];
    let (sinks, tree) = tree(hosts, &[]).await;
    let web = Web::start(
        &ca.issue(&["mta-sts.both.secure", "mta-sts.policy.secure"]),
        policy("enforce", &["mx-policy.secure"]),
    )
    .await;
    let zones = Zones::start().await;
    for name in ["both.secure", "policy.secure"] {
        zones.loopback(&format!("mta-sts.{name}")).txt(&format!("_mta-sts.{name}"), "v=STSv1; id=1;");
    }
    let setup = setup(&sinks, &tree).config(|config| {
        config.transport.policy_port = web.address().port();
        config.transport.policy_from_private = true;
    });
    let rig = setup.start_with(ca, zones).await;
    let id = rig.send(&["r@both.secure", "r@policy.secure"]).await;
    let views = rig.becomes(id, &["delivered", "deferred"]).await;
    let failure = views[1].failure();
    let wanted = matches!(failure, Some(Failure::Policy { policy: TransportPolicy::MtaSts, .. }));
    assert!(wanted, "{failure:?}");
    assert_eq!(web.asked().len(), 2);
    assert!(envelope(&sinks[1]).is_empty());
    web.show(Page::Silence);
}

#[tokio::test]
async fn without_a_resolver_that_validates_a_route_with_dane_holds_its_mail_and_says_so() {
    let sink = Sink::start().await;
    let rig = Setup::by(json!({"kind": "mx", "port": sink.port(), "dane": true})).start().await;
    rig.zones.mx("x.test", 10, "mx.test").loopback("mx.test");
    let id = rig.send(&["r@x.test"]).await;
    rig.becomes(id, &["deferred"]).await;
    assert_eq!(sink.connections(), 0);
    let said = crate::rig::eventually("a warning", || async {
        let problems = rig.relay.status().transport_problems;
        (!problems.is_empty()).then_some(problems)
    });
    assert!(said.await[0].contains("DANE"));
}
