//! What is weak in configuration and settings, whatever the servers of others say: TLS, rights that are too wide, secrets
//! others can read, senders without limits, mail without signature.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use net::Cidr;
use relay::domain::{DomainRecord, KeyState};
use relay::sender::SenderRecord;
use serde::{Deserialize, Serialize};
use store::settings::Kind;

use super::check::Level;
use super::kinds::reported::{fix, level_of};
use crate::config::Config;
use crate::config::checked::{AuthWithoutTls, Listener, ListenerKind, Mode};
use crate::http::Shared;
use crate::http::api::{route_audit, settings};
use crate::http::problem::Problem;
use crate::serve::domains::{Domains, NoteOf};
use crate::webhook::record::WebhookRecord;

const DAY_MS: i64 = 86_400_000;
/// Days an API key may be used.
const KEY_DAYS: i64 = 365;
/// Networks with fewer bits than these are wide: IPv4, IPv6.
const WIDE: (u8, u8) = (24, 64);
/// Most that is told.
const MOST: usize = 200;

/// Something weak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weakness {
    /// What it is: a promise.
    pub id: String,
    /// How bad.
    pub level: Level,
    /// Where: `listener smtp`, `sender app`.
    pub about: String,
    /// In a sentence.
    pub text: String,
    /// What to do.
    pub fix: String,
}

/// Collects.
#[derive(Default)]
struct Weak(Vec<Weakness>);

impl Weak {
    fn add(&mut self, id: &str, level: Level, about: &str, text: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Weakness { id: id.into(), level, about: about.into(), text: text.into(), fix: fix.into() });
    }
}

/// Everything that is weak, the worst first.
///
/// # Errors
/// The store cannot be read, or a setting in it is not understood.
pub async fn all(app: &Shared) -> Result<Vec<Weakness>, Problem> {
    let mut weak = Weak::default();
    let config = app.checks.config();
    of_config(config, &mut weak);
    for route in app.store.documents(Kind::Route).await? {
        let about = format!("route {}", route.name);
        for one in route_audit::audit(app, &route.name).await? {
            let (level, said) = (level_of(one.severity), &one.explanation);
            let id = one.sign.as_deref().unwrap_or(&said.rule);
            let to_do = said.fixes.first().map(fix).unwrap_or_default();
            weak.add(id, level, &about, format!("{}. {}", said.title, said.meaning), to_do);
        }
    }
    let now_ms = app.clock.now_ms();
    for document in app.store.documents(Kind::Sender).await? {
        of_sender(&document.name, &settings::record(&document)?, now_ms, &mut weak);
    }
    for document in app.store.documents(Kind::Webhook).await? {
        of_webhook(&document.name, &settings::record(&document)?, &mut weak);
    }
    let mut signed = BTreeMap::new();
    for document in app.store.documents(Kind::Domain).await? {
        signed.insert(document.name.clone(), settings::record::<DomainRecord>(&document)?);
    }
    let writers = app.relay.as_ref().map(|relay| relay.writers()).unwrap_or_default();
    for domain in writers.keys() {
        of_domain(domain, &signed, &mut weak);
    }
    of_notes(&app.domains, &mut weak);
    weak.0.sort_by(|a, b| (b.level, &a.about, &a.id).cmp(&(a.level, &b.about, &b.id)));
    weak.0.dedup();
    weak.0.truncate(MOST);
    Ok(weak.0)
}

fn of_config(config: &Config, weak: &mut Weak) {
    config.listeners.iter().for_each(|listener| of_listener(listener, weak));
    if !config.http.ip().is_loopback() && !config.public_url.as_deref().is_some_and(|url| url.starts_with("https://")) {
        weak.add(
            "http_in_clear",
            Level::Warning,
            "HTTP listener",
            format!(
                "API and pages are served without encryption at {}: keys and passwords cross the network readable",
                config.http
            ),
            "listen on 127.0.0.1 behind a proxy with TLS, and set `public_url` to its https:// address",
        );
    }
    let key = config.data_dir.join("key");
    if config.key.file.is_none() && key.exists() {
        weak.add(
            "key_beside_data",
            Level::Note,
            "encryption key",
            "the key that encrypts secrets lies beside them: whoever copies the directory has both",
            "keep it elsewhere: a systemd credential `pillarbox-key`, `key.file` or `PILLARBOX_KEY`",
        );
    }
    let keys = config.listeners.iter().filter_map(|one| one.certificate.as_ref().map(|(_, key)| key.as_path()));
    let client = config.client.key_file.as_deref();
    for path in keys.chain(client).chain(config.key.file.as_deref()).chain(key.exists().then_some(key.as_path())) {
        if readable_by_others(path) {
            weak.add(
                "secret_readable",
                Level::Problem,
                &format!("file {}", path.display()),
                "other users of this machine can read this secret",
                format!("chmod 600 {}", path.display()),
            );
        }
    }
}

