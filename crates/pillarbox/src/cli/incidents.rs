//! `pillarbox incident`.

use std::fmt::Write as _;

use axum::http::Method;
use net::Clock;
use serde_json::{Value, json};

use super::Fault;
use super::args::Global;
use super::args_incident::IncidentCommand;
use super::client::{Client, Need, escaped, query, read};
use super::output::{clean, facts, json as print_json, plural, print, short_time, table};
use crate::http::api::incidents::{IncidentDetailOut, IncidentOut, ProbeOut, can_snooze};
use crate::http::time;
use crate::http::views::Page;

/// Does what was asked.
pub async fn run(global: &Global, command: IncidentCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        IncidentCommand::List { all, closed, scope, reason, before, limit } => {
            let open = if all { None } else { Some((!closed).to_string()) };
            let query = query(&[
                ("open", open),
                ("scope", scope),
                ("reason", reason),
                ("before", before),
                ("limit", Some(limit.to_string())),
            ]);
            list(global, client.get(&format!("/incidents{query}")).await?)
        }
        IncidentCommand::Show { id } => {
            let value = client.get(&path(&id)).await?;
            let open = shown(global, value)?.incident.closed.is_none();
            if open { Err(Fault::Told) } else { Ok(()) }
        }
        IncidentCommand::Ack { id, note } => act(global, &client, &id, "acknowledge", json!({ "note": note })).await,
        IncidentCommand::Snooze { id, until, note } => {
            snoozable(&until)?;
            act(global, &client, &id, "snooze", json!({ "until": until, "note": note })).await
        }
        IncidentCommand::Close { id, note } => act(global, &client, &id, "close", json!({ "note": note })).await,
        IncidentCommand::Note { id, text } => act(global, &client, &id, "notes", json!({ "note": text })).await,
        IncidentCommand::Probe { id } => probe(global, &client, &id).await,
    }
}

/// What can be seen to be wrong without a server is wrong usage.
fn snoozable(until: &str) -> Result<(), Fault> {
    let wrong = |what| Fault::Usage(format!("--until {}: {what}", clean(until)));
    let until_ms = time::read(until).ok_or_else(|| wrong("not a time such as 2026-11-22T08:00:00Z (RFC 3339)"))?;
    if can_snooze(until_ms, Clock::system().now_ms()) { Ok(()) } else { Err(wrong("not within the next 30 days")) }
}

fn path(id: &str) -> String {
    format!("/incidents/{}", escaped(id))
}

async fn act(global: &Global, client: &Client, id: &str, what: &str, body: Value) -> Result<(), Fault> {
    let value = client.send(Method::POST, &format!("{}/{what}", path(id)), body).await?;
    if global.json {
        return print_json(&value);
    }
    let detail: IncidentDetailOut = read(value)?;
    print(&format!("{} is {}\n", detail.incident.id, detail.incident.state))
}

async fn probe(global: &Global, client: &Client, id: &str) -> Result<(), Fault> {
    let value = client.send(Method::POST, &format!("{}/probe", path(id)), json!({})).await?;
    let out: ProbeOut = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else {
        print(&format!("{}\n", clean(&out.text)))?;
    }
    if out.works == Some(true) { Ok(()) } else { Err(Fault::Told) }
}

/// An open incident in a line, for status.
pub fn line(one: &IncidentOut) -> String {
    let brake = one.brake.as_ref().map(|scope| format!("; {scope} stands still")).unwrap_or_default();
    format!(
        "Incident {} ({}) since {}: {}{brake}. See `pillarbox incident show {}`.",
        one.id,
        one.state,
        short_time(&one.since),
        clean(&one.title),
        one.id
    )
}

fn list(global: &Global, value: Value) -> Result<(), Fault> {
    let page: Page<IncidentOut> = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else if page.items.is_empty() {
        print("No incident.\n")?;
    } else {
        let row = |one: &IncidentOut| {
            vec![
                one.id.clone(),
                one.severity.clone(),
                one.state.clone(),
                short_time(&one.since).to_string(),
                one.recipients.to_string(),
                clean(&one.scope),
                clean(&one.title),
            ]
        };
        let rows: Vec<_> = page.items.iter().map(row).collect();
        table(&["ID", "SEVERITY", "STATE", "SINCE", "RECIPIENTS", "SCOPE", ""], &rows)?;
        if let Some(next) = &page.next {
            print(&format!("More: --before {next}\n"))?;
        }
    }
    if page.items.iter().any(|one| one.closed.is_none()) { Err(Fault::Told) } else { Ok(()) }
}

fn shown(global: &Global, value: Value) -> Result<IncidentDetailOut, Fault> {
    let detail: IncidentDetailOut = read(value.clone())?;
    if global.json {
        print_json(&value)?;
        return Ok(detail);
    }
    let one = &detail.incident;
    let counts = format!("{} of {}", plural(one.recipients, "recipient"), plural(one.messages, "message"));
    facts(&[
        ("incident", one.id.clone()),
        ("title", clean(&one.title)),
        ("severity", one.severity.clone()),
        ("state", one.state.clone()),
        ("snoozed until", one.snoozed_until.clone().unwrap_or_default()),
        ("scope", clean(&one.scope)),
        ("reason", one.reason.clone()),
        ("since", one.since.clone()),
        ("last seen", one.last.clone()),
        ("failed", if one.recipients > 0 { counts } else { String::new() }),
        (
            "others",
            if detail.others_ok > 0 {
                format!("{} were fine", plural(u64::from(detail.others_ok), "recipient"))
            } else {
                String::new()
            },
        ),
        ("failure", detail.failure.as_deref().map(clean).unwrap_or_default()),
        ("stands still", one.brake.clone().unwrap_or_default()),
        ("next probe", detail.next_probe.clone().unwrap_or_default()),
        ("closed", one.closed.clone().unwrap_or_default()),
        ("fixed by", one.closed_what.as_deref().map(clean).unwrap_or_default()),
        ("examples", detail.examples.join(" ")),
    ])?;
    print(&text(&detail))?;
    Ok(detail)
}

fn text(detail: &IncidentDetailOut) -> String {
    let mut out = String::new();
    if !detail.meaning.is_empty() {
        let _ = writeln!(out, "\n{}", clean(&detail.meaning));
    }
    if !detail.fixes.is_empty() {
        out.push_str("\nWhat to do\n");
        for (at, fix) in detail.fixes.iter().enumerate() {
            let _ = writeln!(out, "  {}. {}", at + 1, clean(&fix.text));
            if let Some(run) = &fix.run {
                let _ = writeln!(out, "     {}", clean(run));
            }
        }
    }
    section(&mut out, "Likely causes", detail.causes.iter().map(|cause| clean(cause)));
    section(&mut out, "Changed before", detail.changes_before.iter().map(|change| clean(change)));
    section(
        &mut out,
        "Diagnosis",
        detail.diagnosis.iter().map(|found| format!("{}: {} ({})", found.kind, clean(&found.title), found.at)),
    );
    section(
        &mut out,
        "Before",
        detail
            .similar
            .iter()
            .map(|one| format!("{} {}: {}", one.id, one.since, clean(one.closed_what.as_deref().unwrap_or("open")))),
    );
    section(
        &mut out,
        "History",
        detail.history.iter().map(|one| {
            let by = one.by.as_ref().map(|by| format!(" ({})", clean(by))).unwrap_or_default();
            format!("{} {}{by}: {}", one.at, one.what, clean(&one.text))
        }),
    );
    out
}

fn section(out: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        let _ = writeln!(out, "\n{title}");
        lines.for_each(|line| {
            let _ = writeln!(out, "  {line}");
        });
    }
}
