//! What the verbs, the collectors and the keeper of a store share.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use deadpool::managed::Pool;
use parking_lot::Mutex;

use super::accept::AcceptRequest;
use super::alive::Alive;
use super::fault::Fault;
use super::figures::Size;
use super::group::Group;
use super::pool::Manager;
use super::settle::SettleRequest;
use super::tx::Mode;
use crate::StoreError;
use crate::engine::figures::{Counted, Stopwatch};
use crate::model::*;
use crate::secret::Keyring;
use crate::verbs::Retention;

/// Verbs that may be under way.
const VERBS: usize = 20_000;

/// Transactions of unknown outcome that are remembered.
const ORPHANS: usize = 10_000;
/// The bit of a ticket from which on it tells how often leases had lapsed; the number of a transaction is below.
const LAPSES_FROM: u32 = 40;

/// How often leases of a run had lapsed when it was given this ticket.
pub(super) fn lapses_before(ticket: i64) -> u64 {
    (ticket >> LAPSES_FROM).cast_unsigned()
}

/// State that outlives a connection.
pub(super) struct Shared {
    pub(super) pool: Pool<Manager>,
    pub(super) keyring: Keyring,
    pub(super) retention: Mutex<Retention>,
    /// Weeks that the event table has a part for.
    pub(super) parts: Mutex<HashSet<i64>>,
    /// Days on which lanes were seen to be there.
    pub(super) lanes: Mutex<std::collections::HashMap<LaneId, i64>>,
    /// Numbers of transactions that lease.
    ticket: AtomicI64,
    last_id: AtomicI64,
    /// The end of our message ids, and what we hold it by.
    slot: Mutex<(i32, i64)>,
    /// How long a silent run keeps its leases, milliseconds.
    pub(super) lease_ms: f64,
    /// Whether that time is over for this store's runs.
    pub(super) alive: Alive,
    pub(super) accepts: Arc<Group<AcceptRequest, Accepted>>,
    pub(super) settles: Arc<Group<SettleRequest, u32>>,
    /// Runs that this store keeps alive, with their names.
    pub(super) runs: Mutex<Vec<(Incarnation, String)>>,
    /// Transactions whose leases nobody knows of, if they were committed: run and number, and how often they were undone.
    pub(super) orphans: Mutex<Vec<(i64, i64, u32)>>,
    /// Times before which all parts of the events are dropped, or are not to be tried again yet.
    pub(super) dropped: Mutex<Range<i64>>,
    /// Why the database cannot be used now.
    away: Mutex<Option<String>>,
    pub(super) closed: AtomicBool,
    /// There is work that other nodes may do.
    pub(super) news: AtomicBool,
    verbs: AtomicUsize,
    pub(super) size: Size,
    pub(super) counted: Counted,
}

impl Shared {
    pub(super) fn new(
        pool: Pool<Manager>,
        keyring: Keyring,
        retention: Retention,
        lease_ms: u32,
        stopwatch: Stopwatch,
    ) -> Self {
        Self {
            pool,
            keyring,
            retention: Mutex::new(retention),
            parts: Mutex::default(),
            lanes: Mutex::default(),
            ticket: AtomicI64::new(1),
            last_id: AtomicI64::new(0),
            slot: Mutex::default(),
            lease_ms: f64::from(lease_ms),
            alive: Alive::new(lease_ms, stopwatch.clone()),
            accepts: Group::new(),
            settles: Group::new(),
            runs: Mutex::default(),
            orphans: Mutex::default(),
            dropped: Mutex::default(),
            away: Mutex::default(),
            closed: AtomicBool::new(false),
            news: AtomicBool::new(false),
            verbs: AtomicUsize::new(0),
            size: Size::default(),
            counted: Counted::new(stopwatch),
        }
    }

    /// So many commands shared a transaction, and this is how it ended.
    pub(super) fn counted(&self, commands: usize, began_us: Option<u64>, fault: Option<&Fault>) {
        match fault {
            None => self.counted.committed(commands, began_us),
            Some(Fault::Full | Fault::Away(_) | Fault::Unknown(_)) => self.counted.failed(),
            // One that was refused is no failure of the store.
            Some(Fault::Again(_) | Fault::Exists(_) | Fault::Command(_)) => {}
        }
    }

