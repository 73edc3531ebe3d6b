//! `pillarbox rates`.

use relay::rates::{Level, Rate, RateOf};

use super::Fault;
use super::args::Global;
use super::client::{Client, Need, read};
use super::output::{json as print_json, print, table};
use crate::http::views::Page;

fn level(level: Level) -> &'static str {
    match level {
        Level::Fine => "",
        Level::Warn => "warn",
        Level::Stop => "stop",
    }
}

fn of(of: RateOf) -> &'static str {
    match of {
        RateOf::Stream => "stream",
        RateOf::Sender => "sender",
        RateOf::Route => "route",
        RateOf::Provider => "provider",
    }
}

/// A rate as a sentence, for status.
pub fn sentence(rate: &Rate) -> String {
    format!(
        "{} {}: {:.2} % bounces, {:.2} % complaints of {} recipients",
        of(rate.of),
        rate.name,
        rate.bounce_percent,
        rate.complaint_percent,
        rate.sent
    )
}

/// Shows the rates; exit code 1 if one is above a threshold.
pub async fn run(global: &Global) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Server).await?;
    let value = client.get("/rates").await?;
    let page: Page<Rate> = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else if page.items.is_empty() {
        print("Nothing was sent lately.\n")?;
    } else {
        let row = |rate: &Rate| {
            vec![
                of(rate.of).to_owned(),
                rate.name.to_string(),
                rate.sent.to_string(),
                rate.bounced.to_string(),
                format!("{:.2} %", rate.bounce_percent),
                rate.complained.to_string(),
                format!("{:.2} %", rate.complaint_percent),
                level(rate.level()).to_owned(),
            ]
        };
        let rows: Vec<_> = page.items.iter().map(row).collect();
        table(&["OF", "NAME", "SENT", "BOUNCED", "", "COMPLAINTS", "", "LEVEL"], &rows)?;
    }
    if page.items.iter().any(|rate| rate.level() > Level::Fine) { Err(Fault::Told) } else { Ok(()) }
}
