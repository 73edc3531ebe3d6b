//! `pillarbox audit`: who changed what.

use serde_json::Value;

use super::Fault;
use super::args::Global;
use super::args_access::AuditArgs;
use super::client::{Client, Need, query, read};
use super::output::{json as print_json, print, short_time, table};
use crate::audit::diff::Change;
use crate::config::values::duration;
use crate::http::api::audit::AuditOut;
use crate::http::time;
use crate::http::views::Page;

/// Most characters of a value in the table.
const WIDTH: usize = 40;

/// Does what was asked.
pub async fn run(global: &Global, args: AuditArgs) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let query = query(&[
        ("who", args.who),
        ("what", args.what),
        ("action", args.action),
        ("since", args.since.as_deref().map(moment).transpose()?),
        ("until", args.until.as_deref().map(moment).transpose()?),
        ("limit", Some(args.limit.to_string())),
        ("before", args.before.map(|id| id.to_string())),
    ]);
    let client = Client::find(global, &loaded, Need::Store).await?;
    let value = client.get(&format!("/audit{query}")).await?;
    if global.json {
        return print_json(&value);
    }
    let page: Page<AuditOut> = read(value)?;
    if page.items.is_empty() {
        return print("Nothing was changed.\n");
    }
    table(&["TIME", "WHO", "ACTION", "WHAT", ""], &page.items.iter().map(row).collect::<Vec<_>>())?;
    match page.next {
        Some(next) => print(&format!("More: --before {next}\n")),
        None => Ok(()),
    }
}

/// A time as the API wants it; a duration counts back from now.
fn moment(text: &str) -> Result<String, Fault> {
    if time::read(text).is_some() {
        return Ok(text.to_owned());
    }
    let wrong = || Fault::Usage(format!("{text} is no time such as 2026-11-21T03:08:29Z, and no duration such as 2h"));
    let ago = duration(text).ok_or_else(wrong)?;
    let ago_ms = i64::try_from(ago.as_millis()).map_err(|_| wrong())?;
    Ok(time::show(net::Clock::system().now_ms().saturating_sub(ago_ms)))
}

fn row(one: &AuditOut) -> Vec<String> {
    let who = match one.address {
        Some(address) => format!("{} ({address})", one.who),
        None => one.who.clone(),
    };
    let changes: Vec<String> = one.changes.iter().take(4).map(words).collect();
    let more = one.changes.len().saturating_sub(4);
    let mut about = changes.join(", ");
    if more > 0 {
        about.push_str(&format!(" and {more} more"));
    }
    if about.is_empty() {
        about = one.detail.as_ref().map(short).unwrap_or_default();
    }
    vec![short_time(&one.at), who, one.action.clone(), one.what.clone(), about]
}

fn words(change: &Change) -> String {
    let name = change.field.trim_start_matches('/');
    match (&change.before, &change.after) {
        _ if change.secret => format!("{name} changed"),
        (None, Some(after)) => format!("{name}: {}", short(after)),
        (Some(_), None) => format!("{name} removed"),
        (Some(before), Some(after)) => format!("{name}: {} -> {}", short(before), short(after)),
        (None, None) => name.to_owned(),
    }
}

fn short(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
