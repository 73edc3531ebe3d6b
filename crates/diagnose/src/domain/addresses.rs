//! Addresses that send: their reverse names, whether these lead back, and whether the EHLO name fits.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::future::join_all;
use net::{Outcome, lookup::Data, lookup::Kind};
use proto::policy::dns::reverse_name;

use super::audit::Scene;
use super::notes::Notes;
use super::plan::Section;
use super::text::{address_line, dotted};

/// Words in the names that providers give to the lines of their customers.
const GENERIC: [&str; 14] = [
    "dynamic",
    "dyn",
    "dhcp",
    "dsl",
    "adsl",
    "cable",
    "pool",
    "ppp",
    "dialup",
    "dial",
    "client",
    "cust",
    "broadband",
    "home",
];

/// Looks at each address.
pub(super) async fn look(scene: Scene<'_>) -> Notes {
    let mut notes = Notes::new(Section::Addresses);
    if !scene.wants(Section::Addresses) {
        return notes;
    }
    let plan = &scene.auditor.plan;
    let senders = plan.senders();
    if senders.is_empty() {
        notes.idle("no sending address was given");
        return notes;
    }
    for ip in &senders {
        let route = plan.routes.iter().find(|route| route.source == Some(*ip));
        let helo = route.and_then(|route| route.helo.clone()).or_else(|| plan.helo.clone());
        one(scene, *ip, helo.as_deref(), &mut notes).await;
    }
    let shown: Vec<String> = senders.iter().map(ToString::to_string).collect();
    notes.summary(shown.join(", "));
    notes
}

async fn addresses_of(scene: Scene<'_>, name: &str) -> Option<BTreeSet<IpAddr>> {
    let (six, four) = tokio::join!(scene.auditor.query(name, Kind::Aaaa), scene.auditor.query(name, Kind::A));
    if !six.is_known() && !four.is_known() {
        return None;
    }
    let all = six.records.iter().chain(&four.records).filter_map(|data| match data {
        Data::A(ip) => Some(IpAddr::from(*ip)),
        Data::Aaaa(ip) => Some(IpAddr::from(*ip)),
        _ => None,
    });
    Some(all.collect())
}

fn listed(addresses: &BTreeSet<IpAddr>) -> String {
    let all: Vec<String> = addresses.iter().take(4).map(ToString::to_string).collect();
    if all.is_empty() { "no address".into() } else { all.join(", ") }
}

async fn one(scene: Scene<'_>, ip: IpAddr, helo: Option<&str>, notes: &mut Notes) {
    let reverse = reverse_name(ip);
    let shown = ip.to_string();
    let answer = scene.auditor.query(&reverse, Kind::Ptr).await;
    notes.records(&reverse, Kind::Ptr, &answer);
    if let Outcome::Failed(reason) = &answer.outcome {
        let values = [("domain", scene.domain), ("name", &reverse), ("type", "PTR"), ("reason", reason)];
        notes.sign("domain_dns_failure", values);
        return;
    }
    let wanted = helo.map_or_else(|| format!("mail.{}", scene.domain), str::to_owned);
    let line = format!("{} IN PTR {}", dotted(&reverse), dotted(&wanted));
    let names: Vec<&str> = answer
        .records
        .iter()
        .filter_map(|data| match data {
            Data::Ptr(name) => Some(name.as_str()),
            _ => None,
        })
        .take(10)
        .collect();
    if names.is_empty() {
        notes.sign("ptr_missing", [("ip", shown.as_str()), ("name", &reverse), ("record", &line)]);
    } else {
        let forward = join_all(names.iter().map(|name| addresses_of(scene, name))).await;
        let back =
            names.iter().zip(&forward).find(|(_, found)| found.as_ref().is_some_and(|found| found.contains(&ip)));
        match (back, forward.first()) {
            (Some((name, _)), _) if is_generic(name, ip) => {
                notes.sign("ptr_generic", [("ip", shown.as_str()), ("host", name), ("record", &line)]);
            }
            (Some((name, _)), _) => notes.detail(format!("{shown} is {name}, and back")),
            (None, Some(Some(found))) => {
                let record = address_line(names[0], ip);
                let values =
                    [("ip", shown.as_str()), ("host", names[0]), ("found", &listed(found)), ("record", &record)];
                notes.sign("ptr_not_forward", values);
            }
            _ => notes.detail(format!("{shown} is {}; its address could not be looked up", names[0])),
        }
    }
    if let Some(helo) = helo.filter(|helo| !helo.starts_with('[')) {
        greeting(scene, ip, helo, names.first().copied(), notes).await;
    }
}

async fn greeting(scene: Scene<'_>, ip: IpAddr, helo: &str, reverse: Option<&str>, notes: &mut Notes) {
    let Some(found) = addresses_of(scene, helo).await else { return };
    let (shown, record) = (ip.to_string(), address_line(helo, ip));
    if found.is_empty() {
        notes.sign("helo_unresolvable", [("helo", helo), ("ip", &shown), ("record", &record)]);
    } else if !found.contains(&ip) {
        let host = reverse.unwrap_or("none");
        let values = [("helo", helo), ("ip", &shown), ("found", &listed(&found)), ("host", host), ("record", &record)];
        notes.sign("helo_mismatch", values);
    }
}

/// Whether a name is made from the address, or says that a customer is behind it.
fn is_generic(name: &str, ip: IpAddr) -> bool {
    let lower = name.to_ascii_lowercase();
    let words: Vec<&str> = lower.split(['.', '-', '_']).collect();
    let IpAddr::V4(four) = ip else {
        return words.iter().any(|word| GENERIC.contains(word));
    };
    let octets = four.octets().map(|octet| octet.to_string());
    let position =
        |octet: &String| words.iter().position(|word| word == octet || word.trim_start_matches('0') == octet);
    let found = octets.iter().filter(|octet| position(octet).is_some()).count();
    let hex = format!("{:08x}", u32::from(four));
    let padded: String = four.octets().iter().map(|octet| format!("{octet:03}")).collect();
    let packed = lower.contains(&hex) || lower.replace(['-', '.'], "").contains(&padded);
    let worded = words.iter().any(|word| GENERIC.contains(&word.trim_end_matches(|c: char| c.is_ascii_digit())));
    found == 4 || packed || (worded && found >= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_made_from_the_address_is_told_from_a_servers_name() {
        let ip = "192.0.2.9".parse().unwrap();
        for (name, generic) in [
            ("192-0-2-9.dynamic.example.net", true),
            ("ip-192-0-2-9.example.net", true),
            ("9.2.0.192.dsl.example.net", true),
            ("static.9.2.0.192.clients.example.net", true),
            ("host192000002009.example.net", true),
            ("c0000209.example.net", true),
            ("mail.example.com", false),
            ("mx2.example.com", false),
            ("out-9.example.com", false),
            ("home.example.com", false),
        ] {
            assert_eq!(is_generic(name, ip), generic, "{name}");
        }
    }
}
