//! Signing in with an identity provider: OpenID Connect Core 1.0, authorization code flow with PKCE (RFC 7636), state and nonce.
//!
//! What the provider says is hostile until its signature was checked: bounded, and shown escaped. No redirect is followed.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::role::Role;
use super::session::new_secret;
use super::token::{self, Expected, Jwks};

/// Longest a question may take.
const LIMIT: Duration = Duration::from_secs(15);
/// Most octets of an answer.
const MAX_ANSWER: usize = 256 * 1024;
/// How long discovery and keys are remembered, milliseconds.
const REMEMBERED_MS: i64 = 3_600_000;
/// Keys are not asked for more often, milliseconds, whatever tokens name.
const KEYS_AGAIN_MS: i64 = 30_000;
/// How long somebody may take to sign in, milliseconds.
pub const PATIENCE_MS: i64 = 600_000;

/// An identity provider as stored; the secret beside it is the client's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityRecord {
    /// The issuer: `/.well-known/openid-configuration` is below it.
    pub issuer: String,
    /// Our name there.
    pub client_id: String,
    /// What the button says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Scopes besides `openid`.
    #[serde(default = "usual_scopes")]
    pub scopes: Vec<String>,
    /// Claim with the groups or roles of a user: a text or a list; `a.b` is inside of `a`.
    #[serde(default = "usual_claim")]
    pub claim: String,
    /// Values of the claim, and the role of those who have one.
    #[serde(default)]
    pub roles: Vec<Mapped>,
    /// Role of those who are allowed in and have none of the values; absent: they are not let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_role: Option<Role>,
    /// Who is let in: addresses, or domains of addresses that the provider has verified; empty: whoever has a role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Nobody signs in with it while true.
    #[serde(default)]
    pub disabled: bool,
}

/// A value of the claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapped {
    /// As the provider writes it.
    pub value: String,
    /// The role of those who have it.
    pub role: Role,
}

fn usual_scopes() -> Vec<String> {
    vec!["profile".into(), "email".into()]
}

fn usual_claim() -> String {
    "groups".into()
}

/// Why nobody was signed in. Texts of the provider are escaped where they are shown.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// It does not answer, or not as it should.
    #[error("the identity provider cannot be used: {0}")]
    Provider(String),
    /// What it gave is not for us, not now, or not signed by it.
    #[error("the identity provider's answer is not valid: {0}")]
    Invalid(String),
    /// The user is who they are, and not let in.
    #[error("{0}")]
    NotAllowed(String),
}

/// What the browser keeps while its user is at the provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pending {
    /// Name of the provider here.
    pub provider: String,
    /// Comes back with the code (RFC 6749 §10.12).
    pub state: String,
    /// Comes back in the token.
    nonce: String,
    /// Proves that whoever brings the code asked for it.
    verifier: String,
    /// When it is too late, Unix milliseconds.
    pub ends_ms: i64,
}

impl Pending {
    fn new(provider: &str, now_ms: i64) -> Self {
        Self {
            provider: provider.to_owned(),
            state: new_secret(),
            nonce: new_secret(),
            verifier: new_secret(),
            ends_ms: now_ms + PATIENCE_MS,
        }
    }

    /// As a cookie's value.
    pub fn write(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// From a cookie's value.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }

    fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.as_bytes()))
    }
}

/// Somebody the provider vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// The provider's name for the user.
    pub subject: String,
    /// Mail address, if it was verified.
    pub email: Option<String>,
    /// What the user would like to be called here.
    pub name: String,
    /// The role by the provider's groups.
    pub role: Role,
}

/// What is remembered of providers.
#[derive(Debug, Default)]
pub struct Providers {
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    discovered: Discovered,
    keys: Jwks,
    at_ms: i64,
}

/// The part of OpenID Connect Discovery 1.0 §3 that we need.
#[derive(Debug, Clone, Deserialize)]
struct Discovered {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// A provider, ready to be asked.
pub struct Asked<'a> {
    /// Over HTTPS.
    pub http: &'a reqwest::Client,
    /// Its settings.
    pub record: &'a IdentityRecord,
    /// Our secret there; a public client has none.
    pub secret: Option<&'a SecretString>,
    /// Where the browser comes back to.
    pub redirect_uri: &'a str,
    /// Unix milliseconds.
    pub now_ms: i64,
}

