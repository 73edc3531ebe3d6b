//! What is secret about a route, as it comes in by the API. Nothing of it ever goes out again.
//!
//! Beside the record's fields may stand `password`, `client_secret`, `refresh_token`, `certificate` with `private_key` (both
//! PEM), and `service_account` (the JSON file as Google gives it). Text sets, `null` removes.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use relay::secrets::Secrets;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::senders::text;
use super::settings;
use crate::http::problem::Problem;
use crate::oauth::jwt;

/// Moves secrets from a body to `secrets`; what is public about them goes into the body's `oauth`. Says whether there were any.
pub fn take(body: &mut Map<String, Value>, secrets: &mut Secrets) -> Result<bool, Problem> {
    let mut any = false;
    for (field, place) in [
        ("password", &mut secrets.password),
        ("client_secret", &mut secrets.client_secret),
        ("refresh_token", &mut secrets.refresh_token),
    ] {
        any |= one(body, field, place)?;
    }
    let has_key = body.contains_key("private_key");
    if let Some(pem) = text(body, "certificate")? {
        if !has_key {
            return Err(Problem::field("/private_key", "a certificate comes with its key"));
        }
        certificate(body, &pem)?;
    }
    if one(body, "private_key", &mut secrets.private_key)? {
        any = true;
        if let Some(key) = &secrets.private_key {
            jwt::Key::read(key).map_err(|error| Problem::field("/private_key", error.to_string()))?;
            if !body.contains_key("client_secret") {
                secrets.client_secret = None;
            }
        }
    } else if secrets.client_secret.is_some() && any {
        // A new client secret takes the place of a certificate.
        secrets.private_key = None;
    }
    if let Some(account) = body.remove("service_account") {
        service_account(body, account, secrets)?;
        any = true;
    }
    Ok(any)
}

fn one(body: &mut Map<String, Value>, field: &str, place: &mut Option<SecretString>) -> Result<bool, Problem> {
    match body.get(field) {
        None => return Ok(false),
        Some(Value::Null) => {
            body.remove(field);
            *place = None;
        }
        Some(_) => match text(body, field)? {
            Some(secret) if !secret.is_empty() => *place = Some(secret.into()),
            _ => return Err(Problem::field(format!("/{field}"), "is empty")),
        },
    }
    Ok(true)
}

/// Sets a field of the record's `oauth`, which may be a patch.
fn set(body: &mut Map<String, Value>, field: &str, value: Value) {
    if let Some(oauth) = body.entry("oauth").or_insert_with(|| json!({})).as_object_mut() {
        oauth.insert(field.into(), value);
    }
}

fn certificate(body: &mut Map<String, Value>, pem: &str) -> Result<(), Problem> {
    let wrong = || Problem::field("/certificate", "is no certificate in PEM form");
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| wrong())?;
    let not_after = net::certificate_end(&der).ok_or_else(wrong)?;
    let end = jiff::Timestamp::from_second(not_after).map_err(|_| wrong())?;
    set(body, "certificate_sha256", URL_SAFE_NO_PAD.encode(digest(&SHA256, &der)).into());
    set(body, "certificate_expires", end.strftime("%Y-%m-%d").to_string().into());
    Ok(())
}

/// The file that Google gives for a service account.
fn service_account(body: &mut Map<String, Value>, account: Value, secrets: &mut Secrets) -> Result<(), Problem> {
    let pointer = "/service_account";
    let field = |name: &str| {
        let found = account.get(name).and_then(Value::as_str).filter(|value| !value.is_empty());
        found.map(str::to_owned).ok_or_else(|| Problem::field(pointer, format!("has no {name}")))
    };
    let key = SecretString::from(field("private_key")?);
    jwt::Key::read(&key).map_err(|error| Problem::field(pointer, error.to_string()))?;
    secrets.private_key = Some(key);
    secrets.client_secret = None;
    set(body, "client_id", field("client_email")?.into());
    if let Ok(id) = field("private_key_id") {
        set(body, "key_id", id.into());
    }
    set(body, "grant", "service_account".into());
    Ok(())
}

/// Used where a body is not wanted: an empty patch of the record.
pub fn only_secrets(mut body: Map<String, Value>, secrets: &mut Secrets) -> Result<Value, Problem> {
    if !take(&mut body, secrets)? {
        return Err(Problem::field(
            "",
            "a secret is needed: password, client_secret, refresh_token, or certificate and key",
        ));
    }
    let others = body.keys().find(|field| *field != "oauth").cloned();
    match others {
        Some(field) => Err(Problem::field(format!("/{field}"), "only secrets can be rotated")),
        None => {
            let mut patch = Value::Object(Map::new());
            settings::merge(&mut patch, Value::Object(body));
            Ok(patch)
        }
    }
}
