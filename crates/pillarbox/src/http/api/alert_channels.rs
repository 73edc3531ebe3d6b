//! Ways by which alerts are told. What is secret about one is never shown.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::settings::{Document, Kind, SecretChange};

use super::senders::text;
use super::settings;
use crate::alert::channel::{ChannelKind, ChannelRecord};
use crate::alert::plan::What;
use crate::alert::rule::{AlertRule, Severity};
use crate::alert::send::{self, Sent};
use crate::alert::setting::Channel;
use crate::alert::text::Item;
use crate::alert::{Alert, entry};
use crate::http::auth::{Admin, Caller};
use crate::http::json::Json;
use crate::http::problem::Problem;
use crate::http::views::Page;
use crate::http::{Shared, time};
use crate::webhook::sign::Secrets;

/// Most channels.
const MOST: usize = 100;

/// A channel and how it is doing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChannelOut {
    /// Name.
    pub name: String,
    /// Settings.
    pub settings: ChannelRecord,
    /// There is a secret.
    pub has_secret: bool,
    /// Where requests go, if their address is the secret: only its host.
    pub host: Option<String>,
    /// `ok`, `failing`, `quiet`, `disabled`, or `unknown` while nothing was told since the start.
    pub status: String,
    /// Why it fails.
    pub problem: Option<String>,
    /// Since when it fails, RFC 3339.
    pub since: Option<String>,
    /// When it is tried again, or quiet is over, RFC 3339.
    pub next: Option<String>,
    /// Last time it took something since the start, RFC 3339.
    pub last_taken: Option<String>,
    /// Last change, RFC 3339.
    pub updated: String,
    /// A signing secret that was made just now; shown once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_secret: Option<String>,
}

fn out(app: &Shared, document: &Document) -> Result<ChannelOut, Problem> {
    let record: ChannelRecord = settings::record(document)?;
    let now_ms = app.clock.now_ms();
    let state = app.alerts.state(&document.name);
    let quiet_ms = record.quiet.as_ref().and_then(|quiet| quiet.hours().ok()?.until_ms(now_ms));
    let failing = state.failures > 0;
    let status = match (record.disabled, failing, quiet_ms, state.taken_ms) {
        (true, ..) => "disabled",
        (_, true, ..) => "failing",
        (_, _, Some(_), _) => "quiet",
        (.., Some(_)) => "ok",
        (.., None) => "unknown",
    };
    let host = record.kind.secret_url().then(|| Some(record.target(document.secret.as_ref()).ok()?.host)).flatten();
    let next_ms = match status {
        "failing" => Some(state.next_ms),
        "quiet" => quiet_ms,
        _ => None,
    };
    Ok(ChannelOut {
        name: document.name.clone(),
        settings: record,
        has_secret: document.secret.is_some(),
        host,
        status: status.into(),
        problem: state.problem.filter(|_| failing),
        since: state.failing_ms.filter(|_| failing).map(time::show),
        next: next_ms.map(time::show),
        last_taken: state.taken_ms.map(time::show),
        updated: time::show(document.updated_ms),
        new_secret: None,
    })
}

/// All channels.
pub async fn list(State(app): State<Shared>, _: Admin) -> Result<axum::Json<Page<ChannelOut>>, Problem> {
    let all = app.store.documents(Kind::Channel).await?;
    Ok(axum::Json(Page { items: all.iter().map(|one| out(&app, one)).collect::<Result<_, _>>()?, next: None }))
}

/// One channel.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<ChannelOut>, Problem> {
    out(&app, &settings::find(&app, Kind::Channel, &name).await?).map(axum::Json)
}

/// Adds a channel: `name`, the settings, and `secret`. A webhook's signing secret is made if none is brought.
pub async fn add(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Json(mut body): Json<Map<String, Value>>,
) -> Result<(StatusCode, axum::Json<ChannelOut>), Problem> {
    let name = text(&mut body, "name")?.ok_or_else(|| Problem::field("/name", "is missing"))?;
    settings::checked_name(&name)?;
    let given = text(&mut body, "secret")?.map(SecretString::from);
    let record: ChannelRecord = settings::read(Value::Object(body))?;
    let (secret, made) = secret(&record, given)?;
    check(&app, &caller, &record, secret.as_ref())?;
    let _one = app.settings.lock().await;
    let known = app.store.documents(Kind::Channel).await?;
    if known.iter().any(|document| document.name == name) {
        return Err(Problem::new(StatusCode::CONFLICT, format!("there is already a channel \"{name}\"")));
    }
    if known.len() >= MOST {
        return Err(Problem::new(StatusCode::CONFLICT, format!("there are {MOST} channels already")));
    }
    settings::add(&app, Kind::Channel, &name, &record, secret.map_or(SecretChange::Clear, SecretChange::Set)).await?;
    app.alerts.reload().await?;
    let shown = out(&app, &settings::find(&app, Kind::Channel, &name).await?)?;
    Ok((StatusCode::CREATED, axum::Json(ChannelOut { new_secret: made, ..shown })))
}

