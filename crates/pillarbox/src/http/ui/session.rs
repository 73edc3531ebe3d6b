//! Logging in with a one-time token; sessions live in memory and end with the process.
//!
//! Users with passwords come with user management; until then whoever reads the server's output, or may run
//! `pillarbox login` beside it, may look.

use std::collections::HashMap;

use axum::Form;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::CookieJar;
use axum_extra::extract::cookie::{Cookie, SameSite};
use parking_lot::Mutex;
use serde::Deserialize;

use super::pages;
use crate::http::Shared;

const COOKIE: &str = "pillarbox";
/// How long a session lasts, milliseconds.
const SESSION_MS: i64 = 12 * 3_600_000;
/// How long a token that was asked for lasts, milliseconds.
const TOKEN_MS: i64 = 600_000;
/// Most of each that are remembered.
const MOST: usize = 256;

type Hash = [u8; 32];

/// Tokens not used yet, and sessions; both only as hashes, with the time they end.
#[derive(Debug, Default)]
pub struct Sessions {
    tokens: Mutex<HashMap<Hash, i64>>,
    sessions: Mutex<HashMap<Hash, i64>>,
}

impl Sessions {
    /// The token printed at start-up: good until it is used.
    pub fn first_token(&self) -> String {
        add(&self.tokens, i64::MAX, 0)
    }
    /// A token that was asked for over the control socket: good for ten minutes.
    pub fn token(&self, now_ms: i64) -> String {
        add(&self.tokens, now_ms + TOKEN_MS, now_ms)
    }
    /// A session for a token; the token is gone then.
    fn open(&self, token: &str, now_ms: i64) -> Option<String> {
        let ends = self.tokens.lock().remove(&hash(token.trim()))?;
        (ends > now_ms).then(|| add(&self.sessions, now_ms + SESSION_MS, now_ms))
    }
    fn is_open(&self, session: &str, now_ms: i64) -> bool {
        self.sessions.lock().get(&hash(session)).is_some_and(|ends| *ends > now_ms)
    }
    fn close(&self, session: &str) {
        self.sessions.lock().remove(&hash(session));
    }
}

fn hash(text: &str) -> Hash {
    *blake3::hash(text.as_bytes()).as_bytes()
}

fn add(map: &Mutex<HashMap<Hash, i64>>, ends: i64, now_ms: i64) -> String {
    let text = format!("{:032x}", rand::random::<u128>());
    let mut map = map.lock();
    map.retain(|_, ends| *ends > now_ms);
    if map.len() >= MOST {
        let soonest = map.iter().min_by_key(|(_, ends)| **ends).map(|(key, _)| *key);
        soonest.and_then(|key| map.remove(&key));
    }
    map.insert(hash(&text), ends);
    text
}

/// Lets only open sessions through; a change also has to come from our own page.
pub async fn required(State(app): State<Shared>, jar: CookieJar, request: Request, next: Next) -> Response {
    let open = jar.get(COOKIE).is_some_and(|cookie| app.sessions.is_open(cookie.value(), app.clock.now_ms()));
    if !open {
        return Redirect::to("/login").into_response();
    }
    if !request.method().is_safe() && !same_origin(request.headers()) {
        return elsewhere();
    }
    next.run(request).await
}

/// Browsers say where a form was; what they do not say did not come from our page.
fn same_origin(headers: &HeaderMap) -> bool {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(origin), Some(host)) = (text(header::ORIGIN), text(header::HOST)) else { return false };
    origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host))
}

fn elsewhere() -> Response {
    pages::message(StatusCode::FORBIDDEN, "This form was not sent from a page of this server.")
}

/// The form.
pub async fn form() -> Response {
    pages::login(StatusCode::OK, false)
}

/// What the form sends.
#[derive(Debug, Deserialize)]
pub struct Login {
    token: String,
}

/// Takes the token.
pub async fn login(State(app): State<Shared>, headers: HeaderMap, jar: CookieJar, Form(form): Form<Login>) -> Response {
    if !same_origin(&headers) {
        return elsewhere();
    }
    let Some(session) = app.sessions.open(&form.token, app.clock.now_ms()) else {
        return pages::login(StatusCode::UNAUTHORIZED, true);
    };
    let cookie = Cookie::build((COOKIE, session)).http_only(true).same_site(SameSite::Strict).path("/").build();
    (jar.add(cookie), Redirect::to("/")).into_response()
}

/// Ends the session.
pub async fn logout(State(app): State<Shared>, jar: CookieJar) -> Response {
    if let Some(cookie) = jar.get(COOKIE) {
        app.sessions.close(cookie.value());
    }
    (jar.remove(Cookie::build(COOKIE).path("/").build()), Redirect::to("/login")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_one_session_once() {
        let sessions = Sessions::default();
        let token = sessions.first_token();
        let session = sessions.open(&format!(" {token}\n"), 5).unwrap();
        assert!(sessions.is_open(&session, 6));
        assert!(sessions.open(&token, 6).is_none());
        assert!(!sessions.is_open(&session, 5 + SESSION_MS));
        sessions.close(&session);
        assert!(!sessions.is_open(&session, 6));
    }

    #[test]
    fn a_token_that_was_asked_for_runs_out() {
        let sessions = Sessions::default();
        let token = sessions.token(5);
        assert!(sessions.open(&token, 5 + TOKEN_MS).is_none());
    }

    #[test]
    fn only_our_own_pages_count_as_such() {
        let headers = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:8025".parse().unwrap());
            origin.map(|origin| headers.insert(header::ORIGIN, origin.parse().unwrap()));
            headers
        };
        assert!(same_origin(&headers(Some("http://127.0.0.1:8025"))));
        for other in [None, Some("null"), Some("http://evil.example"), Some("http://127.0.0.1:9")] {
            assert!(!same_origin(&headers(other)), "{other:?}");
        }
    }
}
