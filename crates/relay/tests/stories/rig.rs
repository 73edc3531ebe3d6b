//! A relay with everything around it: store in a directory of its own, name server, SMTP listener on a free port.
//!
//! Waiting is done on conditions with [`PATIENCE`]; nothing here sleeps for a fixed time and hopes.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use net::server::{Limits, ListenMode, Listener};
use net::{ClientTls, Clock, Net, Resolver, ResolverSettings, Roots};
use proto::message::Protocol;
use proto::smtp::server::{AuthOffer, Settings};
use proto::{Address, Envelope, MailParameters, Recipient, ReversePath};
use relay::{Relay, RelayConfig, Submission};
use secrecy::SecretString;
use serde_json::{Value, json};
use store::settings::{Kind, SecretChange};
use store::sqlite::Faults;
use store::{EventKind, MessageId, Origin, RecipientView, Selector, State, Store};
use tempfile::TempDir;
use testkit::{Ca, Client, Sink, SinkOptions, Zones};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;

/// How long a condition may take; far more than it needs on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at the store.
const LOOK: Duration = Duration::from_millis(5);

pub const FROM: &str = "noreply@app.test";
pub const MAIL: &str = "From: noreply@app.test\r\nSubject: story\r\n\r\nonce upon a time\r\n";

/// What the relay is started with.
pub struct Setup {
    config: RelayConfig,
    documents: Vec<(Kind, String, Value, SecretChange)>,
    clock: Clock,
    engine: Engine,
}

impl Setup {
    /// Loopback may send as anyone; there is no route.
    pub fn bare() -> Self {
        let config =
            RelayConfig { hostname: "relay.test".into(), shutdown_s: 60, notices: false, ..RelayConfig::default() };
        Self { config, documents: Vec::new(), clock: Clock::system(), engine: Engine::chosen() }
            .sender("app", json!({"allowed_from": ["*"], "trusted_addresses": ["127.0.0.0/8"]}))
    }

    /// Everything goes to a sink as smart host, in clear.
    pub fn to(sink: &Sink) -> Self {
        Self::by(smarthost(sink))
    }

    /// Everything takes one route, named `out`.
    pub fn by(route: Value) -> Self {
        Self::bare().route("out", route).rule("default", json!({"order": 1000, "route": "out"}))
    }

    /// Everything goes by MX to this port.
    pub fn mx(port: u16) -> Self {
        Self::by(json!({"kind": "mx", "port": port}))
    }

    pub fn config(mut self, change: impl FnOnce(&mut RelayConfig)) -> Self {
        change(&mut self.config);
        self
    }
    pub fn sender(self, name: &str, body: Value) -> Self {
        self.document(Kind::Sender, name, body, SecretChange::Keep)
    }
    /// A route; one to mail exchangers may go to loopback unless it says otherwise.
    pub fn route(self, name: &str, body: Value) -> Self {
        self.document(Kind::Route, name, reachable(body), SecretChange::Keep)
    }
    pub fn rule(self, name: &str, body: Value) -> Self {
        self.document(Kind::Rule, name, body, SecretChange::Keep)
    }
    pub fn stream(self, name: &str, body: Value) -> Self {
        self.document(Kind::Stream, name, body, SecretChange::Keep)
    }
    /// Time stands until [`Rig::pass`] moves it; not on PostgreSQL, which has a clock of its own: who leads there leads for a time
    /// by both.
    pub fn time_stands(mut self) -> Self {
        self.clock = Clock::manual(1_800_000_000_000);
        self.embedded()
    }
    /// On the embedded engine in any case: faults are put into its files.
    pub fn embedded(mut self) -> Self {
        self.engine = Engine::Sqlite;
        self
    }
    /// The password of route `out`, whose body is given anew.
    pub fn secret_route(self, body: Value, password: &str) -> Self {
        self.document(Kind::Route, "out", body, SecretChange::Set(password.into()))
    }
    fn document(mut self, kind: Kind, name: &str, body: Value, secret: SecretChange) -> Self {
        self.documents.retain(|(k, n, ..)| (*k, n.as_str()) != (kind, name));
        self.documents.push((kind, name.to_owned(), body, secret));
        self
    }

    pub async fn start(self) -> Rig {
        self.start_with(Ca::new(), Zones::start().await).await
    }

    /// With an authority and zones that others know already.
    pub async fn start_with(self, ca: Ca, zones: Zones) -> Rig {
        let dir = tempfile::tempdir().expect("a directory");
        ca.write_pem(dir.path());
        Rig::open(Ground { dir, ca, zones, engine: self.engine }, self.config, self.documents, self.clock).await
    }
}

/// A smart host route to a sink, in clear.
pub fn smarthost(sink: &Sink) -> Value {
    json!({"kind": "smarthost", "host": "127.0.0.1", "port": sink.port(), "tls": "none"})
}

/// A route to mail exchangers that may go to loopback, unless it says otherwise.
fn reachable(mut body: Value) -> Value {
    if body["kind"] == "mx" && body.get("allow_private").is_none() {
        body["allow_private"] = true.into();
    }
    body
}

