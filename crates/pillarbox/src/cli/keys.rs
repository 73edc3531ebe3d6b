//! `pillarbox key` and `pillarbox identity`.

use axum::http::Method;
use clap::ValueEnum;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::Fault;
use super::args::Global;
use super::args_access::{ApiKeyCommand, IdentityArgs, IdentityCommand};
use super::client::{Client, Need, escaped, read};
use super::output::{clean, facts, json as print_json, print, short_time, table};
use super::secret;
use crate::access::role::Role;
use crate::config::values::duration;
use crate::http::api::identity::IdentityOut;
use crate::http::api::keys::ApiKeyOut;
use crate::http::time;
use crate::http::views::Page;

/// Does what was asked about keys.
pub async fn run(global: &Global, command: ApiKeyCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        ApiKeyCommand::Add { name, role, scope, expires, rate, network } => {
            let body = json!({
                "name": name, "role": role, "scopes": scope, "per_minute": rate, "networks": network,
                "expires": expires.as_deref().map(ends).transpose()?,
            });
            made(global, client.send(Method::POST, "/keys", body).await?)
        }
        ApiKeyCommand::List => list(global, client.get("/keys").await?),
        ApiKeyCommand::Disable { name, undo } => {
            made(global, client.send(Method::PATCH, &path(&name), json!({ "disabled": !undo })).await?)
        }
        ApiKeyCommand::Remove { name } => {
            client.delete(&path(&name)).await?;
            done(global, &format!("API key {name} removed"))
        }
    }
}

fn path(name: &str) -> String {
    format!("/keys/{}", escaped(name))
}

fn done(global: &Global, text: &str) -> Result<(), Fault> {
    if global.json { print_json(&json!({ "done": text })) } else { print(&format!("{}\n", clean(text))) }
}

/// A time as the API wants it; a duration counts from now.
fn ends(text: &str) -> Result<String, Fault> {
    if time::read(text).is_some() {
        return Ok(text.to_owned());
    }
    let wrong = || Fault::Usage(format!("{text} is no time such as 2027-01-01T00:00:00Z, and no duration such as 90d"));
    let life = duration(text).ok_or_else(wrong)?;
    let life_ms = i64::try_from(life.as_millis()).map_err(|_| wrong())?;
    Ok(time::show(net::Clock::system().now_ms().saturating_add(life_ms)))
}

fn state(one: &ApiKeyOut) -> String {
    match (one.disabled, one.expired) {
        (true, _) => "disabled".into(),
        (_, true) => "ended".into(),
        _ => String::new(),
    }
}

fn list(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let page: Page<ApiKeyOut> = read(value)?;
    if page.items.is_empty() {
        return print("There are no API keys besides those of senders.\n");
    }
    let row = |one: &ApiKeyOut| {
        let used = one.used.as_deref().map_or_else(|| "never".into(), short_time);
        let ends = one.expires.as_deref().map(short_time).unwrap_or_default();
        let scopes = one.scopes.join(" ");
        vec![one.name.clone(), one.prefix.clone(), one.role.name().into(), scopes, ends, used, state(one)]
    };
    table(&["NAME", "KEY", "ROLE", "SCOPES", "ENDS", "USED", ""], &page.items.iter().map(row).collect::<Vec<_>>())
}

fn made(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let one: ApiKeyOut = read(value)?;
    facts(&[
        ("name", one.name.clone()),
        ("role", one.role.name().into()),
        ("scopes", one.scopes.join(" ")),
        ("requests a minute", one.per_minute.to_string()),
        ("networks", one.networks.join(" ")),
        ("ends", one.expires.as_deref().map(short_time).unwrap_or_default()),
        ("state", state(&one)),
    ])?;
    match one.key {
        Some(key) => print(&format!("\nShown once, keep it now:\nAPI key  {}\n", clean(&key))),
        None => Ok(()),
    }
}

/// Does what was asked about identity providers.
pub async fn identity(global: &Global, command: IdentityCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        IdentityCommand::Set(args) => {
            let secret =
                args.client_secret_from.as_ref().map(|from| secret::read(from, "Client secret")).transpose()?;
            let body = json!({
                "settings": settings(&args)?,
                "client_secret": secret.as_ref().map(ExposeSecret::expose_secret),
            });
            let path = format!("/identity-providers/{}", escaped(&args.name));
            let value = client.send(Method::PUT, &path, body).await?;
            if global.json {
                return print_json(&value);
            }
            let one: IdentityOut = read(value)?;
            facts(&[("name", one.name), ("issuer", one.issuer), ("redirect URI", one.callback)])
        }
        IdentityCommand::List => {
            let value = client.get("/identity-providers").await?;
            if global.json {
                return print_json(&value);
            }
            let page: Page<IdentityOut> = read(value)?;
            if page.items.is_empty() {
                return print("There are no identity providers.\n");
            }
            let row = |one: &IdentityOut| {
                let disabled = if one.disabled { "disabled".into() } else { String::new() };
                vec![one.name.clone(), one.issuer.clone(), one.client_id.clone(), one.callback.clone(), disabled]
            };
            table(&["NAME", "ISSUER", "CLIENT", "REDIRECT URI", ""], &page.items.iter().map(row).collect::<Vec<_>>())
        }
        IdentityCommand::Remove { name } => {
            client.delete(&format!("/identity-providers/{}", escaped(&name))).await?;
            done(global, &format!("identity provider {name} removed"))
        }
    }
}

fn settings(args: &IdentityArgs) -> Result<Value, Fault> {
    let mapped = |text: &String| {
        let wrong = || Fault::Usage(format!("{text} is not VALUE=ROLE with viewer, operator or administrator"));
        let (value, role) = text.rsplit_once('=').ok_or_else(wrong)?;
        let role = Role::from_str(role, false).map_err(|_| wrong())?;
        Ok(json!({ "value": value, "role": role }))
    };
    let mut body = json!({
        "issuer": args.issuer, "client_id": args.client_id, "claim": args.claim, "allow": args.allow,
        "roles": args.map.iter().map(mapped).collect::<Result<Vec<_>, Fault>>()?,
        "disabled": args.disabled,
    });
    if let Some(label) = &args.label {
        body["label"] = label.clone().into();
    }
    if !args.scope.is_empty() {
        body["scopes"] = args.scope.clone().into();
    }
    if let Some(role) = args.default_role {
        body["default_role"] = role.name().into();
    }
    Ok(body)
}
