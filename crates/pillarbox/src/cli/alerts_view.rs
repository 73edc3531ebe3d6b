//! Alerts, channels and kinds of alerts on the terminal.

use serde_json::{Value, json};

use super::Fault;
use super::args::Global;
use super::client::read;
use super::output::{clean, clean_lines, facts, json as print_json, print, short_time, table};
use crate::http::api::alert_channels::{ChannelOut, ChannelTestOut};
use crate::http::api::alerts::{AlertOut, AlertRuleOut};
use crate::http::views::Page;

/// A sentence.
pub fn done(global: &Global, text: &str) -> Result<(), Fault> {
    if global.json { print_json(&json!({ "done": text })) } else { print(&format!("{}\n", clean(text))) }
}

/// Alerts; exit code 1 if something is raised.
pub fn list(global: &Global, value: Value) -> Result<(), Fault> {
    let page: Page<AlertOut> = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else if page.items.is_empty() {
        print("nothing is raised\n")?;
    } else {
        let row = |one: &AlertOut| {
            let told = one.told.iter().filter(|told| told.told.is_some()).count();
            vec![
                one.id.clone(),
                short_time(&one.since),
                one.severity.as_str().to_owned(),
                one.state.clone(),
                one.rule.as_str().to_owned(),
                format!("{told} of {}", one.told.len()),
                one.title.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = page.items.iter().map(row).collect();
        table(&["ID", "SINCE", "SEVERITY", "STATE", "KIND", "TOLD", "WHAT"], &rows)?;
        if let Some(next) = &page.next {
            print(&format!("more: --before {next}\n"))?;
        }
    }
    if page.items.iter().any(|one| one.state != "resolved") { Err(Fault::Told) } else { Ok(()) }
}

/// One alert.
pub fn show(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let one: AlertOut = read(value)?;
    let time = |time: &Option<String>| time.as_deref().map(short_time).unwrap_or_default();
    facts(&[
        ("id", one.id.clone()),
        ("what", one.title.clone()),
        ("severity", one.severity.as_str().to_owned()),
        ("state", one.state.clone()),
        ("kind", one.rule.as_str().to_owned()),
        ("key", one.key.clone()),
        ("since", short_time(&one.since)),
        ("last raised", format!("{} ({} times)", short_time(&one.last), one.times)),
        ("acknowledged", time(&one.acknowledged)),
        ("by", one.acknowledged_by.clone().unwrap_or_default()),
        ("note", one.note.clone().unwrap_or_default()),
        ("over", time(&one.resolved)),
        ("because", one.resolution.clone().unwrap_or_default()),
        ("page", one.link.clone().unwrap_or_default()),
    ])?;
    print(&format!("\n{}\n\n", clean_lines(&one.text)))?;
    let about: Vec<(&str, String)> = one.about.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    facts(&about)?;
    if one.told.is_empty() {
        return print("\nnobody was told: there is no channel for it, or it is not its time\n");
    }
    let row = |told: &crate::http::api::alerts::ToldOut| {
        vec![told.channel.clone(), time(&told.told), time(&told.end_told), told.problem.clone().unwrap_or_default()]
    };
    print("\n")?;
    table(&["CHANNEL", "TOLD", "END TOLD", "PROBLEM"], &one.told.iter().map(row).collect::<Vec<_>>())
}

/// Channels; exit code 1 if one fails.
pub fn channels(global: &Global, value: Value) -> Result<(), Fault> {
    let page: Page<ChannelOut> = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else {
        let row = |one: &ChannelOut| {
            vec![
                one.name.clone(),
                one.settings.kind.as_str().to_owned(),
                one.settings.step.to_string(),
                one.settings.severity.as_str().to_owned(),
                one.status.clone(),
                one.last_taken.as_deref().map(short_time).unwrap_or_default(),
                one.problem.clone().unwrap_or_default(),
            ]
        };
        let rows: Vec<Vec<String>> = page.items.iter().map(row).collect();
        table(&["NAME", "KIND", "STEP", "FROM", "STATUS", "LAST TAKEN", "PROBLEM"], &rows)?;
    }
    if page.items.iter().any(|one| one.status == "failing") { Err(Fault::Told) } else { Ok(()) }
}

/// One channel.
pub fn channel(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let one: ChannelOut = read(value)?;
    let record = &one.settings;
    let time = |time: &Option<String>| time.as_deref().map(short_time).unwrap_or_default();
    let quiet = record.quiet.as_ref().map(|quiet| {
        let days = if quiet.days.is_empty() { String::new() } else { format!(", {} whole days", quiet.days.len()) };
        format!("{} to {} {}{days}", quiet.from, quiet.to, quiet.zone.as_deref().unwrap_or("(server's time)"))
    });
    facts(&[
        ("name", one.name.clone()),
        ("kind", record.kind.as_str().to_owned()),
        ("status", one.status.clone()),
        ("problem", one.problem.clone().unwrap_or_default()),
        ("since", time(&one.since)),
        ("next", time(&one.next)),
        ("last taken", time(&one.last_taken)),
        ("URL", record.url.clone().unwrap_or_default()),
        ("host", one.host.clone().unwrap_or_default()),
        ("to", record.to.join(" ")),
        ("from", record.from.clone().unwrap_or_default()),
        ("routes", record.routes.join(" ")),
        ("smart host", record.smart_host.as_ref().map(|host| host.host.clone()).unwrap_or_default()),
        ("server", record.server.clone().unwrap_or_default()),
        ("command", record.command.join(" ")),
        ("step", record.step.to_string()),
        ("from severity", record.severity.as_str().to_owned()),
        ("kinds", record.rules.iter().map(|rule| rule.as_str()).collect::<Vec<_>>().join(" ")),
        ("quiet", quiet.unwrap_or_default()),
        ("gathers", format!("{} s", record.group_s)),
        ("interval", format!("{} s for a kind", record.interval_s())),
        ("at most", format!("{} an hour", record.per_hour())),
        ("timeout", format!("{} s", record.timeout)),
        ("secret", if one.has_secret { "kept".into() } else { String::new() }),
        ("changed", short_time(&one.updated)),
    ])?;
    match one.new_secret {
        Some(secret) => print(&format!("\nSigning secret, shown once, keep it now:\n{}\n", clean(&secret))),
        None => Ok(()),
    }
}

/// What a test found; exit code 1 if it was not taken.
pub fn test(global: &Global, value: Value) -> Result<(), Fault> {
    let found: ChannelTestOut = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else {
        facts(&[
            ("result", if found.taken { "taken" } else { "not taken" }.to_owned()),
            ("said", found.said.clone()),
            ("message", found.message.clone().unwrap_or_default()),
            ("routes", found.routes.join(" ")),
        ])?;
    }
    if found.taken { Ok(()) } else { Err(Fault::Told) }
}

fn row(one: &AlertRuleOut) -> Vec<String> {
    let threshold = one.threshold.map(|value| format!("{value} {}", one.unit.as_deref().unwrap_or_default()));
    vec![
        one.name.clone(),
        if one.off { "off" } else { "on" }.to_owned(),
        one.severity.map_or_else(|| "as found".to_owned(), |severity| severity.as_str().to_owned()),
        threshold.unwrap_or_default(),
        if one.channels.is_empty() { "all".to_owned() } else { one.channels.join(" ") },
        match one.escalate_min {
            None => "usual".to_owned(),
            Some(0) => "never".to_owned(),
            Some(minutes) => format!("{minutes} min"),
        },
    ]
}

const HEADS: [&str; 6] = ["KIND", "TOLD", "SEVERITY", "THRESHOLD", "CHANNELS", "ESCALATES"];

/// Kinds of alerts.
pub fn rules(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let page: Page<AlertRuleOut> = read(value)?;
    table(&HEADS, &page.items.iter().map(row).collect::<Vec<_>>())
}

/// One kind.
pub fn rule(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    table(&HEADS, &[row(&read(value)?)])
}
