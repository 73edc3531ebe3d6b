//! The scope finder against generated incidents of every scope: a small world of routes, providers, senders and streams whose
//! traffic overlaps, with unrelated failures, few attempts, and recoveries that have begun. Seeds are fixed.
//!
//! `cargo test -p pillarbox-relay --test scope_finder -- --nocapture` prints what was taken for what.

use std::collections::BTreeMap;
use std::net::IpAddr;

use explain::Scope;
use relay::incident::{Sample, find, scope::is_inside};
use store::{Family, IncidentScope};

const PER_SCOPE: u64 = 25;
const MINUTE: i64 = 60_000;
const START: i64 = 1_790_000_000_000;

/// Splitmix: the same numbers everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }
    fn share(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1u64 << 53) as f64
    }
    fn chance(&mut self, share: f64) -> bool {
        self.share() < share
    }
    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
    /// The first ones more often.
    fn often<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let share = self.share() * self.share();
        &of[(share * of.len() as f64) as usize]
    }
}

/// Provider, destination, domains.
const DESTINATIONS: [(&str, &str, &[&str]); 11] = [
    ("google", "aspmx.google.example", &["gmail.example", "startup.example", "school.example", "club.example"]),
    ("google", "alt-aspmx.google.example", &["agency.example", "theatre.example"]),
    ("microsoft", "outlook.example", &["hotmail.example", "live.example"]),
    ("microsoft", "bank-tenant.outlook.example", &["bank.example"]),
    ("microsoft", "city-tenant.outlook.example", &["city.example"]),
    ("", "mx.hosting.example", &["bakery.example", "florist.example", "garage.example"]),
    ("", "mx.isp.example", &["isp.example", "isp-mail.example"]),
    ("", "mx.university.example", &["university.example"]),
    ("", "mx.clinic.example", &["clinic.example"]),
    ("", "mx.factory.example", &["factory.example"]),
    ("", "mx.museum.example", &["museum.example"]),
];

const SENDERS: [(&str, &[&str], &[&str]); 4] = [
    ("shop", &["shop.example", "brand.example"], &["receipts", "newsletter"]),
    ("crm", &["shop.example", "corp.example"], &["newsletter", "default"]),
    ("hr", &["corp.example"], &["default", "reminders"]),
    ("monitoring", &["ops.example", "corp.example"], &["alerts", "default", "reminders"]),
];

const V4: [&str; 2] = ["198.51.100.1", "198.51.100.2"];
const V6: [&str; 2] = ["2001:db8::1", "2001:db8::2"];

/// One attempt as traffic has it, before anything fails.
fn attempt(dice: &mut Dice, at_ms: i64) -> Sample {
    let (sender, from, streams) = *dice.one(&SENDERS);
    let (provider, host, domains) = *dice.often(&DESTINATIONS);
    let domain = *dice.often(domains);
    let sender_domain = *dice.often(from);
    let wished = match sender_domain {
        "shop.example" | "brand.example" => ["mailgun", "mx"],
        "corp.example" => ["o365", "mx"],
        _ => ["mx", "o365"],
    };
    let route = if dice.chance(0.6) { wished[0] } else { wished[1] };
    let v6 = dice.chance(0.4);
    let source = dice.one(if v6 { &V6 } else { &V4 });
    let peer = if v6 { "2001:db8:ffff::25" } else { "203.0.113.25" };
    let address = format!("user{}@{domain}", dice.below(4) * dice.below(10));
    let direct = route == "mx";
    Sample {
        at_ms,
        failed: None,
        rule: None,
        route: route.into(),
        provider: if direct { (!provider.is_empty()).then(|| provider.into()) } else { Some(route.into()) },
        destination: if direct { format!("mx/{host}").into() } else { route.into() },
        domain: domain.into(),
        address: address.into(),
        sender_domain: sender_domain.into(),
        sender: sender.into(),
        stream: (*dice.often(streams)).into(),
        source: source.parse::<IpAddr>().ok(),
        peer: peer.parse::<IpAddr>().ok(),
        recipients: 1,
    }
}

/// A scope of a kind that this attempt is in, if there is one.
fn scope_at(kind: &str, sample: &Sample) -> Option<IncidentScope> {
    let direct = *sample.route == *"mx";
    Some(match kind {
        "everyone" => IncidentScope::Everyone,
        "route" => IncidentScope::Route(sample.route.to_string()),
        "credential" if !direct => IncidentScope::Credential(sample.route.to_string()),
        "source" => IncidentScope::Source(sample.source?.to_string()),
        "family" => IncidentScope::Family(Family::of(sample.peer?)),
        "provider" if direct => IncidentScope::Provider(sample.provider.as_ref()?.to_string()),
        "destination" if direct => IncidentScope::Destination(sample.destination.to_string()),
        "domain" => IncidentScope::Domain(sample.domain.to_string()),
        "sender-domain" => IncidentScope::SenderDomain(sample.sender_domain.to_string()),
        "stream" => IncidentScope::Stream(sample.stream.to_string()),
        "sender" => IncidentScope::Sender(sample.sender.to_string()),
        "address" => IncidentScope::Address(sample.address.to_string()),
        _ => return None,
    })
}

/// What kind of trouble has which reason, and what its rule says of whom it touches.
const KINDS: [(&str, &str, Scope); 12] = [
    ("everyone", "dns_failure", Scope::Everyone),
    ("route", "relay_denied", Scope::Route),
    ("credential", "credentials_invalid", Scope::Route),
    ("source", "blocklisted", Scope::OurAddress),
    ("family", "connection_timeout", Scope::Destination),
    ("provider", "rate_limited", Scope::Destination),
    ("destination", "server_busy", Scope::Destination),
    ("domain", "user_unknown", Scope::Recipient),
    ("sender-domain", "dmarc_fail", Scope::Sender),
    ("stream", "spam", Scope::Message),
    ("sender", "sender_rejected", Scope::Sender),
    ("address", "mailbox_full", Scope::Recipient),
];

