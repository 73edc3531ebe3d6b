//! `pillarbox messages`.

use serde_json::Value;

use super::Fault;
use super::args::Global;
use super::args_messages::{MessagesCommand, SearchArgs};
use super::client::{Client, Need, escaped, query, read};
use super::messages_view;
use super::output::{clean, json as print_json, plural, print, short_time, table};
use crate::config::values::duration;
use crate::dossier::DossierOut;
use crate::http::api::search::{FoundOut, SearchOut};
use crate::http::time;

/// Does what was asked.
pub async fn run(global: &Global, command: MessagesCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        MessagesCommand::Search(args) => search(global, &client, &args).await,
        MessagesCommand::Show { id, text } => {
            let value = client.get(&format!("/messages/{}/dossier", escaped(&id))).await?;
            if global.json {
                return print_json(&value);
            }
            let dossier: DossierOut = read(value)?;
            print(&messages_view::dossier(&dossier, text))
        }
        MessagesCommand::Export { id } => print_json(&client.get(&format!("/messages/{}/export", escaped(&id))).await?),
    }
}

/// `24h` ago, or a time as it is.
fn moment(text: &str, now_ms: i64) -> String {
    match duration(text) {
        Some(ago) => time::show(now_ms.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX))),
        None => text.to_owned(),
    }
}

async fn search(global: &Global, client: &Client, args: &SearchArgs) -> Result<(), Fault> {
    let now_ms = net::Clock::system().now_ms();
    let state = args.state.and_then(|state| clap::ValueEnum::to_possible_value(&state));
    let mut before = args.before.clone();
    let mut found = SearchOut { items: Vec::new(), next: None, back_to: None, looked: 0 };
    loop {
        let left = args.limit - found.items.len().min(args.limit as usize) as u32;
        let pairs = [
            ("q", args.text.clone()),
            ("recipient", args.recipient.clone()),
            ("domain", args.domain.clone()),
            ("from", args.from.clone()),
            ("subject", args.subject.clone()),
            ("message_id", args.message_id.clone()),
            ("stream", args.stream.clone()),
            ("route", args.route.clone()),
            ("sender", args.sender.clone()),
            ("state", state.as_ref().map(|state| state.get_name().to_owned())),
            ("reason", args.reason.clone()),
            ("since", args.since.as_deref().map(|text| moment(text, now_ms))),
            ("until", args.until.as_deref().map(|text| moment(text, now_ms))),
            ("before", before),
            ("limit", Some(left.to_string())),
        ];
        let page: SearchOut = read(client.get(&format!("/messages{}", query(&pairs))).await?)?;
        found.items.extend(page.items);
        found.looked += page.looked;
        (found.next, found.back_to) = (page.next, page.back_to);
        before = found.next.clone();
        // A page that is not full was ended so that nobody waits: here one waits.
        if before.is_none() || found.items.len() >= args.limit as usize || found.looked >= args.most {
            break;
        }
    }
    show(global, &found)
}

fn show(global: &Global, found: &SearchOut) -> Result<(), Fault> {
    if global.json {
        return print_json(found);
    }
    if found.items.is_empty() {
        print("No message was found.\n")?;
    } else {
        let row = |one: &FoundOut| {
            let first = one.recipients.first();
            let more = match one.matching {
                0 | 1 => String::new(),
                many => format!(" +{}", many - 1),
            };
            vec![
                one.id.clone(),
                short_time(&one.accepted),
                first.map_or_else(|| "?".into(), |first| first.state.clone()),
                format!("{}{more}", first.map_or("", |first| first.address.as_str())),
                one.from.clone().unwrap_or_else(|| one.envelope_from.clone()),
                shortened(one.subject.as_deref().unwrap_or_default(), 60),
            ]
        };
        let rows: Vec<_> = found.items.iter().map(row).collect();
        table(&["ID", "ACCEPTED", "STATE", "TO", "FROM", "SUBJECT"], &rows)?;
    }
    if let (Some(next), Some(back_to)) = (&found.next, &found.back_to) {
        let looked = match found.looked {
            0 => String::new(),
            looked => format!("; {} looked at", plural(looked, "message")),
        };
        print(&format!("More, before {}: --before {next}{looked}\n", short_time(back_to)))?;
    }
    Ok(())
}

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", clean(&text[..at])),
        None => clean(text),
    }
}

/// `pillarbox why`.
pub async fn why(global: &Global, args: &super::args_messages::WhyArgs) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    let pairs = [("address", Some(args.address.clone())), ("stream", args.stream.clone())];
    let value: Value = client.get(&format!("/why{}", query(&pairs))).await?;
    let why: crate::why::WhyOut = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else {
        print(&messages_view::why(&why))?;
    }
    use crate::why::WhyState::{Accepted, Waiting};
    if matches!(why.state, Accepted | Waiting) { Ok(()) } else { Err(Fault::Told) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_be_said_as_so_long_ago() {
        assert_eq!(moment("24h", 86_400_000), "1970-01-01T00:00:00Z");
        assert_eq!(moment("2026-11-21T09:00:00Z", 0), "2026-11-21T09:00:00Z");
        assert_eq!(moment("yesterday", 0), "yesterday");
    }
}