fn readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o004 != 0)
}

fn of_listener(listener: &Listener, weak: &mut Weak) {
    let about = format!("listener {}", listener.name);
    let outside = !listener.address.ip().is_loopback();
    let submission = listener.kind == ListenerKind::Submission;
    if outside && listener.mode == Mode::Plain && submission {
        weak.add(
            "listener_without_tls",
            Level::Problem,
            &about,
            format!("mail and, where they are allowed, passwords come in without encryption at {}", listener.address),
            "set `mode = \"starttls\"` (587) or `\"implicit\"` (465) and a certificate",
        );
    }
    if outside && listener.mode != Mode::Plain && listener.certificate.is_none() {
        weak.add(
            "listener_self_signed",
            Level::Warning,
            &about,
            "its certificate is self-signed: clients cannot tell this server from another one",
            "set `certificate` and `key` of an authority that the clients know",
        );
    }
    if outside && submission && listener.address.port() == 25 {
        weak.add(
            "listener_port_25",
            Level::Warning,
            &about,
            "mail is submitted at port 25, which many networks block, and which is for mail between servers",
            "listen at 587 (STARTTLS) or 465 (implicit TLS), RFC 8314 §3.3",
        );
    }
    if outside && listener.auth_without_tls == AuthWithoutTls::Loopback && listener.mode == Mode::Plain {
        weak.add(
            "listener_auth_in_clear",
            Level::Note,
            &about,
            "clients on this machine sign in without encryption",
            "use another listener on 127.0.0.1 for them",
        );
    }
    for (setting, list) in [("proxy_from", &listener.proxy_from), ("xclient_from", &listener.xclient_from)] {
        for wide in list.iter().filter(|block| is_wide(block)) {
            weak.add(
                "listener_trusts_many",
                Level::Problem,
                &about,
                format!("`{setting}` believes {wide}: everybody in it can pretend to be any address"),
                "name the single addresses of the proxies",
            );
        }
    }
}

/// Length of the prefix.
fn length(block: &Cidr) -> u8 {
    let text = block.to_string();
    text.rsplit_once('/').and_then(|(_, length)| length.parse().ok()).unwrap_or(128)
}

fn is_wide(block: &Cidr) -> bool {
    let v6 = block.to_string().contains(':');
    block.single().is_none() && length(block) < if v6 { WIDE.1 } else { WIDE.0 }
}

fn of_sender(name: &str, sender: &SenderRecord, now_ms: i64, weak: &mut Weak) {
    if sender.disabled {
        return;
    }
    let about = format!("sender {name}");
    for block in sender.trusted_addresses.iter().filter(|block| is_wide(block)) {
        let (level, text) = match length(block) {
            0..=8 => (
                Level::Problem,
                format!("everybody in {block} may send through this server without a password: an open relay"),
            ),
            _ => (Level::Warning, format!("everybody in {block} may send through this server without a password")),
        };
        weak.add("sender_trusts_many", level, &about, text, "name single addresses, or give the devices a password");
    }
    if sender.allowed_from.iter().any(|pattern| pattern == "*") {
        weak.add(
            "sender_any_from",
            Level::Warning,
            &about,
            "it may write as any address: stolen, its credential sends in everybody's name",
            format!("pillarbox sender set {name} --from DOMAIN"),
        );
    }
    if sender.messages_per_minute.is_none() {
        weak.add(
            "sender_without_limit",
            Level::Note,
            &about,
            "it may send as much as it likes: stolen, its credential sends until somebody notices",
            format!("pillarbox sender set {name} --per-minute N"),
        );
    }
    if sender.admin && sender.networks.is_empty() && !sender.api_keys.is_empty() {
        weak.add(
            "admin_from_anywhere",
            Level::Warning,
            &about,
            "its API keys may manage everything, from any address",
            format!("pillarbox sender set {name} --network NETWORK, or a key of a sender without rights to manage"),
        );
    }
    for key in sender.api_keys.iter().filter(|key| now_ms - key.created_ms > KEY_DAYS * DAY_MS) {
        weak.add(
            "api_key_old",
            Level::Note,
            &about,
            format!("API key {}… is {} days old", key.prefix, (now_ms - key.created_ms) / DAY_MS),
            "make a new key, give it to the application, revoke this one",
        );
    }
}

