//! The settings of a route compared with what its provider documents and with what is safe. Pure; the words are rules.

use std::net::IpAddr;
use std::sync::Arc;

use diagnose::{Judge, Judged};
use explain::credential::{self, Login};
use explain::{Preset, PresetTls, RuleBase, Severity, SignIn, Values, preset_of_host};
use proto::transcript::Stage;
use relay::route::{RouteKind, RouteRecord, RouteTls};
use relay::sender::SenderRecord;
use secrecy::SecretString;

/// Most names listed in one finding.
const LISTED: usize = 10;

/// Every sign that may be given here.
#[cfg(test)]
const KINDS: &[&str] = &[
    "route_port_25",
    "route_port_not_offered",
    "route_tls_mode",
    "route_password_in_clear",
    "route_without_tls",
    "route_opportunistic",
    "route_not_verified",
    "route_by_address",
    "route_mechanism",
    "route_no_sign_in",
    "route_helo_missing",
    "route_limits_missing",
    "route_limits_above",
    "route_from_differs",
    "route_sender_any_from",
];

/// A route as it is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a str,
    /// As stored.
    pub record: &'a RouteRecord,
    /// Its password.
    pub secret: Option<&'a SecretString>,
    /// All senders.
    pub senders: &'a [(String, SenderRecord)],
    /// Now, Unix seconds.
    pub now_s: i64,
}

/// What was noticed, with its words: problems first.
pub fn settings(subject: &Subject<'_>, rules: &Arc<RuleBase>) -> Vec<Judged> {
    let record = subject.record;
    let host = record.next_host().unwrap_or_default();
    let mut judge = Judge::new(rules.clone());
    judge.met(rules.provider_of_host(host).map(|provider| provider.id.as_str()));
    let mut found: Vec<Judged> = Vec::new();
    if record.kind == RouteKind::Smarthost
        && let (Some(username), Some(password)) = (&record.username, subject.secret)
    {
        let login = Login {
            provider: judge.provider(),
            host: Some(host),
            mechanism: record.mechanism.as_deref(),
            username,
            password,
            now_s: subject.now_s,
        };
        let notes = credential::lint(&login);
        found.extend(notes.iter().filter_map(|note| judge.sign(Some(Stage::Auth), &note.kind, &note.values)));
    }
    let signs = signs(subject, rules);
    found.extend(signs.iter().filter_map(|(kind, values)| judge.sign(None, kind, values)));
    found.sort_by_key(|one| match one.severity {
        Severity::Problem => 0,
        Severity::Warning => 1,
        Severity::Note => 2,
    });
    found
}

/// Signs with their values.
struct Signs<'a> {
    route: &'a str,
    host: &'a str,
    all: Vec<(&'static str, Values)>,
}

impl Signs<'_> {
    fn add(&mut self, kind: &'static str, values: &[(&str, String)]) {
        let own = [("route", self.route.to_owned()), ("host", explain::sign_value(self.host))];
        let all = own.iter().chain(values).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.all.push((kind, all));
    }
}

fn signs(subject: &Subject<'_>, rules: &RuleBase) -> Vec<(&'static str, Values)> {
    let record = subject.record;
    let host = record.next_host().unwrap_or_default();
    let mut signs = Signs { route: subject.name, host, all: Vec::new() };
    if record.kind == RouteKind::Graph
        && let Some(preset) = preset_of_host(host)
    {
        limits(record, preset, &mut signs);
        from(subject, preset, rules, &mut signs);
    }
    if record.kind == RouteKind::Smarthost {
        let preset = preset_of_host(host);
        security(record, &mut signs);
        way(record, preset, rules, &mut signs);
        if let Some(preset) = preset {
            sign_in(record, preset, rules, &mut signs);
            limits(record, preset, &mut signs);
            from(subject, preset, rules, &mut signs);
        }
    }
    if record.kind.leaves() {
        let any = |sender: &&(String, SenderRecord)| {
            !sender.1.disabled && sender.1.allowed_from.iter().any(|pattern| pattern == "*")
        };
        let names: Vec<&str> = subject.senders.iter().filter(any).map(|(name, _)| name.as_str()).collect();
        if !names.is_empty() {
            signs.add("route_sender_any_from", &[("senders", listed(&names))]);
        }
    }
    signs.all
}

fn tls_of(record: &RouteRecord) -> RouteTls {
    record.tls.unwrap_or_default()
}

