//! Connections to a destination that other nodes count for too: taken from the store before one is opened.

use std::collections::HashMap;
use std::sync::Arc;

use store::{Share, ShareRequest, ShareUnit, ShareWindow, Tally};

/// What was granted and is not used for so long goes back, milliseconds.
const IDLE_MS: i64 = 2_000;
/// So often the store is told of connections that stay open: somebody may wait for one, milliseconds.
const TELL_MS: i64 = 2_000;
/// Who was refused asks again after so long, milliseconds.
const AGAIN_MS: i64 = 500;
/// Who gave one up for others asks for another one after so long, milliseconds.
const TURN_MS: i64 = 1_500;
/// What names of slots begin with: those of accounts are routes.
const PREFIX: &str = "connections ";

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Slots {
    on: bool,
    hungry: bool,
    all: HashMap<Arc<str>, Held>,
}

/// Connections of one destination, all totals since the run began.
#[derive(Debug, Default)]
struct Held {
    limit: u32,
    opened: u64,
    closed: u64,
    granted: u64,
    /// So many more are wanted.
    wanted: u64,
    /// `closed` as the store confirmed it.
    known: u64,
    dirty: bool,
    refused_until: i64,
    asked_ms: i64,
    used_ms: i64,
    /// So many are to be given up.
    leaving: u64,
}

/// Whether a connection may be opened.
pub(super) enum Slot {
    Taken,
    /// When the store has answered.
    Asked,
    NotBefore(i64),
}

/// A request as it was made, for its answer.
#[derive(Debug)]
pub(super) struct SlotAsked {
    name: Arc<str>,
    closed: u64,
    wanted: u64,
}

impl Slots {
    /// From now on connections are counted together with other nodes.
    pub(super) fn keep_together(&mut self) {
        self.on = true;
    }

    pub(super) fn take_hunger(&mut self) -> bool {
        std::mem::take(&mut self.hungry)
    }

    /// Takes one.
    pub(super) fn take(&mut self, name: &Arc<str>, limit: u32, now_ms: i64) -> Slot {
        if !self.on {
            return Slot::Taken;
        }
        let held = self.all.entry(name.clone()).or_default();
        held.limit = limit;
        if held.opened < held.granted {
            held.opened += 1;
            held.used_ms = now_ms;
            return Slot::Taken;
        }
        if held.refused_until > now_ms && held.refused_until - now_ms <= TURN_MS {
            return Slot::NotBefore(held.refused_until);
        }
        let open = held.opened - held.closed;
        held.wanted = (held.wanted + 1).min(u64::from(limit).saturating_sub(open)).max(1);
        self.hungry = true;
        Slot::Asked
    }

    /// One is gone.
    pub(super) fn closed(&mut self, name: &str) {
        if let Some(held) = self.all.get_mut(name) {
            held.closed = (held.closed + 1).min(held.opened);
            held.dirty = true;
            // It went by itself: one less to be given up.
            held.leaving = held.leaving.min(held.opened - held.closed);
            self.hungry = true;
        }
    }

    /// Some are open.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.all.get(name).is_some_and(|held| held.opened > held.closed)
    }

    /// Whether a connection shall be given up; said once for each.
    pub(super) fn leaves(&mut self, name: &str) -> bool {
        let Some(held) = self.all.get_mut(name).filter(|held| held.leaving > 0) else { return false };
        held.leaving -= 1;
        true
    }

    /// What the store is to be told and asked.
    pub(super) fn ask(&mut self, wants_none: bool, now_ms: i64) -> Vec<(ShareRequest, SlotAsked)> {
        self.hungry = false;
        self.all.retain(|_, held| held.dirty || held.wanted > 0 || held.granted > held.closed);
        let mut list = Vec::new();
        for (name, held) in &mut self.all {
            let spare = held.granted > held.opened && (now_ms - held.used_ms).abs() >= IDLE_MS;
            let stays = held.opened > held.closed && (now_ms - held.asked_ms).abs() >= TELL_MS;
            if !(held.dirty || held.wanted > 0 || spare || stays || wants_none) {
                continue;
            }
            let wanted = match std::mem::take(&mut held.wanted) {
                _ if wants_none => held.opened,
                0 if spare => held.opened,
                0 => held.granted.max(held.opened),
                // An answer may have granted more meanwhile: asking for less would give that back while it is used.
                more => held.granted.max(held.opened + more),
            };
            if wanted == held.opened {
                held.granted = held.opened;
            }
            (held.dirty, held.asked_ms) = (false, now_ms);
            let tally = |messages| Tally { messages, recipients: 0 };
            let limit = Some(u64::from(held.limit));
            let request = ShareRequest {
                name: format!("{PREFIX}{name}"),
                windows: vec![ShareWindow { unit: ShareUnit::Messages, span_ms: 0, bucket_ms: 1, limit }],
                handed: tally(held.opened),
                ended: tally(held.closed),
                counted: tally(held.closed),
                known: tally(held.known),
                wanted: tally(wanted),
                before: Vec::new(),
            };
            list.push((request, SlotAsked { name: name.clone(), closed: held.closed, wanted }));
        }
        list
    }

    /// What the store said to that.
    pub(super) fn answered(&mut self, asked: &SlotAsked, share: &Share, now_ms: i64) {
        let Some(held) = self.all.get_mut(&asked.name) else { return };
        held.known = asked.closed;
        held.granted = share.granted.messages.max(held.opened);
        held.used_ms = now_ms;
        if share.granted.messages < asked.wanted {
            held.refused_until = now_ms + AGAIN_MS;
        }
        if share.too_much && held.opened > held.closed {
            held.leaving = 1;
            held.refused_until = now_ms + TURN_MS;
            // What is not in use goes first.
            if held.granted > held.opened {
                (held.leaving, held.granted) = (0, held.opened);
                held.dirty = true;
            }
        }
    }

    /// The store did not answer: it has to be asked again.
    pub(super) fn unanswered(&mut self, asked: &SlotAsked) {
        if let Some(held) = self.all.get_mut(&asked.name) {
            held.dirty = true;
        }
    }

    /// What was granted is not valid any more: all are given up.
    pub(super) fn void(&mut self) {
        for held in self.all.values_mut() {
            held.granted = held.opened;
            held.leaving = held.opened - held.closed;
        }
    }

    /// Destinations that have to give up connections, and how many.
    pub(super) fn leaving(&self) -> Vec<(Arc<str>, u64)> {
        let leaving = self.all.iter().filter(|(_, held)| held.leaving > 0);
        leaving.map(|(name, held)| (name.clone(), held.leaving)).collect()
    }
}
