//! A running relay: starts from what the store holds, keeps the window filled, does the chores, stops in order.
//!
//! A crash needs no counterpart to anything here: what this run had leased is taken back by the next one.

use std::sync::Arc;
use std::time::Duration;

use net::Net;
use net::client::ConnectError;
use secrecy::SecretString;
use serde::Serialize;
use store::{Claim, ClaimRequest, Operation, Selector, State, Store, StoreError};
use store::{Existing, SuppressCount, Suppression};

use crate::accept::Door;
use crate::brake::BrakeStatus;
use crate::config::RelayConfig;
use crate::directory::Directory;
use crate::failover::OutStatus;
use crate::metrics::Metrics;
use crate::rates::{Level, Rate};
use crate::route::Route;
use crate::schedule::{AccountStatus, DestinationStatus, Job};
use crate::shared::Shared;
use crate::smtp::SmtpFactory;
use crate::stream::unsubscribe::Links;
use crate::stream::{Paused, Stream};
use crate::tls_report::Ledger;
use crate::usage;

/// Longest sleep of a loop: a wall clock that was set must be noticed.
const NAP_MS: i64 = 5_000;
/// Pause after the store could not do something.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How often settings are looked at for changes by other processes.
const SETTINGS_EVERY: Duration = Duration::from_secs(1);
/// How often what is past its time is looked for.
const CHORES_EVERY: Duration = Duration::from_secs(10);
/// Recipients given back in one transaction.
const GIVE_BACK_AT_ONCE: usize = 2_000;
/// Time for connections to end after patience is over.
const LAST_GRACE: Duration = Duration::from_secs(2);
/// Destinations shown in a status.
const SHOWN: usize = 50;

/// Why a relay cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    /// Recipients that an earlier run had leased.
    pub taken_back: u64,
    /// Settings that could not be used, in words.
    pub problems: Vec<String>,
}

/// The relay at a moment.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Recipients in memory.
    pub window_recipients: usize,
    /// Octets of content in memory for delivery.
    pub window_octets: usize,
    /// Octets being received.
    pub receiving_octets: usize,
    /// Connections to next hops.
    pub connections: u32,
    /// The destinations with most in memory.
    pub destinations: Vec<DestinationStatus>,
    /// What accounts with limits have used of them.
    pub accounts: Vec<AccountStatus>,
    /// What stands still: brakes of incidents, and sign-ins that were rejected.
    pub brakes: Vec<BrakeStatus>,
    /// Destinations where nothing works, whose mail goes by fallback routes.
    pub out: Vec<OutStatus>,
    /// Messages that fallback routes took since the start.
    pub by_fallback: u64,
    /// Senders that exist.
    pub senders: usize,
    /// Routes that exist.
    pub routes: usize,
    /// What receivers will mind about the addresses we send from, in sentences.
    pub transport_problems: Vec<String>,
    /// Rates of bounces and complaints that are above a threshold, the worst first.
    pub rates: Vec<Rate>,
    /// Addresses that get no mail; a little more or less after changes.
    pub suppressed: usize,
}

