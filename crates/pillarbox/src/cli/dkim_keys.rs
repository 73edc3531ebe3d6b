//! `pillarbox dkim add|ls|show|check|activate|rotate|set|rm`: the keys of domains we sign for.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context;
use axum::http::Method;
use relay::domain::KeyState;
use serde_json::{Map, Value, json};

use super::Fault;
use super::args::Global;
use super::args_dkim::{Algorithm, DkimActivateArgs, DkimAddArgs, DkimRemoveArgs, DkimRotateArgs, DkimSetArgs};
use super::args_policy::DkimCommand;
use super::client::{Client, Need, escaped, read};
use super::output::{clean, json as print_json, print, short_time, table};
use crate::http::api::domains::{CheckOut, DomainOut, KeyOut};
use crate::http::views::Page;

/// Largest file with a private key.
const MAX_PEM: u64 = 64 * 1024;

/// Does what was asked; `verify` and `key` are not for here.
pub async fn run(global: &Global, command: &DkimCommand) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    match command {
        DkimCommand::Add(args) => add(global, &client, args).await,
        DkimCommand::Ls => list(global, client.get("/domains").await?),
        DkimCommand::Show { domain } => show(global, client.get(&path(domain, "")).await?, Records::All),
        DkimCommand::Check { domain } => {
            check(global, client.send(Method::POST, &path(domain, "/check"), json!({})).await?)
        }
        DkimCommand::Activate(args) => activate(global, &client, args).await,
        DkimCommand::Rotate(args) => rotate(global, &client, args).await,
        DkimCommand::Set(args) => set(global, &client, args).await,
        DkimCommand::Rm(args) => remove(global, &client, args).await,
        DkimCommand::Verify { .. } | DkimCommand::Key { .. } => Ok(()),
    }
}

fn path(domain: &str, rest: &str) -> String {
    format!("/domains/{}{rest}", escaped(domain))
}

async fn add(global: &Global, client: &Client, args: &DkimAddArgs) -> Result<(), Fault> {
    let algorithm = match args.algorithm {
        Algorithm::Both => "both",
        Algorithm::Rsa => "rsa",
        Algorithm::Ed25519 => "ed25519",
    };
    let mut body = json!({ "domain": args.domain, "when_published": args.when_published });
    let mut put = |name: &str, value: Option<Value>| {
        if let (Some(value), Some(body)) = (value, body.as_object_mut()) {
            body.insert(name.into(), value);
        }
    };
    put("selector", args.selector.clone().map(Into::into));
    put("bits", args.bits.map(Into::into));
    match &args.import {
        Some(file) => put("private_key", Some(pem(file)?.into())),
        None => put("algorithm", Some(algorithm.into())),
    }
    show(global, client.send(Method::POST, "/domains", body).await?, Records::New)
}

fn pem(file: &Path) -> Result<String, Fault> {
    let mut text = String::new();
    let opened = std::fs::File::open(file);
    let result = opened.and_then(|opened| opened.take(MAX_PEM).read_to_string(&mut text));
    result.with_context(|| format!("cannot read {}", file.display())).map_err(Fault::cannot)?;
    Ok(text)
}

async fn activate(global: &Global, client: &Client, args: &DkimActivateArgs) -> Result<(), Fault> {
    let body = json!({ "selectors": args.selector, "force": args.force });
    show(global, client.send(Method::POST, &path(&args.domain, "/activate"), body).await?, Records::None)
}

async fn rotate(global: &Global, client: &Client, args: &DkimRotateArgs) -> Result<(), Fault> {
    let mut body = Map::new();
    if let Some(selector) = &args.selector {
        body.insert("selector".into(), selector.clone().into());
    }
    if let Some(bits) = args.bits {
        body.insert("bits".into(), bits.into());
    }
    let value = client.send(Method::POST, &path(&args.domain, "/rotate"), Value::Object(body)).await?;
    show(global, value, Records::New)
}

async fn set(global: &Global, client: &Client, args: &DkimSetArgs) -> Result<(), Fault> {
    let mut patch = Map::new();
    if let Some(subdomains) = args.subdomains {
        patch.insert("subdomains".into(), subdomains.into());
    }
    match args.leave_out.as_slice() {
        [] => {}
        [none] if none == "none" => drop(patch.insert("leave_out".into(), json!([]))),
        names => drop(patch.insert("leave_out".into(), json!(names))),
    }
    if patch.is_empty() {
        return Err(Fault::Usage("nothing to change; see `pillarbox dkim set --help`".into()));
    }
    show(global, client.send(Method::PATCH, &path(&args.domain, ""), Value::Object(patch)).await?, Records::None)
}

async fn remove(global: &Global, client: &Client, args: &DkimRemoveArgs) -> Result<(), Fault> {
    let (rest, what) = match &args.selector {
        Some(selector) => (format!("/keys/{}", escaped(selector)), format!("key {selector} of {}", args.domain)),
        None => (String::new(), format!("domain {}", args.domain)),
    };
    let force = if args.force { "?force=true" } else { "" };
    client.delete(&format!("{}{force}", path(&args.domain, &rest))).await?;
    let text = format!("{what} removed");
    if global.json { print_json(&json!({ "done": text })) } else { print(&format!("{}\n", clean(&text))) }
}

