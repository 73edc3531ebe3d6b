//! The schedule as others see it: what is full, what waits, what is slowed down.

use std::sync::Arc;

use store::{Claim, Message};

use super::Schedule;
use super::destination::{Destination, Limits};
use super::forecast::{Limit, Pace};
use super::limit::Room;

impl<W> Schedule<W> {
    /// Jobs with a deadline that their destination will not meet, with when it takes mail again, and why not before.
    pub fn late(&self, now_ms: i64, mut is_news: impl FnMut(&Message) -> bool) -> Vec<(Claim, i64, &'static str)> {
        let mut found = Vec::new();
        for destination in self.destinations.values() {
            let waits = [
                (destination.full_until, "the quota is used up"),
                (destination.shape.held_until(), "the next hop wants nothing from us"),
                (destination.pause.until(), "the next hop cannot be reached"),
            ];
            let longest = waits.into_iter().filter_map(|(until, why)| Some((until?, why))).max();
            let Some((until, why)) = longest.filter(|(until, _)| *until > now_ms) else { continue };
            let late = |claim: &&Claim| crate::deadline::is_late(&claim.message, until);
            let claims = destination.each_job().map(|job| &job.claim).filter(late);
            found.extend(claims.filter(|claim| is_news(&claim.message)).map(|claim| (claim.clone(), until, why)));
        }
        found
    }

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

    /// A message was given to a connection and has ended: how long that took.
    pub fn took(&mut self, name: &str, took_ms: i64) {
        if let Some(destination) = self.destinations.get_mut(name) {
            let took_ms = took_ms.max(0) as f64;
            let known = destination.took_ms.get_or_insert(took_ms);
            *known += (took_ms - *known) / AVERAGED;
        }
    }

    /// What is in memory for the destinations of a route, and how fast each takes it.
    pub fn in_memory(&self, route: &str, now_ms: i64) -> Vec<InMemory> {
        let of_route =
            |name: &Arc<str>| name.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let one = |(name, destination): (&Arc<str>, &Destination<W>)| {
            let held = [
                destination.shape.held_until().map(|until| (until, Limit::Held)),
                destination.pause.until().map(|until| (until, Limit::Unreachable)),
            ];
            InMemory {
                name: name.clone(),
                recipients: destination.recipients() as u64,
                jobs: destination.queued() as u64,
                connections: destination.open,
                most_recipients: destination.limits.recipients,
                pace: destination.took_ms.map(|took_ms| Pace {
                    connections: f64::from(destination.allowed(now_ms)),
                    took_ms,
                    slowed: destination.shape.slowed(),
                }),
                not_before: held
                    .into_iter()
                    .flatten()
                    .filter(|(until, _)| *until > now_ms)
                    .max_by_key(|(until, _)| *until),
            }
        };
        let mut all: Vec<_> = self.destinations.iter().filter(|(name, _)| of_route(name)).map(one).collect();
        all.sort_by(|a, b| (b.recipients, &a.name).cmp(&(a.recipients, &b.name)));
        all
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

/// Messages over which the time that one takes is averaged.
const AVERAGED: f64 = 16.0;

/// What is in memory for a destination.
#[derive(Debug, Clone)]
pub struct InMemory {
    /// `route` or `route/mx group`.
    pub name: Arc<str>,
    /// Recipients that wait for a connection.
    pub recipients: u64,
    /// Messages they are of.
    pub jobs: u64,
    /// Connections open or being opened.
    pub connections: u32,
    /// Most recipients in one transaction.
    pub most_recipients: usize,
    /// How fast it goes, if a message went.
    pub pace: Option<Pace>,
    /// Nothing goes before this time, Unix milliseconds.
    pub not_before: Option<(i64, Limit)>,
}

/// A destination as status pages show it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
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
