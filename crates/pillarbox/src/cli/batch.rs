//! `pillarbox batch`: looking at batches and changing them. Sending one is in the file beside.

use std::time::Duration;

use axum::http::Method;
use serde_json::json;

use super::Fault;
use super::args::Global;
use super::args_batch::BatchCommand;
use super::batch_bar::Bar;
use super::batch_send;
use super::client::{Client, Need, escaped, query, read};
use super::output::{facts, json as print_json, print, short_time, table};
use crate::http::views::Page;
use crate::http::views_batch::{BatchOut, RowOut};

/// Between two looks at a batch that is followed.
const LOOK: Duration = Duration::from_millis(500);
/// States of rows that are still on their way.
const OPEN: [&str; 4] = ["queued", "waiting", "leased", "held"];

/// Does what was asked.
pub async fn run(global: &Global, command: BatchCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let need = if matches!(command, BatchCommand::Send(_)) { Need::Server } else { Need::Store };
    let client = Client::find(global, &loaded, need).await?;
    match command {
        BatchCommand::Send(args) => batch_send::run(global, &client, *args).await,
        BatchCommand::Ls { sender, limit, before } => list(global, &client, sender, limit, before).await,
        BatchCommand::Show { id, follow: true } => follow(global, &client, &id).await,
        BatchCommand::Show { id, follow: false } => show(global, look(&client, &id).await?),
        BatchCommand::Pause { id } => change(global, &client, &id, "pause").await,
        BatchCommand::Resume { id } => change(global, &client, &id, "resume").await,
        BatchCommand::Cancel { id } => change(global, &client, &id, "cancel").await,
        BatchCommand::Rows { id, state, limit, after } => rows(global, &client, &id, (state, limit, after)).await,
    }
}

async fn list(
    global: &Global,
    client: &Client,
    sender: Option<String>,
    limit: u32,
    before: Option<String>,
) -> Result<(), Fault> {
    let query = query(&[("sender", sender), ("limit", Some(limit.to_string())), ("before", before)]);
    let value = client.get(&format!("/batches{query}")).await?;
    if global.json {
        return print_json(&value);
    }
    let page: Page<BatchOut> = read(value)?;
    if page.items.is_empty() {
        return print("There are no batches.\n");
    }
    let row = |one: &BatchOut| {
        let made = format!("{} of {}", one.made, one.total);
        vec![one.id.clone(), short_time(&one.created), state(one), made, one.sender.clone(), one.name.clone()]
    };
    let rows: Vec<_> = page.items.iter().map(row).collect();
    table(&["ID", "CREATED", "STATE", "MADE", "SENDER", "NAME"], &rows)
}

fn state(batch: &BatchOut) -> String {
    if batch.test { format!("{}, test", batch.state) } else { batch.state.clone() }
}

async fn look(client: &Client, id: &str) -> Result<BatchOut, Fault> {
    read(client.get(&format!("/batches/{}", escaped(id))).await?)
}

fn show(global: &Global, batch: BatchOut) -> Result<(), Fault> {
    if global.json {
        return print_json(&batch);
    }
    facts(&[
        ("id", batch.id.clone()),
        ("name", batch.name.clone()),
        ("state", state(&batch)),
        ("reason", batch.reason.clone().unwrap_or_default()),
        ("sender", batch.sender.clone()),
        ("stream", batch.stream.clone()),
        ("created", short_time(&batch.created)),
        ("starts", if batch.starts == batch.created { String::new() } else { short_time(&batch.starts) }),
        ("spread over", batch.spread_s.map(|seconds| format!("{seconds} s")).unwrap_or_default()),
        ("finished", batch.finished.as_deref().map(short_time).unwrap_or_default()),
        ("rows", batch.total.to_string()),
    ])?;
    let rows = batch.rows.unwrap_or_default();
    let lines: Vec<Vec<String>> = rows.into_iter().map(|(state, count)| vec![state, count.to_string()]).collect();
    print("\n")?;
    table(&["ROWS ARE", "NUMBER"], &lines)
}

/// Waits until no row is on its way any more.
pub async fn follow(global: &Global, client: &Client, id: &str) -> Result<(), Fault> {
    let mut bar = Bar::new("sent");
    loop {
        let batch = look(client, id).await?;
        let rows = batch.rows.as_ref();
        let open: u64 = rows.map_or(0, |rows| OPEN.iter().filter_map(|state| rows.get(*state)).sum());
        let done = u64::from(batch.total).saturating_sub(open);
        bar.show(done, u64::from(batch.total), batch.reason.as_deref());
        if open == 0 && batch.state != "running" {
            bar.end();
            return show(global, batch);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn change(global: &Global, client: &Client, id: &str, wish: &str) -> Result<(), Fault> {
    let value = client.send(Method::POST, &format!("/batches/{}/{wish}", escaped(id)), json!({})).await?;
    show(global, read(value)?)
}

async fn rows(
    global: &Global,
    client: &Client,
    id: &str,
    (state, limit, after): (Option<String>, u32, Option<u32>),
) -> Result<(), Fault> {
    let query =
        query(&[("state", state), ("limit", Some(limit.to_string())), ("after", after.map(|after| after.to_string()))]);
    let value = client.get(&format!("/batches/{}/rows{query}", escaped(id))).await?;
    if global.json {
        return print_json(&value);
    }
    let page: Page<RowOut> = read(value)?;
    if page.items.is_empty() {
        return print("There are no such rows.\n");
    }
    let row = |one: &RowOut| {
        let message = one.message.clone().unwrap_or_else(|| "-".into());
        let reason = one.reason.clone().unwrap_or_default();
        vec![one.row.to_string(), one.email.clone(), one.state.clone(), message, reason]
    };
    table(&["ROW", "RECIPIENT", "STATE", "MESSAGE", "WHY"], &page.items.iter().map(row).collect::<Vec<_>>())?;
    match page.next {
        Some(next) => print(&format!("More: --after {next}\n")),
        None => Ok(()),
    }
}