fn list(global: &Global, value: Value) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    let page: Page<DomainOut> = read(value)?;
    let rows: Vec<Vec<String>> =
        page.items.iter().flat_map(|one| one.keys.iter().map(|key| row(&one.domain, key))).collect();
    table(&["DOMAIN", "SELECTOR", "KIND", "BITS", "STATE", "SINCE", "NAME SERVERS"], &rows)
}

fn row(domain: &str, key: &KeyOut) -> Vec<String> {
    vec![
        domain.to_owned(),
        key.selector.clone(),
        key.kind.name().to_owned(),
        key.bits.to_string(),
        key.state.name().to_owned(),
        short_time(&key.since),
        servers(key),
    ]
}

/// What is known of the name servers, in a few words.
fn servers(key: &KeyOut) -> String {
    match (&key.checked, key.problems.as_slice()) {
        (None, _) => "not asked yet".into(),
        (Some(_), []) => "all have it".into(),
        (Some(_), [one]) => one.clone(),
        (Some(_), many) => format!("{} problems", many.len()),
    }
}

/// Which records are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Records {
    All,
    New,
    None,
}

fn show(global: &Global, value: Value, records: Records) -> Result<(), Fault> {
    if global.json {
        return print_json(&value);
    }
    print(&words(&read(value)?, records))
}

fn words(one: &DomainOut, records: Records) -> String {
    let mut out = String::new();
    let bold = anstyle::Style::new().bold();
    let state = if one.signs { "mail is signed" } else { "mail is not signed yet" };
    let _ = writeln!(out, "{bold}{}{bold:#}: {state}", clean(&one.domain));
    if !one.subdomains {
        out.push_str("  mail from domains below it is not signed with these keys\n");
    }
    if !one.leave_out.is_empty() {
        let _ = writeln!(out, "  not signed: {}", clean(&one.leave_out.join(", ")));
    }
    for key in &one.keys {
        let _ = writeln!(out, "\n{}  {} {} bits, {}", clean(&key.selector), key.kind.name(), key.bits, meaning(key));
        match key.problems.as_slice() {
            [] if key.checked.is_some() => out.push_str("  every authoritative name server has the record\n"),
            problems => out.extend(problems.iter().map(|problem| format!("  {}\n", clean(problem)))),
        }
        let is_new = matches!(key.state, KeyState::Prepared | KeyState::Published);
        if records == Records::All && key.state != KeyState::Retired || records == Records::New && is_new {
            record(key, &mut out);
        }
    }
    let waiting = one.keys.iter().any(|key| matches!(key.state, KeyState::Prepared | KeyState::Published));
    if records == Records::New && waiting {
        let by_itself = one.keys.iter().any(|key| key.when_published);
        let next = match by_itself {
            true => {
                "They sign as soon as every authoritative name server has them; `pillarbox dkim check` asks at once."
            }
            false => "When they are published: `pillarbox dkim activate`.",
        };
        let _ = writeln!(out, "\nPublish these records in the DNS. {next}");
    }
    out
}

fn meaning(key: &KeyOut) -> String {
    let since = short_time(&key.since);
    match key.state {
        KeyState::Prepared if key.when_published => "prepared: signs as soon as it is published".into(),
        KeyState::Prepared => "prepared: its record has to be published".into(),
        KeyState::Published => "published: can be activated".into(),
        KeyState::Active => format!("active since {since}"),
        KeyState::Retiring => {
            let until = key.needed_until.as_deref().map(short_time).unwrap_or_default();
            format!("retiring: signs no more; its record is needed until {until} at least")
        }
        KeyState::Retired => "retired: its record can be removed".into(),
    }
}

fn record(key: &KeyOut, out: &mut String) {
    let record = &key.record;
    let _ = writeln!(out, "  name   {}", clean(&record.name));
    let _ = writeln!(out, "  type   {}", clean(&record.kind));
    let _ = writeln!(out, "  value  {}", clean(&record.value));
    let _ = writeln!(out, "  zone   {}", clean(&record.zone_line));
}

fn check(global: &Global, value: Value) -> Result<(), Fault> {
    let found: CheckOut = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else {
        let mut out = String::new();
        for key in &found.keys {
            let state = if key.published { "published everywhere" } else { "not published everywhere" };
            let zone = key.zone.as_deref().map_or_else(String::new, |zone| format!(" (zone {})", clean(zone)));
            let _ = writeln!(out, "{}: {state}{zone}", clean(&key.name));
            for said in &key.servers {
                let address = said.address.as_deref().unwrap_or("no address");
                let detail = said.detail.as_ref().map_or_else(String::new, |detail| format!(": {}", clean(detail)));
                let result = said.result.replace('_', " ");
                let _ = writeln!(out, "  {} {}  {}{detail}", clean(&said.server), clean(address), clean(&result));
            }
            if key.servers.is_empty() {
                out.extend(key.problems.iter().map(|problem| format!("  {}\n", clean(problem))));
            }
        }
        out.push('\n');
        out.push_str(&words(&found.domain, Records::None));
        print(&out)?;
    }
    if found.published { Ok(()) } else { Err(Fault::Told) }
}
