//! Presets: what a route to a provider needs, so that only what is the user's own has to be asked. Data, looked up by name.
//!
//! How a provider is recognised is [`crate::Provider`]'s; whether credentials can be right is [`crate::credential`]'s.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::base::RuleBase;
use crate::embedded;
use crate::provider::Provider;

/// How a route to a provider is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PresetTls {
    /// STARTTLS, or nothing.
    Starttls,
    /// From the first octet.
    Implicit,
}

/// What is spoken with a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaks {
    /// SMTP.
    #[default]
    Smtp,
    /// Microsoft Graph.
    Graph,
}

/// How one signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignIn {
    /// With user name and password, key or token.
    #[default]
    Password,
    /// With user name and access token only.
    Oauth,
    /// With or without.
    Optional,
    /// Not at all.
    None,
}

/// A part of the world, or of the service, with a host of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Short name.
    pub id: String,
    /// Host; without one the `REGION` in the preset's host is replaced by the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// What a route to a provider needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Short name, as `route add` takes it.
    pub id: String,
    /// Other names for it.
    #[serde(default)]
    pub names: Vec<String>,
    /// Provider or program, by its id.
    pub provider: String,
    /// What is spoken with it.
    #[serde(default)]
    pub kind: Speaks,
    /// Name for people.
    pub name: String,
    /// Host; missing where everybody has their own.
    #[serde(default)]
    pub host: Option<String>,
    /// Hosts of the same service elsewhere, which other settings decide on.
    #[serde(default)]
    pub other_hosts: Vec<String>,
    /// End that a host of one's own has there.
    #[serde(default)]
    pub host_like: Option<String>,
    /// Regions, the usual one first.
    #[serde(default)]
    pub regions: Vec<Region>,
    /// Port.
    pub port: u16,
    /// TLS of that port.
    pub tls: PresetTls,
    /// Signing in.
    #[serde(default)]
    pub sign_in: SignIn,
    /// The only SASL mechanism that works.
    #[serde(default)]
    pub mechanism: Option<String>,
    /// Mechanisms, where they are not those of the provider.
    #[serde(default)]
    mechanisms: Option<Vec<String>>,
    /// The user name, where it is the same for everybody.
    #[serde(default)]
    pub user: Option<String>,
    /// User name and password are the same token.
    #[serde(default)]
    pub same: bool,
    /// EHLO has to be a name in the user's own domain.
    #[serde(default)]
    pub own_helo: bool,
    /// The user name in words, where it is not as the provider's.
    #[serde(default)]
    username: Option<String>,
    /// The password in words, where it is not as the provider's.
    #[serde(default)]
    password: Option<String>,
    /// The limits in words, where they are not as the provider's.
    #[serde(default)]
    limits: Option<String>,
    /// Connections at once.
    #[serde(default)]
    pub connections: Option<u32>,
    /// Messages on one connection.
    #[serde(default)]
    pub messages_per_connection: Option<u32>,
    /// Recipients of one transaction.
    #[serde(default)]
    pub recipients_per_transaction: Option<u32>,
    /// Messages a second.
    #[serde(default)]
    pub per_second: Option<u32>,
    /// Messages a minute.
    #[serde(default)]
    pub per_minute: Option<u32>,
    /// Messages an hour.
    #[serde(default)]
    pub per_hour: Option<u32>,
    /// Messages in 24 hours.
    #[serde(default)]
    pub per_day: Option<u32>,
    /// Recipients in 24 hours.
    #[serde(default)]
    pub recipients_per_day: Option<u32>,
    /// What has to be done or verified at the provider first.
    pub verify: Vec<String>,
    /// What else one should know.
    pub help: String,
    /// Rules that are likely when it does not work.
    pub wrong: Vec<String>,
    /// Date of the last check.
    pub checked: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    preset: Vec<Preset>,
}

static DATA: LazyLock<Data> = LazyLock::new(|| embedded::data!("presets"));

/// All presets, in the order of the file.
pub fn presets() -> &'static [Preset] {
    &DATA.preset
}

/// A preset by its id or another of its names; case does not matter.
pub fn preset(name: &str) -> Option<&'static Preset> {
    let is = |known: &String| known.eq_ignore_ascii_case(name);
    let by_id = DATA.preset.iter().find(|preset| is(&preset.id));
    by_id.or_else(|| DATA.preset.iter().find(|preset| preset.names.iter().any(is)))
}

/// The preset that a host belongs to.
pub fn preset_of_host(host: &str) -> Option<&'static Preset> {
    let host = host.trim_end_matches('.');
    DATA.preset.iter().find(|preset| preset.has_host(host))
}

