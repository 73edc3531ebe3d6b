//! Which brakes are on, when each is probed next, and how far a release has come. Pure: callers tell the time.
//!
//! A brake belongs to an incident, and an incident may have several. It is on until a probe went well and somebody says that
//! the mail may go; then the mail is let go along a [`Ramp`], and what comes back late from hands it was in is swept up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use store::RecipientId;

use super::scope::{BrakeScope, Proof};
use crate::dispatch::route_of;
use crate::schedule::ramp::Ramp;

/// Most incidents with brakes at once.
pub const MOST_INCIDENTS: usize = 1_000;
/// Most brakes of one incident.
pub const MOST_SCOPES: usize = 100;
/// Longest reason that is kept with held mail, characters.
const MOST_WHY: usize = 200;
/// Between two parts of a release, milliseconds.
const STEP_MS: i64 = 200;
/// After probes went well nobody need call for a release: it comes by itself after so long, milliseconds.
const BY_ITSELF_MS: i64 = 30_000;
/// How long mail is swept up that comes back late, milliseconds: longer than any conversation takes.
const DRAIN_MS: i64 = 1_800_000;
/// First and longest pause between two sweeps, milliseconds.
const SWEEP_MS: (i64, i64) = (1_000, 60_000);

/// How the reason of all mail begins that a brake holds.
pub const HELD_FOR: &str = "incident i-";

/// How the reason of mail begins that is held for an incident.
pub fn prefix(incident: i64) -> String {
    format!("{HELD_FOR}{incident}:")
}

/// The incident that a reason names, if it is a brake's.
pub fn incident_of(why: &str) -> Option<i64> {
    let (number, _) = why.strip_prefix(HELD_FOR)?.split_once(':')?;
    number.parse().ok().filter(|id| *id >= 0)
}

/// One brake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What it stops.
    pub scope: BrakeScope,
    /// What has to work.
    pub proof: Proof,
    /// Probes that failed in a row.
    pub failures: u32,
    /// The next one, Unix milliseconds.
    pub next_ms: i64,
    /// One is under way.
    #[serde(skip)]
    pub probing: bool,
    /// When the last one went well.
    #[serde(skip)]
    proven_ms: Option<i64>,
    /// Of the route it is about, as far as known.
    #[serde(skip)]
    version: Option<i64>,
    /// The last recipient that a probe tried.
    #[serde(skip)]
    pub tested: Option<RecipientId>,
}

/// How far an incident's brakes are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing goes.
    On,
    /// Mail is let go, faster and faster.
    Releasing {
        /// Since when, Unix milliseconds.
        since_ms: i64,
        /// How fast.
        ramp: Ramp,
        /// Recipients so far.
        released: u64,
    },
    /// All is let go but what may come back late.
    Draining {
        /// Since when, Unix milliseconds.
        since_ms: i64,
        /// Since when the release began: new mail still goes slowly.
        began_ms: i64,
        /// How fast.
        ramp: Ramp,
        /// Sweeps so far.
        sweeps: u32,
    },
}

/// The brakes of one incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Braked {
    /// For people.
    pub why: String,
    /// Since when, Unix milliseconds.
    pub since_ms: i64,
    /// How far.
    pub phase: Phase,
    /// What is stopped.
    pub orders: Vec<Order>,
    /// The queue has to follow.
    #[serde(skip)]
    to_hold: bool,
    /// It is not written down as it is.
    #[serde(skip)]
    unsaved: bool,
    /// Recipients held, when they were last counted.
    #[serde(skip)]
    pub waiting: u64,
}

impl Braked {
    /// The reason that held mail gets.
    pub fn held_why(&self, incident: i64) -> String {
        format!("{} {}", prefix(incident), self.why)
    }

    /// The release along which mail still goes slowly.
    pub fn ramp(&self) -> Option<(i64, Ramp)> {
        match self.phase {
            Phase::On => None,
            Phase::Releasing { since_ms, ramp, .. } => Some((since_ms, ramp)),
            Phase::Draining { began_ms, ramp, .. } => Some((began_ms, ramp)),
        }
    }

    fn order(&mut self, scope: &BrakeScope) -> Option<&mut Order> {
        self.orders.iter_mut().find(|order| order.scope == *scope)
    }

    fn set(&mut self, phase: Phase) {
        self.phase = phase;
        self.unsaved = true;
    }

    fn put_on(&mut self) {
        self.set(Phase::On);
        self.to_hold = true;
        self.orders.iter_mut().for_each(|order| order.proven_ms = None);
    }
}

/// What a new brake means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Braking {
    /// It was not there.
    New,
    /// Mail was being let go.
    Again,
    /// It was on.
    Known,
}

/// There are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at most {MOST_INCIDENTS} incidents with {MOST_SCOPES} brakes each")]
pub struct TooMany;

