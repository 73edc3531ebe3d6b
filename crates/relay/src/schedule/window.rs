//! The accounts of what is in memory: recipients in all, recipients per lane.
//!
//! Whatever the length of the queue, the window bounds memory. One lane may fill only a part of it, and the last part is
//! kept for urgent mail, so there is always room for others.

use std::collections::{HashMap, HashSet};

use store::LaneId;

/// Priorities below this one may use the reserve.
const ORDINARY: u8 = 2;

/// Most recipients claimed at once: a claim is one transaction, and urgent mail that comes in meanwhile waits for its end.
const MOST_CLAIMED: usize = 1_000;

/// Size of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowLimits {
    /// Recipients in memory.
    pub recipients: usize,
}

/// What is in memory, and which lanes have more in the store than there was room for.
#[derive(Debug)]
pub struct Window {
    limits: WindowLimits,
    recipients: usize,
    lanes: HashMap<LaneId, usize>,
    /// Lanes that were skipped or found full: they are to be claimed again when they have drained.
    behind: HashSet<LaneId>,
    next_claim_ms: Option<i64>,
}

impl Window {
    pub(super) fn new(limits: WindowLimits) -> Self {
        Self { limits, recipients: 0, lanes: HashMap::new(), behind: HashSet::new(), next_claim_ms: Some(i64::MIN) }
    }

    /// Recipients in memory.
    pub fn recipients(&self) -> usize {
        self.recipients
    }

    /// Most recipients of one lane in memory: a quarter of the room that is left, so that no number of slow lanes can fill
    /// the window and keep the others out.
    pub fn lane_limit(&self, priority: u8) -> usize {
        (self.room(priority) / 4).max(1)
    }

    fn room(&self, priority: u8) -> usize {
        let reserve = if priority < ORDINARY { 0 } else { self.limits.recipients / 5 };
        (self.limits.recipients - reserve).saturating_sub(self.recipients)
    }

    /// Reserves room for a new message's recipients in one lane, all or none. Only a lane that has nothing waiting in the
    /// store may pass it by, so that order is kept.
    pub fn reserve(&mut self, lane: LaneId, priority: u8, recipients: usize) -> bool {
        let held = self.lanes.get(&lane).copied().unwrap_or(0);
        let fits = recipients <= self.room(priority)
            && held + recipients <= self.lane_limit(priority).max(recipients.min(self.limits.recipients / 2))
            && !self.behind.contains(&lane);
        if fits {
            self.add(lane, recipients);
        } else {
            self.behind.insert(lane);
        }
        fits
    }

    /// Counts claimed recipients in.
    pub fn add(&mut self, lane: LaneId, recipients: usize) {
        self.recipients += recipients;
        *self.lanes.entry(lane).or_default() += recipients;
    }

    /// Counts recipients out. True: a claim that was not worth its cost before may be now.
    pub fn remove(&mut self, lane: LaneId, recipients: usize) -> bool {
        let wanted = self.wants_claim();
        self.recipients = self.recipients.saturating_sub(recipients);
        let left = match self.lanes.get_mut(&lane) {
            Some(held) => {
                *held = held.saturating_sub(recipients);
                *held
            }
            None => 0,
        };
        if left == 0 {
            self.lanes.remove(&lane);
        }
        let drained = left <= self.lane_limit(ORDINARY) / 2 && self.behind.contains(&lane);
        if drained {
            self.next_claim_ms = Some(i64::MIN);
        }
        // Where there was no room for a claim, the lane that makes some need not be the one that waits for it.
        self.wants_claim() && (drained || !wanted && self.next_claim_ms.is_some())
    }

    /// Something falls due in the store at this time. True if that is earlier than what was known.
    pub fn due_at(&mut self, at_ms: i64) -> bool {
        let earlier = self.next_claim_ms.is_none_or(|known| at_ms < known);
        if earlier {
            self.next_claim_ms = Some(at_ms);
        }
        earlier
    }

    /// When the next claim is worth its cost, Unix milliseconds.
    pub fn next_claim_ms(&self) -> Option<i64> {
        self.next_claim_ms.filter(|_| self.wants_claim())
    }

    fn wants_claim(&self) -> bool {
        self.room(ORDINARY) > self.limits.recipients / 20
    }

    /// What to claim now: most recipients, most per lane, and the lanes to leave out. Call [`Window::claimed`] with the result.
    pub fn plan_claim(&mut self) -> Option<ClaimPlan> {
        let most = (self.room(ORDINARY) / 2).min(MOST_CLAIMED);
        if most == 0 || !self.wants_claim() {
            return None;
        }
        self.next_claim_ms = None;
        let limit = self.lane_limit(ORDINARY);
        let full: Vec<LaneId> =
            self.lanes.iter().filter(|(_, held)| **held > limit / 2).map(|(lane, _)| *lane).collect();
        self.behind = full.iter().copied().collect();
        Some(ClaimPlan { most, per_lane: (limit / 2).max(1), skip: full })
    }

    /// Records what a claim found: when more falls due, and lanes that gave as many as they were asked for.
    pub fn claimed(&mut self, next_due_ms: Option<i64>, full_lanes: impl IntoIterator<Item = LaneId>) {
        self.behind.extend(full_lanes);
        if let Some(at) = next_due_ms {
            self.due_at(at);
        }
    }
}

/// See [`Window::plan_claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPlan {
    /// Most recipients in all.
    pub most: usize,
    /// Most recipients of one lane.
    pub per_lane: usize,
    /// Lanes without room.
    pub skip: Vec<LaneId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_drained_while_there_was_no_room_is_claimed_when_another_makes_room() {
        let mut window = Window::new(WindowLimits { recipients: 100 });
        let slow = LaneId(0);
        window.add(slow, 10);
        let plan = window.plan_claim();
        assert_eq!(plan.map(|plan| plan.skip), Some(vec![slow]));
        window.claimed(None, []);
        for lane in 1..=68 {
            window.add(LaneId(lane), 1);
        }
        assert!(!window.remove(slow, 1) && window.next_claim_ms().is_none());
        for lane in 69..=77 {
            window.add(LaneId(lane), 1);
        }
        assert!(!window.remove(slow, 9), "drained, but the window is as good as full");
        let woken = (1..=77).find(|lane| window.remove(LaneId(*lane), 1));
        assert!(woken.is_some() && window.next_claim_ms() == Some(i64::MIN), "{window:?}");
    }
}
