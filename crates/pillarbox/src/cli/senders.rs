//! `pillarbox sender`.

use axum::http::Method;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::Fault;
use super::args::Global;
use super::args_settings::{KeyCommand, SenderClear, SenderCommand, SenderOptions, Source};
use super::client::{Client, Need, escaped, read};
use super::output::{clean, facts, json as print_json, plural, print, short_time, table};
use super::secret;
use crate::config::values::{show_size, size};
use crate::http::api::senders::SenderOut;
use crate::http::views::Page;
use crate::volume::on_pause_word;

/// Does what was asked.
pub async fn run(global: &Global, command: SenderCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        SenderCommand::Add { name, options, password_from, no_password, api_key } => {
            let password = password_from.as_ref().map(|from| secret::read(from, "Password")).transpose()?;
            let mut body = fields(&options)?;
            if options.allow_from.is_empty() {
                return Err(Fault::Usage("name what the sender may use: --allow-from example.com, or '*'".into()));
            }
            let make = match (password.is_none() && !no_password, api_key) {
                (true, true) => "both",
                (true, false) => "password",
                (false, true) => "key",
                (false, false) => "none",
            };
            body.insert("name".into(), name.into());
            body.insert("make".into(), make.into());
            if let Some(password) = &password {
                body.insert("password".into(), password.expose_secret().into());
            }
            let value = client.send(Method::POST, "/senders", Value::Object(body)).await?;
            made(global, value)
        }
        SenderCommand::Ls => list(global, client.get("/senders").await?),
        SenderCommand::Show { name } => show(global, client.get(&path(&name)).await?),
        SenderCommand::Set { name, options, clear } => {
            let mut patch = fields(&options)?;
            for one in &clear {
                patch.insert(cleared(*one).into(), Value::Null);
            }
            if patch.is_empty() {
                return Err(Fault::Usage("nothing to change; see `pillarbox sender set --help`".into()));
            }
            show(global, client.send(Method::PATCH, &path(&name), Value::Object(patch)).await?)
        }
        SenderCommand::Remove { name } => {
            client.delete(&path(&name)).await?;
            done(global, &format!("sender {name} removed"))
        }
        SenderCommand::Password { name, from, remove } => password(global, &client, &name, from, remove).await,
        SenderCommand::Pause { name, why, new_mail } => {
            let body = json!({ "why": why, "new_mail": new_mail.as_str() });
            show(global, client.send(Method::POST, &format!("{}/pause", path(&name)), body).await?)
        }
        SenderCommand::Resume { name, false_alarm } => {
            let body = json!({ "false_alarm": false_alarm });
            show(global, client.send(Method::POST, &format!("{}/resume", path(&name)), body).await?)
        }
        SenderCommand::Key(KeyCommand::Add { name }) => {
            made(global, client.send(Method::POST, &format!("{}/keys", path(&name)), json!({})).await?)
        }
        SenderCommand::Key(KeyCommand::Revoke { name, prefix }) => {
            client.delete(&format!("{}/keys/{}", path(&name), escaped(&prefix))).await?;
            done(global, &format!("API key {prefix} revoked"))
        }
    }
}

fn path(name: &str) -> String {
    format!("/senders/{}", escaped(name))
}

async fn password(
    global: &Global,
    client: &Client,
    name: &str,
    from: Option<Source>,
    remove: bool,
) -> Result<(), Fault> {
    let path = format!("{}/password", path(name));
    if remove {
        client.delete(&path).await?;
        return done(global, &format!("password of {name} removed"));
    }
    let password = from.as_ref().map(|from| secret::read(from, "New password")).transpose()?;
    let body = json!({ "password": password.as_ref().map(ExposeSecret::expose_secret) });
    made(global, client.send(Method::PUT, &path, body).await?)
}

fn cleared(what: SenderClear) -> &'static str {
    match what {
        SenderClear::Network => "networks",
        SenderClear::TrustAddress => "trusted_addresses",
        SenderClear::Rate => "messages_per_minute",
        SenderClear::MaxSize => "max_size",
        SenderClear::Stream => "stream",
        SenderClear::PauseOnSpike => "pause_on_spike",
    }
}

