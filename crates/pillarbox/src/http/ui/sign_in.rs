//! Signing in with an identity provider: to it, and back with a code. The session's cookie never takes part in what comes
//! from another site: what belongs to one sign-in is in a cookie of its own.

use std::net::IpAddr;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::CookieJar;
use axum_extra::extract::cookie::{Cookie, SameSite};
use secrecy::SecretString;
use serde::Deserialize;
use store::settings::{Document, Kind, SecretChange};
use subtle::ConstantTimeEq;

use super::{outside, session};
use crate::access::oidc::{Asked, IdentityRecord, Pending, SignInError, SignedIn};
use crate::access::session::{Proof, Session};
use crate::access::user::{Linked, UserRecord};
use crate::audit::Who;
use crate::http::api::settings;
use crate::http::auth::Peer;
use crate::http::json::Query;
use crate::http::problem::Problem;
use crate::http::{App, Shared, origin};

/// What the login page shows for one provider.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Button {
    /// Its name, for the link.
    pub name: String,
    /// What the button says.
    pub label: String,
}

/// Providers that can be used now.
pub async fn buttons(app: &Shared) -> Vec<Button> {
    let documents = app.store.documents(Kind::Identity).await.unwrap_or_default();
    let button = |document: &Document| {
        let record: IdentityRecord = serde_json::from_value(document.body.clone()).ok()?;
        let label = record.label.unwrap_or_else(|| document.name.clone());
        (!record.disabled).then(|| Button { name: document.name.clone(), label })
    };
    documents.iter().filter_map(button).collect()
}

struct Provider {
    name: String,
    record: IdentityRecord,
    secret: Option<SecretString>,
}

async fn provider(app: &Shared, name: &str) -> Result<Provider, Problem> {
    let document = settings::find(app, Kind::Identity, name).await?;
    let record: IdentityRecord = settings::record(&document)?;
    if record.disabled {
        return Err(Problem::not_found());
    }
    Ok(Provider { name: name.to_owned(), record, secret: document.secret })
}

/// Where the provider sends browsers back to: it has to be known there exactly so.
pub fn redirect_uri(app: &App, headers: &HeaderMap, name: &str) -> String {
    let base = match &app.public_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => {
            let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("localhost");
            format!("http://{host}")
        }
    };
    format!("{base}/login/{name}/callback")
}

fn cookie_name(app: &App) -> &'static str {
    if origin::is_secure(app) { "__Host-pillarbox-sign-in" } else { "pillarbox-sign-in" }
}

/// It comes back from another site, so it cannot be `Strict` as the session's is.
fn cookie(app: &App, value: String) -> Cookie<'static> {
    Cookie::build((cookie_name(app), value))
        .http_only(true)
        .secure(origin::is_secure(app))
        .same_site(SameSite::Lax)
        .path("/")
        .build()
}

/// To the provider.
pub async fn begin(State(app): State<Shared>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    let provider = match provider(&app, &name).await {
        Ok(provider) => provider,
        Err(problem) => return outside::failed(&problem),
    };
    let redirect = redirect_uri(&app, &headers, &name);
    let begun = async {
        let asked = asked(&app, &provider, &redirect)?;
        app.access.providers.begin(&provider.name, &asked).await
    };
    match begun.await {
        Ok((url, pending)) => (CookieJar::new().add(cookie(&app, pending.write())), Redirect::to(&url)).into_response(),
        Err(error) => refused(&app, &provider.name, &error).await,
    }
}

fn asked<'a>(app: &'a Shared, provider: &'a Provider, redirect: &'a str) -> Result<Asked<'a>, SignInError> {
    let none = || SignInError::Provider("there are no trusted authorities for HTTPS: see `tls.roots`".into());
    Ok(Asked {
        http: app.tokens.as_ref().ok_or_else(none)?.http(),
        record: &provider.record,
        secret: provider.secret.as_ref(),
        redirect_uri: redirect,
        now_ms: app.clock.now_ms(),
    })
}

/// What the provider sends back with the browser.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Back {
    code: Option<SecretString>,
    state: Option<String>,
    error: Option<String>,
}

/// Back from the provider.
pub async fn back(
    State(app): State<Shared>,
    Peer(from): Peer,
    headers: HeaderMap,
    Path(name): Path<String>,
    Query(back): Query<Back>,
) -> Response {
    let mut response = match finish(&app, from, &headers, &name, back).await {
        Ok(response) => response,
        Err(error) => refused(&app, &name, &error).await,
    };
    // Used up, whatever came of it.
    let mut gone = cookie(&app, String::new());
    gone.make_removal();
    if let Ok(value) = gone.to_string().parse() {
        response.headers_mut().append(axum::http::header::SET_COOKIE, value);
    }
    response
}

