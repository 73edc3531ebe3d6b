//! Routes and routing rules: how a recipient's mail leaves. Records are the JSON kept in the store.
//!
//! Choosing a route is a pure function of sender domain, recipient domain and stream.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use proto::smtp::sasl::client::Mechanism;
use serde::{Deserialize, Serialize};
use store::Message;

use crate::failover::{DEFAULT_AFTER_S, Fallback};
use crate::graph;
use crate::oauth::OauthRecord;
use crate::schedule::limit::Rates;
use crate::schedule::{Account, Accounts, Limits};
use crate::secrets::Secrets;

use crate::exchangers::Wanted;
use crate::transport::sources::{MAX_SOURCES, SourceRecord};
use crate::verp::ReturnPath;

/// How a route moves mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// To one host, usually with credentials.
    Smarthost,
    /// By Microsoft Graph over HTTPS, from one mailbox.
    Graph,
    /// To the recipient domain's mail exchangers (RFC 5321 §5.1).
    Mx,
    /// Into the built-in capture mailbox: looked at, never sent.
    Capture,
    /// Nowhere: accepted and forgotten.
    Discard,
}

impl RouteKind {
    /// Whether it goes to one place, where one has an account: what fails there is about that, and not about a domain.
    pub fn has_account(self) -> bool {
        matches!(self, Self::Smarthost | Self::Graph)
    }

    /// Whether its mail leaves this machine.
    pub fn leaves(self) -> bool {
        self.has_account() || self == Self::Mx
    }
}

/// When TLS is used towards the next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteTls {
    /// Never.
    None,
    /// STARTTLS where offered, certificate not required to verify.
    Opportunistic,
    /// STARTTLS or nothing; the certificate must verify.
    #[default]
    Required,
    /// TLS from the first octet; the certificate must verify.
    Implicit,
}

/// A route as it is stored. The password is the document's secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteRecord {
    /// How it moves mail.
    pub kind: RouteKind,
    /// Smart host name or address; of a Graph route the host of the interface, by default that of the tenant's cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Port; by default 587 (465 for implicit TLS, 25 for MX, 443 for Graph).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// TLS; MX routes are `opportunistic` unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RouteTls>,
    /// PEM file of authorities to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// Verify the certificate although `tls` would require it: `false` is for tests only.
    #[serde(default = "yes")]
    pub verify: bool,
    /// User name for AUTH; without one there is no AUTH. Of a Graph route the mailbox that sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// SASL mechanism (`SCRAM-SHA-256`, `XOAUTH2`, …); without one the strongest that both sides have is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<String>,
    /// Access tokens instead of a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OauthRecord>,
    /// Credentials may cross an unencrypted link.
    #[serde(default)]
    pub auth_without_tls: bool,
    /// Most connections at once per destination (default 20).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Most messages on one connection (default 1,000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_connection: Option<u32>,
    /// Most recipients in one transaction (default 100).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients_per_transaction: Option<u32>,
    /// Seconds an idle connection is kept (default 10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_s: Option<u32>,
    /// Seconds between attempts, instead of the general retry list; the last one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_s: Option<Vec<u32>>,
    /// Local address to connect from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_address: Option<std::net::IpAddr>,
    /// Name in EHLO, by default the server's host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
    /// How much the route may send, all destinations together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
    /// How much an MX route may send to each group of mail exchangers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_rates: Option<Rates>,
    /// Local addresses to connect from, one of each IP version for a destination, with their names in EHLO.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceRecord>,
    /// Mail exchangers: certificates pinned in signed DNS are honoured (RFC 7672).
    #[serde(default)]
    pub dane: bool,
    /// Mail exchangers: MTA-STS policies are honoured (RFC 8461).
    #[serde(default = "yes")]
    pub mta_sts: bool,
    /// Mail exchangers may have addresses of loopback and private networks.
    #[serde(default)]
    pub allow_private: bool,
    /// Routes that take over while this one does not work, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<Fallback>,
    /// Return path its next hops get: `signed`, one of ours for each message, or `original`, the sender's own. By default what
    /// `bounce.return_path` says; without `bounce.domain` always the sender's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_path: Option<ReturnPath>,
    /// How long nothing works before they do, seconds (default 300).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover_after_s: Option<u32>,
}

fn yes() -> bool {
    true
}

/// A rule: the first one (by `order`, then name) whose conditions all hold decides. Conditions left out always hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleRecord {
    /// Lower comes first. The default rule is named `default` and has the highest order.
    pub order: i32,
    /// Route to take.
    pub route: String,
    /// Domain of the reverse-path; `.example.com` means the domain and everything below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_domain: Option<String>,
    /// Domain of the recipient; same form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_domain: Option<String>,
    /// Stream name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
}