impl Relay {
    /// Starts: takes back what an earlier run of the same node held, then works.
    pub async fn start(config: RelayConfig, store: Arc<dyn Store>, net: Net) -> Result<Arc<Self>, RelayError> {
        let (run, taken_back) = store.start_run(&config.node, net.clock.now_ms()).await?;
        let directory = Directory::load(&*store).await?;
        let problems = directory.problems.clone();
        let saved = store.usage().await?;
        let tls_reports = match config.tls_reports.clone() {
            Some(settings) => Some(Ledger::open(settings, &*store, net.clock.now_ms()).await?),
            None => None,
        };
        let links = Links::open(&*store, config.public_url.as_deref(), net.clock.now_ms()).await?;
        let shared = Arc::new(Shared::new(config, store, net, run, directory, tls_reports, links));
        let saved = crate::brake::restore(&shared, saved);
        usage::restore(&shared, crate::rates::watch::restore(&shared, saved));
        crate::rates::watch::begin(&shared).await?;
        shared.tasks.spawn(claims(shared.clone()));
        shared.tasks.spawn(ticks(shared.clone()));
        shared.tasks.spawn(settings(shared.clone()));
        shared.tasks.spawn(chores(shared.clone()));
        shared.tasks.spawn(usage::run(shared.clone()));
        shared.tasks.spawn(shared.policies.clone().keep());
        shared.tasks.spawn(crate::transport::start::look(shared.clone()));
        shared.tasks.spawn(crate::divert::run(shared.clone()));
        shared.tasks.spawn(crate::suppress::follow::run(shared.clone()));
        shared.tasks.spawn(crate::rates::watch::run(shared.clone()));
        shared.tasks.spawn(crate::stream::hold::run(shared.clone()));
        shared.tasks.spawn(crate::brake::run(shared.clone()));
        shared.tasks.spawn(crate::digest::run(shared.clone()));
        shared.tasks.spawn(crate::deadline::expire(shared.clone()));
        shared.tasks.spawn(crate::deadline::foresee(shared.clone()));
        if let Some(renderer) = shared.config.renderer.clone() {
            shared.tasks.spawn(crate::batch::run(shared.clone(), renderer));
        }
        if let Some(ledger) = &shared.tls_reports {
            shared.tasks.spawn(crate::tls_report::run(shared.clone(), ledger.clone()));
        }
        if shared.config.notices {
            shared.tasks.spawn(crate::notice::run(shared.clone()));
        }
        Ok(Arc::new(Self { shared, taken_back, problems }))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The one way in.
    pub fn door(&self) -> Arc<Door> {
        Arc::new(Door { shared: self.shared.clone() })
    }

    /// Makes SMTP services for a listener.
    pub fn smtp_factory(&self) -> SmtpFactory {
        SmtpFactory::new(Door { shared: self.shared.clone() })
    }

    /// Reads senders, routes and rules again; gives what is wrong with them.
    pub async fn reload(&self) -> Result<Vec<String>, StoreError> {
        let directory = Directory::load(&*self.shared.store).await?;
        let problems = directory.problems.clone();
        self.shared.renew_directory(directory).await;
        Ok(problems)
    }

    /// From now on failures are judged by these rules.
    pub fn use_rules(&self, rules: Arc<explain::RuleBase>) {
        self.shared.use_rules(rules);
    }

    /// All routes, by name.
    pub fn routes(&self) -> Vec<Arc<Route>> {
        let mut all: Vec<_> = self.shared.directory().routes().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Signs in at a route's server with a credential that is not in use yet, and says good-bye: no mail is sent, and no brake
    /// learns of it. `token`: instead of the password.
    pub async fn prove(&self, route: &Route, token: Option<SecretString>) -> Result<(), Box<ConnectError>> {
        crate::signin::prove(&self.shared, route, token.as_ref()).await
    }

    /// The rules failures are judged by.
    pub fn rules(&self) -> Arc<explain::RuleBase> {
        self.shared.rules()
    }

    /// Does what an operator wants, also to what is in memory; gives the number of recipients.
    pub async fn operate(&self, selector: Selector, operation: Operation, who: String) -> Result<u64, StoreError> {
        if matches!(operation, Operation::Retry | Operation::Release) {
            crate::brake::hasten(&self.shared);
        }
        let operation = crate::brake::operators_words(operation);
        // A task of its own: an operator who goes away must not take along what was just taken out of memory.
        let task = self.shared.tasks.spawn(operate(self.shared.clone(), spelled(selector), operation, who));
        task.await.unwrap_or(Err(StoreError::Closed))
    }

    /// The rates of bounces and complaints of all streams, senders, routes and providers, the worst first.
    pub fn rates(&self) -> Vec<Rate> {
        crate::rates::watch::overview(&self.shared)
    }

    /// Adds suppressions; they hold when this returns.
    pub async fn suppress(&self, list: Vec<Suppression>, existing: Existing) -> Result<SuppressCount, StoreError> {
        let addresses: Vec<proto::Address> = list.iter().map(|suppression| suppression.address.clone()).collect();
        let count = self.shared.store.suppress(list, existing, self.shared.now_ms()).await?;
        addresses.iter().for_each(|address| self.shared.suppressed.insert(address));
        Ok(count)
    }

    /// All streams that somebody said something of, by name.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        let mut all: Vec<_> = self.shared.directory().streams().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Holds all mail of a stream, also what is in memory, until [`Relay::resume_stream`]. `why` is for people. Gives whether
    /// it was going before.
    pub async fn pause_stream(&self, name: &str, why: &str) -> Result<bool, StoreError> {
        let paused = Paused { since_ms: self.shared.now_ms(), why: why.to_owned() };
        let changed = crate::stream::hold::set(&*self.shared.store, name, Some(paused), self.shared.now_ms()).await?;
        self.reload().await?;
        Ok(changed)
    }

    /// Lets a paused stream go on, with what was held. Gives whether it was paused.
    pub async fn resume_stream(&self, name: &str) -> Result<bool, StoreError> {
        let changed = crate::stream::hold::set(&*self.shared.store, name, None, self.shared.now_ms()).await?;
        self.reload().await?;
        Ok(changed)
    }

    /// What was counted since the start.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Returns if the schedule can be had; blocks for ever if somebody keeps it.
    pub fn lives(&self) {
        drop(self.shared.schedule.lock());
    }

    /// Nothing new is taken up any more.
    pub fn is_stopping(&self) -> bool {
        self.shared.is_stopping()
    }

    /// Links by which recipients leave streams.
    pub fn links(&self) -> Arc<Links> {
        self.shared.links.clone()
    }

    /// The time has moved by a leap: what waits for it looks again at once.
    pub fn time_has_leapt(&self) {
        self.shared.tick_wake.notify_one();
        self.shared.expiry_wake.notify_one();
        self.shared.digest_wake.notify_one();
        self.shared.keeper.wake.notify_one();
        self.shared.due_at(i64::MIN);
        self.shared.claim_wake.notify_one();
    }

    /// The relay at this moment.
    pub fn status(&self) -> Status {
        let now_ms = self.shared.now_ms();
        let (out, by_fallback) = {
            let failover = self.shared.failover.lock();
            (failover.overview(), failover.delivered)
        };
        let mut schedule = self.shared.schedule.lock();
        let mut accounts = schedule.meters_mut().overview(now_ms);
        accounts.truncate(SHOWN);
        let mut destinations = schedule.overview();
        destinations.truncate(SHOWN);
        let (senders, routes) = self.shared.directory().counts();
        Status {
            window_recipients: schedule.window().recipients(),
            window_octets: self.shared.contents.used(),
            receiving_octets: self.shared.receiving.used(),
            connections: schedule.connections(),
            destinations,
            accounts,
            brakes: self.brakes(),
            out,
            by_fallback,
            senders,
            routes,
            transport_problems: self.shared.transport_problems.lock().clone(),
            rates: self.rates().into_iter().filter(|rate| rate.level() > Level::Fine).take(SHOWN).collect(),
            suppressed: self.shared.suppressed.len(),
        }
    }

    /// Stops: nothing new, what is past its final dot may finish, the rest goes back to the store. Listeners must be
    /// closed before.
    pub async fn stop(&self) {
        let shared = &self.shared;
        shared.stopping.cancel();
        shared.tasks.close();
        let patience = Duration::from_secs(shared.config.shutdown_s);
        if tokio::time::timeout(patience, shared.tasks.wait()).await.is_err() {
            tracing::warn!(seconds = shared.config.shutdown_s, "deliveries in flight did not finish in time");
            shared.deadline.cancel();
            let _ = tokio::time::timeout(LAST_GRACE, shared.tasks.wait()).await;
        }
        usage::close(shared).await;
        crate::rates::watch::close(shared).await;
        let mut jobs = shared.schedule.lock().evict(|_| true);
        jobs.extend(shared.lookups.drain());
        if let Err(error) = give_back(shared, &jobs, shared.now_ms()).await {
            tracing::error!(%error, "leases could not be given back; the next start takes them");
        }
    }
}

/// See [`Relay::operate`].
pub(crate) async fn operate(
    shared: Arc<Shared>,
    selector: Selector,
    operation: Operation,
    who: String,
) -> Result<u64, StoreError> {
    // The store refuses a selector that says nothing.
    if selector != Selector::default() {
        let jobs = shared.schedule.lock().evict(|claim| concerns(&selector, claim));
        give_back_surely(&shared, jobs).await?;
    }
    let wakes = matches!(operation, Operation::Retry | Operation::Release);
    let stops = matches!(operation, Operation::Hold(_) | Operation::Cancel);
    let result = shared.store.operate(selector.clone(), operation, who, shared.now_ms()).await;
    if stops && result.is_ok() {
        // What was given back was due, and may be in memory again by now, with the wish noted: it is granted by giving back.
        let jobs = shared.schedule.lock().evict(|claim| concerns(&selector, claim));
        give_back_surely(&shared, jobs).await?;
    }
    if wakes && result.is_ok() {
        shared.brakes.lock().release(shared.now_ms());
        let actions = shared.schedule.lock().resume(shared.now_ms());
        shared.perform(actions);
    }
    // Also after a refusal: what was given back is due.
    shared.due_at(i64::MIN);
    result
}

/// Domain and recipient as the store spells them.
fn spelled(mut selector: Selector) -> Selector {
    if let Some(domain) = &mut selector.domain
        && let Ok(known) = proto::address::parse_domain(domain)
    {
        *domain = known;
    }
    if let Some(recipient) = &mut selector.recipient
        && let Ok(address) = proto::Address::parse(recipient)
    {
        *recipient = address.as_str().to_owned();
    }
    selector
}

/// Whether an operator's selector may concern recipients of a job.
fn concerns(selector: &Selector, claim: &Claim) -> bool {
    fn is(wanted: &Option<String>, value: &str) -> bool {
        wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(value))
    }
    let key = &claim.lane.key;
    let recipient = |wanted: &String| claim.recipients.iter().any(|r| r.address.as_str().eq_ignore_ascii_case(wanted));
    // Only what is held has a reason.
    selector.why.is_none()
        && selector.message.is_none_or(|id| id == claim.message.id)
        && is(&selector.domain, &key.domain)
        && is(&selector.route, &key.route)
        && is(&selector.sender, &key.sender)
        && is(&selector.stream, &key.stream)
        && selector.sender_domain.as_ref().is_none_or(|wanted| is_from(claim, wanted))
        && selector.recipient.as_ref().is_none_or(recipient)
        && selector.batch.is_none_or(|batch| claim.message.details.row.is_some_and(|row| row.batch == batch))
        && selector.state.is_none_or(|state| matches!(state, State::Leased | State::Waiting))
}

fn is_from(claim: &Claim, domain: &str) -> bool {
    claim.message.reverse_path.0.as_ref().is_some_and(|address| address.domain().eq_ignore_ascii_case(domain))
}

/// Gives jobs back as soon as the store can take them: they are in nobody's hands any more.
async fn give_back_surely(shared: &Shared, jobs: Vec<Job>) -> Result<(), StoreError> {
    loop {
        match give_back(shared, &jobs, shared.now_ms()).await {
            Ok(()) => return Ok(()),
            Err(error @ StoreError::Closed) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "leases are not given back yet");
                tokio::select! {
                    () = tokio::time::sleep(STORE_PAUSE) => {}
                    () = shared.stopping.cancelled() => return Err(error),
                }
            }
        }
    }
}