fn of_webhook(name: &str, webhook: &WebhookRecord, weak: &mut Weak) {
    let here = |authority: &str| {
        let host = authority.split(['/', '?']).next().unwrap_or_default();
        host.starts_with("localhost")
            || host.parse::<SocketAddr>().is_ok_and(|one| one.ip().is_loopback())
            || host.parse::<std::net::IpAddr>().is_ok_and(|one| one.is_loopback())
    };
    if webhook.url.strip_prefix("http://").is_some_and(|rest| !here(rest)) {
        weak.add(
            "webhook_in_clear",
            Level::Warning,
            &format!("webhook {name}"),
            "addresses of recipients cross the network readable",
            format!("pillarbox webhook set {name} --url https://…"),
        );
    }
}

fn of_domain(domain: &str, signed: &BTreeMap<String, DomainRecord>, weak: &mut Weak) {
    let signs = |record: &DomainRecord| record.keys.iter().any(|key| key.state == KeyState::Active);
    let covers = |name: &str, record: &DomainRecord| {
        name == domain || record.subdomains && domain.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
    };
    if !signed.iter().any(|(name, record)| covers(name, record) && signs(record)) {
        weak.add(
            "mail_not_signed",
            Level::Note,
            &format!("domain {domain}"),
            "mail from it is not signed here: unless the provider signs it, large receivers refuse or distrust it",
            format!("pillarbox dkim add {domain}, or see that the provider signs"),
        );
    }
}

