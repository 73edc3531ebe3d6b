//! What is set for a channel, and what is wrong with it. Its secret is not in it.

use std::path::PathBuf;

use net::Cidr;
use net::address::Guard;
use net::https::{Scheme, Target};
use proto::Address;
use relay::route::{Route, RouteKind, RouteRecord, RouteTls};
use relay::secrets::Secrets as RouteSecrets;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::quiet::Quiet;
use crate::alert::rule::{AlertRule, Severity};
use crate::http::problem::FieldError;

/// Longest address of a page.
const MAX_URL: usize = 2_000;
/// Most entries of a list.
const MAX_LIST: usize = 100;
/// Most recipients of alerts.
const MAX_TO: usize = 50;
/// Seconds a channel may take, if nothing else is set.
const TIMEOUT_S: u32 = 10;
/// Where PagerDuty takes events.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// How alerts are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// JSON by HTTP, signed as webhooks are.
    Webhook,
    /// An incoming webhook of Slack, or of what speaks its format.
    Slack,
    /// A workflow of Microsoft Teams that takes an Adaptive Card.
    Teams,
    /// Events API v2 of PagerDuty.
    Pagerduty,
    /// Mail, by a route that works, or straight to a server.
    Email,
    /// Syslog, RFC 5424.
    Syslog,
    /// A program of this machine.
    Command,
}

impl ChannelKind {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Slack => "slack",
            Self::Teams => "teams",
            Self::Pagerduty => "pagerduty",
            Self::Email => "email",
            Self::Syslog => "syslog",
            Self::Command => "command",
        }
    }

    /// Told by HTTP.
    pub fn is_web(self) -> bool {
        matches!(self, Self::Webhook | Self::Slack | Self::Teams | Self::Pagerduty)
    }

    /// Its address is what proves who may post there: it is the secret.
    pub fn secret_url(self) -> bool {
        matches!(self, Self::Slack | Self::Teams)
    }

    /// What its secret is; `None`: it has none.
    pub fn secret_is(self) -> Option<&'static str> {
        Some(match self {
            Self::Webhook => "the signing secret (whsec_…)",
            Self::Slack | Self::Teams => "the address to post to (https://…)",
            Self::Pagerduty => "the integration key (routing key)",
            Self::Email => "the password of the smart host",
            Self::Syslog | Self::Command => return None,
        })
    }
}

/// A server that takes alert mail past the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmartHost {
    /// Name or address.
    pub host: String,
    /// Port; by default 587 (465 for implicit TLS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// TLS; by default required.
    #[serde(default)]
    pub tls: RouteTls,
    /// User name for AUTH; the password is the channel's secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// PEM file of authorities to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
}

/// A channel. Field names are a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelRecord {
    /// How alerts are told.
    pub kind: ChannelKind,
    /// Webhook: where requests go. PagerDuty: its address, if it is not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// By HTTP: networks that are not public and may be called all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Cidr>,
    /// By HTTP: `http://` is taken, everything is told in the clear.
    #[serde(default)]
    pub allow_http: bool,
    /// E-mail: who gets it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// E-mail: whom it is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// E-mail: routes to take, the best first; without them any that works and is not concerned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// E-mail: a server that takes it straight, instead of queue and routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smart_host: Option<SmartHost>,
    /// E-mail: gets the weekly report.
    #[serde(default = "yes")]
    pub report: bool,
    /// Syslog: `udp://host:514`, `tcp://host:601`, `tls://host:6514`, `unix:/dev/log`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Syslog: facility, 0 to 23; by default 3, daemons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facility: Option<u8>,
    /// Command: the program with its arguments. There is no shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Seconds it may take, 1 to 60.
    #[serde(default = "timeout")]
    pub timeout: u32,
    /// When its turn is: 1 at once, 2 when nobody of 1 could be told or acknowledged in time, and so on to 9.
    #[serde(default = "first_step")]
    pub step: u8,
    /// The least severity it is told of.
    #[serde(default = "least")]
    pub severity: Severity,
    /// Kinds of alerts it is told of; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<AlertRule>,
    /// When it is only told what is critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Quiet>,
    /// Seconds after a message during which further alerts are gathered into one (0 to 86,400; default 60).
    #[serde(default = "group")]
    pub group_s: u32,
    /// Seconds between two messages about the same kind of alert; by default 300 for e-mail, and 0 for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_s: Option<u32>,
    /// Most messages in an hour; by default 20 for e-mail, and 60 for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u32>,
    /// It is told when an alert is over.
    #[serde(default = "yes")]
    pub resolved: bool,
    /// It is told nothing.
    #[serde(default)]
    pub disabled: bool,
}

