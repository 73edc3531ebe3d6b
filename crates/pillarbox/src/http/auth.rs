//! Who is asking: the control socket, a sender with an API key, a program with a key of its own, or a person with a session.
//!
//! What they may do is in `access::table`, and [`allowed`] asks it for every operation of the API.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use relay::Sender;
use relay::sender::SenderRecord;

use super::listener::Client;
use super::problem::Problem;
use super::{Shared, origin};
use crate::access::role::{self, Role};
use crate::access::table::{self, Least};
use crate::access::{Person, key, pace};

/// Name of the sender for messages over the control socket that name none.
pub const LOCAL_SENDER: &str = "local";
/// Header by which a request over the control socket, or of a person, chooses its sender.
pub const SENDER_HEADER: &str = "pillarbox-sender";
/// Wrong keys that an address may show a minute.
const WRONG_PER_MINUTE: u32 = 60;
/// Requests a minute of a sender's key, besides messages: those have the sender's own limit.
const SENDER_PER_MINUTE: u32 = 60_000;

/// Who is asking.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Over the control socket.
    Local,
    /// With this sender's API key.
    Sender(Arc<Sender>, IpAddr),
    /// With a session, or an API key of its own.
    Person(Arc<Person>, IpAddr),
}

impl Caller {
    /// What they are; `None`: a sender, who has only what is the sender's own.
    pub fn role(&self) -> Option<Role> {
        match self {
            Self::Local => Some(Role::Administrator),
            Self::Sender(sender, _) => sender.record.admin.then_some(Role::Administrator),
            Self::Person(person, _) => Some(person.role),
        }
    }
    /// The sender whose things are all they see.
    pub fn own(&self) -> Option<&str> {
        match self {
            Self::Sender(sender, _) if !sender.record.admin => Some(&sender.name),
            _ => None,
        }
    }
    /// May see this sender's messages.
    pub fn may_see(&self, owner: &str) -> bool {
        self.own().is_none_or(|own| own == owner)
    }
    /// For events.
    pub fn who(&self) -> String {
        match self {
            Self::Local => "control socket".into(),
            Self::Sender(sender, _) => format!("API key of {}", sender.name),
            Self::Person(person, _) => person.who(),
        }
    }
    /// Where it came from.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Local => None,
            Self::Sender(_, address) | Self::Person(_, address) => Some(*address),
        }
    }
    /// The person, where it is one.
    pub fn person(&self) -> Option<&Person> {
        match self {
            Self::Person(person, _) => Some(person),
            _ => None,
        }
    }
}

/// Somebody who runs the server, with the role that the operation needs.
#[derive(Debug, Clone)]
pub struct Admin(pub Caller);

/// The peer's address; a listener without addresses is this machine.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Marks every request of the control socket.
pub async fn local(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Caller::Local);
    next.run(request).await
}

/// Finds out who is asking by key or session.
pub async fn known(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match authenticate(&app, &parts).await {
        Ok(caller) => {
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(problem) => problem.into_response(),
    }
}

fn peer(extensions: &Extensions) -> IpAddr {
    let info = extensions.get::<ConnectInfo<Client>>();
    info.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ConnectInfo(client)| client.ip())
}

async fn authenticate(app: &Shared, request: &Parts) -> Result<Caller, Problem> {
    let from = peer(&request.extensions);
    match request.headers.get(header::AUTHORIZATION) {
        Some(value) => by_key(app, value, from).await,
        None => by_session(app, request, from).await,
    }
}

fn unauthorized() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "send `Authorization: Bearer` with an API key, or log in")
}

/// Whose API key this is.
pub async fn by_key(app: &Shared, header: &HeaderValue, from: IpAddr) -> Result<Caller, Problem> {
    let (scheme, text) = header.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(unauthorized)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthorized());
    }
    let text = text.trim();
    if !text.starts_with(key::PREFIX) {
        return Ok(Caller::Sender(app.relay()?.door().authenticate_key(text, from).await?, from));
    }
    match app.access.by_key(text, from).await? {
        Some(person) => Ok(Caller::Person(Arc::new(person), from)),
        None => {
            let name = format!("wrong key:{}", pace::network_of(from));
            paced(app, name, WRONG_PER_MINUTE)?;
            Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "this API key is not valid: unknown, ended, disabled, or not from here",
            ))
        }
    }
}

async fn by_session(app: &Shared, request: &Parts, from: IpAddr) -> Result<Caller, Problem> {
    let secret = origin::session(app, &request.headers).ok_or_else(unauthorized)?;
    let person = app.access.by_session(&secret).await?.ok_or_else(unauthorized)?;
    if !request.method.is_safe() {
        origin::check(app, &request.headers)?;
        if !is_empty(&request.headers) && simple_form(&request.headers) {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json"));
        }
    }
    Ok(Caller::Person(Arc::new(person), from))
}

fn is_empty(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    !headers.contains_key(header::TRANSFER_ENCODING) && length.is_none_or(|length| length == "0")
}

