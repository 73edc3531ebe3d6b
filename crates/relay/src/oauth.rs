//! OAuth 2.0 of a route: which identity provider, which grant. Settings and data only; nothing secret, nothing is asked here.
//!
//! Grants: client credentials with a secret or a certificate (RFC 6749 §4.4, RFC 7523), a refresh token (RFC 6749 §6) from a
//! first sign-in by device code (RFC 8628), and a service account's signed assertion (RFC 7523 §2.1).

use serde::{Deserialize, Serialize};

use crate::secrets::Secrets;

/// Who issues tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Microsoft Entra.
    Microsoft,
    /// Google.
    Google,
    /// Any other, by its URLs.
    Other,
}

/// Microsoft's clouds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cloud {
    /// The general one, with GCC.
    #[default]
    Global,
    /// US government, GCC High.
    UsGov,
    /// US department of defense.
    UsDod,
    /// China, operated by 21Vianet.
    China,
}

/// How a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// By the application itself, with its secret or its certificate.
    ClientCredentials,
    /// In the name of somebody who has signed in once.
    RefreshToken,
    /// By a service account, which may stand for a user of its domain.
    ServiceAccount,
}

/// OAuth of a route, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OauthRecord {
    /// Who issues tokens.
    pub provider: Provider,
    /// How they are asked for.
    pub grant: Grant,
    /// Microsoft: directory (tenant) ID or domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Microsoft: which cloud.
    #[serde(default, skip_serializing_if = "is_global")]
    pub cloud: Cloud,
    /// Application (client) ID; of a service account its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Service account: the user it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Scope instead of the provider's usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Token endpoint instead of the provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// Device authorization endpoint instead of the provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_url: Option<String>,
    /// Name of the key that signs assertions (`kid`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// SHA-256 of the certificate whose key signs, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_sha256: Option<String>,
    /// Last day of that certificate, `2027-11-21`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<String>,
    /// Last day of the client secret, `2027-11-21`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_expires: Option<String>,
}

fn is_global(cloud: &Cloud) -> bool {
    *cloud == Cloud::Global
}

impl OauthRecord {
    /// Where tokens are asked for.
    pub fn token_url(&self) -> Option<String> {
        self.token_url.clone().or_else(|| match self.provider {
            Provider::Microsoft => self.microsoft("token"),
            Provider::Google => Some("https://oauth2.googleapis.com/token".into()),
            Provider::Other => None,
        })
    }

    /// Where a sign-in by device code begins. Google does not give rights to mail in that way.
    pub fn device_url(&self) -> Option<String> {
        self.device_url.clone().or_else(|| match self.provider {
            Provider::Microsoft => self.microsoft("devicecode"),
            Provider::Google | Provider::Other => None,
        })
    }

    fn microsoft(&self, what: &str) -> Option<String> {
        let host = match self.cloud {
            Cloud::Global => "login.microsoftonline.com",
            Cloud::UsGov | Cloud::UsDod => "login.microsoftonline.us",
            Cloud::China => "login.partner.microsoftonline.cn",
        };
        Some(format!("https://{host}/{}/oauth2/v2.0/{what}", self.tenant.as_ref()?))
    }

    /// What the token is for.
    pub fn scope(&self) -> Option<String> {
        if self.scope.is_some() {
            return self.scope.clone();
        }
        match self.provider {
            Provider::Microsoft => {
                let host = match self.cloud {
                    Cloud::Global => "outlook.office365.com",
                    Cloud::UsGov => "outlook.office365.us",
                    Cloud::UsDod => "webmail.apps.mil",
                    Cloud::China => "partner.outlook.cn",
                };
                Some(match self.grant {
                    Grant::RefreshToken => format!("https://{host}/SMTP.Send offline_access"),
                    Grant::ClientCredentials | Grant::ServiceAccount => format!("https://{host}/.default"),
                })
            }
            Provider::Google => Some("https://mail.google.com/".into()),
            Provider::Other => None,
        }
    }

    /// What a token for Microsoft Graph is for; `None` where the provider is not Microsoft.
    pub fn graph_scope(&self) -> Option<String> {
        let host = crate::graph::wire::host_of(self.cloud);
        (self.provider == Provider::Microsoft).then(|| match self.grant {
            Grant::RefreshToken => format!("https://{host}/Mail.Send offline_access"),
            Grant::ClientCredentials | Grant::ServiceAccount => format!("https://{host}/.default"),
        })
    }

