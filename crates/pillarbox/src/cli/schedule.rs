//! `pillarbox schedule`.

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::Fault;
use super::args::Global;
use super::args_jobs::{ScheduleClear, ScheduleCommand, ScheduleOptions};
use super::client::{Client, Need, escaped, query, read};
use super::jobs::state;
use super::output::{clean, facts, json as print_json, print, short_time, table};
use crate::config::values::duration;
use crate::http::api::scheduled::{ResultOut, ScheduledOut};
use crate::http::views::Page;
use crate::monitor::Level;

/// Does what was asked.
pub async fn run(global: &Global, command: ScheduleCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Server).await?;
    match command {
        ScheduleCommand::Ls { kind, level } => {
            let query = query(&[("kind", kind), ("level", level.map(|level| level.name().to_owned()))]);
            list(global, client.get(&format!("/scheduled-checks{query}")).await?)
        }
        ScheduleCommand::Show { name } => show(global, client.get(&path(&name)).await?),
        ScheduleCommand::History { name, after, limit } => {
            let query = query(&[("after", after.map(|after| after.to_string())), ("limit", Some(limit.to_string()))]);
            history(global, client.get(&format!("{}/results{query}", path(&name))).await?)
        }
        ScheduleCommand::Run { name, wait } => {
            show(global, client.send(Method::POST, &format!("{}/run", path(&name)), json!({ "wait_s": wait })).await?)
        }
        ScheduleCommand::Add { name, options } => {
            let mut body = fields(&options)?;
            for (flag, field) in [("--host, --route or --domain", "what"), ("--at", "schedule")] {
                if !body.contains_key(field) {
                    return Err(Fault::Usage(format!("{flag} is missing; see `pillarbox schedule add --help`")));
                }
            }
            body.insert("name".into(), name.into());
            show(global, client.send(Method::POST, "/scheduled-checks", Value::Object(body)).await?)
        }
        ScheduleCommand::Set { name, options, clear } => {
            let mut patch = fields(&options)?;
            for field in clear.iter().flat_map(|one| cleared(*one)) {
                patch.insert((*field).into(), Value::Null);
            }
            if patch.is_empty() {
                return Err(Fault::Usage("nothing to change; see `pillarbox schedule set --help`".into()));
            }
            show(global, client.send(Method::PATCH, &path(&name), Value::Object(patch)).await?)
        }
        ScheduleCommand::Rm { name } => {
            client.delete(&path(&name)).await?;
            let text = format!("check {name} removed");
            if global.json { print_json(&json!({ "done": text })) } else { print(&format!("{}\n", clean(&text))) }
        }
    }
}

fn path(name: &str) -> String {
    format!("/scheduled-checks/{}", escaped(name))
}

fn cleared(what: ScheduleClear) -> &'static [&'static str] {
    match what {
        ScheduleClear::TimeZone => &["time_zone"],
        ScheduleClear::Jitter => &["jitter_s"],
        ScheduleClear::Timeout => &["timeout_s"],
        ScheduleClear::Confirm => &["confirm"],
        ScheduleClear::Tls => &["tls"],
        ScheduleClear::Envelope => &["from", "to"],
        ScheduleClear::Sections => &["sections"],
        ScheduleClear::Description => &["description"],
    }
}

fn fields(options: &ScheduleOptions) -> Result<Map<String, Value>, Fault> {
    let mut body = Map::new();
    for (what, target) in
        [("host", &options.host), ("route", &options.route), ("domain", &options.domain), ("arrival", &options.arrival)]
    {
        if let Some(target) = target {
            body.insert("what".into(), what.into());
            body.insert("target".into(), target.clone().into());
        }
    }
    for (name, text) in [
        ("schedule", &options.at),
        ("time_zone", &options.time_zone),
        ("tls", &options.tls),
        ("from", &options.from),
        ("mailbox", &options.mailbox),
        ("description", &options.description),
    ] {
        if let Some(text) = text {
            body.insert(name.into(), text.clone().into());
        }
    }
    for (name, text) in [("jitter_s", &options.jitter), ("timeout_s", &options.timeout)] {
        if let Some(text) = text {
            let length = duration(text).filter(|length| length.subsec_nanos() == 0);
            let length = length.ok_or_else(|| Fault::Usage(format!("{text} is not a time such as 90s, 15m, 2h")))?;
            body.insert(name.into(), length.as_secs().into());
        }
    }
    for (name, list) in [("to", &options.to), ("sections", &options.section)] {
        if !list.is_empty() {
            body.insert(name.into(), list.clone().into());
        }
    }
    for (name, flag) in [("changes", options.changes), ("disabled", options.disabled)] {
        if let Some(flag) = flag {
            body.insert(name.into(), flag.into());
        }
    }
    if let Some(confirm) = options.confirm {
        body.insert("confirm".into(), confirm.into());
    }
    Ok(body)
}

