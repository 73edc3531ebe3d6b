//! Signing in: what is offered when, and what the server says to ours. The exchange itself is the client's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use net::client::ClientAuth;
use proto::transcript::{Failure, Stage};
use serde::Deserialize;

use super::plan::Auth;
use super::probe::{Probe, Stop};

/// What a server says about a token it refuses (RFC 7628 §3.2.2, and the XOAUTH2 of Google and Microsoft).
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Challenge {
    status: String,
    schemes: String,
    scope: String,
}

impl Probe<'_> {
    /// AUTH, if the plan has credentials.
    pub(super) async fn auth(&mut self) -> Result<(), Stop> {
        self.begin(Stage::Auth);
        let Some(auth) = &self.plan.auth else {
            self.skip(Stage::Auth, "no credentials given");
            return Ok(());
        };
        if self.caps.auth.is_empty() {
            let began = self.session.now_us();
            let failure = Failure::NoMechanism { offered: Vec::new() };
            self.session.note(Stage::Auth, began, Err(&failure));
            let stop = self.fail(Stage::Auth, failure);
            self.explain_absence();
            return Err(stop);
        }
        let offered = self.caps.auth.clone();
        match self.session.authenticate(&offered, &credentials(auth)).await {
            Ok(()) => {
                let mechanism = self.session.steps().iter().rev().find_map(|step| match &step.fact {
                    Some(proto::transcript::Fact::Authenticated { mechanism }) => Some(mechanism.clone()),
                    _ => None,
                });
                let reply = self.session.steps().iter().rev().find_map(|step| step.reply.clone());
                let summary = format!("signed in with {}", mechanism.unwrap_or_default());
                self.pass(Stage::Auth, summary, reply);
                Ok(())
            }
            Err(failure) => {
                let in_clear = failure == Failure::AuthNeedsTls && self.caps.starttls;
                let stop = self.fail(Stage::Auth, failure);
                if in_clear {
                    let (host, port) = self.place();
                    self.sign(Stage::Auth, "auth_only_after_tls", &[("host", &host), ("port", &port)]);
                }
                self.note_challenge();
                Err(stop)
            }
        }
    }

    fn explain_absence(&mut self) {
        let (host, port) = self.place();
        let before = self.before_tls.as_ref().map(|before| before.auth.join(" ")).unwrap_or_default();
        let place = [("host", &*host), ("port", &*port)];
        if !before.is_empty() {
            self.sign(Stage::Auth, "auth_only_before_tls", &[("mechanisms", &before), ("host", &host)]);
        } else if self.session.tls().is_none() && self.caps.starttls {
            self.sign(Stage::Auth, "auth_only_after_tls", &place);
        } else {
            self.sign(Stage::Auth, "auth_not_offered", &place);
        }
    }

    fn note_challenge(&mut self) {
        let replies = self.session.steps().iter().rev().filter(|step| step.stage == Stage::Auth);
        let found = replies.filter_map(|step| step.reply.as_ref()).find_map(|reply| {
            let text = reply.text();
            text.split_ascii_whitespace().find_map(challenge)
        });
        if let Some(Challenge { status, schemes, scope }) = found {
            let values = [("status", &*status), ("schemes", &*schemes), ("scope", &*scope)];
            self.sign(Stage::Auth, "oauth_challenge", &values);
        }
    }
}

/// Credentials as the client takes them.
pub(super) fn credentials(auth: &Auth) -> ClientAuth {
    ClientAuth {
        username: auth.username.clone(),
        password: auth.password.clone(),
        mechanism: auth.mechanism.clone(),
        allow_plaintext: auth.allow_plaintext,
    }
}

fn challenge(word: &str) -> Option<Challenge> {
    if word.len() > 4_000 {
        return None;
    }
    let json = STANDARD.decode(word).ok()?;
    let challenge: Challenge = serde_json::from_slice(&json).ok()?;
    (challenge != Challenge::default()).then_some(challenge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_a_refused_token_is_read() {
        let word = STANDARD.encode(r#"{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}"#);
        let found = challenge(&word).unwrap();
        assert_eq!((found.status.as_str(), found.schemes.as_str()), ("400", "Bearer"));
        for word in ["VXNlcm5hbWU6", "e30=", "", "%%%"] {
            assert_eq!(challenge(word), None, "{word}");
        }
    }
}