async fn give_back(shared: &Shared, jobs: &[Job], due_ms: i64) -> Result<(), StoreError> {
    let all: Vec<_> = jobs
        .iter()
        .flat_map(|job| {
            let message = job.claim.message.id;
            job.claim.recipients.iter().map(move |r| (store::RecipientId { message, n: r.n }, due_ms))
        })
        .collect();
    for chunk in all.chunks(GIVE_BACK_AT_ONCE) {
        shared.store.give_back(shared.run, chunk.to_vec()).await?;
    }
    for job in jobs {
        shared.leave_window(&job.claim.lane, job.claim.recipients.len());
    }
    Ok(())
}

/// Keeps the window filled from the store.
async fn claims(shared: Arc<Shared>) {
    while !shared.is_stopping() {
        let now_ms = shared.now_ms();
        shared.pulses.claims.beat(now_ms, true);
        let (plan, wait_ms) = {
            let mut schedule = shared.schedule.lock();
            let window = schedule.window_mut();
            match window.next_claim_ms() {
                Some(at) if at <= now_ms => (window.plan_claim(), 0),
                Some(at) => (None, (at - now_ms).min(NAP_MS)),
                None => (None, NAP_MS),
            }
        };
        match plan {
            Some(plan) => {
                let request = ClaimRequest {
                    by: shared.run,
                    now_ms,
                    max: plan.most as u32,
                    max_per_lane: plan.per_lane as u32,
                    skip: plan.skip,
                };
                claim(&shared, request).await;
            }
            None => {
                tokio::select! {
                    () = shared.claim_wake.notified() => {}
                    () = tokio::time::sleep(Duration::from_millis(wait_ms.max(1) as u64)) => {}
                    () = shared.stopping.cancelled() => {}
                }
            }
        }
    }
}

