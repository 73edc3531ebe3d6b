//! One settled attempt as evidence: what it had to do with whom, and how it ended. Bounded and cheap: names are shared.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An attempt that has ended for one recipient, or in the same way for several of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Id of the reason it failed for; `None`: it was fine.
    pub failed: Option<Arc<str>>,
    /// Id of the rule that explains the failure.
    pub rule: Option<Arc<str>>,
    /// Route.
    pub route: Arc<str>,
    /// Who spoke, if it was recognised.
    pub provider: Option<Arc<str>>,
    /// Destination; the route's name for a smart host.
    pub destination: Arc<str>,
    /// Recipient domain.
    pub domain: Arc<str>,
    /// The recipient, or the first of several.
    pub address: Arc<str>,
    /// Domain of the return path; empty for none.
    pub sender_domain: Arc<str>,
    /// Who submitted it.
    pub sender: Arc<str>,
    /// Stream.
    pub stream: Arc<str>,
    /// Our address.
    pub source: Option<IpAddr>,
    /// Their address.
    pub peer: Option<IpAddr>,
    /// How many recipients it stands for.
    pub recipients: u32,
}
