//! Raw lookups against a real name server on the loopback address: every outcome told apart.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use net::lookup::{Data, Kind};
use net::{Answer, Outcome, Proof, Resolver, ResolverSettings};
use proto::policy::spf::{Client, Evaluation, Limits, SpfResult};
use testkit::zones::{RecordType, Trouble, Zones, ns};

fn resolver(zones: &Zones) -> Resolver {
    within(zones, Duration::from_secs(3))
}

fn within(zones: &Zones, timeout: Duration) -> Resolver {
    let settings = ResolverSettings { servers: vec![zones.address()], timeout, ..ResolverSettings::default() };
    Resolver::new(settings).expect("resolver")
}

async fn txt(resolver: &Resolver, name: &str) -> Answer {
    resolver.query(name, Kind::Txt).await
}

#[tokio::test]
async fn outcomes_are_told_apart() {
    let zones = Zones::start().await;
    zones.txt("text.test", "one").mx("mail.test", 10, "MX.mail.test").empty("empty.test");
    zones.fail("servfail.test", Trouble::ServFail).fail("refused.test", Trouble::Refused);
    let resolver = resolver(&zones);
    for (name, outcome) in [
        ("text.test", Outcome::Records),
        ("TEXT.test.", Outcome::Records),
        ("mail.test", Outcome::NoData),
        ("empty.test", Outcome::NoData),
        ("missing.test", Outcome::NxDomain),
        ("servfail.test", Outcome::Failed("SERVFAIL".into())),
        ("refused.test", Outcome::Failed("REFUSED".into())),
    ] {
        let answer = txt(&resolver, name).await;
        assert_eq!((answer.outcome, answer.dnssec), (outcome, Proof::Unknown), "{name}");
    }
    let mail = resolver.query("mail.test", Kind::Mx).await;
    assert_eq!(mail.records, [Data::Mx { preference: 10, host: "mx.mail.test".into() }]);
    assert!(mail.ttl.is_some_and(|ttl| ttl <= 60));
}

#[tokio::test]
async fn names_that_are_no_host_names_can_be_asked() {
    let zones = Zones::start().await;
    zones.txt("_dmarc.test", "v=DMARC1").txt("_a._b_.test", "odd");
    let resolver = resolver(&zones);
    for name in ["_dmarc.test", "_a._b_.test"] {
        assert_eq!(txt(&resolver, name).await.outcome, Outcome::Records, "{name}");
    }
    let long = format!("{}.test", "a".repeat(64));
    for name in [long.as_str(), "a..test", ".test", "with space.test", "back\\slash.test", "\u{fc}.test"] {
        assert_eq!(txt(&resolver, name).await.outcome, Outcome::NxDomain, "{name}");
    }
}

#[tokio::test]
async fn aliases_are_listed_in_their_order() {
    let zones = Zones::start().await;
    zones.cname("a.test", "b.test").cname("b.test", "c.test").txt("c.test", "end");
    let answer = txt(&resolver(&zones), "a.test").await;
    assert_eq!(
        (answer.aliases.as_slice(), answer.texts()),
        (&["b.test".to_owned(), "c.test".to_owned()][..], vec!["end".to_owned()])
    );
}

#[tokio::test]
async fn silence_ends_in_time() {
    let zones = Zones::start().await;
    zones.fail("silent.test", Trouble::Silent);
    let start = Instant::now();
    let answer = txt(&within(&zones, Duration::from_millis(900)), "silent.test").await;
    assert_eq!(answer.outcome, Outcome::Failed("timeout".into()));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn long_texts_come_whole() {
    let zones = Zones::start().await;
    let long = "x".repeat(3000);
    zones.txt("long.test", &long);
    assert_eq!(txt(&resolver(&zones), "long.test").await.texts(), [long]);
}

#[tokio::test]
async fn one_server_can_be_asked_without_a_cache() {
    let zones = Zones::start().await;
    zones.txt("direct.test", "old").add("direct.test", ns("ns1.direct.test"));
    let direct = Resolver::at(zones.address(), Duration::from_secs(1)).expect("resolver");
    assert_eq!(txt(&direct, "direct.test").await.texts(), ["old"]);
    zones.remove("direct.test").txt("direct.test", "new");
    assert_eq!(txt(&direct, "direct.test").await.texts(), ["new"]);
    assert_eq!(zones.queries("direct.test", RecordType::TXT), 2);
}

#[tokio::test]
async fn a_procedure_is_answered_to_its_end() {
    let zones = Zones::start().await;
    zones.txt("example.test", "v=spf1 a:host.example.test -all").loopback("host.example.test");
    let client = Client {
        ip: [127, 0, 0, 1].into(),
        helo: "x.test".into(),
        mail_from: "ann@example.test".into(),
        receiver: "y.test".into(),
        now: 0,
    };
    let outcome = resolver(&zones).walk(&mut Evaluation::new(client, Limits::default())).await;
    assert_eq!((outcome.result, outcome.lookups), (SpfResult::Pass, 1));
}
