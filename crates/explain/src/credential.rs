//! User name and password looked at before any network: what hides in them, and whether they can be what the provider wants.
//!
//! Pure. A note is a sign (`credential_…`) whose words are in `rules/credentials.toml`. Its values hold lengths,
//! positions and names of characters, never the password or a part of it; user names do not go in either, because
//! the two are often swapped.

mod aws;
mod characters;
mod forms;
mod shape;
mod token;

use std::sync::LazyLock;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::embedded;
use crate::values::Values;
pub use aws::ses_smtp_password;
use shape::Shape;

/// What is known of a sign-in before it is tried.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// Id of the provider, if known.
    pub provider: Option<&'a str>,
    /// Host to sign in to, if known; it tells regions apart.
    pub host: Option<&'a str>,
    /// SASL mechanism in upper case, if one is demanded. With `XOAUTH2` and `OAUTHBEARER` the password is a token.
    pub mechanism: Option<&'a str>,
    /// User name.
    pub username: &'a str,
    /// Password, key or token.
    pub password: &'a SecretString,
    /// Unix seconds, for tokens with an end.
    pub now_s: i64,
}

/// One thing noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialNote {
    /// Sign that rules speak of.
    pub kind: String,
    /// Values for the words.
    pub values: Values,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Field {
    User,
    Password,
}

impl Field {
    const fn words(self) -> &'static str {
        match self {
            Self::User => "user name",
            Self::Password => "password",
        }
    }
}

/// What a provider wants: one entry of `data/credentials.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    provider: String,
    /// Only at hosts with one of these ends; an entry without is for all others.
    hosts: Vec<String>,
    /// Mail domains whose mailboxes are at this provider and nowhere else.
    domains: Vec<String>,
    /// Shapes of the user name, any of them.
    user: Vec<Shape>,
    user_sign: String,
    user_expected: String,
    /// Shapes of the password, any of them.
    password: Vec<Shape>,
    password_sign: String,
    password_expected: String,
    /// Characters that do not count in the password: app passwords are shown in groups.
    password_ignores: String,
    /// User name and password are the same token.
    same: bool,
    /// Credentials hold in one region only.
    regional: bool,
    /// What is known to be taken for the right thing.
    mistakes: Vec<Mistake>,
}

/// Something else that people paste.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mistake {
    field: Field,
    like: Shape,
    sign: String,
    #[serde(default)]
    what: String,
}

/// A key whose shape tells whose it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    provider: String,
    name: String,
    like: Shape,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    login: Vec<Wanted>,
    key: Vec<Key>,
}

static DATA: LazyLock<Data> = LazyLock::new(|| embedded::data!("credentials"));

/// Signs that this file's neighbours may give, besides those of `data/credentials.toml`.
#[cfg(test)]
const KINDS: &[&[&str]] = &[characters::KINDS, forms::KINDS, token::KINDS];

/// Collects notes about one sign-in.
#[derive(Default)]
struct Notes(Vec<CredentialNote>);

impl Notes {
    fn add(&mut self, kind: &str, values: &[(&str, String)]) {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.0.push(CredentialNote { kind: kind.to_owned(), values });
    }

    fn field(&mut self, kind: &str, field: Field, values: &[(&str, String)]) {
        let mut all = vec![("field", field.words().to_owned())];
        all.extend_from_slice(values);
        self.add(kind, &all);
    }

    fn has_since(&self, before: usize) -> bool {
        self.0.len() > before
    }
}

/// Everything noticed, the surest first: what hides in the text, then what the provider wants. Nothing is asked of anyone.
pub fn lint(login: &Login<'_>) -> Vec<CredentialNote> {
    let mut notes = Notes::default();
    let password = login.password.expose_secret();
    characters::lint(Field::User, login.username, &mut notes);
    characters::lint(Field::Password, password, &mut notes);
    let before = notes.0.len();
    forms::lint(login.username, password, &mut notes);
    // A value that is a placeholder or pasted with something around it has no shape worth judging.
    let pasted_around = notes.has_since(before);
    let oauth = matches!(login.mechanism, Some("XOAUTH2" | "OAUTHBEARER"));
    token::lint(login, password, oauth, &mut notes);
    if let Some(wanted) = login.provider.and_then(|id| wanted(id, login.host)) {
        user_of_provider(wanted, login, password, &mut notes);
        if !oauth && !pasted_around && !token::is_token(password) {
            password_of_provider(wanted, login, password, &mut notes);
        }
        if let Some(host) = login.host.filter(|_| wanted.regional && notes.0.is_empty()) {
            notes.add("credential_region", &[("host", crate::sign_value(host))]);
        }
    }
    notes.0
}