fn port_of(record: &RouteRecord) -> u16 {
    record.port.unwrap_or(if tls_of(record) == RouteTls::Implicit { 465 } else { 587 })
}

fn listed(names: &[&str]) -> String {
    let mut text = names.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        text.push_str(&format!(" and {} more", names.len() - LISTED));
    }
    explain::sign_value(&text)
}

fn security(record: &RouteRecord, signs: &mut Signs<'_>) {
    let address: Option<IpAddr> = signs.host.parse().ok();
    // Nobody is on the way inside one machine.
    if address.is_some_and(|address| address.is_loopback()) || signs.host.eq_ignore_ascii_case("localhost") {
        return;
    }
    match tls_of(record) {
        RouteTls::None if record.username.is_some() => signs.add("route_password_in_clear", &[]),
        RouteTls::None => signs.add("route_without_tls", &[]),
        RouteTls::Opportunistic => signs.add("route_opportunistic", &[]),
        RouteTls::Required | RouteTls::Implicit if !record.verify => signs.add("route_not_verified", &[]),
        RouteTls::Required | RouteTls::Implicit if address.is_some() => signs.add("route_by_address", &[]),
        RouteTls::Required | RouteTls::Implicit => {}
    }
}

/// Port and TLS: what the provider offers, else what the well-known ports stand for.
fn way(record: &RouteRecord, preset: Option<&Preset>, rules: &RuleBase, signs: &mut Signs<'_>) {
    let (port, tls) = (port_of(record), tls_of(record));
    let ways = preset.map(|preset| preset.ways(rules)).unwrap_or_default();
    let usual = preset.map_or(587, |preset| preset.port);
    if port == 25 && usual != 25 && (record.username.is_some() || preset.is_some()) {
        signs.add("route_port_25", &[("expected", usual.to_string())]);
    } else if let Some(preset) = preset.filter(|_| !ways.iter().any(|(known, _)| *known == port)) {
        let offered: Vec<String> = ways.iter().map(|(port, _)| port.to_string()).collect();
        let values = [
            ("port", port.to_string()),
            ("expected", usual.to_string()),
            ("offered", offered.join(", ")),
            ("provider", preset.name.clone()),
        ];
        signs.add("route_port_not_offered", &values);
    }
    let offered = ways.iter().find(|(known, _)| *known == port).map(|(_, tls)| *tls);
    let stands_for = offered.or(match port {
        465 => Some(PresetTls::Implicit),
        25 | 587 | 2525 => Some(PresetTls::Starttls),
        _ => None,
    });
    let (is, expected) = match (tls, stands_for) {
        (RouteTls::Implicit, Some(PresetTls::Starttls)) => ("implicit", "required"),
        (RouteTls::Required, Some(PresetTls::Implicit)) => ("required", "implicit"),
        (RouteTls::Opportunistic, Some(PresetTls::Implicit)) => ("opportunistic", "implicit"),
        (RouteTls::None, Some(PresetTls::Implicit)) => ("none", "implicit"),
        _ => return,
    };
    signs.add("route_tls_mode", &[("port", port.to_string()), ("is", is.into()), ("expected", expected.into())]);
}

fn sign_in(record: &RouteRecord, preset: &Preset, rules: &RuleBase, signs: &mut Signs<'_>) {
    let provider = || ("provider", preset.name.clone());
    if preset.sign_in == SignIn::None && record.username.is_some() {
        signs.add("route_no_sign_in", &[provider()]);
    }
    if preset.own_helo && record.username.is_none() && record.helo.is_none() {
        signs.add("route_helo_missing", &[provider()]);
    }
    let known = preset.provider(rules).map(|known| preset.mechanisms(known)).unwrap_or_default();
    if let Some(mechanism) = record.mechanism.as_ref().filter(|_| !known.is_empty())
        && !known.iter().any(|known| known.eq_ignore_ascii_case(mechanism))
    {
        let values = [("mechanism", explain::sign_value(mechanism)), ("offered", known.join(", ")), provider()];
        signs.add("route_mechanism", &values);
    }
}

