//! Values of one table of the file, as what the settings want; what does not fit becomes a problem with its place.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use net::cidr::Cidr;

use super::checked::*;
use super::keys;
use super::raw::{Block, Values};
use super::values::{Threshold, Value, understand};
use super::{Place, Problem};
use crate::monitor::version::Source;

/// Takes values out of one table.
pub(super) struct Reader<'a> {
    pub(super) values: &'a Values,
    pub(super) base: Option<&'a Path>,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    /// The base of links, without a last slash.
    pub(super) fn public_url(&mut self) -> Option<String> {
        let (value, place) = self.value("http.public_url")?;
        let Value::Text(text) = value else { return None };
        let text = text.trim_end_matches('/').to_owned();
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or("");
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b".-:/[]_~".contains(&octet);
        if host.is_empty() || host.starts_with('/') || text.len() > 200 || !host.bytes().all(allowed) {
            let message = format!("\"{text}\" is not a URL such as https://mail.example.com");
            self.problems.push(Problem { file: None, place, message });
            return None;
        }
        Some(text)
    }

    pub(super) fn checks(&mut self) -> Checks {
        let builtin = self.text("checks.builtin").as_deref() != Some("no");
        let mut version_from = None;
        if let Some((Value::Text(text), place)) = self.value("checks.version_from")
            && !text.is_empty()
        {
            match Source::parse(&text) {
                Ok(_) => version_from = Some(text),
                Err(message) => {
                    let message = format!("`checks.version_from`: {message}");
                    self.problems.push(Problem { file: None, place, message });
                }
            }
        }
        Checks { builtin, version_from }
    }

    /// The value of a key: typed, or its default, or none.
    pub(super) fn value(&mut self, path: &str) -> Option<(Value, Place)> {
        let key = keys::find(path)?;
        let located = self.values.get(key.path).cloned().or_else(|| default(key))?;
        match understand(key.shape, &located.value) {
            Ok(value) => Some((value, located.place)),
            Err(expected) => {
                let message = format!("`{path}`: {expected}");
                self.problems.push(Problem { file: None, place: located.place, message });
                default(key).and_then(|located| understand(key.shape, &located.value).ok()).map(|v| (v, Place::Default))
            }
        }
    }
    pub(super) fn text(&mut self, path: &str) -> Option<String> {
        match self.value(path)?.0 {
            Value::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
    pub(super) fn tls_report(&mut self) -> Option<TlsReport> {
        let wanted = self.text("tls_report.send").as_deref() != Some("no");
        let organization = self.text("tls_report.organization");
        let private = self.text("tls_report.private").as_deref() == Some("yes");
        let contact = self.text("tls_report.contact").and_then(|text| proto::Address::parse(&text).ok());
        contact.filter(|_| wanted).map(|contact| TlsReport { organization, contact, private })
    }
    pub(super) fn path(&mut self, path: &str) -> Option<PathBuf> {
        let (value, place) = self.value(path)?;
        let Value::Text(text) = value else { return None };
        // What stands in a file is relative to that file: the same file means the same from any directory.
        let base = self.base.filter(|_| matches!(place, Place::File { .. }));
        Some(base.map_or_else(|| PathBuf::from(&text), |base| base.join(&text)))
    }
    pub(super) fn number(&mut self, path: &str) -> u64 {
        match self.value(path) {
            Some((Value::Number(number), _)) => number,
            _ => 0,
        }
    }
    pub(super) fn threshold(&mut self, path: &str) -> Option<Threshold> {
        match self.value(path)?.0 {
            Value::Threshold(threshold) => threshold,
            _ => None,
        }
    }
    pub(super) fn rates(&mut self, path: &str) -> Option<(u32, u32)> {
        match self.value(path)?.0 {
            Value::Rates(rates) => rates,
            _ => None,
        }
    }
    pub(super) fn optional_duration(&mut self, path: &str) -> Option<Duration> {
        match self.value(path)?.0 {
            Value::Duration(duration) => Some(duration),
            _ => None,
        }
    }
    pub(super) fn duration(&mut self, path: &str) -> Duration {
        self.optional_duration(path).unwrap_or_default()
    }
    pub(super) fn durations(&mut self, path: &str) -> Vec<Duration> {
        match self.value(path) {
            Some((Value::Durations(all), _)) => all,
            _ => Vec::new(),
        }
    }
    pub(super) fn socket(&mut self, path: &str) -> Option<SocketAddr> {
        match self.value(path)?.0 {
            Value::Socket(address) => Some(address),
            _ => None,
        }
    }
    pub(super) fn sockets(&mut self, path: &str) -> Vec<SocketAddr> {
        match self.value(path) {
            Some((Value::Sockets(all), _)) => all,
            _ => Vec::new(),
        }
    }
    pub(super) fn networks(&mut self, path: &str) -> Vec<Cidr> {
        match self.value(path) {
            Some((Value::Networks(all), _)) => all,
            _ => Vec::new(),
        }
    }

    pub(super) fn limits(&mut self) -> Limits {
        Limits {
            message_size: self.number("limits.message_size"),
            recipients: self.number("limits.recipients") as usize,
            connections: self.number("limits.connections") as u32,
            connections_per_address: self.number("limits.connections_per_address") as u32,
            commands: self.number("limits.commands") as u32,
            command_timeout: self.duration("limits.command_timeout"),
            data_timeout: self.duration("limits.data_timeout"),
            memory: self.number("limits.memory") as usize,
            free_disk: self.number("limits.free_disk"),
        }
    }

    pub(super) fn bounce(&mut self) -> Bounce {
        let report_address = self.text("bounce.report_address").filter(|text| match proto::Address::parse(text) {
            Ok(_) => true,
            Err(error) => {
                let place = self.value("bounce.report_address").map_or(Place::Default, |(_, place)| place);
                let message = format!("`bounce.report_address`: {error}");
                self.problems.push(Problem { file: None, place, message });
                false
            }
        });
        Bounce {
            domain: self.text("bounce.domain").map(|domain| domain.to_ascii_lowercase()),
            original: self.text("bounce.return_path").as_deref() == Some("original"),
            report_address,
        }
    }

    pub(super) fn roots(&mut self) -> Roots {
        match self.text("tls.roots").as_deref() {
            None | Some("system") => Roots::System,
            Some("web") => Roots::Web,
            Some("both") => Roots::Both,
            Some(_) => Roots::File(self.path("tls.roots").unwrap_or_default()),
        }
    }

    pub(super) fn log_level(&mut self) -> String {
        let Some((Value::Text(level), place)) = self.value("log.level") else { return "info".into() };
        if tracing_subscriber::EnvFilter::try_new(&level).is_err() {
            let message = "`log.level`: expected error, warn, info, debug, trace or a filter such as info,relay=debug";
            self.problems.push(Problem { file: None, place, message: message.into() });
        }
        level
    }

    pub(super) fn listener(&mut self, name: String, block: &Block) -> Option<Listener> {
        let kind = match self.text("listener.kind").as_deref() {
            Some("bounce") => ListenerKind::Bounce,
            _ => ListenerKind::Submission,
        };
        let mode = match self.text("listener.mode").as_deref() {
            Some("implicit") => Mode::Implicit,
            Some("plain") => Mode::Plain,
            _ => Mode::StartTls,
        };
        let auth_without_tls = match self.text("listener.auth_without_tls").as_deref() {
            Some("loopback") => AuthWithoutTls::Loopback,
            _ => AuthWithoutTls::Never,
        };
        let certificate = match (self.path("listener.certificate"), self.path("listener.key")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(_), None) => {
                self.problem_at(block, "listener.certificate", "`listener.certificate` needs `listener.key`".into());
                None
            }
            (None, Some(_)) => {
                self.problem_at(block, "listener.key", "`listener.key` needs `listener.certificate`".into());
                None
            }
            (None, None) => None,
        };
        if mode == Mode::Plain && certificate.is_some() {
            let message = "a listener of mode \"plain\" has no TLS: remove the certificate or change `mode`";
            self.problem_at(block, "listener.certificate", message.into());
        }
        let proxy_from = self.networks("listener.proxy_from");
        let xclient_from = self.networks("listener.xclient_from");
        if !block.values.contains_key("listener.address") {
            self.missing(block, "listener.address");
        }
        let address = self.socket("listener.address")?;
        // The session machine decides by listener: on another address a client elsewhere would be offered AUTH in clear.
        if auth_without_tls == AuthWithoutTls::Loopback && !(address.ip().is_loopback() && proxy_from.is_empty()) {
            let message = "\"loopback\" needs a listener on a loopback address without `proxy_from`";
            self.problem_at(block, "listener.auth_without_tls", message.into());
        }
        Some(Listener { name, kind, address, mode, certificate, auth_without_tls, proxy_from, xclient_from })
    }

    pub(super) fn missing(&mut self, block: &Block, path: &str) {
        if !block.values.contains_key(path) {
            let message = format!("`{path}` is missing here");
            self.problems.push(Problem { file: None, place: block.place.clone(), message });
        }
    }

    pub(super) fn problem_at(&mut self, block: &Block, path: &str, message: String) {
        let place = block.values.get(path).map_or_else(|| block.place.clone(), |located| located.place.clone());
        self.problems.push(Problem { file: None, place, message });
    }
}
