//! What is set: the channels, and how each kind of alert differs from its defaults.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use store::settings::Kind;
use store::{Store, StoreError};

use super::channel::ChannelRecord;
use super::channel::quiet::Hours;
use super::rule::{AlertRule, Severity};
use crate::config::values::is_name;
use crate::http::problem::FieldError;

/// Most channels of a rule.
const MOST_CHANNELS: usize = 100;

/// What is set for a kind of alert. Field names are a promise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleSetting {
    /// Nobody is told, and nothing is noted.
    pub off: bool,
    /// How bad it is, whatever was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// From where on it is worth telling, for kinds that have a threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Channels that are told; empty: all that want it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Minutes until the channels of the next step are told if nobody acknowledges; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalate_min: Option<u32>,
}

impl RuleSetting {
    /// All that is wrong with it.
    pub fn problems(&self, rule: AlertRule) -> Vec<FieldError> {
        let mut problems = Vec::new();
        match (self.threshold, rule.threshold()) {
            (Some(_), None) => {
                problems.push(FieldError::new("/threshold", format!("is nothing that {} has", rule.as_str())));
            }
            (Some(value), Some(threshold)) if !(threshold.least..=threshold.most).contains(&value) => {
                let detail = format!("is {} to {} {}", threshold.least, threshold.most, threshold.unit);
                problems.push(FieldError::new("/threshold", detail));
            }
            _ => {}
        }
        if let Some(n) = self.channels.iter().position(|name| !is_name(name)) {
            problems.push(FieldError::new(format!("/channels/{n}"), "has 1 to 64 characters of a-z 0-9 . _ -"));
        }
        if self.channels.len() > MOST_CHANNELS {
            problems.push(FieldError::new("/channels", format!("has more than {MOST_CHANNELS} entries")));
        }
        if self.escalate_min.is_some_and(|minutes| minutes > 10_080) {
            problems.push(FieldError::new("/escalate_min", "is at most 10,080 minutes: a week"));
        }
        problems
    }
}

/// A channel that makes sense.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Name.
    pub name: String,
    /// Of its document.
    pub version: i64,
    /// Settings.
    pub record: ChannelRecord,
    /// What is secret about it.
    pub secret: Option<SecretString>,
    /// When it is quiet.
    pub hours: Option<Hours>,
}

impl Channel {
    /// From its document.
    pub fn new(
        name: String,
        version: i64,
        record: ChannelRecord,
        secret: Option<SecretString>,
    ) -> Result<Self, String> {
        let hours = match record.quiet.as_ref().map(super::channel::quiet::Quiet::hours).transpose() {
            Ok(hours) => hours,
            Err((field, problem)) => return Err(format!("channel {name}: quiet/{field} {problem}")),
        };
        Ok(Self { name, version, record, secret, hours })
    }
}

/// All that is set.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Version of the store's settings.
    pub version: i64,
    /// Channels that are not disabled, by name.
    pub channels: Vec<Channel>,
    /// Kinds of alerts that differ from their defaults.
    pub rules: BTreeMap<AlertRule, RuleSetting>,
    /// What could not be read.
    pub problems: Vec<String>,
}

impl Settings {
    /// Reads everything; what makes no sense is left out and named.
    pub async fn load(store: &dyn Store) -> Result<Self, StoreError> {
        let mut settings = Self { version: store.settings_version().await?, ..Self::default() };
        for document in store.documents(Kind::Channel).await? {
            let record = match serde_json::from_value::<ChannelRecord>(document.body) {
                Ok(record) if record.disabled => continue,
                Ok(record) => record,
                Err(error) => {
                    settings.problems.push(format!("channel {}: {error}", document.name));
                    continue;
                }
            };
            match Channel::new(document.name, document.version, record, document.secret) {
                Ok(channel) => settings.channels.push(channel),
                Err(problem) => settings.problems.push(problem),
            }
        }
        for document in store.documents(Kind::AlertRule).await? {
            match (AlertRule::named(&document.name), serde_json::from_value(document.body)) {
                (Some(rule), Ok(setting)) => drop(settings.rules.insert(rule, setting)),
                (None, _) => settings.problems.push(format!("there is no alert rule {}", document.name)),
                (_, Err(error)) => settings.problems.push(format!("alert rule {}: {error}", document.name)),
            }
        }
        Ok(settings)
    }

