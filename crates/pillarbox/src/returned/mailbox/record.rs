//! A mailbox as it is stored.

use relay::oauth::OauthRecord;
use relay::secrets::Secrets;
use serde::{Deserialize, Serialize};

/// When TLS is used. There is no way without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailboxTls {
    /// From the first octet (RFC 8314 §3.2).
    #[default]
    Implicit,
    /// STARTTLS or nothing.
    Starttls,
}

/// What happens to a mail that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum After {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is marked as seen.
    Seen,
    /// It goes to the folder `move_to`.
    Move,
    /// It is removed.
    Delete,
}

/// Where a mailbox that was never read begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum First {
    /// With what comes from now on.
    #[default]
    New,
    /// With all that is there.
    All,
}

/// A mailbox. The password, or what OAuth needs, is the document's secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailboxRecord {
    /// IMAP server.
    pub host: String,
    /// Port; by default 993, with STARTTLS 143.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// TLS.
    #[serde(default)]
    pub tls: MailboxTls,
    /// PEM file of authorities to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// User name.
    pub username: String,
    /// Access tokens instead of a password (XOAUTH2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OauthRecord>,
    /// Folder; by default `INBOX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// What happens to a mail that was taken.
    #[serde(default)]
    pub after: After,
    /// Folder for `after = move`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub move_to: Option<String>,
    /// Seconds between looks where the server cannot say that something came (10 to 86,400; default 60).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_s: Option<u32>,
    /// Wait for the server's word (IDLE, RFC 2177) where it can give it.
    #[serde(default = "yes")]
    pub idle: bool,
    /// Where it begins when it was never read.
    #[serde(default)]
    pub first: First,
    /// Not polled while true.
    #[serde(default)]
    pub disabled: bool,
}

fn yes() -> bool {
    true
}

impl MailboxRecord {
    /// Port as it is used.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            MailboxTls::Implicit => 993,
            MailboxTls::Starttls => 143,
        })
    }

    /// Folder as it is used.
    pub fn folder(&self) -> &str {
        self.folder.as_deref().unwrap_or("INBOX")
    }

    /// Pause between looks, seconds.
    pub fn poll_s(&self) -> u64 {
        u64::from(self.poll_s.unwrap_or(60).clamp(10, 86_400))
    }

    /// Problems that a person has to mend: the field, and a sentence.
    pub fn problems(&self, secrets: &Secrets) -> Vec<(&'static str, String)> {
        let mut problems: Vec<(&'static str, String)> = Vec::new();
        let mut say = |wrong: bool, field, text: &str| {
            if wrong {
                problems.push((field, text.to_owned()));
            }
        };
        let steers = |text: &str| text.is_empty() || text.len() > 255 || text.chars().any(char::is_control);
        say(steers(&self.host) || self.host.contains(' '), "/host", "needs the name of an IMAP server");
        say(steers(&self.username), "/username", "needs a user name");
        say(steers(self.folder()), "/folder", "needs a folder's name");
        say(self.port == Some(0), "/port", "port 0 does not exist");
        say(self.poll_s.is_some_and(|s| !(10..=86_400).contains(&s)), "/poll_s", "10 to 86,400 seconds");
        let goes = self.after == After::Move;
        say(
            goes && self.move_to.as_deref().is_none_or(steers),
            "/move_to",
            "`after` = `move` needs a folder to move to",
        );
        say(goes && self.move_to.as_deref() == Some(self.folder()), "/move_to", "is the folder that is read");
        say(!goes && self.move_to.is_some(), "/move_to", "is only for `after` = `move`");
        say(self.oauth.is_none() && secrets.password.is_none(), "/password", "a password or OAuth is needed");
        if let Some(oauth) = &self.oauth {
            problems.extend(oauth.problems(secrets).into_iter().map(|text| ("/oauth", text)));
        }
        problems
    }
}
