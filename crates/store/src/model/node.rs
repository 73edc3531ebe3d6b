//! Nodes: the programs that work on one queue, and which of them does what is to be done once.

use serde::{Deserialize, Serialize};

use super::Incarnation;

/// What a node says of itself, every few seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSaid {
    /// Its run.
    pub run: Incarnation,
    /// Its name; no two nodes have the same.
    pub name: String,
    /// Version of its program.
    pub version: String,
    /// Where its pages and API are, for people.
    pub address: String,
    /// When the run began, Unix milliseconds.
    pub started_ms: i64,
    /// How much it does; the shape is its reader's affair.
    pub load: serde_json::Value,
    /// Whether it would lead.
    pub lead: Lead,
}

/// Whether a node would do what is to be done once for all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lead {
    /// If no other node does.
    Willing,
    /// Only where no node would: it has to be done by somebody.
    Unwilling,
}

/// What a node is told in return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeTold {
    /// It leads from the moment it asked for so long, milliseconds; `None`: another does, or it leaves it to others.
    pub leads_ms: Option<i64>,
}

/// A node as the store knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its last run.
    pub run: Incarnation,
    /// Version of its program.
    pub version: String,
    /// Where its pages and API are; empty if it does not say.
    pub address: String,
    /// When the run began, Unix milliseconds.
    pub started_ms: i64,
    /// How long ago it was heard of, milliseconds, by the store's clock.
    pub silent_ms: i64,
    /// It was heard of within its lease time.
    pub alive: bool,
    /// It does what is to be done once.
    pub leads: bool,
    /// Recipients that it has leased.
    pub leases: u64,
    /// How much it does, as it said last; `null` if it does not say.
    pub load: serde_json::Value,
}
