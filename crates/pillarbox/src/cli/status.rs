//! `pillarbox status`, and what `pillarbox route show` says of a route now: short, in words, what needs somebody first.

use std::fmt::Write as _;

use relay::brake::BrakeStatus;
use relay::failover::OutStatus;
use relay::schedule::DestinationStatus;

use super::Fault;
use super::args::Global;
use super::client::{Client, Need, read};
use super::output::{clean, facts, json as print_json, plural, print, short_time};
use crate::http::api::admin::StatusOut;
use crate::http::api::route_status::{DestinationOut, RouteStatusOut, TokenOut, WindowOut};
use crate::http::forecast::{ForecastOut, thousands};
use crate::http::{time, words};

/// How the server is doing; exit code 1 if it accepts nothing.
pub async fn run(global: &Global) -> Result<(), Fault> {
    let loaded = super::load(global)?;
    let client = Client::find(global, &loaded, Need::Store).await?;
    let value = client.get("/status").await?;
    let status: StatusOut = read(value.clone())?;
    if global.json {
        print_json(&value)?;
    } else {
        overview(&status)?;
    }
    if status.accepting { Ok(()) } else { Err(Fault::Told) }
}

/// Forecasts of the routes that have mail; none while no server runs.
pub(super) async fn forecasts(client: &Client) -> Result<Vec<ForecastOut>, Fault> {
    let status: StatusOut = read(client.get("/status").await?)?;
    Ok(status.forecasts)
}

fn overview(status: &StatusOut) -> Result<(), Fault> {
    let running = status.relay.is_some();
    let figure = |name: &str| if running { status.figure::<u64>(name).to_string() } else { String::new() };
    let by_fallback: u64 = status.figure("by_fallback");
    facts(&[
        ("accepting", if status.accepting { "yes".into() } else { "no".into() }),
        ("reason", status.reason.clone().unwrap_or_default()),
        ("host name", status.hostname.clone()),
        ("version", status.version.clone()),
        ("data", status.data_dir.display().to_string()),
        ("senders", figure("senders")),
        ("routes", figure("routes")),
        ("recipients in memory", figure("window_recipients")),
        ("connections", figure("connections")),
        ("suppressed addresses", figure("suppressed")),
        ("by fallback routes", if by_fallback > 0 { plural(by_fallback, "message") } else { String::new() }),
    ])?;
    let queue: Vec<String> = status.forecasts.iter().map(queue_line).collect();
    print(&section("Queue", &queue))?;
    print(&section("To look at", &troubles(status)))
}

/// A heading and lines below it; nothing without lines.
fn section(head: &str, lines: &[String]) -> String {
    let mut out = String::new();
    if !lines.is_empty() {
        let _ = writeln!(out, "\n{head}");
        for line in lines {
            let _ = writeln!(out, "  {}", clean(line));
        }
    }
    out
}

/// `mail: 3,000 waiting; drains at 14:35 …`.
pub(super) fn queue_line(one: &ForecastOut) -> String {
    format!("{}: {}", one.route, queue_words(one))
}

pub(super) fn queue_words(one: &ForecastOut) -> String {
    let waiting = (one.waiting > 0).then(|| {
        let urgent = if one.urgent > 0 { format!(" ({} urgent)", thousands(one.urgent)) } else { String::new() };
        format!("{} waiting{urgent}", thousands(one.waiting))
    });
    let words = Some(one.words.clone()).filter(|words| !words.is_empty());
    waiting.into_iter().chain(words).collect::<Vec<_>>().join("; ")
}

fn at(ms: i64) -> String {
    short_time(&time::show(ms))
}

