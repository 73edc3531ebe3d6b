//! `pillarbox webhook`.

use axum::http::Method;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::Fault;
use super::args::Global;
use super::args_settings::Source;
use super::args_webhook::{WebhookClear, WebhookCommand, WebhookOptions};
use super::client::{Client, Need, escaped, query, read};
use super::output::{clean, facts, json as print_json, plural, print, short_time, table};
use super::secret;
use crate::http::api::webhooks::{DeliveryOut, TestOut, WebhookOut};
use crate::http::views::Page;
use crate::webhook::Ended;
use crate::webhook::post::Answer;

/// Does what was asked.
pub async fn run(global: &Global, command: WebhookCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        WebhookCommand::Add { name, url, options, since, secret_from } => {
            let mut body = fields(&options);
            body.insert("name".into(), name.into());
            body.insert("url".into(), url.into());
            if let Some(since) = since {
                body.insert("since".into(), since.into());
            }
            add_secret(&mut body, secret_from.as_ref())?;
            show(global, client.send(Method::POST, "/webhooks", Value::Object(body)).await?)
        }
        WebhookCommand::Ls => list(global, client.get("/webhooks").await?),
        WebhookCommand::Show { name } => show(global, client.get(&path(&name)).await?),
        WebhookCommand::Set { name, url, options, clear } => {
            let mut patch = fields(&options);
            if let Some(url) = url {
                patch.insert("url".into(), url.into());
            }
            for one in &clear {
                patch.insert(cleared(*one).into(), Value::Null);
            }
            if patch.is_empty() {
                return Err(Fault::Usage("nothing to change; see `pillarbox webhook set --help`".into()));
            }
            show(global, client.send(Method::PATCH, &path(&name), Value::Object(patch)).await?)
        }
        WebhookCommand::Rm { name } => {
            client.delete(&path(&name)).await?;
            done(global, &format!("webhook {name} removed"))
        }
        WebhookCommand::Test { name } => {
            test(global, client.send(Method::POST, &format!("{}/test", path(&name)), json!({})).await?)
        }
        WebhookCommand::Replay { name, since } => {
            let body = json!({ "since": since });
            show(global, client.send(Method::POST, &format!("{}/replay", path(&name)), body).await?)
        }
        WebhookCommand::Deliveries { name, failed, after, limit } => {
            let failed = failed.then(|| "true".to_owned());
            let after = after.map(|after| after.to_string());
            let query = query(&[("failed", failed), ("after", after), ("limit", Some(limit.to_string()))]);
            deliveries(global, client.get(&format!("{}/deliveries{query}", path(&name))).await?)
        }
        WebhookCommand::Resume { name } => {
            show(global, client.send(Method::POST, &format!("{}/resume", path(&name)), json!({})).await?)
        }
        WebhookCommand::RotateSecret { name, overlap_hours, secret_from } => {
            let mut body = Map::new();
            body.insert("overlap_hours".into(), overlap_hours.into());
            add_secret(&mut body, secret_from.as_ref())?;
            let path = format!("{}/rotate-secret", path(&name));
            show(global, client.send(Method::POST, &path, Value::Object(body)).await?)
        }
    }
}

fn path(name: &str) -> String {
    format!("/webhooks/{}", escaped(name))
}

fn add_secret(body: &mut Map<String, Value>, from: Option<&Source>) -> Result<(), Fault> {
    if let Some(from) = from {
        let secret = secret::read(from, "Signing secret")?;
        body.insert("secret".into(), secret.expose_secret().into());
    }
    Ok(())
}

fn cleared(what: WebhookClear) -> &'static str {
    match what {
        WebhookClear::Events => "events",
        WebhookClear::Streams => "streams",
        WebhookClear::Senders => "senders",
        WebhookClear::Networks => "networks",
        WebhookClear::Timeout => "timeout",
    }
}

fn fields(options: &WebhookOptions) -> Map<String, Value> {
    let mut body = Map::new();
    // `failed` is what people type; only messages have short names.
    let full = |event: &String| if event.contains('.') { event.clone() } else { format!("message.{event}") };
    let events: Vec<String> = options.event.iter().map(full).collect();
    for (name, list) in [
        ("events", &events),
        ("streams", &options.stream),
        ("senders", &options.sender),
        ("networks", &options.network),
    ] {
        if !list.is_empty() {
            body.insert(name.into(), list.clone().into());
        }
    }
    if let Some(timeout) = options.timeout {
        body.insert("timeout".into(), timeout.into());
    }
    for (name, flag) in [("allow_http", options.allow_http), ("disabled", options.disabled)] {
        if let Some(flag) = flag {
            body.insert(name.into(), flag.into());
        }
    }
    body
}

