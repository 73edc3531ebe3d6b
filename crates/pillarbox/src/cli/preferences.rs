//! `pillarbox preferences`.

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::Fault;
use super::args::Global;
use super::args_streams::{InOut, PreferencesCommand};
use super::client::{Client, Need, escaped, read};
use super::output::{json as print_json, print, short_time, table};
use crate::http::api::preferences::{PreferenceOut, PreferencesOut, Wish};

/// Does what was asked.
pub async fn run(global: &Global, command: PreferencesCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        PreferencesCommand::Show { address } => show(global, client.get(&path(&address)).await?),
        PreferencesCommand::Set { address, opt_out, opt_in, all } => {
            if let Some(both) = opt_out.iter().find(|name| opt_in.contains(name)) {
                return Err(Fault::Usage(format!("{both} cannot be both --in and --out")));
            }
            let mut streams = Map::new();
            for (names, wish) in [(&opt_out, "out"), (&opt_in, "in")] {
                streams.extend(names.iter().map(|name| (name.clone(), Value::from(wish))));
            }
            let all = all.map(|all| if all == InOut::In { "in" } else { "out" });
            if streams.is_empty() && all.is_none() {
                return Err(Fault::Usage("nothing to change; name --in, --out or --all".into()));
            }
            let body = json!({ "all": all, "streams": streams });
            show(global, client.send(Method::PATCH, &path(&address), body).await?)
        }
    }
}

fn path(address: &str) -> String {
    format!("/preferences/{}", escaped(address))
}

fn show(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let found: PreferencesOut = read(value)?;
    let general = if found.all == Wish::Out { "has left all mail that may be left" } else { "gets mail" };
    print(&format!("{} {general}\n", super::output::clean(&found.address)))?;
    if found.streams.is_empty() {
        return Ok(());
    }
    let row = |one: &PreferenceOut| {
        let wish = match (one.wish, one.may_opt_out) {
            (Wish::Out, _) => "out",
            (Wish::In, true) => "in",
            (Wish::In, false) => "in (cannot be left)",
        };
        vec![
            one.stream.clone(),
            wish.into(),
            one.since.as_deref().map(short_time).unwrap_or_default(),
            one.by.clone().unwrap_or_default(),
            one.suppressed.map(|reason| format!("suppressed: {reason}")).unwrap_or_default(),
        ]
    };
    table(&["STREAM", "WISH", "SINCE", "BY", ""], &found.streams.iter().map(row).collect::<Vec<_>>())
}
