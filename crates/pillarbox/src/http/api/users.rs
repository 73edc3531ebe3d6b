//! Users: who may look at the pages and work on them. Passwords and second factors go in and never come out.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use relay::credential::new_password;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use store::settings::{Kind, SecretChange};

use super::settings;
use crate::access::role::Role;
use crate::access::totp::Second;
use crate::access::user::{User, UserRecord, hashed, refuse_password};
use crate::http::auth::{Admin, Caller};
use crate::http::json::{Json, Query};
use crate::http::problem::Problem;
use crate::http::views::{Names, Page};
use crate::http::{Shared, time};

/// A user without secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserOut {
    /// Name, for logging in.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// May not log in.
    pub disabled: bool,
    /// There is a password.
    pub has_password: bool,
    /// A code is asked for besides the password.
    pub has_second_factor: bool,
    /// Recovery codes that are left.
    pub recovery_codes: usize,
    /// The identity provider the user signs in with.
    pub provider: Option<String>,
    /// Mail address.
    pub email: Option<String>,
    /// RFC 3339.
    pub created: String,
    /// Last change, RFC 3339.
    pub updated: String,
    /// A password that was made just now; shown once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_password: Option<String>,
}

impl UserOut {
    /// As it is shown.
    pub fn of(user: &User) -> Self {
        let record = &user.record;
        Self {
            name: user.name.clone(),
            role: record.role,
            disabled: record.disabled,
            has_password: record.password_hash.is_some(),
            has_second_factor: user.factor().is_some(),
            recovery_codes: user.factor().map_or(0, Second::left),
            provider: record.linked.as_ref().map(|linked| linked.provider.clone()),
            email: record.email.clone(),
            created: time::show(record.created_ms),
            updated: time::show(user.updated_ms),
            new_password: None,
        }
    }
}

/// A user, or 404.
pub async fn find(app: &Shared, name: &str) -> Result<User, Problem> {
    app.access.user(name).await?.ok_or_else(Problem::not_found)
}

/// All users.
pub async fn list(
    State(app): State<Shared>,
    _: Admin,
    Query(names): Query<Names>,
) -> Result<axum::Json<Page<UserOut>>, Problem> {
    let users = app.access.users().await?;
    Ok(axum::Json(names.page(users.values().map(UserOut::of).collect(), |one| &one.name)))
}

/// One user.
pub async fn show(
    State(app): State<Shared>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<UserOut>, Problem> {
    Ok(axum::Json(UserOut::of(&find(&app, &name).await?)))
}

/// A new user.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserIn {
    /// Name, for logging in.
    name: String,
    /// What the user may do.
    role: Role,
    /// Password; without one it is made, and shown once.
    #[serde(default)]
    password: Option<SecretString>,
    /// Mail address.
    #[serde(default)]
    email: Option<String>,
}

/// Adds a user.
pub async fn add(
    State(app): State<Shared>,
    _: Admin,
    Json(body): Json<UserIn>,
) -> Result<(StatusCode, axum::Json<UserOut>), Problem> {
    let made = body.password.is_none().then(new_password);
    let password = body.password.or_else(|| made.clone()).unwrap_or_default();
    let user = create(&app, &body.name, body.role, &password, body.email).await?;
    let new_password = made.map(|password| password.expose_secret().to_owned());
    Ok((StatusCode::CREATED, axum::Json(UserOut { new_password, ..UserOut::of(&user) })))
}

/// Makes a user with a password; also for the page of the first start.
pub async fn create(
    app: &Shared,
    name: &str,
    role: Role,
    password: &SecretString,
    email: Option<String>,
) -> Result<User, Problem> {
    settings::checked_name(name)?;
    let record = UserRecord {
        role,
        disabled: false,
        password_hash: Some(password_hash(password).await?),
        password_ms: Some(app.clock.now_ms()),
        linked: None,
        email: email.map(|email| checked_email(&email)).transpose()?,
        created_ms: app.clock.now_ms(),
    };
    let _one = app.settings.lock().await;
    if settings::exists(app, Kind::User, name).await? {
        return Err(Problem::new(StatusCode::CONFLICT, format!("there is already a user \"{name}\"")));
    }
    // Nothing of a user of the same name that is gone: neither sessions nor used codes.
    app.access.sessions.end_all(name, None).await?;
    app.access.drop_kept(&format!("totp:{name}")).await?;
    settings::add(app, Kind::User, name, &record, SecretChange::Keep).await?;
    app.access.tokens.end_first();
    find(app, name).await
}

