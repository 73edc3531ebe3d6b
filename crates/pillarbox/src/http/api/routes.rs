//! Routes, and the rules that choose one. A route's password goes in and never comes out.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use relay::route::{RouteRecord, RuleRecord};
use relay::secrets::Secrets;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::settings::{Document, Kind, SecretChange};

use super::guard::Guard;
use super::senders::text;
use super::{route_secrets, settings};
use crate::http::auth::Admin;
use crate::http::json::{Json, Query};
use crate::http::problem::{FieldError, Problem};
use crate::http::views::Page;
use crate::http::{Shared, time};

/// A route without its secret: the fields of the record with these beside them, as POST takes them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "Value", try_from = "Value")]
pub struct RouteOut {
    /// Name.
    pub name: String,
    /// A password is stored.
    pub has_password: bool,
    /// Which secrets are stored, by their names.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Last change, RFC 3339.
    pub updated: String,
    /// As stored.
    pub route: RouteRecord,
}

/// A rule: the fields of the record with these beside them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "Value", try_from = "Value")]
pub struct RuleOut {
    /// Name.
    pub name: String,
    /// Last change, RFC 3339.
    pub updated: String,
    /// As stored.
    pub rule: RuleRecord,
}

/// A record's fields with others beside them.
fn beside<T: Serialize>(record: &T, others: Value) -> Value {
    let mut value = serde_json::to_value(record).unwrap_or_default();
    if let (Value::Object(value), Value::Object(others)) = (&mut value, others) {
        value.extend(others);
    }
    value
}

/// Takes one of the fields beside a record; what is left is the record.
fn taken<T: DeserializeOwned>(value: &mut Value, field: &str) -> serde_json::Result<T> {
    serde_json::from_value(value.as_object_mut().and_then(|object| object.remove(field)).unwrap_or_default())
}

impl From<RouteOut> for Value {
    fn from(out: RouteOut) -> Self {
        beside(
            &out.route,
            json!({
                "name": out.name, "has_password": out.has_password, "secrets": out.secrets, "updated": out.updated,
            }),
        )
    }
}

impl TryFrom<Value> for RouteOut {
    type Error = serde_json::Error;
    fn try_from(mut value: Value) -> Result<Self, serde_json::Error> {
        let name = taken(&mut value, "name")?;
        let has_password = taken(&mut value, "has_password")?;
        let secrets = taken(&mut value, "secrets")?;
        let updated = taken(&mut value, "updated")?;
        Ok(Self { name, has_password, secrets, updated, route: serde_json::from_value(value)? })
    }
}

impl From<RuleOut> for Value {
    fn from(out: RuleOut) -> Self {
        beside(&out.rule, json!({ "name": out.name, "updated": out.updated }))
    }
}

impl TryFrom<Value> for RuleOut {
    type Error = serde_json::Error;
    fn try_from(mut value: Value) -> Result<Self, serde_json::Error> {
        let name = taken(&mut value, "name")?;
        let updated = taken(&mut value, "updated")?;
        Ok(Self { name, updated, rule: serde_json::from_value(value)? })
    }
}

/// A stored route as it is shown.
pub fn document(document: &Document) -> Result<RouteOut, Problem> {
    let secrets = read_secrets(document)?;
    Ok(out(document.name.clone(), &secrets, document.updated_ms, settings::record(document)?))
}

/// A route as it is shown.
pub fn out(name: String, secrets: &Secrets, updated_ms: i64, route: RouteRecord) -> RouteOut {
    let has_password = secrets.password.is_some();
    RouteOut { name, has_password, secrets: secrets.names(), updated: time::show(updated_ms), route }
}

/// What is secret about a stored route.
pub fn read_secrets(document: &Document) -> Result<Secrets, Problem> {
    Secrets::read(document.secret.as_ref())
        .map_err(|error| store::StoreError::Internal(format!("route {}: {error}", document.name)).into())
}

fn sealed(secrets: &Secrets) -> SecretChange {
    secrets.store().map_or(SecretChange::Clear, SecretChange::Set)
}

