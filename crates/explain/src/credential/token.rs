//! OAuth tokens in the place of a password, and the reverse. What a token says of itself is read, not verified.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::{Login, Notes};

/// Signs given here.
#[cfg(test)]
pub(super) const KINDS: &[&str] = &[
    "credential_not_a_token",
    "credential_token_as_password",
    "credential_token_expired",
    "credential_token_audience",
    "credential_refresh_token",
];

/// Fewest characters of an access token.
const LEAST_TOKEN: usize = 40;
/// Audiences that Microsoft's SMTP service takes.
const OUTLOOK: &[&str] =
    &["https://outlook.office365.com", "https://outlook.office.com", "00000002-0000-0ff1-ce00-000000000000"];

/// What a JSON web token (RFC 7519) says of itself, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Claims {
    exp: Option<i64>,
    aud: Option<String>,
}

/// Whether this is an access token by its looks.
pub(super) fn is_token(password: &str) -> bool {
    let text = password.trim();
    let parts = text.split('.').count();
    text.starts_with("ya29.") || (text.starts_with("eyJ") && parts == 3 && text.len() >= LEAST_TOKEN)
}

/// Notes on tokens.
pub(super) fn lint(login: &Login<'_>, password: &str, oauth: bool, notes: &mut Notes) {
    let text = password.trim();
    if is_token(text) && !oauth && login.mechanism.is_some() {
        notes.add("credential_token_as_password", &[]);
    }
    if !is_token(text) {
        let refresh = text.starts_with("1//") || text.starts_with("0.A") || text.starts_with("1.A");
        if oauth && refresh && text.len() >= LEAST_TOKEN {
            notes.add("credential_refresh_token", &[]);
        } else if oauth && !text.is_empty() && text.chars().count() < LEAST_TOKEN {
            notes.add("credential_not_a_token", &[("length", text.chars().count().to_string())]);
        }
        return;
    }
    let Some(claims) = claims(text) else { return };
    if let Some(minutes) = claims.exp.map(|end| login.now_s.saturating_sub(end)).filter(|past| *past > 0) {
        notes.add("credential_token_expired", &[("minutes", (minutes / 60).to_string())]);
    }
    let audience = claims.aud.as_deref().unwrap_or_default().trim_end_matches('/');
    if login.provider == Some("microsoft") && !audience.is_empty() && !OUTLOOK.contains(&audience) {
        notes.add("credential_token_audience", &[("audience", crate::sign_value(audience))]);
    }
}

fn claims(token: &str) -> Option<Claims> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}