fn fields(options: &SenderOptions) -> Result<Map<String, Value>, Fault> {
    let mut body = Map::new();
    for (name, list) in [
        ("allowed_from", &options.allow_from),
        ("networks", &options.network),
        ("trusted_addresses", &options.trust_address),
    ] {
        if !list.is_empty() {
            body.insert(name.into(), list.clone().into());
        }
    }
    if let Some(rate) = options.rate {
        body.insert("messages_per_minute".into(), rate.into());
    }
    if let Some(text) = &options.max_size {
        let octets = size(text).ok_or_else(|| Fault::Usage(format!("{text} is not a size such as 10MiB")))?;
        body.insert("max_size".into(), octets.into());
    }
    if let Some(stream) = &options.stream {
        body.insert("stream".into(), stream.clone().into());
    }
    if let Some(on_pause) = options.pause_on_spike {
        body.insert("pause_on_spike".into(), on_pause.as_str().into());
    }
    for (name, flag) in [("admin", options.admin), ("disabled", options.disabled)] {
        if let Some(flag) = flag {
            body.insert(name.into(), flag.into());
        }
    }
    Ok(body)
}

fn done(global: &Global, text: &str) -> Result<(), Fault> {
    if global.json { print_json(&json!({ "done": text })) } else { print(&format!("{}\n", clean(text))) }
}

fn list(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let page: Page<SenderOut> = read(value)?;
    let row = |one: &SenderOut| {
        let how = [
            one.has_password.then(|| "password".to_owned()),
            (!one.api_keys.is_empty()).then(|| plural(one.api_keys.len() as u64, "key")),
            (!one.trusted_addresses.is_empty()).then(|| "address".to_owned()),
        ];
        let how = how.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let paused = one.paused.is_some().then_some("paused");
        let state = [one.disabled.then_some("disabled"), paused, one.admin.then_some("admin")];
        vec![
            one.name.clone(),
            how,
            one.allowed_from.join(" "),
            state.into_iter().flatten().collect::<Vec<_>>().join(" "),
        ]
    };
    table(&["NAME", "BY", "MAY USE", ""], &page.items.iter().map(row).collect::<Vec<_>>())
}

fn show(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let one: SenderOut = read(value)?;
    let keys = one.api_keys.iter().map(|key| format!("{} ({})", key.prefix, short_time(&key.created)));
    facts(&[
        ("name", one.name.clone()),
        ("may use", one.allowed_from.join(" ")),
        ("password", if one.has_password { "set".into() } else { "none".into() }),
        ("API keys", keys.collect::<Vec<_>>().join(", ")),
        ("trusted addresses", one.trusted_addresses.join(" ")),
        ("networks", one.networks.join(" ")),
        ("messages a minute", one.messages_per_minute.map(|n| n.to_string()).unwrap_or_default()),
        ("largest message", one.max_size.map(show_size).unwrap_or_default()),
        ("stream", one.stream.clone().unwrap_or_default()),
        ("admin", if one.admin { "yes".into() } else { String::new() }),
        (
            "pause on a spike",
            one.pause_on_spike.map(|on| format!("{} new mail", on_pause_word(on))).unwrap_or_default(),
        ),
        (
            "paused",
            one.paused
                .as_ref()
                .map(|paused| {
                    format!(
                        "since {}: {}; new mail: {}",
                        short_time(&paused.since),
                        paused.why,
                        on_pause_word(paused.new_mail)
                    )
                })
                .unwrap_or_default(),
        ),
        ("disabled", if one.disabled { "yes".into() } else { String::new() }),
        ("changed", short_time(&one.updated)),
    ])
}

/// Shows what was made; secrets once.
fn made(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let one: SenderOut = read(value.clone())?;
    show(global, value)?;
    if one.new_password.is_some() || one.new_api_key.is_some() {
        print("\nShown once, keep it now:\n")?;
    }
    facts(&[
        ("user name", one.new_password.as_ref().map(|_| one.name.clone()).unwrap_or_default()),
        ("password", one.new_password.unwrap_or_default()),
        ("API key", one.new_api_key.unwrap_or_default()),
    ])
}
