//! HTTP: the API, the pages, health, on a TCP listener and on the control socket.
//!
//! The TCP listener asks everyone who they are; whoever can open the control socket is the machine's administrator. The
//! command line speaks to the very same router, over the socket or, when no server runs, in its own process.

pub mod api;
pub mod auth;
pub mod body;
pub mod etag;
pub mod finding;
pub mod forecast;
pub mod health;
pub mod inlet;
pub mod json;
pub mod kept;
pub mod listener;
pub mod origin;
pub mod problem;
pub mod time;
pub mod ui;
pub mod unsubscribe;
pub mod views;
pub mod views_batch;
pub mod words;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use net::Clock;
use relay::Relay;
use store::Store;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tracing::Instrument as _;

use crate::oauth::TokenSource;
use crate::oauth::device::Logins;
use problem::Problem;

/// Longest a request may take, body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest a batch may take to come in, or a change of all that matches in the queue.
const LONG_TIMEOUT: Duration = Duration::from_secs(1_800);
/// Where batches come in, and where the queue is changed.
const LONG: [&str; 2] = ["/batches", "/queue/"];
/// Below these: the API, and what forms of pages ask of it.
const BELOW: [&str; 3] = ["/api/v1", "/admin/do", "/admin/upload"];
/// Largest body of requests that carry no message.
pub const SMALL_BODY: usize = 1 << 20;

/// What the handlers share.
pub struct App {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The relay; `None` in a command that works on the store while no server runs.
    pub relay: Option<Arc<Relay>>,
    /// Time.
    pub clock: Clock,
    /// Our name, in message ids.
    pub hostname: String,
    /// Where the data is, for the status.
    pub data_dir: PathBuf,
    /// Room for bodies being received.
    pub room: body::Room,
    /// Users, sessions, API keys.
    pub access: crate::access::Access,
    /// One change of settings at a time: a change is read, merged and written.
    pub settings: tokio::sync::Mutex<()>,
    /// Asks the server to read certificates and configuration again.
    pub reload: tokio::sync::Notify,
    /// Streams of the configuration.
    pub streams: Vec<relay::StreamConfig>,
    /// Where the public finds this server.
    pub public_url: Option<String>,
    /// Directory with rules of one's own.
    pub rules_dir: Option<PathBuf>,
    /// Checks of mail servers.
    pub checks: api::checks::Checks,
    /// Tests that people started.
    pub tests: crate::smtp_test::Tests,
    /// Keys of domains.
    pub domains: Arc<crate::serve::domains::Domains>,
    /// Access tokens of routes; absent where no authorities could be read.
    pub tokens: Option<Arc<TokenSource>>,
    /// How polled mailboxes are.
    pub mailboxes: crate::returned::mailbox::Mailboxes,
    /// Wakes those who poll: a mailbox was changed.
    pub mailboxes_changed: tokio::sync::Notify,
    /// Keys of Amazon SNS; absent in a command that works on the store.
    pub sns: Option<crate::returned::inlet::Sns>,
    /// Requests of providers that were used.
    pub seen: crate::returned::inlet::Seen,
    /// Wakes the reader of returned mail.
    pub returned_came: Arc<tokio::sync::Notify>,
    /// Sign-ins by device code.
    pub logins: Logins,
    /// Whom to tell of events by HTTP.
    pub hooks: crate::webhook::Hooks,
    /// Figures, for whoever looks at them.
    pub metrics: crate::metrics::Desk,
    /// All listeners are served.
    pub serving: std::sync::atomic::AtomicBool,
    /// Nothing more is taken: the server stops.
    pub draining: std::sync::atomic::AtomicBool,
    /// Wakes the keeper of incidents.
    pub incidents: crate::incident::Incidents,
    /// What is worth telling somebody.
    pub alerts: crate::alert::Alerts,
    /// Scheduled checks and jobs.
    pub monitor: crate::monitor::Monitor,
    /// Who changed what.
    pub audit: crate::audit::Audit,
    /// How much comes in.
    pub volumes: crate::volume::Volumes,
    /// What became of mail over time.
    pub series: crate::series::Series,
    /// Patterns in failures, by how many days were looked at.
    pub patterns: kept::Kept<u32, api::patterns::PatternsOut>,
    /// The queue by causes of failures.
    pub by_cause: kept::Kept<(), Vec<store::QueueCount>>,
    /// Test mails on their way.
    pub arrivals: crate::arrival::Arrivals,
    /// What checks of the DNS share.
    pub dns: crate::monitor::dns::DnsWatch,
    /// What the server was started with; empty in a command.
    pub configured: std::sync::OnceLock<api::configured::Configured>,
}

/// The handlers' state.
pub type Shared = Arc<App>;

