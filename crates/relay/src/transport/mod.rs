//! What receiving domains demand of the transport (RFC 8461, RFC 7672), and from where we connect.
//!
//! Only for routes to mail exchangers: a smart host is the operator's own choice, and its route says what it demands.

pub(crate) mod demand;
pub(crate) mod file;
pub(crate) mod sources;
pub(crate) mod start;
pub(crate) mod sts;

pub use start::usual_sources;

use std::path::PathBuf;
use std::time::Duration;

use net::Resolver;

/// Settings of what is demanded.
#[derive(Debug, Clone)]
pub struct TransportConfig {
    /// Asks with validation, for routes with `dane`; without one these routes have nothing to rely on and hold mail back.
    pub validating: Option<Resolver>,
    /// Where policies that were learnt are kept across restarts; without one they are forgotten.
    pub directory: Option<PathBuf>,
    /// Port of the hosts that serve policies.
    pub policy_port: u16,
    /// Policies may come from hosts of private networks.
    pub policy_from_private: bool,
    /// Limit of each connect to such a host; the exchange may take twice as long.
    pub policy_limit: Duration,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            validating: None,
            directory: None,
            policy_port: 443,
            policy_from_private: false,
            policy_limit: Duration::from_secs(20),
        }
    }
}
