//! Incidents, as far as the relay sees them: what attempts tell, whom trouble touches, what is unusual. Who keeps incidents,
//! diagnoses and alerts is above.

pub mod evidence;
pub mod intake;
pub mod over;
pub mod sample;
pub mod scope;
pub mod signins;
pub mod volume;
pub(crate) mod watch;

pub use evidence::{Followed, Opening, Suspicion, Tally};
pub use over::Over;
pub use sample::Sample;
pub use scope::{ScopeFound, find};

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use store::IncidentScope;

use crate::run::Relay;

impl Relay {
    /// Incidents that there is enough evidence for. What concerns one that is followed is not among them.
    pub fn suspicions(&self) -> Vec<Suspicion> {
        let shared = self.shared();
        shared.watch.suspicions(shared.now_ms())
    }

    /// From now on these incidents are open: their failures are counted.
    pub fn follow_incidents(&self, open: Vec<Followed>) {
        self.shared().watch.follow(open);
    }

    /// What was counted for them since the last time.
    pub fn incident_tallies(&self) -> Vec<Tally> {
        self.shared().watch.tallies()
    }

    /// An incident is over: what it was opened for is no evidence for the next one.
    pub fn forget_evidence(&self, scope: &IncidentScope, reason: &str) {
        self.shared().watch.forget(scope, reason);
    }

    /// Attempts that were finished since the start.
    pub fn settled(&self) -> u64 {
        self.shared().watch.settled.load(Ordering::Relaxed)
    }

    /// Connections that ended by a defect of the program, with what they had in hand: a restart takes that up.
    pub fn lost_workers(&self) -> u64 {
        self.shared().lost.load(Ordering::Relaxed)
    }

    /// Routes whose mail may be due without being tried: a brake, a pause or a used-up quota keeps it back.
    pub fn kept_back(&self) -> HashSet<String> {
        let mut all: HashSet<String> = self.brakes().into_iter().map(|brake| brake.route).collect();
        for destination in self.shared().schedule.lock().overview() {
            if destination.paused_until_ms.or(destination.full_until_ms).or(destination.held_until_ms).is_some() {
                all.insert(crate::dispatch::route_of(&destination.name).to_owned());
            }
        }
        all
    }

    /// Waits until something is seen that is an incident at once. Cancel-safe; one waits at a time.
    pub async fn incident_bell(&self) {
        self.shared().watch.bell.notified().await;
    }
}