/// A JSON object with some fields changed.
pub fn with(mut body: Value, change: Value) -> Value {
    let changes = change.as_object().expect("an object");
    body.as_object_mut().expect("an object").extend(changes.clone());
    body
}

/// A sink on the same port as another one, at another address of this machine.
pub async fn beside(sink: &Sink, address: &str, options: SinkOptions) -> Sink {
    let address = SocketAddr::new(address.parse().expect("an address"), sink.port());
    Sink::with(SinkOptions { address: Some(address), ..options }).await
}

/// Looks again and again until there is something to see.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(tokio::time::Instant::now() < until, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// A relay at work.
pub struct Rig {
    pub relay: Arc<Relay>,
    pub store: Arc<dyn Store>,
    pub faults: Arc<Faults>,
    pub zones: Zones,
    pub ca: Ca,
    pub address: SocketAddr,
    pub config: RelayConfig,
    clock: Clock,
    listening: CancellationToken,
    listener: JoinHandle<()>,
    engine: Engine,
    dir: TempDir,
}

/// What is there before the relay and stays after it.
pub struct Ground {
    pub dir: TempDir,
    pub ca: Ca,
    pub zones: Zones,
    pub engine: Engine,
}

impl Rig {
    async fn open(
        Ground { dir, ca, zones, engine }: Ground,
        mut config: RelayConfig,
        documents: Vec<(Kind, String, Value, SecretChange)>,
        clock: Clock,
    ) -> Self {
        config.transport.directory = Some(dir.path().to_owned());
        let faults = Arc::new(Faults::default());
        let store = engine.open(dir.path(), &faults, clock.now_ms());
        for (kind, name, body, secret) in documents {
            store.put_document(kind, name, body, secret, clock.now_ms()).await.expect("a document");
        }
        let resolving = ResolverSettings {
            servers: vec![zones.address()],
            timeout: Duration::from_secs(6),
            ..ResolverSettings::default()
        };
        let net = Net {
            clock: clock.clone(),
            resolver: Resolver::new(resolving).expect("a resolver"),
            tls: ClientTls::new(&Roots::Pem(dir.path().join("ca.pem")), clock.clone()).expect("roots"),
        };
        let relay = Relay::start(config.clone(), store.clone(), net).await.expect("start");
        assert_eq!(relay.problems, Vec::<String>::new());
        let machine = Settings { auth: AuthOffer::Always, max_commands: 100_000, ..Settings::new("relay.test") };
        let bound = Listener {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            mode: ListenMode::Plain,
            tls: None,
            proxy: Vec::new(),
            xclient: Vec::new(),
            machine: Arc::new(machine),
            limits: Limits::default(),
        }
        .bind()
        .await
        .expect("bind");
        let address = bound.local_addr().expect("an address");
        let listening = CancellationToken::new();
        let listener = tokio::spawn({
            let (factory, listening) = (Arc::new(relay.smtp_factory()), listening.clone());
            async move {
                bound.serve(factory, listening).await;
            }
        });
        Self { relay, store, faults, zones, ca, address, config, clock, listening, listener, engine, dir }
    }

    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Stops in order and starts again on the same store.
    pub async fn restart(self) -> Self {
        let clock = self.clock.clone();
        let (ground, config) = self.stop().await;
        Self::open(ground, config, Vec::new(), clock).await
    }