fn yes() -> bool {
    true
}

fn timeout() -> u32 {
    TIMEOUT_S
}

fn first_step() -> u8 {
    1
}

fn least() -> Severity {
    Severity::Warning
}

fn group() -> u32 {
    60
}

/// Where syslog goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogTo {
    /// RFC 5426.
    Udp(String, u16),
    /// RFC 6587, octet counting.
    Tcp(String, u16),
    /// RFC 5425.
    Tls(String, u16),
    /// A socket of this machine.
    Unix(PathBuf),
}

impl SyslogTo {
    fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return path.starts_with('/').then(|| Self::Unix(path.into()));
        }
        let (scheme, rest) = text.split_once("://")?;
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (rest, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || host.len() > 253 || host.chars().any(|c| c.is_whitespace() || c == '/') {
            return None;
        }
        match scheme {
            "udp" => Some(Self::Udp(host, port.unwrap_or(514))),
            "tcp" => Some(Self::Tcp(host, port.unwrap_or(601))),
            "tls" => Some(Self::Tls(host, port.unwrap_or(6514))),
            _ => None,
        }
    }
}

/// A target by HTTP, or what is wrong with its address.
fn target(url: &str, allow_http: bool) -> Result<Target, String> {
    if url.len() > MAX_URL {
        return Err(format!("is longer than {MAX_URL} octets"));
    }
    let url = reqwest::Url::parse(url.trim()).map_err(|error| format!("is no URL: {error}"))?;
    let scheme = match url.scheme() {
        "https" => Scheme::Https,
        "http" if allow_http => Scheme::Http,
        "http" => return Err("would be called in the clear: use https://, or set `allow_http`".into()),
        _ => return Err("has to begin with https://".into()),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password".into());
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("has no host")?;
    let port = url.port_or_known_default().ok_or("has no port")?;
    if port < 1_024 && port != 80 && port != 443 {
        return Err(format!("names port {port}, where another service lives: use 80, 443, or 1024 and above"));
    }
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Target { scheme, host, port, path })
}

impl ChannelRecord {
    /// Seconds between two messages about the same kind of alert.
    pub fn interval_s(&self) -> u32 {
        self.interval_s.unwrap_or(if self.kind == ChannelKind::Email { 300 } else { 0 })
    }

    /// Most messages in an hour.
    pub fn per_hour(&self) -> u32 {
        self.per_hour.unwrap_or(if self.kind == ChannelKind::Email { 20 } else { 60 })
    }

    /// Which addresses it may lead to.
    pub fn guard(&self, server: &[Cidr]) -> Guard {
        Guard::new(self.networks.iter().chain(server).copied())
    }

    /// Where requests go, or what is wrong with the address. Its field is `url`, or `secret` where that is the address.
    pub fn target(&self, secret: Option<&SecretString>) -> Result<Target, (&'static str, String)> {
        let (field, url) = match (self.kind, secret) {
            (kind, Some(secret)) if kind.secret_url() => ("secret", secret.expose_secret()),
            (kind, None) if kind.secret_url() => return Err(("secret", "is missing: the address to post to".into())),
            (ChannelKind::Pagerduty, _) => ("url", self.url.as_deref().unwrap_or(PAGERDUTY)),
            _ => ("url", self.url.as_deref().ok_or(("url", "is missing".to_owned()))?),
        };
        target(url, self.allow_http).map_err(|problem| (field, problem))
    }

    /// Where syslog goes.
    pub fn syslog(&self) -> Option<SyslogTo> {
        SyslogTo::parse(self.server.as_deref()?)
    }

    /// Who gets mail, and whom it is from.
    pub fn addresses(&self) -> Result<(Address, Vec<Address>), (&'static str, String)> {
        let from = self
            .from
            .as_deref()
            .ok_or(("from", "is missing: an address that your provider lets you use".to_owned()))?;
        let from = Address::parse(from).map_err(|error| ("from", error.to_string()))?;
        let to = self.to.iter().map(|to| Address::parse(to).map_err(|error| ("to", format!("{to}: {error}"))));
        Ok((from, to.collect::<Result<_, _>>()?))
    }

    /// The smart host as a route that no store knows.
    pub fn own_route(&self, name: &str, version: i64, secret: Option<&SecretString>) -> Option<Route> {
        let host = self.smart_host.as_ref()?;
        let body = serde_json::json!({
            "kind": RouteKind::Smarthost, "host": host.host, "port": host.port, "tls": host.tls,
            "username": host.username, "ca_file": host.ca_file,
        });
        let record: RouteRecord = serde_json::from_value(body).ok()?;
        let secrets = RouteSecrets { password: secret.cloned(), ..RouteSecrets::default() };
        Some(Route::new(format!("~channel {name}").into(), record, secrets, version))
    }

