//! What is set for a webhook, and what is wrong with it. Secrets are not in it: see [`super::sign`].

use net::Cidr;
use net::address::Guard;
use net::https::{Scheme, Target};
use serde::{Deserialize, Serialize};

use super::payload::HookEvent;
use crate::config::values::is_name;
use crate::http::problem::FieldError;

/// Longest address.
const MAX_URL: usize = 2_000;
/// Most streams, senders or networks.
const MAX_LIST: usize = 100;
/// Seconds an endpoint may take to answer, if nothing else is set.
const TIMEOUT_S: u32 = 15;

/// A webhook. Field names are a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookRecord {
    /// Where requests go: `https://…`.
    pub url: String,
    /// What is told; empty: everything.
    #[serde(default)]
    pub events: Vec<HookEvent>,
    /// Of messages in these streams; empty: of all.
    #[serde(default)]
    pub streams: Vec<String>,
    /// Of messages by these senders; empty: of all.
    #[serde(default)]
    pub senders: Vec<String>,
    /// Networks that are not public and may be called all the same.
    #[serde(default)]
    pub networks: Vec<Cidr>,
    /// `http://` is taken: everything is told in the clear.
    #[serde(default)]
    pub allow_http: bool,
    /// Seconds it may take to answer, 1 to 60.
    #[serde(default = "timeout")]
    pub timeout: u32,
    /// Nothing is sent; what happens meanwhile is told later.
    #[serde(default)]
    pub disabled: bool,
}

fn timeout() -> u32 {
    TIMEOUT_S
}

impl WebhookRecord {
    /// Which addresses it may lead to.
    pub fn guard(&self, server: &[Cidr]) -> Guard {
        Guard::new(self.networks.iter().chain(server).copied())
    }

    /// Where requests go, or what is wrong with the address.
    pub fn target(&self) -> Result<Target, String> {
        if self.url.len() > MAX_URL {
            return Err(format!("is longer than {MAX_URL} octets"));
        }
        let url = reqwest::Url::parse(self.url.trim()).map_err(|error| format!("is no URL: {error}"))?;
        let scheme = match url.scheme() {
            "https" => Scheme::Https,
            "http" if self.allow_http => Scheme::Http,
            "http" => return Err("would be called in the clear: use https://, or set `allow_http`".into()),
            _ => return Err("has to begin with https://".into()),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a user name or password: the signature says who is calling".into());
        }
        if url.fragment().is_some() {
            return Err("has a fragment (#…), which is never sent".into());
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

    /// All that is wrong with it.
    pub fn problems(&self, server: &[Cidr]) -> Vec<FieldError> {
        let mut problems = Vec::new();
        match self.target() {
            Err(problem) => problems.push(FieldError::new("/url", problem)),
            Ok(target) => {
                let address = target.host.parse().ok();
                if let Some(address) = address.filter(|address| !self.guard(server).permits(*address)) {
                    let detail = format!(
                        "{address} is on this machine or in a private network: allow it in `networks` if it is meant"
                    );
                    problems.push(FieldError::new("/url", detail));
                }
            }
        }
        for (field, list) in [("streams", &self.streams), ("senders", &self.senders)] {
            if let Some(n) = list.iter().position(|name| !is_name(name)) {
                problems.push(FieldError::new(format!("/{field}/{n}"), "has 1 to 64 characters of a-z 0-9 . _ -"));
            }
        }
        for (field, length) in [
            ("streams", self.streams.len()),
            ("senders", self.senders.len()),
            ("networks", self.networks.len()),
            ("events", self.events.len()),
        ] {
            if length > MAX_LIST {
                problems.push(FieldError::new(format!("/{field}"), format!("has more than {MAX_LIST} entries")));
            }
        }
        if !(1..=60).contains(&self.timeout) {
            problems.push(FieldError::new("/timeout", "is 1 to 60 seconds"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problem(body: serde_json::Value) -> String {
        let record: WebhookRecord = serde_json::from_value(body).unwrap();
        let problems = record.problems(&["10.9.0.0/16".parse().unwrap()]);
        problems.into_iter().map(|one| format!("{} {}", one.pointer, one.detail)).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn an_address_that_leads_inside_is_refused_however_it_is_written() {
        for host in [
            "127.0.0.1",
            "localhost",
            "127.1",
            "0x7f.1",
            "2130706433",
            "0177.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[fe80::1]",
            "[fd00::1]",
            "[::]",
            "10.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "[2002:7f00:1::]",
            "１２７.0.0.1",
        ] {
            let said = problem(json!({ "url": format!("https://{host}/x") }));
            // A name is checked when it has been looked up.
            assert_eq!(said.contains("/url"), host != "localhost", "{host}: {said}");
        }
        for host in ["9.9.9.9", "[2606:4700::1111]", "10.9.1.1", "example.com"] {
            assert_eq!(problem(json!({ "url": format!("https://{host}/x") })), "", "{host}");
        }
        assert_eq!(problem(json!({ "url": "https://127.0.0.1:8443/x", "networks": ["127.0.0.0/8"] })), "");
    }

    #[test]
    fn what_else_is_wrong_is_said_with_its_field() {
        for (body, wanted) in [
            (json!({ "url": "example.com" }), "/url is no URL"),
            (json!({ "url": "ftp://example.com" }), "/url has to begin with https://"),
            (json!({ "url": "http://example.com" }), "/url would be called in the clear"),
            (json!({ "url": "http://example.com", "allow_http": true }), ""),
            (json!({ "url": "https://a:b@example.com" }), "/url holds a user name"),
            (json!({ "url": "https://example.com/#x" }), "/url has a fragment"),
            (json!({ "url": "https://example.com:25/" }), "/url names port 25"),
            (json!({ "url": "https://example.com", "streams": ["ok", "No"] }), "/streams/1"),
            (json!({ "url": "https://example.com", "timeout": 0 }), "/timeout"),
        ] {
            let said = problem(body.clone());
            assert!(said.starts_with(wanted) && said.is_empty() == wanted.is_empty(), "{body}: {said}");
        }
        let record: WebhookRecord =
            serde_json::from_value(json!({ "url": "https://ex\u{e4}mple.com/a b?c=d\r\n" })).unwrap();
        let target = record.target().unwrap();
        assert_eq!(
            (target.host.as_str(), target.path.as_str(), target.port),
            ("xn--exmple-cua.com", "/a%20b?c=d", 443)
        );
    }
}