/// Exit code 1 while something is wrong.
fn verdict(results: &[&Option<ResultOut>]) -> Result<(), Fault> {
    let wrong = |one: &&Option<ResultOut>| one.as_ref().is_some_and(|result| result.level == Level::Problem);
    if results.iter().any(wrong) { Err(Fault::Told) } else { Ok(()) }
}

fn list(global: &Global, value: Value) -> Result<(), Fault> {
    let page: Page<ScheduledOut> = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else if page.items.is_empty() {
        print("no checks, or none of them as bad; `pillarbox schedule add --help` shows how to add one\n")?;
    } else {
        let row = |one: &ScheduledOut| {
            let result = one.result.as_ref();
            let level = result.map_or("", |result| result.level.word());
            vec![
                one.name.clone(),
                if one.flapping { format!("{level} (flapping)") } else { level.to_owned() },
                result.map(|result| short_time(&result.since)).unwrap_or_default(),
                one.next.as_deref().map_or_else(|| state(one.state).to_owned(), short_time),
                result.map(|result| result.summary.clone()).unwrap_or_default(),
            ]
        };
        table(&["NAME", "RESULT", "SINCE", "NEXT", "FOUND"], &page.items.iter().map(row).collect::<Vec<_>>())?;
    }
    verdict(&page.items.iter().map(|one| &one.result).collect::<Vec<_>>())
}

fn show(global: &Global, value: Value) -> Result<(), Fault> {
    let one: ScheduledOut = read(value.clone())?;
    if global.json {
        print_json(&value)?;
        return verdict(&[&one.result]);
    }
    let result = one.result.as_ref();
    let settings = one.settings.as_ref();
    let of = |get: fn(&ResultOut) -> String| result.map(get).unwrap_or_default();
    let skipped = one.last.as_ref().filter(|last| last.level == Some(Level::Skipped));
    facts(&[
        ("name", one.name.clone()),
        ("what", one.title.clone()),
        ("for", settings.and_then(|settings| settings.description.clone()).unwrap_or_default()),
        ("schedule", one.schedule.clone()),
        ("state", state(one.state).into()),
        ("paused", one.paused.clone().unwrap_or_default()),
        ("next", one.next.as_deref().map(short_time).unwrap_or_default()),
        ("last run", one.last.as_ref().map(|last| short_time(&last.started)).unwrap_or_default()),
        ("skipped", skipped.map(|last| last.summary.clone()).unwrap_or_default()),
        ("result", of(|result| result.level.word().to_owned())),
        ("found", of(|result| result.summary.clone())),
        ("since", of(|result| format!("{} ({} runs)", short_time(&result.since), result.runs))),
        ("alert", if one.alert { "raised".into() } else { String::new() }),
        ("flapping", if one.flapping { "yes: told once, over when it stays well".into() } else { String::new() }),
    ])?;
    for (head, lines) in [("What has changed", result.map(|r| &r.changes)), ("What to do", result.map(|r| &r.advice))] {
        let Some(lines) = lines.filter(|lines| !lines.is_empty()) else { continue };
        print(&format!("\n{head}:\n"))?;
        lines.iter().try_for_each(|line| print(&format!("  {}\n", clean(line))))?;
    }
    verdict(&[&one.result])
}

fn history(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let page: Page<ResultOut> = read(value)?;
    if page.items.is_empty() {
        return print("no results are kept of this check\n");
    }
    let row = |one: &ResultOut| {
        vec![
            one.id.to_string(),
            short_time(&one.since),
            short_time(&one.until),
            one.runs.to_string(),
            one.level.word().to_owned(),
            one.summary.clone(),
        ]
    };
    table(&["ID", "SINCE", "UNTIL", "RUNS", "RESULT", "FOUND"], &page.items.iter().map(row).collect::<Vec<_>>())
}