const RULE_SCOPES: [Scope; 7] = [
    Scope::Recipient,
    Scope::Message,
    Scope::Sender,
    Scope::Route,
    Scope::Destination,
    Scope::OurAddress,
    Scope::Everyone,
];

struct Generated {
    truth: IncidentScope,
    /// Where it began: the last attempt inside before, and the third failure.
    begins: (i64, i64),
    samples: Vec<Sample>,
    reason: &'static str,
    rule: Option<Scope>,
    now_ms: i64,
}

fn generate(kind: usize, seed: u64) -> Option<Generated> {
    let (kind, reason, usual) = KINDS[kind];
    let mut dice = Dice(seed);
    let span = (20 + dice.below(100) as i64) * MINUTE;
    let count = *dice.one(&[60, 120, 250, 500]);
    let mut times: Vec<i64> = (0..count).map(|_| START + dice.below(span as u64) as i64).collect();
    times.sort_unstable();
    let mut samples: Vec<Sample> = times.into_iter().map(|at_ms| attempt(&mut dice, at_ms)).collect();
    let chosen = dice.below(count) as usize;
    let truth = scope_at(kind, &samples[chosen])?;
    let now_ms = START + span;
    let broken_ms = START + span / 10 * (3 + dice.below(5) as i64);
    let mended_ms = if dice.chance(0.2) { now_ms - (now_ms - broken_ms) / 5 } else { now_ms + 1 };
    let (sure, slips, others) = (*dice.one(&[1.0, 0.95, 0.8]), *dice.one(&[0.0, 0.01, 0.03]), *dice.one(&[0.0, 0.05]));
    let mut before_ms = START;
    let mut failures = Vec::new();
    for sample in &mut samples {
        let inside = is_inside(&truth, sample);
        let broken = inside && (broken_ms..mended_ms).contains(&sample.at_ms);
        if broken && dice.chance(sure) {
            failures.push(sample.at_ms);
            sample.failed = Some(reason.into());
        } else if dice.chance(slips) {
            sample.failed = Some(reason.into());
        } else if dice.chance(others) {
            sample.failed = Some("session_timeout".into());
        }
        if inside && failures.is_empty() {
            before_ms = sample.at_ms;
        }
    }
    let rule = match dice.below(10) {
        0 => None,
        1 => Some(*dice.one(&RULE_SCOPES)),
        _ => Some(usual),
    };
    // What an incident is opened for at all.
    let third = *failures.get(2).filter(|_| failures.len() >= 5)?;
    Some(Generated { truth, begins: (before_ms, third), samples, reason, rule, now_ms })
}

/// A destination with one domain is that domain.
fn same(truth: &IncidentScope, found: &IncidentScope) -> bool {
    let host_of = |name: &str| {
        let of = |(_, host, domains): &&(_, &str, &[&str])| {
            domains.len() == 1 && (domains[0] == name || name == format!("mx/{host}"))
        };
        DESTINATIONS.iter().find(of).map(|(_, host, _)| *host)
    };
    let place = |scope: &IncidentScope| match scope {
        IncidentScope::Domain(name) | IncidentScope::Destination(name) => host_of(name),
        _ => None,
    };
    truth == found || place(truth).is_some_and(|host| place(found) == Some(host))
}

#[test]
fn of_300_generated_incidents_scope_and_beginning_are_right_in_at_least_95_of_100() {
    let mut taken: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let (mut all, mut right_scope, mut right_both) = (0, 0, 0);
    for (kind, (name, ..)) in KINDS.iter().enumerate() {
        let seeds = (0u64..).filter_map(|seed| generate(kind, seed * 1_000 + kind as u64));
        for case in seeds.take(PER_SCOPE as usize) {
            let found = find(&case.samples, case.reason, case.rule, case.now_ms).expect("there are failures");
            let scope = same(&case.truth, &found.scope);
            let since = (case.begins.0..=case.begins.1).contains(&found.since_ms);
            all += 1;
            right_scope += u32::from(scope);
            right_both += u32::from(scope && since);
            let word = match (scope, since) {
                (true, true) => "right",
                (true, false) => "right, since wrong",
                (false, _) if found.scope.kind() == *name => "another of the kind",
                (false, _) => found.scope.kind(),
            };
            *taken.entry((name, word)).or_default() += 1;
            if word != "right" {
                println!(
                    "{} ({:?}) taken for {} since {} s, truth {:?}",
                    case.truth,
                    case.rule,
                    found.scope,
                    (found.since_ms - START) / 1_000,
                    ((case.begins.0 - START) / 1_000, (case.begins.1 - START) / 1_000)
                );
            }
        }
    }
    for (name, ..) in KINDS {
        let words = taken.iter().filter(|((kind, _), _)| *kind == name).map(|((_, word), n)| format!("{word} {n}"));
        println!("{name:>14}: {}", words.collect::<Vec<_>>().join(", "));
    }
    println!("{all} incidents, scope right {right_scope}, scope and beginning right {right_both}");
    assert_eq!(all, 300);
    assert!(right_both * 100 >= all * 95, "{right_both} of {all}");
}

#[test]
fn the_order_of_the_samples_does_not_matter() {
    let case = (0..).find_map(|seed| generate(6, seed)).unwrap();
    let found = find(&case.samples, case.reason, case.rule, case.now_ms);
    let mut turned = case.samples.clone();
    turned.reverse();
    assert_eq!(find(&turned, case.reason, case.rule, case.now_ms), found);
}