    /// Draws conclusions from how a transaction ended.
    pub(super) fn note(&self, mode: Mode, fault: Option<&Fault>) {
        match fault {
            // A question that got no answer says little: whoever writes will find out.
            Some(Fault::Away(why) | Fault::Unknown(why)) if mode == Mode::Write => {
                // What was seen of a server that is gone may not hold for the next one.
                self.lanes.lock().clear();
                self.parts.lock().clear();
                if self.away.lock().replace(why.clone()).is_none() {
                    tracing::error!(why, "the database cannot be used");
                }
            }
            None if mode == Mode::Write && self.away.lock().take().is_some() => {
                tracing::info!("the database can be used again");
            }
            _ => {}
        }
    }

    /// `Away` while the database is.
    pub(super) fn healthy(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(StoreError::Closed);
        }
        match &*self.away.lock() {
            Some(why) => Err(StoreError::Away(why.clone())),
            None => Ok(()),
        }
    }

    /// The end of our message ids, and what we hold it by.
    pub(super) fn slot(&self) -> (i32, i64) {
        *self.slot.lock()
    }

    /// From now on message ids end so.
    pub(super) fn use_slot(&self, slot: (i32, i64)) {
        *self.slot.lock() = slot;
    }

    /// Message ids are larger than this.
    pub(super) fn ids_after(&self, last: i64) {
        self.last_id.fetch_max(last, Ordering::Relaxed);
    }

    /// Notes that nobody knows whether a transaction that leased was committed, and nobody its leases.
    pub(super) fn orphaned(&self, by: i64, ticket: i64) {
        let mut orphans = self.orphans.lock();
        if orphans.len() < ORPHANS {
            orphans.push((by, ticket, 0));
        } else {
            tracing::error!(by, ticket, "too many commits are unknown: leases of one will only end with this run");
        }
    }

    /// `Overloaded` while too many verbs are under way.
    pub(super) fn has_room(&self) -> Result<(), StoreError> {
        if self.under_way() < VERBS { Ok(()) } else { Err(StoreError::Overloaded) }
    }

    /// Number of a transaction that leases, which tells how often leases had lapsed before.
    pub(super) fn next_ticket(&self) -> i64 {
        let number = self.ticket.fetch_add(1, Ordering::Relaxed) & ((1 << LAPSES_FROM) - 1);
        self.alive.lapses().cast_signed() << LAPSES_FROM | number
    }

    /// A new message id: milliseconds, 11 bits that count within one, 10 bits that no other open store has.
    pub(super) fn next_id(&self, now_ms: i64) -> MessageId {
        let slot = i64::from(self.slot.lock().0) & 0x3ff;
        let start = i64::from(rand::random::<u32>() & 0x3ff);
        let fresh = ((now_ms - EPOCH_MS).max(1) << 21) | start << 10 | slot;
        let step = |last: i64| if fresh > last { fresh } else { ((last >> 10) + 1) << 10 | slot };
        match self.last_id.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(step(last))) {
            Ok(last) | Err(last) => MessageId(step(last)),
        }
    }

    /// Takes a place for a verb; `Overloaded` if too many are under way.
    pub(super) fn place(self: &Arc<Self>) -> Result<VerbPlace, StoreError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(StoreError::Closed);
        }
        if self.verbs.fetch_add(1, Ordering::Relaxed) >= VERBS {
            self.verbs.fetch_sub(1, Ordering::Relaxed);
            return Err(StoreError::Overloaded);
        }
        Ok(VerbPlace(self.clone()))
    }

    /// Verbs under way.
    pub(super) fn under_way(&self) -> usize {
        self.verbs.load(Ordering::Relaxed)
    }
}

/// A verb's place among those under way.
pub(super) struct VerbPlace(Arc<Shared>);

impl Drop for VerbPlace {
    fn drop(&mut self) {
        self.0.verbs.fetch_sub(1, Ordering::Relaxed);
    }
}