/// What a page elsewhere can make a browser send without asking us first; all else needs our consent (CORS), which is never given.
fn simple_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(&*kind, "" | "text/plain" | "multipart/form-data" | "application/x-www-form-urlencoded")
}

/// Lets only those through who may do it, and not more often than they may.
pub async fn allowed(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let pattern = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    // Without a pattern there is no such operation: the answer says so.
    if let (Some(caller), Some(pattern)) = (request.extensions().get::<Caller>(), pattern) {
        let pattern = pattern.strip_prefix("/api/v1").unwrap_or(&pattern);
        let method = request.method().as_str();
        if let Err(problem) = may(caller, method, pattern).and_then(|()| in_pace(&app, caller, method, pattern)) {
            return problem.into_response();
        }
    }
    next.run(request).await
}

/// Whether they may do it.
pub fn may(caller: &Caller, method: &str, pattern: &str) -> Result<(), Problem> {
    let forbidden = |detail: String| Err(Problem::new(StatusCode::FORBIDDEN, detail));
    let needed = match (table::least(method, pattern), caller) {
        (_, Caller::Local) => return Ok(()),
        (Least::Local, _) => return forbidden("this is done over the control socket only".into()),
        (Least::Anyone, _) => Role::Viewer,
        (Least::Sender(_), Caller::Sender(..)) => return Ok(()),
        (Least::Role(role) | Least::Sender(role), _) => role,
    };
    let anyone = table::least(method, pattern) == Least::Anyone;
    match caller.role() {
        Some(role) if role < needed => {
            forbidden(format!("this needs the role {}, yours is {}", needed.name(), role.name()))
        }
        None if !anyone => forbidden(format!("this needs the role {}: a sender's key has none", needed.name())),
        _ => {
            let scope = role::scope_of(method, pattern);
            let scopes = caller.person().map_or(&[][..], |person| &person.scopes);
            match anyone || role::allows(scopes, &scope) {
                true => Ok(()),
                false => forbidden(format!("this API key does not have the scope {scope}")),
            }
        }
    }
}

fn in_pace(app: &Shared, caller: &Caller, method: &str, pattern: &str) -> Result<(), Problem> {
    match caller {
        Caller::Local => Ok(()),
        Caller::Sender(..) if role::scope_of(method, pattern) == role::SEND => Ok(()),
        Caller::Sender(sender, _) => paced(app, format!("sender:{}", sender.name), SENDER_PER_MINUTE),
        Caller::Person(person, _) => paced(app, person.who(), person.per_minute),
    }
}

fn paced(app: &Shared, name: String, per_minute: u32) -> Result<(), Problem> {
    app.access.rates.take(name, per_minute, app.clock.now_ms()).map_err(|wait| {
        let detail = format!("more than {per_minute} requests a minute: wait {wait} s");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait)
    })
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let missing = || Problem::new(StatusCode::UNAUTHORIZED, "nobody has been authenticated");
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Admin {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if caller.role().is_some() {
            return Ok(Self(caller));
        }
        Err(Problem::new(StatusCode::FORBIDDEN, "this needs a role: a user, or an API key with one"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(peer(&parts.extensions)))
    }
}

/// The sender a message is submitted for.
pub fn submitter(app: &Shared, caller: &Caller, named: Option<&str>) -> Result<Arc<Sender>, Problem> {
    match (caller, named) {
        (Caller::Sender(sender, _), None) => Ok(sender.clone()),
        (Caller::Sender(sender, _), Some(name)) if name == &*sender.name => Ok(sender.clone()),
        (Caller::Sender(..), Some(_)) => {
            Err(Problem::new(StatusCode::FORBIDDEN, "an API key submits for its own sender only"))
        }
        (Caller::Person(..), None) => {
            let detail = format!("name the sender to submit for in the header {SENDER_HEADER}");
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
        }
        // The built-in sender may use any address: it is for those who could make such a sender.
        (Caller::Person(..), Some(LOCAL_SENDER)) => {
            Err(Problem::new(StatusCode::FORBIDDEN, format!("the sender \"{LOCAL_SENDER}\" is for the control socket")))
        }
        (Caller::Local | Caller::Person(..), Some(name)) if name != LOCAL_SENDER => {
            let missing = || Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("there is no sender \"{name}\""));
            app.relay()?.door().sender(name).ok_or_else(missing)
        }
        // Who may open the socket may create senders as well: the built-in one gives nothing away.
        _ => match app.relay()?.door().sender(LOCAL_SENDER) {
            Some(sender) => Ok(sender),
            None => Ok(local_sender()),
        },
    }
}

/// The built-in sender of the control socket.
pub fn local_sender() -> Arc<Sender> {
    Arc::new(Sender::new(LOCAL_SENDER.into(), local_record(), 0))
}

fn local_record() -> SenderRecord {
    SenderRecord {
        password_hash: None,
        api_keys: Vec::new(),
        trusted_addresses: Vec::new(),
        networks: Vec::new(),
        allowed_from: vec!["*".into()],
        messages_per_minute: None,
        max_size: None,
        stream: None,
        admin: false,
        disabled: false,
        pause_on_spike: None,
        paused: None,
    }
}
