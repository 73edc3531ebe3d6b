//! `pillarbox stream`.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::Fault;
use super::args::Global;
use super::args_streams::{Priority, StreamClear, StreamCommand, StreamOptions};
use super::client::{Client, Need, escaped, read};
use super::output::{clean, facts, json as print_json, plural, print, short_time, table};
use crate::config::values::{duration, show_duration};
use crate::http::api::streams::{PresetOut, StreamOut};
use crate::http::views::Page;

/// Does what was asked.
pub async fn run(global: &Global, command: StreamCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        StreamCommand::Ls => list(global, client.get("/streams").await?),
        StreamCommand::Show { name } => show(global, client.get(&path(&name)).await?),
        StreamCommand::Add { name, preset, options } => {
            let mut body = fields(&options)?;
            body.insert("name".into(), name.into());
            if let Some(preset) = preset {
                body.insert("preset".into(), preset.into());
            }
            show(global, client.send(Method::POST, "/streams", Value::Object(body)).await?)
        }
        StreamCommand::Set { name, options, clear } => {
            let mut patch = fields(&options)?;
            for one in &clear {
                patch.insert(cleared(*one).into(), Value::Null);
            }
            if patch.is_empty() {
                return Err(Fault::Usage("nothing to change; see `pillarbox stream set --help`".into()));
            }
            show(global, client.send(Method::PATCH, &path(&name), Value::Object(patch)).await?)
        }
        StreamCommand::Rm { name } => {
            client.delete(&path(&name)).await?;
            done(global, &format!("stream {name} removed"))
        }
        StreamCommand::Pause { name, why } => {
            let body = json!({ "why": why });
            show(global, client.send(Method::POST, &format!("{}/pause", path(&name)), body).await?)
        }
        StreamCommand::Resume { name } => {
            show(global, client.send(Method::POST, &format!("{}/resume", path(&name)), json!({})).await?)
        }
        StreamCommand::Presets => presets(global, client.get("/stream-presets").await?),
    }
}

fn path(name: &str) -> String {
    format!("/streams/{}", escaped(name))
}

fn cleared(what: StreamClear) -> &'static str {
    match what {
        StreamClear::Deadline => "deadline_s",
        StreamClear::PerMinute => "per_minute",
        StreamClear::Spread => "spread_s",
        StreamClear::Digest => "digest_s",
        StreamClear::KeepContent => "content_retention_s",
        StreamClear::KeepEvents => "event_retention_s",
        StreamClear::ReturnPath => "return_path",
        StreamClear::Description => "description",
    }
}

fn fields(options: &StreamOptions) -> Result<Map<String, Value>, Fault> {
    let mut body = Map::new();
    for (name, flag) in [
        ("enabled", options.enabled),
        ("unsubscribe", options.unsubscribe),
        ("opt_out", options.opt_out),
        ("own_suppressions", options.own_suppressions),
        ("allow_duplicates", options.allow_duplicates),
        ("test_mode", options.test_mode),
    ] {
        if let Some(flag) = flag {
            body.insert(name.into(), flag.into());
        }
    }
    for (name, text) in [
        ("deadline_s", &options.deadline),
        ("spread_s", &options.spread),
        ("digest_s", &options.digest),
        ("content_retention_s", &options.keep_content),
        ("event_retention_s", &options.keep_events),
    ] {
        if let Some(text) = text {
            let length = duration(text).filter(|length| length.subsec_nanos() == 0);
            let length =
                length.ok_or_else(|| Fault::Usage(format!("{text} is not a time such as 90s, 15m, 2h, 7d")))?;
            body.insert(name.into(), length.as_secs().into());
        }
    }
    if let Some(n) = options.per_minute {
        body.insert("per_minute".into(), n.into());
    }
    if let Some(priority) = options.priority {
        body.insert("priority".into(), number(priority).into());
    }
    if let Some(which) = &options.return_path {
        body.insert("return_path".into(), which.clone().into());
    }
    if let Some(text) = &options.description {
        body.insert("description".into(), text.clone().into());
    }
    Ok(body)
}

