//! The API, asked by a page for the person who looks at it: what pages show and do is what the API gives and allows.
//!
//! Nothing travels: the request goes to the very router that answers on the network, with rights, checks of the input and
//! the audit log. Only the pace is not counted, since one page asks several times.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::http::auth::{self, Caller};
use crate::http::listener::Client;
use crate::http::problem::Problem;
use crate::http::{RequestId, Shared, api};

/// Largest answer that a page can work with, octets.
const LARGEST: usize = 16 << 20;

/// The API inside this process.
#[derive(Clone)]
pub struct Inside(Router);

/// The API for one person.
#[derive(Clone)]
pub struct Door {
    api: Router,
    /// Who looks.
    pub caller: Caller,
    request: Option<RequestId>,
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inside").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl Inside {
    /// Of this server.
    pub fn new(app: &Shared) -> Self {
        let api = api::router(app).layer(from_fn_with_state(app.clone(), crate::audit::watch)).layer(from_fn(allowed));
        Self(Router::new().nest("/api/v1", api).fallback(async || Problem::not_found()).with_state(app.clone()))
    }
    /// For one person.
    pub fn door(&self, caller: Caller, request: Option<RequestId>) -> Door {
        Door { api: self.0.clone(), caller, request }
    }
}

/// As [`auth::allowed`], without the pace.
async fn allowed(State(()): State<()>, request: Request, next: Next) -> Response {
    let pattern = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    if let (Some(caller), Some(pattern)) = (request.extensions().get::<Caller>(), pattern) {
        let pattern = pattern.strip_prefix("/api/v1").unwrap_or(&pattern);
        if let Err(problem) = auth::may(caller, request.method().as_str(), pattern) {
            return problem.into_response();
        }
    }
    next.run(request).await
}

impl Door {
    /// What the API gives at a path below `/api/v1`, with its query.
    pub async fn get(&self, path: &str) -> Result<Value, Problem> {
        self.send(Method::GET, path, None).await
    }

    /// Does something; an answer without content is null.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Problem> {
        let body = match &body {
            Some(value) => Body::from(value.to_string()),
            None => Body::empty(),
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|_| Problem::not_found())?;
        self.ask(request).await
    }

    /// A request as it is, to a path below `/api/v1`; an answer without content is null.
    pub async fn ask(&self, request: Request) -> Result<Value, Problem> {
        let octets = read(self.answer(request).await?).await?;
        if octets.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&octets).map_err(strange) }
    }

    /// What is at a path below `/api/v1`, whatever it is: a file.
    pub async fn file(&self, path: &str) -> Result<Response, Problem> {
        let request = Request::get(format!("/api/v1{path}")).body(Body::empty()).map_err(|_| Problem::not_found())?;
        self.answer(request).await
    }

    async fn answer(&self, mut request: Request) -> Result<Response, Problem> {
        request.extensions_mut().insert(self.caller.clone());
        if let Some(address) = self.caller.address() {
            request.extensions_mut().insert(axum::extract::ConnectInfo(Client::from(address)));
        }
        if let Some(id) = &self.request {
            request.extensions_mut().insert(id.clone());
        }
        let response = self.api.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let octets = read(response).await?;
        Err(serde_json::from_slice(&octets).unwrap_or_else(|_| Problem::new(status, "the server could not answer")))
    }
}

async fn read(response: Response) -> Result<Bytes, Problem> {
    axum::body::to_bytes(response.into_body(), LARGEST).await.map_err(|_| too_much())
}

fn too_much() -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "there is more than a page can show: narrow the search")
}

fn strange(error: serde_json::Error) -> Problem {
    tracing::error!(%error, "the API did not answer a page with JSON");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the server answered with something else than data")
}