impl RuleRecord {
    /// Whether all conditions hold.
    pub fn matches(&self, sender_domain: &str, recipient_domain: &str, stream: &str) -> bool {
        let domain =
            |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| domain_matches(wanted, is));
        domain(&self.sender_domain, sender_domain)
            && domain(&self.recipient_domain, recipient_domain)
            && self.stream.as_ref().is_none_or(|wanted| wanted == stream)
    }
}

/// `example.com` means just that; `.example.com` that and everything below. Case does not matter.
pub fn domain_matches(wanted: &str, domain: &str) -> bool {
    match wanted.strip_prefix('.') {
        None => wanted.eq_ignore_ascii_case(domain),
        Some(apex) => {
            let cut = domain.len().checked_sub(apex.len());
            cut.and_then(|cut| Some((domain.get(..cut)?, domain.get(cut..)?)))
                .is_some_and(|(head, tail)| tail.eq_ignore_ascii_case(apex) && (head.is_empty() || head.ends_with('.')))
        }
    }
}

impl RouteRecord {
    /// The one host that mail goes to, if there is one.
    pub fn next_host(&self) -> Option<&str> {
        match (&self.host, self.kind) {
            (Some(host), _) => Some(host),
            (None, RouteKind::Graph) => {
                Some(graph::wire::host_of(self.oauth.as_ref().map(|oauth| oauth.cloud).unwrap_or_default()))
            }
            (None, _) => None,
        }
    }

    /// The OAuth settings as tokens are asked for: those of a Graph route are for Graph.
    pub fn token_settings(&self) -> Option<OauthRecord> {
        let mut oauth = self.oauth.clone()?;
        if self.kind == RouteKind::Graph {
            oauth.scope = oauth.scope.clone().or_else(|| oauth.graph_scope());
        }
        Some(oauth)
    }

    /// Problems that a person has to mend, in full sentences; empty if the record makes sense.
    pub fn problems(&self, secrets: &Secrets) -> Vec<String> {
        let mut problems = self.oauth.as_ref().map(|oauth| oauth.problems(secrets)).unwrap_or_default();
        let mut say = |wrong: bool, text: &str| {
            if wrong {
                problems.push(text.to_owned());
            }
        };
        let smarthost = self.kind == RouteKind::Smarthost;
        say(smarthost && self.host.as_deref().is_none_or(str::is_empty), "A smart host route needs a host.");
        let graph = self.kind == RouteKind::Graph;
        say(!smarthost && !graph && self.host.is_some(), "Only a smart host route has a host.");
        say(!smarthost && !graph && self.username.is_some(), "Only a smart host route has a user name.");
        say(graph && self.oauth.is_none(), "A Graph route needs OAuth: a tenant, a client ID and a credential.");
        say(
            graph && self.username.as_deref().is_none_or(|name| name.is_empty() || name.len() > 320),
            "A Graph route needs the mailbox that sends as its user name.",
        );
        say(graph && self.mechanism.is_some(), "Graph takes a token and no AUTH mechanism.");
        say(
            graph && self.tls.is_some_and(|tls| tls != RouteTls::Implicit),
            "Graph is reached by HTTPS: leave TLS out, or implicit.",
        );
        let oauth = self.oauth.is_some();
        say(self.username.is_some() && !oauth && secrets.password.is_none(), "A user name needs a password.");
        say(oauth && !graph && self.username.is_none(), "OAuth needs a user name: the mailbox that sends.");
        say(
            oauth
                && self.mechanism.as_ref().is_some_and(|name| Mechanism::parse(name).is_some_and(|m| !m.needs_token())),
            "With OAuth the mechanism is XOAUTH2 or OAUTHBEARER.",
        );
        say(
            self.mechanism.as_ref().is_some_and(|name| Mechanism::parse(name).is_none()),
            "The mechanism is not one that Pillarbox speaks (SCRAM-SHA-256, SCRAM-SHA-1, the same with -PLUS, CRAM-MD5, PLAIN, LOGIN, OAUTHBEARER, XOAUTH2, NTLM).",
        );
        say(self.mechanism.is_some() && self.username.is_none(), "A mechanism needs a user name.");
        say(self.port == Some(0), "Port 0 does not exist.");
        say(
            self.username.is_some() && self.tls == Some(RouteTls::None) && !self.auth_without_tls,
            "Without TLS the password would cross the network in clear: use TLS, or allow it with auth_without_tls.",
        );
        say(
            self.kind == RouteKind::Mx && self.tls == Some(RouteTls::Implicit),
            "No mail exchanger speaks implicit TLS.",
        );
        say(
            self.dane && (self.kind != RouteKind::Mx || self.tls == Some(RouteTls::None)),
            "DANE is for mail exchangers, and with TLS.",
        );
        say(
            !self.sources.is_empty() && self.source_address.is_some(),
            "A route has one source address or a pool of sources, not both.",
        );
        say(self.sources.len() > MAX_SOURCES, "A pool has at most 256 sources.");
        say(self.connections == Some(0), "At least one connection is needed.");
        say(self.messages_per_connection == Some(0), "At least one message per connection is needed.");
        say(self.recipients_per_transaction == Some(0), "At least one recipient per transaction is needed.");
        say(
            self.kind != RouteKind::Mx && self.destination_rates.is_some(),
            "Only an MX route has several destinations: limit the route itself.",
        );
        say(!self.fallback.is_empty() && !self.kind.leaves(), "Only a route that leaves this machine has fallbacks.");
        say(self.fallback.iter().any(|one| one.weight == Some(0)), "A fallback with weight 0 would never be used.");
        for rates in [&self.rates, &self.destination_rates].into_iter().flatten() {
            problems.extend(rates.problems());
        }
        problems
    }
}