impl App {
    /// The relay, or why there is none.
    pub fn relay(&self) -> Result<&Arc<Relay>, Problem> {
        let stopped = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is not running");
        self.relay.as_ref().ok_or_else(stopped)
    }

    /// Where access tokens come from.
    pub fn tokens(&self) -> Result<&Arc<TokenSource>, Problem> {
        let none =
            || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no trusted authorities for HTTPS: see `tls.roots`");
        self.tokens.as_ref().ok_or_else(none)
    }

    /// The rules that explain failures.
    pub fn rules(&self) -> Arc<explain::RuleBase> {
        match &self.relay {
            Some(relay) => relay.rules(),
            // Without a server nobody has read them yet; those that cannot be read are told when the server starts.
            None => {
                crate::serve::rules::load(self.rules_dir.as_deref()).unwrap_or_else(|_| explain::RuleBase::shared())
            }
        }
    }

    /// Reads the rules of one's own again; where they are wrong the old ones stay, and the text says why.
    pub fn reload_rules(&self) -> Result<(), String> {
        let Some(relay) = &self.relay else { return Ok(()) };
        let rules = crate::serve::rules::load(self.rules_dir.as_deref());
        relay.use_rules(rules.map_err(|error| format!("{error:#}; the rules in use stay"))?);
        Ok(())
    }
}

/// The router of the TCP listener.
pub fn public(app: Shared) -> Router {
    let api = api::router(&app)
        .layer(from_fn_with_state(app.clone(), crate::audit::watch))
        .layer(from_fn_with_state(app.clone(), auth::allowed))
        .layer(from_fn_with_state(app.clone(), auth::known));
    let https = origin::is_secure(&app);
    guarded(
        Router::new()
            .nest("/api/v1", api)
            .merge(ui::router(&app))
            .merge(inlet::router())
            .merge(unsubscribe::router())
            .merge(health::router())
            .route("/metrics", get(crate::metrics::access::public))
            .with_state(app),
        https,
    )
}

/// The router of the control socket.
pub fn control(app: Shared) -> Router {
    let api = api::router(&app)
        .merge(api::local_router())
        .layer(from_fn_with_state(app.clone(), crate::audit::watch))
        .layer(from_fn(auth::local));
    guarded(
        Router::new()
            .nest("/api/v1", api)
            .merge(health::router())
            .route("/metrics", get(crate::metrics::access::local))
            .with_state(app),
        false,
    )
}

/// Ends a request that takes too long; a batch or an operation may take longer.
async fn in_time(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let asked = BELOW.iter().find_map(|below| path.strip_prefix(below)).unwrap_or_default();
    let long = request.method() == Method::POST && LONG.iter().any(|long| asked.starts_with(long));
    let limit = if long { LONG_TIMEOUT } else { REQUEST_TIMEOUT };
    let late =
        || Problem::new(StatusCode::REQUEST_TIMEOUT, format!("the request took longer than {} s", limit.as_secs()));
    tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| late().into_response())
}

/// What a request is called in answers and logs.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Gives each request a name, which is in its answer, in what is logged meanwhile, and in the audit log.
async fn named(mut request: Request, next: Next) -> Response {
    let id = format!("{:016x}", rand::random::<u64>());
    request.extensions_mut().insert(RequestId(id.clone()));
    let span = tracing::info_span!("http", request = %id);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).instrument(span.clone()).await;
    if response.status().is_server_error() {
        // Without the query: it may hold what somebody searched for.
        tracing::warn!(parent: &span, %method, %path, status = response.status().as_u16(), "a request failed");
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

fn guarded(router: Router, https: bool) -> Router {
    let header = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    // Once seen under HTTPS, a browser never comes back without it.
    let strict = https.then(|| header(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"));
    let router = router
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .layer(DefaultBodyLimit::max(SMALL_BODY))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::X_FRAME_OPTIONS, "DENY"))
        // Not `no-referrer`: browsers would then send `Origin: null` with our own forms.
        .layer(header(header::REFERRER_POLICY, "same-origin"))
        .layer(header(header::CACHE_CONTROL, "no-store"))
        .layer(header(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ))
        .layer(header(
            HeaderName::from_static("permissions-policy"),
            "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
        ))
        .layer(header(HeaderName::from_static("cross-origin-opener-policy"), "same-origin"))
        .layer(header(HeaderName::from_static("cross-origin-resource-policy"), "same-origin"))
        .layer(from_fn(in_time))
        .layer(from_fn(listener::in_hand))
        .layer(CatchPanicLayer::new())
        .layer(from_fn(named));
    match strict {
        Some(layer) => router.layer(layer),
        None => router,
    }
}