/// All routes.
pub async fn list(State(app): State<Shared>, _: Admin) -> Result<axum::Json<Page<RouteOut>>, Problem> {
    let all = app.store.documents(Kind::Route).await?;
    Ok(axum::Json(Page { items: all.iter().map(document).collect::<Result<_, _>>()?, next: None }))
}

/// One route.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<RouteOut>, Problem> {
    document(&settings::find(&app, Kind::Route, &name).await?).map(axum::Json)
}

/// Adds a route: `name`, the fields of the record, and what is secret (see [`super::route_secrets`]); with `?test=true` only
/// if it works.
pub async fn add(
    State(app): State<Shared>,
    _: Admin,
    Query(guard): Query<Guard>,
    Json(mut body): Json<serde_json::Map<String, Value>>,
) -> Result<(StatusCode, axum::Json<RouteOut>), Problem> {
    let name = text(&mut body, "name")?.ok_or_else(|| Problem::field("/name", "is missing"))?;
    settings::checked_name(&name)?;
    let mut secrets = Secrets::default();
    route_secrets::take(&mut body, &mut secrets)?;
    let record: RouteRecord = settings::read(Value::Object(body))?;
    check(&record, &secrets)?;
    if guard.wants_test() && !settings::exists(&app, Kind::Route, &name).await? {
        guard.prove(&app, &record, &mut secrets, None).await?;
    }
    let _one = app.settings.lock().await;
    check_fallbacks(&app, &name, &record).await?;
    if settings::exists(&app, Kind::Route, &name).await? {
        return Err(Problem::new(StatusCode::CONFLICT, format!("there is already a route \"{name}\"")));
    }
    settings::add(&app, Kind::Route, &name, &record, sealed(&secrets)).await?;
    Ok((StatusCode::CREATED, axum::Json(out(name, &secrets, app.clock.now_ms(), record))))
}

fn refresh_token(secrets: &Secrets) -> Option<&str> {
    secrets.refresh_token.as_ref().map(ExposeSecret::expose_secret)
}

/// Where the secrets have the refresh token of the settings before, they get the one that the provider gave last in its place: the
/// other one may be worth nothing.
pub async fn keep_newest(
    app: &Shared,
    name: &str,
    (record, old): (&RouteRecord, &Secrets),
    secrets: &mut Secrets,
) -> Result<(), Problem> {
    let same = refresh_token(secrets) == refresh_token(old);
    if let Some(oauth) = record.token_settings().filter(|_| same)
        && let Some(newest) = app.tokens()?.newest(name, &oauth, old).await
    {
        secrets.refresh_token = Some(newest);
    }
    Ok(())
}