    /// All that is wrong with it.
    pub fn problems(&self, secret: Option<&SecretString>, server: &[Cidr]) -> Vec<FieldError> {
        let mut problems = Vec::new();
        let mut say = |field: &str, detail: String| problems.push(FieldError::new(format!("/{field}"), detail));
        match self.kind {
            kind if kind.is_web() => match self.target(secret) {
                Err((field, problem)) => say(field, problem),
                Ok(target) => {
                    let address = target.host.parse().ok();
                    if let Some(address) = address.filter(|address| !self.guard(server).permits(*address)) {
                        let field = if kind.secret_url() { "secret" } else { "url" };
                        say(
                            field,
                            format!("{address} is on this machine or in a private network: allow it in `networks`"),
                        );
                    }
                }
            },
            ChannelKind::Email => {
                if let Err((field, problem)) = self.addresses() {
                    say(field, problem);
                }
                if self.to.is_empty() || self.to.len() > MAX_TO {
                    say("to", format!("has 1 to {MAX_TO} addresses"));
                }
                if let Some(route) = self.own_route("x", 0, secret) {
                    route.record.problems(&route.secrets).into_iter().for_each(|problem| say("smart_host", problem));
                }
            }
            ChannelKind::Syslog if self.syslog().is_none() => {
                say("server", "is udp://host:514, tcp://host:601, tls://host:6514 or unix:/dev/log".into());
            }
            ChannelKind::Command if !self.command.first().is_some_and(|program| program.starts_with('/')) => {
                say("command", "begins with the absolute path of a program".into());
            }
            _ => {}
        }
        if self.kind == ChannelKind::Pagerduty && secret.is_none() {
            say("secret", "is missing: the integration key".into());
        }
        self.foreign(&mut say);
        self.limits(&mut say);
        problems
    }

    /// Fields of other kinds.
    fn foreign(&self, say: &mut impl FnMut(&str, String)) {
        let web = self.kind.is_web();
        let mail = self.kind == ChannelKind::Email;
        for (field, is_set, may) in [
            ("url", self.url.is_some(), matches!(self.kind, ChannelKind::Webhook | ChannelKind::Pagerduty)),
            ("networks", !self.networks.is_empty(), web),
            ("allow_http", self.allow_http, web),
            ("to", !self.to.is_empty(), mail),
            ("from", self.from.is_some(), mail),
            ("routes", !self.routes.is_empty(), mail),
            ("smart_host", self.smart_host.is_some(), mail),
            ("server", self.server.is_some(), self.kind == ChannelKind::Syslog),
            ("facility", self.facility.is_some(), self.kind == ChannelKind::Syslog),
            ("command", !self.command.is_empty(), self.kind == ChannelKind::Command),
        ] {
            if is_set && !may {
                say(field, format!("is nothing that a channel of kind {} has", self.kind.as_str()));
            }
        }
    }

    fn limits(&self, say: &mut impl FnMut(&str, String)) {
        let within = |value: u32, least: u32, most: u32| (least..=most).contains(&value);
        for (field, good, what) in [
            ("timeout", within(self.timeout, 1, 60), "is 1 to 60 seconds"),
            ("step", within(self.step.into(), 1, 9), "is 1 to 9"),
            ("group_s", within(self.group_s, 0, 86_400), "is 0 to 86,400 seconds"),
            ("interval_s", within(self.interval_s(), 0, 86_400), "is 0 to 86,400 seconds"),
            ("per_hour", within(self.per_hour(), 1, 3_600), "is 1 to 3,600"),
            ("facility", self.facility.unwrap_or(0) <= 23, "is 0 to 23"),
        ] {
            if !good {
                say(field, what.to_owned());
            }
        }
        for (field, length) in
            [("networks", self.networks.len()), ("routes", self.routes.len()), ("command", self.command.len())]
        {
            if length > MAX_LIST {
                say(field, format!("has more than {MAX_LIST} entries"));
            }
        }
        if self.command.iter().any(|word| word.contains('\0') || word.len() > 4_096) {
            say("command", "has an argument with a NUL, or of more than 4,096 octets".into());
        }
        if let Some(Err((field, problem))) = self.quiet.as_ref().map(Quiet::hours) {
            say(&format!("quiet/{field}"), problem);
        }
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
