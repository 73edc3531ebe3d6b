//! Failures of the program itself that take minutes or a defect, from the first sign to the end of their incident: the real
//! relay, store, manager and alerts, under a clock of the test. What can be provoked from outside is in `interop/`.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use net::Clock;
use relay::Relay;
use serde_json::{Value, json};
use store::Store;
use testkit::sink::Sink;
use testkit::{Act, Rule, Stage};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::http::Shared;
use crate::monitor::Group;
use crate::monitor::jobs::{Spec, supervise};
use crate::serve::parts;

/// What ends by a defect is told to the whole process: one story at a time looks.
static ALONE: Mutex<()> = Mutex::const_new(());

struct World {
    _alone: MutexGuard<'static, ()>,
    app: Shared,
    clock: Clock,
    relay: Arc<Relay>,
    closing: CancellationToken,
    manager: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start(more: &str) -> Self {
        let alone = ALONE.lock().await;
        let dir = tempfile::tempdir().unwrap();
        let text = format!("hostname = \"relay.test\"\ndata_dir = \"{}\"\n{more}", dir.path().join("data").display());
        let config = crate::config::read(None, &text, std::iter::empty()).unwrap().config;
        let net = parts::net(&config, Clock::system()).unwrap();
        let (store, _) = parts::store(&config, &Clock::system()).unwrap();
        let store: Arc<dyn Store> = store;
        let relay = Relay::start(parts::relay(&config), store.clone(), net).await.unwrap();
        let clock = Clock::manual(Clock::system().now_ms());
        let app: Shared = Arc::new(crate::serve::app(&config, store, Some(relay.clone()), None, clock.clone()));
        let closing = CancellationToken::new();
        let manager = tokio::spawn(super::run(app.clone(), Vec::new(), closing.clone()));
        Self { _alone: alone, app, clock, relay, closing, manager, _dir: dir }
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Value {
        let request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        let request = request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap();
        let answer = crate::http::control(self.app.clone()).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let octets = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let value = serde_json::from_slice(&octets).unwrap_or_default();
        assert!(status < 300, "{path}: {status} {value}");
        value
    }

    async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path, &Value::Null).await
    }

    /// Asks until there is an answer; the manager looks meanwhile, and time passes for it.
    async fn until<T>(&self, what: &str, passing: Duration, ask: impl AsyncFn() -> Option<T>) -> T {
        let asking = async {
            loop {
                if let Some(found) = ask().await {
                    return found;
                }
                self.clock.advance(passing);
                self.app.incidents.changed();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), asking).await.unwrap_or_else(|_| panic!("{what} does not come"))
    }

    /// The incident of a reason, once it is in a state.
    async fn incident(&self, reason: &str, state: &str) -> Option<Value> {
        let id = self.get(&format!("/incidents?reason={reason}")).await["items"][0]["id"].as_str()?.to_owned();
        let one = self.get(&format!("/incidents/{id}")).await;
        (one["incident"]["state"] == state).then_some(one)
    }

    /// Keys of alerts about a reason. (Other tests of this process may fail on purpose.)
    async fn raised(&self, reason: &str) -> Vec<String> {
        let keys = self.app.alerts.raised().await.into_iter().map(|one| one.entry.alert.key);
        keys.filter(|key| key.ends_with(reason)).collect()
    }

    /// The incident is there before its alert is.
    async fn raises(&self, reason: &str, scope: &str) {
        let raised = async || Some(self.raised(reason).await).filter(|keys| !keys.is_empty());
        let keys = self.until("the alert", Duration::ZERO, raised).await;
        assert_eq!(keys, [format!("incident:{scope}|{reason}")]);
    }

    async fn only_one(&self, reason: &str) {
        let all = self.get(&format!("/incidents?reason={reason}")).await;
        assert_eq!(all["items"].as_array().unwrap().len(), 1, "{all:#}");
    }

    async fn stop(self) {
        self.closing.cancel();
        self.manager.await.unwrap();
        self.relay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_stands_still_is_one_incident_which_ends_when_mail_moves_again() {
    let world = World::start("[queue]\nwindow_recipients = 100\n").await;
    // The next hop takes connections and says nothing more: what fits into memory waits for it, the rest is due.
    let sink = Sink::start().await;
    sink.add(Rule::at(Stage::Mail, Act::Hang));
    let port = sink.port();
    let route = json!({ "name": "out", "kind": "smarthost", "host": "127.0.0.1", "port": port, "tls": "none" });
    world.ask(Method::POST, "/routes", &route).await;
    world.ask(Method::PUT, "/rules/default", &json!({ "order": 1, "route": "out" })).await;
    world.ask(Method::POST, "/senders", &json!({ "name": "local", "allowed_from": ["*"] })).await;
    for part in 0..3 {
        let to: Vec<String> = (0..50).map(|n| format!("r{part}-{n}@dest.test")).collect();
        let mail = json!({ "from": "app@shop.test", "to": to, "subject": "x", "text": "y" });
        world.ask(Method::POST, "/messages", &mail).await;
    }
    let minute = Duration::from_secs(60);
    let one = world.until("the incident", minute, async || world.incident("queue_stalled", "open").await).await;
    assert_eq!((&one["incident"]["scope"], &one["incident"]["severity"]), (&json!("itself:queue"), &json!("critical")));
    assert_eq!(one["fixes"][0]["run"], "pillarbox status", "{one:#}");
    assert!(one["meaning"].as_str().unwrap().contains("has been due since"), "{one:#}");
    world.raises("queue_stalled", "itself:queue").await;

    sink.behave().release();
    let second = Duration::from_secs(1);
    let done = world.until("its end", second, async || world.incident("queue_stalled", "closed").await).await;
    assert_eq!(done["incident"]["closed_how"], "recovered", "{done:#}");
    world.until("the alert's end", second, async || world.raised("queue_stalled").await.is_empty().then_some(())).await;
    let taken = || sink.received().into_iter().flat_map(|mail| mail.to).collect::<Vec<_>>();
    world.until("all mail", Duration::ZERO, async || (taken().len() >= 150).then_some(())).await;
    assert_eq!((taken().len(), taken().into_iter().collect::<HashSet<_>>().len()), (150, 150));
    world.only_one("queue_stalled").await;
    world.stop().await;
}

const PART: Spec = Spec::new("fragile", "Breaks once", Group::Care, "as long as the test runs");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_ends_by_a_defect_is_one_incident_which_ends_when_the_part_goes_on() {
    let world = World::start("").await;
    super::prepare();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let part = tokio::spawn(supervise(world.app.clone(), PART, world.closing.clone(), move |_, stop| {
        let run = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            assert!(run > 0, "a defect, made by a test");
            stop.cancelled().await;
        }
    }));
    let one = world
        .until("the incident with the part's name", Duration::ZERO, async || {
            let one = world.incident("worker_died", "open").await?;
            one["meaning"].as_str()?.contains("Breaks once (fragile) ended by it").then_some(one)
        })
        .await;
    assert_eq!(
        (&one["incident"]["scope"], &one["incident"]["severity"]),
        (&json!("itself:program"), &json!("critical"))
    );
    assert!(one["meaning"].as_str().unwrap().contains("own_story.rs:"), "{one:#}");
    assert!(one["fixes"][0]["run"].as_str().unwrap().contains("journalctl"), "{one:#}");
    world.raises("worker_died", "itself:program").await;
    world.until("its next start", Duration::ZERO, async || (runs.load(Ordering::SeqCst) == 2).then_some(())).await;

    // Minutes of calm.
    let minute = Duration::from_secs(60);
    let done = world.until("its end", minute, async || world.incident("worker_died", "closed").await).await;
    assert_eq!(done["incident"]["closed_how"], "recovered", "{done:#}");
    world.until("the alert's end", minute, async || world.raised("worker_died").await.is_empty().then_some(())).await;
    world.only_one("worker_died").await;
    world.closing.cancel();
    part.await.unwrap();
    world.stop().await;
}
