//! Routes and routing rules: how a recipient's mail leaves. Records are the JSON kept in the store.
//!
//! Choosing a route is a pure function of sender domain, recipient domain and stream.

use std::sync::Arc;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// How a route moves mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// To one host, usually with credentials.
    Smarthost,
    /// To the recipient domain's mail exchangers (RFC 5321 §5.1).
    Mx,
    /// Into the built-in capture mailbox: looked at, never sent.
    Capture,
    /// Nowhere: accepted and forgotten.
    Discard,
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
    /// Smart host name or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Port; by default 587 (465 for implicit TLS, 25 for MX).
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
    /// User name for AUTH; without one there is no AUTH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
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

/// A route ready for use.
#[derive(Debug, Clone)]
pub struct Route {
    /// Name.
    pub name: Arc<str>,
    /// As stored.
    pub record: RouteRecord,
    /// Password.
    pub secret: Option<SecretString>,
    /// The document's version: a changed route does not reuse old connections.
    pub version: i64,
}