impl Providers {
    /// Where to send the browser, and what it has to keep.
    pub async fn begin(&self, name: &str, asked: &Asked<'_>) -> Result<(String, Pending), SignInError> {
        let known = self.known(asked, Fresh::Usual).await?;
        let pending = Pending::new(name, asked.now_ms);
        let record = asked.record;
        let mut url = reqwest::Url::parse(&known.discovered.authorization_endpoint)
            .map_err(|_| SignInError::Provider("its authorization endpoint is no URL".into()))?;
        let scope =
            ["openid".to_owned()].into_iter().chain(record.scopes.iter().cloned()).collect::<Vec<_>>().join(" ");
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &record.client_id)
            .append_pair("redirect_uri", asked.redirect_uri)
            .append_pair("scope", &scope)
            .append_pair("state", &pending.state)
            .append_pair("nonce", &pending.nonce)
            .append_pair("code_challenge", &pending.challenge())
            .append_pair("code_challenge_method", "S256");
        Ok((url.into(), pending))
    }

    /// Exchanges the code, checks the token, and says who it is and what they may do.
    pub async fn finish(&self, asked: &Asked<'_>, pending: &Pending, code: &str) -> Result<SignedIn, SignInError> {
        let mut known = self.known(asked, Fresh::Usual).await?;
        let text = exchange(asked, &known.discovered, pending, code).await?;
        let key_id = token::key_id(&text).map_err(|why| SignInError::Invalid(why.into()))?;
        // Keys rotate: a token may name one that came after we looked.
        if !known.keys.has(key_id.as_deref()) {
            known = self.known(asked, Fresh::Keys).await?;
        }
        let expected = Expected {
            issuer: &known.discovered.issuer,
            audience: &asked.record.client_id,
            nonce: &pending.nonce,
            now_s: asked.now_ms / 1000,
        };
        let claims = token::verify(&text, &known.keys, &expected).map_err(|why| SignInError::Invalid(why.into()))?;
        asked.record.judge(&claims)
    }

    async fn known(&self, asked: &Asked<'_>, fresh: Fresh) -> Result<Known, SignInError> {
        let issuer = asked.record.issuer.trim_end_matches('/').to_owned();
        let held = self.known.lock().get(&issuer).cloned();
        let patience = if fresh == Fresh::Keys { KEYS_AGAIN_MS } else { REMEMBERED_MS };
        if let Some(held) = held.filter(|held| (held.at_ms..held.at_ms + patience).contains(&asked.now_ms)) {
            return Ok(held);
        }
        let discovered: Discovered = get(asked.http, &format!("{issuer}/.well-known/openid-configuration")).await?;
        // Else anybody's configuration could stand in for it (Discovery 1.0 §4.3).
        if discovered.issuer.trim_end_matches('/') != issuer {
            let detail = format!("it says that its issuer is {}", shown(&discovered.issuer));
            return Err(SignInError::Provider(detail));
        }
        for url in [&discovered.authorization_endpoint, &discovered.token_endpoint, &discovered.jwks_uri] {
            check_url(url).map_err(|why| SignInError::Provider(format!("{}: {why}", shown(url))))?;
        }
        let keys = Jwks::read(&get::<Value>(asked.http, &discovered.jwks_uri).await?);
        let known = Known { discovered, keys, at_ms: asked.now_ms };
        self.known.lock().insert(issuer, known.clone());
        Ok(known)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fresh {
    Usual,
    Keys,
}

/// HTTPS, or HTTP on this machine.
pub fn check_url(text: &str) -> Result<(), &'static str> {
    let url = reqwest::Url::parse(text).map_err(|_| "is no URL")?;
    let local = url.host_str().is_some_and(|host| {
        host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    });
    match (url.scheme(), local) {
        ("https", _) | ("http", true) if url.fragment().is_none() => Ok(()),
        _ => Err("has to begin with https://"),
    }
}

fn shown(text: &str) -> String {
    proto::smtp::reply::escape(text.as_bytes(), 200)
}

async fn read_answer(mut response: reqwest::Response) -> Result<(u16, Vec<u8>), SignInError> {
    let failed = |error: reqwest::Error| SignInError::Provider(error.without_url().to_string());
    let mut octets = Vec::new();
    let status = response.status().as_u16();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if octets.len() + chunk.len() > MAX_ANSWER {
            return Err(SignInError::Provider("its answer is too large".into()));
        }
        octets.extend_from_slice(&chunk);
    }
    Ok((status, octets))
}

async fn get<T: serde::de::DeserializeOwned>(http: &reqwest::Client, url: &str) -> Result<T, SignInError> {
    let failed = |error: reqwest::Error| SignInError::Provider(error.without_url().to_string());
    let response = http.get(url).timeout(LIMIT).header("accept", "application/json").send().await.map_err(failed)?;
    match read_answer(response).await? {
        (200, octets) => serde_json::from_slice(&octets)
            .map_err(|_| SignInError::Provider(format!("what is at {} cannot be read", shown(url)))),
        (status, _) => Err(SignInError::Provider(format!("{} answers {status}", shown(url)))),
    }
}

