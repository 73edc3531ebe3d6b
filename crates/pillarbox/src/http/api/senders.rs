//! Senders: who may submit. Passwords go in and never come out; a made one is in the answer once.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use relay::credential::{hash_password, new_api_key, new_password};
use relay::sender::{OnPause, SenderRecord};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::settings::{Document, Kind, SecretChange};

use super::settings;
use crate::http::auth::Admin;
use crate::http::json::{Json, Query};
use crate::http::problem::Problem;
use crate::http::views::{Names, Page};
use crate::http::{Shared, time};
use crate::volume::pause;

/// Shortest password that people may choose.
const SHORTEST_PASSWORD: usize = 10;

/// A sender without its secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SenderOut {
    /// Name, also the SMTP user name.
    pub name: String,
    /// It has an SMTP password.
    pub has_password: bool,
    /// Its API keys.
    pub api_keys: Vec<KeyOut>,
    /// Addresses that are this sender without a password.
    pub trusted_addresses: Vec<String>,
    /// Addresses it may connect from; empty: any.
    pub networks: Vec<String>,
    /// What may stand in MAIL FROM and From.
    pub allowed_from: Vec<String>,
    /// Most messages a minute.
    pub messages_per_minute: Option<u32>,
    /// Most octets a message.
    pub max_size: Option<u64>,
    /// Stream of messages that name none.
    pub stream: Option<String>,
    /// May manage.
    pub admin: bool,
    /// Refuses everything.
    pub disabled: bool,
    /// What is done by itself when far more comes than uses to: `hold` or `refuse` new mail. Queued mail is held in any case.
    pub pause_on_spike: Option<OnPause>,
    /// Since when and why its mail is held.
    pub paused: Option<SenderPausedOut>,
    /// Last change, RFC 3339.
    pub updated: String,
    /// A password that was made just now; shown once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_password: Option<String>,
    /// An API key that was made just now; shown once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_api_key: Option<String>,
}

/// A pause as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SenderPausedOut {
    /// RFC 3339.
    pub since: String,
    /// Who did it, or what was noticed.
    pub why: String,
    /// What becomes of new mail.
    pub new_mail: OnPause,
}

/// An API key as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyOut {
    /// First characters.
    pub prefix: String,
    /// RFC 3339.
    pub created: String,
}

fn shown(name: &str, record: &SenderRecord, updated_ms: i64) -> SenderOut {
    let key =
        |key: &relay::sender::ApiKeyRecord| KeyOut { prefix: key.prefix.clone(), created: time::show(key.created_ms) };
    SenderOut {
        name: name.to_owned(),
        has_password: record.password_hash.is_some(),
        api_keys: record.api_keys.iter().map(key).collect(),
        trusted_addresses: record.trusted_addresses.iter().map(ToString::to_string).collect(),
        networks: record.networks.iter().map(ToString::to_string).collect(),
        allowed_from: record.allowed_from.clone(),
        messages_per_minute: record.messages_per_minute,
        max_size: record.max_size,
        stream: record.stream.clone(),
        admin: record.admin,
        disabled: record.disabled,
        pause_on_spike: record.pause_on_spike,
        paused: record.paused.as_ref().map(|paused| SenderPausedOut {
            since: time::show(paused.since_ms),
            why: paused.why.clone(),
            new_mail: paused.new_mail,
        }),
        updated: time::show(updated_ms),
        new_password: None,
        new_api_key: None,
    }
}

/// A stored sender as it is shown.
pub fn document(document: &Document) -> Result<SenderOut, Problem> {
    Ok(shown(&document.name, &settings::record(document)?, document.updated_ms))
}

/// All senders.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(names): Query<Names>,
) -> Result<axum::Json<Page<SenderOut>>, Problem> {
    let all = app.store.documents(Kind::Sender).await?;
    Ok(axum::Json(names.page(all.iter().map(document).collect::<Result<_, _>>()?, |one| &one.name)))
}

/// One sender.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<SenderOut>, Problem> {
    document(&settings::find(&app, Kind::Sender, &name).await?).map(axum::Json)
}

/// Which secrets to make for a new sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Make {
    /// None.
    #[default]
    None,
    /// A password.
    Password,
    /// An API key.
    Key,
    /// Both.
    Both,
}