fn wanted(provider: &str, host: Option<&str>) -> Option<&'static Wanted> {
    let all = || DATA.login.iter().filter(|wanted| wanted.provider == provider);
    let at_host = |wanted: &&Wanted| {
        let host = host.unwrap_or_default().to_ascii_lowercase();
        wanted.hosts.iter().any(|end| host.ends_with(end.as_str()))
    };
    all().find(at_host).or_else(|| all().find(|wanted| wanted.hosts.is_empty()))
}

fn mistake(wanted: &'static Wanted, field: Field, text: &str) -> Option<&'static Mistake> {
    wanted.mistakes.iter().find(|mistake| mistake.field == field && mistake.like.fits(text))
}

fn user_of_provider(wanted: &'static Wanted, login: &Login<'_>, password: &str, notes: &mut Notes) {
    let user = characters::cleaned(login.username);
    let expected = || ("expected", wanted.user_expected.clone());
    if let Some(mistake) = mistake(wanted, Field::User, &user) {
        notes.field(&mistake.sign, Field::User, &[expected(), ("what", mistake.what.clone())]);
        return;
    }
    let is_secret = |text: &str| wanted.password.iter().any(|shape| shape.is_telling() && shape.fits(text));
    if !wanted.same && is_secret(&user) && !is_secret(password) {
        notes.add("credential_swapped", &[]);
        return;
    }
    if !wanted.user.is_empty() && !wanted.user.iter().any(|shape| shape.fits(&user)) {
        let case_only =
            wanted.user.iter().any(|shape| shape.literal().is_some_and(|is| is.eq_ignore_ascii_case(&user)));
        match (case_only, wanted.user_sign.as_str()) {
            (true, _) => notes.add("credential_user_case", &[expected()]),
            (false, "credential_user_address") if user.contains('\\') => {
                notes.add("credential_user_windows_form", &[expected()]);
            }
            (false, sign) => notes.add(sign, &[expected(), ("length", characters::length(&user))]),
        }
    } else if let Some((_, domain)) = user.rsplit_once('@').filter(|_| wanted.user_sign == "credential_user_address") {
        let there = |other: &&Wanted| other.domains.iter().any(|own| own.eq_ignore_ascii_case(domain));
        let other = DATA.login.iter().find(there).filter(|other| other.provider != wanted.provider);
        if let Some(other) = other {
            notes.add("credential_user_elsewhere", &[("other", other.provider.clone())]);
        }
    }
}

fn password_of_provider(wanted: &'static Wanted, login: &Login<'_>, password: &str, notes: &mut Notes) {
    let clean = characters::cleaned(password);
    let counted: String = clean.chars().filter(|character| !wanted.password_ignores.contains(*character)).collect();
    let expected = ("expected", wanted.password_expected.clone());
    let length = ("length", characters::length(&clean));
    if clean.is_empty() {
        return;
    }
    if let Some(mistake) = mistake(wanted, Field::Password, &clean) {
        notes.field(&mistake.sign, Field::Password, &[expected, length, ("what", mistake.what.clone())]);
        return;
    }
    if wanted.same && wanted.password.iter().any(|shape| shape.fits(&clean)) {
        if characters::cleaned(login.username) != clean {
            notes.add("credential_token_differs", &[]);
        }
        return;
    }
    if let Some(key) = DATA.key.iter().find(|key| key.provider != wanted.provider && key.like.fits(&clean)) {
        notes.add("credential_key_of_another", &[("other", key.name.clone()), length]);
        return;
    }
    if !wanted.password.is_empty() && !wanted.password.iter().any(|shape| shape.fits(&counted)) {
        notes.add(&wanted.password_sign, &[expected, length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sign_has_a_rule_and_every_provider_is_known() {
        let base = crate::RuleBase::builtin();
        let in_data = DATA.login.iter().flat_map(|wanted| {
            let mistakes = wanted.mistakes.iter().map(|mistake| mistake.sign.as_str());
            mistakes.chain([wanted.user_sign.as_str(), wanted.password_sign.as_str()])
        });
        let here = ["credential_region", "credential_swapped", "credential_user_case", "credential_user_windows_form"];
        let more = ["credential_user_elsewhere", "credential_token_differs", "credential_key_of_another"];
        let all = in_data.chain(here).chain(more).chain(KINDS.iter().flat_map(|kinds| kinds.iter().copied()));
        let without: Vec<&str> =
            all.filter(|kind| !kind.is_empty() && !base.signs().any(|sign| sign == *kind)).collect();
        assert!(without.is_empty(), "{without:?}");
        for wanted in &DATA.login {
            assert!(base.provider(&wanted.provider).is_some(), "{}", wanted.provider);
            assert_eq!(wanted.user.is_empty(), wanted.user_sign.is_empty(), "{}", wanted.provider);
            assert_eq!(wanted.password.is_empty(), wanted.password_sign.is_empty(), "{}", wanted.provider);
        }
    }
}