async fn password_hash(password: &SecretString) -> Result<String, Problem> {
    if let Some(why) = refuse_password(password) {
        return Err(Problem::field("/password", why));
    }
    let failed = || Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the password could not be hashed");
    hashed(password).await.ok_or_else(failed)
}

fn checked_email(text: &str) -> Result<String, Problem> {
    match proto::Address::parse(text) {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(Problem::field("/email", "is not an address such as ann@example.com")),
    }
}

/// What of a user can be changed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserPatch {
    /// What the user may do.
    #[serde(default)]
    role: Option<Role>,
    /// May not log in; open sessions end.
    #[serde(default)]
    disabled: Option<bool>,
    /// Mail address; empty: none.
    #[serde(default, deserialize_with = "crate::http::json::null_is_empty")]
    email: Option<String>,
}

/// Changes role, mail address, or whether the user may log in.
pub async fn change(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(name): Path<String>,
    Json(patch): Json<UserPatch>,
) -> Result<axum::Json<UserOut>, Problem> {
    let less = patch.disabled == Some(true) || patch.role.is_some_and(|role| role < Role::Administrator);
    if less {
        refuse_own(&caller, &name)?;
    }
    let _one = app.settings.lock().await;
    let mut record = stored(&app, &name).await?;
    record.role = patch.role.unwrap_or(record.role);
    record.disabled = patch.disabled.unwrap_or(record.disabled);
    if let Some(email) = patch.email {
        record.email = if email.is_empty() { None } else { Some(checked_email(&email)?) };
    }
    settings::write(&app, Kind::User, &name, &record, SecretChange::Keep).await?;
    if record.disabled {
        app.access.sessions.end_all(&name, None).await?;
    }
    Ok(axum::Json(UserOut::of(&find(&app, &name).await?)))
}

/// Nobody locks themselves out: another administrator, or the control socket, can.
fn refuse_own(caller: &Caller, name: &str) -> Result<(), Problem> {
    not_own(caller, name, "ask another administrator".into())
}

/// Password and second factor are changed for oneself at `place`, which asks for the password: an open browser is not enough.
fn refuse_own_proof(caller: &Caller, name: &str, place: &str) -> Result<(), Problem> {
    not_own(caller, name, format!("use your account page ({place}), which asks for your password"))
}

fn not_own(caller: &Caller, name: &str, instead: String) -> Result<(), Problem> {
    match caller.person().and_then(|person| person.user()) {
        Some(own) if own == name => {
            Err(Problem::new(StatusCode::CONFLICT, format!("this is your own account: {instead}")))
        }
        _ => Ok(()),
    }
}

/// The record as it is in the store, under the lock of settings.
async fn stored(app: &Shared, name: &str) -> Result<UserRecord, Problem> {
    settings::record(&settings::find(app, Kind::User, name).await?)
}

/// Removes a user and ends the user's sessions.
pub async fn remove(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    refuse_own(&caller, &name)?;
    let _one = app.settings.lock().await;
    settings::remove(&app, Kind::User, &name).await?;
    app.access.sessions.end_all(&name, None).await?;
    app.access.drop_kept(&format!("totp:{name}")).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A password; without one it is made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    #[serde(default)]
    password: Option<SecretString>,
}

/// Sets a password; all sessions of the user end.
pub async fn set_password(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(name): Path<String>,
    Json(body): Json<NewPassword>,
) -> Result<axum::Json<UserOut>, Problem> {
    refuse_own_proof(&caller, &name, "/me/password")?;
    let made = body.password.is_none().then(new_password);
    let password = body.password.or_else(|| made.clone()).unwrap_or_default();
    let user = replace_password(&app, &name, &password).await?;
    let new_password = made.map(|password| password.expose_secret().to_owned());
    Ok(axum::Json(UserOut { new_password, ..UserOut::of(&user) }))
}

