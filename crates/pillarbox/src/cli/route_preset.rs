//! `route add NAME PROVIDER`: what the preset knows is filled in, what is missing is asked for, or listed where nobody can be asked.

use std::io::{IsTerminal, Write as _};
use std::path::Path;

use anyhow::Context;
use explain::credential::ses_smtp_password;
use explain::{Preset, RuleBase, SignIn, Speaks};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::args_presets::PresetOptions;
use super::args_settings::RouteOptions;
use super::{Fault, providers, secret};
use crate::presets::fill;

/// Where a user can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Talk {
    Terminal,
    Nobody,
}

/// What is still missing, and how it is said on the command line.
struct Missing(Vec<String>);

/// Completes the body of a new route. Returns the preset it was filled from.
pub fn complete(
    name: &str,
    given: &PresetOptions,
    options: &RouteOptions,
    (secret_key, oauth): (Option<&Path>, bool),
    body: &mut Map<String, Value>,
) -> Result<&'static Preset, Fault> {
    let preset = providers::find(name)?;
    let base = RuleBase::shared();
    let talk = if std::io::stdin().is_terminal() { Talk::Terminal } else { Talk::Nobody };
    let mut missing = Missing(Vec::new());
    let host = host(preset, given, talk, &mut missing)?;
    user(preset, &base, secret_key.is_some(), talk, body, &mut missing)?;
    let signs_in = body.contains_key("username") || preset.user.is_some();
    let password = match signs_in && !oauth && missing.0.is_empty() {
        true => password(preset, &base, options, secret_key, host.as_deref(), body, talk, &mut missing)?,
        false => {
            let wanted = signs_in || preset.sign_in == SignIn::Password || preset.sign_in == SignIn::Oauth;
            if wanted && !oauth && secret_key.is_none() && options.password_from.is_none() && !preset.same {
                missing.0.push(match preset.sign_in {
                    SignIn::Oauth => oauth_missing(),
                    _ => password_missing(preset, &base),
                });
            }
            None
        }
    };
    if preset.own_helo && !body.contains_key("helo") && !body.contains_key("username") {
        missing.0.push("--helo NAME: a name in your own domain, which the provider wants at EHLO".into());
    }
    if !missing.0.is_empty() {
        let list: String = missing.0.iter().map(|one| format!("\n  {one}")).collect();
        return Err(Fault::Usage(format!(
            "{} needs more; see `pillarbox provider show {}`:{list}",
            preset.name, preset.id
        )));
    }
    if let (Speaks::Graph, Some(host)) = (preset.kind, &given.host) {
        body.insert("host".into(), host.as_str().into());
    }
    fill(preset, host.as_deref().unwrap_or_default(), given.port, &base, body);
    if let Some(password) = password {
        body.insert("password".into(), password.expose_secret().into());
    }
    Ok(preset)
}

fn host(preset: &Preset, given: &PresetOptions, talk: Talk, missing: &mut Missing) -> Result<Option<String>, Fault> {
    if preset.kind == Speaks::Graph {
        if given.region.is_some() {
            return Err(Fault::Usage("the region of Graph is the cloud of the tenant: --cloud".into()));
        }
        return Ok(preset.host.clone());
    }
    if let Some(host) = &given.host {
        if preset.host.is_some() {
            return Err(Fault::Usage(format!("{} has hosts of its own: leave --host out", preset.name)));
        }
        return Ok(Some(host.clone()));
    }
    if preset.host.is_none() {
        let like = preset.host_like.as_ref().map(|end| format!(", such as example-com.{end}")).unwrap_or_default();
        return Ok(asked(talk, missing, &format!("Host of {}{like}", preset.name), None, "--host HOST: your own host"));
    }
    let regions = || preset.regions.iter().map(|region| region.id.as_str()).collect::<Vec<_>>().join(", ");
    let region = match (&given.region, preset.is_regional()) {
        (Some(_), false) => return Err(Fault::Usage(format!("{} has no regions", preset.name))),
        (Some(region), true) => Some(region.clone()),
        (None, false) => return Ok(preset.host_in(None)),
        (None, true) => {
            let usual = preset.host_in(None).and_then(|host| preset.region_of(&host));
            match (usual, talk) {
                // A usual region is taken where nobody can be asked.
                (Some(_), Talk::Nobody) => return Ok(preset.host_in(None)),
                (usual, _) => {
                    let say = format!("--region REGION: that of the account ({})", regions());
                    asked(talk, missing, &format!("Region ({})", regions()), usual.as_deref(), &say)
                }
            }
        }
    };
    let Some(region) = region else { return Ok(None) };
    let unknown =
        || Fault::Usage(format!("{} has no region `{}`; there are {}", preset.name, region.escape_debug(), regions()));
    preset.host_in(Some(&region)).map(Some).ok_or_else(unknown)
}