/// A route ready for use.
#[derive(Debug, Clone)]
pub struct Route {
    /// Name.
    pub name: Arc<str>,
    /// As stored.
    pub record: RouteRecord,
    /// What is secret about it.
    pub secrets: Secrets,
    /// The document's version: a changed route does not reuse old connections.
    pub version: i64,
    counted: Counted,
}

impl Route {
    /// A route of a stored document.
    pub fn new(name: Arc<str>, record: RouteRecord, secrets: Secrets, version: i64) -> Self {
        Self { name, record, secrets, version, counted: Counted::default() }
    }

    /// TLS as it is used.
    pub fn tls(&self) -> RouteTls {
        self.record.tls.unwrap_or(match self.record.kind {
            RouteKind::Mx => RouteTls::Opportunistic,
            RouteKind::Graph => RouteTls::Implicit,
            _ => RouteTls::Required,
        })
    }

    /// Port as it is used.
    pub fn port(&self) -> u16 {
        self.record.port.unwrap_or(match (self.record.kind, self.tls()) {
            (RouteKind::Mx, _) => 25,
            (RouteKind::Graph, _) => 443,
            (_, RouteTls::Implicit) => 465,
            _ => 587,
        })
    }

    fn default_connections(&self) -> u32 {
        if self.record.kind == RouteKind::Graph { graph::wire::DEFAULT_CONNECTIONS } else { DEFAULT_CONNECTIONS }
    }

    /// What has to be known of a domain beside its mail exchangers.
    pub(crate) fn wanted(&self) -> Wanted {
        let protected = self.record.kind == RouteKind::Mx && self.tls() != RouteTls::None;
        Wanted { dane: protected && self.record.dane, sts: protected && self.record.mta_sts }
    }

    /// The same for one message: one with `TLS-Required: No` goes out as if no domain demanded anything (RFC 8689 §4.2.2). What the
    /// route itself demands is the operator's, and stays.
    pub(crate) fn wanted_for(&self, message: &Message) -> Wanted {
        if message.parameters.tls_optional { Wanted { dane: false, sts: false } } else { self.wanted() }
    }

    /// Limits of one of its destinations.
    pub fn limits(&self, destination: &Arc<str>) -> Limits {
        Limits {
            connections: self.record.connections.unwrap_or(self.default_connections()).max(1),
            recipients: self.record.recipients_per_transaction.unwrap_or(DEFAULT_RECIPIENTS).max(1) as usize,
            accounts: self.accounts(destination),
            together: self.record.connections.is_some(),
        }
    }

    /// How long nothing works before a fallback is used, milliseconds.
    pub fn failover_after_ms(&self) -> i64 {
        i64::from(self.record.failover_after_s.unwrap_or(DEFAULT_AFTER_S)) * 1_000
    }

    /// What is counted of a message to one of its destinations: asked for each message, so it is made only once.
    fn accounts(&self, destination: &Arc<str>) -> Option<Accounts> {
        if self.record.destination_rates.is_none() {
            return self.counted.whole.get_or_init(|| self.make_accounts(destination)).clone();
        }
        let mut each = self.counted.each.lock();
        if let Some(accounts) = each.get(destination) {
            return accounts.clone();
        }
        let accounts = self.make_accounts(destination);
        if each.len() >= DESTINATIONS {
            each.clear();
        }
        each.insert(destination.clone(), accounts.clone());
        accounts
    }

    fn make_accounts(&self, destination: &Arc<str>) -> Option<Accounts> {
        let limited = |rates: &Option<Rates>| rates.clone().filter(|rates| !rates.is_unlimited());
        let all = limited(&self.record.rates).map(|rates| Account { name: self.name.clone(), rates });
        let each = limited(&self.record.destination_rates).map(|rates| Account { name: destination.clone(), rates });
        let accounts: Vec<Account> = all.into_iter().chain(each).collect();
        (!accounts.is_empty()).then(|| accounts.into())
    }