/// Sets it and ends all sessions.
pub async fn replace_password(app: &Shared, name: &str, password: &SecretString) -> Result<User, Problem> {
    let hash = password_hash(password).await?;
    let _one = app.settings.lock().await;
    let mut record = stored(app, name).await?;
    record.password_hash = Some(hash);
    record.password_ms = Some(app.clock.now_ms());
    settings::write(app, Kind::User, name, &record, SecretChange::Keep).await?;
    app.access.sessions.end_all(name, None).await?;
    find(app, name).await
}

/// A second factor that waits for its first code.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FactorOut {
    /// The secret, to be typed into an app; shown once.
    pub secret: String,
    /// The same as a link.
    pub uri: String,
}

/// A code of the app.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeIn {
    /// Six digits.
    pub code: SecretString,
}

/// Recovery codes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecoveryOut {
    /// Each opens once in place of a code; shown once.
    pub recovery_codes: Vec<String>,
}

/// Begins a second factor: it counts when the app's first code was shown.
pub async fn begin_totp(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(name): Path<String>,
) -> Result<axum::Json<FactorOut>, Problem> {
    refuse_own_proof(&caller, &name, "/me/totp")?;
    Ok(axum::Json(begin_factor(&app, &name).await?))
}

/// Confirms a second factor with a code of the app; gives the recovery codes.
pub async fn confirm_totp(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(name): Path<String>,
    Json(body): Json<CodeIn>,
) -> Result<axum::Json<RecoveryOut>, Problem> {
    refuse_own_proof(&caller, &name, "/me/totp")?;
    Ok(axum::Json(confirm_factor(&app, &name, &body.code).await?))
}

/// Removes a second factor: for somebody who lost the app and the recovery codes.
pub async fn remove_totp(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    refuse_own_proof(&caller, &name, "/me/totp")?;
    remove_factor(&app, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A new secret for an app. One that is in use stays in use until it was removed.
pub async fn begin_factor(app: &Shared, name: &str) -> Result<FactorOut, Problem> {
    let _one = app.settings.lock().await;
    let user = find(app, name).await?;
    if user.factor().is_some() {
        return Err(Problem::new(StatusCode::CONFLICT, "there is a second factor: remove it first"));
    }
    let record = stored(app, name).await?;
    let second = Second::new();
    let secret = SecretChange::Set(second.write());
    settings::write(app, Kind::User, name, &record, secret).await?;
    app.access.drop_kept(&format!("totp:{name}")).await?;
    Ok(FactorOut { secret: second.shown().to_owned(), uri: second.uri(&app.hostname, name) })
}

/// The app shows the right code: from now on one is asked for.
pub async fn confirm_factor(app: &Shared, name: &str, code: &SecretString) -> Result<RecoveryOut, Problem> {
    let _one = app.settings.lock().await;
    let user = find(app, name).await?;
    let Some(mut second) = user.second.clone().filter(|second| !second.confirmed) else {
        return Err(Problem::new(StatusCode::CONFLICT, "no second factor waits for its first code"));
    };
    if !app.access.second(&user, code.expose_secret()).await? {
        return Err(Problem::field("/code", "is not the code that the app shows now"));
    }
    second.confirmed = true;
    let recovery_codes = second.renew_recovery();
    let record = stored(app, name).await?;
    settings::write(app, Kind::User, name, &record, SecretChange::Set(second.write())).await?;
    Ok(RecoveryOut { recovery_codes })
}

/// From now on the password is enough.
pub async fn remove_factor(app: &Shared, name: &str) -> Result<(), Problem> {
    let _one = app.settings.lock().await;
    let record = stored(app, name).await?;
    settings::write(app, Kind::User, name, &record, SecretChange::Clear).await?;
    app.access.sessions.end_all(name, None).await?;
    Ok(app.access.drop_kept(&format!("totp:{name}")).await?)
}
