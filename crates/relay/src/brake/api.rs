//! Brakes for those who keep incidents, and for people.

use std::sync::Arc;

use proto::transcript::Failure;
use serde::{Deserialize, Serialize};
use store::StoreError;
use tokio::sync::broadcast;

use super::book::Phase;
use super::news::BrakeNews;
use super::probe::ProbeOutcome;
use super::scope::{BrakeScope, Proof};
use super::{book, follow, probe};
use crate::dispatch::route_of;
use crate::run::Relay;
use crate::schedule::ramp::Ramp;
use crate::shared::Shared;

/// A brake that is on or coming off, as status pages show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BrakeStatus {
    /// What it stops: `credential:out`.
    pub scope: String,
    /// The route, if it is about one; otherwise empty.
    pub route: String,
    /// Its incident, `i-17`, unless none is known yet.
    pub incident: Option<String>,
    /// Why, for people.
    pub why: Option<String>,
    /// Since when, Unix milliseconds.
    pub since_ms: i64,
    /// Next probe, Unix milliseconds; when mail is being let go, now or before.
    pub until_ms: i64,
    /// Probes or sign-ins that failed, in a row.
    pub rejections: u32,
    /// The last failure, where it is remembered.
    pub failure: Option<Failure>,
    /// Recipients that are held, as last counted.
    pub waiting: u64,
    /// Recipients let go since it works again; `None`: nothing is let go.
    pub released: Option<u64>,
}

/// What [`Relay::unbrake`] set going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unbraked {
    /// Recipients that wait to be let go.
    pub waiting: u64,
}

impl Relay {
    /// Stops mail for an incident: what is queued and what comes in is held with the reason `incident i-N: why`. It does not
    /// expire unless somebody asked for its end, and nothing tries it but a probe. Mail whose route has a fallback that works
    /// goes by that. When this returns no further mail leaves; what is queued follows within moments.
    ///
    /// # Errors
    /// The brake is on, but could not be written down yet; or there are too many.
    pub async fn brake(&self, scope: BrakeScope, incident: i64, why: String) -> Result<(), StoreError> {
        let proof = scope.proof();
        self.brake_until(scope, incident, why, proof).await
    }

    /// The same, where it is known what has to work before it comes off.
    ///
    /// # Errors
    /// See [`Relay::brake`].
    pub async fn brake_until(
        &self,
        scope: BrakeScope,
        incident: i64,
        why: String,
        proof: Proof,
    ) -> Result<(), StoreError> {
        let shared = self.shared();
        let route = match &scope {
            BrakeScope::Destination(name) => route_of(name),
            scope => scope.route().unwrap_or_default(),
        };
        let version = shared.directory().route(route).map(|route| route.version);
        let braking = shared.keeper.book.lock().brake(incident, scope, (&why, proof), version, shared.now_ms());
        let braking = braking.map_err(|error| StoreError::Invalid(error.to_string()))?;
        if braking == book::Braking::Known {
            return Ok(());
        }
        shared.keeper.renew();
        let saved = follow::save(shared).await;
        shared.keeper.wake.notify_one();
        saved
    }

    /// Lets the mail of an incident go, slowly at first; `None`: it has no brake on. [`BrakeNews::Released`] tells of the end.
    ///
    /// # Errors
    /// It goes, but that could not be written down, or counted.
    pub async fn unbrake(&self, incident: i64, ramp: Ramp) -> Result<Option<Unbraked>, StoreError> {
        Ok(follow::unbrake(self.shared(), incident, ramp).await?.map(|waiting| Unbraked { waiting }))
    }

    /// Probes now what is braked.
    pub async fn probe(&self, scope: &BrakeScope) -> ProbeOutcome {
        let shared = self.shared();
        let Some(incident) = shared.keeper.book.lock().begin(scope) else { return ProbeOutcome::NotNow };
        let (shared, scope) = (shared.clone(), scope.clone());
        // A task of its own: who asked may go away.
        let task = self.shared().tasks.spawn(async move { probe::probe(&shared, incident, &scope).await });
        task.await.unwrap_or(ProbeOutcome::NotNow)
    }

    /// What happens to brakes from now on. Who listens too slowly misses some, and sees the rest in [`Relay::brakes`].
    pub fn brake_news(&self) -> broadcast::Receiver<BrakeNews> {
        self.shared().keeper.news.subscribe()
    }

    /// All brakes that are on or coming off.
    pub fn brakes(&self) -> Vec<BrakeStatus> {
        overview(self.shared())
    }
}

/// The brakes of incidents, then sign-ins that stand still without one.
fn overview(shared: &Arc<Shared>) -> Vec<BrakeStatus> {
    let mut all = Vec::new();
    let sign_ins = shared.brakes.lock().overview();
    let rejected = |scope: &BrakeScope| match scope {
        BrakeScope::Credential(name) => sign_ins.iter().find(|one| one.route == **name),
        _ => None,
    };
    for (incident, braked) in shared.keeper.book.lock().all() {
        let released = match braked.phase {
            Phase::On => None,
            Phase::Releasing { released, .. } => Some(released),
            // It is off; what may come back late is nobody's concern.
            Phase::Draining { .. } => continue,
        };
        for order in &braked.orders {
            all.push(BrakeStatus {
                scope: order.scope.to_string(),
                route: order.scope.route().unwrap_or_default().to_owned(),
                incident: Some(format!("i-{incident}")),
                why: Some(braked.why.clone()),
                since_ms: braked.since_ms,
                until_ms: order.next_ms,
                rejections: order.failures.max(rejected(&order.scope).map_or(0, |one| one.rejections)),
                failure: rejected(&order.scope).map(|one| one.failure.clone()),
                waiting: braked.waiting,
                released,
            });
        }
    }
    for one in &sign_ins {
        let scope = BrakeScope::Credential(one.route.as_str().into()).to_string();
        if all.iter().any(|known| known.scope == scope) {
            continue;
        }
        all.push(BrakeStatus {
            scope,
            route: one.route.clone(),
            incident: None,
            why: None,
            since_ms: one.since_ms,
            until_ms: one.until_ms,
            rejections: one.rejections,
            failure: Some(one.failure.clone()),
            waiting: 0,
            released: None,
        });
    }
    all
}