async fn claim(shared: &Arc<Shared>, request: ClaimRequest) {
    let per_lane = request.max_per_lane as usize;
    let claimed = match shared.store.claim(request).await {
        Ok(claimed) => claimed,
        Err(error) => {
            tracing::warn!(%error, "nothing can be claimed");
            shared.schedule.lock().window_mut().due_at(shared.now_ms());
            tokio::select! {
                () = tokio::time::sleep(STORE_PAUSE) => {}
                () = shared.stopping.cancelled() => {}
            }
            return;
        }
    };
    {
        let mut schedule = shared.schedule.lock();
        let window = schedule.window_mut();
        let mut per: std::collections::HashMap<_, usize> = std::collections::HashMap::new();
        for claim in &claimed.claims {
            window.add(claim.lane.id, claim.recipients.len());
            *per.entry(claim.lane.id).or_default() += claim.recipients.len();
        }
        let full = per.into_iter().filter(|(_, count)| *count >= per_lane).map(|(lane, _)| lane);
        window.claimed(claimed.next_due_ms, full);
    }
    for claim in claimed.claims {
        shared.admit(Job { claim, content: None });
    }
}

/// Tries paused destinations again when their time has come.
async fn ticks(shared: Arc<Shared>) {
    while !shared.is_stopping() {
        let now_ms = shared.now_ms();
        shared.pulses.ticks.beat(now_ms, true);
        let (actions, overdue, next) = {
            let mut schedule = shared.schedule.lock();
            let overdue = schedule.overdue(now_ms);
            (schedule.tick(now_ms), overdue, schedule.next_tick_ms())
        };
        crate::deadline::over(&shared, overdue);
        let news = shared.schedule.lock().take_news();
        if news.hungry {
            shared.usage_wake.notify_one();
        }
        shared.perform(actions);
        let wait_ms = next.map_or(NAP_MS, |at| (at - now_ms).clamp(1, NAP_MS));
        tokio::select! {
            () = shared.tick_wake.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(wait_ms as u64)) => {}
            () = shared.stopping.cancelled() => {}
        }
    }
}

