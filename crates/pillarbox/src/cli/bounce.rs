//! `pillarbox bounce`: kept mail that came back.

use axum::http::Method;
use serde_json::Value;

use super::Fault;
use super::args::Global;
use super::args_bounce::BounceCommand;
use super::client::{Call, Client, Need, escaped, query, read};
use super::output::{json as print_json, print, print_raw, short_time, table};
use crate::http::api::bounces::ReturnedOut;
use crate::http::views::Page;

/// Does what was asked.
pub async fn run(global: &Global, command: BounceCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        BounceCommand::Ls { list, limit, before } => {
            let query = query(&[
                ("list", Some(list.name().to_owned())),
                ("limit", Some(limit.to_string())),
                ("before", before),
            ]);
            let value = client.get(&format!("/bounces{query}")).await?;
            if global.json {
                return print_json(&value);
            }
            let page: Page<ReturnedOut> = read(value)?;
            if page.items.is_empty() {
                return print("Nothing is kept in this list.\n");
            }
            table(&["ID", "RECEIVED", "SOURCE", "ABOUT"], &page.items.iter().map(row).collect::<Vec<_>>())?;
            match page.next {
                Some(next) => print(&format!("More: --before {next}\n")),
                None => Ok(()),
            }
        }
        BounceCommand::Raw { id } => print_raw(&raw(&client, &id).await?),
        BounceCommand::Rm { id, all: _, list } => {
            let path = match id {
                Some(id) => format!("/bounces/{}?list={}", escaped(&id), list.name()),
                None => format!("/bounces?list={}", list.name()),
            };
            let value = client.send(Method::DELETE, &path, Value::Null).await?;
            if global.json { print_json(&value) } else { print("Removed.\n") }
        }
    }
}

/// The octets of a kept mail.
pub async fn raw(client: &Client, id: &str) -> Result<bytes::Bytes, Fault> {
    let path = format!("/bounces/{}/raw", escaped(id));
    let answer = client.call(Call { method: Method::GET, path: &path, headers: Vec::new(), body: None }).await?;
    Ok(answer.body)
}

fn row(mail: &ReturnedOut) -> Vec<String> {
    let text = |name: &str| mail.about.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let reports = mail.about.get("reports").and_then(Value::as_array);
    let about = match reports.and_then(|reports| reports.first()) {
        Some(first) => {
            let of = |name: &str| first.get(name).and_then(Value::as_str).unwrap_or_default();
            let domain = first.pointer("/domains/0").and_then(Value::as_str).unwrap_or_default();
            format!("{} report of {} about {domain}", of("kind"), of("organization"))
        }
        None => {
            [text("why"), text("subject")].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ")
        }
    };
    vec![mail.id.clone(), short_time(&mail.received), mail.source.clone(), about.chars().take(100).collect()]
}
