//! Each authoritative server is asked by itself, through aliases too.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use net::{Authority, Outcome, Resolver, ResolverSettings};
use testkit::{Trouble, Zones};

/// A resolver's view, and two servers of example.com.
async fn world() -> (Zones, Zones, Zones, Authority) {
    let (view, one, two) = (Zones::start().await, Zones::start().await, Zones::start().await);
    for zones in [&view, &one, &two] {
        for (server, address) in [("ns1.example.net", "192.0.2.1"), ("ns2.example.net", "192.0.2.2")] {
            zones.line(&format!("example.com NS {server}")).line(&format!("{server} A {address}"));
        }
    }
    let settings =
        ResolverSettings { servers: vec![view.address()], timeout: Duration::from_secs(2), ..Default::default() };
    let mut authority = Authority::new(Resolver::new(settings).expect("a resolver"), Duration::from_secs(2));
    for (address, zones) in [("192.0.2.1:53", &one), ("192.0.2.2:53", &two)] {
        authority.redirects.insert(address.parse().unwrap(), zones.address());
    }
    (view, one, two, authority)
}

const NAME: &str = "s1._domainkey.example.com";

#[tokio::test]
async fn servers_that_disagree_are_told_apart_whatever_the_resolver_says() {
    let (view, one, _two, authority) = world().await;
    view.txt(NAME, "cached");
    one.txt(NAME, "new");
    let survey = authority.txt(NAME).await.expect("a survey");
    assert_eq!(survey.zone, "example.com");
    let said: Vec<(&str, Vec<String>)> = survey.said.iter().map(|s| (s.server.as_str(), s.answer.texts())).collect();
    assert_eq!(said, [("ns1.example.net", vec!["new".to_owned()]), ("ns2.example.net", vec![])]);
    assert_eq!(survey.said[1].answer.outcome, Outcome::NxDomain);
}

#[tokio::test]
async fn an_alias_is_followed_and_a_server_without_it_is_not_forgotten() {
    let (view, one, two, authority) = world().await;
    view.line("keys.example.org NS ns3.example.net").line("ns3.example.net A 192.0.2.2");
    one.cname(NAME, "k.keys.example.org");
    two.txt("k.keys.example.org", "key");
    let survey = authority.txt(NAME).await.expect("a survey");
    assert_eq!(survey.aliases, ["k.keys.example.org"]);
    let said: Vec<(&str, usize)> =
        survey.said.iter().map(|said| (said.server.as_str(), said.answer.records.len())).collect();
    assert_eq!(said, [("ns2.example.net", 0), ("ns3.example.net", 1)]);
    two.cname(NAME, "k.keys.example.org");
    let survey = authority.txt(NAME).await.expect("a survey");
    assert!(survey.said.iter().all(|said| !said.answer.records.is_empty()), "{survey:?}");
}

#[tokio::test]
async fn a_zone_that_cannot_be_found_is_an_error_with_its_reason() {
    let (view, _one, _two, authority) = world().await;
    let error = authority.txt("s1._domainkey.none.example").await.unwrap_err();
    assert!(error.to_string().contains("registered"), "{error}");
    view.fail("_domainkey.example.com", Trouble::ServFail);
    let error = authority.txt(NAME).await.unwrap_err();
    assert!(error.to_string().contains("SERVFAIL"), "{error}");
}
