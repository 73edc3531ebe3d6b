//! The schedule as others see it: what is full, what waits, what is slowed down.

use std::sync::Arc;

use super::Schedule;
use super::destination::{Destination, Limits};
use super::limit::Room;

impl<W> Schedule<W> {
    /// Destinations with waiting mail whose quota is used up, and when it has room again, Unix milliseconds.
    pub fn full(&self) -> Vec<(Arc<str>, i64)> {
        let full = |(name, destination): (&Arc<str>, &Destination<W>)| {
            let until = destination.full_until.filter(|_| destination.queued() > 0)?;
            Some((name.clone(), until))
        };
        self.destinations.iter().filter_map(full).collect()
    }

    /// When a quota that is used up for mail of a priority has room again, Unix milliseconds.
    pub fn full_until(&mut self, limits: &Limits, priority: u8, now_ms: i64) -> Option<i64> {
        let accounts = limits.accounts.as_ref()?;
        self.meters.set(accounts);
        match self.meters.room(accounts, priority, now_ms) {
            Room::Full(until) => Some(until),
            Room::Open { .. } | Room::Unwritten => None,
        }
    }

    /// Jobs queued, connections and pause of each destination in memory, for status pages.
    pub fn overview(&self) -> Vec<DestinationStatus> {
        let mut all: Vec<_> = self
            .destinations
            .iter()
            .map(|(name, destination)| DestinationStatus {
                name: name.to_string(),
                queued: destination.queued(),
                connections: destination.open,
                idle: destination.idle.len(),
                paused_until_ms: destination.pause.until(),
                full_until_ms: destination.full_until,
                held_until_ms: destination.shape.held_until(),
                slowed_to_per_minute: destination.shape.slowed_to(),
            })
            .collect();
        all.sort_by(|a, b| b.queued.cmp(&a.queued).then_with(|| a.name.cmp(&b.name)));
        all
    }
}

/// A destination as status pages show it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct DestinationStatus {
    /// `route` or `route/mx group`.
    pub name: String,
    /// Jobs in memory that wait for a connection.
    pub queued: usize,
    /// Connections open or being opened.
    pub connections: u32,
    /// Of these, without work.
    pub idle: usize,
    /// Not tried before, Unix milliseconds.
    pub paused_until_ms: Option<i64>,
    /// When a quota that is used up has room again, Unix milliseconds.
    pub full_until_ms: Option<i64>,
    /// It wants nothing from us: when the next probe goes, Unix milliseconds.
    pub held_until_ms: Option<i64>,
    /// It asked for less: messages a minute.
    pub slowed_to_per_minute: Option<u32>,
}