/// Notices settings that another process changed.
async fn settings(shared: Arc<Shared>) {
    while pause(&shared, SETTINGS_EVERY).await {
        let version = shared.store.settings_version().await;
        shared.pulses.settings.beat(shared.now_ms(), version.is_ok());
        let Ok(version) = version else { continue };
        if version == shared.directory().version {
            continue;
        }
        match Directory::load(&*shared.store).await {
            Ok(directory) => {
                for problem in &directory.problems {
                    tracing::warn!(%problem, "setting is not usable");
                }
                shared.renew_directory(directory).await;
            }
            Err(error) => tracing::warn!(%error, "settings cannot be read"),
        }
    }
}

/// Retention; and due times of a broken clock, which are mended when expiry is looked at.
async fn chores(shared: Arc<Shared>) {
    while pause(&shared, CHORES_EVERY).await {
        let expired = shared.store.expire(shared.now_ms(), crate::deadline::AT_ONCE).await;
        shared.pulses.expiry.beat(shared.now_ms(), expired.is_ok());
        if let Err(error) = expired {
            tracing::warn!(%error, "expired mail cannot be marked");
        }
        let retention = crate::stream::retention(&shared.config.retention, shared.directory().streams());
        let retained = shared.store.retain(retention, shared.now_ms()).await;
        shared.pulses.retention.beat(shared.now_ms(), retained.is_ok());
        if let Err(error) = retained {
            tracing::warn!(%error, "old messages cannot be removed");
        }
    }
}

/// False: the relay stops.
async fn pause(shared: &Shared, length: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(length) => true,
        () = shared.stopping.cancelled() => false,
    }
}