fn done(global: &Global, text: &str) -> Result<(), Fault> {
    if global.json { print_json(&json!({ "done": text })) } else { print(&format!("{}\n", clean(text))) }
}

fn list(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let page: Page<WebhookOut> = read(value)?;
    let row = |one: &WebhookOut| {
        let since = one.since.as_deref().map_or_else(String::new, |since| format!(" since {}", short_time(since)));
        vec![
            one.name.clone(),
            format!("{}{since}", one.status),
            one.waiting.to_string(),
            one.behind.to_string(),
            one.last_taken.as_deref().map_or_else(|| "never".into(), short_time),
            one.url.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = page.items.iter().map(row).collect();
    table(&["NAME", "STATUS", "WAITING", "BEHIND", "LAST TAKEN", "URL"], &rows)
}

fn show(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let one: WebhookOut = read(value)?;
    let or_all = |list: Vec<String>| if list.is_empty() { "all".to_owned() } else { list.join(" ") };
    let time = |time: &Option<String>| time.as_deref().map(short_time).unwrap_or_default();
    facts(&[
        ("name", one.name.clone()),
        ("URL", one.url.clone()),
        ("status", one.status.clone()),
        ("since", time(&one.since)),
        ("reason", one.reason.clone().unwrap_or_default()),
        ("next attempt", time(&one.next)),
        ("events", or_all(one.events.iter().map(|event| event.as_str().to_owned()).collect())),
        ("streams", or_all(one.streams.clone())),
        ("senders", or_all(one.senders.clone())),
        ("private networks", one.networks.join(" ")),
        ("timeout", plural(u64::from(one.timeout), "second")),
        ("waiting", one.waiting.to_string()),
        ("behind", plural(one.behind.unsigned_abs(), "event")),
        ("last taken", time(&one.last_taken)),
        ("old secret until", time(&one.old_secret_until)),
        ("changed", short_time(&one.updated)),
    ])?;
    match one.new_secret {
        Some(secret) => print(&format!("\nSigning secret, shown once, keep it now:\n{}\n", clean(&secret))),
        None => Ok(()),
    }
}

/// Prints an answer, line by line.
fn answer(answer: &Answer, more: &[(&str, String)]) -> Result<(), Fault> {
    let mut pairs: Vec<(&str, String)> = more.to_vec();
    pairs.extend([
        ("status", answer.status.map(|status| status.to_string()).unwrap_or_default()),
        ("problem", answer.problem.clone()),
        ("what to do", answer.advice.clone().unwrap_or_default()),
        ("peer", answer.peer.clone().unwrap_or_default()),
        ("took", format!("{} ms", answer.took_ms)),
        ("answer", answer.body.clone()),
    ]);
    facts(&pairs)
}

fn test(global: &Global, value: Value) -> Result<(), Fault> {
    let found: TestOut = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else {
        let result = if found.taken { "taken" } else { "not taken" };
        answer(&found.answer, &[("result", result.into()), ("event", found.event.clone())])?;
    }
    if found.taken { Ok(()) } else { Err(Fault::Told) }
}

fn deliveries(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let page: Page<DeliveryOut> = read(value)?;
    let row = |one: &DeliveryOut| {
        let delivery = &one.delivery;
        let said = delivery.answer.as_ref();
        let result = match delivery.result {
            Ended::Taken => "taken".to_owned(),
            Ended::Again => {
                delivery.next.as_deref().map_or_else(|| "again".into(), |next| format!("again {}", short_time(next)))
            }
            Ended::GivenUp => "given up".to_owned(),
        };
        vec![
            one.id.to_string(),
            short_time(&one.at),
            delivery.kind.clone(),
            delivery.address.clone(),
            delivery.attempt.to_string(),
            said.and_then(|said| said.status).map(|status| status.to_string()).unwrap_or_default(),
            result,
            said.map(|said| said.problem.clone()).unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = page.items.iter().map(row).collect();
    table(&["ID", "AT", "EVENT", "ADDRESS", "ATTEMPT", "STATUS", "RESULT", "PROBLEM"], &rows)?;
    match page.next {
        Some(next) => print(&format!("more: --after {next}\n")),
        None => Ok(()),
    }
}
