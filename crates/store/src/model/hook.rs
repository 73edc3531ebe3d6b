//! What webhooks need to survive: how far each has come, what waits to be told again, what was answered.
//!
//! A webhook is known here by the name of its document; what an address is and how it is told is others' affair.

use std::sync::Arc;

use proto::Address;
use serde::{Deserialize, Serialize};

use super::{Event, EventKind, Message};

/// How far a webhook has come; everything up to here is told, left out, or among what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HookCursors {
    /// Among the events.
    pub events: i64,
    /// Recipients of the event behind that are told already: one that concerns all of a message's recipients is told for
    /// each of them.
    pub part: u32,
    /// Among the changes of suppressions.
    pub suppressions: i64,
}

/// Where a webhook stands.
#[derive(Debug, Clone, PartialEq)]
pub struct HookPlace {
    /// Its name.
    pub name: String,
    /// How far it has come.
    pub cursors: HookCursors,
    /// How many wait to be told again.
    pub waiting: u64,
    /// How it is doing; the shape is its reader's affair.
    pub state: serde_json::Value,
}

/// What is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum HookSource {
    /// An event.
    Event = 0,
    /// A change of the suppressions.
    Suppression = 1,
}

/// Something that waits to be told, after a failure or behind one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookWaiting {
    /// What it is.
    pub source: HookSource,
    /// Its number there.
    pub seq: i64,
    /// The recipient, of an event.
    pub n: u32,
    /// What it must not overtake: of those with the same key only the oldest is due.
    pub key: i64,
    /// Attempts so far.
    pub attempts: u32,
    /// First attempt, Unix milliseconds; 0 if there was none.
    pub first_ms: i64,
    /// When it may be told, Unix milliseconds.
    pub due_ms: i64,
}

/// An entry of the delivery log.
#[derive(Debug, Clone, PartialEq)]
pub struct HookDelivery {
    /// Number, growing; 0 before it is written.
    pub id: i64,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// The endpoint took it.
    pub taken: bool,
    /// Particulars; the shape is its reader's affair.
    pub body: serde_json::Value,
}

/// What one step of a webhook changed: all of it or nothing becomes durable.
#[derive(Debug, Clone, Default)]
pub struct HookProgress {
    /// How far it has come, if it moved.
    pub cursors: Option<HookCursors>,
    /// How it is doing.
    pub state: serde_json::Value,
    /// Told, or given up: no longer waiting.
    pub done: Vec<(HookSource, i64, u32)>,
    /// To be told again, or for the first time: replaces what was noted of them.
    pub waiting: Vec<HookWaiting>,
    /// What was answered.
    pub log: Vec<HookDelivery>,
}

/// Where a webhook is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookStart {
    /// With what happens from now on.
    Now,
    /// With the first that happened at this moment or later, Unix milliseconds, as far as it is still kept.
    At(i64),
}

/// An event of one recipient with what is needed to tell of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToldEvent {
    /// The event; `n` is set, also for one that concerns all recipients of its message.
    pub event: Event,
    /// Its message.
    pub message: Arc<Message>,
    /// Its recipient.
    pub address: Address,
}

/// A page of events to tell of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToldEvents {
    /// Oldest first.
    pub items: Vec<ToldEvent>,
    /// Everything up to here was looked at; the other cursors are as they were asked.
    pub upto: HookCursors,
}

/// Which events to tell of.
#[derive(Debug, Clone)]
pub struct HookAsk {
    /// Events behind these.
    pub after: HookCursors,
    /// Of these kinds.
    pub kinds: Vec<EventKind>,
    /// At most so many (1 to 1,000).
    pub limit: u32,
}
