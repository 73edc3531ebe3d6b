//! `pillarbox capture`.

use axum::http::Method;

use super::Fault;
use super::args::{CaptureCommand, Global};
use super::client::{Call, Client, Need, escaped, query, read};
use super::output::{clean, clean_lines, json as print_json, print, print_raw, short_time, table};
use crate::http::api::captured::CapturedOut;
use crate::http::views::{MessageOut, Page};

/// Does what was asked.
pub async fn run(global: &Global, command: CaptureCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        CaptureCommand::Ls { limit, before } => {
            let query = query(&[("limit", Some(limit.to_string())), ("before", before)]);
            let value = client.get(&format!("/captured{query}")).await?;
            if global.json {
                return print_json(&value);
            }
            let page: Page<MessageOut> = read(value)?;
            if page.items.is_empty() {
                return print("Nothing has been captured.\n");
            }
            table(&["ID", "ACCEPTED", "FROM", "TO", "SUBJECT"], &page.items.iter().map(row).collect::<Vec<_>>())?;
            match page.next {
                Some(next) => print(&format!("More: --before {next}\n")),
                None => Ok(()),
            }
        }
        CaptureCommand::Show { id } => {
            let value = client.get(&format!("/captured/{}", escaped(&id))).await?;
            if global.json { print_json(&value) } else { show(&read(value)?) }
        }
        CaptureCommand::Raw { id } => {
            let path = format!("/captured/{}/raw", escaped(&id));
            let answer =
                client.call(Call { method: Method::GET, path: &path, headers: Vec::new(), body: None }).await?;
            print_raw(&answer.body)
        }
    }
}

fn row(message: &MessageOut) -> Vec<String> {
    let to = message.recipients.first().map(|to| to.address.clone()).unwrap_or_default();
    let to = match message.recipients.len() {
        0 | 1 => to,
        n => format!("{to} +{}", n - 1),
    };
    vec![
        message.id.clone(),
        short_time(&message.accepted),
        message.envelope_from.clone(),
        to,
        message.subject.clone().unwrap_or_default(),
    ]
}

fn show(captured: &CapturedOut) -> Result<(), Fault> {
    let to: Vec<_> = captured.message.recipients.iter().map(|to| to.address.clone()).collect();
    let mut out = format!("envelope: {} -> {}\n\n", clean(&captured.message.envelope_from), clean(&to.join(" ")));
    for field in &captured.headers {
        out.push_str(&format!("{}: {}\n", clean(&field.name), clean(&field.value)));
    }
    if let Some(text) = captured.text.as_ref().or(captured.html.as_ref()) {
        out.push_str(&format!("\n{}\n", clean_lines(text)));
    }
    for one in &captured.attachments {
        let name = one.filename.as_deref().unwrap_or("(no name)");
        let kind = one.content_type.as_deref().unwrap_or("application/octet-stream");
        out.push_str(&format!("\nattachment: {} ({}, {} octets)\n", clean(name), clean(kind), one.size));
    }
    print(&out)
}
