//! `pillarbox alert`: what is raised, channels, and what is set for kinds of alerts.

use axum::http::Method;
use clap::ValueEnum;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::Fault;
use super::alerts_view as view;
use super::args::Global;
use super::args_alert::{AlertCommand, AlertRuleCommand, ChannelClear, ChannelCommand, ChannelOptions};
use super::client::{Client, Need, escaped, query};
use super::secret;

/// Does what was asked.
pub async fn run(global: &Global, command: AlertCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        AlertCommand::Ls { all, since, before, limit } => {
            let query = query(&[
                ("all", all.then(|| "true".to_owned())),
                ("since", since),
                ("before", before),
                ("limit", Some(limit.to_string())),
            ]);
            view::list(global, client.get(&format!("/alerts{query}")).await?)
        }
        AlertCommand::Show { id } => view::show(global, client.get(&format!("/alerts/{}", escaped(&id))).await?),
        AlertCommand::Ack { id, note } => {
            let path = format!("/alerts/{}/ack", escaped(&id));
            view::show(global, client.send(Method::POST, &path, json!({ "note": note })).await?)
        }
        AlertCommand::Close { id, note } => {
            let path = format!("/alerts/{}/close", escaped(&id));
            view::show(global, client.send(Method::POST, &path, json!({ "note": note })).await?)
        }
        AlertCommand::Channel(command) => channel(global, &client, command).await,
        AlertCommand::Rule(command) => rule(global, &client, command).await,
    }
}

fn path(name: &str) -> String {
    format!("/alert-channels/{}", escaped(name))
}

async fn channel(global: &Global, client: &Client, command: ChannelCommand) -> Result<(), Fault> {
    match command {
        ChannelCommand::Add { name, kind, options } => {
            let mut body = fields(&options)?;
            body.insert("name".into(), name.into());
            body.insert("kind".into(), word(kind).into());
            view::channel(global, client.send(Method::POST, "/alert-channels", Value::Object(body)).await?)
        }
        ChannelCommand::Ls => view::channels(global, client.get("/alert-channels").await?),
        ChannelCommand::Show { name } => view::channel(global, client.get(&path(&name)).await?),
        ChannelCommand::Set { name, options, clear } => {
            let mut patch = fields(&options)?;
            for one in &clear {
                patch.insert(cleared(*one).into(), Value::Null);
            }
            if patch.is_empty() {
                return Err(Fault::Usage("nothing to change; see `pillarbox alert channel set --help`".into()));
            }
            view::channel(global, client.send(Method::PATCH, &path(&name), Value::Object(patch)).await?)
        }
        ChannelCommand::Test { name } => {
            view::test(global, client.send(Method::POST, &format!("{}/test", path(&name)), json!({})).await?)
        }
        ChannelCommand::Remove { name } => {
            client.delete(&path(&name)).await?;
            view::done(global, &format!("channel {name} removed"))
        }
    }
}

async fn rule(global: &Global, client: &Client, command: AlertRuleCommand) -> Result<(), Fault> {
    let path = |name: &str| format!("/alert-rules/{}", escaped(name));
    match command {
        AlertRuleCommand::Ls => view::rules(global, client.get("/alert-rules").await?),
        AlertRuleCommand::Set { name, off, severity, threshold, channel, escalate_min } => {
            let mut patch = Map::new();
            put(&mut patch, "off", off);
            put(&mut patch, "severity", severity.map(word));
            put(&mut patch, "threshold", threshold);
            put(&mut patch, "escalate_min", escalate_min);
            put_list(&mut patch, "channels", &channel);
            if patch.is_empty() {
                return Err(Fault::Usage("nothing to change; see `pillarbox alert rule set --help`".into()));
            }
            view::rule(global, client.send(Method::PATCH, &path(&name), Value::Object(patch)).await?)
        }
        AlertRuleCommand::Reset { name } => {
            client.delete(&path(&name)).await?;
            view::done(global, &format!("alert rule {name} is as usual"))
        }
    }
}

/// A value as it is typed.
fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn put(body: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body.insert(name.into(), value.into());
    }
}

fn put_list(body: &mut Map<String, Value>, name: &str, list: &[String]) {
    if !list.is_empty() {
        body.insert(name.into(), list.to_vec().into());
    }
}

fn cleared(what: ChannelClear) -> &'static str {
    match what {
        ChannelClear::SmartHost => "smart_host",
        ChannelClear::Routes => "routes",
        ChannelClear::Rules => "rules",
        ChannelClear::Networks => "networks",
        ChannelClear::Quiet => "quiet",
        ChannelClear::Interval => "interval_s",
        ChannelClear::PerHour => "per_hour",
        ChannelClear::Secret => "secret",
    }
}

fn fields(options: &ChannelOptions) -> Result<Map<String, Value>, Fault> {
    let mut body = Map::new();
    put(&mut body, "url", options.url.clone());
    put(&mut body, "from", options.from.clone());
    put(&mut body, "server", options.syslog.clone());
    put(&mut body, "facility", options.facility);
    put(&mut body, "timeout", options.timeout);
    put(&mut body, "step", options.step);
    put(&mut body, "severity", options.severity.map(word));
    put(&mut body, "group_s", options.group);
    put(&mut body, "interval_s", options.interval);
    put(&mut body, "per_hour", options.per_hour);
    put(&mut body, "allow_http", options.allow_http);
    put(&mut body, "report", options.report);
    put(&mut body, "resolved", options.resolved);
    put(&mut body, "disabled", options.disabled);
    put_list(&mut body, "networks", &options.network);
    put_list(&mut body, "to", &options.to);
    put_list(&mut body, "routes", &options.route);
    put_list(&mut body, "command", &options.command);
    put_list(&mut body, "rules", &options.rule);
    put(&mut body, "smart_host", smart_host(options)?);
    put(&mut body, "quiet", quiet(options)?);
    if let Some(from) = &options.secret_from {
        body.insert("secret".into(), secret::read(from, "Secret")?.expose_secret().into());
    }
    Ok(body)
}

fn smart_host(options: &ChannelOptions) -> Result<Option<Value>, Fault> {
    let Some(text) = &options.smart_host else { return Ok(None) };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            let port: u16 = port.parse().map_err(|_| Fault::Usage(format!("{port} is no port")))?;
            (host, Some(port))
        }
        _ => (text.as_str(), None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut body = Map::new();
    body.insert("host".into(), host.into());
    put(&mut body, "port", port);
    put(&mut body, "tls", options.tls.map(word));
    put(&mut body, "username", options.username.clone());
    put(&mut body, "ca_file", options.ca_file.clone());
    Ok(Some(Value::Object(body)))
}

fn quiet(options: &ChannelOptions) -> Result<Option<Value>, Fault> {
    let Some(text) = &options.quiet else { return Ok(None) };
    let (from, to) = text.split_once('-').ok_or_else(|| Fault::Usage("quiet hours are as 22:00-07:00".into()))?;
    let mut body = Map::new();
    body.insert("from".into(), from.trim().into());
    body.insert("to".into(), to.trim().into());
    put_list(&mut body, "days", &options.quiet_day);
    put(&mut body, "zone", options.zone.clone());
    Ok(Some(Value::Object(body)))
}