impl Preset {
    /// The provider, with all that is known of it.
    pub fn provider<'a>(&self, base: &'a RuleBase) -> Option<&'a Provider> {
        base.provider(&self.provider)
    }

    /// The user name in words.
    pub fn username<'a>(&'a self, provider: &'a Provider) -> &'a str {
        self.username.as_deref().unwrap_or(&provider.username)
    }

    /// The password in words.
    pub fn password<'a>(&'a self, provider: &'a Provider) -> &'a str {
        self.password.as_deref().unwrap_or(&provider.password)
    }

    /// The limits in words; may be empty.
    pub fn limits<'a>(&'a self, provider: &'a Provider) -> &'a str {
        self.limits.as_deref().unwrap_or(&provider.limits)
    }

    /// Mechanisms, the best first.
    pub fn mechanisms<'a>(&'a self, provider: &'a Provider) -> &'a [String] {
        self.mechanisms.as_deref().unwrap_or(&provider.mechanisms)
    }

    /// Whether the region decides on the host.
    pub fn is_regional(&self) -> bool {
        !self.regions.is_empty()
    }

    /// Whether there is a host for every region that there may be, known here or not.
    fn is_open(&self) -> bool {
        self.host.as_ref().is_some_and(|host| host.contains(REGION))
    }

    /// The host of a region; without one the usual host. `None`: there is no such region, or the host has to be named.
    pub fn host_in(&self, region: Option<&str>) -> Option<String> {
        let Some(region) = region else {
            return self.host.clone().filter(|_| !self.is_open());
        };
        if let Some(known) = self.regions.iter().find(|known| known.id.eq_ignore_ascii_case(region)) {
            return known.host.clone().or_else(|| self.filled(&known.id));
        }
        let is_word = (4..=32).contains(&region.len())
            && region.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-');
        // New regions come without notice.
        if self.is_open() && is_word { self.filled(region) } else { None }
    }

    fn filled(&self, region: &str) -> Option<String> {
        self.host.as_ref().map(|host| host.replace(REGION, region))
    }

    /// The region of a host of this preset.
    pub fn region_of(&self, host: &str) -> Option<String> {
        let known = self.regions.iter().find(|region| {
            let of_region = region.host.clone().or_else(|| self.filled(&region.id));
            of_region.is_some_and(|of_region| of_region.eq_ignore_ascii_case(host))
        });
        known.map(|region| region.id.clone()).or_else(|| {
            let (before, behind) = self.host.as_ref()?.split_once(REGION)?;
            let lower = host.to_ascii_lowercase();
            let region = lower.strip_prefix(before)?.strip_suffix(behind)?;
            Some(region.to_owned()).filter(|region| !region.is_empty() && !region.contains('.'))
        })
    }

    fn has_host(&self, host: &str) -> bool {
        let own = self.host.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(host));
        let lower = host.to_ascii_lowercase();
        let like = self.host_like.as_ref().is_some_and(|end| {
            lower.strip_suffix(end.as_str()).is_some_and(|before| before.ends_with('.') && before.len() > 1)
        });
        let other = self.other_hosts.iter().any(|other| other.eq_ignore_ascii_case(host));
        own || like || other || self.region_of(host).is_some()
    }

    /// Ports and modes that the provider offers at this preset's host: `(port, mode)`.
    pub fn ways(&self, base: &RuleBase) -> Vec<(u16, PresetTls)> {
        let submissions = self.provider(base).map(|provider| provider.submission.as_slice()).unwrap_or_default();
        // Regions share the ports of the provider's first host.
        let own = submissions.iter().find(|one| self.host.as_ref().is_some_and(|host| one.host == *host));
        let own = own.or_else(|| submissions.first().filter(|_| self.host.is_some()));
        let Some(own) = own else { return vec![(self.port, self.tls)] };
        let starttls = own.starttls.iter().map(|port| (*port, PresetTls::Starttls));
        let mut ways: Vec<_> = starttls.chain(own.implicit.iter().map(|port| (*port, PresetTls::Implicit))).collect();
        if !ways.contains(&(self.port, self.tls)) {
            ways.insert(0, (self.port, self.tls));
        }
        ways
    }
}

