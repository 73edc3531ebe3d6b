//! The records of a domain at its own name servers: real DNS packets, servers that disagree, die and come back.
#![allow(clippy::unwrap_used, reason = "a broken set-up has to stop the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use diagnose::journal::{Difference, Patience, Snapshot, What, of_address, of_domain};
use explain::Severity;
use net::{Authority, Resolver, ResolverSettings};
use testkit::{Trouble, Zones};

/// A domain with two name servers, and what resolvers see of it.
struct World {
    view: Zones,
    servers: [Zones; 2],
    authority: Authority,
}

const RECORDS: &[&str] = &[
    "shop.test NS ns1.dns.test",
    "shop.test NS ns2.dns.test",
    "shop.test MX 10 mx.shop.test",
    "shop.test TXT v=spf1 include:_spf.shop.test -all",
    "shop.test TXT some-verification=1234",
    "_spf.shop.test TXT v=spf1 ip4:192.0.2.0/24 -all",
    "s1._domainkey.shop.test TXT v=DKIM1; p=AAAA",
    "_dmarc.shop.test TXT v=DMARC1; p=reject",
    "9.2.0.192.in-addr.arpa PTR mail.shop.test.",
];

impl World {
    async fn start() -> Self {
        let (view, one, two) = (Zones::start().await, Zones::start().await, Zones::start().await);
        for zone in ["shop.test", "2.0.192.in-addr.arpa"] {
            view.line(&format!("{zone} NS ns1.dns.test")).line(&format!("{zone} NS ns2.dns.test"));
        }
        view.line("ns1.dns.test A 192.0.2.1").line("ns2.dns.test A 192.0.2.2");
        for line in RECORDS {
            one.line(line);
            two.line(line);
        }
        let settings = ResolverSettings { servers: vec![view.address()], ..ResolverSettings::default() };
        let mut authority = Authority::new(Resolver::new(settings).unwrap(), Duration::from_secs(3));
        for (address, zones) in [("192.0.2.1:53", &one), ("192.0.2.2:53", &two)] {
            authority.redirects.insert(address.parse().unwrap(), zones.address());
        }
        Self { view, servers: [one, two], authority }
    }

    async fn take(&self) -> BTreeMap<What, Snapshot> {
        let selectors = BTreeSet::from(["s1".to_owned()]);
        let taken = of_domain(&self.authority, "shop.test", &selectors).await;
        taken.into_iter().map(|(what, snapshot)| (what, snapshot.unwrap())).collect()
    }
}

#[tokio::test]
async fn every_record_is_asked_at_every_server_and_includes_are_followed() {
    let world = World::start().await;
    let first = world.take().await;
    let include = What::SpfOf("_spf.shop.test".into());
    for what in [What::Ns, What::Mx, What::Spf, What::Dmarc, What::Dkim("s1".into()), include.clone()] {
        assert_eq!(first[&what].answering().count(), 2, "{what}");
        assert!(!first[&what].is_half() && !first[&what].is_empty(), "{what}");
    }
    assert_eq!(first[&What::Spf].records().len(), 1, "other texts do not count");
    assert!(first[&What::MtaSts].is_empty() && first[&What::TlsRpt].is_empty());
    assert_eq!(world.take().await, first, "nothing changed");
    let (_, pointer) = of_address(&world.authority, "192.0.2.9".parse().unwrap()).await;
    assert_eq!(pointer.unwrap().records().into_iter().collect::<Vec<_>>(), ["mail.shop.test."]);
}

