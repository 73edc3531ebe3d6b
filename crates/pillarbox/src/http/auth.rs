//! Who is asking: a sender with an API key, or the machine's administrator over the control socket.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use relay::Sender;
use relay::sender::SenderRecord;

use super::Shared;
use super::listener::Client;
use super::problem::Problem;

/// Name of the sender for messages over the control socket that name none.
pub const LOCAL_SENDER: &str = "local";
/// Header by which a request over the control socket chooses its sender.
pub const SENDER_HEADER: &str = "pillarbox-sender";

/// Who is asking.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Over the control socket.
    Local,
    /// With this sender's API key.
    Sender(Arc<Sender>, IpAddr),
}

impl Caller {
    /// May manage queue and settings.
    pub fn is_admin(&self) -> bool {
        match self {
            Self::Local => true,
            Self::Sender(sender, _) => sender.record.admin,
        }
    }
    /// May see this sender's messages.
    pub fn may_see(&self, owner: &str) -> bool {
        match self {
            Self::Local => true,
            Self::Sender(sender, _) => sender.record.admin || &*sender.name == owner,
        }
    }
    /// For events.
    pub fn who(&self) -> String {
        match self {
            Self::Local => "control socket".into(),
            Self::Sender(sender, _) => format!("API key of {}", sender.name),
        }
    }
    /// Where it came from.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Local => None,
            Self::Sender(_, address) => Some(*address),
        }
    }
}

/// An administrator.
#[derive(Debug, Clone)]
pub struct Admin(pub Caller);

/// Marks every request of the control socket.
pub async fn local(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Caller::Local);
    next.run(request).await
}

/// Checks the API key.
pub async fn by_key(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).cloned();
    match authenticate(&app, header, peer(&request)).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// The peer's address; a listener without addresses is this machine.
fn peer(request: &Request) -> IpAddr {
    let info = request.extensions().get::<ConnectInfo<Client>>();
    info.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ConnectInfo(Client(peer))| peer.ip().to_canonical())
}

/// Whose API key this is.
pub async fn authenticate(app: &Shared, header: Option<HeaderValue>, peer: IpAddr) -> Result<Caller, Problem> {
    let unauthorized = || Problem::new(StatusCode::UNAUTHORIZED, "send `Authorization: Bearer` with an API key");
    let value = header.ok_or_else(unauthorized)?;
    let (scheme, key) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(unauthorized)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthorized());
    }
    let sender = app.relay()?.door().authenticate_key(key.trim(), peer).await?;
    Ok(Caller::Sender(sender, peer))
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
        if caller.is_admin() {
            return Ok(Self(caller));
        }
        Err(Problem::new(StatusCode::FORBIDDEN, "this needs a sender with `admin`"))
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
        (Caller::Local, Some(name)) if name != LOCAL_SENDER => {
            let missing = || Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("there is no sender \"{name}\""));
            app.relay()?.door().sender(name).ok_or_else(missing)
        }
        // Who may open the socket may create senders as well: the built-in one gives nothing away.
        (Caller::Local, _) => match app.relay()?.door().sender(LOCAL_SENDER) {
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
