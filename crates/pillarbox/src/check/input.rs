//! What was asked for, in the JSON of the API; the command line fills in the same. Checked here, once for both.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use diagnose::check::{self, Auth, Message, Plan, Target};
use explain::RuleBase;
use proto::transcript::Stage;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::Aim;
use crate::http::problem::FieldError;

/// Limits of one wait, seconds.
const TIMEOUTS: std::ops::RangeInclusive<u32> = 1..=300;
/// Most recipients of one check.
const MAX_RECIPIENTS: usize = 20;

/// How the connection is to be secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// What the port stands for, and what works.
    Auto,
    /// STARTTLS is required.
    Starttls,
    /// From the first octet.
    Implicit,
    /// Never.
    None,
}

/// How far the message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageStage {
    /// Not at all.
    No,
    /// The connection ends before the final dot: nothing is delivered.
    BeforeDot,
    /// A test message is sent.
    Send,
}

/// Address families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Families {
    /// Both.
    Both,
    /// IPv4 only.
    Four,
    /// IPv6 only.
    Six,
}

/// A check as it is asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckIn {
    /// Host, domain, address or URL; not together with a smart host route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// A route whose host, TLS and credentials are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// TLS; by default `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsMode>,
    /// SASL mechanism; by default the strongest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// User name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password, key or token. Goes in and never comes out.
    #[serde(skip_serializing)]
    pub password: Option<SecretString>,
    /// Credentials may cross an unencrypted link.
    pub allow_plaintext_auth: bool,
    /// MAIL FROM; empty for the null reverse-path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// RCPT TO.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// How far the message goes; by default before the final dot where there is a recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageStage>,
    /// Last stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quit_after: Option<Stage>,
    /// Families; by default both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub families: Option<Families>,
    /// Address to connect from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Name in EHLO; by default the server's host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
    /// Limit of each wait, seconds; by default 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u32>,
    /// Go on although the certificate does not verify.
    pub insecure: bool,
    /// Name server to ask, `address` or `address:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// Address to connect to instead of asking the DNS, `address` or `address:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_to: Option<String>,
    /// Authorities to trust instead of the configured ones. Names a file here: not by the API.
    #[serde(skip)]
    pub ca_file: Option<PathBuf>,
    /// Test for an open relay.
    pub open_relay: bool,
    /// Do not try other ports and hosts after a failure.
    pub no_explore: bool,
    /// Ask hosts of others for a greeting, to tell a blocked network from a dead server.
    pub outside: bool,
    /// Provider, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

/// A check that can be run.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// For the probe.
    pub plan: Plan,
    /// Another name server than the configured ones.
    pub resolver: Option<SocketAddr>,
    /// Other authorities than the configured ones.
    pub ca_file: Option<PathBuf>,
}

/// Collects what is wrong.
struct Wrong(Vec<FieldError>);

impl Wrong {
    fn say(&mut self, pointer: &str, detail: impl Into<String>) {
        self.0.push(FieldError::new(pointer, detail));
    }

    fn unless(&mut self, right: bool, pointer: &str, detail: &str) {
        if !right {
            self.say(pointer, detail);
        }
    }
}