/// Adds a sender: `name`, the fields of the record, and `password` or `make`.
pub async fn add(
    State(app): State<Shared>,
    _: Admin,
    Json(mut body): Json<serde_json::Map<String, Value>>,
) -> Result<(StatusCode, axum::Json<SenderOut>), Problem> {
    let name = text(&mut body, "name")?.ok_or_else(|| Problem::field("/name", "is missing"))?;
    settings::checked_name(&name)?;
    let password = text(&mut body, "password")?.map(SecretString::from);
    let make: Make = body.remove("make").map(settings::read).transpose()?.unwrap_or_default();
    refuse_secrets(&body)?;
    let mut record: SenderRecord = settings::read(Value::Object(body))?;
    check(&record)?;
    let mut made = (None, None);
    if let Some(password) = &password {
        record.password_hash = Some(hashed(password).await?);
    } else if matches!(make, Make::Password | Make::Both) {
        let password = new_password();
        record.password_hash = Some(hashed(&password).await?);
        made.0 = Some(password.expose_secret().to_owned());
    }
    if matches!(make, Make::Key | Make::Both) {
        let (key, key_record) = new_api_key(app.clock.now_ms());
        record.api_keys.push(key_record);
        made.1 = Some(key.expose_secret().to_owned());
    }
    let _one = app.settings.lock().await;
    if settings::exists(&app, Kind::Sender, &name).await? {
        return Err(Problem::new(StatusCode::CONFLICT, format!("there is already a sender \"{name}\"")));
    }
    settings::add(&app, Kind::Sender, &name, &record, SecretChange::Keep).await?;
    let shown = shown(&name, &record, app.clock.now_ms());
    Ok((StatusCode::CREATED, axum::Json(SenderOut { new_password: made.0, new_api_key: made.1, ..shown })))
}

/// Changes a sender by a merge patch (RFC 7396).
pub async fn change(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(patch): Json<serde_json::Map<String, Value>>,
) -> Result<axum::Json<SenderOut>, Problem> {
    refuse_secrets(&patch)?;
    let _one = app.settings.lock().await;
    let document = settings::find(&app, Kind::Sender, &name).await?;
    let mut body = document.body.clone();
    settings::merge(&mut body, Value::Object(patch));
    let record: SenderRecord = settings::read(body)?;
    check(&record)?;
    settings::write(&app, Kind::Sender, &name, &record, SecretChange::Keep).await?;
    Ok(axum::Json(shown(&name, &record, app.clock.now_ms())))
}

