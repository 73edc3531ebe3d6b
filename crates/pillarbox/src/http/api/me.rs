//! What one may do with one's own account, whatever one's role is.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::sessions::{self, SessionOut};
use super::users::{self, CodeIn, FactorOut, RecoveryOut};
use crate::access::By;
use crate::access::login::Again;
use crate::access::role::Role;
use crate::access::totp::Second;
use crate::http::Shared;
use crate::http::auth::Caller;
use crate::http::json::Json;
use crate::http::problem::Problem;
use crate::http::views::Page;

/// Who is asking.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MeOut {
    /// In words, as in the audit log.
    pub who: String,
    /// The user, if it is one.
    pub user: Option<String>,
    /// The role; absent for a sender's key.
    pub role: Option<Role>,
    /// Scopes of the key; empty: all that the role allows.
    pub scopes: Vec<String>,
    /// The user has a password here; absent: no user.
    pub has_password: Option<bool>,
    /// A code is asked for besides it; absent: no user.
    pub has_second_factor: Option<bool>,
    /// Recovery codes that are left; absent: no user.
    pub recovery_codes: Option<usize>,
}

/// Who one is, and what one may do.
pub async fn show(State(app): State<Shared>, caller: Caller) -> Result<axum::Json<MeOut>, Problem> {
    let person = caller.person();
    let name = person.and_then(|person| person.user());
    let user = match name {
        Some(name) => app.access.user(name).await?,
        None => None,
    };
    let factor = user.as_ref().map(|user| user.factor());
    Ok(axum::Json(MeOut {
        who: caller.who(),
        user: name.map(str::to_owned),
        role: caller.role(),
        scopes: person.map(|person| person.scopes.clone()).unwrap_or_default(),
        has_password: user.as_ref().map(|user| user.record.password_hash.is_some()),
        has_second_factor: factor.map(|factor| factor.is_some()),
        recovery_codes: factor.map(|factor| factor.map_or(0, Second::left)),
    }))
}

fn user(caller: &Caller) -> Result<String, Problem> {
    let none = || Problem::new(StatusCode::FORBIDDEN, "this is for users who have logged in");
    caller.person().and_then(|person| person.user()).map(str::to_owned).ok_or_else(none)
}

/// The password is asked for again before anything that decides who may log in: an open browser is not enough.
async fn proven(app: &Shared, caller: &Caller, password: &SecretString) -> Result<String, Problem> {
    let name = user(caller)?;
    match app.access.is_password(&name, password, address_of(caller)).await? {
        Ok(true) => Ok(name),
        Ok(false) => Err(wrong_password()),
        Err(wait) => Err(too_many("passwords", wait)),
    }
}

fn address_of(caller: &Caller) -> IpAddr {
    caller.address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn wrong_password() -> Problem {
    Problem::field("/current", "is not your password")
}

fn too_many(what: &str, wait: u32) -> Problem {
    let detail = format!("too many wrong {what}: wait {wait} s");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait)
}

/// A new password.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnPassword {
    /// As it is now.
    current: SecretString,
    /// As it will be.
    password: SecretString,
}

/// Sets one's password; all of one's sessions end, this one too.
pub async fn set_password(
    State(app): State<Shared>,
    caller: Caller,
    Json(body): Json<OwnPassword>,
) -> Result<StatusCode, Problem> {
    let name = proven(&app, &caller, &body.current).await?;
    users::replace_password(&app, &name, &body.password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The password as it is now.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Current {
    /// As it is now.
    current: SecretString,
}

/// Begins one's second factor.
pub async fn begin_totp(
    State(app): State<Shared>,
    caller: Caller,
    Json(body): Json<Current>,
) -> Result<axum::Json<FactorOut>, Problem> {
    let name = proven(&app, &caller, &body.current).await?;
    Ok(axum::Json(users::begin_factor(&app, &name).await?))
}

/// Confirms one's second factor with a code of the app; gives the recovery codes.
pub async fn confirm_totp(
    State(app): State<Shared>,
    caller: Caller,
    Json(body): Json<CodeIn>,
) -> Result<axum::Json<RecoveryOut>, Problem> {
    let (name, from) = (user(&caller)?, address_of(&caller));
    app.access.count_code(&name, from).map_err(|wait| too_many("codes", wait))?;
    let given = users::confirm_factor(&app, &name, &body.code).await?;
    app.access.code_was_right(&name, from);
    Ok(axum::Json(given))
}

/// What proves that a second factor may go.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leave {
    /// The password as it is now.
    current: SecretString,
    /// A code, or a recovery code.
    code: SecretString,
}

/// Removes one's second factor; all of one's sessions end.
pub async fn remove_totp(
    State(app): State<Shared>,
    caller: Caller,
    Json(body): Json<Leave>,
) -> Result<StatusCode, Problem> {
    let name = user(&caller)?;
    match app.access.are_both(&name, &body.current, &body.code, address_of(&caller)).await? {
        Again::Right => {}
        Again::WrongPassword => return Err(wrong_password()),
        Again::WrongCode => {
            return Err(Problem::field("/code", "is neither the code that the app shows now nor a recovery code"));
        }
        Again::Wait(wait) => return Err(too_many("passwords or codes", wait)),
    }
    users::remove_factor(&app, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One's open sessions.
pub async fn list_sessions(State(app): State<Shared>, caller: Caller) -> Result<axum::Json<Page<SessionOut>>, Problem> {
    let name = user(&caller)?;
    Ok(axum::Json(Page { items: sessions::of(&app, &caller, Some(&name)).await?, next: None }))
}

/// Ends one of one's sessions.
pub async fn end_session(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let name = user(&caller)?;
    let id = sessions::number(&id)?;
    let own = sessions::of(&app, &caller, Some(&name)).await?;
    if !own.iter().any(|session| session.id == id) || !app.access.sessions.revoke(id).await? {
        return Err(Problem::not_found());
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The session that is asking.
pub fn current(caller: &Caller) -> Option<i64> {
    match caller.person().map(|person| &person.by) {
        Some(By::Session { id, .. }) => Some(*id),
        _ => None,
    }
}
