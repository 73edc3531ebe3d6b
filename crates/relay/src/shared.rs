//! What all parts of a running relay share. Locks here are held for moments, never across an await.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use explain::RuleBase;
use futures_util::FutureExt;
use net::{ClientTls, Net, Roots};
use parking_lot::{Mutex, RwLock};
use store::{Claim, Incarnation, Lane, LaneKey, Message, Operation, Selector, State, Store};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::DEFAULT_STREAM;
use crate::backoff::Backoff;
use crate::brake::auth::Brakes;
use crate::budget::Budget;
use crate::config::RelayConfig;
use crate::credential::Gate;
use crate::directory::Directory;
use crate::exchangers::Exchangers;
use crate::failover::Failover;
use crate::metrics::Metrics;
use crate::route::Route;
use crate::schedule::{Action, ConnectionId, Job, News, Schedule, WindowLimits};
use crate::stream::pace::{Pace, Slots};
use crate::stream::unsubscribe::Links;
use crate::suppress::known::Known;
use crate::tls_report::Ledger;
use crate::transport::sts::Policies;

/// Lanes whose names are remembered.
const LANES: usize = 10_000;

/// Wakes an idle connection.
pub(crate) type Wake = Arc<Notify>;

/// The relay's common ground.
pub(crate) struct Shared {
    pub(crate) config: RelayConfig,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) net: Net,
    /// This run: leases carry it.
    pub(crate) run: Incarnation,
    /// Other nodes count for the same limits.
    pub(crate) together: bool,
    pub(crate) gate: Gate,
    pub(crate) backoff: Backoff,
    pub(crate) schedule: Mutex<Schedule<Wake>>,
    pub(crate) brakes: Mutex<Brakes>,
    /// A sign-in ended: those that wait for their turn may ask again.
    pub(crate) brake_news: Notify,
    /// The brakes of incidents.
    pub(crate) keeper: crate::brake::Keeper,
    /// Where this node stands among the others.
    pub(crate) node: crate::node::Standing,
    /// What the node that leads has to know.
    pub(crate) words: crate::node::words::Words,
    /// Content that waits in memory for delivery.
    pub(crate) contents: Arc<Budget>,
    /// Content that is being received.
    pub(crate) receiving: Arc<Budget>,
    pub(crate) exchangers: Exchangers,
    pub(crate) sealer: crate::domain::Sealer,
    /// MTA-STS policies.
    pub(crate) policies: Arc<Policies>,
    /// Sessions by domain and day, where they are reported.
    pub(crate) tls_reports: Option<Arc<Ledger>>,
    /// What receivers will mind, found at the start.
    pub(crate) transport_problems: Mutex<Vec<String>>,
    /// Domains that write, and by which routes.
    pub(crate) pairs: crate::pairs::Pairs,
    /// Senders, routes or rules are others than before.
    pub(crate) settings_changed: Notify,
    /// How often settings were taken up.
    pub(crate) renewed: watch::Sender<u64>,
    pub(crate) lookups: crate::dispatch::Lookups,
    /// Something in the store fell due earlier than the claim loop knew.
    pub(crate) claim_wake: Notify,
    /// There may be something to do for a batch.
    pub(crate) batch_wake: Notify,
    /// A destination was paused: the time of the next tick may have changed.
    pub(crate) tick_wake: Notify,
    /// Mail waits until a block of its quota is written down.
    pub(crate) usage_wake: Notify,
    /// No new work from here on.
    pub(crate) stopping: CancellationToken,
    /// Patience is over: what is in flight is cut.
    pub(crate) deadline: CancellationToken,
    pub(crate) tasks: TaskTracker,
    directory: RwLock<Arc<Directory>>,
    /// What failures are judged by; the rules inside the program until others are given.
    rules: RwLock<Option<Arc<RuleBase>>>,
    lanes: Mutex<HashMap<u64, Arc<Lane>>>,
    lane_hash: RandomState,
    connections: AtomicU64,
    /// Connections that ended by a defect.
    pub(crate) lost: AtomicU64,
    /// When mail of streams with a pace, or that are spread, is due.
    pub(crate) slots: Mutex<HashMap<Arc<str>, Slots>>,
    /// Streams were paused, switched off, or set going again.
    pub(crate) stream_wake: Notify,
    /// Something may expire sooner than is known.
    pub(crate) expiry_wake: Notify,
    /// The time has moved: a digest may be due.
    pub(crate) digest_wake: Notify,
    /// Links by which recipients leave streams.
    pub(crate) links: Arc<Links>,
    pub(crate) failover: Mutex<Failover>,
    /// Addresses that may be suppressed.
    pub(crate) suppressed: Known,
    /// Addresses that something may be counted against.
    pub(crate) struck: Known,
    /// Those of them that took mail since.
    pub(crate) forgiven: Mutex<Vec<proto::Address>>,
    pub(crate) rates: Mutex<crate::rates::watch::Watch>,
    /// What comes in, for those who watch the volume.
    pub(crate) intake: Arc<crate::incident::intake::Intake>,
    /// Failed sign-ins of clients.
    pub(crate) sign_ins: Arc<crate::incident::signins::SignIns>,
    /// What is counted of all this.
    pub(crate) metrics: Arc<Metrics>,
    /// That the loops go round.
    pub(crate) pulses: crate::pulse::Pulses,
    /// What attempts tell of incidents.
    pub(crate) watch: crate::incident::watch::Watch,
    /// Routes that trust authorities of their own, by name and version.
    route_nets: Mutex<HashMap<(Arc<str>, i64), Net>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("run", &self.run).finish_non_exhaustive()
    }
}

