//! `pillarbox volume` and `pillarbox failed-sign-ins`.

use super::Fault;
use super::args::Global;
use super::client::{Client, Need, read};
use super::output::{json as print_json, print, short_time, table};
use crate::http::api::volume::{FailedSignInsOut, VolumeOut};
use crate::http::views::Page;

/// Shows the volumes; exit code 1 if one stands out.
pub async fn run(global: &Global) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Server).await?;
    let value = client.get("/volume").await?;
    let page: Page<VolumeOut> = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else if page.items.is_empty() {
        print("Nothing has come in yet.\n")?;
    } else {
        let rows: Vec<_> = page.items.iter().map(row).collect();
        table(&["OF", "NAME", "5 MIN", "LIMIT", "BUSIEST", ""], &rows)?;
    }
    if page.items.iter().any(|one| one.spike.is_some()) { Err(Fault::Told) } else { Ok(()) }
}

fn row(one: &VolumeOut) -> Vec<String> {
    let word = match (&one.spike, &one.silent_since) {
        (Some(spike), _) => format!("far more than usual since {}", short_time(&spike.since)),
        (None, Some(since)) => format!("silent since {}", short_time(since)),
        (None, None) if one.learning => "learning".to_owned(),
        (None, None) => String::new(),
    };
    let limit = if one.learning { String::new() } else { one.limit.to_string() };
    vec![one.of.clone(), one.name.clone(), one.lately.to_string(), limit, one.busiest.to_string(), word]
}

/// Shows who could not sign in.
pub async fn failed_sign_ins(global: &Global) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Server).await?;
    let value = client.get("/failed-sign-ins").await?;
    if global.json {
        return print_json(&value);
    }
    let page: Page<FailedSignInsOut> = read(value)?;
    if page.items.is_empty() {
        return print("Everybody who signed in lately could.\n");
    }
    let row = |one: &FailedSignInsOut| {
        let name = if one.name.is_empty() { "-" } else { &one.name };
        let word = match (&one.right, one.exists) {
            (Some(right), _) => format!("right at {}", short_time(right)),
            (None, true) => String::new(),
            (None, false) if one.name.is_empty() => String::new(),
            (None, false) => "no such sender".to_owned(),
        };
        vec![one.address.clone(), name.to_owned(), one.by.clone(), one.times.to_string(), short_time(&one.last), word]
    };
    table(&["FROM", "NAME", "BY", "TIMES", "LAST", ""], &page.items.iter().map(row).collect::<Vec<_>>())
}
