//! The edge to the world: clock, resolver, dialler, TLS, and the drivers of the two SMTP machines.
//!
//! Everything that waits for a network is here; nothing here decides what a failure means for a message, and
//! nothing here knows of the queue.

pub mod address;
pub mod authority;
pub mod cidr;
pub mod client;
pub mod clock;
pub mod dane;
pub mod dial;
pub mod https;
pub mod lookup;
pub mod resolver;
pub mod server;
pub mod sts;
pub mod tls;

mod asker;
mod socket;
mod timer;

pub use authority::Authority;
pub use cidr::Cidr;
pub use clock::Clock;
pub use lookup::{Answer, Outcome, Proof};
pub use resolver::{Dnssec, MailHosts, MxHost, Resolver, ResolverSettings};
pub use tls::{ClientTls, Roots, ServerTls, Verify, certificate_end, certificate_key, https};

/// What a connection to the outside needs: injected once, shared by all; cheap to clone.
#[derive(Clone, Debug)]
pub struct Net {
    /// Time.
    pub clock: Clock,
    /// Names to hosts and addresses.
    pub resolver: Resolver,
    /// Roots and settings of outgoing TLS.
    pub tls: ClientTls,
}