#[tokio::test]
async fn a_change_that_only_one_server_has_is_half_propagated() {
    let world = World::start().await;
    let before = world.take().await;
    let include = What::SpfOf("_spf.shop.test".into());
    world.servers[0].remove("_spf.shop.test").txt("_spf.shop.test", "v=spf1 ip4:198.51.100.0/24 -all");
    let half = world.take().await;
    let found = Difference::between(&include, "shop.test", &before[&include], &half[&include]).unwrap();
    assert_eq!(found.severity, Severity::Warning);
    assert_eq!(found.servers.len(), 1);
    let told = found.lines.join("\n");
    assert!(told.contains("ns1.dns.test (192.0.2.1) has \"v=spf1 ip4:198.51.100.0/24 -all\""), "{told}");
    assert!(told.contains("ns2.dns.test (192.0.2.2) has \"v=spf1 ip4:192.0.2.0/24 -all\""), "{told}");
    for (what, snapshot) in &half {
        let same = Difference::between(what, "shop.test", &before[what], snapshot).is_none();
        assert_eq!(same, *what != include, "{what}");
    }
    world.servers[1].remove("_spf.shop.test").txt("_spf.shop.test", "v=spf1 ip4:198.51.100.0/24 -all");
    let whole = world.take().await;
    let found = Difference::between(&include, "shop.test", &half[&include], &whole[&include]).unwrap();
    assert_eq!(found.severity, Severity::Note);
    assert_eq!(found.gone, ["\"v=spf1 ip4:192.0.2.0/24 -all\""]);
}

#[tokio::test]
async fn a_lame_server_is_told_after_its_second_failure_and_records_that_are_gone_at_once() {
    let world = World::start().await;
    let before = world.take().await;
    let mut patience = Patience::default();
    let lame = Trouble::Refused;
    world.servers[1].fail("shop.test", lame);
    let mut found = Vec::new();
    for _ in 0..2 {
        let mut now = world.take().await.remove(&What::Mx).unwrap();
        now.be_patient("shop.test", Some(&before[&What::Mx]), &mut patience);
        found.push(Difference::between(&What::Mx, "shop.test", &before[&What::Mx], &now));
    }
    assert_eq!(found[0], None);
    let told = found[1].as_ref().unwrap();
    assert_eq!((told.severity, told.lines.len()), (Severity::Warning, 1), "{:?}", told.lines);
    assert!(told.lines[0].contains("ns2.dns.test (192.0.2.2) does not have the zone (REFUSED)"), "{:?}", told.lines);
    assert!(told.gone.is_empty());
    for server in &world.servers {
        server.remove("shop.test").empty("shop.test");
    }
    let now = world.take().await.remove(&What::Spf).unwrap();
    let found = Difference::between(&What::Spf, "shop.test", &before[&What::Spf], &now).unwrap();
    assert_eq!(found.severity, Severity::Problem);
    assert!(found.lines[0].contains("is on no name server any more; it was \"v=spf1 include:_spf.shop.test -all\""));
}

#[tokio::test]
async fn silence_of_all_servers_is_no_change_and_the_end_of_a_zone_is_one() {
    let world = World::start().await;
    let before = world.take().await;
    for server in &world.servers {
        server.fail_type("shop.test", testkit::zones::RecordType::MX, Trouble::Silent);
    }
    let taken = of_domain(&world.authority, "shop.test", &BTreeSet::new()).await;
    let (_, mx) = taken.into_iter().find(|(what, _)| *what == What::Mx).unwrap();
    assert_eq!(mx.unwrap_err(), "no name server of shop.test can be asked from here");
    // A resolver of its own: the answers of the old one are kept for a while.
    world.view.remove("shop.test");
    let settings = ResolverSettings { servers: vec![world.view.address()], ..ResolverSettings::default() };
    let authority = Authority::new(Resolver::new(settings).unwrap(), Duration::from_secs(3));
    let taken = of_domain(&authority, "shop.test", &BTreeSet::new()).await;
    let (_, mx) = taken.into_iter().find(|(what, _)| *what == What::Mx).unwrap();
    let found = Difference::between(&What::Mx, "shop.test", &before[&What::Mx], &mx.unwrap()).unwrap();
    assert_eq!(found.severity, Severity::Problem);
    assert!(found.lines[0].contains("did the registration end?"), "{:?}", found.lines);
}
