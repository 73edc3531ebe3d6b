//! `pillarbox arrival`.

use std::io::Read as _;
use std::time::Duration;

use anyhow::Context;
use axum::http::Method;
use serde_json::{Value, json};

use super::Fault;
use super::args::Global;
use super::args_arrival::{ArrivalCommand, SendOptions};
use super::client::{Client, Need, escaped, query, read};
use super::output::{clean, facts, json as print_json, print, short_time, table};
use crate::arrival::ArrivalState;
use crate::http::api::arrivals::ArrivalOut;
use crate::http::views::Page;

/// How often is asked while waiting.
const EVERY: Duration = Duration::from_secs(1);
/// Largest header that is read.
const MOST: u64 = 512 << 10;

/// Does what was asked.
pub async fn run(global: &Global, command: ArrivalCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let need = if matches!(command, ArrivalCommand::Send(_)) { Need::Server } else { Need::Store };
    let client = Client::find(global, &loaded, need).await?;
    match command {
        ArrivalCommand::Send(options) => send(global, &client, &options).await,
        ArrivalCommand::Ls { state, limit } => {
            let value = client
                .get(&format!("/arrivals{}", query(&[("state", state), ("limit", Some(limit.to_string()))])))
                .await?;
            if global.json {
                return print_json(&value);
            }
            let page: Page<ArrivalOut> = read(value)?;
            if page.items.is_empty() {
                return print("No test mail was sent.\n");
            }
            let heads = ["ID", "SENT", "ROUTE", "TO", "STATE", "FOLDER", "DELAY", "PROBLEM"];
            table(&heads, &page.items.iter().map(row).collect::<Vec<_>>())
        }
        ArrivalCommand::Show { id } => {
            let value = client.get(&format!("/arrivals/{}", escaped(&id))).await?;
            told(global, value)
        }
        ArrivalCommand::Confirm { file } => {
            let header = header(&file)?;
            let value = client.send(Method::POST, "/arrivals/confirm", json!({ "header": header })).await?;
            told(global, value)
        }
    }
}

fn header(file: &str) -> Result<String, Fault> {
    let mut octets = Vec::new();
    let outcome = match file {
        "-" => std::io::stdin().lock().take(MOST).read_to_end(&mut octets),
        path => std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut octets)),
    };
    outcome.with_context(|| format!("cannot read {file}")).map_err(Fault::cannot)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

async fn send(global: &Global, client: &Client, options: &SendOptions) -> Result<(), Fault> {
    let wanted = json!({
        "route": options.route,
        "to": options.to,
        "from": options.from,
        "mailbox": options.mailbox,
        "within_s": options.within.as_secs(),
    });
    let value = client.send(Method::POST, "/arrivals", wanted).await?;
    if !options.wait {
        return if global.json { print_json(&value) } else { show(&read(value)?) };
    }
    let first: ArrivalOut = read(value)?;
    if !global.json {
        print(&format!("Test mail {} to {} is queued.\n", first.id, clean(&first.to)))?;
    }
    loop {
        let value = client.get(&format!("/arrivals/{}", first.id)).await?;
        if value["state"] != ArrivalState::Waiting.as_str() {
            return told(global, value);
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = tokio::signal::ctrl_c() => return Err(Fault::cannot(anyhow::anyhow!("interrupted; pillarbox arrival show {}", first.id))),
        }
    }
}

/// Shows one; exit code 1 if it is known not to be well.
fn told(global: &Global, value: Value) -> Result<(), Fault> {
    let one: ArrivalOut = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else {
        show(&one)?;
    }
    let open = one.state == ArrivalState::Waiting.as_str();
    if one.good || open { Ok(()) } else { Err(Fault::Told) }
}

fn folder(one: &ArrivalOut) -> String {
    one.judgement.as_ref().and_then(|found| found.folder.clone()).unwrap_or_default()
}

fn delay(one: &ArrivalOut) -> String {
    one.judgement.as_ref().map(|found| format!("{} s", found.delay_s)).unwrap_or_default()
}

fn row(one: &ArrivalOut) -> Vec<String> {
    vec![
        one.id.clone(),
        short_time(&one.sent),
        one.route.clone(),
        one.to.clone(),
        one.state.clone(),
        folder(one),
        delay(one),
        one.problem.clone().unwrap_or_default().chars().take(80).collect(),
    ]
}

fn show(one: &ArrivalOut) -> Result<(), Fault> {
    let found = one.judgement.as_ref();
    let results = found.map(|found| {
        let result = |one: &crate::arrival::judge::AuthSeen| format!("{} {}", one.method, one.result);
        found.authentication.iter().map(result).collect::<Vec<_>>().join(", ")
    });
    facts(&[
        ("id", one.id.clone()),
        ("state", one.state.clone()),
        ("route", one.route.clone()),
        ("from", one.from.clone()),
        ("to", one.to.clone()),
        ("mailbox", one.mailbox.clone().unwrap_or_default()),
        ("message", one.message.clone().unwrap_or_default()),
        ("token", one.token.clone()),
        ("sent", short_time(&one.sent)),
        ("not later than", short_time(&one.deadline)),
        ("arrived", one.arrived.as_deref().map(short_time).unwrap_or_default()),
        ("delay", delay(one)),
        ("folder", folder(one)),
        ("authentication", results.unwrap_or_default()),
        ("problem", one.problem.clone().unwrap_or_default()),
    ])?;
    let Some(found) = found else { return Ok(()) };
    let mut out = String::new();
    for step in &found.steps {
        let part = |text: &Option<String>| text.as_deref().map(clean).unwrap_or_else(|| "?".into());
        let took = step.delay_s.map(|s| format!(", {s} s")).unwrap_or_default();
        out.push_str(&format!("  {} -> {} ({}{took})\n", part(&step.from), part(&step.by), part(&step.with)));
    }
    for noticed in &found.noticed {
        out.push_str(&format!("{}. {}\n", clean(&noticed.title), clean(&noticed.meaning)));
        for fix in &noticed.fixes {
            out.push_str(&format!("  - {}\n", clean(fix)));
        }
    }
    print(&out)
}
