//! The support bundle: an archive for whoever helps, without secrets, content and people.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::auth::Admin;
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::ui::door::Inside;
use crate::http::{Shared, time};
use crate::support::bundle::{self, Answers, MOST_SAMPLES};

/// Longest answer, characters.
const LONGEST: usize = 2_000;

/// What only whoever asks for help knows; all of it may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupportQuery {
    /// What goes wrong.
    what: Option<String>,
    /// Since when: a time (RFC 3339), or words.
    since: Option<String>,
    /// The proxy, firewall or mail gateway between this server and the internet.
    proxy: Option<String>,
    /// Addresses that it happens to, at most 10, with blanks or commas between them.
    samples: Option<String>,
    /// Whether the spam folder was looked into: `not_looked`, `not_there`, `there`, or words.
    spam_folder: Option<String>,
}

/// The bundle: a zip archive of JSON.
pub async fn bundle(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Query(query): Query<SupportQuery>,
) -> Result<Response, Problem> {
    let answers = answers(query)?;
    let now_ms = app.clock.now_ms();
    let door = Inside::new(&app).door(caller.clone(), None);
    let made = bundle::made(&door, answers, about(&app, now_ms), rand::random()).await;
    let failed = |error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}"));
    let made = made.map_err(failed)?;
    let stamp: String = time::show(now_ms).chars().filter(char::is_ascii_digit).take(14).collect();
    let headers = [
        (header::CONTENT_TYPE, "application/zip".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"pillarbox-support-{stamp}.zip\"")),
    ];
    Ok((headers, made).into_response())
}

fn answers(query: SupportQuery) -> Result<Answers, Problem> {
    let short = |name: &str, text: Option<String>| match text.filter(|text| !text.trim().is_empty()) {
        Some(text) if text.chars().count() > LONGEST => {
            Err(Problem::field(format!("/{name}"), format!("is longer than {LONGEST} characters")))
        }
        text => Ok(text),
    };
    let samples = short("samples", query.samples)?.unwrap_or_default();
    let samples: Vec<String> = samples
        .split(|c: char| c.is_whitespace() || matches!(c, ',' | ';'))
        .filter(|one| !one.is_empty())
        .map(str::to_owned)
        .collect();
    if samples.len() > MOST_SAMPLES {
        return Err(Problem::field("/samples", format!("name at most {MOST_SAMPLES} addresses")));
    }
    if let Some(wrong) = samples.iter().find(|one| proto::Address::parse(one).is_err()) {
        return Err(Problem::field("/samples", format!("\"{wrong}\" is no mail address")));
    }
    Ok(Answers {
        what: short("what", query.what)?,
        since: short("since", query.since)?,
        proxy: short("proxy", query.proxy)?,
        samples,
        spam_folder: short("spam_folder", query.spam_folder)?,
    })
}

fn about(app: &Shared, now_ms: i64) -> Value {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let release = read("/etc/os-release").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
        Some(line.trim_matches('"').to_owned())
    });
    json!({
        "made": time::show(now_ms),
        "version": env!("CARGO_PKG_VERSION"),
        "hostname": app.hostname,
        "system": std::env::consts::OS,
        "machine": std::env::consts::ARCH,
        "release": release,
        "kernel": read("/proc/sys/kernel/osrelease"),
        "started": time::show(app.metrics.started_ms()),
        "rules": app.rules().rules().count(),
    })
}