impl CheckIn {
    /// Checks everything and makes a plan of it.
    ///
    /// # Errors
    /// All fields that are wrong.
    pub fn prepare(self, rules: &RuleBase, hostname: &str) -> Result<Prepared, Vec<FieldError>> {
        let mut wrong = Wrong(Vec::new());
        let aim = self.aim(&mut wrong);
        let username = self.username.clone().or_else(|| aim.as_ref().and_then(|aim| aim.user.clone()));
        wrong.unless(username.is_none() || self.password.is_some(), "/password", "a user name needs a password");
        wrong.unless(username.is_some() || self.password.is_none(), "/username", "a password needs a user name");
        self.check_envelope(&mut wrong);
        let timeout = self.timeout_s.unwrap_or(10);
        wrong.unless(TIMEOUTS.contains(&timeout), "/timeout_s", "has to be from 1 to 300");
        let helo = self.helo.clone().unwrap_or_else(|| hostname.to_owned());
        wrong.unless(is_word(&helo, 255), "/helo", "has to be one word");
        if let Some(id) = self.provider.as_deref().filter(|id| rules.provider(id).is_none()) {
            let known: Vec<&str> = rules.providers().iter().map(|provider| provider.id.as_str()).collect();
            wrong.say("/provider", format!("no provider `{}`; there are {}", id.escape_debug(), known.join(", ")));
        }
        let resolver = address(self.resolver.as_deref(), Some(53), "/resolver", &mut wrong);
        let port = aim.as_ref().and_then(|aim| aim.port).unwrap_or(match self.mode(aim.as_ref()) {
            TlsMode::Implicit => 465,
            _ => 587,
        });
        let connect_to = address(self.connect_to.as_deref(), Some(port), "/connect_to", &mut wrong);
        let (Some(aim), true) = (aim, wrong.0.is_empty()) else { return Err(wrong.0) };
        let tls = match self.mode(Some(&aim)) {
            TlsMode::Auto => check::Tls::Auto,
            TlsMode::Starttls => check::Tls::StartTls,
            TlsMode::Implicit => check::Tls::Implicit,
            TlsMode::None => check::Tls::None,
        };
        let mechanism = self.auth.as_deref().filter(|name| !name.eq_ignore_ascii_case("auto"));
        let auth = username.zip(self.password).map(|(username, password)| Auth {
            username,
            password,
            mechanism: mechanism.map(str::to_ascii_uppercase),
            allow_plaintext: self.allow_plaintext_auth,
        });
        let message = match self.message {
            None if self.to.is_empty() => Message::No,
            Some(MessageStage::No) => Message::No,
            None | Some(MessageStage::BeforeDot) => Message::BeforeDot,
            Some(MessageStage::Send) => Message::Send,
        };
        let plan = Plan {
            tls,
            families: match self.families {
                None | Some(Families::Both) => check::Families::Both,
                Some(Families::Four) => check::Families::Four,
                Some(Families::Six) => check::Families::Six,
            },
            source: self.source,
            connect_to,
            auth,
            from: self.from,
            to: self.to,
            message,
            last: self.quit_after.unwrap_or(Stage::Message),
            provider: self.provider,
            timeout: Duration::from_secs(u64::from(timeout)),
            insecure: self.insecure,
            explore: !self.no_explore,
            outside: self.outside,
            open_relay: self.open_relay,
            ..Plan::new(Target { host: aim.host, port: aim.port }, helo)
        };
        Ok(Prepared { plan, resolver, ca_file: self.ca_file })
    }

    fn aim(&self, wrong: &mut Wrong) -> Option<Aim> {
        let Some(target) = &self.target else {
            wrong.say("/target", "is missing");
            return None;
        };
        match Aim::parse(target) {
            Err(error) => {
                wrong.say("/target", error.to_string());
                None
            }
            Ok(aim) => {
                let differ = |(said, wanted): (TlsMode, TlsMode)| said != wanted && wanted != TlsMode::Auto;
                let conflict = aim.tls.zip(self.tls).is_some_and(differ);
                wrong.unless(!conflict, "/tls", "says another thing than the scheme of the target");
                Some(aim)
            }
        }
    }

    fn mode(&self, aim: Option<&Aim>) -> TlsMode {
        let wanted = self.tls.filter(|tls| *tls != TlsMode::Auto);
        wanted.or_else(|| aim.and_then(|aim| aim.tls)).unwrap_or(TlsMode::Auto)
    }

    fn check_envelope(&self, wrong: &mut Wrong) {
        let is_path = |text: &str| text.len() <= 500 && !text.chars().any(|c| c.is_control() || matches!(c, '<' | '>'));
        let from = self.from.as_deref().unwrap_or_default();
        wrong.unless(is_path(from), "/from", "is no address: control characters and angle brackets are not allowed");
        for (n, to) in self.to.iter().enumerate() {
            wrong.unless(!to.is_empty() && is_path(to), &format!("/to/{n}"), "is no address");
        }
        wrong.unless(self.to.len() <= MAX_RECIPIENTS, "/to", "has more than 20 recipients");
        wrong.unless(
            self.to.is_empty() || self.from.is_some(),
            "/from",
            "recipients need a sender (`from`, may be empty)",
        );
        let message = !matches!(self.message, None | Some(MessageStage::No));
        wrong.unless(!message || !self.to.is_empty(), "/to", "a message needs a recipient");
        let name = self.auth.as_deref().unwrap_or("auto");
        let fits = is_word(name, 20) && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        wrong.unless(fits, "/auth", "is no SASL mechanism such as PLAIN, LOGIN, CRAM-MD5 or XOAUTH2");
    }
}

