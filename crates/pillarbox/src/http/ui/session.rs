//! Logging in and out with forms that work without scripts: password and code, one-time token, and the first administrator.

use axum::Form;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::CookieJar;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;

use super::outside;
use crate::access::By;
use crate::access::login::{Refused, Tried};
use crate::access::role::Role;
use crate::access::session::{Proof, Session, agent};
use crate::audit::Who;
use crate::http::api::users;
use crate::http::auth::{Caller, Peer};
use crate::http::problem::Problem;
use crate::http::{Shared, origin};

/// Said whatever of a log-in is wrong: it tells nobody which users there are.
const WRONG: &str = "User name, password or code is wrong.";

/// Lets only open sessions through; a change also has to come from our own page.
pub async fn required(State(app): State<Shared>, Peer(from): Peer, mut request: Request, next: Next) -> Response {
    let person = match origin::session(&app, request.headers()) {
        Some(secret) => app.access.by_session(&secret).await,
        None => Ok(None),
    };
    let person = match person {
        Ok(Some(person)) => person,
        Ok(None) => return Redirect::to("/login").into_response(),
        Err(error) => return unavailable(error),
    };
    if !request.method().is_safe() && origin::check(&app, request.headers()).is_err() {
        return elsewhere();
    }
    request.extensions_mut().insert(Caller::Person(Arc::new(person), from));
    next.run(request).await
}

fn elsewhere() -> Response {
    outside::message(StatusCode::FORBIDDEN, "This form was not sent from a page of this server.")
}

fn unavailable(error: store::StoreError) -> Response {
    outside::failed(&Problem::from(error))
}

/// The form.
pub async fn form(State(app): State<Shared>) -> Response {
    shown(&app, StatusCode::OK, None).await
}

/// The form, with a sentence above it.
pub async fn shown(app: &Shared, status: StatusCode, wrong: Option<String>) -> Response {
    let providers = super::sign_in::buttons(app).await;
    let users = app.access.users().await.map_or(0, |users| users.len());
    outside::login(status, wrong, providers, users > 0)
}

/// What the forms send: one of them a token, the other the rest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Login {
    token: SecretString,
    user: String,
    password: SecretString,
    code: SecretString,
}

