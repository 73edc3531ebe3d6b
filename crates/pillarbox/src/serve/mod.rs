//! The server: everything wired together, its start in order and its end in reverse.
//!
//! Outline: configuration → store → first settings → listeners bound → relay → listeners served → `ready` → signals →
//! listeners closed → relay stopped → store closed.

pub mod alignment;
pub mod domains;
pub mod first;
pub mod logging;
pub mod loops;
pub mod notify;
pub mod parts;
pub mod report;
pub mod rules;

use std::future::IntoFuture;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use net::server::Bound;
use net::{Clock, ServerTls};
use relay::Relay;
use relay::directory::DEFAULT_RULE;
use relay::route::{RouteKind, RouteRecord};
use store::Store;
use store::settings::Kind;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::checked::ListenerKind;
use crate::config::{self, Config, Loaded};
use crate::http;
use crate::http::listener::{Client, Limited};
use crate::monitor::jobs::supervise;
use crate::oauth::TokenSource;
use crate::oauth::device::Logins;
use crate::returned::inlet::{Seen, Sns};
use crate::returned::mailbox::Mailboxes;

/// Name of the control socket in the data directory.
pub const CONTROL: &str = "control.sock";

/// Longest wait for the log when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What has to be let go of in the end.
struct Running {
    store: Arc<dyn Store>,
    relay: Arc<Relay>,
    app: http::Shared,
    certificates: Vec<Arc<ServerTls>>,
    tasks: TaskTracker,
    closing: CancellationToken,
    control: PathBuf,
}

/// Runs until a signal says otherwise.
pub async fn run(loaded: Loaded, named: Option<PathBuf>) -> Result<()> {
    logging::start(&loaded.config.log);
    crate::incident::prepare();
    let mut signals = Signals::new()?;
    let running = start(&loaded, named.as_deref()).await?;
    notify::notify("READY=1");
    notify::keep_watchdog(&running.tasks, &running.closing, running.relay.clone());
    loop {
        tokio::select! {
            stop = signals.next() => match stop {
                Wanted::Stop => break,
                Wanted::Reload => reload(&running, &loaded, named.as_deref()).await,
            },
            () = running.app.reload.notified() => reload(&running, &loaded, named.as_deref()).await,
        }
    }
    notify::notify("STOPPING=1");
    tokio::select! {
        () = stop(running, loaded.config.shutdown) => {
            logging::flush(LAST_WORDS);
            Ok(())
        }
        _ = signals.stop() => {
            tracing::warn!("stopped at once: what was in flight goes on at the next start");
            logging::flush(LAST_WORDS);
            std::process::exit(1)
        }
    }
}

/// What a signal asks for.
enum Wanted {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let on = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
        })
    }
    async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.terminate.recv() => Wanted::Stop,
            _ = self.interrupt.recv() => Wanted::Stop,
            _ = self.hangup.recv() => Wanted::Reload,
        }
    }
    async fn stop(&mut self) {
        while !matches!(self.next().await, Wanted::Stop) {}
    }
}