/// Changes a channel by a merge patch (RFC 7396); `secret` replaces what is secret, `null` removes it.
pub async fn change(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(name): Path<String>,
    Json(mut patch): Json<Map<String, Value>>,
) -> Result<axum::Json<ChannelOut>, Problem> {
    let clears = patch.get("secret").is_some_and(Value::is_null);
    let given = text(&mut patch, "secret")?.map(SecretString::from);
    let _one = app.settings.lock().await;
    let before = settings::find(&app, Kind::Channel, &name).await?;
    let mut body = before.body.clone();
    settings::merge(&mut body, Value::Object(patch));
    let record: ChannelRecord = settings::read(body)?;
    let replaces = given.is_some();
    let (secret, _) = match replaces {
        true => secret(&record, given)?,
        false if clears => (None, None),
        false => (before.secret.clone(), None),
    };
    // Who may not write programs into settings may not leave them there for somebody else either.
    if before.body.get("kind") != serde_json::to_value(record.kind).ok().as_ref() {
        return Err(Problem::field("/kind", "cannot be changed: add another channel"));
    }
    check(&app, &caller, &record, secret.as_ref())?;
    let change = match (replaces, clears, secret) {
        (true, _, Some(secret)) => SecretChange::Set(secret),
        (_, true, _) => SecretChange::Clear,
        _ => SecretChange::Keep,
    };
    settings::write(&app, Kind::Channel, &name, &record, change).await?;
    app.alerts.reload().await?;
    out(&app, &settings::find(&app, Kind::Channel, &name).await?).map(axum::Json)
}

/// Removes a channel.
pub async fn remove(State(app): State<Shared>, _: Admin, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let _one = app.settings.lock().await;
    settings::remove(&app, Kind::Channel, &name).await?;
    app.alerts.reload().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a test found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChannelTestOut {
    /// The channel took it; a mail is in our queue, and its fate is to be seen there.
    pub taken: bool,
    /// What the channel said, or why it did not take it.
    pub said: String,
    /// The mail in our queue.
    pub message: Option<String>,
    /// Routes it takes.
    pub routes: Vec<String>,
}

/// Sends a test alert by one channel, whatever the hour; nothing is noted.
pub async fn test(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<ChannelTestOut>, Problem> {
    let document = settings::find(&app, Kind::Channel, &name).await?;
    let record: ChannelRecord = settings::record(&document)?;
    let channel = Channel::new(document.name, document.version, record, document.secret)
        .map_err(|problem| Problem::new(StatusCode::CONFLICT, problem))?;
    let sent = send::send(&app, &channel, &[sample(&app)], &[]).await;
    Ok(axum::Json(match sent {
        Sent::Taken(said) => ChannelTestOut { taken: true, said, message: None, routes: Vec::new() },
        Sent::Posted(posted) => ChannelTestOut {
            taken: true,
            said: "it is in the queue".into(),
            message: Some(posted.message),
            routes: posted.routes,
        },
        Sent::Failed { problem, .. } => {
            ChannelTestOut { taken: false, said: problem, message: None, routes: Vec::new() }
        }
    }))
}

fn sample(app: &Shared) -> Item {
    let alert = Alert {
        key: "test".into(),
        rule: AlertRule::Test,
        severity: Severity::Warning,
        title: "This is a test of a channel for alerts".into(),
        text: "Somebody asked for it. Nothing is wrong, and there is nothing to do.".into(),
        about: vec![("server".into(), app.hostname.clone())],
        avoid: Vec::new(),
        link: None,
    };
    let entry = entry::Entry::new(alert, app.clock.now_ms());
    Item { id: None, entry, severity: Severity::Warning, what: What::Raised }
}

/// The secret to keep, and one that was made.
fn secret(
    record: &ChannelRecord,
    given: Option<SecretString>,
) -> Result<(Option<SecretString>, Option<String>), Problem> {
    match (record.kind, given) {
        (ChannelKind::Webhook, given) => {
            let made = given.is_none();
            let secrets = Secrets::new(given).map_err(|error| Problem::field("/secret", error.to_string()))?;
            let shown = made.then(|| secrets.current.expose_secret().to_owned());
            Ok((Some(secrets.write()), shown))
        }
        (kind, Some(_)) if kind.secret_is().is_none() => {
            Err(Problem::field("/secret", format!("is nothing that a channel of kind {} has", kind.as_str())))
        }
        (_, Some(given)) if given.expose_secret().is_empty() || given.expose_secret().len() > 4_096 => {
            Err(Problem::field("/secret", "has 1 to 4,096 octets"))
        }
        (_, given) => Ok((given, None)),
    }
}

fn check(app: &Shared, caller: &Caller, record: &ChannelRecord, secret: Option<&SecretString>) -> Result<(), Problem> {
    // A key for the API must not become a shell on this machine.
    if record.kind == ChannelKind::Command && !matches!(caller, Caller::Local) {
        let detail = "a channel that runs a program is set on the machine itself: `pillarbox alert channel add`";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let problems = record.problems(secret, app.hooks.networks());
    if problems.is_empty() { Ok(()) } else { Err(Problem::fields(problems)) }
}
