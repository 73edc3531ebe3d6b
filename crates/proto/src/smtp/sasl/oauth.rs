//! OAUTHBEARER (RFC 7628) and XOAUTH2: an access token instead of a password, and what the server says when it refuses.

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::smtp::reply::escape;

/// Longest text of an error that is kept, octets.
const MAX_TEXT: usize = 200;

/// `gs2-header ^A host=… ^A port=… ^A auth=Bearer … ^A ^A`.
pub(super) fn bearer(username: &str, token: &SecretString, server: &(String, u16)) -> Zeroizing<Vec<u8>> {
    let name = username.replace('=', "=3D").replace(',', "=2C");
    let (host, port) = server;
    let token = token.expose_secret();
    Zeroizing::new(format!("n,a={name},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01").into_bytes())
}

/// `user=… ^A auth=Bearer … ^A ^A`.
pub(super) fn xoauth2(username: &str, token: &SecretString) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(format!("user={username}\x01auth=Bearer {}\x01\x01", token.expose_secret()).into_bytes())
}

/// The JSON with which a server says why it refuses a token (RFC 7628 §3.2.2). Texts are escaped, at most 200 octets each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OauthError {
    /// `invalid_token`, `401`, `400`.
    pub status: Option<String>,
    /// The scope a token has to have.
    pub scope: Option<String>,
    /// Where the server's settings are described.
    pub configuration: Option<String>,
    /// The text as it came, if it is no such JSON.
    pub raw: Option<String>,
}

#[derive(Deserialize)]
struct Json {
    status: Option<serde_json::Value>,
    scope: Option<serde_json::Value>,
    #[serde(rename = "openid-configuration")]
    configuration: Option<serde_json::Value>,
}

impl OauthError {
    pub(super) fn parse(octets: &[u8]) -> Self {
        let Ok(json) = serde_json::from_slice::<Json>(octets) else {
            return Self { raw: Some(escape(octets, MAX_TEXT)).filter(|text| !text.is_empty()), ..Self::default() };
        };
        // Some write the status as a number.
        let text = |value: Option<serde_json::Value>| match value? {
            serde_json::Value::String(text) => Some(escape(text.as_bytes(), MAX_TEXT)),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        Self { status: text(json.status), scope: text(json.scope), configuration: text(json.configuration), raw: None }
    }

    /// `status=401 scope=https://mail.example.net/`; empty if nothing was said.
    pub fn text(&self) -> String {
        let parts = [("status", &self.status), ("scope", &self.scope), ("openid-configuration", &self.configuration)];
        let mut said: Vec<String> =
            parts.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?))).collect();
        said.extend(self.raw.clone());
        said.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_have_the_form_of_their_documents() {
        let token = SecretString::from("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
        let server = ("server.example.com".to_owned(), 587);
        assert_eq!(
            bearer("user@example.com", &token, &server).as_slice(),
            b"n,a=user@example.com,\x01host=server.example.com\x01port=587\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
        );
        assert_eq!(
            xoauth2("someuser@example.com", &SecretString::from("ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"))
                .as_slice(),
            b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01"
        );
    }

    #[test]
    fn what_a_server_says_about_a_token_is_read() {
        let google = OauthError::parse(br#"{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}"#);
        assert_eq!(google.text(), "status=400 scope=https://mail.google.com/");
        let number = OauthError::parse(br#"{"status":401}"#);
        assert_eq!(number.status.as_deref(), Some("401"));
        assert_eq!(OauthError::parse(b"no\x1bjson").text(), "no\\u{1b}json");
        assert_eq!(OauthError::parse(b"").text(), "");
        assert_eq!(OauthError::parse(b"{}"), OauthError::default());
        assert!(OauthError::parse(format!("{{\"status\":\"{}\"}}", "x".repeat(5000)).as_bytes()).text().len() < 300);
    }
}