fn is_word(text: &str, most: usize) -> bool {
    !text.is_empty() && text.len() <= most && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// `192.0.2.1`, `192.0.2.1:53`, `::1`, `[::1]:53`.
fn address(text: Option<&str>, port: Option<u16>, pointer: &str, wrong: &mut Wrong) -> Option<SocketAddr> {
    let text = text?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let found = match bare.parse::<IpAddr>() {
        Ok(ip) => port.map(|port| SocketAddr::new(ip, port)),
        Err(_) => text.parse().ok().filter(|address: &SocketAddr| address.port() != 0),
    };
    if found.is_none() {
        wrong.say(pointer, "is no IP address, with a port or without");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(json: &str) -> Result<Prepared, Vec<String>> {
        let input: CheckIn = serde_json::from_str(json).unwrap();
        let pointers = |errors: Vec<FieldError>| errors.into_iter().map(|error| error.pointer).collect();
        input.prepare(RuleBase::builtin(), "here.test").map_err(pointers)
    }

    #[test]
    fn a_name_alone_is_a_plan_with_the_defaults() {
        let plan = prepare(r#"{"target":"mail.example.com"}"#).unwrap().plan;
        assert_eq!(plan.target, Target { host: "mail.example.com".into(), port: None });
        assert_eq!((plan.helo.as_str(), plan.tls, plan.message), ("here.test", check::Tls::Auto, Message::No));
        assert!(plan.explore && !plan.outside && !plan.insecure && plan.auth.is_none());
    }

    #[test]
    fn a_recipient_brings_the_message_up_to_its_final_dot() {
        let base = r#""target":"h.example","from":"a@b.example","to":["c@d.example"]"#;
        assert_eq!(prepare(&format!("{{{base}}}")).unwrap().plan.message, Message::BeforeDot);
        assert_eq!(prepare(&format!(r#"{{{base},"message":"no"}}"#)).unwrap().plan.message, Message::No);
        assert_eq!(prepare(&format!(r#"{{{base},"message":"send"}}"#)).unwrap().plan.message, Message::Send);
    }

    #[test]
    fn the_user_of_a_url_and_the_mechanism_are_taken_over() {
        let plan = prepare(r#"{"target":"smtps://ann@h.example","password":"p","auth":"cram-md5"}"#).unwrap().plan;
        let auth = plan.auth.unwrap();
        assert_eq!((auth.username.as_str(), auth.mechanism.as_deref()), ("ann", Some("CRAM-MD5")));
        assert_eq!((plan.target.port, plan.tls), (Some(465), check::Tls::Implicit));
    }

    #[test]
    fn every_field_that_is_wrong_is_pointed_at() {
        for (json, pointer) in [
            (r"{}", "/target"),
            (r#"{"target":"a b"}"#, "/target"),
            (r#"{"target":"h.example","username":"u"}"#, "/password"),
            (r#"{"target":"h.example","password":"p"}"#, "/username"),
            (r#"{"target":"h.example","to":["a@b.example"]}"#, "/from"),
            (r#"{"target":"h.example","from":"a\r\nRSET"}"#, "/from"),
            (r#"{"target":"h.example","from":"","to":["<a@b>"]}"#, "/to/0"),
            (r#"{"target":"h.example","message":"send"}"#, "/to"),
            (r#"{"target":"h.example","timeout_s":0}"#, "/timeout_s"),
            (r#"{"target":"h.example","helo":"a b"}"#, "/helo"),
            (r#"{"target":"h.example","provider":"nobody"}"#, "/provider"),
            (r#"{"target":"h.example","resolver":"dns.example"}"#, "/resolver"),
            (r#"{"target":"h.example","connect_to":"x:y"}"#, "/connect_to"),
            (r#"{"target":"h.example","auth":"A B"}"#, "/auth"),
            (r#"{"target":"smtps://h.example","tls":"none"}"#, "/tls"),
        ] {
            assert_eq!(prepare(json).unwrap_err(), [pointer], "{json}");
        }
    }

    #[test]
    fn an_address_to_connect_to_takes_the_port_of_the_target() {
        let prepared = prepare(r#"{"target":"h.example:2525","connect_to":"::1","resolver":"127.0.0.1"}"#).unwrap();
        assert_eq!(prepared.plan.connect_to.unwrap().to_string(), "[::1]:2525");
        assert_eq!(prepared.resolver.unwrap().to_string(), "127.0.0.1:53");
    }

    #[test]
    fn a_password_does_not_come_out_again() {
        let input: CheckIn = serde_json::from_str(r#"{"target":"h","username":"u","password":"s3cret"}"#).unwrap();
        assert!(!format!("{input:?}").contains("s3cret"));
        assert!(!serde_json::to_string(&input).unwrap().contains("s3cret"));
    }
}