    /// Most messages on one connection.
    pub fn messages_per_connection(&self) -> u32 {
        self.record.messages_per_connection.unwrap_or(DEFAULT_MESSAGES).max(1)
    }

    /// How long an idle connection is kept.
    pub fn idle(&self) -> std::time::Duration {
        std::time::Duration::from_secs(u64::from(self.record.idle_s.unwrap_or(DEFAULT_IDLE_S)))
    }
}

/// The accounts of a route's destinations, made when first asked for.
#[derive(Debug, Default)]
struct Counted {
    /// The same for all destinations.
    whole: OnceLock<Option<Accounts>>,
    each: Mutex<HashMap<Arc<str>, Option<Accounts>>>,
}

impl Clone for Counted {
    /// A copy may get another record: it begins anew.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Destinations of a route whose accounts are remembered.
const DESTINATIONS: usize = 10_000;

/// Connections per destination unless a route says otherwise.
pub const DEFAULT_CONNECTIONS: u32 = 20;
/// Recipients per transaction unless a route says otherwise: what every server must take (RFC 5321 §4.5.3.1.8).
pub const DEFAULT_RECIPIENTS: u32 = 100;
/// Messages per connection unless a route says otherwise.
pub const DEFAULT_MESSAGES: u32 = 1_000;
/// Seconds an idle connection is kept unless a route says otherwise.
pub const DEFAULT_IDLE_S: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_dot_means_the_domain_and_everything_below() {
        for (wanted, domain, holds) in [
            ("example.com", "example.com", true),
            ("example.com", "EXAMPLE.com", true),
            ("example.com", "a.example.com", false),
            (".example.com", "example.com", true),
            (".example.com", "a.b.example.com", true),
            (".example.com", "badexample.com", false),
            (".example.com", "com", false),
            (".é", "aé", false),
        ] {
            assert_eq!(domain_matches(wanted, domain), holds, "{wanted} {domain}");
        }
    }

    #[test]
    fn a_rule_needs_all_its_conditions() {
        let rule = RuleRecord {
            order: 0,
            route: "r".into(),
            sender_domain: Some("app.example".into()),
            recipient_domain: Some(".partner.example".into()),
            stream: None,
        };
        assert!(rule.matches("app.example", "mx.partner.example", "any"));
        assert!(!rule.matches("other.example", "mx.partner.example", "any"));
        assert!(!rule.matches("app.example", "other.example", "any"));
    }

    #[test]
    fn the_accounts_of_a_destination_are_made_once() {
        let route = |json: &str| Route::new("out".into(), serde_json::from_str(json).unwrap(), Secrets::default(), 1);
        let names = |route: &Route, destination: &str| -> Vec<String> {
            let accounts = route.accounts(&destination.into()).unwrap();
            assert!(Arc::ptr_eq(&accounts, &route.accounts(&destination.into()).unwrap()));
            accounts.iter().map(|account| account.name.to_string()).collect()
        };
        let smarthost = route(r#"{"kind":"smarthost","host":"h.example","rates":{"per_minute":5}}"#);
        assert_eq!(names(&smarthost, "out"), ["out"]);
        let mx = route(r#"{"kind":"mx","rates":{"per_day":9},"destination_rates":{"per_minute":5}}"#);
        assert_eq!(names(&mx, "out/a"), ["out", "out/a"]);
        assert_eq!(names(&mx, "out/b"), ["out", "out/b"]);
        assert!(route(r#"{"kind":"mx"}"#).accounts(&"out/a".into()).is_none());
    }

    #[test]
    fn a_mechanism_that_nobody_speaks_is_a_mistake_of_the_route() {
        let problems = |mechanism: &str| {
            let text =
                format!(r#"{{"kind":"smarthost","host":"smtp.example","username":"u","mechanism":"{mechanism}"}}"#);
            serde_json::from_str::<RouteRecord>(&text).unwrap().problems(&Secrets::of_password("p".into())).len()
        };
        assert_eq!(problems("SCRAM-SHA-256"), 0);
        assert_eq!(problems("GSSAPI"), 1);
    }

    #[test]
    fn a_password_never_crosses_in_clear_by_accident() {
        let record: RouteRecord =
            serde_json::from_str(r#"{"kind":"smarthost","host":"smtp.example","tls":"none","username":"u"}"#).unwrap();
        assert_eq!(record.problems(&Secrets::of_password("p".into())).len(), 1);
        assert_eq!(record.problems(&Secrets::default()).len(), 2);
    }
}
