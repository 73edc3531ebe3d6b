//! `pillarbox jobs`.

use axum::http::Method;
use serde_json::{Value, json};

use super::Fault;
use super::args::Global;
use super::args_jobs::JobsCommand;
use super::client::{Client, Need, escaped, query, read};
use super::output::{facts, json as print_json, short_time, table};
use crate::http::api::jobs::{JobOut, JobState};
use crate::http::views::Page;
use crate::monitor::Level;

/// Does what was asked.
pub async fn run(global: &Global, command: JobsCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Server).await?;
    let post = async |name: &str, wish: &str, body: Value| {
        client.send(Method::POST, &format!("{}/{wish}", path(name)), body).await
    };
    match command {
        JobsCommand::Ls { group } => {
            let query = query(&[("group", group.map(|group| group.name().to_owned()))]);
            list(global, client.get(&format!("/jobs{query}")).await?)
        }
        JobsCommand::Show { name } => show(global, client.get(&path(&name)).await?),
        JobsCommand::Run { name, wait } => show(global, post(&name, "run", json!({ "wait_s": wait })).await?),
        JobsCommand::Pause { name, why } => show(global, post(&name, "pause", json!({ "why": why })).await?),
        JobsCommand::Resume { name } => show(global, post(&name, "resume", json!({})).await?),
        JobsCommand::Restart { name } => show(global, post(&name, "restart", json!({})).await?),
    }
}

fn path(name: &str) -> String {
    format!("/jobs/{}", escaped(name))
}

/// A state in a word.
pub fn state(state: JobState) -> &'static str {
    match state {
        JobState::Waiting => "waiting",
        JobState::Running => "running",
        JobState::Paused => "paused",
        JobState::Ended => "ended",
    }
}

fn list(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let page: Page<JobOut> = read(value)?;
    let row = |one: &JobOut| {
        let last = one.last.as_ref();
        vec![
            one.name.clone(),
            state(one.state).into(),
            one.schedule.clone(),
            last.map(|last| short_time(&last.started)).unwrap_or_default(),
            last.and_then(|last| last.level).map(|level| level.word().to_owned()).unwrap_or_default(),
            one.next.as_deref().map(short_time).unwrap_or_default(),
        ]
    };
    let heads = ["NAME", "STATE", "SCHEDULE", "LAST", "RESULT", "NEXT"];
    table(&heads, &page.items.iter().map(row).collect::<Vec<_>>())
}

fn show(global: &Global, value: Value) -> Result<(), Fault> {
    let one: JobOut = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else {
        let last = one.last.as_ref();
        let took = last.and_then(|last| last.took_ms).map(|ms| format!("{ms} ms")).unwrap_or_default();
        let paused = one.paused.as_ref().map(|paused| format!("since {}: {}", short_time(&paused.since), paused.why));
        facts(&[
            ("name", one.name.clone()),
            ("for", one.title.clone()),
            ("schedule", one.schedule.clone()),
            ("state", state(one.state).into()),
            ("paused", paused.unwrap_or_default()),
            ("running since", one.running_since.as_deref().map(short_time).unwrap_or_default()),
            ("last", last.map(|last| short_time(&last.started)).unwrap_or_default()),
            ("took", took),
            ("result", last.and_then(|last| last.level).map(|level| level.word().to_owned()).unwrap_or_default()),
            ("", last.map(|last| last.summary.clone()).unwrap_or_default()),
            ("next", one.next.as_deref().map(short_time).unwrap_or_default()),
            ("runs", one.runs.to_string()),
            ("problems in a row", if one.problems > 0 { one.problems.to_string() } else { String::new() }),
        ])?;
    }
    match one.last.and_then(|last| last.level) {
        Some(Level::Problem) => Err(Fault::Told),
        _ => Ok(()),
    }
}