/// RFC 6749 §4.1.3 with the verifier of RFC 7636 §4.5.
async fn exchange(
    asked: &Asked<'_>,
    discovered: &Discovered,
    pending: &Pending,
    code: &str,
) -> Result<String, SignInError> {
    let record = asked.record;
    let mut url = reqwest::Url::parse("http://form.invalid/").map_err(|_| SignInError::Provider(String::new()))?;
    let mut request = asked.http.post(&discovered.token_endpoint).timeout(LIMIT).header("accept", "application/json");
    let methods = &discovered.token_endpoint_auth_methods_supported;
    // Without a list it is `client_secret_basic` (Discovery 1.0 §3).
    let by_post = !methods.is_empty() && !methods.iter().any(|method| method == "client_secret_basic");
    {
        let mut form = url.query_pairs_mut();
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", asked.redirect_uri)
            .append_pair("code_verifier", &pending.verifier);
        match asked.secret {
            Some(secret) if !by_post => {
                let pair = format!("{}:{}", form_encoded(&record.client_id), form_encoded(secret.expose_secret()));
                request = request.header("authorization", format!("Basic {}", STANDARD.encode(pair)));
            }
            Some(secret) => {
                form.append_pair("client_id", &record.client_id).append_pair("client_secret", secret.expose_secret());
            }
            None => {
                form.append_pair("client_id", &record.client_id);
            }
        }
    }
    let body = url.query().unwrap_or_default().to_owned();
    let failed = |error: reqwest::Error| SignInError::Provider(error.without_url().to_string());
    let response =
        request.header("content-type", "application/x-www-form-urlencoded").body(body).send().await.map_err(failed)?;
    let (status, octets) = read_answer(response).await?;
    let answer: TokenAnswer = serde_json::from_slice(&octets)
        .map_err(|_| SignInError::Provider(format!("its token endpoint answers {status} without JSON")))?;
    match (answer.id_token, answer.error) {
        (Some(token), None) if status == 200 => Ok(token),
        (_, Some(error)) => {
            let more = answer.error_description.map(|text| format!(": {}", shown(&text))).unwrap_or_default();
            Err(SignInError::Provider(format!("{}{more}", shown(&error))))
        }
        _ => Err(SignInError::Provider(format!("its token endpoint answers {status} without an ID token"))),
    }
}

/// As RFC 6749 §2.3.1 wants it before Base64.
fn form_encoded(text: &str) -> String {
    let mut out = String::new();
    for octet in text.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => out.push(char::from(octet)),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

impl IdentityRecord {
    /// Who it is, and what they may do.
    pub fn judge(&self, claims: &Value) -> Result<SignedIn, SignInError> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let subject = text("sub").filter(|subject| (1..=255).contains(&subject.len()));
        let subject = subject.ok_or_else(|| SignInError::Invalid("it names nobody".into()))?;
        // An address that nobody verified could be anybody's.
        let verified = match claims.get("email_verified") {
            Some(Value::Bool(yes)) => *yes,
            Some(Value::String(yes)) => yes == "true",
            _ => false,
        };
        let email = text("email").filter(|_| verified).and_then(|email| proto::Address::parse(&email).ok());
        if !self.allow.is_empty() && !email.as_ref().is_some_and(|email| self.allows(email.as_ref())) {
            return Err(SignInError::NotAllowed(
                "your account is not on the list of those who may sign in here".into(),
            ));
        }
        let mut found = claims;
        for part in self.claim.split('.') {
            // A claim may have dots in its own name, as URLs have.
            match claims.get(&self.claim) {
                Some(whole) => found = whole,
                None => found = found.get(part).unwrap_or(&Value::Null),
            }
        }
        let has = |value: &str| match found {
            Value::String(one) => one == value,
            Value::Array(list) => list.iter().any(|one| one.as_str() == Some(value)),
            _ => false,
        };
        let role = self.roles.iter().filter(|mapped| has(&mapped.value)).map(|mapped| mapped.role).max();
        let none = || SignInError::NotAllowed("your account has no role here: ask an administrator".into());
        let role = role.or(self.default_role).ok_or_else(none)?;
        let email = email.map(|email| email.to_string());
        let wish = text("preferred_username").or_else(|| email.clone()).unwrap_or_else(|| subject.clone());
        Ok(SignedIn { name: plain_name(&wish), subject, email, role })
    }

    fn allows(&self, email: &str) -> bool {
        let email = email.to_ascii_lowercase();
        self.allow.iter().map(|one| one.to_ascii_lowercase()).any(|one| match one.contains('@') {
            true => one == email,
            false => email.rsplit_once('@').is_some_and(|(_, domain)| domain == one),
        })
    }
}

/// A name that can be typed and shown everywhere: the part before the `@`, other characters as `-`.
fn plain_name(wish: &str) -> String {
    let wish = wish.split('@').next().unwrap_or_default().to_ascii_lowercase();
    let name: String = wish
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .take(48)
        .collect();
    let name = name.trim_matches(['-', '.', '_']).to_owned();
    if name.is_empty() { "user".into() } else { name }
}

#[cfg(test)]
#[path = "oidc_tests.rs"]
mod tests;
