//! SASL over AUTH (RFC 4954), both sides, without sockets, clock or randomness.
//!
//! [`Exchange`] is what our server speaks, [`client::Exchange`] what our client speaks to smart hosts.

pub mod client;
mod cram_md5;
mod ntlm;
mod oauth;
mod prepare;
mod scram;
mod server;

pub use server::{Credentials, Exchange, Mechanism, SaslError, Step};

/// Longest line of an exchange, AUTH command included, without CR LF (RFC 4954 §4).
pub const MAX_LINE: usize = 12_288;