async fn start(loaded: &Loaded, named: Option<&Path>) -> Result<Running> {
    let config = &loaded.config;
    let clock = Clock::system();
    let net = parts::net(config, clock.clone())?;
    let (store, key) = parts::store(config, &clock)?;
    let first = first::prepare(&*store, clock.now_ms()).await?;
    let smtp = bind(config, &clock).await?;
    let web = TcpListener::bind(config.http).await.with_context(|| format!("cannot listen on {}", config.http))?;
    let http_address = web.local_addr()?;
    let control = config.data_dir.join(CONTROL);
    let control_listener = bind_control(&control)?;
    let tokens = parts::tokens(config, store.clone(), clock.clone())?;
    let verp = parts::verp(config)?;
    let settings = relay::RelayConfig {
        tokens: Some(tokens.clone()),
        bounce: verp.clone(),
        node: parts::node(config)?,
        paused: crate::monitor::jobs::paused_before(&*store).await?,
        address: http_address.to_string(),
        ..parts::relay(config)
    };
    let relay = Relay::start(settings, store.clone(), net.clone()).await?;
    let mut app = app(config, store.clone(), Some(relay.clone()), Some(tokens), clock);
    app.sns = Some(Sns::new(Box::new(net.clone())));
    app.configured = http::api::configured::Configured::new(loaded, named).into();
    let app = Arc::new(app);
    let users = app.access.users().await?.len();
    let token = if users == 0 { app.access.tokens.first() } else { app.access.tokens.make(app.clock.now_ms()) };
    let mut problems = relay.problems.clone();
    if config.rules_dir.is_some() {
        problems.extend(app.reload_rules().err());
    }

    let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
    let factory = Arc::new(relay.smtp_factory());
    let came = app.returned_came.clone();
    let bounces = verp.clone().map(|verp| Arc::new(parts::bounces(config, &store, verp, &app.clock, &came)));
    let addresses = smtp.iter().map(|(bound, _)| bound.local_addr()).collect::<std::io::Result<Vec<_>>>()?;
    let (mut certificates, mut secured) = (Vec::new(), Vec::new());
    for ((bound, certificate), listener) in smtp.into_iter().zip(&config.listeners) {
        secured.extend(certificate.clone().map(|certificate| (listener.name.clone(), certificate)));
        certificates.extend(certificate);
        match (listener.kind, &bounces) {
            (ListenerKind::Submission, _) => tasks.spawn(bound.serve(factory.clone(), closing.clone())),
            (ListenerKind::Bounce, Some(bounces)) => tasks.spawn(bound.serve(bounces.clone(), closing.clone())),
            // The configuration was checked.
            (ListenerKind::Bounce, None) => continue,
        };
    }
    serve_http(&tasks, &closing, app.clone(), web, control_listener);
    loops::start(&tasks, &closing, &app, loops::Needs { net: net.clone(), verp, came });
    let watched = secured.clone();
    tasks.spawn(supervise(app.clone(), loops::INCIDENTS, closing.clone(), move |app, stop| {
        crate::incident::run(app, watched.clone(), stop)
    }));
    let looked_at = secured.clone();
    tasks.spawn(supervise(app.clone(), loops::ITSELF, closing.clone(), move |app, stop| {
        crate::incident::elsewhere::run(app, looked_at.clone(), stop)
    }));
    let wiring = crate::monitor::Wiring { net: net.clone(), listeners: secured };
    tasks.spawn(crate::monitor::run(app.clone(), wiring, closing.clone()));
    tasks.spawn(crate::changes::facts::run(app.clone(), certificates.clone(), closing.clone()));

    let facts = report::Facts {
        config,
        file: loaded.file.as_ref(),
        listeners: &addresses,
        http: http_address,
        key: &key,
        first: first.as_ref(),
        token: &token,
        users,
        taken_back: relay.taken_back,
        only_capture: only_capture(&*store).await?,
        senders: relay.status().senders,
        problems: &problems,
    };
    let roots = parts::roots(config);
    let collector = crate::telemetry::client(&roots, app.clock.clone())
        .and_then(|http| crate::telemetry::Collector::new(&config.otlp, &config.hostname, &config.node, http))?;
    if let Some(collector) = collector {
        tasks.spawn(crate::telemetry::run(app.clone(), collector, closing.clone()));
    }
    app.serving.store(true, Ordering::SeqCst);
    // Nobody may be reading; that is no reason not to serve.
    let mut out = anstream::stdout().lock();
    let _ = write!(out, "{}\nready\n", report::text(&facts)).and_then(|()| out.flush());
    drop(out);
    Ok(Running { store, relay, app, certificates, tasks, closing, control })
}

/// What the handlers share.
pub fn app(
    config: &Config,
    store: Arc<dyn Store>,
    relay: Option<Arc<Relay>>,
    tokens: Option<Arc<TokenSource>>,
    clock: Clock,
) -> http::App {
    let alerts = crate::alert::Alerts::new(store.clone(), clock.clone()).of(relay.clone());
    http::App {
        tokens,
        logins: Logins::default(),
        mailboxes: Mailboxes::default(),
        sns: None,
        seen: Seen::default(),
        returned_came: Arc::default(),
        mailboxes_changed: Notify::new(),
        tests: crate::smtp_test::Tests::of(
            relay.as_ref().filter(|_| config.store.is_some()).map(|one| one.node().into()),
        ),
        relay,
        streams: parts::streams(config),
        public_url: config.public_url.clone(),
        rules_dir: config.rules_dir.clone(),
        checks: http::api::checks::Checks::new(config.clone(), clock.clone()),
        hooks: crate::webhook::Hooks::new(config.clone(), clock.clone()),
        metrics: crate::metrics::Desk::new(config, &clock),
        serving: false.into(),
        draining: false.into(),
        incidents: crate::incident::Incidents::default(),
        alerts,
        monitor: crate::monitor::Monitor::default(),
        audit: crate::audit::Audit::new(store.clone(), clock.clone()),
        volumes: crate::volume::Volumes::default(),
        access: crate::access::Access::new(store.clone(), clock.clone()),
        series: crate::series::Series::default(),
        patterns: crate::http::kept::Kept::default(),
        by_cause: crate::http::kept::Kept::default(),
        arrivals: crate::arrival::Arrivals { domain: config.bounce.domain.clone(), ..Default::default() },
        dns: crate::monitor::dns::DnsWatch::new(config.clone(), clock.clone()),
        clock,
        store,
        domains: domains::of(config),
        hostname: config.hostname.clone(),
        data_dir: std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone()),
        room: http::body::Room::new(config.limits.message_size, config.limits.memory),
        settings: tokio::sync::Mutex::new(()),
        reload: tokio::sync::Notify::new(),
        configured: std::sync::OnceLock::new(),
    }
}