/// Removes a sender; its queued mail stays.
pub async fn remove(State(app): State<Shared>, _: Admin, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let _one = app.settings.lock().await;
    settings::remove(&app, Kind::Sender, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A password; without one it is made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordIn {
    #[serde(default)]
    password: Option<SecretString>,
}

/// Sets the password.
pub async fn set_password(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(body): Json<PasswordIn>,
) -> Result<axum::Json<SenderOut>, Problem> {
    let made = body.password.is_none();
    let password = body.password.unwrap_or_else(new_password);
    let hash = hashed(&password).await?;
    let shown = update(&app, &name, |record| {
        record.password_hash = Some(hash);
        Ok(())
    })
    .await?;
    let new_password = made.then(|| password.expose_secret().to_owned());
    Ok(axum::Json(SenderOut { new_password, ..shown }))
}

/// Removes the password: SMTP log-in ends, API keys stay.
pub async fn clear_password(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    update(&app, &name, |record| {
        record.password_hash = None;
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes another API key.
pub async fn add_key(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<(StatusCode, axum::Json<SenderOut>), Problem> {
    let (key, key_record) = new_api_key(app.clock.now_ms());
    let shown = update(&app, &name, |record| {
        record.api_keys.push(key_record);
        Ok(())
    })
    .await?;
    let new_api_key = Some(key.expose_secret().to_owned());
    Ok((StatusCode::CREATED, axum::Json(SenderOut { new_api_key, ..shown })))
}

/// Revokes the API key with this prefix.
pub async fn revoke_key(
    State(app): State<Shared>,
    _: Admin,
    Path((name, prefix)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    update(&app, &name, |record| {
        let before = record.api_keys.len();
        record.api_keys.retain(|key| key.prefix != prefix);
        if record.api_keys.len() == before { Err(Problem::not_found()) } else { Ok(()) }
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How a sender is paused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SenderPauseIn {
    /// Reason, shown with the held mail.
    why: Option<String>,
    /// What becomes of new mail; without it, it is held.
    new_mail: Option<OnPause>,
}

/// Longest reason of a pause, characters.
const MOST_WHY: usize = 200;

/// Holds a sender's queued mail, and holds or refuses its new mail.
pub async fn pause(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(name): Path<String>,
    Json(body): Json<SenderPauseIn>,
) -> Result<axum::Json<SenderOut>, Problem> {
    let why = body.why.unwrap_or_else(|| format!("by {}", caller.who()));
    if why.is_empty() || why.chars().count() > MOST_WHY || why.contains(char::is_control) {
        return Err(Problem::field("/why", format!("has 1 to {MOST_WHY} characters in one line")));
    }
    pause::pause(&app, &name, why, body.new_mail.unwrap_or(OnPause::Hold)).await?;
    document(&settings::find(&app, Kind::Sender, &name).await?).map(axum::Json)
}

/// How a sender goes on.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SenderResumeIn {
    /// What came was its own: next time as much is less of a surprise.
    false_alarm: bool,
}

/// Lets a paused sender go on, with what was held.
pub async fn resume(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(body): Json<SenderResumeIn>,
) -> Result<axum::Json<SenderOut>, Problem> {
    let judged = if body.false_alarm { pause::Judged::FalseAlarm } else { pause::Judged::Unknown };
    pause::resume(&app, &name, judged).await?;
    document(&settings::find(&app, Kind::Sender, &name).await?).map(axum::Json)
}

async fn update(
    app: &Shared,
    name: &str,
    change: impl FnOnce(&mut SenderRecord) -> Result<(), Problem>,
) -> Result<SenderOut, Problem> {
    let _one = app.settings.lock().await;
    let document = settings::find(app, Kind::Sender, name).await?;
    let mut record: SenderRecord = settings::record(&document)?;
    change(&mut record)?;
    settings::write(app, Kind::Sender, name, &record, SecretChange::Keep).await?;
    Ok(shown(name, &record, app.clock.now_ms()))
}

fn check(record: &SenderRecord) -> Result<(), Problem> {
    if record.allowed_from.is_empty() {
        let detail = "name at least one address, domain, or \"*\" that the sender may use";
        return Err(Problem::field("/allowed_from", detail));
    }
    for (n, pattern) in record.allowed_from.iter().enumerate() {
        let domain = |domain: &str| proto::address::parse_domain(domain.strip_prefix('.').unwrap_or(domain)).is_ok();
        let fine = pattern == "*"
            || if pattern.contains('@') { proto::Address::parse(pattern).is_ok() } else { domain(pattern) };
        if !fine {
            let detail = "is not user@example.com, example.com, .example.com or *";
            return Err(Problem::field(format!("/allowed_from/{n}"), detail));
        }
    }
    match &record.stream {
        Some(stream) if !crate::config::values::is_name(stream) => {
            Err(Problem::field("/stream", "a stream's name has 1 to 64 characters of a-z 0-9 . _ -"))
        }
        _ => Ok(()),
    }
}

async fn hashed(password: &SecretString) -> Result<String, Problem> {
    if password.expose_secret().chars().count() < SHORTEST_PASSWORD {
        return Err(Problem::field("/password", format!("has fewer than {SHORTEST_PASSWORD} characters")));
    }
    let password = password.clone();
    // Argon2id takes tens of milliseconds: not on a thread that serves others.
    let hash = tokio::task::spawn_blocking(move || hash_password(&password)).await;
    match hash {
        Ok(Ok(hash)) => Ok(hash),
        _ => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the password could not be hashed")),
    }
}

fn refuse_secrets(body: &serde_json::Map<String, Value>) -> Result<(), Problem> {
    match ["password_hash", "api_keys", "paused"].iter().find(|field| body.contains_key(**field)) {
        Some(field) => Err(Problem::field(format!("/{field}"), "is changed by its own request")),
        None => Ok(()),
    }
}

/// Takes a text out of a JSON object.
pub fn text(body: &mut serde_json::Map<String, Value>, field: &str) -> Result<Option<String>, Problem> {
    match body.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::field(format!("/{field}"), "expected a string")),
    }
}