async fn finish(
    app: &Shared,
    from: IpAddr,
    headers: &HeaderMap,
    name: &str,
    back: Back,
) -> Result<Response, SignInError> {
    use secrecy::ExposeSecret as _;
    let broken = |problem: Problem| SignInError::Provider(problem.detail);
    let pending =
        CookieJar::from_headers(headers).get(cookie_name(app)).and_then(|cookie| Pending::read(cookie.value()));
    let strange = || SignInError::Invalid("it does not belong to a sign-in that was begun in this browser".into());
    let pending = pending.ok_or_else(strange)?;
    let state = back.state.unwrap_or_default();
    let is_same = bool::from(pending.state.as_bytes().ct_eq(state.as_bytes())) && pending.provider == name;
    if !is_same || app.clock.now_ms() >= pending.ends_ms {
        return Err(strange());
    }
    if let Some(error) = back.error {
        let error = proto::smtp::reply::escape(error.as_bytes(), 100);
        return Err(SignInError::NotAllowed(format!("the identity provider says: {error}")));
    }
    let code = back.code.ok_or_else(strange)?;
    let provider = provider(app, name).await.map_err(broken)?;
    let redirect = redirect_uri(app, headers, name);
    let asked = asked(app, &provider, &redirect)?;
    let who = app.access.providers.finish(&asked, &pending, code.expose_secret()).await?;
    let user = enrolled(app, from, name, &who).await.map_err(broken)?;
    let Some(user) = user else {
        return Err(SignInError::NotAllowed("your account is disabled here: ask an administrator".into()));
    };
    let now_ms = app.clock.now_ms();
    let opened = Session {
        user: Some(user.clone()),
        proof: Proof::Oidc,
        created_ms: now_ms,
        seen_ms: now_ms,
        address: from,
        agent: session::agent_of(headers),
    };
    let before = origin::session(app, headers);
    let secret = app.access.sessions.begin(opened, before.as_deref()).await.map_err(|error| broken(error.into()))?;
    session::note(app, format!("user {user}"), from, "login", &format!("user/{user}")).await;
    // A redirect from here would still be part of what began at another site, where browsers leave the session's cookie out.
    Ok((CookieJar::new().add(origin::cookie(app, secret)), outside::onward()).into_response())
}

/// The user who belongs to the provider's name for them, made at the first sign-in; the role follows the provider. `None`:
/// disabled. A user with a password of the same name is somebody else.
async fn enrolled(app: &Shared, from: IpAddr, provider: &str, who: &SignedIn) -> Result<Option<String>, Problem> {
    let _one = app.settings.lock().await;
    let linked = Linked { provider: provider.to_owned(), subject: who.subject.clone() };
    let users = app.access.users().await?;
    let known = users.values().find(|user| user.record.linked.as_ref() == Some(&linked));
    let (name, record) = match known {
        Some(user) if user.record.disabled => return Ok(None),
        Some(user) if user.record.role == who.role && user.record.email == who.email => {
            return Ok(Some(user.name.clone()));
        }
        Some(user) => {
            let record = UserRecord { role: who.role, email: who.email.clone(), ..user.record.clone() };
            (user.name.clone(), record)
        }
        None => {
            let free = |name: &String| !users.contains_key(name);
            let names = std::iter::once(who.name.clone()).chain((2..1000).map(|n| format!("{}-{n}", who.name)));
            let taken = || Problem::new(StatusCode::CONFLICT, "too many users have this name");
            let name = names.into_iter().find(free).ok_or_else(taken)?;
            let record = UserRecord {
                role: who.role,
                disabled: false,
                password_hash: None,
                password_ms: None,
                linked: Some(linked),
                email: who.email.clone(),
                created_ms: app.clock.now_ms(),
            };
            (name, record)
        }
    };
    let asking = Who { name: format!("sign-in with {provider}"), address: Some(from), request: None };
    let keep = SecretChange::Keep;
    match known {
        Some(_) => crate::audit::asking(asking, settings::write(app, Kind::User, &name, &record, keep)).await?,
        None => crate::audit::asking(asking, settings::add(app, Kind::User, &name, &record, keep)).await?,
    }
    app.access.tokens.end_first();
    Ok(Some(name))
}

async fn refused(app: &Shared, name: &str, error: &SignInError) -> Response {
    tracing::warn!(provider = %name, %error, "a sign-in failed");
    let status = match error {
        SignInError::Provider(_) => StatusCode::BAD_GATEWAY,
        SignInError::Invalid(_) => StatusCode::BAD_REQUEST,
        SignInError::NotAllowed(_) => StatusCode::FORBIDDEN,
    };
    let mut words = error.to_string();
    if let Some(first) = words.get(..1).map(str::to_uppercase) {
        words.replace_range(..1, &first);
    }
    session::shown(app, status, Some(format!("{words}."))).await
}
