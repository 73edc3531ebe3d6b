//! What the server says when it starts, in plain words: where it listens, where things are, what is missing.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::ExposeSecret;

use super::first::{Credentials, FIRST_SENDER};
use crate::config::checked::{AuthWithoutTls, Config, Listener, ListenerKind, Mode};
use crate::config::key::Origin;

/// All that the report speaks of.
pub struct Facts<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Its file.
    pub file: Option<&'a PathBuf>,
    /// Listeners with their real addresses, in the configuration's order.
    pub listeners: &'a [SocketAddr],
    /// The HTTP listener's real address.
    pub http: SocketAddr,
    /// Where the key was found.
    pub key: &'a Origin,
    /// Made at a first start.
    pub first: Option<&'a Credentials>,
    /// One-time token for the pages.
    pub token: &'a str,
    /// How many users there are.
    pub users: usize,
    /// Recipients that an earlier run had in hand.
    pub taken_back: u64,
    /// Everything goes to the capture mailbox.
    pub only_capture: bool,
    /// How many senders there are.
    pub senders: usize,
    /// Settings that could not be used.
    pub problems: &'a [String],
}

/// The whole report.
pub fn text(facts: &Facts<'_>) -> String {
    let config = facts.config;
    let mut out = String::new();
    let _ = writeln!(out, "Pillarbox {} on {} (node {})\n", env!("CARGO_PKG_VERSION"), config.hostname, config.node);
    for (listener, address) in config.listeners.iter().zip(facts.listeners) {
        let _ = writeln!(out, "  SMTP           {address}, {}", listener_words(listener));
    }
    let _ = writeln!(out, "  HTTP           http://{}, API and pages", facts.http);
    let data = std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
    let _ = writeln!(out, "  data           {}", data.display());
    let _ = writeln!(out, "  key            {}", facts.key);
    let file = facts.file.map_or_else(|| "built-in defaults".to_owned(), |file| file.display().to_string());
    let _ = writeln!(out, "  configuration  {file}");
    if facts.taken_back > 0 {
        let _ = writeln!(out, "  queue          {} recipients that the last run had in hand go on", facts.taken_back);
    }
    if let Some(credentials) = facts.first {
        let _ = writeln!(out, "\nThis is the first start: a sender has been made. These are shown once.");
        let _ = writeln!(out, "  user name      {FIRST_SENDER}");
        let _ = writeln!(out, "  password       {}", credentials.password.expose_secret());
        let _ = writeln!(out, "  API key        {}", credentials.key.expose_secret());
    }
    let (what, when) = match facts.users {
        0 => ("To make the first administrator", "once"),
        _ => ("To look at the pages without a user", "once, within ten minutes"),
    };
    let _ = writeln!(out, "\n{what}, log in at http://{}/login with this token, {when}:", facts.http);
    let _ = writeln!(out, "  {}", facts.token);
    let missing = missing(facts);
    if !missing.is_empty() {
        let _ = writeln!(out, "\nNot configured yet:");
        for line in missing {
            let _ = writeln!(out, "  - {line}");
        }
    }
    if !facts.problems.is_empty() {
        let _ = writeln!(out, "\nWrong in the settings, and left out:");
        for problem in facts.problems {
            let _ = writeln!(out, "  - {problem}");
        }
    }
    out
}

fn listener_words(listener: &Listener) -> String {
    let mode = match (listener.mode, &listener.certificate) {
        (Mode::Plain, _) => "no TLS".into(),
        (mode, certificate) => {
            let mode = if mode == Mode::StartTls { "STARTTLS" } else { "TLS from the first octet" };
            match certificate {
                Some((path, _)) => format!("{mode} with {}", path.display()),
                None => format!("{mode} with a self-signed certificate"),
            }
        }
    };
    if listener.kind == ListenerKind::Bounce {
        return format!("{mode}, takes only reports about mail of ours");
    }
    match listener.auth_without_tls {
        AuthWithoutTls::Never => mode,
        AuthWithoutTls::Loopback => format!("{mode}, log-in without TLS from this machine"),
    }
}

fn missing(facts: &Facts<'_>) -> Vec<String> {
    let config = facts.config;
    let mut lines = Vec::new();
    if facts.only_capture {
        lines.push(
            "all mail goes to the capture mailbox and none leaves: `pillarbox route add --help` shows how to send it on"
                .into(),
        );
    }
    if facts.senders == 0 {
        lines.push("there is no sender, so nobody can submit: `pillarbox sender add --help`".into());
    }
    if !config.hostname.contains('.') {
        lines.push(format!(
            "the host name \"{}\" has no domain; other servers expect one in EHLO: set `hostname`",
            config.hostname
        ));
    }
    if config.listeners.iter().any(|listener| listener.mode != Mode::Plain && listener.certificate.is_none()) {
        lines.push(
            "the certificate is self-signed; clients that verify will refuse it: set `certificate` and `key`".into(),
        );
    }
    if !facts.http.ip().is_loopback() {
        lines.push(format!("{} takes API keys in clear text: put a proxy with TLS in front of it", facts.http));
    }
    lines
}