impl Default for Login {
    fn default() -> Self {
        let empty = SecretString::default;
        Self { token: empty(), user: String::new(), password: empty(), code: empty() }
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Takes a token, or user name and password.
pub async fn login(
    State(app): State<Shared>,
    Peer(from): Peer,
    headers: HeaderMap,
    Form(form): Form<Login>,
) -> Response {
    if origin::check(&app, &headers).is_err() {
        return elsewhere();
    }
    if form.user.is_empty() && form.password.expose_secret().is_empty() {
        return by_token(&app, from, &headers, &form.token).await;
    }
    let tried = Tried {
        name: form.user,
        password: form.password,
        code: form.code,
        address: from,
        agent: agent_of(&headers),
        before: origin::session(&app, &headers),
    };
    match app.access.log_in(tried).await {
        Ok((user, secret)) => {
            note(&app, format!("user {}", user.name), from, "login", &format!("user/{}", user.name)).await;
            entered(&app, secret, "/")
        }
        Err(Refused::Wrong(user)) => {
            if let Some(user) = user {
                note(&app, "nobody".into(), from, "login_failed", &format!("user/{user}")).await;
            }
            tracing::warn!(address = %from, "a log-in failed");
            shown(&app, StatusCode::UNAUTHORIZED, Some(WRONG.into())).await
        }
        Err(Refused::Wait(seconds)) => too_many(&app, seconds).await,
        Err(Refused::Store(error)) => unavailable(error),
    }
}

async fn too_many(app: &Shared, seconds: u32) -> Response {
    let words = format!("Too many wrong log-ins: try again in {seconds} seconds.");
    let mut response = shown(app, StatusCode::TOO_MANY_REQUESTS, Some(words)).await;
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

/// The browser's own words.
pub fn agent_of(headers: &HeaderMap) -> String {
    agent(headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()))
}

/// Notes in the audit log what happened before anybody was known.
pub async fn note(app: &Shared, name: String, from: IpAddr, action: &str, what: &str) {
    let who = Who { name, address: Some(from), request: None };
    app.audit.note(who, action, what, None).await;
}

/// A new session, and on to a page.
pub fn entered(app: &Shared, secret: String, to: &str) -> Response {
    (CookieJar::new().add(origin::cookie(app, secret)), Redirect::to(to)).into_response()
}

async fn by_token(app: &Shared, from: IpAddr, headers: &HeaderMap, token: &SecretString) -> Response {
    let now_ms = app.clock.now_ms();
    let wait = app.access.guesses.pause(from, "", now_ms);
    if wait > 0 {
        return too_many(app, wait).await;
    }
    app.access.guesses.wrong(from, "", now_ms);
    let users = match app.access.users().await {
        Ok(users) => users,
        Err(error) => return unavailable(error),
    };
    // Another node may have made the first one.
    if !users.is_empty() {
        app.access.tokens.end_first();
    }
    if !app.access.tokens.take(token.expose_secret(), now_ms) {
        let words = "This token is not valid, or has been used before.";
        return shown(app, StatusCode::UNAUTHORIZED, Some(words.into())).await;
    }
    app.access.guesses.right(from, "");
    let session = Session {
        user: None,
        proof: Proof::Token,
        created_ms: now_ms,
        seen_ms: now_ms,
        address: from,
        agent: agent_of(headers),
    };
    let before = origin::session(app, headers);
    match app.access.sessions.begin(session, before.as_deref()).await {
        Ok(secret) => {
            note(app, "one-time token".into(), from, "login", "server").await;
            entered(app, secret, if users.is_empty() { "/setup" } else { "/" })
        }
        Err(error) => unavailable(error),
    }
}

/// Ends the session.
pub async fn logout(State(app): State<Shared>, headers: HeaderMap) -> Response {
    if let Some(secret) = origin::session(&app, &headers)
        && let Err(error) = app.access.sessions.end(&secret).await
    {
        return unavailable(error);
    }
    (CookieJar::new().add(origin::no_cookie(&app)), Redirect::to("/login")).into_response()
}

/// The first administrator may be made by whoever has a one-time token, while there are no users.
async fn may_set_up(app: &Shared, caller: &Caller) -> Result<(), Response> {
    let by_token = caller.person().is_some_and(|person| matches!(person.by, By::Session { user: None, .. }));
    match app.access.users().await {
        Err(error) => Err(unavailable(error)),
        Ok(users) if users.is_empty() && by_token => Ok(()),
        Ok(_) => Err(Redirect::to("/").into_response()),
    }
}

/// The page of the first start.
pub async fn setup_form(State(app): State<Shared>, caller: Caller) -> Response {
    match may_set_up(&app, &caller).await {
        Ok(()) => outside::setup(StatusCode::OK, None),
        Err(response) => response,
    }
}

/// The first administrator.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    user: String,
    password: SecretString,
    again: SecretString,
}

/// Makes the first administrator, who is logged in then.
pub async fn setup(
    State(app): State<Shared>,
    Peer(from): Peer,
    caller: Caller,
    headers: HeaderMap,
    Form(form): Form<Setup>,
) -> Response {
    if let Err(response) = may_set_up(&app, &caller).await {
        return response;
    }
    if form.password.expose_secret() != form.again.expose_secret() {
        return outside::setup(StatusCode::UNPROCESSABLE_ENTITY, Some("The two passwords differ.".into()));
    }
    let name = form.user.trim().to_owned();
    if let Err(problem) = users::create(&app, &name, Role::Administrator, &form.password, None).await {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
        return outside::setup(status, Some(problem.detail));
    }
    let now_ms = app.clock.now_ms();
    let session = Session {
        user: Some(name.clone()),
        proof: Proof::Password,
        created_ms: now_ms,
        seen_ms: now_ms,
        address: from,
        agent: agent_of(&headers),
    };
    let before = origin::session(&app, &headers);
    match app.access.sessions.begin(session, before.as_deref()).await {
        Ok(secret) => {
            note(&app, format!("user {name}"), from, "login", &format!("user/{name}")).await;
            entered(&app, secret, "/admin/start")
        }
        Err(error) => unavailable(error),
    }
}
