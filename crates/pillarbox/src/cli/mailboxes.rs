//! `pillarbox mailbox`.

use axum::http::Method;
use secrecy::ExposeSecret;
use serde_json::{Map, Value};

use super::Fault;
use super::args::Global;
use super::args_mailbox::{MailboxCommand, MailboxOptions};
use super::client::{Client, Need, escaped, read};
use super::output::{facts, json as print_json, print, short_time, table};
use super::{route_oauth, secret};
use crate::http::api::mailboxes::MailboxOut;
use crate::http::views::Page;

/// Does what was asked.
pub async fn run(global: &Global, command: MailboxCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    let path = |name: &str| format!("/mailboxes/{}", escaped(name));
    match command {
        MailboxCommand::Ls => {
            let value = client.get("/mailboxes").await?;
            if global.json {
                return print_json(&value);
            }
            let page: Page<MailboxOut> = read(value)?;
            if page.items.is_empty() {
                return print("No mailbox is polled.\n");
            }
            let heads = ["NAME", "STATE", "LOOKED", "TAKEN", "HOST", "USER", "ERROR"];
            table(&heads, &page.items.iter().map(row).collect::<Vec<_>>())
        }
        MailboxCommand::Show { name } => {
            let value = client.get(&path(&name)).await?;
            if global.json { print_json(&value) } else { show(&read(value)?) }
        }
        MailboxCommand::Add { name, options } => {
            let mut body = fields(&options)?;
            body.insert("name".into(), name.into());
            let value = client.send(Method::POST, "/mailboxes", Value::Object(body)).await?;
            if global.json { print_json(&value) } else { show(&read(value)?) }
        }
        MailboxCommand::Set { name, options } => {
            let value = client.send(Method::PATCH, &path(&name), Value::Object(fields(&options)?)).await?;
            if global.json { print_json(&value) } else { show(&read(value)?) }
        }
        MailboxCommand::Rm { name } => {
            let value = client.send(Method::DELETE, &path(&name), Value::Null).await?;
            if global.json { print_json(&value) } else { print("Removed.\n") }
        }
    }
}

fn fields(options: &MailboxOptions) -> Result<Map<String, Value>, Fault> {
    let mut body = Map::new();
    route_oauth::fields(&options.oauth, &mut body)?;
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.into(), value);
        }
    };
    for (name, value) in [
        ("host", &options.host),
        ("tls", &options.tls),
        ("ca_file", &options.ca_file),
        ("username", &options.username),
        ("folder", &options.folder),
        ("after", &options.after),
        ("move_to", &options.move_to),
        ("first", &options.first),
    ] {
        put(name, value.clone().map(Into::into));
    }
    put("port", options.port.map(Into::into));
    put("poll_s", options.poll.map(Into::into));
    put("idle", options.idle.map(Into::into));
    put("disabled", options.disabled.map(Into::into));
    if let Some(source) = &options.password_from {
        let password = secret::read(source, "Password of the mailbox")?;
        put("password", Some(password.expose_secret().into()));
    }
    Ok(body)
}

fn row(one: &MailboxOut) -> Vec<String> {
    let state = one.state.clone().unwrap_or_default();
    vec![
        one.name.clone(),
        state.state,
        one.looked.as_deref().map(short_time).unwrap_or_default(),
        state.taken.to_string(),
        one.settings.host.clone(),
        one.settings.username.clone(),
        state.error.unwrap_or_default().chars().take(80).collect(),
    ]
}

fn show(one: &MailboxOut) -> Result<(), Fault> {
    let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
    let settings = &one.settings;
    let state = one.state.clone().unwrap_or_default();
    facts(&[
        ("name", one.name.clone()),
        ("server", format!("{}:{}", settings.host, settings.port())),
        ("TLS", word(serde_json::to_value(settings.tls).unwrap_or_default())),
        ("user", settings.username.clone()),
        ("secrets", one.secrets.join(" ")),
        ("folder", settings.folder().to_owned()),
        ("after", word(serde_json::to_value(settings.after).unwrap_or_default())),
        ("moved to", settings.move_to.clone().unwrap_or_default()),
        ("state", state.state),
        ("looked", one.looked.as_deref().map(short_time).unwrap_or_default()),
        ("taken", state.taken.to_string()),
        ("error", state.error.unwrap_or_default()),
        ("changed", short_time(&one.updated)),
    ])
}
