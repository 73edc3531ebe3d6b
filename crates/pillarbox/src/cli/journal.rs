//! `pillarbox journal`.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use explain::Severity;
use net::Clock;
use serde_json::{Value, json};

use super::Fault;
use super::args::Global;
use super::args_dns::JournalArgs;
use super::client::{Client, Need, escaped, query, read};
use super::output::{clean, json as print_json, print, short_time};
use crate::config::values::duration;
use crate::http::api::dns_journal::{DnsChangeOut, DnsStateOut};
use crate::http::time;
use crate::http::views::Page;

/// Does what was asked.
pub async fn run(global: &Global, args: &JournalArgs) -> Result<(), Fault> {
    let since = moment(&args.since)?;
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    let pairs = [("domain", args.domain.clone()), ("since", Some(since)), ("limit", Some(args.limit.to_string()))];
    let changes = client.get(&format!("/dns-journal{}", query(&pairs))).await?;
    let state = match &args.domain {
        Some(domain) => Some(client.get(&format!("/dns-journal/{}", escaped(domain))).await?),
        None => None,
    };
    let unwell = state.as_ref().is_some_and(is_unwell);
    if global.json {
        print_json(&json!({ "state": state, "changes": changes }))?;
    } else {
        if let Some(state) = state {
            print(&of_state(&read(state)?))?;
        }
        print(&of_changes(&read(changes)?))?;
    }
    if unwell { Err(Fault::Told) } else { Ok(()) }
}

/// RFC 3339 of a time, or of so long ago.
fn moment(text: &str) -> Result<String, Fault> {
    let ago = duration(text).and_then(|ago| i64::try_from(ago.as_millis()).ok());
    let ms = ago.map(|ago| Clock::system().now_ms() - ago).or_else(|| time::read(text));
    let wrong =
        || Fault::Usage(format!("{text}: neither a time such as 2026-11-21T06:00:00Z nor a duration such as 7d"));
    ms.map(time::show).ok_or_else(wrong)
}

fn is_unwell(state: &Value) -> bool {
    let records = state["records"].as_array();
    records.is_some_and(|all| all.iter().any(|one| one["troubles"].as_array().is_some_and(|list| !list.is_empty())))
}

fn of_state(state: &DnsStateOut) -> String {
    let (bold, dim) = (Style::new().bold(), Style::new().dimmed());
    let red = AnsiColor::Red.on_default();
    let mut out = format!("{bold}{}{bold:#}\n\n", clean(&state.domain));
    for record in &state.records {
        let since = short_time(&record.since);
        let _ = writeln!(
            out,
            "{bold}{}{bold:#}  {dim}{} {}, since {since}{dim:#}",
            clean(&record.record),
            clean(&record.name),
            record.kind
        );
        for value in &record.records {
            let _ = writeln!(out, "  {}", clean(value));
        }
        if record.records.is_empty() {
            let _ = writeln!(out, "  {dim}nothing{dim:#}");
        }
        for trouble in &record.troubles {
            let _ = writeln!(out, "  {red}{}{red:#}", clean(trouble));
        }
    }
    out.push('\n');
    out
}

fn of_changes(page: &Page<DnsChangeOut>) -> String {
    if page.items.is_empty() {
        return "Nothing changed in this time.\n".into();
    }
    let mut out = String::new();
    for change in &page.items {
        let style = match change.severity {
            Severity::Problem => AnsiColor::Red.on_default(),
            Severity::Warning => AnsiColor::Yellow.on_default(),
            Severity::Note => Style::new(),
        };
        let _ = writeln!(
            out,
            "{}  {style}{}/{}{style:#}",
            short_time(&change.seen),
            clean(&change.domain),
            clean(&change.record)
        );
        for line in change.lines.iter().chain(&change.affected.warnings) {
            let _ = writeln!(out, "  {}", clean(line));
        }
        for (name, values) in [("senders", &change.affected.senders), ("routes", &change.affected.routes)] {
            if !values.is_empty() {
                let _ = writeln!(out, "  {name}: {}", clean(&values.join(", ")));
            }
        }
    }
    if page.next.is_some() {
        out.push_str("There are more: give --limit.\n");
    }
    out
}