/// All brakes, by incident.
#[derive(Debug, Default)]
pub struct Book(BTreeMap<i64, Braked>);

impl Book {
    /// Puts a brake on. `version`: of the route it is about.
    pub fn brake(
        &mut self,
        incident: i64,
        scope: BrakeScope,
        (why, proof): (&str, Proof),
        version: Option<i64>,
        now_ms: i64,
    ) -> Result<Braking, TooMany> {
        if self.0.len() >= MOST_INCIDENTS && !self.0.contains_key(&incident) {
            return Err(TooMany);
        }
        let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST_WHY).collect();
        let braked = self.0.entry(incident).or_insert_with(|| Braked {
            why,
            since_ms: now_ms,
            phase: Phase::On,
            orders: Vec::new(),
            to_hold: true,
            unsaved: true,
            waiting: 0,
        });
        let again = braked.phase != Phase::On;
        if again {
            braked.put_on();
        }
        let next_ms = |failures| now_ms + proof.pause_ms(failures);
        if let Some(order) = braked.order(&scope) {
            order.version = version.or(order.version);
            if again {
                order.next_ms = next_ms(order.failures);
            }
            return Ok(if again { Braking::Again } else { Braking::Known });
        }
        if braked.orders.len() >= MOST_SCOPES {
            return Err(TooMany);
        }
        let (failures, probing) = (0, false);
        let next_ms = next_ms(failures);
        braked.orders.push(Order { scope, proof, failures, next_ms, probing, proven_ms: None, version, tested: None });
        (braked.to_hold, braked.unsaved) = (true, true);
        Ok(if again { Braking::Again } else { Braking::New })
    }

    /// Lets an incident's mail go. False: it has no brake on.
    pub fn unbrake(&mut self, incident: i64, ramp: Ramp, now_ms: i64) -> bool {
        let Some(braked) = self.0.get_mut(&incident).filter(|braked| braked.phase == Phase::On) else { return false };
        braked.to_hold = false;
        braked.set(Phase::Releasing { since_ms: now_ms, ramp, released: 0 });
        true
    }

    /// Mail was found that is held for an incident of which nothing is known: it is let go.
    pub fn adopt(&mut self, incident: i64, now_ms: i64) {
        if self.0.contains_key(&incident) || self.0.len() >= MOST_INCIDENTS {
            return;
        }
        let phase = Phase::Releasing { since_ms: now_ms, ramp: Ramp::default(), released: 0 };
        let why = "no brake is known".to_owned();
        let (orders, waiting) = (Vec::new(), 0);
        self.0
            .insert(incident, Braked { why, since_ms: now_ms, phase, orders, to_hold: false, unsaved: true, waiting });
    }

    /// The conversation that failed was one that a release had let begin: its brake is on again. Gives incident and scope.
    pub fn failed(&mut self, concerns: impl Fn(&BrakeScope) -> bool, now_ms: i64) -> Option<(i64, BrakeScope)> {
        for (incident, braked) in &mut self.0 {
            let slow = braked.ramp().is_some_and(|(since_ms, ramp)| ramp.rate(now_ms - since_ms).is_some());
            if !slow && !matches!(braked.phase, Phase::Releasing { .. }) {
                continue;
            }
            let Some(order) = braked.orders.iter_mut().find(|order| concerns(&order.scope)) else { continue };
            order.failures = order.failures.saturating_add(1);
            order.next_ms = now_ms + order.proof.pause_ms(order.failures);
            let scope = order.scope.clone();
            braked.put_on();
            return Some((*incident, scope));
        }
        None
    }

    /// Brakes that are to be probed now; they count as being probed.
    pub fn due(&mut self, now_ms: i64) -> Vec<(i64, BrakeScope)> {
        let mut due = Vec::new();
        for (incident, braked) in self.0.iter_mut().filter(|(_, braked)| braked.phase == Phase::On) {
            for order in &mut braked.orders {
                if !order.probing && order.proven_ms.is_none() && order.next_ms <= now_ms {
                    order.probing = true;
                    due.push((*incident, order.scope.clone()));
                }
            }
        }
        due
    }

    /// A probe out of turn. Gives the incident; `None`: there is no such brake, or a probe is under way.
    pub fn begin(&mut self, scope: &BrakeScope) -> Option<i64> {
        let on = self.0.iter_mut().filter(|(_, braked)| braked.phase == Phase::On);
        let of_scope = on.filter_map(|(incident, braked)| Some((*incident, braked.order(scope)?)));
        let (incident, order) = of_scope.into_iter().find(|(_, order)| !order.probing)?;
        order.probing = true;
        Some(incident)
    }

    /// A probe found nothing new: gives when the next one goes.
    pub fn probe_failed(&mut self, incident: i64, scope: &BrakeScope, now_ms: i64) -> Option<i64> {
        let order = self.probed(incident, scope)?;
        order.failures = order.failures.saturating_add(1);
        order.proven_ms = None;
        order.next_ms = now_ms + order.proof.pause_ms(order.failures);
        Some(order.next_ms)
    }

    /// A probe could not be made: it is tried again as if it had not been.
    pub fn probe_undecided(&mut self, incident: i64, scope: &BrakeScope, now_ms: i64) {
        if let Some(order) = self.probed(incident, scope) {
            order.next_ms = now_ms + order.proof.pause_ms(order.failures);
        }
    }

    /// A probe went well. False: the brake is off already.
    pub fn probe_succeeded(&mut self, incident: i64, scope: &BrakeScope, now_ms: i64) -> bool {
        let Some(order) = self.probed(incident, scope) else { return false };
        order.failures = 0;
        order.proven_ms = Some(now_ms);
        true
    }

    fn probed(&mut self, incident: i64, scope: &BrakeScope) -> Option<&mut Order> {
        let braked = self.0.get_mut(&incident)?;
        braked.unsaved = true;
        let on = braked.phase == Phase::On;
        let order = braked.order(scope)?;
        order.probing = false;
        on.then_some(order)
    }

    /// Remembers whom a probe tries, so that the next one tries somebody else.
    pub fn tests(&mut self, incident: i64, scope: &BrakeScope, recipient: Option<RecipientId>) {
        if let Some(order) = self.0.get_mut(&incident).and_then(|braked| braked.order(scope)) {
            order.tested = recipient;
        }
    }

    /// Settings changed: brakes of routes that are others now are probed at once.
    pub fn changed(&mut self, version_of: impl Fn(&str) -> Option<i64>, now_ms: i64) -> Vec<(i64, BrakeScope)> {
        let mut changed = Vec::new();
        for (incident, braked) in &mut self.0 {
            for order in &mut braked.orders {
                let route = match &order.scope {
                    BrakeScope::Destination(name) => route_of(name),
                    scope => scope.route().unwrap_or_default(),
                };
                let version = version_of(route);
                if version == order.version {
                    continue;
                }
                let known = std::mem::replace(&mut order.version, version).is_some();
                if known && braked.phase == Phase::On {
                    (order.next_ms, order.failures, order.proven_ms) = (now_ms, 0, None);
                    changed.push((*incident, order.scope.clone()));
                }
            }
        }
        changed
    }

    /// An operator says that it is worth a try: all that is on is probed now.
    pub fn hasten(&mut self, now_ms: i64) {
        for braked in self.0.values_mut() {
            braked.orders.iter_mut().for_each(|order| order.next_ms = order.next_ms.min(now_ms));
        }
    }

    /// Incidents whose probes all went well a while ago, and nobody said anything: their mail goes.
    pub fn forgotten(&self, now_ms: i64) -> Vec<i64> {
        let by_itself = |braked: &Braked| braked.phase == Phase::On && proven_ms(braked) <= Some(now_ms - BY_ITSELF_MS);
        let all = self.0.iter().filter(|(_, braked)| proven_ms(braked).is_some() && by_itself(braked));
        all.map(|(incident, _)| *incident).collect()
    }

    /// What the queue has to follow, said once: incident, scopes, reason.
    pub fn take_holds(&mut self) -> Vec<(i64, Vec<BrakeScope>, String)> {
        let mut holds = Vec::new();
        for (incident, braked) in &mut self.0 {
            if std::mem::take(&mut braked.to_hold) {
                let scopes = braked.orders.iter().map(|order| order.scope.clone()).collect();
                holds.push((*incident, scopes, braked.held_why(*incident)));
            }
        }
        holds
    }

    /// Ways have opened or closed: the queue has to follow anew.
    pub fn follow_again(&mut self) {
        for braked in self.0.values_mut() {
            braked.to_hold = braked.phase == Phase::On;
        }
    }

    /// The queue did not follow: to be done again.
    pub fn hold_again(&mut self, incident: i64) {
        if let Some(braked) = self.0.get_mut(&incident) {
            braked.to_hold = braked.phase == Phase::On;
        }
    }

    /// How many recipients of which incidents may be let go now.
    pub fn to_release(&self, now_ms: i64) -> Vec<(i64, u64)> {
        let one = |(incident, braked): (&i64, &Braked)| match braked.phase {
            Phase::On => None,
            Phase::Releasing { since_ms, ramp, released } => {
                Some((*incident, ramp.total(now_ms - since_ms).saturating_sub(released)))
            }
            Phase::Draining { since_ms, sweeps, .. } => {
                (sweep_ms(since_ms, sweeps) <= now_ms).then_some((*incident, u64::MAX))
            }
        };
        self.0.iter().filter_map(one).filter(|(_, most)| *most > 0).collect()
    }

    /// So many were let go of those that might have been. Gives the number in all when nothing is left for the first time.
    pub fn released(&mut self, incident: i64, asked: u64, got: u64, now_ms: i64) -> Option<u64> {
        let braked = self.0.get_mut(&incident)?;
        braked.waiting = braked.waiting.saturating_sub(got);
        match braked.phase {
            Phase::On => None,
            Phase::Releasing { since_ms, ramp, released } => {
                let released = released + got;
                if got < asked {
                    braked.set(Phase::Draining { since_ms: now_ms, began_ms: since_ms, ramp, sweeps: 0 });
                    return Some(released);
                }
                braked.phase = Phase::Releasing { since_ms, ramp, released };
                None
            }
            Phase::Draining { since_ms, began_ms, ramp, sweeps } => {
                let sweeps = sweeps.saturating_add(1);
                braked.phase = Phase::Draining { since_ms, began_ms, ramp, sweeps };
                None
            }
        }
    }

    /// Forgets incidents of which nothing can come back any more; gives them.
    pub fn forget(&mut self, now_ms: i64) -> Vec<i64> {
        let over =
            |braked: &Braked| matches!(braked.phase, Phase::Draining { since_ms, .. } if now_ms - since_ms >= DRAIN_MS);
        let gone: Vec<i64> = self.0.iter().filter(|(_, braked)| over(braked)).map(|(id, _)| *id).collect();
        gone.iter().for_each(|id| drop(self.0.remove(id)));
        gone
    }

    /// When there is something to do, Unix milliseconds.
    pub fn next_ms(&self, now_ms: i64) -> Option<i64> {
        let of = |braked: &Braked| match braked.phase {
            Phase::Releasing { .. } => Some(now_ms + STEP_MS),
            Phase::Draining { since_ms, sweeps, .. } => Some(sweep_ms(since_ms, sweeps)),
            Phase::On => {
                let idle = braked.orders.iter().filter(|order| !order.probing && order.proven_ms.is_none());
                let by_itself = proven_ms(braked).map(|at| at + BY_ITSELF_MS);
                idle.map(|order| order.next_ms).chain(by_itself).min()
            }
        };
        self.0.values().filter_map(of).min()
    }

    /// What has to be written down: incident and what is known of it.
    pub fn unsaved(&mut self) -> Vec<(i64, Braked)> {
        let unsaved =
            |(id, braked): (&i64, &mut Braked)| std::mem::take(&mut braked.unsaved).then(|| (*id, braked.clone()));
        self.0.iter_mut().filter_map(unsaved).collect()
    }

    /// It was not written down: to be done again.
    pub fn not_saved(&mut self, incident: i64) {
        if let Some(braked) = self.0.get_mut(&incident) {
            braked.unsaved = true;
        }
    }

    /// Takes up what was written down. The queue is made to follow again, and probes go on where they were.
    pub fn restore(&mut self, incident: i64, braked: Braked) {
        let to_hold = braked.phase == Phase::On;
        self.0.insert(incident, Braked { to_hold, ..braked });
    }

    /// Takes over what another has written down of one that the queue follows already.
    pub fn take_over(&mut self, incident: i64, braked: Braked) {
        let (to_hold, waiting) = self.0.get(&incident).map_or((false, 0), |known| (known.to_hold, known.waiting));
        // What the queue could not follow yet is still to be done.
        let to_hold = to_hold && braked.phase == Phase::On;
        self.0.insert(incident, Braked { to_hold, waiting, ..braked });
    }

    /// It is off, says another.
    pub fn remove(&mut self, incident: i64) {
        self.0.remove(&incident);
    }

    /// How many are held, as just counted.
    pub fn counted(&mut self, incident: i64, waiting: u64) {
        if let Some(braked) = self.0.get_mut(&incident) {
            braked.waiting = waiting;
        }
    }

    /// All, by incident.
    pub fn all(&self) -> impl Iterator<Item = (i64, &Braked)> {
        self.0.iter().map(|(incident, braked)| (*incident, braked))
    }

    /// One of them.
    pub fn get(&self, incident: i64) -> Option<&Braked> {
        self.0.get(&incident)
    }
}

/// Since when all probes of an incident have gone well.
fn proven_ms(braked: &Braked) -> Option<i64> {
    let proven: Option<Vec<i64>> = braked.orders.iter().map(|order| order.proven_ms).collect();
    proven?.into_iter().max()
}

fn sweep_ms(since_ms: i64, sweeps: u32) -> i64 {
    let pauses =
        (0..sweeps.min(64)).map(|n| SWEEP_MS.0.checked_shl(n).unwrap_or(SWEEP_MS.1).clamp(SWEEP_MS.0, SWEEP_MS.1));
    since_ms + SWEEP_MS.0 + pauses.sum::<i64>() + i64::from(sweeps.saturating_sub(64)) * SWEEP_MS.1
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
