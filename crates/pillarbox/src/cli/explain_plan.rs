//! `pillarbox explain user@domain`: what would become of a message to somebody now, without sending it.

use std::fmt::Write as _;

use proto::transcript::{Failure, TransportPolicy};
use serde::Deserialize;
use serde_json::Value;

use super::Fault;
use super::args::Global;
use super::client::{Client, Need, query, read};
use super::output::{clean, json as print_json, print, short_time};
use crate::http::{time, words};

/// The plan, as far as it is shown.
#[derive(Debug, Deserialize)]
struct View {
    recipient: String,
    from: String,
    stream: String,
    #[serde(default)]
    route: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    destination: Option<String>,
    hosts: Vec<HostView>,
    #[serde(default)]
    failure: Option<Failure>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    tls: Option<String>,
    verified: bool,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    helo: Option<String>,
    #[serde(default)]
    connections: Option<u32>,
    #[serde(default)]
    messages_per_connection: Option<u32>,
    quotas: Vec<QuotaView>,
    #[serde(default)]
    state: Option<StateView>,
    #[serde(default)]
    next_slot_ms: Option<i64>,
    now_ms: i64,
}

#[derive(Debug, Deserialize)]
struct HostView {
    #[serde(default)]
    preference: Option<u16>,
    host: String,
    addresses: Vec<String>,
    #[serde(default)]
    policy: Option<TransportPolicy>,
    #[serde(default)]
    failure: Option<Failure>,
}

#[derive(Debug, Deserialize)]
struct QuotaView {
    per: String,
    unit: String,
    limit: u32,
    used: u32,
}

#[derive(Debug, Deserialize)]
struct StateView {
    queued: usize,
    connections: u32,
    #[serde(default)]
    paused_until_ms: Option<i64>,
}

/// Asks the server and shows it.
pub async fn run(global: &Global, recipient: &str, from: Option<&str>, stream: Option<&str>) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Server).await?;
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let pairs = [("recipient", Some(recipient.to_owned())), ("from", owned(from)), ("stream", owned(stream))];
    let value: Value = client.get(&format!("/plan{}", query(&pairs))).await?;
    let view: View = read(value.clone())?;
    match global.json {
        true => print_json(&value)?,
        false => print(&shown(&view))?,
    }
    let works = view.route.is_some() && view.failure.is_none() && !no_host_works(&view);
    if works { Ok(()) } else { Err(Fault::Told) }
}

fn no_host_works(view: &View) -> bool {
    !view.hosts.is_empty() && view.hosts.iter().all(|host| host.addresses.is_empty())
}

fn shown(view: &View) -> String {
    let mut out = String::new();
    let from = if view.from.is_empty() { "the null sender".into() } else { clean(&view.from) };
    let _ = writeln!(out, "A message from {from} to {}, stream {}:\n", clean(&view.recipient), clean(&view.stream));
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(out, "  {name:<12}{}", clean(&value));
        }
    };
    let Some(route) = &view.route else {
        row("Route", "none: no rule takes it, so the message would be refused".into());
        return out;
    };
    let kind = view.kind.clone().unwrap_or_default();
    row("Route", format!("{route} ({kind})"));
    if matches!(kind.as_str(), "capture" | "discard") {
        row("Then", "it stays on this machine: nothing is sent".into());
        return out;
    }
    if let Some(failure) = &view.failure {
        row("Fails", words::failure(failure));
    }
    for (n, host) in view.hosts.iter().enumerate() {
        let preference = host.preference.map(|preference| format!("{preference:>3} ")).unwrap_or_default();
        let where_to = match &host.failure {
            Some(failure) => words::failure(failure),
            None => host.addresses.join(", "),
        };
        let policy = host.policy.map(|policy| format!(" ({} decides on TLS)", policy.name())).unwrap_or_default();
        row(
            if n == 0 { "Hosts" } else { "" },
            format!("{preference}{} port {}: {where_to}{policy}", host.host, view.port.unwrap_or(25)),
        );
    }
    let tls = match (view.tls.as_deref(), view.verified) {
        (Some("required"), true) => "STARTTLS or nothing, with a certificate that verifies",
        (Some("required"), false) => "STARTTLS or nothing, any certificate",
        (Some("implicit"), true) => "from the first octet, with a certificate that verifies",
        (Some("implicit"), false) => "from the first octet, any certificate",
        (Some("opportunistic"), _) => "where it is offered, any certificate",
        _ => "none",
    };
    row("TLS", tls.into());
    row("Signs in", view.username.clone().unwrap_or_else(|| "no".into()));
    row("EHLO", view.helo.clone().unwrap_or_default());
    let limits = [(view.connections, "connections"), (view.messages_per_connection, "messages on each")];
    let limits: Vec<String> = limits.iter().filter_map(|(n, what)| Some(format!("{} {what}", (*n)?))).collect();
    row("Limits", limits.join(", "));
    for quota in &view.quotas {
        row("Quota", format!("{} of {} {} in a {} are used", quota.used, quota.limit, quota.unit, quota.per));
    }
    row("Shares with", view.destination.clone().unwrap_or_default());
    if let Some(state) = &view.state {
        row("Now", format!("{} waiting, {} connections", state.queued, state.connections));
        if let Some(until) = state.paused_until_ms.filter(|until| *until > view.now_ms) {
            row("Paused", format!("after failures to connect, until {}", short_time(&time::show(until))));
        }
    }
    let next = match view.next_slot_ms {
        Some(at) if at > view.now_ms => format!("not before {}", short_time(&time::show(at))),
        Some(_) => "at once".into(),
        None => "unknown".into(),
    };
    row("Next slot", next);
    out
}
