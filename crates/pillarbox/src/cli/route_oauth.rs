//! `pillarbox route`, the part about OAuth: options to API fields, the sign-in by device code, a rotation's new credential.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use axum::http::Method;
use clap::ValueEnum;
use relay::oauth::{Grant, OauthRecord};
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::Fault;
use super::args::Global;
use super::args_oauth::{NewCredential, OauthFiles, OauthGrant, OauthOptions};
use super::args_settings::Source;
use super::client::{Client, escaped, read};
use super::output::{clean, json as print_json, print};
use super::secret;
use crate::http::api::sign_in::{LoginOut, ProgressOut};

/// Largest file that is taken.
const MAX_FILE: u64 = 64 * 1024;

fn word(value: &impl ValueEnum) -> Value {
    value.to_possible_value().map(|value| value.get_name().replace('-', "_")).unwrap_or_default().into()
}

fn file(path: &Path) -> Result<String, Fault> {
    let size = std::fs::metadata(path).map(|meta| meta.len()).unwrap_or_default();
    if size > MAX_FILE {
        return Err(Fault::Usage(format!("{} is too large for a key or certificate", path.display())));
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())).map_err(Fault::cannot)
}

/// Puts options into a body; says whether there were any.
pub fn fields(options: &OauthOptions, body: &mut Map<String, Value>) -> Result<bool, Fault> {
    let mut oauth = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            oauth.insert(name.into(), value);
        }
    };
    let files = &options.files;
    put("provider", options.oauth.as_ref().map(word));
    put("tenant", options.tenant.clone().map(Into::into));
    put("cloud", options.cloud.as_ref().map(word));
    put("client_id", options.client_id.clone().map(Into::into));
    put("subject", options.subject.clone().map(Into::into));
    put("scope", options.scope.clone().map(Into::into));
    put("token_url", options.token_url.clone().map(Into::into));
    put("device_url", options.device_url.clone().map(Into::into));
    let grant = options.grant.or_else(|| options.oauth.map(|_| usual_grant(files)));
    put("grant", grant.as_ref().map(word));
    put("secret_expires", files.secret_expires.clone().map(Into::into));
    let any = !oauth.is_empty();
    if any {
        body.insert("oauth".into(), Value::Object(oauth));
    }
    Ok(secrets(files, body)? || any)
}

fn usual_grant(files: &OauthFiles) -> OauthGrant {
    match () {
        () if files.service_account.is_some() => OauthGrant::ServiceAccount,
        () if files.refresh_token_file.is_some() => OauthGrant::RefreshToken,
        () if files.client_secret_file.is_some() || files.certificate.is_some() => OauthGrant::ClientCredentials,
        () => OauthGrant::RefreshToken,
    }
}

fn secrets(files: &OauthFiles, body: &mut Map<String, Value>) -> Result<bool, Fault> {
    let before = body.len();
    for (name, path) in [("client_secret", &files.client_secret_file), ("refresh_token", &files.refresh_token_file)] {
        if let Some(path) = path {
            let text = secret::read(&Source::File(path.clone()), "")?;
            body.insert(name.into(), text.expose_secret().into());
        }
    }
    for (name, path) in [("certificate", &files.certificate), ("private_key", &files.certificate_key)] {
        if let Some(path) = path {
            body.insert(name.into(), file(path)?.into());
        }
    }
    if let Some(path) = &files.service_account {
        let account: Value = serde_json::from_str(&file(path)?)
            .map_err(|_| Fault::Usage(format!("{} is not the JSON file of a service account", path.display())))?;
        body.insert("service_account".into(), account);
    }
    Ok(body.len() > before)
}

/// The body of a rotation.
pub fn new_credential(new: &NewCredential) -> Result<Map<String, Value>, Fault> {
    let mut body = Map::new();
    let oauth = secrets(&new.files, &mut body)?;
    if let Some(date) = &new.files.secret_expires {
        body.insert("oauth".into(), json!({ "secret_expires": date }));
    }
    if !oauth {
        let source = secret::or_prompt(new.password_from.as_ref())?;
        body.insert("password".into(), secret::read(&source, "New password")?.expose_secret().into());
    }
    Ok(body)
}

/// In a line.
pub fn words(oauth: &OauthRecord) -> String {
    let provider = serde_json::to_value(oauth.provider).ok().and_then(|word| word.as_str().map(str::to_owned));
    let grant = match oauth.grant {
        Grant::ClientCredentials if oauth.certificate_sha256.is_some() => "client credentials with a certificate",
        Grant::ClientCredentials => "client credentials",
        Grant::RefreshToken => "refresh token",
        Grant::ServiceAccount => "service account",
    };
    let mut words = format!("{}, {grant}", provider.unwrap_or_default());
    for (label, value) in [
        ("tenant", &oauth.tenant),
        ("client", &oauth.client_id),
        ("for", &oauth.subject),
        ("secret until", &oauth.secret_expires),
        ("certificate until", &oauth.certificate_expires),
    ] {
        if let Some(value) = value {
            words.push_str(&format!(", {label} {value}"));
        }
    }
    words
}

/// Shows address and code, and waits until somebody has signed in.
pub async fn login(global: &Global, client: &Client, name: &str) -> Result<(), Fault> {
    let path = format!("/routes/{}/login", escaped(name));
    let value = client.send(Method::POST, &path, json!({})).await?;
    let begun: LoginOut = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else {
        print(&format!(
            "Open {} in any browser, enter the code {}, and sign in as the account that sends.\nThe code holds for {} minutes. Waiting ...\n",
            clean(&begun.verification_uri),
            clean(&begun.user_code),
            begun.expires_in_s / 60
        ))?;
    }
    let mut wait_s = begun.interval_s;
    loop {
        tokio::time::sleep(Duration::from_secs(wait_s.clamp(1, 120).unsigned_abs())).await;
        let progress: ProgressOut = read(client.get(&format!("{path}/{}", begun.id)).await?)?;
        match progress.wait_s {
            Some(next) => wait_s = next,
            None => break,
        }
    }
    if global.json {
        return print_json(&json!({ "state": "done" }));
    }
    print(&format!("Signed in: route {} has its tokens now.\n", clean(name)))
}