/// What a brake does, and until when.
fn braked(brake: &BrakeStatus) -> String {
    let failure = brake.failure.as_ref().map(words::failure);
    let Some(incident) = &brake.incident else {
        return format!(
            "Route {} is rejected when it signs in ({} in a row); next try {}: {}",
            brake.route,
            brake.rejections,
            at(brake.until_ms),
            failure.unwrap_or_default()
        );
    };
    let why = failure.or_else(|| brake.why.clone()).unwrap_or_default();
    let waiting = plural(brake.waiting, "recipient");
    match brake.released {
        Some(released) => format!(
            "Brake on {} comes off ({incident}): {} let go, {waiting} left",
            brake.scope,
            plural(released, "recipient")
        ),
        None => format!(
            "Brake on {} since {} ({incident}): {waiting} held; next probe {}: {why}",
            brake.scope,
            at(brake.since_ms),
            at(brake.until_ms)
        ),
    }
}

/// What somebody should look at, most pressing first.
pub(super) fn troubles(status: &StatusOut) -> Vec<String> {
    let mut lines: Vec<String> = status.incidents.iter().map(super::incidents::line).collect();
    for brake in status.figure::<Vec<BrakeStatus>>("brakes") {
        lines.push(braked(&brake));
    }
    for out in status.figure::<Vec<OutStatus>>("out") {
        lines.push(format!(
            "Nothing works at {} since {}: {} went by fallback routes; next probe {}",
            out.name,
            at(out.since_ms),
            plural(out.diverted, "message"),
            at(out.probe_ms)
        ));
    }
    let destinations = status.figure::<Vec<DestinationStatus>>("destinations");
    lines.extend(
        destinations.iter().filter_map(|one| trouble_of(&crate::http::api::route_status::destination(one, i64::MIN))),
    );
    let rates = status.figure::<Vec<relay::rates::Rate>>("rates");
    lines.extend(rates.iter().map(|rate| format!("{}.", capital(&super::rates::sentence(rate)))));
    lines.extend(status.figure::<Vec<String>>("transport_problems"));
    lines.extend(status.expiring.iter().map(|found| format!("{}.", capital(&found.words()))));
    lines.extend(status.notes.iter().cloned());
    lines
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// What a destination suffers from, if from anything.
fn trouble_of(one: &DestinationOut) -> Option<String> {
    if let Some(until) = &one.held_until {
        return Some(format!("{} wants nothing from us; next probe {}", one.name, short_time(until)));
    }
    if let Some(until) = &one.paused_until {
        return Some(format!("{} cannot be reached; next try {}", one.name, short_time(until)));
    }
    one.slowed_to_per_minute.map(|rate| {
        format!(
            "{} asked for less: {} a minute now, and more again little by little",
            one.name,
            thousands(u64::from(rate))
        )
    })
}

/// A route now, behind its settings.
pub(super) fn route(now: &RouteStatusOut) -> Result<(), Fault> {
    if !now.running {
        return print("\nNo server runs: nothing more is known.\n");
    }
    let forecast = now.forecast.as_ref().map_or_else(|| "nothing waits".into(), queue_words);
    let out = |one: &crate::http::api::route_status::OutOut| {
        format!(
            "nothing works at {} since {}; {} went by fallback routes; next probe {}",
            one.destination,
            short_time(&one.since),
            plural(one.diverted, "message"),
            short_time(&one.probe)
        )
    };
    let brake = now.brake.as_ref().map(|brake| {
        let until = short_time(&brake.until);
        format!(
            "on: rejected {} in a row, next try {until}: {}",
            plural(u64::from(brake.rejections), "time"),
            brake.reason
        )
    });
    print("\nNow\n")?;
    facts(&[
        ("  queue", forecast),
        ("  brake", brake.unwrap_or_default()),
        ("  failover", now.out.iter().map(out).collect::<Vec<_>>().join("; ")),
        ("  access token", now.token.as_ref().map(token).unwrap_or_default()),
        (
            "  ending soon",
            now.expiring.iter().map(crate::oauth::expiry::Expiring::words).collect::<Vec<_>>().join("; "),
        ),
    ])?;
    print(&section("Used of its limits", &now.windows.iter().map(|one| window(&now.name, one)).collect::<Vec<_>>()))?;
    print(&section("Destinations", &now.destinations.iter().map(destination).collect::<Vec<_>>()))?;
    let source = |one: &crate::http::api::route_status::SourceOut| {
        let ours = if one.ours { "" } else { ": not one of this machine's addresses" };
        format!("{} says {} in EHLO{ours}", one.address, one.helo)
    };
    print(&section("Sources", &now.sources.iter().map(source).collect::<Vec<_>>()))?;
    let tls = |one: &crate::http::api::route_status::TlsOut| {
        format!("{} [{}]: only {} works, until {}", one.host, one.address, one.works, short_time(&one.until))
    };
    print(&section("Servers whose TLS is broken", &now.tls.iter().map(tls).collect::<Vec<_>>()))?;
    print(&section("To look at", &now.warnings))
}

fn token(token: &TokenOut) -> String {
    let expires = token.expires.as_deref().map(|at| format!("ends {}", short_time(at)));
    let renews = token.renews.as_deref().map(|at| format!("is renewed {}", short_time(at)));
    let failure = token.failure.as_ref().map(|why| match &token.again {
        Some(again) => format!("the last renewal failed ({why}), again {}", short_time(again)),
        None => format!("the last renewal failed ({why})"),
    });
    let all: Vec<String> = [expires, renews, failure].into_iter().flatten().collect();
    if all.is_empty() { "none yet".into() } else { all.join(", ") }
}

/// `12 of 25 messages a minute (22 for mail that is not urgent)`.
fn window(route: &str, one: &WindowOut) -> String {
    let account = if one.account == route { String::new() } else { format!("{}: ", one.account) };
    let per = if one.per == "hour" { "an hour".to_owned() } else { format!("a {}", one.per) };
    let ordinary = match one.ordinary < one.limit {
        true => format!(" ({} for mail that is not urgent)", thousands(u64::from(one.ordinary))),
        false => String::new(),
    };
    let frees = one.frees.as_deref().map(|at| format!(", room again {}", short_time(at))).unwrap_or_default();
    let (used, limit) = (thousands(u64::from(one.used)), thousands(u64::from(one.limit)));
    format!("{account}{used} of {limit} {} {per}{ordinary}{frees}", one.unit)
}

fn destination(one: &DestinationOut) -> String {
    let mut text =
        format!("{}: {} in memory, {}", one.name, one.queued, plural(u64::from(one.connections), "connection"));
    if one.idle > 0 {
        let _ = write!(text, " ({} idle)", one.idle);
    }
    if let Some(until) = &one.full_until {
        let _ = write!(text, "; a limit is used up until {}", short_time(until));
    }
    if let Some(trouble) = trouble_of(one) {
        let trouble = trouble.strip_prefix(&one.name).unwrap_or(&trouble).trim_start();
        let _ = write!(text, "; it {trouble}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_and_a_destination_are_one_line_each() {
        let one = WindowOut {
            account: "mail".into(),
            per: "hour".into(),
            unit: "messages".into(),
            used: 900,
            limit: 1_000,
            ordinary: 900,
            frees: Some("2026-11-21T03:08:29.123Z".into()),
        };
        let text = "900 of 1,000 messages an hour (900 for mail that is not urgent), room again 2026-11-21 03:08:29Z";
        assert_eq!(window("mail", &one), text);
        let held = DestinationOut {
            name: "mx/a.example".into(),
            queued: 3,
            connections: 1,
            idle: 0,
            paused_until: None,
            full_until: None,
            held_until: Some("2026-11-21T03:08:29.123Z".into()),
            slowed_to_per_minute: Some(30),
        };
        assert_eq!(
            destination(&held),
            "mx/a.example: 3 in memory, 1 connection; it wants nothing from us; next probe 2026-11-21 03:08:29Z"
        );
    }
}
