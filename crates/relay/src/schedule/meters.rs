//! The meters of all accounts: of routes, and of destinations within them. Asked before a job is handed out.

use std::collections::HashMap;
use std::sync::Arc;

use store::{Share, ShareRequest};

use super::limit::{Ahead, Asked, Meter, Permission, Rates, Room, SavedMeter, WindowStatus};

/// What is limited together: all of a route, or one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Route, or `route/mx group`.
    pub name: Arc<str>,
    /// Its limits.
    pub rates: Rates,
}

/// The accounts a message counts for.
pub type Accounts = Arc<[Account]>;

/// Proof that a message was counted when it was handed out, to be given back when it has ended.
#[derive(Debug)]
#[must_use = "a message that is not counted as ended stays in flight for ever"]
pub struct Ticket {
    pub(super) accounts: Accounts,
    pub(super) recipients: u32,
}

impl Ticket {
    /// How many recipients were tried, where so many were left.
    pub fn tried(&self, left: usize) -> u32 {
        self.recipients.saturating_sub(u32::try_from(left).unwrap_or(u32::MAX))
    }
}

/// What is to be written down of one account; without a meter it is to be forgotten.
pub type SavedAccount = (String, Option<SavedMeter>);

/// All meters.
#[derive(Debug, Default)]
pub struct Meters {
    all: HashMap<Arc<str>, Meter>,
    /// Mail waits for a block to be written down.
    hungry: bool,
    /// Other nodes count for the same limits.
    together: bool,
}

impl Meters {
    /// From now on limits are kept together with other nodes.
    pub(super) fn keep_together(&mut self) {
        self.together = true;
        self.all =
            std::mem::take(&mut self.all).into_iter().map(|(name, meter)| (name, meter.into_together())).collect();
    }

    /// What the store is to be told and asked.
    pub(super) fn ask(&mut self, ahead: Ahead, now_ms: i64) -> Vec<(ShareRequest, (Arc<str>, Asked))> {
        self.hungry = false;
        self.all.retain(|_, meter| !meter.is_over());
        let one = |(name, meter): (&Arc<str>, &mut Meter)| {
            let (request, asked) = meter.ask(name, ahead, now_ms)?;
            Some((request, (name.clone(), asked)))
        };
        self.all.iter_mut().filter_map(one).collect()
    }

    /// What the store said to that.
    pub(super) fn answered(&mut self, (name, asked): &(Arc<str>, Asked), share: &Share, now_ms: i64) {
        if let Some(meter) = self.all.get_mut(name) {
            meter.answered(asked, share, now_ms);
        }
    }

    /// The store did not answer: it has to be asked again.
    pub(super) fn unanswered(&mut self, name: &str) {
        if let Some(meter) = self.all.get_mut(name) {
            meter.not_saved();
        }
    }

    /// What was granted is not valid any more.
    pub(super) fn void(&mut self) {
        self.all.values_mut().for_each(Meter::void);
    }

    /// Takes up what an earlier run wrote down.
    pub fn restore(&mut self, saved: impl IntoIterator<Item = (String, SavedMeter)>, now_ms: i64) {
        for (name, saved) in saved {
            let meter = Meter::restore(saved, now_ms);
            self.all.insert(name.into(), if self.together { meter.into_together() } else { meter });
        }
    }

    /// Makes sure that the meters of these accounts are there, with these limits.
    pub(crate) fn set(&mut self, accounts: &[Account]) {
        for account in accounts {
            match self.all.get_mut(&account.name) {
                Some(meter) => meter.set(&account.rates),
                None => {
                    let mut meter = if self.together { Meter::together() } else { Meter::default() };
                    meter.set(&account.rates);
                    self.all.insert(account.name.clone(), meter);
                }
            }
        }
    }

    /// What mail of a priority may be handed out.
    pub(super) fn room(&mut self, accounts: &[Account], priority: u8, now_ms: i64) -> Room {
        let mut room = Room::Open { messages: u32::MAX, recipients: u32::MAX };
        for account in accounts {
            let Some(meter) = self.all.get_mut(&account.name) else { continue };
            room = room.and(meter.room(priority, now_ms));
            self.hungry |= meter.is_hungry();
        }
        room
    }

    pub(super) fn hand_out(&mut self, accounts: &Accounts, recipients: u32) -> Ticket {
        for account in accounts.iter() {
            if let Some(meter) = self.all.get_mut(&account.name) {
                meter.hand_out(recipients);
                self.hungry |= meter.is_hungry();
            }
        }
        Ticket { accounts: accounts.clone(), recipients }
    }

    pub(super) fn finish(&mut self, ticket: &Ticket, tried: u32, now_ms: i64) {
        for account in ticket.accounts.iter() {
            if let Some(meter) = self.all.get_mut(&account.name) {
                meter.finish(ticket.recipients, tried, now_ms);
            }
        }
    }

    /// Whether mail waits for something to be written down; said once.
    pub fn take_hunger(&mut self) -> bool {
        std::mem::take(&mut self.hungry)
    }

    /// What has to be written down, and what that permits once it is durable.
    pub fn save(&mut self, ahead: Ahead, now_ms: i64) -> (Vec<SavedAccount>, Permissions) {
        self.hungry = false;
        let mut rows = Vec::new();
        let mut permissions = Vec::new();
        let mut unused = Vec::new();
        for (name, meter) in &mut self.all {
            if ahead == Ahead::Block && !meter.wants_saving() {
                continue;
            }
            // Of an account that nobody limits any more only what was used is kept.
            let ahead = if meter.rates().is_unlimited() { Ahead::Nothing } else { ahead };
            let (saved, permission) = meter.save(ahead, now_ms);
            if saved.is_none() && meter.rates().is_unlimited() {
                unused.push(name.clone());
            }
            rows.push((name.to_string(), saved));
            permissions.push((name.clone(), permission));
        }
        for name in unused {
            self.all.remove(&name);
        }
        (rows, Permissions(permissions))
    }

    /// What was written down is durable.
    pub(super) fn saved(&mut self, permissions: Permissions) {
        for (name, permission) in permissions.0 {
            if let Some(meter) = self.all.get_mut(&name) {
                meter.saved(permission);
            }
        }
    }

    /// It was not written down: it has to be again.
    pub fn not_saved(&mut self, permissions: &Permissions) {
        for (name, _) in &permissions.0 {
            if let Some(meter) = self.all.get_mut(name) {
                meter.not_saved();
            }
        }
    }

    /// Used and allowed of each limited account, by name.
    pub fn overview(&mut self, now_ms: i64) -> Vec<AccountStatus> {
        let mut all: Vec<_> = self
            .all
            .iter_mut()
            .filter(|(_, meter)| !meter.rates().is_unlimited())
            .map(|(name, meter)| AccountStatus { name: name.to_string(), windows: meter.overview(now_ms) })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Recipients of a transaction of an account, on average, if there was one.
    pub fn per_message(&self, name: &str) -> Option<f64> {
        self.all.get(name)?.per_message()
    }

    /// The same of one account.
    pub fn account(&mut self, name: &str, now_ms: i64) -> Vec<WindowStatus> {
        self.all.get_mut(name).map_or_else(Vec::new, |meter| meter.overview(now_ms))
    }
}

/// See [`Meters::save`].
#[derive(Debug)]
pub struct Permissions(Vec<(Arc<str>, Permission)>);

/// An account as status pages show it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AccountStatus {
    /// Route, or `route/mx group`.
    pub name: String,
    /// Its windows.
    pub windows: Vec<WindowStatus>,
}
