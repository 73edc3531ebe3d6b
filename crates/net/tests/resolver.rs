//! Names against a real name server on the loopback address: RFC 5321 §5.1 and what goes wrong on the way.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::rr::RecordType;
use net::{MxHost, Resolver, ResolverSettings};
use proto::transcript::Failure;
use testkit::zones::{Trouble, Zones};

fn resolver(servers: Vec<SocketAddr>) -> Resolver {
    within(servers, Duration::from_secs(3))
}

fn within(servers: Vec<SocketAddr>, timeout: Duration) -> Resolver {
    Resolver::new(ResolverSettings { servers, timeout, ..Default::default() }).expect("resolver")
}

fn host(preference: u16, host: &str) -> MxHost {
    MxHost { preference, host: host.into() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

#[tokio::test]
async fn mail_hosts_come_by_preference_and_each_only_once() {
    let zones = Zones::start().await;
    zones.mx("example.test", 20, "Backup.Example.Test").mx("example.test", 10, "mx.example.test").mx(
        "example.test",
        30,
        "mx.example.test",
    );
    let found = resolver(vec![zones.address()]).mail_hosts("example.test").await.expect("hosts");
    assert_eq!(found.hosts, [host(10, "mx.example.test"), host(20, "backup.example.test")]);
    assert!(found.ttl > Duration::ZERO);
}

#[tokio::test]
async fn many_mail_hosts_are_cut_to_twenty() {
    let zones = Zones::start().await;
    for number in 0..30 {
        zones.mx("many.test", number, &format!("mx{number}.many.test"));
    }
    let found = resolver(vec![zones.address()]).mail_hosts("many.test").await.expect("hosts");
    assert_eq!(found.hosts.len(), 20);
    assert_eq!(found.hosts.last(), Some(&host(19, "mx19.many.test")));
}

#[tokio::test]
async fn a_domain_without_mx_is_its_own_mail_host_if_it_has_an_address() {
    let zones = Zones::start().await;
    zones.address_of("plain.test", ip("192.0.2.1")).txt("none.test", "no mail here");
    let resolver = resolver(vec![zones.address()]);
    assert_eq!(resolver.mail_hosts("plain.test").await.expect("hosts").hosts, [host(0, "plain.test")]);
    let none = resolver.mail_hosts("none.test").await;
    assert_eq!(none.unwrap_err(), Failure::NoAddress { name: "none.test".into() });
}

#[tokio::test]
async fn a_null_mx_takes_no_mail_even_with_an_address() {
    let zones = Zones::start().await;
    zones.mx("null.test", 0, ".").address_of("null.test", ip("192.0.2.1"));
    let null = resolver(vec![zones.address()]).mail_hosts("null.test").await;
    assert_eq!(null.unwrap_err(), Failure::NullMx { domain: "null.test".into() });
}

#[tokio::test]
async fn a_missing_name_is_final_and_a_failing_server_is_not() {
    let zones = Zones::start().await;
    zones.fail("servfail.test", Trouble::ServFail).fail("refused.test", Trouble::Refused);
    let resolver = resolver(vec![zones.address()]);
    let missing = resolver.mail_hosts("missing.test").await;
    assert_eq!(missing.unwrap_err(), Failure::NameNotFound { name: "missing.test".into() });
    for name in ["servfail.test", "refused.test"] {
        let failure = resolver.mail_hosts(name).await.unwrap_err();
        assert!(matches!(&failure, Failure::DnsUnavailable { name: asked, .. } if asked == name), "{failure:?}");
    }
    assert!(matches!(resolver.mail_hosts("not a name").await.unwrap_err(), Failure::NameNotFound { .. }));
}

#[tokio::test]
async fn a_failing_mx_question_never_falls_back_to_the_address() {
    let zones = Zones::start().await;
    zones.address_of("broken.test", ip("192.0.2.1"));
    zones.fail_type("broken.test", mx(), Trouble::ServFail);
    let failure = resolver(vec![zones.address()]).mail_hosts("broken.test").await.unwrap_err();
    assert!(matches!(failure, Failure::DnsUnavailable { .. }), "{failure:?}");
}

#[tokio::test]
async fn silence_is_unknown_within_the_time_limit() {
    let zones = Zones::start().await;
    zones.fail("silent.test", Trouble::Silent);
    let resolver = within(vec![zones.address()], Duration::from_millis(1500));
    let answer = tokio::time::timeout(Duration::from_secs(10), resolver.mail_hosts("silent.test")).await;
    assert!(matches!(answer.expect("in time").unwrap_err(), Failure::DnsUnavailable { .. }));
}

#[tokio::test]
async fn addresses_are_ipv6_first_and_one_family_is_enough() {
    let zones = Zones::start().await;
    zones.address_of("both.test", ip("192.0.2.1")).address_of("both.test", ip("2001:db8::1"));
    zones.address_of("half.test", ip("192.0.2.2"));
    zones.fail_type("half.test", aaaa(), Trouble::ServFail);
    zones.cname("alias.test", "both.test");
    zones.txt("none.test", "nothing");
    let resolver = resolver(vec![zones.address()]);
    assert_eq!(resolver.addresses("both.test").await.expect("addresses"), [ip("2001:db8::1"), ip("192.0.2.1")]);
    assert_eq!(resolver.addresses("half.test").await.expect("addresses"), [ip("192.0.2.2")]);
    assert_eq!(resolver.addresses("alias.test").await.expect("addresses").len(), 2);
    assert!(matches!(resolver.addresses("none.test").await.unwrap_err(), Failure::NoAddress { .. }));
    assert!(matches!(resolver.addresses("missing.test").await.unwrap_err(), Failure::NameNotFound { .. }));
}

#[tokio::test]
async fn half_an_answer_and_no_address_is_unknown() {
    let zones = Zones::start().await;
    zones.txt("half.test", "nothing").fail_type("half.test", aaaa(), Trouble::ServFail);
    let failure = resolver(vec![zones.address()]).addresses("half.test").await.unwrap_err();
    assert!(matches!(failure, Failure::DnsUnavailable { .. }), "{failure:?}");
}

#[tokio::test]
async fn literals_need_no_name_server() {
    let resolver = resolver(vec![(Ipv4Addr::LOCALHOST, 1).into()]);
    assert_eq!(resolver.mail_hosts("[192.0.2.1]").await.expect("hosts").hosts, [host(0, "[192.0.2.1]")]);
    assert_eq!(resolver.addresses("[192.0.2.1]").await.expect("address"), [ip("192.0.2.1")]);
    assert_eq!(resolver.addresses("[IPv6:2001:db8::1]").await.expect("address"), [ip("2001:db8::1")]);
    assert_eq!(resolver.addresses("192.0.2.1").await.expect("address"), [ip("192.0.2.1")]);
}

#[tokio::test]
async fn an_answer_is_asked_for_once() {
    let zones = Zones::start().await;
    zones.mx("cached.test", 10, "mx.cached.test");
    let resolver = resolver(vec![zones.address()]);
    for _ in 0..3 {
        resolver.mail_hosts("cached.test").await.expect("hosts");
    }
    assert_eq!(zones.queries("cached.test", mx()), 1);
}

fn mx() -> RecordType {
    RecordType::MX
}

fn aaaa() -> RecordType {
    RecordType::AAAA
}