fn limits(record: &RouteRecord, preset: &Preset, signs: &mut Signs<'_>) {
    let rates = record.rates.clone().unwrap_or_default();
    let (mut missing, mut above) = (Vec::new(), Vec::new());
    for (words, option, advised, is) in [
        ("connections", "connections", preset.connections, record.connections),
        (
            "messages per connection",
            "messages-per-connection",
            preset.messages_per_connection,
            record.messages_per_connection,
        ),
        (
            "recipients per message",
            "recipients-per-transaction",
            preset.recipients_per_transaction,
            record.recipients_per_transaction,
        ),
        ("messages a second", "per-second", preset.per_second, rates.per_second),
        ("messages a minute", "per-minute", preset.per_minute, rates.per_minute),
        ("messages an hour", "per-hour", preset.per_hour, rates.per_hour),
        ("messages a day", "per-day", preset.per_day, rates.per_day),
        ("recipients a day", "recipients-per-day", preset.recipients_per_day, rates.recipients_per_day),
    ] {
        // Without a limit of its own a transaction has at most 100 recipients, which most providers take.
        let default = (option == "recipients-per-transaction").then_some(relay::route::DEFAULT_RECIPIENTS);
        match (advised, is.or(default)) {
            (Some(advised), None) => missing.push((format!("{words} {advised}"), format!("--{option} {advised}"))),
            (Some(advised), Some(is)) if is > advised => {
                above.push((format!("{words} {is} (advised {advised})"), format!("--{option} {advised}")));
            }
            _ => {}
        }
    }
    for (kind, found) in [("route_limits_missing", missing), ("route_limits_above", above)] {
        if !found.is_empty() {
            let (limits, options): (Vec<String>, Vec<String>) = found.into_iter().unzip();
            let provider = ("provider", preset.name.clone());
            signs.add(kind, &[("limits", limits.join(", ")), ("options", options.join(" ")), provider]);
        }
    }
}

/// At mailbox providers From belongs to the account.
fn from(subject: &Subject<'_>, preset: &Preset, rules: &RuleBase, signs: &mut Signs<'_>) {
    let is_mailbox = preset.provider(rules).is_some_and(|provider| provider.kind == "mailbox");
    let account = subject.record.username.as_deref().and_then(|user| user.rsplit_once('@')).map(|(_, domain)| domain);
    let Some(account) = account.filter(|_| is_mailbox) else { return };
    let mut others: Vec<&str> = subject
        .senders
        .iter()
        .filter(|(_, sender)| !sender.disabled)
        .flat_map(|(_, sender)| &sender.allowed_from)
        .filter_map(|pattern| domain_of(pattern))
        .filter(|domain| !domain.eq_ignore_ascii_case(account))
        .collect();
    others.sort_unstable();
    others.dedup();
    if !others.is_empty() {
        let values =
            [("account", explain::sign_value(account)), ("others", listed(&others)), ("provider", preset.name.clone())];
        signs.add("route_from_differs", &values);
    }
}