/// What was seen while mail was sent. A channel that takes no alerts is none of it: alerts are never about alerts.
fn of_notes(domains: &Domains, weak: &mut Weak) {
    for (_, note) in domains.notes_of(NoteOf::Dns) {
        weak.add("records", Level::Warning, "records in the DNS", note, "publish what the sentence names");
    }
    for (webhook, note) in domains.notes_of(NoteOf::Webhook) {
        let name = webhook.strip_prefix("webhook ").unwrap_or(&webhook);
        let fix = format!("see what it answers, and mend that or the webhook: pillarbox webhook deliveries {name}");
        weak.add("webhook_failing", Level::Warning, &webhook, note, fix);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ids(weak: Weak) -> Vec<(String, Level)> {
        weak.0.into_iter().map(|one| (one.id, one.level)).collect()
    }

    #[test]
    fn a_sender_with_too_many_rights_is_told_and_one_with_few_is_not() {
        let check = |more: Value| {
            let mut value = json!({ "allowed_from": ["shop.test"], "messages_per_minute": 60 });
            crate::http::api::settings::merge(&mut value, more);
            let mut weak = Weak::default();
            of_sender("app", &serde_json::from_value(value).unwrap(), 1_000 * DAY_MS, &mut weak);
            ids(weak)
        };
        use Level::{Note, Problem, Warning};
        let key = |days: i64| json!([{ "prefix": "pbx_a", "hash": "00", "created_ms": (1_000 - days) * DAY_MS }]);
        for (more, expected) in [
            (json!({}), vec![]),
            (json!({ "allowed_from": ["*"] }), vec![("sender_any_from", Warning)]),
            (json!({ "messages_per_minute": null }), vec![("sender_without_limit", Note)]),
            (json!({ "trusted_addresses": ["192.0.2.7", "192.0.2.0/28"] }), vec![]),
            (json!({ "trusted_addresses": ["10.1.0.0/16"] }), vec![("sender_trusts_many", Warning)]),
            (json!({ "trusted_addresses": ["0.0.0.0/0"] }), vec![("sender_trusts_many", Problem)]),
            (json!({ "trusted_addresses": ["2001:db8::/48"] }), vec![("sender_trusts_many", Warning)]),
            (json!({ "admin": true, "api_keys": key(1) }), vec![("admin_from_anywhere", Warning)]),
            (json!({ "admin": true, "api_keys": key(1), "networks": ["192.0.2.0/24"] }), vec![]),
            (json!({ "api_keys": key(366) }), vec![("api_key_old", Note)]),
            (json!({ "allowed_from": ["*"], "disabled": true }), vec![]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|(id, level)| (id.to_owned(), level)).collect();
            assert_eq!(check(more.clone()), expected, "{more}");
        }
    }

    #[test]
    fn a_listener_for_others_needs_tls_and_believes_few() {
        let listener = |address: &str, mode, certificate: bool, believed: &str| Listener {
            name: "smtp".into(),
            kind: ListenerKind::Submission,
            address: address.parse().unwrap(),
            mode,
            certificate: certificate.then(|| ("cert.pem".into(), "key.pem".into())),
            auth_without_tls: AuthWithoutTls::Never,
            proxy_from: believed.split_whitespace().map(|one| one.parse().unwrap()).collect(),
            xclient_from: Vec::new(),
        };
        let check = |listener: Listener| {
            let mut weak = Weak::default();
            of_listener(&listener, &mut weak);
            ids(weak).into_iter().map(|(id, _)| id).collect::<Vec<_>>()
        };
        assert_eq!(check(listener("127.0.0.1:2525", Mode::Plain, false, "")), [""; 0]);
        assert_eq!(check(listener("0.0.0.0:587", Mode::StartTls, true, "192.0.2.1")), [""; 0]);
        assert_eq!(check(listener("0.0.0.0:587", Mode::Plain, false, "")), ["listener_without_tls"]);
        assert_eq!(check(listener("[::]:465", Mode::Implicit, false, "")), ["listener_self_signed"]);
        assert_eq!(check(listener("0.0.0.0:25", Mode::StartTls, true, "")), ["listener_port_25"]);
        assert_eq!(check(listener("127.0.0.1:25", Mode::StartTls, true, "10.0.0.0/8")), ["listener_trusts_many"]);
    }

    #[test]
    fn a_webhook_in_the_clear_is_told_unless_it_stays_on_this_machine() {
        let check = |url: &str| {
            let mut weak = Weak::default();
            of_webhook("hook", &serde_json::from_value(json!({ "url": url })).unwrap(), &mut weak);
            weak.0.len()
        };
        assert_eq!(check("http://shop.test/hook"), 1);
        for url in ["https://shop.test/hook", "http://127.0.0.1:8080/hook", "http://[::1]:80/x", "http://localhost/x"] {
            assert_eq!(check(url), 0, "{url}");
        }
    }

    #[test]
    fn notes_on_records_and_on_webhooks_have_words_of_their_own_and_those_on_alert_channels_none() {
        let domains = Domains::new(Err("there is no resolver".into()), 1);
        domains.note(NoteOf::AlertChannel, "alert channel ops", vec!["The alert channel ops takes no alerts".into()]);
        let about = |domains: &Domains| {
            let mut weak = Weak::default();
            of_notes(domains, &mut weak);
            weak.0.into_iter().map(|one| (one.id, one.about, one.text)).collect::<Vec<_>>()
        };
        assert!(about(&domains).is_empty());
        domains.note(NoteOf::Webhook, "webhook shop", vec!["The webhook shop is paused".into()]);
        domains.note(NoteOf::Dns, "dkim shop.test", vec!["Receivers may not find a key".into()]);
        let told = |id: &str, about: &str, text: &str| (id.to_owned(), about.to_owned(), text.to_owned());
        let expected = [
            told("records", "records in the DNS", "Receivers may not find a key"),
            told("webhook_failing", "webhook shop", "The webhook shop is paused"),
        ];
        assert_eq!(about(&domains), expected);
        assert_eq!(domains.notes().len(), 3, "all are shown");
    }

    #[test]
    fn a_domain_that_nobody_signs_for_is_told() {
        let record = |state: &str, subdomains: bool| -> DomainRecord {
            serde_json::from_value(
                json!({ "subdomains": subdomains, "keys": [{ "selector": "s", "kind": "rsa", "bits": 2048,
                "public": "", "state": state, "created_ms": 1, "changed_ms": 1 }] }),
            )
            .unwrap()
        };
        let check = |domain: &str, record: DomainRecord| {
            let mut weak = Weak::default();
            of_domain(domain, &BTreeMap::from([("shop.test".to_owned(), record)]), &mut weak);
            weak.0.len()
        };
        assert_eq!(check("shop.test", record("active", false)), 0);
        assert_eq!(check("news.shop.test", record("active", true)), 0);
        assert_eq!(check("news.shop.test", record("active", false)), 1);
        assert_eq!(check("shop.test", record("prepared", true)), 1);
        assert_eq!(check("bookshop.test", record("active", true)), 1);
    }
}
