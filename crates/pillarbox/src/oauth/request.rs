//! One question to an identity provider: its form, its answer, and what a refusal is called.
//!
//! Answers are hostile: bounded in size and time, no redirects, and nothing of them is shown unescaped.

use std::error::Error as _;
use std::time::Duration;

use proto::smtp::reply::escape;
use proto::transcript::Failure;
use relay::oauth::{Grant, OauthRecord, Provider};
use relay::secrets::Secrets;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::jwt::{Algorithm, Assertion, Key};

/// Longest a question may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Most octets of an answer.
const MAX_ANSWER: usize = 64 * 1024;
/// Most octets of words that are kept.
const MAX_WORDS: usize = 1_000;
/// Shortest and longest life of a token that is believed, and the usual one, seconds.
const LIVES_S: (i64, i64, i64) = (60, 86_400, 3_600);

/// A grant as the token endpoint gives it.
#[derive(Debug, Clone)]
pub struct Granted {
    /// Access token.
    pub access_token: SecretString,
    /// A refresh token, perhaps in place of the one before.
    pub refresh_token: Option<SecretString>,
    /// Seconds it holds.
    pub life_s: i64,
}

/// What a device authorization endpoint gives (RFC 8628 §3.2).
#[derive(Debug, Clone)]
pub struct Device {
    /// What the poll proves itself with.
    pub device_code: SecretString,
    /// What a person types.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// Seconds until the codes are worthless.
    pub life_s: i64,
    /// Seconds between polls.
    pub interval_s: i64,
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<SecretString>,
    refresh_token: Option<SecretString>,
    token_type: Option<String>,
    expires_in: Option<Value>,
    error: Option<Value>,
    error_description: Option<String>,
    device_code: Option<SecretString>,
    user_code: Option<String>,
    verification_uri: Option<String>,
    /// As Google names it.
    verification_url: Option<String>,
    interval: Option<Value>,
}

/// Fields of a form; values may be secret.
pub type Form = Vec<(&'static str, SecretString)>;

/// Access token for a route. `refresh` is the newest refresh token.
pub async fn token(
    http: &reqwest::Client,
    record: &OauthRecord,
    secrets: &Secrets,
    refresh: Option<&SecretString>,
    now_s: i64,
) -> Result<Granted, Failure> {
    let url = token_url(record)?;
    let form = form(record, secrets, refresh, &url, now_s)?;
    granted(ask(http, &url, form).await?)
}

fn token_url(record: &OauthRecord) -> Result<String, Failure> {
    record.token_url().ok_or_else(|| Failure::Local { reason: "the route names no token endpoint".into() })
}

fn refused(error: &str, description: &str) -> Failure {
    Failure::TokenRefused { error: words(error), description: words(description) }
}

fn words(text: &str) -> String {
    escape(text.trim().as_bytes(), MAX_WORDS)
}

/// The form of a grant (RFC 6749 §4.4.2 and §6, RFC 7523 §2).
fn form(
    record: &OauthRecord,
    secrets: &Secrets,
    refresh: Option<&SecretString>,
    url: &str,
    now_s: i64,
) -> Result<Form, Failure> {
    let mut form: Form = Vec::new();
    let scope = record.scope();
    match record.grant {
        Grant::ClientCredentials => {
            form.push(("grant_type", "client_credentials".into()));
            if let Some(scope) = scope {
                form.push(("scope", scope.into()));
            }
            client(record, secrets, url, now_s, &mut form)?;
        }
        Grant::RefreshToken => {
            let Some(refresh) = refresh.or(secrets.refresh_token.as_ref()) else {
                return Err(refused("not_signed_in", "nobody has signed in for this route yet"));
            };
            form.push(("grant_type", "refresh_token".into()));
            form.push(("refresh_token", refresh.clone()));
            // RFC 6749 §6: without it the scope of the first grant holds; Microsoft wants it named.
            if record.provider == Provider::Microsoft
                && let Some(scope) = scope
            {
                form.push(("scope", scope.into()));
            }
            client(record, secrets, url, now_s, &mut form)?;
        }
        Grant::ServiceAccount => {
            let assertion = assertion(record, url, scope.as_deref(), record.subject.as_deref());
            form.push(("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer".into()));
            form.push(("assertion", signed(&assertion, secrets, now_s)?));
        }
    }
    Ok(form)
}

/// Who asks: client ID with secret, with a signed assertion, or alone (a public client).
fn client(record: &OauthRecord, secrets: &Secrets, url: &str, now_s: i64, form: &mut Form) -> Result<(), Failure> {
    form.push(("client_id", record.client_id.clone().unwrap_or_default().into()));
    if let Some(secret) = &secrets.client_secret {
        form.push(("client_secret", secret.clone()));
    } else if secrets.private_key.is_some() {
        let assertion = assertion(record, url, None, None);
        form.push(("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".into()));
        form.push(("client_assertion", signed(&assertion, secrets, now_s)?));
    }
    Ok(())
}

fn assertion<'a>(
    record: &'a OauthRecord,
    url: &'a str,
    scope: Option<&'a str>,
    subject: Option<&'a str>,
) -> Assertion<'a> {
    Assertion {
        issuer: record.client_id.as_deref().unwrap_or_default(),
        subject,
        audience: url,
        scope,
        key_id: record.key_id.as_deref(),
        certificate: record.certificate_sha256.as_deref(),
        algorithm: if record.provider == Provider::Microsoft { Algorithm::Ps256 } else { Algorithm::Rs256 },
    }
}

