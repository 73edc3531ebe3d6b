//! A provider's way in, as it is stored.

use serde::{Deserialize, Serialize};

/// Whose events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Amazon SES through SNS, signed with a certificate of Amazon's.
    Ses,
    /// SendGrid's signed event webhook: ECDSA, the secret is its public verification key.
    Sendgrid,
    /// Postmark: user name and password (HTTP Basic).
    Postmark,
    /// Mailgun: HMAC with the HTTP webhook signing key.
    Mailgun,
    /// Brevo: a token (HTTP Bearer), or user name and password.
    Brevo,
}

impl Provider {
    /// As it stands in paths and sources.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ses => "ses",
            Self::Sendgrid => "sendgrid",
            Self::Postmark => "postmark",
            Self::Mailgun => "mailgun",
            Self::Brevo => "brevo",
        }
    }

    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ses, Self::Sendgrid, Self::Postmark, Self::Mailgun, Self::Brevo];
}

/// A way in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InletRecord {
    /// Whose events.
    pub provider: Provider,
    /// SES: the only SNS topic that is listened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Postmark and Brevo: user name of HTTP Basic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Nothing is taken while true.
    #[serde(default)]
    pub disabled: bool,
}

impl InletRecord {
    /// Problems that a person has to mend: the field, and a sentence.
    pub fn problems(&self, has_secret: bool) -> Vec<(&'static str, &'static str)> {
        let ses = self.provider == Provider::Ses;
        let topic = self.topic.as_deref().unwrap_or_default();
        let mut problems = Vec::new();
        if ses && !(topic.starts_with("arn:aws") && topic.contains(":sns:") && topic.len() <= 512) {
            problems.push(("/topic", "SES tells through an SNS topic: its ARN is needed, arn:aws:sns:…"));
        }
        if !ses && self.topic.is_some() {
            problems.push(("/topic", "only SES has a topic"));
        }
        if !ses && !has_secret {
            problems.push(("/secret", "what its requests prove themselves with is needed"));
        }
        if self.provider == Provider::Postmark && self.username.as_deref().is_none_or(str::is_empty) {
            problems.push(("/username", "Postmark's requests carry a user name and a password"));
        }
        if !matches!(self.provider, Provider::Postmark | Provider::Brevo) && self.username.is_some() {
            problems.push(("/username", "this provider signs its requests instead"));
        }
        problems
    }
}
