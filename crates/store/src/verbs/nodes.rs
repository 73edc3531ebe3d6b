//! Nodes on one queue: that they are there, and which of them leads.

use crate::model::*;
use crate::verbs::Pending;

/// Nodes. Where the store is embedded there is one, and it leads.
pub trait Nodes: Send + Sync {
    /// Notes what a node says of itself, and gives it the lead if that is free, by the store's clock: for a third of the
    /// lease time. A node that would rather not has it only while no other would. A later run under the same name takes the place of an earlier one, which then leads no more.
    fn say(&self, said: NodeSaid) -> Pending<NodeTold>;
    /// All nodes by name, also those that have been silent for less than a day.
    fn nodes(&self) -> Pending<Vec<Node>>;
    /// How often leases of this store's runs may have ended by their time, by a clock of this machine that only goes forward or,
    /// if that stood still, by the store's: what was leased before the last time may be in the hands of others. Always 0 where
    /// the store is embedded.
    fn lapses(&self) -> u64;
    /// A run ends in order: another may lead at once, and its node is forgotten.
    fn leave(&self, run: Incarnation) -> Pending<()>;
}