    /// Moves a clock that stands, and lets the relay notice.
    pub fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.relay.time_has_leapt();
    }

    /// Takes the store away as if the process had died, and starts again on it. Connections to next hops stay as they are.
    pub async fn crash(self) -> Self {
        self.listener.abort();
        self.store.close().await.expect("close");
        let ground = Ground { dir: self.dir, ca: self.ca, zones: self.zones, engine: self.engine };
        Self::open(ground, self.config, Vec::new(), self.clock).await
    }

    /// Starts on what [`Rig::stop`] left.
    pub async fn again(ground: Ground, config: RelayConfig) -> Self {
        Self::open(ground, config, Vec::new(), Clock::system()).await
    }

    /// Stops in order.
    pub async fn stop(self) -> (Ground, RelayConfig) {
        self.listening.cancel();
        self.listener.await.expect("the listener");
        self.relay.stop().await;
        self.store.close().await.expect("close");
        let ground = Ground { dir: self.dir, ca: self.ca, zones: self.zones, engine: self.engine };
        (ground, self.config)
    }

    /// Damages a message's stored content near these octets.
    pub fn damage(&self, id: MessageId, near: &[u8]) {
        self.engine.damage(self.dir.path(), id, near);
    }

    /// A client that has said EHLO.
    pub async fn client(&self) -> Client {
        let mut client = Client::connect(self.address).await;
        client.ehlo().await;
        client
    }

    /// Sends by SMTP, expecting 250, from [`FROM`].
    pub async fn send(&self, to: &[&str]) -> MessageId {
        self.send_mail(to, MAIL).await
    }

    /// Sends this by SMTP, expecting 250.
    pub async fn send_mail(&self, to: &[&str], content: &str) -> MessageId {
        let mut client = self.client().await;
        let id = queued(&client.submit(FROM, to, content).await.expect(250));
        client.quit().await;
        id
    }

    /// A submission as the HTTP side would make it.
    pub fn submission(&self, to: &[&str], content: &[u8]) -> Submission {
        let recipients = to
            .iter()
            .map(|to| Recipient { address: to.parse().expect("an address"), parameters: Default::default() })
            .collect();
        let from: Address = FROM.parse().expect("an address");
        Submission {
            sender: self.relay.door().sender("app").expect("the sender"),
            envelope: Envelope {
                reverse_path: ReversePath(Some(from)),
                parameters: MailParameters::default(),
                recipients,
            },
            content: content.to_vec(),
            eight_bit: !content.is_ascii(),
            longest_line: content.split(|octet| *octet == b'\n').map(<[u8]>::len).max().unwrap_or(0),
            origin: Origin { protocol: "HTTP".into(), address: None, helo: None },
            protocol: Protocol::Http,
            stream: None,
            tags: Vec::new(),
            metadata: serde_json::Map::new(),
            send_at_ms: None,
            deliver_by_ms: None,
            idempotency: None,
            batch: None,
            digest_key: None,
        }
    }

    /// Submits as the HTTP side would, expecting success.
    pub async fn submit(&self, submission: Submission) -> MessageId {
        self.relay.door().submit(submission).await.expect("accepted").id
    }

    /// The recipients of a message.
    pub async fn recipients(&self, id: MessageId) -> Vec<RecipientView> {
        self.store.message(id, 1_000).await.expect("the message").recipients
    }

    /// Waits until the recipients are in these conditions (see [`condition`]), in the order of the envelope.
    #[track_caller]
    pub fn becomes<'a>(
        &'a self,
        id: MessageId,
        wanted: &'a [&'a str],
    ) -> impl Future<Output = Vec<RecipientView>> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let until = tokio::time::Instant::now() + PATIENCE;
            loop {
                let views = self.recipients(id).await;
                let are: Vec<&str> = views.iter().map(condition).collect();
                if are == wanted {
                    return views;
                }
                let late = tokio::time::Instant::now() > until;
                assert!(!late, "{caller}: wanted {wanted:?}, found {are:?}: {views:#?}");
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// What happened to one recipient, oldest first.
    pub async fn events(&self, id: MessageId, n: u32) -> Vec<EventKind> {
        let events = self.store.events(id, 1_000).await.expect("events");
        events.into_iter().filter(|event| event.n == Some(n)).map(|event| event.kind).collect()
    }

    /// Waits until nothing is waiting, leased or held any more.
    pub async fn drained(&self) {
        eventually("an empty queue", || async {
            let everything = Selector { all: true, ..Selector::default() };
            let left = self.store.recipients(everything, None, 1).await.expect("the queue");
            left.is_empty().then_some(())
        })
        .await;
    }

    /// Waits until the relay has nothing in memory.
    pub async fn idle(&self) {
        eventually("an empty window", || async { (self.relay.status().window_recipients == 0).then_some(()) }).await;
    }

    /// Creates or replaces a document, as another process would.
    pub async fn put(&self, kind: Kind, name: &str, body: Value) {
        self.store
            .put_document(kind, name.into(), reachable(body), SecretChange::Keep, self.now_ms())
            .await
            .expect("a document");
    }

    /// Removes a document.
    pub async fn delete(&self, kind: Kind, name: &str) {
        self.store.delete_document(kind, name.into()).await.expect("a document");
    }

    /// Does what an operator wants with one message.
    pub async fn operate(&self, id: MessageId, operation: store::Operation) -> u64 {
        let selector = Selector { message: Some(id), ..Selector::default() };
        self.relay.operate(selector, operation, "tester".into()).await.expect("operate")
    }
}

/// The id in a 250.
pub fn queued(answer: &testkit::Answer) -> MessageId {
    let text = answer.text();
    text.rsplit(' ').next().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no id in {text}"))
}

/// A recipient's state; a waiting one that has been attempted is `deferred`.
pub fn condition(view: &RecipientView) -> &'static str {
    match view.state {
        State::Waiting if view.attempts > 0 => "deferred",
        State::Waiting => "waiting",
        State::Leased => "leased",
        State::Held => "held",
        State::Delivered => "delivered",
        State::Failed => "failed",
        State::Expired => "expired",
        State::Canceled => "canceled",
        State::Suppressed => "suppressed",
        State::Bounced => "bounced",
        State::Complained => "complained",
    }
}

/// The hash of a password, for a sender's record.
pub fn hashed(password: &str) -> String {
    relay::credential::hash_password(&SecretString::from(password)).expect("a hash")
}

/// Code of the reply behind a recipient's last failure.
pub fn code(view: &RecipientView) -> Option<u16> {
    view.failure()?.reply().map(|reply| reply.code)
}