fn user(
    preset: &Preset,
    base: &RuleBase,
    derived: bool,
    talk: Talk,
    body: &mut Map<String, Value>,
    missing: &mut Missing,
) -> Result<(), Fault> {
    if body.contains_key("username") {
        return match preset.sign_in {
            SignIn::None => Err(Fault::Usage(format!("nobody signs in at {}: leave --username out", preset.name))),
            _ => Ok(()),
        };
    }
    if preset.user.is_some() || matches!(preset.sign_in, SignIn::None | SignIn::Optional) {
        return Ok(());
    }
    let words = preset.provider(base).map(|provider| preset.username(provider)).unwrap_or_default();
    let words = if derived { "The access key ID (AKIA...) that belongs to the secret access key." } else { words };
    let prompt = format!("User name ({})", words.trim_end_matches('.'));
    if let Some(user) = asked(talk, missing, &prompt, None, &format!("--username NAME: {words}")) {
        body.insert("username".into(), user.into());
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "one step of one procedure")]
fn password(
    preset: &Preset,
    base: &RuleBase,
    options: &RouteOptions,
    secret_key: Option<&Path>,
    host: Option<&str>,
    body: &Map<String, Value>,
    talk: Talk,
    missing: &mut Missing,
) -> Result<Option<SecretString>, Fault> {
    if let Some(path) = secret_key {
        return host.map(|host| derived(path, host)).transpose();
    }
    if let Some(source) = &options.password_from {
        return secret::read(source, "Password").map(Some);
    }
    let user = body.get("username").and_then(Value::as_str);
    if let (true, Some(user)) = (preset.same, user) {
        return Ok(Some(SecretString::from(user)));
    }
    if talk == Talk::Nobody {
        missing.0.push(password_missing(preset, base));
        return Ok(None);
    }
    let words = preset.provider(base).map(|provider| preset.password(provider)).unwrap_or_default();
    secret::asked_once(&format!("Password ({})", words.trim_end_matches('.'))).map(Some)
}

fn oauth_missing() -> String {
    "--tenant TENANT --client-id ID --client-secret-file FILE (or --certificate FILE --certificate-key FILE): the application \
     that sends; without a secret, `pillarbox route login` signs a person in"
        .into()
}

fn password_missing(preset: &Preset, base: &RuleBase) -> String {
    let words = preset.provider(base).map(|provider| preset.password(provider)).unwrap_or_default();
    format!("--password-from prompt, stdin, env:NAME or file:PATH: {words}")
}

/// The SMTP password of SES for the region of a host.
pub fn derived(path: &Path, host: &str) -> Result<SecretString, Fault> {
    let region = explain::preset("ses").and_then(|ses| ses.region_of(host));
    let Some(region) = region else {
        return Err(Fault::Usage(format!(
            "a password can be derived from a secret access key for Amazon SES only, and {} is no host of it",
            host.escape_debug()
        )));
    };
    let key = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {}", path.display()))
        .map_err(Fault::cannot)?;
    let key = SecretString::from(key.lines().next().unwrap_or_default().trim());
    if key.expose_secret().len() != 40 {
        let found = key.expose_secret().len();
        return Err(Fault::Usage(format!(
            "a secret access key of AWS has 40 characters, that in {} has {found}",
            path.display()
        )));
    }
    ses_smtp_password(&key, &region).ok_or_else(|| Fault::Usage("the secret access key cannot be used".into()))
}

/// An answer from the terminal, or a line in the list of what is missing.
fn asked(talk: Talk, missing: &mut Missing, prompt: &str, usual: Option<&str>, say: &str) -> Option<String> {
    let line = if talk == Talk::Terminal { line(prompt, usual) } else { None };
    if line.is_none() {
        missing.0.push(say.to_owned());
    }
    line
}

fn line(prompt: &str, usual: Option<&str>) -> Option<String> {
    let hint = usual.map(|usual| format!(" [{usual}]")).unwrap_or_default();
    let mut error = std::io::stderr().lock();
    let _ = write!(error, "{prompt}{hint}: ");
    let _ = error.flush();
    let mut text = String::new();
    std::io::stdin().read_line(&mut text).ok()?;
    let text = text.trim();
    match (text.is_empty(), usual) {
        (true, usual) => usual.map(str::to_owned),
        (false, _) => Some(text.to_owned()),
    }
}
