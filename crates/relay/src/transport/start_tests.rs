//! What is said of addresses and names as receivers see them, by a name server that has and has not what they look for.

use net::ResolverSettings;
use serde_json::json;
use testkit::{Trouble, Zones};

use super::*;
use crate::secrets::Secrets;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));
const PTR: &str = "7.113.0.203.in-addr.arpa";
const HELO: &str = "mx.shop.test";

async fn world() -> (Zones, Resolver) {
    let zones = Zones::start().await;
    let settings = ResolverSettings {
        servers: vec![zones.address()],
        timeout: Duration::from_secs(5),
        ..ResolverSettings::default()
    };
    let resolver = Resolver::new(settings).unwrap();
    (zones, resolver)
}

fn route(name: &str, record: serde_json::Value) -> Arc<Route> {
    Arc::new(Route::new(name.into(), serde_json::from_value(record).unwrap(), Secrets::default(), 1))
}

#[tokio::test]
async fn an_address_whose_name_leads_back_and_is_said_is_in_order() {
    let (zones, resolver) = world().await;
    zones.line(&format!("{PTR} PTR {HELO}")).address_of(HELO, ADDRESS);
    assert_eq!(reverse_problem(&resolver, ADDRESS, "MX.Shop.Test").await, None);
    let other = reverse_problem(&resolver, ADDRESS, "relay.test").await.unwrap();
    assert!(other.contains("203.0.113.7 is mx.shop.test in the DNS and says relay.test in EHLO"), "{other}");
}

#[tokio::test]
async fn a_missing_a_false_and_an_unknown_ptr_record_are_told_apart() {
    let (_zones, resolver) = world().await;
    let none = reverse_problem(&resolver, ADDRESS, HELO).await.unwrap();
    assert!(none.contains("203.0.113.7 has no PTR record"), "{none}");

    let (zones, resolver) = world().await;
    zones.line(&format!("{PTR} PTR {HELO}")).address_of(HELO, IpAddr::from([203, 0, 113, 8]));
    let other = reverse_problem(&resolver, ADDRESS, HELO).await.unwrap();
    assert!(other.contains("names mx.shop.test, which does not lead back to it"), "{other}");

    let (zones, resolver) = world().await;
    zones.fail(PTR, Trouble::ServFail);
    let unknown = reverse_problem(&resolver, ADDRESS, HELO).await.unwrap();
    assert!(unknown.contains("cannot be looked up"), "{unknown}");
}

#[tokio::test]
async fn an_address_that_is_not_here_is_said_and_a_private_one_is_nobodys_business() {
    let (_zones, resolver) = world().await;
    let gone = address_problem(&resolver, IpAddr::from([192, 0, 2, 1]), HELO).await.unwrap();
    assert!(gone.contains("192.0.2.1 is not one of this machine's"), "{gone}");
    assert_eq!(address_problem(&resolver, IpAddr::from([127, 0, 0, 1]), HELO).await, None);
}

#[tokio::test]
async fn a_name_in_ehlo_needs_an_address_unless_it_is_one_or_cannot_be_asked_for() {
    let (zones, resolver) = world().await;
    zones.address_of(HELO, ADDRESS).fail("broken.test", Trouble::ServFail);
    for (name, said) in [
        (HELO, None),
        ("[203.0.113.7]", None),
        ("broken.test", None),
        ("nowhere.test", Some("nowhere.test, said in EHLO, has no address")),
        ("localhost", Some("localhost, said in EHLO, is no full name")),
    ] {
        let found = name_problem(&resolver, name).await;
        assert_eq!(found.is_some(), said.is_some(), "{name}: {found:?}");
        assert!(found.unwrap_or_default().contains(said.unwrap_or_default()), "{name}");
    }
}

#[test]
fn routes_without_addresses_of_their_own_are_seen_from_the_usual_ones() {
    let usual = || vec![ADDRESS];
    let routes = [
        route("plain", json!({"kind": "mx"})),
        route("provider", json!({"kind": "smarthost", "host": "smtp.test", "helo": "unasked.test"})),
    ];
    let seen = Seen::of(routes.iter(), "relay.test", usual);
    assert_eq!(seen.addresses, BTreeMap::from([(ADDRESS, "relay.test".to_owned())]));
    assert_eq!(seen.names, BTreeSet::from(["relay.test".to_owned()]));

    let pool = json!([{"address": "192.0.2.1", "helo": "one.test"}, {"address": "192.0.2.2"}]);
    let own = [route("own", json!({"kind": "mx", "helo": "two.test", "sources": pool}))];
    let seen = Seen::of(own.iter(), "relay.test", usual);
    assert!(!seen.addresses.contains_key(&ADDRESS), "{seen:?}");
    assert_eq!(seen.names, BTreeSet::from(["one.test".to_owned(), "two.test".to_owned()]));
}