    /// Problems that a person has to mend, in full sentences. A refresh token may come later, by signing in.
    pub fn problems(&self, secrets: &Secrets) -> Vec<String> {
        let mut problems = Vec::new();
        let mut say = |wrong: bool, text: &str| {
            if wrong {
                problems.push(text.to_owned());
            }
        };
        let empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
        let microsoft = self.provider == Provider::Microsoft;
        say(microsoft && self.token_url.is_none() && empty(&self.tenant), "OAuth with Microsoft needs the tenant.");
        say(
            self.tenant.as_deref().is_some_and(|tenant| !is_tenant(tenant)),
            "A tenant is a directory ID or a domain: letters, digits, dots and hyphens.",
        );
        say(!microsoft && self.tenant.is_some(), "Only Microsoft has tenants.");
        say(!microsoft && self.cloud != Cloud::Global, "Only Microsoft has national clouds.");
        say(empty(&self.client_id), "OAuth needs the client ID (of a service account: its address).");
        say(
            self.provider == Provider::Other && self.token_url.is_none(),
            "An identity provider that is not built in needs its token URL.",
        );
        for url in [&self.token_url, &self.device_url].into_iter().flatten() {
            say(
                !is_safe_url(url),
                "The URLs of an identity provider begin with https:// (http:// only for this machine).",
            );
        }
        let (secret, key) = (secrets.client_secret.is_some(), secrets.private_key.is_some());
        match self.grant {
            Grant::ClientCredentials => {
                say(!secret && !key, "Client credentials need a client secret, or a certificate with its key.");
                say(secret && key, "Client credentials need a client secret or a certificate, not both.");
                say(
                    key && self.certificate_sha256.is_none(),
                    "A key that signs for an application needs its certificate.",
                );
            }
            Grant::ServiceAccount => {
                say(!key, "A service account needs its key.");
                say(microsoft, "Service accounts are Google's; with Microsoft use client credentials.");
            }
            Grant::RefreshToken => {}
        }
        for date in [&self.secret_expires, &self.certificate_expires].into_iter().flatten() {
            say(!is_date(date), "A date is written as 2027-11-21.");
        }
        problems
    }
}

fn is_tenant(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'.' || octet == b'-')
}

/// HTTPS, or HTTP to this very machine. Credentials go there.
fn is_safe_url(url: &str) -> bool {
    let clean = url.len() <= 2_000 && url.bytes().all(|octet| octet.is_ascii_graphic());
    let local = |rest: &str| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => host,
            _ => authority,
        };
        ["127.0.0.1", "localhost", "[::1]"].contains(&host)
    };
    let host = url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    clean && (host || url.strip_prefix("http://").is_some_and(local))
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else { return false };
    let number = |text: &str, len: usize| {
        (text.len() == len && text.bytes().all(|octet| octet.is_ascii_digit()))
            .then(|| text.parse::<u32>().ok())
            .flatten()
    };
    number(year, 4).is_some()
        && number(month, 2).is_some_and(|month| (1..=12).contains(&month))
        && number(day, 2).is_some_and(|day| (1..=31).contains(&day))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(fields: serde_json::Value) -> OauthRecord {
        serde_json::from_value(fields).unwrap()
    }

    fn microsoft(cloud: &str, grant: &str) -> OauthRecord {
        record(
            json!({"provider": "microsoft", "grant": grant, "tenant": "t.example", "client_id": "c", "cloud": cloud}),
        )
    }

    #[test]
    fn endpoints_and_scopes_of_the_known_providers_are_built_in() {
        for (cloud, host, scope) in [
            ("global", "login.microsoftonline.com", "https://outlook.office365.com"),
            ("us_gov", "login.microsoftonline.us", "https://outlook.office365.us"),
            ("us_dod", "login.microsoftonline.us", "https://webmail.apps.mil"),
            ("china", "login.partner.microsoftonline.cn", "https://partner.outlook.cn"),
        ] {
            let record = microsoft(cloud, "client_credentials");
            assert_eq!(record.token_url().unwrap(), format!("https://{host}/t.example/oauth2/v2.0/token"));
            assert_eq!(record.device_url().unwrap(), format!("https://{host}/t.example/oauth2/v2.0/devicecode"));
            assert_eq!(record.scope().unwrap(), format!("{scope}/.default"));
            let user = microsoft(cloud, "refresh_token").scope().unwrap();
            assert_eq!(user, format!("{scope}/SMTP.Send offline_access"));
        }
        let google = record(json!({"provider": "google", "grant": "service_account", "client_id": "a@b"}));
        assert_eq!(google.scope().unwrap(), "https://mail.google.com/");
        assert_eq!(google.device_url(), None);
    }

    #[test]
    fn what_is_missing_is_said() {
        let secret = Secrets { client_secret: Some("s".into()), ..Secrets::default() };
        let key = Secrets { private_key: Some("k".into()), ..Secrets::default() };
        let good = microsoft("global", "client_credentials");
        assert_eq!(good.problems(&secret), Vec::<String>::new());
        assert_eq!(good.problems(&Secrets::default()).len(), 1);
        assert_eq!(good.problems(&key).len(), 1, "a key without its certificate");
        assert_eq!(microsoft("global", "refresh_token").problems(&Secrets::default()), Vec::<String>::new());
        for (fields, word) in [
            (json!({"provider": "microsoft", "client_id": "c"}), "tenant"),
            (json!({"provider": "microsoft", "client_id": "c", "tenant": "../evil"}), "tenant"),
            (json!({"provider": "google"}), "client ID"),
            (json!({"provider": "other", "client_id": "c"}), "token URL"),
            (json!({"provider": "other", "client_id": "c", "token_url": "http://sso.example/token"}), "https"),
            (json!({"provider": "other", "client_id": "c", "token_url": "http://localhost.evil.example/"}), "https"),
            (json!({"provider": "other", "client_id": "c", "token_url": "http://127.0.0.1@evil.example/"}), "https"),
            (json!({"provider": "google", "client_id": "c", "secret_expires": "21.11.2027"}), "date"),
        ] {
            let mut fields = fields;
            fields["grant"] = "client_credentials".into();
            let problems = record(fields.clone()).problems(&secret);
            assert!(problems.len() == 1 && problems[0].contains(word), "{fields}: {problems:?}");
        }
        for url in
            ["https://sso.example/token", "http://127.0.0.1:8080/token", "http://[::1]:1/t", "http://localhost/t"]
        {
            assert!(is_safe_url(url), "{url}");
        }
    }
}