/// The domain of what a sender may use; none for `*`.
pub fn domain_of(pattern: &str) -> Option<&str> {
    let domain = pattern.rsplit_once('@').map_or(pattern, |(_, domain)| domain);
    Some(domain.trim_start_matches('.')).filter(|domain| !domain.is_empty() && *domain != "*")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn found(record: Value, senders: &[(&str, Value)]) -> Vec<String> {
        let record: RouteRecord = serde_json::from_value(record).unwrap();
        let senders: Vec<(String, SenderRecord)> = senders
            .iter()
            .map(|(name, sender)| ((*name).to_owned(), serde_json::from_value(sender.clone()).unwrap()))
            .collect();
        let secret = SecretString::from("abcdefghijklmnop");
        let secret = record.username.is_some().then_some(&secret);
        let subject = Subject { name: "mail", record: &record, secret, senders: &senders, now_s: 1_795_240_800 };
        let all = settings(&subject, &RuleBase::shared());
        all.iter().map(|one| one.sign.clone().unwrap()).collect()
    }

    fn gmail(more: Value) -> Vec<String> {
        let rates = json!({ "per_day": 400, "recipients_per_day": 500 });
        let mut record = json!({
            "kind": "smarthost", "host": "smtp.gmail.com", "username": "ann@shop.test", "connections": 5,
            "messages_per_connection": 50, "rates": rates,
        });
        crate::http::api::settings::merge(&mut record, more);
        found(record, &[])
    }

    #[test]
    fn a_route_as_its_preset_makes_it_has_nothing_to_complain_about() {
        assert_eq!(gmail(json!({})), [""; 0]);
        for preset in explain::presets().iter().filter(|preset| preset.host.is_some()) {
            let host = preset.host_in(preset.regions.first().map(|region| region.id.as_str())).unwrap();
            let mut body = serde_json::Map::new();
            if preset.own_helo {
                body.insert("helo".into(), "mail.shop.test".into());
            }
            crate::presets::fill(preset, &host, None, RuleBase::builtin(), &mut body);
            body.remove("username");
            body.remove("mechanism");
            let found = found(Value::Object(body), &[]);
            // Free and business accounts of one provider share a host.
            let shared = ["gmail", "workspace"].contains(&preset.id.as_str());
            assert!(found.is_empty() || (shared && found == ["route_limits_above"]), "{}: {found:?}", preset.id);
        }
    }

    #[test]
    fn each_setting_that_is_wrong_is_told_by_itself() {
        for (more, expected) in [
            (json!({ "port": 25 }), &["route_port_25"][..]),
            (json!({ "port": 26 }), &["route_port_not_offered"]),
            (json!({ "port": 465 }), &["route_tls_mode"]),
            (json!({ "port": 587, "tls": "implicit" }), &["route_tls_mode"]),
            (json!({ "port": 465, "tls": "implicit" }), &[]),
            (json!({ "tls": "none", "auth_without_tls": true }), &["route_password_in_clear"]),
            (json!({ "tls": "opportunistic" }), &["route_opportunistic"]),
            (json!({ "verify": false }), &["route_not_verified"]),
            (json!({ "mechanism": "NTLM" }), &["route_mechanism"]),
            (json!({ "mechanism": "PLAIN" }), &[]),
            (json!({ "connections": null, "rates": null }), &["route_limits_missing"]),
            (json!({ "connections": 50 }), &["route_limits_above"]),
            (json!({ "username": "ann" }), &["credential_user_address"]),
            (json!({ "host": "aspmx.l.google.com", "port": 25 }), &["route_no_sign_in"]),
        ] {
            assert_eq!(gmail(more.clone()), expected, "{more}");
        }
        let relay = json!({ "kind": "smarthost", "host": "smtp-relay.gmail.com", "connections": 5,
                            "messages_per_connection": 50, "rates": { "recipients_per_day": 10000 } });
        assert_eq!(found(relay, &[]), ["route_helo_missing"]);
        let plain = |host: &str, more: Value| {
            let mut record = json!({ "kind": "smarthost", "host": host });
            crate::http::api::settings::merge(&mut record, more);
            found(record, &[])
        };
        assert_eq!(plain("mail.example.net", json!({ "tls": "none" })), ["route_without_tls"]);
        assert_eq!(plain("203.0.113.7", json!({})), ["route_by_address"]);
        assert_eq!(plain("127.0.0.1", json!({ "tls": "none", "port": 2525 })), [""; 0]);
        assert_eq!(plain("mail.example.net", json!({})), [""; 0]);
    }

    #[test]
    fn senders_that_may_be_anybody_or_others_than_the_account_are_told() {
        let record = json!({ "kind": "mx" });
        let any = json!({ "allowed_from": ["*"] });
        assert_eq!(found(record.clone(), &[("app", any)]), ["route_sender_any_from"]);
        assert_eq!(found(record, &[("app", json!({ "allowed_from": ["*"], "disabled": true }))]), [""; 0]);
        let account = json!({
            "kind": "smarthost", "host": "smtp.gmail.com", "username": "ann@shop.test", "connections": 5,
            "messages_per_connection": 50, "rates": { "per_day": 400, "recipients_per_day": 500 },
        });
        let sender = |from: &str| [("app", json!({ "allowed_from": [from] }))];
        assert_eq!(found(account.clone(), &sender("shop.test")), [""; 0]);
        assert_eq!(found(account.clone(), &sender("bob@shop.test")), [""; 0]);
        assert_eq!(found(account, &sender(".other.test")), ["route_from_differs"]);
        assert_eq!(found(json!({ "kind": "discard" }), &[("app", json!({ "allowed_from": ["*"] }))]), [""; 0]);
    }

    #[test]
    fn every_sign_has_a_rule() {
        let base = RuleBase::builtin();
        let without: Vec<_> = KINDS.iter().filter(|kind| !base.signs().any(|sign| sign == **kind)).collect();
        assert!(without.is_empty(), "{without:?}");
    }
}
