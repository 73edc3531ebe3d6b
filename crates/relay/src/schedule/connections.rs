//! What happens to connections: opened, idle, closed, refused; and what follows for the jobs of their destination.

use std::sync::Arc;

use super::destination::Turn;
use super::{Action, ConnectionId, Job, Schedule};

impl<W> Schedule<W> {
    /// Whether a destination waits for a connection: those without work shall close and not sleep.
    pub fn is_starving(&self) -> bool {
        !self.starved.is_empty()
    }

    /// Records that a connection has nothing to do and sleeps until woken through `wake`.
    pub fn idle(&mut self, name: &str, connection: ConnectionId, wake: W) {
        if let Some(destination) = self.destinations.get_mut(name) {
            destination.idle.push((connection, wake));
        }
    }

    /// Ends an idle connection's sleep by itself (time-out, closed by the peer). False: it was woken meanwhile.
    pub fn leave_idle(&mut self, name: &str, connection: ConnectionId) -> bool {
        let Some(destination) = self.destinations.get_mut(name) else { return true };
        match destination.idle.iter().position(|(id, _)| *id == connection) {
            Some(at) => {
                destination.idle.remove(at);
                true
            }
            None => false,
        }
    }

    /// A connection was established: pauses end.
    pub fn opened(&mut self, name: &Arc<str>, now_ms: i64) -> Option<Action<W>> {
        let destination = self.destinations.get_mut(name)?;
        destination.crowd.success();
        if let Some(until) = destination.pause.success() {
            self.paused.remove(&(until, name.clone()));
        }
        // While it counts as being opened, the job that it is about to take asks for no other one.
        let more = self.stir(name, now_ms);
        self.destinations.get_mut(name)?.established += 1;
        more
    }

    /// An established connection is gone. Gives what to do for jobs that still wait here or elsewhere.
    pub fn closed(&mut self, name: &Arc<str>, now_ms: i64) -> Vec<Action<W>> {
        if let Some(destination) = self.destinations.get_mut(name) {
            destination.established = destination.established.saturating_sub(1);
        }
        self.release_connection(name, now_ms)
    }

    /// A connection was not even tried.
    pub fn abandoned(&mut self, name: &Arc<str>, now_ms: i64) -> Vec<Action<W>> {
        self.release_connection(name, now_ms)
    }

    /// A connection could not be established. Gives the jobs that share its fate, and what to do.
    ///
    /// While other connections to the destination work, nothing shares it. Otherwise the head of the queue does: one job
    /// pays for each probe. When the pause has grown long the whole destination leaves the window.
    pub fn failed(&mut self, name: &Arc<str>, now_ms: i64) -> (Vec<Job>, Vec<Action<W>>) {
        let mut jobs = Vec::new();
        if let Some(destination) = self.destinations.get_mut(name) {
            if destination.established > 0 {
                // It takes the connections it has and refuses more: it is asked again later, not at once.
                self.paused.insert((destination.crowd.failure(now_ms), name.clone()));
            } else {
                if let Some(until) = destination.pause.until() {
                    self.paused.remove(&(until, name.clone()));
                }
                self.paused.insert((destination.pause.failure(now_ms), name.clone()));
                let all = destination.pause.is_long();
                while let Some(job) = destination.pop(Turn::Any, usize::MAX, &mut |_| Some(usize::MAX)) {
                    jobs.push(job);
                    if !all {
                        break;
                    }
                }
            }
        }
        (jobs, self.release_connection(name, now_ms))
    }

    /// A connection may not sign in before `until_ms`. Gives the jobs that have nobody else to take them, and what to do.
    pub fn held(&mut self, name: &Arc<str>, until_ms: i64, now_ms: i64) -> (Vec<Job>, Vec<Action<W>>) {
        let mut jobs = Vec::new();
        if let Some(destination) = self.destinations.get_mut(name) {
            if destination.established > 0 {
                self.paused.insert((destination.crowd.hold_until(until_ms), name.clone()));
            } else {
                jobs = destination.evict(&mut |_| true);
            }
        }
        (jobs, self.release_connection(name, now_ms))
    }

    /// Whether a destination has connections that take mail.
    pub fn is_served(&self, name: &str) -> bool {
        self.destinations.get(name).is_some_and(|destination| destination.established > 0)
    }

    pub(super) fn any_idle(&mut self) -> Option<W> {
        self.destinations.values_mut().find_map(|destination| destination.idle.pop()).map(|(_, wake)| wake)
    }

    fn release_connection(&mut self, name: &Arc<str>, now_ms: i64) -> Vec<Action<W>> {
        if let Some(destination) = self.destinations.get_mut(name) {
            destination.open = destination.open.saturating_sub(1);
        }
        self.slots.closed(name);
        self.connections = self.connections.saturating_sub(1);
        let mut actions: Vec<_> = self.stir(name, now_ms).into_iter().collect();
        while self.connections < self.max_connections
            && let Some(next) = self.starved.pop_first()
        {
            actions.extend(self.stir(&next, now_ms));
        }
        self.forget_if_empty(name, now_ms);
        actions
    }

    /// Memory stays bounded by the window: a destination without jobs, connections and pause is forgotten.
    pub(super) fn forget_if_empty(&mut self, name: &Arc<str>, now_ms: i64) {
        if self.destinations.get(name).is_some_and(|destination| destination.is_forgettable(now_ms)) {
            self.destinations.remove(name);
        }
    }
}