/// The stream of messages that name none, without an allocation each time.
pub(crate) fn default_stream() -> Arc<str> {
    static NAME: std::sync::OnceLock<Arc<str>> = std::sync::OnceLock::new();
    NAME.get_or_init(|| DEFAULT_STREAM.into()).clone()
}

impl Shared {
    pub(crate) fn new(
        config: RelayConfig,
        store: Arc<dyn Store>,
        net: Net,
        run: Incarnation,
        mut directory: Directory,
        tls_reports: Option<Arc<Ledger>>,
        links: Links,
    ) -> Self {
        directory.configure_streams(&config.streams);
        let window = WindowLimits { recipients: config.window_recipients.max(100) };
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let transport = config.transport.clone();
        let validating = transport.validating.clone();
        let policies = Policies::open(net.clone(), transport, tasks.clone(), stopping.clone());
        let shared = Self {
            slots: Mutex::default(),
            stream_wake: Notify::new(),
            expiry_wake: Notify::new(),
            digest_wake: Notify::new(),
            links: Arc::new(links),
            failover: Mutex::default(),
            suppressed: Known::default(),
            struck: Known::default(),
            forgiven: Mutex::default(),
            rates: crate::rates::watch::new(config.rates.window_ms),
            intake: Arc::default(),
            sign_ins: Arc::default(),
            metrics: Arc::default(),
            pulses: crate::pulse::Pulses::default(),
            watch: crate::incident::watch::Watch::new(config.incidents),
            backoff: Backoff::new(&config.retry_s),
            schedule: Mutex::new(Schedule::new(window, config.max_connections.max(1))),
            brakes: Mutex::default(),
            brake_news: Notify::new(),
            keeper: crate::brake::Keeper::default(),
            contents: Budget::new(config.window_octets),
            receiving: Budget::new(config.memory_in_flight),
            exchangers: Exchangers::new(net.clone(), config.hostname.clone(), validating, policies.clone()),
            policies,
            tls_reports,
            transport_problems: Mutex::default(),
            gate: Gate::default(),
            node: crate::node::Standing::new(net.clock.now_ms()),
            words: crate::node::words::Words::default(),
            sealer: crate::domain::Sealer::default(),
            pairs: crate::pairs::Pairs::default(),
            settings_changed: Notify::new(),
            renewed: watch::Sender::new(0),
            lookups: crate::dispatch::Lookups::default(),
            claim_wake: Notify::new(),
            batch_wake: Notify::new(),
            tick_wake: Notify::new(),
            usage_wake: Notify::new(),
            route_nets: Mutex::default(),
            stopping,
            deadline: CancellationToken::new(),
            tasks,
            directory: RwLock::new(Arc::new(directory)),
            rules: RwLock::default(),
            lanes: Mutex::default(),
            lane_hash: RandomState::new(),
            connections: AtomicU64::new(1),
            lost: AtomicU64::new(0),
            together: store.bell().is_some(),
            config,
            store,
            net,
            run,
        };
        if shared.together {
            shared.schedule.lock().keep_together();
        }
        shared.use_paces(&shared.directory());
        shared
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.net.clock.now_ms()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    pub(crate) fn directory(&self) -> Arc<Directory> {
        self.directory.read().clone()
    }

    pub(crate) fn replace_directory(&self, mut directory: Directory) {
        directory.configure_streams(&self.config.streams);
        let directory = {
            let mut current = self.directory.write();
            directory.keep_senders_of(&current);
            *current = Arc::new(directory);
            current.clone()
        };
        self.use_paces(&directory);
        self.stream_wake.notify_one();
    }

    fn use_paces(&self, directory: &Directory) {
        let (routes, streams) = (directory.routes(), directory.streams());
        self.metrics.expect(routes.map(|route| &*route.name), streams.map(|stream| &*stream.name));
        let pace = |stream: &Arc<crate::stream::Stream>| {
            Some((stream.name.clone(), Pace::of(&stream.name, stream.record.per_minute?)))
        };
        self.schedule.lock().set_paces(directory.streams().filter_map(pace).collect());
    }

    /// Puts a new directory in place. What waited for a route's credential, and only for that, is due when the route changed.
    pub(crate) async fn renew_directory(self: &Arc<Self>, directory: Directory) {
        let before = self.directory();
        self.replace_directory(directory);
        self.admit_anew(&before);
        self.settings_changed.notify_one();
        self.renewed.send_modify(|times| *times += 1);
        self.pairs.stir();
        let freed = {
            let directory = self.directory();
            self.brakes.lock().changed(|name| directory.route(name).map(|route| route.version))
        };
        self.brake_news.notify_waiters();
        crate::brake::settings_changed(self);
        for route in freed {
            tracing::info!(%route, "the route has changed: its mail goes on");
            let selector =
                Selector { route: Some(route.to_string()), state: Some(State::Waiting), ..Selector::default() };
            let due = self.store.operate(selector, Operation::Retry, "changed route".into(), self.now_ms()).await;
            if let Err(error) = due {
                tracing::warn!(%route, %error, "mail of a changed route waits until it would have been due");
            }
            self.due_at(i64::MIN);
        }
    }

    /// Schedules what is in memory anew where its route or stream changed: limits that had no room may have some now.
    fn admit_anew(self: &Arc<Self>, before: &Directory) {
        let now = self.directory();
        let version = |directory: &Directory, route: &str| directory.route(route).map(|route| route.version);
        let route = |destination: &str| {
            let route = crate::dispatch::route_of(destination);
            version(before, route) != version(&now, route)
        };
        let stream = |claim: &Claim| {
            let stream = &claim.message.stream;
            before.stream_record(stream) != now.stream_record(stream)
        };
        let jobs = {
            let mut schedule = self.schedule.lock();
            let mut jobs = schedule.evict_from_all(route);
            jobs.extend(schedule.evict(stream));
            jobs
        };
        for job in jobs {
            self.admit(job);
        }
    }

    /// The rules. Those inside the program are loaded by the first failure.
    pub(crate) fn rules(&self) -> Arc<RuleBase> {
        self.rules.read().clone().unwrap_or_else(RuleBase::shared)
    }

    pub(crate) fn use_rules(&self, rules: Arc<RuleBase>) {
        *self.rules.write() = Some(rules);
    }

    /// Whether complaints about a stream's mail concern that stream alone.
    pub(crate) fn owns_suppressions(&self, stream: &str) -> bool {
        self.directory().stream_record(stream).own_suppressions
    }

    /// Whether a stream's messages may be delivered twice.
    pub(crate) fn allows_duplicates(&self, stream: &str) -> bool {
        self.directory().stream_record(stream).allow_duplicates
    }

    /// The lane of a recipient, from memory if it was used lately.
    pub(crate) fn lane(&self, route: &Arc<str>, domain: &str, message: &Message) -> Arc<Lane> {
        let parts = (&**route, domain, &*message.sender, &*message.stream, message.priority);
        let hash = self.lane_hash.hash_one(parts);
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.get(&hash) {
            let key = &lane.key;
            if (&*key.route, &*key.domain, &*key.sender, &*key.stream, key.priority) == parts {
                return lane.clone();
            }
        }
        let lane = Arc::new(Lane::new(LaneKey {
            route: route.clone(),
            domain: domain.into(),
            sender: message.sender.clone(),
            stream: message.stream.clone(),
            priority: message.priority,
        }));
        if lanes.len() >= LANES {
            lanes.clear();
        }
        lanes.insert(hash, lane.clone());
        lane
    }

    /// Schedules a job whose recipients are counted in the window already.
    pub(crate) fn admit(self: &Arc<Self>, job: Job) {
        if let Some(job) = self.may_begin(job) {
            crate::dispatch::dispatch(self, job);
        }
    }

    /// Does what the schedule asks for.
    pub(crate) fn perform(self: &Arc<Self>, actions: impl IntoIterator<Item = Action<Wake>>) {
        for action in actions {
            match action {
                Action::Wake(wake) => wake.notify_one(),
                // What waits in memory goes back to the store: a connection for it would only be given up again.
                Action::Open(_) if self.is_stopping() => {}
                Action::Open(destination) => {
                    let id = ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed));
                    let (shared, work) = (self.clone(), crate::connection::run(self.clone(), destination, id));
                    self.tasks.spawn(async move {
                        // Not looked at when the runtime drops it: only a defect ends it before its time.
                        if std::panic::AssertUnwindSafe(work).catch_unwind().await.is_err() {
                            shared.lost.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            }
        }
    }

    /// Tells the schedule something, and does what it asks for then.
    pub(crate) fn tell<I>(self: &Arc<Self>, what: impl FnOnce(&mut Schedule<Wake>) -> I)
    where
        I: IntoIterator<Item = Action<Wake>>,
    {
        let (actions, news) = {
            let mut schedule = self.schedule.lock();
            (what(&mut schedule), schedule.take_news())
        };
        self.heed(news);
        self.perform(actions);
    }

    /// Wakes the loops that the schedule has news for.
    pub(crate) fn heed(&self, news: News) {
        if news.hungry {
            self.usage_wake.notify_one();
        }
        if news.sooner {
            self.tick_wake.notify_one();
        }
    }

    /// Recipients left memory: settled, given back, or never stored.
    pub(crate) fn leave_window(&self, lane: &Lane, recipients: usize) {
        if self.schedule.lock().window_mut().remove(lane.id, recipients) {
            self.claim_wake.notify_one();
        }
    }

    /// The network as a route sees it: with its own trusted authorities, if it has some.
    pub(crate) fn net_for(&self, route: &Route) -> Result<Net, String> {
        let Some(path) = &route.record.ca_file else { return Ok(self.net.clone()) };
        let key = (route.name.clone(), route.version);
        if let Some(net) = self.route_nets.lock().get(&key) {
            return Ok(net.clone());
        }
        let tls = ClientTls::new(&Roots::Pem(path.into()), self.net.clock.clone())
            .map_err(|error| format!("authorities of route {}: {error}", route.name))?;
        let net = Net { tls, ..self.net.clone() };
        let mut nets = self.route_nets.lock();
        nets.retain(|(name, _), _| *name != route.name);
        nets.insert(key, net.clone());
        Ok(net)
    }

    /// Something falls due in the store.
    pub(crate) fn due_at(&self, at_ms: i64) {
        if self.schedule.lock().window_mut().due_at(at_ms) {
            self.claim_wake.notify_one();
        }
    }
}
