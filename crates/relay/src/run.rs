//! A running relay: starts from what the store holds, keeps the window filled, does the chores, stops in order.
//!
//! The loops are in [`loops`], [`kept`] starts those again that end by a defect, the wishes of operators in [`wishes`].
//!
//! A crash needs no counterpart to anything here: what this run had leased is taken back by the next one.

mod kept;
mod loops;
mod wishes;

use std::sync::Arc;
use std::time::Duration;

use net::Net;
use net::client::ConnectError;
use secrecy::SecretString;
use serde::Serialize;
use store::{Existing, Operation, Selector, Store, StoreError, SuppressCount, Suppression};

use crate::accept::Door;
use crate::brake::BrakeStatus;
use crate::config::RelayConfig;
use crate::directory::Directory;
use crate::failover::OutStatus;
use crate::metrics::Metrics;
use crate::pulse::Part;
use crate::rates::{Level, Rate};
use crate::route::Route;
use crate::schedule::{AccountStatus, DestinationStatus};
use crate::shared::Shared;
use crate::smtp::SmtpFactory;
use crate::stream::unsubscribe::Links;
use crate::stream::{Paused, Stream};
use crate::tls_report::Ledger;
use crate::usage;

use kept::{keep, keep_part};
use wishes::spelled;
pub(crate) use wishes::{give_back, give_back_surely, operate};

/// Pause after the store could not do something.
const STORE_PAUSE: Duration = Duration::from_secs(1);
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
        for part in shared.config.paused.iter().filter(|part| part.can_pause()) {
            shared.pulses.of(*part).pause(true);
        }
        let saved = crate::brake::restore(&shared, saved);
        let used = usage::restore(&shared, crate::rates::watch::restore(&shared, saved));
        crate::rates::watch::begin(&shared).await?;
        crate::node::begin(&shared).await;
        keep("node", &shared, crate::node::run);
        if shared.store.bell().is_some() {
            keep("words to the lead", &shared, crate::node::words::post);
            keep("words of others", &shared, crate::node::words::hear);
        }
        keep_part(Part::Claims, &shared, loops::claims);
        keep_part(Part::Ticks, &shared, loops::ticks);
        keep_part(Part::Settings, &shared, loops::settings);
        keep_part(Part::Retention, &shared, loops::retention);
        keep_part(Part::Expiry, &shared, loops::expiry);
        keep("usage", &shared, move |shared| usage::run(shared, used.clone()));
        if shared.together {
            keep("shares", &shared, usage::watch);
        }
        shared.tasks.spawn(shared.policies.clone().keep());
        shared.tasks.spawn(crate::transport::start::look(shared.clone()));
        keep("divert", &shared, crate::divert::run);
        keep("suppress follow", &shared, crate::suppress::follow::run);
        keep("rates watch", &shared, crate::rates::watch::run);
        keep("stream hold", &shared, crate::stream::hold::run);
        keep("brake", &shared, crate::brake::run);
        keep("digest", &shared, crate::digest::run);
        keep("deadline expire", &shared, crate::deadline::expire);
        keep("deadline foresee", &shared, crate::deadline::foresee);
        if let Some(renderer) = shared.config.renderer.clone() {
            shared.tasks.spawn(crate::batch::run(shared.clone(), renderer));
        }
        if let Some(ledger) = &shared.tls_reports {
            shared.tasks.spawn(crate::tls_report::run(shared.clone(), ledger.clone()));
        }
        if shared.config.notices {
            keep("notice", &shared, crate::notice::run);
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

    /// Changes whenever settings are taken up, also those that were changed on another node.
    pub fn renewals(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.renewed.subscribe()
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
        let paused = Paused { since_ms: self.shared.now_ms(), why: why.to_owned(), only: false };
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
        if let Err(error) = shared.store.leave(shared.run).await {
            tracing::debug!(%error, "the other nodes are not told that this one has stopped");
        }
    }
}