/// What a region's name stands in for.
const REGION: &str = "REGION";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_complete_and_agrees_with_its_provider() {
        let base = RuleBase::builtin();
        for preset in presets() {
            let id = &preset.id;
            let provider = preset.provider(base).unwrap_or_else(|| panic!("{id}: provider"));
            assert!(!preset.verify.is_empty() && !preset.help.is_empty() && !preset.wrong.is_empty(), "{id}");
            assert_eq!(preset.checked.len(), 10, "{id}");
            let smtp = preset.kind == Speaks::Smtp;
            let signs_in = smtp && preset.sign_in != SignIn::None;
            assert!(!signs_in || !preset.mechanisms(provider).is_empty(), "{id}: mechanisms");
            assert!(!preset.username(provider).is_empty() && !preset.password(provider).is_empty(), "{id}: sign-in");
            let by_token = smtp && preset.sign_in == SignIn::Oauth;
            assert!(!by_token || preset.mechanism.as_deref() == Some("XOAUTH2"), "{id}");
            for rule in &preset.wrong {
                assert!(base.rule(rule).is_some(), "{id}: {rule}");
            }
            let implicit = matches!(preset.port, 465 | 2465 | 8465 | 443);
            assert_eq!(preset.tls == PresetTls::Implicit, implicit, "{id}: port {}", preset.port);
            let hosts: Vec<String> = match &preset.host {
                None => continue,
                Some(_) if preset.is_regional() => {
                    preset.regions.iter().map(|region| preset.host_in(Some(&region.id)).unwrap()).collect()
                }
                Some(host) => vec![host.clone()],
            };
            for host in hosts {
                assert_eq!(base.provider_of_host(&host).map(|found| &found.id), Some(&preset.provider), "{host}");
                let found = preset_of_host(&host).unwrap_or_else(|| panic!("{host}"));
                assert!(found.id == *id || found.host == preset.host, "{host}: {}", found.id);
            }
            let own = |one: &&crate::Submission| preset.host.as_ref() == Some(&one.host);
            if let Some(submission) = provider.submission.iter().find(own) {
                let ports = match preset.tls {
                    PresetTls::Starttls => &submission.starttls,
                    PresetTls::Implicit => &submission.implicit,
                };
                assert!(ports.contains(&preset.port), "{id}: {} is no port of {}", preset.port, submission.host);
            }
        }
    }

    #[test]
    fn every_provider_that_takes_mail_has_a_preset_and_no_name_is_taken_twice() {
        for provider in RuleBase::builtin().providers().iter().filter(|provider| !provider.submission.is_empty()) {
            for submission in &provider.submission {
                let host = submission.host.replace(REGION, "eu-west-1");
                let found = preset_of_host(&host).unwrap_or_else(|| panic!("{host}"));
                assert_eq!(found.provider, provider.id, "{host}");
            }
        }
        let mut names = std::collections::HashSet::new();
        for preset in presets() {
            for name in preset.names.iter().chain([&preset.id]) {
                assert!(names.insert(name.clone()), "{name}");
                assert_eq!(super::preset(name).map(|found| &found.id), Some(&preset.id));
            }
        }
    }

    #[test]
    fn a_region_decides_on_the_host_and_an_unknown_one_only_where_there_may_be_new_ones() {
        let ses = preset("aws").unwrap();
        assert_eq!(ses.host_in(None), None, "SES has no host without a region");
        assert_eq!(ses.host_in(Some("eu-west-1")).as_deref(), Some("email-smtp.eu-west-1.amazonaws.com"));
        assert_eq!(ses.host_in(Some("xx-north-9")).as_deref(), Some("email-smtp.xx-north-9.amazonaws.com"));
        assert_eq!(ses.host_in(Some("evil.example/")), None);
        assert_eq!(ses.region_of("email-smtp.eu-west-1.amazonaws.com").as_deref(), Some("eu-west-1"));
        assert_eq!(ses.region_of("email-smtp.a.b.amazonaws.com"), None);
        let mailgun = preset("Mailgun").unwrap();
        assert_eq!(mailgun.host_in(Some("EU")).as_deref(), Some("smtp.eu.mailgun.org"));
        assert_eq!((mailgun.host_in(Some("moon")), mailgun.host_in(None).as_deref()), (None, Some("smtp.mailgun.org")));
        assert_eq!(preset_of_host("example-com.mail.protection.outlook.com").unwrap().id, "microsoft365-direct");
        assert!(preset_of_host("smtp.example.net").is_none());
    }

    #[test]
    fn limits_stay_below_what_the_provider_allows() {
        for (name, per_minute, per_day) in
            [("microsoft365", Some(25), None), ("gmail", None, Some(400)), ("workspace", None, Some(1900))]
        {
            let preset = preset(name).unwrap();
            assert_eq!((preset.per_minute, preset.per_day), (per_minute, per_day), "{name}");
        }
    }
}