    /// Whether anything is done about a kind of alert.
    pub fn is_on(&self, rule: AlertRule) -> bool {
        self.rules.get(&rule).is_none_or(|setting| !setting.off)
    }

    /// How bad an alert is.
    pub fn severity(&self, rule: AlertRule, found: Severity) -> Severity {
        self.rules.get(&rule).and_then(|setting| setting.severity).unwrap_or(found)
    }

    /// Threshold of a rule; 0 for those that have none.
    pub fn threshold(&self, rule: AlertRule) -> f64 {
        let set = self.rules.get(&rule).and_then(|setting| setting.threshold);
        set.or_else(|| Some(rule.threshold()?.usual)).unwrap_or(0.0)
    }

    /// After how many minutes the next step is told; `None`: never.
    pub fn escalate_ms(&self, rule: AlertRule, severity: Severity) -> Option<i64> {
        let usual = match severity {
            Severity::Critical => 15,
            Severity::Problem => 60,
            Severity::Warning => 0,
        };
        let minutes = self.rules.get(&rule).and_then(|setting| setting.escalate_min).unwrap_or(usual);
        (minutes > 0).then(|| i64::from(minutes) * 60_000)
    }

    /// The channels that want an alert, by their step.
    pub fn channels_for(&self, rule: AlertRule, severity: Severity) -> Vec<&Channel> {
        let named = self.rules.get(&rule).map_or(&[][..], |setting| &setting.channels);
        let wants = |channel: &&Channel| {
            let record = &channel.record;
            (named.is_empty() || named.contains(&channel.name))
                && severity >= record.severity
                && (record.rules.is_empty() || record.rules.contains(&rule))
        };
        let mut wanted: Vec<&Channel> = self.channels.iter().filter(wants).collect();
        wanted.sort_by_key(|channel| channel.record.step);
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn setting(body: serde_json::Value) -> RuleSetting {
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn a_threshold_is_within_its_limits_or_not_there() {
        for (rule, body, wanted) in [
            (AlertRule::QueueAge, json!({ "threshold": 30 }), ""),
            (AlertRule::QueueAge, json!({ "threshold": 0 }), "/threshold"),
            (AlertRule::Incident, json!({ "threshold": 1 }), "/threshold"),
            (AlertRule::Incident, json!({ "channels": ["a", "B"] }), "/channels/1"),
            (AlertRule::Incident, json!({ "escalate_min": 99_999 }), "/escalate_min"),
        ] {
            let problems = setting(body).problems(rule);
            assert_eq!(problems.first().map_or("", |one| one.pointer.as_str()), wanted);
        }
    }

    #[test]
    fn a_rule_is_told_to_the_channels_that_want_it() {
        let channel = |name: &str, body: serde_json::Value| {
            Channel::new(name.into(), 1, serde_json::from_value(body).unwrap(), None).unwrap()
        };
        let mut settings = Settings {
            channels: vec![
                channel("late", json!({ "kind": "slack", "step": 2 })),
                channel("loud", json!({ "kind": "slack", "severity": "critical" })),
                channel("some", json!({ "kind": "slack", "rules": ["queue_age"] })),
                channel("usual", json!({ "kind": "slack" })),
            ],
            ..Settings::default()
        };
        let names = |settings: &Settings, rule, severity| {
            settings.channels_for(rule, severity).iter().map(|one| one.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&settings, AlertRule::QueueAge, Severity::Problem), ["some", "usual", "late"]);
        assert_eq!(names(&settings, AlertRule::Incident, Severity::Critical), ["loud", "usual", "late"]);
        settings.rules.insert(AlertRule::Incident, setting(json!({ "channels": ["loud"], "severity": "critical" })));
        assert_eq!(names(&settings, AlertRule::Incident, Severity::Critical), ["loud"]);
        assert_eq!(settings.severity(AlertRule::Incident, Severity::Warning), Severity::Critical);
        assert_eq!(settings.escalate_ms(AlertRule::Incident, Severity::Warning), None);
    }
}
