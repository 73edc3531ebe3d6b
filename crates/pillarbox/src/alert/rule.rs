//! What alerts are about: kinds with their defaults. What is set otherwise is in documents, see `setting`.

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Will be a problem if nobody looks after it.
    Warning,
    /// Some mail does not arrive, or arrives late.
    Problem,
    /// Much does not arrive, or somebody else sends in our name: worth to wake somebody.
    Critical,
}

impl Severity {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Problem => "problem",
            Self::Critical => "critical",
        }
    }
}

/// What an alert is about. The names are a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertRule {
    /// An incident was opened.
    Incident,
    /// Many attempts of a route fail.
    Errors,
    /// Many connections of a route fail.
    ConnectionErrors,
    /// A next hop rejects our credential.
    AuthOutgoing,
    /// Somebody signs in here with wrong credentials.
    AuthIncoming,
    /// A sender or a stream sends far more than it uses to.
    VolumeSpike,
    /// Mail waits for too long.
    QueueAge,
    /// Mail waits and nothing is tried.
    QueueStalled,
    /// Too many recipients bounce.
    BounceRate,
    /// Too many recipients complain.
    ComplaintRate,
    /// A quota will not do for what waits.
    QuotaForecast,
    /// Mail goes by a fallback route.
    FallbackInUse,
    /// A fallback route was not used for so long that nobody knows whether it works.
    FallbackUnused,
    /// A certificate ends soon, or has ended.
    CertificateExpiry,
    /// A client secret or a token ends soon, or has ended.
    SecretExpiry,
    /// A signing key is old.
    KeyAge,
    /// A DNS record has changed.
    DnsChanged,
    /// One of our addresses or domains is on a blocklist.
    Blocklisted,
    /// A scheduled check finds something else than before.
    CheckChanged,
    /// A test mail did not arrive.
    Arrival,
    /// Something in the settings is risky or wrong.
    Configuration,
    /// A scheduled job failed.
    JobFailed,
    /// Somebody tries a channel.
    Test,
}

/// From where on something is worth telling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// If nothing else is set.
    pub usual: f64,
    /// Least that can be set.
    pub least: f64,
    /// Most that can be set.
    pub most: f64,
    /// Of what.
    pub unit: &'static str,
}

impl AlertRule {
    /// All that can be set.
    pub const ALL: [Self; 22] = [
        Self::Incident,
        Self::Errors,
        Self::ConnectionErrors,
        Self::AuthOutgoing,
        Self::AuthIncoming,
        Self::VolumeSpike,
        Self::QueueAge,
        Self::QueueStalled,
        Self::BounceRate,
        Self::ComplaintRate,
        Self::QuotaForecast,
        Self::FallbackInUse,
        Self::FallbackUnused,
        Self::CertificateExpiry,
        Self::SecretExpiry,
        Self::KeyAge,
        Self::DnsChanged,
        Self::Blocklisted,
        Self::CheckChanged,
        Self::Arrival,
        Self::Configuration,
        Self::JobFailed,
    ];

    /// As in the API and in the names of settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Incident => "incident",
            Self::Errors => "errors",
            Self::ConnectionErrors => "connection_errors",
            Self::AuthOutgoing => "auth_outgoing",
            Self::AuthIncoming => "auth_incoming",
            Self::VolumeSpike => "volume_spike",
            Self::QueueAge => "queue_age",
            Self::QueueStalled => "queue_stalled",
            Self::BounceRate => "bounce_rate",
            Self::ComplaintRate => "complaint_rate",
            Self::QuotaForecast => "quota_forecast",
            Self::FallbackInUse => "fallback_in_use",
            Self::FallbackUnused => "fallback_unused",
            Self::CertificateExpiry => "certificate_expiry",
            Self::SecretExpiry => "secret_expiry",
            Self::KeyAge => "key_age",
            Self::DnsChanged => "dns_changed",
            Self::Blocklisted => "blocklisted",
            Self::CheckChanged => "check_changed",
            Self::Arrival => "arrival",
            Self::Configuration => "configuration",
            Self::JobFailed => "job_failed",
            Self::Test => "test",
        }
    }

    /// In words, for lists and subjects.
    pub fn title(self) -> &'static str {
        match self {
            Self::Incident => "incident",
            Self::Errors => "failing attempts",
            Self::ConnectionErrors => "failing connections",
            Self::AuthOutgoing => "rejected credential",
            Self::AuthIncoming => "wrong sign-ins",
            Self::VolumeSpike => "unusual volume",
            Self::QueueAge => "old mail in the queue",
            Self::QueueStalled => "stalled queue",
            Self::BounceRate => "bounce rate",
            Self::ComplaintRate => "complaint rate",
            Self::QuotaForecast => "quota",
            Self::FallbackInUse => "fallback in use",
            Self::FallbackUnused => "untried fallback",
            Self::CertificateExpiry => "certificate",
            Self::SecretExpiry => "client secret",
            Self::KeyAge => "signing key",
            Self::DnsChanged => "changed DNS record",
            Self::Blocklisted => "blocklist",
            Self::CheckChanged => "changed check",
            Self::Arrival => "proof of arrival",
            Self::Configuration => "configuration",
            Self::JobFailed => "failed job",
            Self::Test => "test",
        }
    }

    /// What can be set as its threshold; `None`: it has none.
    pub fn threshold(self) -> Option<Threshold> {
        let threshold = |usual: f64, least: f64, most: f64, unit| Threshold { usual, least, most, unit };
        Some(match self {
            Self::Errors | Self::ConnectionErrors => threshold(50.0, 1.0, 100.0, "% of a route's attempts"),
            Self::QueueAge => threshold(60.0, 1.0, 100_000.0, "minutes"),
            Self::QuotaForecast => threshold(1.0, 1.0, 1_000_000_000.0, "recipients that do not fit into today"),
            Self::FallbackUnused => threshold(30.0, 1.0, 3_650.0, "days"),
            _ => return None,
        })
    }

    /// The rule of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_json_and_all_differ() {
        for rule in AlertRule::ALL {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.as_str());
            assert_eq!(AlertRule::named(rule.as_str()), Some(rule));
        }
        assert!(Severity::Critical > Severity::Problem && Severity::Problem > Severity::Warning);
    }
}