async fn bind(config: &Config, clock: &Clock) -> Result<Vec<(Bound, Option<Arc<ServerTls>>)>> {
    let mut all = Vec::new();
    for wanted in &config.listeners {
        let listener = parts::listener(config, wanted, clock)
            .with_context(|| format!("the certificate of listener \"{}\" cannot be used", wanted.name))?;
        let certificate = listener.tls.clone();
        let bound = listener.bind().await.with_context(|| format!("cannot listen on {}", wanted.address))?;
        all.push((bound, certificate));
    }
    Ok(all)
}

/// The store's lock is ours, so a socket that is there belongs to a run that has ended.
fn bind_control(path: &Path) -> Result<UnixListener> {
    let _ = std::fs::remove_file(path);
    // The directory is private already; this keeps it so when an administrator opens the directory.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    listener.with_context(|| format!("cannot make the control socket {}", path.display()))
}

fn serve_http(
    tasks: &TaskTracker,
    closing: &CancellationToken,
    app: http::Shared,
    web: TcpListener,
    control: UnixListener,
) {
    let public = http::public(app.clone()).into_make_service_with_connect_info::<Client>();
    let served = axum::serve(Limited::new(web), public).with_graceful_shutdown(closing.clone().cancelled_owned());
    tasks.spawn(served.into_future());
    let served = axum::serve(control, http::control(app)).with_graceful_shutdown(closing.clone().cancelled_owned());
    tasks.spawn(served.into_future());
}

/// No rule leads to a route that sends.
async fn only_capture(store: &dyn Store) -> Result<bool> {
    let routes = store.documents(Kind::Route).await?;
    let rules = store.documents(Kind::Rule).await?;
    let is_capture = |name: &str| {
        let route = routes.iter().find(|route| route.name == name);
        let record = route.and_then(|route| serde_json::from_value::<RouteRecord>(route.body.clone()).ok());
        record.is_none_or(|record| matches!(record.kind, RouteKind::Capture | RouteKind::Discard))
    };
    let has_default = rules.iter().any(|rule| rule.name == DEFAULT_RULE);
    let mut names = rules.iter().filter_map(|rule| rule.body.get("route").and_then(|name| name.as_str()));
    Ok(has_default && names.all(is_capture))
}

/// SIGHUP: certificates, senders, routes and rules anew; the file is checked and differences are named.
async fn reload(running: &Running, loaded: &Loaded, named: Option<&Path>) {
    for certificate in &running.certificates {
        let again = certificate.clone();
        let path = certificate.certificate_path().display();
        match tokio::task::spawn_blocking(move || again.reload()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, %path, "the certificate could not be read again; the old one stays")
            }
            Err(error) => tracing::error!(%error, "the certificate could not be read again"),
        }
    }
    match running.relay.reload().await {
        Ok(problems) => {
            problems.iter().for_each(|problem| tracing::warn!(%problem, "a setting makes no sense and is left out"));
        }
        Err(error) => tracing::error!(%error, "senders, routes and rules could not be read again"),
    }
    if let Err(error) = running.app.reload_rules() {
        tracing::error!("{error}");
    }
    let fresh = config::load(named);
    // Also what was changed by hand meanwhile is as the file says again.
    if let Ok(fresh) = &fresh {
        let level = logging::effective(&fresh.config.log.level);
        if level != logging::level()
            && let Err(error) = logging::set(&level)
        {
            tracing::error!(%error, "the log's level stays as it was");
        }
    }
    match fresh {
        Ok(fresh) if fresh.config.but_for_reload(&loaded.config) => {}
        Ok(_) => tracing::warn!("the configuration file has changed: it takes effect at the next start"),
        Err(error) => tracing::error!("the configuration file is wrong and would stop the next start:\n{error}"),
    }
    tracing::info!("reloaded");
}

async fn stop(running: Running, patience: Duration) {
    tracing::info!("stopping: finishing what is in flight");
    running.app.draining.store(true, Ordering::SeqCst);
    running.closing.cancel();
    running.tasks.close();
    // A client that keeps an HTTP request open must not keep the server open.
    if tokio::time::timeout(patience + Duration::from_secs(2), running.tasks.wait()).await.is_err() {
        tracing::warn!("some sessions did not end in time");
    }
    running.relay.stop().await;
    if let Err(error) = running.store.close().await {
        tracing::error!(%error, "the store did not close in order");
    }
    let _ = std::fs::remove_file(&running.control);
    tracing::info!("stopped");
}