fn number(priority: Priority) -> u8 {
    match priority {
        Priority::Urgent => 0,
        Priority::High => 1,
        Priority::Normal => 2,
        Priority::Bulk => 3,
    }
}

fn word(priority: u8) -> &'static str {
    ["urgent", "high", "normal", "bulk"][usize::from(priority.min(3))]
}

fn done(global: &Global, text: &str) -> Result<(), Fault> {
    if global.json { print_json(&json!({ "done": text })) } else { print(&format!("{}\n", clean(text))) }
}

fn time(seconds: Option<u64>) -> String {
    seconds.map(|seconds| show_duration(Duration::from_secs(seconds))).unwrap_or_default()
}

fn state(one: &StreamOut) -> &'static str {
    match (&one.paused, one.enabled) {
        (_, false) => "off",
        (Some(_), true) => "paused",
        (None, true) => "on",
    }
}

fn pace(per_minute: Option<u32>, spread_s: Option<u64>) -> String {
    let pace = per_minute.map(|n| format!("{n}/min"));
    let spread = spread_s.map(|_| format!("over {}", time(spread_s)));
    [pace, spread].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn list(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let page: Page<StreamOut> = read(value)?;
    if page.items.is_empty() {
        return print("no streams; `pillarbox stream presets` shows what others begin with\n");
    }
    let row = |one: &StreamOut| {
        vec![
            one.name.clone(),
            state(one).into(),
            word(one.priority).into(),
            time(one.deadline_s),
            pace(one.per_minute, one.spread_s),
            time(one.digest_s),
            one.pending.to_string(),
            one.held.to_string(),
        ]
    };
    let heads = ["NAME", "STATE", "PRIORITY", "DEADLINE", "PACE", "DIGEST", "WAITING", "HELD"];
    table(&heads, &page.items.iter().map(row).collect::<Vec<_>>())
}

fn show(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let one: StreamOut = read(value)?;
    let yes = |flag: bool| if flag { "yes".to_owned() } else { String::new() };
    let source = match one.source {
        relay::stream::Source::Store => "",
        relay::stream::Source::Configuration => "the configuration",
        relay::stream::Source::Unconfigured => "nobody has said anything of it",
    };
    facts(&[
        ("name", one.name.clone()),
        ("for", one.description.clone().unwrap_or_default()),
        ("state", state(&one).into()),
        (
            "paused",
            one.paused.as_ref().map(|p| format!("since {}: {}", short_time(&p.since), p.why)).unwrap_or_default(),
        ),
        ("from", source.into()),
        ("priority", word(one.priority).into()),
        ("deadline", time(one.deadline_s)),
        ("pace", pace(one.per_minute, one.spread_s)),
        ("digest", time(one.digest_s)),
        ("one-click unsubscribe", yes(one.unsubscribe)),
        ("recipients may opt out", if one.opt_out { "yes".into() } else { "no".into() }),
        ("own suppressions", yes(one.own_suppressions)),
        ("may arrive twice", yes(one.allow_duplicates)),
        ("contents kept", time(one.content_retention_s)),
        ("events kept", time(one.event_retention_s)),
        ("test mode", yes(one.test_mode)),
        ("waiting", plural(one.pending, "recipient")),
        ("held", plural(one.held, "recipient")),
    ])
}

fn presets(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let page: Page<PresetOut> = read(value)?;
    let row = |one: &PresetOut| {
        let stream = &one.stream;
        vec![
            one.name.clone(),
            word(stream.priority).into(),
            time(stream.deadline_s),
            pace(stream.per_minute, stream.spread_s),
            time(stream.digest_s),
            if stream.unsubscribe {
                "one click"
            } else if stream.opt_out {
                "yes"
            } else {
                "no"
            }
            .into(),
            time(stream.event_retention_s),
            one.about.clone(),
        ]
    };
    let heads = ["NAME", "PRIORITY", "DEADLINE", "PACE", "DIGEST", "OPT-OUT", "EVENTS KEPT", "FOR"];
    table(&heads, &page.items.iter().map(row).collect::<Vec<_>>())
}
