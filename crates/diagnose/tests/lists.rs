//! Blocklists over real DNS packets: what is weighed, and what is no listing though it looks like one.
#![allow(clippy::unwrap_used, reason = "a broken set-up has to stop the test")]

use std::time::Duration;

use diagnose::lists::{ListState, Lists, ListsReport, Rank, Subject};
use explain::lists::{Blocklist, blocklists, with_own};
use net::{Resolver, ResolverSettings};
use testkit::{Trouble, Zones};

/// Every built-in list works, and lists nobody.
async fn zones() -> Zones {
    let zones = Zones::start().await;
    for list in blocklists().iter().filter(|list| list.retired.is_none()) {
        zones.line(&format!("{} SOA ns.example.net. hostmaster.example.net. 1 1 1 1 1", list.zone));
        let listed = list.test_listed.as_deref().unwrap_or("2.0.0.127");
        let code = if list.third == 1 { "127.0.1.2" } else { "127.0.0.2" };
        zones.line(&format!("{listed}.{} A {code}", list.zone));
    }
    zones
}

async fn ask(zones: &Zones, lists: Vec<Blocklist>, subjects: &[&str]) -> ListsReport {
    let timeout = Duration::from_secs(3);
    let settings = ResolverSettings { servers: vec![zones.address()], timeout, ..ResolverSettings::default() };
    let subjects: Vec<Subject> = subjects.iter().map(|text| Subject::parse(text).unwrap()).collect();
    Lists::new(Resolver::new(settings).unwrap(), lists, "x012345".into()).report(&subjects, 0).await
}

#[tokio::test]
async fn entries_are_weighed_by_who_believes_the_list() {
    let zones = zones().await;
    let clean = ask(&zones, blocklists().to_vec(), &["192.0.2.9", "shop.example.com"]).await;
    assert_eq!((clean.rank(), clean.subjects[0].answered, clean.subjects[1].answered), (Rank::Clean, 9, 3));
    assert!(clean.lists.iter().all(|list| list.state == ListState::Good));
    for (line, rank, points) in [
        ("9.2.0.192.dnsbl-3.uceprotect.net A 127.0.0.2", Rank::Note, 1),
        ("9.2.0.192.psbl.surriel.com A 127.0.0.2", Rank::Warning, 3),
        ("9.2.0.192.zen.spamhaus.org A 127.0.0.10", Rank::Warning, 8),
        ("9.2.0.192.zen.spamhaus.org A 127.0.0.4", Rank::Problem, 13),
    ] {
        zones.line(line);
        let report = ask(&zones, blocklists().to_vec(), &["192.0.2.9"]).await;
        assert_eq!((report.rank(), report.subjects[0].points), (rank, points), "{line}: {:#?}", report.subjects);
    }
    zones.txt("9.2.0.192.zen.spamhaus.org", "see https://check.spamhaus.org/\u{1b}[31m");
    zones.line("example.com.dbl.spamhaus.org A 127.0.1.2");
    let report = ask(&zones, blocklists().to_vec(), &["192.0.2.9", "shop.example.com", "192.0.2.8"]).await;
    let reason = report.subjects[0].listings[0].reason.as_deref().unwrap();
    assert!(reason.starts_with("see https://check.spamhaus.org/") && !reason.contains('\u{1b}'), "{reason}");
    assert_eq!(report.subjects[1].rank, Rank::Problem, "the registered domain is listed");
    assert_eq!(report.subjects[2].rank, Rank::Clean);
}

#[tokio::test]
async fn refusing_dead_and_wildcarding_lists_list_nobody() {
    let soa = "zen.spamhaus.org SOA ns.example.net. hostmaster.example.net. 1 1 1 1 1";
    for (state, records) in [
        (ListState::Refused, vec![soa, "*.zen.spamhaus.org A 127.255.255.254"]),
        (ListState::Refused, vec![soa, "*.zen.spamhaus.org A 127.255.255.255"]),
        (ListState::Refused, vec![soa, "*.zen.spamhaus.org A 127.255.255.252"]),
        (ListState::Unusable, vec![soa, "*.zen.spamhaus.org A 127.0.0.2"]),
        (ListState::Unusable, vec![soa, "*.zen.spamhaus.org A 192.0.2.80"]),
        (
            ListState::Unusable,
            vec![soa, "2.0.0.127.zen.spamhaus.org A 127.0.0.2", "1.0.0.127.zen.spamhaus.org A 127.0.0.2"],
        ),
        (ListState::Unusable, vec![]),
    ] {
        let zones = zones().await;
        zones.remove("zen.spamhaus.org").remove("2.0.0.127.zen.spamhaus.org");
        for line in &records {
            zones.line(line);
        }
        zones.line("9.2.0.192.zen.spamhaus.org A 127.0.0.2");
        let report = ask(&zones, blocklists().to_vec(), &["192.0.2.9"]).await;
        let zen = report.lists.iter().find(|list| list.id == "spamhaus-zen").unwrap();
        assert_eq!((zen.state, report.rank()), (state, Rank::Clean), "{records:?} {zen:?}");
        assert!(report.subjects[0].unknown.contains_key("spamhaus-zen"), "it is said that nothing is known");
        assert_eq!(report.subjects[0].answered, 8);
    }
    // A refusal at the address itself, and a server that fails only there.
    let zones = zones().await;
    zones.line("9.2.0.192.zen.spamhaus.org A 127.255.255.254");
    zones.fail("9.2.0.192.bl.spamcop.net", Trouble::ServFail);
    let report = ask(&zones, blocklists().to_vec(), &["192.0.2.9"]).await;
    let unknown: Vec<&str> = report.subjects[0].unknown.keys().map(String::as_str).collect();
    assert_eq!((report.rank(), unknown), (Rank::Clean, vec!["spamcop", "spamhaus-zen"]));
}

#[tokio::test]
async fn lists_of_ones_own_are_asked_and_a_key_in_the_zone_is_not_shown() {
    let own = "without = [\"spamhaus-dbl\"]\n[[list]]\nid = \"ours\"\nname = \"Our list\"\nzone = \"key0123.bl.example.net\"\nshown = \"bl.example.net\"\nfor = \"ip\"\n\
               weight = \"minor\"\nused = \"Used by us\"\nurl = \"\"\ncodes = [{ from = 2, means = \"listed\" }]\n";
    let zones = zones().await;
    zones.line("key0123.bl.example.net SOA ns.example.net. hostmaster.example.net. 1 1 1 1 1");
    zones.line("2.0.0.127.key0123.bl.example.net A 127.0.0.2");
    zones.line("9.2.0.192.key0123.bl.example.net A 127.0.0.2");
    let report = ask(&zones, with_own(own).unwrap(), &["192.0.2.9", "example.com"]).await;
    assert_eq!(report.rank(), Rank::Warning);
    assert_eq!(report.subjects[1].answered, 2);
    assert!(!serde_json::to_string(&report).unwrap().contains("key0123"));
}