fn signed(assertion: &Assertion<'_>, secrets: &Secrets, now_s: i64) -> Result<SecretString, Failure> {
    let local = |reason: String| Failure::Local { reason: format!("the route's private key {reason}") };
    let key = secrets.private_key.as_ref().ok_or_else(|| local("is not there".into()))?;
    let key = Key::read(key).map_err(|error| local(error.to_string()))?;
    assertion.sign(&key, now_s).map(SecretString::from).map_err(|error| local(error.to_string()))
}

/// Begins a sign-in by device code (RFC 8628 §3.1).
pub async fn device(http: &reqwest::Client, record: &OauthRecord) -> Result<Device, Failure> {
    let Some(url) = record.device_url() else {
        let reason = "the identity provider has no sign-in by device code for mail".into();
        return Err(Failure::Local { reason });
    };
    let mut form: Form = vec![("client_id", record.client_id.clone().unwrap_or_default().into())];
    if let Some(scope) = record.scope() {
        form.push(("scope", scope.into()));
    }
    let answer = ask(http, &url, form).await?;
    let life_s = number(answer.expires_in.as_ref()).unwrap_or(900).clamp(60, 3_600);
    let interval_s = number(answer.interval.as_ref()).unwrap_or(5).clamp(1, 60);
    let verification_uri = answer.verification_uri.or(answer.verification_url);
    match (answer.device_code, answer.user_code, verification_uri) {
        (Some(device_code), Some(code), Some(uri)) => {
            Ok(Device { device_code, user_code: words(&code), verification_uri: words(&uri), life_s, interval_s })
        }
        _ => Err(Failure::TokenUnavailable { reason: "the answer has no device code".into() }),
    }
}

/// Asks whether somebody has signed in by now (RFC 8628 §3.4).
pub async fn poll(
    http: &reqwest::Client,
    record: &OauthRecord,
    secrets: &Secrets,
    device: &Device,
    now_s: i64,
) -> Result<Granted, Failure> {
    let url = token_url(record)?;
    let mut form: Form = vec![
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code".into()),
        ("device_code", device.device_code.clone()),
    ];
    client(record, secrets, &url, now_s, &mut form)?;
    granted(ask(http, &url, form).await?)
}

fn granted(answer: Answer) -> Result<Granted, Failure> {
    if answer.token_type.as_deref().is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(refused("token_type", "the token is of a kind that mail servers do not take"));
    }
    let (least, most, usual) = LIVES_S;
    let life_s = number(answer.expires_in.as_ref()).unwrap_or(usual).clamp(least, most);
    match answer.access_token {
        Some(access_token) if is_sendable(&access_token) => {
            Ok(Granted { access_token, refresh_token: answer.refresh_token, life_s })
        }
        Some(_) => Err(refused("token", "the token has characters that no token has")),
        None => Err(Failure::TokenUnavailable { reason: "the answer has no access token".into() }),
    }
}

/// A token is printable ASCII (RFC 6750 §2.1); anything else could leave its place in a command.
fn is_sendable(token: &SecretString) -> bool {
    let token = token.expose_secret();
    !token.is_empty() && token.bytes().all(|octet| octet.is_ascii_graphic())
}

/// Numbers come as numbers, or as texts.
fn number(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

async fn ask(http: &reqwest::Client, url: &str, form: Form) -> Result<Answer, Failure> {
    let body = secrecy::zeroize::Zeroizing::new(encoded(&form));
    let unavailable = |error: reqwest::Error| {
        let error = error.without_url();
        let mut reason = error.to_string();
        let mut inner = error.source();
        while let Some(cause) = inner {
            reason = format!("{reason}: {cause}");
            inner = cause.source();
        }
        Failure::TokenUnavailable { reason: words(&reason) }
    };
    let request = http
        .post(url)
        .timeout(LIMIT)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("accept", "application/json")
        .body(body.to_string());
    let mut response = request.send().await.map_err(unavailable)?;
    let status = response.status();
    let mut octets = secrecy::zeroize::Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
        if octets.len() + chunk.len() > MAX_ANSWER {
            return Err(Failure::TokenUnavailable { reason: "the answer is too large".into() });
        }
        octets.extend_from_slice(&chunk);
    }
    judge(status.as_u16(), &octets)
}

