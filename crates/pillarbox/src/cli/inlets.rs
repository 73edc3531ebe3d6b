//! `pillarbox provider-events`.

use axum::http::Method;
use secrecy::ExposeSecret;
use serde_json::{Map, Value};

use super::Fault;
use super::args::Global;
use super::args_inlet::{InletCommand, InletOptions};
use super::client::{Client, Need, escaped, read};
use super::output::{clean, json as print_json, print, short_time, table};
use super::secret;
use crate::http::api::inlets::InletOut;
use crate::http::views::Page;

/// Does what was asked.
pub async fn run(global: &Global, command: InletCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    let path = |name: &str| format!("/provider-events/{}", escaped(name));
    let value = match command {
        InletCommand::Ls => {
            let value = client.get("/provider-events").await?;
            if global.json {
                return print_json(&value);
            }
            let page: Page<InletOut> = read(value)?;
            if page.items.is_empty() {
                return print("No provider tells of events.\n");
            }
            return table(
                &["NAME", "PROVIDER", "PATH", "STATE", "CHANGED"],
                &page.items.iter().map(row).collect::<Vec<_>>(),
            );
        }
        InletCommand::Add { name, provider, options } => {
            let mut body = fields(&options)?;
            body.insert("name".into(), name.into());
            body.insert("provider".into(), provider.into());
            client.send(Method::POST, "/provider-events", Value::Object(body)).await?
        }
        InletCommand::Set { name, options } => {
            client.send(Method::PATCH, &path(&name), Value::Object(fields(&options)?)).await?
        }
        InletCommand::Rm { name } => {
            let value = client.send(Method::DELETE, &path(&name), Value::Null).await?;
            return if global.json { print_json(&value) } else { print("Removed.\n") };
        }
    };
    if global.json {
        return print_json(&value);
    }
    let one: InletOut = read(value)?;
    print(&format!(
        "Let {} send its events to {} at the address that leads here.\n",
        clean(one.settings.provider.name()),
        clean(&one.path)
    ))
}

fn fields(options: &InletOptions) -> Result<Map<String, Value>, Fault> {
    let mut body = Map::new();
    for (name, value) in [("topic", &options.topic), ("username", &options.username)] {
        if let Some(value) = value {
            body.insert(name.into(), value.clone().into());
        }
    }
    if let Some(disabled) = options.disabled {
        body.insert("disabled".into(), disabled.into());
    }
    if let Some(source) = &options.secret_from {
        let secret = secret::read(source, "Secret")?;
        body.insert("secret".into(), secret.expose_secret().into());
    }
    Ok(body)
}

fn row(one: &InletOut) -> Vec<String> {
    let state = if one.settings.disabled { "disabled" } else { "on" };
    vec![
        one.name.clone(),
        one.settings.provider.name().into(),
        one.path.clone(),
        state.into(),
        short_time(&one.updated),
    ]
}