/// Changes a route by a merge patch (RFC 7396); secrets may be among the fields, `null` removes one. With `?test=true` a
/// change of host or sign-in counts only if it works; else the route stays as it was.
pub async fn change(
    State(app): State<Shared>,
    _: Admin,
    Query(guard): Query<Guard>,
    Path(name): Path<String>,
    Json(mut patch): Json<serde_json::Map<String, Value>>,
) -> Result<axum::Json<RouteOut>, Problem> {
    let before = settings::find(&app, Kind::Route, &name).await?;
    let old = read_secrets(&before)?;
    let mut secrets = old.clone();
    let new_secret = route_secrets::take(&mut patch, &mut secrets)?;
    if new_secret {
        // What was set by hand is not doubted: there is nothing to fall back to.
        secrets.previous = None;
    }
    let mut body = before.body.clone();
    settings::merge(&mut body, Value::Object(patch));
    let record: RouteRecord = settings::read(body)?;
    check(&record, &secrets)?;
    let old_record: RouteRecord = settings::record(&before)?;
    let mut replaced = new_secret;
    if guard.concerns(&old_record, &record, new_secret) {
        let (oauth, was) = (record.token_settings(), old_record.token_settings());
        let known = (!new_secret && oauth == was).then_some(&*name);
        if known.is_none() && oauth.is_some() {
            keep_newest(&app, &name, (&old_record, &old), &mut secrets).await?;
        }
        guard.prove(&app, &record, &mut secrets, known).await?;
        replaced |= refresh_token(&secrets) != refresh_token(&old);
    }
    let secret = if replaced { sealed(&secrets) } else { SecretChange::Keep };
    let _one = app.settings.lock().await;
    if settings::find(&app, Kind::Route, &name).await?.version != before.version {
        let detail = "the route was changed by somebody else meanwhile: look at it and try again";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    check_fallbacks(&app, &name, &record).await?;
    settings::write(&app, Kind::Route, &name, &record, secret).await?;
    Ok(axum::Json(out(name, &secrets, app.clock.now_ms(), record)))
}

/// Removes a route that no rule names.
pub async fn remove(State(app): State<Shared>, _: Admin, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let _one = app.settings.lock().await;
    for rule in app.store.documents(Kind::Rule).await? {
        let record: RuleRecord = settings::record(&rule)?;
        if record.route == name {
            let detail = format!("the rule \"{}\" uses this route: change or remove the rule first", rule.name);
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
    }
    for other in app.store.documents(Kind::Route).await? {
        let record: RouteRecord = settings::record(&other)?;
        if record.fallback.iter().any(|fallback| fallback.route == name) {
            let detail = format!("the route \"{}\" has this one as a fallback: change it first", other.name);
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
    }
    settings::remove(&app, Kind::Route, &name).await?;
    match app.store.delete_document(Kind::Token, name).await {
        Ok(()) | Err(store::StoreError::NotFound) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(error.into()),
    }
}

/// Fallbacks are other routes that exist.
async fn check_fallbacks(app: &Shared, name: &str, record: &RouteRecord) -> Result<(), Problem> {
    for fallback in &record.fallback {
        if fallback.route == name {
            return Err(Problem::field("/fallback", "a route is no fallback of itself"));
        }
        if !settings::exists(app, Kind::Route, &fallback.route).await? {
            let detail = format!("there is no route \"{}\"", fallback.route.escape_debug());
            return Err(Problem::field("/fallback", detail));
        }
    }
    Ok(())
}

/// 422 with every sentence that is wrong about a route.
pub fn check(record: &RouteRecord, secrets: &Secrets) -> Result<(), Problem> {
    let problems = record.problems(secrets);
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Problem::fields(problems.into_iter().map(|problem| FieldError::new("", problem)).collect())),
    }
}

fn rule(document: &Document) -> Result<RuleOut, Problem> {
    Ok(RuleOut {
        name: document.name.clone(),
        updated: time::show(document.updated_ms),
        rule: settings::record(document)?,
    })
}

/// All rules, first one first.
pub async fn list_rules(State(app): State<Shared>, _: Admin) -> Result<axum::Json<Page<RuleOut>>, Problem> {
    let all = app.store.documents(Kind::Rule).await?;
    let mut items: Vec<RuleOut> = all.iter().map(rule).collect::<Result<_, _>>()?;
    items.sort_by(|a, b| (a.rule.order, &a.name).cmp(&(b.rule.order, &b.name)));
    Ok(axum::Json(Page { items, next: None }))
}

/// One rule.
pub async fn show_rule(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<RuleOut>, Problem> {
    rule(&settings::find(&app, Kind::Rule, &name).await?).map(axum::Json)
}

/// Creates or replaces a rule. The route has to exist.
pub async fn put_rule(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
    Json(record): Json<RuleRecord>,
) -> Result<axum::Json<RuleOut>, Problem> {
    settings::checked_name(&name)?;
    let _one = app.settings.lock().await;
    if !settings::exists(&app, Kind::Route, &record.route).await? {
        return Err(Problem::field("/route", format!("there is no route \"{}\"", record.route.escape_debug())));
    }
    settings::write(&app, Kind::Rule, &name, &record, SecretChange::Keep).await?;
    Ok(axum::Json(RuleOut { name, updated: time::show(app.clock.now_ms()), rule: record }))
}

/// Removes a rule.
pub async fn remove_rule(State(app): State<Shared>, _: Admin, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let _one = app.settings.lock().await;
    settings::remove(&app, Kind::Rule, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