/// What an answer comes to (RFC 6749 §5).
fn judge(status: u16, octets: &[u8]) -> Result<Answer, Failure> {
    let answer: Option<Answer> = serde_json::from_slice(octets).ok();
    let described = answer.as_ref().and_then(|answer| {
        let error = match answer.error.as_ref()? {
            Value::String(error) => error.clone(),
            other => other.to_string(),
        };
        let description = answer.error_description.as_deref().unwrap_or_default();
        // Entra's numbers say more than the word of the standard, which covers many of them.
        let text = match description {
            "" => error.clone(),
            _ if description.starts_with("AADSTS") => description.to_owned(),
            _ => format!("{error}: {description}"),
        };
        Some((error, text))
    });
    let later = status == 429 || status >= 500;
    match (answer, described) {
        (_, Some((error, text))) if later || matches!(&*error, "temporarily_unavailable" | "server_error") => {
            Err(Failure::TokenUnavailable { reason: words(&format!("HTTP {status}: {text}")) })
        }
        (_, Some((error, text))) => Err(refused(&error, &text)),
        (Some(answer), None) if status == 200 => Ok(answer),
        _ if later || (200..400).contains(&status) => {
            Err(Failure::TokenUnavailable { reason: format!("HTTP {status} without an answer that can be read") })
        }
        _ => {
            let shown: String = String::from_utf8_lossy(octets).chars().take(200).collect();
            Err(refused(&format!("http_{status}"), &format!("HTTP {status}: {shown}")))
        }
    }
}

/// `application/x-www-form-urlencoded`.
fn encoded(form: &Form) -> String {
    let mut out = String::new();
    for (name, value) in form {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        for octet in value.expose_secret().bytes() {
            match octet {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(octet.into()),
                _ => out.push_str(&format!("%{octet:02X}")),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(grant: &str) -> OauthRecord {
        let fields = json!({"provider": "microsoft", "grant": grant, "tenant": "t.example", "client_id": "app"});
        serde_json::from_value(fields).unwrap()
    }

    fn names(form: &Form) -> Vec<&str> {
        form.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn each_grant_has_its_form() {
        let url = "https://sso.example/token";
        let secret = Secrets { client_secret: Some("s".into()), ..Secrets::default() };
        let key = Secrets { private_key: Some(super::super::jwt::tests::rsa_pem()), ..Secrets::default() };
        let made = form(&record("client_credentials"), &secret, None, url, 0).unwrap();
        assert_eq!(names(&made), ["grant_type", "scope", "client_id", "client_secret"]);
        let made = form(&record("client_credentials"), &key, None, url, 0).unwrap();
        assert_eq!(names(&made), ["grant_type", "scope", "client_id", "client_assertion_type", "client_assertion"]);
        let made = form(&record("service_account"), &key, None, url, 0).unwrap();
        assert_eq!(names(&made), ["grant_type", "assertion"]);
        let made = form(&record("refresh_token"), &Secrets::default(), Some(&"newest".into()), url, 0).unwrap();
        assert_eq!(names(&made), ["grant_type", "refresh_token", "scope", "client_id"]);
        assert_eq!(made[1].1.expose_secret(), "newest");
        let missing = form(&record("refresh_token"), &Secrets::default(), None, url, 0).unwrap_err();
        assert!(matches!(missing, Failure::TokenRefused { error, .. } if error == "not_signed_in"));
    }

    #[test]
    fn values_cannot_leave_their_place_in_the_form() {
        let form: Form = vec![("a", "1&b=2 +ü".into()), ("c", "x".into())];
        assert_eq!(encoded(&form), "a=1%26b%3D2%20%2B%C3%BC&c=x");
    }

    #[test]
    fn a_refusal_is_told_from_an_outage() {
        let refusal = |status, body: &str| judge(status, body.as_bytes()).err().unwrap();
        let text =
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret\r\nTrace ID: 1"}"#;
        let Failure::TokenRefused { error, description } = refusal(401, text) else { panic!() };
        assert_eq!(error, "invalid_client");
        assert!(description.starts_with("AADSTS7000215"), "{description}");
        assert!(!description.contains('\n'));
        for (status, body) in [
            (503, "{\"error\":\"invalid_client\"}"),
            (400, "{\"error\":\"temporarily_unavailable\"}"),
            (429, "slow down"),
            (502, "<html>"),
            (200, "<html>"),
            (302, ""),
        ] {
            assert!(matches!(refusal(status, body), Failure::TokenUnavailable { .. }), "{status} {body}");
        }
        assert!(matches!(refusal(404, "not here"), Failure::TokenRefused { error, .. } if error == "http_404"));
    }

    #[test]
    fn answers_are_taken_as_servers_write_them() {
        for (body, life_s) in [
            (r#"{"access_token":"t","token_type":"Bearer","expires_in":3599}"#, 3_599),
            (r#"{"access_token":"t","token_type":"bearer","expires_in":"120"}"#, 120),
            (r#"{"access_token":"t"}"#, 3_600),
            (r#"{"access_token":"t","expires_in":9999999}"#, 86_400),
            (r#"{"access_token":"t","expires_in":-5}"#, 60),
        ] {
            assert_eq!(granted(judge(200, body.as_bytes()).ok().unwrap()).unwrap().life_s, life_s, "{body}");
        }
        for body in
            [r#"{"access_token":"a\r\nQUIT"}"#, r#"{"access_token":""}"#, r#"{"access_token":"t","token_type":"mac"}"#]
        {
            assert!(granted(judge(200, body.as_bytes()).ok().unwrap()).is_err(), "{body}");
        }
    }
}
